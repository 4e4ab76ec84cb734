"""One training over several processes: each takes its part of every batch, gradients are averaged.

Under `torchrun` every process runs the same program. All draws of a step come from the generator that the loop hands
over, so all ranks train the same sub-networks without telling each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from hwnas.core import RecipeError
from hwnas.data import MiniBatch
from hwnas.training.rules import StepRule


@dataclass(frozen=True)
class Averaged:
    """A step rule over all processes of the default group.

    Each rank runs the rule on its part of the batch; afterwards every rank holds the gradients of the whole batch, as
    one process would have them. Norms over a batch see their rank's part only, as in any data-parallel training. The
    group is made by the caller: `torch.distributed.init_process_group("gloo")`, or "nccl", under torchrun.

    Attributes:
        rule: Run on each part. Its losses are means over images.
        module: Whose gradients are averaged; it must start equal on all ranks, see `same_start`.

    Raises:
        RecipeError: If there is no process group.

    Example:
        `trainer = Trainer(net, Averaged(SinglePath(net), net), ...)` in a script that torchrun starts.
    """

    rule: StepRule
    module: nn.Module

    def __post_init__(self) -> None:
        _check_group()

    def __call__(self, batch: MiniBatch, rng: np.random.Generator) -> float:
        """The rule's step on this rank's part; returns the loss of the whole batch.

        Raises:
            RecipeError: If the batch has fewer images than there are ranks.
        """
        ranks = dist.get_world_size()
        parts = batch.split(ranks)
        if len(parts) < ranks:
            raise RecipeError(
                f"a batch of {len(batch)} images for {ranks} processes; expected at least one each",
                hint="raise [training] batch_size, or start fewer processes",
            )
        part = parts[dist.get_rank()]
        share = len(part) / len(batch)
        loss = self.rule(part, rng)
        _average(list(self.module.parameters()), share)
        total = torch.tensor(loss * share, dtype=torch.float64)
        dist.all_reduce(total)
        return float(total)


def same_start(module: nn.Module) -> None:
    """Give every rank the weights and buffers of rank 0.

    Raises:
        RecipeError: If there is no process group.
    """
    _check_group()
    for tensor in module.state_dict().values():
        dist.broadcast(tensor, src=0)


def _average(parameters: Sequence[Tensor], share: float) -> None:
    """Sum gradients over the ranks, each weighted by its share of the images, in one message.

    Weights without a gradient have none on any rank, since all ranks train the same networks; they keep none, so that
    no optimizer moves them.
    """
    trained = [parameter for parameter in parameters if parameter.grad is not None]
    if not trained:
        return
    flat = torch.cat([parameter.grad.reshape(-1) for parameter in trained if parameter.grad is not None]).mul_(share)
    dist.all_reduce(flat)
    for parameter, part in zip(trained, torch.split(flat, [p.numel() for p in trained]), strict=True):
        if parameter.grad is not None:
            parameter.grad.copy_(part.reshape(parameter.shape))


def _check_group() -> None:
    if not (dist.is_available() and dist.is_initialized()):
        raise RecipeError(
            "training over several processes needs a process group, and there is none",
            hint='start the script with torchrun and call torch.distributed.init_process_group("gloo") first',
        )
