"""The `[data]` table of a recipe, and the sources it can name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hwnas.core import DataError
from hwnas.core.errors import did_you_mean
from hwnas.data.dataset import ImageData, SourceData
from hwnas.data.decode import Channels
from hwnas.data.digits import digits
from hwnas.data.fashion_mnist import fashion_mnist
from hwnas.data.image_folder import image_folder
from hwnas.data.labelled_files import Damaged
from hwnas.data.parquet import parquet
from hwnas.data.split import Splits, check_shares, split


@dataclass(frozen=True)
class DataSource:
    """Where images come from and how they are cut into parts.

    Attributes:
        source: "digits", "fashion_mnist", "image_folder" or "parquet".
        path: The folder or file; `image_folder` and `parquet` need one, `digits` takes none, `fashion_mnist` finds its
            own.
        validation: Share of each class to choose by; not used where the source has its own part.
        test: Share of each class to report; likewise.
        channels: 1 (greyscale) or 3 (RGB); None takes what the images have.
        damaged: "refuse" or "skip" damaged images.
        limit: At most so many images are split, and used of each given part; None for all.

    Raises:
        DataError: If a part has a value it cannot have.

    Example:
        >>> DataSource("digits", limit=100).load(seed=0).channels
        1
    """

    source: str
    path: Path | None = None
    validation: float = 0.15
    test: float = 0.15
    channels: Channels | None = None
    damaged: Damaged = "refuse"
    limit: int | None = None

    def __post_init__(self) -> None:
        if self.source not in SOURCES:
            raise DataError(f'data: source is "{self.source}"; {did_you_mean(self.source, SOURCES)}')
        if self.path is None and self.source in {"image_folder", "parquet"}:
            raise DataError(f'data: path is missing; source "{self.source}" needs one')
        if self.path is not None and self.source == "digits":
            raise DataError(f'data: path is "{self.path}"; source "digits" takes none')
        if self.channels not in {None, 1, 3}:
            raise DataError(f"data: channels is {self.channels}; expected 1 or 3, or nothing")
        if self.damaged not in {"refuse", "skip"}:
            raise DataError(f'data: damaged is "{self.damaged}"; expected "refuse" or "skip"')
        if self.limit is not None and self.limit < 1:
            raise DataError(f"data: limit is {self.limit}; it must be above 0")
        shares = {"validation": self.validation, "test": self.test}
        if self.source == "fashion_mnist":
            del shares["test"]  # which comes with it
        if self.source in {"image_folder", "parquet"}:  # may have parts of their own, and then a share of 0 is fair
            shares = {name: share for name, share in shares.items() if share != 0}
        check_shares(shares)

    def load(self, seed: int) -> Splits:
        """Read and check every image, and split.

        Raises:
            DataError: If images cannot be found, read or split.
        """
        found = SOURCES[self.source](self)
        return split(
            self._as_asked(found.train),
            validation=self.validation if found.validation is None else self._as_asked(found.validation),
            test=self.test if found.test is None else self._as_asked(found.test),
            seed=seed,
            limit=self.limit,
        )

    def _as_asked(self, data: ImageData) -> ImageData:
        return data if self.channels is None else data.with_channels(self.channels)


def _path(data: DataSource) -> Path:
    assert data.path is not None, "DataSource has checked it"
    return Path(data.path)


SOURCES: dict[str, Callable[[DataSource], SourceData]] = {
    "digits": lambda _: SourceData(digits()),
    "fashion_mnist": lambda data: fashion_mnist(data.path),
    "image_folder": lambda data: image_folder(_path(data), channels=data.channels, damaged=data.damaged),
    "parquet": lambda data: parquet(_path(data), channels=data.channels, damaged=data.damaged),
}
