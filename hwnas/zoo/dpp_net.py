"""DPP-Net: one densely connected cell of norms and convolutions, repeated in stages with a pool between them.

Source: Dong et al. 2018 (arXiv 1806.08198), section 3.1, on the frame of CondenseNet, Huang et al. 2018 (arXiv
1711.09224), section 4.1. The paper does not say how many channels stand inside a cell; here they are CondenseNet's.
Then cells of the space have the parameters and multiply-adds that the paper prints for its PNAS-style network and for
DPP-Net-WS, and CondenseNet's own cell has the published ones, once what is rectified and pooled is counted as there.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import NoReturn

from torch import nn

from hwnas.core import Architecture, Option, SpaceError
from hwnas.core.errors import did_you_mean
from hwnas.nn import build_block, build_network
from hwnas.nn.dense_cells import (
    CONVOLUTIONS,
    GROUPS,
    NORMS,
    Layers,
    describe_dense_cell,
    describe_dense_head,
    describe_dense_stem,
    describe_halving_pool,
)
from hwnas.space import Block, Decision, Space, Unit
from hwnas.zoo.sides import check_sides

PNAS_STYLE: Layers = (("norm_relu", "conv_3x3"), ("norm_relu", "group_conv_3x3"))
"""A cell of the size of the paper's network chosen by accuracy alone; the paper draws none."""

CONDENSENET: Layers = (("norm_relu", "learned_group_conv_1x1"), ("norm_relu", "group_conv_3x3"))
"""CondenseNet's cell."""

MOST_WHOLE = 512
"""Blocks of a space up to which each is measured as a whole; beyond, the kernels of its cells are."""

MOST_LAYERS = 3
"""Norms with a convolution in a cell: three have 5,832 cells, four too many to tabulate for every place."""


