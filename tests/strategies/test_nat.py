import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from hwnas.core import Budget, Limit
from hwnas.strategies import Nat, Nsga2, RandomSearch
from hwnas.strategies.nat import evenest
from hwnas.study import Study
from hwnas.testing import toy201, toy201_network
from tests.strategies.toy import mean_share, run, share

QUICK = Nat(initial=60, population=40, generations=10, surrogates=("rbf",))


def test_beats_evolution_and_random_at_the_same_budget() -> None:
    """methods.md 4.1 and 5.20: at least 0.985 on 220 evaluations, above NSGA-II, above random."""
    shares = [share(run(QUICK, seed=seed)) for seed in range(3)]
    assert min(shares) >= 0.985
    assert np.mean(shares) > mean_share(Nsga2(population=20), range(3)) > mean_share(RandomSearch(), range(3))


@pytest.mark.slow
def test_beats_evolution_with_the_parameters_of_the_paper() -> None:
    """methods.md 4.1: 0.9957 on average, 0.992 at least, with 100 + 15 x 8 evaluations."""
    shares = [share(run(Nat(), seed=seed)) for seed in range(5)]
    assert min(shares) >= 0.992 and np.mean(shares) >= 0.9957
    assert np.mean(shares) > mean_share(Nsga2(population=20), range(5))


def proposals(strategy: Nat, *, evaluations: int, limits: tuple[Limit, ...] = ()) -> tuple[list[Any], Study]:
    """What `once` returned, in order."""
    found: list[Any] = []
    study = toy201(limits=limits).study(budget=Budget(evaluations=evaluations))
    once = study.once

    def recorded(name: str, compute: Any) -> Any:
        found.append(once(name, compute))
        return found[-1]

    study.once = recorded  # type: ignore[method-assign]
    study.run(strategy)
    return found, study


def test_one_proposal_per_iteration_names_the_surrogate_of_what_is_not_predicted() -> None:
    strategy = Nat(initial=20, per_iteration=5, population=10, generations=2, folds=3)
    found, _ = proposals(strategy, evaluations=41)
    assert [len(proposal["architectures"]) for proposal in found] == [5] * 5  # 20, 25, 30, 35, 40, and one more of five
    for proposal in found:
        assert list(proposal["surrogates"]) == ["accuracy"]  # latency is predicted exactly: nothing to learn
        surrogate = proposal["surrogates"]["accuracy"]
        assert surrogate["scores"][surrogate["winner"]] == max(surrogate["scores"].values())


def test_a_limit_on_a_metric_that_is_not_predicted_is_learned() -> None:
    strategy = Nat(initial=20, per_iteration=4, population=20, generations=5, surrogates=("trees",))
    _, study = proposals(strategy, evaluations=60, limits=(Limit("accuracy", at_least=0.9),))
    outcome = toy201(limits=[Limit("accuracy", at_least=0.9)]).study(budget=Budget(evaluations=60)).run(strategy)
    early, late = outcome.evaluations[:20], outcome.evaluations[-20:]
    assert sum(e.status == "ok" for e in late) > sum(e.status == "ok" for e in early)
    assert study.budget.evaluations == 60


@pytest.mark.parametrize(("evaluations", "initial"), [(220, 100), (100, 50), (9, 4), (3, 2)])
def test_the_first_archive_takes_half_of_a_small_budget(evaluations: int, initial: int) -> None:
    asked: list[int] = []
    study = toy201().study(budget=Budget(evaluations=evaluations))
    evaluate = study.evaluate

    def recorded(architectures: Any) -> Any:
        asked.append(len(architectures))
        return evaluate(architectures)

    study.evaluate = recorded  # type: ignore[assignment, method-assign]
    study.run(Nat(population=4, generations=1, surrogates=("rbf",), per_iteration=60))
    assert asked[0] == initial


def test_without_a_limit_on_evaluations_the_first_archive_is_whole() -> None:
    study = toy201().study(budget=Budget(minutes=1.0))
    assert len(Nat(initial=30)._first(study)) == 30


def test_the_first_archive_holds_the_ends_of_the_space_where_they_are_feasible() -> None:
    first = Nat()._first(toy201().study(budget=Budget(evaluations=220)))
    assert len(first) == len(set(first)) == 100
    assert first[:2] == [toy201_network("000000"), toy201_network("333333")]
    limited = toy201(limits=[Limit("latency_ms", at_most=5.0)]).study(budget=Budget(evaluations=220))
    assert toy201_network("333333") not in Nat()._first(limited)


@pytest.mark.parametrize(
    "change",
    [
        {"initial": 21},
        {"per_iteration": 3},
        {"population": 11},
        {"generations": 3},
        {"surrogates": ("trees",)},
        {"surrogates": ("rbf", "trees"), "folds": 2},
        {"crossover_probability": 0.0},
        {"mutations": 0.5},
        {"mutation_eta": 20.0},
    ],
)
def test_every_parameter_is_used(change: dict[str, Any]) -> None:
    plain = Nat(initial=20, per_iteration=4, population=10, generations=2, surrogates=("rbf",))
    changed = dataclasses.replace(plain, **change)
    one, other = ([e.architecture for e in run(s, evaluations=44).evaluations] for s in (plain, changed))
    assert one != other


def unevenness(rows: NDArray[np.float64], span: NDArray[np.float64]) -> float:
    return float(np.diff(np.sort(rows / span, axis=0), axis=0).std(axis=0).max()) if len(rows) > 1 else 0.0


@settings(deadline=None)
@given(
    arrays(np.float64, st.tuples(st.integers(0, 4), st.just(2)), elements=st.integers(0, 20)),
    arrays(np.float64, st.tuples(st.integers(3, 7), st.just(2)), elements=st.integers(0, 20)),
    st.integers(1, 3),
)
def test_the_choice_is_no_worse_than_any_single_swap(
    front: NDArray[np.float64], candidates: NDArray[np.float64], n: int
) -> None:
    chosen = evenest(front, candidates, n).tolist()
    assert len(set(chosen)) == n and set(chosen) <= set(range(len(candidates)))
    span = np.ptp(np.concatenate([front, candidates]), axis=0)
    span[span == 0] = 1.0

    def value(subset: list[int]) -> float:
        return unevenness(np.concatenate([front, candidates[subset]]), span)

    for place, other in itertools.product(range(n), range(len(candidates))):
        if other not in chosen:
            assert value(chosen) <= value([*chosen[:place], other, *chosen[place + 1 :]]) + 1e-12


def test_the_choice_fills_the_gaps() -> None:
    front = np.array([[0.0], [1.0], [2.0], [8.0]])
    candidates = np.array([[0.5], [1.5], [3.5], [5.0], [6.5]])
    assert evenest(front, candidates, 3).tolist() == [2, 3, 4]
    every = [
        unevenness(np.concatenate([front, candidates[list(subset)]]), np.array([8.0]))
        for subset in itertools.combinations(range(5), 3)
    ]
    assert unevenness(np.concatenate([front, candidates[[2, 3, 4]]]), np.array([8.0])) == min(every)


def test_the_choice_may_be_everything() -> None:
    assert evenest(np.array([[0.0]]), np.array([[1.0], [1.0], [2.0]]), 3).tolist() == [0, 1, 2]
