"""The bench of six strategies, on the toy recipe with two of them: its rows are what the runs left."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from hwnas.job import Front, compare
from tests.bench.figures import MissingDataError
from tests.bench.real_weights import STRATEGIES, found, together
from tests.job.workspace import RECIPE, REPOSITORY, ignore_drift, make_workspace


@pytest.fixture(scope="module", autouse=True)
def any_drift() -> Iterator[None]:
    yield from ignore_drift()


def test_runs_are_stood_side_by_side(tmp_path: Path) -> None:
    toy = make_workspace(tmp_path)
    pair = ("random", "nsga2")
    random = RECIPE.replace('name = "nsga2"\npopulation = 6', 'name = "random"')
    picture = tmp_path / "all.png"
    for strategy, text in zip(pair, (random, RECIPE), strict=True):
        recipe = toy.with_name(f"cifar10_{strategy}.toml")
        recipe.write_text(text)
        with pytest.raises(MissingDataError, match=f"real_weights {strategy}"):
            together(tmp_path, strategies=pair, root=tmp_path, picture=picture)
        measured = found(tmp_path, recipe=recipe, root=tmp_path)
        rows = {row.figure: row for row in measured.rows}
        front = Front.load(tmp_path / "runs" / recipe.stem)
        assert rows[f"{recipe.stem}: networks on its front"].value == len(front.on_front)
        assert rows[f"{recipe.stem}: most accurate, test"].value == max(m.test["accuracy"] for m in front.on_front)
        assert rows[f"{recipe.stem}: whole run"].value * 60 > sum(m.training_seconds for m in front.members) / 4
        assert measured.conditions["recipe"] == recipe.name
    rows = {row.figure: row for row in together(tmp_path, strategies=pair, root=tmp_path, picture=picture).rows}
    fronts = [Front.load(tmp_path / "runs" / f"cifar10_{strategy}") for strategy in pair]
    for standing in compare(fronts):
        assert rows[f"{standing.run}: share of the joint front's volume"].value == standing.volume
    assert sum(row.value for figure, row in rows.items() if "joint front" in figure and row.unit == "networks") >= 1
    assert picture.stat().st_size > 10_000


def test_every_strategy_has_its_recipe() -> None:
    names = {path.stem for path in (REPOSITORY / "search").glob("cifar10_*.toml")}
    assert names == {f"cifar10_{strategy}" for strategy in STRATEGIES}
