"""Metrics of the user's own: functions in a Python file, `function = "costs.py:price"` in a recipe."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from hwnas.core import Architecture, CostError, Metric, RecipeError, digest_of
from hwnas.core.errors import did_you_mean
from hwnas.core.own_file import module_of
from hwnas.evaluation.protocol import Evaluator, Preparing


@dataclass(frozen=True)
class OwnMetric:
    """A number that a function gives for every network, with any weights.

    Attributes:
        name: Of the metric.
        unit: Of its values.
        path: The Python file, absolute, so that workers find it from anywhere.
        function_name: In it; takes the architecture (a mapping from decisions to options) and the plain network (an
            `nn.Module` with random weights), and returns a number.
    """

    name: str
    unit: str
    path: Path
    function_name: str

    @classmethod
    def load(cls, name: str, source: str, *, unit: str) -> OwnMetric:
        """The metric of a recipe's `function = "file.py:function"`.

        Args:
            name: Of the metric.
            source: A path, from the current folder, and the name of a function of two arguments.
            unit: Of its values.

        Raises:
            RecipeError: If there is no such file or function, or it takes other arguments; names it.
        """
        file, _, function_name = source.rpartition(":")
        if not file:
            raise RecipeError(f'function is "{source}"; expected "file.py:function"')
        found = cls(name, unit, Path(file).resolve(), function_name)
        try:
            inspect.signature(found.function).bind(None, None)
        except TypeError as error:
            raise RecipeError(
                f"{found.path}: {function_name} does not take two arguments ({error})",
                hint=f"def {function_name}(architecture, network): return a number",
            ) from error
        return found

    @property
    def function(self) -> Callable[[Architecture, nn.Module], float]:
        """The function.

        Raises:
            RecipeError: If the file cannot be run, or has no such function.
        """
        module = module_of(self.path)
        found = getattr(module, self.function_name, None)
        if not callable(found):
            known = [name for name, value in vars(module).items() if inspect.isfunction(value)]
            raise RecipeError(
                f'{self.path}: has no function "{self.function_name}"; {did_you_mean(self.function_name, known)}'
            )
        return found  # type: ignore[no-any-return]

    @property
    def digest(self) -> str:
        """Of all that decides its values: name, unit, function and the file's text."""
        return digest_of([self.name, self.unit, self.function_name, self.path.read_text(encoding="utf-8")])

    def __call__(self, architecture: Architecture, network: nn.Module) -> Metric:
        """The number of one network.

        Raises:
            CostError: If the function returns no finite number.
        """
        value = self.function(architecture, network)
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            raise CostError(f"{self.path}: {self.function_name} returned {value!r}; expected a finite number")
        return Metric(number, self.unit, "computed")


@dataclass(frozen=True)
class OwnMetrics:
    """An evaluator whose answers hold metrics of the user's own alone.

    Attributes:
        metrics: Given.
        build_network: The plain network of an architecture.
    """

    metrics: Sequence[OwnMetric]
    build_network: Callable[[Architecture], nn.Module]

    def __call__(
        self,
        architecture: Architecture,
        *,
        fidelity: str,  # noqa: ARG002 - of every evaluator
        weights: str | None,  # noqa: ARG002
        seed: int,  # noqa: ARG002
    ) -> Mapping[str, Metric]:
        """The metrics of one network, by name.

        Raises:
            CostError: If a function returns no finite number; what it raises itself passes through.
        """
        network = self.build_network(architecture)
        return {metric.name: metric(architecture, network) for metric in self.metrics}


@dataclass(frozen=True)
class WithOwnMetrics:
    """An evaluator whose answers hold metrics of the user's own too.

    Attributes:
        evaluate: Gives all others.
        own: Gives those.
    """

    evaluate: Evaluator
    own: OwnMetrics

    def __call__(
        self, architecture: Architecture, *, fidelity: str, weights: str | None, seed: int
    ) -> Mapping[str, float | Metric]:
        """What the evaluator says, and the user's own.

        Raises:
            CostError: If a function returns no finite number; what it raises itself passes through.
        """
        # Before the costly part: a function that fails shall fail at once.
        own = self.own(architecture, fidelity=fidelity, weights=weights, seed=seed)
        return {**self.evaluate(architecture, fidelity=fidelity, weights=weights, seed=seed), **own}

    def prepare(self) -> None:
        """As the evaluator does, if it does."""
        if isinstance(self.evaluate, Preparing):
            self.evaluate.prepare()
