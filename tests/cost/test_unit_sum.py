from __future__ import annotations

import os
import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwnas.core import CostError
from hwnas.cost import UnitSum, UnitSumCost, blocks_of
from hwnas.space import Block, Condition, Decision, Space, Unit

from .random_space import all_genotypes, cost_by_hand, random_spaces
from .toy_space import toy_space


def macs(block: Block) -> float:
    return block.macs


def unit_block(cost: int) -> Block:
    return Block("b", (("cost", cost),), (1,), (1,), cost, cost)


@settings(deadline=None)
@given(random_spaces())
def test_every_network_costs_what_its_units_add_up_to(space: Space) -> None:
    total = UnitSum.of(space, macs)
    genotypes = all_genotypes(space)
    codes = space.canonical_codes(genotypes)
    by_hand = [cost_by_hand(space, row) for row in codes.tolist()]
    assert total(codes).tolist() == by_hand
    assert total(genotypes).tolist() == by_hand  # genes of inactive decisions do not matter (O-07)
    assert [float(total(row[None])[0]) for row in codes] == by_hand


@settings(deadline=None)
@given(random_spaces(), st.integers(0, 2**32 - 1))
def test_listed_networks_have_the_numbers_they_were_given(space: Space, seed: int) -> None:
    architectures = space.decode(np.unique(space.canonical_codes(all_genotypes(space)), axis=0))
    numbers = np.random.default_rng(seed).random(len(architectures)).tolist()
    listed = UnitSum.listed(space, dict(zip(architectures, numbers, strict=True)))
    assert listed(space.encode(architectures)).tolist() == numbers
    assert [float(listed(space.encode([a]))[0]) for a in architectures] == numbers
    assert listed.largest() == (max(numbers), architectures[numbers.index(max(numbers))])
    with pytest.raises(CostError, match="has no number"):
        UnitSum.listed(space, dict(zip(architectures[1:], numbers[1:], strict=True)))


@settings(deadline=None)
@given(random_spaces())
def test_smallest_and_largest_are_exact(space: Space) -> None:
    total = UnitSum.of(space, macs)
    codes = np.unique(space.canonical_codes(all_genotypes(space)), axis=0)
    costs = total(codes)
    for (value, architecture), bound in ((total.smallest(), costs.min()), (total.largest(), costs.max())):
        assert value == bound == total(space.encode([architecture]))[0]
        assert space.contains(architecture)


@settings(deadline=None)
@given(random_spaces(), st.integers(0, 2**32 - 1))
def test_expectation_is_the_weighted_mean_over_all_draws(space: Space, seed: int) -> None:
    total = UnitSum.of(space, macs)
    rng = np.random.default_rng(seed)
    chances = {d.label: rng.dirichlet(np.ones(len(d.options))) for d in space.decisions}
    genotypes = all_genotypes(space)
    weights = np.ones(len(genotypes))
    for i, decision in enumerate(space.decisions):
        weights *= chances[decision.label][genotypes[:, i]]
    assert total.expectation(chances) == pytest.approx(float(weights @ total(genotypes)), rel=1e-12, abs=1e-12)


@settings(deadline=None)
@given(random_spaces())
def test_expectation_of_one_hot_is_the_cost(space: Space) -> None:
    total = UnitSum.of(space, macs)
    for row in space.canonical_codes(all_genotypes(space)):
        one_hot = {d.label: np.eye(len(d.options))[max(code, 0)] for d, code in zip(space.decisions, row, strict=True)}
        assert total.expectation(one_hot) == total(row[None])[0]


@settings(deadline=None)
@given(random_spaces())
def test_a_set_of_labels_has_one_tensor_and_each_label_one_axis(space: Space) -> None:
    tensors = UnitSum.of(space, macs).tensors
    sets = [frozenset(labels) for labels, _ in tensors]
    assert len(set(sets)) == len(sets)
    for labels, tensor in tensors:
        assert len(set(labels)) == len(labels) > 0
        assert tensor.shape == tuple(len(space[label].options) for label in labels)
        assert not tensor.flags.writeable


