"""Ctrl-C, SIGTERM and SIGHUP: a line that says how to go on, nothing left behind, exit code 128 + the signal.

While a command works, a signal raises `KeyboardInterrupt` in the main thread, so that temporary folders and child
processes end as they do after an error. While libraries are imported (`importing`) it ends the process at once: an
import that is cut in the middle ends in that library's own words, and there is nothing to clean up yet.

This file imports nothing heavy, for it must be ready before anything else is loaded.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)  # Windows has no SIGHUP
PATIENCE_S = 5.0
"""Within it a command that was stopped cleans up, whatever further signals come; after it, the next one ends it."""


class Stops:
    """The signals that stop this process, from `listen` on.

    Args:
        last_words: Says to a person what happened, without any library: the signal's number comes in.

    Attributes:
        number: Of the first signal that came; None: none has.
    """

    def __init__(self, last_words: Callable[[int], None]) -> None:
        self.number: int | None = None
        self._last_words = last_words
        self._at = 0.0
        self._importing = 0

    def listen(self) -> None:
        """Take over the signals; one that is ignored, as SIGHUP under nohup, stays ignored."""
        for number in SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._hear)

    @contextmanager
    def importing(self) -> Iterator[None]:
        """A signal ends the process at once while this is entered."""
        self._importing += 1
        try:
            yield
        finally:
            self._importing -= 1

    def _hear(self, number: int, _: FrameType | None) -> None:
        if self.number is None:
            self.number, self._at = number, time.monotonic()
        elif time.monotonic() - self._at < PATIENCE_S:
            return
        else:
            self._leave(self.number)
        if self._importing:
            self._leave(number)
        raise KeyboardInterrupt

    def _leave(self, number: int) -> None:
        self._last_words(number)
        os._exit(exit_code(number))


_listening = Stops(lambda _: None)


def listen(last_words: Callable[[int], None]) -> Stops:
    """Take over the signals of this process.

    Args:
        last_words: As in `Stops`.
    """
    global _listening
    _listening = Stops(last_words)
    _listening.listen()
    return _listening


@contextmanager
def importing() -> Iterator[None]:
    """Around imports of what takes seconds to load, inside of a command.

    Example:
        >>> with importing():
        ...     import json
    """
    with _listening.importing():
        yield


def exit_code(number: int) -> int:
    """The shell's convention for a process that a signal stopped.

    Example:
        >>> exit_code(2), exit_code(15), exit_code(1)
        (130, 143, 129)
    """
    return 128 + number


def name_of(number: int) -> str:
    """What a person calls the signal.

    Example:
        >>> name_of(2), name_of(15)
        ('Ctrl-C', 'SIGTERM')
    """
    return "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
