"""NAS-Bench-201: one cell of four nodes and six edges, repeated in three stages.

Source: Dong and Yang 2020 (arXiv 2001.00326). With its own values (32 pixels, 3 channels, 10 classes, 5 cells, 16
channels) the networks are the benchmark's, except that edges that change nothing are left out; `benchmark_macs` and
`benchmark_parameters` count as the benchmark does, which builds them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from typing import cast

from torch import Tensor, nn

from hwnas.core import Architecture, SpaceError
from hwnas.core.errors import did_you_mean
from hwnas.nn import build_block, build_network
from hwnas.nn.cell_supernet import ElasticCell
from hwnas.nn.cells import (
    OPERATIONS,
    CellHead,
    CellStem,
    Edges,
    Reduction,
    describe_cell,
    describe_cell_head,
    describe_cell_stem,
    describe_reduction,
    read_cell,
    without_dead_edges,
    write_cell,
)
from hwnas.nn.gates import Gates, check_resolution
from hwnas.nn.supernet import Section, through
from hwnas.space import Block, Decision, Space, Unit
from hwnas.zoo.sides import check_sides

EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
"""From node to node, in the order of the benchmark's strings."""

MOST_WHOLE = 512
"""Blocks of a space up to which each is measured as a whole; beyond, the kernels of its cells are."""


