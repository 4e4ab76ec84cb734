"""SMASH's space: blocks of memory banks, whose layers choose which banks they read and write, and how they convolve.

Source: Brock et al. 2017 (arXiv 1708.05344), section 3.1, and the released code (ajbrock/SMASH). There a budget of
parameters says how many layers a block has; here a decision does. All blocks have equally many banks, of a width that
the family fixes; a layer fills one empty bank at most, there as many as it has units for. What it computes is one bank
wide, written to all that it writes, or as wide as all of them. Its convolutions share kernel, dilation and groups, and
its 1x1 convolution gives as many channels as these ask for, whatever it reads. Multiplicative gates and other
activations are left out.

Here all networks are cut from one set of weights. That a hypernetwork writes those of the 1x1 convolutions instead,
from a description of the architecture, is a matter of the strategy, not of the space.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import cast

from torch import Tensor, nn

from hwnas.core import Architecture, Option, SpaceError
from hwnas.core.errors import did_you_mean
from hwnas.nn import build_block
from hwnas.nn.gates import Gates, check_resolution, only_choices
from hwnas.nn.memory_bank_supernet import ElasticBankNetwork
from hwnas.nn.memory_banks import (
    PATTERNS,
    BankFrame,
    BankNetwork,
    LayerPlan,
    Plans,
)
from hwnas.space import Block, Condition, Decision, Space, Unit
from hwnas.zoo.sides import check_sides

WINDOWS: dict[str, tuple[int, int]] = {
    "3x3": (3, 1),
    "3x3_dilated_2": (3, 2),
    "3x3_dilated_3": (3, 3),
    "5x5": (5, 1),
    "5x5_dilated_2": (5, 2),
    "7x7": (7, 1),
}
"""Kernel and dilation: the wider a kernel, the less it is dilated."""

MOST_BANKS = 5
"""Of a block."""

CHOSEN = ("reads", "writes", "window", "groups", "pattern")
"""What is decided about a layer."""


@dataclass(frozen=True)
class Smash:
    """The family: everything that fixes a space. One list entry per block where a field is a list.

    Attributes:
        name: Of the space; part of the latency table's file name.
        channels: Of the images, 1 or 3; comes from the data.
        classes: Comes from the data.
        resolutions: Sides of the square input, searched; each block after the first halves them.
        layers: Of each block, at most; at least one.
        widths: Channels of a bank.
        banks: Of every block.
        filled: How many of them a block's input fills.
        windows: Keys of `WINDOWS` that a layer may choose from.
        groups: Of a layer's convolutions; all divide the widths.
        patterns: Of a layer's convolutions, from `hwnas.nn.memory_banks.PATTERNS`.
        bottleneck: Channels that a layer's 1x1 convolution gives, per channel of its others.
        stem_kernel: Side of the first convolution, odd.

    Raises:
        SpaceError: If a value is impossible; names the field and the value.

    Example:
        >>> family = Smash()
        >>> f"{family.space.size:.1e}", len(family.space.decisions)
        ('2.2e+50', 64)
    """

    name: str = "smash"
    channels: int = 3
    classes: int = 10
    resolutions: tuple[int, ...] = (32,)
    layers: tuple[int, ...] = (4, 4, 4)
    widths: tuple[int, ...] = (16, 32, 64)
    banks: int = 4
    filled: int = 2
    windows: tuple[str, ...] = tuple(WINDOWS)
    groups: tuple[int, ...] = (1, 2, 4)
    patterns: tuple[str, ...] = PATTERNS
    bottleneck: int = 2
    stem_kernel: int = 7

    def __post_init__(self) -> None:
        for field in ("channels", "classes", "bottleneck"):
            if getattr(self, field) < 1:
                raise SpaceError(f"{field} is {getattr(self, field)}; it must be above 0")
        if len(self.layers) != len(self.widths) or not self.layers:
            raise SpaceError(
                f"layers has {len(self.layers)} entries, widths has {len(self.widths)}; expected one per block"
            )
        if min(self.layers) < 1 or min(self.widths) < 1:
            raise SpaceError(f"layers is {list(self.layers)}, widths is {list(self.widths)}; they must be above 0")
        if not 1 <= self.filled <= self.banks <= MOST_BANKS:
            raise SpaceError(
                f"banks is {self.banks}, filled is {self.filled}; expected 1 to {MOST_BANKS} banks, of which at least "
                "one is filled, as more have too many subsets to tabulate"
            )
        if self.stem_kernel < 1 or self.stem_kernel % 2 == 0:
            raise SpaceError(f"stem_kernel is {self.stem_kernel}; kernels are odd, so that images keep their centre")
        for field, known in (("windows", tuple(WINDOWS)), ("patterns", PATTERNS)):
            given = getattr(self, field)
            for name in given:
                if name not in known:
                    raise SpaceError(f'{field} holds "{name}"; {did_you_mean(name, known)}')
            if not given or len(set(given)) < len(given):
                raise SpaceError(f"{field} is {list(given)}; expected at least one, each once")
        if not self.groups or list(self.groups) != sorted(set(self.groups)) or self.groups[0] < 1:
            raise SpaceError(f"groups is {list(self.groups)}; expected ascending numbers above 0, each once")
        for groups, width in itertools.product(self.groups, self.widths):
            if width % groups:
                raise SpaceError(f"groups holds {groups}; it does not divide banks of {width} channels")
        step = 2 ** (len(self.layers) - 1)
        check_sides(self.resolutions, why="blocks divide it", step=step)

    @cached_property
    def space(self) -> Space:
        """The decisions, and the blocks they choose."""
        return _space(self)

    @property
    def has_supernet(self) -> bool:
        """Whether all networks can be trained in one set of weights."""
        return True

    def default(self) -> Architecture:
        """The network one would take without a search: a residual one, whose layers read and write the filled banks.

        Example:
            >>> Smash().default()["block1.layer1.reads"], Smash().default()["block3.layer4.writes"]
            ('0+1', '0+1')
        """
        filled = tuple(range(self.filled))
        kernel, dilation = WINDOWS[self.windows[0]]
        plan = LayerPlan(filled, filled, self.filled, kernel, dilation, self.groups[0], self.patterns[-1])
        return self.architecture(tuple((plan,) * layers for layers in self.layers))

    def supernet(self) -> SmashSupernet:
        """All networks in one set of weights, freshly initialised from torch's global generator."""
        return SmashSupernet(self)

    def build_block(self, block: Block) -> nn.Module:
        """The plain module of an entry of the latency table, with fresh random weights."""
        return build_block(block)

    def build_network(self, architecture: Architecture) -> BankNetwork:
        """The plain network, with fresh random weights.

        Raises:
            SpaceError: If the architecture is not one of the space.
        """
        return BankNetwork(self.frame(int(architecture["resolution"])), self.plans(architecture))

    def frame(self, resolution: int) -> BankFrame:
        """The network without what its layers do, for images of one size."""
        return BankFrame(
            self.channels,
            resolution,
            self.classes,
            self.widths,
            self.layers,
            banks=self.banks,
            filled=self.filled,
            bottleneck=self.bottleneck,
            stem_kernel=self.stem_kernel,
            largest=max(WINDOWS[window][0] for window in self.windows),
        )

    def plans(self, architecture: Architecture) -> Plans:
        """What the layers of each block do.

        Raises:
            SpaceError: If the architecture is not one of the space.
        """
        self.space.encode([architecture])
        return tuple(
            tuple(
                _plan({name: architecture[f"block{block}.layer{layer}.{name}"] for name in CHOSEN})
                for layer in range(1, int(architecture[f"block{block}.depth"]) + 1)
            )
            for block in range(1, len(self.layers) + 1)
        )

    def architecture(self, plans: Sequence[Sequence[LayerPlan]], *, resolution: int | None = None) -> Architecture:
        """The architecture whose layers do this, at the largest resolution unless given.

        Raises:
            SpaceError: If the space has no such network.
        """
        if len(plans) != len(self.layers):
            raise SpaceError(f"space {self.name}: {len(plans)} blocks; expected {len(self.layers)}")
        windows = {window: name for name, window in WINDOWS.items()}
        options: dict[str, Option] = {"resolution": resolution or self.resolutions[-1]}
        for block, layers in enumerate(plans, start=1):
            options[f"block{block}.depth"] = len(layers)
            for layer, plan in enumerate(layers, start=1):
                each = plan.units == len(plan.writes)
                if not each and plan.units != 1:
                    raise SpaceError(
                        f"space {self.name}: block {block}, layer {layer} has {plan.units} units for "
                        f"{len(plan.writes)} banks; expected one, or one for each"
                    )
                window = plan.kernel, plan.dilation
                options |= {
                    f"block{block}.layer{layer}.reads": "+".join(map(str, plan.reads)),
                    f"block{block}.layer{layer}.writes": ("+" if each else "=").join(map(str, plan.writes)),
                    f"block{block}.layer{layer}.window": windows.get(window, f"{window}"),
                    f"block{block}.layer{layer}.groups": plan.groups,
                    f"block{block}.layer{layer}.pattern": plan.pattern,
                }
        return self.space.canonical(options)


