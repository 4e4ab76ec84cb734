"""NAT with its supernet trained on between iterations: a real, tiny run, whole and cut within an adaptation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from hwnas.core import ReplayError
from hwnas.job import Front, search
from hwnas.training import Trainer
from tests.job.workspace import RECIPE, make_workspace

# On a device whose latency is estimated: nothing has to be measured first.
ADAPTING = (
    'device = "raspberry-pi-5"\n'
    + RECIPE
    .replace(
        'name = "nsga2"\npopulation = 6\n',
        'name = "nat"\ninitial = 4\nper_iteration = 2\npopulation = 6\ngenerations = 2\nfolds = 2\n'
        'surrogates = ["rbf"]\nadapt_epochs = 2\nsurvivors = 3\n',
    )
    .replace("evaluations = 12", "evaluations = 8")
    .replace("epochs = 1\nbatch_size = 64\ndefault_epochs = 1", "epochs = 0")
    + "[adaptation]\nnetworks = 2\nlearning_rate = 0.05\n"
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    root = tmp_path_factory.mktemp("workspace")
    threads = torch.get_num_threads()
    yield search(make_workspace(root, recipe=ADAPTING), root=root)
    torch.set_num_threads(threads)


def rows(front: Front) -> list[object]:
    return [(m.architecture, m.values, {k: v.value for k, v in m.predicted.items()}) for m in front.members]


def test_members_are_judged_and_made_with_the_newest_weights(finished: Front) -> None:
    """Without a final training a member's accuracy is what the search said of it with the last weights."""
    # Two epochs of training, two adaptations of two epochs each (after 6 and after 8 networks).
    assert [path.name for path in (finished.folder / "checkpoints").glob("supernet@*")] == ["supernet@6.ckpt"]
    assert [path.name for path in (finished.folder / "checkpoints").glob("adaptation-teacher@*")] == [
        "adaptation-teacher@1.ckpt"
    ], "one teacher for all adaptations"
    searched = finished.facts["search"]
    assert searched["evaluations"] == 4 + (2 + 6) + (2 + 8) and searched["networks"] == 8
    assert searched["weights"] == "supernet@6"
    assert len(searched["hypervolume"]["after_each_network"]) == 8
    for member in finished.members:
        assert member.predicted["accuracy"].value == pytest.approx(member.metrics["accuracy"].value, abs=1e-9)


@pytest.mark.parametrize("epochs", [3, 5])
def test_a_run_cut_within_an_adaptation_goes_on_to_the_same_front(
    finished: Front, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epochs: int
) -> None:
    recipe = make_workspace(tmp_path, recipe=ADAPTING)
    trained, epoch = [0], Trainer.epoch

    def cut(self: Trainer, k: int, rng: np.random.Generator) -> dict[str, float]:
        if trained[0] == epochs:
            raise KeyboardInterrupt
        trained[0] += 1
        return epoch(self, k, rng)

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "epoch", cut)
        with pytest.raises(KeyboardInterrupt):
            search(recipe, root=tmp_path)
    assert [path.name for path in (tmp_path / "runs" / "toy" / "checkpoints").glob("supernet@*")] == [
        f"supernet@{epochs}.ckpt"
    ]
    assert rows(search(recipe, root=tmp_path)) == rows(finished)


def test_how_it_adapts_decides_the_run(finished: Front, tmp_path: Path) -> None:
    recipe = finished.folder.parent.parent / "search" / "toy.toml"
    other = tmp_path / "toy.toml"
    other.write_text(recipe.read_text().replace("networks = 2", "networks = 1"))
    with pytest.raises(ReplayError, match=r"\[adaptation\] networks"):
        search(other, root=finished.folder.parent.parent)
