"""Multiply-adds, parameters and roofline kernels of every space, against fvcore's count of the networks that are built.

Both agree to the number. What only one of them counts is an entry of a table here, with its reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from hwnas.core import Architecture, SpaceError, generator
from hwnas.cost import UnitSumCost, entries_of, kernels_of
from hwnas.cost.roofline import GROUPED
from hwnas.nn import ModelSpace, with_units
from hwnas.nn.elastic_layers import Attention
from hwnas.nn.model_space import Unused
from hwnas.nn.priced_space import describe
from hwnas.space import Block, Space
from hwnas.zoo import FAMILIES, Family, OwnModel, family
from tests.nn import own_nets
from tests.zoo.fvcore_counts import Traced, traced, unread

NO_MULTIPLY_ADDS: Mapping[str, str] = {
    "adaptive_avg_pool2d": "a mean only adds; fvcore counts one operation for each number that it reads",
    "add": "a sum of branches only adds; fvcore counts nothing either",
    "avg_pool2d": "a mean only adds; fvcore counts nothing either",
    "batch_norm": "folds into the convolution before it, or is part of the pass before the next; fvcore counts two",
    "hardsigmoid": "an activation; fvcore counts nothing either",
    "hardswish": "an activation; fvcore counts nothing either",
    "index_select": "channels that change places; fvcore counts nothing either",
    "max_pool2d": "compares; fvcore counts nothing either",
    "mean": "only adds; fvcore counts nothing either, though it counts adaptive_avg_pool2d",
    "mul": "scales channels after squeezing, queries, or zeros of an empty edge, adding nothing; nor does fvcore count",
    "relu6_": "an activation; fvcore counts nothing either",
    "silu": "an activation; fvcore counts nothing either",
    "softmax": "of attention; fvcore counts nothing either",
}
"""What networks do besides, by the operator's name in torch, and why it has no multiply-adds."""

COUNTED_UNREAD: Mapping[str, str] = {
    "NasNet": "a unit does not know what others read, so what no node reads is counted; fvcore's trace is without it",
}
"""Classes of spaces that count what no logit depends on, and why."""

SIDES = ((19, 32), (20, 32), (32, 64))
"""Pairs of small images: the first that a space allows is taken; 19 halves to odd sides."""

SHORTER: Mapping[str, Mapping[str, object]] = {
    "Darts": {"cells": 3},
    "MetaQnn": {"most_pools": 2},
    "NasBench201": {"cells": 1},
    "NasNet": {"cells": 1, "nodes": 3},
    "NasRl": {"depths": [5]},
    "amoebanet_mobile": {"cells": 1},
    "dpp_net": {"cells": [1, 1, 1]},
    "dpp_net_imagenet": {"cells": [1, 1, 1, 1, 1]},
    "nasnet_mobile": {"cells": 1},
    "pnasnet_mobile": {"cells": 1},
}
"""By class or name, what makes networks of many equal parts shorter; the slow test takes the ends as they are."""

DRAWN, DRAWN_SLOWLY = 2, 50
"""Networks besides the smallest and the largest: of one space of each class, and of every space in the slow test."""

EACH = 2
"""Entries of each kind in a space whose kernels are compared."""

DRAWN_FROM = {type(base).__name__: name for name, base in FAMILIES.items()}
"""By class its last space, a small one where there is any; its others differ in values only."""

every_space = pytest.mark.parametrize("name", FAMILIES)


@cache
def small(name: str) -> Family:
    """A ready space at two small sides, shorter where that saves time."""
    shorter = SHORTER.get(name, SHORTER.get(type(FAMILIES[name]).__name__, {}))
    for sides in SIDES:
        try:
            return family(name, {"resolutions": sides, **shorter}, channels=3, classes=10)
        except SpaceError as error:
            refused = error
    raise refused


