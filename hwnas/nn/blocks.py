"""Plain blocks: what an extracted network is made of, and what the profiler times.

Each is one entry of a latency table. Shapes: n images, c channels, h height, w width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hwnas.core import Architecture, SpaceError
from hwnas.core.errors import did_you_mean
from hwnas.nn.cells import CELL_BUILDERS
from hwnas.nn.depthwise import depthwise_convolution
from hwnas.space import Block, Space

# Rectifying in place is a tenth faster in training here; it is safe after a norm, whose gradient needs only its input.
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": partial(F.relu, inplace=True), "hswish": F.hardswish}


def activation(name: str) -> Callable[[Tensor], Tensor]:
    """The activation of that name.

    Raises:
        SpaceError: If the name is unknown.

    Example:
        >>> activation("hswish").__name__
        'hardswish'
    """
    if name not in ACTIVATIONS:
        raise SpaceError(f'activation "{name}" is unknown; {did_you_mean(name, ACTIVATIONS)}')
    return ACTIVATIONS[name]


class Stem(nn.Module):
    """Convolution, norm, activation: image [n, c, h, w] to features.

    Source: Howard et al. 2019 (arXiv 1905.02244), table 1, first row.
    """

    def __init__(self, c_in: int, c_out: int, *, kernel: int, stride: int, activation_name: str) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(c_out)
        self.activation = activation(activation_name)

    def forward(self, x: Tensor) -> Tensor:
        """[n, c_in, h, w] -> [n, c_out, ceil(h / stride), ceil(w / stride)]."""
        return self.activation(self.norm(self.conv(x)))


class SqueezeExcite(nn.Module):
    """Channels weighted by what the whole image says.

    Source: Hu et al. 2018 (arXiv 1709.01507), with the hard sigmoid of MobileNetV3.
    """

    def __init__(self, channels: int, squeeze: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, squeeze, 1)
        self.expand = nn.Conv2d(squeeze, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[n, channels, h, w] -> the same shape."""
        scale = F.relu(self.reduce(F.adaptive_avg_pool2d(x, 1)))
        return x * F.hardsigmoid(self.expand(scale))


