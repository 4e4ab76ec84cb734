"""A new device from a few of its networks: closed forms, a second implementation, and HELP's devices."""

from __future__ import annotations

import os
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from hwnas.core import CostError
from hwnas.cost.few_shot import EDGES, FewShot, Floats, Structure, nasbench201_structure, used_edges

REPOSITORY = Path(__file__).parents[2]
DATA = Path(os.environ.get("HWNAS_BENCH_DATA", REPOSITORY.parent / "shared" / "data"))
N = 200


def counted(seed: int = 0) -> tuple[Floats, Floats]:
    """Three operations counted in 200 networks, and four devices on which each operation costs something else."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 6, size=(N, 3)).astype(float)
    prices = np.array([[1.0, 2.0, 3.0], [3.0, 1.0, 1.0], [1.0, 1.0, 4.0], [2.0, 2.0, 1.0]]).T
    return counts, 5 + counts @ prices


def test_a_new_device_with_other_prices_is_ranked_right_from_ten() -> None:
    counts, known = counted()
    truth = 2 + counts @ np.array([0.5, 6.0, 1.5])  # no mixture of the known prices with positive shares
    model = FewShot.of(known)
    chosen = model.choose(10)
    predicted = model.predict(chosen, truth[chosen])
    assert spearmanr(predicted, truth).statistic > 0.98
    assert np.abs(predicted / truth - 1).mean() < 0.15


def test_counts_help_where_other_devices_do_not_know_an_operation() -> None:
    counts, _ = counted()
    known = 5 + counts[:, :2] @ np.array([[1.0, 3.0], [2.0, 1.0]])
    truth = 5 + counts @ np.array([1.0, 1.0, 4.0])
    scores = []
    for structure in ([], [Structure(counts, 0.3)]):
        model = FewShot.of(known, structure)
        chosen = model.choose(10)
        scores.append(spearmanr(model.predict(chosen, truth[chosen]), truth).statistic)
    assert scores[0] < 0.8 < 0.95 < scores[1]


def test_the_unit_changes_nothing() -> None:
    _, known = counted()
    seconds, ms = FewShot.of(known / 1000), FewShot.of(known)
    chosen = ms.choose(8)
    assert seconds.choose(8).tolist() == chosen.tolist()
    measured = known[chosen, 0] * 3
    np.testing.assert_allclose(seconds.predict(chosen, measured * 1000), 1000 * ms.predict(chosen, measured))


def test_it_is_the_mean_of_a_gaussian_process() -> None:
    """A second implementation: weights with normal priors are a process whose covariance is columns times columns."""
    _, known = counted()
    model = FewShot.of(known)
    chosen = model.choose(6)
    measured = known[chosen, 2]
    covariance = model.columns @ model.columns.T
    inside = covariance[np.ix_(chosen, chosen)] + 0.15**2 * np.eye(6)
    scaled = (measured - measured.mean()) / measured.std()
    by_process = measured.mean() + measured.std() * covariance[:, chosen] @ np.linalg.inv(inside) @ scaled
    np.testing.assert_allclose(model.predict(chosen, measured), by_process, rtol=1e-9)


def test_each_choice_is_the_best_single_one() -> None:
    """Against the definition: the mean variance over all networks, by inverting."""
    _, known = counted()
    model = FewShot.of(known)
    pool = np.arange(0, N, 5)

    def variance(rows: list[int]) -> float:
        seen = model.columns[rows]
        posterior = np.linalg.inv(np.eye(seen.shape[1]) + seen.T @ seen / 0.1**2)
        return float(np.einsum("ij,jk,ik->i", model.columns, posterior, model.columns).mean())

    chosen = model.choose(4, pool).tolist()
    for n in range(1, 5):
        best = min(
            (row for row in pool.tolist() if row not in chosen[: n - 1]), key=lambda r: variance([*chosen[: n - 1], r])
        )
        assert variance(chosen[:n]) == pytest.approx(variance([*chosen[: n - 1], best]), rel=1e-6)
    assert len(set(model.choose(40, pool).tolist())) == 40  # none twice


def test_a_device_to_which_all_samples_are_alike() -> None:
    _, known = counted()
    assert set(FewShot.of(known).predict([1, 2, 3], [4.0, 4.0, 4.0]).tolist()) == {4.0}


def test_impossible_inputs_are_refused() -> None:
    _, known = counted()
    with pytest.raises(CostError, match="above 0"):
        FewShot.of(np.where(known == known.max(), 0.0, known))
    with pytest.raises(CostError, match="the same time for all networks"):
        FewShot.of(np.ones((5, 2)))
    with pytest.raises(CostError, match="expected 200 rows"):
        FewShot.of(known, [Structure(np.ones((3, 1)), 1.0)])
    model = FewShot.of(known)
    with pytest.raises(CostError, match="5 networks of 3 candidates"):
        model.choose(5, [1, 2, 3])
    for chosen, measured in (([1], [1.0]), ([1, 2], [1.0]), ([1, 2], [1.0, np.nan]), ([1, 2], [1.0, 0.0])):
        with pytest.raises(CostError, match="expected two or more, each above 0"):
            model.predict(chosen, measured)
    with pytest.raises(CostError, match="expected .n, 6., each from 0 to 4"):
        nasbench201_structure([[5, 0, 0, 0, 0, 0]])


# ------------------------------------------------------------------------------------------------------------ cells


def paths(present: tuple[bool, ...]) -> set[int]:
    """The edges on a path from 0 to 3, found by walking."""
    found: set[int] = set()

    def walk(node: int, edges: list[int]) -> None:
        if node == 3:
            found.update(edges)
        for edge, (start, end) in enumerate(EDGES):
            if start == node and present[edge]:
                walk(end, [*edges, edge])

    walk(0, [])
    return found


def test_used_edges_are_those_on_a_path() -> None:
    every = list(product([False, True], repeat=6))
    used = used_edges(np.array(every))
    assert [set(np.flatnonzero(row).tolist()) for row in used] == [paths(present) for present in every]


@given(st.lists(st.integers(0, 4), min_size=6, max_size=6))
def test_counts_are_those_of_the_cell(cell: list[int]) -> None:
    counts, used, _ = nasbench201_structure([cell])
    assert counts.columns[0].tolist() == [cell.count(kind) for kind in range(1, 5)]
    assert (used.columns <= counts.columns).all()


# --------------------------------------------------------------------------------------------------- HELP's devices


def test_help_is_reached_with_ten_samples() -> None:
    if not (DATA / "nasbench201" / "latency_help.parquet").exists():
        pytest.skip("needs nasbench201/latency_help.parquet in HWNAS_BENCH_DATA (default ../shared/data)")
    from tests.bench.few_shot import HELP_MEAN, NEW, TRAINING, correlations, load

    found = correlations(load(DATA), NEW, TRAINING, 10, seeds=1)
    everywhere, by_rules = np.mean(list(found.values()), axis=0)
    assert everywhere > 0.95 and by_rules > HELP_MEAN
