"""The space of MetaQNN: sequences of convolutions, pools and fully connected layers, each legal after the last.

Source: Baker et al. 2017 (arXiv 1611.02167), section 4.1 and table 1: filters, kernels, pools and widths; a pool
neither first nor after a pool; fully connected layers only where the features are small, at most two, none wider than
the last; the end, over the mean of the image or over its pixels, at any time. Three things differ. What is limited is
not the number of layers but that of pools, and of convolutions between two of them, so that what a layer costs follows
from few decisions; with the values here the longest sequence has 17 layers, theirs 18. Convolutions are followed by a
norm. Dropout is left to the training.

The decisions are not the steps of the paper's agent: one says which pools there are, and with it all sizes; the others
what stands between them. `layers` and `architecture` translate.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import NoReturn

from torch import nn

from hwnas.core import Architecture, Option, SpaceError
from hwnas.nn import build_block, build_network
from hwnas.nn.genetic_stages import describe_conv_norm_relu
from hwnas.nn.sequence_layers import describe_sequence_head, describe_window_pool, pooled_side
from hwnas.space import Block, Condition, Decision, Space, Unit

NONE = "none"
"""No pool, or no fully connected layer."""

MOST_ENTRIES = 2**18
"""Combinations of the decisions that one block hangs on, above which a space is refused."""

Options = Mapping[str, Option]
Pools = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class MetaQnn:
    """The family: everything that fixes a space.

    Attributes:
        name: Of the space; part of the latency table's file name.
        channels: Of the images, 1 or 3; comes from the data.
        classes: Comes from the data.
        resolutions: Sides of the square input, searched where there are several; what is legal at all of them is legal.
        filters: Of a convolution.
        kernels: Of a convolution, odd; images keep their size.
        pools: Window and stride of each kind.
        hidden: Widths of fully connected layers.
        most_convs: Convolutions before the first pool, between two, and after the last.
        most_pools: Of a network.
        most_hidden: Fully connected layers of a network beside the classifier.
        hidden_below: Side of the features from which on no fully connected layer is allowed.

    Raises:
        SpaceError: If a value is impossible; names the field and the value.

    Example:
        >>> family = MetaQnn(resolutions=(8,), most_convs=1, most_pools=1, most_hidden=0)
        >>> family.space.size == 2 * (12 + 3 * 12 * (1 + 12))
        True
    """

    name: str = "metaqnn"
    channels: int = 3
    classes: int = 10
    resolutions: tuple[int, ...] = (32,)
    filters: tuple[int, ...] = (64, 128, 256, 512)
    kernels: tuple[int, ...] = (1, 3, 5)
    pools: tuple[tuple[int, int], ...] = ((5, 3), (3, 2), (2, 2))
    hidden: tuple[int, ...] = (512, 256, 128)
    most_convs: int = 3
    most_pools: int = 3
    most_hidden: int = 2
    hidden_below: int = 8

    def __post_init__(self) -> None:
        for field in ("resolutions", "filters", "kernels", "pools", "hidden"):
            values = getattr(self, field)
            if not values or len(set(values)) < len(values):
                raise SpaceError(f"{field} is {list(values)}; expected at least one, each once")
        for field in ("resolutions", "filters", "hidden"):
            if min(getattr(self, field)) < 1:
                raise SpaceError(f"{field} is {list(getattr(self, field))}; they must be above 0")
        if list(self.resolutions) != sorted(self.resolutions):
            raise SpaceError(f"resolutions is {list(self.resolutions)}; expected ascending numbers")
        if any(kernel < 1 or kernel % 2 == 0 for kernel in self.kernels):
            raise SpaceError(f"kernels is {list(self.kernels)}; kernels are odd, so that images keep their size")
        for kernel, stride in self.pools:
            if kernel < 2 or stride < 2:
                raise SpaceError(f"pools holds ({kernel}, {stride}); window and stride must be above 1")
        for field in ("channels", "classes", "most_convs"):
            if getattr(self, field) < 1:
                raise SpaceError(f"{field} is {getattr(self, field)}; it must be above 0")
        for field in ("most_pools", "most_hidden"):
            if getattr(self, field) < 0:
                raise SpaceError(f"{field} is {getattr(self, field)}; it must not be below 0")
        hanging = len(self.resolutions) * len(self.plans) * (1 + self.most_convs) * len(self.filters) ** 2
        hanging *= max(len(self.kernels), 2 * len(self.layouts) // len(self.filters))
        if hanging > MOST_ENTRIES:
            raise SpaceError(
                f"space {self.name}: with {len(self.plans)} sequences of pools the cost of a layer hangs on up to "
                f"{hanging:.1e} combinations of decisions; at most {MOST_ENTRIES} are tabulated",
                hint="take fewer pools, fewer convolutions between them, or fewer filters",
            )

    @cached_property
    def plans(self) -> dict[str, Pools]:
        """Which pools there may be, by the option that says so: those that fit at the smallest resolution.

        Example:
            >>> MetaQnn(most_pools=1).plans
            {'none': (), '5/3': ((5, 3),), '3/2': ((3, 2),), '2/2': ((2, 2),)}
        """
        found: dict[str, Pools] = {}
        for n in range(self.most_pools + 1):
            for plan in itertools.product(self.pools, repeat=n):
                if self.sides(plan, self.resolutions[0])[-1]:
                    found[_named(plan)] = plan
        return found

    @cached_property
    def layouts(self) -> dict[str, tuple[int, ...]]:
        """Which fully connected layers there may be, by the option that says so.

        Example:
            >>> list(MetaQnn(hidden=(64, 32)).layouts)
            ['none', '64', '32', '64-64', '64-32', '32-32']
        """
        widths = sorted(self.hidden, reverse=True)
        every = (itertools.combinations_with_replacement(widths, n) for n in range(self.most_hidden + 1))
        return {"-".join(map(str, layout)) or NONE: layout for layout in itertools.chain.from_iterable(every)}

    def sides(self, plan: Pools, resolution: int) -> list[int]:
        """Of the features before the first pool, between the pools, and after the last; 0 where one does not fit."""
        sides = [resolution]
        for kernel, stride in plan:
            sides.append(pooled_side(sides[-1], kernel, stride))
        return sides

    def takes_hidden(self, plan: Pools) -> bool:
        """Whether fully connected layers may follow, at every resolution."""
        return self.sides(plan, self.resolutions[-1])[-1] < self.hidden_below

    @cached_property
    def space(self) -> Space:
        """The decisions, and the blocks they choose."""
        return _space(self)

    @property
    def has_supernet(self) -> bool:
        """Whether all networks can be trained in one set of weights."""
        return False

    def default(self) -> Architecture:
        """The network one would take without a search: two convolutions, pool, two with more filters, pool, mean.

        Example:
            >>> MetaQnn().layers(MetaQnn().default())
            ('conv 3 64', 'conv 3 64', 'pool 2/2', 'conv 3 128', 'conv 3 128', 'pool 2/2', 'mean')
        """
        kernel = min(self.kernels, key=lambda k: abs(k - 3))
        small = min(self.pools)
        pools = max(n for n in range(min(2, self.most_pools) + 1) if _named((small,) * n) in self.plans)
        layers: list[str] = []
        for stage in range(max(1, pools)):
            filters = sorted(self.filters)[min(stage, len(self.filters) - 1)]
            layers += [f"conv {kernel} {filters}"] * min(2, self.most_convs)
            layers += [f"pool {_named((small,))}"] if pools else []
        return self.architecture([*layers, "mean"])

    def supernet(self) -> NoReturn:
        """Refused: the shape of a layer's weights hangs on what stands before it.

        Raises:
            SpaceError: Always.
        """
        raise SpaceError(
            f"space {self.name}: it has no supernet, so its networks cannot share weights",
            hint="search nas_rl or a mobilenet_v3 space, or train each network on its own with build_network",
        )

    def build_block(self, block: Block) -> nn.Module:
        """The plain module of an entry of the latency table, with fresh random weights."""
        return build_block(block)

    def build_network(self, architecture: Architecture) -> nn.Module:
        """The plain network, with fresh random weights.

        Raises:
            SpaceError: If the architecture is not one of the space.
        """
        return build_network(self.space, architecture)

    def layers(self, architecture: Options) -> tuple[str, ...]:
        """The sequence that an architecture means: "conv 3 64", "pool 2/2", "hidden 512"; last "mean" or "pixels".

        Raises:
            SpaceError: If the architecture is not one of the space.
        """
        found = self.space.canonical(architecture)
        plan = self.plans[str(found["pools"])]
        layers: list[str] = []
        for stage in _stages(len(plan)):
            for n in range(int(found[f"{stage}.convs"]), 0, -1):
                layers.append(f"conv {found[f'{stage}.conv{n}.kernel']} {found[f'{stage}.conv{n}.filters']}")
            if stage != "last" and plan:
                layers.append(f"pool {_named(plan[int(stage[5:]) - 1 :][:1])}")
        layout = self.layouts[str(found.get("hidden", NONE))]
        end = str(found.get("classifier", "pixels" if layout else "mean"))
        return (*layers, *(f"hidden {width}" for width in layout), end)

    def architecture(self, layers: Sequence[str], *, resolution: int | None = None) -> Architecture:
        """The architecture of a sequence as `layers` writes it, at the largest resolution unless given.

        Raises:
            SpaceError: If the sequence is not one of the space; names the first layer that is not legal.

        Example:
            >>> MetaQnn().architecture(["conv 3 64", "pool 5/3", "hidden 128", "pixels"])
            Traceback (most recent call last):
            hwnas.core.errors.SpaceError: space metaqnn: layer 3 is "hidden 128"; expected conv, mean or pixels
        """
        runs: list[list[str]] = [[]]
        pools: list[tuple[int, int]] = []
        hidden: list[int] = []
        for number, layer in enumerate(layers, start=1):
            legal = self.legal(layers[: number - 1], resolution=resolution)
            if layer not in legal:
                kinds = list(dict.fromkeys(known.split()[0] for known in legal)) or ["nothing"]
                expected = ", ".join(kinds[:-1]) + " or " * (len(kinds) > 1) + kinds[-1]
                raise SpaceError(f'space {self.name}: layer {number} is "{layer}"; expected {expected}')
            match layer.split():
                case ["conv", *_]:
                    runs[-1].append(layer)
                case ["pool", pool]:
                    pools.append(self.plans[pool][0])
                    runs.append([])
                case ["hidden", width]:
                    hidden.append(int(width))
        if not layers or layers[-1] not in ("mean", "pixels"):
            raise SpaceError(f"space {self.name}: the sequence {list(layers)} does not end with mean or pixels")
        options: dict[str, Option] = {"resolution": resolution or self.resolutions[-1], "pools": _named(tuple(pools))}
        if self.most_hidden and self.takes_hidden(tuple(pools)):
            options["hidden"] = "-".join(map(str, hidden)) or NONE
        if not hidden and self.sides(tuple(pools), int(options["resolution"]))[-1] > 1:
            options["classifier"] = layers[-1]
        for stage, run in zip(_stages(len(pools)), runs, strict=True):
            options[f"{stage}.convs"] = len(run)
            for n, conv in enumerate(reversed(run), start=1):
                _, kernel, filters = conv.split()
                options |= {f"{stage}.conv{n}.kernel": int(kernel), f"{stage}.conv{n}.filters": int(filters)}
        return self.space.canonical(options)

    def legal(self, layers: Sequence[str], *, resolution: int | None = None) -> list[str]:
        """What may follow the beginning of a sequence, itself legal: the moves of the paper's agent.

        Args:
            layers: So far.
            resolution: The largest unless given; where one pixel is left, "pixels" would be the same as "mean".

        Example:
            >>> small = MetaQnn(resolutions=(8,), filters=(64,), kernels=(3,), hidden=(128,), hidden_below=4)
            >>> small.legal(["conv 3 64", "pool 5/3"])
            ['conv 3 64', 'hidden 128', 'mean', 'pixels']
        """
        kinds = [layer.split()[0] for layer in layers]
        if "mean" in kinds or "pixels" in kinds:
            return []
        pools = tuple(
            (int(window), int(stride))
            for window, stride in (layer.split()[1].split("/") for layer in layers if layer.startswith("pool"))
        )
        widths = [int(layer.split()[1]) for layer in layers if layer.startswith("hidden")]
        run = len(kinds) - 1 - max((n for n, kind in enumerate(kinds) if kind == "pool"), default=-1)
        moves: list[str] = []
        if not widths and run < self.most_convs:
            moves += [f"conv {kernel} {filters}" for kernel in self.kernels for filters in self.filters]
        if not widths and run:
            moves += [f"pool {_named((pool,))}" for pool in self.pools if _named((*pools, pool)) in self.plans]
        if not kinds:
            return moves
        if len(widths) < self.most_hidden and self.takes_hidden(pools):
            moves += [f"hidden {width}" for width in self.hidden if width <= min(widths, default=width)]
        if widths:
            return [*moves, "pixels"]
        side = self.sides(pools, resolution or self.resolutions[-1])[-1]
        return [*moves, "mean", "pixels"] if side > 1 else [*moves, "mean"]


def _named(plan: Pools) -> str:
    return " ".join(f"{kernel}/{stride}" for kernel, stride in plan) or NONE


def _stages(pools: int) -> list[str]:
    """The runs of convolutions of a network: one before each pool and the last, or the only one, "stage1"."""
    return [*(f"stage{s}" for s in range(1, pools + 1)), "last"] if pools else ["stage1"]


# ------------------------------------------------------------------------------------------------------------ decisions


@cache
def _space(family: MetaQnn) -> Space:
    decisions = list(_decisions(family))
    return Space(family.name, tuple(decisions), tuple(_units(family, {d.label: d for d in decisions})))


def _decisions(family: MetaQnn) -> Iterator[Decision]:
    """Convolutions are counted from the end of their stage, so that what a pool reads is always conv1."""
    plans = family.plans
    longest = max(map(len, plans.values()))
    yield Decision("resolution", family.resolutions)
    lengths = [len(plan) for plan in plans.values()]
    # Each number of pools is drawn as often as another, though there are many more sequences of many.
    yield Decision("pools", tuple(plans), prior=tuple(1 / lengths.count(n) for n in lengths))

    def run(stage: str, counts: range, when: tuple[Condition, ...]) -> Iterator[Decision]:
        yield Decision(f"{stage}.convs", tuple(counts), (when,) if when else ())
        for n in range(1, counts[-1] + 1):
            enough = tuple(count for count in counts if count >= n)
            also = () if len(enough) == len(counts) else (Condition(f"{stage}.convs", enough),)
            conditions = ((*when, *also),) if when or also else ()
            yield Decision(f"{stage}.conv{n}.filters", family.filters, conditions)
            yield Decision(f"{stage}.conv{n}.kernel", family.kernels, conditions)

    for s in range(1, max(1, longest) + 1):
        deep = tuple(name for name, plan in plans.items() if len(plan) >= s)
        yield from run(f"stage{s}", range(1, family.most_convs + 1), (Condition("pools", deep),) if s > 1 else ())
    if longest:
        some = tuple(name for name, plan in plans.items() if plan)
        yield from run("last", range(family.most_convs + 1), (Condition("pools", some),))
    small = tuple(name for name, plan in plans.items() if family.takes_hidden(plan)) if family.most_hidden else ()
    if small:
        layouts = list(family.layouts.values())
        counts = [len(layout) for layout in layouts]
        prior = tuple(1 / counts.count(n) for n in counts)
        when = ((Condition("pools", small),),) if len(small) < len(plans) else ()
        yield Decision("hidden", tuple(family.layouts), when, prior)
    # Where one pixel is left, its mean is the pixel; behind a fully connected layer there is no image any more.
    groups: list[tuple[Condition, ...]] = []
    for resolution in family.resolutions:
        many = [name for name, plan in plans.items() if family.sides(plan, resolution)[-1] > 1]
        for names, also in (
            ([name for name in many if name not in small], ()),
            ([name for name in many if name in small], (Condition("hidden", (NONE,)),)),
        ):
            if names:
                groups.append((Condition("resolution", (resolution,)), Condition("pools", tuple(names)), *also))
    if groups:
        yield Decision("classifier", ("mean", "pixels"), tuple(groups))


def _units(family: MetaQnn, decisions: Mapping[str, Decision]) -> list[Unit]:
    """In the order in which a network runs them."""
    units: list[Unit] = []
    longest = max(map(len, family.plans.values()))

    def add(name: str, labels: Sequence[str], block: Callable[[Options], Block | None]) -> None:
        wanted = tuple(dict.fromkeys(["resolution", "pools", *(label for label in labels if label in decisions)]))
        every = itertools.product(*(decisions[label].options for label in wanted))
        units.append(Unit(name, wanted, tuple(block(dict(zip(wanted, row, strict=True))) for row in every)))

    def run(stage: str, before: Sequence[str | None]) -> None:
        """The convolutions of a stage, which reads one of some stages, or the image."""
        for n in range(family.most_convs, 0, -1):
            own = [f"{stage}.convs", f"{stage}.conv{n}.filters", f"{stage}.conv{n}.kernel"]
            for source in before:
                read = _Conv(family, stage, n, source)
                labels = [*own, *([] if source is None else [f"{source}.conv1.filters"])]
                add(f"{stage}.conv{n}.{source or 'image'}", labels, read.first)
            if n < family.most_convs:
                inner = _Conv(family, stage, n, None)
                add(f"{stage}.conv{n}", [*own, f"{stage}.conv{n + 1}.filters"], inner.inner)

    for s in range(1, max(1, longest) + 1):
        stage = f"stage{s}"
        run(stage, [None if s == 1 else f"stage{s - 1}"])
        if longest:
            add(f"{stage}.pool", [f"{stage}.conv1.filters"], _Pool(family, s).block)
    ends = [f"stage{s}" for s in range(1, max(1, longest) + 1)]
    if longest:
        run("last", ends)
    for stage in [*ends, *(["last"] if longest else [])]:
        labels = ["last.convs", f"{stage}.conv1.filters", "hidden", "classifier"]
        add(f"head.{stage}", labels, _Head(family, stage).block)
    return units


@dataclass(frozen=True)
class _Conv:
    """A convolution, the n-th from the end of its stage; the first of them reads another stage, or the image."""

    family: MetaQnn
    stage: str
    n: int
    source: str | None

    def first(self, options: Options) -> Block | None:
        plan = self.family.plans[str(options["pools"])]
        stages = _stages(len(plan))
        if self.stage not in stages or int(options[f"{self.stage}.convs"]) != self.n:
            return None
        at = stages.index(self.stage)
        if (stages[at - 1] if at else None) != self.source:
            return None
        return self._block(
            options, self.family.channels if self.source is None else int(options[f"{self.source}.conv1.filters"])
        )

    def inner(self, options: Options) -> Block | None:
        plan = self.family.plans[str(options["pools"])]
        if self.stage not in _stages(len(plan)) or int(options[f"{self.stage}.convs"]) <= self.n:
            return None
        return self._block(options, int(options[f"{self.stage}.conv{self.n + 1}.filters"]))

    def _block(self, options: Options, c_in: int) -> Block:
        plan = self.family.plans[str(options["pools"])]
        side = self.family.sides(plan, int(options["resolution"]))[_stages(len(plan)).index(self.stage)]
        name = f"{self.stage}.conv{self.n}"
        return describe_conv_norm_relu(
            c_in, int(options[f"{name}.filters"]), side, kernel=int(options[f"{name}.kernel"])
        )


@dataclass(frozen=True)
class _Pool:
    """The pool behind a stage."""

    family: MetaQnn
    stage: int

    def block(self, options: Options) -> Block | None:
        plan = self.family.plans[str(options["pools"])]
        if len(plan) < self.stage:
            return None
        kernel, stride = plan[self.stage - 1]
        side = self.family.sides(plan, int(options["resolution"]))[self.stage - 1]
        channels = int(options[f"stage{self.stage}.conv1.filters"])
        return describe_window_pool(channels, side, kernel=kernel, stride=stride)


@dataclass(frozen=True)
class _Head:
    """What reads the end of a stage: the last one's convolution, or a pool with none behind it."""

    family: MetaQnn
    stage: str

    def block(self, options: Options) -> Block | None:
        plan = self.family.plans[str(options["pools"])]
        after = _stages(len(plan))[-1]
        if after == "last" and not int(options["last.convs"]):
            after = f"stage{len(plan)}"
        if after != self.stage:
            return None
        takes = "hidden" in options and self.family.takes_hidden(plan)
        hidden = self.family.layouts[str(options["hidden"])] if takes else ()
        side = self.family.sides(plan, int(options["resolution"]))[-1]
        mean = not hidden and (side == 1 or options["classifier"] == "mean")
        channels = int(options[f"{self.stage}.conv1.filters"])
        return describe_sequence_head(channels, hidden, self.family.classes, side, mean=mean)
