"""Run one bench: `python -m tests.bench NAME`. Exit code 1 if a figure misses its must, 2 if it could not run."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from hwnas.core.errors import did_you_mean
from tests.bench.fashion_mnist import fashion_mnist
from tests.bench.figures import ROOT, Bench, MissingDataError, data_folder, save, table
from tests.bench.latency import latency
from tests.bench.search import search

BENCHES: dict[str, Bench] = {
    "fashion_mnist": fashion_mnist,
    "latency": latency,
    "search": search,
}

RESULTS = ROOT / "tests" / "bench" / "results"


def main(
    arguments: Sequence[str],
    *,
    benches: Mapping[str, Bench] = BENCHES,
    results: Path = RESULTS,
    console: Console | None = None,
) -> int:
    """Run the bench that is named; the exit code."""
    out = console or Console(width=120)
    if len(arguments) != 1 or arguments[0] not in benches:
        wanted = arguments[0] if len(arguments) == 1 else ""
        hint = did_you_mean(wanted, benches) if wanted else f"known: {', '.join(sorted(benches))}"
        out.print(f"usage: python -m tests.bench NAME; {hint}", highlight=False)
        return 2
    name = arguments[0]
    try:
        measured = benches[name](data_folder())
    except MissingDataError as error:
        out.print(f"bench {name}: {error}", highlight=False, soft_wrap=True)
        return 2
    path = save(name, measured, results)
    out.print(table(name, measured))
    out.print(f"written to {path}", highlight=False, soft_wrap=True)
    return 0 if all(row.ok for row in measured.rows) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
