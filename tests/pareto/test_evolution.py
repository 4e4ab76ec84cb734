import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from hwnas.core import Architecture
from hwnas.pareto import (
    Niches,
    Points,
    Population,
    Variation,
    breed,
    crowding,
    directions,
    ends,
    fronts,
    genotypes_of,
    offspring,
    survive,
    unseen,
)
from hwnas.space import Condition, Decision, Space

sizes = st.tuples(st.integers(1, 20), st.integers(1, 3))
costs_with_ties = sizes.flatmap(lambda shape: arrays(np.float64, shape, elements=st.integers(0, 4)))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def population(genotypes: NDArray[np.int64], costs: NDArray[np.float64] | None = None) -> Population:
    given = np.zeros((len(genotypes), 2)) if costs is None else costs
    return survive(Points(genotypes, given, np.zeros(len(genotypes))), len(genotypes), rng())


@given(costs_with_ties, st.data())
def test_survival_takes_feasible_first_then_fronts_then_crowding_then_violation(
    costs: NDArray[np.float64], data: st.DataObject
) -> None:
    violation = data.draw(arrays(np.float64, len(costs), elements=st.sampled_from([0.0, 0.0, 0.5, 1.0])))
    n = data.draw(st.integers(1, len(costs)))
    survivors = survive(Points(np.arange(len(costs))[:, None], costs, violation), n, rng())
    kept, ranks = survivors.points, survivors.rank
    index = kept.genotypes[:, 0]
    assert len(set(index.tolist())) == len(kept) == n
    feasible = np.flatnonzero(violation == 0)
    assert (kept.violation == violation[index]).all()
    assert int((kept.violation == 0).sum()) == min(n, len(feasible))
    rank = np.empty(len(costs))
    for level, front in enumerate(fronts(costs[feasible])):
        rank[feasible[front]] = level
    inside = index[kept.violation == 0]
    assert (ranks[kept.violation == 0] == rank[inside]).all()
    left = sorted(set(feasible.tolist()) - set(inside.tolist()))
    if left:
        assert rank[inside].max() <= rank[left].min()
        last = np.flatnonzero(rank[feasible] == rank[left].min())
        loneliness = dict(zip(feasible[last].tolist(), crowding(costs[feasible][last]).tolist(), strict=True))
        split = [loneliness[i] for i in inside.tolist() if i in loneliness]
        if split:
            assert min(split) >= max(loneliness[i] for i in left if i in loneliness)
    outside = kept.violation[kept.violation > 0]
    assert outside.tolist() == sorted(violation[violation > 0].tolist())[: len(outside)]
    assert (np.diff(ranks[kept.violation > 0]) > 0).all()


@given(
    arrays(np.int64, 7, elements=st.integers(1, 5)),
    st.integers(1, 12),
    st.integers(0, 15),
    st.floats(0, 1),
    st.floats(0, 7),
    st.floats(0, 30),
)
def test_children_stay_within_their_options(
    options: NDArray[np.int64], parents: int, n: int, crossover: float, mutations: float, eta: float
) -> None:
    genotypes = rng().integers(0, options, size=(parents, 7))
    children = offspring(population(genotypes), options, n, rng(1), Variation(crossover, mutations, eta))
    assert children.shape == (n, 7) and children.dtype == np.int64
    assert (children >= 0).all() and (children < options).all()


@pytest.mark.parametrize("decisions", [1, 2, 3])
def test_spaces_of_one_two_and_three_decisions(decisions: int) -> None:
    options = np.full(decisions, 4)
    parents = population(rng().integers(0, 4, size=(6, decisions)))
    assert len(offspring(parents, options, 9, rng(), Variation())) == 9


def test_without_crossover_and_mutation_children_are_their_parents() -> None:
    genotypes = rng().integers(0, 5, size=(8, 6))
    children = offspring(population(genotypes), np.full(6, 5), 20, rng(), Variation(0.0, 0.0))
    assert {tuple(c) for c in children.tolist()} <= {tuple(g) for g in genotypes.tolist()}


def test_crossover_swaps_one_stretch_of_the_codes() -> None:
    parents = population(np.stack([np.zeros(12, dtype=np.int64), np.ones(12, dtype=np.int64)]))
    children = offspring(parents, np.full(12, 2), 60, rng(), Variation(1.0, 0.0))
    changes = (np.diff(children, axis=1) != 0).sum(axis=1)
    assert set(changes.tolist()) == {0, 2}  # 0: parents were the same; the first code is never in the stretch


