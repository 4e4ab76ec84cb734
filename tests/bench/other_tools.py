"""Searches by other tools on the same tables, with each tool's own operators and defaults, in the same run as ours.

They see a table as integer genes: what no decision reads changes nothing, and a network outside the benchmark's limits
comes with a violation. Only distinct networks within the limits count, in the order in which they were first asked for;
that favours tools which ask for the same network again under other genes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from typing import Protocol

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

from hwnas.core import Objective
from hwnas.evaluation.tabular import Benchmark
from hwnas.space import Codes
from hwnas.strategies import Nsga2
from tests.bench.figures import Arrival

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
        enough: Told the costs of each of them, says whether the tool has what it was to find.
    """

    benchmark: Benchmark
    objectives: tuple[Objective, ...]
    evaluations: int
    costs: list[Floats] = field(default_factory=list)
    asked: int = 0
    seen: set[bytes] = field(default_factory=set)
    enough: Callable[[Floats], bool] | None = None
    arrived: bool = False

    @property
    def options(self) -> list[int]:
        """How many options each gene has."""
        return [len(decision.options) for decision in self.benchmark.space.decisions]

    @property
    def spent(self) -> bool:
        """Whether the tool has to stop."""
        most = ASKED_PER_NETWORK * self.evaluations
        return self.arrived or len(self.costs) >= self.evaluations or self.asked >= most

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
            new = violation == 0 and key not in self.seen
            if new and len(self.costs) < self.evaluations and not self.arrived:
                self.seen.add(key)
                self.costs.append(cost)
                self.arrived = self.enough is not None and self.enough(cost)
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
    _pymoo(asking, seed, POPULATION, PolynomialMutation(vtype=float, repair=RoundingRepair()))


def pymoo_nsga2_as_ours(asking: Asking, seed: int, *, population: int) -> None:
    """The same with a population of ours, and our rate and index of mutation."""
    ours = Nsga2()
    share = min(1.0, ours.mutations / len(asking.options))
    mutation = PolynomialMutation(prob=1.0, prob_var=share, eta=ours.mutation_eta, vtype=float, repair=RoundingRepair())
    _pymoo(asking, seed, population, mutation)


def _pymoo(asking: Asking, seed: int, population: int, mutation: PolynomialMutation) -> None:
    algorithm = NSGA2(
        pop_size=population,
        sampling=IntegerRandomSampling(),
        crossover=TwoPointCrossover(),
        mutation=mutation,
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
        askings = [Asking(benchmark, objectives, self.most(evaluations)) for _ in range(min(seeds, self.seeds))]
        for seed, asking in enumerate(askings):
            self.search(asking, seed)
        return [np.array(asking.costs).reshape(-1, len(objectives)) for asking in askings]

    def arrivals(
        self,
        benchmark: Benchmark,
        objectives: tuple[Objective, ...],
        volume: Volume,
        *,
        evaluations: int,
        seeds: int,
    ) -> list[Arrival]:
        """When each of its runs reached a volume; a run that stops before has not, however early it stopped."""
        found = []
        for seed in range(min(seeds, self.seeds)):
            asking = Asking(benchmark, objectives, self.most(evaluations), enough=volume.watch_costs())
            self.search(asking, seed)
            share = volume.of_costs(np.array(asking.costs).reshape(-1, len(objectives)))
            found.append(Arrival(float(len(asking.costs)) if asking.arrived else None, share))
        return found

    def most(self, evaluations: int) -> int:
        """How many evaluations it is given where others have so many."""
        return min(evaluations, self.evaluations)


class Volume(Protocol):
    """What runs are after."""

    def of_costs(self, costs: Floats, /) -> float:
        """The share that costs [n, objectives] have."""
        ...

    def watch_costs(self) -> Callable[[Floats], bool]:
        """Told the costs of one network after another, says whether they have it."""
        ...


PYMOO = OtherTool(pymoo_nsga2)
OURS_IN_PYMOO = OtherTool(partial(pymoo_nsga2_as_ours, population=40))
OPTUNA: Mapping[str, OtherTool] = {
    "optuna nsga2": OtherTool(optuna_nsga2, seeds=5),
    "optuna tpe": OtherTool(optuna_tpe, seeds=3, evaluations=250),
}


def versions() -> dict[str, str]:
    """Of the tools."""
    return {name: version(name) for name in ("pymoo", "optuna")}


def first_at(run: Floats, volume: Callable[[Floats], float], target: float) -> int | None:
    """How many evaluations of a run it took until their volume was the target; None if it never was.

    Volumes only grow, so by bisection.

    Example:
        >>> run = np.zeros((9, 2))
        >>> first_at(run, lambda found: len(found) / 10, 0.35), first_at(run, lambda found: 0.0, 0.35)
        (4, None)
    """
    if not len(run) or volume(run) < target:
        return None
    low, high = 0, len(run)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if volume(run[:middle]) >= target else (middle, high)
    return high
