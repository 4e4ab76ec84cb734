import numpy as np
import pytest

from hwnas.core import Limit
from hwnas.strategies import RandomSearch, Spos
from tests.strategies.test_regularized_evolution import best, run

BEST = {3.0: 91.456102, 5.0: 93.231491, 7.0: 93.771062}


@pytest.mark.parametrize("limit_ms", list(BEST))
def test_the_best_network_within_a_limit_is_found_every_time(limit_ms: float) -> None:
    """In 40 of 40 runs of 20 generations of 50; random draws of as many find it in 5 to 25 %."""
    limits = (Limit("latency_ms", at_most=limit_ms),)
    outcomes = [run(Spos(), evaluations=1000, seed=seed, limits=limits) for seed in range(3)]
    assert [best(outcome) for outcome in outcomes] == pytest.approx([BEST[limit_ms]] * 3)
    assert all(e["latency_ms"] <= limit_ms for outcome in outcomes for e in outcome.evaluations)


def test_it_beats_random_with_few_evaluations() -> None:
    small = Spos(population=20, best=5)
    found, random = (
        np.mean([best(run(strategy, evaluations=200, seed=seed)) for seed in range(10)])
        for strategy in (small, RandomSearch())
    )
    assert found > random


def test_no_network_is_asked_for_twice_and_generations_are_full() -> None:
    evaluations = run(Spos(population=10, best=3), evaluations=100, seed=0).evaluations
    assert len({e.architecture for e in evaluations}) == len(evaluations) == 100


@pytest.mark.parametrize("other", [Spos(population=9, best=3), Spos(10, 2), Spos(10, 3, mutation=0.5)])
def test_every_parameter_is_used(other: Spos) -> None:
    plain, changed = (
        [e.architecture for e in run(s, evaluations=60, seed=0).evaluations] for s in (Spos(10, 3), other)
    )
    assert plain != changed
