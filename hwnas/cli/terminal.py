"""What a person sees: progress bars on the error stream, results on the output stream, one line per error."""

from __future__ import annotations

import json
import sys
import time
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

_WIDEST = 1000


class Terminal:
    """Progress of a job as one bar per stage; a plain summary line when a stage ends.

    Everything goes to the error stream, so that results can be piped.

    Args:
        console: Where to; by default the error stream.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True, highlight=False)
        self._bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeRemainingColumn(compact=True),
            TextColumn("[dim]{task.fields[text]}"),
            console=self.console,
            transient=True,
        )
        self._task: TaskID | None = None
        self._stage = ""
        self._text = ""
        self._started = 0.0

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._end()
        self._bar.stop()

    def stage(self, name: str) -> None:
        """The last stage is done; this one begins."""
        self._end()
        self._stage, self._text, self._started = name, "", time.monotonic()
        self._task = self._bar.add_task(name, total=None, text="")

    def progress(self, done: float, total: float, text: str) -> None:
        """Move the bar."""
        if self._task is not None:
            self._text = text
            self._bar.update(self._task, completed=done, total=total or None, text=text[:48])

    def say(self, text: str) -> None:
        """A line that stays."""
        self.console.print(f"  [yellow]note:[/] {text}", soft_wrap=True)

    def _end(self) -> None:
        if self._task is not None:
            self._bar.remove_task(self._task)
            self._task = None
            self.console.print(f"  [green]done[/] {self._stage} [dim]({time.monotonic() - self._started:.1f} s)[/]")


def show_table(title: str, columns: list[str], rows: list[list[str]], *, note: str = "") -> None:
    """A table on the output stream; the first column is left-aligned, the others right."""
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for n, column in enumerate(columns):
        table.add_column(column, justify="right" if n else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    console = Console(highlight=False)
    # A pipe or a narrow window must not cut columns: numbers would be lost.
    needed = console.measure(table, options=console.options.update(max_width=_WIDEST)).maximum
    console.width = max(console.width, needed)
    console.print(table)
    if note:
        console.print(note, style="dim", soft_wrap=True)


def show(text: str) -> None:
    """A line on the output stream."""
    sys.stdout.write(f"{text}\n")


def show_json(value: Any) -> None:
    """Strict JSON on the output stream."""
    show(json.dumps(value, indent=2, allow_nan=False))
