"""NASNet's space: the published networks' multiply-adds and parameters, and counts of the modules that run."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Literal

import numpy as np
import pytest
import torch

from hwnas.core import Architecture, SpaceError
from hwnas.cost import UnitSum, UnitSumCost
from hwnas.nn import one_hot_gates
from hwnas.nn.two_input_cells import Wiring
from hwnas.zoo import FAMILIES, NasNet, family
from hwnas.zoo.nasnet import (
    AMOEBANET_A,
    AMOEBANET_MOBILE,
    ENAS,
    ENAS_MICRO,
    NASNET_A,
    NASNET_MOBILE,
    PNASNET_5,
    PNASNET_MOBILE,
    PUBLISHED,
)
from tests.zoo.counting import counted_macs

CIFAR = NasNet()
TINY = NasNet("tiny", channels=1, classes=3, resolutions=(8, 13), cells=1, nodes=3, width=8, stem_width=6)


def counts(of: NasNet, architecture: Architecture) -> tuple[int, int]:
    """Multiply-adds and parameters of the blocks, after checking them against the modules."""
    blocks = of.space.blocks_of(architecture)
    with torch.device("meta"):
        network = of.build_network(architecture)
    side = int(architecture["resolution"])
    found = sum(block.macs for block in blocks), sum(block.parameters for block in blocks)
    assert found == (counted_macs(network, (of.channels, side, side)), sum(p.numel() for p in network.parameters()))
    return found


@pytest.mark.parametrize(
    ("of", "macs", "parameters"),
    [
        (NASNET_MOBILE, 564e6, 5.3e6),  # Zoph et al. 2018, table 3: NASNet-A (4 @ 1056)
        (AMOEBANET_MOBILE, 555e6, 5.1e6),  # Real et al. 2019, table 3: AmoebaNet-A (N = 4, F = 50)
        (PNASNET_MOBILE, 588e6, 5.1e6),  # Liu et al. 2018, table 4: PNASNet-5 (N = 3, F = 54)
    ],
)
def test_published_networks(of: NasNet, macs: float, parameters: float) -> None:
    found = counts(of, of.default())
    assert found[0] == pytest.approx(macs, rel=0.01)
    assert found[1] == pytest.approx(parameters, rel=0.01)


def test_nasnet_mobile_has_the_trainable_parameters_of_keras_applications() -> None:
    assert counts(NASNET_MOBILE, NASNET_MOBILE.default())[1] == 5_289_978


def test_nasnet_a_for_small_images_has_the_published_parameters() -> None:
    """Zoph et al. 2018, table 1: NASNet-A (6 @ 768) has 3.3 M."""
    of = replace(CIFAR, normal_output=NASNET_MOBILE.normal_output, reduce_output=NASNET_MOBILE.reduce_output)
    assert of.frame(32).places[-1].output == (768, 8)
    assert counts(of, of.default()) == (544_333_312, 3_346_538)


def test_the_enas_cells_by_hand() -> None:
    """One cell to a stage: separable convolutions, matched inputs, reductions and the classifier, added up."""
    of = replace(ENAS_MICRO, cells=1, width=8, stem_width=24)
    assert [place.inputs[1] is not None for place in of.frame(32).places] == [True] * 5, "both inputs are convolved"

    def separable(kernel: int, c: int) -> int:
        return 2 * (kernel * kernel * c + c * c + 2 * c)

    def matched(before: int, last: int, c: int) -> int:
        return before * c + last * c + 4 * c

    stem, head = 27 * 24 + 48, 160 * 10 + 10
    normal = sum(2 * separable(3, c) + 4 * separable(5, c) for c in (8, 16, 32))
    reduce = sum(3 * separable(3, c) + 3 * separable(5, c) + c * c + 2 * c for c in (16, 32))
    inputs = matched(24, 24, 8) + matched(24, 40, 16) + matched(40, 80, 16) + matched(80, 80, 32) + matched(80, 160, 32)
    assert counts(of, of.default())[1] == stem + normal + reduce + inputs + head


def test_enas_micro_has_five_nodes_of_five_operations() -> None:
    assert ENAS_MICRO.space.size == (5**10 * prod(n**2 for n in (2, 3, 4, 5, 6))) ** 2
    assert replace(ENAS_MICRO, nodes=1).space.size == (2 * 5) ** 4


def test_the_pnas_space_has_the_size_of_its_paper() -> None:
    """(2^2 8^2)(3^2 8^2)...(6^2 8^2), about 5.6e14; 256 cells of one node (Liu et al. 2018, section 3.1)."""
    assert PNASNET_MOBILE.space.size == prod(n**2 * 8**2 for n in (2, 3, 4, 5, 6))
    one = replace(PNASNET_MOBILE, nodes=1)
    assert one.space.size == 256
    assert CIFAR.space.size == prod(n**2 * 13**2 for n in (2, 3, 4, 5, 6)) ** 2


def test_penultimate_channels_are_those_of_the_name() -> None:
    assert NASNET_MOBILE.frame(224).places[-1].output == (1056, 7)
    assert [place.channels for place in NASNET_MOBILE.frame(224).places[:3]] == [11, 22, 44]
    assert [place.kind for place in PNASNET_MOBILE.frame(224).places] == ["normal"] * 11
    assert [place.stride for place in PNASNET_MOBILE.frame(224).places] == [2, 2, 1, 1, 1, 2, 1, 1, 2, 1, 1]


@pytest.mark.parametrize(
    "of",
    [
        TINY,
        replace(TINY, stem="imagenet", resolutions=(32, 45), reduction="strided", channels=3),
        replace(ENAS_MICRO, cells=1, width=8, stem_width=6, resolutions=(8, 13)),
        replace(TINY, cells=2, normal_output=(0, 1, 4), reduce_output=(0, 2, 4)),
    ],
)
def test_random_networks_are_the_sum_of_their_blocks(of: NasNet) -> None:
    for architecture in of.space.sample(4, np.random.default_rng(0)):
        counts(of, architecture)


def test_every_operation_is_in_the_sum() -> None:
    """One node, one operation everywhere: the two spaces of one operation differ by what it costs."""
    for name in CIFAR.operations:
        of = replace(TINY, operations=(name,), nodes=1)
        [architecture] = of.space.sample(1, np.random.default_rng(0))
        counts(of, architecture)


def test_all_at_once_is_one_by_one_and_the_ends_are_exact() -> None:
    codes = TINY.space.sample_codes(200, np.random.default_rng(1))
    macs = UnitSum.of(TINY.space, lambda block: block.macs)
    singly = [sum(block.macs for block in TINY.space.blocks_of(a)) for a in TINY.space.decode(codes)]
    assert macs(codes).tolist() == singly
    assert macs.smallest()[0] <= min(singly) <= max(singly) <= macs.largest()[0]
    assert UnitSumCost.count(TINY.space, "macs")(macs.largest()[1]).value == macs.largest()[0]


def test_swapping_the_edges_of_a_node_changes_nothing_that_is_counted() -> None:
    swapped: dict[str, Wiring] = {
        kind: tuple((second, first) for first, second in wiring) for kind, wiring in NASNET_A.items()
    }
    of = replace(CIFAR, cells=1, width=8)
    assert counts(of, of.architecture(swapped)) == counts(of, of.default())


def test_networks_run_at_32_pixels_and_halve_the_image_whatever_is_chosen() -> None:
    torch.manual_seed(0)
    of = replace(TINY, channels=3, resolutions=(32,))
    sizes: list[int] = []
    for architecture in of.space.sample(4, np.random.default_rng(3)):
        network = of.build_network(architecture)
        for cell in network.cells:
            cell.register_forward_hook(lambda part, x, y: sizes.append(y.shape[-1]))
        assert network(torch.randn(2, 3, 32, 32)).shape == (2, 3)
    assert sizes == 4 * [32, 16, 16, 8, 8]


@pytest.mark.parametrize("cells", [NASNET_A, AMOEBANET_A, PNASNET_5, ENAS])
def test_cells_there_and_back(cells: dict[str, Wiring]) -> None:
    of = {name: base for name, base in FAMILIES.items() if isinstance(base, NasNet)}
    base = next(base for base in of.values() if PUBLISHED[base.published] is cells)
    assert base.wirings(base.architecture(cells)) == cells


def test_a_recipe_can_change_what_the_family_fixes() -> None:
    found = family("nasnet", {"cells": 1, "normal_output": [0, 6]}, channels=1, classes=4)
    assert isinstance(found, NasNet)
    assert (found.cells, found.channels, found.classes, found.normal_output) == (1, 1, 4, (0, 6))
    assert found.has_supernet


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"resolutions": (2,)}, "resolutions holds 2"),
        ({"cells": 0}, "cells is 0; it must be above 0"),
        ({"width": 4}, "width is 4"),
        ({"normal_output": (3, 2)}, r"normal_output is \[3, 2\]; expected ascending states"),
        ({"reduce_output": (7,)}, r"reduce_output is \[7\]; .* 0 and 1, the inputs, and 2 to 6"),
        ({"operations": ("max_pool_3x3", "max_pool_3x3")}, "expected at least one, each once"),
    ],
)
def test_impossible_values_are_named(change: dict[str, object], words: str) -> None:
    with pytest.raises(SpaceError, match=words):
        replace(CIFAR, **change)  # type: ignore[arg-type]


def test_other_cells_are_refused() -> None:
    with pytest.raises(SpaceError, match="the reduce cell has 0 nodes; expected 5"):
        CIFAR.architecture(PNASNET_5)
    with pytest.raises(SpaceError, match="the normal cell has 5 nodes; expected 3"):
        TINY.architecture(NASNET_A)


@pytest.mark.parametrize("reduction", ["own", "strided"])
def test_networks_share_weights_and_are_cut_from_them(reduction: Literal["own", "strided"]) -> None:
    torch.manual_seed(0)
    of = replace(TINY, operations=AMOEBANET_MOBILE.operations, reduction=reduction, normal_output=(0, 3))
    net = of.supernet()
    for part in net.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            for value in (part.weight, part.bias, part.running_mean, part.running_var):
                assert value is not None
                torch.nn.init.uniform_(value, 0.5, 1.5)
    net.eval()
    for a in of.space.sample(3, np.random.default_rng(5)):
        side = int(a["resolution"])
        x = torch.randn(2, 1, side, side)
        plain = net.extract(a)
        assert sum(p.numel() for p in plain.parameters()) == sum(b.parameters for b in of.space.blocks_of(a))
        torch.testing.assert_close(net(x, a), plain(x), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(net(x, one_hot_gates(of.space, a)), plain(x), atol=1e-5, rtol=1e-5)


def test_every_space_has_a_default() -> None:
    for of in (
        CIFAR,
        TINY,
        replace(CIFAR, nodes=7),
        replace(TINY, operations=("avg_pool_3x3",)),
        replace(TINY, published="pnasnet_5"),
    ):
        assert of.space.contains(of.default())
