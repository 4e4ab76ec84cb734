"""What `hwnas profile` and `hwnas kit` end with."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hwnas.cli.main import main
from hwnas.core import Architecture
from hwnas.profiling import Kit, Measurement, ProfileReport
from tests.profiling.chain import chain
from tests.profiling.models import table_for

TABLE = table_for(chain(), Architecture({"depth": 1, "kernel1": 3}))
REPORT = ProfileReport(TABLE, Path("a.jsonl"), 1.0, 5, Measurement({}, {}, None, "quiet", None, {}), {})
FAILED = {"conv 5": "no such kernel", "network 0a": "no such kernel"}


def ended(command: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[object, str]:
    with pytest.raises(SystemExit) as end:
        main(command)
    return end.value.code, capsys.readouterr().out


@pytest.mark.parametrize(
    ("failures", "code"),
    [({}, 0), ({"network 0a": "no such kernel"}, 0), (FAILED, 2)],
    ids=["none", "network", "block"],
)
def test_a_profile_in_which_blocks_failed_does_not_end_well(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], failures: dict[str, str], code: int
) -> None:
    monkeypatch.setattr("hwnas.job.profile", lambda *_, **__: replace(REPORT, failures=failures))
    found, out = ended(["profile", "search/quickstart.toml"], capsys)
    assert found == code
    assert ("incomplete, 1 block is missing: conv 5: no such kernel" in out) == (code == 2)
    found, out = ended(["profile", "search/quickstart.toml", "--json"], capsys)
    row: dict[str, Any] = json.loads(out)
    assert (found, row["failures"]) == (code, failures)


def test_a_profile_with_a_row_that_cannot_be_right_is_not_called_good(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    doubtful = {"conv 5": "takes 1.4e4 us; by its neighbours 12 to 13.9 us are to be expected"}
    for report, word in ((REPORT, "good"), (replace(REPORT, doubtful=doubtful), "doubtful")):
        monkeypatch.setattr("hwnas.job.profile", lambda *_, report=report, **__: report)
        _, out = ended(["profile", "search/quickstart.toml"], capsys)
        assert f"\n  {word}: " in out
        _, out = ended(["profile", "search/quickstart.toml", "--json"], capsys)
        row: dict[str, Any] = json.loads(out)
        assert row["verdict"].startswith(f"{word}: ")
        assert any("by its neighbours" in line for line in row["warnings"]) == (word == "doubtful")


def test_a_kit_that_lacks_blocks_does_not_end_well(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("hwnas.job.kit", lambda *_, **__: Kit(Path("kit"), 4, 1000, FAILED))
    found, out = ended(["kit", "search/quickstart.toml"], capsys)
    assert found == 2
    assert "incomplete, 1 block is missing: conv 5: no such kernel" in out