def _plan(chosen: dict[str, Option]) -> LayerPlan:
    """What a layer does, from its options."""
    kernel, dilation = WINDOWS[str(chosen["window"])]
    writes, units = read_writes(str(chosen["writes"]))
    return LayerPlan(
        _banks(str(chosen["reads"])), writes, units, kernel, dilation, int(chosen["groups"]), str(chosen["pattern"])
    )


def _banks(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split("+")))


def read_writes(option: str) -> tuple[tuple[int, ...], int]:
    """Which banks an option writes, and how many units that takes: "+" gives each its own, "=" the same to all.

    Example:
        >>> read_writes("0+2"), read_writes("0=2"), read_writes("1")
        (((0, 2), 2), ((0, 2), 1), ((1,), 1))
    """
    banks = _banks(option.replace("=", "+"))
    return banks, 1 if "=" in option else len(banks)


def _subsets(banks: int) -> Iterator[tuple[int, ...]]:
    """Every choice of at least one, the small ones first."""
    for size in range(1, banks + 1):
        yield from itertools.combinations(range(banks), size)


class SmashSupernet(nn.Module):
    """The weights of a `Smash` family, from which every network is cut: it takes choices only."""

    def __init__(self, family: Smash) -> None:
        super().__init__()
        self.family = family
        self.network = ElasticBankNetwork(family.frame(family.resolutions[-1]))

    @property
    def space(self) -> Space:
        """The decisions that the gates answer."""
        return self.family.space

    def forward(self, x: Tensor, gates: Gates) -> Tensor:
        """Logits [n, classes] of images [n, c, side, side].

        Raises:
            SpaceError: If the images are not of the size that the gates ask for, or a gate is a mixture or has a
                gradient, which this supernet could not pass on.
        """
        architecture = only_choices(self.space, gates)
        check_resolution(x, architecture, self.family.resolutions)
        return cast(Tensor, self.network(x, self.family.plans(architecture)))

    def extract(self, architecture: Architecture) -> BankNetwork:
        """The plain network of one architecture, with its own copy of the weights.

        Raises:
            SpaceError: If the architecture is not one of the space.
        """
        plans = self.family.plans(architecture)
        return self.network.cut(self.family.frame(int(architecture["resolution"])), plans)


