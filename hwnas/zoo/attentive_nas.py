"""The space of AttentiveNAS and AlphaNet: widths, depths, kernels and expansions of seven stages, stem and head.

Source: Wang et al. 2021 (AttentiveNAS, arXiv 2011.09011, table 1) and Wang et al. 2021 (AlphaNet, arXiv 2102.07954).
Kernel and expansion are chosen per stage. Where a block changes the shape, its shortcut pools and convolves: the papers
do not say so, but with it the smallest network has the 203M multiply-adds that they publish, without it 198M.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from hwnas.core import Architecture, Option, SpaceError
from hwnas.nn.blocks import (
    activation,
    build_block,
    build_network,
    describe_mbconv,
    describe_mixing_head,
    describe_pooling_mbconv,
    describe_separable,
    describe_stem,
)
from hwnas.nn.build_around import build_around
from hwnas.nn.elastic import ElasticBatchNorm
from hwnas.nn.elastic_pooling import ElasticPoolingMBConv
from hwnas.nn.gates import Gates, only_choices
from hwnas.space import Block, Decision, Space, Unit
from hwnas.zoo.channels import divisible

HEAD_EXPANSION = 6
"""Channels before the mean over the image, per channel of the last stage."""


@dataclass(frozen=True)
class AttentiveNas:
    """The family: everything that fixes a space. One list entry per stage where a field is a list of lists.

    Attributes:
        name: Of the space; part of the latency table's file name.
        channels: Of the images, 1 or 3; comes from the data.
        classes: Comes from the data.
        resolutions: Sides of the square input, searched.
        kernels: Sides of the depthwise kernels, odd, searched per stage.
        stem_widths: Channels after the first convolution, searched.
        stem_stride: Its stride: 2 for ImageNet, 1 for images of 32 pixels.
        widths: Channels of each stage, searched.
        depths: Blocks of each stage, searched.
        expansions: Hidden channels per incoming channel of each stage, searched; 1 has no first convolution.
        strides: Of each stage's first block.
        se: Whether a stage's blocks squeeze and excite.
        activation: "relu", "relu6", "hswish" or "silu", everywhere.
        mix_widths: Features after the mean over the image, searched.

    Raises:
        SpaceError: If a value is impossible; names the field and the value.

    Example:
        >>> family = AttentiveNas()
        >>> f"{family.space.size:.1e}", len(family.space.decisions)
        ('4.4e+11', 28)
    """

    name: str = "attentive_nas"
    channels: int = 3
    classes: int = 1000
    resolutions: tuple[int, ...] = (192, 224, 256, 288)
    kernels: tuple[int, ...] = (3, 5)
    stem_widths: tuple[int, ...] = (16, 24)
    stem_stride: int = 2
    widths: tuple[tuple[int, ...], ...] = (
        (16, 24),
        (24, 32),
        (32, 40),
        (64, 72),
        (112, 120, 128),
        (192, 200, 208, 216),
        (216, 224),
    )
    depths: tuple[tuple[int, ...], ...] = (
        (1, 2),
        (3, 4, 5),
        (3, 4, 5, 6),
        (3, 4, 5, 6),
        (3, 4, 5, 6, 7, 8),
        (3, 4, 5, 6, 7, 8),
        (1, 2),
    )
    expansions: tuple[tuple[int, ...], ...] = ((1,), (4, 5, 6), (4, 5, 6), (4, 5, 6), (4, 5, 6), (6,), (6,))
    strides: tuple[int, ...] = (1, 2, 2, 2, 1, 2, 1)
    se: tuple[bool, ...] = (False, False, True, False, True, True, True)
    activation: str = "silu"
    mix_widths: tuple[int, ...] = (1792, 1984)

    def __post_init__(self) -> None:
        for field in ("widths", "depths", "expansions", "strides", "se"):
            if not self.widths or len(getattr(self, field)) != len(self.widths):
                raise SpaceError(
                    f"{field} has {len(getattr(self, field))} entries, widths has {len(self.widths)}; "
                    "expected one per stage, at least one"
                )
        lists = [(field, getattr(self, field)) for field in ("resolutions", "kernels", "stem_widths", "mix_widths")]
        lists += [(field, row) for field in ("widths", "depths", "expansions") for row in getattr(self, field)]
        for field, values in lists:
            if not values or list(values) != sorted(set(values)) or values[0] < 1:
                raise SpaceError(f"{field} holds {list(values)}; expected ascending numbers above 0, each once")
        for kernel in self.kernels:
            if kernel % 2 == 0:
                raise SpaceError(f"kernels holds {kernel}; kernels are odd, so that images keep their centre")
        for row, se in zip(self.expansions, self.se, strict=True):
            if 1 in row and (len(row) > 1 or se):
                raise SpaceError(f"expansions holds {list(row)}; 1 stands alone, in a stage that does not squeeze")
        for field in ("channels", "classes", "stem_stride"):
            if getattr(self, field) < 1:
                raise SpaceError(f"{field} is {getattr(self, field)}; it must be above 0")
        if min(self.strides) < 1:
            raise SpaceError(f"strides {list(self.strides)} must be above 0")
        activation(self.activation)

    # ------------------------------------------------------------------------------------------------------ the space

    def choices(self) -> dict[str, tuple[int, ...]]:
        """Label to options, those with a single option too, in order."""
        found: dict[str, tuple[int, ...]] = {"resolution": self.resolutions, "stem.width": self.stem_widths}
        for n, (width, depth, expansion) in enumerate(zip(self.widths, self.depths, self.expansions, strict=True), 1):
            found[f"stage{n}.width"] = width
            found[f"stage{n}.depth"] = depth
            found[f"stage{n}.kernel"] = self.kernels
            found[f"stage{n}.expansion"] = expansion
        return {**found, "head.mix": self.mix_widths}

    @cached_property
    def space(self) -> Space:
        """The decisions that have a choice, and the blocks they choose."""
        decisions = tuple(
            Decision(label, options)
            for label, options in self.choices().items()
            if len(options) > 1 or label == "resolution"
        )
        return Space(self.name, decisions, tuple(self._units()))

    def _units(self) -> list[Unit]:
        sizes = [-(-resolution // self.stem_stride) for resolution in self.resolutions]
        units = [self._product("stem", ["resolution", "stem.width"], self._stem)]
        for number, stride in enumerate(self.strides):
            before = f"stage{number}.width" if number else "stem.width"
            for block in range(max(self.depths[number])):
                units.append(self._place(number, block, before, dict(zip(self.resolutions, sizes, strict=True))))
                if block == 0:
                    sizes = [-(-size // stride) for size in sizes]
        last = dict(zip(self.resolutions, sizes, strict=True))

        def head(resolution: int, width: int, mix: int) -> Block:
            inside = HEAD_EXPANSION * width
            return describe_mixing_head(
                width, inside, mix, self.classes, last[resolution], activation_name=self.activation
            )

        return [*units, self._product("head", ["resolution", f"stage{len(self.widths)}.width", "head.mix"], head)]

    def _stem(self, resolution: int, width: int) -> Block:
        stride, act = self.stem_stride, self.activation
        return describe_stem(self.channels, width, resolution, kernel=3, stride=stride, activation_name=act)

    def _place(self, number: int, block: int, before: str, size_at: dict[int, int]) -> Unit:
        name, stride = f"stage{number + 1}", self.strides[number] if block == 0 else 1
        own = [f"{name}.{kind}" for kind in ("depth", "width", "kernel", "expansion")]

        def made(resolution: int, *options: int) -> Block | None:
            *first, depth, width, kernel, expansion = options
            if depth <= block:
                return None
            c_in = first[0] if first else width
            hidden = divisible(c_in * expansion) if expansion > 1 else c_in
            squeeze = divisible(hidden // 4) if self.se[number] else 0
            return self.describe(
                c_in, width, size_at[resolution], hidden=hidden, kernel=kernel, stride=stride, squeeze=squeeze
            )

        labels = ["resolution", *([before] if block == 0 else []), *own]
        return self._product(f"{name}.block{block + 1}", labels, made)

    def _product(self, name: str, labels: Sequence[str], made: Callable[..., Block | None]) -> Unit:
        """The unit of all combinations of some decisions; those without a choice are no labels of it."""
        options = self.choices()
        blocks = tuple(made(*row) for row in itertools.product(*(options[label] for label in labels)))
        return Unit(name, tuple(x for x in labels if len(options[x]) > 1 or x == "resolution"), blocks)

    def describe(
        self, c_in: int, c_out: int, size: int, *, hidden: int, kernel: int, stride: int, squeeze: int
    ) -> Block:
        """The entry of a block: of a plain kind where it keeps the shape."""
        act = self.activation
        if stride > 1 or c_in != c_out:
            return describe_pooling_mbconv(
                c_in, c_out, size, hidden=hidden, kernel=kernel, stride=stride, activation_name=act, squeeze=squeeze
            )
        if hidden == c_in:
            return describe_separable(c_in, c_out, size, kernel=kernel, stride=stride, activation_name=act)
        return describe_mbconv(
            c_in, c_out, size, hidden=hidden, kernel=kernel, stride=stride, activation_name=act, squeeze=squeeze
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

    def supernet(self) -> AttentiveNasSupernet:
        """All networks in one set of weights, freshly initialised from torch's global generator."""
        return AttentiveNasSupernet(self)

    def smallest(self) -> Architecture:
        """The first option of everything: of the full space AttentiveNAS-A0.

        Example:
            >>> family = AttentiveNas()
            >>> round(sum(block.macs for block in family.space.blocks_of(family.smallest())) / 1e6)
            203
        """
        return self.space.canonical({decision.label: decision.options[0] for decision in self.space.decisions})

    def largest(self) -> Architecture:
        """The last option of everything."""
        return self.space.canonical({decision.label: decision.options[-1] for decision in self.space.decisions})

    def default(self) -> Architecture:
        """The network one would take without a search: the middle option of everything, the largest resolution."""
        options: dict[str, Option] = {d.label: d.options[len(d.options) // 2] for d in self.space.decisions}
        return self.space.canonical(options | {"resolution": self.resolutions[-1]})


class AttentiveNasSupernet(nn.Module):
    """The weights of an `AttentiveNas` family.

    It takes choices, not mixtures: whether a block's shortcut convolves hangs on two widths, which has no relaxation.
    """

    def __init__(self, family: AttentiveNas) -> None:
        super().__init__()
        self.family = family
        stem, last, mix = family.stem_widths[-1], family.widths[-1][-1], family.mix_widths[-1]
        self.stem = nn.Conv2d(family.channels, stem, 3, family.stem_stride, 1, bias=False)
        self.stem_norm = ElasticBatchNorm(stem)
        self.blocks = nn.ModuleDict()
        for n, widths in enumerate(family.widths):
            before = family.widths[n - 1] if n else family.stem_widths
            for block in range(max(family.depths[n])):
                c_in, expansion = (before if block == 0 else widths)[-1], family.expansions[n][-1]
                hidden = divisible(c_in * expansion) if expansion > 1 else c_in
                self.blocks[f"stage{n + 1}_block{block + 1}"] = ElasticPoolingMBConv(
                    c_in,
                    widths[-1],
                    hidden=hidden,
                    squeeze=divisible(hidden // 4) if family.se[n] else 0,
                    kernel=family.kernels[-1],
                    stride=family.strides[n] if block == 0 else 1,
                    activation_name=family.activation,
                    changes=block == 0,
                )
        self.head = nn.Conv2d(last, HEAD_EXPANSION * last, 1, bias=False)
        self.head_norm = ElasticBatchNorm(HEAD_EXPANSION * last)
        self.mix = nn.Linear(HEAD_EXPANSION * last, mix, bias=False)
        self.classifier = nn.Linear(mix, family.classes)
        self.activation = activation(family.activation)

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
        stem, *blocks, head = self.space.blocks_of(architecture)
        if tuple(x.shape[1:]) != stem.input_shape:
            side = stem.input_shape[-1]
            raise SpaceError(f"images of {tuple(x.shape[-2:])} for a network of resolution {side}; resize them first")
        weight = self.stem.weight[: stem.output_shape[0]]
        y = self.activation(self.stem_norm(F.conv2d(x, weight, None, self.family.stem_stride, 1)))
        for elastic, block in zip(self._chosen(architecture), blocks, strict=True):
            y = elastic(y, block)
        width, mix, c = int(head.setting("width")), int(head.setting("mix")), head.input_shape[0]
        y = self.activation(self.head_norm(F.conv2d(y, self.head.weight[:width, :c])))
        y = self.activation(F.linear(F.adaptive_avg_pool2d(y, 1).flatten(1), self.mix.weight[:mix, :width]))
        return F.linear(y, self.classifier.weight[:, :mix], self.classifier.bias)

    def _chosen(self, architecture: Architecture) -> list[ElasticPoolingMBConv]:
        """The elastic blocks that an architecture keeps, in order."""
        found = []
        for n, depths in enumerate(self.family.depths, start=1):
            depth = int(architecture[f"stage{n}.depth"]) if len(depths) > 1 else depths[0]
            found += [self.blocks[f"stage{n}_block{block}"] for block in range(1, depth + 1)]
        return cast(list[ElasticPoolingMBConv], found)

    def extract(self, architecture: Architecture) -> nn.Sequential:
        """The plain network of one architecture: each part with its own cut of the weights.

        Raises:
            SpaceError: If the architecture is not one of the space.
        """
        stem, *blocks, head = self.space.blocks_of(architecture)
        c, width, mix = stem.output_shape[0], int(head.setting("width")), int(head.setting("mix"))
        first = {"conv.weight": self.stem.weight[:c], **_norm(self.stem_norm, c)}
        last = {
            "conv.weight": self.head.weight[:width, : head.input_shape[0]],
            **_norm(self.head_norm, width),
            "mix.weight": self.mix.weight[:mix, :width],
            "classifier.weight": self.classifier.weight[:, :mix],
            "classifier.bias": self.classifier.bias,
        }
        network = nn.Sequential(
            build_around(stem, _copied(first), mode=self.training),
            *(elastic.cut(block) for elastic, block in zip(self._chosen(architecture), blocks, strict=True)),
            build_around(head, _copied(last), mode=self.training),
        )
        network.training = self.training
        return network


def _norm(norm: ElasticBatchNorm, channels: int) -> dict[str, Tensor]:
    leaves = ("weight", "bias", "running_mean", "running_var")
    return {f"norm.{leaf}": getattr(norm, leaf)[:channels] for leaf in leaves}


def _copied(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}
