"""The generations of an evolution towards a front, for every strategy that differs in who survives only."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

import numpy as np

from hwnas.core import Architecture
from hwnas.pareto import (
    Niches,
    Points,
    Population,
    Variation,
    breed,
    directions,
    ends,
    genotypes_of,
    standings,
    survive,
    unseen,
)
from hwnas.space import Codes
from hwnas.study.outcome import FULL
from hwnas.study.study import Study

FAR = 1e9
"""Stands for a violation without measure: survival sorts finite numbers only."""

Survive = Callable[[Points, int, np.random.Generator], Population]
"""Of points, so many survive."""


def evolve(
    study: Study, *, population: int, survive: Survive, variation: Variation, rng: np.random.Generator
) -> NoReturn:
    """Breed and evaluate until the study's budget is spent, which ends it from within.

    The first population holds the best of what the study has evaluated before, if it has, and the ends of the space
    (the smallest and largest network of each predicted cost); a child that is the same network as anything seen before
    is drawn again; a child outside a limit on a predicted cost takes part, behind every feasible network, without being
    evaluated; a failed evaluation does not take part.

    Args:
        study: That evaluates.
        population: Networks kept, and bred per generation.
        survive: Who of parents and children stays.
        variation: How children differ from their parents.
        rng: All chance comes from here.
    """
    seen: set[bytes] = set()
    found = best_so_far(study, population)
    first = study.space.encode([*found, *ends(study.space, study.costs), *study.sample(population)])
    first = first[study.feasible(first)]
    first = first[unseen(first, seen)][:population]
    points = _evaluated(study, genotypes_of(study.space, first, rng))
    while True:
        survivors = survive(points, population, rng)
        points = survivors.points.join(_children(study, survivors, seen, population, variation, rng))


def _children(
    study: Study,
    parents: Population,
    seen: set[bytes],
    n: int,
    variation: Variation,
    rng: np.random.Generator,
) -> Points:
    """The next generation: new networks, evaluated unless a limit on a predicted cost rules them out."""
    space = study.space
    bred = parents.points.genotypes[:0]
    if len(parents):
        bred = breed(space, parents, seen, n, rng, variation)
    violation = study.violation(space.canonical_codes(bred))
    outside = Points(bred, np.zeros((len(bred), len(study.objectives))), np.minimum(violation, FAR))
    outside = outside.take(violation > 0)
    inside = bred[violation == 0]
    if not len(inside):  # everything failed, every child breaks a limit, or the space is nearly used up
        drawn = study.sample(n)
        codes = space.encode(drawn)
        new = unseen(codes, seen)
        if not len(new):
            study.evaluate(drawn)  # known, so it costs nothing; the study counts such requests and ends the search
        inside = genotypes_of(space, codes[new], rng)
    return outside.join(_evaluated(study, inside))


def _evaluated(study: Study, genotypes: Codes) -> Points:
    """Evaluate networks; those that failed are left out."""
    evaluations = study.evaluate(study.space.decode(study.space.canonical_codes(genotypes)))
    found = standings(evaluations, study.objectives, study.limits)
    return Points(genotypes[found.index], found.costs, found.violation)


def best_so_far(study: Study, n: int) -> list[Architecture]:
    """The best networks that the study has evaluated before, by whole fronts first; none where it has not begun.

    A search that goes on where another ended starts from them.

    Args:
        study: That evaluated them.
        n: At most.
    """
    before = [evaluation for evaluation in study.evaluated if evaluation.fidelity == FULL]
    if not before:
        return []
    found = standings(before, study.objectives, study.limits)
    points = Points(study.space.encode(before[k].architecture for k in found.index), found.costs, found.violation)
    return study.space.decode(survive(points, n, study.rng("best so far")).points.genotypes)


def first_archive(study: Study, n: int) -> list[Architecture]:
    """What a search with a model evaluates first: the ends of the space where they are feasible, then random networks.

    What the study has evaluated before comes first of all, since it costs nothing.

    Args:
        study: That will evaluate.
        n: Networks; at most half of the budget, so that something is left to search with.
    """
    if study.budget.evaluations is not None:
        n = min(n, max(2, study.budget.evaluations // 2))
    before = best_so_far(study, len(study.evaluated))
    first = [*before, *ends(study.space, study.costs), *study.sample(n)]
    feasible = study.feasible(study.space.encode(first))
    return list(dict.fromkeys(network for network, inside in zip(first, feasible, strict=True) if inside))[
        : max(n, len(before))
    ]


def survival_of(objectives: int, population: int) -> Survive:
    """NSGA-III's for more than two objectives, if the population is large enough for a direction each; NSGA-II's else.

    Example:
        >>> survival_of(2, 100) is survive
        True
    """
    if objectives <= 2 or population < objectives:
        return survive
    return Niches(directions(objectives, population)).survive
