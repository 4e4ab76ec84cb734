"""Case O-23: picking from ordinary and from tiny fronts."""

import math
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from hwnas.core import Limit, Objective, PickError
from hwnas.pareto import RULES, Rule, non_dominated, pick
from hwnas.pareto.front import costs_of

ACCURACY, LATENCY, PARAMETERS = (Objective.named(name) for name in ("accuracy", "latency_ms", "parameters"))
BOTH = [ACCURACY, LATENCY]
AT_MOST_5_MS, AT_LEAST_85 = Limit("latency_ms", at_most=5), Limit("accuracy", at_least=0.85)


def points(*rows: tuple[float, float]) -> list[dict[str, float]]:
    return [{"accuracy": accuracy, "latency_ms": ms} for accuracy, ms in rows]


ORDINARY = points((0.90, 10), (0.88, 4), (0.60, 3.5))

fronts = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=12).map(
    lambda rows: points(*((a / 10, ms) for a, ms in rows))
)


@pytest.mark.parametrize(
    ("by", "limits", "expected"),
    [
        ("knee", [], 1),
        ("fastest", [], 2),
        ("most-accurate", [], 0),
        ("knee", [AT_MOST_5_MS], 1),
        ("fastest", [AT_MOST_5_MS], 2),
        ("most-accurate", [AT_MOST_5_MS], 1),
        ("knee", [AT_LEAST_85], 0),
        ("fastest", [AT_LEAST_85], 1),
        ("most-accurate", [AT_LEAST_85], 0),
        ("knee", [AT_MOST_5_MS, AT_LEAST_85], 1),
        ("fastest", [AT_MOST_5_MS, AT_LEAST_85], 1),
        ("most-accurate", [AT_MOST_5_MS, AT_LEAST_85], 1),
        ("most-accurate", [Limit("latency_ms", at_most=4)], 1),
        ("fastest", [Limit("accuracy", at_least=0.88)], 1),
    ],
)
def test_ordinary_front(by: Rule, limits: list[Limit], expected: int) -> None:
    assert pick(ORDINARY, BOTH, by=by, limits=limits) == expected


@pytest.mark.parametrize("by", [*RULES, {"accuracy": 1.0}, {"latency_ms": 2.0}])
def test_one_point_is_the_answer_to_every_rule(by: Rule | Mapping[str, float]) -> None:
    assert pick(points((0.9, 10)), BOTH, by=by) == 0


def test_of_two_points_the_knee_is_the_better_in_the_first_objective() -> None:
    two = points((0.60, 3.5), (0.90, 10))
    assert pick(two, BOTH) == 1
    assert pick(two, BOTH[::-1]) == 0
    assert pick(two, BOTH, by="fastest") == 0
    assert pick(two[::-1], BOTH) == 0


def test_of_equal_points_the_first() -> None:
    for rule in RULES:
        assert pick(points((0.9, 10), (0.9, 10)), BOTH, by=rule) == 0
        assert pick(points((0.5, 20), (0.9, 10), (0.9, 10)), BOTH, by=rule) == 1


@pytest.mark.parametrize("by", [*RULES, {"accuracy": 1.0}])
def test_empty_front_is_refused(by: Rule | Mapping[str, float]) -> None:
    with pytest.raises(PickError, match="the front is empty"):
        pick([], BOTH, by=by)


def test_a_limit_that_nothing_meets_names_the_nearest_value() -> None:
    with pytest.raises(PickError, match=r"none of 3 points has latency_ms <= 1; the nearest has latency_ms 3.5"):
        pick(ORDINARY, BOTH, limits=[Limit("latency_ms", at_most=1)])
    with pytest.raises(
        PickError, match=r"accuracy >= 0.89 and latency_ms <= 5; the nearest has accuracy 0.88, latency_ms 4"
    ):
        pick(ORDINARY, BOTH, limits=[Limit("accuracy", at_least=0.89), AT_MOST_5_MS])


