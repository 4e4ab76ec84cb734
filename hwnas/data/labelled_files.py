"""Labelled image files, from wherever they were listed, checked one by one and turned into data.

Everything is decoded once before anything is trained, so that a damaged file cannot end a run in mid-epoch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NoReturn

import numpy as np
from PIL import Image

from hwnas.core import DataError
from hwnas.data.dataset import ImageData, SourceData, check_unicode
from hwnas.data.decode import (
    INTEGER_BITS,
    Channels,
    EncodedImages,
    ImageArray,
    as_array,
    decode,
    with_channels,
)

Damaged = Literal["refuse", "skip"]

# Above these, pixels are not kept but decoded again for every size asked for: so memory does not grow with photographs.
MAX_PIXEL_BYTES = 2**30  # of all parts together
MAX_IMAGE_BYTES = 2**24  # of one image
_NAMED_IN_ERROR = 10


@dataclass(frozen=True)
class LabelledFile:
    """One image file and its class.

    Attributes:
        name: How messages call it.
        content: The file, or what is in it.
        label: The name of its class.
    """

    name: str
    content: bytes | Path
    label: str


def read_labelled_files(
    parts: Mapping[str, Sequence[LabelledFile]],
    *,
    classes: Sequence[str],
    source: str,
    channels: Channels | None = None,
    damaged: Damaged = "refuse",
    skipped: Sequence[str] = (),
    max_pixel_bytes: int = MAX_PIXEL_BYTES,
) -> SourceData:
    """Decode every file of every part, in the order given.

    Args:
        parts: "train", and where the source has its own split "validation" and "test".
        classes: All names, in their final order; those without a training image are dropped and told.
        source: Where the files come from, for messages.
        channels: 1 or 3; None takes 1 if every image of every part is greyscale, else 3.
        damaged: Refuse to go on, or skip the damaged files and tell.
        skipped: What was already left out while listing.
        max_pixel_bytes: Keep images as files, from the part on in which they would take more. So they are, too, if one
            takes more than `MAX_IMAGE_BYTES`. Every image counts with the channels it will have.

    Raises:
        DataError: If files are damaged and that is to be refused, a class appears only outside "train" or is not named
            in UTF-8, or images of 32-bit integers are of two scales.
    """
    kept_classes = _classes_of_train(parts, classes, source)
    check_unicode(kept_classes, what=f"{source}: the name of class")
    told = [*skipped, *(f'class "{name}": no images' for name in classes if name not in kept_classes)]
    decoded = {part: _Decoded(channels, most=len(files), max_bytes=max_pixel_bytes) for part, files in parts.items()}
    reasons: list[str] = []
    scales: dict[int, str] = {}
    for part, files in parts.items():
        found = decoded[part]
        for file in files:
            try:
                content = file.content.read_bytes() if isinstance(file.content, Path) else file.content
                image = decode(content)
            except (OSError, ValueError) as error:
                reasons.append(f"{file.name} ({error})")
                continue
            bits = image.info.get(INTEGER_BITS)
            if isinstance(bits, int):  # a PNG may hold any key, with a text
                scales.setdefault(bits, file.name)
            found.count(file, image)
            _keep_within(max_pixel_bytes, [*decoded.values()], channels)
            if found.pixels is not None:
                found.pixels.add(as_array(with_channels(image, found.pixels.channels)))
    total = sum(len(files) for files in parts.values())
    if reasons and (damaged == "refuse" or len(reasons) == total):
        _refuse(reasons, total, source)
    told += [f"damaged: {reason}" for reason in reasons]
    if len(scales) > 1:
        raise DataError(
            f"{source}: of the images of 32-bit integers, {scales[8]} has values up to 255 and {scales[16]} above; "
            "only their values tell 8 bits from 16, so they would be scaled differently",
            hint="save them as 8-bit or 16-bit files, all alike",
        )

    if channels is None:
        channels = 3 if any(part.has_colour for part in decoded.values()) else 1
    label_of = {name: label for label, name in enumerate(kept_classes)}
    data = {
        name: ImageData(
            images=part.images(channels),
            labels=np.array([label_of[file.label] for file in part.files], np.int64),
            classes=kept_classes,
            source=source if len(parts) == 1 else f"{source} ({name})",
            skipped=tuple(told) if name == "train" else (),
        )
        for name, part in decoded.items()
    }
    return SourceData(data["train"], data.get("validation"), data.get("test"))


class _Decoded:
    """The good files of one part, with their pixels as long as these fit."""

    def __init__(self, channels: Channels | None, *, most: int, max_bytes: int) -> None:
        self.files: list[LabelledFile] = []
        self.has_colour = False
        self.pixels: _Pixels | None = _Pixels(channels or 1, most=most, max_bytes=max_bytes)
        self._bytes = self._largest = 0  # of the images as they are: 1 per grey pixel, 3 per coloured one
        self._area = self._largest_area = 0

    def count(self, file: LabelledFile, image: Image.Image) -> None:
        area = image.width * image.height
        size = area if image.mode == "L" else 3 * area
        self.files.append(file)
        self.has_colour |= image.mode != "L"
        self._bytes, self._largest = self._bytes + size, max(self._largest, size)
        self._area, self._largest_area = self._area + area, max(self._largest_area, area)

    def bytes_of(self, *, all_rgb: bool) -> tuple[int, int]:
        """What its images take, and the largest of them."""
        return (3 * self._area, 3 * self._largest_area) if all_rgb else (self._bytes, self._largest)

    def images(self, channels: Channels) -> ImageArray | Sequence[ImageArray]:
        if self.pixels is None:
            return EncodedImages([file.content for file in self.files], channels)
        return self.pixels.images()


class _Pixels:
    """Images of equal channels, in one array as long as they have one size: so none is ever held twice.

    Args:
        channels: Of all.
        most: Images that may come.
        max_bytes: That they may take.
    """

    def __init__(self, channels: Channels, *, most: int, max_bytes: int) -> None:
        self.channels = channels
        self._most = most
        self._max_bytes = max_bytes
        self._array: ImageArray | None = None  # as large as it may become; the system gives memory when it is written
        self._images: list[ImageArray] = []  # parts of the array, or arrays of their own

    def add(self, pixels: ImageArray) -> None:
        if not self._images:
            at_most = max(1, min(self._most, self._max_bytes // pixels.size))
            self._array = np.empty((at_most, *pixels.shape), np.uint8)
        place = len(self._images)
        if self._array is not None and pixels.shape == self._array.shape[1:]:
            self._array[place] = pixels
            pixels = self._array[place]
        else:
            self._array = None
        self._images.append(pixels)

    def to_rgb(self) -> None:
        """Grey becomes three equal channels, one image at a time."""
        if self.channels == 1:
            grey, self.channels = self._images, 3
            self._images, self._array = [], None
            grey.reverse()
            while grey:
                self.add(np.repeat(grey.pop(), 3, axis=2))

    def images(self) -> ImageArray | Sequence[ImageArray]:
        return tuple(self._images) if self._array is None else self._array[: len(self._images)]


def _keep_within(max_pixel_bytes: int, parts: Sequence[_Decoded], channels: Channels | None) -> None:
    """Forget the pixels of the first part that does not fit, and of all after it.

    Grey images become three times as large if RGB is asked for, or as soon as one image of any part has colour.
    """
    all_rgb = channels == 3 or (channels is None and any(part.has_colour for part in parts))
    room = max_pixel_bytes
    for part in parts:
        needed, largest = part.bytes_of(all_rgb=all_rgb)
        room = room - needed if room >= 0 and largest <= MAX_IMAGE_BYTES else -1
        if room < 0:
            part.pixels = None
        elif all_rgb and part.pixels is not None:
            part.pixels.to_rgb()


def _classes_of_train(
    parts: Mapping[str, Sequence[LabelledFile]], classes: Sequence[str], source: str
) -> tuple[str, ...]:
    trained = {file.label for file in parts["train"]}
    for part, files in parts.items():
        unknown = sorted({file.label for file in files} - trained)
        if unknown:
            raise DataError(f'{source}: class "{unknown[0]}" has images in {part} and none in train')
    return tuple(name for name in classes if name in trained)


def _refuse(reasons: Sequence[str], total: int, source: str) -> NoReturn:
    named = ", ".join(reasons[:_NAMED_IN_ERROR])
    more = len(reasons) - _NAMED_IN_ERROR
    rest = f" and {more} more" if more > 0 else ""
    raise DataError(
        f"{source}: {len(reasons)} of {total} images cannot be read: {named}{rest}",
        hint='repair or delete them, or set damaged = "skip" to leave them out',
    )
