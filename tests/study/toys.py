"""Small problems for the tests of the study: importable by worker processes, free of torch."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwnas.core import Architecture, Budget, Evaluation, Limit, Metric, Objective, Origin, Score
from hwnas.cost import CostModel
from hwnas.evaluation import Evaluator, FromFunction
from hwnas.space import Codes, Condition, Decision, Space
from hwnas.study import Event, Study

ACCURACY, LATENCY = Objective.named("accuracy"), Objective.named("latency_ms")

# Two blocks; the second counts only at depth 2: 2 x 3 x 2 encodings of depth, k1, k2 are 9 networks.
TINY = Space(
    "tiny",
    (
        Decision("depth", (1, 2)),
        Decision("k1", (3, 5, 7)),
        Decision("k2", (3, 5), ((Condition("depth", (2,)),),)),
    ),
)
FOUR = Space("four", (Decision("a", (0, 1)), Decision("b", (0, 1))))


@dataclass(frozen=True)
class Sum:
    """A cost that adds up a share per option: 1 + 0.5 per code step, inactive decisions free."""

    space: Space
    name: str = "latency_ms"
    unit: str = "ms"
    origin: Origin = "predicted"
    digest: str = "sum"
    step: float = 0.5

    def __call__(self, architecture: Architecture) -> Metric:
        value = float(self.batch(self.space.encode([architecture]))[0])
        return Metric(value, self.unit, self.origin, low=value * 0.9, high=value * 1.1)

    def batch(self, codes: Codes) -> NDArray[np.float64]:
        return np.asarray(1 + self.step * np.maximum(codes, 0).sum(axis=1), dtype=np.float64)

    def smallest(self) -> tuple[float, Architecture]:
        return self._end(np.zeros((1, len(self.space.decisions)), dtype=np.int64))

    def largest(self) -> tuple[float, Architecture]:
        return self._end(np.array([[len(d.options) - 1 for d in self.space.decisions]], dtype=np.int64))

    def _end(self, genotypes: Codes) -> tuple[float, Architecture]:
        codes = self.space.canonical_codes(genotypes)
        return float(self.batch(codes)[0]), self.space.decode(codes)[0]


def accuracy(architecture: Architecture) -> Mapping[str, float]:
    return {"accuracy": 0.5 + 0.01 * sum(float(option) for option in architecture.values())}


def global_draws(architecture: Architecture) -> Mapping[str, float]:
    """Depends on numpy's global generator, as badly behaved users' functions do."""
    return {"accuracy": float(np.random.random())}  # noqa: NPY002


@dataclass
class Counted:
    """Remembers who asked; only in this process."""

    function: Callable[[Architecture], Mapping[str, float | Metric]] = accuracy
    asked: list[Architecture] = field(default_factory=list)

    def __call__(
        self, architecture: Architecture, *, fidelity: str, weights: str | None, seed: int
    ) -> Mapping[str, float | Metric]:
        self.asked.append(architecture)
        return self.function(architecture)


class Ticking:
    """A clock on which each reading is `step` seconds after the last."""

    def __init__(self, step: float = 1.0) -> None:
        self.now, self.step = 0.0, step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


class Numbers:
    """State of a toy training: JSON values, no torch."""

    def __init__(self, value: float = 0.0) -> None:
        self.value = value
        self.loads = 0

    def state_dict(self) -> dict[str, Any]:
        return {"value": self.value}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.value = state_dict["value"]
        self.loads += 1


@dataclass(frozen=True)
class Program:
    """A strategy from a function."""

    function: Callable[[Study], None]

    def search(self, study: Study) -> None:
        self.function(study)


def asking(architectures: Sequence[Architecture]) -> Callable[[Study], None]:
    """A program that asks once, and ends."""

    def search(study: Study) -> None:
        study.evaluate(architectures)

    return search


@dataclass(frozen=True)
class Concluded:
    """A strategy from two functions."""

    function: Callable[[Study], None]
    conclusion: Callable[[Study], None]

    def search(self, study: Study) -> None:
        self.function(study)

    def conclude(self, study: Study) -> None:
        self.conclusion(study)


def study(
    space: Space = TINY,
    *,
    evaluate: Evaluator | None = None,
    objectives: Sequence[Objective] = (ACCURACY, LATENCY),
    costs: Sequence[CostModel] | None = None,
    limits: Sequence[Limit] = (),
    budget: Budget = Budget(evaluations=100),  # noqa: B008 - frozen
    seed: int = 0,
    folder: Path | None = None,
    workers: int = 1,
    evaluation_seconds: float | None = None,
    clock: Callable[[], float] = time.perf_counter,
    stall: int = 500,
    header: Mapping[str, Any] | None = None,
    progress: Callable[[Event], None] | None = None,
    scores: Sequence[Score] = (),
) -> Study:
    return Study(
        space,
        evaluate=evaluate or FromFunction(accuracy),
        objectives=objectives,
        costs=(Sum(space),) if costs is None else costs,
        limits=limits,
        budget=budget,
        seed=seed,
        folder=folder,
        workers=workers,
        evaluation_seconds=evaluation_seconds,
        clock=clock,
        stall=stall,
        header=header,
        progress=progress,
        scores=scores,
    )


def rows(evaluations: Sequence[Evaluation]) -> list[str]:
    """What must be equal between two runs: all but the seconds."""
    return [json.dumps(e.to_json() | {"seconds": 0}, sort_keys=True) for e in evaluations]