def test_a_limit_on_an_unknown_metric_suggests_the_near_one() -> None:
    with pytest.raises(PickError, match='no point knows "latency".*did you mean "latency_ms"'):
        pick(ORDINARY, BOTH, limits=[Limit("latency", at_most=1)])


def test_limits_on_other_metrics_than_the_objectives_count_and_unknown_is_not_feasible() -> None:
    front = [{**point, "parameters": n} for point, n in zip(ORDINARY, (5, 9, 7), strict=True)]
    limits = [Limit("parameters", at_most=7)]
    assert pick(front, BOTH, limits=limits) == 0
    del front[0]["parameters"]
    assert pick(front, BOTH, limits=limits) == 2


@given(st.lists(st.floats(0, 1), min_size=3, max_size=20, unique=True))
def test_knee_is_farthest_from_the_line_through_the_ends(xs: list[float]) -> None:
    front = points(*((x**0.3, 1 + 9 * x) for x in xs))
    chosen = front[pick(front, BOTH)]
    ends = [max(front, key=lambda p: p["accuracy"]), min(front, key=lambda p: (p["latency_ms"], -p["accuracy"]))]
    span = [ends[0][name] - ends[1][name] for name in ("accuracy", "latency_ms")]
    if min(span) < 1e-9:
        return

    def distance(p: Mapping[str, float]) -> float:
        across, up = (
            (p["latency_ms"] - ends[1]["latency_ms"]) / span[1],
            (p["accuracy"] - ends[1]["accuracy"]) / span[0],
        )
        return (up - across) / math.sqrt(2)

    assert distance(chosen) >= max(map(distance, front)) - 1e-9


@given(fronts, st.sampled_from([*RULES, {"accuracy": 1.0, "latency_ms": 2.0}]))
def test_a_pick_is_never_dominated_and_does_not_depend_on_units_or_order(
    front: list[dict[str, float]], by: Rule | Mapping[str, float]
) -> None:
    index = pick(front, BOTH, by=by)
    beaten = non_dominated(costs_of(front, BOTH))
    assert any(front[index] == front[n] for n in beaten)
    in_seconds = [{**p, "latency_ms": p["latency_ms"] / 1024} for p in front]  # a power of two rounds nothing
    assert pick(in_seconds, BOTH, by=by) == index
    assert front[::-1][pick(front[::-1], BOTH, by=by)] == front[index]


def test_knee_of_three_objectives() -> None:
    front = [
        {"accuracy": 0.9, "latency_ms": 9.0, "parameters": 9.0},
        {"accuracy": 0.5, "latency_ms": 1.0, "parameters": 9.0},
        {"accuracy": 0.5, "latency_ms": 9.0, "parameters": 1.0},
        {"accuracy": 0.8, "latency_ms": 3.0, "parameters": 3.0},
    ]
    assert pick(front, [ACCURACY, LATENCY, PARAMETERS]) == 3


def test_an_objective_without_a_range_does_not_matter() -> None:
    front = [{**point, "parameters": 5.0} for point in ORDINARY]
    assert pick(front, [PARAMETERS, *BOTH]) == 1


def test_weights() -> None:
    assert pick(ORDINARY, BOTH, by={"accuracy": 1}) == 0
    assert pick(ORDINARY, BOTH, by={"latency_ms": 1}) == 2
    assert pick(ORDINARY, BOTH, by={"accuracy": 1, "latency_ms": 1}) == 1
    assert pick(ORDINARY, BOTH, by={"accuracy": 100, "latency_ms": 1}) == 0


@pytest.mark.parametrize(
    ("by", "message"),
    [
        ({"acuracy": 1.0}, 'weight for "acuracy".*did you mean "accuracy"'),
        ({"accuracy": -1.0}, "weight of accuracy is -1.0; expected a finite number"),
        ({"accuracy": math.nan}, "weight of accuracy is nan"),
        ({"accuracy": 0.0}, "every weight is 0"),
        ({}, "every weight is 0"),
        ("kneee", 'the rule is "kneee"; did you mean "knee"'),
    ],
)
def test_rules_that_make_no_sense_are_named(by: Rule | Mapping[str, float], message: str) -> None:
    for front in (ORDINARY, ORDINARY[:1]):
        with pytest.raises(PickError, match=message):
            pick(front, BOTH, by=by)


