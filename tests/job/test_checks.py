"""A recipe that no search could carry out is refused by whatever comes first: profile, kit or search."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

import hwnas
from hwnas.core import DeviceError, HwnasError, RecipeError, StoreError
from hwnas.job import kit, profile, search
from tests.job.workspace import RECIPE, make_workspace

TOY = 'name = "toy"\nresolutions = [8, 12]'
BLOCKWISE = "[training]\nepochs = 2"

FAULTS = [
    ((TOY, 'name = "dpp_net"\nresolutions = [8]'), RecipeError, 'name is "dpp_net", which has no supernet'),
    (("[limits.latency_ms]", '[limits."latency_ms@nowhere"]'), DeviceError, "nowhere"),
    (("seed = 3", 'seed = 3\nobjectives = ["accuracy", "energy_mj"]'), RecipeError, "asks for energy_mj, which is"),
    (("[evaluation]", '[evaluation]\nweights = "scratch"'), RecipeError, "which trains shared weights"),
    ((BLOCKWISE, f'{BLOCKWISE}\nrule = "block_wise"'), RecipeError, "cannot run its networks section by section"),
]


def changed(number: int) -> str:
    (old, new), *_ = FAULTS[number]
    text = RECIPE.replace(old, new)
    assert text != RECIPE
    if number == 3:
        text = text.replace('name = "nsga2"\npopulation = 6', 'name = "darts"\ntargets = 1\nepochs = 1')
    if number == 4:
        text = text.replace(TOY, 'name = "nas_rl_small"')
    return text


@pytest.mark.parametrize("number", range(len(FAULTS)))
def test_it_is_refused_before_anything_is_measured(number: int, tmp_path: Path) -> None:
    recipe = make_workspace(tmp_path, recipe=changed(number))
    _, kind, message = FAULTS[number]
    said: set[str] = set()
    for job in (search, profile, kit):
        with pytest.raises(kind, match=message) as refused:
            job(recipe, root=tmp_path)
        error = refused.value
        assert isinstance(error, HwnasError)
        assert error.hint
        said.add(str(error))
    assert len(said) == 1, "all three say the same"
    assert not (tmp_path / "latency_tables").exists()
    assert not (tmp_path / "runs").exists()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems refuse such names")
def test_a_workspace_not_named_in_utf_8_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    """The first block's file could not be opened by onnxruntime, which said "incompatible constructor arguments"."""
    root = tmp_path / os.fsdecode(b"donn\xe9es")
    recipe = make_workspace(root)
    for job in (search, profile, kit):
        with pytest.raises(StoreError, match=r"donn\\udce9es: the path of the workspace is not UTF-8") as refused:
            job(recipe, root=root)
        assert "rename the folder" in refused.value.hint
    assert not (root / "latency_tables").exists()


def test_the_promised_names_take_paths_as_text(tmp_path: Path) -> None:
    recipe = make_workspace(tmp_path, recipe=changed(0))
    for job in (hwnas.search, hwnas.profile):
        with pytest.raises(RecipeError, match="no supernet"):
            job(str(recipe), root=str(tmp_path))
