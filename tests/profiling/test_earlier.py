"""A table that is measured again is kept."""

from __future__ import annotations

from pathlib import Path

from hwnas.cost import LatencyTable
from hwnas.cost.refit import refit, refit_path, save_refit, with_refit
from hwnas.profiling.earlier import keep_earlier
from tests.cost.test_refit import SPACE, records, table


def other() -> LatencyTable:
    found = table()
    return LatencyTable(found.header.model_copy(update={"tool_version": "other"}), found.rows)


def test_a_first_or_an_equal_table_takes_nobody_s_place(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    assert keep_earlier(path, table()) is None
    table().save(path)
    assert keep_earlier(path, LatencyTable.load(path)) is None
    assert [file.name for file in tmp_path.iterdir()] == ["a.jsonl"]


def test_another_table_is_kept_with_its_day_its_digest_and_its_refit(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    table().save(path)
    loaded = LatencyTable.load(path)
    save_refit(path, loaded, refit(SPACE, loaded, records()).calibration)
    content = path.read_bytes()
    kept = keep_earlier(path, other())
    assert kept == tmp_path / "earlier" / f"a--{loaded.header.created_utc:%Y-%m-%d}--{loaded.digest[:8]}.jsonl"
    assert kept.read_bytes() == content
    assert with_refit(kept, LatencyTable.load(kept)).refitted is not None
    assert refit_path(path).exists(), "it belongs to the table of that digest, whose place is taken only now"
    assert keep_earlier(path, other()) == kept, "once more changes nothing"
    assert len(list(kept.parent.iterdir())) == 2


def test_a_damaged_table_is_kept_too(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("{")
    kept = keep_earlier(path, table())
    assert kept is not None and kept.read_text() == "{"
