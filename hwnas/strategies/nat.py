"""NAT: a surrogate of what is costly, searched by NSGA-II, refined by true evaluations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from hwnas.core import TIE_ERRORS, Architecture, Evaluation, Objective, RecipeError
from hwnas.learners import Switching, SwitchingModel
from hwnas.pareto import (
    Points,
    Variation,
    breed,
    cheaper_first,
    errors_of,
    genotypes_of,
    non_dominated,
    non_dominated_beyond,
    standings,
    unseen,
)
from hwnas.space import Codes
from hwnas.study import JSON, Study, first_archive, survival_of
from hwnas.study.foresight import foresee, learn

_SWAP_ROUNDS = 5
_ADAPT_EPOCHS = 5  # of the paper, in each iteration


@dataclass(frozen=True)
class Nat:
    """An archive of evaluated networks grows by the few that a surrogate thinks best.

    Each iteration (1) fits a surrogate to every metric that no cost model predicts, on one-hot codes of the archive,
    switching to whichever kind ranks best; (2) evolves a population on surrogate and predicted costs, starting from the
    archive's front; (3) picks those unseen members of its front that fill the gaps of the archive's front most evenly;
    (4) evaluates them; (5) where networks are scored with shared weights, trains these on for `adapt_epochs`, drawing
    each option as often as the best of the archive have it, and evaluates the whole archive anew with them. The first
    archive is random, with the ends of the space in it. Without (5) this is MSuNAS.

    Differences from the paper:

    - One objective is searched by NSGA-II as well; two by NSGA-II and more by NSGA-III, as there.
    - The subset of (3) is found by greedy choice and swaps instead of by a second evolution.
    - The distributions of (5) are smoothed frequencies, which suit options without an order, instead of fitted
      densities.
    - The supernet is trained by the recipe on the user's images; the paper's comes from ImageNet. The teacher of (5) is
      its largest network as it was before the first adaptation, with its own batch-norm statistics; it never changes.
    - The surrogates are radial basis functions with a ridge, a Gaussian process and extra-trees; the paper has 5,000
      single trees and, as a fourth candidate, a multilayer perceptron.
    - With a budget below twice `initial`, the first archive takes half of the budget. The budget counts networks:
      evaluating the archive anew costs time alone.
    - Rate, decay and number of networks of (5) are the recipe's `[adaptation]`, with the paper's values as defaults.

    - Where evaluations carry standard errors (accuracies on images do), a network that gains no more than one of them
      over a cheaper one is tied with it: in the front whose gaps (3) fills, and among those that (3) takes, where the
      tied fill what the others leave. The paper compares accuracies as if they were exact. The error is that of one
      accuracy: also that of the difference of two whose mistakes agree by half, and answers per image are kept of
      finished networks only. Numbers without an error are compared as in the paper.

    Source: Lu et al. 2021 (TPAMI 43(9), Neural Architecture Transfer), and MSuNAS (Lu et al. 2020, ECCV).

    Attributes:
        initial: Networks of the first archive.
        per_iteration: Networks evaluated per iteration.
        population: Networks of the evolution on the surrogate.
        generations: Generations of that evolution.
        surrogates: Candidates for switching, in order of preference; see `hwnas.learners.SURROGATES`.
        folds: Parts of the cross validation that chooses the surrogate.
        crossover_probability: Share of matings that exchange codes.
        mutations: Codes of a child moved on average (about half of the moves round back).
        mutation_eta: How near a moved code stays; small is far.
        adapt_epochs: Epochs of (5) in each iteration. None stands for the paper's 5 where the study has shared weights
            to train, and for 0 elsewhere. 0 leaves the weights as they are.
        survivors: The best of the archive, by rank and crowding, that (5) draws like.

    Raises:
        RecipeError: If a parameter is out of its range.

    Example:
        >>> Nat(initial=50).per_iteration
        8
    """

    version: ClassVar[int] = 1

    initial: int = 100
    per_iteration: int = 8
    population: int = 100
    generations: int = 20
    surrogates: tuple[str, ...] = ("rbf", "gp", "trees")
    folds: int = 10
    crossover_probability: float = 0.9
    mutations: float = 2.0
    mutation_eta: float = 1.0
    adapt_epochs: int | None = None
    survivors: int = 150

    def __post_init__(self) -> None:
        least_of = {
            "initial": 2,
            "per_iteration": 1,
            "population": 2,
            "generations": 1,
            "adapt_epochs": 0,
            "survivors": 1,
        }
        for name, least in least_of.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise RecipeError(f"nat: {name} is {value}; expected at least {least}")
        try:
            self._variation()
        except ValueError as error:
            raise RecipeError(f"nat: {error}") from error
        self._switching(0)

    def search(self, study: Study) -> None:
        """Evaluate, fit, evolve and choose until the budget is spent."""
        archive = study.evaluate(self._first(study))
        epochs = self.adapt_epochs
        if epochs is None:
            epochs = _ADAPT_EPOCHS if study.adaptable else 0
        while True:
            proposal = study.once("proposal", partial(self._propose, study, tuple(archive)))
            if not proposal["architectures"]:
                break
            archive += study.evaluate([Architecture(options) for options in proposal["architectures"]])
            if epochs:
                study.adapt(self._frequencies(study, archive), epochs)
                archive = study.evaluate([evaluation.architecture for evaluation in archive])
        while True:  # hardly anything new is left: take the rest at random, until the study sees that nothing comes
            study.evaluate(study.sample(self.per_iteration))

    def _first(self, study: Study) -> list[Architecture]:
        return first_archive(study, self.initial)

    def _propose(self, study: Study, archive: Sequence[Evaluation], rng: np.random.Generator) -> JSON:
        """Which networks to evaluate next, and which surrogates said so. One durable step: a resume fits nothing."""
        space = study.space
        codes = space.encode(evaluation.architecture for evaluation in archive)
        known = standings(archive, study.objectives, study.limits)
        seen = {row.tobytes() for row in codes}
        chosen, report = codes[:0], {}
        if len(known.index) >= 2:
            points = Points(genotypes_of(space, codes[known.index], rng), known.costs, known.violation)
            learned = learn(study, [archive[n] for n in known.index], self._switching(int(rng.integers(2**32))))
            report = {name: {"winner": m.winner, "scores": dict(m.scores)} for name, m in learned.items()}
            evolved = self._evolve(study, learned, points, rng)
            errors = errors_of([archive[n] for n in known.index], study.objectives)
            chosen = space.canonical_codes(self._select(study, points, errors, evolved, seen))
        missing = self.per_iteration - len(chosen)
        if missing:
            drawn = space.encode(study.sample(2 * self.per_iteration, rng))
            new = unseen(drawn, seen | {row.tobytes() for row in chosen})[:missing]
            chosen = np.concatenate([chosen, drawn[new]])
        return {"architectures": [dict(network) for network in space.decode(chosen)], "surrogates": report}

    def _frequencies(self, study: Study, archive: Sequence[Evaluation]) -> dict[str, list[float]]:
        """How often the best of the archive have each option, smoothed: (count + 1) / (n + options)."""
        space, rng = study.space, study.rng("survivors")
        known = standings(archive, study.objectives, study.limits)
        codes = space.encode(archive[n].architecture for n in known.index)
        if len(codes):
            best = survival_of(len(study.objectives), self.survivors)(
                Points(codes, known.costs, known.violation), self.survivors, rng
            )
            codes = best.points.genotypes
        found = {}
        for column, decision in zip(codes.T, space.decisions, strict=True):
            counts = np.bincount(column[column >= 0], minlength=len(decision.options)) + 1
            found[decision.label] = (counts / counts.sum()).tolist()
        return found

    def _evolve(
        self, study: Study, learned: Mapping[str, SwitchingModel], archive: Points, rng: np.random.Generator
    ) -> Points:
        """NSGA-II or III on what is learned and predicted, from the best of the archive and random networks."""
        space, seen = study.space, set[bytes]()
        survive = survival_of(len(study.objectives), self.population)
        parents = survive(archive, self.population, rng).points.genotypes
        drawn = space.sample_codes(max(0, self.population - len(parents)), rng)
        first = np.concatenate([parents, genotypes_of(space, drawn, rng)])
        points = foresee(study, learned, first[unseen(space.canonical_codes(first), seen)])
        for _ in range(self.generations):
            survivors = survive(points, self.population, rng)
            children = breed(space, survivors, seen, self.population, rng, self._variation())
            points = survivors.points.join(foresee(study, learned, children))
        return survive(points, self.population, rng).points

    def _select(
        self, study: Study, archive: Points, errors: NDArray[np.float64], evolved: Points, seen: set[bytes]
    ) -> Codes:
        """Of the evolved front's new networks those that fill the gaps of the archive's front; then the next best."""
        feasible = evolved.take(evolved.violation == 0)
        new = feasible.take(unseen(study.space.canonical_codes(feasible.genotypes), set(seen)))
        if len(new) <= self.per_iteration:
            return new.genotypes
        front = non_dominated(new.costs)
        rest = np.setdiff1d(np.arange(len(new)), front)  # in order of survival: best first
        if len(front) <= self.per_iteration:
            return new.take(np.concatenate([front, rest])[: self.per_iteration]).genotypes
        predicted = {cost.name for cost in study.costs}
        cheap = [n for n, objective in enumerate(study.objectives) if objective.name in predicted]
        columns = cheap or list(range(len(study.objectives)))
        inside = archive.violation == 0
        known = archive.costs[inside]
        known = known[gaining(known, errors[inside], study.objectives)]
        typical = np.median(errors, axis=0)
        sure = front[gaining(new.costs[front], np.tile(typical, (len(front), 1)), study.objectives)]
        if len(sure) > self.per_iteration:
            chosen = sure[evenest(known[:, columns], new.costs[sure][:, columns], self.per_iteration)]
        else:
            tied = np.setdiff1d(front, sure)
            before = np.concatenate([known, new.costs[sure]])
            missing = self.per_iteration - len(sure)
            filling = evenest(before[:, columns], new.costs[tied][:, columns], missing) if missing else tied[:0]
            chosen = np.concatenate([sure, tied[filling]])
        return new.take(chosen).genotypes

    def _switching(self, seed: int) -> Switching:
        return Switching(self.surrogates, folds=self.folds, seed=seed)

    def _variation(self) -> Variation:
        return Variation(self.crossover_probability, self.mutations, self.mutation_eta)


def gaining(
    costs: NDArray[np.float64], errors: NDArray[np.float64], objectives: Sequence[Objective]
) -> NDArray[np.int64]:
    """The rows of a front that gain more than a standard error over every cheaper row of it.

    Args:
        costs: [points, objectives], all minimised.
        errors: [points, objectives], standard errors; 0 where a number is exact.
        objectives: Of the columns.

    Returns:
        Ascending indices; without errors those of the plain front.

    Example:
        >>> costs = np.array([[-0.90, 1.0], [-0.905, 2.0], [-0.93, 3.0]])
        >>> objectives = [Objective.named("accuracy"), Objective.named("latency_ms")]
        >>> gaining(costs, np.tile([0.01, 0.0], (3, 1)), objectives).tolist()
        [0, 2]
    """
    front = non_dominated(costs)
    margins = TIE_ERRORS * np.maximum(errors[front, None], errors[None, front])
    return front[non_dominated_beyond(costs[front], margins, first=cheaper_first(objectives))]


def evenest(front: NDArray[np.float64], candidates: NDArray[np.float64], n: int) -> NDArray[np.int64]:
    """The n candidates that, together with a front, lie most evenly in every column.

    Uneven is the largest, over the columns, of the standard deviation of the gaps between neighbours, with each column
    scaled to its range. Candidates are added one by one, each time the one that leaves it most even; then single
    candidates are swapped while that helps.

    Args:
        front: [points, columns].
        candidates: [candidates, columns], at least n.
        n: How many.

    Returns:
        [n], ascending.

    Example:
        >>> evenest(np.array([[0.0], [10.0]]), np.array([[1.0], [5.0], [9.0]]), 1).tolist()
        [1]
    """
    every = np.concatenate([front, candidates])
    span = np.ptp(every, axis=0)
    span[span == 0] = 1.0

    def unevenness(chosen: Sequence[int]) -> float:
        rows = np.sort(np.concatenate([front, candidates[list(chosen)]]) / span, axis=0)
        return float(np.diff(rows, axis=0).std(axis=0).max()) if len(rows) > 1 else 0.0

    chosen: list[int] = []
    left = list(range(len(candidates)))
    for _ in range(n):
        best = min(left, key=lambda c: unevenness([*chosen, c]))
        chosen.append(best)
        left.remove(best)
    current = unevenness(chosen)
    for _ in range(_SWAP_ROUNDS):
        before = current
        for place in range(n):
            rest = chosen[:place] + chosen[place + 1 :]
            best = min(left, key=lambda c: unevenness([*rest, c]), default=chosen[place])
            found = unevenness([*rest, best])
            if found < current:
                left[left.index(best)] = chosen[place]
                chosen[place], current = best, found
        if current == before:
            break
    return np.array(sorted(chosen), dtype=np.int64)
