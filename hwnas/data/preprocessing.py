"""From an image file to the input of a network: one rule for training, evaluation and deployment."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hwnas.core import DataError
from hwnas.data.decode import Channels, ImageArray, as_array, as_image, with_channels
from hwnas.data.split import Part

RESIZE_RULE = "shorter-side-bilinear-centre-crop"
_SMALLEST_STD = 1 / 255  # of images of a single colour, which would be divided by 0
_MOST_PIXELS = 2**26  # of a resized image before its centre is cut out: a quarter of a gigabyte in Pillow
_VALUES_AT_ONCE = 2**22  # of pixels: what a step of a computation holds in memory at a time


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes the input of a network, apart from the input's size.

    Attributes:
        channels: 1 (greyscale) or 3 (RGB).
        mean: Per channel, on the scale 0..1.
        std: Per channel, on the scale 0..1.

    Raises:
        DataError: If there is not one finite mean and one std above 0 per channel.

    Example:
        >>> plain = Preprocessing(1, mean=(0.5,), std=(0.25,))
        >>> plain(np.full((4, 6, 1), 255, np.uint8), 2)
        array([[[2., 2.],
                [2., 2.]]], dtype=float32)
    """

    channels: Channels
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if self.channels not in {1, 3} or not len(self.mean) == len(self.std) == self.channels:
            raise DataError(
                f"preprocessing: {self.channels} channels, mean {self.mean}, std {self.std}; "
                "expected 1 or 3 channels with one mean and one std each"
            )
        if not all(map(math.isfinite, (*self.mean, *self.std))) or min(self.std) <= 0:
            raise DataError(f"preprocessing: mean {self.mean}, std {self.std}; expected finite numbers, std above 0")

    @classmethod
    def fit(cls, train: Part) -> Preprocessing:
        """The rule whose mean and std are those of the training images, each image counting the same.

        Measured on the images as they are, before any resizing, and rounded to six digits.

        Example:
            >>> from hwnas.data import ImageData
            >>> data = ImageData(np.full((1, 4, 4, 1), 51, np.uint8), np.array([0]), ("cat",), "made up")
            >>> Preprocessing.fit(Part(data, np.array([0]))).mean
            (0.2,)
        """
        means, squares = (np.concatenate(columns) for columns in zip(*_moments(train), strict=True))
        mean, std = [], []
        for channel in range(train.data.channels):
            # fsum is exact, so neither order nor vector width of the processor shows in the digits
            first = math.fsum(means[:, channel]) / len(train)
            second = math.fsum(squares[:, channel]) / len(train)
            mean.append(round(first / 255, 6))
            std.append(round(max(_SMALLEST_STD, math.sqrt(max(0.0, second - first**2)) / 255), 6))
        return cls(train.data.channels, tuple(mean), tuple(std))

    def resized(self, image: ImageArray | Image.Image, size: int) -> ImageArray:
        """The part of the rule that works on whole pixel values: channels, resize, crop.

        Args:
            image: uint8 [h, w, 1 or 3], or an upright Pillow image.
            size: Side of the square that comes out.

        Returns:
            uint8 [size, size, channels].

        Raises:
            DataError: If the array is not an image.
        """
        picture = as_image(image) if isinstance(image, np.ndarray) else image
        picture = with_channels(picture, self.channels)
        width, height = picture.size
        shorter = min(width, height)
        if shorter != size:
            width, height = width * size // shorter, height * size // shorter
            picture = _central(picture, width, height, size)
        elif width != height:
            left, top = (width - size) // 2, (height - size) // 2
            picture = picture.crop((left, top, left + size, top + size))
        return as_array(picture)

    def __call__(self, image: ImageArray | Image.Image, size: int) -> NDArray[np.float32]:
        """One image as a network of input size `size` takes it.

        Args:
            image: uint8 [h, w, 1 or 3], or an upright Pillow image, as `decode` gives it.
            size: Side of the network's input.

        Returns:
            float32 [channels, size, size].

        Raises:
            DataError: If the array is not an image.
        """
        pixels = self.resized(image, size).transpose(2, 0, 1).astype(np.float32)
        mean, std = (np.array(values, np.float32)[:, None, None] for values in (self.mean, self.std))
        normalised: NDArray[np.float32] = (pixels / np.float32(255) - mean) / std
        return normalised

    def to_json(self, size: int) -> dict[str, Any]:
        """Everything a stranger needs to prepare an image for a network of input size `size`.

        Example:
            >>> text = Preprocessing(1, (0.5,), (0.25,)).to_json(28)
            >>> text["layout"], text["size"], text["normalisation_inside"]
            ('NCHW', 28, False)
        """
        colour = "greyscale (Pillow mode L, luma of ITU-R 601-2)" if self.channels == 1 else "RGB"
        return {
            "layout": "NCHW",
            "dtype": "float32",
            "channels": self.channels,
            "channel_order": "L" if self.channels == 1 else "RGB",
            "size": size,
            "resize": RESIZE_RULE,
            "scale": "1/255",
            "mean": list(self.mean),
            "std": list(self.std),
            "normalisation_inside": False,
            "steps": [
                "turn the image upright by its EXIF orientation; drop alpha; of 16 bits keep the upper 8; "
                "of 32-bit integers each image decides by its largest value: up to 255 it is 8 bits, up to 65535 16 "
                "bits (so give dark images of 16 bits as 16-bit files); floating-point numbers are 0..1, times 255",
                f"convert to {colour}, 8 bits per channel",
                f"resize so that the shorter side is {size} and the longer side floor(longer * {size} / shorter), "
                "with Pillow's BILINEAR filter (antialiased); leave out if the shorter side has that length already",
                f"cut out the central {size} x {size}: left = floor((width - {size}) / 2), "
                f"top = floor((height - {size}) / 2)",
                "divide by 255, subtract mean, divide by std, each per channel; the network itself does none of this",
                "order the axes as image, channel, row, column",
            ],
        }

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Preprocessing:
        """The rule that `to_json` wrote; the size is beside it, in `row["size"]`.

        Raises:
            DataError: If a part is missing or the resize rule is not the one this version knows.

        Example:
            >>> plain = Preprocessing(1, (0.5,), (0.25,))
            >>> Preprocessing.from_json(plain.to_json(28)) == plain
            True
        """
        if row.get("resize") != RESIZE_RULE:
            raise DataError(f'preprocessing: resize is {row.get("resize")!r}; this version knows "{RESIZE_RULE}"')
        try:
            mean, std = (tuple(float(value) for value in row[name]) for name in ("mean", "std"))
            return cls(row["channels"], mean, std)
        except (KeyError, TypeError) as error:
            raise DataError(f"preprocessing: {error} is missing or of the wrong kind") from error


