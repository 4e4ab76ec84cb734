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
from hwnas.nn.bottleneck import BOTTLENECK_BUILDERS, pooled
from hwnas.nn.cells import CELL_BUILDERS
from hwnas.nn.dense_cells import DENSE_BUILDERS
from hwnas.nn.depthwise import depthwise_convolution
from hwnas.nn.genetic_stages import GENETIC_BUILDERS
from hwnas.nn.hybrid_blocks import HYBRID_BUILDERS
from hwnas.nn.memory_banks import BANK_BUILDERS
from hwnas.nn.sequence_layers import SEQUENCE_BUILDERS
from hwnas.nn.shuffle import SHUFFLE_BUILDERS
from hwnas.nn.sized_cells import SIZED_BUILDERS
from hwnas.nn.skip_layers import SKIP_BUILDERS
from hwnas.nn.split_blocks import SPLIT_BUILDERS
from hwnas.nn.summed_skips import SUMMED_BUILDERS
from hwnas.nn.two_input_cells import NETWORK_BUILDERS, TWO_INPUT_BUILDERS
from hwnas.space import Block, Space

# Rectifying in place is a tenth faster in training here; it is safe after a norm, whose gradient needs only its input.
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": partial(F.relu, inplace=True),
    "relu6": partial(F.relu6, inplace=True),
    "hswish": F.hardswish,
    "silu": F.silu,
}


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