def networks(space: Space, n: int) -> Iterator[Architecture]:
    """The smallest, the largest, and n drawn ones, by turns at each side of the images."""
    cost = UnitSumCost.count(space, "macs")
    yield cost.smallest()[1]
    yield cost.largest()[1]
    sides = space["resolution"].options
    for number, architecture in enumerate(space.sample(n, generator(0, "fvcore", space.name))):
        yield space.canonical({**architecture, "resolution": sides[number % len(sides)]})


def compared(found: Family, architecture: Architecture) -> Traced:
    """What fvcore sees in a network, when it has been compared with the sum of the blocks."""
    blocks = found.space.blocks_of(architecture)
    shape = (found.channels, int(architecture["resolution"]), int(architecture["resolution"]))
    with torch.device("meta"):
        network = found.build_network(architecture)
    assert sum(p.numel() for p in network.parameters()) == sum(block.parameters for block in blocks), architecture
    left_out = unread(network, shape) if type(found).__name__ in COUNTED_UNREAD else 0
    seen = traced(network, shape)
    assert seen.macs + left_out == sum(block.macs for block in blocks), architecture
    assert not set(seen.others) - set(NO_MULTIPLY_ADDS), architecture
    return seen


@cache
def operators(name: str) -> frozenset[str]:
    """Of some networks of a space, which are compared: those that are in `NO_MULTIPLY_ADDS`."""
    found, n = small(name), DRAWN if name in DRAWN_FROM.values() else 0
    return frozenset(operator for a in networks(found.space, n) for operator in compared(found, a).others)


@every_space
def test_every_ready_space_has_the_multiply_adds_that_fvcore_counts(name: str) -> None:
    assert "batch_norm" in operators(name)


def test_every_reason_is_about_an_operator_of_a_ready_space() -> None:
    assert set(NO_MULTIPLY_ADDS) == frozenset().union(*map(operators, FAMILIES))


def test_what_no_node_reads_is_a_share_of_the_count_of_its_classes_alone() -> None:
    """The largest network of NASNet's space by its sum reads one input only, so that every second cell is idle."""
    found = small("nasnet")
    largest = UnitSumCost.count(found.space, "macs").largest()[1]
    assert compared(found, largest).macs < sum(block.macs for block in found.space.blocks_of(largest))
    assert set(COUNTED_UNREAD) < {type(base).__name__ for base in FAMILIES.values()}


@pytest.mark.slow
@every_space
def test_fifty_networks_of_every_ready_space(name: str) -> None:
    """Small ones, and the smallest and the largest of the space as it is."""
    for found, n in ((FAMILIES[name], 0), (small(name), DRAWN_SLOWLY)):
        for architecture in networks(found.space, n):
            compared(found, architecture)


# ----------------------------------------------------------------------------------------------- spaces of one's own

OWN: Mapping[str, Callable[[], ModelSpace]] = {
    "every kind of choice": own_nets.Everything,
    "plain": lambda: own_nets.Plain(3, 4),
    "cells": own_nets.Cells,
    "cells of loose ends": lambda: own_nets.Cells(merge="loose_ends"),
}


@pytest.mark.parametrize("own", OWN)
def test_a_space_of_ones_own_has_the_multiply_adds_that_fvcore_counts(own: str) -> None:
    """Branches that nothing reads are priced, though an extracted network has zeros there: their units are left out."""
    model = OWN[own]()
    space = with_units(model).space
    for architecture in networks(space, 4):
        plain, side = model.extract(architecture), int(architecture["resolution"])
        idle = [f"{name}." for name, module in plain.named_modules() if isinstance(module, Unused)]
        units = tuple(unit for unit in space.units if not f"{unit.name}.".startswith(tuple(idle)))
        blocks = Space(space.name, space.decisions, units).blocks_of(architecture)
        assert sum(p.numel() for p in plain.parameters()) == sum(block.parameters for block in blocks), architecture
        assert traced(plain, (model.channels, side, side)).macs == sum(block.macs for block in blocks), architecture


def test_a_file_of_ones_own_has_the_multiply_adds_that_fvcore_counts() -> None:
    found = OwnModel.load(f"{Path(own_nets.__file__)}:Plain", {"width": 12}, channels=3, classes=4)
    for architecture in networks(found.space, 4):
        compared(found, architecture)


