"""The blocks of cell networks, and the kernels that the runtime makes of them.

A cell is a small graph: node 0 is its input, every later node the sum of its incoming edges, the last node its output.
Each edge carries one operation. An edge that no input reaches, or from which the output cannot be reached, changes
nothing and is left out of the module that is built. Shapes: n images, c channels, h height, w width.

Source: Dong and Yang 2020 (arXiv 2001.00326), section 2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from hwnas.core import SpaceError
from hwnas.core.errors import did_you_mean
from hwnas.space import Block

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
"""In the order of the benchmark's own codes 0 to 4."""

NONE, SKIP = OPERATIONS[:2]
KERNELS: Mapping[str, int] = {"nor_conv_1x1": 1, "nor_conv_3x3": 3}
"""Sides of the convolutions."""

Edges = tuple[tuple[str, ...], ...]
"""Per node after the input one operation for each node before it: ((op 0->1,), (op 0->2, op 1->2), ...)."""


def read_cell(text: str) -> Edges:
    """The operations in a string of the benchmark.

    Raises:
        SpaceError: If the text is no such string, or an operation is unknown.

    Example:
        >>> read_cell("|none~0|+|skip_connect~0|nor_conv_3x3~1|")
        (('none',), ('skip_connect', 'nor_conv_3x3'))
    """
    nodes = []
    for number, part in enumerate(text.strip().split("+"), start=1):
        words = part.strip().strip("|").split("|")
        pairs = [word.rpartition("~") for word in words]
        if [source for _, _, source in pairs] != [str(n) for n in range(number)]:
            raise SpaceError(
                f'cell "{text}": node {number} has inputs {words}; expected one from each node before it, '
                "as in |op~0|+|op~0|op~1|+|op~0|op~1|op~2|"
            )
        for operation, _, _ in pairs:
            if operation not in OPERATIONS:
                raise SpaceError(
                    f'cell "{text}": operation "{operation}" is unknown; {did_you_mean(operation, OPERATIONS)}'
                )
        nodes.append(tuple(operation for operation, _, _ in pairs))
    return tuple(nodes)


def write_cell(edges: Edges) -> str:
    """The benchmark's string of a cell.

    Example:
        >>> write_cell((("none",), ("skip_connect", "nor_conv_3x3")))
        '|none~0|+|skip_connect~0|nor_conv_3x3~1|'
    """
    return "+".join("|" + "".join(f"{op}~{source}|" for source, op in enumerate(node)) for node in edges)


@cache
def without_dead_edges(edges: Edges) -> Edges:
    """The same cell with "none" on every edge that changes nothing.

    Example:
        >>> write_cell(without_dead_edges(read_cell("|none~0|+|skip_connect~0|nor_conv_3x3~1|")))
        '|none~0|+|skip_connect~0|none~1|'
    """
    last = len(edges)
    fed, used = {0}, {last}
    for node in range(1, last + 1):
        if any(op != NONE and source in fed for source, op in enumerate(edges[node - 1])):
            fed.add(node)
    for node in range(last, 0, -1):
        if node in used:
            used |= {source for source, op in enumerate(edges[node - 1]) if op != NONE}
    return tuple(
        tuple(op if source in fed and node in used else NONE for source, op in enumerate(row))
        for node, row in enumerate(edges, start=1)
    )


# ---------------------------------------------------------------------------------------------------------- modules


