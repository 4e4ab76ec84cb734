"""Strided 1x1 convolutions that can be trained with few channels. n images, c channels, h height, w width.

With less than 8 channels in, channels last and one thread, the kernel that torch 2.14 takes for the weights' gradient
(oneDNN, AVX2) writes beyond its result: the process ends at some later allocation, or goes on with other tensors'
numbers changed.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SAFE_CHANNELS = 8
"""From how many channels in that kernel writes where it should."""


def trainable_conv2d(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *, stride: int = 1, padding: int | tuple[int, int] = 0
) -> Tensor:
    """`torch.nn.functional.conv2d` whose gradient stays within its own memory.

    In training, a strided 1x1 kernel on few channels takes its pixels first and then makes no stride, which gives the
    same numbers; everything else is the library's own.

    Args:
        x: [n, c_in, h, w].
        weight: [c_out, c_in, k_h, k_w].
        bias: [c_out].
        stride: In both directions.
        padding: On each side; of both directions, or of height and width.

    Returns:
        [n, c_out, ceil(h / stride), ceil(w / stride)] for odd kernels padded by half their side.

    Example:
        >>> weight = torch.ones(2, 3, 1, 1, requires_grad=True)
        >>> trainable_conv2d(torch.ones(1, 3, 3, 3), weight, stride=2)[0, 0].tolist()
        [[3.0, 3.0], [3.0, 3.0]]
    """
    few = stride > 1 and weight.shape[1] < SAFE_CHANNELS and weight.shape[2:] == (1, 1)
    if few and weight.requires_grad and torch.is_grad_enabled():
        return F.conv2d(x[:, :, ::stride, ::stride], weight, bias)
    return F.conv2d(x, weight, bias, stride, padding)


class StridedPointwise(nn.Conv2d):
    """`nn.Conv2d(c_in, c_out, 1, stride, bias=False)`, trained by `trainable_conv2d`; counted and exported as it is.

    Args:
        c_in: Channels in.
        c_out: Channels out.
        stride: In both directions.

    Example:
        >>> convolution = StridedPointwise(4, 12, stride=2)
        >>> convolution(torch.zeros(1, 4, 7, 7)).shape, convolution.stride
        (torch.Size([1, 12, 4, 4]), (2, 2))
    """

    def __init__(self, c_in: int, c_out: int, *, stride: int) -> None:
        super().__init__(c_in, c_out, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[n, c_in, h, w] -> [n, c_out, ceil(h / stride), ceil(w / stride)]."""
        return trainable_conv2d(x, self.weight, stride=self.stride[0]) if self.training else super().forward(x)
