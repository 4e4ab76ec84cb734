"""Images kept in Parquet files, as most data sets on the web come today."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from hwnas.core import DataError
from hwnas.core.escaping import visible
from hwnas.data.dataset import SourceData
from hwnas.data.decode import Channels
from hwnas.data.labelled_files import Damaged, LabelledFile, read_labelled_files

_FILE_NAME = re.compile(r"(train|validation|valid|val|test)(-\d+-of-\d+)?\.parquet")
_PART_OF_NAME = {
    "train": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}
_ROWS_AT_ONCE = 1000


def parquet(path: Path, *, channels: Channels | None = None, damaged: Damaged = "refuse") -> SourceData:
    """Read images from one Parquet file, or a folder with `train.parquet` and maybe `validation` and `test`.

    Column `image` holds one image file each, as bytes or as a struct with a field `bytes`; column `label` a class as a
    number or a name. Names of numbered classes are taken from the metadata that Hugging Face's `datasets` writes
    (ClassLabel); without it a number is its own name. In a folder, parts may be cut up: `train-00000-of-00002.parquet`.

    Args:
        path: The file or the folder.
        channels: 1 or 3; None takes 1 if every image is greyscale, else 3.
        damaged: "refuse" raises an error that lists damaged images, "skip" leaves them out and tells.

    Raises:
        DataError: If a file or column is missing or damaged, or a row has no image or no valid label.
    """
    path = Path(path)
    parts: dict[str, list[LabelledFile]] = {}
    vocabulary: _Vocabulary | None = None
    for part, files in _files(path).items():
        parts[part] = []
        for file in files:
            rows, of_file = _read(file)
            if vocabulary is not None and (of_file.numbered, of_file.names) != (vocabulary.numbered, vocabulary.names):
                raise DataError(
                    f"{file}: its kind of labels or its class names differ from those of the files before it"
                )
            vocabulary = of_file
            parts[part] += rows
    found = {row.label for rows in parts.values() for row in rows}
    if vocabulary is not None and vocabulary.names is not None:
        classes = list(vocabulary.names)
    else:
        classes = sorted(found, key=int if vocabulary is not None and vocabulary.numbered else None)
    return read_labelled_files(parts, classes=classes, source=visible(str(path)), channels=channels, damaged=damaged)


@dataclass(frozen=True)
class _Vocabulary:
    """How a file names classes.

    Attributes:
        numbered: Labels are integers.
        names: Of numbered classes, where the file tells them.
    """

    numbered: bool
    names: tuple[str, ...] | None


def _files(path: Path) -> Mapping[str, Sequence[Path]]:
    if path.is_file():
        return {"train": [path]}
    if not path.is_dir():
        raise DataError(f"{path}: no such file or folder; expected a .parquet file or a folder with train.parquet")
    found: dict[str, list[Path]] = {"train": [], "validation": [], "test": []}
    for file in sorted(path.iterdir()):
        match = _FILE_NAME.fullmatch(file.name)
        if match:
            found[_PART_OF_NAME[match[1]]].append(file)
    if not found["train"]:
        raise DataError(
            f"{path}: no train.parquet in this folder", hint="name the file itself if it is called otherwise"
        )
    return {part: files for part, files in found.items() if files}


def _read(file: Path) -> tuple[list[LabelledFile], _Vocabulary]:
    """Every row of one file.

    Raises:
        DataError: If the file or a row of it is not as it should be.
    """
    rows: list[LabelledFile] = []
    try:
        with pq.ParquetFile(file) as table:
            vocabulary = _checked(file, table.schema_arrow)
            for batch in table.iter_batches(_ROWS_AT_ONCE, columns=["image", "label"]):
                columns = (batch.column("image").to_pylist(), batch.column("label").to_pylist())
                for image, label in zip(*columns, strict=True):
                    name = visible(f"{file.name} row {len(rows)}")
                    where = visible(f"{file} row {len(rows)}")
                    rows.append(LabelledFile(name, _content(image, where), _class_name(label, vocabulary, where)))
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:  # the last of labels
        raise DataError(f"{file}: cannot be read as Parquet: {error}") from error
    if not rows:
        raise DataError(f"{file}: has no rows; expected one per image")
    return rows, vocabulary


def _checked(file: Path, schema: Any) -> _Vocabulary:
    for column in ("image", "label"):
        if column not in schema.names:
            raise DataError(f'{file}: column "{column}" is missing; columns are {", ".join(schema.names)}')
    image, label = schema.field("image").type, schema.field("label").type
    is_struct = pa.types.is_struct(image) and image.get_field_index("bytes") >= 0
    content = image.field("bytes").type if is_struct else image
    if not (pa.types.is_binary(content) or pa.types.is_large_binary(content)):
        raise DataError(f'{file}: column "image" is {image}; expected binary, or a struct with binary field "bytes"')
    if pa.types.is_dictionary(label):
        label = label.value_type
    if pa.types.is_integer(label):
        return _Vocabulary(numbered=True, names=_class_names(schema.metadata))
    if pa.types.is_string(label) or pa.types.is_large_string(label):
        return _Vocabulary(numbered=False, names=None)
    raise DataError(f'{file}: column "label" is {label}; expected integers or strings')


def _content(image: Any, where: str) -> bytes:
    content = image["bytes"] if isinstance(image, dict) else image
    if content is None:
        raise DataError(f'{where}: column "image" is empty; expected the bytes of an image file')
    return bytes(content)


def _class_name(label: int | str | None, vocabulary: _Vocabulary, where: str) -> str:
    if label is None:
        raise DataError(f'{where}: column "label" is empty; expected a class')
    if vocabulary.names is None or isinstance(label, str):
        return str(label)
    if not 0 <= label < len(vocabulary.names):
        raise DataError(
            f'{where}: column "label" is {label}; expected 0..{len(vocabulary.names) - 1}, a class of the metadata'
        )
    return vocabulary.names[label]


def _class_names(metadata: Mapping[bytes, bytes] | None) -> tuple[str, ...] | None:
    """Names in a ClassLabel of Hugging Face's metadata; None where there are none or they are not readable."""
    try:
        names = json.loads((metadata or {})[b"huggingface"])["info"]["features"]["label"]["names"]
    except (KeyError, TypeError, ValueError):
        return None
    return tuple(str(name) for name in names) if isinstance(names, list) else None
