"""ENAS's macro space: its size, counts of the modules that run, and what is carried from stage to stage."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from hwnas.core import Architecture, SpaceError
from hwnas.cost import UnitSum
from hwnas.nn import Gate, one_hot_gates
from hwnas.nn.summed_skips import OPERATIONS
from hwnas.zoo import FAMILIES, EnasMacro, family
from hwnas.zoo.enas import ENAS_MACRO
from tests.zoo.counting import check_files, counted_macs

CIFAR = EnasMacro()
TINY = EnasMacro("tiny", channels=1, classes=3, resolutions=(8, 11), layers=(2, 1, 2), widths=(4, 6, 8))


def counts(of: EnasMacro, architecture: Architecture) -> tuple[int, int]:
    """Multiply-adds and parameters of the blocks, after checking them against the modules."""
    blocks = of.space.blocks_of(architecture)
    with torch.device("meta"):
        network = of.build_network(architecture)
    side = int(architecture["resolution"])
    found = sum(block.macs for block in blocks), sum(block.parameters for block in blocks)
    assert found == (counted_macs(network, (of.channels, side, side)), sum(p.numel() for p in network.parameters()))
    assert found == (network.block.macs, network.block.parameters)
    return found


def test_the_space_has_the_size_of_the_paper() -> None:
    """6^L 2^(L(L-1)/2) networks, 1.6e29 for 12 layers (section 2.3)."""
    assert CIFAR.space.size == 6**12 * 2**66
    assert TINY.space.size == 2 * 6**5 * 2**10


def test_a_small_space_lists_as_many_networks_as_it_says() -> None:
    of = EnasMacro(operations=("conv_3x3", "max_pool_3x3"), layers=(2, 1), widths=(4, 4))
    everything = list(of.space.enumerate())
    assert len(set(everything)) == len(everything) == of.space.size == 2**3 * 2**3
    assert len({of.code(a) for a in everything}) == of.space.size
    codes = (
        f"{a} | {b} {s} | {c} {t} {u}"
        for a, b, c in itertools.product((0, 5), repeat=3)
        for s, t, u in itertools.product((0, 1), repeat=3)
    )
    assert {of.architecture(code) for code in codes} == set(everything)


def test_a_network_by_hand() -> None:
    """Two layers of 4 channels on 8x8 pixels, one of 6 on 4x4, of which the last takes the stem's value, too."""
    of = EnasMacro(channels=1, classes=3, resolutions=(8,), layers=(2, 1), widths=(4, 6))
    stem, head = 64 * 9 * 4, 6 * 3
    convolution = 64 * (4 * 4 + 25 * 4 * 4)
    separable = 64 * (4 * 4 + 9 * 4 + 4 * 4)
    pool = 16 * 6 * 6
    reduction = 16 * 4 * 6
    assert counts(of, of.architecture("2 | 1 0 | 4 0 0"))[0] == stem + convolution + separable + reduction + pool + head
    found = counts(of, of.architecture("2 | 1 0 | 4 1 0"))
    assert found[0] == stem + convolution + separable + 2 * reduction + pool + head
    layers = (36 + 8) + (16 + 8 + 400 + 8) + (16 + 8 + 36 + 16 + 8) + 8 + 2 * (24 + 12) + (36 + 12) + 12
    assert found[1] == layers + 7 * 3


@pytest.mark.parametrize("of", [TINY, replace(TINY, layers=(1, 1, 1, 2), widths=(4, 5, 7, 8)), CIFAR])
def test_random_networks_are_the_sum_of_their_blocks(of: EnasMacro) -> None:
    for architecture in of.space.sample(12, np.random.default_rng(0)):
        counts(of, architecture)


def test_only_what_is_taken_later_is_carried_along() -> None:
    of = EnasMacro(layers=(2, 1, 2), widths=(4, 4, 4))
    network = of.build_network(of.architecture("0 | 0 0 | 0 0 0 | 0 0 0 0 | 0 1 0 0 0"))
    assert [sorted(name for name, _ in part.named_children()) for part in network.reductions] == [
        ["0", "2"],
        ["0", "3"],
    ]
    network = of.build_network(of.architecture("0 | 0 1 | 0 1 1 | 0 0 0 0 | 0 0 0 1 1"))
    assert [sorted(name for name, _ in part.named_children()) for part in network.reductions] == [
        ["0", "1", "2"],
        ["2", "3"],
    ]


