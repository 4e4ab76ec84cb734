"""In which parts a strategy is another than the stored one, for what this and earlier versions stored."""

from __future__ import annotations

from typing import Any

import pytest

from hwnas.strategies import FBNet, Nat, Nsga2, RandomSearch
from hwnas.study import InSequence, Strategy
from hwnas.study.environment import at_default, strategy_identity
from hwnas.study.identity import StrategyDifferences, strategy_differences
from tests.study.toys import Program


def stored_before_versions(strategy: Strategy, **parameters: object) -> dict[str, Any]:
    """As commit f4c33ea stored it: in our wrapper, with one digest of all source."""
    now = strategy_identity(strategy)
    kind = type(strategy)
    inner = {"type": f"{kind.__module__}:{kind.__qualname__}", **now["parameters"], **parameters}
    return {
        "name": "WithSupernet",
        "parameters": {"strategy": inner, "train": "hwnas.job.search:search.<locals>.<lambda>"},
        "code": "0123456789abcdef",
    }


def compared(stored: dict[str, Any], strategy: Strategy, *, ended: bool = False) -> StrategyDifferences:
    return strategy_differences(stored, strategy_identity(strategy), at_default(strategy), ended=ended)


@pytest.mark.parametrize("strategy", [Nsga2(population=6), RandomSearch(), Nat(), InSequence(FBNet(), Nsga2())])
def test_a_digest_of_the_source_of_hwnas_refuses_nothing(strategy: Strategy) -> None:
    assert compared(stored_before_versions(strategy), strategy).lines == []


def test_a_default_that_hwnas_changed_is_set_to_go_on() -> None:
    stored = stored_before_versions(Nat(), adapt_epochs=0)
    found = compared(stored, Nat())
    assert found.lines == ["adapt_epochs in [strategy] was 0 by default when it began"]
    assert found.way_out == "set adapt_epochs = 0 in [strategy]"
    assert compared(stored, Nat(adapt_epochs=0)).lines == []
    assert compared(stored, Nat(), ended=True).lines == []
    then = stored_before_versions(InSequence(FBNet(), Nsga2()))
    then["parameters"]["strategy"]["then"]["population"] = 40
    assert compared(then, InSequence(FBNet(), Nsga2())).way_out == "set population = 40 in [strategy.then]"


def test_a_default_that_was_not_set_cannot_be_set_again() -> None:
    found = compared(stored_before_versions(Nat(), survivors=None), Nat())
    assert found.lines == ["survivors had no value by default when it began"]
    assert found.way_out == "install the hwnas that began it"


def test_a_parameter_that_is_new_counts_where_it_is_set() -> None:
    stored = stored_before_versions(Nsga2())
    del stored["parameters"]["strategy"]["mutations"]
    assert compared(stored, Nsga2()).lines == []
    assert compared(stored, Nsga2(mutations=1.0)).lines == ["strategy Nsga2: mutations nothing stored, 1.0 now"]


@pytest.mark.parametrize("ended", [False, True])
def test_what_the_user_changed_is_undone_to_go_on(*, ended: bool) -> None:
    for stored in (stored_before_versions(Nsga2(population=6)), strategy_identity(Nsga2(population=6))):
        found = compared(stored, Nsga2(population=8), ended=ended)
        assert found.lines == ["strategy Nsga2: population 6 stored, 8 now"]
        assert found.way_out == "undo the change"
        assert compared(stored, RandomSearch(), ended=ended).lines == ["the strategy: Nsga2 stored, RandomSearch now"]
    # Under one version a default is what the user left out.
    assert compared(strategy_identity(Nsga2(population=6)), Nsga2(), ended=ended).lines == [
        "strategy Nsga2: population 6 stored, 20 now"
    ]


def test_another_version_is_refused_until_the_search_has_ended() -> None:
    stored = strategy_identity(Nsga2())
    stored["versions"]["Nsga2"] += 1
    found = compared(stored, Nsga2())
    assert found.lines == [f"strategy Nsga2: version {Nsga2.version + 1} stored, {Nsga2.version} now"]
    assert found.way_out == "install the hwnas that began it"
    assert compared(stored, Nsga2(), ended=True).lines == []


def test_the_code_of_the_user_s_own_strategy_counts_as_before() -> None:
    now = strategy_identity(Program(print))
    before = {name: now[name] for name in ("name", "parameters", "code")}
    assert compared(before, Program(print)).lines == []
    assert compared(before | {"code": "other"}, Program(print)).lines == [
        "the code of strategy Program was changed since"
    ]
