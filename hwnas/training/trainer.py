"""The one training loop: any module, any step rule, one epoch at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from hwnas.core import NonFiniteLossError, RecipeError
from hwnas.data import MiniBatch
from hwnas.nn.strided import trainable_forwards
from hwnas.training.placement import Placement, calling
from hwnas.training.rules import StepRule

_HERE = Placement()


@dataclass(frozen=True)
class Schedule:
    """How weights are moved.

    Attributes:
        epochs: Passes over the training images.
        learning_rate: Largest rate, reached after the warm-up, then cosine to 0.
        warmup: Share of all steps with a rising rate, 0..1.
        momentum: Nesterov's.
        weight_decay: On weights of convolutions and linear layers; norms and biases are left alone.
        clip: Largest norm of the gradient.
        average: Of the weights and statistics, over the steps: the share 0..1 of the average that stays in each step,
            say 0.999. After the last epoch the average takes their place. 0 for none.

    Raises:
        RecipeError: If a value is impossible; names it.

    Example:
        >>> schedule = Schedule(epochs=10, learning_rate=0.4, warmup=0.1)
        >>> [round(schedule.rate(share), 3) for share in (0.0, 0.05, 0.1, 0.55, 1.0)]
        [0.0, 0.2, 0.4, 0.2, 0.0]
    """

    epochs: int
    learning_rate: float = 0.1
    warmup: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 1e-4
    clip: float = 5.0
    average: float = 0.0

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise RecipeError(f"epochs is {self.epochs}; it must be at least 1")
        if not 0 <= self.warmup < 1:
            raise RecipeError(f"warmup is {self.warmup}; it must be a share of the steps, 0..1")
        for name in ("learning_rate", "clip"):
            if not 0 < getattr(self, name) < math.inf:
                raise RecipeError(f"{name} is {getattr(self, name)}; it must be above 0 and finite")
        if not 0 <= self.average < 1:
            raise RecipeError(
                f"average is {self.average}; it is the share of the average that stays, 0 or more, below 1"
            )
        if not 0 <= self.weight_decay < math.inf or not 0 <= self.momentum < 1:
            raise RecipeError(f"weight_decay {self.weight_decay} or momentum {self.momentum} is out of range")

    def rate(self, share: float) -> float:
        """The learning rate after a share 0..1 of all steps."""
        if share < self.warmup:
            return self.learning_rate * share / self.warmup
        return self.learning_rate * (1 + math.cos(math.pi * (share - self.warmup) / (1 - self.warmup))) / 2


class Trainer:
    """A module, its optimizer, and the loop around a step rule.

    All that outlives an epoch is in `state`: weights, norms' statistics, momenta, averages. The learning rate
    follows from the epoch's number, data order and augmentation from the generator, so an epoch can be repeated to the
    bit.

    Args:
        module: Its parameters are trained.
        rule: Forward and backward on a batch.
        batches: One epoch of training batches for a generator; `steps` of them.
        steps: Batches in an epoch.
        schedule: Epochs, rates, decay.
        optimizer: Moves the parameters at its own rates, instead of SGD at the schedule's.
        placement: Where it is trained; the batches must lie there.
        compiled: Whether the forward pass of an epoch is compiled by torch.compile, which pays for a fixed network and
            many steps; a supernet would be compiled anew for every network drawn.
        progress: Called with (steps done, steps in all, loss) after each step.
        what: Is trained, for messages: "the supernet".
        table: Of the recipe that holds the learning rate, for messages.

    Example:
        `hwnas/tour.py` trains a supernet in ten lines.
    """

    def __init__(
        self,
        module: nn.Module,
        rule: StepRule,
        *,
        batches: Callable[[np.random.Generator], Iterable[MiniBatch]],
        steps: int,
        schedule: Schedule,
        optimizer: torch.optim.Optimizer | None = None,
        placement: Placement = _HERE,
        compiled: bool = False,
        progress: Callable[[int, int, float], None] | None = None,
        what: str = "the network",
        table: str = "training",
    ) -> None:
        self.what, self.table = what, table
        self.module = placement.place(module)
        self._average = _average_of(module, schedule.average)
        self._forward = placement.forward_of(module)
        if compiled:
            self._forward = torch.compile(self._forward)
        self.rule = rule
        self.batches = batches
        self.steps = steps
        self.schedule = schedule
        self.progress = progress
        decayed = [p for p in module.parameters() if p.ndim > 1]
        free = [p for p in module.parameters() if p.ndim <= 1]
        self._follows_schedule = optimizer is None
        self.optimizer = optimizer or torch.optim.SGD(
            [{"params": decayed, "weight_decay": schedule.weight_decay}, {"params": free, "weight_decay": 0.0}],
            lr=schedule.learning_rate,
            momentum=schedule.momentum,
            nesterov=schedule.momentum > 0,
        )

    @property
    def state(self) -> dict[str, Any]:
        """Everything a checkpoint must hold."""
        average = {} if self._average is None else {"average": self._average}
        return {"module": self.module, "optimizer": self.optimizer, **average}

    def epoch(self, k: int, rng: np.random.Generator) -> dict[str, float]:
        """Train for one pass; epochs count from 0.

        Returns:
            The mean loss and the number of images.

        Raises:
            NonFiniteLossError: At the first loss that is not a finite number, with epoch and step, both counted from 1;
                no weight has been changed by that step. Also if a weight or a statistic is not finite at the end.
        """
        self.module.train()
        with ExitStack() as within:
            for layer, forward in trainable_forwards(self.module):
                within.enter_context(calling(layer, forward))
            within.enter_context(calling(self.module, self._forward))
            found = self._pass(k, rng)
        if self._average is not None and k == self.schedule.epochs - 1:
            self.module.load_state_dict(self._average.module.state_dict())
        self._check_weights(k)
        return found

    def _check_weights(self, k: int) -> None:
        """Refuse weights that only the next loss would have shown: after the last step there is none.

        Raises:
            NonFiniteLossError: Naming the first tensor that is not finite.
        """
        for name, tensor in self.module.state_dict().items():
            if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
                raise self._diverged(f"by the end of epoch {k + 1}: {name} is not finite")

    def _diverged(self, when: str) -> NonFiniteLossError:
        rate = self.schedule.learning_rate
        if not self._follows_schedule:
            rate = max(float(group["lr"]) for group in self.optimizer.param_groups)
        return NonFiniteLossError(
            f"training of {self.what} diverged {when} (learning rate {rate:.3g})",
            hint=f"the last checkpoint is good; lower [{self.table}] learning_rate, or raise its warmup, and run again",
        )

    def _pass(self, k: int, rng: np.random.Generator) -> dict[str, float]:
        total, images = 0.0, 0
        parameters = list(self.module.parameters())
        for step, batch in enumerate(self.batches(rng)):
            share = (k + step / self.steps) / self.schedule.epochs
            if self._follows_schedule:
                for group in self.optimizer.param_groups:
                    group["lr"] = self.schedule.rate(share)
            self.optimizer.zero_grad(set_to_none=True)
            loss = self.rule(batch, rng)
            norm = nn.utils.clip_grad_norm_(parameters, self.schedule.clip)
            if not math.isfinite(loss) or not bool(torch.isfinite(norm)):
                raise self._diverged(
                    f"in epoch {k + 1}, step {step + 1}: loss {loss}, gradient norm {float(norm)}; expected finite ones"
                )
            self.optimizer.step()
            if self._average is not None:
                self._average.update_parameters(self.module)
            total += loss * len(batch.labels)
            images += len(batch.labels)
            if self.progress is not None:
                self.progress(k * self.steps + step + 1, self.schedule.epochs * self.steps, loss)
        return {"loss": total / max(images, 1), "images": images}


def _average_of(module: nn.Module, share: float) -> AveragedModel | None:
    if not share:
        return None
    average = get_ema_multi_avg_fn(share)  # type: ignore[no-untyped-call]
    return AveragedModel(module, multi_avg_fn=average, use_buffers=True)
