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
from tests.bench.figures import Measured, Row
from tests.bench.other_tools import OTHER_TOOLS, OtherTool, first_at, versions

DEVICES = ("raspi4", "pixel3", "gold_6226", "1080ti_b1", "eyeriss", "fpga", "pi5_onnx")
ACCURACY = Objective.named("accuracy")
KNOWN = ("macs", "parameters")
"""Exact counts, known of every network beforehand: strategies may use them as proxies."""
PROXY = "accuracy@12_epochs"
"""A cheap score that NAS-Bench-201 has of every network."""
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
    asked: list[Evaluation] = []

    def listen(event: Event) -> None:
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
        budget=Budget(evaluations=evaluations),
        seed=seed,
        in_flight=in_flight,
        progress=listen,
    )
    with study, contextlib.suppress(FoundEnoughError):
        study.run(strategy)
    return asked


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

    def watch(self) -> Enough:
        """Says of one growing run whether it has reached the share: the volume grows only with its front."""
        front, reached = np.empty((0, len(self.objectives))), False

        def enough(asked: Sequence[Evaluation]) -> bool:
            nonlocal front, reached
            if not reached and asked[-1].status == "ok":
                row = costs_of([{o.name: asked[-1][o.name] for o in self.objectives}], self.objectives)
                if not (front <= row).all(axis=1).any():
                    front = np.concatenate([front, row])
                    front = front[non_dominated(front)]
                    reached = hypervolume_share(front, self.truth) >= self.until
            return reached

        return enough


def _spread(figure: str, values: Sequence[float], unit: str, must: float | None, goal: float | None) -> list[Row]:
    """Rows of counts, of which fewer are better: the mean, and the 95th percentile for comparison."""
    return [
        Row(f"{figure}, mean of {len(values)} seeds", float(np.mean(values)), unit, must, goal, "lower"),
        Row(f"{figure}, 95th percentile", float(np.percentile(values, 95)), unit, None, None, "lower"),
    ]


# ------------------------------------------------------------------------------------------- NAS-Bench-201's own rows


PUBLISHED: Mapping[str, tuple[Strategy, tuple[float, float, float], float]] = {
    "random": (RandomSearch(), (93.70, 71.04, 44.57), 0.1),
    "regularized_evolution": (RegularizedEvolution(), (93.92, 71.84, 45.54), 0.1),
    "reinforce": (Reinforce(), (93.85, 71.71, 45.24), 0.2),
}
"""The benchmark's table of 500 runs: test accuracy in % on the three data sets, and how near CIFAR-10's has to be."""

DATASETS: tuple[Dataset, ...] = ("cifar10", "cifar100", "imagenet16_120")


def nasbench201_paper(data: Path, *, seeds: int = 500, evaluations: int = 100) -> Measured:
    """The benchmark's table: 100 evaluations chosen by 12-epoch validation on CIFAR-10, judged by test accuracy.

    Its budget of 12,000 s is about 100 evaluations. All 15,625 cells take part here, as there; evolution breeds one
    child at a time.
    """
    benchmark = nasbench201(data, epochs=12)
    tests = {dataset: nasbench201(data, dataset=dataset).reported["test_accuracy"] for dataset in DATASETS}
    rows, means = [], {}
    for name, (strategy, published, near) in PUBLISHED.items():
        chosen = [
            max(_every(benchmark, strategy, evaluations, seed), key=lambda e: e["accuracy"]).architecture
            for seed in range(seeds)
        ]
        of = f"nasbench201 12 epochs, {name}, {evaluations} evaluations, {seeds} seeds"
        for dataset, paper in zip(DATASETS, published, strict=True):
            picked = [100 * tests[dataset](architecture).value for architecture in chosen]
            mean, must = float(np.mean(picked)), near if dataset == "cifar10" else None
            means[name, dataset] = mean
            rows += [
                Row(f"{of}: {dataset} test, mean", mean, "%"),
                Row(f"{of}: {dataset} test, standard deviation", float(np.std(picked)), "%"),
                Row(f"{of}: {dataset} test, 5th percentile", float(np.percentile(picked, 5)), "%"),
                Row(f"{of}: {dataset}, distance to the published {paper}", abs(mean - paper), "%", must, near, "lower"),
            ]
    gain = means["regularized_evolution", "cifar10"] - means["random", "cifar10"]
    rows.append(Row("nasbench201 12 epochs: regularized_evolution above random", gain, "%", 0.0))
    return Measured(rows, {"seeds": seeds, "in_flight": 1, "threads": 1})


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


# --------------------------------------------------------------------------------------------------- one objective


