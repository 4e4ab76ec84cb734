"""Inverted bottlenecks of FPNAS: with a shortcut or without, on all channels or on half of them.

With a split the first half of the channels passes the block by (through a depthwise and a pointwise convolution where
the block strides), and the halves are joined and shuffled. Shapes: n images, c channels, h height, w width.

Source: Cui et al. 2019 (ICCV, "Fast and Practical Neural Architecture Search"), as the network in
github.com/jiequancui/FPNASNet has them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hwnas.nn.depthwise import depthwise_convolution
from hwnas.nn.shuffle import depthwise_and_norm
from hwnas.space import Block


class SplitMBConv(nn.Module):
    """Expand, depthwise 3x3, project; perhaps with a shortcut, perhaps on the second half of the channels alone.

    Args:
        c_in: Channels in.
        c_out: Channels out; even, and more than half of `c_in`, with a split.
        expansion: Channels between, per channel that is taken in.
        stride: Of the depthwise convolution.
        shortcut: Whether what is taken in is added, through a convolution where the shape differs.
        split: Whether half of the channels pass by.

    Example:
        >>> block = SplitMBConv(24, 40, expansion=4, stride=2, shortcut=True, split=True)
        >>> block(torch.zeros(1, 24, 8, 8)).shape, block.expand.in_channels, block.project.out_channels
        (torch.Size([1, 40, 4, 4]), 12, 28)
    """

    def __init__(self, c_in: int, c_out: int, *, expansion: int, stride: int, shortcut: bool, split: bool) -> None:
        super().__init__()
        self.left = c_in // 2 if split else 0
        taken, given = c_in - self.left, c_out - self.left
        hidden = taken * expansion
        self.expand = nn.Conv2d(taken, hidden, 1, bias=False)
        self.expand_norm = nn.BatchNorm2d(hidden)
        self.depthwise = nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False)
        self.depthwise_norm = nn.BatchNorm2d(hidden)
        self.project = nn.Conv2d(hidden, given, 1, bias=False)
        self.project_norm = nn.BatchNorm2d(given)
        self.stride, self.adds = stride, shortcut
        self.shortcut: nn.Sequential | None = None
        if shortcut and (stride > 1 or taken != given):
            self.shortcut = nn.Sequential(nn.Conv2d(taken, given, 1, stride, bias=False), nn.BatchNorm2d(given))
        self.beside: nn.Sequential | None = None
        if split and stride > 1:
            self.beside = nn.Sequential(
                *depthwise_and_norm(self.left, 3, stride),
                nn.ReLU(inplace=True),
                nn.Conv2d(self.left, self.left, 1, bias=False),
                nn.BatchNorm2d(self.left),
            )

    def forward(self, x: Tensor) -> Tensor:
        """[n, c_in, h, w] -> [n, c_out, ceil(h / stride), ceil(w / stride)]."""
        taken = x[:, self.left :] if self.left else x
        y = F.relu(self.expand_norm(self.expand(taken)), inplace=True)
        # Only training needs its quick gradient; elsewhere counters and the exporter shall see the layer.
        y = depthwise_convolution(y, self.depthwise.weight, stride=self.stride) if self.training else self.depthwise(y)
        y = self.project_norm(self.project(F.relu(self.depthwise_norm(y), inplace=True)))
        if self.adds:
            y = torch.add(taken if self.shortcut is None else self.shortcut(taken), y)
        if not self.left:
            return y
        passed = x[:, : self.left]
        joined = torch.cat([passed if self.beside is None else self.beside(passed), y], 1)
        n, _, h, w = joined.shape
        c = self.left + self.project.out_channels
        # The channels as a number: a share of a shape hides the sizes of all that follows in an exported file.
        return joined.reshape(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


def describe_split_mbconv(
    c_in: int, c_out: int, size: int, *, expansion: int, stride: int, shortcut: bool, split: bool
) -> Block:
    """The profiling entry of a `SplitMBConv` on square features of side `size`.

    Example:
        >>> block = describe_split_mbconv(24, 24, 8, expansion=4, stride=1, shortcut=True, split=True)
        >>> block.macs == 8 * 8 * 48 * (12 + 9 + 12), block.parameters == 48 * 33 + 2 * (2 * 48 + 12)
        (True, True)
    """
    out = -(-size // stride)
    left = c_in // 2 if split else 0
    taken, given = c_in - left, c_out - left
    hidden = taken * expansion
    # Weights that are applied to every pixel before the stride, and after it.
    before, after = taken * hidden, hidden * (9 + given)
    norms = 2 * hidden + given
    if shortcut and (stride > 1 or taken != given):
        after, norms = after + taken * given, norms + given
    if left and stride > 1:
        after, norms = after + left * (9 + left), norms + 2 * left
    return Block(
        "split_mbconv",
        (("expansion", expansion), ("stride", stride), ("shortcut", int(shortcut)), ("split", int(split))),
        (c_in, size, size),
        (c_out, out, out),
        macs=size * size * before + out * out * after,
        parameters=before + after + 2 * norms,
        residual=shortcut,
    )


def _build(block: Block) -> nn.Module:
    return SplitMBConv(
        block.input_shape[0],
        block.output_shape[0],
        expansion=int(block.setting("expansion")),
        stride=int(block.setting("stride")),
        shortcut=bool(block.setting("shortcut")),
        split=bool(block.setting("split")),
    )


SPLIT_BUILDERS: Mapping[str, Callable[[Block], nn.Module]] = {"split_mbconv": _build}
