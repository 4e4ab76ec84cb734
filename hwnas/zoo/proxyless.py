"""ProxylessNAS: a chain of inverted bottlenecks, each of its own kernel and expansion, some left out.

Source: Cai et al. 2019 (arXiv 1812.00332), section 4.2, and github.com/mit-han-lab/proxylessnas for the networks they
released.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from torch import nn

from hwnas.core import Architecture, SpaceError
from hwnas.nn.blocks import (
    activation,
    build_block,
    build_network,
    describe_head,
    describe_mbconv,
    describe_separable,
    describe_stem,
)
from hwnas.nn.chain_supernet import ChainSupernet
from hwnas.space import Block, Decision, Space, Unit

SKIP = "skip"
"""The option that leaves a place out: their "zero" beside a shortcut."""


@dataclass(frozen=True)
class ProxylessNAS:
    """The family: everything that fixes a space. One list entry per stage where a field is a list.

    Attributes:
        name: Of the space; part of the latency table's file name.
        channels: Of the images, 1 or 3; comes from the data.
        classes: Comes from the data.
        resolutions: Sides of the square input, searched where there are several.
        kernels: Sides of the depthwise kernels, odd.
        expansions: Hidden channels per incoming channel.
        stem_width: Channels after the first convolution.
        stem_stride: Its stride: 2 for ImageNet, 1 for images of 32 pixels.
        first_width: Channels after the fixed first block.
        widths: Channels of each stage.
        depths: Places in each stage; those that keep the shape of their input may be left out.
        strides: Of each stage's first block.
        activation: "relu", "relu6" or "hswish", everywhere.
        head_width: Channels before the classifier.

    Raises:
        SpaceError: If a value is impossible; names the field and the value.

    Example:
        >>> family = ProxylessNAS()
        >>> f"{family.space.size:.1e}", len(family.space.decisions)
        ('2.2e+17', 22)
    """

    name: str = "proxyless"
    channels: int = 3
    classes: int = 1000
    resolutions: tuple[int, ...] = (224,)
    kernels: tuple[int, ...] = (3, 5, 7)
    expansions: tuple[int, ...] = (3, 6)
    stem_width: int = 32
    stem_stride: int = 2
    first_width: int = 16
    widths: tuple[int, ...] = (24, 40, 80, 96, 192, 320)
    depths: tuple[int, ...] = (4, 4, 4, 4, 4, 1)
    strides: tuple[int, ...] = (2, 2, 2, 1, 2, 1)
    activation: str = "relu6"
    head_width: int = 1280

    def __post_init__(self) -> None:
        for field in ("resolutions", "kernels", "expansions"):
            values = getattr(self, field)
            if not values or list(values) != sorted(set(values)) or values[0] < 1:
                raise SpaceError(f"{field} is {list(values)}; expected ascending numbers above 0, each once")
        for kernel in self.kernels:
            if kernel % 2 == 0:
                raise SpaceError(f"kernels holds {kernel}; kernels are odd, so that images keep their centre")
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
        activation(self.activation)

    @property
    def operations(self) -> tuple[str, ...]:
        """What a place may hold; one that changes the shape of its input cannot be left out.

        Example:
            >>> ProxylessNAS().operations
            ('k3_e3', 'k5_e3', 'k7_e3', 'k3_e6', 'k5_e6', 'k7_e6', 'skip')
        """
        return (*(f"k{kernel}_e{expansion}" for expansion in self.expansions for kernel in self.kernels), SKIP)

    def places(self) -> Iterator[tuple[str, int, int, int]]:
        """Name, channels in, channels out and stride of each searched place, in order."""
        c_in = self.first_width
        for number, (width, depth, stride) in enumerate(zip(self.widths, self.depths, self.strides, strict=True), 1):
            for block in range(depth):
                yield f"stage{number}.block{block + 1}", c_in, width, stride if block == 0 else 1
                c_in = width

    @cached_property
    def space(self) -> Space:
        """The decisions, and the blocks they choose."""
        decisions = [Decision("resolution", self.resolutions)]
        sizes = [-(-resolution // self.stem_stride) for resolution in self.resolutions]
        act = self.activation
        stems = tuple(
            describe_stem(self.channels, self.stem_width, r, kernel=3, stride=self.stem_stride, activation_name=act)
            for r in self.resolutions
        )
        firsts = tuple(
            describe_separable(self.stem_width, self.first_width, size, kernel=3, stride=1, activation_name=act)
            for size in sizes
        )
        units = [Unit("stem", ("resolution",), stems), Unit("first", ("resolution",), firsts)]
        for name, c_in, width, stride in self.places():
            options = self.operations if stride == 1 and c_in == width else self.operations[:-1]
            label = f"{name}.operation"
            decisions.append(Decision(label, options))
            blocks = tuple(self._block(option, c_in, width, size, stride) for size in sizes for option in options)
            units.append(Unit(name, ("resolution", label), blocks))
            sizes = [-(-size // stride) for size in sizes]
        heads = tuple(
            describe_head(self.widths[-1], self.head_width, self.classes, size, activation_name=act) for size in sizes
        )
        return Space(self.name, tuple(decisions), (*units, Unit("head", ("resolution",), heads)))

    def _block(self, operation: str, c_in: int, width: int, size: int, stride: int) -> Block | None:
        if operation == SKIP:
            return None
        kernel, _, expansion = operation.removeprefix("k").partition("_e")
        return describe_mbconv(
            c_in,
            width,
            size,
            hidden=c_in * int(expansion),
            kernel=int(kernel),
            stride=stride,
            activation_name=self.activation,
            squeeze=0,
        )

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
            >>> ProxylessNAS().default()["stage1.block2.operation"]
            'k3_e6'
        """
        return self.architecture([f"k{self.kernels[0]}_e{self.expansions[-1]}"] * sum(self.depths))

    def architecture(self, operations: Sequence[str], *, resolution: int | None = None) -> Architecture:
        """The architecture of a list of operations, at the largest resolution unless given.

        Raises:
            SpaceError: If the list has the wrong length, or an operation is not one of its place.
        """
        if len(operations) != sum(self.depths):
            raise SpaceError(
                f"space {self.name}: {len(operations)} operations; expected {sum(self.depths)}, one per place"
            )
        chosen = {
            f"{name}.operation": operation for (name, *_), operation in zip(self.places(), operations, strict=True)
        }
        return self.space.canonical({"resolution": resolution or self.resolutions[-1], **chosen})


