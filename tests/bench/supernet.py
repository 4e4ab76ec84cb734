"""Training and cutting a supernet, against the package of the once-for-all authors in the same run.

The same elastic MobileNetV3 (width 1.0, 10 classes), the same sub-networks, the same images of 32 pixels in batches of
64, all cores. `speed` times both in turn; `learning` trains both on CIFAR-10 with the same steps.
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
from tests.bench.figures import Bench, Measured, MissingDataError, Row, need
from tests.bench.rank_quality import RANK

SIDE, BATCH, CLASSES = 32, 64, 10
ROUNDS = 40
WARM = 40  # before them: until then some choice is new in every network, whose plain module is made for the first time
STEPS = 300
TRIED = 12
SEEDS = 2


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
    """Both supernets with the same weights.

    Args:
        seed: Of the weights and of the networks drawn.
    """

    def __init__(self, seed: int = 0) -> None:
        torch.manual_seed(seed)
        self.theirs = _theirs()
        self.family = OfaMobileNetV3(classes=CLASSES, resolutions=(SIDE,))
        self.ours = self.family.supernet()
        load_ofa_state(self.ours, self.theirs.state_dict())
        self.ours.to(memory_format=torch.channels_last)  # as the training loop does
        random.seed(seed)
        self.optimizers = {
            name: torch.optim.SGD(net.parameters(), lr=0.02, momentum=0.9, nesterov=True, weight_decay=3e-5)
            for name, net in (("ofa", self.theirs), ("hwnas", self.ours))
        }

    def drawn(self) -> tuple[Any, Any]:
        """One random network in their terms and in ours; it is active in theirs."""
        chosen = self.theirs.sample_active_subnet()
        return chosen, self.family.architecture(chosen["ks"], chosen["e"], chosen["d"])

    def step(self, name: str, architecture: Any, images: Tensor, labels: Tensor) -> None:
        """Forward, backward and update of one network."""
        optimizer = self.optimizers[name]
        optimizer.zero_grad(set_to_none=True)
        if name == "ofa":
            logits = self.theirs(images)
        else:
            logits = self.ours(images.to(memory_format=torch.channels_last), architecture)
        F.cross_entropy(logits, labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def speed(data: Path) -> Measured:
    """Milliseconds of a training step and of cutting out a network, in turn, medians.

    Args:
        data: Not used.
    """
    keep_freed_memory()
    pair = Pair()
    images = torch.randn(BATCH, 3, SIDE, SIDE)
    labels = torch.arange(BATCH) % CLASSES
    steps: dict[str, list[float]] = {"ofa": [], "hwnas": []}
    cuts: dict[str, list[float]] = {"ofa": [], "hwnas": []}
    first: dict[str, float] = {}
    for n in range(WARM + ROUNDS):
        _, architecture = pair.drawn()
        for name in ("ofa", "hwnas") if n % 2 else ("hwnas", "ofa"):
            taken = _seconds(lambda name=name, a=architecture: pair.step(name, a, images, labels))  # type: ignore[misc]
            cut = (
                (lambda: pair.theirs.get_active_subnet())
                if name == "ofa"
                else (lambda a=architecture: pair.ours.extract(a))
            )
            cutting = _seconds(cut)
            if n == 0:
                first[name] = cutting
            if n >= WARM:
                steps[name].append(taken)
                cuts[name].append(cutting)
    step = {name: float(np.median(times)) for name, times in steps.items()}
    cut_s = {name: float(np.median(times)) for name, times in cuts.items()}
    return Measured(
        [
            Row("training step, ofa over hwnas", step["ofa"] / step["hwnas"], "ratio", 1.3, 2.0),
            Row("extraction, ofa over hwnas", cut_s["ofa"] / cut_s["hwnas"], "ratio", 5.0),
            *(Row(f"training step, {name}", 1000 * value, "ms", better="lower") for name, value in step.items()),
            *(Row(f"extraction, {name}", 1000 * value, "ms", better="lower") for name, value in cut_s.items()),
            *(Row(f"the very first extraction, {name}", 1000 * first[name], "ms", better="lower") for name in cut_s),
            Row("images trained on by hwnas", BATCH / step["hwnas"], "images/s"),
        ],
        {"batch": BATCH, "side": SIDE, "rounds": ROUNDS, "warm_rounds": WARM, "torch_threads": torch.get_num_threads()},
    )


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
    noise = float(np.sqrt(2 * 0.25 / len(validation)))
    return Measured(
        [
            Row("logits after one step in double precision, largest difference", _apart(), "", 1e-9, better="lower"),
            Row("accuracy after the same steps, hwnas minus ofa", float((ours - theirs).mean()), "share", -2 * noise),
            *(Row(f"seed {seed}, hwnas minus ofa", float(ours[seed] - theirs[seed]), "share") for seed in range(SEEDS)),
            Row("accuracy after the same steps, ofa", float(theirs.mean()), "share"),
            Row("accuracy after the same steps, hwnas", float(ours.mean()), "share"),
            Row("standard error of a difference of two such accuracies", noise, "share", better="lower"),
        ],
        {
            "steps": STEPS,
            "networks": TRIED,
            "seeds": SEEDS,
            "images": len(train),
            "validation_images": len(validation),
            "torch_threads": torch.get_num_threads(),
        },
    )


def _apart() -> float:
    """How far the logits of both are apart after one step of both in double precision."""
    pair = Pair()
    chooser = torch.Generator().manual_seed(0)
    images, unseen = torch.randn(2, 16, 3, SIDE, SIDE, generator=chooser, dtype=torch.float64)
    for net in (pair.theirs, pair.ours):
        net.double()
    _, architecture = pair.drawn()
    for name in ("ofa", "hwnas"):
        pair.step(name, architecture, images, torch.arange(16) % CLASSES)
    pair.theirs.eval()
    pair.ours.eval()
    with torch.no_grad():
        difference: Tensor = pair.theirs(unseen) - pair.ours(unseen, architecture)
    return float(difference.abs().max())


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


SUPERNET: Bench = {"speed": speed, "learning": learning, **RANK}
"""The parts of `python -m tests.bench supernet`."""
