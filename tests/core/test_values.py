"""Objectives, limits, metrics, evaluations, budgets: values that check themselves."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwnas.core import Architecture, Budget, Evaluation, Limit, Metric, Objective, RecipeError

finite = st.floats(-1e6, 1e6)


@given(st.lists(finite, min_size=1))
def test_as_cost_turns_only_what_is_maximised(values: list[float]) -> None:
    array = np.array(values)
    assert np.array_equal(Objective.named("accuracy").as_cost(array), -array)
    assert np.array_equal(Objective.named("latency_ms").as_cost(array), array)


def test_objectives_of_several_devices_keep_their_unit() -> None:
    assert Objective.named("latency_ms@pi4") == Objective("latency_ms@pi4", "minimize", "ms")


def test_unknown_objective_names_the_nearest() -> None:
    with pytest.raises(RecipeError, match=r'"latncy_ms" is unknown; did you mean "latency_ms"'):
        Objective.named("latncy_ms")


@given(finite, finite)
def test_violation_is_the_distance_outside(bound: float, value: float) -> None:
    assert Limit("m", at_most=bound).violation(value) == max(0.0, value - bound)
    assert Limit("m", at_least=bound).violation(value) == max(0.0, bound - value)


def test_a_limit_says_both_bounds() -> None:
    limit = Limit("latency_ms", at_least=1, at_most=2.5)
    assert str(limit) == "latency_ms >= 1 and latency_ms <= 2.5"
    assert [limit.violation(v) for v in (0.5, 1, 2.5, 3)] == [0.5, 0, 0, 0.5]


@pytest.mark.parametrize("bounds", [{}, {"at_most": math.nan}, {"at_most": math.inf}, {"at_most": 1, "at_least": 2}])
def test_impossible_limits_are_refused(bounds: dict[str, float]) -> None:
    with pytest.raises(RecipeError, match="limit on latency_ms"):
        Limit("latency_ms", at_most=bounds.get("at_most"), at_least=bounds.get("at_least"))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_metric_is_finite(value: float) -> None:
    with pytest.raises(ValueError, match="must be finite"):
        Metric(value, "ms", "measured")


@given(finite, st.sampled_from(["ok", "failed", "infeasible"]), st.text(max_size=10), st.none() | st.just("supernet@3"))
def test_evaluations_round_trip(value: float, status: str, reason: str, weights: str | None) -> None:
    evaluation = Evaluation(
        Architecture({"k": 3}),
        {"latency_ms": Metric(value, "ms", "predicted", low=value - 1, high=value + 1)},
        status=status,  # type: ignore[arg-type]
        reason=reason,
        weights=weights,
        seconds=0.5,
    )
    assert Evaluation.from_json(evaluation.to_json()) == evaluation


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({}, "without an end"),
        ({"evaluations": 0}, "evaluations is 0"),
        ({"minutes": -2.0}, "minutes is -2.0"),
        ({"evaluations": 5, "reserve": 1.0}, "reserve is 1.0"),
    ],
)
def test_impossible_budgets_are_refused(parts: dict[str, float], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Budget(**parts)  # type: ignore[arg-type]


def test_nan_is_outside_every_limit() -> None:
    assert Limit("m", at_most=1).violation(math.nan) == math.inf
    assert Limit("m", at_least=1).violation(math.nan) == math.inf


@pytest.mark.parametrize(("low", "high"), [(math.nan, 1.0), (0.5, math.inf)])
def test_a_band_is_finite(low: float, high: float) -> None:
    with pytest.raises(ValueError, match="the band of a metric must be finite"):
        Metric(0.7, "ms", "predicted", low=low, high=high)


@pytest.mark.parametrize("minutes", [math.nan, math.inf, 0.0, -1.0])
def test_a_budget_of_no_end_is_refused(minutes: float) -> None:
    with pytest.raises(RecipeError, match=f"minutes is {minutes}; it must be above 0 and finite"):
        Budget(minutes=minutes)
