"""Disks that are full and folders that can only be read: one line, the way out, and everything right afterwards."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from hwnas.core import StoreError, TableError
from hwnas.cost import LatencyTable
from hwnas.job import Front, profile, search
from hwnas.job.assembly import _kept
from tests.job.workspace import ignore_drift, run


@pytest.fixture(scope="module", autouse=True)
def any_drift() -> Iterator[None]:
    yield from ignore_drift()


@pytest.fixture
def workspace(finished_toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    threads = torch.get_num_threads()
    shutil.copytree(finished_toy, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    torch.set_num_threads(threads)


def refuse_writing(patched: pytest.MonkeyPatch, number: int, name: str) -> None:
    """Let the system refuse every file below a folder, as a full disk or one that can only be read does."""
    opened = Path.open

    def open_or_refuse(self: Path, mode: str = "r", *args: Any, **options: Any) -> Any:
        if name in self.absolute().parts and any(letter in mode for letter in "wax+"):
            raise OSError(number, os.strerror(number), str(self))
        return opened(self, mode, *args, **options)

    patched.setattr(Path, "open", open_or_refuse)


def test_the_front_of_a_run_that_can_only_be_read_is_shown(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    refuse_writing(monkeypatch, errno.EROFS, "runs")
    code, out, err = run(capsys, "front", "toy")
    assert code == 0, err
    assert "no picture: runs/toy/front.png: read-only file system" in out
    assert run(capsys, "pick", "toy")[0] == 0
    code, _, err = run(capsys, "search", "search/toy.toml")
    assert code == 2
    assert "error: runs/toy: nothing can be stored there: runs/toy/.lock-guard: read-only file system" in err
    assert "make the folder writable" in err


def test_a_profile_finds_out_before_it_measures_that_its_table_cannot_be_written(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), "/x")

    def measured(*args: object, **options: object) -> None:
        raise AssertionError("measured")

    monkeypatch.setattr("hwnas.core.files.TemporaryFile", refuse)
    monkeypatch.setattr("hwnas.job.assembly.measure_space", measured)
    with pytest.raises(TableError, match="the table could not be written: .*latency_tables: read-only file system"):
        profile(workspace / "search" / "toy.toml", root=workspace)


@pytest.mark.parametrize("name", ["checkpoints", "members"])
def test_a_run_goes_on_once_there_is_room(
    finished_toy: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    shutil.rmtree(workspace / "runs")
    with monkeypatch.context() as patched:
        if name == "checkpoints":

            def full(*args: object) -> None:
                raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 154368 vs 154256")

            patched.setattr(torch, "save", full)
        else:
            refuse_writing(patched, errno.ENOSPC, name)
        code, out, err = run(capsys, "search", "search/toy.toml")
    assert (code, out) == (2, "")
    assert name in err and "free some space, then run the same command again" in err
    assert "Traceback" not in err
    front = search(workspace / "search" / "toy.toml", root=workspace)
    expected = Front.load(finished_toy / "runs" / "toy")
    assert {m.architecture for m in front.members} == {m.architecture for m in expected.members}
    assert [m.metrics["accuracy"] for m in front.members] == [m.metrics["accuracy"] for m in expected.members]


def test_a_full_store_is_said_and_kept(workspace: Path) -> None:
    from hwnas.store import Store

    with Store(workspace / "runs" / "full") as store:
        store.set_header("identity", {})
        store._connection.execute("PRAGMA max_page_count = 1")
        with pytest.raises(StoreError, match="database or disk is full") as caught:
            store.set_header("x", "y" * 100_000)
        assert "what was stored is kept; free some space" in caught.value.hint


def test_who_uses_a_table_that_was_measured_again_is_told(workspace: Path) -> None:
    [path] = (workspace / "latency_tables").glob("*.jsonl")
    earlier = workspace / "latency_tables" / "earlier" / "a.jsonl"
    earlier.parent.mkdir()
    shutil.copyfile(path, earlier)
    line = _kept(earlier, workspace / "runs")
    assert line.endswith("runs that began with it go on with copies of their own: toy")
    (workspace / "runs" / "toy" / "table.jsonl").unlink()
    line = _kept(earlier, workspace / "runs")
    assert 'toy began with it and has no copy: to go on, write table = "latency_tables/earlier/a.jsonl"' in line
    table = LatencyTable.load(path)
    LatencyTable(table.header.model_copy(update={"tool_version": "other"}), table.rows).save(path)
    recipe = workspace / "search" / "toy.toml"
    recipe.write_text(f'table = "latency_tables/earlier/a.jsonl"\n{recipe.read_text()}')
    assert search(recipe, root=workspace).on_front


def test_one_bad_device_file_hides_no_other(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (workspace / "devices" / "bad.toml").write_text("threads = inf\n")
    code, out, err = run(capsys, "devices")
    assert code == 0, err
    assert "this-cpu" in out and "bad: devices/bad.toml: threads is inf; expected a finite number" in out
