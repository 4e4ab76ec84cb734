"""A run's folder before anything is written: checks first, then the first write."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from hwnas.core import StoreError, refusal, write_atomically
from hwnas.store.lock import FolderLock
from hwnas.store.store import Store, discard


class RunFolder:
    """A run's folder that this process holds, and in which it has changed nothing yet.

    A command that is refused must leave a run as it was. So: hold the folder, check everything against `header`, name
    what is to be written with `keep`, and `open` it, which is the first write.

    Args:
        folder: Created if it is missing; taken away again if it is given back without having been opened.
        fresh: Whether `open` begins with throwing away what is there; `header` is then empty.
        files: Patterns of files and folders there that belong to the run beside its store, and go with it.

    Raises:
        StoreError: If another process works on the folder, nothing can be written there, or its store is damaged,
            foreign or of a newer hwnas.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp()) / "run"
        >>> with RunFolder(folder) as held:
        ...     held.begun
        False
        >>> folder.exists()
        False
    """

    def __init__(self, folder: Path, *, fresh: bool = False, files: Sequence[str] = ()) -> None:
        self.folder, self.fresh = folder, fresh
        self._files = tuple(files)
        self._kept: dict[str, str | bytes] = {}
        self._lock = FolderLock(folder)
        try:
            with Store.snapshot(folder) if not fresh else Store(None) as stored:
                self.header: Mapping[str, Any] = stored.header()
                self.paid_for = stored.paid_for()
        except BaseException:
            self._lock.release()
            raise

    @property
    def begun(self) -> bool:
        """Whether a run is there that this one goes on with."""
        return bool(self.header)

    def keep(self, name: str, content: str | bytes) -> None:
        """Write this file when the folder is opened, unless a run that is gone on with has it."""
        self._kept[name] = content

    def open(self) -> Store:
        """Write: throw away if that was asked for, then the files, then the store, which gives the folder back.

        Raises:
            StoreError: If the disk refuses.
        """
        try:
            if self.fresh:
                discard(self.folder)
                for path in [found for pattern in self._files for found in self.folder.glob(pattern)]:
                    if path.is_dir():
                        shutil.rmtree(path)
                    else:
                        path.unlink()
            for name, content in self._kept.items():
                if not (self.begun and (self.folder / name).exists()):
                    write_atomically(self.folder / name, content)
        except OSError as error:
            self.release()
            said, hint = refusal(error)
            raise StoreError(f"{self.folder}: nothing can be stored there: {said}", hint=hint) from error
        return Store(self.folder, lock=self._lock)

    def release(self) -> None:
        """Give the folder back. Harmless when repeated, and once the store that was opened has done it."""
        self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