def test_expectation_agrees_with_sampling() -> None:
    space = toy_space()
    total = UnitSum.of(space, macs)
    rng = np.random.default_rng(5)
    chances = {d.label: rng.dirichlet(np.ones(len(d.options))) for d in space.decisions}
    columns = [rng.choice(len(d.options), size=20_000, p=chances[d.label]) for d in space.decisions]
    costs = total(np.stack(columns, axis=1))
    error = costs.std(ddof=1) / np.sqrt(len(costs))
    assert abs(total.expectation(chances) - costs.mean()) < 3 * error


def test_two_blocks_of_one_depth_are_one_axis() -> None:
    """design_review 4.1: P(block 2) * P(block 3) is 0.40, but both are present with probability 0.50."""
    depth = Decision("depth", (1, 2, 3))
    both = Unit("needs blocks 2 and 3", ("depth",), (None, None, unit_block(1)))
    space = Space("deep", (depth,), (both,))
    p = np.array([0.2, 0.3, 0.5])
    assert (p[1] + p[2]) * p[2] == pytest.approx(0.40)
    assert UnitSum.of(space, macs).expectation({"depth": p}) == pytest.approx(0.50)


def test_units_with_the_same_labels_in_another_order_share_a_tensor() -> None:
    decisions = (Decision("a", (0, 1)), Decision("b", (0, 1, 2)))
    one = Unit("one", ("a", "b"), tuple(unit_block(10 * a + b) for a, b in product(range(2), range(3))))
    other = Unit("other", ("b", "a"), tuple(unit_block(1000 * b + 100 * a) for b, a in product(range(3), range(2))))
    total = UnitSum.of(Space("two", decisions, (one, other)), macs)
    ((labels, tensor),) = total.tensors
    assert labels == ("a", "b")
    assert tensor.tolist() == [[0, 1001, 2002], [110, 1111, 2112]]


def test_units_without_decisions_are_the_constant() -> None:
    space = Space("fixed", (Decision("a", (0, 1)),), (Unit("head", (), (unit_block(7),)),))
    total = UnitSum.of(space, macs, constant=0.5)
    assert (total.constant, total.tensors) == (7.5, ())
    assert total(np.array([[0], [1]])).tolist() == [7.5, 7.5]
    assert total.smallest() == total.largest() == (7.5, space.decode(np.array([[0]]))[0])
    assert total.expectation({}) == 7.5


def test_ties_go_to_the_first_option() -> None:
    space = Space("flat", (Decision("a", (0, 1, 2)),), (Unit("u", ("a",), tuple(unit_block(1) for _ in range(3))),))
    total = UnitSum.of(space, macs)
    assert total.smallest() == total.largest()
    assert total.smallest()[1] == space.decode(np.array([[0]]))[0]


def test_long_chain_is_searched_without_listing_it() -> None:
    """Forty decisions, each next to the one before and the one after: 3 ** 40 networks; Viterbi is the second way."""
    rng = np.random.default_rng(3)
    costs = rng.integers(0, 1000, size=(39, 3, 3))
    units = tuple(
        Unit(f"u{i}", (f"d{i}", f"d{i + 1}"), tuple(unit_block(int(c)) for c in costs[i].ravel())) for i in range(39)
    )
    space = Space("chain", tuple(Decision(f"d{i}", (0, 1, 2)) for i in range(40)), units)
    total = UnitSum.of(space, macs)
    least, most = np.zeros(3), np.zeros(3)
    for step in costs:
        least = (least[:, None] + step).min(axis=0)
        most = (most[:, None] + step).max(axis=0)
    assert total.smallest()[0] == least.min()
    assert total.largest()[0] == most.max()


def test_too_entangled_for_an_exact_bound_is_said() -> None:
    n = 26
    pairs = [(i, j) for i in range(n) for j in range(i + 1, n)]
    units = tuple(Unit(f"u{i},{j}", (f"d{i}", f"d{j}"), tuple(map(unit_block, range(4)))) for i, j in pairs)
    space = Space("knot", tuple(Decision(f"d{i}", (0, 1)) for i in range(n)), units)
    with pytest.raises(CostError, match=r"knot: .*26 decisions hang together \(d0, .*tie decisions"):
        UnitSum.of(space, macs).smallest()


