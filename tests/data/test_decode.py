import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hwnas.core import DataError
from hwnas.data.decode import INTEGER_BITS, EncodedImages, as_array, as_image, decode, with_channels


def encoded(image: Image.Image, kind: str = "png", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("mode", "decoded"),
    [("L", "L"), ("1", "L"), ("LA", "L"), ("I;16", "L"), ("RGB", "RGB"), ("RGBA", "RGB"), ("P", "RGB")],
)
def test_every_mode_becomes_greyscale_or_rgb(mode: str, decoded: str) -> None:
    assert decode(encoded(Image.new(mode, (5, 4)))).mode == decoded


def test_cmyk_jpeg_becomes_rgb() -> None:
    assert decode(encoded(Image.new("CMYK", (8, 8)), "jpeg")).mode == "RGB"


def test_sixteen_bits_keep_the_upper_eight() -> None:
    values = np.array([[0, 255, 256, 40000, 65535]], np.uint16)
    assert as_array(decode(encoded(Image.fromarray(values))))[0, :, 0].tolist() == [0, 0, 1, 156, 255]


def test_alpha_is_dropped_not_blended() -> None:
    assert decode(encoded(Image.new("RGBA", (1, 1), (10, 20, 30, 0)))).getpixel((0, 0)) == (10, 20, 30)


def test_palette_with_transparency_does_not_warn() -> None:
    image = Image.new("P", (2, 2), 1)
    image.putpalette([0, 0, 0, 200, 100, 50])
    assert decode(encoded(image, transparency=b"\xff\x00")).getpixel((0, 0)) == (200, 100, 50)


@pytest.mark.parametrize(("orientation", "corner"), [(1, (0, 0)), (3, (1, 2)), (6, (2, 0)), (8, (0, 1))])
def test_exif_orientation_is_applied(orientation: int, corner: tuple[int, int]) -> None:
    pixels = np.zeros((3, 2), np.uint8)
    pixels[0, 0] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = as_array(decode(encoded(Image.fromarray(pixels), exif=exif)))[:, :, 0]
    x, y = corner
    assert upright.shape == ((3, 2) if orientation in {1, 3} else (2, 3))
    assert np.argwhere(upright == 255).tolist() == [[y, x]]


@pytest.mark.parametrize("kind", ["png", "jpeg", "bmp", "gif", "tiff", "webp"])
def test_cut_files_are_refused(kind: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    whole = encoded(Image.fromarray(noise), kind)
    decode(whole)
    with pytest.raises(ValueError, match=r"\w"):
        decode(whole[: len(whole) // 2])


def test_reasons_are_the_same_in_every_run() -> None:
    with pytest.raises(ValueError, match="^not an image file$"):
        decode(b"some text")
    with pytest.raises(ValueError, match="^the file is empty$"):
        decode(b"")


def test_array_and_image_are_inverse() -> None:
    for shape in ((4, 5, 1), (4, 5, 3)):
        pixels = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
        assert np.array_equal(as_array(as_image(pixels)), pixels)


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 2), (0, 5, 3), (1, 4, 5, 3)])
def test_arrays_that_are_no_images_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match=r"expected uint8 \[h, w, 1\] or \[h, w, 3\]"):
        as_image(np.zeros(shape, np.uint8))
    with pytest.raises(DataError, match="float64"):
        as_image(np.zeros((4, 4, 1)))  # type: ignore[arg-type]


def test_grey_follows_the_luma_weights() -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    grey = as_array(with_channels(as_image(pixels), 1))[:, :, 0]
    assert np.abs(grey - pixels @ np.array([0.299, 0.587, 0.114])).max() <= 1
    back = as_array(with_channels(Image.fromarray(grey), 3))
    assert (back == grey[:, :, None]).all()


