"""One generation of NSGA-II or NSGA-III on integer codes: who survives, and what the survivors' children are.

Nothing is remembered between calls (but by `Niches`, whose scale is that of its search): a strategy evaluates the
children with the real thing, a surrogate loop with a model. The operators are pymoo's, made anew on each call and fed
with the caller's generator, so no state of pymoo is shared between two searches.

Source: Deb et al. 2002 (IEEE Trans. Evol. Comp. 6(2), 182-197), with constraint domination (section VI).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from pymoo.algorithms.moo.nsga3 import ReferenceDirectionSurvival
from pymoo.core.population import Population as PymooPopulation
from pymoo.core.problem import Problem
from pymoo.core.survival import Survival
from pymoo.operators.crossover.pntx import TwoPointCrossover
from pymoo.operators.mutation.pm import PolynomialMutation
from pymoo.operators.selection.tournament import TournamentSelection
from pymoo.operators.survival.rank_and_crowding import RankAndCrowding
from pymoo.util.ref_dirs import get_reference_directions

from hwnas.core import Architecture
from hwnas.space import Space

Genotypes = NDArray[np.int64]


@dataclass(frozen=True)
class Variation:
    """How children differ from their parents.

    Attributes:
        crossover_probability: Share of matings whose children swap the codes between two cut points; the others copy.
        mutations: How many codes of a child are moved on average. About half of the moves round back to where they
            came from when there are three options, so 2 changes about one code.
        mutation_eta: Polynomial mutation's distribution index: the larger, the nearer the new code to the old. Codes
            of few options need a small one, else nearly every move rounds back.

    Raises:
        ValueError: If the probability is not in 0..1, or another value is negative or not finite.

    Example:
        >>> Variation(mutation_eta=3.0).crossover_probability
        0.9
    """

    crossover_probability: float = 0.9
    mutations: float = 2.0
    mutation_eta: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.crossover_probability <= 1:
            raise ValueError(f"crossover_probability is {self.crossover_probability}; expected a number in 0..1")
        for name, value in (("mutations", self.mutations), ("mutation_eta", self.mutation_eta)):
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name} is {value}; expected a finite number, 0 or above")


@dataclass(frozen=True)
class Points:
    """Networks and what is known of them.

    Attributes:
        genotypes: [n, decisions], a code for every decision, active or not.
        costs: [n, objectives], all minimised; of no meaning where `violation` is above 0.
        violation: [n], how far outside the limits; 0 where feasible.

    Raises:
        ValueError: If the lengths differ.

    Example:
        >>> one = Points(np.array([[0, 2]]), np.array([[1.0]]), np.zeros(1))
        >>> len(one.join(one))
        2
    """

    genotypes: Genotypes
    costs: NDArray[np.float64]
    violation: NDArray[np.float64]

    def __post_init__(self) -> None:
        lengths = [len(self.genotypes), len(self.costs), len(self.violation)]
        if len(set(lengths)) > 1:
            raise ValueError(f"points: {lengths} genotypes, costs and violations; expected equally many")

    def __len__(self) -> int:
        return len(self.genotypes)

    def join(self, *others: Points) -> Points:
        """These points, then the others."""
        every = (self, *others)
        return Points(
            np.concatenate([points.genotypes for points in every]),
            np.concatenate([points.costs for points in every]),
            np.concatenate([points.violation for points in every]),
        )

    def take(self, index: NDArray[np.int64] | NDArray[np.bool_]) -> Points:
        """Some of these points."""
        return Points(self.genotypes[index], self.costs[index], self.violation[index])


@dataclass(frozen=True)
class Population:
    """The survivors of a generation.

    Attributes:
        points: Whole fronts first, then the infeasible by violation.
        rank: [n], the front of each, 0 the best; the infeasible come after every front.
        crowding: [n], how lonely each is on its front; 0 where infeasible.
    """

    points: Points
    rank: NDArray[np.int64]
    crowding: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.points)


def survive(points: Points, n: int, rng: np.random.Generator) -> Population:
    """The n best: whole fronts first, then the loneliest of the front that does not fit, then the least infeasible.

    Args:
        points: Any number; costs of infeasible ones are not looked at.
        n: How many survive; all do where there are fewer.
        rng: Decides among equally lonely points.

    Raises:
        ValueError: If a violation or a feasible point's cost is not a finite number, or n is below 1.

    Example:
        >>> costs = np.array([[0.0, 2.0], [1.0, 1.0], [2.0, 0.0], [3.0, 3.0]])
        >>> points = Points(np.arange(4)[:, None], costs, np.array([0.0, 0.0, 0.5, 0.0]))
        >>> survive(points, 3, np.random.default_rng(0)).points.genotypes.ravel().tolist()
        [0, 1, 3]
    """
    index, told = _survivors(points, n, rng, RankAndCrowding())
    inside = points.violation[index] == 0
    rank = np.array([data.get("rank", 0) for data in told], dtype=np.int64)
    crowding = np.array([data.get("crowding", 0.0) for data in told], dtype=np.float64)
    return Population(points.take(index), _behind(rank, inside), crowding)


class Niches:
    """Survival by reference directions, NSGA-III's: of the front that does not fit, those of the emptiest directions.

    Costs are scaled to the best value of each and to the intercepts of the plane through the extreme points. Both are
    of everything this object has seen, so it belongs to one search. Which points are extreme would depend on the units
    (the paper compares milliseconds with millions of operations there), so every cost is first divided by its range
    among the first points.

    Source: Deb & Jain 2014 (IEEE Trans. Evol. Comp. 18(4), 577-601).

    Args:
        directions: [directions, objectives], as of `directions`.

    Example:
        >>> costs = np.array([[0.0, 2.0], [0.1, 1.9], [1.0, 1.0], [2.0, 0.0], [3.0, 3.0]])
        >>> points = Points(np.arange(5)[:, None], costs, np.zeros(5))
        >>> kept = Niches(directions(2, 3)).survive(points, 3, np.random.default_rng(0))
        >>> sorted(kept.points.genotypes.ravel().tolist())
        [0, 2, 3]
    """

    def __init__(self, directions: NDArray[np.float64]) -> None:
        self._survival = ReferenceDirectionSurvival(directions)
        self._ranges: NDArray[np.float64] | None = None

    def survive(self, points: Points, n: int, rng: np.random.Generator) -> Population:
        """The n best: whole fronts first, then those of the emptiest directions, then the least infeasible.

        Parents are then drawn by chance among the feasible, as in the paper: all of them have rank 0.

        Args:
            points: Any number; costs of infeasible ones are not looked at.
            n: How many survive; all do where there are fewer.
            rng: Decides among equally empty directions.

        Raises:
            ValueError: If a violation or a feasible point's cost is not a finite number, or n is below 1.
        """
        feasible = points.costs[points.violation == 0]
        if self._ranges is None and len(feasible):
            spread = np.ptp(feasible, axis=0)
            self._ranges = np.where(spread > 0, spread, 1.0)
        scaled = points if self._ranges is None else replace(points, costs=points.costs / self._ranges)
        index, _ = _survivors(scaled, n, rng, self._survival)
        inside = points.violation[index] == 0
        rank = np.zeros(len(index), dtype=np.int64)
        return Population(points.take(index), _behind(rank, inside), np.zeros(len(index)))


def directions(objectives: int, most: int) -> NDArray[np.float64]:
    """Evenly spread reference directions: the finest simplex lattice of at most so many points.

    Args:
        objectives: At least 2.
        most: At least as many as objectives, or there is none.

    Returns:
        [directions, objectives], each summing to 1.

    Raises:
        ValueError: If there is none.

    Source: Das & Dennis 1998 (SIAM J. Optim. 8(3), 631-657).

    Example:
        >>> directions(2, 3).tolist()
        [[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]]
        >>> len(directions(3, 100)), len(directions(5, 210))
        (91, 210)
    """
    if objectives < 2 or most < objectives:
        raise ValueError(
            f"directions: {objectives} objectives and at most {most} directions; expected two or more objectives, and "
            "at least as many directions"
        )
    divisions = 1
    while math.comb(objectives + divisions, divisions + 1) <= most:
        divisions += 1
    found: NDArray[np.float64] = get_reference_directions("das-dennis", objectives, n_partitions=divisions)
    return found


def _survivors(
    points: Points, n: int, rng: np.random.Generator, method: Survival
) -> tuple[NDArray[np.int64], list[dict[str, Any]]]:
    """Which points survive, best first, and what pymoo says about each.

    Raises:
        ValueError: If a violation or a feasible point's cost is not a finite number, or n is below 1.
    """
    if n < 1:
        raise ValueError(f"survive: n is {n}; expected at least 1")
    if not (np.isfinite(points.violation).all() and (points.violation >= 0).all()):
        raise ValueError("survive: a violation is negative or not finite; expected 0 or above")
    feasible = points.violation == 0
    if not np.isfinite(points.costs[feasible]).all():
        raise ValueError("survive: a feasible point has a cost that is not finite; leave failed points out")
    if not len(points):
        return np.empty(0, dtype=np.int64), []
    individuals = PymooPopulation.new(
        "F",
        np.where(feasible[:, None], points.costs, 0.0),
        "G",
        points.violation[:, None],
        "index",
        np.arange(len(points)),
    )
    problem = _problem(points.genotypes.shape[1], points.costs.shape[1])
    survivors = method.do(problem, individuals, n_survive=n, random_state=rng)
    told = [survivor.data for survivor in survivors]
    return np.array([data["index"] for data in told], dtype=np.int64), told


def _behind(rank: NDArray[np.int64], inside: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Ranks with the infeasible after every front, in their order."""
    last = int(rank[inside].max()) if inside.any() else -1
    behind = rank.copy()
    behind[~inside] = last + 1 + np.arange(int((~inside).sum()))
    return behind


