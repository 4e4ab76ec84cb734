"""Training and cutting a supernet, against the package of the once-for-all authors in the same run.

The same elastic MobileNetV3 (width 1.0, 10 classes), the same sub-networks, the same images of 32 pixels in batches of
64, all cores. `step` and `extraction` time the sides in turn; `learning` trains both on CIFAR-10 with the same steps.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hwnas.core import generator
from hwnas.data import DataSource, Images, Preprocessing, batches
from hwnas.evaluation.shared_weights import calibrate_batch_norm, served
from hwnas.training import accuracies
from hwnas.training.memory import keep_freed_memory
from hwnas.zoo import OfaMobileNetV3
from hwnas.zoo.ofa_checkpoint import load_ofa_state
from tests.bench.figures import (
    Bench,
    Contender,
    Measured,
    MissingDataError,
    Null,
    Row,
    mean_of,
    need,
    standard_error,
)
from tests.bench.rank_quality import RANK

SIDE, BATCH, CLASSES = 32, 64, 10
ROUNDS = 40
WARM = 5
"""Rounds before them, of every side."""

FIRST, SEARCHED, STEADY = 5, 60, 100
"""Extractions: the first networks of a session, those of a recipe's whole search, and all; the last are steady."""

TIMED_SEEDS = (0, 1, 2)
STEPS = 300
TRIED = 12
SEEDS = 4
WIDEST = 0.02
SIDES = ("ofa", "ofa in channels_last", "hwnas")
EXTRACTED = ("ofa", "hwnas")
ITSELF = Null("ofa itself", 1.0)
SAME = "the same weights, sub-networks, images, optimiser and threads"


def _theirs() -> Any:
    """Their network.

    Raises:
        MissingDataError: If the package is not installed.
    """
    try:
        from ofa.imagenet_classification.elastic_nn.networks import OFAMobileNetV3
    except ImportError as error:
        raise MissingDataError(f"needs the package ofa: {error}; pip install ofa tqdm pyyaml") from error
    return OFAMobileNetV3(
        n_classes=CLASSES, dropout_rate=0, ks_list=[3, 5, 7], expand_ratio_list=[3, 4, 6], depth_list=[2, 3, 4]
    )


