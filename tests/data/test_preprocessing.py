import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from hwnas.core import DataError
from hwnas.data import ImageData, Part, Preprocessing, preprocessing
from hwnas.data.dataset import stacked
from hwnas.data.decode import as_array, as_image

Pixels = NDArray[np.uint8]


def by_hand(image: Pixels, rule: Preprocessing, size: int) -> NDArray[np.float64]:
    """Preprocessing again, following only `to_json`, with its own bilinear filter."""
    text = json.loads(json.dumps(rule.to_json(size)))
    values = image.astype(np.float64)
    if text["channel_order"] == "L" and image.shape[2] == 3:
        weights = np.array([19595, 38470, 7471])  # ITU-R 601 in 16 bits
        values = ((image.astype(np.int64) @ weights + 0x8000) >> 16)[:, :, None].astype(np.float64)
    if text["channel_order"] == "RGB" and image.shape[2] == 1:
        values = np.repeat(values, 3, axis=2)
    height, width = image.shape[:2]
    shorter = min(height, width)
    new = (math.floor(height * size / shorter), math.floor(width * size / shorter))
    if shorter != size:
        values = np.round(triangle(values, new[1], axis=1))
        values = np.round(triangle(values, new[0], axis=0))
    top, left = (new[0] - size) // 2, (new[1] - size) // 2
    values = values[top : top + size, left : left + size]
    values = (values / 255 - np.array(text["mean"])) / np.array(text["std"])
    assert text["layout"] == "NCHW"
    planes: NDArray[np.float64] = values.transpose(2, 0, 1)
    return planes


def triangle(values: NDArray[np.float64], length: int, axis: int) -> NDArray[np.float64]:
    """Resample along one axis with a triangle as wide as one output pixel, or one input pixel where it enlarges."""
    count = values.shape[axis]
    scale = count / length
    support = max(scale, 1.0)
    centres = (np.arange(length) + 0.5) * scale
    distance = np.abs((np.arange(count) + 0.5)[None] - centres[:, None]) / support
    weights = np.maximum(0.0, 1.0 - distance)
    weights /= weights.sum(axis=1, keepdims=True)
    result: NDArray[np.float64] = np.moveaxis(np.tensordot(weights, values, axes=(1, axis)), 0, axis)
    return result


RULES = (Preprocessing(1, (0.4,), (0.2,)), Preprocessing(3, (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)))


@given(
    st.integers(2, 40),
    st.integers(2, 40),
    st.sampled_from([1, 3]),
    st.sampled_from(RULES),
    st.integers(2, 32),
    st.data(),
)
def test_agrees_with_a_second_implementation(
    height: int, width: int, channels: int, rule: Preprocessing, size: int, data: st.DataObject
) -> None:
    seed = data.draw(st.integers(0, 2**32))
    image = np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)
    result = rule(image, size)
    assert result.dtype == np.float32
    assert result.shape == (rule.channels, size, size)
    # Pillow's filter has fixed-point weights and rounds after each axis: two grey levels of 255 at most
    assert np.abs(result - by_hand(image, rule, size)).max() <= 2.01 / 255 / min(rule.std)


@given(st.integers(0, 2**32), st.sampled_from(RULES))
def test_is_exact_where_nothing_is_resized(seed: int, rule: Preprocessing) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (9, 9, rule.channels), dtype=np.uint8)
    assert np.array_equal(rule.resized(image, 9), image)
    assert np.abs(rule(image, 9) - by_hand(image, rule, 9)).max() < 1e-5


def test_only_the_centre_of_a_long_image_is_seen() -> None:
    image = np.zeros((4, 9, 1), np.uint8)
    image[:, 2:6] = 100
    assert (RULES[0].resized(image, 4) == 100).all()
    assert (RULES[0].resized(image.transpose(1, 0, 2), 4) == 100).all()


def test_a_pillow_image_is_as_good_as_an_array() -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    for rule in RULES:
        assert np.array_equal(rule(Image.fromarray(image), 12), rule(image, 12))


def test_mean_and_std_are_those_of_the_training_images_only(noise: ImageData) -> None:
    part = Part(noise, np.arange(5, 45))
    rule = Preprocessing.fit(part)
    pixels = np.asarray(noise.images)[5:45] / 255
    assert np.allclose(rule.mean, pixels.mean(axis=(0, 1, 2)), atol=1e-6)
    assert np.allclose(rule.std, pixels.std(axis=(0, 1, 2)), atol=1e-6)
    assert Preprocessing.fit(Part(replace(noise, images=tuple(noise.images)), part.indices)) == rule


def test_large_images_do_not_weigh_more() -> None:
    images = (np.zeros((2, 2, 1), np.uint8), np.full((20, 20, 1), 255, np.uint8))
    data = ImageData(images, np.array([0, 0]), ("x",), "made up")
    rule = Preprocessing.fit(Part(data, np.arange(2)))
    assert rule == Preprocessing(1, (0.5,), (0.5,))


