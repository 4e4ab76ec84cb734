"""Results files: what is written, what a hand that writes into them changes, and when their rows are stale."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from hwnas.core import DataError
from tests.bench import result_files
from tests.bench.__main__ import BENCHES, RESULTS, main
from tests.bench.figures import Bench, Measured, Null, Row, run
from tests.bench.problems import HELD_OUT_PARTS
from tests.bench.result_files import STAMPED, load, save, stale, write
from tests.bench.sources import sources_of


def measured(value: float, name: str = "f") -> Measured:
    row = Row(name, value, "ms", must=1.0, better="lower", null=Null("at random", 9.0))
    return Measured([row], {"device": "none"}, given="nothing", seeds=3, threads=1)


def one(data: Path) -> Measured:
    return measured(0.5)


def two(data: Path) -> Measured:
    return measured(0.25, "g")


BENCH: Bench = {"one": one, "two": two}


def saved(folder: Path, *parts: str, bench: Bench = BENCH, held_out: tuple[str, ...] = ()) -> dict[str, Any]:
    for part in parts:
        save("x", {part: run(bench[part], Path())}, folder, bench=bench, held_out=held_out)
    return load(folder / "x.json")


def test_every_row_carries_where_it_comes_from(tmp_path: Path) -> None:
    content = saved(tmp_path, "one")
    assert sorted(content) == ["conditions", "name", "rows"]
    [row] = content["rows"]
    assert {
        key: row[key] for key in ("part", "figure", "value", "unit", "must", "goal", "better", "ok", "verdict")
    } == {
        "part": "one",
        "figure": "f",
        "value": 0.5,
        "unit": "ms",
        "must": 1.0,
        "goal": None,
        "better": "lower",
        "ok": True,
        "verdict": "ok",
    }
    assert all(row[key] is not None for key in STAMPED)
    assert row["null"] == {"name": "at random", "value": 9.0} and row["contender"] == "ours" and row["seeds"] == 3
    told = content["conditions"]["one"]
    assert {"date", "seconds", "load", "device", "environment", "sources", "inputs"} <= told.keys()
    assert {"cpu", "python", "numpy", "pymoo"} <= told["environment"].keys()
    assert "tests.bench.test_result_files" in told["sources"]


def test_a_part_that_runs_alone_leaves_the_rows_of_the_others(tmp_path: Path) -> None:
    saved(tmp_path, "one", "two")
    content = saved(tmp_path, "one", bench={"one": two, "two": two})
    assert [(row["part"], row["figure"]) for row in content["rows"]] == [("one", "g"), ("two", "g")]
    assert list(content["conditions"]) == ["one", "two"]


def test_rows_of_a_part_that_is_gone_go_with_the_next_save(tmp_path: Path) -> None:
    saved(tmp_path, "one", "two")
    assert [row.part for row in stale(tmp_path, {"x": {"one": one}})] == ["two"]
    content = saved(tmp_path, "one", bench={"one": one})
    assert [row["part"] for row in content["rows"]] == ["one"] and list(content["conditions"]) == ["one"]


def test_nobody_writes_into_a_file_unseen(tmp_path: Path) -> None:
    saved(tmp_path, "one")
    path = tmp_path / "x.json"
    path.write_text(path.read_text().replace('"value": 0.5', '"value": 0.4'))
    for act in (lambda: load(path), lambda: saved(tmp_path, "two"), lambda: stale(tmp_path, {"x": BENCH})):
        with pytest.raises(DataError, match=r"x\.json: its checksum is \w+, its content's is \w+"):
            act()
    content = json.loads(path.read_text())
    content["conditions"]["one"]["merged"] = "by hand"
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match="checksum"):
        load(path)


def test_a_second_run_of_a_held_out_part_shows(tmp_path: Path) -> None:
    values = iter((0.5, 0.4, 0.3))
    bench: Bench = {"one": lambda data: measured(next(values))}
    for _ in range(3):
        content = saved(tmp_path, "one", bench=bench, held_out=("one",))
    [row] = content["rows"]
    assert row["value"] == 0.3 and [old["value"] for old in row["earlier"]] == [0.5, 0.4]
    assert content["conditions"]["one"]["held_out"] is True
    assert "earlier" not in saved(tmp_path / "b", "one", "one", bench=BENCH)["rows"][0]


def test_rows_are_stale_once_their_code_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(tmp_path, "one", "two")
    assert stale(tmp_path, {"x": BENCH}) == []
    assert [(s.part, s.rows) for s in stale(tmp_path, {"x": {**BENCH, "three": one}})] == [("three", 0)]
    changed = "tests.bench.figures"

    def later(part: object) -> dict[str, str]:
        return sources_of(part) | ({changed: "0"} if part is one else {})

    monkeypatch.setattr(result_files, "sources_of", later)
    [found] = stale(tmp_path, {"x": BENCH})
    assert found.part == "one" and found.reason.startswith("changed since ") and changed in found.reason


def test_rows_are_stale_once_a_file_that_they_depend_on_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(result_files, "ROOT", tmp_path)
    recipe = tmp_path / "recipe.toml"
    recipe.write_text("epochs = 1")

    def part(data: Path, *, file: Path) -> Measured:
        return Measured([Row("f", 1.0, "ms")], {}, given="nothing", seeds=1, threads=1, inputs=(file,))

    bench: Bench = {"one": partial(part, file=recipe)}
    saved(tmp_path, "one", bench=bench)
    assert stale(tmp_path, {"x": bench}) == []
    recipe.write_text("epochs = 2")
    assert [found.reason.partition(": ")[2] for found in stale(tmp_path, {"x": bench})] == ["recipe.toml"]


def test_rows_that_do_not_say_where_they_come_from_are_stale(tmp_path: Path) -> None:
    content = saved(tmp_path, "one")
    content["rows"][0]["commit"] = content["rows"][0]["given"] = None
    write(tmp_path / "x.json", content)
    assert [found.reason for found in stale(tmp_path, {"x": {"one": one}})] == ["commit, given unknown"]


def test_the_command_lists_what_is_stale(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved(tmp_path, "one")
    assert main(["--stale"], benches={"x": BENCH}, results=tmp_path) == 1
    assert "x two: no rows; never run" in capsys.readouterr().out
    saved(tmp_path, "two")
    assert main(["--stale", "x"], benches={"x": BENCH}, results=tmp_path) == 0
    assert "nothing is stale" in capsys.readouterr().out


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.json")), ids=lambda path: path.stem)
def test_the_files_of_this_repository_were_written_by_save(path: Path) -> None:
    content = load(path)
    assert content["name"] == path.stem in BENCHES
    assert {row["part"] for row in content["rows"]} <= set(content["conditions"])
    for row in content["rows"]:
        unknown = [key for key in STAMPED if row.get(key) is None]
        judged = row["must"] is not None or row["goal"] is not None
        assert unknown or not judged or row["null"], f"{row['figure']}: judged without a null contender"


def test_held_out_parts_are_parts() -> None:
    assert set(HELD_OUT_PARTS) <= set(BENCHES["search"])
