"""Run one bench, or some of its parts: `python -m tests.bench NAME [PART ...]`.

Exit code 1 if a figure misses its must, 2 if it could not run.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from hwnas.core import DataError
from hwnas.core.errors import did_you_mean
from tests.bench.fashion_mnist import FASHION_MNIST
from tests.bench.figures import ROOT, Bench, MissingDataError, data_folder, run, save, table
from tests.bench.latency import LATENCY
from tests.bench.real_weights import REAL_WEIGHTS
from tests.bench.search import SEARCH
from tests.bench.supernet import SUPERNET

BENCHES: dict[str, Bench] = {
    "fashion_mnist": FASHION_MNIST,
    "latency": LATENCY,
    "real_weights": REAL_WEIGHTS,
    "search": SEARCH,
    "supernet": SUPERNET,
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
    wanted, *parts = arguments or [""]
    if wanted not in benches:
        hint = did_you_mean(wanted, benches) if wanted else f"known: {', '.join(sorted(benches))}"
        out.print(f"usage: python -m tests.bench NAME [PART ...]; {hint}", highlight=False)
        return 2
    try:
        measured = run(benches[wanted], data_folder(), only=parts)
    except (MissingDataError, DataError) as error:
        out.print(f"bench {wanted}: {error}", highlight=False, soft_wrap=True)
        return 2
    path = save(wanted, measured, results)
    out.print(table(wanted, measured))
    out.print(f"written to {path}", highlight=False, soft_wrap=True)
    return 0 if all(row.ok for row in measured.rows) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
