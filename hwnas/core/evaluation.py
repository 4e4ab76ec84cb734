"""What is known about one architecture, and how it came to be known."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from hwnas.core.architecture import Architecture

Origin = Literal["measured", "predicted", "computed", "estimated"]
Status = Literal["ok", "failed", "infeasible"]


@dataclass(frozen=True)
class Metric:
    """One number with its unit and where it came from. Unknown is the absence of a metric, never 0.

    Attributes:
        value: Always finite.
        unit: For example "ms", "share", "multiply-adds".
        origin: measured (on data or on the device), predicted (by a calibrated model, with a band), computed (exact
            by counting), estimated (by a formula nobody checked on this device).
        low: Lower end of the 90 % band, None where there is none.
        high: Upper end of the band.
        extrapolated: Whether the network lies outside what the predictor was fitted on; the band is then the least to
            expect.
        standard_error: Of a share of images, as an estimate for images not seen; None where there is none.

    Raises:
        ValueError: If the value or an end of its band is not a finite number.

    Example:
        >>> Metric(1.5, "ms", "predicted", low=1.4, high=1.6).to_json()
        {'value': 1.5, 'unit': 'ms', 'origin': 'predicted', 'low': 1.4, 'high': 1.6}
    """

    value: float
    unit: str
    origin: Origin
    low: float | None = None
    high: float | None = None
    extrapolated: bool = False
    standard_error: float | None = None

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            raise ValueError(f"a metric must be finite, not {self.value}")
        if self.low is not None and self.high is not None and not math.isfinite(self.low + self.high):
            raise ValueError(f"the band of a metric must be finite, not {self.low} to {self.high}")

    def to_json(self) -> dict[str, Any]:
        """A plain map, without the band, the mark and the error where there is none."""
        row: dict[str, Any] = {"value": self.value, "unit": self.unit, "origin": self.origin}
        if self.low is not None and self.high is not None:
            row |= {"low": self.low, "high": self.high}
        row |= {"extrapolated": True} if self.extrapolated else {}
        return row | ({} if self.standard_error is None else {"standard_error": self.standard_error})


@dataclass(frozen=True)
class Evaluation:
    """The outcome of asking for one architecture.

    Attributes:
        architecture: Canonical.
        metrics: By name; costs predicted before the evaluation are here too. Empty parts mean unknown.
        status: `failed` carries the reason; `infeasible` was refused by a limit, by how much stands in the reason.
        reason: Why it failed or which limit it breaks; empty when ok.
        fidelity: Which kind of evaluation: "full" unless the study defines others.
        weights: Version of the shared weights it was made with, None without shared weights.
        seconds: What it took.

    Example:
        >>> e = Evaluation(Architecture({"k": 3}), {"accuracy": Metric(0.9, "share", "measured")})
        >>> e.status, e["accuracy"], Evaluation.from_json(e.to_json()) == e
        ('ok', 0.9, True)
    """

    architecture: Architecture
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    status: Status = "ok"
    reason: str = ""
    fidelity: str = "full"
    weights: str | None = None
    seconds: float = 0.0

    def __getitem__(self, name: str) -> float:
        return self.metrics[name].value

    def to_json(self) -> dict[str, Any]:
        """A plain map of everything."""
        return {
            "architecture": dict(self.architecture),
            "metrics": {name: self.metrics[name].to_json() for name in sorted(self.metrics)},
            "status": self.status,
            "reason": self.reason,
            "fidelity": self.fidelity,
            "weights": self.weights,
            "seconds": self.seconds,
        }

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Evaluation:
        """The evaluation that `to_json` wrote."""
        return cls(
            architecture=Architecture(row["architecture"]),
            metrics={name: Metric(**metric) for name, metric in row["metrics"].items()},
            status=row["status"],
            reason=row["reason"],
            fidelity=row["fidelity"],
            weights=row["weights"],
            seconds=row["seconds"],
        )
