"""What a profile has finished so far, in a folder, so that one that was killed goes on where it was."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

from hwnas.core import MeasureError
from hwnas.device.measure import LogError, read_lines

_NAME = "exports.jsonl"
_EXPECTED = "expected a JSON object that names a finished file"


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
        try:
            lines = read_lines(self.path) if self.path.is_file() else []
        except LogError as error:
            raise MeasureError(f"{str(error).partition(';')[0]}; {_EXPECTED}", hint=self._afresh) from error
        if not lines or lines[0].get("profile") != identity:
            self.discarded = bool(lines)
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            lines = []
            self._append({"profile": identity})
        self._files: dict[str, tuple[str, str]] = {}
        for number, line in enumerate(lines[1:], start=2):
            if not all(isinstance(line.get(name), str) for name in ("key", "file", "sha256")):
                raise MeasureError(f"{self.path}: line {number} is damaged; {_EXPECTED}", hint=self._afresh)
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

    @property
    def _afresh(self) -> str:
        return f"delete the folder {self.folder} to profile afresh"

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
