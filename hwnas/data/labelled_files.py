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
from hwnas.data.dataset import ImageData, SourceData, stacked
from hwnas.data.decode import Channels, EncodedImages, ImageArray, as_array, decode, with_channels

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
            takes more than `MAX_IMAGE_BYTES`.

    Raises:
        DataError: If files are damaged and that is to be refused, or a class appears only outside "train".
    """
    kept_classes = _classes_of_train(parts, classes, source)
    told = [*skipped, *(f'class "{name}": no images' for name in classes if name not in kept_classes)]
    decoded: dict[str, _Decoded] = {}
    reasons: list[str] = []
    room = max_pixel_bytes
    for part, files in parts.items():
        decoded[part] = _Decoded(room)
        for file in files:
            try:
                content = file.content.read_bytes() if isinstance(file.content, Path) else file.content
                decoded[part].add(file, decode(content))
            except (OSError, ValueError) as error:
                reasons.append(f"{file.name} ({error})")
        room = max(0, decoded[part].room)
    total = sum(len(files) for files in parts.values())
    if reasons and (damaged == "refuse" or len(reasons) == total):
        _refuse(reasons, total, source)
    told += [f"damaged: {reason}" for reason in reasons]

    if channels is None:
        channels = 1 if all(part.all_greyscale for part in decoded.values()) else 3
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

    def __init__(self, max_pixel_bytes: int) -> None:
        self.files: list[LabelledFile] = []
        self.all_greyscale = True
        self.room = max_pixel_bytes
        self._pixels: list[ImageArray] = []

    def add(self, file: LabelledFile, image: Image.Image) -> None:
        self.files.append(file)
        self.all_greyscale &= image.mode == "L"
        size = image.width * image.height * (1 if image.mode == "L" else 3)
        self.room -= size if size <= MAX_IMAGE_BYTES else self.room + 1
        if self.room >= 0:
            self._pixels.append(as_array(image))
        else:
            self._pixels.clear()

    def images(self, channels: Channels) -> ImageArray | Sequence[ImageArray]:
        if self.room < 0:
            return EncodedImages([file.content for file in self.files], channels)
        if any(pixels.shape[2] != channels for pixels in self._pixels):
            self._pixels = [_with_channels(pixels, channels) for pixels in self._pixels]
        return stacked(self._pixels)


def _with_channels(pixels: ImageArray, channels: Channels) -> ImageArray:
    if pixels.shape[2] == channels:
        return pixels
    return as_array(with_channels(Image.fromarray(pixels.squeeze(2) if channels == 3 else pixels), channels))


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
