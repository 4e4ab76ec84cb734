"""BossNAS's HyTra: its size, the network that was found, counts of the operators that run, and shared weights."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from hwnas.core import Architecture, SpaceError
from hwnas.cost import EstimatedLatency, PeakMemory, UnitSum, blocks_of
from hwnas.cost.roofline import kernels_of
from hwnas.device import Roofline
from hwnas.nn import one_hot_gates
from hwnas.nn.hybrid_blocks import HybridBlock
from hwnas.zoo import FAMILIES, HyTra, family
from hwnas.zoo.bossnas import BOSSNET_T0
from tests.zoo.counting import check_files

IMAGENET = HyTra()
SMALL = FAMILIES["bossnas_hytra_small"]
TINY = HyTra(
    "tiny",
    channels=1,
    classes=3,
    resolutions=(8, 16),
    stem="small",
    stem_width=4,
    widths=(8, 16, 32),
    head_width=2,
    block=2,
    finest=(0, 1),
)


def counts(of: HyTra, architecture: Architecture) -> tuple[int, int]:
    """Multiply-adds and parameters of the blocks, after checking them against the operators that run."""
    blocks = of.space.blocks_of(architecture)
    side = int(architecture["resolution"])
    with torch.device("meta"):
        network = of.build_network(architecture).eval()
        with FlopCounterMode(display=False) as counter:
            network(torch.zeros(1, of.channels, side, side))
    found = sum(block.macs for block in blocks), sum(block.parameters for block in blocks)
    assert found == (counter.get_total_flops() // 2, sum(p.numel() for p in network.parameters()))
    return found


def published_count(code: Sequence[Sequence[int]]) -> tuple[int, int]:
    """As the authors count: convolutions and products at 224 pixels; weights without norms and biases."""
    macs, weights = 49 * 3 * 64 * 112**2 + 2048 * 1000, 49 * 3 * 64 + 2048 * 1000
    before, size = 64, 56
    for scale, layers in enumerate(code):
        middle = 64 * 2**scale
        for number, convolves in enumerate(layers):
            out = size // 2 if scale and number == 0 else size
            entry, mark, exit_ = before * middle, 9 * middle, middle * 4 * middle
            within = 9 * middle**2 if convolves else 3 * middle**2
            beside = before * 4 * middle if before != 4 * middle else 0
            weights += entry + mark + within + exit_ + beside
            macs += size**2 * entry + out**2 * (mark + within + exit_ + beside)
            macs += 0 if convolves else 2 * out**4 * middle
            before, size = 4 * middle, out
    return macs, weights


def test_bossnet_t0_has_the_published_size() -> None:
    """Li et al. 2021: 3.4 B multiply-adds without squeeze-and-excitation."""
    macs, parameters = counts(IMAGENET, IMAGENET.default())
    expected = published_count(BOSSNET_T0)
    assert macs == expected[0] == pytest.approx(3.4e9, rel=0.02)
    unlearned = [m for m in _modules(IMAGENET) if isinstance(m, nn.BatchNorm2d)]
    biases = [m.bias for m in _modules(IMAGENET) if isinstance(m, nn.Conv2d | nn.Linear) and m.bias is not None]
    assert parameters == expected[1] + sum(2 * m.num_features for m in unlearned) + sum(b.numel() for b in biases)


def _modules(of: HyTra) -> list[nn.Module]:
    with torch.device("meta"):
        return list(of.build_network(of.default()).modules())


def test_the_size_is_the_sum_over_all_ways_to_get_coarser() -> None:
    """Counted a second time, layer by layer: so many networks end at each scale."""
    ending = [1, 1, 2, 2]  # of one layer, at any scale
    for layer in range(1, 16):
        finest = IMAGENET.finest[layer // 4]
        ending = [
            (ending[s] + (ending[s - 1] if s else 0)) * (2 if s >= 2 else 1) if s >= finest else 0 for s in range(4)
        ]
    assert IMAGENET.space.size == sum(ending) == 2_777_600
    assert replace(IMAGENET, resolutions=(192, 224)).space.size == 2 * sum(ending)


def test_a_small_space_lists_as_many_networks_as_it_says() -> None:
    codes = {
        (scales, bits)
        for scales in itertools.product(range(3), repeat=4)
        if all(0 <= b - a <= 1 for a, b in itertools.pairwise(scales)) and min(scales[2:]) >= 1
        for bits in itertools.product((0, 1), repeat=sum(scale >= 1 for scale in scales))
    }
    one = replace(TINY, resolutions=(8,))
    everything = list(one.space.enumerate())
    assert len(set(everything)) == len(everything) == one.space.size == len(codes)
    assert TINY.space.size == 2 * len(codes)


@pytest.mark.parametrize(
    "of", [TINY, SMALL, replace(TINY, attending=0), replace(TINY, stem="imagenet", resolutions=(32,))]
)
def test_random_networks_are_the_sum_of_their_blocks(of: HyTra) -> None:
    for architecture in of.space.sample(8, np.random.default_rng(0)):
        counts(of, architecture)
        blocks = of.space.blocks_of(architecture)
        for before, after in itertools.pairwise(blocks):
            assert before.output_shape == after.input_shape


def test_kernels_have_the_multiply_adds_of_their_block() -> None:
    for of in (IMAGENET, TINY):
        for block in blocks_of(of.space).values():
            if block.kind != "pool":  # counted with the pieces of cells
                found = sum(k.operations // 2 for k in kernels_of(block) if k.kind != "elementwise")
                assert found == block.macs, block.key
    model = EstimatedLatency.of(TINY.space, Roofline(peak_gflops=10, bandwidth_gb_per_s=10, launch_us=1))
    assert model.smallest()[0] <= model(TINY.default()).value <= model.largest()[0]


def test_the_ends_are_exact_and_peaks_are_known() -> None:
    codes = TINY.space.encode(TINY.space.enumerate())
    macs = UnitSum.of(TINY.space, lambda block: block.macs)
    assert macs.smallest()[0] == macs(codes).min()
    assert macs.largest()[0] == macs(codes).max()
    peaks = PeakMemory.of(TINY.space, {key: block.feature("boundary") for key, block in blocks_of(TINY.space).items()})
    assert peaks.largest()[0] == peaks.batch(codes).max()


def test_a_code_there_and_back() -> None:
    assert IMAGENET.code(IMAGENET.default()) == BOSSNET_T0
    for a in TINY.space.sample(20, np.random.default_rng(1)):
        assert TINY.architecture(TINY.code(a), resolution=int(a["resolution"])) == a
    for code in (((), (1,), (1, 1), (1, 1, 1, 0, 0, 0, 0, 1, 0, 0, 1, 1, 0)), ((), (), (0,) * 16, ())):
        assert IMAGENET.code(IMAGENET.architecture(code)) == code
    with pytest.raises(SpaceError, match="layer 1 attends at scale 0; only the coarsest 2 of 4 may"):
        IMAGENET.architecture(((0,), (1,), (1,) * 14, ()))
    with pytest.raises(SpaceError, match="'scales' has no option '16-0-0-0'"):
        IMAGENET.architecture(((1,) * 16, (), (), ()))


def test_cut_networks_are_the_supernets_and_layers_share_what_follows_their_entries() -> None:
    torch.manual_seed(0)
    net = TINY.supernet()
    for part in net.modules():
        if isinstance(part, nn.BatchNorm2d):
            for value in (part.weight, part.bias, part.running_mean, part.running_var):
                assert value is not None
                nn.init.uniform_(value, 0.5, 1.5)
    net.eval()
    for a in TINY.space.sample(12, np.random.default_rng(2)):
        side = int(a["resolution"])
        x = torch.randn(2, 1, side, side)
        plain = net.extract(a)
        torch.testing.assert_close(net(x, a), plain(x), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(net(x, one_hot_gates(TINY.space, a)), plain(x), atol=1e-5, rtol=1e-5)
    stays, steps = (net.extract(TINY.architecture(c)) for c in (((), (1, 0, 0, 1), ()), ((1,), (0, 0, 1), ())))
    second = [[m for m in network if isinstance(m, HybridBlock)][1] for network in (stays, steps)]
    assert [part.entry.mark.stride for part in second] == [(1, 1), (2, 2)]
    assert torch.equal(second[0].body[3].weight, second[1].body[3].weight)  # type: ignore[arg-type]
    assert second[0].entry.reduce.weight.shape != second[1].entry.reduce.weight.shape


def test_images_of_another_size_are_refused() -> None:
    with pytest.raises(SpaceError, match=r"images of \(8, 8\) for a network of resolution 16"):
        TINY.supernet()(torch.randn(1, 1, 8, 8), TINY.default())


def test_a_network_is_saved_loaded_and_exported(tmp_path: Path) -> None:
    torch.manual_seed(0)
    a = TINY.architecture(((), (0, 1), (0, 1)))
    check_files(TINY.supernet().extract(a), TINY.space.blocks_of(a), a, (1, 16, 16), tmp_path)


def test_a_recipe_can_change_what_the_family_fixes() -> None:
    found = family("bossnas_hytra_small", {"block": 1, "finest": [0, 0]}, channels=1, classes=4)
    assert isinstance(found, HyTra)
    assert (found.layers, found.channels, found.classes) == (2, 1, 4)
    assert found.has_supernet
    assert found.space.contains(found.default())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"resolutions": (224, 192)}, r"resolutions is \[224, 192\]; expected ascending"),
        ({"resolutions": (100,)}, "resolutions holds 100; .* multiples of 32"),
        ({"widths": (256, 128, 512, 1024)}, "expected ascending multiples of 4"),
        ({"attending": 5}, "attending is 5; there are 4 scales"),
        ({"head_width": 48}, "head_width is 48; it does not divide 256, a quarter of 1024"),
        ({"finest": (1, 0)}, "expected numbers that never fall"),
        ({"finest": (0, 4)}, "finest holds 4; the coarsest scale is 3"),
        ({"block": 0}, "block is 0; it must be above 0"),
    ],
)
def test_impossible_values_are_named(change: dict[str, object], words: str) -> None:
    with pytest.raises(SpaceError, match=words):
        replace(IMAGENET, **change)  # type: ignore[arg-type]
