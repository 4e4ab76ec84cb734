"""Files that are either whole or not there, and what a system says that refuses one."""

from __future__ import annotations

import errno
import os
from pathlib import Path


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


def refusal(error: OSError) -> tuple[str, str]:
    """What a system refused, for people, and the way out.

    Example:
        >>> refusal(OSError(errno.ENOSPC, "No space left on device", "runs/a/front.json"))
        ('runs/a/front.json: no space left on device', 'free some space, then run the same command again')
    """
    said = error.strerror or str(error) or type(error).__name__
    file = error.filename if isinstance(error.filename, str | bytes | os.PathLike) else None
    where = f"{os.fsdecode(file)}: " if file is not None else ""
    return where + said[:1].lower() + said[1:], _WAYS_OUT.get(error.errno or 0, "")


_WRITABLE = "make the folder writable, or work in a copy of it that is"
_WAYS_OUT = {
    errno.ENOSPC: "free some space, then run the same command again",
    errno.EDQUOT: "free some of your quota, then run the same command again",
    errno.EFBIG: "raise the limit on the size of files (ulimit -f), then run the same command again",
    errno.EROFS: _WRITABLE,
    errno.EACCES: _WRITABLE,
    errno.EPERM: _WRITABLE,
}
