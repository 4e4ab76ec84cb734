"""Gates: one vector per decision, which makes an architecture and its relaxation the same thing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hwnas.core import Architecture, Option, SpaceError
from hwnas.space import Space


@dataclass(frozen=True)
class Gate:
    """How much each option of one decision counts, and which options run.

    Attributes:
        values: [options]; one-hot for a choice, a point on the simplex for a relaxation. Gradients flow through it.
        support: Codes of the options that are computed. Options outside cost neither time nor memory, so a hard sample
            with a gradient runs one branch, not all.

    Raises:
        SpaceError: If the support is empty, repeats, or names an option that is not there.

    Example:
        >>> Gate(torch.tensor([0.0, 1.0]), support=(1,)).weight(1)
        tensor(1.)
    """

    values: Tensor
    support: tuple[int, ...]

    def __post_init__(self) -> None:
        codes = range(len(self.values))
        if not self.support or len(set(self.support)) < len(self.support) or not set(self.support) <= set(codes):
            raise SpaceError(f"gate support {self.support} must name some of the options {list(codes)}, each once")

    def weight(self, code: int) -> Tensor:
        """The scalar that multiplies one option."""
        return self.values[code]


Gates = Architecture | Mapping[str, Gate]
"""What a supernet is called with: a choice per decision, or a gate per decision."""


def one_hot_gates(space: Space, architecture: Architecture) -> dict[str, Gate]:
    """The gates that mean the same network as an architecture.

    Decisions that are inactive in it take their first option; they change nothing.

    Raises:
        SpaceError: If the architecture is not one of the space.

    Example:
        >>> from hwnas.space import Decision
        >>> space = Space("tiny", (Decision("kernel", (3, 5)),))
        >>> one_hot_gates(space, Architecture({"kernel": 5}))["kernel"].support
        (1,)
    """
    codes = space.encode([architecture])[0].clip(min=0).tolist()
    gates = {}
    for decision, code in zip(space.decisions, codes, strict=True):
        values = torch.zeros(len(decision.options))
        values[code] = 1.0
        gates[decision.label] = Gate(values, (code,))
    return gates


def only_choices(space: Space, gates: Gates) -> Architecture:
    """The network that gates mean, for supernets that cannot mix any of their options.

    Args:
        space: Whose decisions are answered.
        gates: An architecture, or one-hot gates.

    Raises:
        SpaceError: If a gate is a mixture or has a gradient, which could not be passed on.

    Example:
        >>> from hwnas.space import Decision
        >>> space = Space("tiny", (Decision("kernel", (3, 5)),))
        >>> only_choices(space, {"kernel": Gate(torch.tensor([0.0, 1.0]), (1,))})
        Architecture({'kernel': 5})
    """
    if isinstance(gates, Architecture):
        return gates
    options: dict[str, Option] = {}
    for decision in space.decisions:
        gate = gates[decision.label]
        if len(gate.support) > 1 or gate.values.requires_grad:
            kind = f"supports {len(gate.support)} options" if len(gate.support) > 1 else "has a gradient"
            raise SpaceError(
                f"the gate of {decision.label!r} {kind}; the supernet of {space.name} takes choices only",
                hint="search this space with a strategy that draws whole networks: spos, nat, nsga2",
            )
        options[decision.label] = decision.options[gate.support[0]]
    return space.canonical(options)


def check_resolution(images: Tensor, gates: Gates, resolutions: Sequence[int]) -> None:
    """Refuse images that are not of the one size that the gates ask for.

    Args:
        images: [n, c, h, w].
        gates: With the decision "resolution".
        resolutions: Its options, sides in pixels.

    Raises:
        SpaceError: If the images are of another size, or the resolution is soft.

    Example:
        >>> check_resolution(torch.zeros(1, 3, 32, 32), Architecture({"resolution": 32}), (24, 32))
    """
    if isinstance(gates, Architecture):
        side = int(gates["resolution"])
    else:
        gate = gates["resolution"]
        if len(gate.support) > 1:
            raise SpaceError(
                f"the gate of 'resolution' supports {len(gate.support)} options; a batch has one size, so exactly one"
            )
        side = resolutions[gate.support[0]]
    if images.shape[-1] != side or images.shape[-2] != side:
        raise SpaceError(f"images of {tuple(images.shape[-2:])} for a network of resolution {side}; resize them first")


def weight_if_any(gate: Gate, code: int) -> Tensor | None:
    """The weight of an option, or None where the support leaves it out: surely 0, so that nothing need be computed.

    Example:
        >>> gate = Gate(torch.tensor([0.0, 1.0]), (1,))
        >>> weight_if_any(gate, 0), weight_if_any(gate, 1)
        (None, tensor(1.))
    """
    return gate.weight(code) if code in gate.support else None


def product_if_any(weights: Sequence[Tensor | None]) -> Tensor | None:
    """The product of some weights: None if one of them is, 1 if there are none.

    Example:
        >>> product_if_any([torch.tensor(0.5), torch.tensor(0.5)]), product_if_any([torch.tensor(0.5), None])
        (tensor(0.2500), None)
    """
    product = torch.ones(())
    for weight in weights:
        if weight is None:
            return None
        product = product * weight
    return product
