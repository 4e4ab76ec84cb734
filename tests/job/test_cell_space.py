"""A space without a supernet: said before anything is measured or trained."""

from pathlib import Path

import pytest

from hwnas.core import RecipeError
from hwnas.job import search
from tests.job.workspace import RECIPE, make_workspace


def test_a_search_without_a_supernet_is_refused_at_once(tmp_path: Path) -> None:
    space = 'name = "nasbench201"\noperations = ["none", "nor_conv_3x3"]'
    recipe = make_workspace(tmp_path, recipe=RECIPE.replace('name = "toy"\nresolutions = [8, 12]', space))
    with pytest.raises(RecipeError, match='space. name is "nasbench201", which has no supernet.*hwnas profile'):
        search(recipe, root=tmp_path)
    assert not (tmp_path / "runs").exists()