def test_encoded_images_decode_files_and_contents_on_demand(tmp_path: Path) -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (6, 7, 3), dtype=np.uint8)
    content = encoded(Image.fromarray(pixels))
    (tmp_path / "a.png").write_bytes(content)
    images = EncodedImages([tmp_path / "a.png", content], 3)
    assert len(images) == 2
    assert all(np.array_equal(image, pixels) for image in images)
    assert np.array_equal(images[1:][0], pixels)
    (tmp_path / "a.png").unlink()
    with pytest.raises(DataError, match=r"a\.png: could be read when the data was loaded"):
        images[0]


def test_integers_of_32_bits_are_scaled_by_what_they_hold() -> None:
    """Values 0..255 stay as they are: the upper 8 of 16 bits of such a TIFF would be black."""

    def read(values: list[int], kind: str = "tiff") -> list[int]:
        image = Image.fromarray(np.array([values], np.int32))
        assert image.mode == "I"
        found: list[int] = as_array(decode(encoded(image, kind)))[0, :, 0].tolist()
        return found

    assert read([0, 1, 128, 255]) == [0, 1, 128, 255]
    assert read([0, 255, 256, 40000, 65535]) == [0, 0, 1, 156, 255]
    for values in ([-1, 5], [0, 65536]):
        with pytest.raises(
            ValueError, match=rf"32-bit integers from {values[0]} to {values[1]}; expected 0..255 or 0..65535"
        ):
            read(values)


@pytest.mark.parametrize(("values", "bits"), [([0, 255], 8), ([0, 256], 16), ([0, 0], None)])
def test_the_scale_of_32_bits_is_known_unless_all_is_black(values: list[int], bits: int | None) -> None:
    content = encoded(Image.fromarray(np.array([values], np.int32)), "tiff")
    assert decode(content).info.get(INTEGER_BITS) == bits


def test_a_portable_grey_map_of_16_bits_is_never_taken_for_8() -> None:
    """Pillow opens it as 32-bit integers; a dark one has no value above 255."""
    content = b"P5 2 1 65535\n" + np.array([200, 255], ">u2").tobytes()
    assert as_array(decode(content))[0, :, 0].tolist() == [0, 0]
    content = b"P5 2 1 65535\n" + np.array([256, 65535], ">u2").tobytes()
    assert as_array(decode(content))[0, :, 0].tolist() == [1, 255]


@pytest.mark.parametrize("order", ["<u2", ">u2"])
def test_both_orders_of_bytes_in_16_bits_are_read(order: str) -> None:
    values = np.array([[0, 255, 256, 65535]], order)
    image = Image.frombytes("I;16" if order == "<u2" else "I;16B", (4, 1), values.tobytes())
    assert as_array(decode(encoded(image, "tiff")))[0, :, 0].tolist() == [0, 0, 1, 255]


def test_floating_point_pixels_are_shares_of_white() -> None:
    image = Image.fromarray(np.array([[0.0, 0.25, 0.5, 1.0]], np.float32))
    assert as_array(decode(encoded(image, "tiff")))[0, :, 0].tolist() == [0, 64, 128, 255]
    for values, text in (([0.0, 255.0], "0 to 255"), ([-0.5, 0.5], "-0.5 to 0.5"), ([0.0, np.nan], "nan")):
        image = Image.fromarray(np.array([values], np.float32))
        with pytest.raises(ValueError, match=f"floating-point numbers from .*{text}.*; expected 0..1"):
            decode(encoded(image, "tiff"))


def test_an_image_too_large_to_be_decoded_is_refused_by_its_header(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between one and two times Pillow's own limit it warns, which no user can act on."""
    content = encoded(Image.new("L", (64, 64)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 64 * 64 - 1)
    assert decode(content).size == (64, 64)
    monkeypatch.setattr(sys.modules["hwnas.data.decode"], "MAX_PIXELS", 64 * 64 - 1)
    with pytest.raises(ValueError, match="64 x 64 pixels; at most 4,095 are decoded"):
        decode(content)