class Separable(nn.Module):
    """Depthwise convolution and projection: an inverted bottleneck that expands nothing.

    Source: Howard et al. 2017 (arXiv 1704.04861), without an activation at the end as in Sandler et al. 2018 (arXiv
    1801.04381, table 2, first block).

    Args:
        c_in: Channels in.
        c_out: Channels out; the input is added if the shapes agree.
        kernel: Side of the depthwise kernel, odd.
        stride: Of the depthwise convolution.
        activation_name: "relu", "relu6" or "hswish".
        groups: Of the projection; channels are shuffled before it, so that its groups mix (Zhang et al. 2017, arXiv
            1707.01083).
    """

    def __init__(
        self, c_in: int, c_out: int, *, kernel: int, stride: int, activation_name: str, groups: int = 1
    ) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(c_in, c_in, kernel, stride, kernel // 2, groups=c_in, bias=False)
        self.depthwise_norm = nn.BatchNorm2d(c_in)
        self.project = nn.Conv2d(c_in, c_out, 1, groups=groups, bias=False)
        self.project_norm = nn.BatchNorm2d(c_out)
        self.activation = activation(activation_name)
        self.groups = groups
        self.residual = stride == 1 and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:
        """[n, c_in, h, w] -> [n, c_out, ceil(h / stride), ceil(w / stride)]."""
        y = x if self.groups == 1 else _shuffled(x, self.depthwise.in_channels, self.groups)
        if self.training:  # as in `MBConv`
            y = depthwise_convolution(y, self.depthwise.weight, stride=self.depthwise.stride[0])
        else:
            y = self.depthwise(y)
        y = self.project_norm(self.project(self.activation(self.depthwise_norm(y))))
        return torch.add(x, y) if self.residual else cast(Tensor, y)


class PoolingMBConv(nn.Module):
    """An inverted bottleneck that adds its input where the shape changes, too: the shortcut pools and convolves.

    Source: Wang et al. 2021 (arXiv 2011.09011). That their shortcut has a convolution follows from the multiply-adds
    that they publish.

    Args:
        c_in: Channels in.
        c_out: Channels out.
        hidden: Channels between; the first convolution is left out where they are as many as come in.
        kernel: Side of the depthwise kernel, odd.
        stride: Of the depthwise convolution.
        activation_name: "relu", "relu6", "hswish" or "silu".
        squeeze: Channels inside squeeze-and-excite, 0 for none.
    """

    def __init__(
        self, c_in: int, c_out: int, *, hidden: int, kernel: int, stride: int, activation_name: str, squeeze: int
    ) -> None:
        super().__init__()
        self.expand: nn.Conv2d | None = None
        if hidden != c_in:
            self.expand = nn.Conv2d(c_in, hidden, 1, bias=False)
            self.expand_norm = nn.BatchNorm2d(hidden)
        self.depthwise = nn.Conv2d(hidden, hidden, kernel, stride, kernel // 2, groups=hidden, bias=False)
        self.depthwise_norm = nn.BatchNorm2d(hidden)
        self.se = SqueezeExcite(hidden, squeeze) if squeeze else None
        self.project = nn.Conv2d(hidden, c_out, 1, bias=False)
        self.project_norm = nn.BatchNorm2d(c_out)
        self.shortcut = nn.Conv2d(c_in, c_out, 1, bias=False)
        self.shortcut_norm = nn.BatchNorm2d(c_out)
        self.activation = activation(activation_name)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """[n, c_in, h, w] -> [n, c_out, ceil(h / stride), ceil(w / stride)]."""
        y = x if self.expand is None else self.activation(self.expand_norm(self.expand(x)))
        # As in `MBConv`.
        y = depthwise_convolution(y, self.depthwise.weight, stride=self.stride) if self.training else self.depthwise(y)
        y = self.activation(self.depthwise_norm(y))
        if self.se is not None:
            y = self.se(y)
        y = self.project_norm(self.project(y))
        return torch.add(self.shortcut_norm(self.shortcut(pooled(x, self.stride))), y)


def _shuffled(x: Tensor, channels: int, groups: int) -> Tensor:
    """Channels in another order, so that each group of the next layer sees all groups of the last."""
    n, _, h, w = x.shape
    # The channels as a number: a share of a shape hides the sizes of all that follows in an exported file.
    return x.reshape(n, groups, channels // groups, h, w).transpose(1, 2).reshape(n, channels, h, w)


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


class MixingHead(nn.Module):
    """Last convolution, mean over the image, one more layer without a norm, classifier: [n, c, h, w] to logits.

    Source: Howard et al. 2019 (arXiv 1905.02244), section 5.1, the efficient last stage; without its layer's bias as in
    Cai et al. 2020 (arXiv 1908.09791).
    """

    def __init__(self, c_in: int, width: int, mix: int, classes: int, *, activation_name: str) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, width, 1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.activation = activation(activation_name)
        self.mix = nn.Linear(width, mix, bias=False)
        self.classifier = nn.Linear(mix, classes)

    def forward(self, x: Tensor) -> Tensor:
        """[n, c_in, h, w] -> [n, classes]."""
        y = self.activation(self.norm(self.conv(x)))
        y = self.activation(self.mix(F.adaptive_avg_pool2d(y, 1).flatten(1)))
        return cast(Tensor, self.classifier(y))


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
    shortcut: bool = True,
) -> Block:
    """The profiling entry of an `MBConv` on square features of side `size`.

    Args:
        c_in: Channels in.
        c_out: Channels out.
        size: Side of the features.
        hidden: Channels between.
        kernel: Side of the depthwise kernel.
        stride: Of the depthwise convolution.
        activation_name: "relu", "relu6" or "hswish".
        squeeze: Channels inside squeeze-and-excite, 0 for none.
        shortcut: Whether the input is added where the shapes agree; some published networks leave it out.

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
            *_without_shortcut(c_in, c_out, stride, shortcut=shortcut),
        ),
        (c_in, size, size),
        (c_out, out, out),
        macs=pixels * c_in * hidden + out_pixels * hidden * (kernel * kernel + c_out) + se_macs,
        parameters=hidden * (c_in + kernel * kernel + c_out)
        + 2 * (2 * hidden + c_out)
        + (se_macs + squeeze + hidden if squeeze else 0),
        se=squeeze > 0,
        residual=shortcut and stride == 1 and c_in == c_out,
    )


def _without_shortcut(c_in: int, c_out: int, stride: int, *, shortcut: bool) -> tuple[tuple[str, int], ...]:
    """A setting only where the shapes agree and nothing is added, so that the keys of all other blocks stay short."""
    return () if shortcut or stride > 1 or c_in != c_out else (("shortcut", 0),)


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


def describe_separable(
    c_in: int,
    c_out: int,
    size: int,
    *,
    kernel: int,
    stride: int,
    activation_name: str,
    groups: int = 1,
    shortcut: bool = True,
) -> Block:
    """The profiling entry of a `Separable` on square features of side `size`.

    Args:
        c_in: Channels in.
        c_out: Channels out.
        size: Side of the features.
        kernel: Side of the depthwise kernel.
        stride: Of the depthwise convolution.
        activation_name: "relu", "relu6" or "hswish".
        groups: Of the projection.
        shortcut: Whether the input is added where the shapes agree.

    Example:
        >>> block = describe_separable(16, 16, 112, kernel=3, stride=1, activation_name="relu")
        >>> block.macs, block.parameters
        (5017600, 464)
    """
    out = -(-size // stride)
    weights = c_in * (kernel * kernel + c_out // groups)
    return Block(
        "separable",
        (
            ("kernel", kernel),
            ("stride", stride),
            ("activation", activation_name),
            *((("groups", groups),) if groups > 1 else ()),
            *_without_shortcut(c_in, c_out, stride, shortcut=shortcut),
        ),
        (c_in, size, size),
        (c_out, out, out),
        macs=out * out * weights,
        parameters=weights + 2 * (c_in + c_out),
        residual=shortcut and stride == 1 and c_in == c_out,
    )


def describe_pooling_mbconv(
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
    """The profiling entry of a `PoolingMBConv` on square features of side `size`.

    Example:
        >>> describe_pooling_mbconv(
        ...     16, 24, 14, hidden=48, kernel=3, stride=2, activation_name="silu", squeeze=0
        ... ).macs
        246960
    """
    out = -(-size // stride)
    before = c_in * hidden if hidden != c_in else 0
    after = hidden * (kernel * kernel + c_out) + c_in * c_out
    norms = hidden * (2 if hidden != c_in else 1) + 2 * c_out
    se = 2 * hidden * squeeze
    return Block(
        "pooling_mbconv",
        (
            ("hidden", hidden),
            ("kernel", kernel),
            ("stride", stride),
            ("squeeze", squeeze),
            ("activation", activation_name),
        ),
        (c_in, size, size),
        (c_out, out, out),
        macs=size * size * before + out * out * after + se,
        parameters=before + after + 2 * norms + (se + squeeze + hidden if squeeze else 0),
        se=squeeze > 0,
        residual=True,
    )


def describe_mixing_head(c_in: int, width: int, mix: int, classes: int, size: int, *, activation_name: str) -> Block:
    """The profiling entry of a `MixingHead` on square features of side `size`.

    Example:
        >>> describe_mixing_head(160, 960, 1280, 1000, 7, activation_name="hswish").macs
        10035200
    """
    mixed = mix * (width + classes)
    return Block(
        "mixing_head",
        (("width", width), ("mix", mix), ("activation", activation_name)),
        (c_in, size, size),
        (classes,),
        macs=size * size * c_in * width + mixed,
        parameters=c_in * width + 2 * width + mixed + classes,
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
    made = MBConv(
        block.input_shape[0],
        block.output_shape[0],
        hidden=int(block.setting("hidden")),
        kernel=int(block.setting("kernel")),
        stride=int(block.setting("stride")),
        activation_name=str(block.setting("activation")),
        squeeze=int(block.setting("squeeze")),
    )
    made.residual = made.residual and not _refuses_shortcut(block)
    return made


def _pooling_mbconv(block: Block) -> nn.Module:
    return PoolingMBConv(
        block.input_shape[0],
        block.output_shape[0],
        hidden=int(block.setting("hidden")),
        kernel=int(block.setting("kernel")),
        stride=int(block.setting("stride")),
        activation_name=str(block.setting("activation")),
        squeeze=int(block.setting("squeeze")),
    )


def _separable(block: Block) -> nn.Module:
    settings = dict(block.settings)
    made = Separable(
        block.input_shape[0],
        block.output_shape[0],
        kernel=int(settings["kernel"]),
        stride=int(settings["stride"]),
        activation_name=str(settings["activation"]),
        groups=int(settings.get("groups", 1)),
    )
    made.residual = made.residual and not _refuses_shortcut(block)
    return made


def _refuses_shortcut(block: Block) -> bool:
    return ("shortcut", 0) in block.settings


def _mixing_head(block: Block) -> nn.Module:
    return MixingHead(
        block.input_shape[0],
        int(block.setting("width")),
        int(block.setting("mix")),
        block.output_shape[0],
        activation_name=str(block.setting("activation")),
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
    "mixing_head": _mixing_head,
    "pooling_mbconv": _pooling_mbconv,
    "separable": _separable,
    "stem": _stem,
    **BANK_BUILDERS,
    **BOTTLENECK_BUILDERS,
    **CELL_BUILDERS,
    **SHUFFLE_BUILDERS,
    **SIZED_BUILDERS,
    **SUMMED_BUILDERS,
    **DENSE_BUILDERS,
    **GENETIC_BUILDERS,
    **HYBRID_BUILDERS,
    **NETWORK_BUILDERS,
    **SEQUENCE_BUILDERS,
    **SKIP_BUILDERS,
    **SPLIT_BUILDERS,
    **TWO_INPUT_BUILDERS,
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
