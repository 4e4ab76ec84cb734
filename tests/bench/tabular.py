"""Searches on tables of real networks: what they find by when, judged by the whole truth."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # comes with scikit-learn

from hwnas.core import Architecture, Budget, Evaluation, Metric, Objective
from hwnas.evaluation import Evaluator
from hwnas.evaluation.benchmarks import Dataset, mbv3_45, nasbench201
from hwnas.evaluation.tabular import Benchmark
from hwnas.pareto import costs_of, hypervolume_share, non_dominated
from hwnas.strategies import Bayesian, Nat, Nsga2, Nsga3, RandomSearch, RegularizedEvolution, Reinforce
from hwnas.study import Event, Strategy, Study
from tests.bench import mbv3_45 as mbv3
from tests.bench.figures import ROOT, TIME, Arrival, Contender, Measured, Null, Row, arrivals, mean_count, mean_of
from tests.bench.nulls import layer_after_layer, layers
from tests.bench.other_tools import first_at

ACCURACY = Objective.named("accuracy")
KNOWN = ("macs", "parameters")
"""Exact counts, known of every network beforehand: strategies may use them as proxies."""
Enough = Callable[[Sequence[Evaluation]], bool]


class FoundEnoughError(Exception):
    """Ends a run that has found what it was to find."""


def found(
    benchmark: Benchmark,
    strategy: Strategy,
    objectives: Sequence[Objective],
    *,
    evaluations: int,
    seed: int,
    enough: Enough | None = None,
    in_flight: int = 4,
    known: Sequence[str] = KNOWN,
) -> list[Evaluation]:
    """What a search evaluated, in order, until its budget was spent or it had found enough.

    `known` are columns that it may ask for any network beside the objectives, where the table has them.
    """
    return found_and_spent(
        benchmark,
        strategy,
        objectives,
        evaluations=evaluations,
        seed=seed,
        enough=enough,
        in_flight=in_flight,
        known=known,
    )[0]


def found_and_spent(
    benchmark: Benchmark,
    strategy: Strategy,
    objectives: Sequence[Objective],
    *,
    evaluations: int,
    seed: int,
    enough: Enough | None = None,
    in_flight: int = 4,
    known: Sequence[str] = KNOWN,
    scores: bool = False,
) -> tuple[list[Evaluation], float]:
    """The same, and what was spent: evaluations, and the shares of one that scores cost.

    `scores` says whether the search may buy the benchmark's.
    """
    asked: list[Evaluation] = []
    spent = 0.0

    def listen(event: Event) -> None:
        nonlocal spent
        spent = event.spent
        if event.evaluation is not None and ACCURACY.name in event.evaluation.metrics:
            asked.append(event.evaluation)
            if enough is not None and enough(asked):
                raise FoundEnoughError

    study = Study(
        benchmark.space,
        evaluate=benchmark.evaluator,
        objectives=objectives,
        limits=benchmark.limits,
        costs=benchmark.costs((*(o.name for o in objectives), *(name for name in known if name in benchmark.columns))),
        scores=benchmark.scores if scores else (),
        budget=Budget(evaluations=evaluations),
        seed=seed,
        in_flight=in_flight,
        progress=listen,
    )
    with study, contextlib.suppress(FoundEnoughError):
        study.run(strategy)
    return asked, spent


@dataclass
class Share:
    """Whether evaluations dominate so much of the true front's volume.

    Attributes:
        benchmark: Whose front.
        objectives: Of the front.
        until: The share that is enough.
    """

    benchmark: Benchmark
    objectives: tuple[Objective, ...]
    until: float = 0.99
    truth: NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        self.truth = self.benchmark.true_front(self.objectives)[1]

    def of(self, evaluations: Sequence[Evaluation]) -> float:
        """The share of what was evaluated."""
        rows = [{o.name: e[o.name] for o in self.objectives} for e in evaluations if e.status == "ok"]
        return self.of_costs(costs_of(rows, self.objectives)) if rows else 0.0

    def of_costs(self, costs: NDArray[np.float64]) -> float:
        """The share of costs [n, objectives]."""
        return hypervolume_share(costs, self.truth) if len(costs) else 0.0

    def arrival(self, run: NDArray[np.float64]) -> Arrival:
        """When costs [n, objectives], in the order of their evaluation, had the share."""
        count = first_at(run, self.of_costs, self.until)
        return Arrival(None if count is None else float(count), self.of_costs(run))

    def watch(self) -> Enough:
        """Says of one growing run whether it has reached the share."""
        watched, reached = self.watch_costs(), False

        def enough(asked: Sequence[Evaluation]) -> bool:
            nonlocal reached
            if asked[-1].status == "ok":
                reached = watched(costs_of([{o.name: asked[-1][o.name] for o in self.objectives}], self.objectives)[0])
            return reached

        return enough

    def watch_costs(self) -> Callable[[NDArray[np.float64]], bool]:
        """The same, told the costs [objectives] of one network after another: the volume grows only with its front."""
        front, reached = np.empty((0, len(self.objectives))), False

        def enough(costs: NDArray[np.float64]) -> bool:
            nonlocal front, reached
            if not reached and not (front <= costs).all(axis=1).any():
                front = np.concatenate([front, costs[None]])
                front = front[non_dominated(front)]
                reached = hypervolume_share(front, self.truth) >= self.until
            return reached

        return enough


@dataclass(frozen=True)
class Side:
    """A strategy in a bench, what it is given beside the objectives, and with how many seeds at most.

    Attributes:
        strategy: Searches.
        known: Columns that it may ask for of any network, where the table has them.
        seeds: At most; slow ones get fewer.
        given: What it knows beforehand, in words.
        contender: Whose side it is.
        scores: Whether it may buy the benchmark's scores, which count as the shares of an evaluation that they cost.
    """

    strategy: Strategy
    known: tuple[str, ...] = KNOWN
    seeds: int = 20
    given: str = "multiply-adds and parameters of every network"
    contender: Contender = "ours"
    scores: bool = False

    def until(
        self,
        benchmark: Benchmark,
        objectives: tuple[Objective, ...],
        share: Share,
        *,
        seeds: int,
        most: int,
    ) -> list[Arrival]:
        """When each run reached a share of the true front's volume, within so many evaluations."""
        found_by = [
            found_and_spent(
                benchmark,
                self.strategy,
                objectives,
                evaluations=most,
                seed=seed,
                enough=share.watch(),
                known=self.known,
                scores=self.scores,
            )
            for seed in range(min(seeds, self.seeds))
        ]
        ends = [(float(spent), share.of(run)) for run, spent in found_by]
        return [Arrival(count if at_end >= share.until else None, at_end) for count, at_end in ends]