def offspring(
    parents: Population,
    options: NDArray[np.int64],
    n: int,
    rng: np.random.Generator,
    variation: Variation,
) -> Genotypes:
    """Children of binary tournaments: two-point crossover, then polynomial mutation rounded to codes.

    A tournament is won by the feasible, among the infeasible by the smaller violation, among the feasible by the lower
    rank, then by the larger crowding, then by chance.

    Args:
        parents: At least one; what `survive` returned.
        options: [decisions], how many options each decision has.
        n: How many children; they may repeat each other and their parents.
        rng: All chance comes from here.
        variation: How the children differ.

    Returns:
        [n, decisions], every code within its options.

    Raises:
        ValueError: If there is no parent.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> parents = survive(Points(np.zeros((4, 3), dtype=np.int64), np.zeros((4, 2)), np.zeros(4)), 4, rng)
        >>> offspring(parents, np.array([2, 3, 1]), 5, rng, Variation(mutations=3)).shape
        (5, 3)
    """
    if not len(parents):
        raise ValueError("offspring: no parents; expected at least one")
    if n == 0:
        return parents.points.genotypes[:0]
    decisions = parents.points.genotypes.shape[1]
    problem = _problem(decisions, parents.points.costs.shape[1], options)
    population = PymooPopulation.new("X", parents.points.genotypes)
    matings = (n + 1) // 2

    def compete(_: Any, pairs: NDArray[np.int64], *, random_state: np.random.Generator, **__: Any) -> Any:
        # Feasible members have violation 0, so one lexicographic order covers constraint domination, rank and crowding.
        better = np.lexsort((-parents.crowding, parents.rank, parents.points.violation))
        keys = np.stack([parents.points.violation, parents.rank, -parents.crowding], axis=1)[better]
        level = np.empty(len(parents), dtype=np.int64)
        level[better] = np.concatenate([[0], np.cumsum((keys[1:] != keys[:-1]).any(axis=1))])
        first, second = level[pairs[:, 0]], level[pairs[:, 1]]
        coin = random_state.random(len(pairs)) < 0.5
        return np.where((first < second) | ((first == second) & coin), pairs[:, 0], pairs[:, 1])

    selected = TournamentSelection(func_comp=compete).do(
        problem, population, n_select=matings, n_parents=2, to_pop=False, random_state=rng
    )
    if decisions > 2:  # pymoo's two cut points need three codes
        crossover = TwoPointCrossover(prob=variation.crossover_probability)
        children = crossover.do(problem, population, selected, random_state=rng)
    else:
        children = PymooPopulation.new("X", parents.points.genotypes[np.asarray(selected).T.ravel()])
    mutation = PolynomialMutation(
        prob=1.0, prob_var=min(1.0, variation.mutations / decisions), eta=variation.mutation_eta
    )
    codes: Genotypes = np.rint(mutation.do(problem, children, random_state=rng).get("X")).astype(np.int64)
    return codes[:n]