class Applied(nn.Module):
    """A function of the input and one weight."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor], *shape: int) -> None:
        super().__init__()
        self.function, self.weight = function, nn.Parameter(torch.zeros(shape))

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, self.weight)


class Outputs(nn.Module):
    """A module that takes the input several times; the first of its results if it gives several."""

    def __init__(self, module: nn.Module, *, inputs: int = 1) -> None:
        super().__init__()
        self.module, self.inputs = module, inputs

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor | tuple[Tensor, ...] = self.module(*[x] * self.inputs)
        return found if isinstance(found, Tensor) else found[0]


LAYERS: Mapping[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "grouped convolution": (lambda: nn.Conv2d(8, 12, 3, groups=4), (8, 9, 9)),
    "dilated convolution": (lambda: nn.Conv2d(8, 12, 3, dilation=2), (8, 9, 9)),
    "transposed convolution": (lambda: nn.ConvTranspose2d(8, 6, 3, 2, groups=2), (8, 9, 9)),
    "convolution of a sequence": (lambda: nn.Conv1d(8, 6, 3), (8, 9)),
    "convolution of a volume": (lambda: nn.Conv3d(2, 6, 3), (2, 5, 5, 5)),
    "reflected padding": (lambda: nn.Conv2d(8, 6, 3, padding=1, padding_mode="reflect"), (8, 9, 9)),
    "linear layer over tokens": (lambda: nn.Linear(8, 6), (4, 5, 8)),
    "attention": (lambda: Attention(8, 2, head_width=4), (5, 8)),
    "torch's attention": (lambda: Outputs(nn.MultiheadAttention(8, 2, batch_first=True), inputs=3), (5, 8)),
    "transformer": (lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), (5, 8)),
    "einsum with a weight": (lambda: Applied(lambda x, w: torch.einsum("nchw,dc->ndhw", x, w), 6, 8), (8, 4, 5)),
    "einsum of features": (lambda: Applied(lambda x, w: torch.einsum("ntc,nsc->nts", x, x), 1), (5, 8)),
    "product with a weight": (lambda: Applied(lambda x, w: x @ w, 8, 6), (3, 5, 8)),
    "product of features": (lambda: Applied(lambda x, w: torch.bmm(x, x.mT), 1), (5, 8)),
    "unfolded convolution": (lambda: nn.Sequential(nn.Unfold(3), Applied(lambda x, w: w @ x, 1, 6, 72)), (8, 9, 9)),
    "normalised weights": (lambda: nn.utils.parametrizations.weight_norm(nn.Conv2d(8, 8, 3)), (8, 9, 9)),
}


@pytest.mark.parametrize("layer", LAYERS)
def test_layers_that_users_write_have_the_multiply_adds_that_fvcore_counts(layer: str) -> None:
    make, shape = LAYERS[layer]
    assert describe(make(), shape).macs == traced(make(), shape).macs > 0


NOT_FVCORE: Mapping[str, tuple[str, Callable[[], nn.Module], tuple[int, ...], int]] = {
    "padding in words": (
        "fvcore does not know aten::_convolution_mode",
        lambda: nn.Conv2d(8, 6, (3, 4), padding="same"),
        (8, 9, 9),
        81 * 6 * 8 * 12,
    ),
    "weight before features": (
        "fvcore multiplies the numbers of the first factor, of which each of the three matrices takes its own copy",
        lambda: Applied(lambda x, w: w @ x, 6, 5),
        (3, 5, 8),
        3 * 6 * 5 * 8,
    ),
    "product and sum": (
        "fvcore does not know aten::baddbmm",
        lambda: Applied(lambda x, w: torch.baddbmm(w, x, x.mT), 1, 5, 5),
        (5, 8),
        5 * 8 * 5,
    ),
    "product over named axes": (
        "fvcore does not know aten::tensordot",
        lambda: Applied(lambda x, w: torch.tensordot(x, w, dims=([2], [0])), 8, 6),
        (5, 8),
        5 * 8 * 6,
    ),
    "long short-term memory": (
        "fvcore does not know aten::lstm",
        lambda: Outputs(nn.LSTM(8, 6, batch_first=True)),
        (5, 8),
        5 * 4 * 6 * (8 + 6),
    ),
    "gated recurrent unit": (
        "fvcore does not know aten::gru",
        lambda: Outputs(nn.GRU(8, 6, batch_first=True)),
        (5, 8),
        5 * 3 * 6 * (8 + 6),
    ),
    "two inputs": (
        "fvcore does not know aten::bilinear",
        lambda: Outputs(nn.Bilinear(8, 8, 6), inputs=2),
        (5, 8),
        5 * 6 * 8 * (8 + 1),
    ),
    "sum of products": (
        "fvcore does not know aten::addbmm",
        lambda: Applied(lambda x, w: torch.addbmm(w, x, x.mT)[None], 5, 5),
        (5, 8),
        5 * 8 * 5,
    ),
    "matrix and vector": (
        "fvcore does not know aten::mv",
        lambda: Applied(lambda x, w: torch.mv(x[0], w)[None], 8),
        (5, 8),
        5 * 8,
    ),
    "matrix and vector and sum": (
        "fvcore does not know aten::addmv",
        lambda: Applied(lambda x, w: torch.addmv(x[0, :, 0], x[0], w, alpha=2)[None], 8),
        (5, 8),
        5 * 8,
    ),
    "two vectors": (
        "fvcore does not know aten::dot",
        lambda: Applied(lambda x, w: torch.dot(x.flatten(), w)[None], 40),
        (5, 8),
        5 * 8,
    ),
    "two vectors, the first conjugated": (
        "fvcore does not know aten::vdot",
        lambda: Applied(lambda x, w: torch.vdot(x.flatten(), w)[None], 40),
        (5, 8),
        5 * 8,
    ),
}
"""Layers that users write and fvcore does not know or counts wrongly: why, and their multiply-adds by hand."""


@pytest.mark.parametrize("layer", NOT_FVCORE)
def test_layers_that_fvcore_does_not_count_have_the_multiply_adds_of_their_formula(layer: str) -> None:
    _, make, shape, macs = NOT_FVCORE[layer]
    assert describe(make(), shape).macs == macs
    assert traced(make(), shape).macs < macs, "else it belongs to the layers that both count"


# ---------------------------------------------------------------------------------------------------------- roofline


@every_space
def test_roofline_kernels_are_the_operators_that_fvcore_finds(name: str) -> None:
    """Multiply-adds and weights of each convolution, linear layer and product; which are depthwise; what means read."""
    found = small(name)
    by_kind: dict[str, list[Block]] = {}
    for entry in entries_of(found.space).values():
        by_kind.setdefault(entry.kind, []).append(entry)
    for kind, entries in by_kind.items():
        rng = generator(0, "fvcore", name, kind)
        for index in rng.choice(len(entries), min(EACH, len(entries)), replace=False):
            compare_kernels(found, entries[index])


def compare_kernels(found: Family, entry: Block) -> None:
    with torch.device("meta"):
        module = found.build_block(entry)
    seen, kernels = traced(module, entry.input_shape), kernels_of(entry)
    assert not set(seen.others) - set(NO_MULTIPLY_ADDS), entry.key
    arithmetic = [kernel for kernel in kernels if kernel.kind != "elementwise"]
    ours = Counter((kernel.operations // 2, kernel.weights) for kernel in arithmetic)
    assert ours == Counter((call.macs, call.weights) for call in seen.calls), entry.key
    depthwise = sum(kernel.operations // 2 for kernel in arithmetic if kernel.kind == "depthwise")
    assert depthwise == sum(call.macs for call in seen.calls if call.groups > GROUPED), entry.key
    elementwise = Counter(kernel.operations for kernel in kernels if kernel.kind == "elementwise")
    assert not Counter(seen.means) - elementwise, entry.key
