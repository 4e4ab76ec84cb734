"""What a person sees: progress on the error stream, results on the output stream, one line per error.

This is the one door to the terminal: all text goes through `fit`, so no name of a file, class or run is ever taken for
mark-up, for a control sequence, or for a character that the terminal's encoding lacks.
"""

from __future__ import annotations

import errno
import json
import os
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self, TextIO, cast

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID
from rich.table import Column, Table
from rich.text import Text

from hwnas.cli.pace import Pace, in_words
from hwnas.core.escaping import visible

_WIDEST = 1000
_LINE_EVERY_S = 30.0
_WORTH_A_LINE_S = 5.0
_LINE_EVERY_SHARE = 0.05
_GONE = (errno.EPIPE, errno.EIO)
"""What writing says where nobody reads any more: of a pipe, and of a terminal that was closed."""


def fit(text: str, encoding: str | None) -> str:
    r"""Text on one line for a stream: what steers a terminal and what its encoding lacks is shown as escapes.

    Args:
        text: Anything.
        encoding: Of the stream; None is UTF-8.

    Example:
        >>> print(fit("café" + chr(27) + "[2J", "ascii"))
        caf\xe9\x1b[2J
    """
    code = encoding or "utf-8"
    return visible(text).encode(code, "backslashreplace").decode(code)


class OutputClosedError(Exception):
    """Nobody reads the output stream any more, as after `| head`."""


