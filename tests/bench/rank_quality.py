"""Whether inherited weights order networks as training them alone does: NAS-Bench-201, whose true order is known.

A supernet of the benchmark's cells is trained on its own images (CIFAR-10) for some minutes by a program; then random
networks are cut from it, and the order of their validation accuracies is compared with that of the benchmark's test
accuracies after 200 epochs. The supernet has one cell a stage instead of five and images of 16 pixels instead of 32, so
that two cores take enough steps; the truth is that of the benchmark's whole networks.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from scipy.stats import kendalltau

from hwnas.core import Architecture, generator
from hwnas.cost import UnitSumCost
from hwnas.data import Augment, Batch, DataSource, Images, Preprocessing, batches
from hwnas.evaluation.shared_weights import calibrate_batch_norm, served
from hwnas.nn import ArchitectureParameters, STConcrete
from hwnas.training import (
    Bilevel,
    BlockWise,
    Sandwich,
    Schedule,
    SinglePath,
    StepRule,
    Trainer,
    accuracies,
    at_any_resolution,
)
from hwnas.training.memory import keep_freed_memory
from hwnas.zoo import NasBench201
from hwnas.zoo.nasbench201 import NasBench201Supernet
from tests.bench.figures import TIME, Measured, Null, Row, mean_of, need

MINUTES = 10.0
SEEDS = (0, 1, 2)
SIDE, BATCH, CHUNKS = 16, 64, 10
NETWORKS, TRIED = 100, 5000
LIMIT: int | None = None  # of images
GATES = STConcrete(1.0, runs="drawn")

Program = Callable[[NasBench201Supernet, Images], Iterator[tuple[float, StepRule]]]
"""What trains a supernet, one rule after another, each with its share of the time."""


@dataclass(frozen=True)
class Truth:
    """Some networks and what they reach when trained alone.

    Attributes:
        networks: Drawn without repetition from the connected ones.
        accuracy: Test accuracy after 200 epochs, 0..1.
    """

    networks: list[Architecture]
    accuracy: list[float]


def truth(data: Path, family: NasBench201, *, count: int, seed: int = 0) -> Truth:
    """Random networks of the benchmark with their accuracies.

    Args:
        data: Holds `nasbench201`.
        family: Names the networks.
        count: How many.
        seed: Of the draw.

    Raises:
        MissingDataError: If the benchmark is not there.
    """
    path = need(data / "nasbench201" / "archs.parquet")
    table = pq.read_table(path, columns=["arch_str", "connected", "cifar10_test_acc_200ep_pct"]).to_pydict()
    rows = np.flatnonzero(np.array(table["connected"]))
    chosen = np.random.default_rng(seed).choice(rows, count, replace=False)
    return Truth(
        [family.architecture(table["arch_str"][row]) for row in chosen],
        [table["cifar10_test_acc_200ep_pct"][row] / 100 for row in chosen],
    )


def single_path(supernet: NasBench201Supernet, validation: Images) -> Iterator[tuple[float, StepRule]]:
    """One uniformly drawn network a step."""
    yield 1.0, SinglePath(supernet)


def sandwich(supernet: NasBench201Supernet, validation: Images) -> Iterator[tuple[float, StepRule]]:
    """The largest, the smallest that is worth training, and two between."""
    largest = UnitSumCost.count(supernet.space, "macs").largest()[1]
    yield 1.0, Sandwich(supernet, largest=largest, smallest=supernet.family.smallest())


def block_wise(supernet: NasBench201Supernet, validation: Images) -> Iterator[tuple[float, StepRule]]:
    """The largest network alone, then the stages of one drawn network a step, by what the largest answers."""
    largest = UnitSumCost.count(supernet.space, "macs").largest()[1]
    yield 0.35, SinglePath(supernet, draw=at_any_resolution(supernet.space, largest))
    yield 0.65, BlockWise(supernet, teacher=copy.deepcopy(supernet), taught=largest)


def gumbel(supernet: NasBench201Supernet, validation: Images) -> Iterator[tuple[float, StepRule]]:
    """GDAS: hard draws from distributions that learn on validation images, one network a step."""
    parameters = ArchitectureParameters(supernet.space, noise=1e-3, rng=generator(0, "alphas"))
    adam = torch.optim.Adam(parameters.parameters(), lr=3e-4, betas=(0.5, 0.999), weight_decay=1e-3)
    yield (
        1.0,
        Bilevel(
            supernet,
            parameters,
            adam,
            lambda rng: next(batches(validation, batch_size=BATCH, generator=rng)),
            resolution=SIDE,
            gates=GATES,
        ),
    )


def rank(
    data: Path, *, program: Program, name: str, minutes: float | None = None, seeds: Sequence[int] = SEEDS
) -> Measured:
    """Kendall's tau between inherited and true accuracy, with norms re-estimated and with those of the supernet.

    Beside both: their tau to multiply-adds, and the partial tau to the truth that multiply-adds do not explain. An
    order near that of multiply-adds looks good without having learned which of two networks of one size is better.

    Args:
        data: Holds `cifar10_jpeg` and `nasbench201`.
        program: What trains the supernet.
        name: In the figures.
        minutes: Of training for each seed; MINUTES if not given.
        seeds: Of the supernet's weights and training; the networks are the same.

    Raises:
        MissingDataError: If the data is not there.
    """
    folder = need(data / "cifar10_jpeg")
    keep_freed_memory()
    family = NasBench201(cells=1, resolutions=(SIDE,))
    known = truth(data, family, count=NETWORKS)
    splits = DataSource("parquet", path=folder, validation=0.2, limit=LIMIT).load(0)
    preprocessing = Preprocessing.fit(splits.train)
    train, validation = Images(splits.train, preprocessing), Images(splits.validation, preprocessing)
    macs = UnitSumCost.count(family.space, "macs").batch(family.space.encode(known.networks))
    by_macs = _tau(macs, known.accuracy)
    per_seed = 60 * (MINUTES if minutes is None else minutes)
    ranked = [_ranked(family, program, seed, known, (train, validation), per_seed) for seed in seeds]

    def row(figure: str, of: Callable[[_Ranked], float], unit: str = "rank correlation") -> Row:
        return mean_of(f"{name}: {figure}", [of(one) for one in ranked], unit)

    ours = row("Kendall tau, norms re-estimated", lambda one: _tau(one.own, known.accuracy))
    return Measured(
        [
            replace(ours, goal=0.5, null=Null("multiply-adds", by_macs)),
            row("Kendall tau, the supernet's norms", lambda one: _tau(one.inherited, known.accuracy)),
            row("tau to multiply-adds, norms re-estimated", lambda one: _tau(one.own, macs)),
            row("tau to multiply-adds, the supernet's norms", lambda one: _tau(one.inherited, macs)),
            row("partial tau given multiply-adds, norms re-estimated", lambda one: partial_tau(one.own, known, macs)),
            row(
                "partial tau given multiply-adds, the supernet's norms",
                lambda one: partial_tau(one.inherited, known, macs),
            ),
            Row(
                f"{name}: Kendall tau of multiply-adds, for comparison",
                by_macs,
                "rank correlation",
                contender="null",
                given="multiply-adds",
            ),
            row("mean inherited accuracy", lambda one: float(np.mean(one.own)), "share"),
            row(
                "true accuracy of the one it takes for the best",
                lambda one: known.accuracy[int(np.argmax(one.own))],
                "share",
            ),
            Row(f"{name}: true accuracy of the best", max(known.accuracy), "share"),
            replace(row("training", lambda one: one.seconds / 60, "minutes"), must=30.0, better="lower", null=TIME),
            row("steps", lambda one: one.steps, "steps"),
        ],
        {
            "networks": len(known.networks),
            "validation_images": min(TRIED, len(validation)),
            "train_images": len(train),
            "batch": BATCH,
            "cells": family.cells,
            "side": SIDE,
        },
        given="images; no accuracy of any network",
        seeds=len(seeds),
        threads=torch.get_num_threads(),
    )


@dataclass(frozen=True)
class _Ranked:
    """What one trained supernet says of the networks.

    Attributes:
        own: Accuracies with norms re-estimated for each network.
        inherited: Accuracies with the norms of the supernet.
        seconds: Of training.
        steps: Of training.
    """

    own: list[float]
    inherited: list[float]
    seconds: float
    steps: int


def _ranked(
    family: NasBench201, program: Program, seed: int, known: Truth, images: tuple[Images, Images], seconds: float
) -> _Ranked:
    train, validation = images
    torch.manual_seed(seed)
    supernet = family.supernet()
    took, steps = 0.0, 0
    for share, rule in program(supernet, validation):
        taken, made = _train(supernet, rule, train, share * seconds, seed)
        took, steps = took + taken, steps + made
    own, inherited = _accuracies(supernet, known.networks, train, validation)
    return _Ranked(own, inherited, took, steps)


def _tau(found: Sequence[float] | NDArray[np.float64], truth: Sequence[float] | NDArray[np.float64]) -> float:
    return float(kendalltau(found, truth).statistic)


def partial_tau(found: Sequence[float], known: Truth, macs: NDArray[np.float64]) -> float:
    """Kendall's partial tau of found and true accuracies with multiply-adds held fixed (Kendall 1942).

    It is nan where one of them is ordered exactly by multiply-adds: nothing is left to be explained then.

    Args:
        found: Accuracies.
        known: The true ones.
        macs: Of the networks.
    """
    both, of_found, of_truth = _tau(found, known.accuracy), _tau(found, macs), _tau(known.accuracy, macs)
    left = (1 - of_found**2) * (1 - of_truth**2)
    return (both - of_found * of_truth) / math.sqrt(left) if left else math.nan


def _train(
    supernet: NasBench201Supernet, rule: StepRule, train: Images, seconds: float, seed: int
) -> tuple[float, int]:
    """Train for about so long; what it took, and in how many steps."""
    for part in supernet.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.track_running_stats = True  # SinglePath leaves the mixture out; here it is one of the figures
    augment = Augment(shift=0.125, flip=True)

    def serve(rng: np.random.Generator, *, count: int) -> Iterator[Batch]:
        served_already = 0
        while True:
            for batch in batches(train, batch_size=BATCH, generator=rng, augment=augment, drop_last=True):
                if served_already == count:
                    return
                served_already += 1
                yield batch

    def trainer(steps: int) -> Trainer:
        return Trainer(
            supernet,
            rule,
            batches=partial(serve, count=steps),
            steps=steps,
            schedule=Schedule(epochs=CHUNKS, learning_rate=0.1, weight_decay=5e-4, momentum=0.9),
        )

    before = {name: value.clone() for name, value in supernet.state_dict().items()}
    trainer(3).epoch(0, generator(seed, "warm up"))
    started = time.perf_counter()
    probe = max(3, min(30, round(seconds)))
    trainer(probe).epoch(0, generator(seed, "probe"))
    each = (time.perf_counter() - started) / probe
    supernet.load_state_dict(before)  # the probe is no head start
    steps = max(1, round(seconds / each / CHUNKS))
    found = trainer(steps)
    started = time.perf_counter()
    for k in range(CHUNKS):
        found.epoch(k, generator(seed, "epoch", k))
    return time.perf_counter() - started, steps * CHUNKS


def _accuracies(
    supernet: NasBench201Supernet, networks: list[Architecture], train: Images, validation: Images
) -> tuple[list[float], list[float]]:
    """On the first validation images: with each network's own norms, and with those it inherits."""
    own, inherited = [], []
    supernet.eval()
    for architecture in networks:
        network = supernet.extract(architecture).eval()
        inherited.append(_accuracy(network, validation))
        calibrate_batch_norm(network, SIDE, train, images=1024, seed=0)
        own.append(_accuracy(network, validation))
    return own, inherited


def _accuracy(network: torch.nn.Module, validation: Images) -> float:
    few: list[tuple[torch.Tensor, torch.Tensor]] = []
    seen = 0
    for images, labels in served(validation, SIDE):
        few.append((images, labels))
        seen += len(labels)
        if seen >= TRIED:
            break
    return accuracies(network, few)[0]


RANK: Mapping[str, partial[Measured]] = {
    "rank_single_path": partial(rank, program=single_path, name="single path"),
    "rank_sandwich": partial(rank, program=sandwich, name="sandwich"),
    "rank_gumbel": partial(rank, program=gumbel, name="hard Gumbel"),
    "rank_block_wise": partial(rank, program=block_wise, name="block-wise"),
}
"""More parts of `python -m tests.bench supernet`."""
