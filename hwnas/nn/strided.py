"""Strided 1x1 convolutions that can be trained with few channels. n images, c channels, h height, w width.

With less than 8 channels in, channels last and one thread, the kernel that torch 2.14 takes for the weights' gradient
(oneDNN, AVX2) writes beyond its result: the process ends at some later allocation, or goes on with other tensors'
numbers changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SAFE_CHANNELS = 8
"""From how many channels in that kernel writes where it should."""


def trainable_conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
) -> Tensor:
    """`torch.nn.functional.conv2d` whose gradient stays within its own memory.

    In training, a strided 1x1 kernel on few channels takes its pixels first and then makes no stride, which gives the
    same numbers; everything else is the library's own.

    Args:
        x: [n, c_in, h, w].
        weight: [c_out, c_in, k_h, k_w].
        bias: [c_out].
        stride: In both directions, or of height and width.
        padding: On each side; of both directions, or of height and width.

    Returns:
        [n, c_out, ceil(h / stride), ceil(w / stride)] for odd kernels padded by half their side.

    Example:
        >>> weight = torch.ones(2, 3, 1, 1, requires_grad=True)
        >>> trainable_conv2d(torch.ones(1, 3, 3, 3), weight, stride=2)[0, 0].tolist()
        [[3.0, 3.0], [3.0, 3.0]]
    """
    down, right = (stride, stride) if isinstance(stride, int) else stride
    few = weight.shape[1] < SAFE_CHANNELS and weight.shape[2:] == (1, 1) and padding in {0, (0, 0)}
    if few and max(down, right) > 1 and weight.requires_grad and torch.is_grad_enabled():
        return F.conv2d(x[:, :, ::down, ::right], weight, bias)
    return F.conv2d(x, weight, bias, stride, padding)


def trainable_forwards(module: nn.Module) -> Iterator[tuple[nn.Conv2d, Callable[[Tensor], Tensor]]]:
    """The layers inside a module that need it, each with the forward pass to train it by.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(3, 4, 1, stride=2), nn.Conv2d(4, 8, 3, stride=2))
        >>> [layer is net[0] for layer, _ in trainable_forwards(net)]
        [True]
    """
    for part in module.modules():
        if part is module or not isinstance(part, nn.Conv2d) or type(part).forward is not nn.Conv2d.forward:
            continue
        if _few(part):
            yield part, partial(_forward, part)


def _few(layer: nn.Conv2d) -> bool:
    pointwise = layer.kernel_size == (1, 1) and layer.groups == 1 and layer.padding in {(0, 0), "valid"}
    return pointwise and max(layer.stride) > 1 and layer.in_channels < SAFE_CHANNELS


def _forward(layer: nn.Conv2d, x: Tensor) -> Tensor:
    down, right = layer.stride
    return trainable_conv2d(x, layer.weight, layer.bias, stride=(down, right))
