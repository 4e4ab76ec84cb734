"""Train, validation, test: every class in each of them, by seed, the same every time.

Training sees the train part, every choice (architecture, epoch, hyper-parameter) is made on the validation part, and
the test part is only reported.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwnas.core import DataError, counted, digest_of, generator
from hwnas.data.dataset import ImageData, counts
from hwnas.data.decode import Channels, ImageArray

Indices = NDArray[np.int64]
_NAMED_IN_ERROR = 10


@dataclass(frozen=True, eq=False)
class Part:
    """Some images of a data set.

    Attributes:
        data: Holds the images.
        indices: int64 [n], which of them, ascending.

    Example:
        >>> data = ImageData(np.zeros((3, 4, 4, 1), np.uint8), np.array([0, 1, 1]), ("cat", "dog"), "made up")
        >>> Part(data, np.array([1, 2])).counts()
        {'cat': 0, 'dog': 2}
    """

    data: ImageData
    indices: Indices

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[ImageArray]:
        return (self.data.images[int(index)] for index in self.indices)

    @property
    def labels(self) -> NDArray[np.int64]:
        """int64 [n]."""
        return self.data.labels[self.indices]

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of all classes, in the order of the labels."""
        return self.data.classes

    def counts(self) -> dict[str, int]:
        """Images per class."""
        return counts(self.labels, self.classes)


@dataclass(frozen=True, eq=False)
class Splits:
    """The three parts of a data set.

    Attributes:
        train: What weights are fitted to.
        validation: What every choice is made on.
        test: What is reported, and nothing else.

    Raises:
        DataError: If the parts differ in classes or channels, or one of them lacks a class.
    """

    train: Part
    validation: Part
    test: Part

    def __post_init__(self) -> None:
        for name, part in self.parts().items():
            if part.classes != self.classes:
                raise DataError(
                    f"{part.data.source}: classes of {name} are {', '.join(part.classes)}; "
                    f"those of train are {', '.join(self.classes)}"
                )
            if part.data.channels != self.channels:
                raise DataError(
                    f"{part.data.source}: {name} has {part.data.channels} channels and train {self.channels}",
                    hint="set channels to 1 or 3",
                )
            for label, count in part.counts().items():
                if not count:
                    raise DataError(
                        f'{part.data.source}: class "{label}" has no image in the {name} part '
                        f"({self.train.counts()[label]} in train)",
                        hint="add images, leave the class out, or do without the given split",
                    )

    def parts(self) -> dict[str, Part]:
        """The parts by name."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of all classes, in the order of the labels."""
        return self.train.classes

    @property
    def channels(self) -> Channels:
        """1 (greyscale) or 3 (RGB)."""
        return self.train.data.channels

    def counts(self) -> dict[str, dict[str, int]]:
        """Images per class of each part, so that imbalance is visible."""
        return {name: part.counts() for name, part in self.parts().items()}

    def to_json(self) -> dict[str, Any]:
        """What a run stores about its data; `digest` stands for every pixel, every label and who is in which part."""
        parts = [
            [part.data.digest, hashlib.sha256(part.indices.astype("<i8").tobytes()).hexdigest()]
            for part in self.parts().values()
        ]
        return {
            "source": self.train.data.source,
            "digest": digest_of(parts),
            "classes": list(self.classes),
            "channels": self.channels,
            "counts": self.counts(),
            "skipped": list(self.train.data.skipped),
        }