def test_mutations_move_about_as_many_codes_as_asked_for() -> None:
    parents = population(np.full((10, 40), 50))
    options = np.full(40, 101)  # so many options that hardly a move rounds back
    for mutations in (1.0, 4.0):
        children = offspring(parents, options, 2000, rng(), Variation(0.0, mutations))
        assert (children != 50).sum(axis=1).mean() == pytest.approx(mutations, rel=0.1)


def test_a_large_index_stays_near() -> None:
    parents = population(np.full((10, 40), 50))
    moved = [
        np.abs(offspring(parents, np.full(40, 101), 500, rng(), Variation(0.0, 4.0, eta)) - 50).sum()
        for eta in (1.0, 20.0)
    ]
    assert moved[1] < 0.3 * moved[0]


def test_tournaments_prefer_feasible_then_rank_then_crowding() -> None:
    genotypes = np.arange(5)[:, None].repeat(3, axis=1)
    costs = np.array([[0.0, 4.0], [2.0, 1.9], [4.0, 0.0], [5.0, 5.0], [0.0, 0.0]])
    parents = survive(Points(genotypes, costs, np.array([0.0, 0.0, 0.0, 0.0, 0.1])), 5, rng())
    children = offspring(parents, np.full(3, 5), 4000, rng(), Variation(0.0, 0.0))
    counts = np.bincount(children[:, 0], minlength=5) / 4000
    assert counts[4] < 0.02  # infeasible: loses to everyone; meets itself only where two shuffles join
    assert counts[3] < counts[1] < min(counts[0], counts[2])


def test_the_same_seed_gives_the_same_children_whatever_the_global_generators_did() -> None:
    parents = population(rng().integers(0, 3, size=(10, 6)), rng(1).random((10, 2)))
    first = offspring(parents, np.full(6, 3), 30, rng(5), Variation())
    np.random.seed(99)  # noqa: NPY002 - what is tested is that this changes nothing
    assert np.array_equal(offspring(parents, np.full(6, 3), 30, rng(5), Variation()), first)
    assert not np.array_equal(offspring(parents, np.full(6, 3), 30, rng(6), Variation()), first)


def test_what_must_not_get_in_is_refused() -> None:
    genotypes, costs, zero = np.zeros((2, 3), dtype=np.int64), np.array([[0.0, np.nan], [1.0, 1.0]]), np.zeros(2)
    with pytest.raises(ValueError, match="cost that is not finite"):
        survive(Points(genotypes, costs, zero), 2, rng())
    assert (
        len(survive(Points(genotypes, costs, np.array([1.0, 0.0])), 2, rng())) == 2
    )  # infeasible: costs are not looked at
    with pytest.raises(ValueError, match="violation is negative or not finite"):
        survive(Points(genotypes, costs, np.array([np.inf, 0.0])), 2, rng())
    with pytest.raises(ValueError, match="n is 0"):
        survive(Points(genotypes, costs, zero), 0, rng())
    with pytest.raises(ValueError, match="no parents"):
        empty = survive(Points(genotypes[:0], costs[:0], zero[:0]), 2, rng())
        offspring(empty, np.full(3, 2), 1, rng(), Variation())


@pytest.mark.parametrize("values", [(-0.1, 2.0, 1.0), (1.1, 2.0, 1.0), (0.9, -1.0, 1.0), (0.9, 2.0, np.inf)])
def test_variation_checks_itself(values: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="expected a"):
        Variation(*values)


def test_points_keep_together() -> None:
    points = Points(np.array([[0], [1]]), np.array([[1.0], [2.0]]), np.array([0.0, 0.5]))
    both = points.join(points, points.take(np.array([True, False])))
    assert both.genotypes.ravel().tolist() == [0, 1, 0, 1, 0]
    assert both.violation.tolist() == [0.0, 0.5, 0.0, 0.5, 0.0]
    with pytest.raises(ValueError, match=r"\[2, 2, 1\] genotypes, costs and violations"):
        Points(points.genotypes, points.costs, points.violation[:1])


DEEP = (Condition("depth", (2,)),)
SPACE = Space("tiny", (Decision("depth", (1, 2)), Decision("k1", (3, 5)), Decision("k2", (3, 5, 7), (DEEP,))))


def test_bred_children_are_new_networks_until_the_space_is_used_up() -> None:
    seen: set[bytes] = set()
    start = np.zeros((1, 3), dtype=np.int64)
    assert unseen(SPACE.canonical_codes(start), seen).tolist() == [0]
    children = breed(SPACE, population(start), seen, 50, rng(), Variation(mutations=3), rounds=50)
    networks = SPACE.decode(SPACE.canonical_codes(children))
    assert len(set(networks)) == len(networks) == SPACE.size - 1 == len(seen) - 1
    assert len(breed(SPACE, population(start), seen, 5, rng(), Variation())) == 0


