"""Drawing networks that meet the limits, without ever drawing for ever."""

from __future__ import annotations

import itertools
from math import prod

import numpy as np

from hwnas.core import Architecture, NoFeasibleError, SpaceError
from hwnas.space import Codes
from hwnas.study.constraints import Constraints

_ROUNDS = 20  # of plain draws before other ways are tried
_LISTED = 4096  # encodings: a space up to here is listed rather than drawn from again and again
_MUTATIONS = 100  # of one network before it is said to have no feasible neighbour
_CLIMB_ROUNDS = 60


def sample(constraints: Constraints, n: int, rng: np.random.Generator) -> list[Architecture]:
    """Up to n different feasible networks; fewer only if no more were found.

    Plain draws first (uniform over options, rejected where infeasible). What is missing after them comes from the list
    of the whole space where it is small, from mutations of feasible networks where it is large.

    Raises:
        NoFeasibleError: If not one was found, naming the nearest.
    """
    found = _Found(constraints, n)
    for _ in range(_ROUNDS):
        if found.missing <= 0:
            break
        # With limits, draws are cheap and rejections many, so a round is never tiny.
        draws = max(4 * found.missing, 64) if constraints.limits else found.missing
        found.add(constraints.space.sample_codes(draws, rng))
    if found.missing > 0:
        if prod(len(d.options) for d in constraints.space.decisions) <= _LISTED:
            found.add(rng.permutation(_all_codes(constraints)))
        else:
            _add_mutations(found, rng)
    if n > 0 and not found.rows:
        raise NoFeasibleError(_nearest_text(constraints, found), hint="loosen a limit, or widen the space")
    return constraints.space.decode(np.array(list(found.rows.values()), dtype=np.int64)[:n]) if n > 0 else []


def mutate(constraints: Constraints, architecture: Architecture, rng: np.random.Generator) -> Architecture:
    """A feasible network that differs, or the same again if none was found near it.

    The same again costs a search nothing, and a search that asks for nothing new ends by itself.
    """
    for _ in range(_MUTATIONS):
        try:
            child = constraints.space.mutate(architecture, rng)
        except SpaceError:  # a space of one network
            break
        if constraints.feasible(constraints.space.encode([child]))[0]:
            return child
    return architecture


class _Found:
    """The feasible rows seen so far, and the infeasible one that came nearest."""

    def __init__(self, constraints: Constraints, wanted: int) -> None:
        self.constraints = constraints
        self.wanted = wanted
        self.rows: dict[bytes, Codes] = {}
        self.tries = 0
        self.near: list[tuple[float, Codes]] = []  # the least infeasible, best first

    @property
    def missing(self) -> int:
        return self.wanted - len(self.rows)

    def add(self, codes: Codes) -> bool:
        """Take what is feasible and new; whether there was any."""
        before = len(self.rows)
        self.tries += len(codes)
        violation = self.constraints.violation(codes)
        for row in codes[violation == 0]:
            self.rows.setdefault(row.tobytes(), row)
        if not self.rows:
            outside = [(float(violation[i]), codes[i]) for i in np.argsort(violation, kind="stable")[:8]]
            self.near = sorted([*self.near, *outside], key=lambda pair: pair[0])[:8]
        return len(self.rows) > before


def _add_mutations(found: _Found, rng: np.random.Generator) -> None:
    constraints, space = found.constraints, found.constraints.space
    # The cheapest network is the one that is surely feasible under a single tight limit, and never drawn by chance.
    if constraints.extremes:
        found.add(space.encode(constraints.extremes))
    for _ in range(_CLIMB_ROUNDS if constraints.limits else 0):
        if found.rows:
            break
        found.add(_children(constraints, [row for _, row in found.near], 4, rng))
    barren = 0
    while found.rows and found.missing > 0 and barren < 10:
        rows = list(found.rows.values())
        parents = [rows[i] for i in rng.integers(len(rows), size=max(8, found.missing))]
        barren = 0 if found.add(_children(constraints, parents, 1, rng)) else barren + 1


def _children(constraints: Constraints, parents: list[Codes], each: int, rng: np.random.Generator) -> Codes:
    space = constraints.space
    architectures = space.decode(np.array(parents))
    return space.encode([space.mutate(a, rng) for a in architectures for _ in range(each)])


def _all_codes(constraints: Constraints) -> Codes:
    ranges = [range(len(decision.options)) for decision in constraints.space.decisions]
    genotypes = np.array(list(itertools.product(*ranges)), dtype=np.int64).reshape(-1, len(ranges))
    return np.unique(constraints.space.canonical_codes(genotypes), axis=0)


def _nearest_text(constraints: Constraints, found: _Found) -> str:
    limits = " and ".join(str(limit) for limit, _ in constraints.bounds())
    nearest = constraints.metrics(constraints.space.decode(found.near[0][1][None])[0])
    names = dict.fromkeys(limit.name for limit, _ in constraints.bounds())
    values = ", ".join(f"{name} {nearest[name].value:.6g}" for name in names)
    return (
        f"space {constraints.space.name}: none of {found.tries:,} networks tried meets {limits}; "
        f"the nearest has {values}"
    )
