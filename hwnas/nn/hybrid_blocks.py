"""Blocks of hybrid networks: residual bottlenecks that convolve or attend, and what leads into them.

Both kinds reduce the channels, mark positions by a depthwise convolution, which also halves the image where a stage
begins, and restore the channels; only what stands between differs. Shapes: n images, c channels, h height, w width.

Source: Li et al. 2021 (arXiv 2103.12424), section 3.3 and the network that its released code trains after the search
(changlin31/BossNAS, retraining_hytra), without squeeze-and-excitation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from hwnas.core import SpaceError
from hwnas.core.errors import did_you_mean
from hwnas.nn.bottleneck import pooled
from hwnas.space import Block

OPERATIONS = ("conv", "attention")
"""What a block does between its 1x1 convolutions."""


class Positions(nn.Module):
    """A 1x1 convolution, a depthwise one that marks positions and may halve the image, norm, rectifier."""

    def __init__(self, c_in: int, middle: int, stride: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(c_in, middle, 1, bias=False)
        self.mark = nn.Conv2d(middle, middle, 3, stride, 1, groups=middle)
        self.norm = nn.BatchNorm2d(middle)

    def forward(self, x: Tensor) -> Tensor:
        """[n, c_in, h, w] -> [n, middle, ceil(h / stride), ceil(w / stride)]."""
        return F.relu(self.norm(self.mark(self.reduce(x))))


class Shortcut(nn.Module):
    """The mean over squares where the image is halved, a 1x1 convolution, norm."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.conv = nn.Conv2d(c_in, c_out, 1, bias=False)
        self.norm = nn.BatchNorm2d(c_out)

    def forward(self, x: Tensor) -> Tensor:
        """[n, c_in, h, w] -> [n, c_out, ceil(h / stride), ceil(w / stride)]."""
        return cast(Tensor, self.norm(self.conv(pooled(x, self.stride))))


