"""Rows of a bench: what was measured, what each side knew, and what a contender that costs nothing reaches."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rich.table import Table

from hwnas.evaluation.benchmarks import DATA_VARIABLE
from hwnas.evaluation.benchmarks import data_folder as data_folder_of

ROOT = Path(__file__).parents[2]

Contender = Literal["ours", "rival", "null"]
TIME = "a time: what does nothing takes none"
ENOUGH_SEEDS = 3
"""Of a judged figure: a mean has a standard error then."""

Better = Literal["lower", "higher"]


class MissingDataError(Exception):
    """A bench whose data is not on this machine."""


@dataclass(frozen=True)
class Null:
    """What a contender that costs nothing reaches on the same figure.

    Attributes:
        name: What it does: random search, an untrained distribution, sorting by what was given.
        value: In the figure's unit.
    """

    name: str
    value: float


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
        given: What this side knew beforehand: exact latency, counts, scores. Empty: as `Measured` says.
        seeds: How many runs the value is of; 0: as `Measured` says.
        contender: Whose figure it is.
        error: Standard error of the value, where it is a mean over seeds: bounds then hold with two of them to spare.
        null: For a row with a bound, what the null contender reaches; text says why there can be none.
        few: For a row with a bound and fewer than three seeds, why these are enough. Empty: as `Measured` says.

    Raises:
        ValueError: If there is a bound and no null contender, or a null contender has a bound.
    """

    figure: str
    value: float
    unit: str
    must: float | None = None
    goal: float | None = None
    better: Better = "higher"
    _: KW_ONLY
    given: str = ""
    seeds: int = 0
    contender: Contender = "ours"
    error: float | None = None
    null: Null | str | None = None
    few: str = ""

    def __post_init__(self) -> None:
        if not self.judged:
            return
        if self.contender == "null":
            raise ValueError(f"{self.figure}: a null contender is never judged")
        if self.null is None or self.null == "":
            raise ValueError(
                f"{self.figure}: it has a bound; expected what a null contender reaches, or why there is none"
            )

    @property
    def judged(self) -> bool:
        """Whether there is a must or a goal."""
        return self.must is not None or self.goal is not None

    @property
    def void(self) -> bool:
        """Whether the null contender meets the bound (the must, where there is one), which then says nothing."""
        bound = self.goal if self.must is None else self.must
        return self.judged and isinstance(self.null, Null) and self._reaches(self.null.value, bound)

    @property
    def ok(self) -> bool:
        """Whether the value is finite and on the right side of `must`, by two standard errors where there is one."""
        return math.isfinite(self.value) and self._reaches(self._cautious, self.must)

    @property
    def at_goal(self) -> bool:
        """Whether the value is on the right side of `goal`, and the null contender is not."""
        easy = isinstance(self.null, Null) and self.goal is not None and self._reaches(self.null.value, self.goal)
        return self.ok and not easy and self._reaches(self._cautious, self.goal)

    @property
    def verdict(self) -> str:
        """In one word; empty where nothing is judged."""
        if not self.judged:
            return "" if math.isfinite(self.value) else "no number"
        if self.void:
            return "void"
        if not self.ok:
            return "FAILS"
        if self.goal is None:
            return "ok"
        return "goal" if self.at_goal else "ok" if self.must is not None else "below goal"

    @property
    def _cautious(self) -> float:
        slack = 2 * (self.error or 0.0)
        return self.value + slack if self.better == "lower" else self.value - slack

    def _reaches(self, value: float, bound: float | None) -> bool:
        return bound is None or (value <= bound if self.better == "lower" else value >= bound)

    def to_json(self) -> dict[str, Any]:
        """As results files hold it; a value that is not finite becomes null."""

        def finite(value: float | None) -> float | None:
            return value if value is not None and math.isfinite(value) else None

        null = {"name": self.null.name, "value": finite(self.null.value)} if isinstance(self.null, Null) else self.null
        return {
            "figure": self.figure,
            "value": finite(self.value),
            "error": finite(self.error),
            "unit": self.unit,
            "must": self.must,
            "goal": self.goal,
            "better": self.better,
            "ok": self.ok,
            "verdict": self.verdict,
            "contender": self.contender,
            "given": self.given,
            "seeds": self.seeds,
            "few": self.few,
            "null": null,
        }


@dataclass(frozen=True)
class Measured:
    """What a part of a bench returns.

    Attributes:
        rows: The figures.
        conditions: What they depend on beside the machine and versions: data, budgets.
        given: Of rows that do not say it themselves.
        seeds: Of rows that do not say it themselves.
        threads: Of the numerical libraries while it was measured.
        inputs: Files of the repository that the figures depend on: recipes, tables.
        few: Of judged rows of fewer than three seeds that do not say it themselves: why these are enough.
    """

    rows: Sequence[Row]
    conditions: Mapping[str, Any]
    _: KW_ONLY
    given: str
    seeds: int
    threads: int
    inputs: tuple[Path, ...] = ()
    few: str = ""

    def completed(self) -> Measured:
        """The same with every row saying what it was given and how many seeds it is of.

        Raises:
            ValueError: If one does not, or is judged by fewer than three seeds and does not say why these are enough.
        """
        rows = [replace(row, given=row.given or self.given, seeds=row.seeds or self.seeds) for row in self.rows]
        for row in rows:
            if not row.given or row.seeds < 1:
                raise ValueError(f"{row.figure}: given is {row.given!r} and seeds {row.seeds}; expected both")
        return replace(self, rows=[self._of_enough_seeds(row) for row in rows])

    def _of_enough_seeds(self, row: Row) -> Row:
        if not row.judged or row.seeds >= ENOUGH_SEEDS:
            return replace(row, few="")
        why = row.few or self.few
        if not why:
            raise ValueError(
                f"{row.figure}: it is judged by {row.seeds} seeds; expected {ENOUGH_SEEDS}, or why fewer are enough"
            )
        return replace(row, few=why)


