"""The once-for-all space of ResNet50-D: channels of every stage and block, blocks of every stage, the stem.

Source: Cai et al. 2020 (arXiv 1908.09791) and github.com/mit-han-lab/once-for-all, "ofa_resnet50". Their checkpoints
load by their own names: `hwnas.zoo.ofa_checkpoint.load_ofa_state`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import cast

from torch import Tensor, nn

from hwnas.core import Architecture, SpaceError
from hwnas.nn.blocks import build_block, build_network, describe_stem
from hwnas.nn.bottleneck import (
    describe_bottleneck,
    describe_pool_head,
    describe_pooling_stem,
    describe_residual_conv,
)
from hwnas.nn.elastic_bottleneck import Channels, ElasticBottleneck, ElasticPoolHead, ElasticStem
from hwnas.nn.gates import Gate, Gates
from hwnas.space import Block, Condition, Decision, Space, Unit
from hwnas.zoo.channels import divisible


@dataclass(frozen=True)
class OfaResNet50D:
    """The family: everything that fixes a space. One list entry per stage where a field is a list.

    Attributes:
        name: Of the space; part of the latency table's file name.
        channels: Of the images, 1 or 3; comes from the data.
        classes: Comes from the data.
        resolutions: Sides of the square input, searched.
        multipliers: Of the widths, searched for each stage and twice in the stem. Widths are rounded to multiples of
            8, so that two may be the same network, as two are within the published stem.
        expansions: Channels inside a block per outgoing channel, searched per block.
        depths: Blocks more than `base_depths`, searched per stage.
        base_depths: Fewest blocks of each stage.
        stem_width: Channels after the stem; half as many within.
        stem_stride: Of the first convolution; a pooling halves the size again.
        widths: Channels of each stage.
        strides: Of each stage's first block.

    Raises:
        SpaceError: If a value is impossible; names the field and the value.

    Example:
        >>> family = OfaResNet50D()
        >>> f"{family.space.size:.1e}", len(family.space.decisions)
        ('9.8e+12', 30)
    """

    name: str = "ofa_resnet50_d"
    channels: int = 3
    classes: int = 1000
    resolutions: tuple[int, ...] = (128, 160, 192, 224)
    multipliers: tuple[float, ...] = (0.65, 0.8, 1.0)
    expansions: tuple[float, ...] = (0.2, 0.25, 0.35)
    depths: tuple[int, ...] = (0, 1, 2)
    base_depths: tuple[int, ...] = (2, 2, 4, 2)
    stem_width: int = 64
    stem_stride: int = 2
    widths: tuple[int, ...] = (256, 512, 1024, 2048)
    strides: tuple[int, ...] = (1, 2, 2, 2)

    def __post_init__(self) -> None:
        for field in ("resolutions", "multipliers", "expansions"):
            values = getattr(self, field)
            if not values or list(values) != sorted(set(values)) or values[0] <= 0:
                raise SpaceError(f"{field} is {list(values)}; expected ascending numbers above 0, each once")
        if not self.depths or list(self.depths) != sorted(set(self.depths)) or self.depths[0] < 0:
            raise SpaceError(f"depths is {list(self.depths)}; expected ascending numbers from 0, each once")
        for field in ("channels", "classes", "stem_width", "stem_stride"):
            if getattr(self, field) < 1:
                raise SpaceError(f"{field} is {getattr(self, field)}; it must be above 0")
        for field in ("base_depths", "strides"):
            if len(getattr(self, field)) != len(self.widths):
                raise SpaceError(
                    f"{field} has {len(getattr(self, field))} entries, widths has {len(self.widths)}; "
                    "expected one per stage"
                )
        if not self.widths or min(*self.widths, *self.base_depths, *self.strides) < 1:
            raise SpaceError(
                f"widths {list(self.widths)}, base_depths {list(self.base_depths)} and strides {list(self.strides)} "
                "must be above 0, for at least one stage"
            )
        for stage, stride in enumerate(self.strides):
            same = set(self.stage_channels(stage)) & set(self.stage_channels(stage - 1))
            if stride == 1 and same:
                raise SpaceError(
                    f"stage {stage + 1} and what comes before it may both have {min(same)} channels; with stride 1 "
                    "they must differ, as the shortcut convolves"
                )

    # ------------------------------------------------------------------------------------------------------- channels

    @property
    def stem_widths(self) -> tuple[int, ...]:
        """Channels after the stem, one entry per multiplier."""
        return tuple(divisible(self.stem_width * multiplier) for multiplier in self.multipliers)

    @property
    def stem_middles(self) -> tuple[int, ...]:
        """Channels within the stem, one entry per multiplier."""
        return tuple(divisible(width // 2) for width in self.stem_widths)

    def stage_channels(self, stage: int) -> tuple[int, ...]:
        """Channels of a stage, one entry per multiplier; those after the stem for stage -1."""
        if stage < 0:
            return self.stem_widths
        return tuple(divisible(self.widths[stage] * multiplier) for multiplier in self.multipliers)

    def middle(self, width: int, expansion: float) -> int:
        """Channels inside a block of that many outgoing channels.

        Example:
            >>> OfaResNet50D().middle(256, 0.35)
            88
        """
        return divisible(round(width * expansion))

    def most_blocks(self, stage: int) -> int:
        """Of a stage."""
        return self.base_depths[stage] + max(self.depths)

    # ------------------------------------------------------------------------------------------------------ the space

    @cached_property
    def space(self) -> Space:
        """The decisions, and the blocks they choose."""
        decisions = [
            Decision("resolution", self.resolutions),
            Decision("stem.middle", self.multipliers),
            Decision("stem.depth", (0, 1)),
            Decision("stem.width", self.multipliers),
        ]
        for stage in range(len(self.widths)):
            name = f"stage{stage + 1}"
            decisions += [Decision(f"{name}.width", self.multipliers), Decision(f"{name}.depth", self.depths)]
            for block in range(self.most_blocks(stage)):
                deep = tuple(depth for depth in self.depths if self.base_depths[stage] + depth > block)
                active_if = ((Condition(f"{name}.depth", deep),),) if len(deep) < len(self.depths) else ()
                decisions.append(Decision(f"{name}.block{block + 1}.expansion", self.expansions, active_if))
        return Space(self.name, tuple(decisions), tuple(self._units()))

    def _units(self) -> list[Unit]:
        middles, widths = self.stem_middles, self.stem_widths
        sizes = [-(-resolution // self.stem_stride) for resolution in self.resolutions]
        units = [
            Unit(
                "stem.first",
                ("resolution", "stem.middle"),
                tuple(
                    describe_stem(self.channels, m, r, kernel=3, stride=self.stem_stride, activation_name="relu")
                    for r, m in itertools.product(self.resolutions, middles)
                ),
            ),
            Unit(
                "stem.second",
                ("resolution", "stem.middle", "stem.depth"),
                tuple(
                    describe_residual_conv(m, size) if kept else None
                    for size, m, kept in itertools.product(sizes, middles, (False, True))
                ),
            ),
            Unit(
                "stem.third",
                ("resolution", "stem.middle", "stem.width"),
                tuple(describe_pooling_stem(m, w, size) for size, m, w in itertools.product(sizes, middles, widths)),
            ),
        ]
        sizes = [-(-size // 2) for size in sizes]
        for stage, stride in enumerate(self.strides):
            for block in range(self.most_blocks(stage)):
                units.append(self._unit(stage, block, sizes))
                if block == 0:
                    sizes = [-(-size // stride) for size in sizes]
        last = len(self.widths) - 1
        heads = itertools.product(sizes, self.stage_channels(last))
        blocks = tuple(describe_pool_head(width, self.classes, size) for size, width in heads)
        return [*units, Unit("head", ("resolution", f"stage{last + 1}.width"), blocks)]

    def _unit(self, stage: int, block: int, sizes: Sequence[int]) -> Unit:
        name, base = f"stage{stage + 1}", self.base_depths[stage]
        labels = ["resolution", f"{name}.depth", f"{name}.width", f"{name}.block{block + 1}.expansion"]
        before: tuple[int | None, ...] = (None,)
        if block == 0:
            labels.insert(2, f"stage{stage}.width" if stage else "stem.width")
            before = self.stage_channels(stage - 1)
        depths: tuple[int, ...] = self.depths
        if block < base + min(self.depths):
            labels.remove(f"{name}.depth")
            depths = (max(self.depths),)
        stride = self.strides[stage] if block == 0 else 1
        combinations = itertools.product(sizes, depths, before, self.stage_channels(stage), self.expansions)
        blocks = tuple(
            describe_bottleneck(
                width if c_in is None else c_in, width, size, middle=self.middle(width, e), stride=stride
            )
            if base + depth > block
            else None
            for size, depth, c_in, width, e in combinations
        )
        return Unit(f"{name}.block{block + 1}", tuple(labels), blocks)

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

    def supernet(self) -> OfaResNet50DSupernet:
        """All networks in one set of weights, freshly initialised from torch's global generator."""
        return OfaResNet50DSupernet(self)

    def default(self) -> Architecture:
        """The network one would take without a search: ResNet50-D, as near as the options allow, largest resolution.

        Example:
            >>> chosen = OfaResNet50D()
            >>> blocks = chosen.space.blocks_of(chosen.default())
            >>> sum(block.parameters for block in blocks)
            25576264
        """
        base = (3, 4, 6, 3)
        options: dict[str, float] = {"resolution": self.resolutions[-1], "stem.depth": 1}
        options |= {"stem.middle": self.multipliers[-1], "stem.width": self.multipliers[-1]}
        quarter = _nearest(self.expansions, 0.25)
        for stage, fewest in enumerate(self.base_depths):
            name = f"stage{stage + 1}"
            wanted = base[stage] - fewest if stage < len(base) else self.depths[0]
            options[f"{name}.width"] = self.multipliers[-1]
            options[f"{name}.depth"] = _nearest(self.depths, wanted)
            options |= {f"{name}.block{n + 1}.expansion": quarter for n in range(self.most_blocks(stage))}
        return self.space.canonical(options)

    def architecture(
        self,
        depths: Sequence[int],
        expansions: Sequence[float],
        widths: Sequence[int],
        *,
        resolution: int | None = None,
    ) -> Architecture:
        """The architecture of the lists that the authors' `set_active_subnet` takes.

        Args:
            depths: Of the stem, whose middle convolution stays where it is the largest of `depths`, then of each stage.
            expansions: One per place, each stage at its most blocks.
            widths: Which multiplier: within the stem, after it, then of each stage.
            resolution: The largest unless given.

        Raises:
            SpaceError: If a list has the wrong length, or a value is not one of the space.
        """
        places = [(stage, block) for stage in range(len(self.widths)) for block in range(self.most_blocks(stage))]
        stages = len(self.widths)
        for name, values, wanted in (
            ("depths", depths, stages + 1),
            ("expansions", expansions, len(places)),
            ("widths", widths, stages + 2),
        ):
            if len(values) != wanted:
                raise SpaceError(f"space {self.name}: {len(values)} {name}; expected {wanted}")
        options: dict[str, float] = {
            "resolution": resolution or self.resolutions[-1],
            "stem.depth": int(depths[0] == max(self.depths)),
            "stem.middle": self.multipliers[widths[0]],
            "stem.width": self.multipliers[widths[1]],
        }
        for stage in range(stages):
            options[f"stage{stage + 1}.depth"] = depths[stage + 1]
            options[f"stage{stage + 1}.width"] = self.multipliers[widths[stage + 2]]
        for (stage, block), expansion in zip(places, expansions, strict=True):
            options[f"stage{stage + 1}.block{block + 1}.expansion"] = expansion
        return self.space.canonical(options)


