"""Elastic blocks of ResNet-D: channels of every stage and inside every block are chosen at every call.

Fewer channels are the first of all. Source: Cai et al. 2020 (arXiv 1908.09791), their ResNet space.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from hwnas.nn.bottleneck import (
    describe_bottleneck,
    describe_pool_head,
    describe_pooling_stem,
    describe_residual_conv,
    pooled,
)
from hwnas.nn.build_around import build_around
from hwnas.nn.elastic import ElasticBatchNorm
from hwnas.space import Block


@dataclass(frozen=True)
class Channels:
    """How many channels run, and how much each counts.

    Attributes:
        count: The first so many.
        keep: Weights [1, count, 1, 1] of a mixture; None for a plain choice, where each counts fully.
    """

    count: int
    keep: Tensor | None = None

    def weigh(self, x: Tensor) -> Tensor:
        """Features [n, count, h, w], weighted."""
        return x if self.keep is None else x * self.keep


class ElasticConvNorm(nn.Module):
    """A convolution and its norm, over the first channels.

    Args:
        c_in: Most channels in.
        c_out: Most channels out.
        kernel: Side, odd.
        stride: Of the convolution.
    """

    def __init__(self, c_in: int, c_out: int, *, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, bias=False)
        self.norm = ElasticBatchNorm(c_out)
        self.stride = stride

    def forward(self, x: Tensor, c_out: int) -> Tensor:
        """[n, c, h, w] -> [n, c_out, ceil(h / stride), ceil(w / stride)]."""
        weight = self.conv.weight[:c_out, : x.shape[1]]
        return cast(Tensor, self.norm(F.conv2d(x, weight, None, self.stride, weight.shape[-1] // 2)))

    def cuts(self, c_in: int, c_out: int, *, conv: str = "conv", norm: str = "norm") -> dict[str, Tensor]:
        """A copy of the weights of one choice, by the names of a plain module's state."""
        found = {f"{conv}.weight": self.conv.weight[:c_out, :c_in]}
        for leaf in ("weight", "bias", "running_mean", "running_var"):
            found[f"{norm}.{leaf}"] = getattr(self.norm, leaf)[:c_out]
        return {name: value.detach().clone() for name, value in found.items()}


class ElasticStem(nn.Module):
    """Three convolutions, the middle one left out or not, and a pooling.

    Args:
        channels: Of the images.
        middle: Most channels of the first two convolutions.
        width: Most channels of the third.
        stride: Of the first convolution.
    """

    def __init__(self, channels: int, middle: int, width: int, *, stride: int) -> None:
        super().__init__()
        self.first = ElasticConvNorm(channels, middle, kernel=3, stride=stride)
        self.second = ElasticConvNorm(middle, middle, kernel=3)
        self.third = ElasticConvNorm(middle, width, kernel=3)

    def forward(self, x: Tensor, middle: Channels, width: Channels, keep_second: float | Tensor) -> Tensor:
        """[n, channels, h, w] -> [n, width, h', w'], the second convolution weighted; 0 leaves it out."""
        y = middle.weigh(F.relu(self.first(x, middle.count)))
        if isinstance(keep_second, Tensor) or keep_second:
            y = y + keep_second * middle.weigh(F.relu(self.second(y, middle.count)))
        return width.weigh(F.max_pool2d(F.relu(self.third(y, width.count)), 3, 2, 1))

    def cut(self, stem: Block, middle: int, width: int, *, second: bool) -> list[nn.Module]:
        """The plain parts of one choice, with their own copy of the weights.

        Args:
            stem: The entry of the first convolution.
            middle: Channels of the first two convolutions.
            width: Channels of the third.
            second: Whether the second is kept.
        """
        first = build_around(stem, self.first.cuts(stem.input_shape[0], middle), mode=self.training)
        third = build_around(
            describe_pooling_stem(middle, width, 2), self.third.cuts(middle, width), mode=self.training
        )
        if not second:
            return [first, third]
        block = describe_residual_conv(middle, 1)
        return [first, build_around(block, self.second.cuts(middle, middle), mode=self.training), third]


class ElasticBottleneck(nn.Module):
    """A `Bottleneck` whose channels are chosen at every call.

    Args:
        c_in: Most channels in.
        c_out: Most channels out.
        middle: Most channels between.
        stride: Of the 3x3 convolution.
        changes: Whether the shortcut pools and convolves: in the first block of a stage.
    """

    def __init__(self, c_in: int, c_out: int, *, middle: int, stride: int, changes: bool) -> None:
        super().__init__()
        self.reduce = ElasticConvNorm(c_in, middle, kernel=1)
        self.convolve = ElasticConvNorm(middle, middle, kernel=3, stride=stride)
        self.restore = ElasticConvNorm(middle, c_out, kernel=1)
        self.shortcut = ElasticConvNorm(c_in, c_out, kernel=1) if changes else None
        self.stride = stride

    def forward(self, x: Tensor, middle: Channels, width: Channels) -> Tensor:
        """[n, c, h, w] -> [n, width, ceil(h / stride), ceil(w / stride)]."""
        y = middle.weigh(F.relu(self.reduce(x, middle.count)))
        y = middle.weigh(F.relu(self.convolve(y, middle.count)))
        y = width.weigh(self.restore(y, width.count))
        if self.shortcut is not None:
            x = width.weigh(self.shortcut(pooled(x, self.stride), width.count))
        return F.relu(x + y)

    def cut(self, c_in: int, middle: int, width: int) -> nn.Module:
        """The plain block of one choice, with its own copy of the weights."""
        block = describe_bottleneck(c_in, width, self.stride, middle=middle, stride=self.stride)
        weights: Mapping[str, Tensor] = {
            **self.reduce.cuts(c_in, middle, conv="reduce", norm="reduce_norm"),
            **self.convolve.cuts(middle, middle, conv="convolve", norm="convolve_norm"),
            **self.restore.cuts(middle, width, conv="restore", norm="restore_norm"),
        }
        if self.shortcut is not None:
            weights = {**weights, **self.shortcut.cuts(c_in, width, conv="shortcut", norm="shortcut_norm")}
        return build_around(block, weights, mode=self.training)


class ElasticPoolHead(nn.Module):
    """A `PoolHead` over the first channels."""

    def __init__(self, c_in: int, classes: int) -> None:
        super().__init__()
        self.classifier = nn.Linear(c_in, classes)

    def forward(self, x: Tensor) -> Tensor:
        """[n, c, h, w] -> [n, classes], c at most the width of the head."""
        weight = self.classifier.weight[:, : x.shape[1]]
        return F.linear(F.adaptive_avg_pool2d(x, 1).flatten(1), weight, self.classifier.bias)

    def cut(self, c_in: int) -> nn.Module:
        """The plain head of one width, with its own copy of the weights."""
        weight, bias = self.classifier.weight, self.classifier.bias
        weights = {"classifier.weight": weight[:, :c_in].detach().clone(), "classifier.bias": bias.detach().clone()}
        return build_around(describe_pool_head(c_in, len(bias), 1), weights, mode=self.training)
