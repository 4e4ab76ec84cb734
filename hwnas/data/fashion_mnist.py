"""Fashion-MNIST: 70,000 greyscale images 28x28 of ten kinds of clothing, from local files or a download."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hwnas.core import DataError
from hwnas.data.dataset import ImageData, SourceData
from hwnas.data.idx import read_idx

CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
SYSTEM_FOLDER = Path("/usr/share/datasets/fashion-mnist")  # of Debian's package dataset-fashion-mnist
FILES = tuple(f"{part}-{kind}-ubyte.gz" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1"))


def fashion_mnist(folder: Path | None = None) -> SourceData:
    """The 60,000 training and 10,000 test images.

    Source: Xiao, Rasul and Vollgraf 2017, arXiv:1708.07747.

    Args:
        folder: Holds the four `.gz` files. None looks where Debian's package dataset-fashion-mnist puts them, then in
            `~/.cache/hwnas`, and as a last resort downloads them there.

    Raises:
        DataError: If a file is missing or damaged, or the download fails.
    """
    folder = Path(folder) if folder is not None else _find()
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise DataError(
            f"{folder}: {', '.join(missing)} missing; expected the four files of Fashion-MNIST",
            hint="leave the path out to use the system's copy or a download",
        )
    return SourceData(train=_read(folder, "train"), test=_read(folder, "t10k"))


def _read(folder: Path, part: str) -> ImageData:
    images = read_idx(folder / f"{part}-images-idx3-ubyte.gz", dimensions=3)
    labels = read_idx(folder / f"{part}-labels-idx1-ubyte.gz", dimensions=1).astype(np.int64)
    name = "train" if part == "train" else "test"
    return ImageData(images[:, :, :, None], labels, CLASSES, f"Fashion-MNIST ({name}), {folder}")


def _find() -> Path:
    cache = Path.home() / ".cache" / "hwnas"
    downloaded = cache / "FashionMNIST" / "raw"  # torchvision's layout
    for folder in (SYSTEM_FOLDER, downloaded):
        if all((folder / name).is_file() for name in FILES):
            return folder
    _download(cache)
    return downloaded


def _download(cache: Path) -> None:
    from torchvision.datasets import FashionMNIST  # takes a second to import and is rarely needed

    try:
        FashionMNIST(str(cache), download=True)
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"Fashion-MNIST is not in {SYSTEM_FOLDER} and cannot be downloaded to {cache}: {error}",
            hint='install the package dataset-fashion-mnist, or set path to a folder with its four ".gz" files',
        ) from error