def nasbench201_best(
    data: Path, *, contenders: Mapping[str, Contender] | None = None, seeds: int = 100, most: int = 500
) -> Measured:
    """Evaluations until the best cell by 200-epoch validation is found, among the connected ones.

    Comparison: a plain Gaussian process on path features needs 100, 137 and 108 on the three data sets, random search
    some 8,000. A run that has not found it by `most` counts as that.
    """
    rows = []
    with threadpool_limits(1):
        for dataset, must, goal in (("cifar10", 100, 60), ("cifar100", 130, 60), ("imagenet16_120", 105, 60)):
            benchmark = nasbench201(data, dataset=dataset)  # type: ignore[arg-type]  # the three of its type
            best = benchmark.true_front((ACCURACY,))[1].min()

            def enough(asked: Sequence[Evaluation], best: float = best) -> bool:
                return -asked[-1]["accuracy"] <= best

            for name, contender in (contenders or ONE_OBJECTIVE).items():
                counts = [
                    len(
                        found(
                            benchmark,
                            contender.strategy,
                            [ACCURACY],
                            evaluations=most,
                            seed=seed,
                            enough=enough,
                            in_flight=1,
                        )
                    )
                    for seed in range(min(seeds, contender.seeds))
                ]
                judged = name == OURS
                figure = f"nasbench201 {dataset}, {name}: evaluations until the best network"
                rows += _spread(figure, counts, "evaluations", must if judged else None, goal if judged else None)
    return Measured(rows, {"seeds": seeds, "most": most, "in_flight": 1, "threads": 1})


# -------------------------------------------------------------------------------------------------- two objectives


def nasbench201_latency(
    data: Path,
    *,
    contenders: Mapping[str, Contender] | None = None,
    tools: Mapping[str, OtherTool] | None = None,
    devices: Sequence[str] = DEVICES,
    seeds: int = 20,
    most: int = 3000,
) -> Measured:
    """Distinct connected networks evaluated until 99 % of the true front's volume, against NSGA-II in the same run.

    Beside them pymoo's and Optuna's own searches; a run of theirs that does not get there counts as one evaluation more
    than it had.

    Error (200-epoch validation; CIFAR-10, for the Pi 5 CIFAR-100) and latency are scaled by the true front's ideal and
    nadir, reference 1.1. Encodings count, so isomorphic cells, which the table trained apart, are two networks. Ours
    may also ask for the validation accuracy after 12 epochs of any network; what that is worth shows the row without.
    """
    rows = []
    with threadpool_limits(1):
        for device in devices:
            benchmark = nasbench201(data, dataset="cifar100" if device.startswith("pi5") else "cifar10")
            objectives = (ACCURACY, Objective.named(f"latency_ms@{device}"))
            share = Share(benchmark, objectives)
            plain = _counts(benchmark, Contender(Nsga2(population=40)), objectives, share, seeds, most)
            rows += _spread(f"{device}, nsga2 of 40: evaluations until 99 %", plain, "evaluations", None, None)
            for name, tool in (OTHER_TOOLS if tools is None else tools).items():
                runs = tool.runs(benchmark, objectives, evaluations=most, seeds=seeds)
                theirs = [first_at(run, share.of_costs, share.until) for run in runs]
                figure = f"{device}, {name}: evaluations until 99 %{tool.cut(most)}"
                rows += _spread(figure, theirs, "evaluations", None, None)
            for name, contender in (contenders or TWO_OBJECTIVES).items():
                counts = _counts(benchmark, contender, objectives, share, seeds, most)
                rows += _spread(f"{device}, {name}: evaluations until 99 %", counts, "evaluations", None, None)
                ratio = float(np.mean(counts) / np.mean(plain))
                must, goal = (0.5, 0.25) if name == OURS else (None, None)
                rows.append(Row(f"{device}, {name} against nsga2: evaluations", ratio, "ratio", must, goal, "lower"))
    return Measured(rows, {"seeds": seeds, "most": most, "threads": 1, **versions()})


@dataclass(frozen=True)
class Contender:
    """A strategy, what it may ask for beside the objectives, and with how many seeds at most: slow ones get fewer."""

    strategy: Strategy
    known: tuple[str, ...] = KNOWN
    seeds: int = 20


def _counts(
    benchmark: Benchmark,
    contender: Contender,
    objectives: tuple[Objective, ...],
    share: Share,
    seeds: int,
    most: int,
) -> list[float]:
    return [
        float(
            len(
                found(
                    benchmark,
                    contender.strategy,
                    objectives,
                    evaluations=most,
                    seed=seed,
                    enough=share.watch(),
                    known=contender.known,
                )
            )
        )
        for seed in range(min(seeds, contender.seeds))
    ]


