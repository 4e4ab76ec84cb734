"""An elastic chain of MobileNetV3 blocks for small images: kernel, expansion, depth and resolution are searched.

Source: Howard et al. 2019 (arXiv 1905.02244) for the blocks, Cai et al. 2020 (arXiv 1908.09791) for what is elastic.
Widths are fixed per stage, so every place in the network depends on at most four decisions and its cost is exact.
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
    Stem,
    activation,
    build_block,
    build_network,
    describe_head,
    describe_mbconv,
    describe_stem,
)
from hwnas.nn.elastic import ElasticMBConv
from hwnas.nn.gates import Gate, Gates
from hwnas.nn.supernet import Section, through
from hwnas.space import Block, Condition, Decision, Space, Unit


@dataclass(frozen=True)
class MobileNetV3:
    """The family: everything that fixes a space. One list entry per stage where a field is a list.

    Attributes:
        name: Of the space; part of the latency table's file name.
        channels: Of the images, 1 or 3; comes from the data.
        classes: Comes from the data.
        resolutions: Sides of the square input, searched.
        kernels: Sides of the depthwise kernels, odd, searched per block.
        expansions: Hidden channels per incoming channel, searched per block.
        depths: Blocks in a stage, searched per stage.
        stem_width: Channels after the first convolution.
        stem_stride: Its stride.
        widths: Channels of each stage.
        strides: Of each stage's first block.
        se: Whether a stage's blocks squeeze and excite.
        activations: "relu" or "hswish" per stage.
        head_width: Channels before the classifier.

    Raises:
        SpaceError: If a value is impossible; names the field and the value.

    Example:
        >>> family = MobileNetV3()
        >>> f"{family.space.size:.1e}", len(family.space.decisions)
        ('1.2e+12', 28)
    """

    name: str = "mobilenet_v3"
    channels: int = 1
    classes: int = 10
    resolutions: tuple[int, ...] = (20, 24, 28)
    kernels: tuple[int, ...] = (3, 5, 7)
    expansions: tuple[int, ...] = (3, 4, 6)
    depths: tuple[int, ...] = (2, 3, 4)
    stem_width: int = 16
    stem_stride: int = 2
    widths: tuple[int, ...] = (16, 32, 64)
    strides: tuple[int, ...] = (1, 2, 2)
    se: tuple[bool, ...] = (False, True, True)
    activations: tuple[str, ...] = ("relu", "relu", "hswish")
    head_width: int = 192

    def __post_init__(self) -> None:
        for field in ("resolutions", "kernels", "expansions", "depths"):
            values = getattr(self, field)
            if not values or list(values) != sorted(set(values)) or values[0] < 1:
                raise SpaceError(f"{field} is {list(values)}; expected ascending numbers above 0, each once")
        for kernel in self.kernels:
            if kernel % 2 == 0:
                raise SpaceError(f"kernels holds {kernel}; kernels are odd, so that images keep their centre")
        for field in ("channels", "classes", "stem_width", "stem_stride", "head_width"):
            if getattr(self, field) < 1:
                raise SpaceError(f"{field} is {getattr(self, field)}; it must be above 0")
        for field in ("strides", "se", "activations"):
            if len(getattr(self, field)) != len(self.widths):
                raise SpaceError(
                    f"{field} has {len(getattr(self, field))} entries, widths has {len(self.widths)}; "
                    "expected one per stage"
                )
        if not self.widths or min(self.widths) < 1 or min(self.strides) < 1:
            raise SpaceError(f"widths {list(self.widths)} and strides {list(self.strides)} must be above 0")
        for name in self.activations:
            activation(name)

    def squeeze(self, stage: int) -> int:
        """Channels inside squeeze-and-excite: the stage's width, whatever the expansion, so that weights are shared."""
        return self.widths[stage] if self.se[stage] else 0

    def c_in(self, stage: int, block: int) -> int:
        """Channels that enter a block."""
        if block:
            return self.widths[stage]
        return self.widths[stage - 1] if stage else self.stem_width

    @cached_property
    def space(self) -> Space:
        """The decisions, and the blocks they choose."""
        decisions = [Decision("resolution", self.resolutions)]
        for stage in range(len(self.widths)):
            decisions.append(Decision(f"stage{stage + 1}.depth", self.depths))
            for block in range(max(self.depths)):
                where = f"stage{stage + 1}.block{block + 1}"
                deep = tuple(depth for depth in self.depths if depth > block)
                active_if = ((Condition(f"stage{stage + 1}.depth", deep),),) if len(deep) < len(self.depths) else ()
                decisions.append(Decision(f"{where}.kernel", self.kernels, active_if))
                decisions.append(Decision(f"{where}.expansion", self.expansions, active_if))
        return Space(self.name, tuple(decisions), tuple(self._units()))

    def _units(self) -> list[Unit]:
        first = self.activations[0]
        stems = tuple(
            describe_stem(self.channels, self.stem_width, r, kernel=3, stride=self.stem_stride, activation_name=first)
            for r in self.resolutions
        )
        units = [Unit("stem", ("resolution",), stems)]
        sizes = [-(-resolution // self.stem_stride) for resolution in self.resolutions]
        for stage, stride in enumerate(self.strides):
            for block in range(max(self.depths)):
                units.append(self._unit(stage, block, sizes))
                if block == 0:
                    sizes = [-(-size // stride) for size in sizes]
        heads = tuple(
            describe_head(self.widths[-1], self.head_width, self.classes, size, activation_name=self.activations[-1])
            for size in sizes
        )
        return [*units, Unit("head", ("resolution",), heads)]

    def _unit(self, stage: int, block: int, sizes: Sequence[int]) -> Unit:
        where = f"stage{stage + 1}.block{block + 1}"
        labels = ["resolution", f"{where}.kernel", f"{where}.expansion"]
        depths: tuple[int, ...] = (max(self.depths),)
        if block >= min(self.depths):
            labels.insert(1, f"stage{stage + 1}.depth")
            depths = self.depths
        c_in = self.c_in(stage, block)
        blocks: list[Block | None] = [
            describe_mbconv(
                c_in,
                self.widths[stage],
                size,
                hidden=c_in * expansion,
                kernel=kernel,
                stride=self.strides[stage] if block == 0 else 1,
                activation_name=self.activations[stage],
                squeeze=self.squeeze(stage),
            )
            if depth > block
            else None
            for size, depth, kernel, expansion in itertools.product(sizes, depths, self.kernels, self.expansions)
        ]
        return Unit(where, tuple(labels), tuple(blocks))

    @property
    def has_supernet(self) -> bool:
        """Whether all networks can be trained in one set of weights."""
        return True

    def default(self) -> Architecture:
        """The network one would take without a search: MobileNetV3-Small's pattern on this chain.

        Small kernels in the first stage, the middle one after it; the middle expansion; depths rising along the
        chain; the largest resolution.

        Example:
            >>> MobileNetV3().default()["stage1.depth"], MobileNetV3().default()["stage3.block1.kernel"]
            (2, 5)
        """
        options: dict[str, int] = {"resolution": self.resolutions[-1]}
        middle = self.expansions[len(self.expansions) // 2]
        for stage in range(len(self.widths)):
            options[f"stage{stage + 1}.depth"] = self.depths[min(stage, len(self.depths) // 2)]
            for block in range(max(self.depths)):
                kernel = self.kernels[0] if stage == 0 else self.kernels[min(1, len(self.kernels) - 1)]
                options[f"stage{stage + 1}.block{block + 1}.kernel"] = kernel
                options[f"stage{stage + 1}.block{block + 1}.expansion"] = middle
        return self.space.canonical(options)

    def build_block(self, block: Block) -> nn.Module:
        """The plain module of an entry of the latency table, with fresh random weights."""
        return build_block(block)

    def build_network(self, architecture: Architecture) -> nn.Module:
        """The plain network of an architecture, with fresh random weights.

        Raises:
            SpaceError: If the architecture is not one of the space.
        """
        return build_network(self.space, architecture)

    def supernet(self) -> MobileNetV3Supernet:
        """All networks in one set of weights, freshly initialised from torch's global generator."""
        return MobileNetV3Supernet(self)


class MobileNetV3Supernet(nn.Module):
    """The weights of a `MobileNetV3` family.

    The resolution is hard: the images must come in the size the gates ask for. Depth, kernel and expansion may be soft.
    """

    def __init__(self, family: MobileNetV3) -> None:
        super().__init__()
        self.family = family
        first, last = family.activations[0], family.activations[-1]
        self.stem = Stem(family.channels, family.stem_width, kernel=3, stride=family.stem_stride, activation_name=first)
        self.stages = nn.ModuleList(
            nn.ModuleList(
                ElasticMBConv(
                    family.c_in(stage, block),
                    width,
                    kernels=family.kernels,
                    expansions=family.expansions,
                    stride=family.strides[stage] if block == 0 else 1,
                    activation_name=family.activations[stage],
                    squeeze=family.squeeze(stage),
                )
                for block in range(max(family.depths))
            )
            for stage, width in enumerate(family.widths)
        )
        self.head = Head(family.widths[-1], family.head_width, family.classes, activation_name=last)

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
        y: Tensor = self.stem(x)
        for stage in range(len(self.stages)):
            y = self._soft_stage(stage, y, gates)
        return cast(Tensor, self.head(y))

    def sections(self, architecture: Architecture) -> list[Section]:
        """Stem, stages, head; see `hwnas.nn.Sectioned`."""
        stages = (partial(self._hard_stage, stage, architecture=architecture) for stage in range(len(self.stages)))
        return [self.stem, *stages, self.head]

    def _blocks(self, stage: int) -> list[ElasticMBConv]:
        return cast(list[ElasticMBConv], list(cast(nn.ModuleList, self.stages[stage])))

    def _hard_resolution(self, gate: Gate) -> int:
        if len(gate.support) > 1:
            raise SpaceError(
                f"the gate of 'resolution' supports {len(gate.support)} options; a batch has one size, so exactly one"
            )
        return self.family.resolutions[gate.support[0]]

    def _hard_stage(self, stage: int, x: Tensor, architecture: Architecture) -> Tensor:
        for block, kernel, expansion in _choices(stage, self._blocks(stage), architecture):
            x = block(x, kernel=kernel, expansion=expansion)
        return x

    def _soft_stage(self, stage: int, x: Tensor, gates: Mapping[str, Gate]) -> Tensor:
        name = f"stage{stage + 1}"
        depth = gates[f"{name}.depth"]
        ends = {self.family.depths[code]: depth.weight(code) for code in depth.support}
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
        stem, *_, head = (build_block(block) for block in self.space.blocks_of(architecture))
        stem.load_state_dict(self.stem.state_dict())
        head.load_state_dict(self.head.state_dict())
        cuts = [
            block.cut(kernel=kernel, expansion=expansion)
            for stage in range(len(self.stages))
            for block, kernel, expansion in _choices(stage, self._blocks(stage), architecture)
        ]
        return nn.Sequential(stem, *cuts, head).train(self.training)


def _choices(
    stage: int, blocks: Sequence[ElasticMBConv], architecture: Architecture
) -> Iterator[tuple[ElasticMBConv, int, int]]:
    """The blocks of a stage that an architecture keeps, with the kernel and the expansion of each."""
    name = f"stage{stage + 1}"
    for n, block in enumerate(blocks[: int(architecture[f"{name}.depth"])], start=1):
        yield (
            block,
            int(architecture[f"{name}.block{n}.kernel"]),
            int(architecture[f"{name}.block{n}.expansion"]),
        )
