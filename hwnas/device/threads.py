"""How many threads a computation may have: more of them than a machine can start end a process without a word."""

from __future__ import annotations

import os

from hwnas.device.measure import usable_cores

MOST_THREADS = 1024
"""More than any machine that networks are trained or timed on has cores."""
_FOR_EACH_CORE = 4


def most_threads(cores: tuple[int, ...] | None, quota: float | None) -> int:
    """How many threads a computation on this machine may have: four for each core that can be used.

    Four leave room for a recipe or a run of a larger machine; with more, threads only wait for each other.

    Args:
        cores: That the process may use; None: all that the system counts.
        quota: Cores' worth of time that the process may spend; None: no limit.

    Example:
        >>> most_threads((0, 1, 2, 3), None), most_threads((0, 1, 2, 3), 1.5), most_threads(tuple(range(999)), None)
        (16, 4, 1024)
    """
    usable = usable_cores(cores, quota) or os.cpu_count() or 1
    return min(MOST_THREADS, _FOR_EACH_CORE * usable)