def test_images_of_one_colour_are_not_divided_by_zero() -> None:
    data = ImageData(np.full((2, 4, 4, 1), 255, np.uint8), np.array([0, 0]), ("x",), "made up")
    rule = Preprocessing.fit(Part(data, np.arange(2)))
    assert (rule(data.images[0], 4) == 0).all()


@given(st.sampled_from([1, 3]), st.data())
def test_json_round_trip(channels: int, data: st.DataObject) -> None:
    number = st.floats(1e-3, 1)
    mean, std = (tuple(data.draw(st.lists(number, min_size=channels, max_size=channels))) for _ in range(2))
    rule = Preprocessing(1 if channels == 1 else 3, mean, std)
    text = json.dumps(rule.to_json(28), allow_nan=False)
    assert Preprocessing.from_json(json.loads(text)) == rule
    assert json.loads(text)["size"] == 28


def test_json_of_another_kind_is_refused() -> None:
    row = RULES[1].to_json(28)
    with pytest.raises(DataError, match="resize is 'stretch'; this version knows \"shorter-side"):
        Preprocessing.from_json(row | {"resize": "stretch"})
    with pytest.raises(DataError, match="'std' is missing"):
        Preprocessing.from_json({name: value for name, value in row.items() if name != "std"})
    with pytest.raises(DataError, match="3 channels, mean"):
        Preprocessing.from_json(row | {"mean": [0.5]})


@pytest.mark.parametrize("std", [0.0, -1.0, math.nan, math.inf])
def test_numbers_that_cannot_be_divided_by_are_refused(std: float) -> None:
    with pytest.raises(DataError, match="expected finite numbers, std above 0"):
        Preprocessing(1, (0.5,), (std,))


def whole_and_cut(image: Pixels, size: int) -> Pixels:
    """The rule as it is said: resized whole, and then cut."""
    height, width = image.shape[:2]
    shorter = min(height, width)
    new = (width * size // shorter, height * size // shorter)
    whole = as_image(image).resize(new, Image.Resampling.BILINEAR) if shorter != size else as_image(image)
    left, top = (new[0] - size) // 2, (new[1] - size) // 2
    return as_array(whole.crop((left, top, left + size, top + size)))


@given(st.integers(1, 60), st.integers(1, 60), st.sampled_from([1, 3]), st.integers(1, 32), st.integers(0, 2**32))
def test_where_the_cut_part_alone_is_computed_it_is_that_of_the_whole(
    height: int, width: int, channels: int, size: int, seed: int
) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)
    rule, expected = RULES[channels == 3], whole_and_cut(image, size)
    assert np.array_equal(rule.resized(image, size), expected)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(preprocessing, "_MOST_PIXELS", 0)
        assert np.abs(rule.resized(image, size).astype(int) - expected).max() <= 1


@pytest.mark.parametrize("shape", [(1, 30_000, 3), (30_000, 1, 3), (2, 100_000, 1)])
def test_a_strip_takes_what_its_centre_takes(shape: tuple[int, int, int]) -> None:
    """The whole strip is never resized: 30,000 x 1 at 224 pixels would take 7 GB."""
    image = np.zeros(shape, np.uint8)
    long = int(np.argmax(shape))
    middle = np.moveaxis(image, long, 0)[shape[long] // 2 - 200 : shape[long] // 2 + 200]
    middle[:] = np.random.default_rng(0).integers(0, 256, middle.shape, dtype=np.uint8)
    rule = RULES[shape[2] == 3]
    found = rule.resized(image, 224)
    assert found.shape == (224, 224, rule.channels)
    # Within a grey level of what a strip that is cut beforehand gives, where the filter sees all that it would see.
    assert np.abs(found.astype(int) - whole_and_cut(np.moveaxis(middle, 0, long), 224)).max() <= 1


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=4), st.booleans())
def test_mean_and_std_do_not_depend_on_how_much_is_held_at_a_time(shapes: list[tuple[int, int]], alike: bool) -> None:
    rng = np.random.default_rng(len(shapes))
    shapes = [shapes[0]] * len(shapes) if alike else shapes
    images = stacked([rng.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in shapes])
    part = Part(ImageData(images, np.zeros(len(shapes), np.int64), ("a",), "x"), np.arange(len(shapes)))
    whole = Preprocessing.fit(part)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(preprocessing, "_VALUES_AT_ONCE", 7)
        assert Preprocessing.fit(part) == whole
    flat = [image.reshape(-1, 3) / 255 for image in images]
    assert whole.mean == pytest.approx(np.mean([pixels.mean(0) for pixels in flat], 0), abs=1e-6)
