"""Single path one-shot: evolution within hard limits on the weights of a supernet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from hwnas.core import RecipeError
from hwnas.pareto import Points, standings, survive
from hwnas.space import Codes
from hwnas.study import Study, best_so_far

_TRIES = 10  # per child that is still missing, as in the authors' code


@dataclass(frozen=True)
class Spos:
    """Of all networks seen, the best are mutated and crossed; every candidate keeps the limits before it is evaluated.

    A recipe with `[training] rule = "single_path"` trains the supernet as the paper does; batch norm is estimated
    afresh for every candidate in any case. Differences from the paper: with several objectives "the best" are whole
    fronts first, then the loneliest; a generation that finds too few new networks near the best is filled with random
    ones; there is no last generation, the budget ends the search.

    Source: Guo et al. 2020 (arXiv 1904.00420), algorithm 1.

    Attributes:
        population: Candidates per generation.
        best: Parents: so many of all that were seen.
        mutation: Share of decisions that a mutation redraws.

    Raises:
        RecipeError: If a parameter is out of its range.

    Example:
        >>> Spos(population=20).best
        10
    """

    version: ClassVar[int] = 1

    population: int = 50
    best: int = 10
    mutation: float = 0.1

    def __post_init__(self) -> None:
        if self.population < 2 or self.best < 1:
            raise RecipeError(
                f"spos: population is {self.population}, best is {self.best}; expected at least 2 and at least 1"
            )
        if not 0 < self.mutation <= 1:
            raise RecipeError(f"spos: mutation is {self.mutation}; it is a share of the decisions, above 0 and up to 1")

    def search(self, study: Study) -> None:
        """Evolve until the budget is spent."""
        rng = study.rng("spos")
        known = study.space.encode(best_so_far(study, self.best))
        visited: dict[bytes, None] = dict.fromkeys(row.tobytes() for row in known)
        parents = _evaluated(study, known)
        while True:
            seen = _evaluated(study, self._generation(study, parents.genotypes, visited, rng))
            parents = survive(parents.join(seen), self.best, rng).points

    def _generation(self, study: Study, parents: Codes, visited: dict[bytes, None], rng: np.random.Generator) -> Codes:
        """New networks within the limits: half mutated, half crossed, the rest random."""
        half = self.population // 2
        rows: list[Codes] = []
        if len(parents):
            for n, vary in ((half, self._mutated), (self.population - half, _crossed)):
                rows += _new(study, vary(study, parents, n * _TRIES, rng), n, visited)
        missing = self.population - len(rows)
        if missing:
            drawn = study.space.encode(study.sample(self.population, rng))
            fresh = _new(study, drawn, missing, visited)
            # Nothing new is to be had: ask for what is known, which the study counts and then ends the search.
            rows += fresh if fresh or rows else [drawn[n % len(drawn)] for n in range(self.population)]
        return np.stack(rows)

    def _mutated(self, study: Study, parents: Codes, n: int, rng: np.random.Generator) -> Codes:
        chosen = parents[rng.integers(len(parents), size=n)]
        drawn = _full(study, n, rng)
        redrawn = rng.random(chosen.shape) < self.mutation
        return np.where(redrawn | (chosen < 0), drawn, chosen)


def _evaluated(study: Study, codes: Codes) -> Points:
    evaluations = study.evaluate(study.space.decode(codes)) if len(codes) else []
    found = standings(evaluations, study.objectives, study.limits)
    return Points(codes[found.index], found.costs, found.violation)


def _crossed(study: Study, parents: Codes, n: int, rng: np.random.Generator) -> Codes:
    """Each decision from either of two parents; where only one has it, from that one."""
    first, second = (parents[rng.integers(len(parents), size=n)] for _ in range(2))
    child = np.where(rng.random(first.shape) < 0.5, first, second)
    child = np.where(child < 0, np.maximum(first, second), child)
    return np.where(child < 0, _full(study, n, rng), child)


def _full(study: Study, n: int, rng: np.random.Generator) -> Codes:
    """A code for every decision, active or not, uniform over options; [n, decisions]."""
    options = np.array([len(decision.options) for decision in study.space.decisions])
    return rng.integers(0, options, size=(n, len(options)))


def _new(study: Study, genotypes: Codes, n: int, visited: dict[bytes, None]) -> list[Codes]:
    """The first n that are within the limits and were never seen; they count as seen from here on."""
    codes = study.space.canonical_codes(genotypes)
    rows: list[Codes] = []
    for row in codes[study.feasible(codes)]:
        if len(rows) == n:
            break
        if row.tobytes() not in visited:
            visited[row.tobytes()] = None
            rows.append(row)
    return rows
