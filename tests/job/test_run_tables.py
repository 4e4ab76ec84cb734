"""A run predicts by the tables that it began with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hwnas.core import StoreError
from hwnas.cost import LatencyTable, UnitSumCost
from hwnas.job.refitting import refit_members
from hwnas.job.run_tables import RunTables, runs_of
from tests.cost.test_refit import SPACE, table
from tests.cost.toy_space import flat_table
from tests.job.test_refitting import members


def begin(folder: Path, found: LatencyTable, name: str = "") -> None:
    tables = RunTables(None)
    tables.use(found, name)
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in tables.files().items():
        (folder / file).write_text(content)


def test_a_run_keeps_the_table_the_calibration_and_the_drift_it_began_with(tmp_path: Path) -> None:
    first = replace(table(), drift_spread=0.01)
    begin(tmp_path, first)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["calibration.json", "table.jsonl"]
    again = RunTables(tmp_path).own()
    assert again is not None and again.digest == first.digest
    assert again.drift_spread == 0.01
    assert UnitSumCost.from_table(SPACE, again).digest == UnitSumCost.from_table(SPACE, first).digest
    assert RunTables(None).own() is None, "a new run begins with the present table"


def test_a_run_of_before_there_were_copies_keeps_its_calibration(tmp_path: Path) -> None:
    begin(tmp_path, replace(table(), drift_spread=0.01))
    (tmp_path / "table.jsonl").unlink()
    learnt = refit_members(SPACE, table(), members(), path=tmp_path / "a.jsonl", run="other", holds=True)
    assert learnt.fitted is not None
    later = replace(table(), refitted=learnt.fitted[1], drift_spread=0.05)
    tables = RunTables(tmp_path)
    assert tables.own() is None
    assert tables.settled(later).calibration == table().calibration
    assert tables.settled(later).drift_spread == 0.01
    other = flat_table(SPACE)
    assert tables.settled(other).calibration == other.calibration, "of another table nothing is kept"


def test_tables_of_further_devices_have_files_of_their_own(tmp_path: Path) -> None:
    begin(tmp_path, table(), "pi4")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["calibration@pi4.json", "table@pi4.jsonl"]
    assert RunTables(tmp_path).own() is None
    assert RunTables(tmp_path).own("pi4") == table()


@pytest.mark.parametrize("file", ["calibration.json", "table.jsonl"])
def test_a_damaged_file_is_named_with_a_way_that_loses_nothing(tmp_path: Path, file: str) -> None:
    begin(tmp_path, table())
    (tmp_path / file).write_text("{}")
    with pytest.raises(StoreError, match=file) as caught:
        RunTables(tmp_path).own()
    assert "put" in caught.value.hint and "--fresh" not in caught.value.hint


def test_who_uses_a_table_is_known(tmp_path: Path) -> None:
    begin(tmp_path / "a", table())
    begin(tmp_path / "b", table())
    (tmp_path / "b" / "table.jsonl").unlink()
    begin(tmp_path / "c", replace(table(), header=table().header.model_copy(update={"tool_version": "other"})))
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "calibration.json").write_text("{")
    assert runs_of(table(), tmp_path) == {"a": True, "b": False}
