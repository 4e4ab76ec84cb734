"""Several surrogates, of which the one that ranks best is used."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau

from hwnas.core import RecipeError, seed_of
from hwnas.core.errors import did_you_mean
from hwnas.learners.gp import GaussianProcess
from hwnas.learners.mlp import Mlp
from hwnas.learners.rbf import Rbf
from hwnas.learners.surrogate import Floats, Model, Surrogate, checked_samples
from hwnas.learners.trees import Trees

SURROGATES: dict[str, Callable[[int], Surrogate]] = {
    "rbf": lambda _: Rbf(),
    "gp": lambda _: GaussianProcess(),
    "trees": lambda seed: Trees(seed=seed),
    "mlp": lambda seed: Mlp(seed=seed),
}
"""Each kind by name, made from a seed."""


@dataclass(frozen=True)
class Switching:
    """Fits whichever candidate ranks unseen samples best.

    Each candidate is cross-validated; its score is the mean minus the standard deviation, over the folds, of
    Kendall's tau between predicted and true values; the best score wins (ties: the first candidate) and is fitted on
    all samples. Tau is computed within each fold. A fold in which either side is constant scores 0, one
    with a prediction that is not finite -1. With fewer samples
    than two per fold there are fewer folds; with fewer than four samples there is nothing to compare and the first
    candidate is taken.

    Source: NAT (Lu et al. 2021, TPAMI 43(9)), adaptive switching, after MSuNAS (Lu et al. 2020, ECCV).

    Attributes:
        candidates: Keys of `SURROGATES`, in order of preference.
        folds: Parts of the cross validation.
        seed: Decides the folds and seeds the candidates.

    Raises:
        RecipeError: If there is no candidate, one is unknown or repeated, or there are fewer than two folds.

    Example:
        >>> x = np.random.default_rng(0).integers(0, 2, size=(60, 8)).astype(float)
        >>> fitted = Switching().fit(x, x @ np.arange(8.0))
        >>> fitted.winner, sorted(fitted.scores)
        ('rbf', ['gp', 'rbf', 'trees'])
    """

    candidates: Sequence[str] = ("rbf", "gp", "trees")
    folds: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.candidates:
            raise RecipeError(f"surrogates: none given; known: {', '.join(SURROGATES)}")
        for name in self.candidates:
            if name not in SURROGATES:
                raise RecipeError(f'surrogates: "{name}" is unknown; {did_you_mean(name, SURROGATES)}')
        if len(set(self.candidates)) < len(self.candidates):
            raise RecipeError(f"surrogates: one of {list(self.candidates)} is given twice")
        if self.folds < 2:
            raise RecipeError(f"surrogates: {self.folds} folds; expected at least 2")

    def fit(self, x: Floats, y: Floats) -> SwitchingModel:
        """See `Surrogate.fit`.

        Raises:
            ValueError: If the shapes do not fit or a number is not finite.
        """
        x, y = checked_samples(x, y)
        candidates = {name: SURROGATES[name](seed_of(self.seed, name) % 2**32) for name in self.candidates}
        folds = min(self.folds, len(x) // 2)
        taus: dict[str, tuple[float, ...]] = {}
        if folds >= 2 and len(candidates) > 1:
            parts = _parts(len(x), folds, self.seed)
            taus = {name: _taus(candidate, x, y, parts) for name, candidate in candidates.items()}
        scores = {name: float(np.mean(values) - np.std(values)) for name, values in taus.items()}
        winner = max(candidates, key=lambda name: scores.get(name, 0.0))
        return SwitchingModel(winner, scores, taus, candidates[winner].fit(x, y))


@dataclass(frozen=True)
class SwitchingModel:
    """A fitted `Switching`.

    Attributes:
        winner: The candidate used.
        scores: Mean minus standard deviation of tau, per candidate; empty where nothing was compared.
        taus: Kendall's tau of each fold, per candidate.
        model: The winner, fitted on all samples.
    """

    winner: str
    scores: Mapping[str, float]
    taus: Mapping[str, tuple[float, ...]]
    model: Model

    def predict(self, x: Floats) -> Floats:
        """The winner's prediction for each row."""
        return self.model.predict(x)


def _parts(n: int, folds: int, seed: int) -> list[NDArray[np.int64]]:
    order = np.random.default_rng(seed_of(seed, "folds")).permutation(n)
    return [np.sort(part) for part in np.array_split(order, folds)]


def _taus(candidate: Surrogate, x: Floats, y: Floats, parts: Sequence[NDArray[np.int64]]) -> tuple[float, ...]:
    taus = []
    for part in parts:
        others = np.setdiff1d(np.arange(len(x)), part)
        predicted = candidate.fit(x[others], y[others]).predict(x[part])
        if not np.isfinite(predicted).all():
            taus.append(-1.0)
            continue
        constant = np.ptp(predicted) == 0 or np.ptp(y[part]) == 0
        taus.append(0.0 if constant else float(kendalltau(predicted, y[part]).statistic))
    return tuple(taus)
