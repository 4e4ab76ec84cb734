"""What a killed profile leaves, and what the next one makes of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from hwnas.core import MeasureError
from hwnas.profiling.exporting import block_source, export_all
from hwnas.profiling.journal import Journal
from tests.profiling.chain import STEM, build, convolution


def written(folder: Path) -> Journal:
    journal = Journal(folder, "one")
    for name in ("a", "b"):
        (folder / f"{name}.onnx").write_bytes(name.encode())
        journal.add(name, folder / f"{name}.onnx")
    return journal


def test_finished_files_are_found_again(tmp_path: Path) -> None:
    written(tmp_path / "j")
    again = Journal(tmp_path / "j", "one")
    assert (len(again), again.discarded) == (2, False)
    assert again.finished("a") == tmp_path / "j" / "a.onnx"
    assert again.finished("c") is None


def test_a_file_that_is_gone_or_another_is_not_finished(tmp_path: Path) -> None:
    written(tmp_path / "j")
    (tmp_path / "j" / "a.onnx").unlink()
    (tmp_path / "j" / "b.onnx").write_bytes(b"half")
    again = Journal(tmp_path / "j", "one")
    assert again.finished("a") is again.finished("b") is None


def test_another_identity_begins_afresh(tmp_path: Path) -> None:
    written(tmp_path / "j").rounds.write_text("rounds")
    again = Journal(tmp_path / "j", "two")
    assert (len(again), again.discarded) == (0, True)
    assert [path.name for path in (tmp_path / "j").iterdir()] == ["exports.jsonl"]


@pytest.mark.parametrize("tail", ['{"key": "c", "fi', '{"key": "c"}'])
def test_a_last_line_that_was_cut_off_is_dropped(tmp_path: Path, tail: str) -> None:
    path = written(tmp_path / "j").path
    whole = path.read_text()
    path.write_text(whole + tail)
    assert len(Journal(tmp_path / "j", "one")) == 2
    assert path.read_text() == whole


@pytest.mark.parametrize("damage", ["garbage", "[1]", '{"key": 1}', "{}"])
def test_a_damaged_line_elsewhere_is_refused_with_its_number(tmp_path: Path, damage: str) -> None:
    path = written(tmp_path / "j").path
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], damage, lines[2]]) + "\n")
    with pytest.raises(MeasureError, match=r"exports.jsonl: line 2 is damaged") as info:
        Journal(tmp_path / "j", "one")
    assert f"delete the folder {tmp_path / 'j'}" in info.value.hint


def test_removing_leaves_nothing(tmp_path: Path) -> None:
    written(tmp_path / "j").remove()
    assert list(tmp_path.iterdir()) == []


def test_only_what_is_not_finished_is_exported(tmp_path: Path) -> None:
    folder = tmp_path / "j"
    sources = {block.key: block_source(block, build) for block in (STEM, convolution(1))}
    first, _ = export_all(sources, folder, seed=0, journal=Journal(folder, "one"))
    first[STEM.key].unlink()
    times = {path: path.stat().st_mtime_ns for path in first.values() if path.exists()}
    journal = Journal(folder, "one")
    again, failures = export_all(sources, folder, seed=0, journal=journal)
    assert (again, failures, len(journal)) == (first, {}, 2)
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert again[STEM.key].is_file()
