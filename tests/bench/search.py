"""How good searches are at a given number of evaluations, and what the study and the strategy cost beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # comes with scikit-learn

from hwnas.evaluation.benchmarks import mbv3_45 as read
from hwnas.evaluation.tabular import Benchmark
from hwnas.strategies import Nat, Nsga2, RandomSearch
from hwnas.study import Strategy
from tests.bench.best_network import TRANSNAS, nasbench201_best, nasbench201_best_of_others
from tests.bench.devices import ON_DEVICES, devices_together, with_optuna
from tests.bench.figures import TIME, Arrival, Bench, Measured, Null, Row, arrivals, mean_of
from tests.bench.gradient import gradient, gradient_digits
from tests.bench.mbv3_45 import OBJECTIVES, volume, volume_of
from tests.bench.other_tools import OPTUNA, PYMOO, OtherTool, first_at, pymoo_nsga2_as_ours, versions
from tests.bench.tabular import LINEAR, STORE, mbv3_45_surrogate, nasbench201_paper, overhead, own_time, pi5
from tests.bench.toy201 import toy201_rows

SEEDS, NAT_SEEDS = (0, 1, 2, 3, 4), (0, 1, 2)
NAT = Nat()
OF_20 = OtherTool(partial(pymoo_nsga2_as_ours, population=20))
TOOLS: Mapping[str, OtherTool] = {"pymoo nsga2": PYMOO, "pymoo nsga2, our population and eta": OF_20, **OPTUNA}
TOLD = "nothing: it is told accuracy and multiply-adds of what it asks for"
ENDS = "multiply-adds, exactly: their ends begin it; population and eta were chosen on this table"


def mbv3_45(
    data: Path,
    *,
    evaluations: int = 1000,
    nat_evaluations: int = 250,
    nat: Nat = NAT,
    seeds: Sequence[int] = SEEDS,
    tools: Mapping[str, OtherTool] = TOOLS,
    tool_seeds: int = 20,
) -> Measured:
    """NSGA-II, NAT and random search on MBv3-45, through a study stored on disk, and pymoo's and Optuna's own searches.

    Things that favour hwnas here are in what its rows say it was given: the ends of the range of multiply-adds, without
    which NSGA-II reached 0.594 at least and 0.611 on average; a population and an eta chosen on this very table; and an
    error that is linear in what surrogates see, so that NAT's figure only guards against a change for the worse.
    """
    nat_seeds = NAT_SEEDS[: len(seeds)]
    nsga2 = [_run(data, Nsga2(), evaluations, seed) for seed in seeds]
    early = [_run(data, Nsga2(), nat_evaluations, seed) for seed in seeds]
    random = [_run(data, RandomSearch(), evaluations, seed)[0] for seed in seeds]
    with_nat = [_run(data, nat, nat_evaluations, seed) for seed in nat_seeds]
    volumes = [found for found, _ in nsga2]
    at, at_nat = f"{evaluations:,} evaluations", f"{nat_evaluations:,} evaluations"
    chance = Null("random search", float(np.mean(random)))
    by_linear = f"nat hypervolume (error linear in the given features), {at_nat}"
    rows = [
        Row(
            f"nsga2 hypervolume, {at}, least of {len(seeds)} seeds",
            min(volumes),
            "share",
            0.594,
            0.61,
            null=Null("random search", max(random)),
        ),
        mean_of(f"nsga2 hypervolume, {at}", volumes, "share", must=0.594, goal=0.61, null=chance),
        Row(
            f"nsga2 own overhead per evaluation, {at}, median",
            float(np.median([ms for _, ms in nsga2])),
            "ms",
            1.0,
            0.5,
            "lower",
            null=TIME,
        ),
        mean_of(f"nsga2 hypervolume, {at_nat}", [v for v, _ in early], "share"),
        mean_of(by_linear, [v for v, _ in with_nat], "share", given=LINEAR),
        Row(
            f"nat own overhead per evaluation, {at_nat}, median",
            float(np.median([ms for _, ms in with_nat])),
            "ms",
            better="lower",
            given=LINEAR,
            seeds=len(nat_seeds),
        ),
        mean_of(f"random hypervolume, {at}", random, "share", given="nothing", contender="null"),
    ]
    rows += _of_other_tools(read(data), tools, at=(nat_evaluations, evaluations), seeds=tool_seeds)
    conditions = {"problem": "mbv3_45", "nat_seeds": list(nat_seeds), **versions()}
    return Measured(rows, conditions, given=ENDS, seeds=len(seeds), threads=1, inputs=STORE)


def _of_other_tools(
    benchmark: Benchmark, tools: Mapping[str, OtherTool], *, at: Sequence[int], seeds: int, target: float = 0.60
) -> list[Row]:
    """Their volumes at some numbers of evaluations, how many they need for 0.60, at most three times the last."""
    rows: list[Row] = []
    for name, tool in tools.items():
        most = 3 * max(at)
        with threadpool_limits(1):
            runs = tool.runs(benchmark, OBJECTIVES, evaluations=most, seeds=seeds)
        for n in at:
            volumes = [volume_of(run[:n]) for run in runs if len(run) >= n]
            if volumes:
                of = f"{name} hypervolume, {n:,} evaluations"
                rows.append(mean_of(of, volumes, "share", given=TOLD, contender="rival"))
        counts = [first_at(run, volume_of, target) for run in runs]
        rows += arrivals(
            f"{name}: evaluations until {target:g}, of {tool.most(most):,}",
            [
                Arrival(None if count is None else float(count), volume_of(run))
                for count, run in zip(counts, runs, strict=True)
            ],
            "evaluations",
            given=TOLD,
            contender="rival",
        )
    return rows


def _run(data: Path, strategy: Strategy, evaluations: int, seed: int) -> tuple[float, float]:
    """Hypervolume, and milliseconds per evaluation that were not spent in the evaluation function."""
    ms, evaluations_made = own_time(read(data), strategy, OBJECTIVES, evaluations=evaluations, seed=seed)
    return volume(evaluations_made), ms


SEARCH: Bench = {
    "mbv3_45": mbv3_45,
    "mbv3_45_surrogate": mbv3_45_surrogate,
    "nasbench201_paper": nasbench201_paper,
    "nasbench201_best": nasbench201_best,
    "nasbench201_best_of_others": nasbench201_best_of_others,
    **TRANSNAS,
    **ON_DEVICES,
    "nasbench201_devices": devices_together,
    "nasbench201_optuna": with_optuna,
    "pi5": pi5,
    "overhead": overhead,
    "gradient": gradient,
    "gradient_digits": gradient_digits,
    "toy201": toy201_rows,
}
"""The parts of `python -m tests.bench search`."""
