"""One decision of a space, and when it counts."""

from __future__ import annotations

from dataclasses import dataclass

from hwnas.core import Option, SpaceError


@dataclass(frozen=True)
class Condition:
    """True when a decision takes one of some options.

    Example:
        >>> Condition("depth", (3, 4))
        Condition(label='depth', options=(3, 4))
    """

    label: str
    options: tuple[Option, ...]


@dataclass(frozen=True)
class Decision:
    """A named choice among options.

    Attributes:
        label: Unique in the space; whatever shares a label shares the choice.
        options: In the order of their codes 0, 1, 2, ...; at least one, no repeats.
        active_if: Any of these groups, each all of its conditions; empty: always active. A decision is active when the
            decisions of a fulfilled group are active themselves. Inactive decisions change nothing in the network.

    Raises:
        SpaceError: If options are missing or repeated.

    Example:
        >>> Decision("kernel", (3, 5)).options.index(5)
        1
    """

    label: str
    options: tuple[Option, ...]
    active_if: tuple[tuple[Condition, ...], ...] = ()

    def __post_init__(self) -> None:
        if not self.label:
            raise SpaceError("a decision has an empty label; give it the name of what it decides")
        if not self.options:
            raise SpaceError(f"decision {self.label!r} has no options")
        if len({(type(option).__name__, option) for option in self.options}) < len(self.options):
            raise SpaceError(f"decision {self.label!r} lists an option twice: {list(self.options)}")
