import dataclasses
from typing import Any

import numpy as np
import pytest

from hwnas.core import Architecture, Budget, Limit, Objective, RecipeError, Score
from hwnas.pareto import hypervolume
from hwnas.strategies import Bayesian, RandomSearch, build
from hwnas.strategies.bayesian import _chance, _Fitted, _long_tailed, _Plain, _Scores
from hwnas.study import Outcome, Strategy
from hwnas.testing import Problem, check_replay, toy201, toy201_accuracy, toy201_network

ACCURACY = Objective.named("accuracy")


def run(strategy: Strategy, problem: Problem, *, evaluations: int, seed: int = 0) -> Outcome:
    return problem.study(budget=Budget(evaluations=evaluations), seed=seed).run(strategy)


def volume(outcome: Outcome) -> float:
    """As a share of the true front's, which `toy201` gives."""
    costs = np.array([
        [100 - 100 * e["accuracy"], e["latency_ms"]] for e in outcome.evaluations if "accuracy" in e.metrics
    ])
    return hypervolume(costs, (90.0, 12.5)) / (90 * 12.5) / 0.826813


@pytest.mark.parametrize("seed", range(3))
def test_the_best_network_of_toy201_is_found_in_sixty_evaluations(seed: int) -> None:
    problem = dataclasses.replace(toy201(), objectives=(ACCURACY,))
    outcome = run(Bayesian(), problem, evaluations=60, seed=seed)
    assert outcome.front[0].architecture == toy201_network("332133")


def test_a_front_of_toy201_in_sixty_evaluations() -> None:
    found = volume(run(Bayesian(), toy201(), evaluations=60))
    assert found > 0.99 > volume(run(RandomSearch(), toy201(), evaluations=60))


def test_a_large_space_is_searched_by_evolution() -> None:
    found = volume(run(Bayesian(listed=100, population=20, generations=5), toy201(), evaluations=60))
    assert found > 0.98


def test_a_limit_that_nothing_predicts_is_learned() -> None:
    limited = toy201(limits=[Limit("accuracy", at_least=0.93)])
    outcome = run(Bayesian(), limited, evaluations=40)
    early, late = outcome.evaluations[:10], outcome.evaluations[-20:]
    assert np.mean([e.status == "ok" for e in late]) > np.mean([e.status == "ok" for e in early])


@pytest.mark.parametrize(
    "change",
    [
        {"initial": 11},
        {"listed": 15_624},
        {"use_costs": False},
        {"use_scores": False},
        {"listed": 0, "population": 9},
        {"listed": 0, "population": 8, "generations": 3},
    ],
)
def test_every_parameter_is_used(change: dict[str, Any]) -> None:
    plain = Bayesian(population=8, generations=2)
    if "listed" in change and len(change) > 1:
        plain = dataclasses.replace(plain, listed=0)
    one, other = (
        [e.architecture for e in run(s, toy201(), evaluations=30).evaluations]
        for s in (plain, dataclasses.replace(plain, **change))
    )
    assert one != other


@dataclasses.dataclass(frozen=True)
class EarlyAccuracy:
    """Toy201's accuracy, and at the fidelity "early" another that orders networks almost as it does."""

    def __call__(
        self, architecture: Architecture, *, fidelity: str, weights: str | None, seed: int
    ) -> dict[str, float]:
        accuracy = toy201_accuracy(architecture)
        return {"early": accuracy**2 + 0.01 * (seed % 100) / 100} if fidelity == "early" else {"accuracy": accuracy}


def with_scores(price: float = 0.05) -> Problem:
    return dataclasses.replace(toy201(), evaluate=EarlyAccuracy(), scores=(Score("early", price=price),))


def asked(strategy: Strategy, problem: Problem, evaluations: int = 24) -> list[tuple[str, str]]:
    found = run(strategy, problem, evaluations=evaluations).evaluations
    return [(e.fidelity, e.architecture.digest) for e in found]


def test_scores_that_are_not_bought_change_nothing() -> None:
    plain = asked(Bayesian(), toy201())
    assert asked(Bayesian(buy_scores=False), with_scores()) == plain
    assert asked(Bayesian(initial_scores=7), toy201()) == plain


