"""FPNAS: a chain of 16 places, each an inverted bottleneck of its own kind, so that blocks are diverse.

Source: Cui et al. 2019 (ICCV, "Fast and Practical Neural Architecture Search"), and the network that
github.com/jiequancui/FPNASNet releases: widths, strides, and of each place the expansion (4, 6 or 8), whether it adds
its input and whether half of the channels pass it by. That the search could also expand by 2 is our reading; the
released network has no such place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from torch import nn

from hwnas.core import Architecture, SpaceError
from hwnas.nn.blocks import build_block, build_network, describe_head, describe_separable, describe_stem
from hwnas.nn.chain_supernet import ChainSupernet
from hwnas.nn.split_blocks import describe_split_mbconv
from hwnas.space import Block, Decision, Space, Unit

FORMS = ("", "_shortcut", "_split", "_split_shortcut")
"""What an operation's name may hold behind its expansion."""

FPNASNET = (
    *("e4_split_shortcut", "e6_shortcut"),
    *("e8", "e6_split_shortcut", "e8_shortcut"),
    *("e6_shortcut", "e8_split", "e8_shortcut", "e8_split_shortcut"),
    *("e6_split", "e6_shortcut", "e6"),
    *("e4_split_shortcut", "e8_split", "e4"),
    "e6",
)
"""The network that was found for ImageNet, place by place."""


