"""BossNAS's HyTra: residual bottlenecks that convolve or attend, and where among them the image is halved.

Source: Li et al. 2021 (arXiv 2103.12424), section 3.3, and the released code (changlin31/BossNAS): 16 layers in four
blocks of four; scales that only get coarser, one step at a time, each block bound to its coarsest two to four;
attention at the two coarsest; the first layer may start at any. Layers are those that the code trains after its search;
those of the search itself halve the image on the shortcut by a 3x3 convolution instead of a mean. Scales that a network
never reaches are left out here, where the code appends a strided convolution. The classifier is none of the paper's
search, which has no labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Literal, cast

from torch import Tensor, nn

from hwnas.core import Architecture, Option, SpaceError
from hwnas.nn.blocks import build_block, build_network, describe_stem
from hwnas.nn.bottleneck import describe_pool_head
from hwnas.nn.gates import Gates, check_resolution, only_choices
from hwnas.nn.hybrid_blocks import OPERATIONS, ElasticHybridLayer, describe_hybrid, describe_patches
from hwnas.nn.two_input_cells import describe_operation
from hwnas.space import Block, Condition, Decision, Space, Unit
from hwnas.zoo.sides import check_sides

CONV, ATTENTION = OPERATIONS

BOSSNET_T0 = ((1,), (1,), (1, 1, 1, 0, 1), (0, 0, 0, 1, 0, 0, 0, 0, 0))
"""The network that was found, in the released code's notation: of each scale its layers: 1 conv, 0 attention."""


