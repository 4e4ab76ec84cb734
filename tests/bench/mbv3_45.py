"""MBv3-45: 45 decisions of a MobileNetV3 chain, with accuracy and MACs from ridge models of real ImageNet evaluations.

The data's README defines the problem and lists what other tools reach on it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hwnas.core import Architecture, Evaluation, Metric, Objective, Origin
from hwnas.pareto import hypervolume
from hwnas.space import Codes, Condition, Decision, Space
from tests.bench.figures import need

STAGES, BLOCKS = 5, 4
DEPTHS, KERNELS, EXPANSIONS = (2, 3, 4), (3, 5, 7), (3, 4, 6)
OBJECTIVES = (Objective.named("error"), Objective("macs_m", "minimize", "million multiply-adds"))
REFERENCE = (0.30, 520.0)  # error as a share, MACs in millions
BEST = (0.20, 100.0)  # the volume is divided by the box between the two


def space() -> Space:
    """The space: a depth per stage, then every block's kernel, then every block's expansion."""
    depths = [Decision(f"depth{s}", DEPTHS) for s in range(STAGES)]
    blocks = [
        Decision(f"{kind}{s}.{b}", options, _if_deep_enough(s, b))
        for kind, options in (("kernel", KERNELS), ("expand", EXPANSIONS))
        for s in range(STAGES)
        for b in range(BLOCKS)
    ]
    return Space("mbv3-45", (*depths, *blocks))


def _if_deep_enough(stage: int, block: int) -> tuple[tuple[Condition, ...], ...]:
    deeper = tuple(depth for depth in DEPTHS if depth > block)
    return () if deeper == DEPTHS else ((Condition(f"depth{stage}", deeper),),)


@dataclass(frozen=True)
class Linear:
    """A sum over the options taken: one weight per column of `Space.one_hot`, and a constant. A cost model.

    Attributes:
        space: Whose codes it takes.
        weights: [columns + 1], the constant last.
        name: Of the metric.
        unit: Of the metric.
    """

    space: Space
    weights: NDArray[np.float64]
    name: str
    unit: str
    origin: Origin = "computed"
    digest: str = "mbv3-45"

    def __call__(self, architecture: Architecture) -> Metric:
        return Metric(float(self.batch(self.space.encode([architecture]))[0]), self.unit, self.origin)

    def batch(self, codes: Codes) -> NDArray[np.float64]:
        """[n] for codes [n, 45]."""
        columns = np.maximum(codes, 0) + 3 * np.arange(codes.shape[1])  # every decision has three options
        values: NDArray[np.float64] = np.where(codes >= 0, self.weights[columns], 0.0).sum(axis=1) + self.weights[-1]
        return values

    def smallest(self) -> tuple[float, Architecture]:
        return self._end(1.0)

    def largest(self) -> tuple[float, Architecture]:
        return self._end(-1.0)

    def _end(self, sign: float) -> tuple[float, Architecture]:
        """Stages do not meet in one weight, so the best of each, over its depths, is the best of all."""
        weights = sign * self.weights[:-1].reshape(-1, 3)
        row = weights.argmin(axis=1)
        least = weights.min(axis=1)[STAGES:].reshape(2, STAGES, BLOCKS).sum(axis=0)
        for stage in range(STAGES):
            sums = [weights[stage, code] + least[stage, :depth].sum() for code, depth in enumerate(DEPTHS)]
            row[stage] = int(np.argmin(sums))
        codes = self.space.canonical_codes(row[None].astype(np.int64))
        return float(self.batch(codes)[0]), self.space.decode(codes)[0]


class Accuracy:
    """The evaluator: the error of one network, and the seconds it took to say so."""

    def __init__(self, model: Linear) -> None:
        self.model = model
        self.seconds = 0.0
        self.calls = 0

    def __call__(
        self, architecture: Architecture, *, fidelity: str, weights: str | None, seed: int
    ) -> dict[str, float]:
        start = time.perf_counter()
        codes = self.model.space.encode([architecture])
        error = 1 - float(self.model.batch(codes)[0]) / 100
        self.seconds += time.perf_counter() - start
        self.calls += 1
        return {"error": error}


def load(data: Path) -> tuple[Accuracy, Linear]:
    """The evaluator and the cost model.

    Raises:
        MissingDataError: If the weights are not there.
    """
    with np.load(need(data / "mbv3_45" / "weights.npz")) as weights:
        accuracy, macs = (np.asarray(weights[name], dtype=np.float64) for name in ("acc", "mac"))
    networks = space()
    return (
        Accuracy(Linear(networks, accuracy, "accuracy_pct", "%")),
        Linear(networks, macs, "macs_m", "million multiply-adds"),
    )


def volume(evaluations: Sequence[Evaluation]) -> float:
    """The hypervolume of evaluations, as a share of the box that the data's README divides by."""
    costs = np.array([[e["error"], e["macs_m"]] for e in evaluations if e.status == "ok"]).reshape(-1, 2)
    box = (REFERENCE[0] - BEST[0]) * (REFERENCE[1] - BEST[1])
    return hypervolume(costs, REFERENCE) / box
