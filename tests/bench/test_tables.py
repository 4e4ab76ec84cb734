"""The rows of tables, fronts and repeats, from measurements made up so that the answer is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hwnas.core import Architecture, Metric
from hwnas.cost import LatencyTable, Timing, calibrate, entries_of
from hwnas.cost.table import NetworkRecord
from hwnas.job import Front, Member
from hwnas.profiling import Measurement
from hwnas.space import Block, Space
from hwnas.zoo import FAMILIES, family
from tests.bench.figures import Null
from tests.bench.latency import TABLE
from tests.bench.tables import cell_rows, front_figures, repeat_rows

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "space",
    [FAMILIES["toy"].space, family("nasbench201", {"resolutions": [16], "cells": 1}, channels=3, classes=10).space],
    ids=["blocks", "kernels, of which some cells have none"],
)
def test_a_table_s_rows_are_those_of_its_held_out_networks_in_another_session(space: Space) -> None:
    timings = {key: timing(2.0 + entry.macs / 5e3) for key, entry in entries_of(space).items()}
    networks = list(space.sample(60, np.random.default_rng(0)))

    def pieces(a: Architecture) -> list[Block]:
        return [p for block in space.blocks_of(a) for p in ((block,) if block.kernels is None else block.kernels)]

    us = {a.digest: 20 + 0.8 * sum(timings[p.key].p25_us for p in pieces(a)) for a in networks}
    fitted, held_out = networks[:40], networks[40:]
    calibration = calibrate(space, timings, fitted, [us[a.digest] for a in fitted])
    records = [NetworkRecord(architecture=dict(a), p25_us=us[a.digest]) for a in fitted]
    records += [NetworkRecord(architecture=dict(a), p25_us=us[a.digest], role="held_out") for a in held_out]
    calibration = calibration.model_copy(update={"networks": tuple(records)})
    header = LatencyTable.load(ROOT / TABLE).header
    of_space = {"space": space.name, "space_digest": space.digest, "entries_digest": space.entries_digest}
    table = LatencyTable(header.model_copy(update={"calibration": calibration, **of_space}), timings)
    rows = {row.figure.partition(": ")[2]: row for row in cell_rows(space, table, {k: 1.5 * v for k, v in us.items()})}
    assert rows["the other session over the table's"].value == pytest.approx(1.5)
    assert rows["MAPE"].value < 0.01 and rows["MAPE"].ok and rows["Kendall tau"].ok
    macs = rows["MAPE of MACs, affine"]
    assert macs.value > 0.1 and macs.contender == "null"
    assert rows["MAPE of the kernel sum, affine"].value < 0.01, "here the truth is affine in the sum"
    assert rows["MAPE over that of MACs, affine"].value == pytest.approx(rows["MAPE"].value / macs.value)


def member(measured_ms: float, predicted_ms: float) -> Member:
    def latency(value: float) -> Metric:
        return Metric(value, "ms", "measured")

    return Member(
        Architecture({"kernel": 3}),
        {"latency_ms": latency(measured_ms)},
        {"latency_ms": latency(predicted_ms)},
        {},
        "",
        "",
        {},
        None,
        0.0,
        on_front=True,
    )


def front_with(refit: dict[str, Any]) -> Front:
    facts = {"run": "toy", "measurement": {"verdict": "quiet", "session_factor": 1.0}, "refit": refit}
    return Front(Path("runs/toy"), (), (), (member(1.0, 1.1), member(3.0, 2.4)), facts)


def test_a_front_s_rows_are_before_and_after_the_refit() -> None:
    found = front_figures(front_with({"networks": 8, "before": {"mape": 0.06}, "after": {"mape": 0.01}}))
    assert [(row.value, row.ok) for row in found.rows] == [(6.0, False), (1.0, True), (pytest.approx(20.0), False)]
    [null] = {row.null for row in found.rows}
    assert isinstance(null, Null) and null.value == pytest.approx(100 * (1 + 1 / 3) / 2), "2 ms for 1 ms, and for 3 ms"
    assert found.conditions["measurement"] == "quiet"


def test_a_front_that_taught_nothing_has_no_rows_and_says_why() -> None:
    found = front_figures(front_with({"skipped": "nothing was measured"}))
    assert not found.rows
    assert found.conditions["skipped"] == "nothing was measured"


def timing(us: float) -> Timing:
    return Timing(us, us, us, us, 0.01, 100, 10)


def measurement(times_us: dict[str, float]) -> Measurement:
    return Measurement({key: timing(us) for key, us in times_us.items()}, {}, None, "quiet", 1.0, {})


def test_a_repeat_is_compared_after_the_reference_networks_factor() -> None:
    first = measurement({"reference 1": 100.0, "a": 10.0, "b": 20.0, "c": 30.0, "gone": 5.0})
    second = measurement({"reference 1": 110.0, "a": 11.0, "b": 22.0 * 1.02, "c": 33.0 * 1.04})
    median, _, factor = repeat_rows(first, second, minutes=30)
    assert factor.value == pytest.approx(1.1)
    assert median.value == pytest.approx(1.0), "of 0, 0, 2 and 4 %"
    assert "4 models twice, 30 minutes apart" in median.figure
