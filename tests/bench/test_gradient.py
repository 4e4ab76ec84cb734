import itertools
import math
from pathlib import Path

import numpy as np
import pytest

from tests.bench.gradient import Planted, gradient


@pytest.mark.parametrize("seed", range(3))
def test_the_best_network_is_that_of_brute_force(seed: int) -> None:
    planted = Planted.draw(seed, layers=5)
    every = np.array(list(itertools.product(range(4), repeat=5)))
    layers = np.arange(5)
    quality, us = planted.quality[layers, every].sum(axis=1), planted.latency_us[layers, every].sum(axis=1)
    for most in np.quantile(us, [0.0, 0.3, 0.9, 1.0]):
        assert planted.best(float(int(most))) == pytest.approx(quality[us <= int(most)].max())


def test_cost_model_and_evaluation_say_what_was_planted() -> None:
    planted = Planted.draw(4)
    problem = planted.problem()
    for architecture in problem.space.sample(20, np.random.default_rng(0)):
        codes = [int(architecture[f"layer{n}"]) for n in range(len(planted.quality))]
        us = sum(int(row[k]) for row, k in zip(planted.latency_us, codes, strict=True))
        assert problem.costs[0](architecture).value == pytest.approx(us / 1000)
        found = problem.evaluate(architecture, fidelity="full", weights=None, seed=0)["accuracy"]
        assert found == pytest.approx(1 - math.exp(-planted.quality_of(architecture)))
        assert planted.quality_of(architecture) <= planted.best(us) + 1e-9


def test_a_tiny_run_meets_its_targets() -> None:
    measured = gradient(Path(), seeds=[0], epochs=2)
    assert len(measured.rows) == 3 * (3 + 1)
    for row in measured.rows:
        assert row.ok and row.value >= -1e-9
        assert (row.must, row.goal) in {(5.0, 2.0), (None, None)}