# ------------------------------------------------------------------------------------------- NAS-Bench-201's own rows


PUBLISHED: Mapping[str, tuple[Strategy, tuple[float, float, float], float]] = {
    "random": (RandomSearch(), (93.70, 71.04, 44.57), 0.1),
    "regularized_evolution": (RegularizedEvolution(), (93.92, 71.84, 45.54), 0.1),
    "reinforce": (Reinforce(), (93.85, 71.71, 45.24), 0.2),
}
"""The benchmark's table of 500 runs: test accuracy in % on the three data sets, and how near CIFAR-10's has to be."""

DATASETS: tuple[Dataset, ...] = ("cifar10", "cifar100", "imagenet16_120")
REPRODUCED = "a published number is reproduced: nobody contends"


def nasbench201_paper(data: Path, *, seeds: int = 500, evaluations: int = 100) -> Measured:
    """The benchmark's table: 100 evaluations chosen by 12-epoch validation on CIFAR-10, judged by test accuracy.

    Its budget of 12,000 s is about 100 evaluations. All 15,625 cells take part here, as there; evolution breeds one
    child at a time. Here 100 networks are distinct ones; there repeats count.
    """
    benchmark = nasbench201(data, epochs=12)
    tests = {dataset: nasbench201(data, dataset=dataset).reported["test_accuracy"] for dataset in DATASETS}
    rows: list[Row] = []
    on_cifar10: dict[str, list[float]] = {}
    for name, (strategy, published, near) in PUBLISHED.items():
        chosen = [
            max(_every(benchmark, strategy, evaluations, seed), key=lambda e: e["accuracy"]).architecture
            for seed in range(seeds)
        ]
        contender: Contender = "null" if name == "random" else "ours"
        of = f"nasbench201 12 epochs, {name}, {evaluations} evaluations, {seeds} seeds"
        for dataset, paper in zip(DATASETS, published, strict=True):
            picked = [100 * tests[dataset](architecture).value for architecture in chosen]
            if dataset == "cifar10":
                on_cifar10[name] = picked
            distance = abs(float(np.mean(picked)) - paper)
            rows += [
                mean_of(f"{of}: {dataset} test", picked, "%", contender=contender),
                Row(f"{of}: {dataset} test, standard deviation", float(np.std(picked)), "%", contender=contender),
                Row(f"{of}: {dataset} test, 5th percentile", float(np.percentile(picked, 5)), "%", contender=contender),
                Row(
                    f"{of}: {dataset}, distance to the published {paper}",
                    distance,
                    "%",
                    near if dataset == "cifar10" else None,
                    near,
                    "lower",
                    null=REPRODUCED,
                ),
            ]
    gain = np.array(on_cifar10["regularized_evolution"]) - np.array(on_cifar10["random"])
    figure = "nasbench201 12 epochs: regularized_evolution above random"
    rows.append(mean_of(figure, gain.tolist(), "%", must=1e-9, null=Null("random search", 0.0)))
    return Measured(rows, {"in_flight": 1}, given="nothing", seeds=seeds, threads=1)


