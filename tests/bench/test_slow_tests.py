"""What is kept of a run of the slow tests."""

from collections.abc import Sequence
from pathlib import Path

from tests.bench.slow_tests import SLOW_TESTS, modules_with_slow_tests, slow_tests
from tests.bench.sources import sources_of

REPORT = """<testsuites><testsuite>
<testcase classname="tests.a" name="one" time="2.0"/>
<testcase classname="tests.a" name="two" time="58.0"><failure message="no"/></testcase>
<testcase classname="tests.b" name="three" time="0.0"><skipped/></testcase>
</testsuite></testsuites>"""


def written(text: str) -> dict[str, float]:
    asked: list[str] = []

    def call(files: Sequence[str], report: Path) -> None:
        asked.extend(files)
        report.write_text(text)

    measured = slow_tests(Path(), modules=("tests.a", "tests.b"), call=call)
    assert asked == ["tests/a.py", "tests/b.py"]
    assert [row.ok for row in measured.rows] == [text != REPORT and "testcase" in text, True, True]
    return {row.figure: row.value for row in measured.rows}


def test_a_test_that_fails_misses_the_must_and_one_that_is_skipped_does_not_count() -> None:
    assert written(REPORT) == {
        "slow tests that pass, of 2": 1,
        "slow tests that were skipped": 1,
        "slow tests, all of them": 1.0,
    }
    assert written(REPORT.replace('<failure message="no"/>', ""))["slow tests that pass, of 2"] == 2


def test_a_run_without_tests_has_shown_nothing() -> None:
    assert written("<testsuites/>")["slow tests that pass, of 0"] == 0


def test_every_module_with_a_slow_test_takes_part_and_its_code_counts() -> None:
    modules = modules_with_slow_tests()
    assert {"tests.nn.test_relaxation", "tests.strategies.test_nat", "tests.strategies.test_dpp_net"} <= set(modules)
    assert "tests.bench.slow_tests" not in modules and "tests.bench.test_slow_tests" not in modules
    assert {"hwnas.nn.relaxation", "hwnas.strategies.nat", *modules} <= set(sources_of(SLOW_TESTS["all"]))
