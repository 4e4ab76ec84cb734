"""NSGA-III: evolution towards a front of three objectives or more, kept wide by reference directions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from hwnas.core import RecipeError
from hwnas.pareto import Niches, Variation, directions, survive
from hwnas.study import Study, Survive, evolve


@dataclass(frozen=True)
class Nsga3:
    """As NSGA-II, but of the front that does not fit those survive whose reference direction has the fewest members.

    Crowding says little among many objectives; directions spread over all of them keep the front wide. The directions
    are the finest Das-Dennis lattice that the population can fill: 28 of it for two or three objectives, 20 for four,
    15 for five.

    Differences from the paper: those of `Nsga2` (integer codes, no network twice, the ends of the space in the first
    population, children outside a limit on a predicted cost not evaluated).

    Source: Deb & Jain 2014 (IEEE Trans. Evol. Comp. 18(4), 577-601), Jain & Deb 2014 (the same, 602-622) for limits.

    Attributes:
        population: Networks kept, and bred per generation.
        crossover_probability: Share of matings that exchange codes.
        mutations: Codes of a child moved on average (about half of the moves round back).
        mutation_eta: How near a moved code stays; small is far.

    Raises:
        RecipeError: If a parameter is out of its range.

    Example:
        >>> Nsga3(population=91).mutations
        2.0
    """

    version: ClassVar[int] = 1

    population: int = 28
    crossover_probability: float = 0.9
    mutations: float = 2.0
    mutation_eta: float = 1.0

    def __post_init__(self) -> None:
        if self.population < 2:
            raise RecipeError(f"nsga3: population is {self.population}; expected at least 2")
        try:
            self._variation()
        except ValueError as error:
            raise RecipeError(f"nsga3: {error}") from error

    def search(self, study: Study) -> None:
        """Breed and evaluate until the budget is spent.

        Raises:
            RecipeError: If the population is smaller than the number of objectives.
        """
        evolve(
            study,
            population=self.population,
            survive=self._survival(len(study.objectives)),
            variation=self._variation(),
            rng=study.rng("nsga3"),
        )

    def _survival(self, objectives: int) -> Survive:
        if objectives == 1:  # one direction: the best survive, whichever way one says it
            return survive
        if self.population < objectives:
            raise RecipeError(
                f"nsga3: population is {self.population}; expected at least {objectives}, one for each objective"
            )
        return Niches(directions(objectives, self.population)).survive

    def _variation(self) -> Variation:
        return Variation(self.crossover_probability, self.mutations, self.mutation_eta)
