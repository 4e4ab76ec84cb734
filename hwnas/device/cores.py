"""How many cores this process may really use: its affinity mask and its share of a control group."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path

QuotaReader = Callable[[], float | None]
"""Says how many cores' worth of time this process may spend, None where there is no limit or none is known."""


def allowed_cores() -> tuple[int, ...] | None:
    """The cores this process may run on, ascending; None on systems that do not say.

    Example:
        >>> cores = allowed_cores()
        >>> cores is None or len(cores) >= 1
        True
    """
    if not hasattr(os, "sched_getaffinity"):
        return None
    return tuple(sorted(os.sched_getaffinity(0)))


def cgroup_quota(root: Path = Path("/")) -> float | None:
    """Cores' worth of CPU time that the control groups of this process allow, the tightest of all levels.

    Reads version 2 (`cpu.max`) and version 1 (`cpu.cfs_quota_us`), also where both are mounted side by side.

    Args:
        root: Where the system's files lie; another folder in tests.

    Returns:
        For example 1.5; None where nothing limits it or nothing can be read.

    Example:
        >>> import tempfile
        >>> root = Path(tempfile.mkdtemp())
        >>> (root / "sys/fs/cgroup").mkdir(parents=True)
        >>> _ = (root / "sys/fs/cgroup/cpu.max").write_text("150000 100000")
        >>> cgroup_quota(root)
        1.5
    """
    quotas = [quota for folder in _groups(root) if (quota := _quota_of(folder)) is not None]
    return min(quotas, default=None)


def _groups(root: Path) -> Iterator[Path]:
    """The folders of this process's CPU groups and of all groups above them."""
    mount = root / "sys/fs/cgroup"
    unified, cpu = {"/"}, {"/"}
    for line in _text(root / "proc/self/cgroup").splitlines():
        number, controllers, path = (line.split(":", 2) + ["", ""])[:3]
        if number == "0" and not controllers:
            unified.add(path)
        elif "cpu" in controllers.split(","):
            cpu.add(path)
    mounts = [(mount, unified), (mount / "unified", unified), (mount / "cpu", cpu), (mount / "cpu,cpuacct", cpu)]
    for base, paths in mounts:
        for path in sorted(paths):
            # Inside a container the path may be the host's and not exist here; its parents up to the mount may.
            group = base / path.lstrip("/")
            yield from (folder for folder in (group, *group.parents) if folder.is_relative_to(base) and folder.is_dir())


def _quota_of(group: Path) -> float | None:
    words = _text(group / "cpu.max").split() or [
        _text(group / "cpu.cfs_quota_us").strip(),
        _text(group / "cpu.cfs_period_us").strip(),
    ]
    try:
        quota, period = (float(word) for word in words)
    except ValueError:  # "max", or a file that is not there
        return None
    cores = quota / period if quota > 0 and period > 0 else math.inf
    return cores if math.isfinite(cores) else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def usable_cores(cores: tuple[int, ...] | None, quota: float | None) -> int | None:
    """How many threads can run at once all the time: the quota rounded down, at least 1; None if nothing is known.

    With a thread more than that the quota runs out within each period, and all of them stand still until the next.

    Example:
        >>> usable_cores((0, 1, 2, 3), 2.5), usable_cores((0, 1), 0.5), usable_cores(None, None)
        (2, 1, None)
    """
    bounds = [len(cores)] if cores else []
    if quota is not None:
        bounds.append(max(1, math.floor(quota)))
    return min(bounds, default=None)
