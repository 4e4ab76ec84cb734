"""SMASH's space: its size, counts of the modules that run, what flows between banks, and shared weights."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from math import comb, prod
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from hwnas.core import Architecture, SpaceError, generator
from hwnas.cost import UnitSum, entries_of
from hwnas.data import DataSource, Images, Preprocessing, batches
from hwnas.nn import one_hot_gates
from hwnas.nn.memory_banks import LayerPlan
from hwnas.training import SinglePath
from hwnas.zoo import FAMILIES, Smash, family
from tests.zoo.counting import check_files, counted_macs

CIFAR = Smash()
TINY = Smash(
    "tiny",
    channels=1,
    classes=3,
    resolutions=(8, 12),
    layers=(2, 3),
    widths=(4, 6),
    banks=3,
    filled=2,
    windows=("3x3", "3x3_dilated_3", "5x5"),
    groups=(1, 2),
    stem_kernel=3,
)
PLAIN = LayerPlan((0, 1), (0, 1), 2, 3, 1, 1, "1000")


def counts(of: Smash, architecture: Architecture) -> tuple[int, int]:
    """Multiply-adds and parameters of the blocks, after checking them against the modules."""
    blocks = of.space.blocks_of(architecture)
    with torch.device("meta"):
        network = of.build_network(architecture)
    side = int(architecture["resolution"])
    found = sum(block.macs for block in blocks), sum(block.parameters for block in blocks)
    assert found == (counted_macs(network, (of.channels, side, side)), sum(p.numel() for p in network.parameters()))
    assert found == (network.block.macs, network.block.parameters)
    assert sorted(b.key for b in blocks) == sorted(b.key for b in network.frame.pieces(network.plans))
    return found


def in_all(of: Smash) -> int:
    """How many networks there are: layer by layer, depth by depth."""

    def layer(n: int) -> int:
        readable, writable = min(of.banks, of.filled + n), min(of.banks, of.filled + n + 1)
        # A set of several banks may be written with the same units or with its own.
        writes = sum(comb(writable, size) * (1 if size == 1 else 2) for size in range(1, writable + 1))
        return ((1 << readable) - 1) * writes * len(of.windows) * len(of.groups) * len(of.patterns)

    blocks: Iterator[int] = (
        sum(prod(layer(n) for n in range(depth)) for depth in range(1, most + 1)) for most in of.layers
    )
    return len(of.resolutions) * prod(blocks)


@pytest.mark.parametrize("of", [CIFAR, TINY, FAMILIES["smash_small"], replace(TINY, banks=2), replace(TINY, filled=1)])
def test_the_size_is_that_of_every_layers_choices(of: Smash) -> None:
    assert of.space.size == in_all(of)


def test_a_small_space_lists_as_many_networks_as_it_says() -> None:
    of = Smash(
        layers=(2,), widths=(4,), banks=2, filled=1, windows=("3x3", "5x5"), groups=(1,), patterns=("1000", "1111")
    )
    everything = list(of.space.enumerate())
    assert len(set(everything)) == len(everything) == of.space.size == in_all(of)
    assert len({of.plans(a) for a in everything}) == len(everything), "different architectures, different networks"
    assert all(of.architecture(of.plans(a)) == a for a in everything)


def test_a_network_by_hand() -> None:
    """One block of two layers on 8x8 pixels: two of four banks of 4 channels are filled, bottleneck 2."""
    of = Smash(channels=1, classes=3, resolutions=(8,), layers=(2,), widths=(4,), stem_kernel=3)
    grow = LayerPlan((1,), (2,), 1, 3, 2, 1, "1000")
    mix = LayerPlan((0, 2), (0, 1, 2), 3, 5, 1, 2, "1110")
    macs, parameters = counts(of, of.architecture(((grow, mix),)))
    stem = 9 * 8
    first = 4 * 8 + 9 * 8 * 4
    second = 8 * 24 + 25 * (2 * 24 * 12 + 12 * 12) // 2
    assert macs == 64 * (stem + first + second) + 16 * 3
    norms = 2 * (4 + 8) + 2 * (8 + 24)
    assert parameters == stem + first + second + norms + (2 * 16 + 16 * 3 + 3)
    blocks = [block.kind for block in of.space.blocks_of(of.architecture(((grow, mix),)))]
    assert (blocks.count("add"), blocks.count("concat"), blocks.count("bank_read")) == (4, 2, 2)


@pytest.mark.parametrize("of", [TINY, CIFAR, replace(TINY, filled=3, layers=(1, 1))])
def test_random_networks_are_the_sum_of_their_blocks(of: Smash) -> None:
    for architecture in of.space.sample(12, np.random.default_rng(0)):
        counts(of, architecture)


def test_all_at_once_is_one_by_one_and_the_ends_are_exact() -> None:
    codes = TINY.space.sample_codes(200, np.random.default_rng(1))
    macs = UnitSum.of(TINY.space, lambda block: block.macs)
    singly = [sum(block.macs for block in TINY.space.blocks_of(a)) for a in TINY.space.decode(codes)]
    assert macs(codes).tolist() == singly
    assert macs.smallest()[0] <= min(singly) <= max(singly) <= macs.largest()[0]
    shallow, deep = (TINY.plans(end()[1]) for end in (macs.smallest, macs.largest))
    assert [len(layers) for layers in shallow] == [1, 1]
    assert [len(layers) for layers in deep] == [2, 3]
    assert {(p.kernel, p.groups, p.pattern, p.units) for layers in deep for p in layers} == {(5, 1, "1111", 3)}


def test_hard_and_cut_networks_agree_and_are_cut_from_the_same_weights() -> None:
    torch.manual_seed(0)
    net = TINY.supernet()
    for name, value in net.state_dict().items():
        if value.ndim == 1:
            nn.init.uniform_(value, 0.5, 1.5)
        assert name
    net.eval()
    for a in TINY.space.sample(20, np.random.default_rng(2)):
        side = int(a["resolution"])
        x = torch.randn(2, 1, side, side)
        plain = net.extract(a)
        torch.testing.assert_close(net(x, a), plain(x), atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(net(x, one_hot_gates(TINY.space, a)), plain(x), atol=1e-4, rtol=1e-4)
    small, large = (
        net.extract(TINY.architecture(((PLAIN._replace(writes=(0, 1, 2), units=units, kernel=kernel),), (PLAIN,))))
        for units, kernel in ((1, 3), (3, 5))
    )
    cut, whole = (network.blocks[0][0][1].convolutions["0"].weight for network in (small, large))  # type: ignore[index]
    assert (cut.shape, whole.shape) == ((4, 8, 3, 3), (12, 24, 5, 5))
    assert torch.equal(cut, whole[:4, :8, 1:4, 1:4])


def test_a_layer_learns_of_the_banks_it_reads_only() -> None:
    net = TINY.supernet()
    a = TINY.architecture(((PLAIN._replace(reads=(1,)),), (PLAIN,)), resolution=8)
    net(torch.randn(2, 1, 8, 8), a).sum().backward()
    layers = net.network.blocks[0]
    moved = {name for name, value in layers.named_parameters() if value.grad is not None}
    assert {"0.before.1.weight", "0.mix", "0.convolutions.0"} <= moved
    assert not {"0.before.0.weight", "0.convolutions.1"} & moved
    assert not {name for name in moved if name.startswith("1.")}


def test_the_shared_weights_are_trained() -> None:
    learner = replace(TINY, classes=10, resolutions=(8,), layers=(2, 2), widths=(8, 16))
    splits = DataSource("digits", limit=300).load(0)
    images = Images(splits.train, Preprocessing.fit(splits.train))
    torch.manual_seed(0)
    net = learner.supernet()
    step, optimizer = SinglePath(net, random=1), torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    losses: list[float] = []
    for k in range(25):
        for batch in batches(images, batch_size=32, generator=generator(0, k), drop_last=True):
            optimizer.zero_grad(set_to_none=True)
            losses.append(step(batch, generator(0, "step", len(losses))))
            optimizer.step()
    assert np.mean(losses[-10:]) < 0.7 * np.mean(losses[:5])


def test_a_network_is_saved_loaded_and_exported(tmp_path: Path) -> None:
    torch.manual_seed(0)
    unread = LayerPlan((2,), (0, 2), 1, 3, 3, 2, "1010")  # reads a bank that is still empty
    a = TINY.architecture(((PLAIN, unread), (PLAIN._replace(writes=(1, 2)),)))
    check_files(TINY.supernet().extract(a), TINY.space.blocks_of(a), a, (1, 12, 12), tmp_path)


def test_there_are_few_kinds_of_blocks_to_measure() -> None:
    kinds = {block.kind for block in entries_of(CIFAR.space).values()}
    assert kinds == {
        *("add", "bank_convolutions", "bank_read", "bank_stem", "cell_head", "concat", "dense_layer", "halving_pool"),
    }
    assert len(entries_of(CIFAR.space)) < 1200


def test_impossible_networks_are_named() -> None:
    with pytest.raises(SpaceError, match="1 blocks; expected 2"):
        TINY.architecture(((PLAIN,),))
    with pytest.raises(SpaceError, match="layer 1 has 2 units for 3 banks; expected one, or one for each"):
        TINY.architecture(((PLAIN._replace(writes=(0, 1, 2)),), (PLAIN,)))
    with pytest.raises(SpaceError, match="'block1.layer1.reads' has no option '2'"):
        TINY.architecture(((PLAIN._replace(reads=(2,)),), (PLAIN,)))
    with pytest.raises(SpaceError, match="'block1.layer1.window' has no option"):
        TINY.architecture(((PLAIN._replace(dilation=2),), (PLAIN,)))
    with pytest.raises(SpaceError, match=r"images of \(8, 8\) for a network of resolution 12"):
        TINY.supernet()(torch.randn(1, 1, 8, 8), TINY.default())


def test_a_recipe_can_change_what_the_family_fixes() -> None:
    found = family("smash_small", {"layers": [1], "widths": [8], "banks": 3}, channels=1, classes=4)
    assert isinstance(found, Smash)
    assert (found.layers, found.channels, found.classes) == ((1,), 1, 4)
    assert found.has_supernet
    for of in (found, CIFAR, TINY, replace(TINY, filled=1)):
        assert of.space.contains(of.default())
    assert not set(itertools.chain(*CIFAR.plans(CIFAR.default()))) - {
        LayerPlan((0, 1), (0, 1), 2, 3, 1, 1, "1111"),
    }


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"resolutions": (32, 16)}, r"resolutions is \[32, 16\]; expected ascending"),
        ({"resolutions": (30,)}, "resolutions holds 30; .* multiples of 4"),
        ({"widths": (8, 16)}, "layers has 3 entries, widths has 2"),
        ({"layers": (4, 0, 4)}, "they must be above 0"),
        ({"banks": 6}, "banks is 6, filled is 2; expected 1 to 5 banks"),
        ({"filled": 5}, "banks is 4, filled is 5"),
        ({"stem_kernel": 4}, "stem_kernel is 4; kernels are odd"),
        ({"windows": ("3x4",)}, 'windows holds "3x4"; did you mean "3x3"'),
        ({"patterns": ()}, r"patterns is \[\]; expected at least one"),
        ({"groups": (2, 1)}, r"groups is \[2, 1\]; expected ascending"),
        ({"groups": (1, 3)}, "groups holds 3; it does not divide banks of 16"),
        ({"bottleneck": 0}, "bottleneck is 0; it must be above 0"),
    ],
)
def test_impossible_values_are_named(change: dict[str, object], words: str) -> None:
    with pytest.raises(SpaceError, match=words):
        replace(CIFAR, **change)  # type: ignore[arg-type]
