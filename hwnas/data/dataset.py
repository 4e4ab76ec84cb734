"""Images with their classes, held in memory and never changed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from hwnas.core import DataError
from hwnas.core.escaping import visible
from hwnas.data.decode import Channels, EncodedImages, ImageArray, as_array, as_image, with_channels


@dataclass(frozen=True, eq=False)
class ImageData:
    """Labelled images of one source.

    Attributes:
        images: An array uint8 [n, h, w, c] if all have one size, else a sequence of arrays uint8 [h, w, c].
        labels: int64 [n], the index of each image's class.
        classes: Names, in an order that does not change between runs.
        source: Where the images come from, for people.
        skipped: What was left out and why, one line each.

    Raises:
        DataError: If the parts do not fit each other, or a class's name is not Unicode text.

    Example:
        >>> data = ImageData(np.zeros((2, 4, 4, 1), np.uint8), np.array([0, 1]), ("cat", "dog"), "made up")
        >>> len(data), data.channels, data.counts()
        (2, 1, {'cat': 1, 'dog': 1})
    """

    images: ImageArray | Sequence[ImageArray]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    source: str
    skipped: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.images) != len(self.labels) or not len(self.labels):
            raise DataError(
                f"{self.source}: {len(self.images)} images and {len(self.labels)} labels; expected one label each, "
                "and at least one image"
            )
        low, high = int(self.labels.min()), int(self.labels.max())
        if low < 0 or high >= len(self.classes):
            raise DataError(
                f"{self.source}: labels go from {low} to {high}; there are {len(self.classes)} classes, from 0"
            )
        if len(set(self.classes)) < len(self.classes):
            twice = next(name for name in self.classes if self.classes.count(name) > 1)
            raise DataError(f'{self.source}: two classes are named "{twice}"; names must differ')
        check_unicode(self.classes, what=f"{self.source}: the name of class")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def channels(self) -> Channels:
        """1 (greyscale) or 3 (RGB), the same for every image."""
        return 1 if self.images[0].shape[2] == 1 else 3

    def counts(self) -> dict[str, int]:
        """Images per class, in the order of the classes."""
        return counts(self.labels, self.classes)

    def with_channels(self, channels: Channels) -> ImageData:
        """The same images in greyscale or RGB.

        Example:
            >>> data = ImageData(np.full((1, 4, 4, 1), 7, np.uint8), np.array([0]), ("cat",), "made up")
            >>> data.with_channels(3).images[0][0, 0]
            array([7, 7, 7], dtype=uint8)
        """
        if channels == self.channels:
            return self
        if isinstance(self.images, EncodedImages):
            return replace(self, images=EncodedImages(self.images.contents, channels))
        images = [as_array(with_channels(as_image(image), channels)) for image in self.images]
        return replace(self, images=stacked(images))

    @cached_property
    def digest(self) -> str:
        """Sixteen hex digits that stand for the images (as held: pixels or files), the labels and the classes."""
        sha = hashlib.sha256()
        sha.update("\0".join(self.classes).encode())
        sha.update(np.ascontiguousarray(self.labels, dtype="<i8").tobytes())
        if isinstance(self.images, EncodedImages):
            sha.update(bytes([self.images.channels]))
            for content in self.images.contents:
                sha.update(hashlib.sha256(content if isinstance(content, bytes) else content.read_bytes()).digest())
        else:
            for image in self.images:
                sha.update(b"%d %d %d " % image.shape)
                sha.update(np.ascontiguousarray(image).data)
        return sha.hexdigest()[:16]


@dataclass(frozen=True, eq=False)
class SourceData:
    """What a source holds: images to train on and, where the source has its own split, the other parts.

    Attributes:
        train: All images, where the source has no split of its own.
        validation: Given by the source, or None.
        test: Given by the source, or None.
    """

    train: ImageData
    validation: ImageData | None = None
    test: ImageData | None = None


def check_unicode(names: Iterable[str], *, what: str) -> None:
    """Refuse names that cannot be written into a run's files: of folders, say, in another encoding than UTF-8.

    Args:
        names: As Python reads them from the system, with a surrogate for every byte that is not UTF-8.
        what: They are, for the message.

    Raises:
        DataError: If one is not Unicode text; names it with such bytes as escapes.

    Example:
        >>> check_unicode(["été"], what="class")
    """
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise DataError(
                f'{what} "{visible(name)}" is not UTF-8',
                hint="rename it in UTF-8, or in plain ASCII letters: these names are written into every file of a run",
            ) from error


def counts(labels: NDArray[np.int64], classes: Sequence[str]) -> dict[str, int]:
    """How many labels each class has, classes without any included.

    Example:
        >>> counts(np.array([1, 1]), ["cat", "dog"])
        {'cat': 0, 'dog': 2}
    """
    return dict(zip(classes, np.bincount(labels, minlength=len(classes)).tolist(), strict=True))


def stacked(images: list[ImageArray]) -> ImageArray | tuple[ImageArray, ...]:
    """One array if all images have one shape, else a tuple. The list is emptied, so that none is held twice.

    Example:
        >>> stacked([np.zeros((4, 4, 1), np.uint8)] * 2).shape
        (2, 4, 4, 1)
    """
    if len({image.shape for image in images}) != 1:
        found = tuple(images)
        images.clear()
        return found
    array = np.empty((len(images), *images[0].shape), np.uint8)
    for n in range(len(images) - 1, -1, -1):
        array[n] = images.pop()
    return array
