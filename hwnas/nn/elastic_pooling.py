"""The elastic block of AttentiveNAS: channels in, out and between, and the kernel, are those of an entry of the space.

A smaller kernel is the centre of the largest, fewer channels are the first of all. Source: Wang et al. 2021 (arXiv
2011.09011).
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hwnas.nn.blocks import activation
from hwnas.nn.bottleneck import pooled
from hwnas.nn.build_around import cut_like
from hwnas.nn.depthwise import depthwise_convolution
from hwnas.nn.elastic import ElasticBatchNorm, ElasticSqueezeExcite, centre
from hwnas.space import Block


class ElasticPoolingMBConv(nn.Module):
    """A `PoolingMBConv`, or an `MBConv` or `Separable` where the shape stays, as an entry says at every call.

    Args:
        c_in: Most channels in.
        c_out: Most channels out.
        hidden: Most channels between.
        squeeze: Most channels inside squeeze-and-excite, 0 for none.
        kernel: Largest side of the depthwise kernel.
        stride: Of the depthwise convolution.
        activation_name: "relu", "relu6", "hswish" or "silu".
        changes: Whether the shape may change, so that the shortcut needs weights.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        *,
        hidden: int,
        squeeze: int,
        kernel: int,
        stride: int,
        activation_name: str,
        changes: bool,
    ) -> None:
        super().__init__()
        self.expand: nn.Conv2d | None = None
        if hidden != c_in:
            self.expand = nn.Conv2d(c_in, hidden, 1, bias=False)
            self.expand_norm = ElasticBatchNorm(hidden)
        self.depthwise = nn.Conv2d(hidden, hidden, kernel, stride, kernel // 2, groups=hidden, bias=False)
        self.depthwise_norm = ElasticBatchNorm(hidden)
        self.se = ElasticSqueezeExcite(hidden, squeeze) if squeeze else None
        self.project = nn.Conv2d(hidden, c_out, 1, bias=False)
        self.project_norm = ElasticBatchNorm(c_out)
        if changes:
            self.shortcut = nn.Conv2d(c_in, c_out, 1, bias=False)
            self.shortcut_norm = ElasticBatchNorm(c_out)
        self.activation = activation(activation_name)
        self.stride = stride

    def forward(self, x: Tensor, block: Block) -> Tensor:
        """What the entry's module gives for features [n, c, h, w], c being the entry's channels in."""
        settings, c_in, c_out = dict(block.settings), x.shape[1], block.output_shape[0]
        hidden = int(settings.get("hidden", c_in))
        y = x
        if self.expand is not None:
            y = self.activation(self.expand_norm(F.conv2d(x, self.expand.weight[:hidden, :c_in])))
        kernel = centre(self.depthwise.weight[:hidden], int(settings["kernel"]))
        y = self.activation(self.depthwise_norm(depthwise_convolution(y, kernel, stride=self.stride)))
        if self.se is not None:
            y = y * self._excite(y, int(settings["squeeze"]))
        y = self.project_norm(F.conv2d(y, self.project.weight[:c_out, :hidden]))
        if block.kind == "pooling_mbconv":
            x = self.shortcut_norm(F.conv2d(pooled(x, self.stride), self.shortcut.weight[:c_out, :c_in]))
        return torch.add(x, y)

    def _excite(self, y: Tensor, squeeze: int) -> Tensor:
        se, c = cast(ElasticSqueezeExcite, self.se), y.shape[1]
        reduce, expand = cast(Tensor, se.reduce.bias), cast(Tensor, se.expand.bias)
        inside = F.conv2d(F.adaptive_avg_pool2d(y, 1), se.reduce.weight[:squeeze, :c], reduce[:squeeze])
        return F.hardsigmoid(F.conv2d(F.relu(inside), se.expand.weight[:c, :squeeze], expand[:c]))

    def cut(self, block: Block) -> nn.Module:
        """The plain module of an entry, with its own copy of the weights."""
        weight = self.depthwise.weight[: int(dict(block.settings).get("hidden", block.input_shape[0]))]
        kernel = centre(weight, int(block.setting("kernel"))).detach().clone()
        return cut_like(block, self, changed={"depthwise.weight": kernel})
