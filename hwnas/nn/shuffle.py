"""Blocks of ShuffleNetV2, of which single-path one-shot search chooses.

One half of the channels passes, the other goes through convolutions, and the halves change places in the next block.
Where the shape changes, both go through convolutions. Shapes: n images, c channels, h height, w width.

Source: Ma et al. 2018 (arXiv 1807.11164), figure 3, and Guo et al. 2020 (arXiv 1904.00420), section 4, whose "Xception"
block has three depthwise convolutions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from hwnas.space import Block

XCEPTION_KERNEL = 3


def pointwise(c_in: int, c_out: int) -> list[nn.Module]:
    """Convolution of single pixels, norm, rectifier."""
    return [nn.Conv2d(c_in, c_out, 1, bias=False), nn.BatchNorm2d(c_out), nn.ReLU()]


def depthwise_and_norm(channels: int, kernel: int, stride: int) -> list[nn.Module]:
    """Convolution of single channels, norm."""
    convolution = nn.Conv2d(channels, channels, kernel, stride, kernel // 2, groups=channels, bias=False)
    return [convolution, nn.BatchNorm2d(channels)]


class Shuffle(nn.Module):
    """A block of ShuffleNetV2.

    Args:
        c_in: Channels in; even where the shape stays.
        c_out: Channels out, even; half as many are inside.
        kernel: Side of the depthwise kernels, odd.
        stride: Of the first depthwise convolution.
        depthwise: How many depthwise convolutions the main path has: 1, or 3 in an Xception block.

    Example:
        >>> Shuffle(16, 64, kernel=3, stride=2, depthwise=1)(torch.zeros(1, 16, 8, 8)).shape
        torch.Size([1, 64, 4, 4])
    """

    def __init__(self, c_in: int, c_out: int, *, kernel: int, stride: int, depthwise: int) -> None:
        super().__init__()
        self.keeps, self.pairs = keeps_shape(c_in, c_out, stride), c_in // 2
        taken = c_in // 2 if self.keeps else c_in
        inside, left = c_out // 2, c_out - taken
        if depthwise == 1:
            layers = [*pointwise(taken, inside), *depthwise_and_norm(inside, kernel, stride), *pointwise(inside, left)]
        else:
            layers = [*depthwise_and_norm(taken, kernel, stride), *pointwise(taken, inside)]
            for n in range(2, depthwise + 1):
                layers += [
                    *depthwise_and_norm(inside, kernel, 1),
                    *pointwise(inside, inside if n < depthwise else left),
                ]
        self.main = nn.Sequential(*layers)
        self.beside = (
            None if self.keeps else nn.Sequential(*depthwise_and_norm(c_in, kernel, stride), *pointwise(c_in, c_in))
        )

    def forward(self, x: Tensor) -> Tensor:
        """[n, c_in, h, w] -> [n, c_out, ceil(h / stride), ceil(w / stride)]."""
        if self.beside is not None:
            return torch.cat([self.beside(x), self.main(x)], 1)
        n, _, h, w = x.shape
        # The channels as a number: a share of a shape hides the sizes of all that follows in an exported file.
        passed, taken = x.reshape(n, self.pairs, 2, h, w).unbind(2)  # every second channel
        return torch.cat([passed, self.main(taken)], 1)


def keeps_shape(c_in: int, c_out: int, stride: int) -> bool:
    """Whether half of the channels pass as they are."""
    return stride == 1 and c_in == c_out


def describe_shuffle(c_in: int, c_out: int, size: int, *, kernel: int, stride: int, depthwise: int) -> Block:
    """The profiling entry of a `Shuffle` on square features of side `size`.

    Example:
        >>> block = describe_shuffle(64, 64, 56, kernel=3, stride=1, depthwise=1)
        >>> block.macs, block.parameters
        (7325696, 2528)
    """
    out = -(-size // stride)
    keeps = keeps_shape(c_in, c_out, stride)
    taken = c_in // 2 if keeps else c_in
    inside, left = c_out // 2, c_out - taken
    k, before, after = kernel * kernel, size * size, out * out
    if depthwise == 1:
        macs = before * taken * inside + after * inside * (k + left)
        parameters = inside * (taken + k + left) + 2 * (2 * inside + left)
    else:
        later = inside * ((depthwise - 1) * k + (depthwise - 2) * inside + left)
        parameters = taken * (k + inside) + later
        macs = after * parameters
        parameters += 2 * (taken + (2 * depthwise - 2) * inside + left)
    if not keeps:
        macs += after * c_in * (k + c_in)
        parameters += c_in * (k + c_in) + 4 * c_in
    return Block(
        "shuffle",
        (("kernel", kernel), ("stride", stride), ("depthwise", depthwise)),
        (c_in, size, size),
        (c_out, out, out),
        macs=macs,
        parameters=parameters,
    )


def _shuffle(block: Block) -> nn.Module:
    return Shuffle(
        block.input_shape[0],
        block.output_shape[0],
        kernel=int(block.setting("kernel")),
        stride=int(block.setting("stride")),
        depthwise=int(block.setting("depthwise")),
    )


SHUFFLE_BUILDERS: Mapping[str, Callable[[Block], nn.Module]] = {"shuffle": _shuffle}