@dataclass(frozen=True)
class Fpnas:
    """The family: everything that fixes a space. One list entry per stage where a field is a list.

    Attributes:
        name: Of the space; part of the latency table's file name.
        channels: Of the images, 1 or 3; comes from the data.
        classes: Comes from the data.
        resolutions: Sides of the square input, searched where there are several.
        expansions: Of a place: channels between per channel in.
        stem_width: Channels after the first convolution.
        stem_stride: Its stride: 2 for ImageNet, 1 for images of 32 pixels.
        first_width: Channels after the block behind it, which is no place.
        widths: Channels of each stage, even.
        depths: Places in each stage.
        strides: Of each stage's first place.
        head_width: Channels before the classifier.

    Raises:
        SpaceError: If a value is impossible; names the field and the value.

    Example:
        >>> family = Fpnas()
        >>> family.space.size == 16**16, len(family.space.decisions)
        (True, 17)
    """

    name: str = "fpnas"
    channels: int = 3
    classes: int = 1000
    resolutions: tuple[int, ...] = (224,)
    expansions: tuple[int, ...] = (2, 4, 6, 8)
    stem_width: int = 34
    stem_stride: int = 2
    first_width: int = 24
    widths: tuple[int, ...] = (24, 40, 80, 112, 192, 320)
    depths: tuple[int, ...] = (2, 3, 4, 3, 3, 1)
    strides: tuple[int, ...] = (2, 2, 2, 1, 2, 1)
    head_width: int = 1280

    def __post_init__(self) -> None:
        for field in ("resolutions", "expansions"):
            values = getattr(self, field)
            if not values or list(values) != sorted(set(values)) or values[0] < 1:
                raise SpaceError(f"{field} is {list(values)}; expected ascending numbers above 0, each once")
        for field in ("channels", "classes", "stem_width", "stem_stride", "first_width", "head_width"):
            if getattr(self, field) < 1:
                raise SpaceError(f"{field} is {getattr(self, field)}; it must be above 0")
        for field in ("depths", "strides"):
            if len(getattr(self, field)) != len(self.widths):
                raise SpaceError(
                    f"{field} has {len(getattr(self, field))} entries, widths has {len(self.widths)}; "
                    "expected one per stage"
                )
        if not self.widths or min(*self.widths, *self.depths, *self.strides) < 1:
            raise SpaceError(
                f"widths {list(self.widths)}, depths {list(self.depths)} and strides {list(self.strides)} must be "
                "above 0, for at least one stage"
            )
        if self.first_width < 2:
            raise SpaceError(f"first_width is {self.first_width}; a split needs at least 2 channels")
        for name, c_in, width, _ in self.places():
            if width % 2:
                raise SpaceError(f"widths holds {width}; it must be even, as a split shuffles two halves")
            if width <= c_in // 2:
                raise SpaceError(
                    f"widths {list(self.widths)}: {name} turns {c_in} channels into {width}; there must be more than "
                    "the half that passes by"
                )

    def places(self) -> Iterator[tuple[str, int, int, int]]:
        """Name, channels in, channels out and stride of each searched place, in order."""
        c_in = self.first_width
        for number, (width, depth, stride) in enumerate(zip(self.widths, self.depths, self.strides, strict=True), 1):
            for block in range(depth):
                yield f"stage{number}.block{block + 1}", c_in, width, stride if block == 0 else 1
                c_in = width

    @property
    def operations(self) -> dict[str, tuple[int, bool, bool]]:
        """The options of a place, by name: expansion, whether it adds its input, whether half passes it by.

        Example:
            >>> Fpnas(expansions=(4,)).operations["e4_split"]
            (4, False, True)
        """
        return {
            f"e{expansion}{form}": (expansion, "shortcut" in form, "split" in form)
            for expansion in self.expansions
            for form in FORMS
        }

    @cached_property
    def space(self) -> Space:
        """The decisions, and the blocks they choose."""
        decisions = [Decision("resolution", self.resolutions)]
        sizes = [-(-resolution // self.stem_stride) for resolution in self.resolutions]
        stems = tuple(
            describe_stem(self.channels, self.stem_width, r, kernel=3, stride=self.stem_stride, activation_name="relu")
            for r in self.resolutions
        )
        firsts = tuple(
            describe_separable(
                self.stem_width, self.first_width, size, kernel=3, stride=1, activation_name="relu", shortcut=False
            )
            for size in sizes
        )
        units = [Unit("stem", ("resolution",), stems), Unit("first", ("resolution",), firsts)]
        operations = self.operations
        for name, c_in, width, stride in self.places():
            label = f"{name}.operation"
            decisions.append(Decision(label, tuple(operations)))
            blocks = tuple(
                describe_split_mbconv(
                    c_in, width, size, expansion=expansion, stride=stride, shortcut=shortcut, split=split
                )
                for size in sizes
                for expansion, shortcut, split in operations.values()
            )
            units.append(Unit(name, ("resolution", label), blocks))
            sizes = [-(-size // stride) for size in sizes]
        heads = tuple(
            describe_head(self.widths[-1], self.head_width, self.classes, size, activation_name="relu")
            for size in sizes
        )
        return Space(self.name, tuple(decisions), (*units, Unit("head", ("resolution",), heads)))

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

    def supernet(self) -> ChainSupernet:
        """All candidates of all places, freshly initialised from torch's global generator."""
        return ChainSupernet(self.space)

    def default(self) -> Architecture:
        """The network one would take without a search: MobileNetV2's block everywhere, at the largest resolution.

        Example:
            >>> Fpnas().default()["stage1.block2.operation"]
            'e6_shortcut'
        """
        expansion = min(self.expansions, key=lambda e: abs(e - 6))
        return self.architecture([f"e{expansion}_shortcut"] * sum(self.depths))

    def architecture(self, operations: Sequence[str], *, resolution: int | None = None) -> Architecture:
        """The architecture of a list of operations, at the largest resolution unless given.

        Raises:
            SpaceError: If the list has the wrong length, or an operation is not one of the space.

        Example:
            >>> family = Fpnas()
            >>> round(sum(block.macs for block in family.space.blocks_of(family.architecture(FPNASNET))) / 1e6)
            301
        """
        if len(operations) != sum(self.depths):
            raise SpaceError(
                f"space {self.name}: {len(operations)} operations; expected {sum(self.depths)}, one per place"
            )
        chosen = {f"{name}.operation": op for (name, *_), op in zip(self.places(), operations, strict=True)}
        return self.space.canonical({"resolution": resolution or self.resolutions[-1], **chosen})
