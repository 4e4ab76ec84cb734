"""Genetic-CNN: in each stage of a plain network, which of its ordered convolutions read which.

Source: Xie and Yuille 2017 (arXiv 1703.01513), section 3.1 for the encoding, section 4.2 for the networks of small
images. Two things differ: the classifier reads the mean over the image instead of every pixel, so that one set of
weights serves every resolution, and its dropout is left to the training.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import cast

from torch import Tensor, nn

from hwnas.core import Architecture, Option, SpaceError
from hwnas.nn import build_block, build_network
from hwnas.nn.gates import Gate, Gates, check_resolution
from hwnas.nn.genetic_stages import (
    ElasticGeneticStage,
    Graph,
    TwoLayerHead,
    describe_genetic_stage,
    describe_two_layer_head,
    read_code,
    write_code,
)
from hwnas.space import Block, Decision, Space, Unit

MOST_WHOLE = 512
"""Blocks of a space up to which each is measured as a whole; beyond, the kernels of its stages are."""

MOST_NODES = 6
"""Of a stage: seven would have 2^21 graphs, too many to tabulate."""


@dataclass(frozen=True)
class GeneticCnn:
    """The family: everything that fixes a space. One list entry per stage where a field is a list.

    Attributes:
        name: Of the space; part of the latency table's file name.
        channels: Of the images, 1 or 3; comes from the data.
        classes: Comes from the data.
        resolutions: Sides of the square input, searched.
        nodes: Convolutions of each stage between its first and its last one.
        widths: Channels of each stage.
        kernel: Side of every convolution, odd.
        head_width: Of the hidden layer before the classifier.

    Raises:
        SpaceError: If a value is impossible; names the field and the value.

    Example:
        >>> family = GeneticCnn()
        >>> family.space.size, len(family.space.decisions)
        (524288, 20)
    """

    name: str = "genetic_cnn"
    channels: int = 3
    classes: int = 10
    resolutions: tuple[int, ...] = (32,)
    nodes: tuple[int, ...] = (3, 4, 5)
    widths: tuple[int, ...] = (8, 16, 32)
    kernel: int = 5
    head_width: int = 128

    def __post_init__(self) -> None:
        if list(self.resolutions) != sorted(set(self.resolutions)) or not self.resolutions or self.resolutions[0] < 1:
            raise SpaceError(f"resolutions is {list(self.resolutions)}; expected ascending numbers above 0, each once")
        for field in ("channels", "classes", "head_width"):
            if getattr(self, field) < 1:
                raise SpaceError(f"{field} is {getattr(self, field)}; it must be above 0")
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise SpaceError(f"kernel is {self.kernel}; kernels are odd, so that images keep their centre")
        if len(self.nodes) != len(self.widths) or not self.nodes:
            raise SpaceError(
                f"nodes has {len(self.nodes)} entries, widths has {len(self.widths)}; expected one per stage"
            )
        if min(self.widths) < 1:
            raise SpaceError(f"widths is {list(self.widths)}; they must be above 0")
        if min(self.nodes) < 2 or max(self.nodes) > MOST_NODES:
            raise SpaceError(
                f"nodes is {list(self.nodes)}; expected 2 to {MOST_NODES} per stage: one node has nothing to choose, "
                "and more have too many graphs to tabulate"
            )

    @cached_property
    def space(self) -> Space:
        """The decisions, and the blocks they choose."""
        return _space(self)

    @property
    def has_supernet(self) -> bool:
        """Whether all networks can be trained in one set of weights."""
        return True

    def default(self) -> Architecture:
        """The network one would take without a search: in each stage a chain that skips, as a residual network.

        Example:
            >>> GeneticCnn().codes(GeneticCnn().default())
            ('1-11', '1-11-011', '1-11-011-0011')
        """
        codes = (
            "-".join("".join("01"[node - source <= 2] for source in range(node)) for node in range(1, nodes))
            for nodes in self.nodes
        )
        return self.architecture(tuple(codes))

    def supernet(self) -> GeneticSupernet:
        """All networks in one set of weights, freshly initialised from torch's global generator."""
        return GeneticSupernet(self)

    def build_block(self, block: Block) -> nn.Module:
        """The plain module of an entry of the latency table, with fresh random weights."""
        return build_block(block)

    def build_network(self, architecture: Architecture) -> nn.Module:
        """The plain network without isolated nodes, with fresh random weights.

        Raises:
            SpaceError: If the architecture is not one of the space.
        """
        return build_network(self.space, architecture)

    def bits(self, stage: int) -> list[str]:
        """The labels of a stage's bits, counted from 0, in the order of its code."""
        pairs = ((source, node) for node in range(2, self.nodes[stage] + 1) for source in range(1, node))
        return [f"stage{stage + 1}.node{node}.from{source}" for source, node in pairs]

    def architecture(self, codes: tuple[str, ...], *, resolution: int | None = None) -> Architecture:
        """The architecture of a code per stage, at the largest resolution unless given.

        Raises:
            SpaceError: If a text is no code, or one of another number of nodes.

        Example:
            >>> GeneticCnn().architecture(("0-11", "0-00-000", "0-01-000-0000"))["stage1.node3.from2"]
            1
        """
        graphs = [read_code(code) for code in codes]
        found = tuple(len(graph) + 1 for graph in graphs)
        if found != self.nodes:
            raise SpaceError(f"space {self.name}: codes of {list(found)} nodes; expected {list(self.nodes)}")
        options: dict[str, Option] = {"resolution": resolution or self.resolutions[-1]}
        for stage, graph in enumerate(graphs):
            options |= dict(zip(self.bits(stage), itertools.chain.from_iterable(graph), strict=True))
        return self.space.canonical(options)

    def graph(self, architecture: Architecture, stage: int) -> Graph:
        """The graph of a stage, counted from 0, isolated nodes included."""
        bits = iter([int(architecture[label]) for label in self.bits(stage)])
        return tuple(tuple(itertools.islice(bits, node)) for node in range(1, self.nodes[stage]))

    def codes(self, architecture: Architecture) -> tuple[str, ...]:
        """The code of each stage."""
        return tuple(write_code(self.graph(architecture, stage)) for stage in range(len(self.nodes)))


