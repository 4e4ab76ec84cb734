"""The latency of every network of a list on a new device, from ten or twenty of them measured there.

What is given: the latencies of all networks on other devices, and what the networks are made of. Devices rank networks
differently, but not in many different ways. So the latency on a new device is taken for a weighted sum of a few
columns: the mean of the other devices, the directions in which they differ from it, and counts of what the networks are
built of.
Each weight has a normal prior whose width depends on its kind of column; a handful of measurements gives the posterior.
This is Bayesian linear regression, in closed form. Latencies are not turned into logarithms: times of parts add up.

The networks to measure are the ones that leave the least variance over all of them, taken greedily. They do not depend
on the device, so they can be chosen before it is at hand.

Source of the problem and of the figures to beat: Lee et al. 2021 (arXiv 2106.08630), HELP. The widths below were chosen
on its four validation devices and by leaving out each of its nine training devices, never on its six test devices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hwnas.core import CostError

Floats = NDArray[np.float64]

_CONSTANT, _MEAN, _DIRECTIONS = 2.0, 0.5, 0.4
_NOISE, _DESIGN_NOISE = 0.15, 0.1  # of a measurement, in standard deviations of the latency: to fit, to choose
_FLOOR = 0.5  # per cent of the networks of a device may be faster than what counts as its fastest

EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
"""Of a NAS-Bench-201 cell, in the order of its published tables."""


@dataclass(frozen=True)
class Structure:
    """Columns that say how networks are built.

    Attributes:
        columns: One row per network.
        width: Of the prior of all their weights together, where 1 is as wide as latencies are spread.
    """

    columns: Floats
    width: float


@dataclass(frozen=True, eq=False)
class FewShot:
    """Predicts a new device's latencies from a few of them.

    Attributes:
        columns: What the weights multiply, scaled by the width of each weight's prior; [n, columns].

    Example:
        >>> known = np.array([[1.0, 2.0], [2.0, 4.2], [3.0, 6.1], [4.0, 7.9]])  # four networks on two devices
        >>> model = FewShot.of(known)
        >>> chosen = model.choose(2)
        >>> model.predict(chosen, 10 * known[chosen, 0]).round().tolist()
        [10.0, 21.0, 30.0, 39.0]
    """

    columns: Floats

    @classmethod
    def of(cls, known_ms: ArrayLike, structure: Sequence[Structure] = ()) -> FewShot:
        """A model from other devices.

        Args:
            known_ms: Latencies [n, devices] of all n networks on each of them, in any unit.
            structure: What is known about the networks' make.

        Raises:
            CostError: If a latency is not finite and above 0, a device gives all networks the same one, or the numbers
                of rows differ.
        """
        known = np.asarray(known_ms, dtype=np.float64)
        if known.ndim != 2 or not known.size or not (np.isfinite(known).all() and (known > 0).all()):
            raise CostError(f"few-shot: latencies of other devices are {known.shape}; expected [n, devices], above 0")
        for part in structure:
            if part.columns.ndim != 2 or len(part.columns) != len(known):
                raise CostError(f"few-shot: structure is {part.columns.shape}; expected {len(known)} rows")
        # A runtime that folds a network away leaves it next to no time; that must not decide what spread means.
        floored = np.maximum(known, np.percentile(known, _FLOOR, axis=0))
        if (floored.std(axis=0) == 0).any():
            raise CostError("few-shot: a device takes the same time for all networks, which says nothing about them")
        devices = _standard(floored)
        mean = devices.mean(axis=1, keepdims=True)
        u, s, _ = np.linalg.svd(devices - mean, full_matrices=False)
        parts = [
            np.full((len(known), 1), _CONSTANT),
            _standard(mean) * _MEAN,
            u * s * (_DIRECTIONS / np.sqrt(known.shape[1])),
        ]
        for part in structure:
            varying = part.columns[:, part.columns.std(axis=0) > 0]
            parts.append(_standard(varying) * (part.width / np.sqrt(max(1, varying.shape[1]))))
        return cls(np.concatenate(parts, axis=1))

    def choose(self, count: int, candidates: Sequence[int] | NDArray[np.int64] | None = None) -> NDArray[np.int64]:
        """The networks to measure.

        Args:
            count: How many.
            candidates: Rows to choose from; all by default.

        Returns:
            Rows [count], the most telling first.

        Raises:
            CostError: If there are fewer candidates.
        """
        pool = np.arange(len(self.columns)) if candidates is None else np.asarray(candidates, dtype=np.int64)
        if not 0 < count <= len(pool):
            raise CostError(f"few-shot: {count} networks of {len(pool)} candidates; expected between 1 and {len(pool)}")
        rows = self.columns[pool]
        wanted = self.columns.T @ self.columns / len(self.columns)
        covariance = np.eye(rows.shape[1])
        chosen: list[int] = []
        for _ in range(count):
            spread = rows @ covariance
            # By how much a measurement lowers the mean variance: a rank-one update of the covariance.
            gain = ((spread @ wanted) * spread).sum(axis=1) / (_DESIGN_NOISE**2 + (spread * rows).sum(axis=1))
            gain[chosen] = -1.0
            best = int(gain.argmax())
            chosen.append(best)
            seen = spread[best]
            covariance = covariance - np.outer(seen, seen) / (_DESIGN_NOISE**2 + rows[best] @ seen)
        return pool[chosen]

    def predict(self, chosen: Sequence[int] | NDArray[np.int64], measured_ms: ArrayLike) -> Floats:
        """The latencies of all networks on the new device.

        Args:
            chosen: Rows of the networks that were measured.
            measured_ms: Their latencies, in any unit.

        Returns:
            [n], in the same unit. Those of the slowest and fastest may lie beyond anything measured.

        Raises:
            CostError: If there are fewer than two, or one is not finite and above 0.
        """
        measured = np.asarray(measured_ms, dtype=np.float64)
        rows = np.asarray(chosen, dtype=np.int64)
        if measured.shape != rows.shape or len(rows) < 2 or not (np.isfinite(measured).all() and (measured > 0).all()):
            raise CostError(
                f"few-shot: {len(rows)} networks with {measured.shape} latencies; expected two or more, each above 0"
            )
        centre, scale = measured.mean(), measured.std()
        if scale == 0:
            return np.full(len(self.columns), centre)  # all alike: nothing tells the others apart either
        seen = self.columns[rows]
        weights = np.linalg.solve(seen @ seen.T + _NOISE**2 * np.eye(len(rows)), (measured - centre) / scale)
        found: Floats = centre + scale * (self.columns @ (seen.T @ weights))
        return found


def nasbench201_structure(operations: ArrayLike) -> list[Structure]:
    """How cells of NAS-Bench-201 are built.

    Counts of each operation in the cell; the same without edges that no path from input to output uses, because a
    runtime folds those away; and which operation stands on which edge.

    Args:
        operations: [n, 6] numbers of operations by edge, in the order of `EDGES`: 0 none, 1 skip, 2 convolution 1x1,
            3 convolution 3x3, 4 average pooling.

    Raises:
        CostError: If the numbers are others.

    Example:
        >>> counts, used, _ = nasbench201_structure([[3, 0, 0, 2, 0, 0]])  # the 3x3 leads nowhere
        >>> counts.columns.tolist(), used.columns.tolist()
        ([[0.0, 1.0, 1.0, 0.0]], [[0.0, 1.0, 0.0, 0.0]])
    """
    cells = np.asarray(operations)
    if cells.ndim != 2 or cells.shape[1] != len(EDGES) or not np.isin(cells, range(5)).all():
        raise CostError(f"few-shot: operations are {cells.shape}; expected [n, {len(EDGES)}], each from 0 to 4")
    used = np.where(used_edges(cells != 0), cells, 0)
    kinds = range(1, 5)
    where = np.concatenate([part == kind for part in (used, cells) for kind in kinds], axis=1)
    return [
        Structure(np.stack([(cells == kind).sum(axis=1) for kind in kinds], axis=1).astype(np.float64), 0.3),
        Structure(np.stack([(used == kind).sum(axis=1) for kind in kinds], axis=1).astype(np.float64), 0.1),
        Structure(where.astype(np.float64), 0.1),
    ]


def used_edges(present: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which edges lie on a path from the cell's input to its output, [n, 6] from [n, 6].

    Example:
        >>> used_edges(np.array([[True, False, False, True, False, False]])).tolist()
        [[False, False, False, True, False, False]]
    """
    nodes = 4
    reached = np.zeros((len(present), nodes), dtype=bool)
    leads = np.zeros((len(present), nodes), dtype=bool)
    reached[:, 0] = leads[:, nodes - 1] = True
    for edge, (start, end) in enumerate(EDGES):  # sorted by end: a node is complete before an edge leaves it
        reached[:, end] |= present[:, edge] & reached[:, start]
    for edge, (start, end) in sorted(enumerate(EDGES), key=lambda one: -one[1][0]):
        leads[:, start] |= present[:, edge] & leads[:, end]
    on_path = [present[:, edge] & reached[:, start] & leads[:, end] for edge, (start, end) in enumerate(EDGES)]
    return np.stack(on_path, axis=1)


def _standard(columns: Floats) -> Floats:
    """Columns with mean 0 and spread 1."""
    found: Floats = (columns - columns.mean(axis=0)) / columns.std(axis=0)
    return found
