"""`hwnas check FILE`: whose numbers a file may show."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnxruntime.quantization import CalibrationDataReader, quantize_static

from hwnas.export import add_metadata, describe, export_onnx
from hwnas.nn import build_network
from hwnas.zoo import family
from tests.job.workspace import run

TOY = family("toy", {"resolutions": [8, 12], "stem_stride": 1}, channels=1, classes=3)
CONDITIONS = {"cpu": "AMD EPYC", "runtime": "onnxruntime-cpu 1.27.0", "threads": 1, "batch": 1}
SCALED = {"session_factor": 1.1, "scaled": True, "raw_ms": 0.22, "table_differs": [], "marks": []}


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    path = tmp_path / "net.onnx"
    torch.manual_seed(0)
    architecture = TOY.default()
    side = int(architecture["resolution"])
    facts = {
        "version": "9.9",
        "classes": ["a", "b", "c"],
        "preprocessing": {"size": side, "channels": 1},
        "architecture": dict(architecture),
        "accuracy": {"accuracy": 0.6543},
        "latency_predicted": {"value": 0.19, "unit": "ms", "origin": "predicted"},
        "latency_measured": {"value": 0.2, "unit": "ms", "origin": "measured", "conditions": {**CONDITIONS, **SCALED}},
    }
    export_onnx(build_network(TOY.space, architecture), path, input_shape=(1, side, side), metadata=facts)
    return path


class Noise(CalibrationDataReader):  # type: ignore[misc]
    """Three images to quantise with."""

    def __init__(self, side: int) -> None:
        rng = np.random.default_rng(0)
        self.images = [rng.standard_normal((1, 1, side, side), dtype=np.float32) for _ in range(3)]

    def get_next(self) -> dict[str, Any] | None:
        return {"image": self.images.pop()} if self.images else None


def test_a_whole_file_shows_its_numbers_and_where_they_are_from(
    capsys: pytest.CaptureFixture[str], exported: Path
) -> None:
    code, out, _ = run(capsys, "check", str(exported))
    assert code == 0
    assert f"{exported}: as it was exported, one file, " in out and "cannot be told" not in out
    assert "validation accuracy 65.43%" in out
    assert (
        "0.2000 ms measured (0.2200 ms as measured, divided by 1.100 to match its table) on AMD EPYC, "
        "onnxruntime-cpu 1.27.0, threads 1, batch 1" in out
    )


def test_a_quantised_file_does_not_pass_with_the_numbers_of_the_float_one(
    capsys: pytest.CaptureFixture[str], exported: Path, tmp_path: Path
) -> None:
    quantised = tmp_path / "int8.onnx"
    side = onnx.load(str(exported)).graph.input[0].type.tensor_type.shape.dim[2].dim_value
    quantize_static(str(exported), str(quantised), Noise(side))
    code, out, _ = run(capsys, "check", str(quantised))
    assert code == 2
    assert "int8.onnx: changed since it was exported" in out
    assert "ran at batch 1, 2, 5, 16" in out
    assert "hwnas bench" in out
    assert "65.43" not in out and "0.2000" not in out and "0.19" not in out
    code, out, _ = run(capsys, "check", str(quantised), "--json")
    row = json.loads(out)
    assert (code, row["state"]) == (2, "changed")
    assert row["metadata"].keys().isdisjoint({"accuracy", "latency_measured", "latency_predicted", "parity"})
    assert row["before_the_change"]["accuracy"] == {"accuracy": 0.6543}


def test_a_time_of_another_machine_than_the_table_is_told(capsys: pytest.CaptureFixture[str], exported: Path) -> None:
    differs = ["a.jsonl: device.cpu_model is 'Intel' in the table, 'AMD EPYC' in this run"]
    conditions = {**CONDITIONS, **SCALED, "scaled": False, "table_differs": differs, "marks": ["busy: the load was 9"]}
    conditions["row_marks"] = {"a": "uneven: its even and its odd rounds differ by 20%"}
    add_metadata(exported, {"latency_measured": {"value": 0.22, "unit": "ms", "conditions": conditions}})
    _, out, _ = run(capsys, "check", str(exported))
    assert "0.2200 ms measured on AMD EPYC" in out and "divided by" not in out
    assert "table a.jsonl is of other conditions: device.cpu_model is 'Intel' in the table, 'AMD EPYC' in this" in out
    assert "when it was measured, the machine was busy: the load was 9" in out
    assert 'when it was measured, "a" was uneven: its even and its odd rounds differ by 20%' in out


def test_an_older_file_says_whose_conditions_it_names(capsys: pytest.CaptureFixture[str], exported: Path) -> None:
    old = {**CONDITIONS, "session_factor": 1.0, "raw_ms": 0.2}
    add_metadata(exported, {"latency_measured": {"value": 0.2, "unit": "ms", "conditions": old}, "digest": None})
    code, out, _ = run(capsys, "check", str(exported))
    assert code == 2
    assert "its metadata says: validation accuracy 65.43%" in out
    assert "batch 1 (conditions of its table)" in out


def with_entries(path: Path, entries: dict[str, str | None]) -> Path:
    """A copy whose metadata was edited by hand; None removes an entry."""
    model = onnx.load(str(path))
    found = {entry.key: entry.value for entry in model.metadata_props} | entries
    onnx.helper.set_model_props(model, {key: value for key, value in found.items() if value is not None})
    copy = path.with_name("copy.onnx")
    onnx.save(model, str(copy))
    return copy


def test_without_its_digest_nothing_vouches_for_a_file(capsys: pytest.CaptureFixture[str], exported: Path) -> None:
    path = with_entries(exported, {"hwnas.digest": None})
    code, out, _ = run(capsys, "check", str(path))
    assert code == 2
    assert out.splitlines()[0].startswith(
        f"{path}: made by an earlier version or its digest was removed: whether its numbers belong to this file cannot "
        "be told, one file, "
    )
    code, out, _ = run(capsys, "check", str(path), "--json")
    row = json.loads(out)
    assert (code, row["state"]) == (2, "unknown")
    assert "accuracy" not in row["metadata"] and row["unconfirmed"]["accuracy"] == {"accuracy": 0.6543}


def test_edited_metadata_is_not_shown_as_the_file_s_own(capsys: pytest.CaptureFixture[str], exported: Path) -> None:
    path = with_entries(exported, {"hwnas.accuracy": '{"accuracy": 0.99}'})
    code, out, _ = run(capsys, "check", str(path))
    assert code == 2
    assert out.splitlines()[0].startswith(f"{path}: its metadata was edited since it was exported, one file, ")
    assert "99" not in out.split("edited since it was exported (")[1].split("):")[1]
    assert "accuracy" in json.loads(run(capsys, "check", str(path), "--json")[1])["unconfirmed"]


def test_a_digest_of_an_earlier_version_vouches_for_graph_and_weights(
    capsys: pytest.CaptureFixture[str], exported: Path
) -> None:
    digest = {"form": 1, "sha256": describe(exported).sha256}
    path = with_entries(exported, {"hwnas.digest": json.dumps(digest)})
    code, out, _ = run(capsys, "check", str(path))
    assert code == 0
    assert "graph and weights as they were exported, one file" in out
    assert "covers graph and weights alone: whether its metadata was edited cannot be told" in out


def test_weights_in_a_file_of_their_own_are_counted_and_named(
    capsys: pytest.CaptureFixture[str], exported: Path, tmp_path: Path
) -> None:
    path = tmp_path / "apart.onnx"
    onnx.save_model(
        onnx.load(str(exported)), str(path), save_as_external_data=True, location="apart.bin", size_threshold=0
    )
    code, out, _ = run(capsys, "check", str(path))
    assert code == 0
    assert "as it was exported" in out and "with its weights in apart.bin, " in out and "one file" not in out
    row = json.loads(run(capsys, "check", str(path), "--json")[1])
    assert row["size_bytes"] == path.stat().st_size + path.with_suffix(".bin").stat().st_size
