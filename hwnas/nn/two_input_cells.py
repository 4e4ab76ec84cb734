"""Cells with two inputs, of NASNet, AmoebaNet, PNASNet and DARTS: their pieces, cells and whole networks.

A cell reads the outputs of the two cells before it. Its states are numbered as in the published genotypes: 0 is the
output of the cell before the last, 1 that of the last, and every node after them adds two operations on earlier states.
The cell gives some of its states, one after the other in the channels. A cell is far too varied to be timed as a whole,
so each of its pieces is a block of its own; what they cost adds up exactly in multiply-adds and parameters.

Shapes: n images, c channels, h height, w width; a block's features are square.
Source: Zoph et al. 2018 (arXiv 1707.07012), section 3; Liu et al. 2019 (arXiv 1806.09055), section 3 and appendix.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, Literal, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hwnas.core import SpaceError
from hwnas.core.errors import did_you_mean
from hwnas.nn.cells import CELL_BUILDERS, describe_kernel
from hwnas.space import Block

Edge = tuple[str, int]
"""An operation and the state that it reads."""

Wiring = tuple[tuple[Edge, Edge], ...]
"""Of each node its two edges."""

Matching = Literal["always", "where_needed"]
"""Which inputs of a cell pass a 1x1 convolution: all, as in DARTS, or those of other channels, as in NASNet."""


class Features(NamedTuple):
    """The shape of square features.

    Attributes:
        channels: How many.
        size: Side, in pixels.
    """

    channels: int
    size: int


# ---------------------------------------------------------------------------------------------------------- modules


class ConvNorm(nn.Module):
    """Rectifier or none, convolution, norm; the input is left as it is, because other operations read it.

    Args:
        c_in: Channels in.
        c_out: Channels out.
        kernel: Side.
        stride: Of the convolution.
        padding: On each side.
        rectify: 1 to rectify the input, 0 for an input that has no sign to lose, as an image.
    """

    def __init__(self, c_in: int, c_out: int, *, kernel: int, stride: int, padding: int, rectify: int) -> None:
        super().__init__()
        self.rectify = rectify
        self.conv = nn.Conv2d(c_in, c_out, kernel, stride, padding, bias=False)
        self.norm = nn.BatchNorm2d(c_out)

    def forward(self, x: Tensor) -> Tensor:
        """[n, c_in, h, w] -> [n, c_out, (h + 2 padding - kernel) // stride + 1, likewise w]."""
        return cast(Tensor, self.norm(self.conv(F.relu(x) if self.rectify else x)))


class FactorizedReduce(nn.Module):
    """Halves the image without losing pixels: two strided 1x1 convolutions, one of them a pixel aside.

    Args:
        c_in: Channels in.
        c_out: Channels out; an odd number gives the second convolution one more.
        rectify: 1 to rectify the input.
    """

    def __init__(self, c_in: int, c_out: int, *, rectify: int) -> None:
        super().__init__()
        self.rectify = rectify
        self.first = nn.Conv2d(c_in, c_out // 2, 1, stride=2, bias=False)
        self.second = nn.Conv2d(c_in, c_out - c_out // 2, 1, stride=2, bias=False)
        # One norm for both, as published, is these two side by side; a runtime folds these into the convolutions.
        self.first_norm = nn.BatchNorm2d(c_out // 2)
        self.second_norm = nn.BatchNorm2d(c_out - c_out // 2)

    def forward(self, x: Tensor) -> Tensor:
        """[n, c_in, h, w] -> [n, c_out, ceil(h / 2), ceil(w / 2)]."""
        x = F.relu(x) if self.rectify else x
        # An odd side lacks a pixel for the shifted grid: zeros stand there. Padding would do the same, but the exporter
        # writes it so that the sizes of all that follows cannot be told from the file.
        aside = x[..., 1:]
        if x.shape[-1] % 2:
            aside = torch.cat([aside, x[..., :1] * 0.0], dim=3)
        rest = aside[:, :, 1:]
        if x.shape[-2] % 2:
            rest = torch.cat([rest, aside[:, :, :1] * 0.0], dim=2)
        return torch.cat([self.first_norm(self.first(x)), self.second_norm(self.second(rest))], dim=1)


class TwiceSeparable(nn.Module):
    """Twice: rectifier, depthwise convolution, 1x1 convolution, norm; the first time with the stride."""

    def __init__(self, c_in: int, c_out: int, *, kernel: int, stride: int) -> None:
        super().__init__()
        self.first = DepthwisePointwise(c_in, c_out, kernel=kernel, stride=stride, dilation=1)
        self.second = DepthwisePointwise(c_out, c_out, kernel=kernel, stride=1, dilation=1)

    def forward(self, x: Tensor) -> Tensor:
        """[n, c_in, h, w] -> [n, c_out, ceil(h / stride), ceil(w / stride)]."""
        return cast(Tensor, self.second(self.first(x)))


class DepthwisePointwise(nn.Module):
    """Rectifier, depthwise convolution, 1x1 convolution, norm."""

    def __init__(self, c_in: int, c_out: int, *, kernel: int, stride: int, dilation: int) -> None:
        super().__init__()
        padding = dilation * (kernel // 2)
        self.depthwise = nn.Conv2d(c_in, c_in, kernel, stride, padding, dilation, groups=c_in, bias=False)
        self.pointwise = nn.Conv2d(c_in, c_out, 1, bias=False)
        self.norm = nn.BatchNorm2d(c_out)

    def forward(self, x: Tensor) -> Tensor:
        """[n, c_in, h, w] -> [n, c_out, ceil(h / stride), ceil(w / stride)]."""
        return cast(Tensor, self.norm(self.pointwise(self.depthwise(F.relu(x)))))


class Bottleneck(nn.Module):
    """A full convolution between two 1x1 convolutions that spare it channels, each rectified before and normed after.

    Source: the released AmoebaNet code (tensorflow/tpu, models/official/amoeba_net/network_utils.py).

    Args:
        c_in: Channels in.
        c_out: Channels out.
        form: A key of `FORMS`.
        hidden: Channels between.
        stride: Of the middle.
    """

    def __init__(self, c_in: int, c_out: int, *, form: str, hidden: int, stride: int) -> None:
        super().__init__()
        middle: list[nn.Module] = []
        for (height, width), (down, across), dilation in _steps(form, stride):
            padding = (dilation * (height // 2), dilation * (width // 2))
            middle += [
                nn.ReLU(),
                nn.Conv2d(hidden, hidden, (height, width), (down, across), padding, dilation, bias=False),
                nn.BatchNorm2d(hidden),
            ]
        self.reduce = ConvNorm(c_in, hidden, kernel=1, stride=1, padding=0, rectify=1)
        self.middle = nn.Sequential(*middle)
        self.expand = ConvNorm(hidden, c_out, kernel=1, stride=1, padding=0, rectify=1)

    def forward(self, x: Tensor) -> Tensor:
        """[n, c_in, h, w] -> [n, c_out, ceil(h / stride), ceil(w / stride)]."""
        return cast(Tensor, self.expand(self.middle(self.reduce(x))))


class Pool(nn.Module):
    """A pool that does not count what it pads; other channels come from a 1x1 convolution and a norm behind it."""

    def __init__(self, c_in: int, c_out: int, *, mode: str, kernel: int, stride: int) -> None:
        super().__init__()
        self.pool: nn.Module
        if mode == "max":
            self.pool = nn.MaxPool2d(kernel, stride, kernel // 2)
        else:
            self.pool = nn.AvgPool2d(kernel, stride, kernel // 2, count_include_pad=False)
        plain = {"kernel": 1, "stride": 1, "padding": 0, "rectify": 0}
        self.match = ConvNorm(c_in, c_out, **plain) if c_in != c_out else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """[n, c_in, h, w] -> [n, c_out, ceil(h / stride), ceil(w / stride)]."""
        return cast(Tensor, self.match(self.pool(x)))


class Concat(nn.Module):
    """Several tensors of one shape, one after the other in the channels; with one input so that it can be timed."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.inputs = inputs

    def forward(self, x: Tensor) -> Tensor:
        """[n, c, h, w] -> [n, inputs * c, h, w]."""
        return torch.cat([x] * self.inputs, dim=1)


class PoolClassifier(nn.Module):
    """Rectifier or none, mean over the image, classifier."""

    def __init__(self, channels: int, classes: int, *, rectify: int) -> None:
        super().__init__()
        self.rectify = rectify
        self.classifier = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        """[n, channels, h, w] -> logits [n, classes]."""
        x = F.relu(x) if self.rectify else x
        return cast(Tensor, self.classifier(F.adaptive_avg_pool2d(x, 1).flatten(1)))


# ---------------------------------------------------------------------------------------------------------- entries

FORMS: Mapping[str, tuple[tuple[tuple[int, int], ...], int]] = {
    "3x3": (((3, 3),), 1),
    "1x3_3x1": (((1, 3), (3, 1)), 1),
    "1x7_7x1": (((1, 7), (7, 1)), 1),
    "3x3_dilated": (((3, 3),), 2),
}
"""Of a `Bottleneck`'s middle: (height, width) of each kernel, and the dilation."""


def _steps(form: str, stride: int) -> list[tuple[tuple[int, int], tuple[int, int], int]]:
    """Per convolution its kernel, its stride (down, across) and its dilation: a flat kernel strides along itself."""
    kernels, dilation = FORMS[form]
    return [(k, (stride if k[0] > 1 else 1, stride if k[1] > 1 else 1), dilation) for k in kernels]


def _halved(size: int, stride: int) -> int:
    return -(-size // stride)


@cache
def describe_conv_norm(
    c_in: int, c_out: int, size: int, *, kernel: int = 1, stride: int = 1, padding: int = 0, rectify: int = 1
) -> Block:
    """The entry of a `ConvNorm` on features of side `size`.

    Example:
        >>> describe_conv_norm(16, 8, 32).macs == 32 * 32 * 16 * 8
        True
    """
    out = (size + 2 * padding - kernel) // stride + 1
    weights = kernel * kernel * c_in * c_out
    return Block(
        "conv_norm",
        (("kernel", kernel), ("stride", stride), ("padding", padding), ("rectify", rectify)),
        (c_in, size, size),
        (c_out, out, out),
        out * out * weights,
        weights + 2 * c_out,
    )


@cache
def describe_factorized_reduce(c_in: int, c_out: int, size: int, *, rectify: int = 1) -> Block:
    """The entry of a `FactorizedReduce` on features of side `size`.

    Example:
        >>> block = describe_factorized_reduce(16, 32, 32)
        >>> block.output_shape, block.macs == 16 * 16 * 16 * 32, block.parameters
        ((32, 16, 16), True, 576)
    """
    out = _halved(size, 2)
    return Block(
        "factorized_reduce",
        (("rectify", rectify),),
        (c_in, size, size),
        (c_out, out, out),
        out * out * c_in * c_out,
        c_in * c_out + 2 * c_out,
    )


@cache
def describe_operation(name: str, c_in: int, c_out: int, size: int, *, stride: int) -> Block | None:
    """The entry of an operation on an edge; None where it changes nothing and costs nothing.

    Args:
        name: One of `EDGE_OPERATIONS`.
        c_in: Channels of the state it reads.
        c_out: Channels of the node.
        size: Side of the features it reads.
        stride: 1 or 2.

    Raises:
        SpaceError: If the name is unknown.

    Example:
        >>> describe_operation("skip_connect", 16, 16, 8, stride=1) is None
        True
        >>> describe_operation("skip_connect", 16, 16, 8, stride=2).kind
        'factorized_reduce'
        >>> describe_operation("sep_conv_3x3", 16, 16, 8, stride=1).macs == 8 * 8 * 2 * (9 * 16 + 16 * 16)
        True
    """
    if name not in EDGE_OPERATIONS:
        raise SpaceError(f'operation "{name}" is unknown; {did_you_mean(name, EDGE_OPERATIONS)}')
    same = stride == 1 and c_in == c_out
    if name in {"skip_connect", "identity"} and same:
        return None
    if name == "skip_connect" and stride == 2:
        return describe_factorized_reduce(c_in, c_out, size)
    if name in {"skip_connect", "identity", "conv_1x1"}:
        return describe_conv_norm(c_in, c_out, size, stride=stride)
    form, _, side = name.rpartition("_")
    if form in {"max_pool", "avg_pool"}:
        return _pool(form[:3], int(side[0]), c_in, c_out, size, stride)
    if form == "sep_conv":
        return _separable(int(side[0]), c_in, c_out, size, stride)
    if form == "dil_conv":
        return _dilated(int(side[0]), c_in, c_out, size, stride)
    return _bottleneck(name.removeprefix("conv_"), c_in, c_out, size, stride)


def _pool(mode: str, kernel: int, c_in: int, c_out: int, size: int, stride: int) -> Block:
    out = _halved(size, stride)
    weights = c_in * c_out if c_in != c_out else 0
    return Block(
        "pool",
        (("mode", mode), ("kernel", kernel), ("stride", stride)),
        (c_in, size, size),
        (c_out, out, out),
        out * out * weights,
        weights + 2 * c_out if weights else 0,
    )


def _separable(kernel: int, c_in: int, c_out: int, size: int, stride: int) -> Block:
    out = _halved(size, stride)
    weights = (kernel * kernel + c_out) * (c_in + c_out)
    return Block(
        "twice_separable",
        (("kernel", kernel), ("stride", stride)),
        (c_in, size, size),
        (c_out, out, out),
        out * out * weights,
        weights + 4 * c_out,
    )


def _dilated(kernel: int, c_in: int, c_out: int, size: int, stride: int) -> Block:
    out = _halved(size, stride)
    weights = (kernel * kernel + c_out) * c_in
    return Block(
        "dilated",
        (("kernel", kernel), ("stride", stride)),
        (c_in, size, size),
        (c_out, out, out),
        out * out * weights,
        weights + 2 * c_out,
    )


def _bottleneck(form: str, c_in: int, c_out: int, size: int, stride: int) -> Block:
    # A flat 3x1 is cheap and gets more channels; at least one is left where the released code drops the bottleneck.
    hidden = max(1, 3 * c_out // 8 if form == "1x3_3x1" else c_out // 4)
    out = _halved(size, stride)
    macs = size * size * c_in * hidden + out * out * hidden * c_out
    weights, norms = hidden * (c_in + c_out), hidden + c_out
    height = width = size
    for kernel, (down, across), _ in _steps(form, stride):
        height, width = _halved(height, down), _halved(width, across)
        macs += height * width * kernel[0] * kernel[1] * hidden * hidden
        weights += kernel[0] * kernel[1] * hidden * hidden
        norms += hidden
    return Block(
        "bottleneck",
        (("form", form), ("hidden", hidden), ("stride", stride)),
        (c_in, size, size),
        (c_out, out, out),
        macs,
        weights + 2 * norms,
    )


EDGE_OPERATIONS = (
    "skip_connect",
    "identity",
    "max_pool_3x3",
    "max_pool_5x5",
    "max_pool_7x7",
    "avg_pool_3x3",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "sep_conv_7x7",
    "dil_conv_3x3",
    "dil_conv_5x5",
    "conv_1x1",
    "conv_3x3",
    "conv_1x3_3x1",
    "conv_1x7_7x1",
    "conv_3x3_dilated",
)
"""What an edge may carry. Where the image is halved, "skip_connect" is a `FactorizedReduce`, as in DARTS, and
"identity" a strided 1x1 convolution, as in NASNet. "dil_conv" is depthwise, as in DARTS; "conv_3x3_dilated" is a full
one."""


@cache
def describe_concat(channels: int, inputs: int, size: int) -> Block:
    """The entry of a `Concat`."""
    return Block("concat", (("inputs", inputs),), (channels, size, size), (inputs * channels, size, size), 0, 0)


def describe_pool_classifier(channels: int, classes: int, size: int, *, rectify: int) -> Block:
    """The entry of a `PoolClassifier`.

    Example:
        >>> describe_pool_classifier(576, 10, 8, rectify=0).parameters
        5770
    """
    weights = channels * classes
    settings = (("rectify", rectify),)
    return Block(
        "pool_classifier", settings, (channels, size, size), (classes,), macs=weights, parameters=weights + classes
    )


def _ends(block: Block) -> tuple[int, int]:
    return block.input_shape[0], block.output_shape[0]


def _build_conv_norm(block: Block) -> nn.Module:
    c_in, c_out = _ends(block)
    kernel, stride, padding, rectify = (int(value) for _, value in block.settings)
    return ConvNorm(c_in, c_out, kernel=kernel, stride=stride, padding=padding, rectify=rectify)


def _build_pool(block: Block) -> nn.Module:
    kernel, stride = int(block.setting("kernel")), int(block.setting("stride"))
    return Pool(*_ends(block), mode=str(block.setting("mode")), kernel=kernel, stride=stride)


def _build_separable(block: Block) -> nn.Module:
    return TwiceSeparable(*_ends(block), kernel=int(block.setting("kernel")), stride=int(block.setting("stride")))


def _build_dilated(block: Block) -> nn.Module:
    kernel, stride = int(block.setting("kernel")), int(block.setting("stride"))
    return DepthwisePointwise(*_ends(block), kernel=kernel, stride=stride, dilation=2)


def _build_bottleneck(block: Block) -> nn.Module:
    hidden, stride = int(block.setting("hidden")), int(block.setting("stride"))
    return Bottleneck(*_ends(block), form=str(block.setting("form")), hidden=hidden, stride=stride)


TWO_INPUT_BUILDERS: Mapping[str, Callable[[Block], nn.Module]] = {
    "bottleneck": _build_bottleneck,
    "concat": lambda block: Concat(int(block.setting("inputs"))),
    "conv_norm": _build_conv_norm,
    "dilated": _build_dilated,
    "factorized_reduce": lambda block: FactorizedReduce(*_ends(block), rectify=int(block.setting("rectify"))),
    "pool": _build_pool,
    "pool_classifier": lambda block: PoolClassifier(*_ends(block), rectify=int(block.setting("rectify"))),
    "twice_separable": _build_separable,
}


def build_piece(block: Block | None) -> nn.Module:
    """The module of a cell's piece, with fresh random weights; nothing where there is no block.

    Example:
        >>> build_piece(None)
        Identity()
    """
    if block is None:
        return nn.Identity()
    builders = TWO_INPUT_BUILDERS if block.kind in TWO_INPUT_BUILDERS else CELL_BUILDERS
    return builders[block.kind](block)


# ------------------------------------------------------------------------------------------------- cells and networks


@dataclass(frozen=True)
class Place:
    """Where a cell stands: all that its pieces depend on beside its wiring.

    Attributes:
        kind: Which wiring it follows: "normal" or "reduce".
        channels: Of every node.
        stride: With which its nodes read the two inputs.
        before: Output of the cell before the last.
        last: Output of the last cell.
        outputs: The states that it gives.
        raw: Whether the cell before the last is read as it is.
        matching: Which inputs pass a 1x1 convolution.

    Example:
        >>> place = Place("normal", 16, 1, Features(64, 32), Features(64, 32), (2, 3, 4, 5))
        >>> place.output, [block.kind for block in place.inputs if block]
        (Features(channels=64, size=32), ['conv_norm', 'conv_norm'])
    """

    kind: str
    channels: int
    stride: int
    before: Features
    last: Features
    outputs: tuple[int, ...]
    raw: bool = False
    matching: Matching = "always"

    @property
    def inputs(self) -> tuple[Block | None, Block | None]:
        """What states 0 and 1 pass before they are states; None for nothing."""
        c, (channels, size) = self.channels, self.before
        before: Block | None = None
        if not self.raw and size != self.last.size:
            before = describe_factorized_reduce(channels, c, size)
        elif not self.raw and (self.matching == "always" or channels != c):
            before = describe_conv_norm(channels, c, size)
        return before, describe_conv_norm(self.last.channels, c, self.last.size)

    def state(self, number: int) -> Features:
        """The shape of a state."""
        if number > 1:
            return Features(self.channels, _halved(self.last.size, self.stride))
        block = self.inputs[number]
        return self.before if block is None else Features(block.output_shape[0], block.output_shape[1])

    def operation(self, name: str, source: int) -> Block | None:
        """The block of an operation that reads a state; None if it costs nothing."""
        channels, size = self.state(source)
        return describe_operation(name, channels, self.channels, size, stride=self.stride if source < 2 else 1)

    @property
    def endings(self) -> dict[int, Block]:
        """What a state passes on its way out, where it has not the nodes' shape."""
        node, blocks = self.state(2), {}
        for number in self.outputs:
            channels, size = self.state(number)
            if size != node.size:
                blocks[number] = describe_factorized_reduce(channels, self.channels, size, rectify=0)
            elif channels != node.channels:
                blocks[number] = describe_conv_norm(channels, self.channels, size, rectify=0)
        return blocks

    @property
    def output(self) -> Features:
        """What the cell gives."""
        return Features(self.channels * len(self.outputs), self.state(2).size)

    @property
    def fixed(self) -> list[Block]:
        """The blocks that every wiring has: matched inputs and outputs, and the concatenation."""
        concat = describe_concat(self.channels, len(self.outputs), self.state(2).size)
        return [*(block for block in self.inputs if block), *self.endings.values(), concat]

    @property
    def addition(self) -> Block:
        """Of a node's two edges."""
        return describe_kernel("add", *self.state(2))


@dataclass(frozen=True)
class Frame:
    """A network of cells without their wiring, for one size of images.

    Attributes:
        stem: Run one after the other on the image; the last gives the first cell's last input.
        fork: After how many of them the first cell's other input is taken.
        places: Of the cells.
        head: From the last cell to the logits.
    """

    stem: tuple[Block, ...]
    fork: int
    places: tuple[Place, ...]
    head: Block


def plan(
    stem: Sequence[Block],
    cells: Sequence[tuple[str, int, int]],
    *,
    fork: int,
    classes: int,
    outputs: Mapping[str, tuple[int, ...]],
    matching: Matching,
    rectify: int,
) -> Frame:
    """Lay cells out behind a stem.

    Args:
        stem: Blocks that follow each other.
        cells: Of each its kind, channels and stride.
        fork: After how many blocks of the stem the first cell's other input is taken.
        classes: Of the head.
        outputs: By kind the states that a cell gives.
        matching: "always": each input of a cell passes a 1x1 convolution. "where_needed": that of the cell before the
            last only if its channels differ; and the first cell reads the stem twice, once as it is.
        rectify: 1 if the head rectifies what it gets.

    Example:
        >>> from hwnas.nn.cells import describe_cell_stem
        >>> stem = [describe_cell_stem(3, 48, 32)]
        >>> frame = plan(
        ...     stem, [("normal", 16, 1), ("reduce", 32, 2)], fork=1, classes=10,
        ...     outputs={"normal": (2, 3), "reduce": (2, 3)}, matching="always", rectify=0,
        ... )
        >>> frame.head.input_shape
        (64, 16, 16)
    """
    before, last = (Features(block.output_shape[0], block.output_shape[1]) for block in (stem[fork - 1], stem[-1]))
    places = []
    for number, (kind, channels, stride) in enumerate(cells):
        raw = matching == "where_needed" and number == 0
        places.append(Place(kind, channels, stride, before, last, outputs[kind], raw, matching))
        before, last = last, places[-1].output
    head = describe_pool_classifier(*_order(last, classes), rectify=rectify)
    return Frame(tuple(stem), fork, tuple(places), head)


def _order(features: Features, classes: int) -> tuple[int, int, int]:
    return features.channels, classes, features.size


class TwoInputCell(nn.Module):
    """A cell of one wiring.

    Args:
        place: Where it stands.
        wiring: Of each node its two edges.
    """

    def __init__(self, place: Place, wiring: Wiring) -> None:
        super().__init__()
        self.sources = tuple((first[1], second[1]) for first, second in wiring)
        self.outputs = place.outputs
        self.inputs = nn.ModuleList(build_piece(block) for block in place.inputs)
        self.operations = nn.ModuleList(
            nn.ModuleList(build_piece(place.operation(name, source)) for name, source in edges) for edges in wiring
        )
        self.endings = nn.ModuleDict({str(number): build_piece(block) for number, block in place.endings.items()})

    def forward(self, before: Tensor, last: Tensor) -> Tensor:
        """[n, c, h, w] of the cell before the last and of the last -> [n, outputs * channels, h / stride, ...]."""
        states: list[Tensor] = [self.inputs[0](before), self.inputs[1](last)]
        for (first, second), pair in zip(self.sources, self.operations, strict=True):
            left, right = cast(nn.ModuleList, pair)
            states.append(left(states[first]) + right(states[second]))
        given = [
            self.endings[str(number)](states[number]) if str(number) in self.endings else states[number]
            for number in self.outputs
        ]
        return torch.cat(given, dim=1)


class TwoInputNetwork(nn.Module):
    """A network of cells.

    Args:
        frame: Its stem, its cells' places and its head.
        wirings: By kind of cell.
    """

    def __init__(self, frame: Frame, wirings: Mapping[str, Wiring]) -> None:
        super().__init__()
        self.frame = frame
        self.wirings = dict(wirings)
        self.fork = frame.fork
        self.stem = nn.ModuleList(build_piece(block) for block in frame.stem)
        self.cells = nn.ModuleList(TwoInputCell(place, wirings[place.kind]) for place in frame.places)
        self.head = build_piece(frame.head)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [n, classes] of images [n, c, side, side]."""
        before = last = x
        for number, block in enumerate(self.stem, start=1):
            last = block(last)
            before = last if number == self.fork else before
        for cell in self.cells:
            before, last = last, cell(before, last)
        return cast(Tensor, self.head(last))

    @property
    def block(self) -> Block:
        """The whole network as one block, whose settings say all that is needed to build it again."""
        pieces = [*self.frame.stem, self.frame.head]
        for place in self.frame.places:
            edges = (edge for pair in self.wirings[place.kind] for edge in pair)
            pieces += [*place.fixed, *(piece for piece in (place.operation(*edge) for edge in edges) if piece)]
        return Block(
            "two_input_network",
            (("plan", json.dumps([asdict(self.frame), self.wirings])),),
            self.frame.stem[0].input_shape,
            self.frame.head.output_shape,
            sum(piece.macs for piece in pieces),
            sum(piece.parameters for piece in pieces),
        )


def _build_network(block: Block) -> nn.Module:
    frame, wirings = json.loads(str(block.setting("plan")))
    places = (
        Place(
            row["kind"],
            row["channels"],
            row["stride"],
            Features(*row["before"]),
            Features(*row["last"]),
            tuple(row["outputs"]),
            row["raw"],
            row["matching"],
        )
        for row in frame["places"]
    )
    stem = tuple(_read_block(row) for row in frame["stem"])
    cells = {
        kind: tuple(((left, first), (right, second)) for (left, first), (right, second) in wiring)
        for kind, wiring in wirings.items()
    }
    return TwoInputNetwork(Frame(stem, frame["fork"], tuple(places), _read_block(frame["head"])), cells)


def _read_block(row: Mapping[str, Any]) -> Block:
    settings = tuple((name, value) for name, value in row["settings"])
    return Block(
        row["kind"], settings, tuple(row["input_shape"]), tuple(row["output_shape"]), row["macs"], row["parameters"]
    )


NETWORK_BUILDERS: Mapping[str, Callable[[Block], nn.Module]] = {"two_input_network": _build_network}
