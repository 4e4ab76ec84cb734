"""Spaces of cells in the main job: without a supernet, and of networks that are no chain."""

from collections.abc import Iterator
from pathlib import Path

import onnxruntime
import pytest
import torch

from hwnas.core import RecipeError
from hwnas.job import profile, search
from hwnas.nn import load_network
from tests.job.workspace import RECIPE, Listener, ignore_drift, make_workspace


@pytest.fixture
def _any_drift() -> Iterator[None]:
    yield from ignore_drift()


def test_a_search_without_a_supernet_is_refused_at_once(tmp_path: Path) -> None:
    space = 'name = "dpp_net"\ncells = [1, 1, 1]'
    recipe = make_workspace(tmp_path, recipe=RECIPE.replace('name = "toy"\nresolutions = [8, 12]', space))
    with pytest.raises(RecipeError, match='space. name is "dpp_net", which has no supernet.*weights = "scratch"'):
        search(recipe, root=tmp_path)
    assert not (tmp_path / "runs").exists()


NO_CHAINS = {
    "darts": ("cells = 3", "nodes = 1", "width = 4", 'operations = ["skip_connect", "sep_conv_3x3"]'),
    "nas_rl": ("depths = [3]", "heights = [3]", "widths = [1, 3]", "filters = [4, 8]"),
}
SCRATCH = (
    RECIPE
    .replace('name = "toy"\nresolutions = [8, 12]', 'name = "dpp_net"\nresolutions = [8]\ncells = [2]\ngrowths = [4]')
    .replace('name = "nsga2"\npopulation = 6', 'name = "dpp_net"\nwidth = 3\nregressor = "trees"')
    .replace("[evaluation]", '[evaluation]\nweights = "scratch"\nepochs = 1')
)


def test_a_space_without_a_supernet_is_searched_with_candidates_trained_from_scratch(tmp_path: Path) -> None:
    """DPP-Net on its own space, to files that torch and the runtime agree on; the device's latencies are estimates."""
    recipe = make_workspace(tmp_path, recipe=f'device = "raspberry-pi-5"\n{SCRATCH}')
    listener = Listener()
    threads = torch.get_num_threads()
    front = search(recipe, root=tmp_path, teller=listener)
    torch.set_num_threads(threads)
    assert "search with dpp_net, training every candidate for 1 epoch" in listener.stages
    assert "train the supernet" not in listener.stages
    assert front.on_front
    limit = front.limits[0]
    assert limit.at_most is not None
    for member in front.members:
        if member.role == "member":
            assert member.predicted["latency_ms"].value <= limit.at_most
        network = load_network(front.folder / member.weights)
        images = torch.randn(2, 1, 8, 8)
        session = onnxruntime.InferenceSession(str(front.onnx_path(member)))
        [found] = session.run(None, {session.get_inputs()[0].name: images.numpy()})
        torch.testing.assert_close(torch.from_numpy(found), network(images).detach(), atol=1e-4, rtol=1e-4)
    again = search(recipe, root=tmp_path)
    assert [m.architecture for m in again.members] == [m.architecture for m in front.members]


def test_what_needs_shared_weights_is_refused_without_them(tmp_path: Path) -> None:
    recipe = make_workspace(tmp_path, recipe=f'device = "raspberry-pi-5"\n{SCRATCH}')
    text = recipe.read_text()
    counted = f'objectives = ["accuracy", "macs"]\n{text}'
    recipe.write_text(counted.replace('name = "dpp_net"\nwidth = 3\nregressor = "trees"', 'name = "darts"'))
    with pytest.raises(RecipeError, match='name is "darts", which trains shared weights; .* is "scratch"'):
        search(recipe, root=tmp_path)
    recipe.write_text(text.replace("count = 2\nepochs = 1", "count = 2\nepochs = 0"))
    with pytest.raises(RecipeError, match=r"\[members\] epochs is 0.*no weights to inherit"):
        search(recipe, root=tmp_path)


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