@dataclass(frozen=True)
class Released:
    """A network that the authors released: its space, which has widths of its own, and what it holds.

    Attributes:
        family: With the network's widths.
        codes: Of the places, indices into `ProxylessNAS.operations`; six leaves a place out.
    """

    family: ProxylessNAS
    codes: str

    @property
    def architecture(self) -> Architecture:
        """The network in its space."""
        return self.family.architecture([self.family.operations[int(code)] for code in self.codes if code != " "])

    @property
    def blocks(self) -> list[Block]:
        """From stem to head."""
        return self.family.space.blocks_of(self.architecture)


def _widths(name: str, *widths: int) -> ProxylessNAS:
    stem, first, *stages, head = widths
    return ProxylessNAS(name, stem_width=stem, first_width=first, widths=tuple(stages), head_width=head)


_MOBILE = "1066 2011 5111 4111 5522 5"

RELEASED: Mapping[str, Released] = {
    "cpu": Released(_widths("proxyless_cpu", 40, 24, 32, 48, 88, 104, 216, 360, 1432), "3000 3001 3660 4000 4110 4"),
    "gpu": Released(_widths("proxyless_gpu", 40, 24, 32, 56, 112, 128, 256, 432, 1728), "1666 2660 5661 4601 5554 5"),
    "mobile": Released(_widths("proxyless_mobile", 32, 16, 32, 40, 80, 96, 192, 320, 1280), _MOBILE),
    "mobile_14": Released(_widths("proxyless_mobile_14", 48, 24, 40, 56, 112, 136, 256, 448, 1792), _MOBILE),
}
"""What the authors released for each device, for 224 pixels and 1,000 classes."""
