"""What a profile has finished so far, in a folder, so that one that was killed goes on where it was."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

from hwnas.core import MeasureError

_NAME = "exports.jsonl"


class Journal:
    """The ONNX files that are finished, one JSON line each, in a file that is only ever appended to.

    A file counts as finished when its line is there and its bytes are those that the line promises. A last line cut
    off by a kill is dropped. What was left under another identity is thrown away.

    Args:
        folder: Made if it is missing. It belongs to the journal: other files in it are thrown away with the old ones.
        identity: Of the profile: whatever makes its files and times what they are.

    Raises:
        MeasureError: If a line that is not the last is damaged.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> journal = Journal(folder, "a")
        >>> _ = (folder / "1.onnx").write_bytes(b"model")
        >>> journal.add("stem", folder / "1.onnx")
        >>> Journal(folder, "a").finished("stem") == folder / "1.onnx", Journal(folder, "b").finished("stem")
        (True, None)
    """

    def __init__(self, folder: Path, identity: str) -> None:
        self.folder = folder
        self.path = folder / _NAME
        self.discarded = False
        lines = _lines(self.path)
        if not lines or lines[0].get("profile") != identity:
            self.discarded = bool(lines)
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            lines = []
            self._append({"profile": identity})
        self._files: dict[str, tuple[str, str]] = {}
        for number, line in enumerate(lines[1:], start=2):
            if not all(isinstance(line.get(name), str) for name in ("key", "file", "sha256")):
                raise _damaged(self.path, number)
            self._files[line["key"]] = (line["file"], line["sha256"])

    @property
    def rounds(self) -> Path:
        """The log of the measuring program."""
        return self.folder / "rounds.jsonl"

    def __len__(self) -> int:
        return len(self._files)

    def finished(self, key: str) -> Path | None:
        """The file of that key, None if it is not there or not as it was written."""
        if key not in self._files:
            return None
        name, sha256 = self._files[key]
        path = self.folder / name
        return path if path.is_file() and sha256_of(path) == sha256 else None

    def add(self, key: str, path: Path) -> None:
        """A file of the folder is finished.

        Raises:
            OSError: If it is not there.
        """
        self._files[key] = (path.name, sha256_of(path))
        self._append({"key": key, "file": path.name, "sha256": self._files[key][1]})

    def remove(self) -> None:
        """The profile is written; the folder goes."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _append(self, line: dict[str, Any]) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, separators=(",", ":")) + "\n")
            file.flush()
            os.fsync(file.fileno())


def sha256_of(path: Path) -> str:
    """Of a file's bytes, in hex digits.

    Raises:
        OSError: If it cannot be read.
    """
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _lines(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        with path.open("r+b") as file:
            file.truncate(whole)
    lines = []
    for number, text in enumerate(content[:whole].splitlines(), start=1):
        try:
            line = json.loads(text)
        except ValueError as error:
            raise _damaged(path, number) from error
        if not isinstance(line, dict):
            raise _damaged(path, number)
        lines.append(line)
    return lines


def _damaged(path: Path, number: int) -> MeasureError:
    return MeasureError(
        f"{path}: line {number} is damaged; expected a JSON object that names a finished file",
        hint=f"delete the folder {path.parent} to profile afresh",
    )