def test_blocks_of_lists_what_networks_can_hold() -> None:
    space = toy_space()
    blocks = blocks_of(space)
    held = {
        unit.blocks[entry].key  # type: ignore[union-attr]
        for unit in space.units
        for entry in range(len(unit.blocks))
        if unit.blocks[entry]
    }
    assert list(blocks) == sorted(held)
    assert all(block.key == key for key, block in blocks.items())


def test_blocks_that_only_inactive_decisions_choose_are_not_needed() -> None:
    depth, kernel = Decision("depth", (1, 2)), Decision("kernel", (3, 5), ((Condition("depth", (2,)),),))
    unit = Unit("u", ("depth", "kernel"), tuple(map(unit_block, (1, 2, 3, 4))))
    space = Space("odd", (depth, kernel), (unit,))
    assert [block.macs for block in blocks_of(space).values()] == [1, 3, 4]
    assert UnitSum.of(space, macs)(np.array([[0, 1], [0, -1], [1, 1]])).tolist() == [1, 1, 4]


def test_space_without_units_is_refused() -> None:
    with pytest.raises(CostError, match="space bare has no units"):
        UnitSum.of(Space("bare", (Decision("a", (0, 1)),)), macs)


@pytest.mark.parametrize(
    ("codes", "words"),
    [
        (np.zeros((2, 3), dtype=np.int64), r"shape \(2, 3\); expected \[n, 1\]"),
        (np.zeros(1, dtype=np.int64), r"shape \(1,\)"),
        (np.array([[2]]), r"one of a has a code beyond its options.*\[2\]"),
    ],
)
def test_codes_that_do_not_fit_are_refused(codes: np.ndarray, words: str) -> None:
    space = Space("two", (Decision("a", (0, 1)),), (Unit("u", ("a",), (unit_block(1), unit_block(2))),))
    with pytest.raises(CostError, match=words):
        UnitSum.of(space, macs)(codes)


@pytest.mark.parametrize(
    ("chances", "words"),
    [
        ({}, "no probabilities for 'a'"),
        ({"a": np.array([0.5, 0.4])}, r"'a' has \[0.5, 0.4\]; expected 2 numbers >= 0 that add up to 1"),
        ({"a": np.array([1.5, -0.5])}, "expected 2 numbers"),
        ({"a": np.array([np.nan, 1.0])}, "expected 2 numbers"),
        ({"a": np.array([1.0])}, "expected 2 numbers"),
    ],
)
def test_wrong_probabilities_are_refused(chances: dict[str, np.ndarray], words: str) -> None:
    space = Space("two", (Decision("a", (0, 1)),), (Unit("u", ("a",), (unit_block(1), unit_block(2))),))
    with pytest.raises(CostError, match=words):
        UnitSum.of(space, macs).expectation(chances)


def test_many_networks_cost_what_each_costs() -> None:
    space = toy_space()
    total = UnitSum.of(space, macs)
    codes = space.sample_codes(10_000, np.random.default_rng(1))
    parts = np.concatenate([total(codes[start : start + 999]) for start in range(0, 10_000, 999)])
    assert (total(codes) == parts).all()


def test_no_networks_cost_nothing() -> None:
    assert UnitSum.of(toy_space(), macs)(np.zeros((0, len(toy_space().decisions)), dtype=np.int64)).shape == (0,)


def test_digest_depends_on_the_costs_and_on_nothing_else() -> None:
    space = toy_space()
    assert UnitSum.of(space, macs).digest == UnitSum.of(toy_space(), macs).digest
    assert UnitSum.of(space, macs).digest != UnitSum.of(space, lambda b: b.parameters).digest
    assert UnitSum.of(space, macs).digest != UnitSum.of(space, macs, constant=1.0).digest


def test_digest_is_the_same_under_any_hash_seed() -> None:
    root = Path(__file__).parents[2]
    program = (
        "from toy_space import *; from hwnas.cost import UnitSumCost\n"
        "space = toy_space(); table = flat_table(space)\n"
        "print(UnitSumCost.count(space, 'macs').digest, UnitSumCost.from_table(space, table).digest, table.digest)"
    )
    seen = [
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=Path(__file__).parent,
            env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(root)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert seen[0] == seen[1]
    assert seen[0].split()[0] == UnitSumCost.count(toy_space(), "macs").digest
