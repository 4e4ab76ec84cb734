"""What a search tells while it runs, and what it leaves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from hwnas.core import Evaluation, Limit, Objective
from hwnas.pareto import costs_of, front_of, hypervolume

FULL = "full"
"""The fidelity that counts as one evaluation, and for fronts."""

EventKind = Literal["resume", "environment", "evaluation", "epoch", "step", "note", "end", "finished"]


@dataclass(frozen=True)
class Event:
    """Progress.

    Attributes:
        kind: `resume`: the store has answered all it knows and computing begins; `environment`: software or machine
            differ from the stored run's; `evaluation`, `epoch`: one was computed; `step`: a durable step was committed;
            `end`: a part of the program ended; `finished`: the run had finished before.
        done: Evaluations charged so far; for `epoch` the phase's epochs, for `step` the part's steps.
        total: What `done` runs up to, None where there is no such number.
        text: One line for people.
        evaluation: The one that was computed.
        spent: Of the budget's evaluations, with the shares of one for scores.
    """

    kind: EventKind
    done: int
    total: int | None
    text: str
    evaluation: Evaluation | None = None
    spent: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """What a search found.

    Attributes:
        front: The feasible evaluations at full fidelity that nothing beats, best in the first objective first. Of a
            network that was evaluated with several versions of weights, the last counts.
        evaluations: Everything asked for, in the order first asked for, failures and refusals included.
        reason: Why the search ended.
        notes: What a reader of the result should know: resumed, moved to other software, how many failed and why.
        seconds: Evaluation, training and proposals together, as stored.
        finished_before: Whether this run had ended before and nothing was computed now.
        repeated: How often a network was asked for again, at the same fidelity with the same weights, and answered
            without an evaluation; None for a run that an earlier version finished.
    """

    front: list[Evaluation]
    evaluations: list[Evaluation]
    reason: str
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    finished_before: bool = False
    repeated: int | None = None

    @property
    def newest(self) -> list[Evaluation]:
        """Of each network its last evaluation at full fidelity."""
        return newest(self.evaluations)


def newest(evaluations: Iterable[Evaluation]) -> list[Evaluation]:
    """Of each network the last evaluation at full fidelity, in the order in which networks first came.

    Example:
        >>> from hwnas.core import Architecture, Metric
        >>> def found(accuracy: float, weights: str) -> Evaluation:
        ...     metrics = {"accuracy": Metric(accuracy, "share", "measured")}
        ...     return Evaluation(Architecture({"k": 3}), metrics, weights=weights)
        >>> [evaluation["accuracy"] for evaluation in newest([found(0.7, "net@1"), found(0.6, "net@2")])]
        [0.6]
    """
    return list({e.architecture: e for e in evaluations if e.fidelity == FULL}.values())


def counts(evaluations: Iterable[Evaluation]) -> list[dict[str, str | int | None]]:
    """How many evaluations there are of each kind, and how they ended, in the order in which kinds first came.

    A network that is evaluated under the weights of several moments counts with each of them, though the budget counts
    it once. So 28 networks may have 116 evaluations.

    Args:
        evaluations: Everything asked for.

    Returns:
        Rows of `fidelity`, `weights` (the version, None where networks do not share weights), `ok`, `failed` and
        `infeasible`.

    Example:
        >>> from hwnas.core import Architecture
        >>> one, other = Architecture({"k": 3}), Architecture({"k": 5})
        >>> found = [Evaluation(network, {}, weights=f"net@{n}") for network in (one, other) for n in (1, 2)]
        >>> counts(found)[0]
        {'fidelity': 'full', 'weights': 'net@1', 'ok': 2, 'failed': 0, 'infeasible': 0}
    """
    rows: dict[tuple[str, str | None], Counter[str]] = {}
    for evaluation in evaluations:
        rows.setdefault((evaluation.fidelity, evaluation.weights), Counter())[evaluation.status] += 1
    return [
        {"fidelity": fidelity, "weights": weights, **{status: row[status] for status in ("ok", "failed", "infeasible")}}
        for (fidelity, weights), row in rows.items()
    ]


def volumes(
    evaluations: Iterable[Evaluation],
    objectives: Sequence[Objective],
    limits: Sequence[Limit],
    reference: Mapping[str, float],
) -> list[float]:
    """The hypervolume of what is known after each network, in the order in which networks first came.

    A later evaluation of a known network belongs to the newest network before it. So a volume can shrink where weights
    are trained on.

    Args:
        evaluations: Those at other fidelities than "full", and those never evaluated, are passed over.
        objectives: What the volume is of.
        limits: A network outside them adds nothing.
        reference: By objective, the worst value that still counts, in the metric's own unit.

    Returns:
        [networks], in the product of the objectives' units.

    Example:
        >>> from hwnas.core import Architecture, Metric
        >>> rows = [(0.5, 1.0), (0.4, 2.0), (0.8, 2.0)]
        >>> found = [
        ...     Evaluation(
        ...         Architecture({"k": n}),
        ...         {"accuracy": Metric(a, "share", "measured"), "latency_ms": Metric(ms, "ms", "predicted")},
        ...     )
        ...     for n, (a, ms) in enumerate(rows)
        ... ]
        >>> objectives = [Objective.named("accuracy"), Objective.named("latency_ms")]
        >>> [round(volume, 6) for volume in volumes(found, objectives, [], {"accuracy": 0.0, "latency_ms": 3.0})]
        [1.0, 1.0, 1.3]
    """
    corner = costs_of([reference], objectives)[0]
    latest: dict[str, Evaluation] = {}
    found: list[float] = []

    def volume() -> float:
        front = front_of(list(latest.values()), objectives, limits)
        values = [{name: metric.value for name, metric in one.metrics.items()} for one in front]
        return hypervolume(costs_of(values, objectives), corner) if front else 0.0

    for evaluation in evaluated(evaluations, objectives):
        digest = evaluation.architecture.digest
        if latest and digest not in latest:
            found.append(volume())
        latest[digest] = evaluation
    return [*found, volume()] if latest else found


def evaluated(evaluations: Iterable[Evaluation], objectives: Sequence[Objective]) -> list[Evaluation]:
    """Those at full fidelity that cost something: all but networks that a predicted cost ruled out beforehand."""
    return [
        evaluation
        for evaluation in evaluations
        if evaluation.fidelity == FULL
        and (evaluation.status != "infeasible" or all(o.name in evaluation.metrics for o in objectives))
    ]
