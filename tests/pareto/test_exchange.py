from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwnas.core import Objective
from hwnas.pareto import exchanges, non_dominated, pick, reason
from hwnas.pareto.front import costs_of

ACCURACY, LATENCY, SIZE = (Objective.named(name) for name in ("accuracy", "latency_ms", "parameters"))
BOTH = (ACCURACY, LATENCY)


def fronts(n: int) -> st.SearchStrategy[list[dict[str, float]]]:
    values = st.tuples(*[st.integers(0, 50)] * n)

    def kept(rows: list[tuple[int, ...]]) -> list[dict[str, float]]:
        names = ("accuracy", "latency_ms", "parameters")[:n]
        points = [dict(zip(names, (row[0] / 50, *map(float, row[1:])), strict=True)) for row in rows]
        objectives = (ACCURACY, LATENCY, SIZE)[:n]
        return [points[i] for i in non_dominated(costs_of(points, objectives)).tolist()]

    return st.lists(values, min_size=1, max_size=12, unique=True).map(kept)


@given(fronts(2), st.data())
def test_with_two_objectives_they_are_the_neighbours(points: list[dict[str, float]], data: st.DataObject) -> None:
    """Second implementation: the front sorted by latency."""
    chosen = data.draw(st.integers(0, len(points) - 1))
    order = sorted(range(len(points)), key=lambda n: points[n]["latency_ms"])
    place = order.index(chosen)
    expected = {}
    if place + 1 < len(order):
        expected["accuracy"] = order[place + 1]
    if place > 0:
        expected["latency_ms"] = order[place - 1]
    found = exchanges(points, BOTH, chosen)
    assert {step.better: step.to for step in found} == expected
    for step in found:
        for name, change in step.changes.items():
            assert points[chosen][name] + change == pytest.approx(points[step.to][name])


@given(fronts(3), st.data())
def test_no_other_point_gains_less(points: list[dict[str, float]], data: st.DataObject) -> None:
    chosen = data.draw(st.integers(0, len(points) - 1))
    objectives = (ACCURACY, LATENCY, SIZE)
    costs = costs_of(points, objectives)
    found = {step.better: step.to for step in exchanges(points, objectives, chosen)}
    for column, objective in enumerate(objectives):
        gains = [costs[chosen, column] - row for row in costs[:, column]]
        better = [gain for gain in gains if gain > 0]
        assert (objective.name in found) == bool(better)
        if better:
            assert gains[found[objective.name]] == min(better)


def test_a_front_of_one_point_has_no_steps_and_a_reason() -> None:
    [point] = front_of_one = [{"accuracy": 0.9, "latency_ms": 1.0}]
    assert exchanges(front_of_one, BOTH, 0) == []
    said = reason([point], BOTH, 0, by="fastest")
    assert said == "the only one"


def test_of_two_points_the_knee_says_by_which_objective_it_goes() -> None:
    two = [{"accuracy": 0.9, "latency_ms": 4.0}, {"accuracy": 0.8, "latency_ms": 2.0}]
    assert pick(two, BOTH) == 0
    assert reason(two, BOTH, 0, by="knee") == "of two the better in accuracy, the first objective"


def test_a_reason_names_rule_and_shares() -> None:
    points = [{"accuracy": a, "latency_ms": ms} for a, ms in [(0.9, 4.0), (0.84, 2.0), (0.5, 1.0)]]
    chosen = pick(points, BOTH, by={"accuracy": 2.0, "latency_ms": 1.0})
    said = reason(points, BOTH, chosen, by={"accuracy": 2.0, "latency_ms": 1.0})
    assert chosen == 1
    assert said == (
        "the best weighted sum of accuracy (2), latency_ms (1); "
        "from the front's worst value (0 %) to its best (100 %): accuracy 85 %, "
        "latency_ms 67 %"
    )
    three = [point | {"parameters": 5.0} for point in points]
    assert reason(three, (ACCURACY, LATENCY, SIZE), 0, by="most-accurate") == (
        "the most accurate; "
        "from the front's worst value (0 %) to its best (100 %): accuracy 100 %, latency_ms 0 %, parameters 100 %"
    )


def test_a_knee_at_an_end_is_not_called_a_balance() -> None:
    """The middle lies a hair above the line between the ends, and within its margin no knee is there."""
    points = [{"accuracy": a, "latency_ms": ms} for a, ms in ((0.9, 3.0), (0.851, 2.0), (0.8, 1.0))]
    margins = np.zeros((3, 3, 2))
    margins[:, :, 0] = 0.02
    chosen = pick(points, BOTH, by="knee", margins=margins)
    assert chosen == 2
    assert reason(points, BOTH, chosen, by="knee").startswith("no network lies clearly above the line")
    assert reason(points, BOTH, pick(points, BOTH, by="knee"), by="knee").startswith("the best balance")
