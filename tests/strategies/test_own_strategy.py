"""A strategy of the user's own, named in a recipe by its file: what is read, and what is said where it is wrong."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from hwnas.core import Budget, RecipeError
from hwnas.job import Recipe, TabularRecipe
from hwnas.job.run_identity import strategy_files
from hwnas.strategies import build, strategy_class, trains_weights
from hwnas.strategies.registry import own_files
from hwnas.study import InSequence, Study
from hwnas.testing import check_replay, toy201
from tests.job.workspace import RECIPE

MINE = '''
from __future__ import annotations

from dataclasses import dataclass

NUMBER = 4


@dataclass(frozen=True)
class Mine:
    """Draws."""

    at_once: int = 2
    shares: tuple[tuple[float, ...], ...] = ((0.5, 0.5),)
    names: list[str] | None = None

    def __post_init__(self) -> None:
        if self.at_once > 9:
            raise ValueError("too many")

    def search(self, study):
        while True:
            study.evaluate(study.sample(self.at_once))


@dataclass(frozen=True)
class Needs:
    steps: int

    def search(self, study): ...


@dataclass(frozen=True)
class Named:
    name: str = "a"

    def search(self, study): ...


@dataclass(frozen=True)
class Odd:
    of: Study = None

    def search(self, study): ...


@dataclass(frozen=True)
class Deaf:
    def search(self): ...


@dataclass(frozen=True)
class Idle:
    steps: int = 1


class Plain:
    def search(self, study): ...


@dataclass(frozen=True)
class Trains(Mine):
    trains_weights = True
'''


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "broken.py").write_text("import os\n\n1 / 0\n")
    (tmp_path / "unfinished.py").write_text("class Mine:\n    def search(self, study:\n")
    (tmp_path / "empty.py").write_text("NUMBER = 1\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "mine.py"


def test_its_fields_are_the_keys(mine: Path) -> None:
    found = build("mine.py:Mine", {"at_once": 3, "shares": [[0.25, 0.75], [1]], "names": ["a", "b"]})
    assert type(found) is strategy_class(f"{mine}:Mine"), "one class, by any path to the file"
    assert found == strategy_class("mine.py:Mine")(3, ((0.25, 0.75), (1.0,)), ["a", "b"])  # type: ignore[call-arg]
    outcome = toy201().study(budget=Budget(evaluations=7)).run(found)
    assert len(outcome.evaluations) == 7


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        (
            "missing.py:Mine",
            {},
            r'name is "missing.py:Mine"; there is no file /.*/missing.py \(paths are from the current f',
        ),
        ("mine.py:Mind", {}, r'/mine.py: has no strategy "Mind"; did you mean "Mine"\?'),
        ("mine.py:NUMBER", {}, r'/mine.py: has no strategy "NUMBER"; known: Deaf, Mine, Named, '),
        ("mine.py:", {}, r'/mine.py: has no strategy ""; known: '),
        ("empty.py:Mine", {}, r'/empty.py: has no strategy "Mine"; it has no class with search\(study\)'),
        (
            "broken.py:Mine",
            {},
            r"/broken.py: cannot be run: ZeroDivisionError: division by zero \(broken.py, line 3\)$",
        ),
        ("unfinished.py:Mine", {}, r"/unfinished.py: cannot be run: SyntaxError: .* \(unfinished.py, line 2\)$"),
        ("mine.py:Idle", {}, r"/mine.py: Idle has no method search \(mine.py, line 5\d\) \(def search\(self, study\)"),
        ("mine.py:Deaf", {}, r"/mine.py: Deaf.search does not take one study .*\(mine.py, line 4\d\)"),
        ("mine.py:Plain", {}, r"/mine.py: Plain is no dataclass, .* \(mine.py, line 5\d\) \(write @dataclass\(frozen"),
        ("mine.py:Named", {}, r"/mine.py: Named has a field name, which is a key of every \[strategy\] already \(mine"),
        ("mine.py:Odd", {}, r"mine.py:Odd: the types of its fields cannot be read: NameError: .*Study.* \(mine.py, l"),
        ("mine.py:Mine", {"at_onec": 1}, r'mine.py:Mine has no parameter "at_onec"; did you mean "at_once"\?'),
        ("mine.py:Mine", {"at_once": "2"}, r"mine.py:Mine: at_once is '2'; input should be a valid integer"),
        ("mine.py:Mine", {"shares": [0.5]}, r"mine.py:Mine: shares is \[0.5\]; input should be a valid tuple"),
        ("mine.py:Mine", {"at_once": 10}, r"mine.py:Mine cannot be built: ValueError: too many \(mine.py, line 19\)$"),
        ("mine.py:Needs", {}, r"mine.py:Needs: steps is missing, which has no default"),
        ("mine.py:Needs", {"steps": True}, r"mine.py:Needs: steps is True; input should be a valid integer"),
        ("mine.py:Mine", {"then": {"name": "random"}}, r"mine.py:Mine searches until the budget is spent, so nothing"),
        ("mine.py", {}, r'strategy "mine.py" is unknown; .*a strategy of your own: name = "file.py:Class"'),
    ],
)
def test_what_is_wrong_is_said_in_one_line(mine: Path, name: str, parameters: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        build(name, parameters)
    assert "\n" not in str(caught.value)


def test_a_type_that_no_recipe_can_write_is_named(mine: Path) -> None:
    mine.write_text(MINE.replace("from dataclasses", "from hwnas.study import Study\nfrom dataclasses", 1))
    assert build("mine.py:Odd", {})
    with pytest.raises(RecipeError, match=r"mine.py:Odd: of cannot be set in a recipe: its type is .*Study"):
        build("mine.py:Odd", {"of": 1})


def test_recipes_name_their_file_and_table(mine: Path) -> None:
    text = RECIPE.replace('name = "nsga2"\npopulation = 6', 'name = "mine.py:Mine"\nat_once = 3')
    recipe = Recipe.from_toml(text, Path("search/a.toml"))
    assert recipe.build_strategy() == build("mine.py:Mine", {"at_once": 3})
    with pytest.raises(RecipeError, match=r'^search/a.toml: \[strategy\] mine.py:Mine has no parameter "at_onec"'):
        Recipe.from_toml(text.replace("at_once", "at_onec"), Path("search/a.toml"))
    with pytest.raises(
        RecipeError, match=r'^search/a.toml: \[strategy\] name is missing; .*own: name = "file.py:Class"'
    ):
        Recipe.from_toml(text.replace('name = "mine.py:Mine"', ""), Path("search/a.toml"))


def test_on_a_table_it_may_not_train(mine: Path) -> None:
    text = """
    benchmark = {name = "nas_bench_macro"}
    strategy = {name = "mine.py:Mine"}
    budget = {evaluations = 5}
    """
    assert TabularRecipe.from_toml(text, Path("a.toml")).build_strategy() == build("mine.py:Mine", {})
    with pytest.raises(RecipeError, match=r'\[strategy\] name "mine.py:Trains" trains weights, and a table has none'):
        TabularRecipe.from_toml(text.replace(":Mine", ":Trains"), Path("a.toml"))


def test_one_that_trains_may_be_followed_by_one_that_evaluates(mine: Path) -> None:
    assert trains_weights(build("mine.py:Trains", {}))
    table = {"name": "mine.py:Mine", "at_once": 5}
    found = build("mine.py:Trains", {"at_once": 1, "then": table})
    assert found == InSequence(build("mine.py:Trains", {"at_once": 1}), build("mine.py:Mine", {"at_once": 5}))
    assert own_files({"name": "mine.py:Trains", "then": table}) == [mine, mine]
    with pytest.raises(RecipeError, match="expected a table with a name, one of random, "):
        build("mine.py:Trains", {"then": {"name": "mine.py:Trains"}})


def test_its_whole_file_is_part_of_what_a_run_is(mine: Path) -> None:
    before = strategy_files({"name": "mine.py:Mine"})
    assert before == strategy_files({"name": f"{mine}:Mine"}) and len(before) == 1
    mine.write_text(MINE.replace("NUMBER = 4", "NUMBER = 5"))
    assert strategy_files({"name": "mine.py:Mine"}) != before
    assert strategy_files({"name": "nsga2"}) == {}


def test_it_can_be_checked_in_another_process(mine: Path) -> None:
    """Which has not imported its file, and must do so before it is handed the strategy."""
    os.chdir("/")
    check_replay(InSequence(Nothing(), build(f"{mine}:Mine", {})), budget=Budget(evaluations=6), cuts=1)


@dataclass(frozen=True)
class Nothing:
    def search(self, study: Study) -> None: ...
