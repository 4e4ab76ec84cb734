"""What one step of training computes: the forward and backward passes on a batch.

A rule leaves gradients in the parameters and returns the loss; the loop around it (`Trainer`) owns everything else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from hwnas.core import Architecture
from hwnas.data import Batch
from hwnas.nn import Supernet
from hwnas.space import Space
from hwnas.training.loss import distillation


class StepRule(Protocol):
    """Forward and backward on one batch."""

    def __call__(self, batch: Batch, rng: np.random.Generator) -> float:
        """Add the gradients of one step to the parameters; return the loss to be watched.

        Draws come from `rng` alone, so a step can be repeated.
        """
        ...


def _channels_last(images: torch.Tensor) -> torch.Tensor:
    # Depthwise convolutions on a CPU run about twice as fast in this layout.
    return images.to(memory_format=torch.channels_last)


@dataclass(frozen=True)
class Plain:
    """Cross-entropy of one network, and optionally the imitation of a teacher.

    Attributes:
        network: Trained.
        resolution: Side of its images.
        label_smoothing: Share of each label spread over all classes.
        teacher: Its logits are imitated; None for labels alone. It runs in the mode it is in, without gradient.
        teacher_resolution: Side of the teacher's images.
        teacher_weight: Share of the loss that imitates the teacher, 0..1.
    """

    network: nn.Module
    resolution: int
    label_smoothing: float = 0.0
    teacher: nn.Module | None = None
    teacher_resolution: int = 0
    teacher_weight: float = 0.5

    def __call__(self, batch: Batch, rng: np.random.Generator) -> float:  # noqa: ARG002 - the protocol's
        """One forward and one backward pass of the network."""
        logits = self.network(_channels_last(batch.images(self.resolution)))
        loss = F.cross_entropy(logits, batch.labels, label_smoothing=self.label_smoothing)
        if self.teacher is not None:
            with torch.no_grad():
                target = self.teacher(_channels_last(batch.images(self.teacher_resolution)))
            loss = (1 - self.teacher_weight) * loss + self.teacher_weight * distillation(logits, target)
        loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())


@dataclass(frozen=True)
class SinglePath:
    """A few random networks learn from the labels; nothing else is computed.

    A step costs a fraction of the sandwich rule's, so that in the same time every network's weights see several times
    as many images. Source: Guo et al. 2020 (arXiv 1904.00420), with one network per step.

    Attributes:
        supernet: Trained.
        random: Networks per step, drawn uniformly over options; their losses are averaged.
        label_smoothing: Share of each label spread over all classes.
    """

    supernet: Supernet
    random: int = 1
    label_smoothing: float = 0.0

    def __call__(self, batch: Batch, rng: np.random.Generator) -> float:
        """One forward and backward pass of each; returns the mean loss."""
        total = 0.0
        for architecture in self.supernet.space.sample(self.random, rng):
            images = _channels_last(batch.images(int(architecture["resolution"])))
            logits = self.supernet(images, architecture)
            loss = F.cross_entropy(logits, batch.labels, label_smoothing=self.label_smoothing) / self.random
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        return total


@dataclass(frozen=True)
class Sandwich:
    """The largest network learns from labels, some random ones and the smallest learn from the largest.

    Source: Yu and Huang 2019 (arXiv 1903.05134) for the rule and in-place distillation, Wang et al. 2021
    (arXiv 2102.07954), section 3. Per step: one pass of the largest, `random` of random networks, one of the smallest.

    Attributes:
        supernet: Trained.
        largest: By multiply-adds.
        smallest: By multiply-adds.
        random: How many networks between.
        label_smoothing: In the largest network's loss.
    """

    supernet: Supernet
    largest: Architecture
    smallest: Architecture
    random: int = 2
    label_smoothing: float = 0.0

    @property
    def space(self) -> Space:
        """Where the random networks come from."""
        return self.supernet.space

    def __call__(self, batch: Batch, rng: np.random.Generator) -> float:
        """`random` + 2 forward and backward passes; returns the largest network's loss."""
        teacher = self.supernet(self._images(batch, self.largest), self.largest)
        loss = F.cross_entropy(teacher, batch.labels, label_smoothing=self.label_smoothing)
        loss.backward()  # type: ignore[no-untyped-call]
        target = teacher.detach()
        for architecture in [*self.space.sample(self.random, rng), self.smallest]:
            logits = self.supernet(self._images(batch, architecture), architecture)
            distillation(logits, target).backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())

    def _images(self, batch: Batch, architecture: Architecture) -> torch.Tensor:
        return _channels_last(batch.images(int(architecture["resolution"])))
