"""The measuring program as a child: end to end on tiny models, and all the ways it can end."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hwnas.core import DeviceError, MeasureError
from hwnas.device import Device
from hwnas.profiling import Measurement, ModelFile, Progress, measure_models, measure_resident
from hwnas.profiling import session as parent_side
from tests.profiling.fake_machine import FakeMachine
from tests.profiling.models import DOUBLE, write_broken_model, write_infinite_model, write_model

HERE = Device(name="this-cpu")
ROOT = Path(__file__).parents[2]


def wait_until(condition: Callable[[], bool], seconds: float = 20.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return condition()


def running_children(parent: int) -> list[int]:
    """Children that still run, as Linux lists them."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, ppid = stat.read_text().rpartition(")")[2].split()[:2]
        except (OSError, ValueError):
            continue
        if int(ppid) == parent and state != "Z":
            found.append(int(stat.parent.name))
    return found


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture(scope="module")
def steps() -> list[Progress]:
    return []


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory, steps: list[Progress]) -> Measurement:
    folder = tmp_path_factory.mktemp("models")
    return measure_models(
        {
            "short": ModelFile(write_model(folder / "short.onnx", "Tanh"), "block"),
            "long": write_model(folder / "long.onnx", *["Tanh", "Exp"] * 16),
            "broken": ModelFile(write_broken_model(folder / "broken.onnx"), "block"),
            "infinite": write_infinite_model(folder / "infinite.onnx"),
            "double": write_model(folder / "double.onnx", "Tanh", dtype=DOUBLE),
            "batch of 4": write_model(folder / "four.onnx", "Tanh", shape=(4, 8, 8)),
            "any size": write_model(folder / "any.onnx", "Tanh", shape=("batch", "side")),
            "absent": folder / "absent.onnx",
        },
        device=HERE,
        rounds=4,
        on_noise="mark",
        progress=steps.append,
    )


def test_good_models_are_timed_and_their_order_is_right(measured: Measurement) -> None:
    assert sorted(measured.timings) == ["long", "short"]
    short, long = measured.timings["short"], measured.timings["long"]
    assert 3 * short.p25_us < long.p25_us  # 32 operators against one, beside what every call costs
    for timing in (short, long):
        assert 0 < timing.min_us <= timing.p25_us <= timing.median_us <= timing.p90_us
        assert timing.visits == measured.conditions["rounds"] >= 4
        assert timing.runs in (12 * timing.visits, 20 * timing.visits)
    assert measured.empty_run_us is not None
    assert 0 < measured.empty_run_us < long.p25_us


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("broken", "Warp"),
        ("infinite", "an output is not finite"),
        ("double", r"expected one of type tensor\(float\)"),
        ("batch of 4", "expected batch 1 and fixed sizes"),
        ("any size", "expected batch 1 and fixed sizes"),
        ("absent", "absent.onnx"),
    ],
)
def test_a_model_that_cannot_run_is_named_and_the_others_are_kept(measured: Measurement, key: str, reason: str) -> None:
    assert re.search(reason, measured.failures[key])
    assert "\n" not in measured.failures[key]
    assert key not in measured.timings


def test_conditions_say_what_was_set(measured: Measurement) -> None:
    conditions = measured.conditions
    assert (conditions["intra_op_threads"], conditions["spinning"]) == (1, False)
    assert conditions["pinned"] is None or len(conditions["pinned"]) == 1
    assert conditions["load_before"] is None or conditions["load_before"] >= 0
    assert conditions["steal_share"] is None or 0 <= conditions["steal_share"] <= 1
    assert measured.noise is not None
    assert measured.noise.models == 2


def test_progress_reaches_its_total_and_never_goes_back(measured: Measurement, steps: list[Progress]) -> None:
    assert {step.stage for step in steps} - {"energy"} == {"load", "plan", "measure"}
    for stage in ("load", "measure"):
        done = [step.done for step in steps if step.stage == stage]
        assert done == sorted(done)
        assert done[-1] == [step.total for step in steps if step.stage == stage][-1]


def test_the_parent_keeps_its_own_affinity_and_leaves_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    model = write_model(tmp_path / "a.onnx", "Tanh")
    before = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    measure_models({"a": model}, device=HERE, rounds=2, on_noise="mark")
    assert before is None or os.sched_getaffinity(0) == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.onnx"]


def test_batch_comes_from_the_device(tmp_path: Path) -> None:
    model = write_model(tmp_path / "a.onnx", *["Tanh"] * 8, shape=("batch", 64, 64))
    one, many = (
        measure_models({"a": model}, device=Device(name="a", batch=batch), rounds=2, on_noise="mark")
        for batch in (1, 16)
    )
    assert many.timings["a"].p25_us > 4 * one.timings["a"].p25_us


def test_memory_beyond_an_empty_model(tmp_path: Path) -> None:
    """Two tensors of 64 MiB: seen after the runs, not when the session is made."""
    path = write_model(tmp_path / "a.onnx", "Tanh", shape=("batch", 4096, 4096))
    small = write_model(tmp_path / "b.onnx", "Tanh", shape=("batch", 2048, 2048))
    found, less = measure_resident([path, small], device=HERE)
    if found.run_bytes is None:
        pytest.skip("this system does not say what a process holds")
    assert found.run_bytes > 100 * 2**20
    assert found.loaded_bytes is None or found.loaded_bytes < 20 * 2**20
    assert less.run_bytes is not None and less.run_bytes < found.run_bytes