def mbv3_45_surrogate(
    data: Path,
    *,
    strategies: Mapping[str, Strategy] | None = None,
    seeds: int = 20,
    late_seeds: int = 10,
    most: int = 1000,
    early: int = 250,
    target: float = 0.60,
) -> Measured:
    """MBv3-45 with few evaluations: how many to a volume of 0.60, and the volume at 250 and, of `late_seeds`, at 1,000.

    The true front has 0.69445, so 0.695 cannot be reached. pymoo's NSGA-II has 0.530 at 250 and 0.60 at 1,000. The
    error is linear in what surrogates see, which no real accuracy is.
    """
    benchmark = mbv3_45(data)
    rows = []
    with threadpool_limits(1):
        for name, strategy in (strategies or MANY_DECISIONS).items():
            runs = [
                found(benchmark, strategy, mbv3.OBJECTIVES, evaluations=most if seed < late_seeds else early, seed=seed)
                for seed in range(seeds)
            ]
            counts = [first_at(run, mbv3.volume, target) for run in runs]
            judged = name == OURS
            rows += _spread(
                f"mbv3_45, {name}: evaluations until {target:g}",
                counts,
                "evaluations",
                100 if judged else None,
                80 if judged else None,
            )
            for at, must, goal in ((early, 0.67, 0.685), (most, 0.688, 0.695)):
                volumes = [mbv3.volume(run[:at]) for run in runs if len(run) >= at]
                if not volumes:
                    continue
                of = f"mbv3_45, {name}: volume at {at:,} evaluations"
                bounds = (must, goal) if judged else (None, None)
                rows += [
                    Row(f"{of}, mean of {len(volumes)} seeds", float(np.mean(volumes)), "share", *bounds),
                    Row(f"{of}, 5th percentile", float(np.percentile(volumes, 5)), "share"),
                ]
    return Measured(rows, {"seeds": seeds, "late_seeds": late_seeds, "threads": 1, "true_front": 0.69445})


# ------------------------------------------------------------------------------------------------ three objectives


def pi5(
    data: Path, *, contenders: Mapping[str, Contender] | None = None, seeds: int = 20, evaluations: int = 500
) -> Measured:
    """Accuracy, latency and energy on a Raspberry Pi 5 (ONNX Runtime, CIFAR-100) within 500 evaluations."""
    benchmark = nasbench201(data, dataset="cifar100")
    objectives = (ACCURACY, Objective.named("latency_ms@pi5_onnx"), Objective.named("energy_mj@pi5_onnx"))
    share = Share(benchmark, objectives)
    rows = []
    with threadpool_limits(1):
        for name, contender in (contenders or THREE_OBJECTIVES).items():
            shares = [
                share.of(
                    found(
                        benchmark,
                        contender.strategy,
                        objectives,
                        evaluations=evaluations,
                        seed=seed,
                        known=contender.known,
                    )
                )
                for seed in range(min(seeds, contender.seeds))
            ]
            of = f"pi5 accuracy, latency, energy, {name}: share of the true front at {evaluations} evaluations"
            bounds = (None, None) if name == "random" else (0.97, 0.99)
            rows += [
                Row(f"{of}, mean of {len(shares)} seeds", float(np.mean(shares)), "share", *bounds),
                Row(f"{of}, 5th percentile", float(np.percentile(shares, 5)), "share"),
            ]
    return Measured(rows, {"seeds": seeds, "threads": 1, "true_front": len(share.truth)})


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


def overhead(data: Path, *, evaluations: int = 100_000) -> Measured:
    """What study, store and strategy cost per evaluation in a long run on MBv3-45, stored on disk."""
    rows = []
    for name, strategy in (("random", RandomSearch()), ("nsga2", Nsga2())):
        ms, _ = own_time(mbv3_45(data), strategy, mbv3.OBJECTIVES, evaluations=evaluations, seed=0)
        of = f"{name} own overhead per evaluation, {evaluations:,} evaluations"
        rows.append(Row(of, ms, "ms", 1.0, 0.1, "lower"))
    return Measured(rows, {"problem": "mbv3_45", "seed": 0, "threads": 1})


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


OURS = "bayesian"
"""The strategy that musts are about."""

ABLATION: Mapping[str, Strategy] = {
    "bayesian without known costs": Bayesian(use_costs=False),
    "bayesian without scores": Bayesian(use_scores=False),
}
ONE_OBJECTIVE: Mapping[str, Contender] = {
    OURS: Contender(Bayesian(), seeds=100),
    **{name: Contender(strategy) for name, strategy in ABLATION.items()},
    "regularized_evolution": Contender(RegularizedEvolution()),
}
TWO_OBJECTIVES: Mapping[str, Contender] = {
    OURS: Contender(Bayesian(), (*KNOWN, PROXY), seeds=10),
    "bayesian without 12-epoch scores": Contender(Bayesian(), seeds=3),
}
MANY_DECISIONS: Mapping[str, Strategy] = {OURS: Bayesian()}
THREE_OBJECTIVES: Mapping[str, Contender] = {
    OURS: Contender(Bayesian()),
    "nsga3": Contender(Nsga3()),
    "nat": Contender(Nat(), seeds=3),
    "random": Contender(RandomSearch()),
}
