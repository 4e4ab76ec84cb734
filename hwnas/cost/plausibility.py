"""Rows of a latency table that cannot be right: by their neighbours, and by the whole networks in its own header.

Both ways only say what looks wrong. A time is compared with those of the nearest rows of its kind, between "takes as
long whatever the work" and "takes as long as there is work"; and where the calibration does not describe its own
networks, each single row is corrected for a trial, to see whether one of them explains it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from hwnas.core import Architecture, CostError
from hwnas.cost.calibration import Features
from hwnas.cost.table import LatencyTable, Timing
from hwnas.space import Space

NEIGHBOURS = 5
FEWEST_OF_A_KIND = 4
BEYOND = 10.0
"""How far beyond the range of its neighbours a row is implausible."""

WRONG_BY = 1.5
MISFIT = 0.05
"""Root mean square of relative errors above which a calibration does not describe its own networks."""

_MOST_ROWS = 3
_USERS = 3


def implausible_rows(rows: Mapping[str, Timing]) -> dict[str, str]:
    """Rows whose time is far from those of their neighbours, by key, with both times.

    Args:
        rows: Of a table. Rows without multiply-adds are passed over: nothing is known of their work.

    Example:
        >>> rows = {f"conv {n}": Timing(10.0 * n, 9.0, 11.0, 12.0, 0.1, 240, 20, macs=1000 * n) for n in range(1, 9)}
        >>> implausible_rows(rows)
        {}
        >>> wrong = {"conv 3": Timing(30e3, 29e3, 31e3, 32e3, 0.1, 240, 20, macs=3000)}
        >>> list(implausible_rows(rows | wrong))
        ['conv 3']
    """
    found = {}
    for key, (low, high) in _expected(rows).items():
        us = rows[key].p25_us
        if not low / BEYOND <= us <= high * BEYOND:
            found[key] = f"takes {us:.3g} us; by its neighbours {low:.3g} to {high:.3g} us are to be expected"
    return found


def _expected(rows: Mapping[str, Timing]) -> dict[str, tuple[float, float]]:
    """Between what the nearest rows of a kind say that each row takes, by key, in microseconds."""
    known = [key for key, row in rows.items() if row.macs is not None]
    kinds = Counter(map(_kind, known))
    work = {key: np.log(_work(rows[key])) for key in known}
    found = {}
    for key in known:
        own = kinds[_kind(key)] >= FEWEST_OF_A_KIND
        others = [other for other in known if other != key and (not own or _kind(other) == _kind(key))]
        nearest = sorted(others, key=lambda other: (float(np.abs(work[other] - work[key]).sum()), other))[:NEIGHBOURS]
        if len(nearest) < FEWEST_OF_A_KIND - 1:
            continue
        ends = []
        for other in nearest:
            ratios = np.exp(work[key] - work[other])
            ends.append(rows[other].p25_us * np.array([min(1.0, *ratios), max(1.0, *ratios)]))
        low, high = np.median(np.array(ends), axis=0).tolist()
        found[key] = low, high
    return found


def contradicted_rows(space: Space, table: LatencyTable) -> dict[str, str]:
    """Rows that the measured networks of the table's own header contradict, by key, with the time they speak for.

    Args:
        space: Of the table.
        table: Without a calibration that keeps its networks nothing is known, and nothing found.

    Raises:
        CostError: If a block of the space has no time.
        SpaceError: If a network of the header is not one of the space.
    """
    calibration = table.header.calibration
    if calibration is None or not calibration.networks or "sum" not in calibration.terms:
        return {}
    architectures = [Architecture(network.architecture) for network in calibration.networks]
    measured = np.array([network.p25_us for network in calibration.networks])
    uses = [_uses(space, architecture) for architecture in architectures]
    counts = {
        key: np.array([float(used[key]) for used in uses])
        for key in sorted({key for used in uses for key in used})
        if sum(key in used for used in uses) >= _USERS
    }
    alike: dict[bytes, list[str]] = {}
    for key, column in counts.items():
        alike.setdefault(column.tobytes(), []).append(key)
    features = Features.of(space, table.rows)
    columns = features(space.encode(architectures))[:, [features.terms.index(term) for term in calibration.terms]]
    columns /= measured[:, None]
    counts = {keys[0]: counts[keys[0]] / measured for keys in alike.values()}
    twins = {keys[0]: len(keys) - 1 for keys in alike.values()}
    scale = calibration.coefficient("sum")
    stated = max(calibration.loo_mape or 0.0, calibration.holdout.mape if calibration.holdout else 0.0)
    # As the table stands: a row that was changed after the fit. With the rest fitted anew: one that was measured wrong.
    left = 1 - columns @ np.array(calibration.coefficients)
    wrong = _explained(left, np.zeros((len(measured), 0)), counts, above=max(MISFIT, 2 * stated))
    if not wrong:
        wrong = _explained(np.ones(len(measured)), columns, counts, above=MISFIT)
        whole = np.column_stack([columns, *(counts[key] for key in wrong)])
        fitted = np.linalg.lstsq(whole, np.ones(len(measured)), rcond=None)[0]
        scale = float(fitted[calibration.terms.index("sum")])
    found = {}
    for key, correction in wrong.items():
        us = table.rows[key].p25_us
        better = us + correction / scale if scale > 0 else 0.0
        if not us / WRONG_BY <= better <= us * WRONG_BY:
            instead = f"for about {better:.3g} us" if better > 0 else "for far less"
            among = f" (or one of {twins[key]} that the same networks hold)" if twins[key] else ""
            found[key] = f"takes {us:.3g} us{among}, and the table's {len(measured)} measured networks speak {instead}"
    return found


def _explained(
    target: NDArray[np.float64],
    columns: NDArray[np.float64],
    counts: Mapping[str, NDArray[np.float64]],
    *,
    above: float,
) -> dict[str, float]:
    """The rows whose correction explains what is left of a target, the most telling first, with that correction.

    Args:
        target: Relative times [n].
        columns: Fitted together with the corrections [n, any].
        counts: How often each network holds a row, by its key, relative [n].
        above: What may be left without a reason.
    """
    wrong: dict[str, NDArray[np.float64]] = {}

    def solved(more: Sequence[NDArray[np.float64]]) -> tuple[float, NDArray[np.float64]]:
        whole = np.column_stack([columns, *wrong.values(), *more])
        if not whole.shape[1]:
            return float(np.sqrt(np.mean(target**2))), np.zeros(0)
        lengths = np.maximum(np.linalg.norm(whole, axis=0), 1e-300)
        found = np.linalg.lstsq(whole / lengths, target, rcond=None)[0] / lengths
        return float(np.sqrt(np.mean((target - whole @ found) ** 2))), found

    left, found = solved([])
    while left > above and len(wrong) < min(_MOST_ROWS, len(counts)):
        trials = {key: solved([column])[0] for key, column in counts.items() if key not in wrong}
        best = min(trials, key=lambda key: (trials[key], key))
        if trials[best] > left / 2:
            break
        wrong[best] = counts[best]
        left, found = solved([])
    return dict(zip(wrong, found[len(found) - len(wrong) :].tolist(), strict=True))


def doubtful_rows(space: Space, table: LatencyTable) -> dict[str, str]:
    """Both, by key: what a reader of the table should know before it predicts anything.

    Raises:
        SpaceError: If a network of the header is not one of the space.
    """
    implausible = implausible_rows(table.rows)
    expected = _expected(table.rows)
    # One that is far off hides what the networks say of the others.
    rows = dict(table.rows)
    for key in implausible:
        low, high = expected[key]
        rows[key] = replace(rows[key], p25_us=float(np.sqrt(low * high)))
    try:
        contradicted = contradicted_rows(space, replace(table, rows=rows))
    except CostError:  # it lacks a block, which is told with more words elsewhere
        contradicted = {}
    return contradicted | implausible


def in_lines(doubtful: Mapping[str, str], *, most: int = 5) -> list[str]:
    """One line for each of the first, and how many more there are.

    Example:
        >>> in_lines({"a": "is odd", "b": "is odd"}, most=1)
        ['row "a" is odd', '1 more rows are like that']
    """
    lines = [f'row "{key}" {reason}' for key, reason in sorted(doubtful.items())]
    return [*lines[:most], *([f"{len(lines) - most} more rows are like that"] if len(lines) > most else [])]


def _kind(key: str) -> str:
    return key.split(" ", 1)[0]


def _work(row: Timing) -> NDArray[np.float64]:
    """Multiply-adds and bytes, neither below 1."""
    moved = (row.weight_bytes or 0) + (row.peak_activation_bytes or 0)
    return np.maximum([float(row.macs or 0), float(moved)], 1.0)


def _uses(space: Space, architecture: Architecture) -> Counter[str]:
    """How often a network holds each row of the table."""
    return Counter(
        part.key
        for block in space.blocks_of(architecture)
        for part in ((block,) if block.kernels is None else block.kernels)
    )
