"""Once-for-all spaces: elastic chains of inverted bottlenecks of which the authors published trained weights.

Source: Cai et al. 2020 (arXiv 1908.09791). Three forms were published: MobileNetV3 of width 1.0 and 1.2, and the
ProxylessNAS chain of width 1.3; `FAMILIES` has the first, `OFA_PROXYLESS` is the last. Unlike `MobileNetV3`, kernels
are transformed when they shrink, squeeze-and-excite narrows with its block, and the head has one more layer, so that
the authors' checkpoints load (`load_ofa_state`) and give their numbers.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import cast

import torch
from torch import Tensor, nn

from hwnas.core import Architecture, SpaceError
from hwnas.nn.blocks import (
    Head,
    MixingHead,
    Separable,
    Stem,
    activation,
    build_block,
    build_network,
    describe_head,
    describe_mbconv,
    describe_mixing_head,
    describe_separable,
    describe_stem,
)
from hwnas.nn.build_around import cut_like
from hwnas.nn.elastic_ofa import OfaMBConv
from hwnas.nn.gates import Gate, Gates
from hwnas.nn.supernet import Section, through
from hwnas.space import Block, Condition, Decision, Space, Unit
from hwnas.zoo.channels import divisible

Row = Sequence[object]
"""A block as the authors publish it: [in, out, kernel, stride, expansion, hidden or null, se, activation]."""

ACTIVATIONS: Mapping[str, str] = {"h_swish": "hswish"}
"""Their names where ours differ."""


@dataclass(frozen=True)
class Stage:
    """Blocks of one width; the first changes the size.

    Attributes:
        width: Channels.
        stride: Of the first block.
        se: Whether the blocks squeeze and excite.
        activation: "relu", "relu6" or "hswish".
        depths: How many blocks there may be, ascending.
    """

    width: int
    stride: int
    se: bool
    activation: str
    depths: tuple[int, ...]


@dataclass(frozen=True)
class OfaMobileNetV3:
    """The family: everything that fixes a space. One list entry per stage where a field is a list.

    All widths are those before the multiplier, which rounds to multiples of 8.

    Attributes:
        name: Of the space; part of the latency table's file name.
        channels: Of the images, 1 or 3; comes from the data.
        classes: Comes from the data.
        resolutions: Sides of the square input, searched. The published weights were trained for 128 to 224 in steps
            of 4; four of those are enough to search with, and each one is a row more in the latency table per block.
        kernels: Sides of the depthwise kernels, odd, searched per block.
        expansions: Hidden channels per incoming channel, searched per block.
        depths: Blocks in a stage, searched per stage.
        width: Multiplier of all channels.
        stem_width: Channels after the first convolution.
        stem_stride: Its stride: 2 for ImageNet, 1 for images of 32 pixels.
        stem_activation: "relu", "relu6" or "hswish", of the stem and the head.
        first_width: Channels after the fixed first block.
        widths: Channels of each stage.
        strides: Of each stage's first block.
        se: Whether a stage's blocks squeeze and excite.
        activations: "relu", "relu6" or "hswish" per stage; the first also of the fixed first block.
        tail_width: Channels of a single elastic block after the stages, which is like the last of them; 0 for none.
        head_width: Channels before the mean over the image.
        mix_width: Features after it; 0 for a head without this layer.

    Raises:
        SpaceError: If a value is impossible; names the field and the value.

    Example:
        >>> family = OfaMobileNetV3()
        >>> f"{family.space.size / len(family.resolutions):.1e}", len(family.space.decisions)
        ('2.2e+19', 46)
    """

    name: str = "ofa_mobilenet_v3"
    channels: int = 3
    classes: int = 1000
    resolutions: tuple[int, ...] = (128, 160, 192, 224)
    kernels: tuple[int, ...] = (3, 5, 7)
    expansions: tuple[int, ...] = (3, 4, 6)
    depths: tuple[int, ...] = (2, 3, 4)
    width: float = 1.0
    stem_width: int = 16
    stem_stride: int = 2
    stem_activation: str = "hswish"
    first_width: int = 16
    widths: tuple[int, ...] = (24, 40, 80, 112, 160)
    strides: tuple[int, ...] = (2, 2, 2, 1, 2)
    se: tuple[bool, ...] = (False, True, False, True, True)
    activations: tuple[str, ...] = ("relu", "relu", "hswish", "hswish", "hswish")
    tail_width: int = 0
    head_width: int = 960
    mix_width: int = 1280

    def __post_init__(self) -> None:
        for field in ("resolutions", "kernels", "expansions", "depths"):
            values = getattr(self, field)
            if not values or list(values) != sorted(set(values)) or values[0] < 1:
                raise SpaceError(f"{field} is {list(values)}; expected ascending numbers above 0, each once")
        for kernel in self.kernels:
            if kernel % 2 == 0:
                raise SpaceError(f"kernels holds {kernel}; kernels are odd, so that images keep their centre")
        for field in ("channels", "classes", "width", "stem_width", "stem_stride", "first_width", "head_width"):
            if getattr(self, field) <= 0:
                raise SpaceError(f"{field} is {getattr(self, field)}; it must be above 0")
        for field in ("tail_width", "mix_width"):
            if getattr(self, field) < 0:
                raise SpaceError(f"{field} is {getattr(self, field)}; it must be above 0, or 0 for none")
        for field in ("strides", "se", "activations"):
            if len(getattr(self, field)) != len(self.widths):
                raise SpaceError(
                    f"{field} has {len(getattr(self, field))} entries, widths has {len(self.widths)}; "
                    "expected one per stage"
                )
        if not self.widths or min(self.widths) < 1 or min(self.strides) < 1:
            raise SpaceError(f"widths {list(self.widths)} and strides {list(self.strides)} must be above 0")
        for name in (self.stem_activation, *self.activations):
            activation(name)

    # ------------------------------------------------------------------------------------------------------- widths

    def scaled(self, width: int) -> int:
        """A width times the multiplier, as a multiple of 8.

        Example:
            >>> OfaMobileNetV3(width=1.2).scaled(16)
            24
        """
        return divisible(width * self.width)

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The elastic blocks by stage, widths multiplied, the tail last."""
        rows = zip(self.widths, self.strides, self.se, self.activations, strict=True)
        stages = [Stage(self.scaled(width), stride, se, act, self.depths) for width, stride, se, act in rows]
        if self.tail_width:
            stages.append(Stage(self.scaled(self.tail_width), 1, self.se[-1], self.activations[-1], (1,)))
        return tuple(stages)

    def c_in(self, stage: int, block: int) -> int:
        """Channels that enter a block."""
        if block:
            return self.stages[stage].width
        return self.stages[stage - 1].width if stage else self.scaled(self.first_width)

    def hidden(self, stage: int, block: int) -> tuple[int, ...]:
        """Hidden channels of a block, one entry per expansion."""
        return tuple(divisible(self.c_in(stage, block) * expansion) for expansion in self.expansions)

    def squeeze(self, stage: int, block: int) -> tuple[int, ...]:
        """Channels inside squeeze-and-excite, one entry per expansion; empty for none."""
        if not self.stages[stage].se:
            return ()
        return tuple(divisible(hidden // 4) for hidden in self.hidden(stage, block))

    # ------------------------------------------------------------------------------------------------------- the space

    @cached_property
    def space(self) -> Space:
        """The decisions, and the blocks they choose."""
        decisions = [Decision("resolution", self.resolutions)]
        for n, stage in enumerate(self.stages, start=1):
            if len(stage.depths) > 1:
                decisions.append(Decision(f"stage{n}.depth", stage.depths))
            for block in range(max(stage.depths)):
                deep = tuple(depth for depth in stage.depths if depth > block)
                active_if = ((Condition(f"stage{n}.depth", deep),),) if len(deep) < len(stage.depths) else ()
                decisions.append(Decision(f"stage{n}.block{block + 1}.kernel", self.kernels, active_if))
                decisions.append(Decision(f"stage{n}.block{block + 1}.expansion", self.expansions, active_if))
        return Space(self.name, tuple(decisions), tuple(self._units()))

    def _units(self) -> list[Unit]:
        stem, first = self.scaled(self.stem_width), self.scaled(self.first_width)
        sizes = [-(-resolution // self.stem_stride) for resolution in self.resolutions]
        stems = tuple(
            describe_stem(
                self.channels, stem, r, kernel=3, stride=self.stem_stride, activation_name=self.stem_activation
            )
            for r in self.resolutions
        )
        firsts = tuple(
            describe_separable(stem, first, size, kernel=3, stride=1, activation_name=self.activations[0])
            for size in sizes
        )
        units = [Unit("stem", ("resolution",), stems), Unit("first", ("resolution",), firsts)]
        for number, stage in enumerate(self.stages):
            for block in range(max(stage.depths)):
                units.append(self._unit(number, block, sizes))
                if block == 0:
                    sizes = [-(-size // stage.stride) for size in sizes]
        return [*units, Unit("head", ("resolution",), tuple(self._head(size) for size in sizes))]

    def _unit(self, number: int, block: int, sizes: Sequence[int]) -> Unit:
        stage, where = self.stages[number], f"stage{number + 1}.block{block + 1}"
        labels = ["resolution", f"{where}.kernel", f"{where}.expansion"]
        depths: tuple[int, ...] = (max(stage.depths),)
        if block >= min(stage.depths):
            labels.insert(1, f"stage{number + 1}.depth")
            depths = stage.depths
        hidden = self.hidden(number, block)
        squeeze = self.squeeze(number, block) or (0,) * len(hidden)
        made = {
            (size, kernel, inside): describe_mbconv(
                self.c_in(number, block),
                stage.width,
                size,
                hidden=inside[0],
                kernel=kernel,
                stride=stage.stride if block == 0 else 1,
                activation_name=stage.activation,
                squeeze=inside[1],
            )
            for size, kernel, inside in itertools.product(sizes, self.kernels, zip(hidden, squeeze, strict=True))
        }
        blocks: list[Block | None] = [
            made[size, kernel, inside] if depth > block else None
            for size, depth, kernel, inside in itertools.product(
                sizes, depths, self.kernels, tuple(zip(hidden, squeeze, strict=True))
            )
        ]
        return Unit(where, tuple(labels), tuple(blocks))

    def _head(self, size: int) -> Block:
        c_in, width, act = self.stages[-1].width, self.scaled(self.head_width), self.stem_activation
        if not self.mix_width:
            return describe_head(c_in, width, self.classes, size, activation_name=act)
        return describe_mixing_head(c_in, width, self.scaled(self.mix_width), self.classes, size, activation_name=act)

    def build_block(self, block: Block) -> nn.Module:
        """The plain module of an entry of the latency table, with fresh random weights."""
        return build_block(block)

    def build_network(self, architecture: Architecture) -> nn.Module:
        """The plain network of an architecture, with fresh random weights.

        Raises:
            SpaceError: If the architecture is not one of the space.
        """
        return build_network(self.space, architecture)

    @property
    def has_supernet(self) -> bool:
        """Whether all networks can be trained in one set of weights."""
        return True

    def supernet(self) -> OfaMobileNetV3Supernet:
        """All networks in one set of weights, freshly initialised from torch's global generator."""
        return OfaMobileNetV3Supernet(self)

    # ---------------------------------------------------------------------------------------------------- its networks

    def default(self) -> Architecture:
        """The network one would take without a search: MobileNetV3-Large's pattern.

        The smallest kernel where a stage does not squeeze and excite, the middle one where it does; the middle
        expansion and depth; the largest resolution.

        Example:
            >>> OfaMobileNetV3().default()["stage1.depth"], OfaMobileNetV3().default()["stage2.block1.kernel"]
            (3, 5)
        """
        options: dict[str, int] = {"resolution": self.resolutions[-1]}
        for n, stage in enumerate(self.stages, start=1):
            if len(stage.depths) > 1:
                options[f"stage{n}.depth"] = stage.depths[len(stage.depths) // 2]
            for block in range(max(stage.depths)):
                kernel = self.kernels[len(self.kernels) // 2 if stage.se else 0]
                options[f"stage{n}.block{block + 1}.kernel"] = kernel
                options[f"stage{n}.block{block + 1}.expansion"] = self.expansions[len(self.expansions) // 2]
        return self.space.canonical(options)

    def architecture(
        self, kernels: Sequence[int], expansions: Sequence[int], depths: Sequence[int], *, resolution: int | None = None
    ) -> Architecture:
        """The architecture of the lists that the authors' `set_active_subnet` takes.

        Args:
            kernels: One per place, each stage at its largest depth; those of absent blocks are ignored.
            expansions: Likewise.
            depths: One per stage; the tail's may be left out.
            resolution: The largest unless given.

        Raises:
            SpaceError: If a list has the wrong length, or a value is not one of the space.

        Example:
            >>> OfaMobileNetV3().architecture([3] * 20, [6] * 20, [2] * 5)["stage5.block2.expansion"]
            6
        """
        places = [(n, block) for n, stage in enumerate(self.stages, start=1) for block in range(max(stage.depths))]
        for name, values in (("kernels", kernels), ("expansions", expansions)):
            if len(values) != len(places):
                raise SpaceError(f"space {self.name}: {len(values)} {name}; expected {len(places)}, one per place")
        elastic = [n for n, stage in enumerate(self.stages, start=1) if len(stage.depths) > 1]
        if len(depths) not in {len(elastic), len(self.stages)}:
            raise SpaceError(f"space {self.name}: {len(depths)} depths; expected {len(elastic)}, one per stage")
        options: dict[str, int] = {"resolution": resolution or self.resolutions[-1]}
        for n, depth in zip(elastic, depths, strict=False):
            options[f"stage{n}.depth"] = depth
        for (n, block), kernel, expansion in zip(places, kernels, expansions, strict=True):
            options[f"stage{n}.block{block + 1}.kernel"] = kernel
            options[f"stage{n}.block{block + 1}.expansion"] = expansion
        return self.space.canonical(options)

    def architecture_of_rows(self, rows: Sequence[Row], *, resolution: int | None = None) -> Architecture:
        """The architecture of a network that the authors published as rows, the fixed first block being the first.

        Args:
            rows: As `Row` says.
            resolution: The largest unless given.

        Raises:
            SpaceError: If the network is not one of the space; names the row.
        """
        stages, options = self.stages, {"resolution": resolution or self.resolutions[-1]}
        depths = [0] * len(stages)
        stage = -1
        for n, row in enumerate(rows[1:], start=2):
            if row[0] != row[1] or stage < 0:
                stage += 1
            if stage >= len(stages):
                raise SpaceError(
                    f"space {self.name}: row {n} {list(row)} is of stage {stage + 1}; it has {len(stages)}"
                )
            where = f"stage{stage + 1}.block{depths[stage] + 1}"
            expected = (
                self.c_in(stage, depths[stage]),
                stages[stage].width,
                stages[stage].se,
                stages[stage].activation,
            )
            found = (row[0], row[1], row[6], ACTIVATIONS.get(str(row[7]), row[7]))
            if found != expected:
                raise SpaceError(f"space {self.name}: row {n} {list(row)} does not fit {where}, which is {expected}")
            options[f"{where}.kernel"] = int(str(row[2]))
            options[f"{where}.expansion"] = int(str(row[4]))
            depths[stage] += 1
        for n, (known, depth) in enumerate(zip(stages, depths, strict=True), start=1):
            if depth not in known.depths:
                raise SpaceError(f"space {self.name}: {depth} blocks in stage {n}; known: {list(known.depths)}")
            if len(known.depths) > 1:
                options[f"stage{n}.depth"] = depth
        return self.space.canonical(options)


OFA_PROXYLESS = OfaMobileNetV3(
    "ofa_proxyless",
    width=1.3,
    stem_width=32,
    stem_activation="relu6",
    widths=(24, 40, 80, 96, 192),
    se=(False,) * 5,
    activations=("relu6",) * 5,
    tail_width=320,
    head_width=1280,
    mix_width=0,
)
"""The once-for-all form of the ProxylessNAS chain, in which the networks for GPUs were published."""


class OfaMobileNetV3Supernet(nn.Module):
    """The weights of an `OfaMobileNetV3` family.

    The resolution is hard: the images must come in the size the gates ask for. Depth, kernel and expansion may be soft.
    The authors drop a tenth of the features before the classifier in training; here that is left to the trainer.
    """

    def __init__(self, family: OfaMobileNetV3) -> None:
        super().__init__()
        self.family = family
        stem, first, act = family.scaled(family.stem_width), family.scaled(family.first_width), family.stem_activation
        self.stem = Stem(family.channels, stem, kernel=3, stride=family.stem_stride, activation_name=act)
        self.first = Separable(stem, first, kernel=3, stride=1, activation_name=family.activations[0])
        self.stages = nn.ModuleList(
            nn.ModuleList(
                OfaMBConv(
                    family.c_in(number, block),
                    stage.width,
                    kernels=family.kernels,
                    hidden=family.hidden(number, block),
                    squeeze=family.squeeze(number, block),
                    stride=stage.stride if block == 0 else 1,
                    activation_name=stage.activation,
                )
                for block in range(max(stage.depths))
            )
            for number, stage in enumerate(family.stages)
        )
        c_in, width = family.stages[-1].width, family.scaled(family.head_width)
        self.head: Head | MixingHead
        if family.mix_width:
            mix = family.scaled(family.mix_width)
            self.head = MixingHead(c_in, width, mix, family.classes, activation_name=act)
        else:
            self.head = Head(c_in, width, family.classes, activation_name=act)
        entries = family.space.blocks_of(family.default())
        self._ends = entries[0], entries[1], entries[-1]  # the same modules at every resolution

    @property
    def space(self) -> Space:
        """The decisions that the gates answer."""
        return self.family.space

    def forward(self, x: Tensor, gates: Gates) -> Tensor:
        """Logits [n, classes] of images [n, c, side, side].

        Raises:
            SpaceError: If the images are not of the size that the gates ask for, or the resolution is soft.
        """
        if isinstance(gates, Architecture):
            side = int(gates["resolution"])
        else:
            side = self._hard_resolution(gates["resolution"])
        if x.shape[-1] != side or x.shape[-2] != side:
            raise SpaceError(f"images of {tuple(x.shape[-2:])} for a network of resolution {side}; resize them first")
        if isinstance(gates, Architecture):
            return through(self.sections(gates), x)
        y = self._begin(x)
        for stage in range(len(self.stages)):
            y = self._soft_stage(stage, y, gates)
        return cast(Tensor, self.head(y))

    def sections(self, architecture: Architecture) -> list[Section]:
        """Stem with the first block, stages, head; see `hwnas.nn.Sectioned`."""
        stages = (partial(self._hard_stage, stage, architecture=architecture) for stage in range(len(self.stages)))
        return [self._begin, *stages, self.head]

    def _begin(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.first(self.stem(x)))

    def _hard_stage(self, stage: int, x: Tensor, architecture: Architecture) -> Tensor:
        for block, kernel, expansion in self._choices(stage, architecture):
            x = block(x, kernel=kernel, expansion=expansion)
        return x

    def _blocks(self, stage: int) -> list[OfaMBConv]:
        return cast(list[OfaMBConv], list(cast(nn.ModuleList, self.stages[stage])))

    def _hard_resolution(self, gate: Gate) -> int:
        if len(gate.support) > 1:
            raise SpaceError(
                f"the gate of 'resolution' supports {len(gate.support)} options; a batch has one size, so exactly one"
            )
        return self.family.resolutions[gate.support[0]]

    def _choices(self, stage: int, architecture: Architecture) -> Iterator[tuple[OfaMBConv, int, int]]:
        """The blocks of a stage that an architecture keeps, with the kernel and the expansion's code of each."""
        name, blocks = f"stage{stage + 1}", self._blocks(stage)
        depth = int(architecture[f"{name}.depth"]) if len(self.family.stages[stage].depths) > 1 else len(blocks)
        for n, block in enumerate(blocks[:depth], start=1):
            expansion = self.family.expansions.index(int(architecture[f"{name}.block{n}.expansion"]))
            yield block, int(architecture[f"{name}.block{n}.kernel"]), expansion

    def _soft_stage(self, stage: int, x: Tensor, gates: Mapping[str, Gate]) -> Tensor:
        name, depths = f"stage{stage + 1}", self.family.stages[stage].depths
        ends = {depths[0]: torch.ones(())}
        if len(depths) > 1:
            depth = gates[f"{name}.depth"]
            ends = {depths[code]: depth.weight(code) for code in depth.support}
        mixed = torch.zeros(())
        for n, block in enumerate(self._blocks(stage)[: max(ends)], start=1):
            x = block.soft(x, kernel=gates[f"{name}.block{n}.kernel"], expansion=gates[f"{name}.block{n}.expansion"])
            if n in ends:
                mixed = mixed + ends[n] * x
        return mixed

    def extract(self, architecture: Architecture) -> nn.Sequential:
        """The plain network of one architecture: stem, blocks, head, each with its own cut of the weights.

        Raises:
            SpaceError: If the architecture is not one of the space.
        """
        self.space.encode([architecture])  # which names what does not fit
        stem, first, head = self._ends
        parts: list[nn.Module] = [
            cut_like(stem, self.stem),
            cut_like(first, self.first),
            *(
                block.cut(kernel=kernel, expansion=expansion)
                for stage in range(len(self.stages))
                for block, kernel, expansion in self._choices(stage, architecture)
            ),
            cut_like(head, self.head),
        ]
        network = nn.Sequential(*parts)
        network.training = self.training
        return network
