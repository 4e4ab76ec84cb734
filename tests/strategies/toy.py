"""Toy201, with its hypervolume as a share of the exact front's."""

import numpy as np

from hwnas.core import Budget
from hwnas.pareto import hypervolume
from hwnas.study import Outcome, Strategy
from hwnas.testing import toy201

EXACT = 0.826813  # of the front's 43 points; error in %, latency in ms, reference (90, 12.5)


def run(strategy: Strategy, *, evaluations: int = 220, seed: int = 0) -> Outcome:
    return toy201().study(budget=Budget(evaluations=evaluations), seed=seed).run(strategy)


def share(outcome: Outcome) -> float:
    costs = np.array([[100 * (1 - e["accuracy"]), e["latency_ms"]] for e in outcome.evaluations if e.status == "ok"])
    return hypervolume(costs, [90.0, 12.5]) / (90.0 * 12.5) / EXACT


def mean_share(strategy: Strategy, seeds: range, *, evaluations: int = 220) -> float:
    return float(np.mean([share(run(strategy, evaluations=evaluations, seed=seed)) for seed in seeds]))
