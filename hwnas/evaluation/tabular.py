"""A space whose every network is known beforehand: searches on it need no training, and can be judged by the truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hwnas.core import Architecture, DataError, Limit, Metric, Objective, Origin, Score, digest_of
from hwnas.core.errors import did_you_mean
from hwnas.cost import CostModel
from hwnas.pareto import non_dominated
from hwnas.space import Codes, Space

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class TableColumn:
    """A metric with one number for every network of a space in which every decision always counts. A cost model.

    Attributes:
        space: Whose codes it takes.
        values: [product of option counts], in the order of the codes, the last decision counting fastest.
        name: Of the metric.
        unit: Of the metric.
        origin: How the numbers came about.

    Raises:
        DataError: If a number is missing or not finite, or a decision of the space can be inactive.

    Example:
        >>> from hwnas.space import Decision
        >>> space = Space("tiny", (Decision("k", (3, 5)), Decision("e", (1, 6))))
        >>> column = TableColumn(space, np.array([1.0, 2.0, 3.0, 4.0]), "latency_ms", "ms", "measured")
        >>> column.batch(np.array([[1, 0]])).tolist(), column.smallest()[0]
        ([3.0], 1.0)
    """

    space: Space
    values: Floats
    name: str
    unit: str
    origin: Origin = "measured"
    digest: str = field(init=False, default="")

    def __post_init__(self) -> None:
        expected = prod(len(decision.options) for decision in self.space.decisions)
        if any(decision.active_if for decision in self.space.decisions):
            raise DataError(f"space {self.space.name}: a decision can be inactive; a table needs all of them active")
        if self.values.shape != (expected,) or not np.isfinite(self.values).all():
            known = int(np.isfinite(self.values).sum())
            raise DataError(
                f"space {self.space.name}: {self.name} has {known} finite numbers of {self.values.size}; expected "
                f"{expected}, one for every network"
            )
        parts = [self.space.digest, self.name, self.unit, self.origin, self.values.tolist()]
        object.__setattr__(self, "digest", digest_of(parts))

    @cached_property
    def _shape(self) -> tuple[int, ...]:
        return tuple(len(decision.options) for decision in self.space.decisions)

    def __call__(self, architecture: Architecture) -> Metric:
        """The number of one network."""
        return Metric(float(self.batch(self.space.encode([architecture]))[0]), self.unit, self.origin)

    def batch(self, codes: Codes) -> Floats:
        """The numbers of codes [n, decisions], [n]."""
        found: Floats = self.values[np.ravel_multi_index(tuple(codes.T), self._shape)]
        return found

    def smallest(self) -> tuple[float, Architecture]:
        """The smallest number, and the first network that has it."""
        return self._at(int(self.values.argmin()))

    def largest(self) -> tuple[float, Architecture]:
        """The largest number, and the first network that has it."""
        return self._at(int(self.values.argmax()))

    def _at(self, place: int) -> tuple[float, Architecture]:
        codes = np.array(np.unravel_index(place, self._shape), dtype=np.int64)
        return float(self.values[place]), self.space.decode(codes[None])[0]


@dataclass(frozen=True, eq=False)
class Lookup:
    """The evaluator of a table: it answers with one metric, which a strategy must pay for, or with a score.

    Attributes:
        column: Of that metric.
        scores: Columns of cheap metrics, by the fidelity at which they are asked for.
    """

    column: CostModel
    scores: Mapping[str, CostModel] = field(default_factory=dict)

    def __call__(
        self,
        architecture: Architecture,
        *,
        fidelity: str,
        weights: str | None,  # noqa: ARG002 - the protocol's
        seed: int,  # noqa: ARG002
    ) -> Mapping[str, Metric]:
        """The score of that fidelity, else the metric; whatever weights and seed are, as a table has one number."""
        column = self.scores.get(fidelity, self.column)
        return {column.name: column(architecture)}


class Candidates(Protocol):
    """Lists codes [n, decisions] among which is every network that no other beats."""

    def __call__(
        self, objectives: tuple[Objective, ...], columns: tuple[CostModel, ...], limits: tuple[Limit, ...], /
    ) -> Codes:
        """The codes, for objectives and a column of numbers each; none of them breaks a limit of the benchmark.

        Raises:
            DataError: If networks within these further limits cannot be told.
        """
        ...


@dataclass(frozen=True, eq=False)
class Benchmark:
    """A space with a table of what its networks are worth and cost.

    Attributes:
        name: Of the benchmark.
        space: What is searched; it has no units, for nothing of it is built.
        columns: Every metric by name. `accuracy` is what a search pays for and chooses by; the rest are costs that it
            knows beforehand.
        reported: Metrics that no search may see, by the name under which they are reported (`test_accuracy`).
        limits: What every search keeps: networks that the benchmark cannot answer for are outside.
        candidates: For the true front.
        source: Where the numbers come from, one line.
        scores: Columns that a search may buy network by network, with their prices.
    """

    name: str
    space: Space
    columns: Mapping[str, CostModel]
    reported: Mapping[str, CostModel]
    limits: tuple[Limit, ...]
    candidates: Candidates
    source: str
    scores: tuple[Score, ...] = ()

    @property
    def evaluator(self) -> Lookup:
        """Answers with `accuracy`, or with a score at the fidelity of its name."""
        return Lookup(self.columns["accuracy"], {score.name: self.columns[score.name] for score in self.scores})

    def column(self, name: str) -> CostModel:
        """The column of a metric.

        Raises:
            DataError: If there is none; names the nearest.
        """
        if name not in self.columns:
            raise DataError(f'benchmark {self.name} has no "{name}"; {did_you_mean(name, self.columns)}')
        return self.columns[name]

    def score(self, name: str) -> Score:
        """A score that is sold, with its price.

        Raises:
            DataError: If there is none of this name; lists those that there are.
        """
        for score in self.scores:
            if score.name == name:
                return score
        sold = ", ".join(score.name for score in self.scores) or "none"
        raise DataError(f'benchmark {self.name} has no score "{name}" with a price; it has {sold}')

    def costs(self, names: tuple[str, ...]) -> list[CostModel]:
        """The columns that a study is told beforehand: those named, without accuracy, and what the limits are about.

        Raises:
            DataError: If there is no such column.
        """
        wanted = dict.fromkeys([*names, *(limit.name for limit in self.limits)])
        return [self.column(name) for name in wanted if name != "accuracy"]

    def true_front(
        self, objectives: tuple[Objective, ...], limits: tuple[Limit, ...] = (), *, reported: bool = False
    ) -> tuple[Codes, Floats]:
        """Every network within the limits that no other beats, and its costs [n, objectives], all minimised.

        Args:
            objectives: Each a column.
            limits: Beside the benchmark's own, each on a column.
            reported: Whether an objective that is reported by another metric (accuracy by test accuracy) is that.

        Raises:
            DataError: If an objective or a limit is no column, or the front under these limits cannot be told.
        """
        columns = tuple(self._judge(objective.name, reported=reported) for objective in objectives)
        codes = self.candidates(objectives, columns, limits)
        for limit in limits:
            values = self.column(limit.name).batch(codes)
            codes = codes[[limit.violation(float(value)) <= 0 for value in values]]
        costs = np.stack([o.as_cost(c.batch(codes)) for o, c in zip(objectives, columns, strict=True)], axis=1)
        best = non_dominated(costs)
        return codes[best], costs[best]

    def costs_of(self, objectives: tuple[Objective, ...], codes: Codes, *, reported: bool = False) -> Floats:
        """The objectives of any networks as costs [n, objectives], all minimised; as `true_front` has them.

        Raises:
            DataError: If an objective is no column.
        """
        columns = [self._judge(objective.name, reported=reported) for objective in objectives]
        return np.stack([o.as_cost(c.batch(codes)) for o, c in zip(objectives, columns, strict=True)], axis=1)

    def _judge(self, name: str, *, reported: bool) -> CostModel:
        found = self.reported.get(f"test_{name}") if reported else None
        return found or self.column(name)
