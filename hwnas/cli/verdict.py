"""What a latency table is good for, in one line."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from hwnas.core import counted
from hwnas.cost import TableHeader

_GOOD, _FAIR = 0.03, 0.1
"""Mean relative errors up to which predictions are called so."""
_IN_ORDER = 0.9
"""Rank correlation from which the order of networks is called right."""


def verdict(header: TableHeader, doubtful: Collection[str]) -> str:
    """In one line what a table is good for: rows that cannot be right, then how far its predictions are off, and marks.

    It is "good" only without a doubtful row and without a mark of the machine or of a single model.

    Args:
        header: Of the table.
        doubtful: Keys of the rows that cannot be right, see `doubtful_rows`.
    """
    calibration = header.calibration
    if calibration is None:
        return "not usable yet: blocks are missing, so nothing can be predicted"
    marked = _reservations(header)
    if calibration.loo_mape is None:
        word, said = "fair" if marked else "good", "every network of the space was measured itself"
    else:
        held = calibration.holdout
        error = calibration.loo_mape if held is None else held.mape
        in_order = held is None or held.tau is None or held.tau >= _IN_ORDER
        word = "poor"
        if error <= _FAIR:
            word = "good" if error <= _GOOD and in_order and not marked else "fair"
        order = (
            "" if held is None or held.tau is None else f", their order is {'right' if in_order else 'partly wrong'}"
        )
        said = f"predictions are off by {error:.1%} on average{order}"
    if doubtful:
        word, said = "doubtful", f"{counted(len(doubtful), 'block')} cannot be right; by its header {said}"
    return f"{word}: {said}{f'; but {marked}, so measure again when it is quiet' if marked else ''}"


def _reservations(header: TableHeader) -> str:
    """What the noise gate and the marks say against a measurement; empty if nothing."""
    protocol, noise = header.protocol, header.noise
    states = ["noisy"] if noise is not None and not noise.passed else []
    states += [mark.split(":")[0] for mark in protocol.marks if not mark.startswith("short:")]
    found = [f"the machine was {', '.join(states)} meanwhile"] if states else []
    if protocol.capped:
        found.append("it was cut to keep to its time limit")
    if protocol.row_marks:
        models = counted(len(protocol.row_marks), "model")
        found.append(f"{models} {'was' if len(protocol.row_marks) == 1 else 'were'} unsteady")
    return " and ".join(found)


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
