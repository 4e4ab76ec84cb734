"""Cheaper predictors of latency, fitted on the same networks as ours and scored on the same others."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hwnas.cost import Holdout, fit, score
from tests.bench.figures import Null

FITTED = "the same fitted networks, measured as a whole"
ONE_MACHINE = "times of one machine: what repeats are its rounds and networks"


def affine(
    fitted: NDArray[np.float64],
    fitted_us: NDArray[np.float64],
    asked: NDArray[np.float64],
    asked_us: NDArray[np.float64],
) -> Holdout:
    """Fit `a * x + b` to relative errors on some networks, as the calibration does, and score it on others.

    >>> affine(np.arange(1.0, 7), 2 * np.arange(1.0, 7) + 3, np.array([8.0, 9.0]), np.array([19.0, 21.0])).within_5
    1.0
    """
    found = fit(np.stack([fitted, np.ones_like(fitted)], axis=1), fitted_us)
    return score(np.stack([asked, np.ones_like(asked)], axis=1) @ found.coefficients, asked_us)


def by_macs(value: float) -> Null:
    """What an affine function of multiply-adds reaches."""
    return Null("multiply-adds, affine", value)


def or_nan(value: float | None) -> float:
    """A value, or nan where there is none."""
    return float("nan") if value is None else value
