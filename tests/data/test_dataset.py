import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hwnas.core import DataError
from hwnas.data import ImageData
from hwnas.data.dataset import stacked
from hwnas.data.decode import EncodedImages


def test_counts_name_every_class(noise: ImageData) -> None:
    assert noise.counts() == {"a": 20, "b": 20, "c": 20}
    assert replace(noise, classes=("a", "b", "c", "d")).counts()["d"] == 0


def test_digest_depends_on_pixels_labels_classes_and_shape_only(noise: ImageData) -> None:
    changed = np.array(noise.images)
    changed[5, 0, 0, 0] ^= 1
    relabelled = noise.labels.copy()
    relabelled[0] = 2
    others = [
        replace(noise, images=changed),
        replace(noise, labels=relabelled),
        replace(noise, classes=("a", "b", "x")),
        replace(noise, images=np.array(noise.images).reshape(60, 6, 24, 3)),
    ]
    assert len({noise.digest, *(other.digest for other in others)}) == 5
    assert replace(noise, source="elsewhere", skipped=("x",)).digest == noise.digest
    assert replace(noise, images=tuple(noise.images)).digest == noise.digest


def test_digest_of_images_kept_as_files(tmp_path: Path) -> None:
    contents = []
    for value in (1, 2):
        file = io.BytesIO()
        Image.new("L", (4, 4), value).save(file, "png")
        contents.append(file.getvalue())
    (tmp_path / "one.png").write_bytes(contents[0])
    labels = np.array([0, 1])
    in_memory = ImageData(EncodedImages(contents, 1), labels, ("x", "y"), "made up")
    on_disk = ImageData(EncodedImages([tmp_path / "one.png", contents[1]], 1), labels, ("x", "y"), "made up")
    swapped = ImageData(EncodedImages(contents[::-1], 1), labels, ("x", "y"), "made up")
    assert in_memory.digest == on_disk.digest != swapped.digest
    assert in_memory.with_channels(3).images[0].shape == (4, 4, 3)
    assert in_memory.with_channels(3).digest != in_memory.digest


def test_with_channels(noise: ImageData) -> None:
    grey = noise.with_channels(1)
    assert grey.channels == 1
    expected = np.asarray(Image.fromarray(noise.images[7]).convert("L"))
    assert np.array_equal(grey.images[7][:, :, 0], expected)
    assert noise.with_channels(3) is noise
    assert np.array_equal(grey.with_channels(3).images[7][:, :, 2], expected)


def test_stacked_keeps_different_sizes_apart() -> None:
    small, large = np.zeros((2, 2, 1), np.uint8), np.zeros((3, 2, 1), np.uint8)
    assert isinstance(stacked([small, large]), tuple)
    assert isinstance(stacked([small, small]), np.ndarray)


def test_parts_that_do_not_fit_are_refused(noise: ImageData) -> None:
    with pytest.raises(DataError, match="noise: 60 images and 59 labels"):
        replace(noise, labels=noise.labels[1:])
    with pytest.raises(DataError, match="labels go from 0 to 2; there are 2 classes"):
        replace(noise, classes=("a", "b"))
    with pytest.raises(DataError, match="labels go from -1"):
        replace(noise, labels=noise.labels - 1)
    with pytest.raises(DataError, match='two classes are named "a"'):
        replace(noise, classes=("a", "b", "a"))
    with pytest.raises(DataError, match="at least one image"):
        replace(noise, images=noise.images[:0], labels=noise.labels[:0])
