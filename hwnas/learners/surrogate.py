"""What a surrogate is: something that learns one metric from encoded networks."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Model(Protocol):
    """A fitted surrogate."""

    def predict(self, x: Floats) -> Floats:
        """The metric of each row, [n] for x [n, columns]."""


class Surrogate(Protocol):
    """Settings of a kind of model; fitting changes nothing in it.

    The same x, y and settings give the same model, to the bit on one number of BLAS threads.
    """

    def fit(self, x: Floats, y: Floats) -> Model:
        """A model of y [n] over x [n, columns].

        Raises:
            ValueError: If the shapes do not fit or a number is not finite.
        """


def checked_samples(x: Floats, y: Floats, *, least: int = 2) -> tuple[Floats, Floats]:
    """X and y as arrays of floats that can be learned from.

    Raises:
        ValueError: If the shapes do not fit, there are fewer than `least` rows, or a number is not finite.

    Example:
        >>> checked_samples(np.eye(2), np.array([1, 2]))[1].tolist()
        [1.0, 2.0]
    """
    rows, values = np.ascontiguousarray(x, dtype=np.float64), np.ascontiguousarray(y, dtype=np.float64)
    if rows.ndim != 2 or values.shape != rows.shape[:1]:
        raise ValueError(f"surrogate: x has shape {rows.shape} and y {values.shape}; expected [n, columns] and [n]")
    if len(rows) < least:
        raise ValueError(f"surrogate: {len(rows)} samples; expected at least {least}")
    if not (np.isfinite(rows).all() and np.isfinite(values).all()):
        raise ValueError("surrogate: a sample is not finite; leave failed evaluations out")
    return rows, values
