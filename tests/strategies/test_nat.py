import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from hwnas.core import Architecture, Budget, Limit, Metric, RecipeError
from hwnas.pareto import Points
from hwnas.strategies import Nat, Nsga2, RandomSearch
from hwnas.strategies.nat import evenest
from hwnas.study import Study
from hwnas.testing import Problem, check_replay, toy201, toy201_accuracy, toy201_network
from tests.strategies.toy import mean_share, run, share

QUICK = Nat(initial=60, population=40, generations=10, surrogates=("rbf",))


def test_beats_evolution_and_random_at_the_same_budget() -> None:
    """At least 0.985 on 220 evaluations, above NSGA-II, above random."""
    shares = [share(run(QUICK, seed=seed)) for seed in range(3)]
    assert min(shares) >= 0.985
    assert np.mean(shares) > mean_share(Nsga2(population=20), range(3)) > mean_share(RandomSearch(), range(3))


@pytest.mark.slow
def test_beats_evolution_with_the_parameters_of_the_paper() -> None:
    """0.9957 on average, 0.992 at least, with 100 + 15 x 8 evaluations."""
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


# ---------------------------------------------------------------------------------------------- within the noise


@dataclasses.dataclass(frozen=True)
class Uncertain:
    """Toy201's accuracy with an error on it."""

    standard_error: float | None

    def __call__(
        self, architecture: Architecture, *, fidelity: str, weights: str | None, seed: int
    ) -> dict[str, float | Metric]:
        accuracy = toy201_accuracy(architecture)
        return {"accuracy": Metric(accuracy, "share", "measured", standard_error=self.standard_error)}


def with_errors(standard_error: float | None) -> Problem:
    return dataclasses.replace(toy201(), evaluate=Uncertain(standard_error))


NOISY = Nat(initial=20, per_iteration=4, population=40, generations=6, surrogates=("rbf",))


def asked(standard_error: float | None) -> list[Architecture]:
    study = with_errors(standard_error).study(budget=Budget(evaluations=60))
    return [evaluation.architecture for evaluation in study.run(NOISY).evaluations]


def test_an_error_of_nothing_changes_nothing_and_a_real_one_does() -> None:
    exact = asked(None)
    assert asked(1e-12) == exact
    assert asked(0.02) != exact and asked(0.02) == asked(0.02)


def test_with_errors_a_run_can_be_cut_anywhere() -> None:
    check_replay(NOISY, problem=with_errors(0.02), budget=Budget(evaluations=32), cuts=3)


def test_what_gains_beyond_the_noise_is_taken_before_what_ties() -> None:
    """Ten candidates on a front, of which the accuracies of five only repeat a cheaper one's within the error."""
    study = with_errors(None).study(budget=Budget(evaluations=60))
    networks = study.sample(10)
    genotypes = study.space.encode(networks)
    accuracy = np.repeat([0.5, 0.6, 0.7, 0.8, 0.9], 2) + np.tile([0.0, 0.01], 5)
    evolved = Points(genotypes, np.stack([-accuracy, np.arange(1.0, 11.0)], axis=1), np.zeros(10))
    archive = Points(genotypes[:1], np.array([[-0.4, 0.5]]), np.zeros(1))
    for n, expected in ((5, {0, 2, 4, 6, 8}), (3, {0, 2, 4, 6, 8})):
        strategy = dataclasses.replace(NOISY, per_iteration=n)
        chosen = strategy._select(study, archive, np.array([[0.02, 0.0]]), evolved, set())
        places = {int(np.flatnonzero((genotypes == row).all(axis=1))[0]) for row in chosen}
        assert len(places) == n and places <= expected
    more = dataclasses.replace(NOISY, per_iteration=7)._select(study, archive, np.array([[0.02, 0.0]]), evolved, set())
    places = {int(np.flatnonzero((genotypes == row).all(axis=1))[0]) for row in more}
    assert len(places) == 7 and places > {0, 2, 4, 6, 8}, "the tied fill what is left"


# ----------------------------------------------------------------------------------------------------- adaptation


class Net:
    """Shared weights: one number per option, how much it has been trained."""

    def __init__(self) -> None:
        self.trained: dict[str, list[float]] = {}

    def state_dict(self) -> dict[str, Any]:
        return {"trained": self.trained}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.trained = state_dict["trained"]


@dataclasses.dataclass(frozen=True)
class Adapted:
    """Trains, then searches: as a run with a supernet does."""

    strategy: Nat

    def search(self, study: Study) -> None:
        net = Net()
        study.use_weights(study.train("net", {"net": net}, lambda k, rng: k).version)
        self.strategy.search(study)


