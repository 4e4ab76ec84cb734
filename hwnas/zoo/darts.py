"""DARTS: a normal and a reduction cell of four nodes, each adding two operations on two different earlier states.

Source: Liu et al. 2019 (arXiv 1806.09055), section 3 and appendix A; the networks are those of the released code
(github.com/quark0/darts) without auxiliary head and path dropping. Their parameters are the published ones. Their
multiply-adds for ImageNet are not: the paper says 574 M for DARTS_V2; as the released code builds it there are 530 M,
and others who counted that code found 523 M, or 545 M with norms and activations (issue 46 of the repository). The
eighth operation of the paper, "none", stands in its relaxation only: no genotype has it, so it is no option here, and
the space has the paper's size.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Literal

from torch import nn

from hwnas.core import Architecture, Option, SpaceError
from hwnas.nn import build_block
from hwnas.nn.cells import describe_cell_stem
from hwnas.nn.two_input_cells import Edge, Frame, TwoInputNetwork, Wiring, describe_conv_norm, plan
from hwnas.space import Block, Decision, Space
from hwnas.zoo.two_input import Slot, Slots, TwoInputSupernet, check_family, fitted, units_of, wiring_of

OPERATIONS = (
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)
"""In the order of the released code, without "none"."""

KINDS = ("normal", "reduce")


@dataclass(frozen=True)
class Genotype:
    """Two cells in the notation of the released code: of each node two (operation, state) pairs, one after the other.

    Attributes:
        normal: The cell that keeps the image's size.
        reduce: The one that halves it.

    Example:
        >>> DARTS_V2.normal[:2]
        (('sep_conv_3x3', 0), ('sep_conv_3x3', 1))
    """

    normal: tuple[Edge, ...]
    reduce: tuple[Edge, ...]


DARTS_V1 = Genotype(
    normal=(
        ("sep_conv_3x3", 1), ("sep_conv_3x3", 0), ("skip_connect", 0), ("sep_conv_3x3", 1),
        ("skip_connect", 0), ("sep_conv_3x3", 1), ("sep_conv_3x3", 0), ("skip_connect", 2),
    ),
    reduce=(
        ("max_pool_3x3", 0), ("max_pool_3x3", 1), ("skip_connect", 2), ("max_pool_3x3", 0),
        ("max_pool_3x3", 0), ("skip_connect", 2), ("skip_connect", 2), ("avg_pool_3x3", 0),
    ),
)  # fmt: skip
"""Found with the first-order gradient."""

DARTS_V2 = Genotype(
    normal=(
        ("sep_conv_3x3", 0), ("sep_conv_3x3", 1), ("sep_conv_3x3", 0), ("sep_conv_3x3", 1),
        ("sep_conv_3x3", 1), ("skip_connect", 0), ("skip_connect", 0), ("dil_conv_3x3", 2),
    ),
    reduce=(
        ("max_pool_3x3", 0), ("max_pool_3x3", 1), ("skip_connect", 2), ("max_pool_3x3", 1),
        ("max_pool_3x3", 0), ("skip_connect", 2), ("skip_connect", 2), ("max_pool_3x3", 1),
    ),
)  # fmt: skip
"""Found with the second-order gradient."""


@dataclass(frozen=True)
class Darts:
    """The family: everything that fixes a space.

    Attributes:
        name: Of the space; part of the latency table's file name.
        channels: Of the images, 1 or 3; comes from the data.
        classes: Comes from the data.
        resolutions: Sides of the square input, searched.
        operations: What an edge may carry.
        cells: Of the whole network; those a third and two thirds of the way in are reduction cells.
        nodes: Of a cell.
        width: Channels of the first cells' nodes; each reduction doubles them.
        stem: "small" keeps the image's size; "imagenet" halves it three times.

    Raises:
        SpaceError: If a value is impossible; names the field and the value.

    Example:
        >>> family = Darts()
        >>> family.space.size == (180 * 7**8) ** 2, len(family.space.decisions)
        (True, 25)
    """

    name: str = "darts"
    channels: int = 3
    classes: int = 10
    resolutions: tuple[int, ...] = (32,)
    operations: tuple[str, ...] = OPERATIONS
    cells: int = 20
    nodes: int = 4
    width: int = 36
    stem: Literal["small", "imagenet"] = "small"

    def __post_init__(self) -> None:
        check_family(
            resolutions=self.resolutions,
            operations=self.operations,
            least=4 if self.stem == "small" else 32,
            above_0={field: getattr(self, field) for field in ("channels", "classes", "nodes")},
        )
        if self.cells < 3:
            raise SpaceError(f"cells is {self.cells}; two of them halve the image, so expected at least 3")
        if self.width < 2:
            raise SpaceError(f"width is {self.width}; the stem and reductions halve it, so expected at least 2")

    @cached_property
    def space(self) -> Space:
        """The decisions, and the blocks they choose."""
        return _space(self)

    @property
    def has_supernet(self) -> bool:
        """Whether all networks can be trained in one set of weights."""
        return True

    def default(self) -> Architecture:
        """The network one would take without a search: the one that the paper found, DARTS_V2, as far as it fits.

        A space of other nodes or operations has it as `hwnas.zoo.two_input.fitted` says.
        """
        normal, reduce = (
            fitted(_nodes(edges), nodes=self.nodes, operations=self.operations)
            for edges in (DARTS_V2.normal, DARTS_V2.reduce)
        )
        chain = itertools.chain.from_iterable
        return self.architecture(Genotype(tuple(chain(normal)), tuple(chain(reduce))))

    def supernet(self) -> TwoInputSupernet:
        """All networks in one set of weights, freshly initialised from torch's global generator.

        Each edge has its own weights for each operation, as in the paper.
        """
        frames = {resolution: self.frame(resolution) for resolution in self.resolutions}
        return TwoInputSupernet(self.space, frames, _slots(self), self.operations, owner="node")

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

    def architecture(self, genotype: Genotype, *, resolution: int | None = None) -> Architecture:
        """The architecture of a genotype, at the largest resolution unless given.

        The two edges of a node come in the order of the states that they read.

        Raises:
            SpaceError: If the genotype has another number of nodes, or the space lacks a state or an operation.

        Example:
            >>> Darts().architecture(DARTS_V2)["normal.node4.inputs"]
            '0-1'
        """
        options: dict[str, Option] = {"resolution": resolution or self.resolutions[-1]}
        for kind, edges in (("normal", genotype.normal), ("reduce", genotype.reduce)):
            if len(edges) != 2 * self.nodes:
                raise SpaceError(
                    f"space {self.name}: the genotype's {kind} cell has {len(edges)} edges; expected two for each of "
                    f"{self.nodes} nodes"
                )
            for node, ((first, low), (second, high)) in enumerate(_nodes(edges), start=2):
                options[f"{kind}.node{node}.inputs"] = f"{low}-{high}"
                options[f"{kind}.node{node}.first.operation"] = first
                options[f"{kind}.node{node}.second.operation"] = second
        return self.space.canonical(options)

    def genotype(self, architecture: Architecture) -> Genotype:
        """The same in the notation of the released code, the edges of a node in the order of the states they read.

        Example:
            >>> Darts().genotype(Darts().architecture(DARTS_V2)).reduce[2:4]
            (('max_pool_3x3', 1), ('skip_connect', 2))
        """
        cells = self.wirings(architecture)
        normal, reduce = (tuple(itertools.chain.from_iterable(cells[kind])) for kind in KINDS)
        return Genotype(normal, reduce)

    def frame(self, resolution: int) -> Frame:
        """The network without its wiring, for images of one size."""
        width, cells = self.width, []
        for number in range(self.cells):
            halved = number in {self.cells // 3, 2 * self.cells // 3}
            width *= 1 + halved
            cells.append((KINDS[halved], width, 1 + halved))
        every = tuple(range(2, 2 + self.nodes))
        stem, fork = self._stem(resolution)
        outputs = dict.fromkeys(KINDS, every)
        return plan(stem, cells, fork=fork, classes=self.classes, outputs=outputs, matching="always", rectify=0)

    def _stem(self, side: int) -> tuple[Sequence[Block], int]:
        if self.stem == "small":
            return [describe_cell_stem(self.channels, 3 * self.width, side)], 1
        blocks: list[Block] = []
        steps = ((self.channels, self.width // 2, 0), (self.width // 2, self.width, 1), (self.width, self.width, 1))
        for c_in, c_out, rectify in steps:
            size = blocks[-1].output_shape[1] if blocks else side
            blocks.append(describe_conv_norm(c_in, c_out, size, kernel=3, stride=2, padding=1, rectify=rectify))
        return blocks, 2


DARTS_IMAGENET = Darts("darts_imagenet", classes=1000, resolutions=(224,), cells=14, width=48, stem="imagenet")
"""The paper's networks for ImageNet."""


