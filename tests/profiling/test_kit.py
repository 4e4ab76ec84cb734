"""A kit: written here, run with nothing but numpy and onnxruntime, and its result taken in, or refused."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import venv
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from hwnas.core import Architecture, DeviceError, MeasureError, TableError
from hwnas.cost import LatencyTable, blocks_of
from hwnas.device import Device, fingerprint
from hwnas.profiling import (
    Kit,
    Measurement,
    measure_models,
    remeasure,
    remeasuring,
    table_matches,
    take_in,
    write_kit,
)
from hwnas.profiling.by_hand import LAUNCHER
from hwnas.profiling.runtimes import runtime_version
from hwnas.space import Block
from hwnas.zoo import FAMILIES
from tests.profiling.chain import build, build_network, chain, convolution
from tests.profiling.models import table_for, timing, write_model

BOARD = Device(name="board", reach="kit")
SPACE = chain()
RESULTS = "results.jsonl"


def run_kit(folder: Path, *python: str) -> subprocess.CompletedProcess[str]:
    """As its README says, in its folder, with an environment that knows nothing of hwnas."""
    return subprocess.run(
        [*(python or (sys.executable, "-s")), "measure.py", "job.json", RESULTS],
        cwd=folder,
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1"},
        check=False,
    )


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    """Written and run; any noise will do."""
    made = write_kit(
        SPACE,
        build,
        build_network,
        device=BOARD,
        folder=tmp_path_factory.mktemp("kits") / "chain",
        recipe="search/chain.toml",
        seed=5,
        rounds=4,
        on_noise="mark",
    )
    done = run_kit(made.path)
    assert done.returncode == 0, done.stderr
    assert "43 models timed, 0 failed" in done.stdout
    return made


@pytest.fixture
def result(kit: Kit) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((kit.path / RESULTS).read_text())
    return found


def taken(path: Path, value: object, folder: Path, *, device: Device = BOARD, seed: int = 5) -> LatencyTable:
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return take_in(path, SPACE, device=device, folder=folder, seed=seed).table


def test_a_kit_is_a_folder_that_explains_itself(kit: Kit) -> None:
    assert sorted(path.name for path in kit.path.iterdir()) == [
        "README.md",
        "job.json",
        "measure.py",
        "measuring.py",
        "models",
        RESULTS,
        "rounds.jsonl",
    ]
    assert len(list((kit.path / "models").iterdir())) == kit.models + 1 == 5 + 33 + 5 + 1
    readme = (kit.path / "README.md").read_text()
    assert "python3 measure.py job.json results.jsonl" in readme
    assert "hwnas profile search/chain.toml --from results.jsonl" in readme
    job = json.loads((kit.path / "job.json").read_text())
    assert all(not Path(model["path"]).is_absolute() for model in job["models"])
    assert [path.name for path in kit.path.parent.iterdir()] == ["chain"]
    assert kit.size_bytes > 43 * 100


def test_its_result_becomes_the_table_of_that_device(kit: Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hwnas.profiling.matching.NOISE_REFUSED", 1e3)  # a noisy machine is not the question
    report = take_in(kit.path / RESULTS, SPACE, device=BOARD, folder=tmp_path, seed=5)
    assert report.path.name == "board--onnxruntime-cpu--chain.jsonl"
    table = LatencyTable.load(report.path)
    assert table == report.table
    assert sorted(table.rows) == sorted(blocks_of(SPACE))
    header = table.header
    assert (header.device.name, header.device.cpu_model) == ("board", fingerprint().cpu_model)
    assert header.calibration is not None
    assert len(header.reference) == 5
    assert header.export.torch == metadata.version("torch")
    told = table_matches(table, BOARD, SPACE)
    assert all("noisy" in line or "when it was measured" in line for line in told)


def test_the_program_chose_its_core_itself(result: dict[str, Any]) -> None:
    pinned = result["conditions"]["pinned"]
    affinity = fingerprint().affinity
    assert pinned is None or affinity is None or pinned == [affinity[-1]]


@pytest.mark.parametrize(
    ("device", "seed", "difference"),
    [
        (Device(name="board", reach="kit", threads=2), 5, "threads is 1 in the kit, 2 here"),
        (Device(name="other", reach="kit"), 5, "device is 'board' in the kit, 'other' here"),
        (Device(name="board", reach="kit", batch=8), 5, "batch is 1 in the kit, 8 here"),
        (Device(name="board", reach="kit", core=0), 5, "core is None in the kit, 0 here"),
        (BOARD, 6, "seed is 5 in the kit, 6 here"),
    ],
)
def test_a_result_of_another_recipe_or_device_is_refused_with_each_difference(
    kit: Kit, tmp_path: Path, device: Device, seed: int, difference: str
) -> None:
    with pytest.raises(MeasureError) as info:
        take_in(kit.path / RESULTS, SPACE, device=device, folder=tmp_path, seed=seed)
    assert (
        f"results.jsonl: of another kit, made for recipe search/chain.toml: {difference}"
        == info.value.message[-len(f"results.jsonl: of another kit, made for recipe search/chain.toml: {difference}") :]
    )
    assert "hwnas kit RECIPE" in info.value.hint
    assert list(tmp_path.iterdir()) == []


def test_a_result_of_another_space_is_refused(kit: Kit, tmp_path: Path) -> None:
    with pytest.raises(
        MeasureError, match="space is 'chain' in the kit, 'toy' here; space_digest is .*entries_digest is"
    ):
        take_in(kit.path / RESULTS, FAMILIES["toy"].space, device=BOARD, folder=tmp_path, seed=5)
    assert list(tmp_path.iterdir()) == []


def without(result: dict[str, Any], *path: str) -> dict[str, Any]:
    part = result
    for name in path[:-1]:
        part = part[name]
    del part[path[-1]]
    return result


def test_a_damaged_result_is_refused_by_file_and_part(result: dict[str, Any], tmp_path: Path) -> None:
    path, folder = tmp_path / "r.jsonl", tmp_path / "tables"
    text = json.dumps(result)
    first = sorted(result["timings"])[0]
    for damaged, said in [
        (text[: len(text) // 2], "r.jsonl: cannot be read"),
        ("[1]", "r.jsonl: lacks schema, about"),
        (result | {"schema": 0}, "schema is 0; this version reads 1"),
        (json.dumps({"schema": 99}), "schema is 99, of a later hwnas; .*upgrade hwnas"),
        (result | {"about": None}, "does not say which kit it is of"),
        (without(json.loads(text), "timings"), "lacks timings"),
        (without(json.loads(text), "conditions", "machine"), "damaged: KeyError 'machine'"),
        (without(json.loads(text), "timings", first, "p25_us"), "damaged: TypeError .*p25_us"),
        (result | {"timings": {first: result["timings"][first] | {"p25_us": -1.0}}}, "damaged: p25_us is -1.0"),
    ]:
        with pytest.raises(MeasureError, match=said):
            taken(path, damaged, folder)
    with pytest.raises(MeasureError, match="there is no such results file"):
        take_in(tmp_path / "absent.jsonl", SPACE, device=BOARD, folder=folder)
    assert not folder.exists()


def test_a_result_that_was_too_noisy_is_refused(result: dict[str, Any], tmp_path: Path) -> None:
    noisy = result | {"verdict": "refused", "noise": result["noise"] | {"median": 0.07}}
    with pytest.raises(MeasureError, match=r"too noisy: .* differ by 7.0%"):
        taken(tmp_path / "r.jsonl", noisy, tmp_path / "tables")
    assert not (tmp_path / "tables").exists()


def test_a_model_that_failed_there_is_listed_and_the_others_are_kept(result: dict[str, Any], tmp_path: Path) -> None:
    key = convolution(5).key
    result["timings"].pop(key)
    result["failures"][key] = "no such kernel on this board"
    table = taken(tmp_path / "r.jsonl", result, tmp_path / "tables")
    assert table.missing(SPACE) == [key]
    assert table.header.failures == {key: "no such kernel on this board"}
    assert table.header.calibration is None


def small(folder: Path, *, device: Device = BOARD) -> Kit:
    return write_kit(SPACE, build, build_network, device=device, folder=folder, recipe="r.toml", rounds=2)


def test_a_folder_in_use_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(MeasureError, match="is there already; a kit needs a folder of its own") as info:
        small(tmp_path)
    assert "--out" in info.value.hint
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]


def test_a_kit_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    def refuse(_: Block | Architecture) -> nn.Module:
        raise ValueError("no such kernel")

    with pytest.raises(MeasureError, match="no block could be exported; the first: .*no such kernel"):
        write_kit(SPACE, refuse, refuse, device=BOARD, folder=tmp_path / "kit", recipe="r.toml")
    assert list(tmp_path.iterdir()) == []


def test_too_many_threads_are_told_there_and_then(kit: Kit, tmp_path: Path) -> None:
    job = json.loads((kit.path / "job.json").read_text()) | {"threads": 4096, "models": []}
    (tmp_path / "job.json").write_text(json.dumps(job))
    for name in ("measure.py", "measuring.py"):
        (tmp_path / name).write_bytes((kit.path / name).read_bytes())
    done = run_kit(tmp_path)
    assert done.returncode == 10
    assert done.stderr.startswith("threads is 4096; ")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / RESULTS).exists()


def test_an_old_python_on_the_board_is_told_its_version_and_no_syntax_error(tmp_path: Path) -> None:
    (tmp_path / "measure.py").write_text(LAUNCHER)
    (tmp_path / "measuring.py").write_text("this is what an old Python cannot read")
    for python in interpreters(tmp_path):
        done = run_kit(tmp_path, python)
        assert (done.returncode, done.stdout) == (1, "")
        assert re.fullmatch(
            r"This Python is [23]\.\d\.\d+; measuring needs 3\.9 or newer: run it with another one\n", done.stderr
        )


def interpreters(folder: Path) -> list[str]:
    """One that says it is 3.6, and those before 3.9 that are installed here."""
    old = folder / "python"
    old.write_text(
        f"#!/bin/sh\nexec {sys.executable} -c 'import runpy, sys\n"
        'sys.version_info = (3, 6, 9, "final", 0)\nrunpy.run_path(sys.argv[1])\' "$@"\n'
    )
    old.chmod(0o755)
    found = [shutil.which(f"python{version}") for version in ("2.7", "3.6", "3.7", "3.8")]
    there = [path for path in found if path and not subprocess.run([path, "-c", ""], capture_output=True).returncode]
    return [str(old), *there]


def test_a_missing_runtime_is_told_with_the_command(kit: Kit, tmp_path: Path) -> None:
    """A board where onnxruntime was forgotten: a module of that name, first on the path, that is not there."""
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['onnxruntime'] = None\n")
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "measure.py", "job.json", "other.jsonl"]
    done = subprocess.run(command, cwd=kit.path, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 11
    assert done.stderr == f"{sys.executable} has no module onnxruntime: {sys.executable} -m pip install onnxruntime\n"


@pytest.mark.slow
def test_a_board_that_has_only_numpy_and_onnxruntime(tmp_path: Path) -> None:
    """In a clean venv, of whose packages pip says what they are."""
    made = small(tmp_path / "kit")
    venv.create(tmp_path / "venv", with_pip=True)
    python = str(tmp_path / "venv" / "bin" / "python")
    versions = [f"{name}=={metadata.version(name)}" for name in ("numpy", "onnxruntime")]
    installed = subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *versions],
        capture_output=True,
        text=True,
        check=False,
    )
    if installed.returncode:
        pytest.skip(f"pip cannot install {versions} here: {installed.stderr.strip().splitlines()[-1]}")
    assert subprocess.run([python, "-c", "import torch"], capture_output=True, check=False).returncode
    done = run_kit(made.path, python)
    assert done.returncode == 0, done.stderr
    result = json.loads((made.path / RESULTS).read_text())
    result |= {"verdict": "noisy"} if result["verdict"] == "refused" else {}
    table = taken(made.path / RESULTS, result, tmp_path / "tables", seed=0)
    assert table.missing(SPACE) == []


def test_a_session_waits_for_its_kit_and_goes_on_when_asked_again(tmp_path: Path) -> None:
    """What a search does with its members when their device is reached by hand."""
    folder = tmp_path / "run" / "kit"
    models = {name: write_model(tmp_path / f"{name}.onnx", "Tanh") for name in ("a", "b")}

    def ask(*names: str) -> Measurement:
        return measure_models(
            {name: models[name] for name in names}, device=BOARD, rounds=2, on_noise="mark", by_hand=folder
        )

    for _ in range(2):  # asking twice changes nothing
        with pytest.raises(MeasureError, match="device board: is reached by hand, and 2 networks wait") as info:
            ask("a", "b")
        assert f"bring results.jsonl back into {folder}, and give the same command again" in info.value.hint
    assert f"into the folder `{folder}`" in (folder / "README.md").read_text()
    done = run_kit(folder)
    assert done.returncode == 0, done.stderr
    found = ask("a", "b")
    assert sorted(found.timings) == ["a", "b"]
    assert ask("a", "b") == found
    with pytest.raises(MeasureError, match="results.jsonl: of other networks than those") as info:
        ask("a")
    assert f"remove {folder}" in info.value.hint
    with pytest.raises(DeviceError, match='reach is "kit", so nothing can be measured on it from here'):
        measure_models(models, device=BOARD)


def test_members_timed_on_another_machine_than_the_table_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    architecture = Architecture({"depth": 1, "kernel1": 1})
    table = table_for(SPACE, architecture)
    machine = fingerprint().to_json() | {"cpu_model": "Another Board"}
    conditions = {"machine": machine, "onnxruntime": runtime_version()}
    session = Measurement({"reference 0": timing(20.0)}, {}, None, "quiet", 3.0, conditions)
    monkeypatch.setattr(remeasuring, "measure_models", lambda *_, **__: session)
    with pytest.raises(TableError, match="device.cpu_model is .* in the table, 'Another Board' in this run"):
        remeasure({}, table=table, device=BOARD, space=SPACE, build_network=build_network, by_hand=tmp_path)
