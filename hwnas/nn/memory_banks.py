"""Networks of memory banks: layers that read some banks of channels and add what they compute to others.

A block's input fills its first banks, the others begin with zeros, and what a block gives are all of its banks. Such a
network is no chain, so each of its pieces is a block of its own; what they cost adds up exactly in multiply-adds and
parameters. The first sum into an empty bank is counted, too, though nothing is left to add there. Convolutions of all
networks are cut from the same weights: fewer channels, the centre of a kernel.

Shapes: n images, c channels, h height, w width; features are square.
Source: Brock et al. 2017 (arXiv 1708.05344), section 3.1, and the networks of its released code (ajbrock/SMASH).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hwnas.core import SpaceError
from hwnas.core.errors import did_you_mean
from hwnas.nn.cells import describe_cell_head, describe_kernel
from hwnas.nn.dense_cells import DENSE_BUILDERS, describe_dense_layer, describe_halving_pool
from hwnas.nn.two_input_cells import build_piece, describe_concat
from hwnas.space import Block

PATTERNS = ("1000", "1010", "1100", "1110", "1111")
"""Which of a layer's four convolutions there are, in the order of the released code: the first and the third read what
the 1x1 convolution gives, the second reads the first, the fourth the third. What is not read is added up."""


class LayerPlan(NamedTuple):
    """What a layer does.

    Attributes:
        reads: Banks, ascending.
        writes: Banks, ascending; they get the layer's units in turn.
        units: Channels that it computes, in banks.
        kernel: Side of its convolutions, odd.
        dilation: Of its convolutions.
        groups: Of its convolutions.
        pattern: One of `PATTERNS`.
    """

    reads: tuple[int, ...]
    writes: tuple[int, ...]
    units: int
    kernel: int
    dilation: int
    groups: int
    pattern: str


Plans = tuple[tuple[LayerPlan, ...], ...]
"""Of each block its layers."""

# ---------------------------------------------------------------------------------------------------------- modules


class BankRead(nn.Module):
    """Norm, rectifier, 1x1 convolution, norm: what a layer does with the banks it reads, one after the other."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.before = nn.BatchNorm2d(c_in)
        self.mix = nn.Conv2d(c_in, c_out, 1, bias=False)
        self.after = nn.BatchNorm2d(c_out)

    def forward(self, x: Tensor) -> Tensor:
        """[n, c_in, h, w] -> [n, c_out, h, w]."""
        return cast(Tensor, self.after(self.mix(F.relu(self.before(x)))))