def test_the_ends_are_no_skip_of_pools_and_every_skip_of_the_largest_convolution() -> None:
    macs = UnitSum.of(CIFAR.space, lambda block: block.macs)
    least, smallest = macs.smallest()
    most, largest = macs.largest()
    assert {operation for operation, _ in CIFAR.wiring(smallest)} <= {"avg_pool_3x3", "max_pool_3x3"}
    assert {operation for operation, _ in CIFAR.wiring(largest)} == {"conv_5x5"}
    one = 36 * 36
    reduce, fixed = 256 * one + 64 * one, 1024 * 27 * 36 + 360
    assert least == fixed + 4 * (1024 + 256 + 64) * one + reduce
    # All of 0 to 4 are carried into the second stage, all of 0 to 8 into the third.
    assert most == fixed + 4 * (1024 + 256 + 64) * 26 * one + 5 * 256 * one + 9 * 64 * one


def test_codes_there_and_back_and_the_released_network() -> None:
    for a in TINY.space.sample(20, np.random.default_rng(1)):
        assert TINY.architecture(TINY.code(a), resolution=int(a["resolution"])) == a
    deep = EnasMacro(layers=(8, 8, 8), widths=(96, 96, 96))
    a = deep.architecture(ENAS_MACRO)
    assert deep.code(a) == ENAS_MACRO
    counts(deep, a)
    with pytest.raises(SpaceError, match="a code of 300 numbers; expected 78: of each of 12 layers"):
        CIFAR.architecture(ENAS_MACRO)
    with pytest.raises(SpaceError, match="layer 2 has operation 6; the last is 5"):
        EnasMacro(layers=(2,), widths=(4,)).architecture("0 | 6 1")


def test_hard_soft_and_cut_networks_agree() -> None:
    torch.manual_seed(0)
    net = TINY.supernet()
    for part in net.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            for value in (part.weight, part.bias, part.running_mean, part.running_var):
                assert value is not None
                torch.nn.init.uniform_(value, 0.5, 1.5)
    net.eval()
    for a in TINY.space.sample(12, np.random.default_rng(2)):
        side = int(a["resolution"])
        x = torch.randn(2, 1, side, side)
        plain = net.extract(a)
        torch.testing.assert_close(net(x, a), plain(x), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(net(x, one_hot_gates(TINY.space, a)), plain(x), atol=1e-5, rtol=1e-5)


def test_half_a_skip_adds_half_and_reaches_its_bit() -> None:
    torch.manual_seed(0)
    of = EnasMacro(channels=1, classes=3, resolutions=(8,), layers=(1, 1), widths=(4, 4))
    net = of.supernet().eval()
    x = torch.randn(2, 1, 8, 8)
    gates = one_hot_gates(of.space, of.architecture("0 | 0 0"))
    share = torch.tensor([0.5, 0.5], requires_grad=True)
    out = net(x, {**gates, "layer2.from0": Gate(share, (0, 1))})
    # In the evaluation mode norms are linear, and so is the head: the mean of both choices.
    both = (net(x, of.architecture("0 | 0 0")) + net(x, of.architecture("0 | 0 1"))) / 2
    torch.testing.assert_close(out, both, atol=1e-5, rtol=1e-5)
    out.sum().backward()
    assert share.grad is not None
    assert share.grad[0] == 0 != share.grad[1]


def test_a_network_is_saved_loaded_and_exported(tmp_path: Path) -> None:
    torch.manual_seed(0)
    a = TINY.architecture("0 | 3 1 | 5 0 1 | 1 1 0 1 | 4 0 1 1 0")
    check_files(TINY.build_network(a), TINY.space.blocks_of(a), a, (1, 11, 11), tmp_path)


def test_a_recipe_can_change_what_the_family_fixes() -> None:
    found = family("enas_macro", {"layers": [1, 1], "widths": [4, 8]}, channels=1, classes=4)
    assert isinstance(found, EnasMacro)
    assert (found.layers, found.channels, found.classes) == ((1, 1), 1, 4)
    assert FAMILIES["enas_macro"].has_supernet
    assert CIFAR.operations == OPERATIONS


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"resolutions": (32, 16)}, r"resolutions is \[32, 16\]; expected ascending"),
        ({"resolutions": (3,)}, "resolutions holds 3; .* at least 4: the smallest is 4"),
        ({"operations": ("conv_3x4",)}, 'operations holds "conv_3x4"; did you mean "conv_3x3"'),
        ({"operations": ("conv_3x3", "conv_3x3")}, "expected at least one, each once"),
        ({"classes": 0}, "classes is 0; it must be above 0"),
        ({"widths": (8, 16)}, "layers has 3 entries, widths has 2"),
        ({"layers": (4, 0, 4)}, r"layers is \[4, 0, 4\]; they must be above 0"),
        ({"widths": (8, 1, 8)}, "expected at least 2, as a reduction gives two halves"),
        ({"layers": (1, 9, 8)}, "at most 16 may follow the first stage"),
    ],
)
def test_impossible_values_are_named(change: dict[str, object], words: str) -> None:
    with pytest.raises(SpaceError, match=words):
        replace(CIFAR, **change)  # type: ignore[arg-type]
