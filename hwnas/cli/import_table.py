"""`hwnas import`: read a block table that others have published."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from hwnas.cli.options import AsJson
from hwnas.cli.terminal import show, show_json
from hwnas.core import counted
from hwnas.cost.foreign import ForeignTable, Unit, import_table


def import_(
    table: Annotated[Path, typer.Argument(help="Parquet, CSV or JSON: a key and a latency per block.")],
    unit: Annotated[str, typer.Option(help='"us", "ms" or "s", where the file does not say.')] = "",
    column: Annotated[str, typer.Option(help="Which latencies, where the file has those of several devices.")] = "",
    out: Annotated[Path | None, typer.Option(help="Write it as JSON lines in one form, in microseconds.")] = None,
    as_json: AsJson = False,
) -> None:
    """Read a published block table (Once-for-All, ProxylessNAS, MSuNAS, nn-Meter's phones) and say what it holds.

    It is for comparing: a search takes only tables that hwnas measured.
    """
    found = import_table(table, unit=_unit(unit), column=column or None)
    if out is not None:
        found.save(out)
    if as_json:
        show_json(summary(found) | {"written": None if out is None else str(out)})
        return
    for line in in_words(found):
        show(line)
    if out is not None:
        show(f"written to {out}")


def _unit(text: str) -> Unit | None:
    match text:
        case "":
            return None
        case "us" | "ms" | "s":
            return text
    raise typer.BadParameter(f'--unit is "{text}"; expected us, ms or s')


def summary(table: ForeignTable) -> dict[str, Any]:
    """What the table holds, as JSON."""
    return {
        "table": table.source,
        "digest": table.digest,
        "column": table.column,
        "unit": table.unit,
        "blocks": dict(sorted(Counter(str(row.block.kind) for row in table.rows).items())),
        "fastest_us": min(row.latency_us for row in table.rows),
        "slowest_us": max(row.latency_us for row in table.rows),
        "left_out": [{"where": where, "key": key} for where, key in table.unknown],
    }


def in_words(table: ForeignTable) -> list[str]:
    """The same for people."""
    facts = summary(table)
    kinds = ", ".join(f"{count} {kind}" for kind, count in facts["blocks"].items())
    lines = [
        f"{table.source}: {counted(len(table.rows), 'block')} ({kinds}), {facts['fastest_us']:.4g} to "
        f'{facts["slowest_us"]:.4g} us, from column {table.column} in "{table.unit}"',
        "  runtime, threads and device are not in such a table: for comparing only, no search takes it",
    ]
    if table.unknown:
        where, key = table.unknown[0]
        lines.append(
            f"  left out: {counted(len(table.unknown), 'block')} of unknown kinds, the first at {where}: {key}"
        )
    return lines
