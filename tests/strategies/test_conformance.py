"""Every strategy of the registry does what every strategy must do: a new line there is tested here without an edit."""

from __future__ import annotations

import ast
import dataclasses
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, assert_type

import pytest
import torch

import hwnas.strategies
from hwnas.core import Budget, RecipeError
from hwnas.strategies import STRATEGIES, Nat, Nsga2, RandomSearch, build, strategy_class, trains_weights
from hwnas.study import Outcome, Strategy
from hwnas.testing import Problem, toy201
from hwnas.testing.conformance import Check, _chain, _failing, checks_of
from tests.strategies.small import SMALL, small

ROOT = Path(__file__).parents[2]
every = pytest.mark.parametrize("name", list(STRATEGIES))
only_evaluating = pytest.mark.parametrize("name", [n for n in SMALL if not trains_weights(strategy_class(n))])


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def run(strategy: Strategy, problem: Problem | None = None, *, evaluations: int = 30, seed: int = 0) -> Outcome:
    return (problem or toy201()).study(budget=Budget(evaluations=evaluations), seed=seed).run(strategy)


def networks(outcome: Outcome) -> list[str]:
    return [evaluation.architecture.to_json() for evaluation in outcome.evaluations]


# ------------------------------------------------------------------------------------------------ what ships


@pytest.mark.parametrize("check", [pytest.param(c, id=f"{n}-{c}") for n in STRATEGIES for c in checks_of(small(n))])
def test_it_does_what_every_strategy_must_do(check: Check) -> None:
    check()


# ------------------------------------------------------------------------- what is asked of those of hwnas beyond it


@every
def test_its_docstring_says_what_it_is_and_its_source(name: str) -> None:
    kind: Any = strategy_class(name)
    assert "Source" in (kind.__doc__ + (sys.modules[kind.__module__].__doc__ or ""))
    assert not kind.__doc__.startswith(f"{kind.__name__}(")


@only_evaluating
def test_it_spends_the_budget_to_the_last_evaluation_and_its_seed_decides(name: str) -> None:
    outcome = run(small(name), evaluations=33)
    assert len(set(networks(outcome))) == 33 and "budget" in outcome.reason
    assert networks(run(small(name), evaluations=33, seed=1)) != networks(outcome)


@only_evaluating
def test_it_finds_nearly_all_of_a_space_that_is_used_up(name: str) -> None:
    """84 networks in 192 encodings; the last few are drawn at random, or not at all."""
    outcome = run(small(name), _chain(), evaluations=500)
    assert 80 <= len(set(networks(outcome))) <= 84 and "nothing new" in outcome.reason
    assert len(set(networks(run(small(name), _chain(), evaluations=60)))) == 60


@only_evaluating
def test_failures_are_kept_with_their_reason(name: str) -> None:
    outcome = run(small(name), _failing(), evaluations=60)
    failed = [evaluation for evaluation in outcome.evaluations if evaluation.status == "failed"]
    assert len(outcome.evaluations) == 60 and failed and all(evaluation.reason for evaluation in failed)


# ------------------------------------------------------------------------------------------------- the registry


def test_no_strategy_and_no_torch_is_loaded_before_it_is_asked_for() -> None:
    program = """
import sys
import hwnas.strategies
loaded = [name for name in sys.modules if name.startswith("hwnas.strategies.")]
hwnas.strategies.build("nsga2", {"population": 6})
print(loaded, "torch" in sys.modules, "hwnas.strategies.nat" in sys.modules)
"""
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout.strip()
    assert found == "['hwnas.strategies.registry'] False False"


def test_a_strategy_is_one_file_and_one_line() -> None:
    """Each file of the folder has one line there, and each line is a class of that file."""
    folder = ROOT / "hwnas" / "strategies"
    with_search = {
        f"hwnas.strategies.{path.stem}"
        for path in folder.glob("*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ClassDef) and any(getattr(part, "name", "") == "search" for part in node.body)
    }
    assert sorted(with_search) == sorted(place.partition(":")[0] for place in STRATEGIES.values())


@every
def test_a_class_can_be_imported_by_its_name(name: str) -> None:
    kind = strategy_class(name)
    assert getattr(hwnas.strategies, kind.__name__) is kind
    assert kind.__name__ in dir(hwnas.strategies)
    assert dataclasses.is_dataclass(kind)


def test_imports_have_their_types_and_misspelt_ones_are_refused() -> None:
    assert_type(Nsga2().population, int)
    assert_type(Nat().surrogates, tuple[str, ...])
    with pytest.raises(AttributeError, match="no attribute 'Nsga4'"):
        _ = hwnas.strategies.Nsga4


def test_build_makes_what_the_recipe_says() -> None:
    assert build("random", {}) == RandomSearch()
    assert build("nsga2", {"population": 20, "mutations": 1}) == Nsga2(population=20, mutations=1.0)
    assert build("nat", {"surrogates": ["gp", "trees"]}) == Nat(surrogates=("gp", "trees"))


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("nsg2", {}, 'strategy "nsg2" is unknown; did you mean "nsga2"'),
        ("enas", {}, 'strategy "enas" is unknown'),
        ("nsga2", {"populaton": 3}, 'nsga2 has no parameter "populaton"; did you mean "population"'),
        ("random", {"population": 3}, 'random has no parameter "population"; it has none'),
        ("nsga2", {"population": "20"}, "nsga2: population is '20'; input should be a valid integer"),
        ("nsga2", {"population": True}, "population is True"),
        ("nsga2", {"population": 20.5}, "population is 20.5"),
        ("nsga2", {"population": 1}, "nsga2: population is 1; expected at least 2"),
        ("nsga2", {"crossover_probability": 1.5}, "nsga2: crossover_probability is 1.5; expected a number in 0..1"),
        ("reinforce", {"learning_rate": 0}, "reinforce: learning_rate is 0.0"),
        ("reinforce", {"decay": 1.0}, "decay 1.0, policies 5; expected above 0, a share below 1"),
        ("nsga2", {"mutation_eta": math.nan}, "mutation_eta is nan"),
        ("nat", {"initial": 1}, "nat: initial is 1; expected at least 2"),
        ("nat", {"generations": 0}, "nat: generations is 0; expected at least 1"),
        ("nat", {"mutations": -1}, "nat: mutations is -1.0; expected a finite number"),
        ("nat", {"surrogates": ["tree"]}, '"tree" is unknown; did you mean "trees"'),
        ("nat", {"surrogates": "gp"}, "surrogates is 'gp'"),
        ("dpp_net", {"width": 0}, "dpp_net: width is 0; expected at least 1"),
        ("dpp_net", {"regressor": "tree"}, '"tree" is unknown; did you mean "trees"'),
        ("dpp_net", {"cut": "both"}, "dpp_net: cut is 'both'"),
        ("nat", {"folds": 1}, "1 folds; expected at least 2"),
    ],
)
def test_build_names_what_is_wrong(name: str, parameters: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        build(name, parameters)