class BankConvolutions(nn.Module):
    """Up to four convolutions, each behind a rectifier.

    Args:
        c_in: Channels in.
        c_out: Channels out.
        pattern: One of `PATTERNS`.
        kernel: Side, odd.
        dilation: Of all.
        groups: Of all.

    Raises:
        SpaceError: If the pattern is unknown.

    Example:
        >>> made = BankConvolutions(8, 4, pattern="1110", kernel=3, dilation=2, groups=2)
        >>> made(torch.zeros(1, 8, 6, 6)).shape
        torch.Size([1, 4, 6, 6])
    """

    def __init__(self, c_in: int, c_out: int, *, pattern: str, kernel: int, dilation: int, groups: int) -> None:
        super().__init__()
        self.pattern = check_pattern(pattern)
        padding = dilation * (kernel // 2)
        self.convolutions = nn.ModuleDict({
            str(number): nn.Conv2d(
                c_out if number % 2 else c_in, c_out, kernel, 1, padding, dilation, groups=groups, bias=False
            )
            for number, bit in enumerate(pattern)
            if bit == "1"
        })

    def forward(self, x: Tensor) -> Tensor:
        """[n, c_in, h, w] -> [n, c_out, h, w]."""
        return run_pattern(self.pattern, lambda number, y: self.convolutions[str(number)](F.relu(y)), x)


def check_pattern(pattern: str) -> str:
    """The pattern, if there is such a one.

    Raises:
        SpaceError: If there is not.

    Example:
        >>> check_pattern("1100")
        '1100'
    """
    if pattern not in PATTERNS:
        raise SpaceError(f'pattern "{pattern}" is unknown; {did_you_mean(pattern, PATTERNS)}')
    return pattern


def run_pattern(pattern: str, convolve: Callable[[int, Tensor], Tensor], x: Tensor) -> Tensor:
    """What the convolutions of a pattern make of a tensor.

    Args:
        pattern: One of `PATTERNS`.
        convolve: The convolution of a number from 0 to 3, on a tensor.
        x: [n, c, h, w].
    """
    first = convolve(0, x)
    first = convolve(1, first) if pattern[1] == "1" else first
    if pattern[2] == "0":
        return first
    third = convolve(2, x)
    return first + (convolve(3, third) if pattern[3] == "1" else third)


# ---------------------------------------------------------------------------------------------------------- entries


@cache
def describe_bank_read(c_in: int, c_out: int, size: int) -> Block:
    """The entry of a `BankRead` on features of side `size`."""
    weights = c_in * c_out
    return Block(
        "bank_read",
        (),
        (c_in, size, size),
        (c_out, size, size),
        size * size * weights,
        weights + 2 * (c_in + c_out),
    )


@cache
def describe_bank_convolutions(
    c_in: int, c_out: int, size: int, *, pattern: str, kernel: int, dilation: int, groups: int
) -> Block:
    """The entry of `BankConvolutions` on features of side `size`.

    Raises:
        SpaceError: If the pattern is unknown.

    Example:
        >>> describe_bank_convolutions(8, 4, 6, pattern="1110", kernel=3, dilation=2, groups=2).parameters
        360
    """
    first, second, third, fourth = (int(bit) for bit in check_pattern(pattern))
    weights = kernel * kernel * c_out * ((first + third) * c_in + (second + fourth) * c_out) // groups
    return Block(
        "bank_convolutions",
        (("pattern", pattern), ("kernel", kernel), ("dilation", dilation), ("groups", groups)),
        (c_in, size, size),
        (c_out, size, size),
        size * size * weights,
        weights,
    )


@cache
def describe_bank_stem(c_in: int, c_out: int, size: int, *, kernel: int) -> Block:
    """The entry of the first convolution, without a norm: what reads it has one."""
    weights = kernel * kernel * c_in * c_out
    return Block(
        "bank_stem", (("kernel", kernel),), (c_in, size, size), (c_out, size, size), size * size * weights, weights
    )


@dataclass(frozen=True)
class BankFrame:
    """A network of blocks without what their layers do, for one size of images.

    Attributes:
        channels: Of the images.
        size: Their side; each block after the first halves it.
        classes: Of the head.
        widths: Channels of a bank, by block.
        layers: At most, by block.
        banks: Of each block.
        filled: How many of them a block's input fills.
        bottleneck: Channels that a layer's 1x1 convolution gives, per unit.
        stem_kernel: Side of the first convolution.
        largest: Side of the largest kernel.

    Example:
        >>> frame = BankFrame(3, 32, 10, (8, 16), (2, 2), banks=4, filled=2, bottleneck=2, stem_kernel=3, largest=5)
        >>> frame.stem.output_shape, [block.kind for block in frame.transition(1)], frame.head.input_shape
        ((16, 32, 32), ['dense_layer', 'halving_pool'], (64, 16, 16))
    """

    channels: int
    size: int
    classes: int
    widths: tuple[int, ...]
    layers: tuple[int, ...]
    banks: int
    filled: int
    bottleneck: int
    stem_kernel: int
    largest: int

    def side(self, block: int) -> int:
        """Of a block's features; blocks are counted from 0."""
        return self.size >> block

    def readable(self, layer: int) -> int:
        """How many banks a layer may read, the first ones: those that may hold something; counted from 0."""
        return min(self.banks, self.filled + layer)

    def writable(self, layer: int) -> int:
        """How many banks a layer may write, the first ones: one that was empty at most."""
        return min(self.banks, self.filled + layer + 1)

    @property
    def stem(self) -> Block:
        """The first convolution."""
        filled = self.filled * self.widths[0]
        return describe_bank_stem(self.channels, filled, self.size, kernel=self.stem_kernel)

    @property
    def head(self) -> Block:
        """The classifier."""
        last = len(self.widths) - 1
        return describe_cell_head(self.banks * self.widths[last], self.classes, self.side(last))

    def transition(self, block: int) -> tuple[Block, Block]:
        """From the banks of the block before into this one, which is not the first."""
        given, wanted = self.banks * self.widths[block - 1], self.filled * self.widths[block]
        size = self.side(block - 1)
        return describe_dense_layer("norm_relu", "conv_1x1", given, wanted, size), describe_halving_pool(wanted, size)

    def joined(self, block: int, banks: int) -> Block | None:
        """Banks put one after the other; nothing for one."""
        return describe_concat(self.widths[block], banks, self.side(block)) if banks > 1 else None

    def read(self, block: int, reads: int, units: int) -> Block:
        """The 1x1 convolution of a layer."""
        width = self.widths[block]
        return describe_bank_read(reads * width, self.bottleneck * units * width, self.side(block))

    def convolutions(self, block: int, plan: LayerPlan) -> Block:
        """The convolutions of a layer."""
        out = plan.units * self.widths[block]
        return describe_bank_convolutions(
            self.bottleneck * out,
            out,
            self.side(block),
            pattern=plan.pattern,
            kernel=plan.kernel,
            dilation=plan.dilation,
            groups=plan.groups,
        )

    def addition(self, block: int) -> Block:
        """Into one bank."""
        return describe_kernel("add", self.widths[block], self.side(block))

    def pieces(self, plans: Plans) -> list[Block]:
        """All that a network runs."""
        found = [self.stem, self.head]
        for block, layers in enumerate(plans):
            found += self.transition(block) if block else ()
            joined = [self.joined(block, self.banks), *(self.joined(block, len(plan.reads)) for plan in layers)]
            found += [piece for piece in joined if piece]
            for plan in layers:
                found += [self.read(block, len(plan.reads), plan.units), self.convolutions(block, plan)]
                found += [self.addition(block)] * len(plan.writes)
        return found


# ---------------------------------------------------------------------------------------------------------- networks


Layer = Callable[[Sequence[Tensor]], Tensor]
"""What a layer computes of the banks that it reads."""


def run_block(x: Tensor, layers: Sequence[tuple[Layer, LayerPlan]], *, width: int, banks: int) -> Tensor:
    """What a block makes of what fills its first banks.

    Args:
        x: [n, filled * width, h, w].
        layers: With their plans.
        width: Channels of a bank.
        banks: Of the block.

    Returns:
        [n, banks * width, h, w].

    Example:
        >>> plan = LayerPlan(reads=(0,), writes=(0, 2), units=1, kernel=1, dilation=1, groups=1, pattern="1000")
        >>> run_block(torch.ones(1, 2, 1, 1), [(lambda read: 3 * read[0], plan)], width=1, banks=4).flatten().tolist()
        [4.0, 1.0, 3.0, 0.0]
    """
    memory: list[Tensor | None] = [*torch.split(x, width, dim=1)]
    # A product, as a constant of an unknown number of images hides the sizes of all that follows in an exported file.
    empty = x[:, :width] * 0.0
    memory += [None] * (banks - len(memory))
    for layer, plan in layers:
        units = torch.split(layer([_filled(memory[bank], empty) for bank in plan.reads]), width, dim=1)
        for number, bank in enumerate(plan.writes):
            held, given = memory[bank], units[number % len(units)]
            memory[bank] = given if held is None else held + given
    return torch.cat([_filled(held, empty) for held in memory], dim=1)


def _filled(held: Tensor | None, empty: Tensor) -> Tensor:
    return empty if held is None else held


class BankNetwork(nn.Module):
    """A network of memory banks.

    Args:
        frame: Its stem, blocks and head.
        plans: Of each block its layers.
    """

    def __init__(self, frame: BankFrame, plans: Plans) -> None:
        super().__init__()
        self.frame, self.plans = frame, plans
        self.stem = build_bank_piece(frame.stem)
        self.transitions = nn.ModuleList(
            nn.Sequential(*(build_bank_piece(block) for block in frame.transition(number)))
            for number in range(1, len(plans))
        )
        self.blocks = nn.ModuleList(
            nn.ModuleList(
                nn.Sequential(
                    build_bank_piece(frame.read(number, len(plan.reads), plan.units)),
                    build_bank_piece(frame.convolutions(number, plan)),
                )
                for plan in layers
            )
            for number, layers in enumerate(plans)
        )
        self.head = build_piece(frame.head)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [n, classes] of images [n, c, side, side]."""
        y: Tensor = self.stem(x)
        for number, (block, plans) in enumerate(zip(self.blocks, self.plans, strict=True)):
            y = self.transitions[number - 1](y) if number else y
            layers = [(_joining(part), plan) for part, plan in zip(cast(nn.ModuleList, block), plans, strict=True)]
            y = run_block(y, layers, width=self.frame.widths[number], banks=self.frame.banks)
        return cast(Tensor, self.head(y))

    @property
    def block(self) -> Block:
        """The whole network as one block, whose settings say all that is needed to build it again."""
        pieces = self.frame.pieces(self.plans)
        return Block(
            "bank_network",
            (("plan", json.dumps([asdict(self.frame), self.plans])),),
            self.frame.stem.input_shape,
            self.frame.head.output_shape,
            sum(piece.macs for piece in pieces),
            sum(piece.parameters for piece in pieces),
        )


def _joining(module: nn.Module) -> Layer:
    return lambda read: cast(Tensor, module(torch.cat(list(read), dim=1) if len(read) > 1 else read[0]))


def build_bank_piece(block: Block) -> nn.Module:
    """The module of a stem, a transition's part, or a layer's, with fresh random weights."""
    builders = BANK_BUILDERS if block.kind in BANK_BUILDERS else DENSE_BUILDERS
    return builders[block.kind](block)


def _build_convolutions(block: Block) -> nn.Module:
    kernel, dilation, groups = (int(block.setting(name)) for name in ("kernel", "dilation", "groups"))
    ends = block.input_shape[0], block.output_shape[0]
    pattern = str(block.setting("pattern"))
    return BankConvolutions(*ends, pattern=pattern, kernel=kernel, dilation=dilation, groups=groups)


def _build_stem(block: Block) -> nn.Module:
    kernel = int(block.setting("kernel"))
    return nn.Conv2d(block.input_shape[0], block.output_shape[0], kernel, padding=kernel // 2, bias=False)


def _build_network(block: Block) -> nn.Module:
    frame, rows = json.loads(str(block.setting("plan")))
    frame |= {name: tuple(frame[name]) for name in ("widths", "layers")}
    plans = tuple(
        tuple(LayerPlan(tuple(reads), tuple(writes), *rest) for reads, writes, *rest in layers) for layers in rows
    )
    return BankNetwork(BankFrame(**frame), plans)


BANK_BUILDERS: Mapping[str, Callable[[Block], nn.Module]] = {
    "bank_convolutions": _build_convolutions,
    "bank_network": _build_network,
    "bank_read": lambda block: BankRead(block.input_shape[0], block.output_shape[0]),
    "bank_stem": _build_stem,
}
