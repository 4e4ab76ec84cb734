import io
import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from tests.bench.__main__ import BENCHES, main
from tests.bench.figures import (
    TIME,
    Arrival,
    Bench,
    Measured,
    MissingDataError,
    Null,
    Row,
    arrivals,
    data_folder,
    mean_count,
    mean_of,
    need,
)
from tests.bench.figures import run as run_part

FAST = Row("time", 0.5, "ms", must=1.0, goal=0.5, better="lower", null=TIME)
SLOW = Row("time", 1.5, "ms", must=1.0, better="lower", null=TIME)
EASY = Row("share", 0.9, "share", must=0.5, null=Null("at random", 0.6))
PLAIN = Row("for comparison", 3.0, "share")


def of(*rows: Row) -> Measured:
    return Measured(rows, {}, given="nothing", seeds=2, threads=1, few="made up")


def fixed(*rows: Row) -> Bench:
    return {"part": lambda data: of(*rows)}


def run(arguments: list[str], benches: Mapping[str, Bench], folder: Path) -> tuple[int, str]:
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
    row = Row("f", value, "share", must=0.5, goal=goal, better="higher" if better == "higher" else "lower", null=TIME)
    assert (row.ok, row.at_goal) == (ok, at_goal)


def test_a_row_without_must_is_ok_unless_it_is_no_number() -> None:
    assert PLAIN.ok and PLAIN.at_goal and not PLAIN.verdict
    nothing = Row("f", math.nan, "share")
    assert not nothing.ok and nothing.verdict == "no number"


@pytest.mark.parametrize(
    ("row", "verdict"),
    [
        (FAST, "goal"),
        (SLOW, "FAILS"),
        (EASY, "void"),
        (Row("f", 0.4, "share", must=0.5, null=Null("at random", 0.6)), "void"),
        (Row("f", 0.9, "share", must=0.5, goal=0.8, null=Null("at random", 0.4)), "goal"),
        (Row("f", 0.7, "share", goal=0.8, null=Null("at random", 0.4)), "below goal"),
        (Row("f", 0.9, "share", goal=0.5, null=Null("at random", 0.6)), "void"),
        (Row("f", 0.9, "share", must=0.5, null=Null("at random", 0.4)), "ok"),
        (Row("f", 0.9, "share", must=0.5, null=Null("never there", math.nan)), "ok"),
    ],
)
def test_a_bound_that_the_null_contender_meets_is_no_bound(row: Row, verdict: str) -> None:
    assert row.verdict == verdict


def test_a_goal_that_the_null_contender_meets_is_not_reached() -> None:
    row = Row("f", 0.9, "share", must=0.5, goal=0.45, null=Null("at random", 0.47))
    assert row.ok and not row.at_goal and row.verdict == "ok"


def test_a_bound_asks_for_a_null_contender_that_is_not_judged_itself() -> None:
    with pytest.raises(ValueError, match="expected what a null contender reaches, or why there is none"):
        Row("f", 0.9, "share", must=0.5)
    with pytest.raises(ValueError, match="never judged"):
        Row("f", 0.9, "share", goal=0.5, null="x", contender="null")


def test_a_mean_over_seeds_has_to_hold_with_two_standard_errors_to_spare() -> None:
    values = [0.5, 0.6, 0.7]
    error = 0.1 / math.sqrt(3)
    row = mean_of("f", values, "share", must=0.6 - 2.01 * error, null=Null("at random", 0.0))
    assert row.ok and row.error == pytest.approx(error) and row.seeds == 3
    assert not mean_of("f", values, "share", must=0.6 - 1.99 * error, null=Null("at random", 0.0)).ok
    assert not mean_of("f", values, "share", "lower", must=0.6 + 1.99 * error, null=Null("at random", 9.0)).ok
    assert mean_of("f", values[:2], "share").error is None


def test_runs_that_all_arrive_have_a_mean() -> None:
    runs = [Arrival(10.0, 0.99), Arrival(20.0, 1.0), Arrival(30.0, 0.99)]
    rows = {row.figure: row for row in arrivals("count", runs, "evaluations", must=40, null=Null("at random", 99.0))}
    assert rows["count: runs that arrive, of 3"].value == 3
    assert rows["count, mean"].value == mean_count(runs) == 20 and rows["count, mean"].ok
    assert rows["count, 95th percentile"].value == pytest.approx(29)