class PixelAttention(nn.Module):
    """Self-attention among all pixels, without biases; channels stay.

    Source: Vaswani et al. 2017 (arXiv 1706.03762), section 3.2.

    Args:
        channels: Of each pixel.
        heads: Divide the channels.
    """

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.channels, self.heads = channels, heads
        self.project = nn.Conv2d(channels, 3 * channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[n, channels, h, w] -> the same shape."""
        n, _, h, w = x.shape
        width = self.channels // self.heads
        query, key, value = self.project(x).reshape(n, 3, self.heads, width, h * w).unbind(1)
        weights = ((query * width**-0.5).transpose(-2, -1) @ key).softmax(dim=-1)
        return cast(Tensor, (value @ weights.transpose(-2, -1)).reshape(n, self.channels, h, w))


def build_body(operation: str, middle: int, c_out: int, heads: int) -> nn.Sequential:
    """The rest of a block: [n, middle, h, w] -> [n, c_out, h, w], before the shortcut is added.

    Raises:
        SpaceError: If the operation is unknown.
    """
    if operation not in OPERATIONS:
        raise SpaceError(f'operation "{operation}" is unknown; {did_you_mean(operation, OPERATIONS)}')
    convolves = operation == "conv"
    between = nn.Conv2d(middle, middle, 3, padding=1, bias=False) if convolves else PixelAttention(middle, heads)
    restore = nn.Conv2d(middle, c_out, 1, bias=False)
    return nn.Sequential(between, nn.BatchNorm2d(middle), nn.ReLU(), restore, nn.BatchNorm2d(c_out))


class HybridBlock(nn.Module):
    """A residual bottleneck that convolves or attends.

    Args:
        c_in: Channels in.
        c_out: Channels out; where the shape changes, the shortcut is a `Shortcut`.
        operation: One of `OPERATIONS`.
        middle: Channels between.
        heads: Of the attention.
        stride: 2 halves the image.

    Raises:
        SpaceError: If the operation is unknown.

    Example:
        >>> import torch
        >>> HybridBlock(8, 16, operation="attention", middle=4, heads=2, stride=2)(torch.zeros(1, 8, 6, 6)).shape
        torch.Size([1, 16, 3, 3])
    """

    def __init__(self, c_in: int, c_out: int, *, operation: str, middle: int, heads: int, stride: int) -> None:
        super().__init__()
        self.entry = Positions(c_in, middle, stride)
        changes = stride > 1 or c_in != c_out
        self.shortcut = Shortcut(c_in, c_out, stride) if changes else nn.Identity()
        self.body = build_body(operation, middle, c_out, heads)

    def forward(self, x: Tensor) -> Tensor:
        """[n, c_in, h, w] -> [n, c_out, ceil(h / stride), ceil(w / stride)]."""
        return F.relu(self.body(self.entry(x)) + self.shortcut(x))


class Patches(nn.Sequential):
    """Squares of pixels to single ones, channel by channel; a 1x1 convolution, norm: into a network's later stage."""

    def __init__(self, c_in: int, c_out: int, side: int) -> None:
        gather = nn.Conv2d(c_in, c_in, side, side, groups=c_in, bias=False)
        super().__init__(gather, nn.Conv2d(c_in, c_out, 1, bias=False), nn.BatchNorm2d(c_out))


class ElasticHybridLayer(nn.Module):
    """A layer with the weights of several `HybridBlock` entries, of which each call runs one.

    Entries of one operation and width share all behind the entry and the shortcut, wherever they come from, as in the
    released code's search.

    Args:
        blocks: Entries of kind "hybrid".
    """

    def __init__(self, blocks: Iterable[Block]) -> None:
        super().__init__()
        self.arrivals, self.bodies = nn.ModuleDict(), nn.ModuleDict()
        for block in blocks:
            arrival, body = _names(block)
            if arrival not in self.arrivals:
                made = _hybrid(block)
                self.arrivals[arrival] = nn.ModuleDict({"entry": made.entry, "shortcut": made.shortcut})
                if body not in self.bodies:
                    self.bodies[body] = made.body

    def forward(self, x: Tensor, block: Block) -> Tensor:
        """As the `HybridBlock` of that entry."""
        entry, shortcut, body = self._parts(block)
        return F.relu(body(entry(x)) + shortcut(x))

    def cut(self, block: Block) -> HybridBlock:
        """The plain block of one entry, with its own copy of the weights."""
        plain = _hybrid(block)
        for mine, its in zip(self._parts(block), (plain.entry, plain.shortcut, plain.body), strict=True):
            its.load_state_dict(mine.state_dict())
        return plain.train(self.training)

    def _parts(self, block: Block) -> tuple[nn.Module, nn.Module, nn.Module]:
        arrival, body = _names(block)
        arrivals = cast(Mapping[str, nn.Module], self.arrivals[arrival])
        return arrivals["entry"], arrivals["shortcut"], self.bodies[body]


def _names(block: Block) -> tuple[str, str]:
    """Under which an entry's two parts are kept."""
    c_in, c_out, operation = block.input_shape[0], block.output_shape[0], block.setting("operation")
    return f"{operation}-{c_in}-{c_out}-{block.setting('stride')}", f"{operation}-{c_out}"


# ---------------------------------------------------------------------------------------------------------- entries


def describe_hybrid(c_in: int, c_out: int, size: int, *, operation: str, middle: int, heads: int, stride: int) -> Block:
    """The entry of a `HybridBlock` on square features of side `size`; a convolution has no heads.

    Example:
        >>> block = describe_hybrid(64, 64, 14, operation="attention", middle=16, heads=1, stride=1)
        >>> block.macs == 196 * (64 * 16 + 9 * 16 + 3 * 16 * 16 + 16 * 64) + 2 * 196**2 * 16
        True
    """
    out = -(-size // stride)
    attends = operation == "attention"
    between = (3 if attends else 9) * middle * middle
    beside = c_in * c_out if stride > 1 or c_in != c_out else 0
    after = 9 * middle + between + middle * c_out + beside
    return Block(
        "hybrid",
        (("operation", operation), ("middle", middle), ("heads", heads if attends else 0), ("stride", stride)),
        (c_in, size, size),
        (c_out, out, out),
        macs=size * size * c_in * middle + out * out * after + (2 * out**4 * middle if attends else 0),
        # The depthwise convolution has a bias; behind it stand two norms, and one on the shortcut.
        parameters=c_in * middle + after + 5 * middle + 2 * c_out * (1 + (beside > 0)),
        residual=True,
    )


def describe_patches(c_in: int, c_out: int, size: int, *, side: int) -> Block:
    """The entry of `Patches` of that side on square features of side `size`.

    Example:
        >>> block = describe_patches(8, 16, 32, side=4)
        >>> block.output_shape, block.macs == 64 * 8 * (16 + 16)
        ((16, 8, 8), True)
    """
    out, weights = size // side, c_in * (side * side + c_out)
    return Block(
        "patches", (("side", side),), (c_in, size, size), (c_out, out, out), out * out * weights, weights + 2 * c_out
    )


def _hybrid(block: Block) -> HybridBlock:
    return HybridBlock(
        block.input_shape[0],
        block.output_shape[0],
        operation=str(block.setting("operation")),
        middle=int(block.setting("middle")),
        heads=int(block.setting("heads")),
        stride=int(block.setting("stride")),
    )


HYBRID_BUILDERS: Mapping[str, Callable[[Block], nn.Module]] = {
    "hybrid": _hybrid,
    "patches": lambda block: Patches(block.input_shape[0], block.output_shape[0], int(block.setting("side"))),
}
