"""A tiny family with made-up images for strategies that search by gradient; multiply-adds need no latency table."""

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

STEPS, SIZE = 4, 16


@cache
def tiny() -> MobileNetV3:
    toy = FAMILIES["toy"]
    assert isinstance(toy, MobileNetV3)
    return replace(
        toy, name="tiny", resolutions=(6, 8), stem_width=4, widths=(4, 8), strides=(1, 2), classes=3, head_width=8
    )


@cache
def images() -> Images:
    """Three classes of noisy images, told apart by where they are bright."""
    rng = np.random.default_rng(0)
    labels = np.arange(STEPS * SIZE) % 3
    pixels = rng.integers(0, 120, (len(labels), 8, 8, 1), dtype=np.uint8)
    for n, label in enumerate(labels):
        pixels[n, 3 * label : 3 * label + 2] += 120
    part = Part(ImageData(pixels, labels, ("a", "b", "c"), "made up"), np.arange(len(labels)))
    return Images(part, Preprocessing.fit(part))


def macs(architecture: Architecture) -> float:
    return sum(block.macs for block in tiny().space.blocks_of(architecture))


def _metrics(architecture: Architecture) -> dict[str, float]:
    return {"accuracy": 1 - 1 / (1 + len(architecture) * int(architecture["resolution"]))}


def _serve(rng: np.random.Generator) -> Iterator[Batch]:
    return batches(images(), batch_size=SIZE, generator=rng, drop_last=True)


def _one(rng: np.random.Generator) -> Batch:
    return next(_serve(rng))


def _supernet() -> Supernet:
    torch.manual_seed(0)
    return tiny().supernet()


def _schedule(epochs: int) -> Schedule:
    return Schedule(epochs, learning_rate=0.05)


ONE_SHOT = OneShot(_supernet, _serve, _one, steps=STEPS, schedule=_schedule)


def relaxed_problem(*, limits: Sequence[Limit] = ()) -> Problem:
    space = tiny().space
    return Problem(
        space,
        FromFunction(_metrics),
        (Objective.named("accuracy"), Objective.named("macs")),
        (UnitSumCost.count(space, "macs"),),
        tuple(limits),
        one_shot=ONE_SHOT,
    )
