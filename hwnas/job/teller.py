"""How a job tells what it is doing, without knowing who listens."""

from __future__ import annotations

from typing import Protocol


class Teller(Protocol):
    """Somebody who is told: a terminal, a log, nobody."""

    def stage(self, name: str) -> None:
        """A part of the job begins."""
        ...

    def progress(self, done: float, total: float, text: str) -> None:
        """How far the part is."""
        ...

    def say(self, text: str) -> None:
        """One line that should be read, now and later."""
        ...


class Silent:
    """Nobody listens.

    Example:
        >>> Silent().say("hello")
    """

    def stage(self, name: str) -> None:
        """Nothing."""

    def progress(self, done: float, total: float, text: str) -> None:
        """Nothing."""

    def say(self, text: str) -> None:
        """Nothing."""
