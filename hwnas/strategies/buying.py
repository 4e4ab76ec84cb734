"""Scores that cost something: what is known of them, what may be expected of the rest, and which to buy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hwnas.core import Evaluation
from hwnas.learners import RelevanceGp, RelevanceModel
from hwnas.space import Codes, Space

Floats = NDArray[np.float64]

_DRAWS = 256  # of what scores may come out as
QUANTILES = 9
"""Values that a score may have, equally probable."""


@dataclass(frozen=True, eq=False)
class BoughtScore:
    """One score: the values that were bought, and a Gaussian process that says what the others may be.

    Attributes:
        name: Of the score.
        values: By the bytes of a network's codes, in standard units.
        asked: Bytes of all networks that it was bought for, with those for which that failed.
        model: Of the values, from one-hot decisions and known costs.
    """

    name: str
    values: Mapping[bytes, float]
    asked: frozenset[bytes]
    model: RelevanceModel

    @classmethod
    def learn(
        cls,
        name: str,
        evaluations: Sequence[Evaluation],
        space: Space,
        look: Callable[[Codes], Floats],
        groups: tuple[int, ...],
        start: Sequence[float] | None,
    ) -> BoughtScore | None:
        """Of all that were bought; None for fewer than two different values, which say nothing.

        Args:
            name: Of the score.
            evaluations: Of the networks that it was bought for.
            space: Of the networks.
            look: What is learned from, [n, columns] of codes [n, decisions].
            groups: Of its columns.
            start: Parameters of an earlier model.
        """
        known = [evaluation for evaluation in evaluations if name in evaluation.metrics]
        y = np.array([evaluation[name] for evaluation in known])
        if len(y) < 2 or np.ptp(y) == 0:
            return None
        z = (y - y.mean()) / y.std()
        if start is not None and len(start) != len(groups) + 3:
            start = None
        codes = space.encode(evaluation.architecture for evaluation in known)
        asked = space.encode(evaluation.architecture for evaluation in evaluations)
        return cls(
            name,
            {row.tobytes(): float(value) for row, value in zip(codes, z, strict=True)},
            frozenset(row.tobytes() for row in asked),
            RelevanceGp(groups, iterations=15 if start is None else 4).fit(look(codes), z, start=start),
        )

    def bought(self, codes: Codes) -> NDArray[np.bool_]:
        """For which of codes [n, decisions] it was bought, even if that failed; [n]."""
        return np.array([row.tobytes() in self.asked for row in codes], dtype=bool)

    def estimate(self, codes: Codes, x: Floats) -> tuple[Floats, Floats]:
        """Mean and deviation of the score of codes [n, decisions], 0 where it was bought; [n] each."""
        mean, deviation = self.model.posterior(x)
        noise = self.model.scale**2 * float(np.exp(self.model.parameters[-1]))
        deviation = np.sqrt(deviation**2 + noise)
        for n, row in enumerate(codes):
            value = self.values.get(row.tobytes())
            if value is not None:
                mean[n], deviation[n] = value, 0.0
        return mean, deviation


def purchase(
    gains: Floats, scored: NDArray[np.bool_], *, price: float, n: int, sizes: Sequence[int], rng: np.random.Generator
) -> tuple[int, float]:
    """How many scores to buy before n networks are evaluated, for the largest expected gain per evaluation spent.

    With a score a network's gain is known better. So of many that are scored the best n gain more, in expectation, than
    those that seem the best now; that has to outweigh what the scores cost.

    Args:
        gains: [networks, values], expected gain of each, the most promising first, for each value its score may have.
        scored: [networks], whether the score is known.
        price: Of a score, as a share of an evaluation.
        n: Networks that are evaluated next.
        sizes: Numbers of scores that come into question.
        rng: Draws scores.

    Returns:
        The number, 0 where no purchase pays, and the gain per evaluation.

    Example:
        >>> gains = np.array([[1.5, 1.5, 1.5], [0.0, 0.0, 3.0]])
        >>> scored = np.array([True, False])
        >>> rng = np.random.default_rng(0)
        >>> [purchase(gains, scored, price=price, n=1, sizes=[1], rng=rng)[0] for price in (0.1, 0.9)]
        [1, 0]
    """
    usual = gains.mean(axis=1)
    unscored = np.flatnonzero(~scored)
    now = np.argsort(-usual, kind="stable")[:n]
    best = (0, float(usual[now].sum()) / (len(now) + price * int((~scored[now]).sum())))
    drawn = rng.integers(0, gains.shape[1], size=(_DRAWS, len(gains)))
    for size in sizes:
        bought = unscored[:size]
        if not len(bought):
            break
        outcomes = np.broadcast_to(usual, (_DRAWS, len(gains))).copy()
        outcomes[:, bought] = gains[bought, drawn[:, bought]]
        kept = np.argsort(-outcomes, axis=1, kind="stable")[:, :n]
        later = np.isin(kept, unscored[size:]).sum(axis=1)
        total = np.take_along_axis(outcomes, kept, axis=1).sum(axis=1)
        rate = float((total / (kept.shape[1] + price * (len(bought) + later))).mean())
        if rate > best[1]:
            best = (len(bought), rate)
    return best
