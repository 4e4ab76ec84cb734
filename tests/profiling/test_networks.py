"""The choice of networks, and weights that can be made again."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from hwnas.core import Architecture, CostError
from hwnas.cost import UnitSum
from hwnas.profiling import build_seeded, choose_networks
from hwnas.space import Block, Decision, Space, Unit
from hwnas.zoo import FAMILIES
from tests.profiling.chain import build_network, chain

LARGE = FAMILIES["mobilenet_v3_tiny"].space
TOY = FAMILIES["toy"].space


@pytest.mark.parametrize("space", [TOY, LARGE], ids=["listed", "sampled"])
def test_twenty_calibrate_twenty_four_check_and_five_are_referred_to_all_distinct(space: Space) -> None:
    networks = choose_networks(space, seed=0)
    parts = [networks.calibration, networks.held_out, networks.reference]
    assert [len(part) for part in parts] == [20, 24, 5]
    assert len({a for part in parts for a in part}) == 49
    assert all(space.contains(a) for part in parts for a in part)


@pytest.mark.parametrize("space", [TOY, LARGE], ids=["listed", "sampled"])
def test_calibration_holds_the_extremes_of_the_whole_space(space: Space) -> None:
    macs = UnitSum.of(space, lambda block: block.macs)
    chosen = macs(space.encode(choose_networks(space, seed=0).calibration))
    assert chosen.min() == macs.smallest()[0]
    assert chosen.max() == macs.largest()[0]


def test_calibration_holds_the_deepest_the_shallowest_and_one_with_least_se() -> None:
    networks = choose_networks(LARGE, seed=0)
    codes = LARGE.encode(networks.calibration)
    for feature in ("blocks", "se"):
        total = UnitSum.of(LARGE, lambda block, feature=feature: block.feature(feature))  # type: ignore[misc]
        found = total(codes)
        assert found.min() == total.smallest()[0]
    deepest = UnitSum.of(LARGE, lambda block: 1.0)
    assert deepest(codes).max() == deepest.largest()[0]


def test_references_and_checks_span_the_range() -> None:
    networks = choose_networks(LARGE, seed=0)
    macs = UnitSum.of(LARGE, lambda block: block.macs)
    everything = np.sort(macs(LARGE.sample_codes(2000, np.random.default_rng(9))))
    for part in (networks.reference, networks.held_out):
        share = np.searchsorted(everything, macs(LARGE.encode(part))) / 2000
        assert share.min() < 0.15
        assert share.max() > 0.85


def test_equal_seeds_choose_equal_networks_and_others_do_not() -> None:
    assert choose_networks(LARGE, seed=1) == choose_networks(LARGE, seed=1)
    assert choose_networks(LARGE, seed=1) != choose_networks(LARGE, seed=2)


def test_a_small_space_shares_its_networks_out() -> None:
    networks = choose_networks(chain(), seed=0)  # 39 networks
    assert (len(networks.calibration), len(networks.held_out), len(networks.reference)) == (20, 13, 5)
    assert not set(networks.calibration) & set(networks.held_out)
    assert set(networks.reference) <= set(networks.calibration)


def row(options: int) -> Space:
    blocks = tuple(Block("c", (("n", n),), (8, 4, 4), (8, 4, 4), 100 * n, 10 * n) for n in range(1, options + 1))
    unit = Unit("u", ("n",), blocks)
    return Space("row", (Decision("n", tuple(range(1, options + 1))),), (unit,))


@pytest.mark.parametrize(
    ("options", "expected"), [(5, (5, 0, 5)), (6, (5, 1, 5)), (9, (6, 3, 5)), (48, (20, 16, 5)), (60, (20, 20, 5))]
)
def test_tiny_spaces_calibrate_first(options: int, expected: tuple[int, int, int]) -> None:
    networks = choose_networks(row(options), seed=0)
    assert (len(networks.calibration), len(networks.held_out), len(networks.reference)) == expected
    assert len(set(networks.calibration) | set(networks.held_out)) == expected[0] + expected[1]


@pytest.mark.parametrize("options", [1, 4])
def test_fewer_than_five_networks_are_all_measured(options: int) -> None:
    space = row(options)
    networks = choose_networks(space, seed=0)
    assert networks.whole
    assert {*networks.calibration} == {*networks.reference} == {*space.enumerate()}
    assert networks.held_out == ()


def free(options: int, skips: int) -> Space:
    """A row of blocks with skips, which are no blocks."""
    decisions = (*row(options).decisions, *(Decision(f"skip{n}", (0, 1)) for n in range(skips)))
    return Space("free", decisions, row(options).units)


def test_networks_of_equal_blocks_are_all_measured_where_there_are_few() -> None:
    space = free(4, 3)
    networks = choose_networks(space, seed=0)
    assert networks.whole
    assert len(networks.calibration) == 32
    assert {*networks.calibration} == {*space.enumerate()}
    assert len({*networks.reference}) == 5
    assert choose_networks(free(4, 3), seed=0) == networks


def test_networks_of_equal_blocks_are_fitted_where_there_are_many() -> None:
    space = free(4, 6)
    networks = choose_networks(space, seed=0)
    assert not networks.whole
    assert (len({*networks.calibration}), networks.held_out, len(networks.reference)) == (20, (), 5)
    assert {a["n"] for a in networks.calibration} == {1, 2, 3, 4}, "of each kind some are measured"
    assert not choose_networks(free(5, 6), seed=0).whole


def test_a_space_without_units_is_refused() -> None:
    with pytest.raises(CostError, match="bare"):
        choose_networks(Space("bare", (Decision("n", tuple(range(9))),)), seed=0)


# -------------------------------------------------------------------------------------------------------- weights

ARCHITECTURE = Architecture({"depth": 2, "kernel1": 3, "kernel2": 5})


def test_weights_depend_on_seed_and_name_alone() -> None:
    torch.manual_seed(1)
    first = build_seeded(lambda: build_network(ARCHITECTURE), seed=3, name="x").state_dict()
    torch.manual_seed(2)
    again = build_seeded(lambda: build_network(ARCHITECTURE), seed=3, name="x").state_dict()
    other = build_seeded(lambda: build_network(ARCHITECTURE), seed=3, name="y").state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


def test_weights_do_not_depend_on_what_a_supernet_was_drawn_or_trained_to() -> None:
    family = FAMILIES["toy"]
    states = []
    for _ in range(2):
        supernet = family.supernet()
        with torch.no_grad():
            for parameter in supernet.parameters():
                parameter.add_(torch.rand(()))
        extracted = build_seeded(lambda s=supernet: s.extract(family.default()), seed=0, name="d")  # type: ignore[misc]
        states.append(extracted.state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_the_global_generator_is_left_alone() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    build_seeded(lambda: nn.Linear(3, 3), seed=0, name="x")
    assert torch.equal(torch.rand(3), expected)


def test_a_deep_plain_network_keeps_its_scale() -> None:
    layers = [layer for _ in range(60) for layer in (nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU())]
    deep = build_seeded(lambda: nn.Sequential(*layers), seed=0, name="deep")
    scale = float(deep(torch.randn(8, 64)).detach().square().mean().sqrt())
    assert 1e-3 < scale < 1e3
    assert not deep.training
