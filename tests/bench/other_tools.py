"""Searches by other tools on the same tables, with each tool's own operators and defaults, in the same run as ours.

They see a table as integer genes: what no decision reads changes nothing, and a network outside the benchmark's limits
comes with a violation. Only distinct networks within the limits count, in the order in which they were first asked for;
that favours tools which ask for the same network again under other genes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TypeVar

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.samplers import BaseSampler, NSGAIISampler, TPESampler
from optuna.trial import Trial
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.core.problem import Problem
from pymoo.operators.crossover.pntx import TwoPointCrossover
from pymoo.operators.mutation.pm import PolynomialMutation
from pymoo.operators.repair.rounding import RoundingRepair
from pymoo.operators.sampling.rnd import IntegerRandomSampling

from hwnas.core import Evaluation, Objective
from hwnas.evaluation.tabular import Benchmark
from hwnas.space import Codes

Floats = NDArray[np.float64]

POPULATION = 50
ASKED_PER_NETWORK = 10
"""A tool that asks for so many times more than it may pay for finds nothing new any more."""


@dataclass
class Asking:
    """A benchmark as a tool sees it, and what it has asked for.

    Attributes:
        benchmark: Whose networks.
        objectives: What is minimised.
        evaluations: How many distinct networks within the limits it may ask for.
        costs: Of those, in order, [objectives] each.
    """

    benchmark: Benchmark
    objectives: tuple[Objective, ...]
    evaluations: int
    costs: list[Floats] = field(default_factory=list)
    asked: int = 0
    seen: set[bytes] = field(default_factory=set)

    @property
    def options(self) -> list[int]:
        """How many options each gene has."""
        return [len(decision.options) for decision in self.benchmark.space.decisions]

    @property
    def spent(self) -> bool:
        """Whether the tool has to stop."""
        return len(self.costs) >= self.evaluations or self.asked >= ASKED_PER_NETWORK * self.evaluations

    def tell(self, genes: Codes) -> tuple[Floats, Floats]:
        """Costs [n, objectives] and violations [n], 0 or more, of genes [n, decisions]."""
        codes = self.benchmark.space.canonical_codes(genes)
        costs = self.benchmark.costs_of(self.objectives, codes)
        violations = np.zeros(len(codes))
        for limit in self.benchmark.limits:
            values = self.benchmark.column(limit.name).batch(codes)
            violations += [max(limit.violation(float(value)), 0.0) for value in values]
        for row, cost, violation in zip(codes, costs, violations, strict=True):
            self.asked += 1
            key = row.tobytes()
            if violation == 0 and key not in self.seen and len(self.costs) < self.evaluations:
                self.seen.add(key)
                self.costs.append(cost)
        return costs, violations


Search = Callable[[Asking, int], None]
"""Given a benchmark and a seed, asks until the budget is spent."""


class _Genes(Problem):  # type: ignore[misc]  # pymoo has no types
    """pymoo's side of a benchmark."""

    def __init__(self, asking: Asking) -> None:
        top = np.array(asking.options) - 1
        limited = int(bool(asking.benchmark.limits))
        super().__init__(n_var=len(top), n_obj=len(asking.objectives), n_ieq_constr=limited, xl=0, xu=top, vtype=int)
        self.asking = asking

    def _evaluate(self, x: Codes, out: dict[str, Floats], *_: object, **__: object) -> None:
        out["F"], violations = self.asking.tell(np.asarray(x, dtype=np.int64))
        if self.n_ieq_constr:
            out["G"] = violations[:, None]


def pymoo_nsga2(asking: Asking, seed: int) -> None:
    """pymoo's NSGA-II: two-point crossover, polynomial mutation of integers, no gene row twice."""
    algorithm = NSGA2(
        pop_size=POPULATION,
        sampling=IntegerRandomSampling(),
        crossover=TwoPointCrossover(),
        mutation=PolynomialMutation(vtype=float, repair=RoundingRepair()),
        eliminate_duplicates=True,
    )
    algorithm.setup(_Genes(asking), seed=seed, termination=("n_gen", 10**9), verbose=False)
    while not asking.spent and algorithm.has_next():
        algorithm.next()


def _optuna(asking: Asking, sampler: BaseSampler) -> None:
    """Ask one, tell one. Options that are numbers are integers in their order to the sampler, others are categories."""
    ordered = [all(isinstance(o, int | float) for o in d.options) for d in asking.benchmark.space.decisions]
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(directions=["minimize"] * len(asking.objectives), sampler=sampler)

    def gene(trial: Trial, i: int, count: int) -> int:
        if ordered[i]:
            return trial.suggest_int(f"x{i}", 0, count - 1)
        return int(trial.suggest_categorical(f"x{i}", range(count)))

    while not asking.spent:
        trial = study.ask()
        genes = np.array([[gene(trial, i, count) for i, count in enumerate(asking.options)]])
        costs, violations = asking.tell(genes)
        trial.set_constraint("violation", float(violations[0]))
        study.tell(trial, costs[0].tolist())


def optuna_nsga2(asking: Asking, seed: int) -> None:
    """Optuna's NSGA-II."""
    _optuna(asking, NSGAIISampler(population_size=POPULATION, seed=seed))


def optuna_tpe(asking: Asking, seed: int) -> None:
    """Optuna's tree-structured Parzen estimator for several objectives."""
    _optuna(asking, TPESampler(seed=seed))


@dataclass(frozen=True)
class OtherTool:
    """How to run a tool, with how many seeds and evaluations at most: slow ones get fewer."""

    search: Search
    seeds: int = 20
    evaluations: int = 10_000

    def runs(
        self, benchmark: Benchmark, objectives: tuple[Objective, ...], *, evaluations: int, seeds: int
    ) -> list[Floats]:
        """What it asked for with each seed, [n, objectives]: the distinct networks within the limits in their order."""
        found = []
        for seed in range(min(seeds, self.seeds)):
            asking = Asking(benchmark, objectives, min(evaluations, self.evaluations))
            self.search(asking, seed)
            found.append(np.array(asking.costs).reshape(-1, len(objectives)))
        return found

    def cut(self, evaluations: int) -> str:
        """What the name of a figure says where the tool may ask for less than the others."""
        return f" (of {self.evaluations:,})" if self.evaluations < evaluations else ""


OTHER_TOOLS: Mapping[str, OtherTool] = {
    "pymoo nsga2": OtherTool(pymoo_nsga2),
    "optuna nsga2": OtherTool(optuna_nsga2, seeds=5),
    "optuna tpe": OtherTool(optuna_tpe, seeds=3, evaluations=250),
}


def versions() -> dict[str, str]:
    """Of the tools."""
    return {name: version(name) for name in ("pymoo", "optuna")}


Asked = TypeVar("Asked", bound=Sequence[Evaluation] | Floats)


def first_at(run: Asked, volume: Callable[[Asked], float], target: float) -> int:
    """How many evaluations of a run it took until their volume was the target; one more than it has if it never was.

    Volumes only grow, so by bisection.

    Example:
        >>> run = np.zeros((9, 2))
        >>> first_at(run, lambda found: len(found) / 10, 0.35), first_at(run, lambda found: 0.0, 0.35)
        (4, 10)
    """
    low, high = 0, len(run) + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if volume(run[:middle]) >= target else (middle, high)  # type: ignore[arg-type]
    return high
