"""One process at a time per run folder."""

from __future__ import annotations

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from hwnas.core import StoreError, refusal


@dataclass(frozen=True)
class Holder:
    """Who holds a lock.

    Attributes:
        pid: The process.
        started: When, as its system counts; it tells the process from a later one that was given the same id.
        host: Where it runs.
    """

    pid: int
    started: str
    host: str

    @property
    def alive(self) -> bool | None:
        """Whether it still runs; None if it is on another machine, so that nobody here knows."""
        if self.host != socket.gethostname():
            return None
        return _alive(self.pid) and _started(self.pid) == self.started


def holder_of(folder: Path) -> Holder | None:
    """Who holds a folder, or held it last without giving it back; None: nobody.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> holder_of(folder) is None
        True
        >>> lock = FolderLock(folder)
        >>> holder_of(folder).pid == os.getpid(), holder_of(folder).alive
        (True, True)
    """
    try:
        row = json.loads((folder / "lock").read_text())
        return Holder(int(row["pid"]), str(row["started"]), str(row["host"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None  # absent, or half-written by a process that was killed right there


class FolderLock:
    """A file that names the process working in a folder; the file of a dead process is taken over.

    The id is kept in the file, rather than a kernel lock held for the whole run, because a kernel lock is inherited by
    forked children (a data loader's workers), which may outlive the killed parent.

    Args:
        folder: Created if it is missing.

    Raises:
        StoreError: If a living process holds the folder, or a process of another machine does, or nothing can be
            written there.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> lock = FolderLock(folder)
        >>> (folder / "lock").exists(), lock.release(), (folder / "lock").exists()
        (True, None, False)
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "lock"
        self._me = Holder(os.getpid(), _started(os.getpid()), socket.gethostname())
        self._made = [room for room in (folder, *folder.parents) if not room.exists()]
        try:
            with _guarded(folder):
                holder = holder_of(folder)
                if holder is not None:
                    self._refuse_living(folder, holder)
                self.path.write_text(json.dumps(asdict(self._me)))
        except OSError as error:
            message, hint = refusal(error)
            raise StoreError(f"{folder}: nothing can be stored there: {message}", hint=hint) from error

    def _refuse_living(self, folder: Path, holder: Holder) -> None:
        if holder.host != self._me.host:
            raise StoreError(
                f"{folder}: process {holder.pid} on {holder.host} holds this run; this is {self._me.host}",
                hint=f"if it is gone, delete {self.path}",
            )
        if holder.alive:
            who = "this process" if holder.pid == self._me.pid else "another process"
            raise StoreError(
                f"{folder}: {who} ({holder.pid}) works on this run; one at a time",
                hint="wait for it, end it, or take another name",
            )

    def release(self) -> None:
        """Give the folder back, and take it away if this lock made it and nothing was put into it.

        Harmless if it was taken over or released before.
        """
        folder = self.path.parent
        if holder_of(folder) != self._me:
            return
        # Where the folder has become unwritable the file stays: that of a process that has ended holds nothing.
        with suppress(OSError), _guarded(folder) as guard:
            self.path.unlink(missing_ok=True)
            if self._made and [room.name for room in folder.iterdir()] == [guard.name]:
                guard.unlink()
                for room in self._made:
                    room.rmdir()  # up to the first that holds something else


@contextmanager
def _guarded(folder: Path) -> Iterator[Path]:
    """A kernel lock, held only while the lock file is read and rewritten, as two must not both take over."""
    guard = folder / ".lock-guard"
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            file = guard.open("a")
        except FileNotFoundError:  # the folder was taken away in between
            continue
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if _same(file.fileno(), guard):
                yield guard
                return


def _same(descriptor: int, path: Path) -> bool:
    """Whether an open file is still the one of that name."""
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(descriptor), there)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return _state(pid) != "Z"


def _fields(pid: int) -> list[str]:
    """What Linux tells of a process after its name; empty elsewhere."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _state(pid: int) -> str:
    return (_fields(pid) or [""])[0]


def _started(pid: int) -> str:
    fields = _fields(pid)
    return fields[19] if len(fields) > 19 else ""