def test_every_evaluated_network_is_scored_and_the_budget_counts_both() -> None:
    outcome = run(Bayesian(), with_scores(), evaluations=24)
    full, scored = (
        {e.architecture for e in outcome.evaluations if e.fidelity == fidelity} for fidelity in ("full", "early")
    )
    assert full < scored and len(scored) > 2 * len(full)
    assert 23 < len(full) + 0.05 * len(scored) <= 24
    assert any(note.startswith(f"{len(scored)} scores early at 0.05") for note in outcome.notes)


def test_cheap_scores_are_bought_and_dear_ones_are_not() -> None:
    counts = [
        sum(fidelity == "early" for fidelity, _ in asked(Bayesian(initial_scores=10), with_scores(price)))
        - sum(fidelity == "full" for fidelity, _ in asked(Bayesian(initial_scores=10), with_scores(price)))
        for price in (0.01, 0.9)
    ]
    assert counts[0] > 40 and counts[1] < 20


def test_a_score_that_always_fails_is_bought_once_and_the_search_goes_on() -> None:
    @dataclasses.dataclass(frozen=True)
    class Broken(EarlyAccuracy):
        def __call__(self, architecture: Architecture, *, fidelity: str, **rest: Any) -> dict[str, float]:
            if fidelity == "early" and architecture["edge01"] == "conv3":
                raise ValueError("no such training")
            return super().__call__(architecture, fidelity=fidelity, **rest)

    problem = dataclasses.replace(with_scores(), evaluate=Broken())
    outcome = run(Bayesian(), problem, evaluations=20)
    assert "budget of 20 evaluations is spent" in outcome.reason
    failed = [e for e in outcome.evaluations if e.status == "failed"]
    assert failed and len({e.architecture for e in failed}) == len(failed)


def test_a_search_that_buys_scores_can_be_cut_and_resumed() -> None:
    strategy = Bayesian(initial=4, initial_scores=6)
    check_replay(strategy, problem=with_scores(), budget=Budget(evaluations=10), cuts=3)


def test_scores_are_bought_in_a_large_space_too() -> None:
    strategy = Bayesian(listed=100, population=20, generations=5)
    assert volume(run(strategy, with_scores(), evaluations=40)) > 0.97


@pytest.mark.parametrize("name", ["initial", "population", "generations", "listed", "initial_scores"])
def test_a_parameter_out_of_range_is_named(name: str) -> None:
    with pytest.raises(RecipeError, match=f"bayesian: {name} is -1; expected at least"):
        build("bayesian", {name: -1})


def test_scores_are_ranks_and_come_back_as_values() -> None:
    values = np.array([3.0, -1.0, 100.0, 3.0, 0.0])
    scale = _Scores(values)
    assert scale.value(scale.score(values)) == pytest.approx(values)
    assert scale.score(values * 7) == pytest.approx(scale.score(values))
    below, above = scale.value(np.array([-9.0, 9.0]))
    assert below < -1.0 and above == 100.0
    assert [scale.score_of(v) for v in (-1.0, 100.0)] == [scale.score(values).min(), scale.score(values).max()]
    assert _Scores(np.ones(3)).value(np.array([-9.0])).tolist() == [1.0]


def test_a_tail_is_long_on_either_side() -> None:
    values = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    assert not _long_tailed(values) and not _long_tailed(np.ones(3))
    assert _long_tailed(np.append(values, 90.0)) and _long_tailed(np.append(-values, -90.0))


@dataclasses.dataclass(frozen=True)
class Normal:
    """A model that says 0 +- 1 of everything."""

    def posterior(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.zeros(len(x)), np.ones(len(x))


def test_the_chance_to_keep_a_limit_is_normal() -> None:
    fitted: Any = _Fitted(Normal(), _Plain())  # type: ignore[arg-type]
    # Values around 0 are what a closed form is known of; no metric that hwnas knows may be negative.
    limit = Limit("balance", at_least=-1.0, at_most=1.0)
    kept = _chance([limit, Limit("accuracy", at_least=0.5)], {"balance": fitted}, np.zeros((2, 1)))
    assert kept == pytest.approx(np.full(2, 0.8413**2), abs=1e-3)
