"""A search that goes on where another ended."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from hwnas.core import Architecture, Budget, RecipeError
from hwnas.strategies import Nsga2
from hwnas.strategies.registry import names_that_only_evaluate
from hwnas.study import InSequence, Study, best_so_far, first_archive
from hwnas.testing import check_replay, toy201, toy201_network
from tests.strategies.small import small

GOOD = [toy201_network(code) for code in ("332133", "211112", "321142", "111111", "000000")]


@dataclass(frozen=True)
class Knows:
    """Evaluates what it was told, and ends."""

    count: int = len(GOOD)

    def search(self, study: Study) -> None:
        if self.count:
            study.evaluate(GOOD[: self.count])


@dataclass(frozen=True)
class Concludes(Knows):
    def conclude(self, study: Study) -> None:
        study.evaluate(GOOD[:1])


every = pytest.mark.parametrize("then", names_that_only_evaluate())


@every
def test_whatever_goes_on_spends_the_rest_on_new_networks(then: str) -> None:
    sequence = InSequence(Knows(), small(then))
    outcome = toy201().study(budget=Budget(evaluations=25)).run(sequence)
    found = [evaluation.architecture for evaluation in outcome.evaluations]
    assert found[: len(GOOD)] == GOOD
    assert len(found) == len(set(found)) == 25
    check_replay(sequence, budget=Budget(evaluations=14), cuts=1)


@every
def test_after_nothing_it_is_the_strategy_alone(then: str) -> None:
    alone = toy201().study(budget=Budget(evaluations=20)).run(small(then))
    after = toy201().study(budget=Budget(evaluations=20)).run(InSequence(Knows(0), small(then)))
    assert [e.architecture for e in after.evaluations] == [e.architecture for e in alone.evaluations]


def test_the_best_so_far_are_whole_fronts_first() -> None:
    study = toy201().study(budget=Budget(evaluations=20))
    assert best_so_far(study, 3) == []
    study.evaluate(GOOD)
    assert set(best_so_far(study, 4)) <= set(GOOD) and len(best_so_far(study, 4)) == 4
    # 000000 and 111111 are cheap and bad, but on the front; nothing here beats anything else.
    assert set(best_so_far(study, 9)) == set(GOOD)
    worse = Architecture(dict(toy201_network("332133")) | {"edge03": "conv3"})
    study.evaluate([worse])
    assert worse not in best_so_far(study, 5)
    assert set(first_archive(study, 2)) == {*GOOD, worse}, "all that is known costs nothing"


def test_a_strategy_with_a_conclusion_runs_alone() -> None:
    with pytest.raises(RecipeError, match="Concludes concludes after its search"):
        InSequence(Concludes(), Nsga2())
