"""One process at a time per run folder."""

from __future__ import annotations

import fcntl
import json
import os
import socket
from dataclasses import asdict, dataclass
from pathlib import Path

from hwnas.core import StoreError


@dataclass(frozen=True)
class _Holder:
    """Who holds a lock. The start time tells a process from a later one that was given the same id."""

    pid: int
    started: str
    host: str


class FolderLock:
    """A file that names the process working in a folder; the file of a dead process is taken over.

    The id is kept in the file, rather than a kernel lock held for the whole run, because a kernel lock is inherited by
    forked children (a data loader's workers), which may outlive the killed parent.

    Args:
        folder: Created if it is missing.

    Raises:
        StoreError: If a living process holds the folder, or a process of another machine does.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> lock = FolderLock(folder)
        >>> (folder / "lock").exists(), lock.release(), (folder / "lock").exists()
        (True, None, False)
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "lock"
        folder.mkdir(parents=True, exist_ok=True)
        self._me = _Holder(os.getpid(), _started(os.getpid()), socket.gethostname())
        # The kernel lock is held only while the file is read and rewritten: two processes that both find a dead
        # holder must not both take over.
        with (folder / ".lock-guard").open("a") as guard:
            fcntl.flock(guard, fcntl.LOCK_EX)
            holder = self._holder()
            if holder is not None:
                self._refuse_living(folder, holder)
            self.path.write_text(json.dumps(asdict(self._me)))

    def _holder(self) -> _Holder | None:
        try:
            row = json.loads(self.path.read_text())
            return _Holder(int(row["pid"]), str(row["started"]), str(row["host"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None  # absent, or half-written by a process that was killed right there

    def _refuse_living(self, folder: Path, holder: _Holder) -> None:
        if holder.host != self._me.host:
            raise StoreError(
                f"{folder}: process {holder.pid} on {holder.host} holds this run; this is {self._me.host}",
                hint=f"if it is gone, delete {self.path}",
            )
        if _alive(holder.pid) and _started(holder.pid) == holder.started:
            who = "this process" if holder.pid == self._me.pid else "another process"
            raise StoreError(
                f"{folder}: {who} ({holder.pid}) works on this run; one at a time",
                hint="wait for it, end it, or take another name",
            )

    def release(self) -> None:
        """Give the folder back. Harmless if it was taken over or released before."""
        if self._holder() == self._me:
            self.path.unlink(missing_ok=True)


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
