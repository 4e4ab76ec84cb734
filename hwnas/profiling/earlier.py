"""The latency table that was there before a device was measured again."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path

from hwnas.core import TableError, write_atomically
from hwnas.cost import LatencyTable
from hwnas.cost.refit import refit_path

FOLDER = "earlier"
"""In the folder of the tables."""


def keep_earlier(path: Path, table: LatencyTable) -> Path | None:
    """Copy the table that another is about to take the place of, and what it was refitted to.

    Runs began with it, and a measurement cannot be had again.

    Args:
        path: Of both tables.
        table: The new one.

    Returns:
        The copy, named by the day of its measurement and a digest; None if there is no table, or it is the same.

    Raises:
        OSError: If the folder cannot be written.
    """
    if not path.is_file():
        return None
    content = path.read_bytes()
    if content == table.text().encode():
        return None
    try:
        day = LatencyTable.load(path).header.created_utc
    except TableError:  # damaged, and kept all the same
        day = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    digest = hashlib.sha256(content).hexdigest()[:8]
    kept = path.parent / FOLDER / f"{path.stem}--{day:%Y-%m-%d}--{digest}.jsonl"
    write_atomically(kept, content)
    if refit_path(path).is_file():
        write_atomically(refit_path(kept), refit_path(path).read_bytes())
    return kept