class OfaResNet50DSupernet(nn.Module):
    """The weights of an `OfaResNet50D` family.

    The resolution is hard: the images must come in the size the gates ask for. All other decisions may be soft:
    channels are weighted by the share of options that keep them, outputs of depths by their shares.
    """

    def __init__(self, family: OfaResNet50D) -> None:
        super().__init__()
        self.family = family
        self.stem = ElasticStem(
            family.channels, family.stem_middles[-1], family.stem_widths[-1], stride=family.stem_stride
        )
        self.stages = nn.ModuleList(
            nn.ModuleList(
                ElasticBottleneck(
                    family.stage_channels(stage - (block == 0))[-1],
                    width,
                    middle=family.middle(width, family.expansions[-1]),
                    stride=family.strides[stage] if block == 0 else 1,
                    changes=block == 0,
                )
                for block in range(family.most_blocks(stage))
            )
            for stage, width in enumerate(family.stage_channels(stage)[-1] for stage in range(len(family.widths)))
        )
        self.head = ElasticPoolHead(family.stage_channels(len(family.widths) - 1)[-1], family.classes)

    @property
    def space(self) -> Space:
        """The decisions that the gates answer."""
        return self.family.space

    def forward(self, x: Tensor, gates: Gates) -> Tensor:
        """Logits [n, classes] of images [n, c, side, side].

        Raises:
            SpaceError: If the images are not of the size that the gates ask for, or the resolution is soft.
        """
        side = self._side(gates)
        if x.shape[-1] != side or x.shape[-2] != side:
            raise SpaceError(f"images of {tuple(x.shape[-2:])} for a network of resolution {side}; resize them first")
        family = self.family
        middle = self._channels(gates, "stem.middle", family.stem_middles, x)
        width = self._channels(gates, "stem.width", family.stem_widths, x)
        second = float(gates["stem.depth"]) if isinstance(gates, Architecture) else _second(gates["stem.depth"])
        y: Tensor = self.stem(x, middle, width, second)
        for stage in range(len(self.stages)):
            width = self._channels(gates, f"stage{stage + 1}.width", family.stage_channels(stage), x)
            ends = self._ends(gates, stage)
            mixed: Tensor | None = None
            for n, block in enumerate(self._blocks(stage)[: max(ends)], start=1):
                y = block(y, self._middle(gates, stage, n, width, x), width)
                if n in ends:
                    share = ends[n]
                    part = y if share is None else share * y
                    mixed = part if mixed is None else mixed + part
            y = cast(Tensor, mixed)
        return cast(Tensor, self.head(y))

    def _blocks(self, stage: int) -> list[ElasticBottleneck]:
        return cast(list[ElasticBottleneck], list(cast(nn.ModuleList, self.stages[stage])))

    def _side(self, gates: Gates) -> int:
        if isinstance(gates, Architecture):
            return int(gates["resolution"])
        gate: Gate = gates["resolution"]
        if len(gate.support) > 1:
            raise SpaceError(
                f"the gate of 'resolution' supports {len(gate.support)} options; a batch has one size, so exactly one"
            )
        return self.family.resolutions[gate.support[0]]

    def _channels(self, gates: Gates, label: str, options: Sequence[int], like: Tensor) -> Channels:
        if isinstance(gates, Architecture):
            return Channels(options[self.family.multipliers.index(float(gates[label]))])
        gate: Gate = gates[label]
        return _mixture(((options[code], gate.weight(code)) for code in gate.support), like)

    def _middle(self, gates: Gates, stage: int, n: int, width: Channels, like: Tensor) -> Channels:
        """Channels inside a block: they follow from its width and its expansion."""
        family, label = self.family, f"stage{stage + 1}.block{n}.expansion"
        if isinstance(gates, Architecture):
            return Channels(family.middle(width.count, float(gates[label])))
        outer, inner = gates[f"stage{stage + 1}.width"], gates[label]
        options = family.stage_channels(stage)
        shares = (
            (family.middle(options[w], family.expansions[e]), outer.weight(w) * inner.weight(e))
            for w, e in itertools.product(outer.support, inner.support)
        )
        return _mixture(shares, like)

    def _ends(self, gates: Gates, stage: int) -> Mapping[int, Tensor | None]:
        """After how many blocks a stage may end, and with which weight."""
        base, label = self.family.base_depths[stage], f"stage{stage + 1}.depth"
        if isinstance(gates, Architecture):
            return {base + int(gates[label]): None}
        gate: Gate = gates[label]
        return {base + self.family.depths[code]: gate.weight(code) for code in gate.support}

    def extract(self, architecture: Architecture) -> nn.Sequential:
        """The plain network of one architecture: each part with its own cut of the weights.

        Raises:
            SpaceError: If the architecture is not one of the space.
        """
        first, *blocks, head = self.space.blocks_of(architecture)
        second = bool(architecture["stem.depth"])
        third, *blocks = blocks[1:] if second else blocks
        middle, width = third.input_shape[0], third.output_shape[0]
        parts = self.stem.cut(first, middle, width, second=second)
        entries = iter(blocks)
        for stage in range(len(self.stages)):
            depth = self.family.base_depths[stage] + int(architecture[f"stage{stage + 1}.depth"])
            for block, entry in zip(self._blocks(stage)[:depth], entries, strict=False):
                parts.append(block.cut(entry.input_shape[0], int(entry.setting("middle")), entry.output_shape[0]))
        network = nn.Sequential(*parts, self.head.cut(head.input_shape[0]))
        network.training = self.training
        return network


def _nearest(options: Sequence[float], wanted: float) -> float:
    return min(options, key=lambda option: abs(option - wanted))


def _second(gate: Gate) -> float | Tensor:
    """The weight of the stem's middle convolution; 0 where it is not in the support."""
    return gate.weight(1) if 1 in gate.support else 0.0


def _mixture(shares: Iterable[tuple[int, Tensor]], like: Tensor) -> Channels:
    """Channels weighted by the share of options that are at least so wide."""
    shares = list(shares)
    widest = max(count for count, _ in shares)
    keep = like.new_zeros(widest)
    for count, share in shares:
        keep = keep + share * nn.functional.pad(like.new_ones(count), (0, widest - count))
    return Channels(widest, keep.reshape(1, -1, 1, 1))
