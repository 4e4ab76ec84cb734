from pathlib import Path

import numpy as np

from hwnas.data import Images, Preprocessing, split
from hwnas.data.decode import EncodedImages
from hwnas.data.labelled_files import LabelledFile, read_labelled_files
from tests.data.tiny_images import COLOURS


def listed(folder: Path) -> list[LabelledFile]:
    return [LabelledFile(file.name, file, file.parent.name) for file in sorted(folder.rglob("*.png"))]


def test_what_does_not_fit_into_memory_stays_files(tiny_images: Path) -> None:
    parts = {"train": listed(tiny_images)}
    pixel_bytes = 120 * 32 * 32 * 3
    kept = read_labelled_files(parts, classes=list(COLOURS), source="x", max_pixel_bytes=pixel_bytes).train
    files = read_labelled_files(parts, classes=list(COLOURS), source="x", max_pixel_bytes=pixel_bytes - 1).train
    assert isinstance(kept.images, np.ndarray)
    assert isinstance(files.images, EncodedImages)
    one, two = (split(data, seed=0) for data in (kept, files))
    assert np.array_equal(one.train.indices, two.train.indices)
    preprocessing = Preprocessing.fit(one.train)
    assert preprocessing == Preprocessing.fit(two.train)
    resized = [Images(splits.test, preprocessing).resized(24) for splits in (one, two)]
    assert resized[0].equal(resized[1])


def test_contents_and_files_are_alike(tiny_images: Path) -> None:
    files = listed(tiny_images)
    contents = [LabelledFile(f.name, f.content.read_bytes(), f.label) for f in files if isinstance(f.content, Path)]
    digests = {
        read_labelled_files({"train": part}, classes=list(COLOURS), source="x").train.digest
        for part in (files, contents)
    }
    assert len(digests) == 1


def test_parts_are_named_in_the_source_and_share_channels(tiny_images: Path) -> None:
    files = listed(tiny_images)
    found = read_labelled_files({"train": files, "test": files[::4]}, classes=list(COLOURS), source="x", channels=1)
    assert found.test is not None
    assert (found.train.source, found.test.source) == ("x (train)", "x (test)")
    assert found.train.channels == found.test.channels == 1
