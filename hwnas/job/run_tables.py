"""The latency tables that a run began with: copies in its folder, so that it goes on whatever became of the files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from pydantic import ValidationError

from hwnas.core import StoreError, TableError
from hwnas.cost import Calibration, LatencyTable

FILES = ("table*.jsonl", "calibration*.json")
"""Patterns of their names."""


class RunTables:
    """The tables of one run, by the name of the further device that they are of, "" for the run's own.

    With each goes what it predicts by: its calibration and the drift of the machine, as they were when the run began.
    Without them a run that goes on after a table was measured again or refitted, or on a machine that drifts otherwise,
    would predict other numbers than it has stored.

    Args:
        folder: Of the run that is gone on with; None for a new one, which begins with the present tables.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._used: dict[str, LatencyTable] = {}

    def own(self, name: str = "") -> LatencyTable | None:
        """The run's copy; None if it has none.

        Raises:
            StoreError: If a file of it is damaged.
        """
        if self._folder is None:
            return None
        path = self._folder / table_file(name)
        if not path.is_file():
            return None
        try:
            return self.settled(LatencyTable.load(path), name)
        except TableError as error:
            raise StoreError(error.message, hint=_put_back(path)) from error

    def settled(self, table: LatencyTable, name: str = "") -> LatencyTable:
        """A table with the calibration and the drift that the run began with, if those were this table's.

        Raises:
            StoreError: If the file is damaged.
        """
        path = self._folder / calibration_file(name) if self._folder is not None else None
        if path is None or not path.is_file():
            return table
        try:
            row = json.loads(path.read_text(encoding="utf-8"))
            digest, spread = row["table_digest"], float(row["drift_spread"])
            calibration = Calibration.model_validate(row["calibration"])
        except (OSError, ValidationError, ValueError, KeyError, TypeError) as error:
            raise StoreError(f"{path}: damaged: {str(error).splitlines()[0]}", hint=_put_back(path)) from error
        return replace(table, refitted=calibration, drift_spread=spread) if digest == table.digest else table

    def use(self, table: LatencyTable, name: str = "") -> LatencyTable:
        """Note that the run predicts by this table, and give it back."""
        self._used[name] = table
        return table

    def files(self) -> dict[str, str]:
        """What is to be kept in the run's folder, by file name."""
        found = {}
        for name, table in self._used.items():
            found[table_file(name)] = table.text()
            if table.calibration is not None:
                row = {
                    "table_digest": table.digest,
                    "drift_spread": table.drift_spread,
                    "calibration": table.calibration.model_dump(mode="json", by_alias=True),
                }
                found[calibration_file(name)] = json.dumps(row, allow_nan=False) + "\n"
        return found


def table_file(name: str = "") -> str:
    """Name of the copy in a run's folder.

    Example:
        >>> table_file(), table_file("pi4")
        ('table.jsonl', 'table@pi4.jsonl')
    """
    return f"table{'@' * bool(name)}{name}.jsonl"


def calibration_file(name: str = "") -> str:
    """Name of what the copy predicts by.

    Example:
        >>> calibration_file(), calibration_file("pi4")
        ('calibration.json', 'calibration@pi4.json')
    """
    return f"calibration{'@' * bool(name)}{name}.json"


def runs_of(table: LatencyTable, runs: Path) -> dict[str, bool]:
    """The runs in a folder that predict by a table, and whether each has a copy of its own.

    Args:
        table: The table.
        runs: The folder of all runs.
    """
    found = {}
    for path in sorted(runs.glob("*/calibration.json")):
        try:
            digest = json.loads(path.read_text(encoding="utf-8"))["table_digest"]
        except (OSError, ValueError, KeyError, TypeError):
            continue  # a damaged run is told when it is gone on with
        if digest == table.digest:
            found[path.parent.name] = path.with_name(table_file()).is_file()
    return found


def _put_back(path: Path) -> str:
    return f"put {path.name} back from a copy; or delete it: then the table in latency_tables/ must be the same as then"