def _every(benchmark: Benchmark, strategy: Strategy, evaluations: int, seed: int) -> list[Evaluation]:
    with Study(
        benchmark.space,
        evaluate=benchmark.evaluator,
        objectives=[ACCURACY],
        budget=Budget(evaluations=evaluations),
        seed=seed,
        in_flight=1,
    ) as study:
        return study.run(strategy).evaluations


# ------------------------------------------------------------------------------------------------- many decisions


LINEAR = "multiply-adds, exactly, and the one-hot code in which the error of this table is linear"
"""What surrogates are given on MBv3-45."""


def mbv3_45_surrogate(
    data: Path,
    *,
    strategy: Strategy | None = None,
    seeds: int = 20,
    late_seeds: int = 10,
    most: int = 1000,
    early: int = 250,
    target: float = 0.60,
) -> Measured:
    """MBv3-45 with few evaluations: how many to a volume of 0.60, and the volume at 250 and, of `late_seeds`, at 1,000.

    The true front has 0.69445. The error is linear in what surrogates see, which no real accuracy is: a search that
    models it solves linear equations. So this says that the search takes what it is given, and nothing on real spaces.
    """
    benchmark = mbv3_45(data)
    problem = "mbv3_45 (error linear in the given features), bayesian"
    rows: list[Row] = []
    with threadpool_limits(1):
        runs = [
            found(
                benchmark,
                strategy or Bayesian(),
                mbv3.OBJECTIVES,
                evaluations=most if seed < late_seeds else early,
                seed=seed,
            )
            for seed in range(seeds)
        ]
        chance = [
            found(benchmark, RandomSearch(), mbv3.OBJECTIVES, evaluations=most, seed=seed) for seed in range(seeds)
        ]
    rows += arrivals(
        f"{problem}: evaluations until {target:g}",
        [mbv3.arrival(run, target) for run in runs],
        "evaluations",
        must=100,
        goal=80,
        null=Null("random search", mean_count([mbv3.arrival(run, target) for run in chance])),
    )
    for at, must, goal in ((early, 0.67, 0.685), (most, 0.688, None)):
        volumes = [mbv3.volume(run[:at]) for run in runs if len(run) >= at]
        if not volumes:
            continue
        of = f"{problem}: volume at {at:,} evaluations"
        at_random = [mbv3.volume(run[:at]) for run in chance]
        null = Null("random search", float(np.mean(at_random)))
        rows += [
            mean_of(of, volumes, "share", must=must, goal=goal, null=null),
            Row(f"{of}, 5th percentile", float(np.percentile(volumes, 5)), "share", seeds=len(volumes)),
            mean_of(
                f"mbv3_45, random search: volume at {at:,} evaluations",
                at_random,
                "share",
                given="nothing",
                contender="null",
            ),
        ]
    return Measured(rows, {"late_seeds": late_seeds, "true_front": 0.69445}, given=LINEAR, seeds=seeds, threads=1)


# ------------------------------------------------------------------------------------------------ three objectives


EXACT = "exact latency, energy, multiply-adds and parameters of every network"
THREE_OBJECTIVES: Mapping[str, Side] = {
    "bayesian": Side(Bayesian(), given=EXACT),
    "nsga3": Side(Nsga3(), given=EXACT),
    "nat": Side(Nat(), seeds=3, given=EXACT),
}


