"""Run one bench, or some of its parts: `python -m tests.bench NAME [PART ...]`; `--stale` lists what is out of date.

`--page` writes docs/figures.md from the results.

Exit code 1 if a figure misses its must or a row is stale, 2 if it could not run. Each part is written when it is done.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from hwnas.core import DataError
from hwnas.core.errors import did_you_mean
from tests.bench.fashion_mnist import FASHION_MNIST
from tests.bench.figures import ROOT, Bench, MissingDataError, data_folder, run, table
from tests.bench.latency import LATENCY
from tests.bench.page import PAGE, page
from tests.bench.problems import HELD_OUT_PARTS
from tests.bench.real_weights import REAL_WEIGHTS
from tests.bench.result_files import save, stale
from tests.bench.search import SEARCH
from tests.bench.slow_tests import SLOW_TESTS
from tests.bench.supernet import SUPERNET

BENCHES: dict[str, Bench] = {
    "fashion_mnist": FASHION_MNIST,
    "latency": LATENCY,
    "real_weights": REAL_WEIGHTS,
    "search": SEARCH,
    "slow_tests": SLOW_TESTS,
    "supernet": SUPERNET,
}

RESULTS = ROOT / "tests" / "bench" / "results"


def main(
    arguments: Sequence[str],
    *,
    benches: Mapping[str, Bench] = BENCHES,
    results: Path = RESULTS,
    page_file: Path = PAGE,
    console: Console | None = None,
) -> int:
    """Run the bench that is named; the exit code."""
    out = console or Console(width=160)
    wanted, *parts = arguments or [""]
    try:
        if wanted == "--stale":
            return _list_stale({name: benches[name] for name in parts or benches}, results, out)
        if wanted == "--page":
            page_file.parent.mkdir(exist_ok=True)
            page_file.write_text(page(results, benches), encoding="utf-8")
            out.print(f"written to {page_file}", highlight=False, soft_wrap=True)
            return 0
        if wanted not in benches:
            hint = did_you_mean(wanted, benches) if wanted else f"known: {', '.join(sorted(benches))}"
            out.print(
                f"usage: python -m tests.bench NAME [PART ...], --stale [NAME ...] or --page; {hint}", highlight=False
            )
            return 2
        return _run(wanted, benches[wanted], parts, results, out)
    except KeyError as error:
        out.print(f"bench {error}: {did_you_mean(str(error.args[0]), benches)}", highlight=False)
    except (MissingDataError, DataError) as error:
        out.print(f"bench {wanted}: {error}", highlight=False, soft_wrap=True)
    return 2


def _run(name: str, bench: Bench, parts: Sequence[str], results: Path, out: Console) -> int:
    for part in parts:
        if part not in bench:
            raise MissingDataError(f'there is no part "{part}"; known: {", ".join(bench)}')
    good = True
    for part in parts or bench:
        ran = run(bench[part], data_folder())
        path = save(name, {part: ran}, results, bench=bench, held_out=HELD_OUT_PARTS)
        out.print(table(f"{name} {part}", ran.measured.rows))
        out.print(f"written to {path}", highlight=False, soft_wrap=True)
        good &= all(row.verdict not in {"FAILS", "no number"} for row in ran.measured.rows)
    return 0 if good else 1


def _list_stale(benches: Mapping[str, Bench], results: Path, out: Console) -> int:
    found = stale(results, benches)
    for one in found:
        rows = f"{one.rows} rows" if one.rows else "no rows"
        out.print(f"{one.bench} {one.part}: {rows}; {one.reason}", highlight=False, soft_wrap=True)
    out.print(f"{len(found)} parts are stale" if found else "nothing is stale", highlight=False)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