class ReluConvNorm(nn.Module):
    """Rectifier, convolution, norm; the input is left as it is, because other edges read it."""

    def __init__(self, c_in: int, c_out: int, *, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(c_out)

    def forward(self, x: Tensor) -> Tensor:
        """[n, c_in, h, w] -> [n, c_out, ceil(h / stride), ceil(w / stride)]."""
        return cast(Tensor, self.norm(self.conv(F.relu(x))))


class Zero(nn.Module):
    """What a cell without a path computes. A product, as in the benchmark, so that the runtime keeps what is before."""

    def forward(self, x: Tensor) -> Tensor:
        """[n, c, h, w] -> zeros of the same shape."""
        return x * 0.0


class Add(nn.Module):
    """A sum of two tensors of one shape, with one input so that it can be timed."""

    def forward(self, x: Tensor) -> Tensor:
        """[n, c, h, w] -> the same shape."""
        return x + x


def operation(name: str, channels: int) -> nn.Module:
    """The module on an edge that keeps channels and size.

    Raises:
        SpaceError: If the name is unknown or "none".
    """
    match name:
        case "skip_connect":
            return nn.Identity()
        case "nor_conv_1x1" | "nor_conv_3x3":
            return ReluConvNorm(channels, channels, kernel=KERNELS[name], stride=1)
        case "avg_pool_3x3":
            return nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
    raise SpaceError(f'operation "{name}" cannot be built; {did_you_mean(name, OPERATIONS[1:])}')


class Cell(nn.Module):
    """A cell without its dead edges.

    Args:
        channels: In and out.
        edges: The operations; dead ones may be among them.
    """

    def __init__(self, channels: int, edges: Edges) -> None:
        super().__init__()
        self.edges = without_dead_edges(edges)
        self.operations = nn.ModuleDict({
            f"{source}-{node}": operation(name, channels)
            for node, row in enumerate(self.edges, start=1)
            for source, name in enumerate(row)
            if name != NONE
        })

    def forward(self, x: Tensor) -> Tensor:
        """[n, channels, h, w] -> the same shape."""
        if not len(self.operations):
            return cast(Tensor, Zero()(x))
        nodes: list[Tensor | None] = [x]
        for node, row in enumerate(self.edges, start=1):
            total: Tensor | None = None
            for source, name in enumerate(row):
                value = nodes[source]
                if name != NONE and value is not None:
                    y: Tensor = self.operations[f"{source}-{node}"](value)
                    total = y if total is None else total + y
            nodes.append(total)
        return cast(Tensor, nodes[-1])


class CellStem(nn.Module):
    """Convolution and norm: image to features."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(c_out)

    def forward(self, x: Tensor) -> Tensor:
        """[n, c_in, h, w] -> [n, c_out, h, w]."""
        return cast(Tensor, self.norm(self.conv(x)))


class Reduction(nn.Module):
    """A residual block that halves the image: two convolutions beside a mean pool with a 1x1 convolution."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.first = ReluConvNorm(c_in, c_out, kernel=3, stride=2)
        self.second = ReluConvNorm(c_out, c_out, kernel=3, stride=1)
        self.shortcut = nn.Sequential(nn.AvgPool2d(2, stride=2), nn.Conv2d(c_in, c_out, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """[n, c_in, h, w] -> [n, c_out, h / 2, w / 2]; h and w are even."""
        return cast(Tensor, self.shortcut(x) + self.second(self.first(x)))


class CellHead(nn.Module):
    """Norm, rectifier, mean over the image, classifier."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.classifier = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        """[n, channels, h, w] -> logits [n, classes]."""
        y = F.relu(self.norm(x))
        return cast(Tensor, self.classifier(F.adaptive_avg_pool2d(y, 1).flatten(1)))


# ---------------------------------------------------------------------------------------------------------- entries


@cache
def describe_cell(edges: Edges, channels: int, size: int) -> Block:
    """The entry of a cell on square features of side `size`: named without its dead edges, with its kernels.

    Example:
        >>> cell = describe_cell(read_cell("|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|"), 16, 8)
        >>> cell.macs == 8 * 8 * 16 * 16 * (9 + 1), cell.parameters == 16 * 16 * (9 + 1) + 2 * 2 * 16
        (True, True)
        >>> [kernel.kind for kernel in cell.kernels or ()]
        ['nor_conv_3x3', 'nor_conv_1x1', 'relu']
    """
    alive = without_dead_edges(edges)
    convolutions = [KERNELS[op] for row in alive for op in row if op in KERNELS]
    weights = sum(kernel * kernel for kernel in convolutions) * channels * channels
    shape = (channels, size, size)
    return Block(
        "cell",
        (("cell", write_cell(alive)),),
        shape,
        shape,
        macs=size * size * weights,
        parameters=weights + 2 * channels * len(convolutions),
        kernels=tuple(describe_kernel(kind, channels, size) for kind in kernels_of(alive)),
    )


@cache
def kernels_of(edges: Edges) -> tuple[str, ...]:
    """The kernels that a fusing runtime runs for a cell without dead edges.

    Norms fold into convolutions. Edges that rectify the same node share one rectifier. A sum is done by a convolution
    that feeds it, and a rectifier by the convolution before it where nothing else reads the value. What feeds node 0
    is taken to be an equal cell.

    Example:
        >>> kernels_of(read_cell("|skip_connect~0|+|avg_pool_3x3~0|skip_connect~1|"))
        ('avg_pool_3x3', 'add')
    """
    last = len(edges)
    kernels: list[str] = []
    leaving = [[row[node] for row in edges[node:] if row[node] != NONE] for node in range(last)]
    convolved: dict[int, bool] = {}  # whether the value of a node comes out of a convolution
    free: dict[int, bool] = {0: False}  # whether that convolution can do one more sum for the node's only reader
    for node, row in enumerate(edges, start=1):
        arriving = [(source, op) for source, op in enumerate(row) if op != NONE]
        kernels += [op for _, op in arriving if op != SKIP]
        adders = sum(op in KERNELS or (op == SKIP and free[source]) for source, op in arriving)
        kernels += ["add"] * max(0, len(arriving) - 1 - adders)
        convolved[node] = adders > 0
        free[node] = len(arriving) == 1 and adders > 0 and node < last and len(leaving[node]) == 1
    for node in range(last):
        rectified = any(op in KERNELS for op in leaving[node])
        if rectified and not (convolved[node or last] and all(op in KERNELS for op in leaving[node])):
            kernels.append("relu")
    return tuple(kernels) or (() if any(op != NONE for row in edges for op in row) else ("zero",))


@cache
def describe_kernel(kind: str, channels: int, size: int) -> Block:
    """The entry of one kernel of a cell."""
    shape = (channels, size, size)
    weights = KERNELS.get(kind, 0) ** 2 * channels * channels
    return Block(kind, (), shape, shape, size * size * weights, weights + 2 * channels * (kind in KERNELS))


def describe_cell_stem(c_in: int, c_out: int, size: int) -> Block:
    """The entry of a `CellStem`."""
    weights = 9 * c_in * c_out
    return Block("cell_stem", (), (c_in, size, size), (c_out, size, size), size * size * weights, weights + 2 * c_out)


def describe_reduction(c_in: int, c_out: int, size: int) -> Block:
    """The entry of a `Reduction` of features of side `size`.

    Example:
        >>> describe_reduction(16, 32, 32).macs, describe_reduction(16, 32, 32).parameters
        (3670016, 14464)
    """
    weights = c_out * (9 * c_in + 9 * c_out + c_in)
    half = size // 2
    return Block(
        "reduction",
        (),
        (c_in, size, size),
        (c_out, half, half),
        half * half * weights,
        weights + 4 * c_out,
        residual=True,
    )


def describe_cell_head(channels: int, classes: int, size: int) -> Block:
    """The entry of a `CellHead`."""
    weights = channels * classes
    return Block("cell_head", (), (channels, size, size), (classes,), weights, weights + classes + 2 * channels)


def _cell(block: Block) -> nn.Module:
    return Cell(block.input_shape[0], read_cell(str(block.setting("cell"))))


def _stem(block: Block) -> nn.Module:
    return CellStem(block.input_shape[0], block.output_shape[0])


def _reduction(block: Block) -> nn.Module:
    return Reduction(block.input_shape[0], block.output_shape[0])


def _head(block: Block) -> nn.Module:
    return CellHead(block.input_shape[0], block.output_shape[0])


def _convolution(block: Block) -> nn.Module:
    channels, kernel = block.input_shape[0], KERNELS[block.kind]
    return nn.Sequential(nn.Conv2d(channels, channels, kernel, 1, kernel // 2, bias=False), nn.BatchNorm2d(channels))


CELL_BUILDERS: Mapping[str, Callable[[Block], nn.Module]] = {
    "add": lambda _: Add(),
    "avg_pool_3x3": lambda block: operation(block.kind, block.input_shape[0]),
    "cell": _cell,
    "cell_head": _head,
    "cell_stem": _stem,
    "nor_conv_1x1": _convolution,
    "nor_conv_3x3": _convolution,
    "reduction": _reduction,
    "relu": lambda _: nn.ReLU(),
    "zero": lambda _: Zero(),
}
