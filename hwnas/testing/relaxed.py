"""A problem for strategies that search by gradient: a tiny space with a supernet, made-up images, and multiply-adds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import torch

from hwnas.core import Architecture, Limit, Objective
from hwnas.cost import UnitSumCost
from hwnas.data import Batch, ImageData, Images, Part, Preprocessing, batches
from hwnas.evaluation import FromFunction
from hwnas.nn import Supernet
from hwnas.study import OneShot
from hwnas.testing import Problem
from hwnas.training import Schedule
from hwnas.zoo import FAMILIES, MobileNetV3

_STEPS, _SIZE = 4, 16


def relaxed_problem(*, limits: Sequence[Limit] = ()) -> Problem:
    """The problem. Three epochs on its shared weights take a second.

    Accuracies are a formula of the architecture, so that they do not depend on the training. The predicted cost is
    multiply-adds, which need no latency table.

    Args:
        limits: To search under.

    Example:
        >>> problem = relaxed_problem()
        >>> [cost.name for cost in problem.costs], problem.one_shot is None
        (['macs'], False)
    """
    space = tiny().space
    return Problem(
        space,
        FromFunction(_metrics),
        (Objective.named("accuracy"), Objective.named("macs")),
        (UnitSumCost.count(space, "macs"),),
        tuple(limits),
        one_shot=ONE_SHOT,
    )


@cache
def tiny() -> MobileNetV3:
    """Its family: images of 6 or 8 pixels, two stages of one or two blocks, three classes."""
    toy = FAMILIES["toy"]
    assert isinstance(toy, MobileNetV3)
    return replace(
        toy, name="tiny", resolutions=(6, 8), stem_width=4, widths=(4, 8), strides=(1, 2), classes=3, head_width=8
    )


@cache
def _images() -> Images:
    """Three classes of noisy images, told apart by where they are bright."""
    rng = np.random.default_rng(0)
    labels = np.arange(_STEPS * _SIZE) % 3
    pixels = rng.integers(0, 120, (len(labels), 8, 8, 1), dtype=np.uint8)
    for n, label in enumerate(labels):
        pixels[n, 3 * label : 3 * label + 2] += 120
    part = Part(ImageData(pixels, labels, ("a", "b", "c"), "made up"), np.arange(len(labels)))
    return Images(part, Preprocessing.fit(part))


def _metrics(architecture: Architecture) -> dict[str, float]:
    return {"accuracy": 1 - 1 / (1 + len(architecture) * int(architecture["resolution"]))}


def _serve(rng: np.random.Generator) -> Iterator[Batch]:
    return batches(_images(), batch_size=_SIZE, generator=rng, drop_last=True)


def _one(rng: np.random.Generator) -> Batch:
    return next(_serve(rng))


def _supernet() -> Supernet:
    torch.manual_seed(0)
    return tiny().supernet()


def _schedule(epochs: int) -> Schedule:
    return Schedule(epochs, learning_rate=0.05)


ONE_SHOT = OneShot(_supernet, _serve, _one, steps=_STEPS, schedule=_schedule)
"""Its shared weights and images: four batches of sixteen in an epoch."""