def pi5(
    data: Path, *, sides: Mapping[str, Side] = THREE_OBJECTIVES, seeds: int = 20, evaluations: int = 500
) -> Measured:
    """Accuracy, latency and energy on a Raspberry Pi 5 (ONNX Runtime, CIFAR-100) within 500 evaluations."""
    benchmark = nasbench201(data, dataset="cifar100")
    objectives = (ACCURACY, Objective.named("latency_ms@pi5_onnx"), Objective.named("energy_mj@pi5_onnx"))
    share = Share(benchmark, objectives)
    codes = benchmark.candidates((), (), ())
    costs = benchmark.costs_of(objectives, codes)
    macs = benchmark.column("macs").batch(codes)
    sorted_by = layers(np.concatenate([-macs[:, None], costs[:, 1:]], axis=1))
    with threadpool_limits(1):
        nulls = {
            "random search": [
                share.of(found(benchmark, RandomSearch(), objectives, evaluations=evaluations, seed=seed))
                for seed in range(seeds)
            ],
            "sorted by multiply-adds, latency and energy": [
                share.of_costs(costs[layer_after_layer(sorted_by, np.random.default_rng(seed))[:evaluations]])
                for seed in range(seeds)
            ],
        }
        shares = {
            name: [
                share.of(
                    found(benchmark, side.strategy, objectives, evaluations=evaluations, seed=seed, known=side.known)
                )
                for seed in range(min(seeds, side.seeds))
            ]
            for name, side in sides.items()
        }
    easiest = max(nulls, key=lambda name: float(np.mean(nulls[name])))
    null = Null(easiest, float(np.mean(nulls[easiest])))
    rows: list[Row] = []
    for name, values in nulls.items():
        of = f"pi5 accuracy, latency, energy, {name}: share of the true front at {evaluations} evaluations"
        what = "nothing" if name == "random search" else EXACT
        rows.append(mean_of(of, values, "share", given=what, contender="null"))
    for name, values in shares.items():
        of = f"pi5 accuracy, latency, energy, {name}: share of the true front at {evaluations} evaluations"
        rows += [
            mean_of(of, values, "share", must=0.97, goal=0.99, given=sides[name].given, null=null),
            Row(f"{of}, 5th percentile", float(np.percentile(values, 5)), "share", seeds=len(values)),
        ]
    return Measured(rows, {"true_front": len(share.truth)}, given=EXACT, seeds=seeds, threads=1)


# ------------------------------------------------------------------------------------------------------- overhead


@dataclass
class Timed:
    """An evaluator with a stopwatch."""

    evaluate: Evaluator
    seconds: float = 0.0
    calls: int = 0

    def __call__(
        self, architecture: Architecture, *, fidelity: str, weights: str | None, seed: int
    ) -> Mapping[str, float | Metric]:
        start = time.perf_counter()
        metrics = self.evaluate(architecture, fidelity=fidelity, weights=weights, seed=seed)
        self.seconds += time.perf_counter() - start
        self.calls += 1
        return metrics


MANY = "a mean time over very many evaluations"
STORE = tuple(sorted((ROOT / "hwnas" / "store").glob("*.py")))
"""What keeps a run, which is a part of its own overhead and of no other figure."""


def overhead(data: Path, *, evaluations: int = 100_000) -> Measured:
    """What study, store and strategy cost per evaluation in a long run on MBv3-45, stored on disk."""
    rows = []
    for name, strategy in (("random", RandomSearch()), ("nsga2", Nsga2())):
        ms, _ = own_time(mbv3_45(data), strategy, mbv3.OBJECTIVES, evaluations=evaluations, seed=0)
        of = f"{name} own overhead per evaluation, {evaluations:,} evaluations"
        rows.append(Row(of, ms, "ms", 1.0, 0.1, "lower", null=TIME))
    told = {"problem": "mbv3_45", "seed": 0}
    return Measured(rows, told, given="multiply-adds", seeds=1, threads=1, inputs=STORE, few=MANY)


def own_time(
    benchmark: Benchmark, strategy: Strategy, objectives: Sequence[Objective], *, evaluations: int, seed: int
) -> tuple[float, list[Evaluation]]:
    """Milliseconds per evaluation that were not spent in the evaluator, through a study on disk; and what it found."""
    evaluate = Timed(benchmark.evaluator)
    with threadpool_limits(1), tempfile.TemporaryDirectory(prefix="hwnas-bench-") as folder:
        start = time.perf_counter()
        with Study(
            benchmark.space,
            evaluate=evaluate,
            objectives=objectives,
            costs=benchmark.costs(tuple(o.name for o in objectives)),
            budget=Budget(evaluations=evaluations),
            seed=seed,
            folder=Path(folder) / "run",
        ) as study:
            outcome = study.run(strategy)
        seconds = time.perf_counter() - start - evaluate.seconds
    return 1000 * seconds / evaluate.calls, outcome.evaluations