@cache
def _space(family: Smash) -> Space:
    frames = [family.frame(resolution) for resolution in family.resolutions]
    decisions = [Decision("resolution", family.resolutions)]
    units = [Unit("stem", ("resolution",), tuple(frame.stem for frame in frames))]
    for block, layers in enumerate(family.layers):
        name = f"block{block + 1}"
        if block:
            steps = zip(*(frame.transition(block) for frame in frames), strict=True)
            units += [
                Unit(f"{name}.{p}", ("resolution",), step) for p, step in zip(("mix", "halve"), steps, strict=True)
            ]
        decisions.append(Decision(f"{name}.depth", tuple(range(1, layers + 1))))
        for layer in range(layers):
            made, of_layer = _layer(family, frames, block, layer)
            decisions += made
            units += of_layer
        joined = tuple(frame.joined(block, family.banks) for frame in frames)
        units.append(Unit(f"{name}.banks", ("resolution",), joined))
    heads = tuple(frame.head for frame in frames)
    return Space(family.name, tuple(decisions), (*units, Unit("head", ("resolution",), heads)))


def _layer(family: Smash, frames: Sequence[BankFrame], block: int, layer: int) -> tuple[list[Decision], list[Unit]]:
    """The decisions about a layer, and its units: what it reads, how it convolves, what it writes."""
    name, depth = f"block{block + 1}.layer{layer + 1}", f"block{block + 1}.depth"
    deep = tuple(range(layer + 1, family.layers[block] + 1))
    when = () if layer == 0 else ((Condition(depth, deep),),)
    reads = tuple("+".join(map(str, banks)) for banks in _subsets(frames[0].readable(layer)))
    writes = tuple(
        sign.join(map(str, banks)) for banks in _subsets(frames[0].writable(layer)) for sign in ("+", "=")[: len(banks)]
    )
    every: dict[str, tuple[Option, ...]] = {
        "reads": reads,
        "writes": writes,
        "window": family.windows,
        "groups": family.groups,
        "pattern": family.patterns,
    }
    decisions = [Decision(f"{name}.{chosen}", every[chosen], when) for chosen in CHOSEN]

    def unit(part: str, chosen: Sequence[str], found: Sequence[Block | None]) -> Unit:
        """Absent where the block is not so deep."""
        size = len(found) // len(frames)
        blocks: list[Block | None] = []
        for start in range(0, len(found), size):
            blocks += [None] * size * layer
            blocks += list(found[start : start + size]) * (family.layers[block] - layer)
        return Unit(f"{name}.{part}", ("resolution", depth, *(f"{name}.{label}" for label in chosen)), tuple(blocks))

    first = {chosen: options[0] for chosen, options in every.items()}
    units = [
        unit("join", ("reads",), [frame.joined(block, len(_banks(text))) for frame in frames for text in reads]),
        unit(
            "read",
            ("reads", "writes"),
            [
                frame.read(block, len(_banks(text)), read_writes(written)[1])
                for frame in frames
                for text in reads
                for written in writes
            ],
        ),
        unit(
            "convolutions",
            ("writes", "window", "groups", "pattern"),
            [
                frame.convolutions(block, _plan(first | dict(zip(CHOSEN[1:], chosen, strict=True))))
                for frame in frames
                for chosen in itertools.product(writes, family.windows, family.groups, family.patterns)
            ],
        ),
    ]
    for bank in range(frames[0].writable(layer)):
        added = [frame.addition(block) if bank in read_writes(text)[0] else None for frame in frames for text in writes]
        units.append(unit(f"write{bank}", ("writes",), added))
    return decisions, units
