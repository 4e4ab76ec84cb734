"""A change refuses what depends on it, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hwnas.data import Splits
from hwnas.job.recipe import Recipe
from hwnas.job.run_identity import search_differences, search_identity
from hwnas.study import identity_differences
from tests.job.workspace import RECIPE

NAT = RECIPE.replace('name = "nsga2"\npopulation = 6', 'name = "nat"\nadapt_epochs = 1')


@pytest.fixture(scope="module")
def splits() -> Splits:
    return Recipe.from_toml(RECIPE, Path("a.toml")).source().load(3)


def identity(text: str, splits: Splits) -> dict[str, Any]:
    return search_identity(Recipe.from_toml(text, Path("a.toml")), splits)


@pytest.mark.parametrize(
    ("change", "differs"),
    [
        ("[members]\nteacher_weight = 0.1", []),
        ("[evaluation]\nworkers = 3", []),
        ("[evaluation]\nseconds = 60", []),
        ("[training]\nthreads = 2", []),
        ("[adaptation]\nlearning_rate = 0.5", []),
        ("[data]\nchannels = 1", []),
        ("[training]\nclip = 1.0", ["[training] clip: 5.0 stored, 1.0 now"]),
        ("[augment]\nflip = true", ["[augment] flip: False stored, True now"]),
        (
            "[strategy]\ncrossover_probability = 0.5",
            [],  # the study compares strategies
        ),
    ],
)
def test_what_depends_on_a_key_and_what_does_not(splits: Splits, change: str, differs: list[str]) -> None:
    """With equal images: [data] may say another path, as it may have moved."""
    table, key = change.split("\n")
    text = "\n".join(
        line for line in RECIPE.splitlines() if line.split(" = ")[0] != key.split(" = ")[0] or "=" not in line
    )
    changed = text.replace(table, change, 1) if table in RECIPE else f"{text}\n{change}\n"
    assert search_differences(identity(RECIPE, splits), identity(changed, splits)) == differs


def test_a_run_of_a_version_with_other_keys_is_compared_by_what_both_mean(splits: Splits) -> None:
    now = identity(RECIPE, splits)
    old = {key: value for key, value in now.items() if key != "recipe.training.draw"}
    old |= {"recipe.members.epochs": 9, "recipe.adaptation.learning_rate": 0.01, "recipe.budget.evaluations": 12}
    assert search_differences(old, now) == []
    assert search_differences(old | {"recipe.training.draw": "fair"}, now) == [
        "[training] draw: fair stored, uniform now"
    ]


def test_adaptation_counts_where_the_strategy_adapts(splits: Splits) -> None:
    changed = f"{NAT}\n[adaptation]\nlearning_rate = 0.5\n"
    [line] = search_differences(identity(NAT, splits), identity(changed, splits))
    assert line.startswith("[adaptation] learning_rate: ")


def test_adaptation_counts_for_a_strategy_of_the_user_s_own(splits: Splits, tmp_path: Path) -> None:
    """Which may adapt without saying so; it may have slots, too."""
    own = "@dataclass(frozen=True, slots=True)\nclass Mine:\n    most: int = 1\n\n    def search(self, study): ...\n"
    (tmp_path / "mine.py").write_text(f"from dataclasses import dataclass\n\n\n{own}")
    text = RECIPE.replace('name = "nsga2"\npopulation = 6', f'name = "{tmp_path}/mine.py:Mine"')
    changed = f"{text}\n[adaptation]\nlearning_rate = 0.5\n"
    [line] = search_differences(identity(text, splits), identity(changed, splits))
    assert line.startswith("[adaptation] learning_rate: ")


def test_a_script_s_study_is_told_from_a_recipe_s(splits: Splits) -> None:
    """Instead of sixty keys, each "stored, nothing now"."""
    assert search_differences({"seed": 3}, identity(RECIPE, splits)) == [
        "a study of a script stored, the run of a recipe now"
    ]
    assert identity_differences(identity(RECIPE, splits), {"seed": 3}) == [
        "the run of a recipe stored, a study of a script now"
    ]
