"""Rows of a bench, and the table and file they end in."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from rich.table import Table

from hwnas.core import write_atomically
from hwnas.study.environment import environment

DATA_VARIABLE = "HWNAS_BENCH_DATA"
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


Bench = Callable[[Path], Measured]
"""A bench is given the folder with the data."""


def data_folder() -> Path:
    """Where bench data lies: $HWNAS_BENCH_DATA, else `../shared/data` beside the repository."""
    named = os.environ.get(DATA_VARIABLE)
    return Path(named) if named else ROOT.parent / "shared" / "data"


def need(path: Path) -> Path:
    """The path, if it is there.

    Raises:
        MissingDataError: If it is not.
    """
    if not path.exists():
        raise MissingDataError(f"{path} is not there; set {DATA_VARIABLE} to the folder with the bench data")
    return path


def save(name: str, measured: Measured, folder: Path) -> Path:
    """Write `folder/NAME.json`: the conditions once, then the rows."""
    conditions = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "cores": len(os.sched_getaffinity(0)),
        **environment(),
        **measured.conditions,
    }
    content = {"name": name, "conditions": conditions, "rows": [row.to_json() for row in measured.rows]}
    path = folder / f"{name}.json"
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
