"""Elastic layers: one set of weights from which smaller ones are cut.

A smaller kernel is the centre of the largest, fewer channels are the first of all. Source: Cai et al. 2020
(arXiv 1908.09791), without its kernel transforms, as in Wang et al. 2021 (arXiv 2011.09011).
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hwnas.nn.blocks import MBConv, activation
from hwnas.nn.depthwise import depthwise_convolution
from hwnas.nn.gates import Gate


def centre(weight: Tensor, kernel: int) -> Tensor:
    """The middle of a kernel [..., k, k], of side `kernel`.

    Example:
        >>> centre(torch.arange(9.0).reshape(1, 1, 3, 3), 1)
        tensor([[[[4.]]]])
    """
    margin = (weight.shape[-1] - kernel) // 2
    return weight[..., margin : margin + kernel, margin : margin + kernel]


class ElasticBatchNorm(nn.Module):
    """Batch norm over the first channels of a wider one.

    Running statistics belong to whichever network ran last, so an extracted network has its own estimated afresh
    (`reestimate_batch_norm`) before anybody reads its accuracy. As in torch's norms, `track_running_stats` says whether
    training changes them.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, *, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.momentum = momentum
        self.eps = eps
        self.track_running_stats = True

    def forward(self, x: Tensor) -> Tensor:
        """[n, c, h, w] -> the same shape, c at most the width of the norm."""
        c = x.shape[1]
        weight, bias = self.weight[:c], self.bias[:c]
        if self.training and not self.track_running_stats:
            return F.batch_norm(x, None, None, weight, bias, training=True, momentum=self.momentum, eps=self.eps)
        mean, var = self.running_mean[:c], self.running_var[:c]
        return F.batch_norm(x, mean, var, weight, bias, self.training, self.momentum, self.eps)

    def cut(self, norm: nn.BatchNorm2d) -> None:
        """Copy the first channels into a plain norm."""
        c = norm.num_features
        norm.eps = self.eps
        with torch.no_grad():
            for name in ("weight", "bias", "running_mean", "running_var"):
                getattr(norm, name).copy_(getattr(self, name)[:c])


class ElasticSqueezeExcite(nn.Module):
    """Squeeze-and-excite over the first channels. The squeezed width is fixed, so zero channels change nothing."""

    def __init__(self, channels: int, squeeze: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, squeeze, 1)
        self.expand = nn.Conv2d(squeeze, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[n, c, h, w] -> the same shape."""
        c = x.shape[1]
        scale = F.relu(F.conv2d(F.adaptive_avg_pool2d(x, 1), self.reduce.weight[:, :c], self.reduce.bias))
        bias = cast(Tensor, self.expand.bias)
        return x * F.hardsigmoid(F.conv2d(scale, self.expand.weight[:c], bias[:c]))


class ElasticMBConv(nn.Module):
    """An `MBConv` whose kernel and expansion are chosen at every call.

    Args:
        c_in: Channels in.
        c_out: Channels out.
        kernels: Ascending odd sides.
        expansions: Ascending ratios of hidden to incoming channels.
        stride: Of the depthwise convolution.
        activation_name: "relu" or "hswish".
        squeeze: Channels inside squeeze-and-excite, 0 for none.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        *,
        kernels: tuple[int, ...],
        expansions: tuple[int, ...],
        stride: int,
        activation_name: str,
        squeeze: int,
    ) -> None:
        super().__init__()
        hidden, kernel = c_in * max(expansions), max(kernels)
        self.expand = nn.Conv2d(c_in, hidden, 1, bias=False)
        self.expand_norm = ElasticBatchNorm(hidden)
        self.depthwise = nn.Conv2d(hidden, hidden, kernel, stride, kernel // 2, groups=hidden, bias=False)
        self.depthwise_norm = ElasticBatchNorm(hidden)
        self.se = ElasticSqueezeExcite(hidden, squeeze) if squeeze else None
        self.project = nn.Conv2d(hidden, c_out, 1, bias=False)
        self.project_norm = ElasticBatchNorm(c_out)
        self.activation = activation(activation_name)
        self.activation_name = activation_name
        self.kernels, self.expansions = kernels, expansions
        self.c_in, self.c_out, self.stride, self.squeeze = c_in, c_out, stride, squeeze
        self.residual = stride == 1 and c_in == c_out

    def forward(self, x: Tensor, *, kernel: int, expansion: int) -> Tensor:
        """One choice: [n, c_in, h, w] -> [n, c_out, ceil(h / stride), ceil(w / stride)]."""
        hidden = self.c_in * expansion
        return self._run(x, hidden, centre(self.depthwise.weight[:hidden], kernel), None)

    def soft(self, x: Tensor, *, kernel: Gate, expansion: Gate) -> Tensor:
        """The relaxation: kernels are mixed as weights, channels are weighted by the share of options that keep them.

        Channels are weighted after norm and activation, since a norm's bias would revive a channel that is zero
        before it. With one-hot gates the result equals the hard call.
        """
        hidden = self.c_in * max(self.expansions[code] for code in expansion.support)
        side = max(self.kernels[code] for code in kernel.support)
        weight = torch.zeros_like(centre(self.depthwise.weight[:hidden], side))
        for code in kernel.support:
            margin = (side - self.kernels[code]) // 2
            part = centre(self.depthwise.weight[:hidden], self.kernels[code])
            weight = weight + kernel.weight(code) * F.pad(part, (margin,) * 4)
        keep = x.new_zeros(hidden)
        for code in expansion.support:
            kept = self.c_in * self.expansions[code]
            keep = keep + expansion.weight(code) * F.pad(x.new_ones(kept), (0, hidden - kept))
        return self._run(x, hidden, weight, keep.reshape(1, -1, 1, 1))

    def _run(self, x: Tensor, hidden: int, depthwise: Tensor, keep: Tensor | None) -> Tensor:
        y = self.activation(self.expand_norm(F.conv2d(x, self.expand.weight[:hidden])))
        y = depthwise_convolution(y, depthwise, stride=self.stride)
        y = self.activation(self.depthwise_norm(y))
        if keep is not None:
            y = y * keep
        if self.se is not None:
            y = self.se(y)
        y = self.project_norm(F.conv2d(y, self.project.weight[:, :hidden]))
        return torch.add(x, y) if self.residual else y

    def cut(self, *, kernel: int, expansion: int) -> MBConv:
        """The plain block of one choice, with its own copy of the weights."""
        hidden = self.c_in * expansion
        block = MBConv(
            self.c_in,
            self.c_out,
            hidden=hidden,
            kernel=kernel,
            stride=self.stride,
            activation_name=self.activation_name,
            squeeze=self.squeeze,
        )
        with torch.no_grad():
            block.expand.weight.copy_(self.expand.weight[:hidden])
            block.depthwise.weight.copy_(centre(self.depthwise.weight[:hidden], kernel))
            block.project.weight.copy_(self.project.weight[:, :hidden])
            if self.se is not None and block.se is not None:
                reduce, expand = block.se.reduce, block.se.expand
                reduce.weight.copy_(self.se.reduce.weight[:, :hidden])
                cast(Tensor, reduce.bias).copy_(cast(Tensor, self.se.reduce.bias))
                expand.weight.copy_(self.se.expand.weight[:hidden])
                cast(Tensor, expand.bias).copy_(cast(Tensor, self.se.expand.bias)[:hidden])
        self.expand_norm.cut(block.expand_norm)
        self.depthwise_norm.cut(block.depthwise_norm)
        self.project_norm.cut(block.project_norm)
        return block
