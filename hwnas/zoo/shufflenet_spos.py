"""The space of single-path one-shot search: 20 places, each of four ShuffleNetV2 blocks.

Source: Guo et al. 2020 (arXiv 1904.00420), section 4 and table 1. Widths are fixed; their search of channels and of bit
widths is not here. The classifier has a bias, 1,000 parameters more than theirs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from torch import nn

from hwnas.core import Architecture, SpaceError
from hwnas.core.errors import did_you_mean
from hwnas.nn.blocks import build_block, build_network, describe_head, describe_stem
from hwnas.nn.chain_supernet import ChainSupernet
from hwnas.nn.shuffle import XCEPTION_KERNEL, describe_shuffle, keeps_shape
from hwnas.space import Block, Decision, Space, Unit

OPERATIONS: Mapping[str, tuple[int, int]] = {
    "shuffle_3x3": (3, 1),
    "shuffle_5x5": (5, 1),
    "shuffle_7x7": (7, 1),
    "xception": (XCEPTION_KERNEL, 3),
}
"""Kernel, and how many depthwise convolutions; in the order of the authors' codes 0 to 3."""


@dataclass(frozen=True)
class ShuffleNetSpos:
    """The family: everything that fixes a space. One list entry per stage where a field is a list.

    Attributes:
        name: Of the space; part of the latency table's file name.
        channels: Of the images, 1 or 3; comes from the data.
        classes: Comes from the data.
        resolutions: Sides of the square input, searched where there are several.
        operations: Of a place.
        stem_width: Channels after the first convolution.
        stem_stride: Its stride: 2 for ImageNet, 1 for images of 32 pixels.
        widths: Channels of each stage, even.
        depths: Places in each stage.
        strides: Of each stage's first block.
        head_width: Channels before the classifier.

    Raises:
        SpaceError: If a value is impossible; names the field and the value.

    Example:
        >>> family = ShuffleNetSpos()
        >>> f"{family.space.size:.1e}", len(family.space.decisions)
        ('1.1e+12', 21)
    """

    name: str = "shufflenet_spos"
    channels: int = 3
    classes: int = 1000
    resolutions: tuple[int, ...] = (224,)
    operations: tuple[str, ...] = tuple(OPERATIONS)
    stem_width: int = 16
    stem_stride: int = 2
    widths: tuple[int, ...] = (64, 160, 320, 640)
    depths: tuple[int, ...] = (4, 4, 8, 4)
    strides: tuple[int, ...] = (2, 2, 2, 2)
    head_width: int = 1024

    def __post_init__(self) -> None:
        if not self.resolutions or list(self.resolutions) != sorted(set(self.resolutions)) or self.resolutions[0] < 1:
            raise SpaceError(f"resolutions is {list(self.resolutions)}; expected ascending numbers above 0, each once")
        for operation in self.operations:
            if operation not in OPERATIONS:
                raise SpaceError(f'operations holds "{operation}"; {did_you_mean(operation, OPERATIONS)}')
        if not self.operations or len(set(self.operations)) < len(self.operations):
            raise SpaceError(f"operations is {list(self.operations)}; expected at least one, each once")
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
        for name, c_in, width, stride in self.places():
            if width % 2:
                raise SpaceError(f"widths holds {width}; it must be even, as half of the channels pass a block")
            if not keeps_shape(c_in, width, stride) and width <= c_in:
                raise SpaceError(
                    f"widths {list(self.widths)}: {name} turns {c_in} channels into {width}; where the shape changes "
                    "there must be more than before, as all that come in stay"
                )

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
        stems = tuple(
            describe_stem(self.channels, self.stem_width, r, kernel=3, stride=self.stem_stride, activation_name="relu")
            for r in self.resolutions
        )
        units = [Unit("stem", ("resolution",), stems)]
        sizes = [-(-resolution // self.stem_stride) for resolution in self.resolutions]
        for name, c_in, width, stride in self.places():
            label = f"{name}.operation"
            decisions.append(Decision(label, self.operations))
            blocks = tuple(
                describe_shuffle(c_in, width, size, kernel=kernel, stride=stride, depthwise=depthwise)
                for size in sizes
                for kernel, depthwise in (OPERATIONS[operation] for operation in self.operations)
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
        """The network one would take without a search: ShuffleNetV2's block everywhere, at the largest resolution.

        Example:
            >>> ShuffleNetSpos().default()["stage1.block2.operation"]
            'shuffle_3x3'
        """
        return self.architecture([self.operations[0]] * sum(self.depths))

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


SPOS_CODES = "0031 1100 20211020 2132"
"""The network that the authors' block search found, 319M multiply-adds: indices into `OPERATIONS`."""
