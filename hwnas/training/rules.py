"""What one step of training computes: the forward and backward passes on a batch.

A rule leaves gradients in the parameters and returns the loss; the loop around it (`Trainer`) owns everything else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from hwnas.core import Architecture
from hwnas.data import MiniBatch
from hwnas.nn import Supernet
from hwnas.nn.elastic import ElasticBatchNorm
from hwnas.space import Space
from hwnas.training.drawing import Draw, Opening
from hwnas.training.loss import alpha_divergence, distillation


class StepRule(Protocol):
    """Forward and backward on one batch."""

    def __call__(self, batch: MiniBatch, rng: np.random.Generator) -> float:
        """Add the gradients of one step to the parameters; return the loss to be watched.

        Draws come from `rng` alone, so a step can be repeated.
        """
        ...


def images_of(batch: MiniBatch, architecture: Architecture) -> torch.Tensor:
    """A batch at a network's resolution, [n, c, side, side]."""
    return _channels_last(batch.images(int(architecture["resolution"])))


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

    def __call__(self, batch: MiniBatch, rng: np.random.Generator) -> float:  # noqa: ARG002 - the protocol's
        """One forward and one backward pass of the network."""
        logits = self.network(_channels_last(batch.images(self.resolution)))
        loss = F.cross_entropy(logits, batch.labels, label_smoothing=self.label_smoothing)
        if self.teacher is not None:
            with torch.no_grad():
                target = self.teacher(_channels_last(batch.images(self.teacher_resolution)))
            loss = (1 - self.teacher_weight) * loss + self.teacher_weight * distillation(logits, target)
        loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())


class SinglePath:
    """Random networks learn from the labels, each from its own part of the batch; nothing else is computed.

    A step costs a fraction of the sandwich rule's, so that in the same time every network's weights see several times
    as many images. Networks of one step run side by side, each in a thread with one torch thread, which two cores use
    better than two threads inside each operator. Their gradients are added in a fixed order, and the norms' running
    statistics, which would mix the networks, are not kept. Source: Guo et al. 2020 (arXiv 1904.00420), with one network
    per step.

    Args:
        supernet: Trained.
        random: Networks per step; fewer where the space has fewer, or the batch has not two images for each.
        label_smoothing: Share of each label spread over all classes.
        draw: Which; None for different ones, uniform over options.
    """

    def __init__(
        self, supernet: Supernet, *, random: int = 1, label_smoothing: float = 0.0, draw: Draw | None = None
    ) -> None:
        self.supernet = supernet
        self.draw = draw
        self.random = random
        self.label_smoothing = label_smoothing
        for part in supernet.modules():
            if isinstance(part, nn.BatchNorm2d | ElasticBatchNorm):
                part.track_running_stats = False
        self._pool = ThreadPoolExecutor(random, "single-path", initializer=torch.set_num_threads, initargs=(1,))

    def __call__(self, batch: MiniBatch, rng: np.random.Generator) -> float:
        """One forward and backward pass per network; returns the mean loss over the images."""
        draw = self.supernet.space.sample if self.draw is None else self.draw
        # Two images each at least: batch norm learns nothing from one, and refuses it where features are 1x1.
        architectures = draw(max(1, min(self.random, len(batch) // 2)), rng)
        parts = batch.split(len(architectures))
        share = [len(part) / len(batch) for part in parts]
        run = map if len(parts) == 1 else self._pool.map
        total = 0.0
        parameters = list(self.supernet.parameters())
        for loss, gradients in run(self._gradients, parts, architectures, share):
            total += loss
            for parameter, gradient in zip(parameters, gradients, strict=True):
                if gradient is not None:
                    parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)
        return total

    def _gradients(
        self, batch: MiniBatch, architecture: Architecture, share: float
    ) -> tuple[float, tuple[torch.Tensor | None, ...]]:
        images = images_of(batch, architecture)
        logits = self.supernet(images, architecture)
        loss = share * F.cross_entropy(logits, batch.labels, label_smoothing=self.label_smoothing)
        return float(loss.detach()), torch.autograd.grad(loss, list(self.supernet.parameters()), allow_unused=True)


@dataclass(frozen=True)
class Adapting:
    """Networks drawn by a distribution learn from the labels and from a teacher with weights of its own.

    Source: Lu et al. 2021 (TPAMI 43(9)), section 3.4: shared weights are adapted to the networks that a search favours.

    Attributes:
        supernet: Its weights are trained.
        frequencies: How often each option of each decision is drawn; see `Space.sample_by`.
        teacher: The network that is imitated. It shares no weight with the supernet and runs in evaluation mode, so
            that it gives the same answers throughout.
        teacher_resolution: Side of the teacher's images.
        networks: Networks per step, each on the whole batch.
        imitation: Weight of the imitation; the labels' weight is 1.
        label_smoothing: Share of each label spread over all classes.
    """

    supernet: Supernet
    frequencies: Mapping[str, Sequence[float]]
    teacher: nn.Module
    teacher_resolution: int
    networks: int = 4
    imitation: float = 1.0
    label_smoothing: float = 0.0

    def __call__(self, batch: MiniBatch, rng: np.random.Generator) -> float:
        """One pass of the teacher, a forward and a backward pass of each network; returns their mean loss."""
        self.teacher.eval()
        with torch.no_grad():
            target = self.teacher(_channels_last(batch.images(self.teacher_resolution)))
        total = 0.0
        for architecture in self.supernet.space.sample_by(self.frequencies, self.networks, rng):
            logits = self.supernet(images_of(batch, architecture), architecture)
            loss = F.cross_entropy(logits, batch.labels, label_smoothing=self.label_smoothing)
            loss = (loss + self.imitation * distillation(logits, target)) / self.networks
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
        distillation: How the others learn from the largest: its probabilities as labels ("kl"), or by the
            alpha-divergence that is larger ("alpha", Wang et al. 2021).
        opening: Which options are open to the others by now; None for all.
    """

    supernet: Supernet
    largest: Architecture
    smallest: Architecture
    random: int = 2
    label_smoothing: float = 0.0
    distillation: Literal["kl", "alpha"] = "kl"
    opening: Opening | None = None

    @property
    def space(self) -> Space:
        """Where the random networks come from."""
        return self.supernet.space

    def __call__(self, batch: MiniBatch, rng: np.random.Generator) -> float:
        """`random` + 2 forward and backward passes; returns the largest network's loss."""
        teacher = self.supernet(images_of(batch, self.largest), self.largest)
        loss = F.cross_entropy(teacher, batch.labels, label_smoothing=self.label_smoothing)
        loss.backward()  # type: ignore[no-untyped-call]
        target = teacher.detach()
        learn = alpha_divergence if self.distillation == "alpha" else distillation
        drawn, smallest = self.space.sample, self.smallest
        if self.opening is not None:
            drawn, smallest = self.opening, self.opening.within(self.smallest)
        for architecture in [*drawn(self.random, rng), smallest]:
            logits = self.supernet(images_of(batch, architecture), architecture)
            learn(logits, target).backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())
