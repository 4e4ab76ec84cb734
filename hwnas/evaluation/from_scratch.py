"""Accuracy of a network that was trained on its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from hwnas.core import Architecture, Metric, generator
from hwnas.data import Augment, Batch, DataSource, Images, Preprocessing, Splits, batches
from hwnas.evaluation.shared_weights import served
from hwnas.training import Placement, Plain, Schedule, Trainer, accuracy_metrics, answers
from hwnas.zoo import Family


class FromScratch:
    """Evaluates architectures by a short training of each from random weights, as methods without a supernet do.

    First weights and the order of the images follow from the question's seed, so an answer can be computed anywhere.

    Args:
        family: The space and its builder.
        source: The images, split with `seed`.
        seed: Of the split.
        schedule: Of each network's training.
        batch_size: Of the training.
        augment: Random changes of training images.
        label_smoothing: Share of each label spread over all classes.
        splits: The images, if they are loaded already.
        placement: Where candidates are trained and evaluated.

    Raises:
        DataError: When first called, if the images cannot be read.
    """

    def __init__(
        self,
        family: Family,
        source: DataSource,
        *,
        seed: int,
        schedule: Schedule,
        batch_size: int,
        augment: Augment | None = None,
        label_smoothing: float = 0.0,
        splits: Splits | None = None,
        placement: Placement | None = None,
    ) -> None:
        self.family = family
        self.source = source
        self.seed = seed
        self.schedule = schedule
        self.batch_size = batch_size
        self.augment = augment
        self.label_smoothing = label_smoothing
        self.placement = placement or Placement()
        self._splits = splits
        self._images: tuple[Images, Images] | None = None

    def __getstate__(self) -> dict[str, Any]:
        # Images stay here; a worker reads its own.
        return self.__dict__ | {"_splits": None, "_images": None}

    def __call__(
        self,
        architecture: Architecture,
        *,
        fidelity: str,  # noqa: ARG002 - there is one kind: the schedule's epochs
        weights: str | None,  # noqa: ARG002 - nothing is inherited
        seed: int,
    ) -> Mapping[str, float | Metric]:
        """Validation accuracy, plain and balanced, and the error, with the standard error of each.

        Raises:
            NonFiniteLossError: If the training diverges.
        """
        train, validation = self._parts()
        side = int(architecture["resolution"])
        torch.manual_seed(seed)
        network = self.family.build_network(architecture)

        def serve(rng: Any) -> Iterator[Batch]:
            return batches(train, batch_size=self.batch_size, generator=rng, augment=self.augment, drop_last=True)

        trainer = Trainer(
            network,
            Plain(network, side, label_smoothing=self.label_smoothing),
            batches=serve,
            steps=max(1, len(train) // self.batch_size),
            schedule=self.schedule,
            placement=self.placement,
            what="the candidate",
        )
        for k in range(self.schedule.epochs):
            trainer.epoch(k, generator(seed, "epoch", k))
        return accuracy_metrics(answers(network, served(validation, side)))

    def prepare(self) -> None:
        """Read the images.

        Raises:
            DataError: If they cannot be read.
        """
        self._parts()

    def _parts(self) -> tuple[Images, Images]:
        if self._images is None:
            splits = self._splits or self.source.load(self.seed)
            preprocessing = Preprocessing.fit(splits.train)
            train, validation = (
                Images(part, preprocessing, device=self.placement.device) for part in (splits.train, splits.validation)
            )
            self._images = train, validation
        return self._images
