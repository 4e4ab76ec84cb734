"""All tests that are too slow for `make test`, run as one, with their outcomes and times kept: `make test-slow`."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from tests.bench.figures import ROOT, TIME, Bench, Measured, Row

CHECKED = "a check: nobody contends"
MARK = "pytest.mark." + "slow"
"""In two parts, so that this file is none of them."""

CHOSEN = "slow and not gpu and not ray"


def modules_with_slow_tests(root: Path = ROOT) -> tuple[str, ...]:
    """Names of the test modules that hold one, sorted."""
    files = (path for path in (root / "tests").rglob("test_*.py") if MARK in path.read_text(encoding="utf-8"))
    return tuple(sorted(".".join(path.relative_to(root).with_suffix("").parts) for path in files))


def _pytest(files: Sequence[str], report: Path) -> None:
    """Run the tests that are marked in some files; what came of them goes to a JUnit report."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", CHOSEN, f"--junitxml={report}", *files]
    subprocess.run(command, cwd=ROOT, check=False)


def slow_tests(
    data: Path, *, modules: tuple[str, ...], call: Callable[[Sequence[str], Path], None] = _pytest
) -> Measured:
    """How many of them pass, and how long each takes.

    Args:
        data: Not used: tests find it themselves, or skip.
        modules: That hold slow tests.
        call: Runs the tests of some files, and writes a report.
    """
    files = [f"{module.replace('.', '/')}.py" for module in modules]
    with tempfile.TemporaryDirectory(prefix="hwnas-bench-") as folder:
        report = Path(folder) / "report.xml"
        call(files, report)
        cases = list(ElementTree.parse(report).getroot().iter("testcase"))
    outcomes: dict[str, dict[str, object]] = {}
    for case in cases:
        bad = any(case.find(kind) is not None for kind in ("failure", "error"))
        outcome = "failed" if bad else "skipped" if case.find("skipped") is not None else "passed"
        name = f"{case.get('classname')}.{case.get('name')}"
        outcomes[name] = {"outcome": outcome, "seconds": float(case.get("time", "nan"))}
    passed, skipped = (sum(o["outcome"] == kind for o in outcomes.values()) for kind in ("passed", "skipped"))
    ran = len(outcomes) - skipped
    seconds = sum(float(case.get("time", "nan")) for case in cases)
    return Measured(
        [
            # At least one: a run that found no test has shown nothing.
            Row(f"slow tests that pass, of {ran}", passed, "tests", max(ran, 1), null=CHECKED),
            Row("slow tests that were skipped", skipped, "tests", better="lower"),
            Row("slow tests, all of them", seconds / 60, "minutes", 60.0, None, "lower", null=TIME),
        ],
        {"tests": outcomes},
        given="nothing",
        seeds=1,
        threads=1,
        few=CHECKED,
    )


SLOW_TESTS: Bench = {"all": partial(slow_tests, modules=modules_with_slow_tests())}
"""The part of `python -m tests.bench slow_tests`."""
