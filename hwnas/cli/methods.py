"""`hwnas methods`: the strategies, and what a recipe's [strategy] may set."""

from __future__ import annotations

import inspect
import json
import re
from typing import Annotated, Any

import typer

from hwnas.cli.options import AsJson
from hwnas.cli.terminal import show, show_json, wrapped
from hwnas.strategies.registry import (
    STRATEGIES,
    default_of,
    has_default,
    parameters_of,
    strategy_class,
    trains_weights,
)
from hwnas.study import Strategy

_SECTION = re.compile(r"(Attributes|Args|Raises|Example|Examples|Returns|Note):$")


def methods(
    name: Annotated[
        str | None,
        typer.Argument(help='One strategy, or "file.py:Class" of your own: what it does, and what each field is.'),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the strategies and the fields a recipe's [strategy] may set."""
    rows = [_row(one, strategy_class(one)) for one in ([*STRATEGIES] if name is None else [name])]
    if as_json:
        show_json([{key: value for key, value in row.items() if key != "text"} for row in rows])
        return
    if name is not None:
        for line in _in_detail(rows[0]):
            show(line)
        return
    for row in rows:
        parameters = ", ".join(_as_written(key, field) for key, field in row["fields"].items())
        for line in wrapped(f"{row['name']}: {row['summary']}") + wrapped(f"    {parameters or 'no parameters'}"):
            show(line)
    show("")
    show("hwnas methods NAME: what it does, and what each field is")
    for line in wrapped('a strategy of your own: name = "file.py:Class" in [strategy], as in CONTRIBUTING.md'):
        show(line)


def _row(name: str, kind: type[Strategy]) -> dict[str, Any]:
    """A strategy as JSON, with the paragraphs of its docstring under "text"."""
    paragraphs, told = _docstring_of(kind)
    fields = parameters_of(kind)
    return {
        "name": name,
        "summary": paragraphs[0] if paragraphs else "no docstring",
        "trains_weights": trains_weights(kind),
        "fields": {key: _plain(default_of(field)) for key, field in fields.items() if has_default(field)},
        "required": [key for key, field in fields.items() if not has_default(field)],
        "meanings": {key: told[key] for key in fields if key in told},
        "text": paragraphs[1:],
    }


def _in_detail(row: dict[str, Any]) -> list[str]:
    """A strategy for people, in 80 columns."""
    weights = (
        "It trains the shared weights itself, so it needs a space with a supernet."
        if row["trains_weights"]
        else 'It only evaluates: with shared weights, with weights = "scratch", and on published tables.'
    )
    settable = [*((key, key) for key in row["required"]), *((k, _as_written(k, v)) for k, v in row["fields"].items())]
    lines = [f"{row['name']}: {row['summary']}", "", *row["text"], weights, "", "[strategy] may set:"]
    for key, written in settable:
        needed = " (needed)" if key in row["required"] else ""
        meaning = row["meanings"].get(key, "")
        lines.append(f"    {written}{needed}" + (f": {meaning}" if meaning else ""))
    if not settable:
        lines.append("    nothing: it has no fields")
    return [part for line in lines for part in wrapped(line)]


def _docstring_of(kind: type) -> tuple[list[str], dict[str, str]]:
    """The paragraphs before the sections of a docstring, each on one line, and the meaning of each attribute."""
    text = kind.__doc__ or ""
    if text.startswith(f"{kind.__name__}("):  # what a dataclass says that has no docstring
        return [], {}
    paragraphs: list[str] = []
    told: dict[str, str] = {}
    section, key, fresh = "", "", True
    for line in inspect.cleandoc(text).splitlines():
        words = line.strip()
        if _SECTION.match(line):
            section = line.removesuffix(":")
        elif not section:
            if words and (fresh or words.startswith("- ")):
                paragraphs.append(words)
            elif words:
                paragraphs[-1] += f" {words}"
            fresh = not words
        elif section == "Attributes" and words:
            if found := re.match(r" {4}(\w+): (.*)", line):
                key = found[1]
                told[key] = found[2]
            elif key:
                told[key] += f" {words}"
    return paragraphs, told


def _plain(value: object) -> Any:
    """A default as JSON; what JSON lacks as Python writes it."""
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return repr(value)
    return value


def _as_written(key: str, value: object) -> str:
    """A key and its default as a recipe would set it; what is not set has no such words.

    Example:
        >>> _as_written("cut", "both"), _as_written("sizes", (1, 2)), _as_written("every", None)
        ('cut = "both"', 'sizes = [1, 2]', 'every = not set')
    """
    return f"{key} = {'not set' if value is None else json.dumps(value)}"
