"""A page of every judged figure, written from the results files, so that no number in it was typed by anybody."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.bench.figures import ROOT, Bench
from tests.bench.result_files import STAMPED, load

PAGE = ROOT / "docs" / "figures.md"

_HEAD = """# Figures

Written by `python -m tests.bench --page` from the files in `tests/bench/results`; a test compares them.
`python -m tests.bench --stale` says which figures are of code that has changed since. CONTRIBUTING says by which rules
they are made.

A figure is **void** where a contender that costs nothing meets its must. A value with ± is a mean over seeds with one
standard error; it meets a must or a goal with two of them to spare.
"""


def page(results: Path, benches: Mapping[str, Bench]) -> str:
    """The page, in Markdown: for each bench a table of its judged rows, then the parts without known origin.

    Args:
        results: Folder of the results files.
        benches: By name.

    Raises:
        DataError: If a file was not written by `save`.
    """
    lines = [_HEAD]
    nowhere: list[str] = []
    for name, bench in benches.items():
        path = results / f"{name}.json"
        rows: list[Mapping[str, Any]] = load(path)["rows"] if path.is_file() else []
        known = [row for row in rows if all(row.get(key) is not None for key in STAMPED)]
        judged = [row for row in known if row["must"] is not None or row["goal"] is not None]
        if judged:
            lines += [
                f"## {name}\n",
                "| part | figure | value | must | goal | null contender | given | seeds | commit | |",
            ]
            lines += ["|---|---|---|---|---|---|---|---|---|---|", *(_line(row) for row in judged), ""]
        measured = {row["part"] for row in known}
        nowhere += [f"{name} {part}" for part in bench if part not in measured]
    lines += [
        "## Not run, or of unknown origin\n",
        "Parts that were never run, or whose rows are of a time when rows did not say where they come from: "
        f"{', '.join(nowhere) or 'none'}.",
    ]
    return "\n".join(lines) + "\n"


def _line(row: Mapping[str, Any]) -> str:
    sign = "<=" if row["better"] == "lower" else ">="
    bounds = ["" if row[key] is None else f"{sign} {row[key]:g}" for key in ("must", "goal")]
    null = row["null"]
    beside = f"{_number(null['value'])}: {null['name']}" if isinstance(null, dict) else str(null)
    error = "" if row["error"] is None else f" ± {row['error']:.2g}"
    cells = [
        row["part"],
        row["figure"],
        f"{_number(row['value'])}{error} {row['unit']}",
        *bounds,
        beside,
        row["given"],
        str(row["seeds"]) + (f" ({row['few']})" if row.get("few") else ""),
        str(row["commit"])[:9],
        f"**{_VERDICTS[row['verdict']]}**",
    ]
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


_VERDICTS = {
    "goal": "goal met",
    "ok": "must met",
    "below goal": "goal missed",
    "FAILS": "missed",
    "void": "void",
    "no number": "no number",
}


def _number(value: float | None) -> str:
    return "never" if value is None else f"{value:.4g}"
