"""FBNet: a chain of 22 places, each of nine blocks.

Source: Wu et al. 2019 (arXiv 1812.03443), tables 1 and 2, and the networks that github.com/facebookresearch/
mobile-vision lists. Blocks of expansion 1 have no first convolution, as in the released networks, whose published
multiply-adds and parameters this gives; in the paper's figure 3 they have one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from torch import nn

from hwnas.core import Architecture, SpaceError
from hwnas.core.errors import did_you_mean
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

OPERATIONS = ("k3_e1", "k3_e1_g2", "k3_e3", "k3_e6", "k5_e1", "k5_e1_g2", "k5_e3", "k5_e6", "skip")
"""Kernel, expansion, groups of the pointwise convolution, in the order of the benchmark's codes 0 to 8."""

_SETTINGS: Mapping[str, tuple[int, int, int]] = {
    "k3_e1": (3, 1, 1),
    "k3_e1_g2": (3, 1, 2),
    "k3_e3": (3, 3, 1),
    "k3_e6": (3, 6, 1),
    "k5_e1": (5, 1, 1),
    "k5_e1_g2": (5, 1, 2),
    "k5_e3": (5, 3, 1),
    "k5_e6": (5, 6, 1),
}


@dataclass(frozen=True)
class FBNet:
    """The family: everything that fixes a space. One list entry per stage where a field is a list.

    Attributes:
        name: Of the space; part of the latency table's file name.
        channels: Of the images, 1 or 3; comes from the data.
        classes: Comes from the data.
        resolutions: Sides of the square input, searched where there are several.
        operations: Of a place; "skip" only where it keeps the shape of its input.
        stem_width: Channels after the first convolution.
        stem_stride: Its stride: 2 for ImageNet, 1 for images of 32 pixels.
        widths: Channels of each stage.
        depths: Places in each stage.
        strides: Of each stage's first block.
        activation: "relu", "relu6" or "hswish", everywhere.
        head_width: Channels before the classifier.

    Raises:
        SpaceError: If a value is impossible; names the field and the value.

    Example:
        >>> family = FBNet()
        >>> f"{family.space.size:.1e}", len(family.space.decisions)
        ('4.9e+20', 23)
    """

    name: str = "fbnet"
    channels: int = 3
    classes: int = 1000
    resolutions: tuple[int, ...] = (224,)
    operations: tuple[str, ...] = OPERATIONS
    stem_width: int = 16
    stem_stride: int = 2
    widths: tuple[int, ...] = (16, 24, 32, 64, 112, 184, 352)
    depths: tuple[int, ...] = (1, 4, 4, 4, 4, 4, 1)
    strides: tuple[int, ...] = (1, 2, 2, 2, 1, 2, 1)
    activation: str = "relu"
    head_width: int = 1984

    def __post_init__(self) -> None:
        if not self.resolutions or list(self.resolutions) != sorted(set(self.resolutions)) or self.resolutions[0] < 1:
            raise SpaceError(f"resolutions is {list(self.resolutions)}; expected ascending numbers above 0, each once")
        for operation in self.operations:
            if operation not in OPERATIONS:
                raise SpaceError(f'operations holds "{operation}"; {did_you_mean(operation, OPERATIONS)}')
        if not set(self.operations) & set(_SETTINGS) or len(set(self.operations)) < len(self.operations):
            raise SpaceError(f"operations is {list(self.operations)}; expected a block beside skip, each once")
        for field in ("channels", "classes", "stem_width", "stem_stride", "head_width"):
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
        if any(width % 2 for width in (self.stem_width, *self.widths)) and any("g2" in op for op in self.operations):
            raise SpaceError(
                f"stem_width {self.stem_width} and widths {list(self.widths)} must be even: operations with g2 halve "
                "the channels"
            )
        activation(self.activation)

    def places(self) -> Iterator[tuple[str, int, int, int]]:
        """Name, channels in, channels out and stride of each searched place, in order."""
        c_in = self.stem_width
        for number, (width, depth, stride) in enumerate(zip(self.widths, self.depths, self.strides, strict=True), 1):
            for block in range(depth):
                yield f"stage{number}.block{block + 1}", c_in, width, stride if block == 0 else 1
                c_in = width

    @cached_property
    def space(self) -> Space:
        """The decisions, and the blocks they choose."""
        decisions = [Decision("resolution", self.resolutions)]
        act = self.activation
        stems = tuple(
            describe_stem(self.channels, self.stem_width, r, kernel=3, stride=self.stem_stride, activation_name=act)
            for r in self.resolutions
        )
        units = [Unit("stem", ("resolution",), stems)]
        sizes = [-(-resolution // self.stem_stride) for resolution in self.resolutions]
        for name, c_in, width, stride in self.places():
            keeps = stride == 1 and c_in == width
            options = tuple(option for option in self.operations if keeps or option != "skip")
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
        if operation == "skip":
            return None
        kernel, expansion, groups = _SETTINGS[operation]
        if expansion == 1:
            return describe_separable(
                c_in, width, size, kernel=kernel, stride=stride, activation_name=self.activation, groups=groups
            )
        return describe_mbconv(
            c_in,
            width,
            size,
            hidden=c_in * expansion,
            kernel=kernel,
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
            >>> FBNet().default()["stage2.block2.operation"]
            'k3_e6'
        """
        block = "k3_e6" if "k3_e6" in self.operations else next(op for op in self.operations if op != "skip")
        return self.architecture([block] * sum(self.depths))

    def architecture(self, operations: Sequence[str], *, resolution: int | None = None) -> Architecture:
        """The architecture of a list of operations, at the largest resolution unless given.

        Raises:
            SpaceError: If the list has the wrong length, or an operation is not one of its place.
        """
        if len(operations) != sum(self.depths):
            raise SpaceError(
                f"space {self.name}: {len(operations)} operations; expected {sum(self.depths)}, one per place"
            )
        chosen = {f"{name}.operation": op for (name, *_), op in zip(self.places(), operations, strict=True)}
        return self.space.canonical({"resolution": resolution or self.resolutions[-1], **chosen})


@dataclass(frozen=True)
class Published:
    """A network of the paper: its space, which has a head of its own, and what it holds.

    Attributes:
        family: With the network's head.
        codes: Of the places, indices into `OPERATIONS`.
    """

    family: FBNet
    codes: str

    @property
    def architecture(self) -> Architecture:
        """The network in its space."""
        return self.family.architecture([OPERATIONS[int(code)] for code in self.codes if code != " "])

    @property
    def blocks(self) -> list[Block]:
        """From stem to head."""
        return self.family.space.blocks_of(self.architecture)


PUBLISHED: Mapping[str, Published] = {
    "a": Published(FBNet("fbnet_a", head_width=1504), "8 2088 7242 7657 3561 7767 7"),
    "b": Published(FBNet("fbnet_b"), "0 3400 7637 7786 7046 7477 3"),
    "c": Published(FBNet("fbnet_c"), "0 3800 7673 7677 7776 7777 3"),
}
"""FBNet-A, B and C, for 224 pixels and 1,000 classes."""
