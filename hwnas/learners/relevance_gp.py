"""A Gaussian process that finds out which groups of columns matter, and says how sure it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, solve_triangular
from scipy.optimize import minimize

from hwnas.learners.surrogate import Floats, checked_samples

_JITTER = 1e-6
# Logarithms of: each relevance (beside its scale), the amplitudes of both kernels, the noise: mean and deviation.
_PRIOR_RELEVANCE, _PRIOR_AMPLITUDE = (-0.7, 1.5), (0.0, 1.0)
_PRIOR_LINEAR, _PRIOR_NOISE = (-1.0, 1.5), (-4.0, 2.0)


@dataclass(frozen=True)
class RelevanceGp:
    """A Gaussian kernel with one length scale per group of columns, a linear trend, and noise.

    A decision's one-hot columns are one group: how far networks that differ in it are apart is learned, so that
    decisions of no effect drop out, and so does a known cost that says nothing. The hyper-parameters maximise the
    likelihood times a weak prior, from where they were before if that is given.

    Source: automatic relevance determination, Rasmussen and Williams 2006 (Gaussian Processes for Machine Learning),
    sections 5.1 and 5.4.

    Attributes:
        groups: Columns of each group, in order.
        iterations: Steps of the maximisation.
        most: Samples that the hyper-parameters are fitted on at most, the newest; the posterior is of all.

    Example:
        >>> x = np.linspace(0, 1, 12)[:, None]
        >>> model = RelevanceGp((1,)).fit(x, np.sin(6 * x.ravel()))
        >>> mean, deviation = model.posterior(np.array([[0.3], [5.0]]))
        >>> bool(abs(mean[0] - np.sin(1.8)) < 0.05), bool(deviation[1] > 3 * deviation[0])
        (True, True)
    """

    groups: tuple[int, ...]
    iterations: int = 15
    most: int = 250

    def fit(self, x: Floats, y: Floats, *, start: Sequence[float] | None = None) -> RelevanceModel:
        """See `Surrogate.fit`.

        Args:
            x: [n, columns], about one in size.
            y: [n].
            start: `RelevanceModel.parameters` of an earlier fit.

        Raises:
            ValueError: If the shapes do not fit or a number is not finite.
        """
        x, y = checked_samples(x, y)
        if x.shape[1] != sum(self.groups):
            raise ValueError(f"relevance_gp: x has {x.shape[1]} columns; its groups {self.groups} are others")
        mean, scale = float(y.mean()), float(y.std()) or 1.0
        z = (y - mean) / scale
        few, its = x[-self.most :], z[-self.most :]
        centre, width = self._prior(few)
        parameters = centre if start is None else np.asarray(start, dtype=np.float64)
        if self.iterations:
            squares = self._squares(few)
            found = minimize(
                lambda theta: _loss(theta, squares, few @ few.T, its, centre, width),
                parameters,
                jac=True,
                method="L-BFGS-B",
                bounds=[(c - 5 * w, c + 5 * w) for c, w in zip(centre, width, strict=True)],
                options={"maxiter": self.iterations},
            )
            parameters = found.x
        return RelevanceModel(self.groups, parameters, x, y, mean, scale)

    def _squares(self, x: Floats) -> Floats:
        """[groups, n, n]: squared distances within each group."""
        found, first = [], 0
        for size in self.groups:
            part = x[:, first : first + size]
            found.append(_squared(part, part))
            first += size
        return np.stack(found) if found else np.empty((0, len(x), len(x)))

    def _prior(self, x: Floats) -> tuple[Floats, Floats]:
        """Means and deviations: a group is about as relevant as makes a usual distance one over all groups."""
        means, first = [], 0
        for size in self.groups:
            usual = 2 * float(x[:, first : first + size].var(axis=0).sum())
            means.append(_PRIOR_RELEVANCE[0] - np.log(max(usual, 1e-3)))
            first += size
        spread = np.log(max(1.0, len(self.groups) / 6))  # of many groups each matters less
        means = [m - spread for m in means]
        rest = (_PRIOR_AMPLITUDE, _PRIOR_LINEAR, _PRIOR_NOISE)
        linear = np.log(max(float((x * x).sum(axis=1).mean()), 1e-3))
        centre = np.array([*means, rest[0][0], rest[1][0] - linear, rest[2][0]])
        return centre, np.array([*[_PRIOR_RELEVANCE[1]] * len(means), *(r[1] for r in rest)])


@dataclass(frozen=True, eq=False)
class RelevanceModel:
    """A fitted `RelevanceGp`.

    Attributes:
        groups: As fitted.
        parameters: [groups + 3], logarithms: the relevance of each group, the amplitudes of both kernels, the noise.
        x: [n, columns].
        y: [n].
        mean: Of y.
        scale: Of y.
    """

    groups: tuple[int, ...]
    parameters: Floats
    x: Floats
    y: Floats
    mean: float
    scale: float

    def __post_init__(self) -> None:
        kernel = self._kernel(self.x, self.x)
        kernel[np.diag_indices_from(kernel)] += np.exp(self.parameters[-1]) + _JITTER
        lower = np.linalg.cholesky(kernel)
        object.__setattr__(self, "_lower", lower)
        object.__setattr__(self, "_weights", cho_solve((lower, True), (self.y - self.mean) / self.scale))

    def posterior(self, x: Floats) -> tuple[Floats, Floats]:
        """Mean and standard deviation of what lies under the noise, for each row."""
        belief = self.belief(x)
        return belief.mean, belief.deviation

    def belief(self, x: Floats) -> Belief:
        """The posterior of rows [n, columns], which can be told of further samples among them."""
        lower: Floats = self.__dict__["_lower"]
        weights: Floats = self.__dict__["_weights"]
        between = self._kernel(x, self.x)
        explained = solve_triangular(lower, between.T, lower=True, check_finite=False)
        prior = np.exp(self.parameters[-3]) + np.exp(self.parameters[-2]) * (x * x).sum(axis=1)
        mean: Floats = self.mean + self.scale * (between @ weights)
        return Belief(self, x, mean, prior - (explained**2).sum(axis=0), explained)

    def predict(self, x: Floats) -> Floats:
        """The mean of the posterior for each row."""
        return self.posterior(x)[0]

    def _kernel(self, a: Floats, b: Floats) -> Floats:
        stretch = np.sqrt(np.repeat(np.exp(self.parameters[:-3]), self.groups))
        close = np.exp(self.parameters[-3] - _squared(a * stretch, b * stretch))
        total: Floats = close + np.exp(self.parameters[-2]) * (a @ b.T)
        return total


@dataclass(frozen=True, eq=False)
class Belief:
    """What a model believes of some rows.

    Attributes:
        model: Whose belief it is.
        x: [n, columns].
        mean: [n].
        variance: [n], of y in units of `model.scale`; rounding may take it below 0.
        explained: [samples, n]: what each sample, whitened, says of each row.
    """

    model: RelevanceModel
    x: Floats
    mean: Floats
    variance: Floats
    explained: Floats

    @property
    def deviation(self) -> Floats:
        """[n]: the standard deviation of what lies under the noise."""
        found: Floats = self.model.scale * np.sqrt(np.maximum(self.variance, 1e-12))
        return found

    def of(self, rows: NDArray[np.int64]) -> Belief:
        """Of some of the rows."""
        return Belief(self.model, self.x[rows], self.mean[rows], self.variance[rows], self.explained[:, rows])

    def told(self, row: int) -> Belief:
        """As if one of the rows had been evaluated, and had come out as believed: so no mean moves.

        Costs samples x rows, where a new model would cost the cube of the samples.
        """
        between = self.model._kernel(self.x, self.x[row][None])[:, 0] - self.explained.T @ self.explained[:, row]
        spread = np.sqrt(max(self.variance[row], 0.0) + np.exp(self.model.parameters[-1]) + _JITTER)
        explained = between / spread
        return Belief(
            self.model,
            self.x,
            self.mean,
            self.variance - explained**2,
            np.concatenate([self.explained, explained[None]]),
        )


def _squared(a: Floats, b: Floats) -> Floats:
    found: Floats = np.maximum((a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1)[None] - 2 * a @ b.T, 0.0)
    return found


def _loss(
    theta: Floats, squares: Floats, products: Floats, z: Floats, centre: Floats, width: Floats
) -> tuple[float, Floats]:
    """The negative logarithm of likelihood times prior, and its gradient."""
    n = len(z)
    relevance, noise = np.exp(theta[:-3]), np.exp(theta[-1])
    close = np.exp(theta[-3] - np.tensordot(relevance, squares, axes=1))
    linear = np.exp(theta[-2]) * products
    kernel = close + linear
    kernel[np.diag_indices(n)] += noise + _JITTER
    lower = np.linalg.cholesky(kernel)
    weights = cho_solve((lower, True), z)
    off = (theta - centre) / width
    value = 0.5 * float(z @ weights) + float(np.log(np.diag(lower)).sum()) + 0.5 * float(off @ off)
    slope = cho_solve((lower, True), np.eye(n)) - np.outer(weights, weights)  # twice the gradient by the kernel
    by_close = slope * close
    of_groups = -0.5 * relevance * np.tensordot(squares, by_close, axes=2)
    rest = [0.5 * by_close.sum(), 0.5 * (slope * linear).sum(), 0.5 * noise * np.trace(slope)]
    return value, np.concatenate([of_groups, rest]) + off / width
