"""The limits that can be checked before anything is evaluated: those on predicted costs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from hwnas.core import Architecture, Limit, LimitError, Metric
from hwnas.cost import Banded, CostModel
from hwnas.space import Codes, Space

# A sum over blocks differs in its last bits with the order of its terms. A limit that is set to the very number of a
# network (its cheapest, say) must admit that network, whichever way the number was added up.
_SLACK = 1e-9


@dataclass(frozen=True)
class Constraints:
    """A space, what is predicted of its networks, and the limits.

    Attributes:
        space: Whose codes are judged.
        costs: Predict a metric each.
        limits: All of them; those on a metric that no cost predicts are left to the evaluation.
    """

    space: Space
    costs: tuple[CostModel, ...]
    limits: tuple[Limit, ...]

    def bounds(self) -> Iterator[tuple[Limit, CostModel]]:
        """The limits on predicted costs."""
        by_name = {cost.name: cost for cost in self.costs}
        for limit in self.limits:
            if limit.name in by_name:
                yield limit, by_name[limit.name]

    @cached_property
    def extremes(self) -> list[Architecture]:
        """The networks with the smallest and the largest cost under each limit."""
        return [end()[1] for _, cost in self.bounds() for end in (cost.smallest, cost.largest)]

    def predict(self, codes: Codes) -> dict[str, NDArray[np.float64]]:
        """Every cost of every row, by name."""
        return {cost.name: cost.batch(codes) for cost in self.costs}

    def violation(self, codes: Codes) -> NDArray[np.float64]:
        """[n]: how far each row lies outside, each limit as a share of its bound, added up; 0 where feasible."""
        total = np.zeros(len(codes))
        for limit, cost in self.bounds():
            values = cost.batch(codes)
            for bound, beyond in _sides(limit, values, width=_width(limit, cost)):
                share = beyond / (abs(bound) or 1.0)
                total += np.where(np.isnan(share), np.inf, np.where(share > _SLACK, share, 0.0))
        return total

    def feasible(self, codes: Codes) -> NDArray[np.bool_]:
        """[n]: which rows meet every limit on a predicted cost."""
        meets: NDArray[np.bool_] = self.violation(codes) == 0
        return meets

    def metrics(self, architecture: Architecture) -> dict[str, Metric]:
        """Every predicted cost of a network."""
        return {cost.name: cost(architecture) for cost in self.costs}

    def check_reachable(self) -> None:
        """Refuse a limit that no network of the space meets.

        Raises:
            LimitError: Naming the limit and the nearest value that can be reached.
        """
        for limit, cost in self.bounds():
            ends = []
            if limit.at_most is not None:
                ends.append((Limit(limit.name, at_most=limit.at_most), "smallest", *cost.smallest()))
            if limit.at_least is not None:
                ends.append((Limit(limit.name, at_least=limit.at_least), "largest", *cost.largest()))
            for side, which, value, architecture in ends:
                width = _width(limit, cost)
                value *= width if which == "smallest" else 1 / width
                if broken({limit.name: Metric(value, cost.unit, cost.origin)}, [side]):
                    raise LimitError(
                        f"limit {limit if limit.safe else side}: no network of space {self.space.name} meets it; the "
                        f"{which} {limit.name} "
                        f"that can be reached is {value:.10g} {cost.unit} (network {architecture.digest})",
                        hint=f"set the limit to {value:.10g} or {'more' if which == 'smallest' else 'less'}",
                    )


def broken(metrics: Mapping[str, Metric], limits: Sequence[Limit]) -> str:
    """Which limits the metrics break and by how much; empty if none. Limits on other metrics are passed over.

    Example:
        >>> broken({"latency_ms": Metric(3.0, "ms", "predicted")}, [Limit("latency_ms", at_most=2.0)])
        'latency_ms is 3 ms, 1 ms beyond the limit latency_ms <= 2'
    """
    texts = []
    for limit in limits:
        if limit.name in metrics:
            metric = metrics[limit.name]
            for value, side in _ends(limit, metric):
                bound = side.at_most if side.at_most is not None else side.at_least
                amount = side.violation(value)
                if bound is not None and amount > _SLACK * (abs(bound) or 1.0):
                    unit = "" if metric.unit == "share" else f" {metric.unit}"
                    where = "beyond" if side.at_most is not None else "short of"
                    texts.append(f"{limit.name} is {value:.6g}{unit}, {amount:.3g}{unit} {where} the limit {limit}")
    return "; ".join(texts)


def _ends(limit: Limit, metric: Metric) -> Iterator[tuple[float, Limit]]:
    """Each bound with the number that must keep it: the value, or the far end of its band."""
    if limit.at_most is not None:
        high = metric.high if limit.safe and metric.high is not None else metric.value
        yield high, Limit(limit.name, at_most=limit.at_most)
    if limit.at_least is not None:
        low = metric.low if limit.safe and metric.low is not None else metric.value
        yield low, Limit(limit.name, at_least=limit.at_least)


def _width(limit: Limit, cost: CostModel) -> float:
    """What a prediction is multiplied with, or divided by, before a limit is looked at."""
    if limit.safe and isinstance(cost, Banded) and cost.band is not None:
        return math.exp(cost.band)
    return 1.0


def _sides(limit: Limit, values: NDArray[np.float64], *, width: float) -> Iterator[tuple[float, NDArray[np.float64]]]:
    if limit.at_most is not None:
        yield limit.at_most, values * width - limit.at_most
    if limit.at_least is not None:
        yield limit.at_least, limit.at_least - values / width
