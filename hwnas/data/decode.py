"""Image files to pixels, the same way for a folder, for Parquet and for a deployed network."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from hwnas.core import DataError

ImageArray = NDArray[np.uint8]
"""One image: height, width, channels (1 greyscale or 3 RGB), 0..255."""

Channels = Literal[1, 3]


def decode(content: bytes) -> Image.Image:
    """An image file's content as an upright image of mode L (greyscale) or RGB.

    The orientation in the EXIF data is applied, an alpha channel is dropped and 16 bits are cut to the upper 8.

    Raises:
        ValueError: If the content is no image, is cut short, or has a pixel type without a fixed range.

    Example:
        >>> file = io.BytesIO()
        >>> Image.new("LA", (5, 4)).save(file, "png")
        >>> image = decode(file.getvalue())
        >>> image.mode, image.size
        ('L', (5, 4))
    """
    if not content:
        raise ValueError("the file is empty")
    try:
        with Image.open(io.BytesIO(content)) as image:
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
            return _greyscale_or_rgb(image)
    except UnidentifiedImageError as error:
        # Pillow's text holds the address of a buffer, which would differ from run to run
        raise ValueError("not an image file") from error
    except Exception as error:  # a damaged file makes decoders raise anything, struct.error included
        raise ValueError(str(error) or type(error).__name__) from error


def _greyscale_or_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        # not convert("L"), which clips at 255 instead of scaling
        upper = np.clip(np.asarray(image).astype(np.int64), 0, 65535) >> 8
        return Image.fromarray(upper.astype(np.uint8))
    if image.mode == "F":
        raise ValueError("pixels are floating-point numbers, of which the range is unknown")
    if image.mode in {"1", "L", "LA"}:
        return image.convert("L")
    if image.mode == "P" and "transparency" in image.info:
        return image.convert("RGBA").convert("RGB")  # the direct way warns about the transparency
    return image.convert("RGB")


def with_channels(image: Image.Image, channels: Channels) -> Image.Image:
    """The image as mode L or RGB; colour becomes grey by the luma weights of ITU-R 601-2, as in Pillow.

    Example:
        >>> with_channels(Image.new("RGB", (1, 1), (255, 0, 0)), 1).getpixel((0, 0))
        76
    """
    mode = "L" if channels == 1 else "RGB"
    return image if image.mode == mode else image.convert(mode)


def as_array(image: Image.Image) -> ImageArray:
    """Pixels [h, w, 1] of a mode L image, [h, w, 3] of an RGB one.

    Example:
        >>> as_array(Image.new("L", (5, 4))).shape
        (4, 5, 1)
    """
    pixels: ImageArray = np.array(image)
    return pixels[:, :, None] if pixels.ndim == 2 else pixels


def as_image(pixels: ImageArray) -> Image.Image:
    """The opposite of `as_array`.

    Raises:
        DataError: If the array is not uint8 of shape [h, w, 1] or [h, w, 3].

    Example:
        >>> as_image(np.zeros((4, 5, 3), np.uint8)).mode
        'RGB'
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in {1, 3} or not pixels.size:
        raise DataError(
            f"image: an array {list(pixels.shape)} of {pixels.dtype}; expected uint8 [h, w, 1] or [h, w, 3]"
        )
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


class EncodedImages(Sequence[ImageArray]):
    """Images that stay files, or the content of files, and are decoded each time they are asked for.

    For photographs that would not fit into memory as pixels.

    Args:
        contents: One file or one file's content per image.
        channels: Of every image that comes out.

    Raises:
        DataError: On access, if a file has changed and is no image any more.

    Example:
        >>> file = io.BytesIO()
        >>> Image.new("L", (5, 4)).save(file, "png")
        >>> EncodedImages([file.getvalue()], 3)[0].shape
        (4, 5, 3)
    """

    def __init__(self, contents: Sequence[bytes | Path], channels: Channels) -> None:
        self.contents = tuple(contents)
        self.channels = channels

    def __len__(self) -> int:
        return len(self.contents)

    @overload
    def __getitem__(self, index: int) -> ImageArray: ...

    @overload
    def __getitem__(self, index: slice) -> EncodedImages: ...

    def __getitem__(self, index: int | slice) -> ImageArray | EncodedImages:
        if isinstance(index, slice):
            return EncodedImages(self.contents[index], self.channels)
        content = self.contents[index]
        try:
            image = decode(content.read_bytes() if isinstance(content, Path) else content)
        except (OSError, ValueError) as error:
            name = content if isinstance(content, Path) else f"image {index}"
            raise DataError(f"{name}: could be read when the data was loaded, now it cannot: {error}") from error
        return as_array(with_channels(image, self.channels))
