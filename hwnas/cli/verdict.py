"""What a latency table is good for, in one line."""

from __future__ import annotations

from collections.abc import Mapping

from hwnas.core import counted
from hwnas.cost import TableHeader

_GOOD, _FAIR = 0.03, 0.1
"""Mean relative errors up to which predictions are called so."""
_IN_ORDER = 0.9
"""Rank correlation from which the order of networks is called right."""


def verdict(header: TableHeader) -> str:
    """In one line what a table is good for: how far its predictions are off, and whether the machine was quiet."""
    calibration, noise = header.calibration, header.noise
    if calibration is None:
        return "not usable yet: blocks are missing, so nothing can be predicted"
    quiet = noise is None or noise.passed
    marked = "" if quiet else "; but the machine was noisy meanwhile, so measure again when it is quiet"
    if calibration.loo_mape is None:
        return f"{'good' if quiet else 'fair'}: every network of the space was measured itself{marked}"
    held = calibration.holdout
    error = calibration.loo_mape if held is None else held.mape
    in_order = held is None or held.tau is None or held.tau >= _IN_ORDER
    words = "poor"
    if error <= _FAIR:
        words = "good" if error <= _GOOD and in_order and quiet else "fair"
    order = "" if held is None or held.tau is None else f", their order is {'right' if in_order else 'partly wrong'}"
    return f"{words}: predictions are off by {error:.1%} on average{order}{marked}"


def incomplete(failed: Mapping[str, str]) -> list[str]:
    """What to say where blocks could not be measured or exported, with the first and its reason; nothing if all could.

    Example:
        >>> incomplete({"stem 1x8x8->8x8x8": "no such kernel"})
        ['  incomplete, 1 block is missing: stem 1x8x8->8x8x8: no such kernel']
        >>> incomplete({})
        []
    """
    if not failed:
        return []
    key, reason = min(failed.items())
    are = "is" if len(failed) == 1 else "are"
    first = "" if len(failed) == 1 else "the first "
    return [f"  incomplete, {counted(len(failed), 'block')} {are} missing: {first}{key}: {reason}"]