def split(
    data: ImageData,
    *,
    validation: float | ImageData = 0.15,
    test: float | ImageData = 0.15,
    seed: int,
    limit: int | None = None,
) -> Splits:
    """Cut data into parts in which every class has its share and at least one image.

    Args:
        data: The images to train on, and to cut the other parts from where they are not given.
        validation: A share of each class, in 0..1, or the images themselves.
        test: Likewise.
        seed: Decides who goes where, class by class; the number of images in one class moves nobody of another.
        limit: Use at most so many images of `data`, and of a given part, in the classes' proportions. For quick runs.

    Raises:
        DataError: If a share is not in 0..1, a class has too few images, or the limit leaves a class without.

    Example:
        >>> from hwnas.data import digits
        >>> {name: len(part) for name, part in split(digits(), seed=0).parts().items()}
        {'train': 1259, 'validation': 269, 'test': 269}
    """
    shares = {
        name: share for name, share in (("validation", validation), ("test", test)) if not isinstance(share, ImageData)
    }
    check_shares(shares)
    _check_classes(
        data.counts(),
        shares,
        where=data.source,
        hint="add images, leave the class out, or lower the shares of validation and test in [data]",
    )
    kept = _limited(data, limit, least=1 + len(shares), seed=seed)
    _check_classes(
        counts(data.labels[kept], data.classes),
        shares,
        where=f"{data.source}, of which limit = {limit} leaves {len(kept)} images",
        hint="raise limit in [data], or lower the shares of validation and test",
    )
    parts: dict[str, list[Indices]] = {name: [] for name in ("train", *shares)}
    for label, name in enumerate(data.classes):
        members = kept[data.labels[kept] == label]
        sizes = _sizes(shares, len(members))
        order = generator(seed, "split", name).permutation(len(members))
        start = 0
        for part, size in sizes.items():
            parts[part].append(members[order[start : start + size]])
            start += size
        parts["train"].append(members[order[start:]])
    cut = {name: Part(data, np.sort(np.concatenate(indices))) for name, indices in parts.items()}
    for name, given in (("validation", validation), ("test", test)):
        if isinstance(given, ImageData):
            cut[name] = Part(given, _limited(given, limit, least=1, seed=seed))
    return Splits(cut["train"], cut["validation"], cut["test"])


def _sizes(shares: dict[str, float], images: int) -> dict[str, int]:
    """How many images of a class each part gets, apart from train."""
    return {part: max(1, round(share * images)) for part, share in shares.items()}


def _check_classes(counts: dict[str, int], shares: dict[str, float], *, where: str, hint: str) -> None:
    """Refuse classes that cannot have an image in every part, all of them at once.

    Raises:
        DataError: Naming each with its number of images, and how many it needs.
    """
    small = []
    for name, count in counts.items():
        if sum(_sizes(shares, count).values()) >= count:
            fitting = (n for n in itertools.count(count + 1) if sum(_sizes(shares, n).values()) < n)
            small.append(f'class "{name}" has {counted(count, "image")} and needs at least {next(fitting)} images')
    if small:
        named = small[:_NAMED_IN_ERROR]
        if len(small) > len(named):
            named.append(f"and {len(small) - len(named)} more classes")
        raise DataError(
            f"{where}: {', '.join(named)}, so that {', '.join(('train', *shares))} have one",
            hint=hint,
        )


def check_shares(shares: Mapping[str, float]) -> None:
    """Refuse shares of validation and test that leave one of the parts, or train, without images.

    Args:
        shares: Of the images, by part.

    Raises:
        DataError: If one is not above 0 and below 1, or their sum is not below 1.

    Example:
        >>> check_shares({"validation": 0.15, "test": 0.15})
    """
    for name, share in shares.items():
        if not 0 < share < 1:
            raise DataError(f"data: {name} is {share}; it is a share of the images, above 0 and below 1")
    if sum(shares.values()) >= 1:
        raise DataError(f"data: {' + '.join(shares)} is {sum(shares.values()):g}; nothing is left to train on")


def _limited(data: ImageData, limit: int | None, *, least: int, seed: int) -> Indices:
    """Indices of at most `limit` images, classes in proportion but with `least` images each if they have them.

    Raises:
        DataError: If the limit cannot give every class that many.
    """
    everyone = np.arange(len(data))
    if limit is None or limit >= len(data):
        return everyone
    if limit < least * len(data.classes):
        raise DataError(
            f"data: limit is {limit}; {len(data.classes)} classes need at least {least * len(data.classes)} images"
        )
    # Each class lines up along 0..1 in random order, its first `least` all at 0; the `limit` images nearest 0 are taken
    places = np.empty(len(data))
    for label, name in enumerate(data.classes):
        members = everyone[data.labels == label]
        ranks = generator(seed, "limit", name).permutation(len(members))
        places[members] = np.maximum(0, ranks - least + 1) / max(1, len(members))
    return np.sort(np.argsort(places, kind="stable")[:limit])
