import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from hwnas.core import DataError
from hwnas.data import DataSource, Preprocessing, image_folder, parquet

BENCH_DATA = Path(os.environ.get("HWNAS_BENCH_DATA", Path(__file__).parents[2] / ".." / "shared" / "data"))


def png(value: int, mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    Image.new(mode, (6, 6), value if mode == "L" else (value, 0, 0)).save(file, "png")
    return file.getvalue()


def write(
    path: Path, labels: list[Any], *, images: list[Any] | None = None, plain: bool = False, names: Any = None
) -> Path:
    """A Parquet file with one image per label, as a struct or plain, with or without class names."""
    contents = images if images is not None else [png(i) for i in range(len(labels))]
    column = contents if plain else [content and {"bytes": content, "path": None} for content in contents]
    kind = pa.binary() if plain else pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({"image": pa.array(column, kind), "label": pa.array(labels)})
    if names is not None:
        features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=4)
    return path


@pytest.mark.parametrize("plain", [False, True])
def test_one_file_with_numbers(tmp_path: Path, plain: bool) -> None:
    found = parquet(write(tmp_path / "some.parquet", [10, 9, 9, 10, 2], plain=plain))
    assert found.test is None
    assert found.train.classes == ("2", "9", "10")
    assert found.train.labels.tolist() == [2, 1, 1, 2, 0]
    assert [int(image[0, 0, 0]) for image in found.train.images] == [0, 1, 2, 3, 4]


def test_names_as_labels(tmp_path: Path) -> None:
    data = parquet(write(tmp_path / "a.parquet", ["dog", "cat", "dog"])).train
    assert data.classes == ("cat", "dog")
    assert data.labels.tolist() == [1, 0, 1]


def test_names_kept_as_a_dictionary(tmp_path: Path) -> None:
    labels = pa.array(["dog", "cat", "dog"]).dictionary_encode()
    pq.write_table(pa.table({"image": [png(1), png(2), png(3)], "label": labels}), tmp_path / "a.parquet")
    assert parquet(tmp_path / "a.parquet").train.counts() == {"cat": 1, "dog": 2}


def test_names_from_hugging_face_metadata_and_unused_ones_told(tmp_path: Path) -> None:
    data = parquet(write(tmp_path / "a.parquet", [2, 0, 2], names=["zebra", "yak", "ant"])).train
    assert data.classes == ("zebra", "ant")
    assert data.labels.tolist() == [1, 0, 1]
    assert data.skipped == ('class "yak": no images',)


def test_metadata_that_says_something_else_is_ignored(tmp_path: Path) -> None:
    assert parquet(write(tmp_path / "a.parquet", [1, 0], names="no list")).train.classes == ("0", "1")


def test_a_folder_with_parts_and_shards(tmp_path: Path) -> None:
    write(tmp_path / "train-00001-of-00002.parquet", [1, 1], images=[png(7), png(8)])
    write(tmp_path / "train-00000-of-00002.parquet", [0, 0])
    write(tmp_path / "validation.parquet", [1, 0])
    write(tmp_path / "test.parquet", [0, 1, 0])
    write(tmp_path / "extra.parquet", [5])
    found = parquet(tmp_path)
    assert found.validation is not None
    assert found.test is not None
    assert [int(image[0, 0, 0]) for image in found.train.images] == [0, 1, 7, 8]
    assert found.train.labels.tolist() == [0, 0, 1, 1]
    assert found.test.labels.tolist() == [0, 1, 0]
    assert len(found.validation) == 2


def test_greyscale_in_all_parts_is_one_channel(tmp_path: Path) -> None:
    grey = [png(1, "L"), png(2, "L")]
    write(tmp_path / "train.parquet", [0, 1], images=grey)
    write(tmp_path / "test.parquet", [0, 1], images=grey)
    assert parquet(tmp_path).train.channels == 1
    write(tmp_path / "test.parquet", [0, 1])
    assert parquet(tmp_path).train.channels == 3
    assert parquet(tmp_path, channels=1).train.channels == 1


def test_damaged_rows_are_all_named_or_skipped(tmp_path: Path) -> None:
    whole = png(5)
    path = write(tmp_path / "a.parquet", [0, 1, 0, 1], images=[whole, whole[:40], whole, b"junk"])
    with pytest.raises(DataError, match=r"2 of 4 .*a\.parquet row 1 .*a\.parquet row 3 \(not an image file\)"):
        parquet(path)
    with pytest.raises(DataError, match=r"2 of 4"):
        DataSource("parquet", path=path).load(seed=0)
    assert len(parquet(path, damaged="skip").train) == 2


def test_errors_name_file_column_and_row(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r'a\.parquet row 1: column "image" is empty'):
        parquet(write(tmp_path / "a.parquet", [0, 1], images=[png(1), None]))
    with pytest.raises(DataError, match=r'b\.parquet row 5: column "label" is empty'):
        parquet(write(tmp_path / "b.parquet", [0, 1, 0, 1, 0, None]))
    with pytest.raises(DataError, match=r'c\.parquet row 2: column "label" is -1; expected 0\.\.1'):
        parquet(write(tmp_path / "c.parquet", [0, 1, -1], names=["x", "y"]))
    with pytest.raises(DataError, match=r'd\.parquet: column "label" is double; expected integers or strings'):
        parquet(write(tmp_path / "d.parquet", [0.5, 1.0]))
    pq.write_table(pa.table({"img": [b"x"], "label": [1]}), tmp_path / "e.parquet")
    with pytest.raises(DataError, match=r'e\.parquet: column "image" is missing; columns are img, label'):
        parquet(tmp_path / "e.parquet")
    pq.write_table(pa.table({"image": ["x"], "label": [1]}), tmp_path / "f.parquet")
    with pytest.raises(DataError, match=r'f\.parquet: column "image" is string; expected binary'):
        parquet(tmp_path / "f.parquet")
    with pytest.raises(DataError, match=r"g\.parquet: has no rows"):
        parquet(write(tmp_path / "g.parquet", np.array([], np.int64), images=[]))  # type: ignore[arg-type]