class _Unread:
    """A stream for progress and faults: once its terminal or its reader is gone, nothing more is written to it.

    A search that was put into the background goes on without its terminal, and one that is told to stop by the
    hang-up of its terminal cleans up and ends with the exit code of that signal.

    Args:
        stream: Written to as long as it takes text.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """As the stream does."""
        try:
            return self._stream.write(text)
        except OSError as error:
            self._drop(error)
            return len(text)

    def flush(self) -> None:
        """As the stream does."""
        try:
            self._stream.flush()
        except OSError as error:
            self._drop(error)

    def _drop(self, error: OSError) -> None:
        if error.errno not in _GONE:
            raise error
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())  # for what the stream still holds: else the interpreter's end fails
        os.close(nowhere)


class Terminal:
    """Progress of a job: one bar per stage on a terminal, a line now and then elsewhere, and a line per stage's end.

    Everything goes to the error stream, so that results can be piped.

    Args:
        console: Where to; by default the error stream.
        clock: Seconds.
    """

    def __init__(self, console: Console | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.console = console or Console(file=_error_stream(), highlight=False)
        self._clock = clock
        self._bar = Progress(
            BarColumn(bar_width=12),
            _Numbers(clock),
            _Words(self._fit),
            console=self.console,
            transient=True,
            expand=True,
        )
        self._task: TaskID | None = None
        self._stage = ""
        self._pace = Pace(0.0)
        self._last_line = 0.0

    def __enter__(self) -> Self:
        if self.console.is_interactive:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._end()
        if self.console.is_interactive:
            self._bar.stop()

    def stage(self, name: str) -> None:
        """The last stage is done; this one begins."""
        self._end()
        now = self._clock()
        self._stage, self._pace, self._last_line = name, Pace(now), now
        self._task = self._bar.add_task(name, total=None, text="", pace=self._pace)

    def progress(self, done: float, total: float, text: str) -> None:
        """Move the bar; where there is none, write a line if the last one is some time ago."""
        if self._task is None:
            return
        now = self._clock()
        self._pace.at(now, done, total)
        self._bar.update(self._task, completed=done, total=total or None, text=text)
        if self.console.is_interactive:
            return
        if now - self._last_line >= max(_LINE_EVERY_S, _LINE_EVERY_SHARE * (now - self._pace.began)):
            self._last_line = now
            words = (self._pace.share_in_words(), self._pace.left_in_words(now), self._stage, text)
            self._line("...", ", ".join(filter(None, words)), style="dim")

    def say(self, text: str) -> None:
        """A line that stays."""
        self._line("note:", text, style="yellow")

    def _end(self) -> None:
        if self._task is not None:
            self._bar.remove_task(self._task)
            self._task = None
            took = self._clock() - self._pace.began
            if self._pace.told or took >= _WORTH_A_LINE_S:  # else all of it was there already, as of a finished run
                self._line("done:", f"{self._stage} ({in_words(took)})", style="green")

    def _fit(self, text: str) -> str:
        return fit(text, self.console.encoding)

    def _line(self, mark: str, text: str, *, style: str) -> None:
        line = Text.assemble("  ", (mark, style), " ", self._fit(text))
        self.console.print(line, soft_wrap=True)


class _Numbers(ProgressColumn):
    """The share that is done and the time left; no width is too small for them."""

    max_refresh = None

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(Column(no_wrap=True, min_width=19))
        self._clock = clock

    def render(self, task: Task) -> Text:
        """As a percentage and a time; how long it has taken so far while nothing else is known."""
        pace: Pace = task.fields["pace"]
        return Text(f"{pace.share_in_words():>4} {pace.left_in_words(self._clock())}")


class _Words(ProgressColumn):
    """The stage and what it is at, cut where the line ends."""

    def __init__(self, fit_to: Callable[[str], str]) -> None:
        super().__init__(Column(no_wrap=True, overflow="crop", ratio=1))
        self._fit = fit_to

    def render(self, task: Task) -> Text:
        """The stage, then what was last told."""
        return Text.assemble((self._fit(task.description), "bold"), "  ", (self._fit(task.fields["text"]), "dim"))


def show_table(
    title: str, columns: list[str], rows: list[list[str]], *, note: str = "", spare: Sequence[str] = ()
) -> None:
    """A table on the output stream; the first column is left-aligned, the others right.

    Args:
        title: Above it.
        columns: Their names.
        rows: A text for each column.
        note: Below it.
        spare: Columns that a terminal too narrow for all may do without, the first to go first; a line names them.
            Nothing is left out where the output is no terminal.
    """
    console = Console(highlight=False)

    def text(words: str) -> Text:
        return Text(fit(words, console.encoding))

    def of(kept: Sequence[int]) -> Table:
        table = Table(title=text(title), title_justify="left", title_style="bold", box=None, pad_edge=False)
        for n in kept:
            table.add_column(text(columns[n]), justify="right" if n else "left", no_wrap=True)
        for row in rows:
            table.add_row(*(text(row[n]) for n in kept))
        return table

    def needed(kept: Sequence[int]) -> int:
        return console.measure(of(kept), options=console.options.update(max_width=_WIDEST)).maximum

    kept, gone = [*range(len(columns))], []
    for name in spare if console.is_terminal else ():
        if name in columns and needed(kept) > console.width:
            kept.remove(columns.index(name))
            gone.append(name)
    # A pipe or a narrow window must not cut columns: numbers would be lost.
    console.width = max(console.width, needed(kept))
    with console.capture() as captured:
        console.print(of(kept))
        if note:
            console.print(text(note), style="dim", soft_wrap=True)
        if gone:
            left = f"no room for {', '.join(gone)}: a wider window shows them, and --json all"
            console.print(text(left), style="dim", soft_wrap=True)
    _write(captured.get())


def show(text: str) -> None:
    """Lines on the output stream."""
    for line in text.split("\n"):
        _write(f"{fit(line, sys.stdout.encoding)}\n")


def wrapped(line: str) -> list[str]:
    """A line in 80 columns; what goes on is indented."""
    return textwrap.wrap(line, 80, subsequent_indent=" " * 8) or [""]


def show_json(value: Any) -> None:
    """Strict JSON on the output stream."""
    _write(f"{json.dumps(value, indent=2, allow_nan=False)}\n")


def flush() -> None:
    """Hand over everything that was shown.

    Raises:
        OutputClosedError: If nobody reads it.
    """
    try:
        sys.stdout.flush()
    except OSError as error:
        if error.errno in _GONE:
            raise OutputClosedError from error
        raise


def _write(text: str) -> None:
    """Text onto the output stream.

    Raises:
        OutputClosedError: If nobody reads it.
    """
    try:
        sys.stdout.write(text)
    except OSError as error:
        if error.errno in _GONE:
            raise OutputClosedError from error
        raise


def _error_stream() -> TextIO:
    return cast(TextIO, _Unread(sys.stderr))


def show_fault(mark: str, text: str, hint: str = "", *, style: str = "red", stream: TextIO | None = None) -> None:
    """One line on the error stream, and one below it with the way out.

    Args:
        mark: What it is: "error", "stopped".
        text: What happened.
        hint: The way out; may be empty.
        style: Of the mark.
        stream: Instead of the error stream.
    """
    console = Console(file=stream or _error_stream(), highlight=False)
    console.print(Text.assemble((f"{mark}:", style), " ", fit(text, console.encoding)), soft_wrap=True)
    if hint:
        console.print(Text(f"{' ' * len(mark)}  {fit(hint, console.encoding)}"), soft_wrap=True)
