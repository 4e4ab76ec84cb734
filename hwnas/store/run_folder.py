"""A run's folder before anything is written: checks first, then the first write."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from hwnas.core import Evaluation, StoreError, refusal, write_atomically
from hwnas.store.checkpoints import Checkpoints
from hwnas.store.lock import FolderLock
from hwnas.store.store import Store, discard


class RunFolder:
    """A run's folder that this process holds, and in which it has changed nothing yet.

    A command that is refused must leave a run as it was. So: hold the folder, check everything against `header`, name
    what is to be written with `keep`, and `open` it. In a folder that is new or fresh that is the first write; a run
    that is gone on with is written to once its replay has agreed, by `Store.begin_writing`.

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
            self._stored = Store.snapshot(folder) if not fresh else Store(None)
            self.header: Mapping[str, Any] = self._stored.header()
            self.paid_for = self._stored.paid_for()
        except BaseException:
            self._lock.release()
            raise

    @property
    def begun(self) -> bool:
        """Whether a run is there that this one goes on with."""
        return bool(self.header)

    @property
    def checkpoints(self) -> dict[str, Path]:
        """The newest checkpoint of each phase that is stored, where it lies or should; before `open`."""
        kept = Checkpoints(self.folder / "checkpoints")
        return {name: kept.path(version) for name, version in self._stored.newest_versions().items()}

    @property
    def evaluations(self) -> list[Evaluation]:
        """All that are stored; before `open`."""
        return self._stored.evaluations()

    def keep(self, name: str, content: str | bytes) -> None:
        """Write this file with the first write, unless a run that is gone on with has it."""
        self._kept[name] = content

    def open(self) -> Store:
        """The store, which gives the folder back; first what is there is thrown away, if that was asked for.

        Raises:
            StoreError: If the disk refuses.
        """
        self._stored.close()
        if self.begun:
            return Store(self.folder, lock=self._lock, replaying=True, before_writing=self._write)
        try:
            self._write()
        except BaseException:
            self.release()
            raise
        return Store(self.folder, lock=self._lock)

    def _write(self) -> None:
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
            said, hint = refusal(error)
            raise StoreError(f"{self.folder}: nothing can be stored there: {said}", hint=hint) from error

    def release(self) -> None:
        """Give the folder back. Harmless when repeated, and once the store that was opened has done it."""
        self._stored.close()
        self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
