"""The elastic block of once-for-all networks: smaller kernels are learned from larger ones.

A kernel of side 5 is the centre of one of side 7 times a matrix that is learned with it, and so on down; squeeze-and-
excite narrows with the block. Source: Cai et al. 2020 (arXiv 1908.09791), section 3.2 and figure 4. `ElasticMBConv`
does without both.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hwnas.nn.blocks import activation, describe_mbconv
from hwnas.nn.build_around import cut_like
from hwnas.nn.depthwise import depthwise_convolution
from hwnas.nn.elastic import ElasticBatchNorm, ElasticSqueezeExcite, centre
from hwnas.nn.gates import Gate
from hwnas.space import Block


class OfaMBConv(nn.Module):
    """An `MBConv` whose kernel and hidden channels are chosen at every call, as in a once-for-all network.

    Args:
        c_in: Channels in.
        c_out: Channels out.
        kernels: Ascending odd sides.
        hidden: Ascending hidden channels, one entry per expansion.
        squeeze: Channels inside squeeze-and-excite for each entry of `hidden`; empty for none.
        stride: Of the depthwise convolution.
        activation_name: "relu", "relu6" or "hswish".

    Example:
        >>> block = OfaMBConv(8, 8, kernels=(3, 5), hidden=(24, 48), squeeze=(), stride=1, activation_name="relu")
        >>> block(torch.zeros(1, 8, 4, 4), kernel=3, expansion=0).shape
        torch.Size([1, 8, 4, 4])
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        *,
        kernels: tuple[int, ...],
        hidden: tuple[int, ...],
        squeeze: tuple[int, ...],
        stride: int,
        activation_name: str,
    ) -> None:
        super().__init__()
        widest, kernel = hidden[-1], kernels[-1]
        self.expand = nn.Conv2d(c_in, widest, 1, bias=False)
        self.expand_norm = ElasticBatchNorm(widest)
        self.depthwise = nn.Conv2d(widest, widest, kernel, stride, kernel // 2, groups=widest, bias=False)
        self.transforms = nn.ParameterList(torch.eye(side * side) for side in kernels[-2::-1])
        self.depthwise_norm = ElasticBatchNorm(widest)
        self.se = ElasticSqueezeExcite(widest, squeeze[-1]) if squeeze else None
        self.project = nn.Conv2d(widest, c_out, 1, bias=False)
        self.project_norm = ElasticBatchNorm(c_out)
        self.activation = activation(activation_name)
        self.activation_name = activation_name
        self.kernels, self.hidden, self.squeeze = kernels, hidden, squeeze
        self.c_in, self.c_out, self.stride = c_in, c_out, stride
        self.residual = stride == 1 and c_in == c_out

    def forward(self, x: Tensor, *, kernel: int, expansion: int) -> Tensor:
        """One choice: [n, c_in, h, w] -> [n, c_out, ceil(h / stride), ceil(w / stride)].

        Args:
            x: Features.
            kernel: One of `kernels`.
            expansion: Which entry of `hidden`.
        """
        hidden = self.hidden[expansion]
        y = self._inside(x, hidden, self.depthwise_kernel(hidden, kernel))
        if self.se is not None:
            y = y * self._excite(y, self.squeeze[expansion], None)
        return self._outside(x, y)

    def soft(self, x: Tensor, *, kernel: Gate, expansion: Gate) -> Tensor:
        """The relaxation: kernels are mixed as weights, channels are weighted by the share of options that keep them.

        As in `ElasticMBConv.soft`; the squeezed channels are weighted in the same way. With one-hot gates the result
        equals the hard call.
        """
        codes = expansion.support
        hidden = max(self.hidden[code] for code in codes)
        side = max(self.kernels[code] for code in kernel.support)
        weight = self.depthwise.weight.new_zeros(hidden, 1, side, side)
        for code in kernel.support:
            margin = (side - self.kernels[code]) // 2
            part = self.depthwise_kernel(hidden, self.kernels[code])
            weight = weight + kernel.weight(code) * F.pad(part, (margin,) * 4)
        y = self._inside(x, hidden, weight)
        y = y * _shares(y, expansion, self.hidden, hidden)
        if self.se is not None:
            squeeze = max(self.squeeze[code] for code in codes)
            y = y * self._excite(y, squeeze, _shares(y, expansion, self.squeeze, squeeze))
        return self._outside(x, y)

    def depthwise_kernel(self, hidden: int, kernel: int) -> Tensor:
        """The depthwise weights [hidden, 1, kernel, kernel] of one choice, by way of every larger kernel."""
        weight = self.depthwise.weight[:hidden]
        for side, matrix in zip(self.kernels[-2::-1], self.transforms, strict=True):
            if side < kernel:
                break
            inner = centre(weight, side).reshape(hidden, side * side)
            weight = F.linear(inner, matrix).reshape(hidden, 1, side, side)
        return weight

    def _inside(self, x: Tensor, hidden: int, depthwise: Tensor) -> Tensor:
        y = self.activation(self.expand_norm(F.conv2d(x, self.expand.weight[:hidden])))
        y = depthwise_convolution(y, depthwise, stride=self.stride)
        return self.activation(self.depthwise_norm(y))

    def _excite(self, y: Tensor, squeeze: int, keep: Tensor | None) -> Tensor:
        """What each channel [n, c, 1, 1] is multiplied by."""
        se, c = cast(ElasticSqueezeExcite, self.se), y.shape[1]
        reduce, expand = cast(Tensor, se.reduce.bias), cast(Tensor, se.expand.bias)
        squeezed = F.relu(F.conv2d(F.adaptive_avg_pool2d(y, 1), se.reduce.weight[:squeeze, :c], reduce[:squeeze]))
        if keep is not None:
            squeezed = squeezed * keep
        return F.hardsigmoid(F.conv2d(squeezed, se.expand.weight[:c, :squeeze], expand[:c]))

    def _outside(self, x: Tensor, y: Tensor) -> Tensor:
        y = self.project_norm(F.conv2d(y, self.project.weight[:, : y.shape[1]]))
        return torch.add(x, y) if self.residual else y

    def cut(self, *, kernel: int, expansion: int) -> nn.Module:
        """The plain `MBConv` of one choice, with its own copy of the weights."""
        hidden = self.hidden[expansion]
        squeeze = self.squeeze[expansion] if self.squeeze else 0
        block = _entry(self.c_in, self.c_out, hidden, kernel, self.stride, self.activation_name, squeeze)
        if kernel == self.kernels[-1]:
            return cut_like(block, self)
        with torch.no_grad():
            return cut_like(block, self, changed={"depthwise.weight": self.depthwise_kernel(hidden, kernel)})


@lru_cache(maxsize=4096)  # describing a block takes as long as copying its norms
def _entry(c_in: int, c_out: int, hidden: int, kernel: int, stride: int, activation_name: str, squeeze: int) -> Block:
    """Of features as large as the stride: the module works on all sizes."""
    return describe_mbconv(
        c_in,
        c_out,
        stride,
        hidden=hidden,
        kernel=kernel,
        stride=stride,
        activation_name=activation_name,
        squeeze=squeeze,
    )


def _shares(like: Tensor, gate: Gate, widths: Sequence[int], widest: int) -> Tensor:
    """The weight of each channel [1, widest, 1, 1]: the share of options that are at least so wide."""
    keep = like.new_zeros(widest)
    for code in gate.support:
        keep = keep + gate.weight(code) * F.pad(like.new_ones(widths[code]), (0, widest - widths[code]))
    return keep.reshape(1, -1, 1, 1)
