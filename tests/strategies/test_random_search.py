from math import comb

import numpy as np
import pytest
from numpy.typing import NDArray

from hwnas.core import Budget, Limit
from hwnas.strategies.random_search import RandomSearch
from hwnas.testing import check_replay, toy201, toy201_accuracy


def test_replay() -> None:
    check_replay(RandomSearch())


def test_replay_under_a_limit() -> None:
    check_replay(RandomSearch(), problem=toy201(limits=[Limit("latency_ms", at_most=1.5)]), other_process=False, cuts=3)


@pytest.fixture(scope="module")
def accuracies() -> NDArray[np.float64]:
    return np.sort([toy201_accuracy(architecture) for architecture in toy201().space.enumerate()])


@pytest.mark.parametrize("n", [25, 100])
def test_the_best_of_n_is_what_order_statistics_say(n: int, accuracies: NDArray[np.float64]) -> None:
    """The expected maximum of n draws without repetition, exactly, within three standard errors."""
    total = len(accuracies)
    below = np.array([comb(k, n) / comb(total, n) for k in range(total + 1)])  # P(best among the k smallest)
    probability = np.diff(below)
    expected = float(probability @ accuracies)
    deviation = float(np.sqrt(probability @ (accuracies - expected) ** 2))
    runs = 20
    best = []
    for seed in range(runs):
        outcome = toy201().study(budget=Budget(evaluations=n), seed=seed).run(RandomSearch())
        best.append(max(e["accuracy"] for e in outcome.evaluations))
    assert abs(np.mean(best) - expected) <= 3 * deviation / np.sqrt(runs)


def test_every_network_meets_a_limit_on_a_predicted_cost() -> None:
    limited = toy201(limits=[Limit("latency_ms", at_most=3.0)])
    outcome = limited.study(budget=Budget(evaluations=50)).run(RandomSearch())
    assert {e.status for e in outcome.evaluations} == {"ok"}
    assert max(e["latency_ms"] for e in outcome.evaluations) <= 3.0
