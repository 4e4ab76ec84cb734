"""What every weight-sharing network can do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from hwnas.core import Architecture
from hwnas.nn.gates import Gates
from hwnas.space import Space


class Supernet(Protocol):
    """All networks of a space in one set of weights: a function of (weights, gates, batch), with no hidden state.

    A class that fulfils it is an `nn.Module`; weights that a call does not use get no gradient (None, not 0).
    """

    @property
    def space(self) -> Space:
        """The decisions that the gates answer."""
        ...

    def __call__(self, x: Tensor, gates: Gates) -> Tensor:
        """Logits [n, classes] of images [n, c, side, side], the side being the network's resolution."""
        ...

    def extract(self, architecture: Architecture) -> nn.Module:
        """The plain network of one architecture, with its own cut of the weights and nothing unused."""
        ...

    def parameters(self, recurse: bool = True) -> Any:  # noqa: FBT001, FBT002 - nn.Module's signature
        """As of `nn.Module`."""
        ...

    def modules(self) -> Iterator[nn.Module]:
        """As of `nn.Module`."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """As of `nn.Module`."""
        ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> Any:
        """As of `nn.Module`."""
        ...

    def train(self, mode: bool = True) -> Any:  # noqa: FBT001, FBT002 - nn.Module's signature
        """As of `nn.Module`."""
        ...


Section = Callable[[Tensor], Tensor]
"""A stretch of a network: features to features."""


def through(sections: Iterable[Section], x: Tensor) -> Tensor:
    """What sections give one after another."""
    for section in sections:
        x = section(x)
    return x


@runtime_checkable
class Sectioned(Supernet, Protocol):
    """A supernet whose networks can be run a stretch at a time."""

    def sections(self, architecture: Architecture) -> list[Section]:
        """The network of an architecture as functions that follow one another, from images to logits.

        There are as many for every architecture, and at one resolution features between them have one shape, so that
        one network's features can be handed to another's next section. The first and the last leave nothing to choose.
        """
        ...
