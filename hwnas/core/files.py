"""Files that are either whole or not there, and what a system says that refuses one."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from tempfile import TemporaryFile
from typing import NamedTuple


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader, a crash or a full disk never sees half of it.

    The content goes to a temporary name in the same folder, is synced, and takes the place of `path` in one step.

    Raises:
        OSError: If the folder cannot be written; it names `path`, which is then as it was.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "front.json"
        >>> write_atomically(target, "{}")
        >>> target.read_text(), [p.name for p in target.parent.iterdir()]
        ('{}', ['front.json'])
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                file.write(content.encode() if isinstance(content, str) else content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:  # a full disk names no file, and nobody knows the temporary one
        raise OSError(error.errno, error.strerror, str(path)) from error


def check_writable(folder: Path) -> None:
    """That files can be written into a folder, before hours go by until one is; made if it is missing.

    Raises:
        OSError: If not; it names the folder.

    Example:
        >>> check_writable(Path("."))
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder) as file:
            file.write(b"\0")
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(folder)) from error


class Refusal(NamedTuple):
    """What a system refused.

    Attributes:
        message: For people, with the file where there is one.
        hint: The way out; empty where only the caller can know one.
    """

    message: str
    hint: str


def refusal(error: OSError) -> Refusal:
    """What a system refused, for people, and the way out.

    Example:
        >>> refusal(OSError(errno.ENOSPC, "No space left on device", "runs/a/front.json")).message
        'runs/a/front.json: no space left on device'
    """
    said = error.strerror or str(error) or type(error).__name__
    file = error.filename if isinstance(error.filename, str | bytes | os.PathLike) else None
    where = f"{os.fsdecode(file)}: " if file is not None else ""
    hint = _WAYS_OUT.get(error.errno or 0, "")
    if error.errno == errno.EACCES and file is not None:
        hint = _readable(Path(os.fsdecode(file))) or hint
    return Refusal(where + said[:1].lower() + said[1:], hint)


def _readable(path: Path) -> str:
    """What must be made readable before a path can be read; empty where it can be, and writing was refused."""
    for folder in reversed(path.absolute().parents):
        if folder.is_dir() and not _may(folder, os.X_OK):
            return f"make the folder {folder} readable for you, or work in a copy of it that is"
    if path.exists() and not _may(path, os.R_OK):
        return f"make the {'folder' if path.is_dir() else 'file'} readable for you, or work in a copy of it that is"
    return ""


def _may(path: Path, mode: int) -> bool:
    return os.access(path, mode, effective_ids=os.access in os.supports_effective_ids)


_WRITABLE = "make the folder writable, or work in a copy of it that is"
_WAYS_OUT = {
    errno.ENOSPC: "free some space, then run the same command again",
    errno.EDQUOT: "free some of your quota, then run the same command again",
    errno.EFBIG: "raise the limit on the size of files (ulimit -f), then run the same command again",
    errno.EROFS: _WRITABLE,
    errno.EACCES: _WRITABLE,
    errno.EPERM: _WRITABLE,
    errno.EISDIR: "name a file, not a folder",
    errno.ENOTDIR: "what should be a folder there is a file: move it, or name another place",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.EIO: "look after the disk; what was stored before is kept",
}
