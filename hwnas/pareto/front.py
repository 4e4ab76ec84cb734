"""Who is on a front, how good a front is, and how lonely its members are. All costs are minimised.

The sorting and the volume are moocore's, the crowding pymoo's. Both put a row with NaN on the first front, so every
function here refuses numbers that are not finite before they get there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import moocore
import numpy as np
from numpy.typing import NDArray
from pymoo.operators.survival.rank_and_crowding.metrics import get_crowding_function

from hwnas.core import Evaluation, Limit, Objective

# Two ways to add up a cost differ in their last bits; a limit set to a network's own cost must admit that network.
_SLACK = 1e-9

Costs = NDArray[np.float64]
Indices = NDArray[np.int64]
Margins = NDArray[np.float64]


@dataclass(frozen=True)
class Point:
    """A named row of metrics, in the metrics' own units.

    Example:
        >>> Point("a0a45cbc19ae", {"accuracy": 0.9, "latency_ms": 4.0}).metrics["latency_ms"]
        4.0
    """

    name: str
    metrics: Mapping[str, float]


def non_dominated(costs: Costs) -> Indices:
    """Which rows no other row beats: none is at least as good in every column and better in one.

    Args:
        costs: [points, objectives], all minimised.

    Returns:
        Indices in input order; of equal rows only the first.

    Raises:
        ValueError: If a cost is not finite or the array is not two-dimensional.

    Example:
        >>> non_dominated(np.array([[1.0, 2.0], [2.0, 2.0], [0.0, 3.0], [1.0, 2.0]])).tolist()
        [0, 2]
    """
    checked = _checked(costs, "non_dominated")
    if not len(checked):
        return np.empty(0, dtype=np.int64)
    kept: NDArray[np.bool_] = moocore.is_nondominated(checked, keep_weakly=False)
    return np.flatnonzero(kept)


def non_dominated_beyond(costs: Costs, margins: Margins, *, first: Sequence[int]) -> Indices:
    """As `non_dominated`, less those that gain nothing beyond the noise: of ties the cheaper is kept.

    The rows of `non_dominated` are gone through from the cheapest. One that no row kept so far ties or beats in every
    column is kept; rows kept before that it beats (no worse in any column, better in one, both beyond the margins) go.
    So a row is never left out for another that was left out itself.

    Args:
        costs: [points, objectives], all minimised.
        margins: [points, points, objectives], symmetric: differences up to here are noise.
        first: Columns in the order in which "cheaper" looks at them, see `cheaper_first`; the others follow.

    Returns:
        Indices in input order, at least one where there is a row.

    Raises:
        ValueError: If a number is not finite, a margin is negative, or the shapes do not fit.

    Example:
        >>> costs = np.array([[-0.900, 1.0], [-0.905, 2.0], [-0.920, 3.0]])
        >>> margins = np.zeros((3, 3, 2))
        >>> margins[:, :, 0] = 0.01
        >>> non_dominated_beyond(costs, margins, first=[1]).tolist()
        [0, 2]
    """
    checked = _checked(costs, "non_dominated_beyond")
    n, columns = checked.shape
    if margins.shape != (n, n, columns) or not (np.isfinite(margins) & (margins >= 0)).all():
        raise ValueError(
            f"non_dominated_beyond: margins of shape {margins.shape}; expected {(n, n, columns)}, 0 or above"
        )
    order = [*first, *(column for column in range(columns) if column not in first)]
    candidates = sorted(non_dominated(checked).tolist(), key=lambda row: tuple(checked[row, order]))
    kept: list[int] = []
    for row in candidates:
        if any((checked[other] <= checked[row] + margins[other, row]).all() for other in kept):
            continue
        kept = [
            other
            for other in kept
            if not (
                (checked[row] <= checked[other] + margins[row, other]).all()
                and (checked[row] < checked[other] - margins[row, other]).any()
            )
        ]
        kept.append(row)
    return np.array(sorted(kept), dtype=np.int64)


def cheaper_first(objectives: Sequence[Objective]) -> list[int]:
    """Columns in the order in which a tie is decided: what is spent before what is gained by it.

    Example:
        >>> cheaper_first([Objective.named("accuracy"), Objective.named("latency_ms"), Objective.named("macs")])
        [1, 2, 0]
    """
    return sorted(range(len(objectives)), key=lambda n: objectives[n].unit == "share")


def fronts(costs: Costs) -> list[Indices]:
    """Every front, best first: the first is non-dominated, the next is non-dominated once the first is gone, ...

    Equal rows are on the same front.

    Raises:
        ValueError: If a cost is not finite or the array is not two-dimensional.

    Example:
        >>> [front.tolist() for front in fronts(np.array([[1.0, 2.0], [2.0, 2.0], [0.0, 3.0], [1.0, 2.0]]))]
        [[0, 2, 3], [1]]
    """
    checked = _checked(costs, "fronts")
    if not len(checked):
        return []
    ranks: NDArray[np.int64] = moocore.pareto_rank(checked)
    return [np.flatnonzero(ranks == rank) for rank in range(int(ranks.max()) + 1)]


def crowding(costs: Costs) -> NDArray[np.float64]:
    """How far apart each row's two neighbours are, averaged over the objectives; the ends of each are infinitely far.

    Gaps are shares of the objective's range; an objective without a range counts 0. Rows should be of one front.
    Source: Deb et al. 2002 (IEEE Trans. Evol. Comp. 6(2)), section III-B.

    Raises:
        ValueError: If a cost is not finite or the array is not two-dimensional.

    Example:
        >>> crowding(np.array([[0.0, 4.0], [1.0, 2.0], [4.0, 0.0]])).tolist()
        [inf, 1.0, inf]
    """
    checked = _checked(costs, "crowding")
    distance: NDArray[np.float64] = get_crowding_function("cd").do(checked)
    return distance


def hypervolume(costs: Costs, reference: NDArray[np.float64] | Sequence[float]) -> float:
    """The volume of objective space that the rows dominate, up to a reference point.

    A row that is not better than the reference in every objective adds nothing, nor do dominated and repeated rows.
    Volumes are comparable only under one reference: store it with the run (see `reference_of`).
    Source: Zitzler and Thiele 1998 (PPSN V), the size of the space covered.

    Args:
        costs: [points, objectives], all minimised.
        reference: [objectives], the worst cost still counted.

    Returns:
        The volume, in the product of the objectives' units; 0 without a row.

    Raises:
        ValueError: If a number is not finite or the shapes do not fit.

    Example:
        >>> hypervolume(np.array([[1.0, 2.0], [5.0, 0.0]]), [3.0, 3.0])
        2.0
    """
    checked = _checked(costs, "hypervolume")
    corner = np.asarray(reference, dtype=np.float64)
    if corner.shape != (checked.shape[1],) or not np.isfinite(corner).all():
        raise ValueError(f"hypervolume: the reference is {corner}; expected {checked.shape[1]} finite numbers")
    inside = checked[(checked < corner).all(axis=1)]
    return float(moocore.hypervolume(inside, ref=corner)) if len(inside) else 0.0


def hypervolume_share(costs: Costs, truth: Costs, *, margin: float = 0.1) -> float:
    """How much of the volume that a known front dominates some rows dominate: 1 for the front itself.

    Each objective is scaled so that the front's best is 0 and its worst is 1; the reference lies `margin` beyond the
    worst. So one point that is best in everything is worth as much as any front would be, and nothing is negative.

    Args:
        costs: [points, objectives], all minimised.
        truth: [points, objectives], the non-dominated rows of everything there is.
        margin: Of the reference, as a share of each objective's range on the front.

    Raises:
        ValueError: If the front is empty, a number is not finite or the shapes do not fit.

    Example:
        >>> truth = np.array([[0.0, 10.0], [5.0, 5.0], [10.0, 0.0]])
        >>> hypervolume_share(truth, truth), round(hypervolume_share(truth[[0, 2]], truth), 3)
        (1.0, 0.457)
    """
    if not len(truth):
        raise ValueError("hypervolume_share: the front has no row; expected at least one")
    ideal, nadir = truth.min(axis=0), truth.max(axis=0)
    span = np.where(nadir > ideal, nadir - ideal, 1.0)
    reference = np.full(truth.shape[1], 1.0 + margin)
    return hypervolume((costs - ideal) / span, reference) / hypervolume((truth - ideal) / span, reference)


def reference_of(costs: Costs, *, margin: float = 0.01) -> NDArray[np.float64]:
    """A reference point for `hypervolume`: the worst cost per objective and a margin. Take it once and store it.

    Args:
        costs: [points, objectives], for example the first networks of a search.
        margin: Share of an objective's range that is added; of the worst cost's size where there is no range, of 1
            where that is 0.

    Raises:
        ValueError: If there is no row or a cost is not finite.

    Example:
        >>> reference_of(np.array([[0.0, 7.0], [10.0, 7.0]]), margin=0.5).tolist()
        [15.0, 10.5]
    """
    checked = _checked(costs, "reference_of")
    if not len(checked):
        raise ValueError("reference_of: no costs; expected at least one row")
    worst = checked.max(axis=0)
    span = worst - checked.min(axis=0)
    size = np.where(worst == 0, 1.0, np.abs(worst))
    reference: NDArray[np.float64] = worst + margin * np.where(span > 0, span, size)
    return reference


def costs_of(points: Sequence[Mapping[str, float]], objectives: Sequence[Objective]) -> Costs:
    """The metrics of points as costs [points, objectives], smaller is better.

    Raises:
        KeyError: If a point lacks an objective.

    Example:
        >>> costs_of([{"accuracy": 0.9, "latency_ms": 4.0}], [Objective.named("accuracy")]).tolist()
        [[-0.9]]
    """
    columns = [
        objective.as_cost(np.array([point[objective.name] for point in points], dtype=np.float64))
        for objective in objectives
    ]
    return np.stack(columns, axis=1) if columns else np.empty((len(points), 0))


def violations_of(points: Sequence[Mapping[str, float]], limits: Sequence[Limit]) -> NDArray[np.float64]:
    """How far each point lies outside the limits, in all: the sum of violations, each as a share of its bound.

    A limit on a metric that a point lacks is violated without measure: unknown is not feasible.

    Returns:
        [points], 0 where feasible, inf where a limit's metric is unknown or not a number.

    Example:
        >>> violations_of([{"latency_ms": 3.0}, {"latency_ms": 2.0}, {}], [Limit("latency_ms", at_most=2.0)]).tolist()
        [0.5, 0.0, inf]
    """
    total = np.zeros(len(points))
    for limit in limits:
        for n, point in enumerate(points):
            value = point.get(limit.name, np.nan)
            amount = limit.violation(value) if np.isfinite(value) else np.inf
            bound = limit.at_most if limit.at_most is not None and value > limit.at_most else limit.at_least
            share = amount / (abs(bound) if bound else 1.0)
            total[n] += share if share > _SLACK else 0.0
    return total


@dataclass(frozen=True)
class Standings:
    """How evaluations stand, as far as they can be compared at all.

    Attributes:
        index: [n], positions in the evaluations given.
        costs: [n, objectives], all minimised and finite.
        violation: [n], how far outside the limits; 0 where the evaluation is ok.
    """

    index: Indices
    costs: Costs
    violation: NDArray[np.float64]


def standings(evaluations: Sequence[Evaluation], objectives: Sequence[Objective], limits: Sequence[Limit]) -> Standings:
    """Evaluations as rows that can be sorted: those that failed or lack an objective are left out.

    A network that was evaluated and broke a limit stays, with its violation: it tells where the limit runs.

    Example:
        >>> from hwnas.core import Architecture, Metric
        >>> good = Evaluation(Architecture({"k": 3}), {"latency_ms": Metric(1.0, "ms", "measured")})
        >>> bad = Evaluation(Architecture({"k": 5}), status="failed", reason="out of memory")
        >>> standings([bad, good], [Objective.named("latency_ms")], []).index.tolist()
        [1]
    """
    index = [
        n
        for n, evaluation in enumerate(evaluations)
        if evaluation.status != "failed" and all(objective.name in evaluation.metrics for objective in objectives)
    ]
    rows = [{name: metric.value for name, metric in evaluations[n].metrics.items()} for n in index]
    ok = np.array([evaluations[n].status == "ok" for n in index], dtype=bool)
    outside = violations_of(rows, limits)
    # What the study called infeasible stays so, whatever the last bit of the sum says; unknown is far outside.
    outside = np.where(outside > 0, np.minimum(outside, 1e9), 1e-9)
    violation = np.where(ok, 0.0, outside)
    return Standings(np.array(index, dtype=np.int64), costs_of(rows, objectives), violation)


def errors_of(evaluations: Sequence[Evaluation], objectives: Sequence[Objective]) -> NDArray[np.float64]:
    """The standard error of each objective of each evaluation, [n, objectives]; 0 where none is known.

    Example:
        >>> from hwnas.core import Architecture, Metric
        >>> accuracy = Metric(0.9, "share", "measured", standard_error=0.01)
        >>> one = Evaluation(Architecture({"k": 3}), {"accuracy": accuracy})
        >>> errors_of([one], [Objective.named("accuracy"), Objective.named("latency_ms")]).tolist()
        [[0.01, 0.0]]
    """
    rows = [
        [getattr(one.metrics.get(o.name), "standard_error", None) or 0.0 for o in objectives] for one in evaluations
    ]
    return np.array(rows, dtype=np.float64).reshape(len(evaluations), len(objectives))


def front_of(
    evaluations: Sequence[Evaluation], objectives: Sequence[Objective], limits: Sequence[Limit] = ()
) -> list[Evaluation]:
    """The evaluations that nothing beats.

    Only those that are ok, know every objective and meet every limit are looked at. Where an architecture comes more
    than once (evaluated again with newer weights), the last counts; of architectures with equal costs the first in
    the order below.

    Returns:
        Sorted by the first objective, best first, then by the architecture's JSON.

    Example:
        >>> from hwnas.core import Architecture, Metric
        >>> rows = [(0.9, 10.0), (0.8, 12.0), (0.6, 3.5)]
        >>> found = [
        ...     Evaluation(
        ...         Architecture({"k": n}),
        ...         {"accuracy": Metric(a, "share", "measured"), "latency_ms": Metric(ms, "ms", "measured")},
        ...     )
        ...     for n, (a, ms) in enumerate(rows)
        ... ]
        >>> [e["accuracy"] for e in front_of(found, [Objective.named("accuracy"), Objective.named("latency_ms")])]
        [0.9, 0.6]
    """
    latest = {evaluation.architecture: evaluation for evaluation in evaluations if evaluation.status == "ok"}
    known = [e for e in latest.values() if all(objective.name in e.metrics for objective in objectives)]
    values = [{name: metric.value for name, metric in evaluation.metrics.items()} for evaluation in known]
    feasible = [n for n, violation in enumerate(violations_of(values, limits)) if violation == 0]
    costs = costs_of(values, objectives)
    feasible.sort(key=lambda n: (costs[n, 0], known[n].architecture.to_json()))
    return [known[feasible[n]] for n in non_dominated(costs[feasible])]


def _checked(costs: Costs, caller: str) -> Costs:
    array = np.ascontiguousarray(costs, dtype=np.float64)
    if array.ndim != 2:
        raise ValueError(f"{caller}: costs have shape {array.shape}; expected [points, objectives]")
    if not np.isfinite(array).all():
        row = int(np.flatnonzero(~np.isfinite(array).all(axis=1))[0])
        raise ValueError(f"{caller}: row {row} is {array[row].tolist()}; expected finite numbers only")
    return array
