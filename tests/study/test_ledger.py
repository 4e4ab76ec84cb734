import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwnas.core import Budget
from hwnas.study.ledger import Ledger


@pytest.mark.parametrize(
    ("evaluations", "reserve", "allowed"), [(200, 0.1, 180), (30, 0.1, 27), (5, 0.1, 4), (1, 0.1, 1), (10, 0.0, 10)]
)
def test_the_reserve_is_rounded_up_but_leaves_one(evaluations: int, reserve: float, allowed: int) -> None:
    ledger = Ledger(Budget(evaluations=evaluations, reserve=reserve))
    ledger.open(keep_reserve=True)
    assert ledger.evaluations_left == allowed
    ledger.open(keep_reserve=False)
    assert ledger.evaluations_left == evaluations


@given(st.integers(1, 10**6), st.floats(0, 0.999))
def test_a_search_never_gets_more_than_there_is(evaluations: int, reserve: float) -> None:
    ledger = Ledger(Budget(evaluations=evaluations, reserve=reserve))
    ledger.open(keep_reserve=True)
    assert 1 <= ledger.evaluations_left <= evaluations


def test_texts_name_the_numbers() -> None:
    ledger = Ledger(Budget(evaluations=2000, minutes=5))
    assert ledger.evaluations_text() == "the budget of 2,000 evaluations is spent"
    assert ledger.refuse_time() == ""
    ledger.open(keep_reserve=True)
    assert ledger.evaluations_text() == (
        "the budget of 1,800 evaluations is spent (of 2,000; the rest is for the conclusion)"
    )
    ledger.seconds = 270.0
    assert ledger.refuse_time() == "the budget of 4.5 minutes is spent (4.5 used)"
    ledger.open_without_end()
    assert ledger.refuse_time() == ""
    assert ledger.evaluations_left == math.inf


def test_a_budget_of_minutes_alone_counts_no_evaluations() -> None:
    ledger = Ledger(Budget(minutes=1))
    ledger.evaluations = 10**6
    assert ledger.evaluations_left == math.inf
