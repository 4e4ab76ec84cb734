"""`hwnas bench`: what files are taken, and what is said of their times. The timing itself is injected or tiny."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch

from hwnas.cli import main
from hwnas.cli.bench import lines_of
from hwnas.core import DeviceError, ExportError, MeasureError, TableError
from hwnas.cost import FamilyRecord, UnitSumCost
from hwnas.device import Device, fingerprint
from hwnas.export import add_metadata, export_onnx, open_session
from hwnas.job import bench as place
from hwnas.job.bench import bench, space_of
from hwnas.nn import build_network, write_onnx
from hwnas.profiling import Energy, Measurement, Noise, remeasuring
from hwnas.profiling.runtimes import runtime_version
from hwnas.zoo import family
from tests.profiling.models import DOUBLE, table_for, timing, write_model

HERE = Device(name="this-cpu")
FIELDS = {"resolutions": [8, 12], "stem_stride": 1}
TOY = family("toy", FIELDS, channels=1, classes=3)
ARCHITECTURE = TOY.default()
QUIET = Noise(0.003, 0.01, 1.0, 1.0, 0.0, 5)
VERSION = runtime_version()
CONDITIONS: dict[str, Any] = {
    "onnxruntime": VERSION,
    "provider": "CPUExecutionProvider",
    "optimization_level": "all",
    "intra_op_threads": 1,
    "rounds": 20,
    "load_before": 0.1,
    "load_after": 0.2,
    "name": "onnxruntime-cpu",
    "version": VERSION,
    "machine": fingerprint().to_json(),
    "marks": [],
}
THEN = {"cpu": fingerprint().cpu_model, "runtime": f"onnxruntime-cpu {VERSION}.post1", "threads": 1, "batch": 1}


@pytest.fixture
def table(tmp_path: Path) -> Path:
    record = FamilyRecord(name="toy", channels=1, classes=3, fields=FIELDS)
    path = tmp_path / "a.jsonl"
    table_for(TOY.space, ARCHITECTURE, family=record).save(path)
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    torch.manual_seed(0)
    write_onnx(build_network(TOY.space, ARCHITECTURE).eval(), path, input_shape=(1, 12, 12))
    return path


def arrange(monkeypatch: pytest.MonkeyPatch, now_us: dict[str, float], **failures: str) -> None:
    def measure_models(models: Any, **options: Any) -> Measurement:
        timings = {key: timing(us) for key, us in now_us.items()}
        return Measurement(timings, failures, QUIET, "quiet", 3.0, dict(CONDITIONS))

    monkeypatch.setattr(remeasuring, "measure_models", measure_models)
    monkeypatch.setattr(place, "measure_models", measure_models)


def test_alone_a_file_has_its_time_of_now(monkeypatch: pytest.MonkeyPatch, model: Path) -> None:
    arrange(monkeypatch, {"model": 250.0})
    found = bench(model, device=HERE)
    assert (found.latency_ms, found.raw_ms, found.session_factor, found.predicted) == (0.25, 0.25, None, None)
    assert found.conditions["input"] == [1, 1, 12, 12]
    row = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert row["measured"]["median_us"] == timing(250.0).median_us
    assert row["error"] is None


def test_energy_is_asked_of_a_gpu_for_this_file_alone(monkeypatch: pytest.MonkeyPatch, model: Path) -> None:
    asked: list[list[str]] = []

    def measure_models(models: Any, *, energy: Collection[str], **options: Any) -> Measurement:
        asked.append(sorted(energy))
        timings = {key: replace(timing(250.0), device_us=180.0) for key in models}
        return Measurement(
            timings,
            {},
            QUIET,
            "quiet",
            3.0,
            dict(CONDITIONS),
            energy=dict.fromkeys(energy, Energy(12.5, 4000, 60, 9.0)),
        )

    monkeypatch.setattr(place, "measure_models", measure_models)
    found = bench(model, device=Device(name="gpu", runtime="onnxruntime-cuda"), energy=True)
    assert asked == [["model"]]
    assert found.to_json()["energy"] == {"energy_mj": 12.5, "runs": 4000, "steps": 60, "above_idle_mj": 9.0}
    said = lines_of(found)
    assert "  of that on the GPU itself 0.1800 ms" in said
    assert "  energy 12.5 mJ a run, all that 4,000 runs of the GPU used" in said
    with pytest.raises(DeviceError, match="this-cpu") as refused:
        bench(model, device=HERE, energy=True)
    assert "--energy" in str(refused.value.hint)


def test_with_a_table_the_session_is_corrected_and_predicted_stands_beside_measured(
    monkeypatch: pytest.MonkeyPatch, model: Path, table: Path
) -> None:
    model = plain(model, architecture=dict(ARCHITECTURE), space=TOY.name)
    arrange(monkeypatch, {"reference 0": 22.0, "network model": 110.0})
    found = bench(model, device=HERE, table=table)
    assert found.session_factor == pytest.approx(1.1)
    assert found.raw_ms == pytest.approx(0.11)
    assert found.latency_ms == pytest.approx(0.1)
    blocks = len(TOY.space.blocks_of(ARCHITECTURE))
    assert found.predicted is not None
    assert found.predicted.value == pytest.approx(0.01 * blocks), "ten microseconds a block"
    assert found.to_json()["error"] == pytest.approx(0.01 * blocks / 0.1 - 1)
    assert any("drifted" in line for line in found.warnings)


def test_a_file_of_another_space_is_timed_and_not_predicted(
    monkeypatch: pytest.MonkeyPatch, model: Path, table: Path
) -> None:
    model = plain(model, architecture={"k": 3}, space="other")
    arrange(monkeypatch, {"reference 0": 20.0, "network model": 100.0})
    found = bench(model, device=HERE, table=table)
    assert found.predicted is None
    assert found.warnings == (f"nothing is predicted: the file is of space other, the table of {TOY.name}",)


def test_what_was_promised_at_export_is_told(monkeypatch: pytest.MonkeyPatch, model: Path) -> None:
    model = plain(model, latency_predicted={"value": 0.2, "unit": "ms", "origin": "predicted"})
    arrange(monkeypatch, {"model": 250.0})
    promised = bench(model, device=HERE).promised
    assert promised is not None
    assert promised.latency.value == 0.2
    assert promised.not_comparable == ("the file does not say its conditions",)


def plain(path: Path, **facts: Any) -> Path:
    """A file as hwnas leaves it, with these facts alone."""
    torch.manual_seed(0)
    export_onnx(build_network(TOY.space, ARCHITECTURE), path, input_shape=(1, 12, 12), metadata=facts)
    return path


def exported(path: Path, *, measured_ms: float = 0.25, **conditions: Any) -> Path:
    """A file as hwnas leaves it: with digest, prediction and measurement."""
    torch.manual_seed(0)
    export_onnx(build_network(TOY.space, ARCHITECTURE), path, input_shape=(1, 12, 12), metadata={"version": "9"})
    found = {"session_factor": 1.0, "scaled": True, "raw_ms": measured_ms, **THEN, **conditions}
    metric = {"value": measured_ms, "unit": "ms", "origin": "measured"}
    predicted = {"value": 0.24, "unit": "ms", "origin": "predicted", "low": 0.23, "high": 0.26}
    add_metadata(path, {"latency_measured": {**metric, "conditions": found}, "latency_predicted": predicted})
    add_metadata(path, {"table": {"conditions": {**THEN, **conditions}}})
    return path


def test_what_was_measured_then_is_shown_with_its_conditions(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    arrange(monkeypatch, {"model": 260.0})
    found = bench(exported(tmp_path / "m.onnx"), device=HERE)
    assert (found.state, found.warnings) == ("as exported", ())
    assert found.measured_then is not None and found.measured_then.latency.value == 0.25
    said = lines_of(found)
    [then] = [line for line in said if "measured when it was exported" in line]
    assert (
        "0.2500 ms" in then
        and f"onnxruntime-cpu {VERSION}.post1, threads 1, batch 1" in then
        and "comparable" not in then
    )
    row = found.to_json()
    assert row["measured_then"]["conditions"]["batch"] == 1 and row["promised"]["value"] == 0.24


def test_times_far_apart_under_the_same_conditions_are_remarked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    arrange(monkeypatch, {"model": 500.0})
    found = bench(exported(tmp_path / "m.onnx"), device=HERE)
    assert found.warnings == (
        "far apart: 2.08 times the 0.2400 ms predicted when it was exported, under the same conditions",
        "far apart: 2.00 times the 0.2500 ms measured when it was exported, under the same conditions",
    )


@pytest.mark.parametrize(
    ("conditions", "device", "said"),
    [
        ({}, Device(name="this-cpu", batch=8), "not comparable: batch 8 against batch 1"),
        ({"threads": 4}, HERE, "not comparable: threads 1 against threads 4"),
        ({"cpu": "Xeon"}, HERE, "not comparable: .* against Xeon"),
        ({"runtime": "onnxruntime-cpu 0.9"}, HERE, f"onnxruntime-cpu {VERSION} against onnxruntime-cpu 0.9"),
    ],
)
def test_under_other_conditions_it_says_so_and_remarks_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, conditions: dict[str, Any], device: Device, said: str
) -> None:
    arrange(monkeypatch, {"model": 5000.0})
    found = bench(exported(tmp_path / "m.onnx", **conditions), device=device)
    assert found.warnings == ()
    then = [line for line in lines_of(found) if "when it was exported" in line]
    assert len(then) == 2 and all(re.search(said, line) for line in then)


def test_a_changed_file_is_timed_without_its_old_numbers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, table: Path
) -> None:
    path = exported(tmp_path / "m.onnx")
    add_metadata(path, {"architecture": dict(ARCHITECTURE), "space": TOY.name})
    model = onnx.load(str(path))
    model.graph.node[0].name = "renamed"  # no change
    onnx.save(model, str(path))
    arrange(monkeypatch, {"model": 260.0, "reference 0": 20.0, "network model": 100.0})
    assert bench(path, device=HERE).state == "as exported"
    entries = {entry.key: entry.value for entry in model.metadata_props}
    onnx.helper.set_model_props(model, {k: v for k, v in entries.items() if k != "hwnas.digest"})
    without_digest = tmp_path / "without.onnx"
    onnx.save(model, str(without_digest))
    onnx.helper.set_model_props(model, entries | {"hwnas.latency_measured": '{"value": 0.25}'})
    edited = tmp_path / "edited.onnx"
    onnx.save(model, str(edited))
    onnx.helper.set_model_props(model, entries)
    model.graph.initializer[0].raw_data = bytes(len(model.graph.initializer[0].raw_data))
    onnx.save(model, str(path))
    for file, state, said in (
        (path, "changed", "changed since it was exported (20"),
        (edited, "edited", "its metadata was edited since it was exported (20"),
        (without_digest, "unknown", "made by an earlier version or its digest was removed"),
    ):
        for beside in (None, table):
            found = bench(file, device=HERE, table=beside)
            assert (found.state, found.predicted, found.promised, found.measured_then) == (state, None, None, None)
            assert any(said in line for line in found.warnings)
            assert not any("0.25" in line for line in lines_of(found))


@pytest.mark.parametrize("with_table", [False, True])
def test_the_marks_of_the_measuring_program_reach_the_reader(
    monkeypatch: pytest.MonkeyPatch, model: Path, table: Path, *, with_table: bool
) -> None:
    monkeypatch.setitem(CONDITIONS, "marks", ["busy: the load was 7.5 on 2 cores", "drifting: the last rounds took 2"])
    monkeypatch.setitem(CONDITIONS, "load_max", 7.5)
    key = "network model" if with_table else "model"
    monkeypatch.setitem(CONDITIONS, "row_marks", {key: "uneven: its even and its odd rounds differ by 20%"})
    unread = "the processor's energy is unmeasured, as counters cannot be read (intel-rapl:1: Permission denied)"
    monkeypatch.setitem(CONDITIONS, "notes", [unread])
    arrange(monkeypatch, {"model": 250.0, "reference 0": 20.0, "network model": 100.0})
    found = bench(model, device=HERE, table=table if with_table else None)
    assert "the machine was busy: the load was 7.5 on 2 cores" in found.warnings
    assert "model was uneven: its even and its odd rounds differ by 20%" in found.warnings
    assert unread in found.warnings
    assert any("drifting" in line for line in lines_of(found))
    row = found.to_json()
    assert row["conditions"]["marks"] == CONDITIONS["marks"] and row["conditions"]["load_max"] == 7.5
    assert row["conditions"]["row_marks"] == {"model": "uneven: its even and its odd rounds differ by 20%"}


def test_a_prediction_by_a_table_with_a_row_that_cannot_be_right_says_so(
    monkeypatch: pytest.MonkeyPatch, model: Path, table: Path
) -> None:
    model = plain(model, architecture=dict(ARCHITECTURE), space=TOY.name)
    arrange(monkeypatch, {"reference 0": 20.0, "network model": 100.0})
    assert not any("row" in line for line in bench(model, device=HERE, table=table).warnings)
    monkeypatch.setattr(place, "doubtful_rows", lambda space, table: {"stem": "takes 1.4e4 us"})
    found = bench(model, device=HERE, table=table)
    assert found.predicted is not None
    assert f'{table}: row "stem" takes 1.4e4 us' in found.warnings


def test_a_factor_out_of_range_does_not_scale(monkeypatch: pytest.MonkeyPatch, model: Path, table: Path) -> None:
    arrange(monkeypatch, {"reference 0": 39.4, "network model": 23.7})
    found = bench(model, device=HERE, table=table)
    assert (found.latency_ms, found.raw_ms) == (0.0237, 0.0237)
    assert any("times are as measured, not brought to its session" in line for line in found.warnings)


@pytest.mark.parametrize(
    ("shape", "dtype", "words", "way_out"),
    [
        (("batch", 1, 8), 1, "has 3 axes; expected 4: batch, channels, height, width", "a reshape may be part"),
        (
            ("batch", 1, "h", "w"),
            1,
            r"leaves height \(h\), width \(w\) open; .*only the batch may vary",
            "make_dynamic_shape_fixed --input_name image --input_shape 1,1,HEIGHT,WIDTH",
        ),
        ((4, 1, 8, 8), 1, "has batch 4; the device file says 1", "a device with batch = 4"),
        (("batch", 1, 8, 8), DOUBLE, "input image holds DOUBLE; expected FLOAT", "float32 images"),
    ],
)
def test_other_inputs_are_refused_with_a_way_out(
    tmp_path: Path, shape: tuple[Any, ...], dtype: int, words: str, way_out: str
) -> None:
    path = write_model(tmp_path / "m.onnx", "Relu", shape=shape, dtype=dtype)
    with pytest.raises(ExportError, match=f"m.onnx: .*{words}") as refused:
        bench(path, device=HERE)
    assert way_out in refused.value.hint


def test_the_way_out_of_open_sizes_works(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.onnx", "Relu", shape=("batch", 1, "h", "w"))
    with pytest.raises(ExportError) as refused:
        bench(path, device=HERE)
    _, _, command = refused.value.hint.partition("python ")
    words = shlex.split(command.replace("HEIGHT,WIDTH", "6,5"))
    subprocess.run([sys.executable, *words], cwd=tmp_path, check=True)
    assert bench(tmp_path / "fixed.onnx", device=HERE, rounds=2).conditions["input"] == [1, 1, 6, 5]


def test_two_inputs_none_and_one_without_a_shape_are_refused(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.onnx", "Relu", shape=("batch", 1, 4, 4))
    model = onnx.load(str(path))
    model.graph.input.append(model.graph.input[0])
    model.graph.input[1].name = "mask"
    onnx.save(model, str(path))
    with pytest.raises(ExportError, match=r"m.onnx: has 2 inputs \(image, mask\); expected one") as refused:
        bench(path, device=HERE)
    assert "as its only input" in refused.value.hint
    del model.graph.input[1]
    model.graph.input[0].type.tensor_type.ClearField("shape")
    onnx.save(model, str(path))
    with pytest.raises(ExportError, match="input image has axes that it does not say; expected 4"):
        bench(path, device=HERE)


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="no.onnx: no such file"):
        bench(tmp_path / "no.onnx", device=HERE)
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(ExportError, match="text.onnx: not an ONNX file or damaged"):
        bench(tmp_path / "text.onnx", device=HERE)
    with pytest.raises(DeviceError, match="its runtime is torch, which does not run ONNX files"):
        bench(tmp_path / "no.onnx", device=Device(name="this-cpu", runtime="torch"))


def test_weights_in_a_file_of_their_own_are_timed_too(tmp_path: Path, model: Path) -> None:
    apart = tmp_path / "apart.onnx"
    onnx.save_model(
        onnx.load(str(model)), str(apart), save_as_external_data=True, location="apart.bin", size_threshold=0
    )
    assert bench(apart, device=HERE, rounds=2).latency_ms > 0
    (tmp_path / "apart.bin").unlink()
    with pytest.raises(ExportError, match="apart.onnx: its weights lie in apart.bin, which is not in"):
        bench(apart, device=HERE)


def test_a_batch_axis_of_any_name_is_taken(tmp_path: Path) -> None:
    """For real, with the smallest model there is."""
    path = write_model(tmp_path / "n.onnx", "Relu", shape=("N", 1, 4, 4))
    found = bench(path, device=HERE, rounds=2)
    assert 0 < found.latency_ms == found.raw_ms
    assert found.timing.p25_us <= found.timing.median_us


@pytest.mark.parametrize(
    ("changes", "words", "way_out"),
    [
        (
            {"ir_version": 99},
            rf"its IR version is 99; onnxruntime-cpu {VERSION} reads up to \d+",
            "set model.ir_version",
        ),
        ({"opset": 999}, rf"of opset 999 of ai.onnx; onnxruntime-cpu {VERSION} knows up to \d+", "opset_version="),
        ({"operator": "Warp"}, "its operator Warp is not one of opset 17", "export the file"),
        ({"operator": "Warp", "domain": "own"}, "its operator Warp is of own, which", "custom operators"),
    ],
)
def test_a_file_newer_than_the_runtime_is_refused_with_both_versions(
    tmp_path: Path, changes: dict[str, Any], words: str, way_out: str
) -> None:
    """For real; neither the runtime's own text nor a temporary name reaches the user."""
    path = write_model(tmp_path / "b.onnx", changes.get("operator", "Relu"), shape=("batch", 1, 4, 4))
    model = onnx.load(str(path))
    model.ir_version = changes.get("ir_version", model.ir_version)
    model.opset_import[0].version = changes.get("opset", 17)
    if "domain" in changes:
        model.graph.node[0].domain = changes["domain"]
        model.opset_import.append(onnx.helper.make_opsetid(changes["domain"], 1))
    path.write_bytes(model.SerializeToString())
    with pytest.raises(MeasureError, match=rf"b.onnx: cannot be run: .*{words}") as refused:
        bench(path, device=HERE, rounds=2)
    assert way_out in refused.value.hint
    assert not re.search("ONNXRuntimeError|hwnas-bench|onnxruntime_src", refused.value.message)
    with pytest.raises(ExportError, match=r"b.onnx: onnxruntime refuses it") as refused_here:
        open_session(path)
    assert way_out in refused_here.value.hint


