"""Checks first, then the first write: what a refused command leaves."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hwnas.core import StoreError
from hwnas.store import EpochRow, RunFolder, StepRow, Store


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, byte for byte."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def fill(folder: Path) -> None:
    with Store(folder) as store:
        store.set_header("identity", {"seed": 1})
        store.add_step(StepRow("search", 1, "once", "x", "d", 1))
        store.add_epochs([EpochRow("net", 1, "search", 2, 1, 60.0, "net@1")], lambda path: path.write_text("w"))


def test_holding_a_run_changes_nothing_and_tells_what_it_is(tmp_path: Path) -> None:
    fill(tmp_path)
    before = contents(tmp_path)
    with RunFolder(tmp_path) as held:
        held.keep("table.jsonl", "new")
        assert held.begun and held.header == {"identity": {"seed": 1}}
        assert held.paid_for == "1 epoch of training (1.0 minutes)"
        with pytest.raises(StoreError, match="this process"):
            RunFolder(tmp_path)
    assert contents(tmp_path) == before


def test_starting_over_is_done_when_it_is_opened_and_not_before(tmp_path: Path) -> None:
    fill(tmp_path)
    for name in ("front.json", "table.jsonl", "mine.txt", "members/a.onnx"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("old")
    before = contents(tmp_path)
    with RunFolder(tmp_path, fresh=True, files=("front.json", "table*.jsonl", "members")) as held:
        assert not held.begun
    assert contents(tmp_path) == before
    with RunFolder(tmp_path, fresh=True, files=("front.json", "table*.jsonl", "members")) as held:
        held.keep("table.jsonl", "new")
        with held.open() as store:
            assert store.header() == {}
    assert {name: text for name, text in contents(tmp_path).items() if name[0] != "." and "sqlite" not in name} == {
        "mine.txt": b"old",
        "table.jsonl": b"new",
    }


def test_a_run_that_goes_on_keeps_what_it_has(tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / "table.jsonl").write_text("old")
    with RunFolder(tmp_path) as held:
        held.keep("table.jsonl", "new")
        held.keep("calibration.json", "new")
        held.keep("recipe.toml", "new")
        with held.open() as store:
            store.begin_writing()
    assert (tmp_path / "table.jsonl").read_text() == "old"
    assert (tmp_path / "calibration.json").read_text() == "new"
    assert (tmp_path / "recipe.toml").read_text() == "new"


def test_a_run_is_as_it_was_until_its_replay_has_agreed(tmp_path: Path) -> None:
    """Then everything that waited is written, in its order."""
    fill(tmp_path)
    before = contents(tmp_path)
    with RunFolder(tmp_path) as held:
        held.keep("recipe.toml", "new")
        with held.open() as store:
            store.set_header("strategy", "a")
            store.add_event("search", 0, "note", "refused")
            assert store.header()["strategy"] == "a"
    assert contents(tmp_path) == before
    with RunFolder(tmp_path) as held:
        held.keep("recipe.toml", "new")
        with held.open() as store:
            store.set_header("strategy", "b")
            store.add_event("search", 0, "note", "first")
            store.add_step(StepRow("search", 9, "once", "x", "digest", 1))
            store.add_event("search", 9, "note", "second")
    with Store.snapshot(tmp_path) as stored:
        assert stored.header()["strategy"] == "b"
        assert [text for *_, text in stored.events()][-2:] == ["first", "second"]
        assert stored.step("search", 9) is not None
    assert (tmp_path / "recipe.toml").read_text() == "new"


def test_a_folder_that_was_made_for_nothing_is_taken_away(tmp_path: Path) -> None:
    with RunFolder(tmp_path / "runs" / "a"):
        assert (tmp_path / "runs" / "a").is_dir()
    assert list(tmp_path.iterdir()) == []
    with RunFolder(tmp_path / "runs" / "a") as held:
        held.open().close()
    assert (tmp_path / "runs" / "a" / "store.sqlite").exists()


def test_a_fresh_start_needs_no_whole_store(tmp_path: Path) -> None:
    (tmp_path / "store.sqlite").write_text("no database" * 500)
    with pytest.raises(StoreError, match="damaged or no store"):
        RunFolder(tmp_path)
    with RunFolder(tmp_path, fresh=True) as held, held.open() as store:
        assert store.header() == {}


def test_a_snapshot_of_a_killed_and_of_a_working_run_is_whole_and_touches_nothing(tmp_path: Path) -> None:
    """What they have written lies partly beside the file, in SQLite's log."""
    program = (
        "import os, signal, sys; from pathlib import Path; from hwnas.store import Store\n"
        "store = Store(Path(sys.argv[1]))\n"
        "for n in range(50): store.set_header(f'h{n}', n)\n"
        "print('ready', flush=True); sys.stdin.read()\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert child.stdout is not None and child.stdin is not None
    with child.stdin, child.stdout:
        assert child.stdout.readline() == "ready\n"
        before = contents(tmp_path)
        assert (tmp_path / "store.sqlite-wal").stat().st_size > 0
        with Store.snapshot(tmp_path) as stored:
            assert len(stored.header()) == 50
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    with Store.snapshot(tmp_path) as stored:
        assert len(stored.header()) == 50
    assert contents(tmp_path) == before
    with Store(tmp_path) as store:
        assert len(store.header()) == 50


def test_a_folder_without_a_store_has_an_empty_snapshot(tmp_path: Path) -> None:
    with Store.snapshot(tmp_path / "nothing") as stored:
        assert stored.header() == {} and stored.paid_for() == ""
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize("code", ["EROFS", "EACCES", "ENOSPC"])
def test_a_folder_that_cannot_be_written_is_refused_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    fill(tmp_path)
    before = contents(tmp_path)
    number = getattr(errno, code)

    def refuse(self: Path, *args: object, **options: object) -> None:
        raise OSError(number, os.strerror(number), str(self))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_text", refuse)
        with pytest.raises(
            StoreError, match=f"{tmp_path}: nothing can be stored there: .*{os.strerror(number)[1:]}"
        ) as c:
            RunFolder(tmp_path)
    assert c.value.hint
    assert contents(tmp_path) == before
    RunFolder(tmp_path).release()
