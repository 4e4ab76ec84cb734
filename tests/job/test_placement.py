"""A whole search whose networks are trained elsewhere than on this processor, or with fewer bits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from hwnas.core import DeviceError, RecipeError
from hwnas.export import read_metadata
from hwnas.job import Recipe, profile, search
from tests.job.workspace import RECIPE, Listener, ignore_drift, make_workspace


@pytest.fixture(autouse=True)
def any_drift() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield from ignore_drift()
    torch.set_num_threads(threads)


def asking(**training: str) -> str:
    lines = "".join(f"{key} = {value}\n" for key, value in training.items())
    return RECIPE.replace("[training]\n", f"[training]\n{lines}").replace("[members]\n", "[members]\naverage = 0.9\n")


def test_the_recipe_says_where_and_how(tmp_path: Path) -> None:
    recipe = Recipe.from_toml(asking(precision='"bfloat16"', average="0.5"), Path("search/a.toml"))
    assert (recipe.placement().processor, recipe.placement().precision) == ("cpu", "bfloat16")
    schedule = recipe.member_schedule()
    assert schedule is not None
    assert (recipe.supernet_schedule().average, schedule.average) == (0.5, 0.9)
    assert not Recipe.from_toml(RECIPE, Path("search/a.toml")).members.compiled


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there_is_refused_before_anything_else(tmp_path: Path) -> None:
    recipe = make_workspace(tmp_path, recipe=asking(processor='"cuda"'))
    with pytest.raises(DeviceError, match=r"toy.toml: \[training\] processor is cuda, and torch sees no GPU") as raised:
        search(recipe, root=tmp_path)  # there is no latency table either, which would be said later
    assert 'processor = "cpu"' in raised.value.hint


def test_training_by_blocks_is_refused_where_there_are_none_before_anything_else(tmp_path: Path) -> None:
    text = asking(rule='"block_wise"').replace('name = "toy"\nresolutions = [8, 12]', 'name = "genetic_cnn"')
    recipe = make_workspace(tmp_path, recipe=text)
    with pytest.raises(RecipeError, match=r'rule is "block_wise"; space genetic_cnn\S* cannot run .*section') as raised:
        search(recipe, root=tmp_path)  # there is no latency table either, which would be said later
    assert 'set rule = "sandwich"' in raised.value.hint


@pytest.mark.parametrize(
    ("training", "strategy"),
    [
        ({"precision": '"bfloat16"', "average": "0.5", "progressive": '["kernel"]'}, "nsga2"),
        ({"rule": '"single_path"', "draw": '"cost_bins"'}, "nsga2"),
        ({"rule": '"block_wise"', "teacher_epochs": "3", "draw": '"fair"'}, "nsga2"),
        pytest.param({"processor": '"cuda"', "precision": '"bfloat16"'}, "nsga2", marks=pytest.mark.gpu),
        pytest.param({"processor": '"cuda"'}, "fbnet", marks=pytest.mark.gpu),
        pytest.param({"processor": '"cuda"'}, "darts", marks=pytest.mark.gpu),
        pytest.param({"processor": '"cuda"'}, "proxyless_nas", marks=pytest.mark.gpu),
    ],
)
def test_a_search_ends_in_a_measured_front(tmp_path: Path, training: dict[str, str], strategy: str) -> None:
    text = asking(**training)
    if strategy != "nsga2":
        text = text.replace('name = "nsga2"\npopulation = 6', f'name = "{strategy}"\nepochs = 4\ntargets = 2')
    recipe = make_workspace(tmp_path, recipe=text)
    profile(recipe, root=tmp_path, on_noise="mark")
    told = Listener()
    front = search(recipe, root=tmp_path, teller=told)
    member = front.members[0]
    assert member.test["accuracy"] > 0.2
    assert read_metadata(front.onnx_path(member))["accuracy"]["test_accuracy"] == member.test["accuracy"]
    assert any("equal seeds do not give equal bits" in line for line in told.lines) == ("processor" in training)
