"""The page of figures: what it shows of a row, and that the one in docs/ is that of the results that lie there."""

import io
from pathlib import Path

from rich.console import Console

from tests.bench.__main__ import BENCHES, RESULTS, main
from tests.bench.figures import TIME, Bench, Measured, Null, Row, run
from tests.bench.page import PAGE, page
from tests.bench.result_files import save


def part(data: Path) -> Measured:
    rows = [
        Row("time", 0.5, "ms", must=1.0, better="lower", null=TIME),
        Row("share", 0.9, "share", must=0.5, goal=0.95, error=0.01, null=Null("at random", 0.6)),
        Row("gain", 0.1, "share", must=0.5, null=Null("at random", 0.2)),
        Row("for comparison", 3.0, "share"),
    ]
    return Measured(rows, {}, given="nothing", seeds=4, threads=1)


def test_judged_rows_are_shown_with_their_verdicts(tmp_path: Path) -> None:
    bench: Bench = {"part": part, "other": part}
    save("x", {"part": run(part, tmp_path)}, tmp_path, bench=bench)
    shown = page(tmp_path, {"x": bench, "y": {"third": part}})
    lines = [line for line in shown.splitlines() if line.startswith("| part")]
    assert [line.rpartition("**")[0].rpartition("**")[2] for line in lines[1:]] == ["must met", "void", "missed"]
    assert "| part | share | 0.9 ± 0.01 share | >= 0.5 | >= 0.95 | 0.6: at random | nothing | 4 |" in lines[2]
    assert "| part | time | 0.5 ms | <= 1 |  | a time: what does nothing takes none | nothing | 4 |" in lines[1]
    assert "for comparison" not in shown
    assert shown.rstrip().endswith("where they come from: x other, y third.")


def test_the_page_of_this_repository_is_that_of_its_results(tmp_path: Path) -> None:
    assert PAGE.read_text(encoding="utf-8") == page(RESULTS, BENCHES), "python -m tests.bench --page writes it anew"


def test_the_command_writes_it(tmp_path: Path) -> None:
    console = Console(width=200, file=io.StringIO())
    file = tmp_path / "page.md"
    assert main(["--page"], benches={}, results=tmp_path, page_file=file, console=console) == 0
    assert file.read_text(encoding="utf-8") == page(tmp_path, {})
