"""Which networks of a search get a final training."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwnas.core import Architecture, Evaluation, Metric, Objective
from hwnas.job.members import chosen

ACCURACY, LATENCY = Objective.named("accuracy"), Objective.named("latency_ms")


def points(*rows: tuple[float, float]) -> list[Evaluation]:
    return [
        Evaluation(
            Architecture({"k": n}),
            {"accuracy": Metric(share, "share", "measured"), "latency_ms": Metric(ms, "ms", "predicted")},
        )
        for n, (share, ms) in enumerate(rows)
    ]


def latencies(found: list[Evaluation]) -> list[float]:
    return [one["latency_ms"] for one in found]


@pytest.mark.parametrize(("noise", "expected"), [(0.0, [1, 3, 8]), (0.02, [1, 2, 6]), (0.005, [1, 3, 6])])
def test_of_ties_in_a_step_of_cost_the_cheapest(noise: float, expected: list[float]) -> None:
    found = points((0.5, 1), (0.7, 2), (0.71, 3), (0.8, 6), (0.804, 8))  # steps: 1 to 2.83, 2.83 to 8 ms
    step = points((0.5, 1), (0.7, 2), (0.71, 2.5), (0.8, 6), (0.804, 8))
    assert latencies(chosen(step, [ACCURACY, LATENCY], 3, cheap=LATENCY, noise=noise)) == [
        2.5 if ms == 3 else ms for ms in expected
    ]
    assert len(chosen(found, [ACCURACY, LATENCY], 3, cheap=LATENCY, noise=noise)) == 3


def test_a_network_at_chance_comes_only_after_all_others() -> None:
    found = points((0.1, 1), (0.1, 1.5), (0.6, 2), (0.7, 4))

    def guesses(one: Evaluation) -> bool:
        return one["accuracy"] < 0.2

    for count, expected in ((1, [2]), (2, [2, 4]), (3, [2, 4, 1]), (9, [2, 4, 1, 1.5])):
        assert latencies(chosen(found, [ACCURACY, LATENCY], count, cheap=LATENCY, guesses=guesses)) == expected
    dead = found[:2]
    assert latencies(chosen(dead, [ACCURACY, LATENCY], 2, cheap=LATENCY, guesses=guesses)) == [1, 1.5]


@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(1, 9)), min_size=1, max_size=15),
    st.integers(1, 8),
    st.floats(0, 0.2),
    st.floats(0, 1),
)
def test_as_many_as_asked_for_and_each_once(
    rows: list[tuple[float, float]], count: int, noise: float, chance: float
) -> None:
    found = chosen(
        points(*rows),
        [ACCURACY, LATENCY],
        count,
        cheap=LATENCY,
        noise=noise,
        guesses=lambda one: one["accuracy"] <= chance,
    )
    names = [one.architecture["k"] for one in found]
    assert len(names) == len(set(names)) == min(count, len(rows))