def _central(picture: Image.Image, width: int, height: int, size: int) -> Image.Image:
    """The central size x size of a picture that is resized to width x height.

    Where the whole would take gigabytes (a strip of 30,000 x 1), only the part that stays is computed; it may then
    differ by one grey level of 255, as Pillow rounds between its two passes.
    """
    left, top = (width - size) // 2, (height - size) // 2
    if width * height <= _MOST_PIXELS:
        whole = picture.resize((width, height), Image.Resampling.BILINEAR)
        return whole if width == height else whole.crop((left, top, left + size, top + size))
    spans = [_span(picture.width, width, left, size), _span(picture.height, height, top, size)]
    (x, x0, x1, right), (y, y0, y1, bottom) = spans
    part = picture.crop((x, y, right, bottom))
    return part.resize((size, size), Image.Resampling.BILINEAR, box=(x0 - x, y0 - y, x1 - x, y1 - y))


def _span(length: int, resized: int, start: int, size: int) -> tuple[int, float, float, int]:
    """Along one side: where the source of some resized pixels begins and ends, within whole pixels the filter sees.

    Pillow's boxes are of single precision, so they have to lie near the origin of what is cut out.
    """
    scale = length / resized
    low, high = start * scale, (start + size) * scale
    reach = math.ceil(max(1.0, scale)) + 1
    return max(0, math.floor(low) - reach), low, high, min(length, math.ceil(high) + reach)


def _moments(part: Part) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Mean and mean square of each image and channel, [images, channels]; integer sums, so exact in any order."""
    images = part.data.images
    if isinstance(images, np.ndarray):
        at_once = max(1, _VALUES_AT_ONCE // images[0].size)
        starts = range(0, len(part), at_once)
        chunks = (images[part.indices[start : start + at_once]] for start in starts)
    else:
        chunks = (image[None] for image in part)
    for chunk in chunks:
        first, second = np.zeros((2, len(chunk), chunk.shape[3]), np.int64)
        rows = max(1, _VALUES_AT_ONCE // (chunk.size // chunk.shape[1]))
        for start in range(0, chunk.shape[1], rows):
            values = chunk[:, start : start + rows].astype(np.int64)
            first += values.sum(axis=(1, 2))
            second += np.square(values, out=values).sum(axis=(1, 2))
        pixels = chunk.shape[1] * chunk.shape[2]
        yield first / pixels, second / pixels
