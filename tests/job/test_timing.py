"""What is stored with a measured time: where it was measured, not where its table was made."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from hwnas.core import Metric
from hwnas.cost import LatencyTable
from hwnas.device import Device
from hwnas.job import Silent, timing
from hwnas.job.assembly import Assembly
from hwnas.job.timing import OnDevice, Times, Untimed
from hwnas.profiling import Measurement, Noise, Remeasurement, Resident
from tests.profiling.chain import chain
from tests.profiling.models import table_for

SPACE = chain()
DEVICE = Device(name="this-cpu", threads=1, batch=1)
NOISE = Noise(median=0.001, p95=0.01, tau=1.0, resolved_tau=1.0, close_pairs=0.0, models=4)
FOUND = {
    "machine": {"cpu_model": "AMD EPYC"},
    "name": "onnxruntime-cpu",
    "version": "1.27.1",
    "provider": "CPUExecutionProvider",
    "load_max": 7.5,
    "marks": ["busy: the load was 7.5 on 2 cores"],
}
ELSEWHERE = "a.jsonl: device.cpu_model is 'Intel Xeon Gold' in the table, 'AMD EPYC' in this run"
PATCH = {"runtime.onnxruntime": "runtime.onnxruntime is '1.27.0' in the table, '1.27.1' in this run"}


def timed(monkeypatch: pytest.MonkeyPatch, *, mismatches: Sequence[str] = (), **found: Any) -> tuple[OnDevice, Times]:
    """The times of one network whose session came out as given."""
    latency = {"latency_ms": {"a": 0.0237}, "raw_ms": {"a": 0.0237}, "factor": 1.0, **found}
    measurement = Measurement({}, {}, NOISE, "quiet", 3.0, dict(FOUND))
    session = Remeasurement(timings={}, spread=0.0, tau=1.0, failures={}, measurement=measurement, **latency)
    monkeypatch.setattr(timing, "remeasure", lambda *arguments, **options: session)
    monkeypatch.setattr(timing, "measure_resident", lambda paths, device: [Resident(None, None) for _ in paths])
    table: LatencyTable = table_for(SPACE, next(iter(SPACE.enumerate())))
    assembly = SimpleNamespace(
        device=DEVICE,
        family=SimpleNamespace(space=SPACE),
        build_network=None,
        quota=None,
        run_folder=Path("runs/a"),
        table_path=Path("a.jsonl"),
        recipe=SimpleNamespace(name="a"),
    )
    timer = OnDevice(cast(Assembly, assembly), table, Silent(), mismatches=mismatches)
    return timer, timer.time({"a": Untimed(Path("a.onnx"), Metric(0.02, "ms", "predicted"))})


def test_it_names_the_machine_and_the_runtime_of_the_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    _, times = timed(monkeypatch, differences=PATCH)
    conditions = times.conditions
    assert conditions is not None
    assert (conditions["cpu"], conditions["runtime"]) == ("AMD EPYC", "onnxruntime-cpu 1.27.1")
    assert (conditions["scaled"], conditions["session_factor"]) == (True, 1.0)
    assert conditions["marks"] == ["busy: the load was 7.5 on 2 cores"]
    assert conditions["measured_utc"].endswith("+00:00")
    assert conditions["table_differs"] == [f"a.jsonl: {PATCH['runtime.onnxruntime']}"], "without any override"
    assert times.facts["measurement"]["conditions"] == conditions


def test_what_was_allowed_is_stored_once_and_the_calibration_learns_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    differences = {"device.cpu_model": ELSEWHERE.removeprefix("a.jsonl: "), **PATCH}
    timer, times = timed(monkeypatch, mismatches=[ELSEWHERE], differences=differences, scaled=False)
    assert times.conditions is not None
    assert times.conditions["table_differs"] == [ELSEWHERE, f"a.jsonl: {PATCH['runtime.onnxruntime']}"]
    assert times.latency["a"].value == times.raw_ms["a"] == 0.0237
    learnt = timer.learn([])
    assert learnt.fitted is None
    assert learnt.facts == {"skipped": "the table was made on another machine or with another runtime"}


def test_predictions_say_which_table_they_rest_on_and_for_what(monkeypatch: pytest.MonkeyPatch) -> None:
    timer, _ = timed(monkeypatch)
    found = timer.origin()["table"]
    header = timer.table.header
    assert found["conditions"]["cpu"] == header.device.cpu_model
    assert found["conditions"]["runtime"] == str(header.runtime)
    assert (found["conditions"]["threads"], found["conditions"]["batch"]) == (1, 1)