def test_ends_need_their_objective() -> None:
    with pytest.raises(
        PickError, match=r'"fastest" needs an objective in the unit "ms"; the front has accuracy \(share\)'
    ):
        pick(ORDINARY, [ACCURACY], by="fastest")
    with pytest.raises(PickError, match='"most-accurate" needs an objective in the unit "share"'):
        pick(ORDINARY, [LATENCY], by="most-accurate")
    with pytest.raises(PickError, match="no objectives"):
        pick(ORDINARY, [])


def test_points_that_lack_an_objective_or_know_only_nan() -> None:
    with pytest.raises(PickError, match="point 1 has no latency_ms"):
        pick([ORDINARY[0], {"accuracy": 0.9, "latency": 3.0}], BOTH)
    assert pick([{"accuracy": math.nan, "latency_ms": 0.1}, *ORDINARY], BOTH, by="fastest") == 3
    with pytest.raises(PickError, match="the only point does not have finite objectives"):
        pick(points((math.nan, 1.0)), BOTH)


def test_error_is_an_accuracy_too() -> None:
    front = [{"error": 0.1, "latency_ms": 9.0}, {"error": 0.3, "latency_ms": 1.0}]
    assert pick(front, [LATENCY, Objective.named("error")], by="most-accurate") == 0
    assert np.isfinite(costs_of(front, [Objective.named("error")])).all()


# --------------------------------------------------------------------------------------------------- within the noise


def noise(n: int, accuracy: float) -> NDArray[np.float64]:
    margins = np.zeros((n, n, 2))
    margins[:, :, 0] = accuracy
    return margins


@pytest.mark.parametrize("by", [*RULES, {"accuracy": 1.0}, {"accuracy": 9.0, "latency_ms": 1.0}])
def test_a_gain_within_the_noise_is_a_tie_and_the_cheaper_is_taken(by: Rule | Mapping[str, float]) -> None:
    """PneumoniaMNIST: four times the latency for 0.14 points of balanced accuracy, which 0.8 points of noise cover."""
    two = points((0.9664, 0.265), (0.9650, 0.066))
    assert pick(two, BOTH, by=by, margins=noise(2, 0.008)) == 1
    assert pick(two, BOTH, by=by, margins=noise(2, 0.001)) == pick(two, BOTH, by=by)


def test_where_noise_explains_a_knee_s_lead_the_cheaper_is_the_knee() -> None:
    front = points((0.90, 10.0), (0.85, 5.0), (0.74, 2.8), (0.60, 1.0))
    assert pick(front, BOTH) == 1  # sums of scaled costs: 1, 0.61, 0.73, 1
    assert pick(front, BOTH, margins=noise(4, 0.04)) == 2, "0.04 of 0.3 is worth 0.13 of the sum"
    assert pick(front, BOTH, margins=noise(4, 0.01)) == 1


@given(fronts, st.sampled_from([*RULES, {"accuracy": 1.0, "latency_ms": 2.0}]))
def test_without_noise_margins_change_nothing(front: list[dict[str, float]], by: Rule | Mapping[str, float]) -> None:
    index = pick(front, BOTH, by=by, margins=noise(len(front), 0.0))
    assert front[index] == front[pick(front, BOTH, by=by)]


def test_margins_belong_to_the_points_that_limits_leave() -> None:
    front = points((0.99, 20.0), (0.90, 10.0), (0.89, 4.0))
    margins = np.zeros((3, 3, 2))
    margins[1, 2, 0] = margins[2, 1, 0] = 0.02
    within = [Limit("latency_ms", at_most=10)]
    assert pick(front, BOTH, by="most-accurate", limits=within, margins=margins) == 2
