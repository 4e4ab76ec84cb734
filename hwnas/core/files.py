"""Files that are either whole or not there."""

from __future__ import annotations

import os
from pathlib import Path


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader, a crash or a full disk never sees half of it.

    The content goes to a temporary name in the same folder, is synced, and takes the place of `path` in one step.

    Raises:
        OSError: If the folder cannot be written; `path` is then as it was.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "front.json"
        >>> write_atomically(target, "{}")
        >>> target.read_text(), [p.name for p in target.parent.iterdir()]
        ('{}', ['front.json'])
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
