"""`hwnas kit` and `hwnas profile --from`: from a recipe to the table of a board, and what stands in the way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hwnas.cost import LatencyTable
from tests.job.workspace import RECIPE, make_workspace, run


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_workspace(tmp_path, recipe=f'device = "board"\n{RECIPE}')
    (tmp_path / "devices" / "board.toml").write_text('reach = "kit"\n')
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert "Traceback" not in err
    assert len(err.strip().splitlines()) <= 2
    return err


def test_a_device_reached_by_hand_is_not_measured_from_here(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(capsys, "profile", "search/toy.toml")
    assert 'device board: reach is "kit", so nothing can be measured on it from here' in said
    assert "hwnas kit" in said
    assert not (workspace / "latency_tables").exists()


def test_this_machine_needs_no_kit(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (workspace / "search" / "toy.toml").write_text(RECIPE)
    said = refused(capsys, "kit", "search/toy.toml")
    assert "device this-cpu: is this machine, which needs no kit" in said
    assert "hwnas profile search/toy.toml" in said
    assert not (workspace / "kits").exists()


def test_results_that_are_not_there_or_half_asked_for(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "r.jsonl: there is no such results file" in refused(
        capsys, "profile", "search/toy.toml", "--from", "r.jsonl"
    )
    assert "do not go with it" in refused(capsys, "profile", "search/toy.toml", "--from", "r.jsonl", "--missing")
    assert not (workspace / "latency_tables").exists()


@pytest.mark.slow
def test_a_kit_goes_out_and_a_table_comes_back(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "kit", "search/toy.toml", "--json")
    assert code == 0, err
    folder = Path(json.loads(out)["folder"])
    assert folder == Path(
        "kits/board--onnxruntime-cpu--" + json.loads((folder / "job.json").read_text())["about"]["space"]
    )
    environment = {"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1"}
    subprocess.run(
        [sys.executable, "-s", "measure.py", "job.json", "results.jsonl"], cwd=folder, env=environment, check=True
    )
    results = folder / "results.jsonl"
    row = json.loads(results.read_text())
    row |= {"verdict": "noisy"} if row["verdict"] == "refused" else {}  # this test is about something else
    results.write_text(json.dumps(row))
    code, out, err = run(capsys, "profile", "search/toy.toml", "--from", str(results), "--json")
    assert code == 0, err
    found = json.loads(out)
    table = LatencyTable.load(Path(found["table"]))
    assert table.header.device.name == "board"
    assert len(table.rows) == found["blocks"] == found["measured_now"]
    (workspace / "search" / "toy.toml").write_text(RECIPE.replace("seed = 3", 'seed = 4\ndevice = "board"'))
    said = refused(capsys, "profile", "search/toy.toml", "--from", str(results))
    assert "seed is 3 in the kit, 4 here" in said