def test_a_space_is_built_again_from_the_header_or_not_at_all(table: Path) -> None:
    stored = table_for(TOY.space, ARCHITECTURE, family=FamilyRecord(name="toy", channels=1, classes=3, fields=FIELDS))
    assert space_of(stored).digest == TOY.space.digest
    assert UnitSumCost.from_table(space_of(stored), stored)(ARCHITECTURE).value > 0
    with pytest.raises(TableError, match="does not say what space .* is built from"):
        space_of(table_for(TOY.space, ARCHITECTURE))
    other = FamilyRecord(name="toy", channels=1, classes=3)
    with pytest.raises(TableError, match="cannot be built again: .*made under other conditions"):
        space_of(table_for(TOY.space, ARCHITECTURE, family=other))


def test_a_table_of_other_conditions_is_refused_before_anything_is_timed(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "b.jsonl"
    table_for(TOY.space, ARCHITECTURE, batch=8).save(path)
    with pytest.raises(TableError, match="batch is 8 in the table, 1 in this run"):
        bench(model, device=HERE, table=path)


def test_the_command_says_it_in_words_and_in_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], model: Path, table: Path
) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])
    model = plain(model, architecture=dict(ARCHITECTURE), space=TOY.name)
    arrange(monkeypatch, {"reference 0": 20.0, "network model": 100.0})
    for extra in ([], ["--json"]):
        with pytest.raises(SystemExit) as end:
            main(["bench", str(model), "--table", str(table), *extra])
        assert end.value.code == 0
    out = capsys.readouterr().out
    words, _, row = out.partition("\n{")
    assert "0.1000 ms" in words
    assert "predicted 0.0" in words
    assert f"onnxruntime {VERSION} CPUExecutionProvider, 1 thread, input 1x1x12x12, 20 rounds" in words
    assert json.loads("{" + row)["session_factor"] == 1.0
