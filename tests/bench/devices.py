"""NAS-Bench-201 with each of twelve devices: what a search evaluates until it has 99 % of the true front's volume.

Error (200-epoch validation; CIFAR-10, for the Pi 5 and the Pixel under LiteRT CIFAR-100) and latency are scaled by the
true front's ideal and nadir, reference 1.1. Encodings count, so isomorphic cells, which the table trained apart, are
two networks; only connected ones take part. The table's scores after 12 epochs, which cost 917 full trainings, are
given to nobody. In a second row, for comparison only, the search may buy them network by network: each counts as 0.06
evaluations. Beside it stands who buys all of them and evaluates in their order.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # comes with scikit-learn

from hwnas.core import Objective
from hwnas.evaluation.benchmarks import nasbench201
from hwnas.evaluation.tabular import Benchmark
from hwnas.strategies import Bayesian, Nsga2
from tests.bench.figures import (
    ROOT,
    Arrival,
    Bench,
    Contender,
    Measured,
    MissingDataError,
    Null,
    Row,
    arrivals,
    mean_count,
    standard_error,
)
from tests.bench.nulls import Places, largest_first, layer_after_layer, layers
from tests.bench.other_tools import OPTUNA, OURS_IN_PYMOO, PYMOO, OtherTool, versions
from tests.bench.problems import DEVICES_DEVELOPED_ON, DEVICES_HELD_OUT
from tests.bench.result_files import load, stale
from tests.bench.tabular import ACCURACY, Share, Side

DEVICES = (*DEVICES_DEVELOPED_ON, *DEVICES_HELD_OUT)
MOST = 6000
EPOCHS = 200
"""Of one evaluation."""

MUST, GOAL = 0.5, 0.25
ENOUGH = 10
"""Of the devices."""

BOUGHT_WHAT = "bayesian with scores bought at 12/200 each"
OVER_BETTER = "over the better nsga2: training epochs until 99 %"

TUNED = "kernel, priors and defaults chosen on the accuracies of this table"
JUDGED = Side(Bayesian(), given=f"exact latency, multiply-adds and parameters of every network; no scores; {TUNED}")
BOUGHT = Side(
    Bayesian(),
    given="exact latency, multiply-adds and parameters; 12-epoch scores that are bought and counted; how many at first "
    f"was chosen on seeds 0 to 2 of gold_6226, 1080ti_b1 and pi5_onnx; {TUNED}",
    scores=True,
)
ENDS = "exact latency, multiply-adds and parameters of every network: their ends begin it"
PLAIN: Mapping[str, Side] = {
    "our nsga2 at its defaults, of 20": Side(Nsga2(), given=ENDS, contender="rival"),
    "our nsga2 of 40": Side(Nsga2(population=40), given=ENDS, contender="rival"),
}
"""On some devices the one needs less, on others the other."""

TOOLS: Mapping[str, OtherTool] = {"pymoo nsga2": PYMOO, "pymoo nsga2, our population and eta": OURS_IN_PYMOO}
NOTHING = "nothing: it is told accuracy, latency and limits of what it asks for"
RESULTS = ROOT / "tests" / "bench" / "results" / "search.json"


def problem(data: Path, device: str) -> tuple[Benchmark, tuple[Objective, ...]]:
    """The table and the objectives of a device."""
    benchmark = nasbench201(data, dataset="cifar100" if device.startswith(("pi5", "pixel_litert")) else "cifar10")
    return benchmark, (ACCURACY, Objective.named(f"latency_ms@{device}"))


def on_device(
    data: Path,
    *,
    device: str,
    judged: Side = JUDGED,
    bought: Side = BOUGHT,
    plain: Mapping[str, Side] = PLAIN,
    tools: Mapping[str, OtherTool] = TOOLS,
    seeds: int = 20,
    most: int = MOST,
) -> Measured:
    """One device: ours against the better of our and pymoo's NSGA-II, and what sorting and chance reach.

    Args:
        data: Holds nasbench201/.
        device: A latency column.
        judged: The side that the bounds are about.
        bought: The side that may buy scores.
        plain: Rivals of ours.
        tools: Rivals of others.
        seeds: Of each side.
        most: Evaluations of a run.
    """
    benchmark, objectives = problem(data, device)
    share = Share(benchmark, objectives)
    what = "evaluations until 99 %"
    rows: list[Row] = []
    with threadpool_limits(1):
        rivals = {}
        for name, side in plain.items():
            rivals[name] = side.until(benchmark, objectives, share, seeds=seeds, most=most)
            rows += _rows(f"{device}, {name}: {what}", rivals[name], side.given, "rival")
        for name, tool in tools.items():
            rivals[name] = tool.arrivals(benchmark, objectives, share, evaluations=most, seeds=seeds)
            rows += _rows(f"{device}, {name}: {what}", rivals[name], NOTHING, "rival")
        nulls = {name: _in_order(share, orders, most) for name, orders in _orders(benchmark, objectives, seeds).items()}
        for name, runs in nulls.items():
            rows += _rows(f"{device}, {name}: {what}", runs, NULLS[name], "null")
        ours = judged.until(benchmark, objectives, share, seeds=seeds, most=most)
        rows += _rows(f"{device}, bayesian: {what}", ours, judged.given, "ours")
        with_scores = bought.until(benchmark, objectives, share, seeds=seeds, most=most)
        rows += _rows(f"{device}, {BOUGHT_WHAT}: {what}", with_scores, bought.given, "ours")
        of_bought = {
            ALL_BOUGHT: _scores_first(share, seeds, most),
            FEW_BOUGHT: _scores_first(share, seeds, most, FEW),
        }
        for name, runs in of_bought.items():
            rows += _rows(f"{device}, {name}: {what}", runs, bought.given, "null")
    # A rival's run that never arrived counts as if it had at its end: that is in the rival's favour.
    means = {name: float(np.mean([run.count or most for run in runs])) for name, runs in rivals.items()}
    better = min(means, key=lambda name: means[name])
    of_nulls = {name: mean_count(runs) for name, runs in nulls.items()}
    easiest = min(of_nulls, key=lambda name: of_nulls[name])
    cheapest = min(of_bought, key=lambda name: mean_count(of_bought[name]))
    rows.append(
        Row(
            f"{device}, {BOUGHT_WHAT} {OVER_BETTER}",
            mean_count(with_scores) / means[better],
            "ratio",
            better="lower",
            given=bought.given,
            seeds=len(with_scores),
            error=_error_of_ratio(with_scores, rivals[better]),
            null=Null(cheapest, mean_count(of_bought[cheapest]) / means[better]),
        )
    )
    rows.append(
        Row(
            f"{device}, bayesian without scores {OVER_BETTER}",
            mean_count(ours) / means[better],
            "ratio",
            MUST,
            GOAL,
            "lower",
            given=judged.given,
            seeds=len(ours),
            error=_error_of_ratio(ours, rivals[better]),
            null=Null(easiest, of_nulls[easiest] / means[better]),
        )
    )
    return Measured(
        rows,
        {
            "device": device,
            "better_nsga2": better,
            "most": most,
            "epochs_of_an_evaluation": EPOCHS,
            "true_front": len(share.truth),
            **versions(),
        },
        given=judged.given,
        seeds=seeds,
        threads=1,
    )


def with_optuna(data: Path, *, devices: Sequence[str] = DEVICES_DEVELOPED_ON, most: int = 3000) -> Measured:
    """Optuna's searches, with the seeds and evaluations that their own time allows; for comparison only.

    Args:
        data: Holds nasbench201/.
        devices: Latency columns.
        most: Evaluations of a run, unless the tool has fewer.
    """
    rows: list[Row] = []
    for device in devices:
        benchmark, objectives = problem(data, device)
        share = Share(benchmark, objectives)
        for name, tool in OPTUNA.items():
            with threadpool_limits(1):
                runs = tool.arrivals(benchmark, objectives, share, evaluations=most, seeds=20)
            rows += _rows(f"{device}, {name}: evaluations until 99 %, of {tool.most(most):,}", runs, NOTHING, "rival")
    return Measured(rows, {"most": most, **versions()}, given=NOTHING, seeds=20, threads=1)


def devices_together(data: Path, *, results: Path = RESULTS) -> Measured:
    """On how many devices the bound holds, from the rows of the devices' own parts.

    Args:
        data: Not used.
        results: The file that holds them.

    Raises:
        MissingDataError: If one of them is missing or stale.
    """
    parts = {part_of(device): device for device in DEVICES}
    for one in stale(results.parent, {"search": ON_DEVICES}):
        if one.part in parts:
            raise MissingDataError(f"{one.part}: {one.reason}; python -m tests.bench search {one.part}")
    judged = [row for row in load(results)["rows"] if row["part"] in parts and row["must"] is not None]
    rows = []
    for bound, kind in ((MUST, "must"), (GOAL, "goal")):
        # A device on which sorting or chance meets the bound says nothing of the search.
        easy = [row["null"]["value"] is not None and row["null"]["value"] <= bound for row in judged]
        within = [row["value"] is not None and row["value"] + 2 * (row["error"] or 0) <= bound for row in judged]
        held = sum(met and not void for met, void in zip(within, easy, strict=True))
        rows.append(
            Row(
                f"devices of {len(judged)} on which bayesian without scores needs at most {bound:g} of the training "
                "epochs of the better nsga2",
                held,
                "devices",
                ENOUGH if kind == "must" else None,
                ENOUGH if kind == "goal" else None,
                null=Null("the easiest of sorting and chance", sum(easy)),
            )
        )
    ahead = sum(
        row["value"] is not None
        and (row["null"]["value"] is None or row["value"] + 2 * (row["error"] or 0) < row["null"]["value"])
        for row in judged
    )
    figure = f"devices of {len(judged)} on which it is ahead of sorting and chance by two standard errors"
    rows += [Row(figure, ahead, "devices"), *_with_scores_bought(load(results)["rows"], judged)]
    conditions = {
        "devices": list(DEVICES),
        "with_scores_bought": "for comparison: each score counts as 0.06 evaluations",
    }
    return Measured(rows, conditions, given=JUDGED.given, seeds=20, threads=1)


def _with_scores_bought(rows: Sequence[Mapping[str, Any]], judged: Sequence[Mapping[str, Any]]) -> list[Row]:
    """On how many devices the search meets the bounds when it may buy scores, and needs less than without."""
    bought = {row["part"]: row for row in rows if row["figure"].endswith(f"{BOUGHT_WHAT} {OVER_BETTER}")}
    values = [row["value"] + 2 * (row["error"] or 0) for row in bought.values() if row["value"] is not None]
    of = f"devices of {len(bought)} on which {BOUGHT_WHAT} needs"
    fewer = sum(
        row["part"] in bought
        and (now := bought[row["part"]]["value"]) is not None
        and (row["value"] is None or now < row["value"])
        for row in judged
    )
    return [
        *(
            Row(
                f"{of} at most {bound:g} of the training epochs of the better nsga2",
                sum(value <= bound for value in values),
                "devices",
                given=BOUGHT.given,
            )
            for bound in (MUST, GOAL)
        ),
        Row(f"{of} fewer training epochs than without scores", fewer, "devices", given=BOUGHT.given),
    ]


def part_of(device: str) -> str:
    """Its name in the bench."""
    return f"nasbench201_latency_{device}"


def _rows(figure: str, runs: Sequence[Arrival], given: str, contender: Contender) -> list[Row]:
    return arrivals(figure, runs, "evaluations", given=given, contender=contender)


ALL_BOUGHT = "all scores bought, then sorted by score and latency"
FEW = 300
FEW_BOUGHT = f"scores of the first {FEW} by multiply-adds and latency bought, then sorted by score and latency"
NULLS: Mapping[str, str] = {
    "sorted by multiply-adds and latency": "exact latency and multiply-adds of every network",
    "sorted by parameters and latency": "exact latency and parameters of every network",
    "most multiply-adds first": "multiply-adds of every network",
    "at random": "nothing",
}


def _orders(benchmark: Benchmark, objectives: tuple[Objective, ...], seeds: int) -> dict[str, list[Places]]:
    """Places among the connected networks, an order for each seed."""
    codes = _connected(benchmark)
    latency = benchmark.column(objectives[1].name).batch(codes)
    macs, parameters = (benchmark.column(name).batch(codes) for name in ("macs", "parameters"))
    rngs = [np.random.default_rng(seed) for seed in range(seeds)]
    by_macs, by_parameters = (layers(np.stack([-count, latency], axis=1)) for count in (macs, parameters))
    return {
        "sorted by multiply-adds and latency": [layer_after_layer(by_macs, rng) for rng in rngs],
        "sorted by parameters and latency": [layer_after_layer(by_parameters, rng) for rng in rngs],
        "most multiply-adds first": [largest_first(macs, rng) for rng in rngs],
        "at random": [rng.permutation(len(codes)) for rng in rngs],
    }


def _scores_first(share: Share, seeds: int, most: int, first: int | None = None) -> list[Arrival]:
    """Layer after layer of score and latency, once scores were bought; what they cost is counted.

    Args:
        share: Says when a run is there.
        seeds: Of the order within a layer.
        most: Evaluations of a run, what the scores cost included.
        first: How many scores are bought: of the first networks by multiply-adds and latency. None: of all.
    """
    benchmark, [score] = share.benchmark, share.benchmark.scores
    codes = _connected(benchmark)
    latency = benchmark.column(share.objectives[1].name).batch(codes)
    values = -benchmark.column(score.name).batch(codes)
    by_macs = layers(np.stack([-benchmark.column("macs").batch(codes), latency], axis=1))
    cost = score.price * (len(codes) if first is None else min(first, len(codes)))
    orders = []
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        sorted_by_macs = layer_after_layer(by_macs, rng)
        bought = sorted_by_macs[:first]
        if len(bought):
            by_score = layers(np.stack([values[bought], latency[bought]], axis=1))
            bought = bought[layer_after_layer(by_score, rng)]
        orders.append(np.concatenate([bought, sorted_by_macs[len(bought) :]]))
    return [
        replace(run, count=None if run.count is None else run.count + cost)
        for run in _in_order(share, orders, max(0, most - math.ceil(cost)))
    ]


def _connected(benchmark: Benchmark) -> Places:
    return benchmark.candidates((), (), ())


def _in_order(share: Share, orders: Sequence[Places], most: int) -> list[Arrival]:
    """When evaluating in an order has the share; the volume only grows, so by bisection."""
    costs = share.benchmark.costs_of(share.objectives, _connected(share.benchmark))
    return [share.arrival(costs[order[:most]]) for order in orders]


def _error_of_ratio(ours: Sequence[Arrival], rival: Sequence[Arrival]) -> float | None:
    """Of the ratio of two means, to first order; None where ours did not all arrive, or there are too few."""
    a = [run.count for run in ours if run.count is not None]
    b = [run.count for run in rival if run.count is not None]
    errors = standard_error(a), standard_error(b)
    if len(a) < len(ours) or errors[0] is None or errors[1] is None:
        return None
    means = float(np.mean(a)), float(np.mean(b))
    return means[0] / means[1] * math.hypot(errors[0] / means[0], errors[1] / means[1])


ON_DEVICES: Bench = {part_of(device): partial(on_device, device=device) for device in DEVICES}
"""Parts of `python -m tests.bench search`, one for each device."""
