"""Networks measured after a table was made, added to its calibration.

The result lies in a file of its own beside the table (`x.jsonl` and `x.refit.json`): the table stays what was measured
then, and its digest with it. The file names the table's digest, so a table measured anew leaves it behind, and every
network with the run that measured it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from hwnas.core import Architecture, TableError, write_atomically
from hwnas.core.errors import UPGRADE
from hwnas.cost.calibration import Features, calibrate_records, fit
from hwnas.cost.table import Calibration, LatencyTable, NetworkRecord
from hwnas.space import Space

SCHEMA = 1


@dataclass(frozen=True)
class Refit:
    """A calibration fitted again.

    Attributes:
        calibration: With the networks added.
        left_out: Predicted by a fit without it over measured, for each network that was added, in order: what the new
            calibration would have said of a network it had not seen.
    """

    calibration: Calibration
    left_out: tuple[float, ...]


def refit(space: Space, table: LatencyTable, added: Sequence[NetworkRecord]) -> Refit:
    """Fit a table's calibration again with more networks; one that was fitted before counts with its newest time.

    Args:
        space: Of the table.
        table: With a calibration that keeps its networks.
        added: Their times brought to the table's session.

    Raises:
        TableError: If the table has no calibration, one that does not say which networks it rests on, or one that is
            no fit.
        CostError: If the fit is impossible.
    """
    calibration = table.calibration
    if calibration is None or not calibration.networks:
        raise TableError(
            f"{table.source}: its calibration does not say which networks it rests on, so none can be added",
            hint="measure the device again: hwnas profile",
        )
    if calibration.kind == "networks":
        raise TableError(
            f"{table.source}: every network of the space was measured when it was made, so nothing is fitted",
            hint="measure the device again: hwnas profile",
        )
    newer = {Architecture(network.architecture): network for network in added}
    kept = [network for network in calibration.networks if Architecture(network.architecture) not in newer]
    features = Features.of(space, table.rows)
    found = calibrate_records(space, table.rows, [*kept, *newer.values()], features=features)
    fitted = [network for network in found.networks if network.role == "fitted"]
    columns = [features.terms.index(term) for term in found.terms]
    codes = space.encode(Architecture(network.architecture) for network in fitted)
    again = fit(features(codes)[:, columns], np.array([network.p25_us for network in fitted]))
    by_architecture = {
        Architecture(network.architecture): ratio
        for network, ratio in zip(fitted, again.left_out.tolist(), strict=True)
    }
    return Refit(found, tuple(by_architecture[Architecture(network.architecture)] for network in added))


def refit_path(table: Path) -> Path:
    """Where the later calibration of a table lies.

    Example:
        >>> refit_path(Path("latency_tables/a.jsonl")).as_posix()
        'latency_tables/a.refit.json'
    """
    return table.with_suffix(".refit.json")


def save_refit(path: Path, table: LatencyTable, calibration: Calibration) -> Path:
    """Write a table's later calibration beside it, in one step.

    Args:
        path: Of the table.
        table: As loaded.
        calibration: To be used from now on.

    Raises:
        OSError: If the folder cannot be written.
    """
    row = {
        "schema": SCHEMA,
        "unit": "us",
        "table_digest": table.digest,
        "calibration": calibration.model_dump(mode="json", by_alias=True),
    }
    target = refit_path(path)
    write_atomically(target, json.dumps(row, indent=1, allow_nan=False) + "\n")
    return target


def with_refit(path: Path, table: LatencyTable) -> LatencyTable:
    """The table with its later calibration, if there is one that belongs to it; else the table as it is.

    Args:
        path: Of the table.
        table: As loaded.

    Raises:
        TableError: If the file is damaged.
    """
    source = refit_path(path)
    if not source.is_file():
        return table
    try:
        row = json.loads(source.read_text(encoding="utf-8"))
        form = row["schema"]
        newer = isinstance(form, int) and form > SCHEMA
        digest, unit = ("", "us") if newer else (row["table_digest"], row["unit"])
        found = None if newer else Calibration.model_validate(row["calibration"])
    except (ValidationError, ValueError, KeyError, TypeError) as error:
        first = str(error).splitlines()[0]
        hint = "remove the file: the table's own calibration is used then"
        raise TableError(f"{source}: damaged: {first}", hint=hint) from error
    if newer:
        raise TableError(
            f"{source}: schema is {form}, of a later hwnas; this one reads up to {SCHEMA}",
            hint=f"{UPGRADE}; or remove the file",
        )
    if (form, unit) != (SCHEMA, "us"):
        raise TableError(f"{source}: schema {form} in {unit}; expected schema {SCHEMA} in us", hint="remove the file")
    return replace(table, refitted=found) if digest == table.digest else table