def test_runs_that_never_arrive_make_no_number_that_reads_like_a_result() -> None:
    runs = [Arrival(10.0, 0.99), Arrival(None, 0.5)]
    rows = {row.figure: row for row in arrivals("count", runs, "evaluations")}
    assert set(rows) == {"count: runs that arrive, of 2", "count: share at the end, mean"}
    assert rows["count: runs that arrive, of 2"].value == 1
    assert rows["count: share at the end, mean"].value == pytest.approx(0.745)
    judged = arrivals("count", runs, "evaluations", must=40, null=Null("at random", 99.0))[-1]
    assert judged.to_json()["value"] is None and judged.verdict == "FAILS"
    assert mean_count(runs) == math.inf


def test_every_row_says_what_it_was_given_and_how_many_seeds_it_is_of() -> None:
    told = run_part(lambda data: of(PLAIN, Row("own", 1.0, "ms", given="all", seeds=5)), Path()).measured.rows
    assert [(row.given, row.seeds) for row in told] == [("nothing", 2), ("all", 5)]
    with pytest.raises(ValueError, match="for comparison: given is '' and seeds 2; expected both"):
        run_part(lambda data: Measured([PLAIN], {}, given="", seeds=2, threads=1), Path())
    with pytest.raises(ValueError, match="seeds 0"):
        run_part(lambda data: Measured([PLAIN], {}, given="nothing", seeds=0, threads=1), Path())


def test_what_is_judged_has_three_seeds_or_says_why_fewer_are_enough() -> None:
    def of_seeds(seeds: int, few: str = "", row: Row = EASY) -> list[Row]:
        return list(
            run_part(
                lambda data: Measured([row], {}, given="all", seeds=seeds, threads=1, few=few), Path()
            ).measured.rows
        )

    with pytest.raises(ValueError, match="share: it is judged by 2 seeds; expected 3, or why fewer are enough"):
        of_seeds(2)
    assert of_seeds(3)[0].few == of_seeds(3, "one machine")[0].few == ""
    assert of_seeds(2, "one machine")[0].to_json()["few"] == "one machine"
    assert of_seeds(1, row=replace(EASY, few="exact"))[0].few == "exact"
    assert of_seeds(1, row=PLAIN)[0].few == ""


def test_exit_code_says_whether_every_must_is_met(tmp_path: Path) -> None:
    benches = {"good": fixed(FAST, PLAIN, EASY), "bad": fixed(FAST, SLOW)}
    code, text = run(["good"], benches, tmp_path)
    assert code == 0 and "goal" in text and "void" in text and "FAILS" not in text and "good.json" in text
    code, text = run(["bad"], benches, tmp_path)
    assert code == 1 and "FAILS" in text
    assert (tmp_path / "bad.json").exists()


def test_missing_data_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HWNAS_BENCH_DATA", str(tmp_path / "nowhere"))
    assert data_folder() == tmp_path / "nowhere"

    def bench(data: Path) -> Measured:
        need(data / "weights.npz")
        return of()

    code, text = run(["search"], {"search": {"part": bench}}, tmp_path)
    assert code == 2
    assert "bench search:" in text and "weights.npz is not there; set HWNAS_BENCH_DATA" in text
    assert not (tmp_path / "search.json").exists()
    with pytest.raises(MissingDataError, match="is not there"):
        need(tmp_path / "nothing")


def test_data_lies_beside_the_repository_unless_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HWNAS_BENCH_DATA", raising=False)
    assert data_folder().parts[-2:] == ("shared", "data")


@pytest.mark.parametrize("arguments", [[], ["serch"], ["--stale", "serch"]])
def test_wrong_names_are_told_the_right_ones(arguments: list[str], tmp_path: Path) -> None:
    code, text = run(arguments, BENCHES, tmp_path)
    assert code == 2 and "search" in text


def broken(data: Path) -> Measured:
    raise MissingDataError("the second part has no data")


def good(data: Path) -> Measured:
    return of(FAST)


def test_each_part_is_written_when_it_is_done(tmp_path: Path) -> None:
    bench: Bench = {"a": good, "b": broken}
    code, text = run(["x"], {"x": bench}, tmp_path)
    assert code == 2 and "no data" in text
    assert [row["part"] for row in json.loads((tmp_path / "x.json").read_text())["rows"]] == ["a"]
    assert run(["x", "c"], {"x": bench}, tmp_path) == (2, 'bench x: there is no part "c"; known: a, b\n')
