"""Why a point of a front was picked, and what its neighbours would give and take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hwnas.core import Objective
from hwnas.pareto.choice import Rule
from hwnas.pareto.front import costs_of

_WORDS: Mapping[Rule, str] = {
    "knee": "the best balance of all objectives",
    "fastest": "the fastest",
    "most-accurate": "the most accurate",
}


@dataclass(frozen=True)
class Exchange:
    """One step along a front.

    Attributes:
        better: The objective that gains.
        to: Index of the neighbour.
        changes: By objective, the neighbour's value minus the point's.
    """

    better: str
    to: int
    changes: Mapping[str, float]


def exchanges(points: Sequence[Mapping[str, float]], objectives: Sequence[Objective], chosen: int) -> list[Exchange]:
    """For each objective the next better point of a front, and what it costs; none for an objective at its best.

    With two objectives these are the neighbours on either side.

    Args:
        points: The front, one map of metric to value each.
        objectives: In the order of the answer.
        chosen: Index of the point to step from.

    Example:
        >>> front = [{"accuracy": a, "latency_ms": ms} for a, ms in [(0.9, 4.0), (0.8, 2.0), (0.5, 1.0)]]
        >>> objectives = [Objective.named("accuracy"), Objective.named("latency_ms")]
        >>> [(e.better, e.to, e.changes["latency_ms"]) for e in exchanges(front, objectives, 1)]
        [('accuracy', 0, 2.0), ('latency_ms', 2, -1.0)]
        >>> [e.better for e in exchanges(front, objectives, 0)]
        ['latency_ms']
    """
    costs = costs_of(points, objectives)
    found = []
    for column, objective in enumerate(objectives):
        better = np.flatnonzero(costs[:, column] < costs[chosen, column])
        if len(better):
            # The smallest gain; of equal ones the first that is best elsewhere.
            keys = [(-costs[n, column], *np.delete(costs[n], column)) for n in better]
            to = int(better[keys.index(min(keys))])
            changes = {o.name: points[to][o.name] - points[chosen][o.name] for o in objectives}
            found.append(Exchange(objective.name, to, changes))
    return found


def reason(
    points: Sequence[Mapping[str, float]],
    objectives: Sequence[Objective],
    chosen: int,
    *,
    by: Rule | Mapping[str, float],
) -> str:
    """Why a rule picks this point: the rule in words, and how far it is on the way from the front's worst to its best.

    Args:
        points: The front, or what of it meets the limits.
        objectives: As for `pick`.
        chosen: What `pick` answered.
        by: The rule or weights it was asked with.

    Example:
        >>> front = [{"accuracy": a, "latency_ms": ms} for a, ms in [(0.9, 5.0), (0.8, 2.0), (0.5, 1.0)]]
        >>> objectives = [Objective.named("accuracy"), Objective.named("latency_ms")]
        >>> reason(front, objectives, 1, by="fastest").partition("; ")[2]
        "from the front's worst value (0 %) to its best (100 %): accuracy 75 %, latency_ms 75 %"
    """
    if len(points) == 1:
        return "the only one"
    if by == "knee" and len(points) == len(objectives) == 2:
        return f"of two the better in {objectives[0].name}, the first objective"
    words = (
        "the best weighted sum of " + ", ".join(f"{name} ({weight:g})" for name, weight in by.items())
        if isinstance(by, Mapping)
        else _WORDS[by]
    )
    costs = costs_of(points, objectives)
    worst, best = costs.max(axis=0), costs.min(axis=0)
    span = np.where(worst > best, worst - best, 1.0)
    shares = np.where(worst > best, (worst - costs[chosen]) / span, 1.0)
    if by == "knee" and shares.min() == 0:
        words = "no network lies clearly above the line between the front's ends, so it is one of the ends"
    parts = [f"{o.name} {100 * share:.0f} %" for share, o in zip(shares.tolist(), objectives, strict=True)]
    return f"{words}; from the front's worst value (0 %) to its best (100 %): {', '.join(parts)}"
