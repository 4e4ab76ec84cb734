"""What a search optimises, and what it must never exceed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hwnas.core.errors import RecipeError, did_you_mean

Direction = Literal["minimize", "maximize"]

# Metrics with a meaning fixed once: name -> (direction, unit). `accuracy` and `error` are shares in 0..1.
METRICS: dict[str, tuple[Direction, str]] = {
    "accuracy": ("maximize", "share"),
    "balanced_accuracy": ("maximize", "share"),
    "error": ("minimize", "share"),
    "latency_ms": ("minimize", "ms"),
    "energy_mj": ("minimize", "mJ"),
    "macs": ("minimize", "multiply-adds"),
    "parameters": ("minimize", "parameters"),
    "model_bytes": ("minimize", "bytes"),
    "peak_memory_bytes": ("minimize", "bytes"),
}


@dataclass(frozen=True)
class Objective:
    """A metric to be made as small or as large as possible.

    Attributes:
        name: The metric; a device may follow an `@` (`latency_ms@pi4`).
        direction: Belongs to the objective, so nobody else negates anything.
        unit: The unit of the metric.

    Example:
        >>> Objective.named("accuracy").as_cost(np.array([0.25, 0.75]))
        array([-0.25, -0.75])
    """

    name: str
    direction: Direction
    unit: str

    @classmethod
    def named(cls, name: str) -> Objective:
        """The objective for a metric with a fixed meaning.

        Raises:
            RecipeError: If the metric is unknown; own metrics are made with `Objective(name, direction, unit)`.

        Example:
            >>> Objective.named("latency_ms").unit
            'ms'
        """
        metric, at, device = name.partition("@")
        if metric not in METRICS:
            raise RecipeError(
                f'metric "{name}" is unknown; {did_you_mean(metric, METRICS, ending=at + device)}',
                hint="own metrics need a direction and a unit: Objective(name, direction, unit)",
            )
        direction, unit = METRICS[metric]
        return cls(name, direction, unit)

    def as_cost(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """The values turned so that smaller is better: the one place where a sign changes."""
        return -values if self.direction == "maximize" else values


@dataclass(frozen=True)
class Limit:
    """A hard bound on a metric, inclusive.

    Attributes:
        name: The metric.
        at_most: The largest value allowed, in the metric's unit; None if there is no upper bound.
        at_least: The smallest value allowed; None if there is no lower bound.
        safe: Whether a prediction keeps the limit only if the far end of its band does.

    Raises:
        RecipeError: If neither bound is given, one is not finite or no value of the metric, or they exclude each other.

    Example:
        >>> limit = Limit("latency_ms", at_most=2.0)
        >>> limit.violation(2.0), limit.violation(3.0), str(limit)
        (0.0, 1.0, 'latency_ms <= 2')
    """

    name: str
    at_most: float | None = None
    at_least: float | None = None
    safe: bool = False

    def __post_init__(self) -> None:
        bounds = [bound for bound in (self.at_least, self.at_most) if bound is not None]
        if not bounds or not all(math.isfinite(bound) for bound in bounds):
            raise RecipeError(f"limit on {self.name}: give a finite at_most or at_least, not {bounds}")
        if bounds != sorted(bounds):
            raise RecipeError(f"limit on {self.name}: at_least {bounds[0]} is above at_most {bounds[1]}")
        for name, bound in (("at_least", self.at_least), ("at_most", self.at_most)):
            problem = "" if bound is None else _impossible(self.name.partition("@")[0], name, bound)
            if problem:
                raise RecipeError(f"limit on {self.name}: {name} is {bound:g}; {problem}")

    def violation(self, value: float) -> float:
        """How far a value lies outside, in the metric's unit; 0 inside and on the bound, inf for NaN."""
        if math.isnan(value):
            return math.inf
        over = value - self.at_most if self.at_most is not None else 0.0
        under = self.at_least - value if self.at_least is not None else 0.0
        return max(0.0, over, under)

    def __str__(self) -> str:
        parts = []
        if self.at_least is not None:
            parts.append(f"{self.name} >= {self.at_least:.6g}")
        if self.at_most is not None:
            parts.append(f"{self.name} <= {self.at_most:.6g}")
        return " and ".join(parts) + (" with its band" if self.safe else "")


def _impossible(metric: str, name: str, bound: float) -> str:
    """Why no value of a metric with a fixed meaning can be near a bound; empty if one can."""
    if metric not in METRICS:
        return ""
    unit = METRICS[metric][1]
    if unit == "share":
        if 0 <= bound <= 1:
            return ""
        instead = f': did you mean {bound / 100:g}, or "{bound:g} %"?' if 1 < bound <= 100 else ""
        return f"{metric} is a share from 0 to 1{instead}"
    return f"expected a number of {unit} above 0" if bound < 0 or (bound == 0 and name == "at_most") else ""