class MBConv(nn.Module):
    """Inverted bottleneck: expand, depthwise, squeeze-and-excite, project, add.

    Source: Sandler et al. 2018 (arXiv 1801.04381) and Howard et al. 2019 (arXiv 1905.02244).

    Args:
        c_in: Channels in.
        c_out: Channels out; the input is added if the shapes agree.
        hidden: Channels between.
        kernel: Side of the depthwise kernel, odd.
        stride: Of the depthwise convolution.
        activation_name: "relu" or "hswish".
        squeeze: Channels inside squeeze-and-excite, 0 for none.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        *,
        hidden: int,
        kernel: int,
        stride: int,
        activation_name: str,
        squeeze: int,
    ) -> None:
        super().__init__()
        self.expand = nn.Conv2d(c_in, hidden, 1, bias=False)
        self.expand_norm = nn.BatchNorm2d(hidden)
        self.depthwise = nn.Conv2d(hidden, hidden, kernel, stride, kernel // 2, groups=hidden, bias=False)
        self.depthwise_norm = nn.BatchNorm2d(hidden)
        self.se = SqueezeExcite(hidden, squeeze) if squeeze else None
        self.project = nn.Conv2d(hidden, c_out, 1, bias=False)
        self.project_norm = nn.BatchNorm2d(c_out)
        self.activation = activation(activation_name)
        self.residual = stride == 1 and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:
        """[n, c_in, h, w] -> [n, c_out, ceil(h / stride), ceil(w / stride)]."""
        y = self.activation(self.expand_norm(self.expand(x)))
        # Only training needs its gradient; elsewhere counters and the exporter shall see the layer.
        if self.training:
            y = depthwise_convolution(y, self.depthwise.weight, stride=self.depthwise.stride[0])
        else:
            y = self.depthwise(y)
        y = self.activation(self.depthwise_norm(y))
        if self.se is not None:
            y = self.se(y)
        y = self.project_norm(self.project(y))
        return torch.add(x, y) if self.residual else y


class Head(nn.Module):
    """Last convolution, mean over the image, classifier: [n, c, h, w] to logits [n, classes].

    Source: Howard et al. 2019 (arXiv 1905.02244), with one linear layer, as small images need no more.
    """

    def __init__(self, c_in: int, width: int, classes: int, *, activation_name: str) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, width, 1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.activation = activation(activation_name)
        self.classifier = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """[n, c_in, h, w] -> [n, classes]."""
        y = self.activation(self.norm(self.conv(x)))
        return cast(Tensor, self.classifier(F.adaptive_avg_pool2d(y, 1).flatten(1)))


def describe_stem(c_in: int, c_out: int, size: int, *, kernel: int, stride: int, activation_name: str) -> Block:
    """The profiling entry of a `Stem` on square images of side `size`.

    Example:
        >>> describe_stem(1, 16, 28, kernel=3, stride=2, activation_name="relu").macs
        28224
    """
    out = -(-size // stride)
    return Block(
        "stem",
        (("kernel", kernel), ("stride", stride), ("activation", activation_name)),
        (c_in, size, size),
        (c_out, out, out),
        macs=out * out * kernel * kernel * c_in * c_out,
        parameters=kernel * kernel * c_in * c_out + 2 * c_out,
    )


def describe_mbconv(
    c_in: int,
    c_out: int,
    size: int,
    *,
    hidden: int,
    kernel: int,
    stride: int,
    activation_name: str,
    squeeze: int,
) -> Block:
    """The profiling entry of an `MBConv` on square features of side `size`.

    Example:
        >>> block = describe_mbconv(
        ...     16, 24, 14, hidden=48, kernel=3, stride=2, activation_name="relu", squeeze=0
        ... )
        >>> block.macs, block.parameters
        (228144, 2592)
    """
    out = -(-size // stride)
    pixels, out_pixels = size * size, out * out
    se_macs = 2 * hidden * squeeze
    return Block(
        "mbconv",
        (
            ("hidden", hidden),
            ("kernel", kernel),
            ("stride", stride),
            ("squeeze", squeeze),
            ("activation", activation_name),
        ),
        (c_in, size, size),
        (c_out, out, out),
        macs=pixels * c_in * hidden + out_pixels * hidden * (kernel * kernel + c_out) + se_macs,
        parameters=hidden * (c_in + kernel * kernel + c_out)
        + 2 * (2 * hidden + c_out)
        + (se_macs + squeeze + hidden if squeeze else 0),
        se=squeeze > 0,
        residual=stride == 1 and c_in == c_out,
    )


def describe_head(c_in: int, width: int, classes: int, size: int, *, activation_name: str) -> Block:
    """The profiling entry of a `Head` on square features of side `size`.

    Example:
        >>> describe_head(64, 128, 10, 4, activation_name="hswish").macs
        132352
    """
    return Block(
        "head",
        (("width", width), ("activation", activation_name)),
        (c_in, size, size),
        (classes,),
        macs=size * size * c_in * width + width * classes,
        parameters=c_in * width + 2 * width + (width + 1) * classes,
    )


def _stem(block: Block) -> nn.Module:
    return Stem(
        block.input_shape[0],
        block.output_shape[0],
        kernel=int(block.setting("kernel")),
        stride=int(block.setting("stride")),
        activation_name=str(block.setting("activation")),
    )


def _mbconv(block: Block) -> nn.Module:
    return MBConv(
        block.input_shape[0],
        block.output_shape[0],
        hidden=int(block.setting("hidden")),
        kernel=int(block.setting("kernel")),
        stride=int(block.setting("stride")),
        activation_name=str(block.setting("activation")),
        squeeze=int(block.setting("squeeze")),
    )


def _head(block: Block) -> nn.Module:
    return Head(
        block.input_shape[0],
        int(block.setting("width")),
        block.output_shape[0],
        activation_name=str(block.setting("activation")),
    )


BUILDERS: Mapping[str, Callable[[Block], nn.Module]] = {
    "head": _head,
    "mbconv": _mbconv,
    "stem": _stem,
    **CELL_BUILDERS,
}


def build_block(block: Block) -> nn.Module:
    """The plain module that an entry stands for, with fresh random weights.

    Raises:
        SpaceError: If the kind is unknown.

    Example:
        >>> build_block(describe_head(64, 128, 10, 4, activation_name="hswish")).classifier.out_features
        10
    """
    if block.kind not in BUILDERS:
        raise SpaceError(f'block kind "{block.kind}" is unknown; {did_you_mean(block.kind, BUILDERS)}')
    return BUILDERS[block.kind](block)


def build_network(space: Space, architecture: Architecture) -> nn.Sequential:
    """The plain network of one architecture with fresh random weights: its blocks, one after the other.

    Raises:
        SpaceError: If the architecture is not one of the space, or the space declares no units.
    """
    blocks = space.blocks_of(architecture)
    if not blocks:
        raise SpaceError(f"space {space.name} declares no units, so no network can be built from its blocks")
    return nn.Sequential(*(build_block(block) for block in blocks))
