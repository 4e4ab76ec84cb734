"""Cases O-02, O-03 and O-04 of the list of open cases, as far as data goes."""

import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hwnas.core import DataError
from hwnas.data import DataSource, ImageData, Preprocessing, image_folder
from tests.data.tiny_images import damage, make_grey_images, make_tiny_images


def test_hidden_and_empty_folders_are_not_classes(tiny_images: Path) -> None:
    """Case O-02."""
    (tiny_images / ".ipynb_checkpoints").mkdir()
    shutil.copy(tiny_images / "red" / "00.png", tiny_images / ".ipynb_checkpoints")
    (tiny_images / "spare").mkdir()
    (tiny_images / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")
    (tiny_images / "red" / "._00.png").write_bytes(b"resource fork")
    (tiny_images / "red" / ".ipynb_checkpoints").mkdir()
    shutil.copy(tiny_images / "red" / "00.png", tiny_images / "red" / ".ipynb_checkpoints")
    data = image_folder(tiny_images).train
    assert data.classes == ("blue", "green", "red")
    assert data.counts() == {"blue": 40, "green": 40, "red": 40}
    assert data.skipped == ('class "spare": no images',)
    splits = DataSource("image_folder", path=tiny_images).load(seed=0)
    assert splits.to_json()["classes"] == ["blue", "green", "red"]
    assert splits.to_json()["skipped"] == ['class "spare": no images']


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems refuse such names")
def test_a_class_folder_not_named_in_utf_8_is_refused(tiny_images: Path) -> None:
    """It passed `hwnas profile`, and `hwnas search` ended in a UnicodeEncodeError."""
    (tiny_images / "red").rename(tiny_images / os.fsdecode(b"\xe9t\xe9"))
    with pytest.raises(DataError, match=r'class folder "\\udce9t\\udce9" is not UTF-8') as caught:
        image_folder(tiny_images)
    assert caught.value.hint.startswith("rename it in UTF-8")
    caught.value.message.encode()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems refuse such names")
def test_files_not_named_in_utf_8_are_read_and_told_with_escapes(tiny_images: Path) -> None:
    for name in (b"\xe9.png", b"\xe9.txt"):
        (tiny_images / "red" / os.fsdecode(name)).write_bytes(b"")
    root = tiny_images.rename(tiny_images.with_name(os.fsdecode(b"donn\xe9es")))
    row = DataSource("image_folder", path=root, damaged="skip").load(seed=0).to_json()
    assert row["skipped"] == [
        r"red/: 1 file not images: \udce9.txt",
        r"damaged: red/\udce9.png (the file is empty)",
    ]
    assert row["source"].endswith(r"donn\udce9es")
    str(row).encode()


def test_integers_of_32_bits_of_two_scales_are_refused(tmp_path: Path) -> None:
    """A dark image among others of 16 bits was not divided by 256."""
    for number, largest in enumerate((40000, 200, 0, 65535)):
        folder = tmp_path / "ab"[number % 2]
        folder.mkdir(exist_ok=True)
        Image.fromarray(np.full((8, 8), largest, np.int32)).save(folder / f"{number}.tif")
    with pytest.raises(DataError, match=r"32-bit integers, b/1.tif has values up to 255 and a/0.tif above") as caught:
        image_folder(tmp_path)
    assert "16-bit files" in caught.value.hint
    Image.fromarray(np.full((8, 8), 200, np.uint16)).save(tmp_path / "b" / "1.tif")
    images = image_folder(tmp_path).train.images
    assert [int(image[0, 0, 0]) for image in images] == [156, 0, 0, 255]


def test_damaged_images_are_all_listed_before_training(tiny_images: Path) -> None:
    """Case O-03, default."""
    names = damage(tiny_images)
    with pytest.raises(DataError, match=r"3 of 120 images cannot be read") as caught:
        DataSource("image_folder", path=tiny_images).load(seed=0)
    assert all(name in caught.value.message for name in names)
    assert "green/07.png (the file is empty)" in caught.value.message
    assert 'damaged = "skip"' in caught.value.hint


def test_damaged_images_can_be_skipped(tiny_images: Path) -> None:
    """Case O-03, with the option."""
    names = damage(tiny_images)
    splits = DataSource("image_folder", path=tiny_images, damaged="skip").load(seed=0)
    assert sum(len(part) for part in splits.parts().values()) == 117
    told = splits.to_json()["skipped"]
    assert len(told) == 3
    assert all(line.startswith(f"damaged: {name} (") for line, name in zip(told, names, strict=True))


def test_many_damaged_images_are_counted_and_the_first_named(tiny_images: Path) -> None:
    for file in (tiny_images / "red").iterdir():
        file.write_bytes(b"")
    with pytest.raises(DataError, match=r"40 of 120 .*red/09\.png .* and 30 more"):
        image_folder(tiny_images)
    with pytest.raises(DataError, match='class "red" has 0 images and needs at least 3 images'):
        DataSource("image_folder", path=tiny_images, damaged="skip").load(seed=0)


def test_nothing_but_damage_cannot_be_skipped(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.png").write_bytes(b"")
    with pytest.raises(DataError, match="2 of 2 images cannot be read"):
        image_folder(tmp_path, damaged="skip")


def test_greyscale_stays_one_channel(tmp_path: Path) -> None:
    """Case O-04, up to the preprocessing that goes into the exported file."""
    splits = DataSource("image_folder", path=make_grey_images(tmp_path / "grey")).load(seed=0)
    preprocessing = Preprocessing.fit(splits.train)
    assert splits.channels == preprocessing.channels == preprocessing.to_json(32)["channels"] == 1
    assert next(iter(splits.train)).shape == (32, 32, 1)


def test_one_colour_image_makes_all_colour_unless_told(tmp_path: Path) -> None:
    folder = make_grey_images(tmp_path / "grey")
    grey = image_folder(folder).train
    Image.new("RGB", (32, 32), (255, 0, 0)).save(folder / "left" / "99.png")
    mixed = image_folder(folder).train
    assert (grey.channels, mixed.channels) == (1, 3)
    assert image_folder(folder, channels=1).train.channels == 1
    assert image_folder(folder, channels=1).train.images[40][0, 0, 0] == 76
    assert np.array_equal(np.repeat(grey.images[0], 3, axis=2), mixed.images[0])


def test_images_of_different_sizes_stay_as_they_are(tiny_images: Path) -> None:
    Image.new("RGB", (40, 28)).save(tiny_images / "blue" / "00.png")
    data = image_folder(tiny_images).train
    assert isinstance(data.images, tuple)
    assert data.images[0].shape == (28, 40, 3)


def test_suffixes_in_capitals_nested_folders_and_other_files(tiny_images: Path) -> None:
    (tiny_images / "red" / "00.png").rename(tiny_images / "red" / "00.PNG")
    (tiny_images / "red" / "more").mkdir()
    (tiny_images / "red" / "01.png").rename(tiny_images / "red" / "more" / "01.png")
    (tiny_images / "red" / "notes.txt").write_text("x")
    (tiny_images / "labels.csv").write_text("x")
    (tiny_images / "stray.png").write_bytes(b"")
    data = image_folder(tiny_images).train
    assert data.counts()["red"] == 40
    assert data.skipped == (
        "top level: 2 files not images: labels.csv, stray.png",
        "red/: 1 file not images: notes.txt",
    )


def given_split(folder: Path, **counts: int) -> Path:
    for seed, (part, count) in enumerate(counts.items()):
        make_tiny_images(folder / part, count=count, seed=seed)
    return folder


def test_a_given_split_is_taken(tmp_path: Path) -> None:
    folder = given_split(tmp_path / "data", train=8, val=3, test=2)
    (folder / "annotations").mkdir()
    (folder / "val" / "stray.png").write_bytes(b"")
    found = image_folder(folder)
    assert found.validation is not None
    assert found.test is not None
    assert [len(part) for part in (found.train, found.validation, found.test)] == [24, 9, 6]
    assert found.train.classes == found.test.classes == ("blue", "green", "red")
    assert found.train.skipped == (
        "annotations/: not part of the split",
        "val/: 1 file not in a class folder: stray.png",
    )
    splits = DataSource("image_folder", path=folder).load(seed=1)
    assert splits.counts()["validation"] == {"blue": 3, "green": 3, "red": 3}


def test_a_given_test_part_leaves_validation_to_be_cut(tmp_path: Path) -> None:
    folder = given_split(tmp_path / "data", training=10, testing=2)
    splits = DataSource("image_folder", path=folder, validation=0.2).load(seed=1)
    assert [len(part) for part in splits.parts().values()] == [24, 6, 6]


def test_train_alone_is_split_and_an_empty_part_is_told(tmp_path: Path) -> None:
    folder = given_split(tmp_path / "data", train=4)
    assert image_folder(folder).test is None
    (folder / "test").mkdir()
    found = image_folder(folder)
    assert found.test is None
    assert found.train.skipped == ("test/: no images",)


def test_train_may_be_a_class_beside_others(tmp_path: Path) -> None:
    for name in ("bus", "train"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / name / "0.png")
    assert image_folder(tmp_path).train.classes == ("bus", "train")


def test_splits_that_cannot_be_meant_are_refused(tmp_path: Path) -> None:
    folder = given_split(tmp_path / "two", val=1, train=2, validation=1)
    with pytest.raises(DataError, match="val/ and validation/ both name the validation part"):
        image_folder(folder)
    flat = tmp_path / "flat"
    for part in ("train", "test"):
        (flat / part).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(flat / part / "0.png")
    with pytest.raises(DataError, match="train: has no sub-folders"):
        image_folder(flat)
    folder = given_split(tmp_path / "more", train=4, test=2)
    shutil.rmtree(folder / "train" / "red")
    with pytest.raises(DataError, match='class "red" has images in test and none in train'):
        image_folder(folder)
    folder = given_split(tmp_path / "less", train=4, test=2)
    shutil.rmtree(folder / "test" / "red")
    with pytest.raises(DataError, match=r'class "red" has no image in the test part'):
        DataSource("image_folder", path=folder).load(seed=0)


def test_a_folder_without_classes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="missing: no such folder"):
        image_folder(tmp_path / "missing")
    Image.new("RGB", (8, 8)).save(tmp_path / "0.png")
    with pytest.raises(DataError, match="classes with images: none; expected at least two"):
        image_folder(tmp_path)
    (tmp_path / "cat").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "cat" / "0.png")
    with pytest.raises(DataError, match="classes with images: cat; expected"):
        image_folder(tmp_path)


def test_the_order_of_writing_does_not_matter(tmp_path: Path) -> None:
    def copy(names: list[Path], target: Path) -> ImageData:
        for name in names:
            (target / name.parent.name).mkdir(parents=True, exist_ok=True)
            shutil.copy(name, target / name.parent.name / name.name)
        return image_folder(target).train

    files = sorted(make_tiny_images(tmp_path / "data", count=5).rglob("*.png"))
    assert copy(files, tmp_path / "one").digest == copy(files[::-1], tmp_path / "two").digest
