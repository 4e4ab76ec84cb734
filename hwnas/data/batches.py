"""Batches at any resolution, augmented the same at each of them.

Sub-networks of one supernet take inputs of different sizes, and one step trains several of them on one batch, each
learning from the largest. So a batch is a choice of images and of random changes, and becomes pixels for a size on
demand. Order and changes come from the generator passed in and from nothing else: no state to save.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hwnas.core import DataError
from hwnas.data.preprocessing import Preprocessing
from hwnas.data.split import Part


class Images:
    """One part of the data as tensors, resized once per size and then kept.

    Args:
        part: The images.
        preprocessing: How they become inputs.
        device: The processor that holds pixels and labels, and on which batches are made.

    Example:
        >>> from hwnas.data import digits, split
        >>> train = split(digits(), seed=0).train
        >>> images = Images(train, Preprocessing.fit(train))
        >>> images.resized(12).shape, images.resized(12).dtype
        (torch.Size([1259, 1, 12, 12]), torch.uint8)
    """

    def __init__(
        self, part: Part, preprocessing: Preprocessing, *, device: torch.device | Literal["cpu", "cuda"] = "cpu"
    ) -> None:
        self.part = part
        self.preprocessing = preprocessing
        self.device = torch.device(device)
        self.labels = torch.from_numpy(part.labels).to(self.device)
        self._resized: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return len(self.part)

    def resized(self, size: int) -> Tensor:
        """Every image, uint8 [n, c, size, size], before normalisation."""
        if size not in self._resized:
            pixels = np.empty((len(self), self.preprocessing.channels, size, size), np.uint8)
            for position, image in enumerate(self.part):
                pixels[position] = self.preprocessing.resized(image, size).transpose(2, 0, 1)
            self._resized[size] = torch.from_numpy(pixels).to(self.device)
        return self._resized[size]

    def normalised(self, pixels: Tensor) -> Tensor:
        """Pixels [n, c, h, w] of any type as float32 input; equal to `Preprocessing.__call__` to the bit."""
        mean, std = (
            torch.tensor(values, dtype=torch.float32, device=pixels.device)[:, None, None]
            for values in (self.preprocessing.mean, self.preprocessing.std)
        )
        return pixels.to(torch.float32).div_(255).sub_(mean).div_(std)


@dataclass(frozen=True)
class Augment:
    """Random changes of training images. The default changes nothing.

    Attributes:
        shift: Move by up to this share of the side, in both directions independently.
        flip: Mirror left and right, every second image.
        cutout: Side of a square that is set to the mean colour, as a share of the side, at a random place that may
            reach over the border. Source: DeVries and Taylor 2017, arXiv:1708.04552.
        fill: What moves in from the border: black, or the pixels at the edge.

    Raises:
        DataError: If a share is not in 0..1.

    Example:
        >>> Augment(shift=0.1, flip=True).cutout
        0.0
    """

    shift: float = 0.0
    flip: bool = False
    cutout: float = 0.0
    fill: Literal["black", "edge"] = "black"

    def __post_init__(self) -> None:
        for name, share in (("shift", self.shift), ("cutout", self.cutout)):
            if not 0 <= share < 1:
                raise DataError(f"augmentation: {name} is {share}; it is a share of the side, from 0 and below 1")
        if self.fill not in {"black", "edge"}:
            raise DataError(f'augmentation: fill is "{self.fill}"; expected "black" or "edge"')


@dataclass(frozen=True, eq=False)
class Changes:
    """What augmentation does to each image of a batch, in shares of the side, so that it holds for every size.

    Attributes:
        down: float64 [n], how far each image moves.
        right: float64 [n], likewise.
        mirrored: bool [n].
        hole: float64 [n, 2], the centre of the cut-out square, row and column in 0..1.
    """

    down: NDArray[np.float64]
    right: NDArray[np.float64]
    mirrored: NDArray[np.bool_]
    hole: NDArray[np.float64]

    @classmethod
    def draw(cls, augment: Augment, count: int, generator: np.random.Generator) -> Changes:
        """Random changes for so many images; the number of draws does not depend on the settings."""
        draws = generator.random((count, 5))
        return cls(
            down=(2 * draws[:, 0] - 1) * augment.shift,
            right=(2 * draws[:, 1] - 1) * augment.shift,
            mirrored=(draws[:, 2] < 0.5) & augment.flip,
            hole=draws[:, 3:],
        )

    def part(self, kept: slice) -> Changes:
        """Those of some of the images."""
        return Changes(self.down[kept], self.right[kept], self.mirrored[kept], self.hole[kept])


class MiniBatch(Protocol):
    """What a step of training is given: images at the size that is asked for, and what they should give."""

    labels: Tensor

    def images(self, size: int) -> Tensor:
        """Float images [n, c, size, size]."""
        ...

    def split(self, n: int) -> Sequence[MiniBatch]:
        """Up to n parts of nearly equal size, in order, none empty."""
        ...

    def __len__(self) -> int:
        """How many images."""
        ...


class Batch:
    """Some images with their labels, at whatever size is asked for.

    Args:
        source: Holds the images.
        positions: int64 [n], which of them.
        augment: The kind of changes, None for none.
        changes: The changes drawn, None for none.

    Attributes:
        positions: int64 [n].
        labels: int64 [n].
    """

    def __init__(self, source: Images, positions: Tensor, augment: Augment | None, changes: Changes | None) -> None:
        self.positions = positions
        self.labels = source.labels[positions]
        self._source = source
        self._augment = augment
        self._changes = changes
        self._inputs: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return len(self.positions)

    def split(self, n: int) -> list[Batch]:
        """Up to n parts of nearly equal size, in order, none empty."""
        bounds = [len(self) * k // n for k in range(n + 1)]
        return [self._part(slice(low, high)) for low, high in itertools.pairwise(bounds) if low < high]

    def _part(self, kept: slice) -> Batch:
        changes = None if self._changes is None else self._changes.part(kept)
        return Batch(self._source, self.positions[kept], self._augment, changes)

    def images(self, size: int) -> Tensor:
        """The input of a network of this size: float32 [n, c, size, size], normalised. Made once, do not change it."""
        if size not in self._inputs:
            pixels = self._source.resized(size)[self.positions]
            if self._augment is None or self._changes is None:
                self._inputs[size] = self._source.normalised(pixels)
            else:
                moved = _moved(pixels, self._changes, fill=self._augment.fill)
                inputs = self._source.normalised(moved)
                if self._augment.cutout:
                    holes = _holes(size, self._changes.hole, self._augment.cutout).to(inputs.device)
                    inputs.masked_fill_(holes[:, None], 0.0)
                self._inputs[size] = inputs
        return self._inputs[size]


def batches(
    images: Images,
    *,
    batch_size: int,
    generator: np.random.Generator | None = None,
    augment: Augment | None = None,
    drop_last: bool = False,
) -> Iterator[Batch]:
    """One pass over the images.

    Args:
        images: What to pass over.
        batch_size: Images per batch.
        generator: Shuffles and draws the changes; None keeps the order, for evaluation. Make it anew for every epoch,
            `hwnas.core.generator(seed, phase, epoch)`.
        augment: Needs a generator.
        drop_last: Leave out the last batch if it is smaller than the others, unless it is the only one.

    Returns:
        Batches whose pixels are made when asked for.

    Raises:
        DataError: If the batch size is not above 0, or there are changes to draw and nothing to draw them with.

    Example:
        >>> from hwnas.core import generator
        >>> from hwnas.data import digits, split
        >>> train = split(digits(), seed=0).train
        >>> images = Images(train, Preprocessing.fit(train))
        >>> batch = next(batches(images, batch_size=64, generator=generator(0, "epoch", 0), augment=Augment(shift=0.1)))
        >>> batch.images(8).shape, batch.images(12).shape, batch.labels.shape
        (torch.Size([64, 1, 8, 8]), torch.Size([64, 1, 12, 12]), torch.Size([64]))
    """
    if batch_size < 1:
        raise DataError(f"data: batch_size is {batch_size}; it must be above 0")
    if augment is not None and generator is None:
        raise DataError("data: augmentation without a generator; pass hwnas.core.generator(seed, phase, epoch)")
    return _serve(images, batch_size, generator, augment, drop_last=drop_last)


def _serve(
    images: Images,
    batch_size: int,
    generator: np.random.Generator | None,
    augment: Augment | None,
    *,
    drop_last: bool,
) -> Iterator[Batch]:
    count = len(images)
    order = np.arange(count) if generator is None else generator.permutation(count)
    stop = max(1, count // batch_size * batch_size) if drop_last else count
    for start in range(0, stop, batch_size):
        positions = order[start : start + batch_size]
        changes = None
        if augment is not None and generator is not None:
            changes = Changes.draw(augment, len(positions), generator)
        yield Batch(images, torch.from_numpy(positions).to(images.device), augment, changes)


def _moved(pixels: Tensor, changes: Changes, *, fill: Literal["black", "edge"]) -> Tensor:
    """Shift and mirror uint8 [n, c, size, size] by one gather: each output pixel looks up where it comes from."""
    count, channels, size, _ = pixels.shape
    side = torch.arange(size)
    rows = side - torch.from_numpy(np.rint(changes.down * size).astype(np.int64))[:, None]
    columns = side - torch.from_numpy(np.rint(changes.right * size).astype(np.int64))[:, None]
    inside = ((rows >= 0) & (rows < size))[:, :, None] & ((columns >= 0) & (columns < size))[:, None, :]
    rows, columns = rows.clamp_(0, size - 1), columns.clamp_(0, size - 1)
    columns = torch.where(torch.from_numpy(changes.mirrored)[:, None], size - 1 - columns, columns)
    index = (rows[:, :, None] * size + columns[:, None, :]).reshape(count, 1, size * size).to(pixels.device)
    moved = pixels.reshape(count, channels, size * size).gather(2, index.expand(-1, channels, -1))
    moved = moved.reshape(pixels.shape)
    return moved if fill == "edge" else moved.mul_(inside[:, None].to(pixels.device))


def _holes(size: int, centres: NDArray[np.float64], share: float) -> Tensor:
    """Which pixels are cut out, bool [n, size, size]."""
    middle = (torch.arange(size, dtype=torch.float64) + 0.5) / size
    near = (middle - torch.from_numpy(centres)[:, :, None]).abs() < share / 2
    return near[:, 0, :, None] & near[:, 1, None, :]
