"""A supernet trained by blocks in a whole run, unbroken and cut in the teacher and in its pupils."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hwnas.job import Front, search
from hwnas.training import Trainer
from tests.job.workspace import RECIPE, make_workspace

# On a device whose latency is estimated: nothing has to be measured first.
BLOCK_WISE = 'device = "raspberry-pi-5"\n' + RECIPE.replace(
    "[training]\n", '[training]\nrule = "block_wise"\nteacher_epochs = 2\n'
).replace("epochs = 1\nbatch_size = 64\ndefault_epochs = 1", "epochs = 0")


def rows(front: Front) -> list[object]:
    return [(m.architecture, m.values, {k: v.value for k, v in m.predicted.items()}) for m in front.members]


def test_a_run_cut_in_either_training_goes_on_to_the_same_front(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = search(make_workspace(tmp_path / "whole", recipe=BLOCK_WISE), root=tmp_path / "whole")
    assert sorted(path.name for path in (whole.folder / "checkpoints").glob("*@*")) == [
        "supernet@2.ckpt",
        "teacher@2.ckpt",
    ]
    recipe = make_workspace(tmp_path / "cut", recipe=BLOCK_WISE)
    epoch = Trainer.epoch
    for epochs in (1, 2):  # an epoch of the teacher; then its second and one of the blocks
        left = [epochs]

        def cut(self: Trainer, k: int, rng: np.random.Generator, left: list[int] = left) -> dict[str, float]:
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
            return epoch(self, k, rng)

        with monkeypatch.context() as patched:
            patched.setattr(Trainer, "epoch", cut)
            with pytest.raises(KeyboardInterrupt):
                search(recipe, root=tmp_path / "cut")
    assert rows(search(recipe, root=tmp_path / "cut")) == rows(whole)
