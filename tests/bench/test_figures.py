import io
import json
import math
from pathlib import Path

import pytest
from rich.console import Console

from tests.bench.__main__ import BENCHES, main
from tests.bench.figures import Bench, Measured, MissingDataError, Row, data_folder, need, save
from tests.bench.figures import run as run_parts

FAST = Row("time", 0.5, "ms", must=1.0, goal=0.5, better="lower")
SLOW = Row("time", 1.5, "ms", must=1.0, better="lower")
PLAIN = Row("for comparison", 3.0, "share")


def fixed(*rows: Row) -> Bench:
    return {"part": lambda data: Measured(rows, {"seeds": [0], "data": data.name})}


def run(arguments: list[str], benches: dict[str, Bench], folder: Path) -> tuple[int, str]:
    console = Console(width=200, record=True, file=io.StringIO())
    code = main(arguments, benches=benches, results=folder, console=console)
    return code, console.export_text()


@pytest.mark.parametrize(
    ("value", "better", "ok", "at_goal"),
    [
        (0.5, "higher", True, False),
        (0.49, "higher", False, False),
        (0.7, "higher", True, True),
        (0.7, "lower", False, False),
        (0.5, "lower", True, True),
        (math.nan, "higher", False, False),
        (math.inf, "higher", False, False),
    ],
)
def test_bounds_are_inclusive_and_nothing_that_is_not_finite_passes(
    value: float, better: str, ok: bool, at_goal: bool
) -> None:
    goal = 0.7 if better == "higher" else 0.5
    row = Row("f", value, "share", must=0.5, goal=goal, better="higher" if better == "higher" else "lower")
    assert (row.ok, row.at_goal) == (ok, at_goal)


def test_a_row_without_must_is_ok_unless_it_is_no_number() -> None:
    assert PLAIN.ok and PLAIN.at_goal
    assert not Row("f", math.nan, "share").ok


def test_file_holds_conditions_once_and_exactly_the_agreed_keys(tmp_path: Path) -> None:
    path = save("speed", Measured([FAST, Row("broken", math.nan, "ms")], {"seeds": [0, 1], "threads": 1}), tmp_path)
    content = json.loads(path.read_text())
    assert path.name == "speed.json"
    assert sorted(content) == ["conditions", "name", "rows"]
    assert content["rows"][0] == {
        "figure": "time",
        "value": 0.5,
        "unit": "ms",
        "must": 1.0,
        "goal": 0.5,
        "better": "lower",
        "ok": True,
    }
    assert content["rows"][1]["value"] is None and content["rows"][1]["ok"] is False
    assert {"cores", "cpu", "python", "numpy", "pymoo", "seeds", "threads"} <= set(content["conditions"])


def test_exit_code_says_whether_every_must_is_met(tmp_path: Path) -> None:
    benches = {"good": fixed(FAST, PLAIN), "bad": fixed(FAST, SLOW)}
    code, text = run(["good"], benches, tmp_path)
    assert code == 0 and "goal" in text and "FAILS" not in text and "good.json" in text
    code, text = run(["bad"], benches, tmp_path)
    assert code == 1 and "FAILS" in text
    assert (tmp_path / "bad.json").exists()


def test_missing_data_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HWNAS_BENCH_DATA", str(tmp_path / "nowhere"))
    assert data_folder() == tmp_path / "nowhere"

    def bench(data: Path) -> Measured:
        need(data / "weights.npz")
        return Measured([], {})

    code, text = run(["search"], {"search": {"part": bench}}, tmp_path)
    assert code == 2
    assert "bench search:" in text and "weights.npz is not there; set HWNAS_BENCH_DATA" in text
    assert not (tmp_path / "search.json").exists()
    with pytest.raises(MissingDataError, match="is not there"):
        need(tmp_path / "nothing")


def test_data_lies_beside_the_repository_unless_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HWNAS_BENCH_DATA", raising=False)
    assert data_folder().parts[-2:] == ("shared", "data")


@pytest.mark.parametrize("arguments", [[], ["serch"]])
def test_wrong_names_are_told_the_right_ones(arguments: list[str], tmp_path: Path) -> None:
    code, text = run(arguments, dict(BENCHES), tmp_path)
    assert code == 2 and "usage: python -m tests.bench NAME [PART ...]" in text and "search" in text


def of(figure: str, value: float) -> Measured:
    return Measured([Row(figure, value, "ms")], {"seed": 0})


def test_parts_are_selected_and_keep_their_conditions() -> None:
    bench: Bench = {"a": lambda data: of("f", 1.0), "b": lambda data: of("g", 2.0)}
    both, one = run_parts(bench, Path()), run_parts(bench, Path(), only=["b"])
    assert [row.value for row in both.rows] == [1.0, 2.0] and [row.value for row in one.rows] == [2.0]
    assert list(both.conditions) == ["a", "b"] and one.conditions["b"]["seed"] == 0
    assert {"seconds", "load", "date"} <= one.conditions["b"].keys()
    with pytest.raises(MissingDataError, match='no part "c"; known: a, b'):
        run_parts(bench, Path(), only=["c"])


def test_a_part_that_runs_alone_leaves_the_others_rows(tmp_path: Path) -> None:
    """Also those of its own earlier run go that have another name now."""
    names = iter(("f", "g"))
    bench: Bench = {"a": lambda data: of(next(names), 1.0), "b": lambda data: of("h", 2.0)}
    assert run([], {"x": bench}, tmp_path)[0] == 2
    assert run(["x"], {"x": bench}, tmp_path)[0] == 0
    code, text = run(["x", "a"], {"x": bench}, tmp_path)
    assert code == 0 and "h" not in text.split("bench x")[1].split("written")[0].split()
    content = json.loads((tmp_path / "x.json").read_text())
    assert sorted(row["figure"] for row in content["rows"]) == ["g", "h"]
    assert content["conditions"]["b"]["figures"] == ["h"]
    assert run(["x", "c"], {"x": bench}, tmp_path)[0] == 2


def test_rows_of_another_machine_or_version_are_not_kept(tmp_path: Path) -> None:
    bench: Bench = {"a": lambda data: of("f", 1.0), "b": lambda data: of("h", 2.0)}
    run(["x"], {"x": bench}, tmp_path)
    path = tmp_path / "x.json"
    path.write_text(path.read_text().replace('"cores": ', '"cores": 1'))
    run(["x", "a"], {"x": bench}, tmp_path)
    assert [row["figure"] for row in json.loads(path.read_text())["rows"]] == ["f"]
