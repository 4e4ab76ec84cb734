"""Spaces of cells in the main job: without a supernet, and of networks that are no chain."""

from collections.abc import Iterator
from pathlib import Path

import onnxruntime
import pytest
import torch

from hwnas.core import RecipeError
from hwnas.job import profile, search
from hwnas.nn import load_network
from tests.job.workspace import RECIPE, ignore_drift, make_workspace


@pytest.fixture
def _any_drift() -> Iterator[None]:
    yield from ignore_drift()


def test_a_search_without_a_supernet_is_refused_at_once(tmp_path: Path) -> None:
    space = 'name = "dpp_net"\ncells = [1, 1, 1]'
    recipe = make_workspace(tmp_path, recipe=RECIPE.replace('name = "toy"\nresolutions = [8, 12]', space))
    with pytest.raises(RecipeError, match='space. name is "dpp_net", which has no supernet.*hwnas profile'):
        search(recipe, root=tmp_path)
    assert not (tmp_path / "runs").exists()


NO_CHAINS = {
    "darts": ("cells = 3", "nodes = 1", "width = 4", 'operations = ["skip_connect", "sep_conv_3x3"]'),
    "nas_rl": ("depths = [3]", "heights = [3]", "widths = [1, 3]", "filters = [4, 8]"),
}


@pytest.mark.usefixtures("_any_drift")
@pytest.mark.parametrize("name", NO_CHAINS)
def test_a_network_that_is_no_chain_is_searched_exported_and_checked(name: str, tmp_path: Path) -> None:
    """From their latency table to files that torch and the runtime agree on."""
    space = "\n".join((f'name = "{name}"', "resolutions = [8]", *NO_CHAINS[name]))
    recipe = make_workspace(tmp_path, recipe=RECIPE.replace('name = "toy"\nresolutions = [8, 12]', space))
    profile(recipe, root=tmp_path, on_noise="mark", limit_s=25)
    front = search(recipe, root=tmp_path, allow_mismatch=True)
    assert len(front.members) >= 2
    folder = tmp_path / "runs" / "toy" / "members"
    for weights in folder.glob("*.safetensors"):
        network = load_network(weights)
        images = torch.randn(3, 1, 8, 8)
        session = onnxruntime.InferenceSession(str(weights.with_suffix(".onnx")))
        [found] = session.run(None, {session.get_inputs()[0].name: images.numpy()})
        torch.testing.assert_close(torch.from_numpy(found), network(images).detach(), atol=1e-4, rtol=1e-4)
