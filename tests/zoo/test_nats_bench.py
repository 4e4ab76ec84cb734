"""NATS-Bench's size space: its size, counts of the modules that run, and networks cut from the widest one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from hwnas.core import Architecture, SpaceError
from hwnas.cost import UnitSum, entries_of
from hwnas.nn import one_hot_gates
from hwnas.zoo import FAMILIES, NatsSize, family
from tests.zoo.counting import check_counts, check_files

CIFAR = NatsSize()
TINY = NatsSize("tiny", channels=1, classes=3, resolutions=(8, 12), widths=(3, 4, 6))


def test_the_space_has_the_size_of_the_paper_and_few_blocks() -> None:
    assert CIFAR.space.size == 32_768
    assert TINY.space.size == 2 * 3**5
    everything = list(TINY.space.enumerate())
    assert len(set(everything)) == len(everything) == TINY.space.size
    # Stem, first cell and head have a width each, the others two.
    assert len(entries_of(CIFAR.space)) == 3 * 8 + 4 * 64


def test_a_network_by_hand() -> None:
    blocks = CIFAR.space.blocks_of(CIFAR.architecture((8, 16, 24, 24, 64)))
    cells = [(32, 8, 8), (16, 16, 24), (8, 24, 64)]
    halves = [(16, 8, 16), (8, 24, 24)]
    macs = 32**2 * 27 * 8 + 64 * 10
    macs += sum(s**2 * (9 * (2 * a * b + 3 * b * b) + (a * b if a != b else 0)) for s, a, b in cells)
    macs += sum(s**2 * (9 * a * b + 9 * b * b + a * b) for s, a, b in halves)
    assert sum(block.macs for block in blocks) == macs


@pytest.mark.parametrize("of", [CIFAR, TINY])
def test_random_networks_are_the_sum_of_their_blocks(of: NatsSize) -> None:
    for architecture in [of.default(), *of.space.sample(6, np.random.default_rng(0))]:
        check_counts(of.space.blocks_of(architecture))


def test_the_ends_are_the_thinnest_and_the_widest() -> None:
    macs = UnitSum.of(CIFAR.space, lambda block: block.macs)
    assert macs.smallest()[1] == CIFAR.architecture((8,) * 5)
    assert macs.largest()[1] == CIFAR.default()


def test_networks_are_cut_from_the_widest() -> None:
    torch.manual_seed(0)
    net = TINY.supernet()
    for part in net.modules():
        if isinstance(part, nn.BatchNorm2d):
            for value in (part.weight, part.bias, part.running_mean, part.running_var):
                assert value is not None
                nn.init.uniform_(value, 0.5, 1.5)
    net.eval()
    for a in TINY.space.sample(10, np.random.default_rng(1)):
        side = int(a["resolution"])
        x = torch.randn(2, 1, side, side)
        plain = net.extract(a)
        torch.testing.assert_close(net(x, a), plain(x), atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(net(x, one_hot_gates(TINY.space, a)), plain(x), atol=1e-4, rtol=1e-4)
    thin = net.extract(TINY.architecture((3, 4, 4, 6, 3)))
    whole = net.extract(TINY.default())
    assert torch.equal(thin[3].edges["1-2"].conv.weight, whole[3].edges["1-2"].conv.weight[:4, :4])  # type: ignore[index,union-attr]


def test_training_a_thin_network_moves_its_share_of_weights_and_statistics() -> None:
    torch.manual_seed(0)
    net = TINY.supernet().train()
    thin = TINY.architecture((3,) * 5, resolution=8)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    net(torch.randn(4, 1, 8, 8), thin).square().sum().backward()
    after = net.state_dict()
    mean = "parts.1.whole.edges.0-1.norm.running_mean"
    moved = after[mean] != before[mean]
    assert moved.tolist() == [True] * 3 + [False] * 3
    gradients = {name: value.grad for name, value in net.named_parameters()}
    convolution = gradients["parts.1.whole.edges.0-1.conv.weight"]
    assert convolution is not None
    assert convolution[:3, :3].abs().sum() > 0 == convolution[3:].abs().sum() == convolution[:, 3:].abs().sum()
    assert gradients["parts.3.whole.skip.0.weight"] is None, "cells of one width have no convolution there"
    for part in net.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.track_running_stats = False
    kept = net.state_dict()[mean].clone()
    net(torch.randn(4, 1, 8, 8), thin)
    assert torch.equal(net.state_dict()[mean], kept), "a rule that mixes networks can switch statistics off"


def test_a_network_is_saved_loaded_and_exported(tmp_path: Path) -> None:
    torch.manual_seed(0)
    a = TINY.architecture((3, 4, 6, 6, 4))
    check_files(TINY.supernet().extract(a), TINY.space.blocks_of(a), a, (1, 12, 12), tmp_path)


def test_a_recipe_can_change_what_the_family_fixes() -> None:
    found = family("nats_size", {"widths": [4, 8]}, channels=1, classes=4)
    assert isinstance(found, NatsSize)
    assert (found.widths, found.channels, found.classes) == ((4, 8), 1, 4)
    assert FAMILIES["nats_size"].has_supernet


def test_other_widths_and_images_are_refused() -> None:
    with pytest.raises(SpaceError, match="4 widths; expected 5"):
        CIFAR.architecture((8,) * 4)
    with pytest.raises(SpaceError, match="'cell2.width' has no option 9"):
        CIFAR.architecture((8, 8, 9, 8, 8))
    with pytest.raises(SpaceError, match=r"images of \(8, 8\) for a network of resolution 12"):
        TINY.supernet()(torch.randn(1, 1, 8, 8), TINY.default())
    with pytest.raises(SpaceError, match="is active but not given"):
        TINY.supernet().extract(Architecture({"resolution": 8}))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"resolutions": (32, 16)}, r"resolutions is \[32, 16\]; expected ascending"),
        ({"resolutions": (30,)}, "resolutions holds 30; it is halved twice"),
        ({"widths": (8, 8)}, r"widths is \[8, 8\]; expected ascending"),
        ({"classes": 0}, "classes is 0; it must be above 0"),
    ],
)
def test_impossible_values_are_named(change: dict[str, object], words: str) -> None:
    with pytest.raises(SpaceError, match=words):
        replace(CIFAR, **change)  # type: ignore[arg-type]
