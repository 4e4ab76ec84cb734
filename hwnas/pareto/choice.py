"""Picking one point of a front."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hwnas.core import Limit, Objective, PickError
from hwnas.core.errors import did_you_mean
from hwnas.pareto.front import (
    Margins,
    cheaper_first,
    costs_of,
    non_dominated,
    non_dominated_beyond,
    violations_of,
)

Rule = Literal["knee", "fastest", "most-accurate"]
RULES: tuple[Rule, ...] = ("knee", "fastest", "most-accurate")


def pick(
    points: Sequence[Mapping[str, float]],
    objectives: Sequence[Objective],
    *,
    by: Rule | Mapping[str, float] = "knee",
    limits: Sequence[Limit] = (),
    margins: Margins | None = None,
) -> int:
    """One point of a front, by a rule that gives the same answer every time.

    Points outside the limits (inclusive, in the metrics' units), with an objective that is not finite, or beaten by
    another point are left out first; what is left decides what the rules below see. With one point left, it is the
    answer whatever the rule.

    - knee: each objective is scaled to 0..1 between its best and its worst; the smallest sum wins. For two objectives
      that is the point farthest from the line through the two ends, on the side of the ideal (Das 1999, normal
      boundary); for more it is farthest along the diagonal from the plane through the ends of the scaled axes. Equal
      sums: the smaller worst cost. Two points always tie in both (two objectives), and so the next rule decides.
    - fastest: the smallest value of the first objective in ms.
    - most-accurate: the best value of the first objective that is a share.
    - weights, {objective: weight}: the smallest weighted sum of the scaled objectives; an objective left out weighs 0.

    Ties: the better in the first objective, then in the next, ...; of equal points the first given. With `margins`
    points that gain nothing beyond the noise are left out, too (`non_dominated_beyond`), and where noise alone explains
    by how much the best point leads, the cheapest of those that tie with it is taken.

    Args:
        points: The front, one map of metric to value each; more than the objectives may be known.
        objectives: In order of importance for ties.
        by: A rule, or weights.
        limits: What the pick must meet; a point that lacks a limit's metric does not.
        margins: [points, points, objectives]: differences up to here are noise. None is none.

    Returns:
        The index into `points`.

    Raises:
        PickError: If the front is empty, nothing meets the limits (the nearest value is named), a point lacks an
            objective, no objective fits the rule, or the weights are not usable.

    Example:
        >>> front = [{"accuracy": a, "latency_ms": ms} for a, ms in [(0.90, 10), (0.88, 4), (0.60, 3.5)]]
        >>> objectives = [Objective.named("accuracy"), Objective.named("latency_ms")]
        >>> pick(front, objectives), pick(front, objectives, by="fastest"), pick(front, objectives, by="most-accurate")
        (1, 2, 0)
        >>> pick(front, objectives, by={"accuracy": 3, "latency_ms": 1})
        1
        >>> pick(front, objectives, by="most-accurate", limits=[Limit("latency_ms", at_most=4)])
        1
        >>> noise = np.zeros((3, 3, 2))
        >>> noise[:, :, 0] = 0.03
        >>> pick(front, objectives, by="most-accurate", margins=noise)
        1
    """
    if not points:
        raise PickError("pick: the front is empty; expected at least one point")
    for n, point in enumerate(points):
        for objective in objectives:
            if objective.name not in point:
                raise PickError(f"pick: point {n} has no {objective.name}; {did_you_mean(objective.name, point)}")
    if not objectives:
        raise PickError("pick: no objectives; expected at least one")
    order = _order(by, objectives)  # before anything is left out: a wrong rule is wrong on every front
    costs = costs_of(points, objectives)
    kept = np.flatnonzero(np.isfinite(costs).all(axis=1))
    if not len(kept):
        raise PickError(f"pick: {_none_of(points)} finite objectives; expected at least one")
    violations = violations_of([points[n] for n in kept.tolist()], limits)
    if not (violations == 0).any():
        nearest = points[int(kept[np.argmin(violations)])]
        raise PickError(_nothing_fits(points, nearest, limits), hint="loosen the limit, or search under it")
    kept = kept[violations == 0]
    first = cheaper_first(objectives)
    if margins is None:
        margins = np.zeros((len(points), len(points), len(objectives)))
        kept = kept[non_dominated(costs[kept])]
    else:
        kept = kept[non_dominated_beyond(costs[kept], margins[np.ix_(kept, kept)], first=first)]
    own = costs[kept]
    scaled, span = _scaled(own)
    noise = margins[np.ix_(kept, kept)] / span
    if order is None:
        # Rounded, so that points that tie on paper also tie in floating point.
        keys = np.round(np.stack([scaled.sum(axis=1), scaled.max(axis=1)], axis=1), 12)
        doubt = noise.sum(axis=2)
        if own.shape == (2, 2):
            doubt[:] = 0.0  # two points always tie: that is no noise
    elif isinstance(order, int):
        keys = own[:, [order]]
        doubt = noise[:, :, order] * span[order]
    else:
        keys = np.round(scaled @ order, 12)[:, None]
        doubt = noise @ order
    ranked = [(*key, *cost) for key, cost in zip(keys.tolist(), own.tolist(), strict=True)]
    best = ranked.index(min(ranked))
    tied = [n for n in range(len(kept)) if n == best or keys[n, 0] - keys[best, 0] <= doubt[best, n] > 0]
    return int(kept[min(tied, key=lambda n: (*own[n, first], n))])


def _order(by: Rule | Mapping[str, float], objectives: Sequence[Objective]) -> None | int | NDArray[np.float64]:
    """What the rule needs: nothing for the knee, the objective's column for an end, the weights otherwise.

    Raises:
        PickError: If the rule is unknown or no objective fits it.
    """
    if isinstance(by, Mapping):
        return _weights(by, objectives)
    if by == "knee":
        return None
    if by not in RULES:
        raise PickError(f'pick: the rule is "{by}"; {did_you_mean(str(by), RULES)}, or weights per objective')
    unit = "ms" if by == "fastest" else "share"
    columns = [n for n, objective in enumerate(objectives) if objective.unit == unit]
    if not columns:
        known = ", ".join(f"{objective.name} ({objective.unit})" for objective in objectives)
        raise PickError(f'pick: "{by}" needs an objective in the unit "{unit}"; the front has {known}')
    return columns[0]


def _weights(by: Mapping[str, float], objectives: Sequence[Objective]) -> NDArray[np.float64]:
    names = [objective.name for objective in objectives]
    for name, weight in by.items():
        if name not in names:
            raise PickError(f'pick: weight for "{name}", which is no objective; {did_you_mean(name, names)}')
        if not math.isfinite(weight) or weight < 0:
            raise PickError(f"pick: the weight of {name} is {weight}; expected a finite number, 0 or above")
    weights = np.array([by.get(name, 0.0) for name in names], dtype=np.float64)
    if weights.sum() == 0:
        raise PickError("pick: every weight is 0; expected at least one above 0")
    normed: NDArray[np.float64] = weights / weights.sum()
    return normed


def _scaled(costs: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Each column from 0 (its best) to 1 (its worst), 0 throughout where all are equal; and what 1 stands for."""
    best, worst = costs.min(axis=0), costs.max(axis=0)
    span: NDArray[np.float64] = np.where(worst > best, worst - best, 1.0)
    scaled: NDArray[np.float64] = (costs - best) / span
    return scaled, span


def _nothing_fits(points: Sequence[Mapping[str, float]], nearest: Mapping[str, float], limits: Sequence[Limit]) -> str:
    for limit in limits:
        if not any(limit.name in point for point in points):
            known = sorted({name for point in points for name in point})
            return f'pick: no point knows "{limit.name}", which a limit names; {did_you_mean(limit.name, known)}'
    wanted = " and ".join(str(limit) for limit in limits)
    values = ", ".join(
        f"{name} {nearest[name]:.6g}" for name in dict.fromkeys(limit.name for limit in limits) if name in nearest
    )
    return f"pick: {_none_of(points)} {wanted}; the nearest has {values}"


def _none_of(points: Sequence[Mapping[str, float]]) -> str:
    return "the only point does not have" if len(points) == 1 else f"none of {len(points)} points has"
