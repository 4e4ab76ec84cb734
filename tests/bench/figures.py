"""Rows of a bench, and the table and file they end in."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from rich.table import Table

from hwnas.core import write_atomically
from hwnas.evaluation.benchmarks import DATA_VARIABLE
from hwnas.evaluation.benchmarks import data_folder as data_folder_of
from hwnas.study.environment import environment

ROOT = Path(__file__).parents[2]


class MissingDataError(Exception):
    """A bench whose data is not on this machine."""


@dataclass(frozen=True)
class Row:
    """One figure.

    Attributes:
        figure: What was measured, with everything that sets it apart from the other rows.
        value: In `unit`.
        unit: Of value, must and goal.
        must: The bench fails on the wrong side of it; None for a figure that is only for comparison.
        goal: Where it should come to.
        better: Which side is the right one; must and goal themselves are on it.
    """

    figure: str
    value: float
    unit: str
    must: float | None = None
    goal: float | None = None
    better: Literal["lower", "higher"] = "higher"

    @property
    def ok(self) -> bool:
        """Whether the value is finite and on the right side of `must`."""
        return math.isfinite(self.value) and self._reaches(self.must)

    @property
    def at_goal(self) -> bool:
        """Whether the value is on the right side of `goal`."""
        return self.ok and self._reaches(self.goal)

    def _reaches(self, bound: float | None) -> bool:
        return bound is None or (self.value <= bound if self.better == "lower" else self.value >= bound)

    def to_json(self) -> dict[str, Any]:
        """As results files hold it; a value that is not finite becomes null."""
        return {
            "figure": self.figure,
            "value": self.value if math.isfinite(self.value) else None,
            "unit": self.unit,
            "must": self.must,
            "goal": self.goal,
            "better": self.better,
            "ok": self.ok,
        }


@dataclass(frozen=True)
class Measured:
    """What a bench returns.

    Attributes:
        rows: The figures.
        conditions: What they depend on beside the machine and versions: seeds, threads, data.
    """

    rows: Sequence[Row]
    conditions: Mapping[str, Any]


Part = Callable[[Path], Measured]
"""A part of a bench is given the folder with the data."""

Bench = Mapping[str, Part]
"""Name to part, in the order they run."""


def run(bench: Bench, data: Path, *, only: Sequence[str] = ()) -> Measured:
    """All parts of a bench, or some; the conditions are by part.

    Args:
        bench: Its parts.
        data: The folder with the data.
        only: Names of parts; all by default.

    Raises:
        MissingDataError: If a part's data is not there, or there is no such part.
    """
    for name in only:
        if name not in bench:
            raise MissingDataError(f'there is no part "{name}"; known: {", ".join(bench)}')
    rows: list[Row] = []
    conditions: dict[str, Any] = {}
    for name, part in bench.items():
        if only and name not in only:
            continue
        started, load = time.perf_counter(), os.getloadavg()[0]
        found = part(data)
        rows += found.rows
        conditions[name] = {
            **found.conditions,
            "date": datetime.now(UTC).strftime("%Y-%m-%d"),
            "seconds": round(time.perf_counter() - started, 1),
            "load": [round(load, 2), round(os.getloadavg()[0], 2)],
            "figures": [row.figure for row in found.rows],
        }
    return Measured(rows, conditions)


def data_folder() -> Path:
    """Where bench data lies: $HWNAS_BENCH_DATA, else `../shared/data` beside the repository."""
    return data_folder_of(ROOT)


def need(path: Path) -> Path:
    """The path, if it is there.

    Raises:
        MissingDataError: If it is not.
    """
    if not path.exists():
        raise MissingDataError(f"{path} is not there; set {DATA_VARIABLE} to the folder with the bench data")
    return path


def save(name: str, measured: Measured, folder: Path) -> Path:
    """Write `folder/NAME.json`: the conditions once, then the rows.

    Parts that were not run keep the rows and the conditions that the file holds of them, if it was made on the same
    machine with the same versions: long parts take their quiet hours one by one.
    """
    path = folder / f"{name}.json"
    here = {"cores": len(os.sched_getaffinity(0)), **environment()}
    rows, kept = [row.to_json() for row in measured.rows], {}
    if path.is_file():
        before = json.loads(path.read_text(encoding="utf-8"))
        parts = {
            key: value
            for key, value in before["conditions"].items()
            if isinstance(value, dict) and "figures" in value and key not in measured.conditions
        }
        if all(before["conditions"].get(key) == value for key, value in here.items()):
            kept = parts
        figures = {figure for part in kept.values() for figure in part["figures"]}
        rows = [row for row in before["rows"] if row["figure"] in figures] + rows
    content = {"name": name, "conditions": {**here, **kept, **measured.conditions}, "rows": rows}
    write_atomically(path, json.dumps(content, indent=2, allow_nan=False) + "\n")
    return path


def table(name: str, measured: Measured) -> Table:
    """The rows for people."""
    shown = Table(title=f"bench {name}", title_justify="left")
    for heading in ("figure", "value", "unit", "must", "goal", ""):
        shown.add_column(heading, justify="right" if heading in {"value", "must", "goal"} else "left")
    for row in measured.rows:
        sign = "<=" if row.better == "lower" else ">="
        bounds = ["" if bound is None else f"{sign} {bound:g}" for bound in (row.must, row.goal)]
        judged = row.must is not None or row.goal is not None
        verdict = "FAILS" if not row.ok else "" if not judged else "goal" if row.at_goal else "ok"
        shown.add_row(row.figure, f"{row.value:.4g}", row.unit, *bounds, verdict)
    return shown
