"""From the blocks of a network to the time of the whole: a few terms, fitted on some measured networks.

`T = a + b * sum + c * blocks + d * boundary + e * se + f * residual`: the sum of the block times, corrected for what a
block measured alone pays and a block within a network does not (the call itself, layout changes at its ends, squeezes
that break the layout, residual additions). Every term is a sum over blocks, so the calibrated time is one as well.

Where there are too many different blocks to measure each, as in a space of cells, the table holds the kernels that the
runtime makes of them. Then `T = a + b * sum + c * kernels + sum over kinds of d_kind * count_kind`: a sum over blocks
again, with the same fit, but of more networks, as it knows less. A calibration says which of the two it is (`kind`).

The fit minimises relative errors with a small ridge. Terms are tried in the fixed order of `terms_of`, each once: one
is kept if it lowers the leave-one-out error by at least 5 % of itself, and passed over otherwise. Passing over instead
of stopping matters where a space has no use for an early term (no two networks with another number of blocks) but for
a later one.

Where blocks tell fewer than five networks of a small space apart there is nothing to fit: every network is measured,
and predicted by its own time (`every_network`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hwnas.core import Architecture, CostError, counted
from hwnas.cost.table import Calibration, Holdout, NetworkRecord, Term, Timing
from hwnas.cost.unit_sum import UnitSum, blocks_of
from hwnas.space import Block, Codes, Space

TERMS: tuple[Term, ...] = ("sum", "constant", "blocks", "boundary", "se", "residual")
"""Of a space whose blocks are measured, in the order in which they are tried. The first is always kept."""

_COUNT = "count:"

RIDGE = 1e-4
"""On columns of length 1. The first term is free of it: it carries the scale, which nothing should pull towards 0."""

_WORTH = 0.05
_EXACT = 1e-4  # leave-one-out errors below this are finer than any clock: no term is tried to lower them further
_COVERAGE = 0.9
_FEWEST = 5


def terms_of(space: Space) -> tuple[Term, ...]:
    """The terms that the calibration of a space tries, in order; the columns of its features.

    Raises:
        CostError: If the space has no units.

    Example:
        >>> from hwnas.space import Unit
        >>> relu, conv = (Block(kind, (), (8, 4, 4), (8, 4, 4), 0, 0) for kind in ("relu", "conv"))
        >>> cell = Block("cell", (), (8, 4, 4), (8, 4, 4), 0, 0, kernels=(relu, conv, conv))
        >>> terms_of(Space("tiny", (), (Unit("u", (), (cell,)),)))
        ('sum', 'constant', 'kernels', 'count:conv', 'count:relu')
    """
    kinds = {kernel.kind for block in blocks_of(space).values() for kernel in block.kernels or ()}
    if not kinds:
        return TERMS
    return ("sum", "constant", "kernels", *(f"{_COUNT}{kind}" for kind in sorted(kinds)))


def share_of(term: Term, block: Block, rows: Mapping[str, Timing]) -> float:
    """What one block adds to a term's feature; to the constant nothing, as it belongs to no block.

    Raises:
        CostError: If "sum" needs a time that is not there.

    Example:
        >>> conv = Block("conv", (), (8, 4, 4), (8, 4, 4), 0, 0)
        >>> cell = Block("cell", (), (8, 4, 4), (8, 4, 4), 0, 0, kernels=(conv, conv))
        >>> share_of("count:conv", cell, {}), share_of("boundary", conv, {}), share_of("constant", cell, {})
        (2.0, 256.0, 0.0)
    """
    parts = (block,) if block.kernels is None else block.kernels
    if term == "sum":
        for part in parts:
            if part.key not in rows:
                raise CostError(f"block {part.key!r} has no time; expected one for each block")
        return sum(rows[part.key].p25_us for part in parts)
    if term == "constant":
        return 0.0
    if term == "kernels":
        return float(len(parts))
    if term.startswith(_COUNT):
        return float(sum(part.kind == term.removeprefix(_COUNT) for part in block.kernels or ()))
    return float(block.feature(term))


@dataclass(frozen=True, eq=False)
class Features:
    """What the terms of a calibration multiply, for every network of a space.

    Attributes:
        terms: Those of `terms_of`.
        sums: One per term; that of "constant" is 1 for every network.
    """

    terms: tuple[Term, ...]
    sums: tuple[UnitSum, ...]

    @classmethod
    def of(cls, space: Space, rows: Mapping[str, Timing]) -> Features:
        """The features of a space whose blocks were timed.

        Raises:
            CostError: If a block has no time, or the space no units.
        """

        def one(term: Term) -> UnitSum:
            if term == "constant":
                return UnitSum(space, 1.0, ())
            return UnitSum.of(space, lambda block: share_of(term, block, rows))

        terms = terms_of(space)
        try:
            return cls(terms, tuple(one(term) for term in terms))
        except CostError as error:
            raise CostError(f"space {space.name}: {error.message}") from error

    def __call__(self, codes: Codes) -> NDArray[np.float64]:
        """Features [n, terms] of n networks from their codes [n, decisions]."""
        return np.stack([total(codes) for total in self.sums], axis=1)


@dataclass(frozen=True, eq=False)
class Fit:
    """Weighted least squares.

    Attributes:
        coefficients: One per column.
        left_out: For each network, predicted by a fit without it, over measured; [n].
    """

    coefficients: NDArray[np.float64]
    left_out: NDArray[np.float64]

    @property
    def loo_mape(self) -> float:
        """Mean relative error of each network when it is left out."""
        return float(np.abs(self.left_out - 1).mean())


def fit(features: NDArray[np.float64], measured: NDArray[np.float64], *, ridge: float = RIDGE) -> Fit:
    """Least squares of relative errors, and in closed form what leaving each network out would have given.

    With rows divided by the measured times the target is 1 everywhere. Columns are brought to length 1 and all but the
    first are held back by the ridge. A residual without its own row is the residual over (1 - leverage); the ridge is
    kept as it is for all rows.

    Args:
        features: [n, columns].
        measured: [n], above 0.
        ridge: Weight of the squared coefficients of the scaled columns.

    Example:
        >>> x = np.array([[1.0, 1.0], [2.0, 1.0], [4.0, 1.0], [5.0, 1.0]])
        >>> fit(x, x @ np.array([3.0, 2.0]), ridge=0.0).coefficients.round(9).tolist()
        [3.0, 2.0]
    """
    relative = features / measured[:, None]
    lengths = np.linalg.norm(relative, axis=0)
    lengths[lengths == 0] = 1.0  # a feature that none of these networks has
    held_back = np.sqrt(ridge) * np.eye(len(lengths))[1:]
    q, r = np.linalg.qr(np.concatenate([relative / lengths, held_back]))
    q = q[: len(measured)]
    coefficients = np.linalg.lstsq(r, q.sum(axis=0), rcond=None)[0] / lengths
    leverage = np.minimum((q**2).sum(axis=1), 1 - 1e-12)
    return Fit(coefficients, 1 - (1 - relative @ coefficients) / (1 - leverage))


def choose_terms(
    features: NDArray[np.float64], measured: NDArray[np.float64], *, terms: Sequence[Term] = TERMS
) -> tuple[tuple[Term, ...], Fit]:
    """The terms worth having, and their fit.

    Args:
        features: [n, terms].
        measured: [n], above 0.
        terms: The columns, in the order in which they are tried.

    Raises:
        CostError: If there are fewer than five networks, or a number is not finite, or a time not above 0.
    """
    n = len(measured)
    if features.shape != (n, len(terms)) or n < _FEWEST:
        raise CostError(
            f"calibration: {counted(n, 'measured network')} with features {features.shape}; expected at least "
            f"{_FEWEST}, with {len(terms)} features each",
            hint="measure more networks",
        )
    if not (np.isfinite(features).all() and np.isfinite(measured).all() and (measured > 0).all()):
        raise CostError("calibration: a feature or a time is not finite, or a time is not above 0; expected both")
    kept = [0]
    best = fit(features[:, kept], measured)
    for column in range(1, len(terms)):
        if best.loo_mape < _EXACT:
            break
        trial = fit(features[:, [*kept, column]], measured)
        if trial.loo_mape <= (1 - _WORTH) * best.loo_mape:
            kept.append(column)
            best = trial
    return tuple(terms[column] for column in kept), best


def band(left_out: NDArray[np.float64], *, coverage: float = _COVERAGE) -> float:
    """Half-width, in the logarithm, of the interval around a prediction that holds a new measurement.

    The conformal quantile of leave-one-out errors: with n of them the ceil((n + 1) * coverage)-th smallest. With too
    few for that (below 9 for 90 %) the largest, which covers n / (n + 1) only.

    Args:
        left_out: Predicted over measured, [n]; see `Fit`.
        coverage: Share of new networks that the band should hold.

    Raises:
        CostError: If a left-out prediction is not above 0, so that no band can be given.

    Example:
        >>> round(band(np.exp(np.arange(1.0, 20.0) / 100)), 9)
        0.18
    """
    if not (np.isfinite(left_out).all() and (left_out > 0).all()):
        raise CostError(
            "calibration: a network that was left out is predicted to take no time at all",
            hint="measure more networks, spread over the range of the space",
        )
    errors = np.sort(np.abs(np.log(left_out)))
    return float(errors[min(math.ceil((len(errors) + 1) * coverage - 1e-9), len(errors)) - 1])


def score(predicted: ArrayLike, measured: ArrayLike) -> Holdout:
    """How predictions compare with measurements, both [n] in one unit.

    Raises:
        CostError: If there are none, their numbers differ, or one is not finite or not above 0.

    Example:
        >>> score([1.0, 2.2, 3.0], [1.0, 2.0, 3.2]).within_5
        0.3333333333333333
    """
    from scipy.stats import kendalltau  # here, because importing it takes longer than everything else in this room

    p, m = np.asarray(predicted, dtype=np.float64), np.asarray(measured, dtype=np.float64)
    finite = np.isfinite(p).all() and np.isfinite(m).all() and (m > 0).all()
    if p.shape != m.shape or p.ndim != 1 or not len(p) or not finite:
        raise CostError(f"score: {p.shape} predictions of {m.shape} times; expected as many, finite and above 0")
    error = (p - m) / m
    orders = len(np.unique(p)) > 1 and len(np.unique(m)) > 1
    return Holdout(
        mape=float(np.abs(error).mean()),
        bias=float(error.mean()),
        within_5=float((np.abs(error) <= 0.05).mean()),
        within_10=float((np.abs(error) <= 0.10).mean()),
        tau=float(kendalltau(p, m).statistic) if orders else None,
        n=len(p),
    )


def calibrate(
    space: Space,
    rows: Mapping[str, Timing],
    architectures: Sequence[Architecture],
    measured_us: ArrayLike,
    *,
    held_out: Sequence[Architecture] = (),
    held_out_us: ArrayLike = (),
) -> Calibration:
    """Fit the terms on some measured networks, and score the fit on others.

    Args:
        space: With units.
        rows: Time of each block, by key.
        architectures: Measured as a whole; about 20, over the range of the space and near its expected optimum.
        measured_us: Their times.
        held_out: Others, never fitted.
        held_out_us: Their times.

    Raises:
        CostError: If a block has no time, or there are too few networks, or times that cannot be.
    """
    networks: list[NetworkRecord] = []
    role: Literal["fitted", "held_out"]
    for role, members, times in (("fitted", architectures, measured_us), ("held_out", held_out, held_out_us)):
        if np.shape(times) != (len(members),):
            raise CostError(
                f"calibration: {np.size(times)} measured networks of the {len(members)} {role} ones; expected all"
            )
        networks += [_record(a, us, role) for a, us in zip(members, np.asarray(times).tolist(), strict=True)]
    return calibrate_records(space, rows, networks)


def every_network(architectures: Sequence[Architecture], measured_us: Sequence[float], *, spread: float) -> Calibration:
    """What predicts in a space all of whose networks were measured: nothing is fitted.

    Args:
        architectures: All of the space.
        measured_us: Their times.
        spread: How far two measurements of a network differ, relative: the band.

    Raises:
        CostError: If a time is not finite and above 0.

    Example:
        >>> every_network([Architecture({"k": 3})], [12.5], spread=0.01).kind
        'networks'
    """
    networks = tuple(_record(a, us, "fitted") for a, us in zip(architectures, measured_us, strict=True))
    return Calibration(
        kind="networks",
        terms=(),
        coefficients=(),
        n=len(networks),
        loo_mape=None,
        band=math.log1p(spread),
        box={},
        networks=networks,
    )


def calibrate_records(
    space: Space, rows: Mapping[str, Timing], networks: Sequence[NetworkRecord], *, features: Features | None = None
) -> Calibration:
    """The same from records, as a calibration keeps them.

    Args:
        space: With units.
        rows: Time of each block, by key.
        networks: Fitted and held out.
        features: Of the space and the rows, where they are at hand.

    Raises:
        CostError: As `calibrate`.
    """
    features = features or Features.of(space, rows)
    parts: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]] = {}
    for role in ("fitted", "held_out"):
        members = [network for network in networks if network.role == role]
        codes = space.encode(Architecture(network.architecture) for network in members)
        parts[role] = features(codes), np.array([network.p25_us for network in members])
    fitted, measured = parts["fitted"]
    terms, best = choose_terms(fitted, measured, terms=features.terms)
    columns = [features.terms.index(term) for term in terms]
    unseen, unseen_us = parts["held_out"]
    return Calibration(
        kind="kernels" if "kernels" in features.terms else "blocks",
        terms=terms,
        coefficients=tuple(best.coefficients.tolist()),
        n=len(measured),
        loo_mape=best.loo_mape,
        band=band(best.left_out),
        box={
            term: (float(fitted[:, i].min()), float(fitted[:, i].max()))
            for i, term in enumerate(features.terms)
            if term != "constant"
        },
        holdout=score(unseen[:, columns] @ best.coefficients, unseen_us) if len(unseen_us) else None,
        networks=tuple(networks),
    )


def _record(architecture: Architecture, us: float, role: Literal["fitted", "held_out"]) -> NetworkRecord:
    if not us > 0 or not math.isfinite(us):
        raise CostError("calibration: a feature or a time is not finite, or a time is not above 0; expected both")
    return NetworkRecord(architecture=dict(architecture), p25_us=us, role=role)
