"""`hwnas check TABLE`: whether a latency table may be used on this machine."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from hwnas.cli import main
from hwnas.core import Architecture
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
