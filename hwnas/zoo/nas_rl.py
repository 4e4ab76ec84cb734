"""The space of neural architecture search by reinforcement learning: a chain of convolutions with skips.

Source: Zoph and Le 2017 (arXiv 1611.01578), sections 3.1 and 4.1. What differs: a layer may read only the last few
layers before it (`reach`), as otherwise nobody could say exactly what the cheapest network costs; the image is
zero-padded at the right and at the bottom; the classifier reads the mean of each output over the image. Every skip
counts, since a layer without a reader goes to the classifier, so no two architectures are one network but for the
numbers of their layers.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from math import prod
from typing import cast

import torch
from torch import Tensor, nn

from hwnas.core import Architecture, Option, SpaceError
from hwnas.nn import build_block
from hwnas.nn.elastic_skip import ElasticSkipLayer, SoftLayer
from hwnas.nn.gates import Gate, Gates, check_resolution, product_if_any, weight_if_any
from hwnas.nn.skip_layers import (
    FlatConvNormRelu,
    SkipLayer,
    SkipNetwork,
    describe_norm_relu,
    describe_readout,
    describe_source_convolution,
    sides_of,
)
from hwnas.space import Block, Condition, Decision, Space, Unit

MOST_ENTRIES = 2**18
"""Combinations of the decisions that one block hangs on, above which a space is refused."""

Options = Mapping[str, Option]


@dataclass(frozen=True)
class NasRl:
    """The family: everything that fixes a space.

    Attributes:
        name: Of the space; part of the latency table's file name.
        channels: Of the images, 1 or 3; comes from the data.
        classes: Comes from the data.
        resolutions: Sides of the square input, searched where there are several.
        depths: Layers, ascending; searched where there are several. The paper begins with 6 and adds 2 every 1,600
            networks; its network without strides has 15.
        heights: Of the filters, odd.
        widths: Of the filters, odd.
        filters: How many a layer has.
        strides: Of a layer, searched where there are several. The paper tries (1,) and (1, 2, 3). Any but 1 lets the
            size of a layer hang on all layers before it, so that only a few layers can be priced, and gates be hard.
        reach: How many layers back a layer may read; the paper's may read all. Beyond 4 (6 for up to 7 layers) the
            cheapest and the dearest network cannot be found exactly, which limits are checked against.

    Raises:
        SpaceError: If a value is impossible; names the field and the value.

    Example:
        >>> family = NasRl(depths=(4,), reach=3)
        >>> family.space.size == (4 * 4 * 4) ** 4 * 2 ** (1 + 2 + 3)
        True
    """

    name: str = "nas_rl"
    channels: int = 3
    classes: int = 10
    resolutions: tuple[int, ...] = (32,)
    depths: tuple[int, ...] = (15,)
    heights: tuple[int, ...] = (1, 3, 5, 7)
    widths: tuple[int, ...] = (1, 3, 5, 7)
    filters: tuple[int, ...] = (24, 36, 48, 64)
    strides: tuple[int, ...] = (1,)
    reach: int = 4

    def __post_init__(self) -> None:
        for field in ("resolutions", "depths", "heights", "widths", "filters", "strides"):
            values = getattr(self, field)
            if not values or list(values) != sorted(set(values)) or values[0] < 1:
                raise SpaceError(f"{field} is {list(values)}; expected ascending numbers above 0, each once")
        for field in ("heights", "widths"):
            if any(value % 2 == 0 for value in getattr(self, field)):
                raise SpaceError(f"{field} is {list(getattr(self, field))}; filters are odd, so that images keep size")
        for field in ("channels", "classes", "reach"):
            if getattr(self, field) < 1:
                raise SpaceError(f"{field} is {getattr(self, field)}; it must be above 0")
        options = (self.resolutions, self.depths, self.heights, self.widths, self.filters, self.filters)
        hanging = prod(map(len, options)) * 2 ** min(self.reach, self.depths[-1] - 1)
        if self.strided:
            bits = sum(len(self.readable(layer)) for layer in range(1, self.depths[-1] + 1))
            hanging = prod(map(len, options)) * 2**bits * len(self.strides) ** self.depths[-1]
        if hanging > MOST_ENTRIES:
            why = f"strides {list(self.strides)}" if self.strided else f"reach {self.reach}"
            raise SpaceError(
                f"space {self.name}: with {why} and {self.depths[-1]} layers the cost of a layer hangs on up to "
                f"{hanging:.1e} combinations of decisions; at most {MOST_ENTRIES} are tabulated",
                hint="take fewer layers, a shorter reach, or fewer options of each layer",
            )

    @property
    def strided(self) -> bool:
        """Whether sizes can differ from the image's."""
        return self.strides != (1,)

    @cached_property
    def space(self) -> Space:
        """The decisions, and the blocks they choose."""
        return _space(self)

    @property
    def has_supernet(self) -> bool:
        """Whether all networks can be trained in one set of weights."""
        return True

    def default(self) -> Architecture:
        """The network one would take without a search: 3x3 filters, each layer reading the two before it.

        Where the space lacks an option, the one in the middle.

        Example:
            >>> NasRl().layers(NasRl().default())[2]
            SkipLayer(height=3, width=3, filters=48, stride=1, sources=(0, 1))
        """
        height, width = (3 if 3 in options else options[len(options) // 2] for options in (self.heights, self.widths))
        count = self.filters[len(self.filters) // 2]
        return self.architecture([
            SkipLayer(
                height,
                width,
                count,
                self.strides[0],
                tuple(j - 1 for j in self.readable(i) if i - j <= 2),
            )
            for i in range(1, self.depths[-1] + 1)
        ])

    def supernet(self) -> NasRlSupernet:
        """All networks in one set of weights, freshly initialised from torch's global generator."""
        return NasRlSupernet(self)

    def build_block(self, block: Block) -> nn.Module:
        """The plain module of an entry of the latency table, with fresh random weights."""
        return build_block(block)

    def build_network(self, architecture: Architecture) -> SkipNetwork:
        """The plain network, with fresh random weights.

        Raises:
            SpaceError: If the architecture is not one of the space.
        """
        layers = self.layers(architecture)
        return SkipNetwork(self.channels, self.classes, int(architecture["resolution"]), layers)

    def readable(self, layer: int) -> range:
        """The layers that a layer may read, all counted from 1."""
        return range(max(1, layer - self.reach), layer)

    def architecture(self, layers: Sequence[SkipLayer], *, resolution: int | None = None) -> Architecture:
        """The architecture of some layers, at the largest resolution unless given.

        Raises:
            SpaceError: If there are too few or too many layers, or the space lacks what one of them is.

        Example:
            >>> family = NasRl(depths=(2,))
            >>> family.architecture([SkipLayer(1, 3, 24), SkipLayer(5, 5, 36, 1, (0,))])["layer2.from1"]
            1
        """
        if len(layers) not in self.depths:
            raise SpaceError(f"space {self.name}: {len(layers)} layers; expected one of {list(self.depths)}")
        options: dict[str, Option] = {"resolution": resolution or self.resolutions[-1]}
        if len(self.depths) > 1:
            options["depth"] = len(layers)
        for number, layer in enumerate(layers, start=1):
            name = f"layer{number}"
            options |= {f"{name}.height": layer.height, f"{name}.width": layer.width, f"{name}.filters": layer.filters}
            if len(self.strides) > 1:
                options[f"{name}.stride"] = layer.stride
            elif layer.stride != self.strides[0]:
                raise SpaceError(f"space {self.name}: {name} has stride {layer.stride}; expected {self.strides[0]}")
            for source in layer.sources:
                if source + 1 not in self.readable(number):
                    raise SpaceError(
                        f"space {self.name}: {name} reads layer {source + 1}; it may read {list(self.readable(number))}"
                    )
            options |= {f"{name}.from{j}": int(j - 1 in layer.sources) for j in self.readable(number)}
        return self.space.canonical(options)

    def layers(self, architecture: Options) -> tuple[SkipLayer, ...]:
        """The layers of an architecture.

        Raises:
            SpaceError: If it is not one of the space.
        """
        found = self.space.canonical(architecture)
        depth = int(found.get("depth", self.depths[0]))
        return tuple(
            SkipLayer(
                int(found[f"layer{i}.height"]),
                int(found[f"layer{i}.width"]),
                int(found[f"layer{i}.filters"]),
                int(found.get(f"layer{i}.stride", self.strides[0])),
                tuple(j - 1 for j in self.readable(i) if found[f"layer{i}.from{j}"]),
            )
            for i in range(1, depth + 1)
        )


class NasRlSupernet(nn.Module):
    """The weights of a `NasRl` family: every connection has its own, whatever else a layer reads.

    The resolution is hard: the images must come in the size that the gates ask for. The rest may be soft, unless the
    family has strides: then sizes hang on every choice, and all are hard.
    """

    def __init__(self, family: NasRl) -> None:
        super().__init__()
        self.family = family
        height, width, filters = family.heights[-1], family.widths[-1], family.filters[-1]
        depth = family.depths[-1]
        self.layers = nn.ModuleList(
            ElasticSkipLayer(
                family.channels,
                height=height,
                width=width,
                filters=filters,
                sources=[j - 1 for j in family.readable(i)],
            )
            for i in range(1, depth + 1)
        )
        self.readouts = nn.ModuleList(nn.Linear(filters, family.classes, bias=False) for _ in range(depth))
        self.bias = nn.Parameter(torch.zeros(family.classes))

    @property
    def space(self) -> Space:
        """The decisions that the gates answer."""
        return self.family.space

    def forward(self, x: Tensor, gates: Gates) -> Tensor:
        """Logits [n, classes] of images [n, c, side, side].

        Raises:
            SpaceError: If the images are not of the size that the gates ask for, the resolution is soft, or another
                decision is in a family with strides.
        """
        check_resolution(x, gates, self.family.resolutions)
        if isinstance(gates, Architecture):
            return self._hard(x, self.family.layers(gates))
        if self.family.strided:
            return self._hard(x, self.family.layers(self._chosen(gates)))
        return self._soft(x, gates)

    def _hard(self, x: Tensor, layers: Sequence[SkipLayer]) -> Tensor:
        values: list[Tensor] = []
        for module, layer in zip(self._layers(), layers, strict=False):
            values.append(module(x, values, layer))
        read = {source for layer in layers for source in layer.sources}
        logits = self.bias.expand(len(x), -1)
        for number in (n for n in range(len(layers)) if n not in read):
            logits = logits + self._readout(number, values[number])
        return logits

    def _readout(self, number: int, value: Tensor) -> Tensor:
        weight = cast(Tensor, self.readouts[number].weight)
        return value.mean(dim=(2, 3)) @ weight[:, : value.shape[1]].t()

    def _soft(self, x: Tensor, gates: Mapping[str, Gate]) -> Tensor:
        """The relaxation: what the network gives on average if every decision were drawn on its own, up to the layers.

        A layer counts in the classifier as much as no layer reads it, for each depth.
        """
        family = self.family
        depths = {family.depths[0]: x.new_ones(())}
        if len(family.depths) > 1:
            depths = {family.depths[code]: gates["depth"].weight(code) for code in gates["depth"].support}
        values: list[Tensor] = []
        for i, module in enumerate(self._layers()[: max(depths)], start=1):
            soft = SoftLayer(
                gates[f"layer{i}.height"],
                gates[f"layer{i}.width"],
                gates[f"layer{i}.filters"],
                {j - 1: gates[f"layer{i}.from{j}"] for j in family.readable(i)},
                family.heights,
                family.widths,
                family.filters,
            )
            values.append(module.soft(x, values, soft))
        logits = self.bias.expand(len(x), -1)
        for j, value in enumerate(values, start=1):
            shares = []
            for depth, weight in depths.items():
                readers = [i for i in range(j + 1, depth + 1) if j in family.readable(i)]
                unread = product_if_any([weight_if_any(gates[f"layer{i}.from{j}"], 0) for i in readers])
                if j <= depth and unread is not None:
                    shares.append(weight * unread)
            if shares:
                logits = logits + torch.stack(shares).sum() * self._readout(j - 1, value)
        return logits

    def _chosen(self, gates: Mapping[str, Gate]) -> Options:
        chosen: dict[str, Option] = {}
        for decision in self.space.decisions:
            gate = gates[decision.label]
            if len(gate.support) > 1 or gate.values.requires_grad:
                raise SpaceError(
                    f"the gate of {decision.label!r} is soft; with strides {list(self.family.strides)} the sizes hang "
                    "on it, so it must be one option without a gradient",
                    hint="draw networks, or take strides = [1]",
                )
            chosen[decision.label] = decision.options[gate.support[0]]
        return chosen

    def extract(self, architecture: Architecture) -> SkipNetwork:
        """The plain network of one architecture, with its own copy of the weights.

        Raises:
            SpaceError: If the architecture is not one of the space.
        """
        network = self.family.build_network(architecture)
        plan = network.plan
        plains = cast(list[FlatConvNormRelu], list(network.layers))
        for module, plain, layer in zip(self._layers(), plains, plan, strict=False):
            module.cut(plain, layer, [plan[source].filters for source in layer.sources])
        with torch.no_grad():
            parts = [cast(Tensor, self.readouts[number].weight)[:, : plan[number].filters] for number in network.unread]
            network.classifier.weight.copy_(torch.cat(parts, dim=1))
            network.classifier.bias.copy_(self.bias)
        return network.train(self.training)

    def _layers(self) -> list[ElasticSkipLayer]:
        return cast(list[ElasticSkipLayer], list(self.layers))


# ------------------------------------------------------------------------------------------------------------ decisions


@cache
def _space(family: NasRl) -> Space:
    decisions = [Decision("resolution", family.resolutions)]
    if len(family.depths) > 1:
        decisions.append(Decision("depth", family.depths))
    for i in range(1, family.depths[-1] + 1):
        deep = tuple(depth for depth in family.depths if depth >= i)
        when = () if deep == family.depths else ((Condition("depth", deep),),)
        decisions += [
            Decision(f"layer{i}.{what}", options, when)
            for what, options in (("height", family.heights), ("width", family.widths), ("filters", family.filters))
        ]
        if len(family.strides) > 1:
            decisions.append(Decision(f"layer{i}.stride", family.strides, when))
        decisions += [Decision(f"layer{i}.from{j}", (0, 1), when) for j in family.readable(i)]
    return Space(family.name, tuple(decisions), tuple(_units(family, {d.label: d for d in decisions})))


def _units(family: NasRl, decisions: Mapping[str, Decision]) -> list[Unit]:
    """For each layer the image or its sources, the norm, and what the classifier reads of it."""
    units = []

    def add(name: str, labels: Sequence[str], block: Callable[[Options], Block | None]) -> None:
        parents = [c.label for label in labels for group in decisions[label].active_if for c in group]
        wanted = tuple(dict.fromkeys(["resolution", *parents, *labels]))
        every = itertools.product(*(decisions[label].options for label in wanted))
        units.append(Unit(name, wanted, tuple(block(dict(zip(wanted, row, strict=True))) for row in every)))

    for i in range(1, family.depths[-1] + 1):
        own = [f"layer{i}.{what}" for what in ("height", "width", "filters")]
        bits = [f"layer{i}.from{j}" for j in family.readable(i)]
        sizes = _size_labels(family, i)
        place = _Place(family, i)
        add(f"layer{i}.image", [*sizes, *bits, *own], place.image)
        for j, bit in zip(family.readable(i), bits, strict=True):
            add(bit, [*sizes, bit, f"layer{j}.filters", *own], _Source(place, j).block)
        add(f"layer{i}.norm", [*sizes, f"layer{i}.filters"], place.norm)
        readers = [f"layer{k}.from{i}" for k in range(i + 1, family.depths[-1] + 1) if i in family.readable(k)]
        depth = ["depth"] if len(family.depths) > 1 else []
        add(f"layer{i}.readout", [*depth, *sizes, *readers, f"layer{i}.filters"], place.readout)
    return units


def _size_labels(family: NasRl, layer: int) -> list[str]:
    """What the size of a layer hangs on."""
    if not family.strided:
        return []
    labels = []
    for i in range(1, layer + 1):
        labels += [f"layer{i}.stride"] if len(family.strides) > 1 else []
        labels += [f"layer{i}.from{j}" for j in family.readable(i)]
    return labels


@dataclass(frozen=True)
class _Place:
    """A layer, counted from 1, and its blocks for some options; where it is missing there are none."""

    family: NasRl
    layer: int

    def image(self, options: Options) -> Block | None:
        if any(options[f"layer{self.layer}.from{j}"] for j in self.family.readable(self.layer)):
            return None
        if not self.stands(options):
            return None
        side = int(options["resolution"])
        return describe_source_convolution(self.family.channels, side, self.own(options), side=side)

    def norm(self, options: Options) -> Block | None:
        if not self.stands(options):
            return None
        return describe_norm_relu(int(options[f"layer{self.layer}.filters"]), self.sides(options, self.layer)[1])

    def readout(self, options: Options) -> Block | None:
        depth = int(options.get("depth", self.family.depths[0]))
        readers = (k for k in range(self.layer + 1, depth + 1) if self.layer in self.family.readable(k))
        if not self.stands(options) or any(options[f"layer{k}.from{self.layer}"] for k in readers):
            return None
        count = int(options[f"layer{self.layer}.filters"])
        side = self.sides(options, self.layer)[1]
        return describe_readout(count, self.family.classes, side, bias=self.layer == depth)

    def stands(self, options: Options) -> bool:
        return int(options.get("depth", self.family.depths[0])) >= self.layer

    def own(self, options: Options) -> SkipLayer:
        name = f"layer{self.layer}"
        height, width, filters = (int(options[f"{name}.{what}"]) for what in ("height", "width", "filters"))
        return SkipLayer(height, width, filters, int(options.get(f"{name}.stride", self.family.strides[0])))

    def sides(self, options: Options, layer: int) -> tuple[int, int]:
        """What a layer up to this one reads and gives."""
        side = int(options["resolution"])
        if not self.family.strided:
            return side, side
        chain = [
            (
                int(options.get(f"layer{i}.stride", self.family.strides[0])),
                [j - 1 for j in self.family.readable(i) if options[f"layer{i}.from{j}"]],
            )
            for i in range(1, layer + 1)
        ]
        found = sides_of(chain, side)[-1]
        return found.read, found.given


@dataclass(frozen=True)
class _Source:
    """A connection to a layer."""

    place: _Place
    source: int

    def block(self, options: Options) -> Block | None:
        place = self.place
        if not options[f"layer{place.layer}.from{self.source}"] or not place.stands(options):
            return None
        given = place.sides(options, self.source)[1]
        read = place.sides(options, place.layer)[0]
        count = int(options[f"layer{self.source}.filters"])
        return describe_source_convolution(count, given, place.own(options), side=read)
