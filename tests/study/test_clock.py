"""A computer whose clock is set back: no step takes negative time, and a budget of minutes counts right."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from hwnas.core import Budget
from hwnas.study import Study
from tests.study.toys import TINY, Numbers, Program, Ticking, asking, study

ALL = list(TINY.enumerate())


@dataclass
class Jumping:
    """A clock of which each reading is a second after the last, or an hour before it from some reading on."""

    at: int
    seconds: float = 7200.0
    readings: int = 0

    def __call__(self) -> float:
        self.readings += 1
        self.seconds += -3600.0 if self.readings == self.at else 1.0
        return self.seconds


def everything(searched: Study) -> None:
    searched.evaluate(ALL[:2])
    searched.train("net", {"net": Numbers()}, lambda k, rng: k, 2)
    searched.once("x", lambda rng: 1)


@pytest.mark.parametrize("at", range(2, 11))
def test_a_clock_that_is_set_back_in_a_step_takes_nothing_off(tmp_path: Path, at: int) -> None:
    """Two evaluations, two epochs and a computation of one second each; the step in which it jumps counts as 0."""
    with study(folder=tmp_path, clock=Jumping(at)) as searched:
        outcome = searched.run(Program(everything))
        assert all(evaluation.seconds in (0.0, 1.0) for evaluation in outcome.evaluations)
        assert searched.seconds_of("net") in (1.0, 2.0)
    within = at % 2 == 0  # each step reads the clock when it begins and when it ends
    assert outcome.seconds == (4.0 if within else 5.0)


@pytest.mark.parametrize("start", [0.0, -1e9, 1e9])
def test_minutes_add_up_over_sittings_whatever_the_clock_says_in_the_second(tmp_path: Path, start: float) -> None:
    """Three evaluations of a second in each sitting, of four that the budget allows."""
    budget = Budget(minutes=4 / 60)

    def three(searched: Study) -> None:
        searched.evaluate(ALL[:3])
        if sitting == 1:
            raise KeyboardInterrupt
        searched.evaluate(ALL[3:6])

    sitting = 1
    with study(folder=tmp_path, budget=budget, clock=Ticking()) as searched, pytest.raises(KeyboardInterrupt):
        searched.run(Program(three))
    sitting = 2
    ticking = Ticking()
    with study(folder=tmp_path, budget=budget, clock=lambda: start + ticking()) as searched:
        outcome = searched.run(Program(three))
    assert len(outcome.evaluations) == 4
    assert outcome.seconds == 4.0
    assert outcome.reason == "the budget of 0.06667 minutes is spent (0.06667 used)"


@pytest.mark.parametrize("name", ["time", "time_ns"])
def test_the_time_of_day_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """By default durations come from a clock that nobody can set."""

    def refused() -> float:
        raise AssertionError(f"time.{name} was read")

    read: Callable[[], float] = refused
    monkeypatch.setattr(time, name, read)
    with study(folder=tmp_path, budget=Budget(minutes=1)) as searched:
        outcome = searched.run(Program(asking(ALL[:3])))
    assert 0 <= outcome.seconds < 60