class GeneticSupernet(nn.Module):
    """The weights of a `GeneticCnn` family: every convolution has the same ones, whatever it reads.

    The resolution is hard: the images must come in the size that the gates ask for. Bits may be soft.
    """

    def __init__(self, family: GeneticCnn) -> None:
        super().__init__()
        self.family = family
        c_ins = (family.channels, *family.widths)
        self.stages = nn.ModuleList(
            ElasticGeneticStage(c_in, c_out, nodes=nodes, kernel=family.kernel)
            for c_in, c_out, nodes in zip(c_ins, family.widths, family.nodes, strict=False)
        )
        self.head = TwoLayerHead(family.widths[-1], family.head_width, family.classes)

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
        y = x
        for number, stage in enumerate(self._stages()):
            if isinstance(gates, Architecture):
                y = stage(y, self.family.graph(gates, number))
            else:
                bits: list[Gate] = [gates[label] for label in self.family.bits(number)]
                rows = [bits[node * (node - 1) // 2 :][:node] for node in range(1, self.family.nodes[number])]
                y = stage.soft(y, rows)
        return cast(Tensor, self.head(y))

    def extract(self, architecture: Architecture) -> nn.Sequential:
        """The plain network of one architecture, with its own copy of the weights.

        Raises:
            SpaceError: If the architecture is not one of the space.
        """
        network = build_network(self.space, architecture)
        stages = [stage.cut(self.family.graph(architecture, n)) for n, stage in enumerate(self._stages())]
        for plain, part in zip(network, [*stages, self.head], strict=True):
            plain.load_state_dict(part.state_dict())
        return network.train(self.training)

    def _stages(self) -> list[ElasticGeneticStage]:
        return cast(list[ElasticGeneticStage], list(self.stages))


@cache
def _space(family: GeneticCnn) -> Space:
    decisions = [Decision("resolution", family.resolutions)]
    stages: list[list[Block]] = []
    sizes, c_in = list(family.resolutions), family.channels
    for stage, (nodes, width) in enumerate(zip(family.nodes, family.widths, strict=True)):
        decisions += [Decision(label, (0, 1)) for label in family.bits(stage)]
        every = list(itertools.product(*(itertools.product((0, 1), repeat=node) for node in range(1, nodes))))
        stages.append([
            describe_genetic_stage(graph, c_in, width, size, kernel=family.kernel) for size in sizes for graph in every
        ])
        sizes, c_in = [-(-size // 2) for size in sizes], width
    entries = {block.key: replace(block, kernels=None) for blocks in stages for block in blocks}
    if len(entries) <= MOST_WHOLE:
        stages = [[entries[block.key] for block in blocks] for blocks in stages]
    units = [Unit(f"stage{n + 1}", ("resolution", *family.bits(n)), tuple(blocks)) for n, blocks in enumerate(stages)]
    heads = tuple(describe_two_layer_head(c_in, family.head_width, family.classes, size) for size in sizes)
    return Space(family.name, tuple(decisions), (*units, Unit("head", ("resolution",), heads)))