Part = Callable[[Path], Measured]
"""A part of a bench is given the folder with the data."""

Bench = Mapping[str, Part]
"""Name to part, in the order they run."""


@dataclass(frozen=True)
class Ran:
    """A part that was run.

    Attributes:
        part: Its function, whose sources the figures depend on.
        measured: What it returned.
        conditions: Of the run beside those of the part: date, seconds, load.
    """

    part: Part
    measured: Measured
    conditions: Mapping[str, Any] = field(default_factory=dict)


def run(part: Part, data: Path) -> Ran:
    """Run one part of a bench.

    Args:
        part: To be run.
        data: The folder with the data.

    Raises:
        MissingDataError: If its data is not there.
        ValueError: If a row does not say what it was given, or how many seeds it is of.
    """
    started, load = time.perf_counter(), os.getloadavg()[0]
    measured = part(data).completed()
    return Ran(
        part,
        measured,
        {
            "date": datetime.now(UTC).strftime("%Y-%m-%d"),
            "seconds": round(time.perf_counter() - started, 1),
            "load": [round(load, 2), round(os.getloadavg()[0], 2)],
        },
    )


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


def mean_of(
    figure: str,
    values: Sequence[float],
    unit: str,
    better: Better = "higher",
    *,
    must: float | None = None,
    goal: float | None = None,
    given: str = "",
    contender: Contender = "ours",
    null: Null | str | None = None,
) -> Row:
    """A row of a mean over seeds, with its standard error where there are at least three.

    Example:
        >>> row = mean_of("gain", [1.0, 2.0, 3.0], "points")
        >>> row.value, round(row.error, 3), row.seeds
        (2.0, 0.577, 3)
    """
    return Row(
        f"{figure}, mean",
        float(np.mean(values)),
        unit,
        must,
        goal,
        better,
        given=given,
        seeds=len(values),
        contender=contender,
        error=standard_error(values),
        null=null,
    )


def standard_error(values: Sequence[float]) -> float | None:
    """Of the mean; None for fewer than three values."""
    return float(np.std(values, ddof=1) / math.sqrt(len(values))) if len(values) >= ENOUGH_SEEDS else None


@dataclass(frozen=True)
class Arrival:
    """When one run came to its target.

    Attributes:
        count: Evaluations, or another unit of the budget, until it was there; None if it never was.
        share: What it had at its end, of what it was after.
    """

    count: float | None
    share: float


def mean_count(runs: Sequence[Arrival]) -> float:
    """The mean, or infinity where some run never arrived: a mean over those that did would flatter."""
    counts = [run.count for run in runs]
    return math.inf if None in counts else float(np.mean([count for count in counts if count is not None]))


def arrivals(
    figure: str,
    runs: Sequence[Arrival],
    unit: str,
    *,
    must: float | None = None,
    goal: float | None = None,
    given: str = "",
    contender: Contender = "ours",
    null: Null | str | None = None,
) -> list[Row]:
    """Rows of counts until a target, of which fewer are better.

    Where every run arrives: mean and 95th percentile. Where one does not there is no mean that reads like a result, but
    how many arrived and what the runs had at their end; a must is missed then.

    Args:
        figure: Its name.
        runs: One for each seed.
        unit: Of the counts.
        must: Of the mean.
        goal: Of the mean.
        given: What this side knew beforehand.
        contender: Whose figure it is.
        null: What a null contender's mean is.
    """
    arrived = [run.count for run in runs if run.count is not None]

    def row(name: str, value: float, of: str) -> Row:
        better: Better = "lower" if of == unit else "higher"
        return Row(f"{figure}{name}", value, of, better=better, given=given, seeds=len(runs), contender=contender)

    rows = [row(f": runs that arrive, of {len(runs)}", len(arrived), "runs")]
    if len(arrived) == len(runs):
        mean = mean_of(
            figure, arrived, unit, "lower", must=must, goal=goal, given=given, contender=contender, null=null
        )
        return [*rows, mean, row(", 95th percentile", float(np.percentile(arrived, 95)), unit)]
    rows.append(row(": share at the end, mean", float(np.mean([run.share for run in runs])), "share"))
    if must is not None or goal is not None:
        rows.append(replace(row(", mean", math.inf, unit), must=must, goal=goal, null=null))
    return rows


def table(name: str, rows: Sequence[Row]) -> Table:
    """The rows for people."""
    shown = Table(title=f"bench {name}", title_justify="left")
    for heading in ("", "figure", "value", "unit", "must", "goal", "null contender"):
        right = heading in {"value", "must", "goal"}
        shown.add_column(heading, justify="right" if right else "left", no_wrap=right or not heading)
    for row in rows:
        sign = "<=" if row.better == "lower" else ">="
        bounds = ["" if bound is None else f"{sign} {bound:g}" for bound in (row.must, row.goal)]
        value = f"{row.value:.4g}" + (f" ± {row.error:.2g}" if row.error is not None else "")
        null = f"{row.null.value:.4g} ({row.null.name})" if isinstance(row.null, Null) else row.null or ""
        shown.add_row(row.verdict, row.figure, value, row.unit, *bounds, null)
    return shown
