"""NASNet's space of two cells, and what was found in it and around it: NASNet-A, AmoebaNet-A, PNASNet-5, ENAS.

Each node adds two operations on earlier states, which may be one and the same. Which states a cell gives is fixed by
the family, so that the shapes of all cells are; by default all nodes, as in PNASNet.

Source: Zoph et al. 2018 (arXiv 1707.07012), Real et al. 2019 (arXiv 1802.01548), Liu et al. 2018 (arXiv 1712.00559),
Pham et al. 2018 (arXiv 1802.03268), section 2.4. How cells are put together is as in the released code
(tensorflow/models, research/slim/nets/nasnet), without auxiliary head and path dropping. Left out of NASNet's space:
joining two states by concatenation instead of addition, which none of the networks does, and giving just the states
that no node reads, which would let every shape hang on every choice.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Literal

from torch import nn

from hwnas.core import Architecture, Option, SpaceError
from hwnas.nn import build_block
from hwnas.nn.cells import describe_cell_stem
from hwnas.nn.two_input_cells import Frame, Matching, TwoInputNetwork, Wiring, describe_conv_norm, plan
from hwnas.space import Block, Decision, Space
from hwnas.zoo.two_input import Slot, Slots, TwoInputSupernet, check_family, fitted, units_of, wiring_of

OPERATIONS = (
    "identity",
    "conv_1x3_3x1",
    "conv_1x7_7x1",
    "conv_3x3_dilated",
    "avg_pool_3x3",
    "max_pool_3x3",
    "max_pool_5x5",
    "max_pool_7x7",
    "conv_1x1",
    "conv_3x3",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "sep_conv_7x7",
)
"""The thirteen of NASNet's paper, section 3.1, in its order. Full convolutions stand in a bottleneck, as in AmoebaNet's
code; that of NASNet holds only what NASNet-A needs."""

AMOEBANET_OPERATIONS = (
    "identity",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "sep_conv_7x7",
    "avg_pool_3x3",
    "max_pool_3x3",
    "dil_conv_3x3",
    "conv_1x7_7x1",
)
"""The eight of Real et al. 2019, section 3."""

PNASNET_OPERATIONS = (
    "sep_conv_3x3",
    "sep_conv_5x5",
    "sep_conv_7x7",
    "conv_1x7_7x1",
    "identity",
    "avg_pool_3x3",
    "max_pool_3x3",
    "dil_conv_3x3",
)
"""The eight of Liu et al. 2018, section 3.1, in its order."""

ENAS_OPERATIONS = ("sep_conv_3x3", "sep_conv_5x5", "avg_pool_3x3", "max_pool_3x3", "skip_connect")
"""The five of Pham et al. 2018, section 2.4, in the order of the released code."""

NASNET_A: Mapping[str, Wiring] = {
    "normal": (
        (("sep_conv_5x5", 1), ("sep_conv_3x3", 0)),
        (("sep_conv_5x5", 0), ("sep_conv_3x3", 0)),
        (("avg_pool_3x3", 1), ("identity", 0)),
        (("avg_pool_3x3", 0), ("avg_pool_3x3", 0)),
        (("sep_conv_3x3", 1), ("identity", 1)),
    ),
    "reduce": (
        (("sep_conv_5x5", 1), ("sep_conv_7x7", 0)),
        (("max_pool_3x3", 1), ("sep_conv_7x7", 0)),
        (("avg_pool_3x3", 1), ("sep_conv_5x5", 0)),
        (("identity", 3), ("avg_pool_3x3", 2)),
        (("sep_conv_3x3", 2), ("max_pool_3x3", 1)),
    ),
}
"""Found by reinforcement learning; as released, where the normal cell gives its first input, too."""

AMOEBANET_A: Mapping[str, Wiring] = {
    "normal": (
        (("avg_pool_3x3", 1), ("max_pool_3x3", 1)),
        (("sep_conv_3x3", 0), ("identity", 0)),
        (("identity", 1), ("avg_pool_3x3", 0)),
        (("sep_conv_3x3", 1), ("sep_conv_5x5", 2)),
        (("avg_pool_3x3", 5), ("sep_conv_3x3", 1)),
    ),
    "reduce": (
        (("sep_conv_3x3", 0), ("avg_pool_3x3", 1)),
        (("max_pool_3x3", 1), ("sep_conv_7x7", 2)),
        (("max_pool_3x3", 0), ("max_pool_3x3", 1)),
        (("sep_conv_3x3", 4), ("conv_1x7_7x1", 1)),
        (("avg_pool_3x3", 0), ("sep_conv_7x7", 1)),
    ),
}
"""Found by regularised evolution; as released (tensorflow/tpu, models/official/amoeba_net)."""

PNASNET_5: Mapping[str, Wiring] = {
    "normal": (
        (("sep_conv_5x5", 0), ("max_pool_3x3", 0)),
        (("sep_conv_7x7", 1), ("max_pool_3x3", 1)),
        (("sep_conv_5x5", 1), ("sep_conv_3x3", 1)),
        (("sep_conv_3x3", 4), ("max_pool_3x3", 1)),
        (("sep_conv_3x3", 0), ("identity", 1)),
    ),
}
"""Found progressively; one cell for both sizes of steps."""

ENAS: Mapping[str, Wiring] = {
    "normal": (
        (("avg_pool_3x3", 0), ("sep_conv_3x3", 0)),
        (("skip_connect", 0), ("sep_conv_5x5", 0)),
        (("skip_connect", 0), ("sep_conv_5x5", 1)),
        (("sep_conv_3x3", 1), ("sep_conv_5x5", 0)),
        (("avg_pool_3x3", 0), ("sep_conv_5x5", 1)),
    ),
    "reduce": (
        (("sep_conv_3x3", 1), ("sep_conv_3x3", 1)),
        (("max_pool_3x3", 0), ("avg_pool_3x3", 0)),
        (("sep_conv_5x5", 1), ("sep_conv_5x5", 3)),
        (("sep_conv_3x3", 1), ("skip_connect", 0)),
        (("max_pool_3x3", 0), ("sep_conv_5x5", 1)),
    ),
}
"""Found in shared weights; as released (melodyguan/enas, scripts/cifar10_micro_final.sh)."""

PUBLISHED: Mapping[str, Mapping[str, Wiring]] = {
    "nasnet_a": NASNET_A,
    "amoebanet_a": AMOEBANET_A,
    "pnasnet_5": PNASNET_5,
    "enas": ENAS,
}
"""The cells that papers found, by name."""


@dataclass(frozen=True)
class NasNet:
    """The family: everything that fixes a space.

    Attributes:
        name: Of the space; part of the latency table's file name.
        channels: Of the images, 1 or 3; comes from the data.
        classes: Comes from the data.
        resolutions: Sides of the square input, searched.
        operations: What an edge may carry.
        cells: In each of the three stages, reduction cells of their own not counted.
        nodes: Of a cell.
        width: Channels of the nodes in the first stage; each further one has twice as many.
        stem: "small" keeps the image's size; "imagenet" halves it by a convolution and two reduction cells.
        stem_width: Channels of the first convolution.
        reduction: "own": reduction cells have decisions of their own and stand between the stages. "strided": the one
            kind of cell takes two steps at a time where a stage begins, as in PNASNet.
        normal_output: States that a normal cell gives, by number; none: all nodes. A node that is not given and that no
            other reads still runs.
        reduce_output: The same for reduction cells.
        matching: Which inputs of a cell pass a 1x1 convolution: "where_needed", those of other channels, as in NASNet;
            or "always", as in ENAS.
        published: A key of `PUBLISHED`: whose cells `default` takes.

    Raises:
        SpaceError: If a value is impossible; names the field and the value.

    Example:
        >>> family = NasNet(operations=("identity", "sep_conv_3x3"), nodes=2, reduction="strided")
        >>> family.space.size == (2 * 2) ** 2 * (3 * 2) ** 2
        True
    """

    name: str = "nasnet"
    channels: int = 3
    classes: int = 10
    resolutions: tuple[int, ...] = (32,)
    operations: tuple[str, ...] = OPERATIONS
    cells: int = 6
    nodes: int = 5
    width: int = 32
    stem: Literal["small", "imagenet"] = "small"
    stem_width: int = 96
    reduction: Literal["own", "strided"] = "own"
    normal_output: tuple[int, ...] = ()
    reduce_output: tuple[int, ...] = ()
    matching: Matching = "where_needed"
    published: Literal["nasnet_a", "amoebanet_a", "pnasnet_5", "enas"] = "nasnet_a"

    def __post_init__(self) -> None:
        fields = ("channels", "classes", "cells", "nodes", "stem_width")
        check_family(
            resolutions=self.resolutions,
            operations=self.operations,
            least=4 if self.stem == "small" else 32,
            above_0={field: getattr(self, field) for field in fields},
        )
        if self.width < 8:
            raise SpaceError(f"width is {self.width}; the stem's cells have a quarter of it, so expected at least 8")
        for field in ("normal_output", "reduce_output"):
            states = getattr(self, field)
            known = range(2 + self.nodes)
            if list(states) != sorted(set(states)) or not set(states) <= set(known):
                raise SpaceError(
                    f"{field} is {list(states)}; expected ascending states among 0 and 1, the inputs, and "
                    f"2 to {known[-1]}, the nodes"
                )

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of cells that have decisions of their own."""
        return ("normal", "reduce") if self.reduction == "own" else ("normal",)

    @cached_property
    def space(self) -> Space:
        """The decisions, and the blocks they choose."""
        return _space(self)

    @property
    def has_supernet(self) -> bool:
        """Whether all networks can be trained in one set of weights."""
        return True

    def default(self) -> Architecture:
        """The network one would take without a search: one that a paper found, as far as it fits.

        A space of other nodes or operations has it as `hwnas.zoo.two_input.fitted` says; where a reduction cell is
        missing, the normal one takes its place.
        """
        cells = PUBLISHED[self.published]
        return self.architecture({
            kind: fitted(cells.get(kind, cells["normal"]), nodes=self.nodes, operations=self.operations)
            for kind in self.kinds
        })

    def supernet(self) -> TwoInputSupernet:
        """All networks in one set of weights, freshly initialised from torch's global generator.

        Each of a node's two edges has its own weights for each state and operation, as in ENAS.
        """
        frames = {resolution: self.frame(resolution) for resolution in self.resolutions}
        return TwoInputSupernet(self.space, frames, _slots(self), self.operations, owner="edge")

    def build_block(self, block: Block) -> nn.Module:
        """The plain module of an entry of the latency table, with fresh random weights."""
        return build_block(block)

    def build_network(self, architecture: Architecture) -> TwoInputNetwork:
        """The plain network, with fresh random weights.

        Raises:
            SpaceError: If the architecture is not one of the space.
        """
        return TwoInputNetwork(self.frame(int(architecture["resolution"])), self.wirings(architecture))

    def wirings(self, architecture: Architecture) -> dict[str, Wiring]:
        """The cells of an architecture, by kind.

        Raises:
            SpaceError: If the architecture is not one of the space.
        """
        self.space.encode([architecture])
        return {kind: wiring_of(self.space, slots, architecture) for kind, slots in _slots(self).items()}

    def architecture(self, cells: Mapping[str, Wiring], *, resolution: int | None = None) -> Architecture:
        """The architecture of some cells, at the largest resolution unless given.

        Raises:
            SpaceError: If a kind of cell is missing or has another number of nodes, or the space lacks a state or an
                operation.

        Example:
            >>> NasNet().architecture(NASNET_A)["reduce.node5.first.input"]
            3
        """
        options: dict[str, Option] = {"resolution": resolution or self.resolutions[-1]}
        for kind in self.kinds:
            if kind not in cells or len(cells[kind]) != self.nodes:
                raise SpaceError(
                    f"space {self.name}: the {kind} cell has {len(cells.get(kind, ()))} nodes; expected {self.nodes}"
                )
            for node, pair in enumerate(cells[kind], start=2):
                for side, (operation, source) in zip(("first", "second"), pair, strict=True):
                    options[f"{kind}.node{node}.{side}.input"] = source
                    options[f"{kind}.node{node}.{side}.operation"] = operation
        return self.space.canonical(options)

    def frame(self, resolution: int) -> Frame:
        """The network without its wiring, for images of one size."""
        strided = "reduce" if self.reduction == "own" else "normal"
        cells: list[tuple[str, int, int]] = []
        if self.stem == "imagenet":
            stem = describe_conv_norm(self.channels, self.stem_width, resolution, kernel=3, stride=2, rectify=0)
            cells += [(strided, self.width // 4, 2), (strided, self.width // 2, 2)]
        else:
            stem = describe_cell_stem(self.channels, self.stem_width, resolution)
        for stage in range(3):
            width, normal = self.width * 2**stage, self.cells
            if stage:
                cells.append((strided, width, 2))
                normal -= self.reduction == "strided"
            cells += [("normal", width, 1)] * normal
        every = tuple(range(2, 2 + self.nodes))
        outputs = {"normal": self.normal_output or every, "reduce": self.reduce_output or every}
        return plan([stem], cells, fork=1, classes=self.classes, outputs=outputs, matching=self.matching, rectify=1)


NASNET_MOBILE = NasNet(
    "nasnet_mobile",
    classes=1000,
    resolutions=(224,),
    cells=4,
    width=44,
    stem="imagenet",
    stem_width=32,
    normal_output=(0, 2, 3, 4, 5, 6),
    reduce_output=(3, 4, 5, 6),
)
"""NASNet's space as its mobile networks are built, 4@1056."""

AMOEBANET_MOBILE = NasNet(
    "amoebanet_mobile",
    classes=1000,
    resolutions=(224,),
    operations=AMOEBANET_OPERATIONS,
    cells=4,
    width=50,
    stem="imagenet",
    stem_width=32,
    normal_output=(0, 3, 4, 6),
    published="amoebanet_a",
)
"""AmoebaNet's, N = 4 and F = 50."""

PNASNET_MOBILE = NasNet(
    "pnasnet_mobile",
    classes=1000,
    resolutions=(224,),
    operations=PNASNET_OPERATIONS,
    cells=3,
    width=54,
    stem="imagenet",
    stem_width=32,
    reduction="strided",
    published="pnasnet_5",
)
"""PNASNet's, N = 3 and F = 54."""

ENAS_MICRO = NasNet(
    "enas_micro",
    operations=ENAS_OPERATIONS,
    cells=5,
    width=36,
    stem_width=108,
    matching="always",
    published="enas",
)
"""ENAS's micro space, at the size of its network for CIFAR-10; it searches with two cells to a stage and 20 channels.

Cells give all nodes, where ENAS gives those that no node reads, and the released code has one more 1x1 convolution on
the second input of each cell. Built like that the released cells have 3,894,372 parameters with five to a stage, as the
released script asks, and 4,587,372 with six: the 4.6 M of the paper are a network of 18 cells and two reductions. The
macro space is in `hwnas.zoo.enas`.
"""


def _slots(family: NasNet) -> dict[str, Slots]:
    return {
        kind: tuple(
            (
                Slot(f"{kind}.node{node}.first.input", tuple(range(node)), f"{kind}.node{node}.first.operation"),
                Slot(f"{kind}.node{node}.second.input", tuple(range(node)), f"{kind}.node{node}.second.operation"),
            )
            for node in range(2, 2 + family.nodes)
        )
        for kind in family.kinds
    }


@cache
def _space(family: NasNet) -> Space:
    decisions = [Decision("resolution", family.resolutions)]
    for kind, node, side in itertools.product(family.kinds, range(2, 2 + family.nodes), ("first", "second")):
        decisions.append(Decision(f"{kind}.node{node}.{side}.input", tuple(range(node))))
        decisions.append(Decision(f"{kind}.node{node}.{side}.operation", family.operations))
    frames = [family.frame(resolution) for resolution in family.resolutions]
    return Space(family.name, tuple(decisions), units_of(frames, _slots(family), family.operations))
