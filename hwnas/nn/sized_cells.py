"""The cell of NATS-Bench's size space, whose channels in and out are free, and modules cut from larger ones.

Shapes: n images, c channels, h height, w width.
Source: Dong et al. 2021 (arXiv 2009.00437), section 3.2, and the network of its released code (D-X-Y/AutoDL-Projects).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, lru_cache
from typing import cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from hwnas.nn.cells import ReluConvNorm
from hwnas.space import Block


class SizedCell(nn.Module):
    """Four nodes, each joined to all before it by a 3x3 convolution, but for the last and the first: there it skips.

    Args:
        c_in: Channels in.
        c_out: Channels of the other nodes, and out.
        widens: Whether the skip is a 1x1 convolution with a norm; else it changes nothing.

    Example:
        >>> SizedCell(4, 8, widens=True)(torch.zeros(1, 4, 5, 5)).shape
        torch.Size([1, 8, 5, 5])
    """

    def __init__(self, c_in: int, c_out: int, *, widens: bool) -> None:
        super().__init__()
        self.edges = nn.ModuleDict({
            f"{source}-{node}": ReluConvNorm(c_out if source else c_in, c_out, kernel=3, stride=1)
            for source, node in ((0, 1), (0, 2), (1, 2), (1, 3), (2, 3))
        })
        layers = (nn.Conv2d(c_in, c_out, 1, bias=False), nn.BatchNorm2d(c_out)) if widens else ()
        self.skip = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """[n, c_in, h, w] -> [n, c_out, h, w]."""
        first = self.edges["0-1"](x)
        second = self.edges["0-2"](x) + self.edges["1-2"](first)
        return cast(Tensor, self.skip(x) + self.edges["1-3"](first) + self.edges["2-3"](second))


@cache
def describe_sized_cell(c_in: int, c_out: int, size: int, *, widens: bool | None = None) -> Block:
    """The entry of a `SizedCell` on square features of side `size`.

    Args:
        c_in: Channels in.
        c_out: Channels out.
        size: Side of the features.
        widens: As of the cell; where the channels differ unless given.

    Example:
        >>> describe_sized_cell(8, 16, 4).macs == 16 * (9 * (2 * 8 * 16 + 3 * 16 * 16) + 8 * 16)
        True
    """
    wider = c_in != c_out if widens is None else widens
    weights = 9 * c_out * (2 * c_in + 3 * c_out) + (c_in * c_out if wider else 0)
    return Block(
        "sized_cell",
        (("widens", int(wider)),),
        (c_in, size, size),
        (c_out, size, size),
        size * size * weights,
        weights + 2 * c_out * (5 + wider),
    )


# ---------------------------------------------------------------------------------------------------------- cutting


class Cuttable(nn.Module):
    """A module from whose first channels smaller ones of its kind are cut.

    Args:
        block: Of the largest.
        build: Makes an entry's module.

    Example:
        >>> from hwnas.nn.blocks import build_block
        >>> part = Cuttable(describe_sized_cell(8, 8, 4, widens=True), build_block)
        >>> part(torch.zeros(1, 4, 4, 4), describe_sized_cell(4, 6, 4)).shape
        torch.Size([1, 6, 4, 4])
    """

    def __init__(self, block: Block, build: Callable[[Block], nn.Module]) -> None:
        super().__init__()
        self.whole = build(block)
        self.build = build

    def forward(self, x: Tensor, block: Block) -> Tensor:
        """As the module of an entry, with this one's first weights and statistics."""
        frame = _frame(self.build, block)
        for name, part in frame.named_modules():
            part.training = self.training
            if isinstance(part, nn.BatchNorm2d):  # which rules that mix networks switch off
                part.track_running_stats = cast(nn.BatchNorm2d, self.whole.get_submodule(name)).track_running_stats
        return cast(Tensor, functional_call(frame, self.share(block), (x,)))

    def share(self, block: Block) -> dict[str, Tensor]:
        """The weights and statistics of an entry, as views of this module's."""
        mine = {**dict(self.whole.named_parameters()), **dict(self.whole.named_buffers())}
        wanted = _frame(self.build, block).state_dict()
        return {name: mine[name][tuple(map(slice, value.shape))] for name, value in wanted.items()}


@lru_cache(maxsize=4096)
def _frame(build: Callable[[Block], nn.Module], block: Block) -> nn.Module:
    """An entry's module without memory for weights."""
    with torch.device("meta"):
        return build(block)


SIZED_BUILDERS: Mapping[str, Callable[[Block], nn.Module]] = {
    "sized_cell": lambda block: SizedCell(
        block.input_shape[0], block.output_shape[0], widens=bool(block.setting("widens"))
    ),
}
