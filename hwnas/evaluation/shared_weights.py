"""Accuracy of a network cut from a trained supernet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from hwnas.core import Architecture, Metric, StoreError, generator
from hwnas.data import DataSource, Images, Preprocessing, Splits
from hwnas.evaluation.state_file import load_state
from hwnas.nn import Supernet, reestimate_batch_norm
from hwnas.training import accuracy_metrics, answers
from hwnas.zoo import Family

_BATCH = 256
_BATCH_PIXELS = 256 * 224**2  # in a batch, so that larger images do not take more memory


def _batch_size(side: int) -> int:
    """Images of this side that are run at once; batch norm needs two."""
    return max(2, min(_BATCH, _BATCH_PIXELS // side**2))


class SharedWeights:
    """Evaluates architectures with the weights of a supernet: extract, re-estimate batch norm, validate.

    What a worker process needs is only what the constructor is given: it reads images and weights for itself.

    Args:
        family: The space and its builder.
        source: The images, split with `seed`.
        seed: Of the split, and of the choice of images for batch norm.
        checkpoints: Folder of the weights; version "supernet@12" is the file "supernet@12.ckpt" with the supernet's
            state under "module".
        batch_norm_images: Training images that batch-norm statistics are averaged over, without augmentation.
        splits: The images, if they are loaded already.
        device: The processor that networks are evaluated on.

    Raises:
        DataError: When first called, if the images cannot be read.
    """

    def __init__(
        self,
        family: Family,
        source: DataSource,
        *,
        seed: int,
        checkpoints: Path,
        batch_norm_images: int = 2048,
        splits: Splits | None = None,
        device: torch.device | Literal["cpu", "cuda"] = "cpu",
    ) -> None:
        self.family = family
        self.source = source
        self.seed = seed
        self.checkpoints = checkpoints
        self.batch_norm_images = batch_norm_images
        self.device = torch.device(device)
        self._splits = splits
        self._images: tuple[Images, Images] | None = None
        self._supernet: tuple[str, Supernet] | None = None

    def __getstate__(self) -> dict[str, Any]:
        # Images and weights stay here; a worker reads its own.
        return self.__dict__ | {"_splits": None, "_images": None, "_supernet": None}

    def __call__(
        self,
        architecture: Architecture,
        *,
        fidelity: str,  # noqa: ARG002 - there is one kind: all validation images
        weights: str | None,
        seed: int,  # noqa: ARG002 - nothing is random: the images for batch norm are the same for every network
    ) -> Mapping[str, float | Metric]:
        """Validation accuracy, plain and balanced, and the error, with the standard error of each.

        Raises:
            StoreError: If no weights are named, or they are not there.
        """
        if weights is None:
            raise StoreError(
                f"{architecture}: evaluated without weights; train the supernet first and name its version"
            )
        network = self._load(weights).extract(architecture)
        side = int(architecture["resolution"])
        train, validation = self._parts()
        calibrate_batch_norm(network, side, train, images=self.batch_norm_images, seed=self.seed)
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
                Images(part, preprocessing, device=self.device) for part in (splits.train, splits.validation)
            )
            self._images = train, validation
        return self._images

    def _load(self, version: str) -> Supernet:
        if self._supernet is None or self._supernet[0] != version:
            path = self.checkpoints / f"{version}.ckpt"
            if not path.is_file():
                raise StoreError(f"{path}: the weights {version} are not there; the supernet must be trained first")
            supernet = self.family.supernet()
            load_state({"module": cast(nn.Module, supernet)}, path)
            supernet.train(mode=False)
            self._supernet = version, supernet
        return self._supernet[1]


def calibrate_batch_norm(network: nn.Module, side: int, train: Images, *, images: int, seed: int) -> None:
    """Re-estimate a network's batch norm on training images without augmentation, the same ones for every network.

    Args:
        network: Changed in place, and moved to where the images are; its convolutions go into the layout that is
            quicker on a CPU.
        side: Of its input.
        train: Where the images come from.
        images: How many, rounded down to whole batches.
        seed: Chooses them.

    Raises:
        DataError: If there is no image.
    """
    network.to(device=train.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    chosen = torch.from_numpy(generator(seed, "batch norm").permutation(len(train))[:images]).to(train.device)
    size = min(_batch_size(side), len(chosen))
    pixels = train.resized(side)
    whole = len(chosen) // size * size if size else 0
    reestimate_batch_norm(
        network,
        (
            train.normalised(pixels[chosen[start : start + size]]).contiguous(memory_format=torch.channels_last)
            for start in range(0, whole, size or 1)
        ),
    )


def served(images: Images, side: int) -> Iterator[tuple[Tensor, Tensor]]:
    """All images as inputs of a network, with their labels, in batches and in order."""
    pixels = images.resized(side)
    size = _batch_size(side)
    for start in range(0, len(images), size):
        part = slice(start, start + size)
        yield images.normalised(pixels[part]), images.labels[part]
