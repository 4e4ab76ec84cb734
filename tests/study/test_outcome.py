"""How the volume of a search's front is told, network by network."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwnas.core import Architecture, Evaluation, Limit, Metric, Objective
from hwnas.study import evaluated, volumes

OBJECTIVES = [Objective.named("accuracy"), Objective.named("latency_ms")]
REFERENCE = {"accuracy": 0.0, "latency_ms": 10.0}


def found(k: int, accuracy: float, ms: float, **changes: str) -> Evaluation:
    metrics = {"accuracy": Metric(accuracy, "share", "measured"), "latency_ms": Metric(ms, "ms", "predicted")}
    return replace(Evaluation(Architecture({"k": k}), metrics), **changes)  # type: ignore[arg-type]


def test_a_point_s_volume_is_its_rectangle_up_to_the_reference() -> None:
    rows = [found(0, 0.5, 4.0), found(1, 0.8, 6.0), found(2, 0.4, 9.0), found(3, 0.9, 11.0)]
    # 0.5 x 6; then 0.3 x 4 more; nothing from a beaten one, nor from one beyond the reference.
    assert volumes(rows, OBJECTIVES, [], REFERENCE) == pytest.approx([3.0, 4.2, 4.2, 4.2])


def test_a_network_evaluated_again_changes_the_last_entry() -> None:
    rows = [found(0, 0.5, 4.0, weights="a@1"), found(1, 0.8, 6.0, weights="a@1"), found(0, 0.3, 4.0, weights="a@2")]
    assert volumes(rows, OBJECTIVES, [], REFERENCE) == pytest.approx([3.0, 0.3 * 6 + 0.5 * 4])


def test_what_cost_nothing_or_failed_adds_nothing() -> None:
    refused = Evaluation(Architecture({"k": 5}), {"latency_ms": Metric(1.0, "ms", "predicted")}, status="infeasible")
    failed = Evaluation(Architecture({"k": 6}), status="failed", reason="out of memory")
    quick = found(7, 0.9, 1.0, fidelity="quick")
    late = found(8, 0.9, 1.0, status="infeasible")
    rows = [refused, failed, quick, late, found(0, 0.5, 4.0)]
    assert evaluated(rows, OBJECTIVES) == [failed, late, rows[-1]]
    assert volumes(rows, OBJECTIVES, [], REFERENCE) == pytest.approx([0.0, 0.0, 3.0])
    assert volumes(rows, OBJECTIVES, [Limit("latency_ms", at_most=3.0)], REFERENCE) == [0.0, 0.0, 0.0]
    assert volumes([], OBJECTIVES, [], REFERENCE) == []


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 12)), max_size=12))
def test_without_new_weights_it_never_shrinks(rows: list[tuple[float, float]]) -> None:
    got = volumes([found(n, *row) for n, row in enumerate(rows)], OBJECTIVES, [], REFERENCE)
    assert len(got) == len(rows) and got == pytest.approx(sorted(got))
