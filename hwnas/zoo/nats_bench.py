"""NATS-Bench's size space: a small network of fixed operations, of whose five parts each chooses its channels.

Source: Dong et al. 2021 (arXiv 2009.00437), section 3.2: cells of one topology, the best of NAS-Bench-201's on
CIFAR-100, one to a stage, with a residual block that halves the image between them. BossNAS ranks this space, too (Li
et al. 2021, arXiv 2103.12424), by a supernet whose convolutions are cut to size as here; its norms are not cut, each
size has its own.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import cast

from torch import Tensor, nn

from hwnas.core import Architecture, Option, SpaceError
from hwnas.nn.blocks import build_block, build_network
from hwnas.nn.build_around import build_around
from hwnas.nn.cells import describe_cell_head, describe_cell_stem, describe_reduction
from hwnas.nn.gates import Gates, check_resolution, only_choices
from hwnas.nn.sized_cells import Cuttable, describe_sized_cell
from hwnas.space import Block, Decision, Space, Unit
from hwnas.zoo.sides import check_sides

PLACES = ("stem", "cell1", "reduction1", "cell2", "reduction2", "cell3", "head")
"""Of the blocks. All but stem and head choose their channels; the stem has those of the first cell."""

PARTS = 5
"""That choose."""


@dataclass(frozen=True)
class NatsSize:
    """The family: everything that fixes a space.

    Attributes:
        name: Of the space; part of the latency table's file name.
        channels: Of the images, 1 or 3; comes from the data.
        classes: Comes from the data.
        resolutions: Sides of the square input, searched; multiples of 4.
        widths: Channels of each part.

    Raises:
        SpaceError: If a value is impossible; names the field and the value.

    Example:
        >>> family = NatsSize()
        >>> family.space.size == 8**5 == 32768
        True
    """

    name: str = "nats_size"
    channels: int = 3
    classes: int = 10
    resolutions: tuple[int, ...] = (32,)
    widths: tuple[int, ...] = (8, 16, 24, 32, 40, 48, 56, 64)

    def __post_init__(self) -> None:
        for field in ("channels", "classes"):
            if getattr(self, field) < 1:
                raise SpaceError(f"{field} is {getattr(self, field)}; it must be above 0")
        if not self.widths or list(self.widths) != sorted(set(self.widths)) or self.widths[0] < 1:
            raise SpaceError(f"widths is {list(self.widths)}; expected ascending numbers above 0, each once")
        check_sides(self.resolutions, why="it is halved twice", step=4)

    @cached_property
    def space(self) -> Space:
        """The decisions, and the blocks they choose."""
        decisions = [Decision("resolution", self.resolutions)]
        decisions += [Decision(_width(part), self.widths) for part in range(1, PARTS + 1)]
        units = []
        for place, name in enumerate(PLACES):
            # A block hangs on its own channels and on those of the part before it.
            labels = [_width(part) for part in (place - 1, place) if 1 <= part <= PARTS] or [_width(1)]
            every = itertools.product(self.resolutions, *[self.widths] * len(labels))
            blocks = tuple(self.block(place, widths[0], widths[-1], side) for side, *widths in every)
            units.append(Unit(name, ("resolution", *labels), blocks))
        return Space(self.name, tuple(decisions), tuple(units))

    def block(self, place: int, c_in: int, c_out: int, side: int, *, widens: bool | None = None) -> Block:
        """The block at one of `PLACES`, counted from 0.

        Args:
            place: Where.
            c_in: Channels in; the stem reads the image.
            c_out: Channels out; the head gives classes.
            side: Of the images.
            widens: Whether a cell's skip convolves; where its channels differ unless given.
        """
        size = side >> max(0, place - 1) // 2
        if PLACES[place] == "stem":
            return describe_cell_stem(self.channels, c_out, size)
        if PLACES[place] == "head":
            return describe_cell_head(c_in, self.classes, size)
        if PLACES[place].startswith("reduction"):
            return describe_reduction(c_in, c_out, size)
        return describe_sized_cell(c_in, c_out, size, widens=widens)

    @property
    def has_supernet(self) -> bool:
        """Whether all networks can be trained in one set of weights."""
        return True

    def default(self) -> Architecture:
        """The network one would take without a search: the widest."""
        return self.architecture((self.widths[-1],) * PARTS)

    def supernet(self) -> NatsSizeSupernet:
        """All networks in one set of weights, freshly initialised from torch's global generator."""
        return NatsSizeSupernet(self)

    def build_block(self, block: Block) -> nn.Module:
        """The plain module of an entry of the latency table, with fresh random weights."""
        return build_block(block)

    def build_network(self, architecture: Architecture) -> nn.Module:
        """The plain network of an architecture, with fresh random weights.

        Raises:
            SpaceError: If the architecture is not one of the space.
        """
        return build_network(self.space, architecture)

    def architecture(self, widths: Sequence[int], *, resolution: int | None = None) -> Architecture:
        """The architecture of five widths, at the largest resolution unless given.

        Raises:
            SpaceError: If there are not five, or the space lacks one.

        Example:
            >>> NatsSize().architecture((8, 16, 24, 32, 64))["cell3.width"]
            64
        """
        if len(widths) != PARTS:
            raise SpaceError(f"space {self.name}: {len(widths)} widths; expected {PARTS}")
        options: dict[str, Option] = {"resolution": resolution or self.resolutions[-1]}
        return self.space.canonical(options | {_width(n): width for n, width in enumerate(widths, start=1)})


def _width(part: int) -> str:
    """The label of a part's channels; parts are counted from 1."""
    return f"{PLACES[part]}.width"


class NatsSizeSupernet(nn.Module):
    """The weights of a `NatsSize` family, from whose first channels every network is cut: it takes choices only."""

    def __init__(self, family: NatsSize) -> None:
        super().__init__()
        self.family = family
        most, side = family.widths[-1], family.resolutions[-1]
        # The first cell never widens, as the stem has its channels; the others may.
        self.parts = nn.ModuleList(
            Cuttable(family.block(place, most, most, side, widens=place > 1), build_block)
            for place in range(len(PLACES))
        )

    @property
    def space(self) -> Space:
        """The decisions that the gates answer."""
        return self.family.space

    def forward(self, x: Tensor, gates: Gates) -> Tensor:
        """Logits [n, classes] of images [n, c, side, side].

        Raises:
            SpaceError: If the images are not of the size that the gates ask for, or a gate is a mixture or has a
                gradient, which this supernet could not pass on.
        """
        architecture = only_choices(self.space, gates)
        check_resolution(x, architecture, self.family.resolutions)
        for part, block in zip(self.parts, self.space.blocks_of(architecture), strict=True):
            x = part(x, block)
        return x

    def extract(self, architecture: Architecture) -> nn.Sequential:
        """The plain network of one architecture, with its own copy of the weights.

        Raises:
            SpaceError: If the architecture is not one of the space.
        """
        network = nn.Sequential(
            *(
                build_around(block, {name: t.clone() for name, t in part.share(block).items()}, mode=self.training)
                for part, block in zip(self._parts(), self.space.blocks_of(architecture), strict=True)
            )
        )
        return network.train(self.training)

    def _parts(self) -> list[Cuttable]:
        return cast(list[Cuttable], list(self.parts))
