import gzip
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from hwnas.core import DataError
from hwnas.data import DataSource, fashion_mnist
from hwnas.data.fashion_mnist import CLASSES, FILES, SYSTEM_FOLDER
from tests.data.test_idx import idx_bytes

MODULE = import_module("hwnas.data.fashion_mnist")  # the package has the function under this name


def write(folder: Path) -> Path:
    """Ten images of every class for training and one for the test, each pixel its label."""
    folder.mkdir(parents=True)
    for part, copies in (("train", 10), ("t10k", 1)):
        labels = np.tile(np.arange(10, dtype=np.uint8), copies)
        images = np.broadcast_to(labels[:, None, None], (len(labels), 28, 28)).copy()
        (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx_bytes(images)))
        (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx_bytes(labels)))
    return folder


def test_reads_train_and_test(tmp_path: Path) -> None:
    found = fashion_mnist(write(tmp_path / "files"))
    assert found.test is not None
    assert found.validation is None
    assert (len(found.train), len(found.test)) == (100, 10)
    assert found.train.classes == CLASSES
    assert found.train.images[3].shape == (28, 28, 1)
    assert all(int(image[0, 0, 0]) == label for image, label in zip(found.test.images, range(10), strict=True))


def test_missing_files_are_named(tmp_path: Path) -> None:
    folder = write(tmp_path / "files")
    (folder / FILES[1]).unlink()
    with pytest.raises(DataError, match=r"train-labels-idx1-ubyte\.gz missing") as caught:
        fashion_mnist(folder)
    assert "leave the path out" in caught.value.hint


def test_truncated_file_is_named(tmp_path: Path) -> None:
    folder = write(tmp_path / "files")
    images = folder / FILES[0]
    images.write_bytes(images.read_bytes()[:100])
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz: cannot be read"):
        fashion_mnist(folder)


def test_labels_beyond_the_classes_are_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "files")
    (folder / FILES[3]).write_bytes(gzip.compress(idx_bytes(np.full(10, 10, np.uint8))))
    with pytest.raises(DataError, match="labels go from 10 to 10; there are 10 classes"):
        fashion_mnist(folder)


def test_the_system_folder_comes_before_a_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MODULE, "SYSTEM_FOLDER", write(tmp_path / "system"))
    assert str(tmp_path / "system") in fashion_mnist().train.source


def test_downloads_once_into_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def download(root: str, *, download: bool) -> None:
        assert download
        calls.append(root)
        write(Path(root, "FashionMNIST", "raw"))

    monkeypatch.setattr(MODULE, "SYSTEM_FOLDER", tmp_path / "nothing")
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.setattr("torchvision.datasets.FashionMNIST", download)
    for _ in range(2):
        assert len(fashion_mnist().train) == 100
    assert calls == [str(tmp_path / ".cache" / "hwnas")]


def test_a_failed_download_says_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(root: str, *, download: bool) -> None:
        raise RuntimeError("Error downloading")

    monkeypatch.setattr(MODULE, "SYSTEM_FOLDER", tmp_path / "nothing")
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.setattr("torchvision.datasets.FashionMNIST", download)
    with pytest.raises(DataError, match="cannot be downloaded to .*: Error downloading") as caught:
        fashion_mnist()
    assert "dataset-fashion-mnist" in caught.value.hint


def test_the_real_files_where_debian_puts_them() -> None:
    if not SYSTEM_FOLDER.is_dir():
        pytest.skip("needs Debian's package dataset-fashion-mnist")
    splits = DataSource("fashion_mnist").load(seed=0)
    assert {name: len(part) for name, part in splits.parts().items()} == {
        "train": 51000,
        "validation": 9000,
        "test": 10000,
    }
    assert set(splits.counts()["validation"].values()) == {900}
