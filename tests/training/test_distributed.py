"""Two processes train as one: the same sub-networks, the same losses, the same weights."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from hwnas.core import Architecture, RecipeError, generator
from hwnas.training import Averaged, PairBatch, SinglePath, Trainer, same_start
from hwnas.training.trainer import Schedule
from tests.training.smooth_net import Smooth

PROGRAM = """
import json, os, sys
import torch
import torch.distributed as dist
from tests.training.test_distributed import train
from tests.training.smooth_net import Smooth
from hwnas.training import Averaged, same_start

torch.set_num_threads(1)
dist.init_process_group("gloo")
torch.manual_seed(dist.get_rank())  # another start on every rank, until rank 0's is taken
net = Smooth()
if dist.get_rank() == 0:
    torch.manual_seed(0)
    net = Smooth()
same_start(net)
row = train(net, lambda rule: Averaged(rule, net))
with open(sys.argv[1] + str(dist.get_rank()), "w") as file:
    file.write(json.dumps(row))
dist.barrier()
dist.destroy_process_group()
# All work is done. The interpreter's own way out ends, now and then on a busy machine, in std::terminate from one of
# torch's threads (seen with torch 2.14, one run in twenty), and the launcher would call that a failed rank.
os._exit(0)
"""


def train(net: Smooth, wrap: Any) -> dict[str, Any]:
    """Five steps; the losses, the networks drawn, and the weights."""
    drawn: list[str] = []
    rule = SinglePath(net, random=1)
    space = net.space
    sample = space.sample

    def noting(n: int, rng: np.random.Generator) -> list[Architecture]:
        found = sample(n, rng)
        drawn.extend(architecture.to_json() for architecture in found)
        return found

    object.__setattr__(space, "sample", noting)
    losses: list[float] = []
    images = torch.randn(40, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(40) % 2
    trainer = Trainer(
        net,
        wrap(rule),
        batches=lambda rng: [PairBatch(images[n : n + 8], labels[n : n + 8]) for n in range(0, 40, 8)],
        steps=5,
        schedule=Schedule(1, learning_rate=0.5),
        progress=lambda done, total, loss: losses.append(loss),
    )
    trainer.epoch(0, generator(0, "epoch"))
    return {"losses": losses, "drawn": drawn, "weights": [p.tolist() for p in net.parameters()]}


def test_two_processes_train_as_one(tmp_path: Path) -> None:
    torch.manual_seed(0)
    alone = train(Smooth(), lambda rule: rule)
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--master-port=0", "--standalone"]
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [*command, str(script), str(tmp_path / "rank")], cwd=root, env=environment(root), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    ranks = [json.loads((tmp_path / f"rank{n}").read_text()) for n in range(2)]
    assert ranks[0]["drawn"] == ranks[1]["drawn"] == alone["drawn"], "the same sub-network on all ranks"
    assert len(set(alone["drawn"])) > 1
    assert ranks[0] == ranks[1]
    assert ranks[0]["losses"] == pytest.approx(alone["losses"], rel=1e-5)
    for together, apart in zip(ranks[0]["weights"], alone["weights"], strict=True):
        assert torch.allclose(torch.tensor(together), torch.tensor(apart), atol=1e-6)


def environment(root: Path) -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def test_without_a_group_it_says_what_to_do() -> None:
    net = nn.Linear(1, 1)
    with pytest.raises(RecipeError, match="needs a process group, and there is none") as raised:
        Averaged(lambda batch, rng: 0.0, net)
    assert "torchrun" in raised.value.hint
    with pytest.raises(RecipeError, match="process group"):
        same_start(net)
