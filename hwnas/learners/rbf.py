"""Radial basis functions: a cubic kernel and a linear tail."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg
from scipy.spatial.distance import cdist

from hwnas.learners.surrogate import Floats, checked_samples


@dataclass(frozen=True)
class Rbf:
    """s(x) = sum_i w_i |x - x_i|^3 + b + a x, nearly through every sample.

    The textbook system is singular when there are fewer samples than columns, when two samples are equal, and always
    for one-hot columns (those of a decision add up to one). So three things differ from it: a small `smoothing` is
    added to the kernel's diagonal, a `ridge` keeps the slopes a small, which without it would use up every degree of
    freedom, and the system is solved by least squares with the smallest norm. Values are standardised before.

    Source: Gutmann 2001 (J. Global Optim. 19, 201-227), as in the surrogate of MSuNAS (Lu et al. 2020, ECCV).

    Attributes:
        smoothing: Added to the diagonal, as a share of the mean kernel value; 0 interpolates.
        ridge: Weight of the slopes' squares.

    Example:
        >>> x = np.linspace(0, 1, 8)[:, None]
        >>> model = Rbf().fit(x, 3 * x.ravel() + 1)
        >>> model.predict(np.array([[2.0]])).round(1).tolist()
        [7.0]
    """

    smoothing: float = 1e-3
    ridge: float = 1e-3

    def fit(self, x: Floats, y: Floats) -> RbfModel:
        """See `Surrogate.fit`.

        Raises:
            ValueError: If the shapes do not fit or a number is not finite.
        """
        x, y = checked_samples(x, y)
        mean, scale = float(y.mean()), float(y.std()) or 1.0
        kernel = cdist(x, x) ** 3
        tail = _tail(x)
        ridge = np.diag([0.0] + [self.ridge] * x.shape[1])
        smoothing = self.smoothing * float(kernel.mean()) * np.eye(len(x))
        system = np.block([[kernel + smoothing, tail], [tail.T, -ridge]])
        values = np.concatenate([(y - mean) / scale, np.zeros(len(ridge))])
        weights: Floats = scipy.linalg.lstsq(system, values, check_finite=False)[0]
        return RbfModel(x, weights, mean, scale)


@dataclass(frozen=True)
class RbfModel:
    """A fitted `Rbf`: centres [n, columns] and weights [n + 1 + columns]."""

    centres: Floats
    weights: Floats
    mean: float
    scale: float

    def predict(self, x: Floats) -> Floats:
        """The metric of each row."""
        n = len(self.centres)
        value: Floats = cdist(x, self.centres) ** 3 @ self.weights[:n] + _tail(x) @ self.weights[n:]
        return self.mean + self.scale * value


def _tail(x: Floats) -> Floats:
    return np.concatenate([np.ones((len(x), 1)), x], axis=1)
