"""Scores: what is believed of those that were not bought, and when a purchase pays."""

import numpy as np
import pytest
from numpy.typing import NDArray

from hwnas.core import Evaluation, Metric
from hwnas.space import Codes, Decision, Space
from hwnas.strategies.buying import BoughtScore, purchase

SPACE = Space("line", (Decision("n", tuple(range(20))),))
NETWORKS = list(SPACE.enumerate())
CODES = SPACE.encode(NETWORKS)


def look(codes: Codes) -> NDArray[np.float64]:
    return codes.astype(np.float64) / 10


def scored(n: int, value: float | None) -> Evaluation:
    if value is None:
        return Evaluation(NETWORKS[n], {}, status="failed", reason="no", fidelity="early")
    return Evaluation(NETWORKS[n], {"early": Metric(value, "", "measured")}, fidelity="early")


def test_bought_scores_are_certain_and_others_are_in_doubt() -> None:
    values = {n: 0.1 * n for n in (0, 4, 8, 12, 16, 19)}
    evaluations = [*(scored(n, value) for n, value in values.items()), scored(5, None)]
    score = BoughtScore.learn("early", evaluations, SPACE, look, (1,), None)
    assert score is not None
    mean, deviation = score.estimate(CODES, look(CODES))
    y = np.array(list(values.values()))
    assert mean[list(values)] == pytest.approx((y - y.mean()) / y.std())
    assert (deviation[list(values)] == 0).all() and (np.delete(deviation, list(values)) > 0).all()
    assert mean[10] * y.std() + y.mean() == pytest.approx(1.0, abs=0.1)
    assert np.flatnonzero(score.bought(CODES)).tolist() == sorted([*values, 5]), "a failure is not bought again"


def test_nothing_is_learned_of_equal_scores() -> None:
    assert BoughtScore.learn("early", [scored(n, 0.5) for n in range(4)], SPACE, look, (1,), None) is None
    assert BoughtScore.learn("early", [scored(0, 0.5), scored(1, None)], SPACE, look, (1,), None) is None


def test_the_gain_of_a_purchase_is_that_of_the_best_afterwards() -> None:
    """Gains of 0 or 1. After one score: 1 for 1.1 evaluations, or 1/2 for 1.2, as the other is scored, too."""
    gains = np.array([[0.0, 1.0], [0.0, 1.0]])
    nothing = np.zeros(2, dtype=bool)
    number, rate = purchase(gains, nothing, price=0.1, n=1, sizes=[1, 2], rng=np.random.default_rng(3))
    assert number == 1 and rate == pytest.approx((1 / 1.1 + 0.5 / 1.2) / 2, abs=0.05)
    number, rate = purchase(gains, nothing, price=0.1, n=1, sizes=[2], rng=np.random.default_rng(3))
    assert number == 2 and rate == pytest.approx(0.75 / 1.2, abs=0.05)


def test_scores_that_say_nothing_are_not_bought() -> None:
    gains = np.tile(np.array([[3.0], [2.0], [1.0]]), 5)
    number, rate = purchase(
        gains, np.array([True, True, False]), price=0.01, n=2, sizes=[1], rng=np.random.default_rng(0)
    )
    assert (number, rate) == (0, 2.5)


def test_what_was_bought_is_not_counted_again() -> None:
    gains = np.array([[0.0, 4.0], [1.0, 1.0]])
    number, rate = purchase(gains, np.ones(2, dtype=bool), price=0.5, n=1, sizes=[1, 2], rng=np.random.default_rng(0))
    assert (number, rate) == (0, 2.0)
