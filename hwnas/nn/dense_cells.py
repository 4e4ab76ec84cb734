"""The cells of DPP-Net: layers of norms and convolutions, whose result is put beside what they read.

A cell reads all that the cells before it gave. Its convolutions give `bottleneck` times its growth in channels, the
last one its growth, as in CondenseNet, whose cell is one of the space. Shapes: n images, c channels, h height, w width.

Source: Dong et al. 2018 (arXiv 1806.08198), section 3.1; Huang et al. 2018 (arXiv 1711.09224), sections 3 and 4.1. The
learned group convolution is the one that is left after training, which reads a fixed choice of channels; the pruning
that makes this choice is not part of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from math import gcd
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hwnas.core import SpaceError
from hwnas.core.errors import did_you_mean
from hwnas.nn.two_input_cells import describe_concat
from hwnas.space import Block

NORMS = ("norm_relu", "norm", "identity")
"""What stands before a convolution."""

CONVOLUTIONS = (
    "conv_1x1",
    "conv_3x3",
    "group_conv_1x1",
    "group_conv_3x3",
    "learned_group_conv_1x1",
    "depthwise_conv_3x3",
)
"""In the order of the paper."""

GROUPS = 4
"""Of grouped convolutions, as in CondenseNet; both channel counts are multiples of it."""

Layers = tuple[tuple[str, str], ...]
"""Norm and convolution, pair by pair."""


def groups_of(name: str, c_in: int, c_out: int) -> int:
    """How many groups a convolution has.

    "depthwise_conv_3x3" has one channel per group where the counts agree, and otherwise as many as divide both.

    Raises:
        SpaceError: If the name is unknown.

    Example:
        >>> groups_of("depthwise_conv_3x3", 32, 32), groups_of("depthwise_conv_3x3", 32, 8)
        (32, 8)
    """
    if name not in CONVOLUTIONS:
        raise SpaceError(f'convolution "{name}" is unknown; {did_you_mean(name, CONVOLUTIONS)}')
    if name == "depthwise_conv_3x3":
        return gcd(c_in, c_out)
    return GROUPS if "group" in name else 1


class Pick(nn.Module):
    """Some channels, in a fixed order that is part of the weights.

    Fresh, the order deals the channels out to the groups one by one, so that each group reads from everywhere.
    """

    def __init__(self, channels: int, picked: int) -> None:
        super().__init__()
        self.order: Tensor
        dealt = torch.arange(channels).reshape(-1, GROUPS).t().reshape(-1) if channels % GROUPS == 0 else None
        self.register_buffer("order", (torch.arange(channels) if dealt is None else dealt)[:picked].clone())

    def forward(self, x: Tensor) -> Tensor:
        """[n, channels, ...] -> [n, picked, ...]."""
        return x.index_select(1, self.order)


def layer(norm: str, convolution: str, c_in: int, c_out: int) -> nn.Sequential:
    """A norm and a convolution: [n, c_in, h, w] -> [n, c_out, h, w].

    Raises:
        SpaceError: If a name is unknown.
    """
    if norm not in NORMS:
        raise SpaceError(f'norm "{norm}" is unknown; {did_you_mean(norm, NORMS)}')
    parts: list[nn.Module] = [nn.BatchNorm2d(c_in)] if norm != "identity" else []
    parts += [nn.ReLU(inplace=True)] if norm == "norm_relu" else []
    parts += [Pick(c_in, c_in)] if convolution.startswith("learned") else []
    groups, kernel = groups_of(convolution, c_in, c_out), int(convolution[-1])
    return nn.Sequential(*parts, nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2, groups=groups, bias=False))


class DenseCell(nn.Module):
    """Layers one after the other, their result behind the input's channels.

    Args:
        c_in: Channels in.
        growth: Channels that the cell adds.
        layers: Its norms and convolutions.
        bottleneck: Channels between the layers, per channel of growth.
    """

    def __init__(self, c_in: int, growth: int, layers: Layers, *, bottleneck: int) -> None:
        super().__init__()
        widths = _widths(c_in, growth, len(layers), bottleneck)
        self.layers = nn.Sequential(*(layer(*names, *ends) for names, ends in zip(layers, widths, strict=True)))

    def forward(self, x: Tensor) -> Tensor:
        """[n, c_in, h, w] -> [n, c_in + growth, h, w]."""
        return torch.cat([x, self.layers(x)], dim=1)


def _widths(c_in: int, growth: int, layers: int, bottleneck: int) -> list[tuple[int, int]]:
    between = [bottleneck * growth] * (layers - 1)
    return list(zip([c_in, *between], [*between, growth], strict=True))


class HalvingPool(nn.Module):
    """Mean over two by two pixels: the step between two stages."""

    def forward(self, x: Tensor) -> Tensor:
        """[n, c, h, w] -> [n, c, h // 2, w // 2]."""
        return F.avg_pool2d(x, 2)


class DenseHead(nn.Module):
    """Norm, rectifier, mean over the image, classifier, which may read some of the channels only.

    Args:
        channels: In.
        classes: Out.
        read: Channels that the classifier reads.
    """

    def __init__(self, channels: int, classes: int, *, read: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.pick = Pick(channels, read) if read < channels else nn.Identity()
        self.classifier = nn.Linear(read, classes)

    def forward(self, x: Tensor) -> Tensor:
        """[n, channels, h, w] -> logits [n, classes]."""
        y = F.relu(self.norm(x)).mean(dim=(2, 3))
        return cast(Tensor, self.classifier(self.pick(y)))


# ---------------------------------------------------------------------------------------------------------- entries


def describe_dense_stem(c_in: int, c_out: int, size: int, *, stride: int) -> Block:
    """The entry of the first convolution, 3x3 without a norm."""
    out = -(-size // stride)
    weights = 9 * c_in * c_out
    return Block(
        "dense_stem", (("stride", stride),), (c_in, size, size), (c_out, out, out), out * out * weights, weights
    )


@cache
def describe_dense_cell(layers: Layers, c_in: int, growth: int, size: int, *, bottleneck: int) -> Block:
    """The entry of a `DenseCell` on square features of side `size`, with its kernels.

    Example:
        >>> layers = (("norm_relu", "learned_group_conv_1x1"), ("norm_relu", "group_conv_3x3"))
        >>> cell = describe_dense_cell(layers, 16, 8, 32, bottleneck=4)
        >>> cell.macs == 32 * 32 * (16 * 32 + 9 * 32 * 8) // 4, cell.output_shape
        (True, (24, 32, 32))
        >>> [kernel.kind for kernel in cell.kernels or ()]
        ['dense_layer', 'dense_layer', 'concat']
    """
    widths = _widths(c_in, growth, len(layers), bottleneck)
    kernels = [describe_dense_layer(*names, *ends, size) for names, ends in zip(layers, widths, strict=True)]
    return Block(
        "dense_cell",
        (("layers", write_layers(layers)), ("growth", growth), ("bottleneck", bottleneck)),
        (c_in, size, size),
        (c_in + growth, size, size),
        sum(kernel.macs for kernel in kernels),
        sum(kernel.parameters for kernel in kernels),
        # Two tensors of different channels are joined; what is moved is what two of half of them would move.
        kernels=(*kernels, describe_concat((c_in + growth) // 2, 2, size)),
    )


@cache
def describe_dense_layer(norm: str, convolution: str, c_in: int, c_out: int, size: int) -> Block:
    """The entry of a norm and its convolution."""
    weights = int(convolution[-1]) ** 2 * c_in * c_out // groups_of(convolution, c_in, c_out)
    return Block(
        "dense_layer",
        (("norm", norm), ("convolution", convolution)),
        (c_in, size, size),
        (c_out, size, size),
        size * size * weights,
        weights + 2 * c_in * (norm != "identity"),
    )


def describe_halving_pool(channels: int, size: int) -> Block:
    """The entry of a `HalvingPool`."""
    return Block("halving_pool", (), (channels, size, size), (channels, size // 2, size // 2), 0, 0)


def describe_dense_head(channels: int, classes: int, size: int, *, read: int) -> Block:
    """The entry of a `DenseHead`.

    Example:
        >>> describe_dense_head(800, 10, 8, read=800).parameters == 2 * 800 + 801 * 10
        True
    """
    return Block(
        "dense_head",
        (("read", read),),
        (channels, size, size),
        (classes,),
        macs=read * classes,
        parameters=2 * channels + (read + 1) * classes,
    )


def write_layers(layers: Layers) -> str:
    """One word for the layers of a cell.

    Example:
        >>> write_layers((("norm", "conv_1x1"), ("identity", "conv_3x3")))
        'norm+conv_1x1+identity+conv_3x3'
    """
    return "+".join(name for pair in layers for name in pair)


def read_layers(text: str) -> Layers:
    """The layers of a word.

    Example:
        >>> read_layers("norm+conv_1x1")
        (('norm', 'conv_1x1'),)
    """
    names: Sequence[str] = text.split("+")
    return tuple(zip(names[::2], names[1::2], strict=True))


def _build_cell(block: Block) -> nn.Module:
    growth, bottleneck = int(block.setting("growth")), int(block.setting("bottleneck"))
    return DenseCell(block.input_shape[0], growth, read_layers(str(block.setting("layers"))), bottleneck=bottleneck)


def _build_layer(block: Block) -> nn.Module:
    norm, convolution = str(block.setting("norm")), str(block.setting("convolution"))
    return layer(norm, convolution, block.input_shape[0], block.output_shape[0])


def _build_stem(block: Block) -> nn.Module:
    stride = int(block.setting("stride"))
    return nn.Conv2d(block.input_shape[0], block.output_shape[0], 3, stride, 1, bias=False)


DENSE_BUILDERS: Mapping[str, Callable[[Block], nn.Module]] = {
    "dense_cell": _build_cell,
    "dense_head": lambda block: DenseHead(block.input_shape[0], block.output_shape[0], read=int(block.setting("read"))),
    "dense_layer": _build_layer,
    "dense_stem": _build_stem,
    "halving_pool": lambda _: HalvingPool(),
}
