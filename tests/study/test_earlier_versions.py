"""Runs as commit f4c33ea stored them: what can go on does, and the rest is refused with a way out and as it was."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from hwnas.core import Budget, ReplayError
from hwnas.strategies import Nat, Nsga2, RandomSearch
from hwnas.study import Strategy, Study
from hwnas.testing import toy201

STORED = Path(__file__).parent / "f4c33ea"
NSGA2 = Nsga2(population=6)
NAT = Nat(initial=6, per_iteration=2, population=8, generations=2)
AS_THEN = Nat(initial=6, per_iteration=2, population=8, generations=2, adapt_epochs=0)


def opened(name: str, folder: Path) -> Study:
    """A study on such a run: its header, steps and evaluations, written by that commit and dumped as text."""
    if not (folder / "store.sqlite").exists():
        with closing(sqlite3.connect(folder / "store.sqlite")) as connection:
            connection.executescript((STORED / f"{name}.sql").read_text())
    return toy201().study(budget=Budget(evaluations=6 if name == "ended" else 16), folder=folder)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, byte for byte, but for the lock."""
    return {p.name: p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file() and "lock" not in p.name}


@pytest.mark.parametrize(("name", "strategy", "known"), [("nsga2", NSGA2, 12), ("nat", AS_THEN, 8)])
def test_a_stopped_run_goes_on_and_keeps_what_was_paid_for(
    tmp_path: Path, name: str, strategy: Strategy, known: int
) -> None:
    with opened(name, tmp_path) as study:
        before = [e.architecture for e in study._store.evaluations()]
        outcome = study.run(strategy)
    assert len(before) == known
    assert [e.architecture for e in outcome.evaluations][:known] == before
    assert len(outcome.evaluations) == 16
    assert outcome.notes[0].startswith("the run began under an earlier version of hwnas; ")
    with opened(name, tmp_path) as study:  # told once, and from now on known by its version
        assert study._store.header()["strategy"]["versions"] == {type(strategy).__name__: 1}
        assert study.run(strategy).finished_before


def test_a_default_that_changed_is_refused_with_the_line_to_set(tmp_path: Path) -> None:
    opened("nat", tmp_path).close()
    before = contents(tmp_path)
    with pytest.raises(ReplayError) as refused:
        opened("nat", tmp_path).run(NAT)
    assert "adapt_epochs in [strategy] was 0 by default when it began" in str(refused.value)
    assert "set adapt_epochs = 0 in [strategy]; hwnas front shows what it has found so far" in str(refused.value.hint)
    assert contents(tmp_path) == before


def test_a_strategy_that_asks_for_something_else_is_found_by_the_replay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened("nsga2", tmp_path).close()
    before = contents(tmp_path)
    monkeypatch.setattr(Nsga2, "search", lambda self, study: RandomSearch().search(study))
    with pytest.raises(
        ReplayError, match="step 1 of search asked for evaluate: 4 at 'full'; the stored run"
    ) as refused:
        opened("nsga2", tmp_path).run(NSGA2)
    assert str(refused.value.hint) == (
        "another version of hwnas began this run, and can finish it; hwnas front shows what it has found so far; to "
        "keep both, take another name; --fresh starts over and throws away 12 evaluations"
    )
    assert contents(tmp_path) == before


def test_a_finished_run_is_opened_by_the_recipe_that_made_it(tmp_path: Path) -> None:
    """The defaults that have changed since are not used any more."""
    strategy = Nat(initial=4, per_iteration=2, population=8, generations=2)
    opened("ended", tmp_path).close()
    before = contents(tmp_path)
    with opened("ended", tmp_path) as study:
        outcome = study.run(strategy)
    assert outcome.finished_before and len(outcome.evaluations) == 6
    assert contents(tmp_path) == before
