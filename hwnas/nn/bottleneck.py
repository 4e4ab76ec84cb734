"""Blocks of ResNet-D: stems of three convolutions, bottlenecks whose shortcut pools, a head of one layer.

Shapes: n images, c channels, h height, w width.
Source: He et al. 2015 (arXiv 1512.03385), and He et al. 2018 (arXiv 1812.01187), section 4.1, variants C and D.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from hwnas.space import Block


class ResidualConv(nn.Module):
    """A 3x3 convolution, norm and activation, added to the input; once-for-all stems may leave it out."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """[n, channels, h, w] -> the same shape."""
        return x + F.relu(self.norm(self.conv(x)))


class PoolingStem(nn.Module):
    """The last convolution of a stem, and a pooling that halves the size."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(c_out)

    def forward(self, x: Tensor) -> Tensor:
        """[n, c_in, h, w] -> [n, c_out, ceil(h / 2), ceil(w / 2)]."""
        return F.max_pool2d(F.relu(self.norm(self.conv(x))), 3, 2, 1)


class Bottleneck(nn.Module):
    """Reduce, convolve, restore, add, activate.

    Args:
        c_in: Channels in.
        c_out: Channels out; where the shape changes, the shortcut pools and convolves.
        middle: Channels between.
        stride: Of the 3x3 convolution.
    """

    def __init__(self, c_in: int, c_out: int, *, middle: int, stride: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(c_in, middle, 1, bias=False)
        self.reduce_norm = nn.BatchNorm2d(middle)
        self.convolve = nn.Conv2d(middle, middle, 3, stride, 1, bias=False)
        self.convolve_norm = nn.BatchNorm2d(middle)
        self.restore = nn.Conv2d(middle, c_out, 1, bias=False)
        self.restore_norm = nn.BatchNorm2d(c_out)
        self.stride = stride
        self.shortcut: nn.Conv2d | None = None
        if stride > 1 or c_in != c_out:
            self.shortcut = nn.Conv2d(c_in, c_out, 1, bias=False)
            self.shortcut_norm = nn.BatchNorm2d(c_out)

    def forward(self, x: Tensor) -> Tensor:
        """[n, c_in, h, w] -> [n, c_out, ceil(h / stride), ceil(w / stride)]."""
        y = F.relu(self.reduce_norm(self.reduce(x)))
        y = F.relu(self.convolve_norm(self.convolve(y)))
        y = self.restore_norm(self.restore(y))
        if self.shortcut is not None:
            x = self.shortcut_norm(self.shortcut(pooled(x, self.stride)))
        return F.relu(x + y)


def pooled(x: Tensor, stride: int) -> Tensor:
    """The mean over squares of that side, as the shortcut sees it."""
    return x if stride == 1 else F.avg_pool2d(x, stride, stride, ceil_mode=True)


class PoolHead(nn.Module):
    """Mean over the image, classifier: [n, c, h, w] to logits [n, classes]."""

    def __init__(self, c_in: int, classes: int) -> None:
        super().__init__()
        self.classifier = nn.Linear(c_in, classes)

    def forward(self, x: Tensor) -> Tensor:
        """[n, c_in, h, w] -> [n, classes]."""
        return cast(Tensor, self.classifier(F.adaptive_avg_pool2d(x, 1).flatten(1)))


def describe_residual_conv(channels: int, size: int) -> Block:
    """The entry of a `ResidualConv` on square features of side `size`."""
    weights, shape = 9 * channels * channels, (channels, size, size)
    return Block("residual_conv", (), shape, shape, size * size * weights, weights + 2 * channels, residual=True)


def describe_pooling_stem(c_in: int, c_out: int, size: int) -> Block:
    """The entry of a `PoolingStem` on square features of side `size`."""
    weights, out = 9 * c_in * c_out, -(-size // 2)
    shapes = (c_in, size, size), (c_out, out, out)
    return Block("pooling_stem", (), *shapes, size * size * weights, weights + 2 * c_out)


def describe_bottleneck(c_in: int, c_out: int, size: int, *, middle: int, stride: int) -> Block:
    """The entry of a `Bottleneck` on square features of side `size`.

    Example:
        >>> describe_bottleneck(256, 256, 56, middle=64, stride=1).macs
        218365952
    """
    out = -(-size // stride)
    changes = stride > 1 or c_in != c_out
    before, after = middle * c_in, middle * (9 * middle + c_out) + (c_in * c_out if changes else 0)
    return Block(
        "resnet_bottleneck",
        (("middle", middle), ("stride", stride)),
        (c_in, size, size),
        (c_out, out, out),
        macs=size * size * before + out * out * after,
        parameters=before + after + 4 * middle + 2 * c_out * (1 + changes),
        residual=True,
    )


def describe_pool_head(c_in: int, classes: int, size: int) -> Block:
    """The entry of a `PoolHead` on square features of side `size`."""
    return Block("pool_head", (), (c_in, size, size), (classes,), c_in * classes, (c_in + 1) * classes)


def _bottleneck(block: Block) -> nn.Module:
    return Bottleneck(
        block.input_shape[0],
        block.output_shape[0],
        middle=int(block.setting("middle")),
        stride=int(block.setting("stride")),
    )


BOTTLENECK_BUILDERS: Mapping[str, Callable[[Block], nn.Module]] = {
    "resnet_bottleneck": _bottleneck,
    "pool_head": lambda block: PoolHead(block.input_shape[0], block.output_shape[0]),
    "pooling_stem": lambda block: PoolingStem(block.input_shape[0], block.output_shape[0]),
    "residual_conv": lambda block: ResidualConv(block.input_shape[0]),
}
