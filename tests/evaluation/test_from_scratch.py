"""Candidates that are trained on their own."""

import pickle

import pytest

from hwnas.data import Augment, DataSource
from hwnas.evaluation.from_scratch import FromScratch
from hwnas.training import Schedule
from hwnas.zoo import Family, family

SOURCE = DataSource("digits", limit=400)


def cells() -> Family:
    return family("dpp_net", {"cells": [2], "growths": [8], "resolutions": [8]}, channels=1, classes=10)


def evaluator(epochs: int = 1, *, rate: float = 0.1, batch: int = 32, **more: object) -> FromScratch:
    return FromScratch(
        cells(),
        SOURCE,
        seed=0,
        schedule=Schedule(epochs, learning_rate=rate),
        batch_size=batch,
        **more,  # type: ignore[arg-type]
    )


def accuracy(evaluate: FromScratch, seed: int = 0) -> float:
    found = evaluate(cells().default(), fidelity="full", weights=None, seed=seed)
    assert set(found) == {"accuracy", "balanced_accuracy", "error"}
    return float(getattr(found["accuracy"], "value", -1.0))


def test_more_epochs_are_better_and_the_seed_decides_everything() -> None:
    evaluate = evaluator(12)
    assert accuracy(evaluate) > max(0.5, accuracy(evaluator(1)))
    assert accuracy(evaluate) == accuracy(evaluate)
    assert len({accuracy(evaluator(2), seed) for seed in range(4)}) > 1


def test_a_worker_trains_the_same_network() -> None:
    here = evaluator(2)
    expected = accuracy(here)
    sent: FromScratch = pickle.loads(pickle.dumps(here))  # noqa: S301 - made just now
    assert here._images is not None and sent._images is None, "images stay here"
    assert accuracy(sent) == expected


@pytest.mark.parametrize(
    "other",
    [
        evaluator(6, batch=16),
        evaluator(6, rate=0.01),
        evaluator(6, augment=Augment(shift=0.3)),
        evaluator(6, label_smoothing=0.6),
    ],
)
def test_every_setting_counts(other: FromScratch) -> None:
    assert any(accuracy(other, seed) != accuracy(evaluator(6), seed) for seed in range(3))
