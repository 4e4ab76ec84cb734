"""What can be said about networks before they are evaluated: cost models exactly, the rest by what was learned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from hwnas.core import Evaluation
from hwnas.learners import Model
from hwnas.pareto import Points, violations_of
from hwnas.space import Codes
from hwnas.study.generations import FAR
from hwnas.study.study import Study

M_co = TypeVar("M_co", covariant=True)
M = TypeVar("M")


class Fits(Protocol[M_co]):
    """Settings of a kind of model: a `hwnas.learners.Surrogate`, or `Switching`."""

    def fit(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> M_co:
        """A model of y [n] over one-hot codes x [n, columns]."""


def learn(study: Study, known: Sequence[Evaluation], surrogate: Fits[M]) -> dict[str, M]:
    """A model for each objective and limit that no cost model predicts, by name.

    Args:
        study: Says what is wanted, and what is predicted.
        known: Evaluations that did not fail; a metric that fewer than two of them have is left out.
        surrogate: Is fitted to one-hot codes.

    Example:
        >>> from hwnas.core import Architecture, Budget
        >>> from hwnas.learners import Trees
        >>> from hwnas.testing import toy201
        >>> study = toy201().study(budget=Budget(evaluations=8))
        >>> list(learn(study, study.evaluate(study.sample(8)), Trees()))
        ['accuracy']
    """
    predicted = {cost.name for cost in study.costs}
    wanted = dict.fromkeys([*(o.name for o in study.objectives), *(limit.name for limit in study.limits)])
    x = study.space.one_hot(study.space.encode(evaluation.architecture for evaluation in known))
    learned = {}
    for name in wanted:
        rows = [n for n, evaluation in enumerate(known) if name in evaluation.metrics]
        if name not in predicted and len(rows) >= 2:
            learned[name] = surrogate.fit(x[rows], np.array([known[n][name] for n in rows]))
    return learned


def foresee(study: Study, learned: Mapping[str, Model], genotypes: Codes) -> Points:
    """What models and cost models say about networks: their objectives as costs, and how far outside they are.

    Args:
        study: Says what is wanted, and what is predicted.
        learned: As of `learn`; with the costs it must cover every objective.
        genotypes: [n, decisions].
    """
    codes = study.space.canonical_codes(genotypes)
    if not len(codes):
        return Points(genotypes, np.empty((0, len(study.objectives))), np.empty(0))
    x = study.space.one_hot(codes)
    values = study.predict(codes) | {name: model.predict(x) for name, model in learned.items()}
    costs = np.stack([objective.as_cost(values[objective.name]) for objective in study.objectives], axis=1)
    guessed = [limit for limit in study.limits if limit.name in learned]
    rows = [{limit.name: float(values[limit.name][n]) for limit in guessed} for n in range(len(codes))]
    violation = study.violation(codes) + violations_of(rows, guessed)
    return Points(genotypes, costs, np.minimum(violation, FAR))
