"""The stages of Genetic-CNN: a graph of equal convolutions between a first and a last one, then a pool.

A stage's code names its graph: for each node after the first, a bit for every node before it, as in "1-00-111". A node
adds up what its predecessors give and convolves the sum; one without predecessors reads the first convolution; what no
node reads goes to the last convolution, added up. A node without any edge does not exist, and a stage without any edge
is its first convolution alone. Shapes: n images, c channels, h height, w width.

Source: Xie and Yuille 2017 (arXiv 1703.01513), section 3.1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from hwnas.core import SpaceError
from hwnas.nn.cells import describe_kernel
from hwnas.nn.gates import Gate, product_if_any, weight_if_any
from hwnas.nn.two_input_cells import describe_operation
from hwnas.space import Block

Graph = tuple[tuple[int, ...], ...]
"""For each node after the first a 0 or 1 for every node before it."""


def read_code(code: str) -> Graph:
    """The graph of a code; the empty code is that of no node or of one.

    Raises:
        SpaceError: If the text is no code.

    Example:
        >>> read_code("1-00")
        ((1,), (0, 0))
    """
    parts = code.split("-") if code else []
    if [len(part) for part in parts] != list(range(1, len(parts) + 1)) or not set(code) <= set("01-"):
        raise SpaceError(f'code "{code}": expected a bit for every earlier node, node by node, as in "1-00-111"')
    return tuple(tuple(int(bit) for bit in part) for part in parts)


def write_code(graph: Graph) -> str:
    """The code of a graph.

    Example:
        >>> write_code(((1,), (0, 0)))
        '1-00'
    """
    return "-".join("".join(map(str, row)) for row in graph)


def predecessors(graph: Graph) -> list[list[int]]:
    """Of each node, counted from 0.

    Example:
        >>> predecessors(((1,), (0, 1)))
        [[], [0], [1]]
    """
    return [[], *([source for source, bit in enumerate(row) if bit] for row in graph)]


def connected(graph: Graph) -> list[int]:
    """The nodes that have an edge, counted from 0.

    Example:
        >>> connected(((0,), (1, 0)))
        [0, 2]
    """
    before = predecessors(graph)
    read = {source for row in before for source in row}
    return [node for node, sources in enumerate(before) if sources or node in read]


@cache
def without_isolated(graph: Graph) -> Graph:
    """The same network without the nodes that do not exist.

    Example:
        >>> write_code(without_isolated(read_code("0-10")))
        '1'
    """
    kept = connected(graph)
    return tuple(tuple(graph[node - 1][source] for source in kept[:n]) for n, node in enumerate(kept) if n)


def unread(graph: Graph) -> list[int]:
    """The nodes that have an edge and that no node reads, counted from 0."""
    read = {source for row in predecessors(graph) for source in row}
    return [node for node in connected(graph) if node not in read]


# ---------------------------------------------------------------------------------------------------------- modules


class ConvNormRelu(nn.Module):
    """Convolution, norm, rectifier."""

    def __init__(self, c_in: int, c_out: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(c_out)

    def forward(self, x: Tensor) -> Tensor:
        """[n, c_in, h, w] -> [n, c_out, h, w]."""
        return F.relu(self.norm(self.conv(x)))


class GeneticStage(nn.Module):
    """A stage of one graph.

    Args:
        c_in: Channels in.
        c_out: Channels of every convolution.
        graph: May hold isolated nodes, which are left out.
        kernel: Side of every convolution, odd.

    Example:
        >>> import torch
        >>> GeneticStage(3, 8, read_code("1-00"), kernel=3)(torch.zeros(1, 3, 9, 9)).shape
        torch.Size([1, 8, 5, 5])
    """

    def __init__(self, c_in: int, c_out: int, graph: Graph, *, kernel: int) -> None:
        super().__init__()
        self.graph = without_isolated(graph)
        nodes = len(connected(self.graph))
        self.first = ConvNormRelu(c_in, c_out, kernel)
        self.nodes = nn.ModuleList(ConvNormRelu(c_out, c_out, kernel) for _ in range(nodes))
        self.last = ConvNormRelu(c_out, c_out, kernel) if nodes else None

    def forward(self, x: Tensor) -> Tensor:
        """[n, c_in, h, w] -> [n, c_out, ceil(h / 2), ceil(w / 2)]."""
        return _run(self.first, self.nodes, self.last, self.graph, x)


def _run(first: nn.Module, nodes: Iterable[nn.Module], last: nn.Module | None, graph: Graph, x: Tensor) -> Tensor:
    """A graph without isolated nodes, each with its module."""
    given: Tensor = first(x)
    if last is not None and graph:
        values: list[Tensor] = []
        for module, sources in zip(nodes, predecessors(graph), strict=True):
            values.append(module(_total([values[source] for source in sources]) if sources else given))
        given = last(_total([values[node] for node in unread(graph)]))
    return _pooled(given)


class TwoLayerHead(nn.Module):
    """Mean over the image, a hidden layer, classifier."""

    def __init__(self, channels: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(channels, hidden)
        self.classifier = nn.Linear(hidden, classes)

    def forward(self, x: Tensor) -> Tensor:
        """[n, channels, h, w] -> logits [n, classes]."""
        return cast(Tensor, self.classifier(F.relu(self.hidden(x.mean(dim=(2, 3))))))


def _total(values: Sequence[Tensor]) -> Tensor:
    total = values[0]
    for value in values[1:]:
        total = total + value
    return total


def _pooled(x: Tensor) -> Tensor:
    return F.max_pool2d(x, 3, stride=2, padding=1)


class ElasticGeneticStage(nn.Module):
    """A stage whose graph is chosen at every call; each node has one convolution, whatever it reads.

    Args:
        c_in: Channels in.
        c_out: Channels of every convolution.
        nodes: At most.
        kernel: Side of every convolution, odd.

    Example:
        >>> import torch
        >>> stage = ElasticGeneticStage(3, 4, nodes=3, kernel=3).eval()
        >>> x, graph = torch.randn(1, 3, 8, 8), read_code("0-10")
        >>> torch.allclose(stage(x, graph), stage.cut(graph)(x))
        True
    """

    def __init__(self, c_in: int, c_out: int, *, nodes: int, kernel: int) -> None:
        super().__init__()
        self.c_in, self.c_out, self.kernel = c_in, c_out, kernel
        self.first = ConvNormRelu(c_in, c_out, kernel)
        self.nodes = nn.ModuleList(ConvNormRelu(c_out, c_out, kernel) for _ in range(nodes))
        self.last = ConvNormRelu(c_out, c_out, kernel)

    def forward(self, x: Tensor, graph: Graph) -> Tensor:
        """One choice: [n, c_in, h, w] -> [n, c_out, ceil(h / 2), ceil(w / 2)]."""
        return _run(self.first, [self.nodes[node] for node in connected(graph)], self.last, without_isolated(graph), x)

    def soft(self, x: Tensor, gates: Sequence[Sequence[Gate]]) -> Tensor:
        """The relaxation: what the stage gives on average if every bit were drawn on its own, up to the convolutions.

        A node reads the first convolution as much as it has no predecessor, and the last convolution reads a node as
        much as it has an edge but no reader. With one-hot gates the result equals the hard call. Our own, as the paper
        has none.

        Args:
            x: [n, c_in, h, w].
            gates: Of each bit, laid out as in `Graph`; options 0 and 1, in this order.

        Returns:
            [n, c_out, ceil(h / 2), ceil(w / 2)].
        """
        # None stands for a weight that is surely 0, of what the supports leave out: it is not computed.
        edges = [[weight_if_any(gate, 1) for gate in row] for row in ([], *gates)]
        gaps = [[weight_if_any(gate, 0) for gate in row] for row in ([], *gates)]
        readers = [[(node, source) for node in range(source + 1, len(edges))] for source in range(len(edges))]
        start: Tensor = self.first(x)
        values: list[Tensor | None] = []
        ends: list[Tensor] = []
        for node, module in enumerate(self.nodes):
            if all(edge is None for edge in (*edges[node], *(edges[n][source] for n, source in readers[node]))):
                values.append(None)
                continue
            weights = [*edges[node], product_if_any(gaps[node])]
            read = [*zip(weights, [*values, start], strict=True)]
            value: Tensor = module(_total([w * v for w, v in read if w is not None and v is not None]))
            values.append(value)
            unread_by_all = product_if_any([gaps[n][source] for n, source in readers[node]])
            alone = product_if_any([*gaps[node], unread_by_all])
            if unread_by_all is not None:
                ends.append((unread_by_all if alone is None else unread_by_all - alone) * value)
        empty = product_if_any([gap for row in gaps for gap in row])
        if not ends:
            return _pooled(start)
        given = self.last(_total(ends))
        return _pooled(given if empty is None else empty * start + (1 - empty) * given)

    def cut(self, graph: Graph) -> GeneticStage:
        """The plain stage of one graph, with its own copy of the weights."""
        stage = GeneticStage(self.c_in, self.c_out, graph, kernel=self.kernel)
        stage.first.load_state_dict(self.first.state_dict())
        for plain, node in zip(stage.nodes, connected(graph), strict=True):
            plain.load_state_dict(self.nodes[node].state_dict())
        if stage.last is not None:
            stage.last.load_state_dict(self.last.state_dict())
        return stage.train(self.training)


# ---------------------------------------------------------------------------------------------------------- entries


@cache
def describe_genetic_stage(graph: Graph, c_in: int, c_out: int, size: int, *, kernel: int) -> Block:
    """The entry of a `GeneticStage` on square features of side `size`, named without isolated nodes, with its kernels.

    Example:
        >>> stage = describe_genetic_stage(read_code("1-00"), 3, 8, 16, kernel=3)
        >>> stage.key, stage.macs == 16 * 16 * 9 * 8 * (3 + 3 * 8)
        ('genetic_stage code=1 kernel=3 3x16x16->8x8x8', True)
        >>> [block.kind for block in stage.kernels or ()]
        ['conv_norm_relu', 'conv_norm_relu', 'conv_norm_relu', 'conv_norm_relu', 'pool']
    """
    alive = without_isolated(graph)
    nodes, ends = len(connected(alive)), len(unread(alive))
    sums = sum(max(0, len(sources) - 1) for sources in predecessors(alive)) + max(0, ends - 1)
    kernels = [describe_conv_norm_relu(c_in, c_out, size, kernel=kernel)]
    kernels += [describe_conv_norm_relu(c_out, c_out, size, kernel=kernel)] * (nodes + (nodes > 0))
    kernels += [describe_kernel("add", c_out, size)] * sums
    pool = describe_operation("max_pool_3x3", c_out, c_out, size, stride=2)
    kernels += [pool] if pool else []
    return Block(
        "genetic_stage",
        (("code", write_code(alive)), ("kernel", kernel)),
        (c_in, size, size),
        kernels[-1].output_shape,
        sum(block.macs for block in kernels),
        sum(block.parameters for block in kernels),
        kernels=tuple(kernels),
    )


@cache
def describe_conv_norm_relu(c_in: int, c_out: int, size: int, *, kernel: int) -> Block:
    """The entry of a `ConvNormRelu`."""
    weights = kernel * kernel * c_in * c_out
    shapes = (c_in, size, size), (c_out, size, size)
    return Block("conv_norm_relu", (("kernel", kernel),), *shapes, size * size * weights, weights + 2 * c_out)


def describe_two_layer_head(channels: int, hidden: int, classes: int, size: int) -> Block:
    """The entry of a `TwoLayerHead`.

    Example:
        >>> describe_two_layer_head(32, 128, 10, 4).parameters == 33 * 128 + 129 * 10
        True
    """
    weights = hidden * (channels + classes)
    return Block(
        "two_layer_head",
        (("hidden", hidden),),
        (channels, size, size),
        (classes,),
        macs=weights,
        parameters=weights + hidden + classes,
    )


def _build_stage(block: Block) -> nn.Module:
    graph, kernel = read_code(str(block.setting("code"))), int(block.setting("kernel"))
    return GeneticStage(block.input_shape[0], block.output_shape[0], graph, kernel=kernel)


GENETIC_BUILDERS: Mapping[str, Callable[[Block], nn.Module]] = {
    "conv_norm_relu": lambda block: ConvNormRelu(
        block.input_shape[0], block.output_shape[0], int(block.setting("kernel"))
    ),
    "genetic_stage": _build_stage,
    "two_layer_head": lambda block: TwoLayerHead(
        block.input_shape[0], int(block.setting("hidden")), block.output_shape[0]
    ),
}
