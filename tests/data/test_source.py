from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hwnas.data
from hwnas.core import DataError
from hwnas.data import SOURCES, DataSource, Preprocessing, digits


def test_sources_are_the_four_of_the_recipe() -> None:
    assert sorted(SOURCES) == ["digits", "fashion_mnist", "image_folder", "parquet"]


def test_public_names_are_there_once() -> None:
    assert len(set(hwnas.data.__all__)) == len(hwnas.data.__all__)
    assert all(hasattr(hwnas.data, name) for name in hwnas.data.__all__)


def test_settings_reach_the_split() -> None:
    splits = DataSource("digits", validation=0.2, test=0.3, channels=3, limit=500).load(seed=0)
    sizes = {name: len(part) for name, part in splits.parts().items()}
    assert sum(sizes.values()) == 500
    assert abs(sizes["validation"] - 100) <= 10
    assert abs(sizes["test"] - 150) <= 10
    assert splits.channels == 3
    assert np.array_equal(splits.train.data.images[0][:, :, 1:2], digits().images[0])
    assert Preprocessing.fit(splits.train).channels == 3


def test_what_a_run_stores_is_complete_and_stable() -> None:
    row = DataSource("digits").load(seed=0).to_json()
    assert row == DataSource("digits").load(seed=0).to_json()
    assert sorted(row) == ["channels", "classes", "counts", "digest", "skipped", "source"]
    assert sum(row["counts"]["train"].values()) == 1259


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"source": "digts"}, 'source is "digts"; did you mean "digits"?'),
        ({"source": "web"}, "known: digits, fashion_mnist, image_folder, parquet"),
        ({"source": "image_folder"}, 'path is missing; source "image_folder" needs one'),
        ({"source": "parquet"}, 'path is missing; source "parquet" needs one'),
        ({"source": "digits", "path": Path("x")}, 'path is "x"; source "digits" takes none'),
        ({"source": "digits", "channels": 2}, "channels is 2; expected 1 or 3"),
        ({"source": "digits", "damaged": "ignore"}, 'damaged is "ignore"; expected "refuse" or "skip"'),
        ({"source": "digits", "limit": 0}, "limit is 0; it must be above 0"),
        (
            {"source": "digits", "validation": 1.0},
            "validation is 1.0; it is a share of the images, above 0 and below 1",
        ),
        ({"source": "digits", "test": 0.0}, "test is 0.0; it is a share"),
        ({"source": "fashion_mnist", "validation": 0.0}, "validation is 0.0; it is a share"),
        ({"source": "image_folder", "path": Path("x"), "test": 1.0}, "test is 1.0; it is a share"),
        (
            {"source": "parquet", "path": Path("x"), "validation": 0.5, "test": 0.5},
            "validation + test is 1; nothing is",
        ),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError) as caught:
        DataSource(**settings)
    assert message in str(caught.value)


def test_a_share_that_the_source_does_not_need_may_be_anything() -> None:
    assert DataSource("fashion_mnist", validation=0.9, test=0.15).validation == 0.9
    assert DataSource("image_folder", Path("with/its/own/test"), test=0.0).test == 0


@pytest.mark.parametrize("source", ["image_folder", "parquet", "fashion_mnist"])
def test_a_path_that_is_not_there_is_named(tmp_path: Path, source: str) -> None:
    with pytest.raises(DataError, match="nowhere"):
        DataSource(source, path=tmp_path / "nowhere").load(seed=0)
