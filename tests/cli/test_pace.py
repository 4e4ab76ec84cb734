from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwnas.cli.pace import Pace, in_words


def test_the_time_left_is_what_the_same_speed_needs() -> None:
    pace = Pace(100.0)
    for done in range(1, 6):
        pace.at(100.0 + 2 * done, done, 20)
    assert pace.share() == 0.25
    assert pace.left_s(110.0) == pytest.approx(30.0)
    assert pace.left_s(125.0) == pytest.approx(15.0), "a slow step counts down too"
    assert pace.left_s(1000.0) == 0.0


def test_what_was_there_before_does_not_count_for_the_speed() -> None:
    pace = Pace(0.0)
    pace.at(1.0, 80, 100)
    assert (pace.share(), pace.left_s(1.0), pace.left_in_words(1.0)) == (0.8, None, "1.0 s so far")
    pace.at(11.0, 81, 100)
    assert pace.left_s(11.0) == pytest.approx(190.0)


def test_a_quick_beginning_is_forgotten() -> None:
    pace = Pace(0.0)
    for done in range(1, 101):  # answered from what is stored
        pace.at(done / 100, done, 200)
    for done in range(101, 151):
        pace.at(1.0 + 10 * (done - 100), done, 200)
    assert pace.left_s(501.0) == pytest.approx(500.0, rel=0.05)


def test_a_stage_of_several_parts_begins_anew_with_each() -> None:
    pace = Pace(0.0)
    pace.at(1.0, 1, 2)
    pace.at(2.0, 2, 2)
    pace.at(3.0, 1, 1000)
    assert pace.left_s(3.0) is None
    pace.at(4.0, 2, 1000)
    assert pace.left_s(4.0) == pytest.approx(998.0)


@given(st.lists(st.tuples(st.floats(0, 1e5), st.floats(0, 1e6), st.floats(0, 1e6)), max_size=20), st.floats(0, 1e6))
def test_whatever_is_told_the_words_are_short(told: list[tuple[float, float, float]], later: float) -> None:
    pace, now = Pace(0.0), 0.0
    for passed, done, total in told:
        now += passed
        pace.at(now, done, total)
    left = pace.left_s(now + later)
    assert left is None or left >= 0
    assert len(pace.share_in_words()) <= 4


@given(st.floats(0, 99 * 3600))
def test_a_duration_has_at_most_eight_characters(seconds: float) -> None:
    assert len(in_words(seconds)) <= 8