def breed(
    space: Space,
    parents: Population,
    seen: set[bytes],
    n: int,
    rng: np.random.Generator,
    variation: Variation,
    *,
    rounds: int = 10,
) -> Genotypes:
    """Children that are new networks: canonically different from each other and from everything seen.

    Args:
        space: Says which genotypes are the same network.
        parents: What `survive` returned.
        seen: Keys of networks (see `unseen`) that must not come again; the children's are added.
        n: How many.
        rng: All chance comes from here.
        variation: How the children differ.
        rounds: How often to draw before fewer are returned, as in a space that is nearly used up.

    Returns:
        [up to n, decisions].

    Example:
        >>> from hwnas.space import Decision
        >>> space = Space("tiny", (Decision("a", (1, 2)), Decision("b", (1, 2)), Decision("c", (1, 2))))
        >>> rng = np.random.default_rng(0)
        >>> parents = survive(Points(np.zeros((4, 3), dtype=np.int64), np.zeros((4, 2)), np.zeros(4)), 4, rng)
        >>> len(breed(space, parents, set(), 20, rng, Variation(mutations=3), rounds=50))
        8
    """
    options = np.array([len(decision.options) for decision in space.decisions])
    children = parents.points.genotypes[:0]
    for _ in range(rounds):
        if len(children) == n:
            break
        drawn = offspring(parents, options, n - len(children), rng, variation)
        children = np.concatenate([children, drawn[unseen(space.canonical_codes(drawn), seen)]])
    return children


