"""What a plain sequence of layers has beside convolutions: pools without padding, and what ends it.

Shapes: n images, c channels, h height, w width. Source: Baker et al. 2017 (arXiv 1611.02167), section 4.1.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from math import prod
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from hwnas.core import SpaceError
from hwnas.space import Block


def pooled_side(side: int, kernel: int, stride: int) -> int:
    """The side of what a pool without padding gives; 0 if the features are smaller than its window.

    Example:
        >>> pooled_side(32, 5, 3), pooled_side(4, 5, 3)
        (10, 0)
    """
    return 0 if side < kernel else (side - kernel) // stride + 1


class WindowPool(nn.Module):
    """Largest of each window, without padding."""

    def __init__(self, kernel: int, stride: int) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        """[n, c, h, w] -> [n, c, (h - kernel) // stride + 1, (w - kernel) // stride + 1]."""
        return F.max_pool2d(x, self.kernel, self.stride)


class SequenceHead(nn.Module):
    """What ends a sequence: every pixel or the mean over the image, fully connected layers with rectifiers, classifier.

    Args:
        features: That the first layer reads: channels, times pixels unless they are averaged.
        hidden: Widths of the layers between.
        classes: Of the labels.
        mean: Whether the image is averaged first.

    Example:
        >>> import torch
        >>> SequenceHead(8 * 4 * 4, (16,), 10, mean=False)(torch.zeros(2, 8, 4, 4)).shape
        torch.Size([2, 10])
    """

    def __init__(self, features: int, hidden: tuple[int, ...], classes: int, *, mean: bool) -> None:
        super().__init__()
        self.mean = mean
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise((features, *hidden)))
        self.classifier = nn.Linear((features, *hidden)[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        """[n, c, h, w] -> logits [n, classes]."""
        y = (F.adaptive_avg_pool2d(x, 1) if self.mean else x).flatten(1)
        for layer in self.hidden:
            y = F.relu(layer(y))
        return cast(Tensor, self.classifier(y))


def describe_window_pool(channels: int, size: int, *, kernel: int, stride: int) -> Block:
    """The entry of a `WindowPool` on square features of side `size`.

    Raises:
        SpaceError: If the features are smaller than the window.

    Example:
        >>> describe_window_pool(64, 32, kernel=5, stride=3).key
        'window_pool kernel=5 stride=3 64x32x32->64x10x10'
    """
    out = pooled_side(size, kernel, stride)
    if not out:
        raise SpaceError(f"a pool of {kernel}x{kernel} on features of {size}x{size}; the window must fit")
    return Block(
        "window_pool", (("kernel", kernel), ("stride", stride)), (channels, size, size), (channels, out, out), 0, 0
    )


def describe_sequence_head(channels: int, hidden: tuple[int, ...], classes: int, size: int, *, mean: bool) -> Block:
    """The entry of a `SequenceHead` on square features of side `size`.

    Example:
        >>> block = describe_sequence_head(64, (512, 256), 10, 4, mean=False)
        >>> block.macs == 64 * 16 * 512 + 512 * 256 + 256 * 10
        True
        >>> block.key
        'sequence_head reads=pixels hidden=512-256 64x4x4->10'
    """
    widths = (channels if mean else channels * size * size, *hidden, classes)
    weights = sum(a * b for a, b in itertools.pairwise(widths))
    settings = (("reads", "mean" if mean else "pixels"), *((("hidden", "-".join(map(str, hidden))),) if hidden else ()))
    return Block("sequence_head", settings, (channels, size, size), (classes,), weights, weights + sum(widths[1:]))


def _build_head(block: Block) -> nn.Module:
    settings = dict(block.settings)
    hidden = tuple(int(width) for width in str(settings.get("hidden", "")).split("-") if width)
    mean = settings["reads"] == "mean"
    features = block.input_shape[0] if mean else prod(block.input_shape)
    return SequenceHead(features, hidden, block.output_shape[0], mean=mean)


SEQUENCE_BUILDERS: Mapping[str, Callable[[Block], nn.Module]] = {
    "sequence_head": _build_head,
    "window_pool": lambda block: WindowPool(int(block.setting("kernel")), int(block.setting("stride"))),
}
