"""What MBv3-45 is judged by; `hwnas.evaluation.benchmarks.mbv3_45` is the problem itself.

The data's README defines it and lists what other tools reach on it. The true front's volume is 0.69445.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hwnas.core import Evaluation, Objective
from hwnas.evaluation.benchmarks import MILLION
from hwnas.pareto import costs_of, hypervolume
from tests.bench.figures import Arrival
from tests.bench.other_tools import first_at

OBJECTIVES = (Objective.named("accuracy"), Objective.named("macs"))
REFERENCE = (0.30, 520.0)  # error as a share, MACs in millions
BEST = (0.20, 100.0)  # the volume is divided by the box between the two


def volume(evaluations: Sequence[Evaluation]) -> float:
    """The hypervolume of evaluations, as a share of the box that the data's README divides by."""
    found = [{o.name: e[o.name] for o in OBJECTIVES} for e in evaluations if e.status == "ok"]
    return volume_of(costs_of(found, OBJECTIVES)) if found else 0.0


def arrival(run: Sequence[Evaluation], target: float) -> Arrival:
    """When a run had a volume."""
    found = costs_of([{o.name: e[o.name] for o in OBJECTIVES} for e in run if e.status == "ok"], OBJECTIVES)
    count = first_at(found, volume_of, target)
    return Arrival(None if count is None else float(count), volume_of(found))


def volume_of(costs: NDArray[np.float64]) -> float:
    """The same of costs [n, 2], as a study minimises them: the accuracy with its sign changed, MACs."""
    box = (REFERENCE[0] - BEST[0]) * (REFERENCE[1] - BEST[1])
    return hypervolume(costs.reshape(-1, 2) * (1, 1 / MILLION) + (1, 0), REFERENCE) / box
