"""Image files to pixels, the same way for a folder, for Parquet and for a deployed network."""

from __future__ import annotations

import io
import warnings
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

INTEGER_BITS = "integer bits"
"""Key of a decoded image's `info`: 8 or 16, where the values of 32-bit integers had to decide it."""

MAX_PIXELS = 2**27  # of one image: 134 megapixels, half a gigabyte in Pillow


def decode(content: bytes) -> Image.Image:
    """An image file's content as an upright image of mode L (greyscale) or RGB.

    The orientation in the EXIF data is applied and an alpha channel is dropped. Of 16 bits the upper 8 are kept.
    32-bit integers have no fixed range, so each image decides by itself: with values up to 255 it is taken as it is, up
    to 65,535 as 16 bits. A dark image of 16 bits would be taken for one of 8: save such images as 16-bit files. What
    was decided is in `info[INTEGER_BITS]`, unless all is black, so that a data set that mixes both can be refused.
    Floating-point numbers must be in 0..1 and become 0..255, rounded.

    Raises:
        ValueError: If the content is no image, is cut short, is too large to be decoded, or has values out of range.

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
        with _open(content) as image:
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
            return _greyscale_or_rgb(image)
    except UnidentifiedImageError as error:
        # Pillow's text holds the address of a buffer, which would differ from run to run
        raise ValueError("not an image file") from error
    except Exception as error:  # a damaged file makes decoders raise anything, struct.error included
        raise ValueError(str(error) or type(error).__name__) from error


def _open(content: bytes) -> Image.Image:
    with warnings.catch_warnings():
        # Pillow warns from half of the size on; here an image is decoded or refused, with the reason.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        image = Image.open(io.BytesIO(content))
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(f"{image.width} x {image.height} pixels; at most {MAX_PIXELS:,} are decoded")
    return image


def _greyscale_or_rgb(image: Image.Image) -> Image.Image:
    # Not convert("L"), which clips at 255 instead of scaling.
    if image.mode.startswith("I;"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode == "I":
        return _from_integers(np.asarray(image), sixteen=image.format == "PPM")  # Pillow scales those to 16 bits
    if image.mode == "F":
        return _from_floats(np.asarray(image))
    if image.mode in {"1", "L", "LA"}:
        return image.convert("L")
    if image.mode == "P" and "transparency" in image.info:
        return image.convert("RGBA").convert("RGB")  # the direct way warns about the transparency
    return image.convert("RGB")


def _from_integers(values: NDArray[np.int32], *, sixteen: bool) -> Image.Image:
    """32-bit integers as 8 bits; `sixteen` where 16 of them are known to be used.

    Raises:
        ValueError: If they fit neither 8 nor 16 bits.
    """
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise ValueError(f"32-bit integers from {low} to {high}; expected 0..255 or 0..65535")
    image = Image.fromarray((values >> 8 if sixteen or high > 255 else values).astype(np.uint8))
    if not sixteen and high:
        image.info[INTEGER_BITS] = 16 if high > 255 else 8
    return image


def _from_floats(values: NDArray[np.float32]) -> Image.Image:
    """Shares of white as 8 bits.

    Raises:
        ValueError: If one is not in 0..1.
    """
    if not bool(((values >= 0) & (values <= 1)).all()):  # NaN neither
        raise ValueError(f"floating-point numbers from {values.min():g} to {values.max():g}; expected 0..1")
    return Image.fromarray(np.rint(values * 255).astype(np.uint8))


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
