import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from hwnas.core import Architecture, Evaluation, Limit, Metric, Objective
from hwnas.core.evaluation import Status
from hwnas.pareto import (
    Point,
    costs_of,
    crowding,
    front_of,
    fronts,
    hypervolume,
    non_dominated,
    non_dominated_beyond,
    reference_of,
    violations_of,
)

ACCURACY, LATENCY = Objective.named("accuracy"), Objective.named("latency_ms")

# Small integers, so that ties and repeated rows are common.
costs_with_ties = st.integers(1, 4).flatmap(
    lambda m: st.integers(0, 25).flatmap(lambda n: arrays(np.float64, (n, m), elements=st.integers(0, 4)))
)


def beats(a: NDArray[np.float64], b: NDArray[np.float64]) -> bool:
    return bool((a <= b).all() and (a < b).any())


def fronts_by_hand(costs: NDArray[np.float64]) -> list[list[int]]:
    left = list(range(len(costs)))
    found = []
    while left:
        front = [i for i in left if not any(beats(costs[j], costs[i]) for j in left)]
        found.append(front)
        left = [i for i in left if i not in front]
    return found


def volume_by_hand(costs: NDArray[np.float64], reference: NDArray[np.float64]) -> float:
    """Counts the unit cells of an integer grid that some row covers."""
    cells = itertools.product(*(range(int(bound)) for bound in reference))
    return float(sum(any((row <= cell).all() for row in costs) for cell in cells))


@given(costs_with_ties)
def test_fronts_are_those_of_the_quadratic_definition(costs: NDArray[np.float64]) -> None:
    assert [front.tolist() for front in fronts(costs)] == fronts_by_hand(costs)


@given(costs_with_ties)
def test_non_dominated_is_the_first_front_without_repeats(costs: NDArray[np.float64]) -> None:
    kept: list[int] = []
    for i in fronts_by_hand(costs)[0] if len(costs) else []:
        if not any(np.array_equal(costs[i], costs[j]) for j in kept):
            kept.append(i)
    assert non_dominated(costs).tolist() == kept


@given(costs_with_ties, st.floats(0.001, 1000))
def test_fronts_do_not_change_with_positive_scaling(costs: NDArray[np.float64], scale: float) -> None:
    assert [f.tolist() for f in fronts(costs * scale)] == [f.tolist() for f in fronts(costs)]


@given(st.integers(0, 8).flatmap(lambda n: arrays(np.float64, (n, 3), elements=st.integers(0, 6))))
def test_volume_is_the_number_of_cells_covered(costs: NDArray[np.float64]) -> None:
    reference = np.array([5.0, 4.0, 3.0])
    assert hypervolume(costs, reference) == volume_by_hand(costs, reference)


@given(costs_with_ties.filter(lambda costs: len(costs) > 0))
def test_volume_never_shrinks_and_ignores_what_is_dominated(costs: NDArray[np.float64]) -> None:
    reference = np.full(costs.shape[1], 3.0)
    assert hypervolume(costs[:-1], reference) <= hypervolume(costs, reference)
    assert hypervolume(costs[non_dominated(costs)], reference) == pytest.approx(hypervolume(costs, reference))


def test_volume_of_one_objective_and_of_points_outside() -> None:
    assert hypervolume(np.array([[1.0], [2.0]]), [3.0]) == 2.0
    assert hypervolume(np.array([[4.0, 0.0], [3.0, 0.0]]), [3.0, 3.0]) == 0.0
    assert hypervolume(np.empty((0, 2)), [3.0, 3.0]) == 0.0


def test_crowding_of_small_equal_and_flat_fronts() -> None:
    assert crowding(np.array([[1.0, 2.0]])).tolist() == [math.inf]
    assert crowding(np.array([[1.0, 2.0], [2.0, 1.0]])).tolist() == [math.inf, math.inf]
    flat = crowding(np.array([[0.0, 5.0], [1.0, 5.0], [4.0, 5.0]]))
    assert flat.tolist() == [math.inf, 0.5, math.inf]  # only the first objective has a range: (4 / 4) / 2
    assert not np.isnan(crowding(np.zeros((5, 2)))).any()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite_are_refused_before_they_are_sorted(value: float) -> None:
    costs = np.array([[0.0, 1.0], [value, 0.0]])
    for function in (non_dominated, fronts, crowding, reference_of):
        with pytest.raises(ValueError, match=r"row 1 is \[.*\]; expected finite"):
            function(costs)
    with pytest.raises(ValueError, match="row 1"):
        hypervolume(costs, [1.0, 1.0])
    with pytest.raises(ValueError, match="reference is"):
        hypervolume(costs[:1], [1.0, value])


def test_wrong_shapes_are_named() -> None:
    with pytest.raises(ValueError, match=r"shape \(3,\)"):
        non_dominated(np.zeros(3))
    with pytest.raises(ValueError, match="expected 2 finite numbers"):
        hypervolume(np.zeros((3, 2)), [1.0])
    with pytest.raises(ValueError, match="expected at least one row"):
        reference_of(np.empty((0, 2)))


def test_reference_lies_beyond_every_point_also_for_negative_and_flat_costs() -> None:
    costs = np.array([[-0.9, 7.0, 0.0], [-0.5, 7.0, 0.0]])
    assert reference_of(costs).tolist() == pytest.approx([-0.496, 7.07, 0.01])
    assert (reference_of(costs) > costs).all()
    assert hypervolume(costs, reference_of(costs)) > 0


def test_costs_turn_what_is_maximised() -> None:
    points = [{"accuracy": 0.9, "latency_ms": 4.0}, {"accuracy": 0.5, "latency_ms": 1.0}]
    assert costs_of(points, [ACCURACY, LATENCY]).tolist() == [[-0.9, 4.0], [-0.5, 1.0]]
    assert costs_of([], [ACCURACY, LATENCY]).shape == (0, 2)


