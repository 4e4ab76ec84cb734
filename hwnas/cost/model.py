"""Cost models: one number of any network of a space, of many at once, of a distribution, and its bounds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from hwnas.core import Architecture, CostError, Metric, Objective, Origin, TableError, digest_of
from hwnas.cost.calibration import Features
from hwnas.cost.table import Calibration, LatencyTable
from hwnas.cost.unit_sum import OneRow, Tensor, UnitSum
from hwnas.space import Block, Codes, Space

_US_PER_MS = 1000.0


class CostModel(Protocol):
    """A number that is known for any network of a space without training or measuring it."""

    @property
    def name(self) -> str:
        """The metric, as objectives and limits name it."""
        ...

    @property
    def unit(self) -> str:
        """The unit of the metric."""
        ...

    @property
    def origin(self) -> Origin:
        """How the number is obtained."""
        ...

    @property
    def digest(self) -> str:
        """Equal digests mean equal numbers."""
        ...

    def __call__(self, architecture: Architecture) -> Metric:
        """The number of one network, with its band where it is predicted."""
        ...

    def batch(self, codes: Codes) -> NDArray[np.float64]:
        """The numbers of n networks from their codes [n, decisions]."""
        ...

    def smallest(self) -> tuple[float, Architecture]:
        """The smallest number in the space, and a network that has it."""
        ...

    def largest(self) -> tuple[float, Architecture]:
        """The largest number in the space, and a network that has it."""
        ...


@runtime_checkable
class Banded(Protocol):
    """A cost model whose band is the same share of every prediction, so that limits can be kept by its upper end."""

    @property
    def band(self) -> float | None:
        """Half-width in the logarithm of the interval that holds 90 % of networks; None where numbers are exact."""
        ...


@dataclass(frozen=True, eq=False)
class UnitSumCost:
    """A cost that is a sum over the units of a space: multiply-adds, parameters, calibrated latency.

    Attributes:
        total: The sum.
        name: Of the metric.
        unit: Of the metric.
        origin: How the number is obtained.
        calibration: What turned block times into network times; None for counts.
        features: The features of the calibration; None for counts, and where every network was measured.
        drift_spread: See `LatencyTable.drift_spread`; it widens the band.

    Example:
        >>> from hwnas.space import Block, Decision, Unit
        >>> a, b = (Block("conv", (("kernel", k),), (8, 4, 4), (8, 4, 4), k * k * 128, k * k * 8) for k in (3, 5))
        >>> space = Space("tiny", (Decision("kernel", (3, 5)),), (Unit("u", ("kernel",), (a, b)),))
        >>> macs = UnitSumCost.count(space, "macs")
        >>> macs(Architecture({"kernel": 5}))
        Metric(value=3200.0, unit='multiply-adds', origin='computed', low=None, high=None, extrapolated=False, ...)
        >>> macs.batch(np.array([[0], [1]])).tolist(), macs.smallest()
        ([1152.0, 3200.0], (1152.0, Architecture({'kernel': 3})))
    """

    total: UnitSum
    name: str
    unit: str
    origin: Origin
    calibration: Calibration | None = None
    features: Features | None = None
    drift_spread: float = 0.0
    digest: str = field(init=False, default="")

    def __post_init__(self) -> None:
        parts = [self.name, self.unit, self.origin, self.total.space.digest, self.total.digest, self.band]
        object.__setattr__(self, "digest", digest_of(parts))

    @classmethod
    def count(cls, space: Space, quantity: Literal["macs", "parameters"]) -> UnitSumCost:
        """Multiply-adds of one image, or parameters: exact, from the blocks alone.

        Raises:
            CostError: If the space has no units.
        """
        total = UnitSum.of(space, lambda block: block.feature(quantity))
        return cls(total, quantity, Objective.named(quantity).unit, "computed")

    @classmethod
    def model_bytes(cls, space: Space, table: LatencyTable) -> UnitSumCost:
        """The bytes of all weights, biases and constants in a network's file, from those of its blocks' files.

        Those hold weights that were drawn, and store equal tensors, such as biases of zero, once: a trained network of
        some ten kilobytes comes to 3 % more, larger ones to less. What a member takes is in front.json.

        Raises:
            TableError: If the table is of another space, misses a block, or does not say the bytes of one.
            CostError: If the space has no units.
        """
        table.check_space(space)
        table.check_coverage(space)

        def stored(block: Block) -> float:
            found = 0
            for entry in (block,) if block.kernels is None else block.kernels:
                weights = table.rows[entry.key].weight_bytes
                if weights is None:
                    raise TableError(
                        f"{table.source}: weight_bytes of {entry.key!r} is unknown; a table of schema version 1 has no "
                        "such column",
                        hint="measure the device again: hwnas profile",
                    )
                found += weights
            return float(found)

        return cls(UnitSum.of(space, stored), "model_bytes", "bytes", "computed")

    @classmethod
    def from_table(cls, space: Space, table: LatencyTable, *, device_suffix: str = "") -> UnitSumCost:
        """Latency in milliseconds on the device of a table; the calibration is folded into the tensors.

        Of a space all of whose networks were measured, each has its own time.

        Args:
            space: The one that the table was made for.
            table: Complete and calibrated.
            device_suffix: Where several devices are used: "pi4" names the metric `latency_ms@pi4`.

        Raises:
            TableError: If the table is of another space, misses a block, or is not calibrated.
            CostError: If the calibration predicts a network that takes no time, or a network of a space that was to be
                measured whole has no time.
        """
        table.check_space(space)
        table.check_coverage(space)
        calibration = table.calibration
        if calibration is None:
            raise TableError(
                f"{table.source}: the table is not calibrated on whole networks, and block times alone do not add up "
                "to the time of a network",
                hint="measure the device again: hwnas profile",
            )
        metric = "latency_ms" + (f"@{device_suffix}" if device_suffix else "")
        if calibration.kind == "networks":
            timed = space.decode(space.encode(Architecture(one.architecture) for one in calibration.networks))
            ms = [one.p25_us / _US_PER_MS for one in calibration.networks]
            listed = UnitSum.listed(space, dict(zip(timed, ms, strict=True)))
            return cls(listed, metric, "ms", "predicted", calibration, None, table.drift_spread)
        features = Features.of(space, table.rows)
        unknown = [term for term in calibration.terms if term not in features.terms]
        if unknown:
            raise TableError(
                f"{table.source}: the calibration has the terms {unknown}; expected some of {list(features.terms)}",
                hint="measure the device again: hwnas profile",
            )
        weights = [calibration.coefficient(term) / _US_PER_MS for term in features.terms]
        cost = cls(
            UnitSum.weighted(features.sums, weights),
            metric,
            "ms",
            "predicted",
            calibration,
            features,
            table.drift_spread,
        )
        value, architecture = cost.smallest()
        if not 0 < value < math.inf:
            raise CostError(
                f"{table.source}: the calibration predicts {value:.4g} ms for {architecture}; expected above 0",
                hint="measure more networks for it, smaller ones among them: hwnas profile",
            )
        return cost

    @property
    def space(self) -> Space:
        """The space whose networks it knows."""
        return self.total.space

    @property
    def constant(self) -> float:
        """What every network costs, apart from the tensors."""
        return self.total.constant

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """Labels and costs per combination of their options; with `constant` all there is to the cost."""
        return self.total.tensors

    @property
    def band(self) -> float | None:
        """Half-width of the 90 % band in the logarithm, the machine's drift included; None where there is none."""
        return self.calibration.band + math.log1p(self.drift_spread) if self.calibration else None

    def __call__(self, architecture: Architecture) -> Metric:
        """The cost of one network; if it is predicted with the 90 % band, and the mark of what lies beyond the fit.

        Raises:
            SpaceError: If the architecture is not one of the space.
        """
        codes = self.space.encode([architecture])
        if self.band is None:
            return Metric(float(self.batch(codes)[0]), self.unit, self.origin)
        value, *found = self._with_features(codes)
        factor = math.exp(self.band)
        return Metric(
            value,
            self.unit,
            self.origin,
            low=value / factor,
            high=value * factor,
            extrapolated=self._beyond(found),
        )

    def batch(self, codes: Codes) -> NDArray[np.float64]:
        """The costs of n networks [n] from their codes or genotypes [n, decisions].

        Raises:
            CostError: If the codes do not fit the space.
        """
        return self.total(codes)

    def expectation(self, probabilities: Mapping[str, NDArray[np.float64]]) -> float:
        """The exact mean cost when every decision is drawn on its own; see `UnitSum.expectation`.

        Raises:
            CostError: If a label is missing, or its probabilities are not some.
        """
        return self.total.expectation(probabilities)

    def smallest(self) -> tuple[float, Architecture]:
        """The smallest cost in the space, exactly, and a network that has it.

        Raises:
            CostError: If the decisions hang together too closely to be searched exactly.
        """
        return self.total.smallest()

    def largest(self) -> tuple[float, Architecture]:
        """The largest cost in the space, exactly, and a network that has it.

        Raises:
            CostError: If the decisions hang together too closely to be searched exactly.
        """
        return self.total.largest()

    def extrapolated(self, architecture: Architecture) -> bool:
        """Whether a feature lies outside what the calibration has seen; the band is then the least to expect.

        Raises:
            SpaceError: If the architecture is not one of the space.
        """
        if self.calibration is None:
            return False
        return self._beyond(self._with_features(self.space.encode([architecture]))[1:])

    def _beyond(self, found: Sequence[float]) -> bool:
        if self.calibration is None or self.features is None:  # a network that was measured is not beyond any fit
            return False
        slack = 1e-9  # sums of the same times in another unit or order
        box = self.calibration.box
        for term, value in zip(self.features.terms, found, strict=True):
            if term in box and not box[term][0] * (1 - slack) <= value <= box[term][1] * (1 + slack):
                return True
        return False

    def _with_features(self, codes: Codes) -> list[float]:
        """The cost of one network and its features, in one lookup."""
        numbers: list[float] = self._one_row(codes[0]).tolist()
        return numbers

    @cached_property
    def _one_row(self) -> OneRow:
        return OneRow.of([self.total, *(self.features.sums if self.features else ())])
