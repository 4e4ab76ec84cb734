"""MobileNetV3-Large, the network that the chains here are measured against."""

from __future__ import annotations

from hwnas.nn.blocks import describe_mbconv, describe_mixing_head, describe_separable, describe_stem
from hwnas.space import Block
from hwnas.zoo.channels import divisible

ROWS: tuple[tuple[int, int, int, bool, str, int], ...] = (
    (3, 64, 24, False, "relu", 2),
    (3, 72, 24, False, "relu", 1),
    (5, 72, 40, True, "relu", 2),
    (5, 120, 40, True, "relu", 1),
    (5, 120, 40, True, "relu", 1),
    (3, 240, 80, False, "hswish", 2),
    (3, 200, 80, False, "hswish", 1),
    (3, 184, 80, False, "hswish", 1),
    (3, 184, 80, False, "hswish", 1),
    (3, 480, 112, True, "hswish", 1),
    (3, 672, 112, True, "hswish", 1),
    (5, 672, 160, True, "hswish", 2),
    (5, 960, 160, True, "hswish", 1),
    (5, 960, 160, True, "hswish", 1),
)
"""Kernel, hidden channels, channels, squeeze-and-excite, activation, stride; after the first block."""


def mobilenet_v3_large(*, channels: int = 3, classes: int = 1000, resolution: int = 224) -> list[Block]:
    """The blocks of the network, from stem to head; `build_block` makes the module of each.

    Source: Howard et al. 2019 (arXiv 1905.02244), table 1. Squeeze-and-excite has a quarter of the hidden channels,
    rounded to a multiple of 8; the layer after the mean has no bias, 1,280 parameters less than in torchvision.

    Args:
        channels: Of the images.
        classes: Of the labels.
        resolution: Side of the square images.

    Example:
        >>> blocks = mobilenet_v3_large()
        >>> sum(block.macs for block in blocks), sum(block.parameters for block in blocks)
        (216589760, 5481752)
    """
    size = -(-resolution // 2)
    blocks = [
        describe_stem(channels, 16, resolution, kernel=3, stride=2, activation_name="hswish"),
        describe_separable(16, 16, size, kernel=3, stride=1, activation_name="relu"),
    ]
    c_in = 16
    for kernel, hidden, width, se, name, stride in ROWS:
        blocks.append(
            describe_mbconv(
                c_in,
                width,
                size,
                hidden=hidden,
                kernel=kernel,
                stride=stride,
                activation_name=name,
                squeeze=divisible(hidden // 4) if se else 0,
            )
        )
        c_in, size = width, -(-size // stride)
    return [*blocks, describe_mixing_head(c_in, 960, 1280, classes, size, activation_name="hswish")]
