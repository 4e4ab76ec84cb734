"""How the choices inside a module get the gates of the call they are in.

An ordinary module's `forward(x)` has no place for gates, so the call of a model space lays them out for the choices
below it, in the calling thread and until it returns. Nothing stays in the module: two threads may run two networks of
one space at a time, and what is run without gates says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from hwnas.core import Option, SpaceError
from hwnas.nn.gates import Gate, Gates

_CURRENT: ContextVar[Gates | None] = ContextVar("gates", default=None)


@contextmanager
def answering(gates: Gates) -> Iterator[None]:
    """Answer all choices that run within, in this thread.

    Example:
        >>> from hwnas.core import Architecture
        >>> with answering(Architecture({"kernel": 5})):
        ...     answer_to("kernel")
        5
    """
    token = _CURRENT.set(gates)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def answer_to(label: str) -> Option | Gate:
    """What the call at hand says of one decision: an option, or a gate over all.

    Raises:
        SpaceError: If there is no such call, or it does not say.
    """
    gates = _CURRENT.get()
    if gates is None:
        raise SpaceError(
            f"choice {label!r} ran without gates, as inside a plain call or a recomputed activation",
            hint="call the model space: net(x, architecture), or net(x, gates); or take net.extract(architecture)",
        )
    if label not in gates:
        raise SpaceError(
            f"the gates do not say {label!r}, which runs; they say {', '.join(sorted(gates)) or 'nothing'}"
        )
    return gates[label]