def test_files_that_are_not_there_or_not_whole(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nothing\.parquet: no such file or folder"):
        parquet(tmp_path / "nothing.parquet")
    with pytest.raises(DataError, match=r"no train\.parquet in this folder"):
        parquet(tmp_path)
    path = write(tmp_path / "train.parquet", [0, 1, 0, 1])
    whole = path.read_bytes()
    for broken in (b"", whole[:-20], b"text" * 100):
        path.write_bytes(broken)
        with pytest.raises(DataError, match=r"train\.parquet: cannot be read as Parquet"):
            parquet(tmp_path)


def test_files_that_disagree_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "train.parquet", [0, 1])
    write(tmp_path / "test.parquet", ["cat", "dog"])
    with pytest.raises(DataError, match=r"test\.parquet: its kind of labels or its class names differ"):
        parquet(tmp_path)
    write(tmp_path / "test.parquet", [0, 1], names=["x", "y"])
    with pytest.raises(DataError, match=r"test\.parquet: its kind of labels or its class names differ"):
        parquet(tmp_path)


def test_cifar10_test_part() -> None:
    path = BENCH_DATA / "cifar10_jpeg" / "test.parquet"
    if not path.is_file():
        pytest.skip("needs cifar10_jpeg in HWNAS_BENCH_DATA")
    splits = DataSource("parquet", path=path, limit=2000).load(seed=0)
    assert splits.classes == tuple("0123456789")
    assert sum(len(part) for part in splits.parts().values()) == 2000
    preprocessing = Preprocessing.fit(splits.train)
    assert np.allclose(preprocessing.mean, (0.4913, 0.4821, 0.4465), atol=0.02)
    assert np.allclose(preprocessing.std, (0.245, 0.243, 0.261), atol=0.02)


def test_every_kind_of_image_is_read_as_from_a_folder(tmp_path: Path) -> None:
    """Turned by EXIF, of 16 and 32 bits, of floats, with a palette's transparency, in CMYK: one way of reading."""
    rng = np.random.default_rng(0)
    turned = Image.Exif()
    turned[0x0112] = 6
    palette = Image.new("P", (4, 6), 1)
    palette.putpalette([0, 0, 0, 200, 100, 50])
    colours = Image.fromarray(rng.integers(0, 256, (4, 6, 3), dtype=np.uint8))
    kinds: list[tuple[Image.Image, str, dict[str, Any]]] = [
        (colours, "jpeg", {"exif": turned}),
        (Image.fromarray(rng.integers(0, 65536, (4, 6), dtype=np.uint16)), "png", {}),
        (Image.fromarray(rng.integers(0, 256, (4, 6), dtype=np.int32)), "tiff", {}),
        (Image.fromarray(rng.random((4, 6), dtype=np.float32)), "tiff", {}),
        (palette, "png", {"transparency": b"\xff\x00"}),
        (colours.convert("CMYK"), "jpeg", {}),
        (colours.convert("RGBA"), "webp", {}),
    ]
    contents = []
    for n, (image, kind, options) in enumerate(kinds):
        file = io.BytesIO()
        image.save(file, kind, **options)
        contents.append(file.getvalue())
        folder = tmp_path / "folder" / "ab"[n % 2]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{n}.{kind}").write_bytes(contents[-1])
    labels = ["ab"[n % 2] for n in range(len(kinds))]
    from_table = parquet(write(tmp_path / "a.parquet", labels, images=contents)).train
    from_folder = image_folder(tmp_path / "folder").train
    order = sorted(range(len(kinds)), key=lambda n: (labels[n], n))
    assert [from_table.labels[n] for n in order] == from_folder.labels.tolist()
    for n, image in zip(order, from_folder.images, strict=True):
        assert np.array_equal(from_table.images[n], image), kinds[n][1]
    assert from_table.images[0].shape == (6, 4, 3), "upright"


def test_class_names_that_are_no_unicode_text_are_refused(tmp_path: Path) -> None:
    numbered = write(tmp_path / "a.parquet", [0, 1], names=["ok", "\udce9t\udce9"])
    with pytest.raises(DataError, match=r'a.parquet: the name of class "\\udce9t\\udce9" is not UTF-8') as caught:
        parquet(numbered)
    assert caught.value.hint.startswith("rename it in UTF-8")
    latin = pa.array([b"\xe9", b"b"]).view(pa.string())
    pq.write_table(pa.table({"image": [png(1), png(2)], "label": latin}), tmp_path / "b.parquet")
    with pytest.raises(DataError, match=r"b.parquet: cannot be read as Parquet: 'utf-8' codec can't decode byte 0xe9"):
        parquet(tmp_path / "b.parquet")