@dataclass(frozen=True)
class HyTra:
    """The family: everything that fixes a space. One list entry per scale, the finest first, where a field is a list.

    Attributes:
        name: Of the space; part of the latency table's file name.
        channels: Of the images, 1 or 3; comes from the data.
        classes: Comes from the data.
        resolutions: Sides of the square input, searched; multiples of what the stem and the scales divide them by.
        stem: "imagenet": a 7x7 convolution and a pool, each of which halves the image; "small": a 3x3 convolution.
        stem_width: Channels that it gives.
        widths: Channels of each scale, ascending; a quarter of them stands inside a layer.
        head_width: Channels of an attention head; divides those inside.
        attending: How many scales, the coarsest, may attend.
        block: Layers of each block.
        finest: Of each block the finest scale that its layers may have, counted from 0.

    Raises:
        SpaceError: If a value is impossible; names the field and the value.

    Example:
        >>> family = HyTra()
        >>> family.space.size, len(family.space.decisions)
        (2777600, 18)
    """

    name: str = "bossnas_hytra"
    channels: int = 3
    classes: int = 1000
    resolutions: tuple[int, ...] = (224,)
    stem: Literal["imagenet", "small"] = "imagenet"
    stem_width: int = 64
    widths: tuple[int, ...] = (256, 512, 1024, 2048)
    head_width: int = 64
    attending: int = 2
    block: int = 4
    finest: tuple[int, ...] = (0, 1, 2, 2)

    def __post_init__(self) -> None:
        for field in ("channels", "classes", "stem_width", "head_width", "block"):
            if getattr(self, field) < 1:
                raise SpaceError(f"{field} is {getattr(self, field)}; it must be above 0")
        if not self.widths or list(self.widths) != sorted(set(self.widths)) or any(width % 4 for width in self.widths):
            raise SpaceError(f"widths is {list(self.widths)}; expected ascending multiples of 4")
        if not 0 <= self.attending <= len(self.widths):
            raise SpaceError(f"attending is {self.attending}; there are {len(self.widths)} scales")
        for width in self.widths[len(self.widths) - self.attending :]:
            if width // 4 % self.head_width:
                raise SpaceError(
                    f"head_width is {self.head_width}; it does not divide {width // 4}, a quarter of {width} channels"
                )
        if not self.finest or list(self.finest) != sorted(self.finest) or self.finest[0] < 0:
            raise SpaceError(f"finest is {list(self.finest)}; scales get coarser, so expected numbers that never fall")
        if self.finest[-1] >= len(self.widths):
            raise SpaceError(f"finest holds {self.finest[-1]}; the coarsest scale is {len(self.widths) - 1}")
        step = self.stem_stride * 2 ** (len(self.widths) - 1)
        check_sides(self.resolutions, why="stem and scales divide it", step=step)

    @property
    def stem_stride(self) -> int:
        """By how much the stem divides the image."""
        return 4 if self.stem == "imagenet" else 1

    @property
    def layers(self) -> int:
        """Of every network."""
        return self.block * len(self.finest)

    @cached_property
    def scales(self) -> tuple[tuple[int, ...], ...]:
        """The scale of each layer, for every way to get coarser.

        Example:
            >>> HyTra(widths=(16, 32), finest=(0,), block=2, head_width=4).scales
            ((0, 0), (0, 1), (1, 1))
        """
        return tuple(_descents(self, ()))

    @cached_property
    def space(self) -> Space:
        """The decisions, and the blocks they choose."""
        return _space(self)

    @property
    def has_supernet(self) -> bool:
        """Whether all networks can be trained in one set of weights."""
        return True

    def default(self) -> Architecture:
        """The network one would take without a search: BossNet-T0, or convolutions spread evenly where it is none."""
        if self.widths == HyTra.widths and "1-1-5-9" in self.space["scales"].options:
            return self.architecture(BOSSNET_T0)
        counts = [self._counts(scales) for scales in self.scales]
        even = min(counts, key=lambda count: sum(layers * layers for layers in count))
        return self.architecture([[1] * layers for layers in even])

    def supernet(self) -> HyTraSupernet:
        """All networks in one set of weights, freshly initialised from torch's global generator."""
        return HyTraSupernet(self)

    def build_block(self, block: Block) -> nn.Module:
        """The plain module of an entry of the latency table, with fresh random weights."""
        return build_block(block)

    def build_network(self, architecture: Architecture) -> nn.Module:
        """The plain network of an architecture, with fresh random weights.

        Raises:
            SpaceError: If the architecture is not one of the space.
        """
        return build_network(self.space, architecture)

    def architecture(self, code: Sequence[Sequence[int]], *, resolution: int | None = None) -> Architecture:
        """The architecture of a code, at the largest resolution unless given.

        Args:
            code: In the released code's notation: of each scale its layers, 1 to convolve and 0 to attend.
            resolution: Side of the images.

        Raises:
            SpaceError: If the space has no such network.

        Example:
            >>> HyTra().architecture(BOSSNET_T0)["layer7.operation"]
            'conv'
        """
        options: dict[str, Option] = {
            "resolution": resolution or self.resolutions[-1],
            "scales": "-".join(str(len(layers)) for layers in code),
        }
        layer = 0
        for scale, layers in enumerate(code):
            for bit in layers:
                layer += 1
                if scale >= len(self.widths) - self.attending:
                    options[f"layer{layer}.operation"] = CONV if bit else ATTENTION
                elif not bit:
                    raise SpaceError(
                        f"space {self.name}: layer {layer} attends at scale {scale}; only the coarsest "
                        f"{self.attending} of {len(self.widths)} may"
                    )
        return self.space.canonical(options)

    def code(self, architecture: Architecture) -> tuple[tuple[int, ...], ...]:
        """The code of an architecture.

        Raises:
            SpaceError: If the architecture is not one of the space.
        """
        self.space.encode([architecture])
        found, layer = [], 0
        for count in map(int, str(architecture["scales"]).split("-")):
            names = [f"layer{n}.operation" for n in range(layer + 1, layer + count + 1)]
            found.append(tuple(int(architecture.get(name, CONV) == CONV) for name in names))
            layer += count
        return tuple(found)

    def _counts(self, scales: Sequence[int]) -> list[int]:
        return [scales.count(scale) for scale in range(len(self.widths))]

    def layer(self, scales: Sequence[int], number: int, operation: str, resolution: int) -> Block:
        """The block of a layer, counted from 1, where each has some scale."""
        scale = scales[number - 1]
        before = scales[number - 2] if number > 1 else scale
        # The first layer reads what leads to its scale, the others what a layer gave.
        c_in = self.widths[before] if number > 1 else self._entry(scale)
        attends = operation == ATTENTION and scale >= len(self.widths) - self.attending
        middle = self.widths[scale] // 4
        return describe_hybrid(
            c_in,
            self.widths[scale],
            resolution // self.stem_stride // 2**before,
            operation=ATTENTION if attends else CONV,
            middle=middle,
            heads=max(1, middle // self.head_width),
            stride=2 ** (scale - before),
        )

    def patches(self, scale: int, resolution: int) -> Block | None:
        """What leads from the stem to a scale; nothing to the finest."""
        size = resolution // self.stem_stride
        return describe_patches(self.stem_width, self._entry(scale), size, side=2**scale) if scale else None

    def _entry(self, scale: int) -> int:
        return self.widths[scale] // 4 if scale else self.stem_width


def _descents(family: HyTra, begun: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Every way to go on from some layers' scales."""
    if len(begun) == family.layers:
        yield begun
        return
    least = family.finest[len(begun) // family.block]
    reach = range(begun[-1], begun[-1] + 2) if begun else range(len(family.widths))
    for scale in reach:
        if least <= scale < len(family.widths):
            yield from _descents(family, (*begun, scale))


class HyTraSupernet(nn.Module):
    """The weights of a `HyTra` family: each layer has its own for every operation at every scale.

    It takes choices only: a batch has one size, so scales cannot be mixed.
    """

    def __init__(self, family: HyTra) -> None:
        super().__init__()
        self.family = family
        units = family.space.units
        of_layers = [unit for unit in units if unit.name.startswith("layer")]
        others = {_name(block): block for unit in units if unit not in of_layers for block in unit.blocks if block}
        self.ends = nn.ModuleDict({name: build_block(block) for name, block in others.items()})
        self.layers = nn.ModuleList(
            ElasticHybridLayer(block for block in unit.blocks if block is not None) for unit in of_layers
        )

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
        layers = iter(self._layers())
        for block in self.space.blocks_of(architecture):
            x = next(layers)(x, block) if block.kind == "hybrid" else self.ends[_name(block)](x)
        return x

    def extract(self, architecture: Architecture) -> nn.Sequential:
        """The plain network of one architecture, with its own copy of the weights.

        Raises:
            SpaceError: If the architecture is not one of the space.
        """
        layers = iter(self._layers())
        parts: list[nn.Module] = []
        for block in self.space.blocks_of(architecture):
            if block.kind == "hybrid":
                parts.append(next(layers).cut(block))
                continue
            parts.append(build_block(block))
            parts[-1].load_state_dict(self.ends[_name(block)].state_dict())
        return nn.Sequential(*parts).train(self.training)

    def _layers(self) -> list[ElasticHybridLayer]:
        return cast(list[ElasticHybridLayer], list(self.layers))


def _name(block: Block) -> str:
    """Of a part before or behind the layers, whatever the image's size."""
    return f"{block.kind}-{block.input_shape[0]}-{block.output_shape[0]}"


@cache
def _space(family: HyTra) -> Space:
    names = ["-".join(map(str, family._counts(scales))) for scales in family.scales]
    decisions = [Decision("resolution", family.resolutions), Decision("scales", tuple(names))]
    attending = len(family.widths) - family.attending
    sides = family.resolutions
    large = family.stem == "imagenet"
    stems = tuple(
        describe_stem(
            family.channels,
            family.stem_width,
            side,
            kernel=7 if large else 3,
            stride=2 if large else 1,
            activation_name="relu",
        )
        for side in sides
    )
    units = [Unit("stem", ("resolution",), stems)]
    if large:
        width = family.stem_width
        pools = (describe_operation("max_pool_3x3", width, width, side // 2, stride=2) for side in sides)
        units.append(Unit("pool", ("resolution",), tuple(pools)))
    starts = tuple(family.patches(scales[0], side) for side in sides for scales in family.scales)
    units.append(Unit("patches", ("resolution", "scales"), starts))
    for number in range(1, family.layers + 1):
        label = f"layer{number}.operation"
        open_ = tuple(name for name, at in zip(names, family.scales, strict=True) if at[number - 1] >= attending)
        if open_:
            always = len(open_) == len(names)
            decisions.append(Decision(label, OPERATIONS, () if always else ((Condition("scales", open_),),)))
        operations = OPERATIONS if open_ else OPERATIONS[:1]
        blocks = tuple(
            family.layer(scales, number, operation, side)
            for side in sides
            for scales in family.scales
            for operation in operations
        )
        labels = ("resolution", "scales", label) if open_ else ("resolution", "scales")
        units.append(Unit(f"layer{number}", labels, blocks))
    heads = tuple(
        describe_pool_head(family.widths[at[-1]], family.classes, side // family.stem_stride // 2 ** at[-1])
        for side in sides
        for at in family.scales
    )
    return Space(family.name, tuple(decisions), (*units, Unit("head", ("resolution", "scales"), heads)))
