"""NSGA-II: evolution towards a front, with non-dominated sorting and crowding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from hwnas.core import RecipeError
from hwnas.pareto import Variation, survive
from hwnas.study import Study, evolve


@dataclass(frozen=True)
class Nsga2:
    """Each generation, as many new networks as the population holds are bred and evaluated; the best of both stay.

    Differences from the paper: variables are integer codes (two-point crossover, polynomial mutation rounded to
    codes); a child that is the same network as anything seen before is drawn again; the first population holds the
    ends of the space (the smallest and largest network of each predicted cost); a child outside a limit on a predicted
    cost takes part, behind every feasible network, without being evaluated; a failed evaluation does not take part.
    Of more than three objectives nearly everything becomes non-dominated, and this is no longer much of a method: see
    `Nsga3`.

    Source: Deb et al. 2002 (IEEE Trans. Evol. Comp. 6(2), 182-197).

    Attributes:
        population: Networks kept, and bred per generation. Of 20, 30, 40 and 50, 20 was the best or equal on 200 and
            1,000 evaluations of MBv3-45 and on 220 of Toy201. So figures on these two are figures on what was tuned.
        crossover_probability: Share of matings that exchange codes.
        mutations: Codes of a child moved on average (about half of the moves round back).
        mutation_eta: How near a moved code stays; small is far.

    Raises:
        RecipeError: If a parameter is out of its range.

    Example:
        >>> Nsga2(population=40).mutations
        2.0
    """

    version: ClassVar[int] = 1

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
        evolve(
            study,
            population=self.population,
            survive=survive,
            variation=self._variation(),
            rng=study.rng("nsga2"),
        )

    def _variation(self) -> Variation:
        return Variation(self.crossover_probability, self.mutations, self.mutation_eta)