@dataclass(frozen=True)
class DppNet:
    """The family: everything that fixes a space. One list entry per stage where a field is a list.

    Attributes:
        name: Of the space; part of the latency table's file name.
        channels: Of the images, 1 or 3; comes from the data.
        classes: Comes from the data.
        resolutions: Sides of the square input, searched; each pool and a stem of stride 2 halve them.
        norms: What may stand before a convolution.
        convolutions: Which convolutions there may be.
        layers: Norms with a convolution in a cell.
        cells: Of each stage.
        growths: Channels that a cell of each stage adds; multiples of 4.
        stem_stride: Of the first convolution, which gives twice the first growth.
        bottleneck: Channels inside a cell per channel of growth.
        read: Share of the last features that the classifier reads: 1, or 0.5 as CondenseNet's for ImageNet.

    Raises:
        SpaceError: If a value is impossible; names the field and the value.

    Example:
        >>> family = DppNet()
        >>> family.space.size, len(family.space.decisions)
        (324, 5)
    """

    name: str = "dpp_net"
    channels: int = 3
    classes: int = 10
    resolutions: tuple[int, ...] = (32,)
    norms: tuple[str, ...] = NORMS
    convolutions: tuple[str, ...] = CONVOLUTIONS
    layers: int = 2
    cells: tuple[int, ...] = (14, 14, 14)
    growths: tuple[int, ...] = (8, 16, 32)
    stem_stride: int = 1
    bottleneck: int = 4
    read: float = 1.0

    def __post_init__(self) -> None:
        if len(self.cells) != len(self.growths) or not self.cells:
            raise SpaceError(
                f"cells has {len(self.cells)} entries, growths has {len(self.growths)}; expected one per stage"
            )
        for field in ("channels", "classes", "stem_stride", "bottleneck"):
            if getattr(self, field) < 1:
                raise SpaceError(f"{field} is {getattr(self, field)}; it must be above 0")
        if min(self.cells) < 1:
            raise SpaceError(f"cells is {list(self.cells)}; they must be above 0")
        for growth in self.growths:
            if growth < 1 or growth % GROUPS:
                raise SpaceError(f"growths holds {growth}; expected multiples of {GROUPS}, the number of groups")
        if not 1 <= self.layers <= MOST_LAYERS:
            raise SpaceError(f"layers is {self.layers}; expected 1 to {MOST_LAYERS}")
        if not 0 < self.read <= 1:
            raise SpaceError(f"read is {self.read}; expected a share above 0, at most 1")
        step = self.stem_stride * 2 ** (len(self.cells) - 1)
        check_sides(self.resolutions, why="stem and pools divide it", step=step)
        for field, known in (("norms", NORMS), ("convolutions", CONVOLUTIONS)):
            given = getattr(self, field)
            for name in given:
                if name not in known:
                    raise SpaceError(f'{field} holds "{name}"; {did_you_mean(name, known)}')
            if not given or len(set(given)) < len(given):
                raise SpaceError(f"{field} is {list(given)}; expected at least one, each once")

    @cached_property
    def space(self) -> Space:
        """The decisions, and the blocks they choose."""
        return _space(self)

    @property
    def has_supernet(self) -> bool:
        """Whether all networks can be trained in one set of weights."""
        return False

    def default(self) -> Architecture:
        """The network one would take without a search: CondenseNet's cell, its last layer again in a deeper one.

        What the space lacks is its first option instead.
        """
        layers = []
        for number in range(self.layers):
            norm, convolution = CONDENSENET[min(number, len(CONDENSENET) - 1)]
            layers.append((
                norm if norm in self.norms else self.norms[0],
                convolution if convolution in self.convolutions else self.convolutions[0],
            ))
        return self.architecture(tuple(layers))

    def supernet(self) -> NoReturn:
        """Refused: see `has_supernet`.

        Raises:
            SpaceError: Always.
        """
        raise SpaceError(
            f"space {self.name}: it has no supernet, so its networks cannot share weights",
            hint="search nasbench201 or a mobilenet_v3 space, or train each network on its own with build_network",
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

    def architecture(self, layers: Layers, *, resolution: int | None = None) -> Architecture:
        """The architecture of a cell, at the largest resolution unless given.

        Raises:
            SpaceError: If the cell has another number of layers, or the space lacks one of them.

        Example:
            >>> DppNet().architecture(CONDENSENET)["layer2.convolution"]
            'group_conv_3x3'
        """
        if len(layers) != self.layers:
            raise SpaceError(f"space {self.name}: a cell of {len(layers)} layers; expected {self.layers}")
        options: dict[str, Option] = {"resolution": resolution or self.resolutions[-1]}
        for number, (norm, convolution) in enumerate(layers, start=1):
            options |= {f"layer{number}.norm": norm, f"layer{number}.convolution": convolution}
        return self.space.canonical(options)


DPP_NET_IMAGENET = DppNet(
    "dpp_net_imagenet",
    classes=1000,
    resolutions=(224,),
    cells=(4, 6, 8, 10, 8),
    growths=(8, 16, 32, 64, 128),
    stem_stride=2,
    read=0.5,
)
"""The frame of CondenseNet-74, on which the paper's networks for ImageNet stand."""


@cache
def _space(family: DppNet) -> Space:
    pairs = list(itertools.product(family.norms, family.convolutions))
    decisions, labels = [Decision("resolution", family.resolutions)], ["resolution"]
    for number in range(1, family.layers + 1):
        decisions.append(Decision(f"layer{number}.norm", family.norms))
        decisions.append(Decision(f"layer{number}.convolution", family.convolutions))
        labels += [f"layer{number}.norm", f"layer{number}.convolution"]
    every: list[Layers] = list(itertools.product(pairs, repeat=family.layers))
    sizes, width = [side // family.stem_stride for side in family.resolutions], 2 * family.growths[0]
    stems = (
        describe_dense_stem(family.channels, width, side, stride=family.stem_stride) for side in family.resolutions
    )
    units = [Unit("stem", ("resolution",), tuple(stems))]
    whole = sum(family.cells) * len(every) * len(sizes) <= MOST_WHOLE
    for stage, (cells, growth) in enumerate(zip(family.cells, family.growths, strict=True), start=1):
        if stage > 1:
            units.append(
                Unit(f"pool{stage - 1}", ("resolution",), tuple(describe_halving_pool(width, s) for s in sizes))
            )
            sizes = [size // 2 for size in sizes]
        for number in range(1, cells + 1):
            blocks = [
                describe_dense_cell(layers, width, growth, size, bottleneck=family.bottleneck)
                for size in sizes
                for layers in every
            ]
            blocks = [replace(block, kernels=None) for block in blocks] if whole else blocks
            units.append(Unit(f"stage{stage}.cell{number}", tuple(labels), tuple(blocks)))
            width += growth
    read = max(1, int(family.read * width))
    heads = tuple(describe_dense_head(width, family.classes, size, read=read) for size in sizes)
    return Space(family.name, tuple(decisions), (*units, Unit("head", ("resolution",), heads)))
