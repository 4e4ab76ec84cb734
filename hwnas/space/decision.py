"""One decision of a space, and when it counts."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

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
        prior: How often each option is drawn at random, in any scale; None: equally often.

    Raises:
        SpaceError: If options are missing or repeated, or the prior does not fit them.

    Example:
        >>> Decision("kernel", (3, 5)).options.index(5)
        1
    """

    label: str
    options: tuple[Option, ...]
    active_if: tuple[tuple[Condition, ...], ...] = ()
    prior: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if not self.label:
            raise SpaceError("a decision has an empty label; give it the name of what it decides")
        if not self.options:
            raise SpaceError(f"decision {self.label!r} has no options")
        if len({(type(option).__name__, option) for option in self.options}) < len(self.options):
            raise SpaceError(f"decision {self.label!r} lists an option twice: {list(self.options)}")
        if self.prior is not None:
            fits = len(self.prior) == len(self.options) and all(isfinite(share) and share >= 0 for share in self.prior)
            if not fits or not sum(self.prior) > 0:
                raise SpaceError(
                    f"decision {self.label!r} has the prior {list(self.prior)}; expected a finite number, 0 or more, "
                    f"for each of its {len(self.options)} options, not all 0"
                )

    @property
    def shares(self) -> tuple[float, ...]:
        """The probability of each option in a random draw.

        Example:
            >>> Decision("kernel", (3, 5), prior=(3, 1)).shares
            (0.75, 0.25)
        """
        weights = self.prior or (1.0,) * len(self.options)
        return tuple(weight / sum(weights) for weight in weights)
