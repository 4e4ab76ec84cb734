"""DARTS over any model space and any torch data set, for scripts: construct, `fit()`, `export()`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from hwnas.core import Option, RecipeError, generator
from hwnas.nn import ArchitectureParameters, ModelSpace, Softmax
from hwnas.training.bilevel import Bilevel
from hwnas.training.trainer import Schedule, Trainer


class PairBatch:
    """Images and targets as a data set gives them, in the form that step rules take.

    Args:
        images: [n, c, side, side].
        labels: [n, ...], whatever the loss takes.

    Example:
        >>> batch = PairBatch(torch.zeros(2, 1, 8, 8), torch.tensor([0, 1]))
        >>> len(batch), batch.images(8).shape
        (2, torch.Size([2, 1, 8, 8]))
    """

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self._images = images
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    def split(self, n: int) -> list[PairBatch]:
        """Up to n parts of nearly equal size, in order, none empty."""
        parts = zip(self._images.tensor_split(n), self.labels.tensor_split(n), strict=True)
        return [PairBatch(images, labels) for images, labels in parts if len(labels)]

    def images(self, size: int) -> Tensor:
        """The images, which have one size.

        Raises:
            RecipeError: If another is asked for.
        """
        if self._images.shape[-2:] != (size, size):
            raise RecipeError(
                f"the data set gives images of {tuple(self._images.shape[-2:])}, the model space is for {size}",
                hint="super().__init__(resolutions=(side,), channels=...) with the data set's side",
            )
        return self._images


class DartsTrainer:
    """Searches a model space by gradient.

    Weights follow the training loss, the probability of each option the validation loss; `export` says the most likely
    options. A study does the same under limits and a budget, with resume (`hwnas.strategies.Darts`); this is for a
    script that has a model, a loss and two data sets. Source: Liu et al. 2019 (arXiv 1806.09055), algorithm 1.

    Args:
        model: With choices in it; its images have one resolution.
        loss: From outputs and targets to a number [].
        metrics: From outputs and targets to named numbers, reported for each epoch's validation.
        optimizer: Of the model's parameters.
        num_epochs: Over the training set.
        dataset_train: Pairs of image [c, side, side] and target; weights learn from it.
        dataset_valid: Likewise; probabilities learn from it.
        batch_size: Of both.
        arc_learning_rate: Of the probabilities' logits, by Adam.
        unrolled: Whether an architecture step looks one weight step ahead (the paper's second order; needs SGD).
        seed: Of the order of the images and the logits' noise.
        log: Told of each epoch in one line.

    Raises:
        RecipeError: If the model has several resolutions, or a data set is empty.

    Example:
        >>> from torch import nn
        >>> from torch.utils.data import TensorDataset
        >>> from hwnas.nn import LayerChoice
        >>> class Net(ModelSpace):
        ...     def __init__(self):
        ...         super().__init__(resolutions=(4,), channels=1)
        ...         self.act = LayerChoice({"relu": nn.ReLU(), "nothing": nn.Identity()}, label="act")
        ...         self.head = nn.Linear(16, 2)
        ...
        ...     def forward(self, x):
        ...         return self.head(self.act(x).flatten(1))
        >>> data, net = TensorDataset(torch.randn(8, 1, 4, 4), torch.arange(8) % 2), Net()
        >>> trainer = DartsTrainer(
        ...     net,
        ...     loss=nn.CrossEntropyLoss(),
        ...     metrics=lambda output, target: {"accuracy": float((output.argmax(1) == target).float().mean())},
        ...     optimizer=torch.optim.SGD(net.parameters(), lr=0.1),
        ...     num_epochs=1,
        ...     dataset_train=data,
        ...     dataset_valid=data,
        ... )
        >>> trainer.fit()
        >>> sorted(trainer.export())
        ['act', 'resolution']
    """

    def __init__(
        self,
        model: ModelSpace,
        *,
        loss: Callable[[Tensor, Tensor], Tensor],
        metrics: Callable[[Tensor, Tensor], Mapping[str, float]],
        optimizer: torch.optim.Optimizer,
        num_epochs: int,
        dataset_train: Dataset[Any],
        dataset_valid: Dataset[Any],
        batch_size: int = 64,
        arc_learning_rate: float = 3e-4,
        unrolled: bool = False,
        seed: int = 0,
        log: Callable[[str], None] | None = None,
    ) -> None:
        if len(model.resolutions) > 1:
            raise RecipeError(
                f"DartsTrainer: {model.space_name} has the resolutions {list(model.resolutions)}; a data set has one",
                hint="search it with a recipe, or give the model one resolution",
            )
        self.model = model
        self.metrics = metrics
        self.num_epochs = num_epochs
        self.seed = seed
        self.history: list[dict[str, float]] = []
        self._log = log
        self._train, self._valid = _Pairs(dataset_train, batch_size), _Pairs(dataset_valid, batch_size)
        self.parameters = ArchitectureParameters(model.space, noise=1e-3, rng=generator(seed, "darts"))
        rule = Bilevel(
            model,
            self.parameters,
            torch.optim.Adam(self.parameters.parameters(), lr=arc_learning_rate, betas=(0.5, 0.999), weight_decay=1e-3),
            self._valid.one,
            resolution=model.resolutions[0],
            gates=Softmax(),
            look_ahead=(lambda: optimizer) if unrolled else None,
            loss=loss,
        )
        self._trainer = Trainer(
            model,
            rule,
            batches=self._train.epoch,
            steps=len(self._train),
            schedule=Schedule(num_epochs),
            optimizer=optimizer,
        )

    def fit(self) -> None:
        """Train for all epochs; `history` gets a row for each.

        Raises:
            NonFiniteLossError: At the first loss that is not a finite number.
        """
        for k in range(self.num_epochs):
            row = self._trainer.epoch(k, generator(self.seed, "darts", k))
            row |= self.validate()
            self.history.append(row)
            if self._log is not None:
                self._log(f"epoch {k + 1}: " + ", ".join(f"{name} {value:.4g}" for name, value in row.items()))

    def validate(self) -> dict[str, float]:
        """Metrics of the mixture as it stands, means over the validation images."""
        sums: dict[str, float] = {}
        images = 0
        self.model.eval()
        with torch.no_grad():
            gates = Softmax()(self.parameters(), generator(self.seed))
            for batch in self._valid.epoch(generator(self.seed)):
                output = self.model(batch.images(self.model.resolutions[0]), gates)
                for name, value in self.metrics(output, batch.labels).items():
                    sums[name] = sums.get(name, 0.0) + value * len(batch)
                images += len(batch)
        return {f"validation {name}": total / images for name, total in sums.items()}

    def export(self) -> dict[str, Option]:
        """The most likely option of every decision that counts; `model.extract` makes it a network."""
        return dict(self.parameters.most_likely())


class _Pairs:
    """A data set in batches, in an order that a generator decides."""

    def __init__(self, dataset: Dataset[Any], batch_size: int) -> None:
        self.dataset, self.batch_size = dataset, batch_size
        self.images = len(dataset)  # type: ignore[arg-type]
        if not self.images or batch_size < 1:
            raise RecipeError(
                f"DartsTrainer: a data set of {self.images} images in batches of {batch_size}; expected some"
            )

    def __len__(self) -> int:
        return len(self._starts())

    def _starts(self) -> range:
        """Where batches start. A last one of a single image joins the one before: batch norm may refuse it."""
        alone = self.images > 1 and self.images % self.batch_size == 1
        return range(0, self.images - 1 if alone else self.images, self.batch_size)

    def epoch(self, rng: np.random.Generator) -> Iterator[PairBatch]:
        order = rng.permutation(self.images)
        starts = self._starts()
        for start in starts:
            end = self.images if start == starts[-1] else start + self.batch_size
            yield self._batch(order[start:end])

    def one(self, rng: np.random.Generator) -> PairBatch:
        return self._batch(rng.choice(self.images, size=min(self.batch_size, self.images), replace=False))

    def _batch(self, positions: Any) -> PairBatch:
        images, labels = default_collate([self.dataset[int(n)] for n in positions])
        return PairBatch(images, labels)
