import errno
import os
from pathlib import Path

import pytest

from hwnas.core import refusal, write_atomically


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "front.json"
    write_atomically(target, "old")

    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(target, "new")
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["front.json"]


def test_bytes_and_missing_folders(tmp_path: Path) -> None:
    target = tmp_path / "a" / "b" / "c.bin"
    write_atomically(target, b"\x00\x01")
    assert target.read_bytes() == b"\x00\x01"


def without_right(monkeypatch: pytest.MonkeyPatch, lacking: Path, right: int) -> None:
    """As a user whom a system denies one right on one file or folder; the tests may run as one who has all."""
    real = os.access

    def access(path: Path, mode: int, *, effective_ids: bool = False) -> bool:
        return not (Path(path) == lacking and mode == right) and real(path, mode)

    monkeypatch.setattr("os.access", access)


@pytest.mark.parametrize(
    ("lacking", "right", "hint"),
    [
        ("private", os.X_OK, "make the folder {} readable for you, or work in a copy of it that is"),
        ("private/a.onnx", os.R_OK, "make the file readable for you, or work in a copy of it that is"),
        ("private", os.W_OK, "make the folder writable, or work in a copy of it that is"),
    ],
)
def test_a_refusal_names_the_right_that_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lacking: str, right: int, hint: str
) -> None:
    path = tmp_path / "private" / "a.onnx"
    write_atomically(path, "")
    without_right(monkeypatch, tmp_path / lacking, right)
    refused = refusal(PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path)))
    assert refused.message == f"{path}: permission denied"
    assert refused.hint == hint.format(tmp_path / lacking)


def test_a_folder_that_may_not_be_listed_is_to_be_made_readable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_right(monkeypatch, tmp_path, os.R_OK)
    refused = refusal(PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(tmp_path)))
    assert refused.hint == "make the folder readable for you, or work in a copy of it that is"
