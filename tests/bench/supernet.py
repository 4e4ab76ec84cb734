"""Training and cutting a supernet, against the package of the once-for-all authors in the same run.

The same elastic MobileNetV3 (width 1.0, 10 classes), the same sub-networks, the same images of 32 pixels in batches of
64, all cores. `step` and `extraction` time the sides in turn; `learning` trains both on CIFAR-10 with the same steps.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
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

STEPS = 300
TRIED = 12
SEEDS = 4
WIDEST = 0.02
SIDES = ("ofa", "ofa in channels_last", "hwnas")
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


def step(data: Path) -> Measured:
    """Milliseconds of a training step, in turn, medians: ours, theirs as it comes, theirs in our memory format.

    Where the processor has no AVX-512, ours also computes the gradient of depthwise convolutions by itself; the rows
    say which instruction set it was.

    Args:
        data: Not used.
    """
    keep_freed_memory()
    pair = Pair()
    images = torch.randn(BATCH, 3, SIDE, SIDE)
    labels = torch.arange(BATCH) % CLASSES
    taken: dict[str, list[float]] = {name: [] for name in SIDES}
    for n in range(WARM + ROUNDS):
        _, architecture = pair.drawn()
        for k in range(len(SIDES)):
            name = SIDES[(n + k) % len(SIDES)]
            seconds = _seconds(lambda name=name, a=architecture: pair.step(name, a, images, labels))  # type: ignore[misc]
            if n >= WARM:
                taken[name].append(seconds)
    median = {name: float(np.median(times)) for name, times in taken.items()}
    better = min(SIDES[:2], key=lambda name: median[name])
    rows = [
        Row(
            "training step, the better of ofa and ofa in channels_last, over hwnas",
            median[better] / median["hwnas"],
            "ratio",
            1.3,
            1.6,
            null=ITSELF,
        ),
        *(Row(f"training step, {name} over hwnas", median[name] / median["hwnas"], "ratio") for name in SIDES[:2]),
        *(
            Row(f"training step, {name}", 1000 * median[name], "ms", better="lower", contender=_whose(name))
            for name in SIDES
        ),
        Row("images trained on by hwnas", BATCH / median["hwnas"], "images/s"),
    ]
    conditions = {"batch": BATCH, "side": SIDE, "rounds": ROUNDS, "warm_rounds": WARM, "better": better}
    return Measured(rows, conditions, given=SAME, seeds=1, threads=torch.get_num_threads())


def extraction(data: Path) -> Measured:
    """Milliseconds of cutting a network out of a supernet, in turn, from the very first one: neither side is warm.

    Ours makes a plain module of every new choice once; so the first networks take longer than later ones.

    Args:
        data: Not used.
    """
    keep_freed_memory()
    pair = Pair()
    taken: dict[str, list[float]] = {"ofa": [], "hwnas": []}
    for n in range(STEADY):
        _, architecture = pair.drawn()
        cuts: dict[str, Callable[[], object]] = {
            "ofa": pair.theirs.get_active_subnet,
            "hwnas": lambda a=architecture: pair.ours.extract(a),  # type: ignore[misc]
        }
        for name in ("ofa", "hwnas") if n % 2 else ("hwnas", "ofa"):
            taken[name].append(_seconds(cuts[name]))
    rows = []
    for what, part, (must, goal) in (
        (f"the first {FIRST}", slice(0, FIRST), (None, None)),
        (f"the first {SEARCHED}", slice(0, SEARCHED), (3.0, 10.0)),
        (f"steady, after {SEARCHED}", slice(SEARCHED, None), (None, None)),
    ):
        mean = {name: float(np.mean(times[part])) for name, times in taken.items()}
        ratio = mean["ofa"] / mean["hwnas"]
        rows.append(Row(f"extraction, ofa over hwnas, {what}", ratio, "ratio", must, goal, null=ITSELF))
        rows += [
            Row(f"extraction, {name}, {what}, mean", 1000 * value, "ms", better="lower", contender=_whose(name))
            for name, value in mean.items()
        ]
    return Measured(rows, {"networks": STEADY}, given=SAME, seeds=1, threads=torch.get_num_threads())


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
