"""Scores: cheap metrics that cost a share of an evaluation."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hwnas.core import Architecture, Budget, BudgetSpent, Limit, RecipeError, ReplayError, Score
from hwnas.study import Event, Study
from tests.study.toys import ACCURACY, FOUR, LATENCY, TINY, Program, Sum, accuracy, rows, study

ALL = list(TINY.enumerate())
EARLY = Score("early", price=0.3)


@dataclass
class WithEarly:
    """Accuracy, and half of it early; remembers what it was asked."""

    asked: list[tuple[str, Architecture]] = field(default_factory=list)

    def __call__(
        self, architecture: Architecture, *, fidelity: str, weights: str | None, seed: int
    ) -> Mapping[str, float]:
        self.asked.append((fidelity, architecture))
        value = accuracy(architecture)["accuracy"]
        return {"early": value / 2} if fidelity == "early" else {"accuracy": value}


def test_a_score_costs_its_share_once() -> None:
    evaluate = WithEarly()
    searched = study(evaluate=evaluate, scores=[EARLY])
    bought = searched.score([ALL[0], ALL[1], ALL[0]], "early")
    assert [e["early"] for e in bought] == [accuracy(a)["accuracy"] / 2 for a in (ALL[0], ALL[1], ALL[0])]
    assert all(e.fidelity == "early" and "accuracy" not in e.metrics and e.status == "ok" for e in bought)
    assert searched.spent == 0.6
    searched.score([ALL[1]], "early")
    assert searched.spent == 0.6 and len(evaluate.asked) == 2
    searched.evaluate([ALL[0]])
    assert searched.spent == 1.6
    searched.evaluate([ALL[2]], fidelity="early")
    assert searched.spent == 1.9, "by whatever call it is asked for"
    searched.evaluate([ALL[3]], fidelity="other")
    assert searched.spent == 1.9


def test_a_network_outside_a_limit_costs_nothing() -> None:
    searched = study(evaluate=WithEarly(), scores=[EARLY], limits=[Limit("latency_ms", at_most=1.4)])
    [refused] = searched.score([ALL[-1]], "early")
    assert refused.status == "infeasible" and searched.spent == 0


def test_the_budget_ends_where_the_next_does_not_fit() -> None:
    searched = study(evaluate=WithEarly(), scores=[EARLY], budget=Budget(evaluations=2, reserve=0))
    searched.score(ALL[:3], "early")
    searched.evaluate([ALL[0]])
    with pytest.raises(BudgetSpent, match=r"the budget of 2 evaluations is spent, 0\.9 of it on scores"):
        searched.evaluate([ALL[1]])
    assert searched.spent == 1.9


def test_ten_shares_of_a_tenth_are_one() -> None:
    searched = study(FOUR, evaluate=WithEarly(), scores=[Score("early", price=0.1)], budget=Budget(evaluations=1))
    networks = list(FOUR.enumerate())
    searched.score(networks, "early")
    assert searched.spent == 0.4
    searched = study(evaluate=WithEarly(), scores=[Score("early", price=1 / 9)], budget=Budget(evaluations=1))
    assert len(searched.score(ALL[:9], "early")) == 9 and math.isclose(searched.spent, 1)


def buying(searched: Study) -> None:
    searched.evaluate(ALL[:2])
    best = max(searched.score(ALL, "early"), key=lambda e: e["early"])
    searched.evaluate([best.architecture])


def test_scores_are_replayed_and_not_on_the_front(tmp_path: Path) -> None:
    whole = study(evaluate=WithEarly(), scores=[EARLY]).run(Program(buying))
    assert all(e.fidelity == "full" for e in whole.front)
    assert whole.notes[-1] == "9 scores early at 0.3 of an evaluation each: 2.7 evaluations"
    spent: list[float] = []

    class CutError(Exception):
        pass

    def cut(event: Event) -> None:
        spent.append(event.spent)
        if event.evaluation is not None and event.evaluation.fidelity == "early" and event.spent > 3.0:
            raise CutError

    with pytest.raises(CutError):
        study(evaluate=WithEarly(), scores=[EARLY], folder=tmp_path, progress=cut).run(Program(buying))
    assert spent[-1] == 3.2
    evaluate = WithEarly()
    resumed = study(evaluate=evaluate, scores=[EARLY], folder=tmp_path).run(Program(buying))
    assert rows(resumed.evaluations) == rows(whole.evaluations)
    assert len(evaluate.asked) == 5 + 1, "four scores are stored, and so are the first two evaluations"
    again = study(evaluate=evaluate, scores=[EARLY], folder=tmp_path).run(Program(buying))
    assert again.finished_before and again.notes == whole.notes and len(evaluate.asked) == 6


def test_another_price_is_another_study(tmp_path: Path) -> None:
    study(evaluate=WithEarly(), scores=[EARLY], folder=tmp_path).close()
    with pytest.raises(ReplayError, match=r"scores: .*0\.3.* stored, .*0\.4.* now"):
        study(evaluate=WithEarly(), scores=[Score("early", price=0.4)], folder=tmp_path)


def test_a_study_without_scores_is_stored_as_before() -> None:
    assert "scores" not in study()._identity(1, {})


def test_an_evaluator_that_lacks_the_score_fails_in_words() -> None:
    searched = study(scores=[EARLY])
    [failed] = searched.score([ALL[0]], "early")
    assert failed.status == "failed" and failed.reason == "there is no early among its metrics: accuracy, latency_ms"


def test_unknown_scores_are_refused() -> None:
    for name in ("late", "full"):
        with pytest.raises(RecipeError, match=f'buys the score "{name}"; this study has early'):
            study(scores=[EARLY]).score([ALL[0]], name)
    with pytest.raises(RecipeError, match="this study has none"):
        study().score([ALL[0]], "early")


@pytest.mark.parametrize(
    ("names", "message"), [(("early", "early"), "'early' twice"), (("accuracy",), "'accuracy' is an objective")]
)
def test_scores_have_names_of_their_own(names: tuple[str, ...], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        study(scores=[Score(name, price=0.1) for name in names], objectives=[ACCURACY, LATENCY], costs=[Sum(TINY)])


@pytest.mark.parametrize("price", [0.0, 1.0, -0.1, math.nan])
def test_a_price_is_a_share(price: float) -> None:
    with pytest.raises(RecipeError, match="expected a share of an evaluation"):
        Score("early", price=price)


@pytest.mark.parametrize("name", ["", "full"])
def test_a_score_is_not_the_evaluation(name: str) -> None:
    with pytest.raises(RecipeError, match='other than "full"'):
        Score(name, price=0.1)


def test_a_run_cut_within_scores_counts_evaluations_alone(tmp_path: Path) -> None:
    class CutError(Exception):
        pass

    def cut(event: Event) -> None:
        if event.spent > 3.0:
            raise CutError

    told: list[str] = []
    with pytest.raises(CutError):
        study(evaluate=WithEarly(), scores=[EARLY], folder=tmp_path, progress=cut).run(Program(buying))
    study(evaluate=WithEarly(), scores=[EARLY], folder=tmp_path, progress=lambda e: told.append(e.text)).run(
        Program(buying)
    )
    assert told[0] == "going on after 2 of 100 evaluations"
