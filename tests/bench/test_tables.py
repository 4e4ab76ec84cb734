"""The rows of tables, fronts and repeats, from measurements made up so that the answer is known."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from hwnas.cost import LatencyTable, Timing
from hwnas.cost.table import Holdout
from hwnas.job import Front
from hwnas.profiling import Measurement
from tests.bench.latency import TABLE
from tests.bench.tables import cell_rows, front_figures, repeat_rows

ROOT = Path(__file__).parents[2]


def test_a_table_s_rows_are_those_of_its_held_out_networks() -> None:
    table = LatencyTable.load(ROOT / TABLE)
    calibration = table.header.calibration
    assert calibration is not None
    held_out = Holdout(mape=0.04, bias=0.01, within_5=0.5, within_10=0.9, tau=0.93, n=24)
    fitted = calibration.model_copy(update={"holdout": held_out, "band": math.log(1.08)})
    rows = cell_rows(LatencyTable(table.header.model_copy(update={"calibration": fitted}), table.rows))
    assert [row.value for row in rows] == pytest.approx([4.0, 0.93, 90.0, 8.0])
    assert all(row.ok for row in rows) and not any(row.at_goal for row in rows[:2])
    assert f"{calibration.n} fitted, 24 held out" in rows[0].figure


def front_with(refit: dict[str, Any]) -> Front:
    facts = {"run": "toy", "measurement": {"verdict": "quiet", "session_factor": 1.0}, "refit": refit}
    return Front(Path("runs/toy"), (), (), (), facts)


def test_a_front_s_rows_are_before_and_after_the_refit() -> None:
    found = front_figures(front_with({"networks": 8, "before": {"mape": 0.06}, "after": {"mape": 0.01}}))
    assert [(row.value, row.ok) for row in found.rows] == [(6.0, False), (1.0, True)]
    assert found.conditions["measurement"] == "quiet"


def test_a_front_that_taught_nothing_has_no_rows_and_says_why() -> None:
    found = front_figures(front_with({"skipped": "nothing was measured"}))
    assert not found.rows
    assert found.conditions["skipped"] == "nothing was measured"


def measurement(times_us: dict[str, float]) -> Measurement:
    timings = {key: Timing(us, us, us, us, 0.01, 100, 10) for key, us in times_us.items()}
    return Measurement(timings, {}, None, "quiet", 1.0, {})


def test_a_repeat_is_compared_after_the_reference_networks_factor() -> None:
    first = measurement({"reference 1": 100.0, "a": 10.0, "b": 20.0, "c": 30.0, "gone": 5.0})
    second = measurement({"reference 1": 110.0, "a": 11.0, "b": 22.0 * 1.02, "c": 33.0 * 1.04})
    median, _, factor = repeat_rows(first, second, minutes=30)
    assert factor.value == pytest.approx(1.1)
    assert median.value == pytest.approx(1.0), "of 0, 0, 2 and 4 %"
    assert "4 models twice, 30 minutes apart" in median.figure
