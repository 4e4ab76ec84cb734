"""DPP-Net's space: published sizes, and counts of the modules that run."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from hwnas.core import Architecture, SpaceError
from hwnas.cost import UnitSum, entries_of
from hwnas.nn.dense_cells import Layers
from hwnas.zoo import FAMILIES, DppNet, family
from hwnas.zoo.dpp_net import CONDENSENET, DPP_NET_IMAGENET, PNAS_STYLE
from tests.zoo.counting import counted_macs

CIFAR = DppNet()
TINY = DppNet("tiny", channels=1, classes=3, resolutions=(8, 12), cells=(2, 1), growths=(4, 8))
WS: Layers = (("identity", "group_conv_1x1"), ("norm_relu", "conv_3x3"))


def counts(of: DppNet, architecture: Architecture) -> tuple[int, int]:
    """Multiply-adds and parameters of the blocks, after checking them against the modules."""
    blocks = of.space.blocks_of(architecture)
    with torch.device("meta"):
        network = of.build_network(architecture)
    side = int(architecture["resolution"])
    found = sum(block.macs for block in blocks), sum(block.parameters for block in blocks)
    assert found == (counted_macs(network, (of.channels, side, side)), sum(p.numel() for p in network.parameters()))
    return found


def moved(of: DppNet, architecture: Architecture) -> int:
    """Numbers that are rectified or pooled, which CondenseNet's own counter adds to the multiply-adds."""
    side, total = int(architecture["resolution"]), 0

    def count(layer: torch.nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        nonlocal total
        total += inputs[0][0].numel()

    with torch.device("meta"):
        network = of.build_network(architecture).eval()
        kinds = ("ReLU", "HalvingPool")
        for layer in network.modules():
            if type(layer).__name__ in kinds:
                layer.register_forward_hook(count)
        network[-1].norm.register_forward_hook(count)  # type: ignore[index]
        network[-1].norm.register_forward_hook(count)  # type: ignore[index]
        network(torch.empty(1, of.channels, side, side))
    return total  # in the head, what is rectified and what is pooled is what is normed


def test_condensenet_86_has_its_published_size() -> None:
    """Huang et al. 2018, table 4: 0.52 M parameters, 65 M operations; 65.8 M in DPP-Net's table 2."""
    macs, parameters = counts(CIFAR, CIFAR.default())
    assert parameters == 520_202
    assert (macs + moved(CIFAR, CIFAR.default())) / 65.8e6 == pytest.approx(1, abs=0.001)


@pytest.mark.parametrize(
    ("layers", "published"),
    [
        (PNAS_STYLE, (1364e6, 11.39e6)),  # DPP-Net, table 2: PNAS-style network
        (WS, (137e6, 1.00e6)),  # DPP-Net-WS
    ],
)
def test_cells_have_the_published_sizes_of_dpp_net(layers: Layers, published: tuple[float, float]) -> None:
    """By their sizes alone: the cells were found among the 324, not read off the paper's drawings."""
    assert counts(CIFAR, CIFAR.architecture(layers)) == pytest.approx(published, rel=0.01)


def test_the_imagenet_frame_has_the_size_of_dpp_net_panacea() -> None:
    """Table 3: 4.8 M parameters, 523 M operations, rectifiers and pools among them."""
    macs, parameters = counts(DPP_NET_IMAGENET, DPP_NET_IMAGENET.default())
    assert parameters == pytest.approx(4.8e6, rel=0.01)
    assert macs < 523e6 < macs + moved(DPP_NET_IMAGENET, DPP_NET_IMAGENET.default())


def test_the_space_has_the_size_of_the_paper() -> None:
    """Four layers: 3 * 6 * 3 * 6 cells."""
    assert CIFAR.space.size == 324
    assert replace(TINY, layers=1, resolutions=(8,)).space.size == 18
    assert replace(TINY, layers=3, cells=(1,), growths=(4,), resolutions=(8,)).space.size == 18**3


def test_every_cell_of_a_small_network_is_the_sum_of_its_blocks() -> None:
    for architecture in TINY.space.sample(25, np.random.default_rng(0)):
        counts(TINY, architecture)


def test_networks_run() -> None:
    torch.manual_seed(0)
    small = replace(CIFAR, cells=(2, 2, 2))
    for architecture in small.space.sample(4, np.random.default_rng(1)):
        network = small.build_network(architecture)
        y = network(torch.randn(2, 3, 32, 32))
        assert y.shape == (2, 10)
        y.sum().backward()
        assert all(p.grad is not None for p in network.parameters())


def test_all_at_once_is_one_by_one_and_the_ends_are_exact() -> None:
    macs = UnitSum.of(TINY.space, lambda block: block.macs)
    every = list(TINY.space.enumerate())
    singly = [sum(block.macs for block in TINY.space.blocks_of(a)) for a in every]
    assert macs(TINY.space.encode(every)).tolist() == singly
    assert (macs.smallest()[0], macs.largest()[0]) == (min(singly), max(singly))


def test_cells_are_measured_by_their_layers() -> None:
    kinds = {block.kind for block in entries_of(CIFAR.space).values()}
    assert kinds == {"dense_stem", "dense_layer", "concat", "halving_pool", "dense_head"}
    few = replace(TINY, norms=("norm_relu",), resolutions=(8,))
    assert "dense_cell" in {block.kind for block in entries_of(few.space).values()}


def test_a_recipe_can_change_what_the_family_fixes() -> None:
    found = family("dpp_net", {"cells": [2], "growths": [4], "read": 0.5}, channels=1, classes=4)
    assert isinstance(found, DppNet)
    assert (found.cells, found.channels, found.classes, found.read) == ((2,), 1, 4, 0.5)
    assert not FAMILIES["dpp_net"].has_supernet
    with pytest.raises(SpaceError, match="it has no supernet"):
        found.supernet()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"resolutions": (30,)}, "resolutions holds 30; .*multiples of 4"),
        ({"resolutions": (32, 16)}, r"resolutions is \[32, 16\]; expected ascending"),
        ({"cells": (1, 1)}, "cells has 2 entries, growths has 3"),
        ({"cells": (1, 0, 1)}, "they must be above 0"),
        ({"growths": (8, 10, 12)}, "growths holds 10; expected multiples of 4"),
        ({"layers": 4}, "layers is 4; expected 1 to 3"),
        ({"read": 0.0}, "read is 0.0"),
        ({"bottleneck": 0}, "bottleneck is 0"),
        ({"norms": ("batch",)}, 'norms holds "batch"'),
        ({"convolutions": ("conv_1x1", "conv_1x1")}, "expected at least one, each once"),
    ],
)
def test_impossible_values_are_named(change: dict[str, object], words: str) -> None:
    with pytest.raises(SpaceError, match=words):
        replace(CIFAR, **change)  # type: ignore[arg-type]


def test_other_cells_are_refused() -> None:
    with pytest.raises(SpaceError, match="a cell of 1 layers; expected 2"):
        CIFAR.architecture(CONDENSENET[:1])


def test_every_space_has_a_default() -> None:
    for of in (
        CIFAR,
        TINY,
        replace(TINY, layers=3, cells=(1, 1)),
        replace(TINY, norms=("norm",), convolutions=("conv_3x3",)),
    ):
        assert of.space.contains(of.default())