def by_version(architecture: Architecture, *, fidelity: str, weights: str | None, seed: int) -> dict[str, float]:
    """Toy201's accuracy, less the less the weights are trained."""
    assert weights is not None
    return {"accuracy": toy201_accuracy(architecture) - 0.1 / int(weights.rpartition("@")[2])}


def adapt(study: Study, weights: str, frequencies: Mapping[str, Sequence[float]], epochs: int) -> str:
    net = Net()

    def epoch(k: int, rng: np.random.Generator) -> int:
        net.trained = {label: list(shares) for label, shares in frequencies.items()}
        return k

    assert weights.startswith("net@")
    return study.train("net", {"net": net}, epoch, epochs).version


def adapting() -> Problem:
    return dataclasses.replace(toy201(), evaluate=by_version, adapt=adapt)


ADAPTING = Nat(
    initial=8, per_iteration=3, population=8, generations=2, surrogates=("rbf",), folds=3, adapt_epochs=2, survivors=5
)


def test_after_each_adaptation_the_whole_archive_is_evaluated_anew() -> None:
    outcome = adapting().study(budget=Budget(evaluations=20)).run(Adapted(ADAPTING))
    assert outcome.reason == "the budget of 20 evaluations is spent"
    newest = outcome.newest
    assert len(newest) == 20, "the budget counts networks, not how often they were evaluated"
    assert len(outcome.evaluations) == 8 + (3 + 11) + (3 + 14) + (3 + 17) + (3 + 20)
    assert {e.weights for e in newest} == {"net@9"}
    for evaluation in newest:
        assert (
            evaluation["accuracy"]
            == by_version(evaluation.architecture, fidelity="full", weights=evaluation.weights, seed=0)["accuracy"]
        )
    assert {e.weights for e in outcome.front} == {"net@9"}


def test_options_are_drawn_like_the_best_of_the_archive() -> None:
    asked: list[Mapping[str, Sequence[float]]] = []

    def recorded(study: Study, weights: str, frequencies: Mapping[str, Sequence[float]], epochs: int) -> str:
        asked.append(frequencies)
        assert epochs == 2
        return adapt(study, weights, frequencies, epochs)

    problem = dataclasses.replace(adapting(), adapt=recorded)
    outcome = problem.study(budget=Budget(evaluations=12)).run(Adapted(ADAPTING))
    first = [e for e in outcome.evaluations if e.weights == "net@1"]
    costs = np.array([[1 - e["accuracy"], e["latency_ms"]] for e in first])
    # Second implementation of the survivors, where no front is cut: by counting how many beat each.
    beaten = [(np.all(costs <= row, axis=1) & np.any(costs < row, axis=1)).sum() for row in costs]
    certain = [e for e, n in zip(first, beaten, strict=True) if n == 0]
    assert len(asked[0]) == len(toy201().space.decisions)
    for label, shares in asked[0].items():
        counts = np.array(shares) * (5 + len(shares)) - 1
        assert counts == pytest.approx(counts.round()), "counts of 5 survivors, plus 1 for each option"
        assert counts.sum() == pytest.approx(5)
        if len(certain) <= 5:
            options = toy201().space[label].options
            for e in certain:
                assert counts[options.index(e.architecture[label])] > 0.5


def test_a_run_that_adapts_can_be_cut_anywhere() -> None:
    check_replay(Adapted(ADAPTING), problem=adapting(), budget=Budget(evaluations=14), cuts=4)


def test_without_weights_adaptation_is_refused_with_the_way_out() -> None:
    with pytest.raises(RecipeError, match="asks for 2 epochs of adaptation.*no shared weights") as caught:
        toy201().study(budget=Budget(evaluations=20)).run(ADAPTING)
    assert "adapt_epochs" in caught.value.hint


@pytest.mark.parametrize(("adapt_epochs", "expected"), [(None, 5), (2, 2), (0, None)])
def test_weights_are_adapted_by_default_where_there_are_some(adapt_epochs: int | None, expected: int | None) -> None:
    asked: list[int] = []

    def recorded(study: Study, weights: str, frequencies: Mapping[str, Sequence[float]], epochs: int) -> str:
        asked.append(epochs)
        return adapt(study, weights, frequencies, epochs)

    strategy = dataclasses.replace(ADAPTING, adapt_epochs=adapt_epochs)
    dataclasses.replace(adapting(), adapt=recorded).study(budget=Budget(evaluations=12)).run(Adapted(strategy))
    assert asked == ([] if expected is None else [expected] * 2)


def test_without_weights_nothing_is_adapted_by_default() -> None:
    outcome = run(dataclasses.replace(ADAPTING, adapt_epochs=None), evaluations=12)
    assert len(outcome.evaluations) == 12 and {e.weights for e in outcome.evaluations} == {None}