def test_violations_are_shares_of_the_bound_and_add_up() -> None:
    limits = [Limit("latency_ms", at_least=1.0, at_most=4.0), Limit("accuracy", at_least=0.5)]
    points = [
        {"latency_ms": 4.0, "accuracy": 0.5},
        {"latency_ms": 5.0, "accuracy": 0.25},
        {"latency_ms": 0.5, "accuracy": 0.9},
        {"latency_ms": math.nan, "accuracy": 0.9},
    ]
    assert violations_of(points, limits).tolist() == [0.0, 0.75, 0.5, math.inf]
    assert violations_of([{"drop": 0.5}], [Limit("drop", at_most=0.0)]).tolist() == [0.5]
    assert violations_of(points, []).tolist() == [0.0] * 4


def test_a_limit_admits_its_own_number_however_it_was_added_up() -> None:
    assert 0.1 + 0.2 > 0.3
    assert violations_of([{"latency_ms": 0.1 + 0.2}], [Limit("latency_ms", at_most=0.3)]).tolist() == [0.0]


def evaluation(name: int, accuracy: float | None, ms: float, status: Status = "ok") -> Evaluation:
    metrics = {"latency_ms": Metric(ms, "ms", "measured")}
    if accuracy is not None:
        metrics["accuracy"] = Metric(accuracy, "share", "measured")
    return Evaluation(Architecture({"k": name}), metrics, status=status)


def test_front_holds_only_what_is_ok_known_and_feasible() -> None:
    rows = [
        evaluation(0, 0.9, 10.0),
        evaluation(1, 0.99, 1.0, "failed"),
        evaluation(2, 0.99, 1.0, "infeasible"),
        evaluation(3, None, 0.5),
        evaluation(4, 0.8, 12.0),
        evaluation(5, 0.6, 3.5),
        evaluation(6, 0.95, 20.0),
    ]
    names = [e.architecture["k"] for e in front_of(rows, [ACCURACY, LATENCY], [Limit("latency_ms", at_most=10)])]
    assert names == [0, 5]
    assert [e.architecture["k"] for e in front_of(rows, [ACCURACY, LATENCY])] == [6, 0, 5]
    assert front_of([], [ACCURACY, LATENCY]) == []
    assert front_of(rows, [ACCURACY, LATENCY], [Limit("energy_mj", at_most=1)]) == []


def test_front_is_the_same_for_every_order_of_equal_networks() -> None:
    rows = [evaluation(n, 0.9, 1.0) for n in (3, 1, 2)]
    for order in itertools.permutations(rows):
        assert [e.architecture["k"] for e in front_of(order, [ACCURACY, LATENCY])] == [1]


def test_a_network_evaluated_again_counts_as_it_is_now() -> None:
    rows = [evaluation(0, 0.9, 1.0), evaluation(1, 0.8, 1.0), evaluation(0, 0.7, 1.0)]
    assert [(e.architecture["k"], e["accuracy"]) for e in front_of(rows, [ACCURACY, LATENCY])] == [(1, 0.8)]


def test_points_are_values() -> None:
    assert Point("a", {"latency_ms": 1.0}) == Point("a", {"latency_ms": 1.0})


def first_column_noisy(n: int, margin: float) -> NDArray[np.float64]:
    margins = np.zeros((n, n, 2))
    margins[:, :, 0] = margin
    return margins


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.sampled_from([0.0, 0.02, 0.3]))
def test_beyond_the_noise_every_kept_row_gains_on_every_cheaper_one(seed: int, n: int, margin: float) -> None:
    """Second implementation for one noisy column: walk from the cheapest, keep what gains on the last kept."""
    costs = np.random.default_rng(seed).uniform(1, 2, (n, 2)).round(2)
    expected: list[int] = []
    for row in sorted(range(n), key=lambda k: (costs[k, 1], costs[k, 0], k)):
        if not expected or costs[row, 0] < costs[expected[-1], 0] - margin:
            expected.append(row)
    assert non_dominated_beyond(costs, first_column_noisy(n, margin), first=[1]).tolist() == sorted(expected)
    if not margin:
        assert sorted(expected) == non_dominated(costs).tolist()


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 2**32 - 1), st.integers(1, 20))
def test_with_every_column_noisy_a_row_is_kept_and_it_is_on_the_plain_front(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    costs, margins = rng.uniform(0, 1, (n, 3)), rng.uniform(0, 0.2, (n, n, 3))
    kept = non_dominated_beyond(costs, margins + margins.transpose(1, 0, 2), first=[2, 1]).tolist()
    assert kept and set(kept) <= set(non_dominated(costs).tolist())


def test_a_latency_within_the_noise_does_not_save_a_network_that_is_clearly_worse() -> None:
    costs, margins = np.array([[-0.5, 1.000], [-0.9, 1.001]]), np.zeros((2, 2, 2))
    margins[:, :, 1] = 0.01
    assert non_dominated_beyond(costs, margins, first=[1]).tolist() == [1]


def test_margins_are_one_per_pair_and_objective() -> None:
    for margins in (np.zeros((2, 2)), np.zeros((2, 2, 1)), np.full((2, 2, 2), -0.1), np.full((2, 2, 2), np.nan)):
        with pytest.raises(ValueError, match=r"expected \(2, 2, 2\), 0 or above"):
            non_dominated_beyond(np.ones((2, 2)), margins, first=[1])
    assert non_dominated_beyond(np.empty((0, 2)), np.zeros((0, 0, 2)), first=[1]).tolist() == []
