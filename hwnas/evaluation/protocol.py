"""Where numbers about an architecture come from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from hwnas.core import Architecture, Metric


class Evaluator(Protocol):
    """Anything that can say how good an architecture is.

    It must depend on its arguments only: the study asks each question once, in any process, and replays the answer. An
    exception, or a number that is not finite, makes a failed evaluation with its reason and does not end the search.
    With more than one worker it is pickled once, when the workers start.
    """

    def __call__(
        self, architecture: Architecture, *, fidelity: str, weights: str | None, seed: int
    ) -> Mapping[str, float | Metric]:
        """The metrics of one architecture.

        Args:
            architecture: Canonical.
            fidelity: How thoroughly; "full" is what fronts are made of.
            weights: Version of the shared weights to use ("supernet@12"), None without.
            seed: For everything random in here; a hash of the study's seed and the question, so that order and
                workers do not matter. Python's, numpy's and torch's global generators are seeded with it too.
        """
        ...


@runtime_checkable
class Preparing(Protocol):
    """An evaluator that can do beforehand what its first call would do alone, such as reading the images."""

    def prepare(self) -> None:
        """Called once in each worker process, before its first job and outside of any time limit."""
        ...


@dataclass(frozen=True)
class FromFunction:
    """An evaluator from a function of the architecture alone.

    Attributes:
        function: Returns metrics by name.

    Example:
        >>> evaluate = FromFunction(lambda architecture: {"accuracy": 0.1 * architecture["kernel"]})
        >>> evaluate(Architecture({"kernel": 5}), fidelity="full", weights=None, seed=0)
        {'accuracy': 0.5}
    """

    function: Callable[[Architecture], Mapping[str, float | Metric]]

    def __call__(
        self,
        architecture: Architecture,
        *,
        fidelity: str,  # noqa: ARG002 - the protocol's
        weights: str | None,  # noqa: ARG002
        seed: int,  # noqa: ARG002
    ) -> Mapping[str, float | Metric]:
        """The function's metrics, whatever the fidelity, weights and seed."""
        return self.function(architecture)