def unseen(codes: Genotypes, seen: set[bytes]) -> NDArray[np.int64]:
    """Which rows of canonical codes are new, each once; they count as seen from then on.

    Example:
        >>> seen: set[bytes] = set()
        >>> codes = np.array([[0, 1], [1, 1], [0, 1]])
        >>> unseen(codes, seen).tolist(), unseen(codes, seen).tolist()
        ([0, 1], [])
    """
    new = []
    for n, row in enumerate(np.ascontiguousarray(codes, dtype=np.int64)):
        key = row.tobytes()
        if key not in seen:
            seen.add(key)
            new.append(n)
    return np.array(new, dtype=np.int64)


def genotypes_of(space: Space, codes: Genotypes, rng: np.random.Generator) -> Genotypes:
    """Codes with a random option in every inactive decision, so that a child that wakes it has something to inherit.

    Example:
        >>> from hwnas.space import Decision
        >>> space = Space("tiny", (Decision("k", (3, 5)),))
        >>> genotypes_of(space, np.array([[1]]), np.random.default_rng(0)).tolist()
        [[1]]
    """
    options = np.array([len(decision.options) for decision in space.decisions])
    drawn = rng.integers(0, options, size=codes.shape)
    return np.where(codes < 0, drawn, codes)


class Ranged(Protocol):
    """A cost with two ends."""

    def smallest(self) -> tuple[float, Architecture]:
        """The least value in the space, and a network that has it."""

    def largest(self) -> tuple[float, Architecture]:
        """The greatest value in the space, and a network that has it."""


def ends(space: Space, costs: Sequence[Ranged]) -> list[Architecture]:
    """The networks between which a front must lie: the smallest and the largest of every cost.

    Without a cost, the network of all first options and that of all last options: in a space whose options are sorted
    by size, the same. A random draw never comes near either, and crossover cannot go beyond what it is given.

    Example:
        >>> from hwnas.space import Decision
        >>> ends(Space("tiny", (Decision("k", (3, 5, 7)),)), [])
        [Architecture({'k': 3}), Architecture({'k': 7})]
    """
    if costs:
        found = [end()[1] for cost in costs for end in (cost.smallest, cost.largest)]
    else:
        last = np.array([len(decision.options) - 1 for decision in space.decisions])
        found = space.decode(space.canonical_codes(np.stack([np.zeros_like(last), last])))
    return list(dict.fromkeys(found))


def _problem(decisions: int, objectives: int, options: NDArray[np.int64] | None = None) -> Any:
    upper = np.zeros(decisions) if options is None else options - 1.0
    return Problem(n_var=decisions, n_obj=objectives, n_ieq_constr=1, xl=np.zeros(decisions), xu=upper)