@dataclass(frozen=True)
class NasBench201:
    """The family: everything that fixes a space.

    Attributes:
        name: Of the space; part of the latency table's file name.
        channels: Of the images, 1 or 3; comes from the data.
        classes: Comes from the data.
        resolutions: Sides of the square input, searched; multiples of 4.
        operations: What an edge may carry.
        cells: In each of the three stages.
        width: Channels of the first stage; each further one has twice as many.

    Raises:
        SpaceError: If a value is impossible; names the field and the value.

    Example:
        >>> family = NasBench201()
        >>> family.space.size, len(family.space.decisions)
        (15625, 7)
    """

    name: str = "nasbench201"
    channels: int = 3
    classes: int = 10
    resolutions: tuple[int, ...] = (32,)
    operations: tuple[str, ...] = OPERATIONS
    cells: int = 5
    width: int = 16

    def __post_init__(self) -> None:
        check_sides(self.resolutions, why="it is halved twice", step=4)
        for field in ("channels", "classes", "cells", "width"):
            if getattr(self, field) < 1:
                raise SpaceError(f"{field} is {getattr(self, field)}; it must be above 0")
        for operation in self.operations:
            if operation not in OPERATIONS:
                raise SpaceError(f'operations holds "{operation}"; {did_you_mean(operation, OPERATIONS)}')
        if not self.operations or len(set(self.operations)) < len(self.operations):
            raise SpaceError(f"operations is {list(self.operations)}; expected at least one, each once")

    @property
    def widths(self) -> tuple[int, int, int]:
        """Channels of each stage."""
        return self.width, 2 * self.width, 4 * self.width

    @cached_property
    def space(self) -> Space:
        """The decisions, and the blocks they choose."""
        return _space(self)

    @property
    def has_supernet(self) -> bool:
        """Whether all networks can be trained in one set of weights."""
        return True

    def default(self) -> Architecture:
        """The network one would take without a search: a residual block per cell, at the largest resolution.

        Operations that the space lacks are its first one instead.

        Example:
            >>> NasBench201().cell(NasBench201().default())
            '|nor_conv_3x3~0|+|none~0|nor_conv_3x3~1|+|skip_connect~0|none~1|skip_connect~2|'
        """
        block = "|nor_conv_3x3~0|+|none~0|nor_conv_3x3~1|+|skip_connect~0|none~1|skip_connect~2|"
        first = self.operations[0]
        edges = tuple(tuple(op if op in self.operations else first for op in row) for row in read_cell(block))
        return self.architecture(write_cell(edges))

    def smallest(self) -> Architecture:
        """The smallest network that has something to train in its cells: a skip along every node, else the default.

        Example:
            >>> NasBench201().cell(NasBench201().smallest())
            '|skip_connect~0|+|none~0|skip_connect~1|+|none~0|none~1|skip_connect~2|'
        """
        if "skip_connect" not in self.operations or "none" not in self.operations:
            return self.default()
        cell = "|skip_connect~0|+|none~0|skip_connect~1|+|none~0|none~1|skip_connect~2|"
        return self.architecture(cell, resolution=self.resolutions[0])

    def supernet(self) -> NasBench201Supernet:
        """All networks in one set of weights, freshly initialised from torch's global generator."""
        return NasBench201Supernet(self)

    def build_block(self, block: Block) -> nn.Module:
        """The plain module of an entry of the latency table, with fresh random weights."""
        return build_block(block)

    def build_network(self, architecture: Architecture) -> nn.Module:
        """The plain network without dead edges, with fresh random weights.

        Raises:
            SpaceError: If the architecture is not one of the space.
        """
        return build_network(self.space, architecture)

    # ------------------------------------------------------------------------------------------------- the benchmark

    def architecture(self, cell: str, *, resolution: int | None = None) -> Architecture:
        """The architecture of a cell's string, at the largest resolution unless given.

        Raises:
            SpaceError: If the text is no cell of four nodes, or the space lacks an operation or the resolution.

        Example:
            >>> cell = "|none~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|"
            >>> NasBench201().architecture(cell)["node3.from0"]
            'skip_connect'
        """
        edges = read_cell(cell)
        if len(edges) != 3:
            raise SpaceError(f'space {self.name}: cell "{cell}" has {len(edges) + 1} nodes; expected 4')
        options = {f"node{node}.from{source}": edges[node - 1][source] for source, node in EDGES}
        return self.space.canonical({"resolution": resolution or self.resolutions[-1], **options})

    def cell(self, architecture: Architecture) -> str:
        """The benchmark's string of an architecture, dead edges as they are chosen."""
        return write_cell(_edges(_options(architecture)))

    def live_cell(self, architecture: Architecture) -> str:
        """The same with "none" on dead edges: equal strings are equal networks (not the other way round)."""
        return write_cell(without_dead_edges(read_cell(self.cell(architecture))))

    def benchmark_macs(self, architecture: Architecture) -> int:
        """Multiply-adds as the benchmark counts them: dead edges too, and the classifier's bias.

        Example:
            >>> family = NasBench201()
            >>> family.benchmark_macs(family.architecture("|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"))
            7783050
        """
        side = int(architecture["resolution"])
        sizes = (side, side // 2, side // 4)
        per_weight = sum((size * width) ** 2 for size, width in zip(sizes, self.widths, strict=True))
        rest = [block.macs for block in _frame(self, side)]
        return sum(rest) + self.classes + self.cells * per_weight * self._weights(architecture)

    def benchmark_parameters(self, architecture: Architecture) -> int:
        """Parameters as the benchmark counts them: those of dead edges too.

        Example:
            >>> family = NasBench201()
            >>> family.benchmark_parameters(family.architecture("|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"))
            73306
        """
        convolutions = sum(op.startswith("nor_conv") for row in read_cell(self.cell(architecture)) for op in row)
        weights = sum(width**2 for width in self.widths) * self._weights(architecture)
        rest = [block.parameters for block in _frame(self, int(architecture["resolution"]))]
        return sum(rest) + self.cells * (weights + 2 * sum(self.widths) * convolutions)

    def _weights(self, architecture: Architecture) -> int:
        """Kernel positions of all convolutions of a cell: 9 and 1 each."""
        sides = {"nor_conv_1x1": 1, "nor_conv_3x3": 9}
        return sum(sides.get(name, 0) for name in _options(architecture))


class NasBench201Supernet(nn.Module):
    """The weights of a `NasBench201` family: every edge of every cell has its own for each operation.

    The resolution is hard: the images must come in the size that the gates ask for. Edges may be soft.
    Source: Dong and Yang 2020 (arXiv 2001.00326), section 4.
    """

    def __init__(self, family: NasBench201) -> None:
        super().__init__()
        self.family = family
        self.stem = CellStem(family.channels, family.width)
        self.stages = nn.ModuleList(
            nn.ModuleList(ElasticCell(width, nodes=4, operations=family.operations) for _ in range(family.cells))
            for width in family.widths
        )
        self.reductions = nn.ModuleList(Reduction(a, b) for a, b in itertools.pairwise(family.widths))
        self.head = CellHead(family.widths[-1], family.classes)

    @property
    def space(self) -> Space:
        """The decisions that the gates answer."""
        return self.family.space

    def forward(self, x: Tensor, gates: Gates) -> Tensor:
        """Logits [n, classes] of images [n, c, side, side].

        Raises:
            SpaceError: If the images are not of the size that the gates ask for, or the resolution is soft.
        """
        check_resolution(x, gates, self.family.resolutions)
        if isinstance(gates, Architecture):
            return through(self.sections(gates), x)
        y: Tensor = self.stem(x)
        edges = [[gates[f"node{n}.from{source}"] for source in range(n)] for n in (1, 2, 3)]
        for stage in range(len(self.stages)):
            y = self._reduced(stage, y)
            for cell in self._cells(stage):
                y = cell.soft(y, edges)
        return cast(Tensor, self.head(y))

    def sections(self, architecture: Architecture) -> list[Section]:
        """Stem, stages with the reduction before each, head; see `hwnas.nn.Sectioned`."""
        edges = _edges(_options(architecture))
        stages = (partial(self._hard_stage, stage, edges=edges) for stage in range(len(self.stages)))
        return [self.stem, *stages, self.head]

    def _hard_stage(self, stage: int, x: Tensor, edges: Edges) -> Tensor:
        x = self._reduced(stage, x)
        for cell in self._cells(stage):
            x = cell(x, edges)
        return x

    def _reduced(self, stage: int, x: Tensor) -> Tensor:
        return cast(Tensor, self.reductions[stage - 1](x)) if stage else x

    def extract(self, architecture: Architecture) -> nn.Sequential:
        """The plain network of one architecture without dead edges, with its own copy of the weights.

        Raises:
            SpaceError: If the architecture is not one of the space.
        """
        network = build_network(self.space, architecture)
        edges = _edges(_options(architecture))
        parts: list[nn.Module] = [self.stem]
        for number in range(len(self.stages)):
            parts += [self.reductions[number - 1]] if number else []
            parts += [cell.cut(edges) for cell in self._cells(number)]
        for plain, part in zip(network, [*parts, self.head], strict=True):
            plain.load_state_dict(part.state_dict())
        return network.train(self.training)

    def _cells(self, stage: int) -> list[ElasticCell]:
        return cast(list[ElasticCell], list(cast(nn.ModuleList, self.stages[stage])))


def _options(architecture: Architecture) -> list[str]:
    """The operation of each edge, in the order of `EDGES`."""
    return [str(architecture[f"node{node}.from{source}"]) for source, node in EDGES]


def _edges(operations: Iterable[str]) -> Edges:
    rows: dict[int, list[str]] = {1: [], 2: [], 3: []}
    for (_, node), operation in zip(EDGES, operations, strict=True):
        rows[node].append(operation)
    return tuple(tuple(row) for row in rows.values())


def _frame(family: NasBench201, side: int) -> list[Block]:
    """What every network has: stem, two reductions, head."""
    first, second, third = family.widths
    return [
        describe_cell_stem(family.channels, first, side),
        describe_reduction(first, second, side),
        describe_reduction(second, third, side // 2),
        describe_cell_head(third, family.classes, side // 4),
    ]


@cache
def _space(family: NasBench201) -> Space:
    """Built once per family: fifteen thousand cells in three sizes take a while."""
    labels = tuple(f"node{node}.from{source}" for source, node in EDGES)
    decisions = (Decision("resolution", family.resolutions), *(Decision(label, family.operations) for label in labels))
    chosen = [without_dead_edges(_edges(row)) for row in itertools.product(family.operations, repeat=len(EDGES))]
    stems, halves, quarters, heads = zip(*(_frame(family, side) for side in family.resolutions), strict=True)
    blocks = [
        [describe_cell(cell, width, side // 2**stage) for side in family.resolutions for cell in chosen]
        for stage, width in enumerate(family.widths)
    ]
    entries = {block.key: block for stage in blocks for block in stage}
    if len(entries) <= MOST_WHOLE:
        whole = {key: replace(block, kernels=None) for key, block in entries.items()}
        blocks = [[whole[block.key] for block in stage] for stage in blocks]
    stages = [tuple(stage) for stage in blocks]
    units = [Unit("stem", ("resolution",), stems)]
    for number, (stage, reductions) in enumerate(zip(stages, (halves, quarters, None), strict=True), start=1):
        units += [Unit(f"stage{number}.cell{n}", ("resolution", *labels), stage) for n in range(1, family.cells + 1)]
        if reductions is not None:
            units.append(Unit(f"reduction{number}", ("resolution",), reductions))
    return Space(family.name, decisions, (*units, Unit("head", ("resolution",), heads)))
