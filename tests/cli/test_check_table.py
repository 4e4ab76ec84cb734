"""`hwnas check TABLE`: whether a latency table may be used on this machine."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from hwnas.cli import main
from hwnas.core import Architecture
from hwnas.cost import LatencyTable
from tests.profiling.chain import chain
from tests.profiling.models import table_for

TABLE = table_for(chain(), Architecture({"depth": 1, "kernel1": 3}))


def test_a_table_of_this_machine_is_told_and_one_of_another_refused_unless_allowed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here, other = tmp_path / "here.jsonl", tmp_path / "other.jsonl"
    TABLE.save(here)
    device = TABLE.header.device.model_copy(update={"cpu_model": "Another CPU"})
    replace(TABLE, header=TABLE.header.model_copy(update={"device": device})).save(other)

    with pytest.raises(SystemExit) as end:
        main(["check", str(here), "--json"])
    assert (end.value.code, json.loads(capsys.readouterr().out)["mismatches"]) == (0, [])

    with pytest.raises(SystemExit) as end:
        main(["check", str(other)])
    said = capsys.readouterr()
    assert (end.value.code, said.out) == (2, "")
    assert "device.cpu_model is 'Another CPU' in the table" in said.err
    assert "hwnas profile RECIPE" in said.err
    assert "--allow-mismatch" in said.err

    with pytest.raises(SystemExit) as end:
        main(["check", str(other), "--allow-mismatch", "--json"])
    [line] = json.loads(capsys.readouterr().out)["mismatches"]
    assert end.value.code == 0
    assert line.startswith("device.cpu_model is 'Another CPU' in the table")


def test_a_damaged_table_is_refused_with_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "t.jsonl"
    TABLE.save(path)
    lines = path.read_text().splitlines()
    lines[2] = "garbage"
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(SystemExit) as end:
        main(["check", str(path)])
    assert end.value.code == 2
    assert "t.jsonl: line 3: is not JSON" in capsys.readouterr().err


def shipped() -> LatencyTable:
    [path] = (Path(__file__).parents[2] / "latency_tables").glob("amd-epyc-vm--onnxruntime-cpu--mobilenet_v3-522a61*")
    return LatencyTable.load(path)


def longer(table: LatencyTable, key: str, factor: float) -> LatencyTable:
    row = table.rows[key]
    return replace(table, rows={**table.rows, key: replace(row, p25_us=row.p25_us * factor)})


@pytest.mark.parametrize(
    ("factor", "reason"),
    [(1000.0, "by its neighbours"), (5.0, "measured networks speak for about")],
    ids=["neighbours", "networks"],
)
def test_a_table_with_a_row_that_cannot_be_right_says_so_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], factor: float, reason: str
) -> None:
    table, path = shipped(), tmp_path / "t.jsonl"
    key = max((key for key in table.rows if key.startswith("stem")), key=lambda key: table.rows[key].p25_us)
    for one, doubtful, word in ((table, [], "good"), (longer(table, key, factor), [key], "doubtful")):
        one.save(path)
        with pytest.raises(SystemExit):
            main(["check", str(path), "--allow-mismatch", "--json"])
        row = json.loads(capsys.readouterr().out)
        assert list(row["doubtful"]) == doubtful
        assert row["verdict"].startswith(f"{word}: ")
        assert row["lines"][2] == f"  {row['verdict']}"
        assert any(reason in line for line in row["lines"]) == bool(doubtful)


def test_a_table_of_a_space_that_its_header_does_not_build_says_what_was_not_looked_at(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "t.jsonl"
    TABLE.save(path)
    with pytest.raises(SystemExit):
        main(["check", str(path)])
    out = capsys.readouterr().out
    assert "whether its measured networks contradict a row was not looked at: its header does not say what" in out