def _nodes(edges: Sequence[Edge]) -> Wiring:
    """The edges of each node, in the order of the states that they read."""
    pairs = (sorted(pair, key=lambda edge: edge[1]) for pair in zip(edges[::2], edges[1::2], strict=True))
    return tuple((low, high) for low, high in pairs)


def _pairs(node: int) -> list[tuple[int, int]]:
    """The two different states that a node may read."""
    return list(itertools.combinations(range(node), 2))


def _slots(family: Darts) -> dict[str, Slots]:
    return {
        kind: tuple(
            (
                Slot(f"{name}.inputs", tuple(low for low, _ in _pairs(node)), f"{name}.first.operation"),
                Slot(f"{name}.inputs", tuple(high for _, high in _pairs(node)), f"{name}.second.operation"),
            )
            for node, name in ((node, f"{kind}.node{node}") for node in range(2, 2 + family.nodes))
        )
        for kind in KINDS
    }


@cache
def _space(family: Darts) -> Space:
    decisions = [Decision("resolution", family.resolutions)]
    for kind, node in itertools.product(KINDS, range(2, 2 + family.nodes)):
        pairs = tuple(f"{low}-{high}" for low, high in _pairs(node))
        decisions.append(Decision(f"{kind}.node{node}.inputs", pairs))
        decisions += [
            Decision(f"{kind}.node{node}.{side}.operation", family.operations) for side in ("first", "second")
        ]
    frames = [family.frame(resolution) for resolution in family.resolutions]
    return Space(family.name, tuple(decisions), units_of(frames, _slots(family), family.operations))