def test_a_model_that_cannot_run_has_no_memory(tmp_path: Path) -> None:
    with pytest.raises(MeasureError, match="Warp"):
        measure_resident([write_broken_model(tmp_path / "a.onnx")], device=HERE)


def test_a_damaged_log_is_refused_with_its_line(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    models = {"a": write_model(tmp_path / "a.onnx", "Tanh")}
    log.write_text("garbage\n")
    for machine in (None, FakeMachine().machine()):
        with pytest.raises(MeasureError, match="log.jsonl: line 1 is damaged; delete the file"):
            measure_models(models, device=HERE, rounds=2, log=log, machine=machine)


def test_nothing_to_measure_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MeasureError, match="measuring 0 models in 20 rounds"):
        measure_models({}, device=HERE)
    with pytest.raises(MeasureError, match="1 model in 1 round"):
        measure_models({"a": tmp_path / "a.onnx"}, device=HERE, rounds=1)


def test_too_many_threads_are_refused_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="threads is 3; 1 core may be used here"):
        measure_models({"a": tmp_path / "a.onnx"}, device=Device(name="a", threads=3), quota=lambda: 1.0)


def test_all_models_failing_is_no_error_of_the_program(tmp_path: Path) -> None:
    found = measure_models({"a": tmp_path / "a.onnx"}, device=HERE, rounds=2)
    assert (found.timings, found.noise, list(found.failures)) == ({}, None, ["a"])


def program(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    (folder / "program.py").write_text(text)
    monkeypatch.setattr(parent_side, "PROGRAM", folder / "program.py")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import sys; print('first\\nlast words\\n', file=sys.stderr); sys.exit(7)", "ended with code 7: last words"),
        ("raise ValueError('no such core')", "ended with code 1: ValueError: no such core"),
        ("import os; os.kill(os.getpid(), 9)", "was ended by SIGKILL: it said nothing"),
        ("", "ended with code 0: it said nothing"),
    ],
)
def test_a_program_that_fails_is_told_with_its_last_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str
) -> None:
    program(tmp_path, monkeypatch, text)
    with pytest.raises(MeasureError, match=message):
        measure_models({"a": tmp_path / "a.onnx"}, device=HERE)


def test_a_refused_measurement_says_how_noisy_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = {"median": 0.05, "p95": 0.2, "tau": 0.8, "resolved_tau": 0.9, "close_pairs": 0.1, "models": 9}
    conditions = {"rounds": 80, "load_before": 7.5, "load_after": 8.0}
    result: dict[str, object] = {"schema": 1, "about": None, "timings": {}, "failures": {}, "empty_run_us": None}
    result |= {"noise": noise, "verdict": "refused", "conditions": conditions, "device_timings": {}, "energy": None}
    program(
        tmp_path,
        monkeypatch,
        f"import sys, pathlib; print('hello'); pathlib.Path(sys.argv[2]).write_text({json.dumps(result)!r})",
    )
    message = (
        r"too noisy: after 80 rounds the halves differ by 5.0% at the median.*rank correlation 0.900.*load was 7.5"
    )
    with pytest.raises(MeasureError, match=message) as info:
        measure_models({"a": tmp_path / "a.onnx"}, device=HERE, progress=lambda _: None)
    assert "stop other work" in info.value.hint


def test_a_result_of_an_earlier_version_is_not_quiet_beside_its_marks() -> None:
    """Kits that were carried out before the verdict followed from the marks still come home."""
    noise = {"median": 0.001, "p95": 0.002, "tau": 1.0, "resolved_tau": None, "close_pairs": 1.0, "models": 9}
    result: dict[str, Any] = {"timings": {}, "device_timings": {}, "energy": {}, "failures": {}, "empty_run_us": None}
    result |= {"noise": noise, "verdict": "quiet"}
    busy = {"marks": ["busy: the load was 7.5 on 2 cores"], "row_marks": {}}
    unsteady = {"marks": [], "row_marks": {"a": "uneven: its even and its odd rounds differ by 20%"}}
    found = [parent_side.measurement_of(result | {"conditions": one}).verdict for one in (busy, unsteady, {})]
    assert found == ["marked", "marked", "quiet"]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds child processes through /proc")
def test_an_interrupted_measurement_leaves_no_child_and_no_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    model = write_model(tmp_path / "a.onnx", "Tanh")
    before = set(running_children(os.getpid()))

    def interrupt(step: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure_models({"a": model}, device=HERE, rounds=10**6, on_noise="mark", progress=interrupt)
    assert set(running_children(os.getpid())) <= before
    assert [path.name for path in tmp_path.iterdir()] == ["a.onnx"]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds child processes through /proc")
def test_the_child_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    model = write_model(tmp_path / "a.onnx", "Tanh")
    script = (
        "import sys; from pathlib import Path\n"
        "from hwnas.device import Device\n"
        "from hwnas.profiling import measure_models\n"
        "measure_models({'a': Path(sys.argv[1])}, device=Device(name='a'), rounds=10**6, on_noise='mark',\n"
        "               progress=lambda step: print(step.stage, flush=True))\n"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", script, str(model)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as parent:
        assert parent.stdout is not None
        for line in parent.stdout:
            if line.strip() == "measure":
                break
        children = running_children(parent.pid)
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    assert len(children) == 1
    assert wait_until(lambda: not is_running(children[0]))
