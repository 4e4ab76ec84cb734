"""A supernet of candidates: for each place of a chain, one module per option of its decision, with weights of its own.

A space says which blocks its places choose among, so this is the supernet of every space whose places hang on one
decision each: ProxylessNAS (Cai et al. 2019, arXiv 1812.00332), FBNet (Wu et al. 2019, arXiv 1812.03443), SPOS (Guo et
al. 2020, arXiv 1904.00420).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import partial
from typing import cast

from torch import Tensor, nn

from hwnas.core import Architecture, Option, SpaceError
from hwnas.nn.blocks import build_block
from hwnas.nn.build_around import cut_like
from hwnas.nn.gates import Gate, Gates
from hwnas.nn.supernet import Section, through
from hwnas.space import Block, Space, Unit

RESOLUTION = "resolution"
"""The decision that changes the size of blocks and nothing else."""


class Choice(nn.Module):
    """One place: candidates that keep the shape of each other; a candidate that is left out passes the input on.

    Args:
        options: Of the decision; without one, a single candidate stands here always.
        blocks: One per option, None for leaving the place out.
    """

    def __init__(self, options: Sequence[Option], blocks: Sequence[Block | None]) -> None:
        super().__init__()
        self.options = tuple(options)
        self.candidates = nn.ModuleList(nn.Identity() if block is None else build_block(block) for block in blocks)

    def candidate(self, option: Option | None = None) -> nn.Module:
        """The module of one option."""
        return self.candidates[0 if option is None else self.options.index(option)]

    def soft(self, x: Tensor, gate: Gate) -> Tensor:
        """The candidates in the gate's support, each weighted; the others are not run."""
        first, *others = gate.support
        mixed: Tensor = gate.weight(first) * self.candidates[first](x)
        for code in others:
            mixed = mixed + gate.weight(code) * self.candidates[code](x)
        return mixed


class ChainSupernet(nn.Module):
    """The weights of all candidates of a space.

    The resolution is hard: the images must come in the size that the gates ask for. All other decisions may be soft.
    Where every option adds its input, as in these papers, the mixture does so too, since gates sum to 1.

    Args:
        space: With units; each depends on at most one decision beside the resolution.

    Raises:
        SpaceError: If a unit depends on several decisions, or its blocks differ between resolutions.

    Example:
        >>> from hwnas.nn.blocks import describe_separable
        >>> from hwnas.space import Decision
        >>> a, b = (
        ...     describe_separable(8, 8, 4, kernel=k, stride=1, activation_name="relu") for k in (3, 5)
        ... )
        >>> space = Space("tiny", (Decision("op", ("k3", "k5")),), (Unit("place", ("op",), (a, b)),))
        >>> import torch
        >>> ChainSupernet(space)(torch.zeros(1, 8, 4, 4), Architecture({"op": "k5"})).shape
        torch.Size([1, 8, 4, 4])
    """

    def __init__(self, space: Space) -> None:
        super().__init__()
        self._space = space
        self.labels: list[str | None] = []
        self.places = nn.ModuleList()
        for unit in space.units:
            label, blocks = _one_size(space, unit)
            self.labels.append(label)
            self.places.append(Choice(() if label is None else space[label].options, blocks))
        choosing = [n for n, label in enumerate(self.labels) if label is not None]
        first, last = (choosing[0], choosing[-1] + 1) if choosing else (0, 0)
        smaller = [n for n in range(first + 1, last) if _reduces(space.units[n])]
        self._cuts = [0, first, *smaller, last, len(self.labels)]

    @property
    def space(self) -> Space:
        """The decisions that the gates answer."""
        return self._space

    def forward(self, x: Tensor, gates: Gates) -> Tensor:
        """Logits [n, classes] of images [n, c, side, side].

        Raises:
            SpaceError: If the images are not of the size that the gates ask for, or the resolution is soft.
        """
        self._check_size(x, gates)
        if isinstance(gates, Architecture):
            return through(self.sections(gates), x)
        for place, label in zip(self._choices(), self.labels, strict=True):
            x = place.candidate()(x) if label is None else place.soft(x, gates[label])
        return x

    def sections(self, architecture: Architecture) -> list[Section]:
        """Cut where the size of features changes, apart from places without a choice at both ends.

        See `hwnas.nn.Sectioned`.
        """
        chosen = self._chosen(architecture)
        return [partial(through, chosen[start:end]) for start, end in itertools.pairwise(self._cuts)]

    def extract(self, architecture: Architecture) -> nn.Sequential:
        """The plain network of one architecture: the candidates it chooses, each with its own copy of the weights.

        Raises:
            SpaceError: If the architecture is not one of the space.
        """
        blocks = self._space.blocks_of(architecture)
        kept = [module for module in self._chosen(architecture) if not isinstance(module, nn.Identity)]
        parts = [cut_like(block, module, mode=self.training) for block, module in zip(blocks, kept, strict=True)]
        network = nn.Sequential(*parts)
        network.training = self.training
        return network

    def _chosen(self, architecture: Architecture) -> list[nn.Module]:
        """The candidate of each place."""
        return [
            place.candidate(None if label is None else architecture[label])
            for place, label in zip(self._choices(), self.labels, strict=True)
        ]

    def _choices(self) -> list[Choice]:
        return cast(list[Choice], list(self.places))

    def _check_size(self, x: Tensor, gates: Gates) -> None:
        if RESOLUTION not in {decision.label for decision in self._space.decisions}:
            return
        if isinstance(gates, Architecture):
            side = int(gates[RESOLUTION])
        else:
            gate: Gate = gates[RESOLUTION]
            if len(gate.support) > 1:
                raise SpaceError(
                    f"the gate of 'resolution' supports {len(gate.support)} options; a batch has one size, so exactly "
                    "one"
                )
            side = int(self._space[RESOLUTION].options[gate.support[0]])
        if x.shape[-1] != side or x.shape[-2] != side:
            raise SpaceError(f"images of {tuple(x.shape[-2:])} for a network of resolution {side}; resize them first")


def _reduces(unit: Unit) -> bool:
    """Whether features become smaller in a place: all its blocks agree on that."""
    block = next(block for block in unit.blocks if block is not None)
    return block.output_shape[1:] != block.input_shape[1:]


def _one_size(space: Space, unit: Unit) -> tuple[str | None, tuple[Block | None, ...]]:
    """The decision of a unit, and its block for each option at the first resolution.

    Raises:
        SpaceError: If it depends on several decisions, or its blocks differ between resolutions.
    """
    labels = [label for label in unit.labels if label != RESOLUTION]
    if len(labels) > 1 or (labels and unit.labels[-1] != labels[0]):
        raise SpaceError(
            f"space {space.name}: unit {unit.name!r} depends on {list(unit.labels)}; a supernet of candidates needs "
            "places of one decision each, after the resolution"
        )
    n = len(space[labels[0]].options) if labels else 1
    first = unit.blocks[:n]
    for start in range(n, len(unit.blocks), n):
        for a, b in zip(first, unit.blocks[start : start + n], strict=True):
            if (a and (a.kind, a.settings)) != (b and (b.kind, b.settings)):
                raise SpaceError(f"space {space.name}: unit {unit.name!r} has other blocks at another resolution")
    return (labels[0] if labels else None), first
