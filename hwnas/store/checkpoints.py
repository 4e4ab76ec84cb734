"""The newest weights of each phase, as files that are whole or absent."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from hwnas.core import StoreError, refusal


class Checkpoints:
    """A folder with one file per version ("supernet@12").

    What is inside a file is the caller's affair: this room is free of torch, so saving is a function that is handed in.

    Args:
        folder: Created with the first file.

    Example:
        >>> import tempfile
        >>> checkpoints = Checkpoints(Path(tempfile.mkdtemp()))
        >>> path = checkpoints.write("net@1", lambda target: target.write_bytes(b"weights"))
        >>> path.name, checkpoints.path("net@1").read_bytes()
        ('net@1.ckpt', b'weights')
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, version: str) -> Path:
        """Where a version lies, whether it is there or not."""
        return self.folder / f"{version}.ckpt"

    def existing(self, version: str) -> Path:
        """Where a version lies.

        Raises:
            StoreError: If it is not there.
        """
        path = self.path(version)
        if not path.exists():
            kept = ", ".join(sorted(p.stem for p in self.folder.glob("*.ckpt"))) or "none"
            raise StoreError(
                f"{path}: the weights {version} are not there; kept: {kept}",
                hint="only the newest version of a phase is kept: evaluate it before training on",
            )
        return path

    def write(self, version: str, save: Callable[[Path], object]) -> Path:
        """Write a version: temporary name, sync, rename, sync of the folder. Call it before the row is committed.

        Args:
            version: Becomes the file's name.
            save: Writes everything to the path it is given.

        Raises:
            StoreError: If the disk refuses; an older file of this version is then untouched.
        """
        path = self.path(version)
        temporary = path.with_suffix(".tmp")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            save(temporary)
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
            _sync_folder(self.folder)
        except OSError as error:
            said, hint = refusal(error)
            raise StoreError(f"{path}: the checkpoint could not be written: {said}", hint=hint) from error
        finally:
            temporary.unlink(missing_ok=True)
        return path

    def keep_only(self, versions: Iterable[str]) -> None:
        """Delete every other file. Call it after the rows that name these versions are committed."""
        kept = {self.path(version).name for version in versions}
        if self.folder.exists():
            for path in sorted(self.folder.iterdir()):
                if path.suffix in {".ckpt", ".tmp"} and path.name not in kept:
                    path.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut, where the system can."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
