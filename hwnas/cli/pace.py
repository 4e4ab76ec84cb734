"""How far a stage is and when it will be done, from what was told so far."""

from __future__ import annotations

from collections import deque

_RECENT = 0.5
_LEAST_RECENT_S = 20.0


class Pace:
    """Progress of one stage against time.

    What was done before the first report counts for the share, and not for the speed: a resumed stage begins with it.
    The speed is that of the later half of the time, so that a quick or slow beginning is forgotten.

    Args:
        began: When the stage began, in seconds.

    Attributes:
        began: When the stage began.

    Example:
        >>> pace = Pace(0.0)
        >>> for second, done in ((1.0, 40), (2.0, 41), (3.0, 42)):
        ...     pace.at(second, done, 100)
        >>> pace.share_in_words(), pace.left_in_words(3.0), pace.left_in_words(10.0)
        ('42%', '58 s left', '51 s left')
    """

    def __init__(self, began: float) -> None:
        self.began = began
        self._told: deque[tuple[float, float]] = deque()
        self._total = 0.0

    def at(self, now: float, done: float, total: float) -> None:
        """What is done by now.

        Args:
            now: Seconds.
            done: Of the total, in any unit.
            total: 0 if nobody knows; another total or less done than before begins a new part of the stage.
        """
        if total != self._total or (self._told and done < self._told[-1][1]):
            self._told.clear()
            self._total = total
        self._told.append((now, done))
        span = max(_LEAST_RECENT_S, _RECENT * (now - self._told[0][0]))
        while len(self._told) > 2 and self._told[1][0] < now - span:
            self._told.popleft()

    @property
    def told(self) -> bool:
        """Whether anything was reported."""
        return bool(self._told)

    def share(self) -> float | None:
        """Of the total that is done, in 0..1; None if the total is unknown."""
        return min(1.0, self._told[-1][1] / self._total) if self._told and self._total else None

    def left_s(self, now: float) -> float | None:
        """Seconds to the end; None while the speed is unknown."""
        if not self._total or len(self._told) < 2:
            return None
        (first, before), (last, done) = self._told[0], self._told[-1]
        if last <= first or done <= before:
            return None
        return max(0.0, (self._total - done) * (last - first) / (done - before) - (now - last))

    def share_in_words(self) -> str:
        """The share as a percentage; empty if it is unknown."""
        share = self.share()
        return "" if share is None else f"{int(100 * share)}%"

    def left_in_words(self, now: float) -> str:
        """The time left; the time that the stage has taken so far while that is unknown."""
        left = self.left_s(now)
        return f"{in_words(now - self.began)} so far" if left is None else f"{in_words(left)} left"


def in_words(seconds: float) -> str:
    """A duration for people, in at most eight characters up to 99 hours.

    Example:
        >>> in_words(0.04), in_words(58.4), in_words(754), in_words(7380), in_words(200_000)
        ('0.0 s', '58 s', '12:34', '2 h 03', '55 h 33')
    """
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02}"
    return f"{whole // 3600} h {whole % 3600 // 60:02}"
