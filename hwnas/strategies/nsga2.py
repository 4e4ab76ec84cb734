"""NSGA-II: evolution towards a front, with non-dominated sorting and crowding."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hwnas.core import RecipeError
from hwnas.pareto import Points, Population, Variation, breed, ends, genotypes_of, standings, survive, unseen
from hwnas.space import Codes
from hwnas.study import Study

_FAR = 1e9  # stands for a violation without measure: survival sorts finite numbers only


@dataclass(frozen=True)
class Nsga2:
    """Each generation, as many new networks as the population holds are bred and evaluated; the best of both stay.

    Differences from the paper: variables are integer codes (two-point crossover, polynomial mutation rounded to
    codes); a child that is the same network as anything seen before is drawn again; the first population holds the
    ends of the space (the smallest and largest network of each predicted cost); a child outside a limit on a predicted
    cost takes part, behind every feasible network, without being evaluated; a failed evaluation does not take part.
    Of more than three objectives nearly everything becomes non-dominated, and this is no longer much of a method.

    Source: Deb et al. 2002 (IEEE Trans. Evol. Comp. 6(2), 182-197).

    Attributes:
        population: Networks kept, and bred per generation. Of 20, 30, 40 and 50, 20 was the best or equal on 200 and
            1,000 evaluations of MBv3-45 and on 220 of Toy201.
        crossover_probability: Share of matings that exchange codes.
        mutations: Codes of a child moved on average (about half of the moves round back).
        mutation_eta: How near a moved code stays; small is far.

    Raises:
        RecipeError: If a parameter is out of its range.

    Example:
        >>> Nsga2(population=40).mutations
        2.0
    """

    population: int = 20
    crossover_probability: float = 0.9
    mutations: float = 2.0
    mutation_eta: float = 1.0

    def __post_init__(self) -> None:
        if self.population < 2:
            raise RecipeError(f"nsga2: population is {self.population}; expected at least 2")
        try:
            self._variation()
        except ValueError as error:
            raise RecipeError(f"nsga2: {error}") from error

    def search(self, study: Study) -> None:
        """Breed and evaluate until the budget is spent."""
        rng = study.rng("nsga2")
        seen: set[bytes] = set()
        first = study.space.encode([*ends(study.space, study.costs), *study.sample(self.population)])
        first = first[study.feasible(first)]
        first = first[unseen(first, seen)][: self.population]
        points = _evaluated(study, genotypes_of(study.space, first, rng))
        while True:
            survivors = survive(points, self.population, rng)
            points = survivors.points.join(self._children(study, survivors, seen, rng))

    def _children(self, study: Study, parents: Population, seen: set[bytes], rng: np.random.Generator) -> Points:
        """The next generation: new networks, evaluated unless a limit on a predicted cost rules them out."""
        space = study.space
        bred = parents.points.genotypes[:0]
        if len(parents):
            bred = breed(space, parents, seen, self.population, rng, self._variation())
        violation = study.violation(space.canonical_codes(bred))
        outside = Points(bred, np.zeros((len(bred), len(study.objectives))), np.minimum(violation, _FAR))
        outside = outside.take(violation > 0)
        inside = bred[violation == 0]
        if not len(inside):  # everything failed, every child breaks a limit, or the space is nearly used up
            drawn = study.sample(self.population)
            codes = space.encode(drawn)
            new = unseen(codes, seen)
            if not len(new):
                study.evaluate(drawn)  # known, so it costs nothing; the study counts such requests and ends the search
            inside = genotypes_of(space, codes[new], rng)
        return outside.join(_evaluated(study, inside))

    def _variation(self) -> Variation:
        return Variation(self.crossover_probability, self.mutations, self.mutation_eta)


def _evaluated(study: Study, genotypes: Codes) -> Points:
    """Evaluate networks; those that failed are left out."""
    evaluations = study.evaluate(study.space.decode(study.space.canonical_codes(genotypes)))
    found = standings(evaluations, study.objectives, study.limits)
    return Points(genotypes[found.index], found.costs, found.violation)
