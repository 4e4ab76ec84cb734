"""`hwnas methods`: all strategies, one of them, and one of the user's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hwnas.strategies import STRATEGIES
from tests.job.workspace import REPOSITORY, run

OWN = """
from dataclasses import dataclass, field

@dataclass(frozen=True)
class Mine:
    '''Draws two at a time.

    It goes on
    until the budget is spent:

    - first this,
      and this;
    - then that.

    Attributes:
        steps: Number of steps,
            each of two networks.
        share: Of them.

    Raises:
        ValueError: Never.
    '''

    steps: int
    share: float = 0.5
    sizes: tuple = field(default_factory=lambda: (1, 2))
    least: float = float("-inf")

    def search(self, study): ...

@dataclass(frozen=True)
class Bare:
    trains_weights = True

    def search(self, study): ...
"""


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)


def test_all_are_listed_with_their_fields(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "methods")
    assert code == 0
    names = [line.partition(":")[0] for line in out.splitlines() if line[:1].isalpha()]
    assert names[: len(STRATEGIES)] == list(STRATEGIES)
    assert "    population = 20, crossover_probability = 0.9, mutations = 2.0" in out
    rows = {row["name"]: row for row in json.loads(run(capsys, "methods", "--json")[1])}
    assert list(rows) == list(STRATEGIES)
    assert rows["nsga2"]["fields"]["population"] == 20 and not rows["nsga2"]["trains_weights"]
    assert rows["darts"]["trains_weights"] and rows["darts"]["summary"].startswith("Every option runs")


def test_one_is_shown_with_what_its_fields_are(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "methods", "spos")
    assert code == 0
    assert out.startswith("spos: Of all networks seen, the best are mutated and crossed;")
    assert "\n    best = 10: Parents: so many of all that were seen.\n" in out
    assert "It only evaluates" in out and "Source: Guo et al. 2020" in out


def test_one_of_the_user_s_own_is_shown_as_any_other(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "methods", "mine.py:Mine")
    assert code == 0
    shown = """mine.py:Mine: Draws two at a time.

It goes on until the budget is spent:
- first this, and this;
- then that.
It only evaluates: with shared weights, with weights = "scratch", and on
        published tables.

[strategy] may set:
    steps (needed): Number of steps, each of two networks.
    share = 0.5: Of them.
    sizes = [1, 2]
    least = "-inf"
"""
    assert out == shown
    [row] = json.loads(run(capsys, "methods", "mine.py:Mine", "--json")[1])
    assert (row["required"], row["fields"]) == (["steps"], {"share": 0.5, "sizes": [1, 2], "least": "-inf"})
    code, out, _ = run(capsys, "methods", "mine.py:Bare")
    assert out.startswith("mine.py:Bare: no docstring\n")
    assert "It trains the shared weights itself" in out and "nothing: it has no fields" in out


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nsg2", 'strategy "nsg2" is unknown; did you mean "nsga2"'),
        ("mine.py:Mind", 'has no strategy "Mind"; did you mean "Mine"'),
        ("other.py:Mine", "there is no file"),
    ],
)
def test_what_is_not_there_is_named(name: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "methods", name)
    assert code == 2 and message in err


def test_one_that_only_evaluates_is_shown_without_waiting_for_torch() -> None:
    program = """
import sys
from hwnas.cli import main
try:
    main(["methods", "nsga2"])
except SystemExit:
    print("torch" in sys.modules)
"""
    env = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=env).stdout
    assert found.splitlines()[-1] == "False" and "population = 20" in found
