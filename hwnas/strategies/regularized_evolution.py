"""Regularized evolution: a population in which the oldest dies, whatever it is worth."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from hwnas.core import Architecture, Evaluation, RecipeError
from hwnas.pareto import non_dominated, standings
from hwnas.study import Study, best_so_far

_TRIES = (1, 100)  # of one parent, the first alone because it nearly always does, before it is said to have no child


@dataclass(frozen=True)
class RegularizedEvolution:
    """Again and again the best of a random sample changes one of its decisions, and the oldest network dies.

    Dying of age instead of weakness forgets networks that were only lucky in a noisy evaluation. Differences from the
    paper: hard limits by constraint domination (a network inside them beats one outside, of two outside the nearer
    wins, and limits on predicted costs are kept before an evaluation); with several objectives the parent is drawn from
    what nothing in the sample dominates; known networks cost no budget but do enter the population; a failed evaluation
    does not. As many children at a time as the study keeps in flight, appended in the order asked for.

    Source: Real et al. 2019 (arXiv 1802.01548), algorithm 1; defaults as for NAS-Bench-201 (arXiv 2001.00326).

    Attributes:
        population: Networks alive.
        sample: How many are drawn, with replacement, for the choice of a parent.

    Raises:
        RecipeError: If a parameter is out of its range.

    Example:
        >>> RegularizedEvolution().sample
        3
    """

    version: ClassVar[int] = 1

    population: int = 10
    sample: int = 3

    def __post_init__(self) -> None:
        if self.population < 1 or self.sample < 1:
            raise RecipeError(
                f"regularized_evolution: population is {self.population}, sample is {self.sample}; "
                "expected at least 1 of each"
            )

    def search(self, study: Study) -> None:
        """Evolve until the budget is spent."""
        rng = study.rng("regularized_evolution")
        alive: deque[_Individual] = deque(maxlen=self.population)
        first = dict.fromkeys([*best_so_far(study, self.population), *study.sample(self.population)])
        alive.extend(_individuals(study, study.evaluate(list(first)[: self.population])))
        while True:
            if alive:
                children = [_mutated(study, self._parent(alive, rng), rng) for _ in range(study.in_flight)]
            else:  # everything failed so far
                children = study.sample(self.population)
            alive.extend(_individuals(study, study.evaluate(children)))

    def _parent(self, alive: deque[_Individual], rng: np.random.Generator) -> Architecture:
        drawn = [alive[i] for i in rng.integers(len(alive), size=self.sample)]
        least = min(individual.violation for individual in drawn)
        nearest = [individual for individual in drawn if individual.violation == least]
        if least > 0:
            return nearest[0].architecture
        best = non_dominated(np.stack([individual.costs for individual in nearest]))
        return nearest[int(best[rng.integers(len(best))])].architecture


def _mutated(study: Study, parent: Architecture, rng: np.random.Generator) -> Architecture:
    """The parent with another option for one of its decisions, within the limits on predicted costs.

    The same again, which costs nothing, where no try found one.
    """
    space = study.space
    [codes] = space.encode([parent])
    options = np.array([len(decision.options) for decision in space.decisions])
    open_to_choice = np.flatnonzero((codes >= 0) & (options > 1))
    for tries in _TRIES if len(open_to_choice) else ():
        place = rng.choice(open_to_choice, size=tries)
        # What the other option may wake up is drawn, too.
        genotypes = np.where(codes < 0, rng.integers(0, options, size=(tries, len(options))), codes)
        genotypes[np.arange(tries), place] = (codes[place] + rng.integers(1, options[place])) % options[place]
        children = space.canonical_codes(genotypes)
        within = np.flatnonzero(study.feasible(children))
        if len(within):
            return space.decode(children[within[:1]])[0]
    return parent


@dataclass(frozen=True, eq=False)
class _Individual:
    """A network of the population, with all its objectives as costs [m] and how far outside the limits it is."""

    architecture: Architecture
    costs: NDArray[np.float64]
    violation: float


def _individuals(study: Study, evaluations: list[Evaluation]) -> list[_Individual]:
    found = standings(evaluations, study.objectives, study.limits)
    rows = zip(found.index.tolist(), found.costs, found.violation.tolist(), strict=True)
    return [_Individual(evaluations[n].architecture, costs, violation) for n, costs, violation in rows]
