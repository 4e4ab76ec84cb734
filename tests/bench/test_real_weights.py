"""The bench of six strategies, on the toy recipe with two of them: its rows are what the runs left."""

import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from hwnas.job import Front, compare
from tests.bench.figures import MissingDataError
from tests.bench.real_weights import STRATEGIES, Budgets, found, together, variant
from tests.bench.recipes import with_value
from tests.job.workspace import RECIPE, REPOSITORY, ignore_drift, make_workspace


@pytest.fixture(scope="module", autouse=True)
def any_drift() -> Iterator[None]:
    yield from ignore_drift()


def test_a_run_has_the_rows_of_its_front(tmp_path: Path) -> None:
    recipe = make_workspace(tmp_path)
    measured = found(tmp_path, recipe=recipe, root=tmp_path)
    rows = {row.figure: row for row in measured.rows}
    front = Front.load(tmp_path / "runs" / "toy")
    assert rows["toy: networks on its front"].value == len(front.on_front)
    chosen = max(front.on_front, key=lambda m: m.values["accuracy"])
    assert rows["toy: test accuracy of the most accurate by validation"].value == chosen.test["accuracy"]
    assert rows["toy: whole run"].value * 60 > sum(m.training_seconds for m in front.members) / 4
    assert (measured.conditions["training_epochs"], measured.conditions["evaluations"]) == (2, 12)


def test_strategies_are_compared_with_equal_budgets_and_several_seeds(tmp_path: Path) -> None:
    toy = make_workspace(tmp_path)
    pair = ("random", "nsga2")
    random = RECIPE.replace('name = "nsga2"\npopulation = 6', 'name = "random"')
    for strategy, text in zip(pair, (random, RECIPE), strict=True):
        toy.with_name(f"cifar10_{strategy}.toml").write_text(text)
    picture, budget = tmp_path / "all.png", Budgets(epochs=1, batch_size=32, evaluations=8)
    measured = together(tmp_path, strategies=pair, root=tmp_path, picture=picture, seeds=(1, 2), budget=budget)
    rows = {row.figure: row for row in measured.rows}
    assert {row.contender for row in measured.rows} == {"null", "ours"} and {row.seeds for row in measured.rows} == {2}
    volumes = []
    for seed in (1, 2):
        fronts = [Front.load(tmp_path / "runs" / f"cifar10_{strategy}_seed{seed}") for strategy in pair]
        assert all(front.facts["search"]["evaluations"] <= 8 for front in fronts)
        volumes.append({standing.run: standing.volume for standing in compare(fronts)}[f"cifar10_nsga2_seed{seed}"])
    mean = rows["nsga2, 1 epochs, 8 evaluations: share of the joint front's volume, mean"].value
    assert mean == pytest.approx(sum(volumes) / 2)
    assert picture.stat().st_size > 10_000


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_recipe_can_be_given_the_same_budget(strategy: str) -> None:
    text = (REPOSITORY / "search" / f"cifar10_{strategy}.toml").read_text()
    recipe = tomllib.loads(variant(text, seed=5, budget=Budgets(epochs=7, batch_size=96, evaluations=33)))
    trained = recipe["strategy"] if strategy in {"fbnet", "proxyless_nas"} else recipe["training"]
    assert (recipe["seed"], trained["epochs"], recipe["training"]["batch_size"]) == (5, 7, 96)
    assert recipe["budget"]["evaluations"] == 33


def test_a_line_that_is_not_there_is_not_replaced() -> None:
    with pytest.raises(MissingDataError, match=r"no rounds in \[training\]"):
        with_value("[training]\nepochs = 1\n[members]\nrounds = 2\n", "training", "rounds", 3)


def test_every_strategy_has_its_recipe() -> None:
    names = {path.stem for path in (REPOSITORY / "search").glob("cifar10_*.toml")}
    assert names == {f"cifar10_{strategy}" for strategy in STRATEGIES}
