"""What a run's members do to the calibration, without measuring anything."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hwnas.core import Architecture, Metric
from hwnas.cost import LatencyTable, UnitSumCost
from hwnas.cost.refit import refit_path, with_refit
from hwnas.job.front import Member
from hwnas.job.refitting import refit_members
from tests.cost.test_refit import FOUND, SPACE, records, table
from tests.cost.toy_space import flat_table


def member(architecture: Architecture, us: float, predicted_ms: float) -> Member:
    return Member(
        architecture=architecture,
        metrics={"latency_ms": Metric(us / 1000, "ms", "measured")},
        predicted={"latency_ms": Metric(predicted_ms, "ms", "predicted")},
        test={},
        onnx="a.onnx",
        weights="a.safetensors",
        parity={},
        raw_latency_ms=us / 1000,
        training_seconds=1.0,
        on_front=True,
    )


def members() -> list[Member]:
    cost = UnitSumCost.from_table(SPACE, table())
    return [member(a, one.p25_us, cost(a).value) for a, one in zip(FOUND, records(), strict=True)]


def test_the_error_before_and_after_is_told_and_the_next_search_uses_the_fit(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    table().save(path)
    loaded = LatencyTable.load(path)
    learnt = refit_members(SPACE, loaded, members(), path=path, run="toy", holds=True)
    assert learnt.facts["before"]["mape"] > 3 * learnt.facts["after"]["mape"]
    assert (learnt.facts["networks"], learnt.facts["fitted"], learnt.facts["file"]) == (8, 22, "a.refit.json")
    assert not refit_path(path).exists(), "nothing is written before the front is"
    learnt.save(path)
    again = with_refit(path, LatencyTable.load(path))
    assert again.refitted is not None
    assert {one.source for one in again.refitted.networks} == {"profile", "run toy"}
    measured = np.array([one.values["latency_ms"] for one in members()])
    predicted = UnitSumCost.from_table(SPACE, again).batch(SPACE.encode(FOUND))
    assert np.abs(predicted / measured - 1).mean() < 0.01


@pytest.mark.parametrize(
    ("holds", "some", "old", "words"),
    [
        (False, True, False, "no longer describes this machine"),
        (True, False, False, "nothing was measured"),
        (True, True, True, "does not say which networks it rests on"),
    ],
)
def test_why_nothing_was_learnt_is_told(tmp_path: Path, holds: bool, some: bool, old: bool, words: str) -> None:
    stored = flat_table(SPACE) if old else table()
    path = tmp_path / "a.jsonl"
    learnt = refit_members(SPACE, stored, members() if some else [], path=path, run="toy", holds=holds)
    assert words in learnt.facts["skipped"]
    learnt.save(path)
    assert not refit_path(path).exists()