class Pair:
    """Both supernets with the same weights; theirs a second time in another memory format.

    Args:
        seed: Of the weights and of the networks drawn.
    """

    def __init__(self, seed: int = 0) -> None:
        torch.manual_seed(seed)
        self.theirs, self.theirs_last = _theirs(), _theirs()
        self.family = OfaMobileNetV3(classes=CLASSES, resolutions=(SIDE,))
        self.ours = self.family.supernet()
        self.theirs_last.load_state_dict(self.theirs.state_dict())
        load_ofa_state(self.ours, self.theirs.state_dict())
        self.ours.to(memory_format=torch.channels_last)  # as the training loop does
        self.theirs_last.to(memory_format=torch.channels_last)
        random.seed(seed)
        nets = zip(SIDES, (self.theirs, self.theirs_last, self.ours), strict=True)
        self.optimizers = {
            name: torch.optim.SGD(net.parameters(), lr=0.02, momentum=0.9, nesterov=True, weight_decay=3e-5)
            for name, net in nets
        }

    def drawn(self) -> tuple[Any, Any]:
        """One random network in their terms and in ours; it is active in theirs."""
        chosen = self.theirs.sample_active_subnet()
        self.theirs_last.set_active_subnet(chosen["ks"], chosen["e"], chosen["d"])
        return chosen, self.family.architecture(chosen["ks"], chosen["e"], chosen["d"])

    def step(self, name: str, architecture: Any, images: Tensor, labels: Tensor) -> None:
        """Forward, backward and update of one network."""
        optimizer = self.optimizers[name]
        optimizer.zero_grad(set_to_none=True)
        if name == "ofa":
            logits = self.theirs(images)
        elif name == "ofa in channels_last":
            logits = self.theirs_last(images.to(memory_format=torch.channels_last))
        else:
            logits = self.ours(images.to(memory_format=torch.channels_last), architecture)
        F.cross_entropy(logits, labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def step(data: Path, *, seeds: Sequence[int] = TIMED_SEEDS, rounds: int = ROUNDS, warm: int = WARM) -> Measured:
    """Milliseconds of a training step, in turn: ours, theirs as it comes, theirs in our memory format.

    Of each seed the medians over its rounds, and the ratio of the better of theirs to ours. Where the processor has no
    AVX-512, ours also computes the gradient of depthwise convolutions by itself; the rows say which instruction set it
    was.

    Args:
        data: Not used.
        seeds: Of weights and networks.
        rounds: Of each seed; every side takes one step in each.
        warm: Rounds before them.
    """
    keep_freed_memory()
    medians = [_step_medians(seed, rounds, warm) for seed in seeds]
    of = {name: [median[name] for median in medians] for name in SIDES}
    better = [min(SIDES[:2], key=lambda name: median[name]) for median in medians]
    rows = [
        mean_of(
            "training step, the better of ofa and ofa in channels_last, over hwnas",
            [median[name] / median["hwnas"] for name, median in zip(better, medians, strict=True)],
            "ratio",
            must=1.3,
            goal=1.6,
            null=ITSELF,
        ),
        *(
            mean_of(f"training step, {name} over hwnas", [m[name] / m["hwnas"] for m in medians], "ratio")
            for name in SIDES[:2]
        ),
        *(
            mean_of(f"training step, {name}", [1000 * s for s in of[name]], "ms", "lower", contender=_whose(name))
            for name in SIDES
        ),
        mean_of("images trained on by hwnas", [BATCH / seconds for seconds in of["hwnas"]], "images/s"),
    ]
    conditions = {"batch": BATCH, "side": SIDE, "rounds": rounds, "warm_rounds": warm, "better": better}
    return Measured(rows, conditions, given=SAME, seeds=len(seeds), threads=torch.get_num_threads())


def _step_medians(seed: int, rounds: int, warm: int) -> dict[str, float]:
    """Seconds of a step of each side."""
    pair = Pair(seed)
    images = torch.randn(BATCH, 3, SIDE, SIDE)
    labels = torch.arange(BATCH) % CLASSES
    taken: dict[str, list[float]] = {name: [] for name in SIDES}
    for n in range(warm + rounds):
        _, architecture = pair.drawn()
        for k in range(len(SIDES)):
            name = SIDES[(n + k) % len(SIDES)]
            seconds = _seconds(lambda name=name, a=architecture: pair.step(name, a, images, labels))  # type: ignore[misc]
            if n >= warm:
                taken[name].append(seconds)
    return {name: float(np.median(times)) for name, times in taken.items()}


def extraction(data: Path, *, seeds: Sequence[int] = TIMED_SEEDS) -> Measured:
    """Milliseconds of cutting a network out of a supernet, in turn, from the very first one: neither side is warm.

    Ours makes a plain module of every new choice once, and keeps it; so the first networks of a process take longer.
    Every seed therefore runs in a process of its own.

    Args:
        data: Not used.
        seeds: Of weights and networks.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        taken = list(pool.map(extraction_seconds, seeds))
    threads = torch.get_num_threads()
    return Measured(extraction_rows(taken), {"networks": STEADY}, given=SAME, seeds=len(seeds), threads=threads)


def extraction_rows(taken: Sequence[Mapping[str, Sequence[float]]]) -> list[Row]:
    """Means over the first networks, those of a whole search, and the steady ones.

    Args:
        taken: For each seed the seconds of every network, by side.
    """
    rows = []
    for what, part, (must, goal) in (
        (f"the first {FIRST}", slice(0, FIRST), (None, None)),
        (f"the first {SEARCHED}", slice(0, SEARCHED), (3.0, 10.0)),
        (f"steady, after {SEARCHED}", slice(SEARCHED, None), (None, None)),
    ):
        mean = {name: [float(np.mean(times[name][part])) for times in taken] for name in EXTRACTED}
        ratios = [theirs / ours for theirs, ours in zip(mean["ofa"], mean["hwnas"], strict=True)]
        figure = f"extraction, ofa over hwnas, {what}"
        rows.append(mean_of(figure, ratios, "ratio", must=must, goal=goal, null=None if must is None else ITSELF))
        rows += [
            mean_of(f"extraction, {name}, {what}", [1000 * s for s in seconds], "ms", "lower", contender=_whose(name))
            for name, seconds in mean.items()
        ]
    return rows


def extraction_seconds(seed: int) -> dict[str, list[float]]:
    """Of each network, by side."""
    keep_freed_memory()
    pair = Pair(seed)
    taken: dict[str, list[float]] = {name: [] for name in EXTRACTED}
    for n in range(STEADY):
        _, architecture = pair.drawn()
        cuts: dict[str, Callable[[], object]] = {
            "ofa": pair.theirs.get_active_subnet,
            "hwnas": lambda a=architecture: pair.ours.extract(a),  # type: ignore[misc]
        }
        for name in EXTRACTED if n % 2 else reversed(EXTRACTED):
            taken[name].append(_seconds(cuts[name]))
    return taken


def _whose(side: str) -> Contender:
    return "ours" if side == "hwnas" else "rival"


def learning(data: Path) -> Measured:
    """Mean validation accuracy of random networks after the same steps on the same images.

    Before that, one step of both in double precision, whose logits are the same to rounding: what differs later began
    as rounding, which training makes larger with every step.

    Args:
        data: Holds `cifar10_jpeg`.

    Raises:
        MissingDataError: If it does not.
    """
    folder = need(data / "cifar10_jpeg")
    keep_freed_memory()
    splits = DataSource("parquet", path=folder, limit=12_000).load(0)
    preprocessing = Preprocessing.fit(splits.train)
    train, validation = Images(splits.train, preprocessing), Images(splits.validation, preprocessing)
    shares = np.array([_learned(seed, train, validation) for seed in range(SEEDS)])
    theirs, ours = shares.mean(axis=1).T
    ahead = (ours - theirs).tolist()
    error = standard_error(ahead)
    # A noisy run would loosen the bound that it makes; it never gets wider than two points.
    must = -min(2 * error, WIDEST) if error is not None else 0.0
    figure = "accuracy after the same steps"
    after_theirs, after_ours, before = _after_one_step()
    return Measured(
        [
            Row(
                "logits after one step in double precision, largest difference",
                float((after_theirs - after_ours).abs().max()),
                "logits",
                1e-9,
                better="lower",
                seeds=1,
                few="equal to rounding, whatever the seed",
                null=Null("untrained: what that step moves", float((after_theirs - before).abs().max())),
            ),
            Row(
                f"{figure}, hwnas minus ofa, at least minus two standard errors",
                float(np.mean(ahead)),
                "share",
                must,
                null=Null("guessing", 1 / CLASSES - float(theirs.mean())),
            ),
            *(Row(f"seed {n}, hwnas minus ofa", value, "share", seeds=1) for n, value in enumerate(ahead)),
            mean_of(f"{figure}, ofa", theirs.tolist(), "share", contender="rival"),
            mean_of(f"{figure}, hwnas", ours.tolist(), "share"),
        ],
        {"steps": STEPS, "networks": TRIED, "images": len(train), "validation_images": len(validation)},
        given=SAME,
        seeds=SEEDS,
        threads=torch.get_num_threads(),
    )


def _after_one_step() -> tuple[Tensor, Tensor, Tensor]:
    """Logits of both after one step of both in double precision, and theirs before it."""
    pair = Pair()
    chooser = torch.Generator().manual_seed(0)
    images, unseen = torch.randn(2, 16, 3, SIDE, SIDE, generator=chooser, dtype=torch.float64)
    for net in (pair.theirs, pair.ours):
        net.double()
    _, architecture = pair.drawn()
    pair.theirs.eval()
    with torch.no_grad():
        before: Tensor = pair.theirs(unseen)
    pair.theirs.train()
    for name in ("ofa", "hwnas"):
        pair.step(name, architecture, images, torch.arange(16) % CLASSES)
    pair.theirs.eval()
    pair.ours.eval()
    with torch.no_grad():
        return pair.theirs(unseen), pair.ours(unseen, architecture), before


def _learned(seed: int, train: Images, validation: Images) -> list[tuple[float, float]]:
    """The accuracies of networks drawn from both supernets after the same steps: theirs, ours."""
    pair = Pair(seed)
    taken, epoch = 0, 0
    while taken < STEPS:
        for batch in batches(train, batch_size=BATCH, generator=generator(seed, "epoch", epoch), drop_last=True):
            _, architecture = pair.drawn()
            for name in ("ofa", "hwnas"):
                pair.step(name, architecture, batch.images(SIDE), batch.labels)
            taken += 1
            if taken == STEPS:
                break
        epoch += 1
    shares = []
    for _ in range(TRIED):
        _, architecture = pair.drawn()
        networks = pair.theirs.get_active_subnet(), pair.ours.extract(architecture)
        shares.append((_accuracy(networks[0], train, validation), _accuracy(networks[1], train, validation)))
    return shares


def _accuracy(network: nn.Module, train: Images, validation: Images) -> float:
    calibrate_batch_norm(network, SIDE, train, images=1024, seed=0)
    network.eval()
    return accuracies(network, served(validation, SIDE))[0]


SUPERNET: Bench = {"step": step, "extraction": extraction, "learning": learning, **RANK}
"""The parts of `python -m tests.bench supernet`."""