def test_breeding_stops_at_the_number_asked_for() -> None:
    assert len(breed(SPACE, population(np.zeros((4, 3), dtype=np.int64)), set(), 3, rng(), Variation(mutations=3))) == 3
    none = breed(SPACE, population(np.zeros((4, 3), dtype=np.int64)), set(), 3, rng(), Variation(), rounds=0)
    assert none.shape == (0, 3)


def test_genotypes_give_inactive_decisions_any_option_and_stay_the_same_network() -> None:
    codes = np.array([[0, 1, -1]] * 60)
    genotypes = genotypes_of(SPACE, codes, rng())
    assert set(genotypes[:, 2].tolist()) == {0, 1, 2}
    assert np.array_equal(SPACE.canonical_codes(genotypes), codes)


class Depth:
    def smallest(self) -> tuple[float, Architecture]:
        return 1.0, Architecture({"depth": 1, "k1": 3})

    def largest(self) -> tuple[float, Architecture]:
        return 2.0, Architecture({"depth": 2, "k1": 3, "k2": 7})


def test_ends_are_those_of_the_costs_each_once_or_the_corners_of_the_space() -> None:
    costs = [Depth(), Depth()]
    assert ends(SPACE, costs) == [Depth().smallest()[1], Depth().largest()[1]]
    corners = [Architecture({"depth": 1, "k1": 3}), Architecture({"depth": 2, "k1": 5, "k2": 7})]
    assert ends(SPACE, []) == corners
    assert ends(Space("one", (Decision("k", (3,)),)), []) == [Architecture({"k": 3})]


def test_importing_the_room_brings_no_torch() -> None:
    code = "import sys, hwnas.pareto; print(sorted({'torch', 'onnxruntime', 'matplotlib'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def plain_points(costs: NDArray[np.float64], violation: NDArray[np.float64] | None = None) -> Points:
    return Points(np.arange(len(costs))[:, None], costs, np.zeros(len(costs)) if violation is None else violation)


def nearest(costs: NDArray[np.float64], rays: NDArray[np.float64]) -> NDArray[np.int64]:
    """The direction each point lies nearest to, by perpendicular distance."""
    unit = rays / np.linalg.norm(rays, axis=1, keepdims=True)
    along = costs @ unit.T
    found: NDArray[np.int64] = np.linalg.norm(costs[:, None] - along[..., None] * unit, axis=2).argmin(axis=1)
    return found


def test_every_direction_of_a_sphere_gets_a_member() -> None:
    """Three objectives, 12 divisions, 91 directions; the front of DTLZ2."""
    rays = directions(3, 91)
    rng = np.random.default_rng(0)
    crowd = np.abs(rng.normal(size=(600, 3))) * [1.0, 0.2, 0.2]  # near one corner, where crowding would leave them
    front = np.concatenate([crowd, rays])
    front /= np.linalg.norm(front, axis=1, keepdims=True)
    order = rng.permutation(len(front))
    kept = Niches(rays).survive(plain_points(front[order]), 91, np.random.default_rng(1))
    assert sorted(nearest(kept.points.costs, rays).tolist()) == list(range(91))
    assert not kept.rank.any() and not kept.crowding.any()


@given(st.floats(1e-3, 1e6), st.floats(-10, 10))
def test_niches_do_not_mind_units(factor: float, shift: float) -> None:
    costs = np.random.default_rng(2).random((60, 3))
    other = costs * [1.0, factor, 1.0] + [0.0, 0.0, shift]
    plain, changed = (
        Niches(directions(3, 15)).survive(plain_points(c), 15, np.random.default_rng(0)) for c in (costs, other)
    )
    assert plain.points.genotypes.tolist() == changed.points.genotypes.tolist()


def test_niches_take_the_feasible_first_and_refuse_what_survival_refuses() -> None:
    costs = np.array([[0.0, 1.0], [1.0, 0.0], [0.1, 0.1], [0.0, 0.0]])
    points = plain_points(costs, np.array([0.0, 0.0, 0.5, 2.0]))
    kept = Niches(directions(2, 3)).survive(points, 4, np.random.default_rng(0))
    assert kept.points.genotypes.ravel().tolist()[2:] == [2, 3] and kept.rank.tolist() == [0, 0, 1, 2]
    with pytest.raises(ValueError, match="n is 0"):
        Niches(directions(2, 3)).survive(points, 0, np.random.default_rng(0))


@pytest.mark.parametrize(("objectives", "most"), [(1, 10), (3, 2)])
def test_there_are_no_directions_for_one_objective_or_fewer_than_objectives(objectives: int, most: int) -> None:
    with pytest.raises(ValueError, match=f"{objectives} objectives and at most {most} directions"):
        directions(objectives, most)
