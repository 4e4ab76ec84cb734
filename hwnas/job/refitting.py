"""What a run learns about its latency table: members that were measured join the calibration."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hwnas.core import StoreError, TableError
from hwnas.core.escaping import command_line
from hwnas.cost import Calibration, LatencyTable, NetworkRecord
from hwnas.cost.refit import refit, refit_path, save_refit, with_refit
from hwnas.job.assembly import assemble
from hwnas.job.front import Member
from hwnas.space import Space


@dataclass(frozen=True)
class MemberRefit:
    """The calibration with a run's members.

    Attributes:
        facts: For front.json: networks, terms, error before and after as shares; or why it was not done.
        fitted: The table as loaded, and its new calibration; None if it was not done.
    """

    facts: dict[str, Any]
    fitted: tuple[LatencyTable, Calibration] | None

    def save(self, path: Path) -> None:
        """Write it; `use_refit` puts it beside the table, for searches to come.

        Args:
            path: Of the table, or of one of that name in the run's folder.
        """
        if self.fitted is not None:
            save_refit(path, *self.fitted)


def refit_members(
    space: Space, table: LatencyTable, members: Sequence[Member], *, path: Path, run: str, holds: bool
) -> MemberRefit:
    """Fit the table's calibration again with what was measured.

    The error before is that of the predictions the search used; the error after that of fits which leave the network
    out, so both are of networks that the fit has not seen.

    Args:
        space: Of the table.
        table: That the search used.
        members: Measured, their times brought to the table's session.
        path: Of the table, or of one of that name in the run's folder.
        run: Name of the run, kept with each network.
        holds: Whether the table still described the machine while they were measured.
    """
    if not holds:
        return MemberRefit({"skipped": "the table no longer describes this machine"}, None)
    if not members:
        return MemberRefit({"skipped": "nothing was measured"}, None)
    if _measured_whole(table):
        return MemberRefit({"skipped": "every network of the space was measured for it, so nothing is fitted"}, None)
    records = [_record(member, run) for member in members]
    try:
        found = refit(space, table, records)
    except TableError as error:
        return MemberRefit({"skipped": error.message}, None)
    return MemberRefit(
        {
            "file": refit_path(path).name,
            "networks": len(members),
            "fitted": found.calibration.n,
            "terms": list(found.calibration.terms),
            "band": found.calibration.band,
            "before": errors_of(ratios_of(members)),
            "after": errors_of(found.left_out),
        },
        (table, found.calibration),
    )


def use_refit(recipe: Path, *, root: Path = Path()) -> tuple[Path, Calibration]:
    """Predict from now on with the calibration that a run's measured members were fitted into.

    Args:
        recipe: Of a finished run.
        root: The workspace.

    Returns:
        The file beside the table, and what it holds.

    Raises:
        StoreError: If the run has none: it is not finished, or nothing could be learnt from it.
        TableError: If the table is missing, damaged, another than the run used, or holds every network of its space.
    """
    assembly = assemble(recipe, root=root)
    table = LatencyTable.load(assembly.table_path)
    if _measured_whole(table):
        raise TableError(
            f"{assembly.table_path}: every network of the space was measured for it, so there is nothing to fit",
            hint=f"measure the device again: {command_line('hwnas', 'profile', recipe)}",
        )
    kept = assembly.run_folder / assembly.table_path.name
    if not refit_path(kept).is_file():
        raise StoreError(
            f"{refit_path(kept)}: there is no such file; a finished run leaves one, unless it says why not",
            hint=f"{command_line('hwnas', 'search', recipe)}, then "
            + command_line("hwnas", "front", assembly.recipe.name),
        )
    found = with_refit(kept, table).refitted
    if found is None:
        raise TableError(
            f"{refit_path(kept)}: belongs to another table than {assembly.table_path}, which was measured since",
            hint=f"run the search with the new table: {command_line('hwnas', 'search', recipe, '--fresh')}",
        )
    return save_refit(assembly.table_path, table, found), found


def _measured_whole(table: LatencyTable) -> bool:
    return table.calibration is not None and table.calibration.kind == "networks"


def _record(member: Member, run: str) -> NetworkRecord:
    us = member.metrics["latency_ms"].value * 1000
    return NetworkRecord(architecture=dict(member.architecture), p25_us=us, source=f"run {run}")


def ratios_of(members: Sequence[Member]) -> list[float]:
    """Predicted over measured latency of the members that were timed.

    Example:
        >>> ratios_of([])
        []
    """
    return [
        member.predicted["latency_ms"].value / member.metrics["latency_ms"].value for member in members if member.timed
    ]


def errors_of(ratios: Sequence[float]) -> dict[str, float]:
    """Mean and worst error and bias of predicted over measured, as shares; at least one.

    Example:
        >>> {name: round(value, 9) for name, value in errors_of([1.1, 0.9]).items()}
        {'mape': 0.1, 'worst': 0.1, 'bias': 0.0}
    """
    errors = [ratio - 1 for ratio in ratios]
    return {
        "mape": math.fsum(map(abs, errors)) / len(errors),
        "worst": max(map(abs, errors)),
        "bias": math.fsum(errors) / len(errors),
    }
