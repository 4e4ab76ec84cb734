"""The strategy that CONTRIBUTING.md shows, added as it says: from a file of one's own, and by one file and one line."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from hwnas.core import ReplayError
from hwnas.job import Front, search
from hwnas.strategies import STRATEGIES
from hwnas.testing.conformance import check_conformance
from tests.job.workspace import PROGRAM, RECIPE, REPOSITORY, ignore_drift, run

SECTION = (REPOSITORY / "CONTRIBUTING.md").read_text().partition("## A strategy")[2].partition("\n## ")[0]
FILE, TEST, LINE = re.findall(r"```python\n(.*?)```", SECTION, re.DOTALL)
[TABLE] = re.findall(r"```toml\n(.*?)```", SECTION, re.DOTALL)
SMALL = RECIPE.replace('[strategy]\nname = "nsga2"\npopulation = 6\n', TABLE)


@pytest.fixture(autouse=True)
def any_drift() -> Iterator[None]:
    yield from ignore_drift()


@pytest.fixture
def workspace(finished_toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the toy space was measured, with the strategy in a file of one's own."""
    root = tmp_path / "workspace"
    shutil.copytree(finished_toy, root, ignore=shutil.ignore_patterns("runs"))
    (root / "semo.py").write_text(FILE)
    (root / "search" / "toy.toml").write_text(SMALL)
    monkeypatch.chdir(root)
    threads = torch.get_num_threads()
    yield root
    torch.set_num_threads(threads)


def _interrupt(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_it_is_short() -> None:
    assert len(FILE.splitlines()) <= 40
    assert len(LINE.splitlines()) == 1
    assert "semo" not in STRATEGIES, "else what is tested here is what is there already"


def test_a_recipe_runs_it_from_a_file_and_goes_on_unless_the_file_is_another(
    workspace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(capsys, "methods", "semo.py:Semo")[1].startswith("semo.py:Semo: Mutates random networks of the front;")
    recipe, folder = Path("search/toy.toml"), Path("runs/toy")
    with monkeypatch.context() as patched:
        patched.setattr("hwnas.evaluation.shared_weights.SharedWeights.__call__", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            search(recipe)
    Path("semo.py").write_text(f"{FILE}\n\nNUMBER = 1\n")
    with pytest.raises(ReplayError, match="it holds another study: the file of the strategy was changed since"):
        search(recipe)
    Path("semo.py").write_text(FILE.replace("size=study.in_flight", "size=2"))
    with pytest.raises(ReplayError, match="it holds another study: the code of strategy .* was changed since"):
        search(recipe)
    Path("semo.py").write_text(FILE)
    front = search(recipe)
    assert front.on_front and Front.load(folder) == front
    assert front.facts["recipe"]["strategy"] == {"name": "semo.py:Semo", "initial": 6}
    Path("semo.py").write_text(f"{FILE}\n\nNUMBER = 1\n")
    assert search(recipe) == front, "a finished run is not searched again, so the program says nothing any more"


def test_it_does_what_every_strategy_must_do(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(workspace)
    scope: dict[str, object] = {}
    exec(TEST, scope)
    test = scope["test_semo"]
    assert callable(test) and scope["check_conformance"] is check_conformance
    test()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the project to which exactly that file and that line were added."""
    root = tmp_path / "project"
    shutil.copytree(REPOSITORY / "hwnas", root / "hwnas", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(REPOSITORY / "tests" / "strategies", root / "tests" / "strategies")
    for file in ("pyproject.toml", "tests/__init__.py", "tests/conftest.py"):
        shutil.copy(REPOSITORY / file, root / file)
    (root / "hwnas" / "strategies" / "semo.py").write_text(FILE)
    registry = root / "hwnas" / "strategies" / "registry.py"
    text = registry.read_text()
    assert text.count("] = {\n") == 1
    registry.write_text(text.replace("] = {\n", "] = {\n" + LINE))
    return root


def python(project: Path, at: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"PYTHONPATH": str(project), "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, *arguments], cwd=at, env=env, capture_output=True, text=True)


def test_in_the_project_it_is_one_file_and_one_line(project: Path, workspace: Path) -> None:
    (workspace / "semo.py").unlink()
    (workspace / "search" / "toy.toml").write_text(SMALL.replace("semo.py:Semo", "semo"))
    listed = python(project, workspace, "-c", PROGRAM, "methods", "--json")
    assert {row["name"] for row in json.loads(listed.stdout)} == {"semo", *STRATEGIES}
    searched = python(project, workspace, "-c", PROGRAM, "search", "search/toy.toml")
    assert searched.returncode == 0, searched.stderr
    assert Front.load(workspace / "runs" / "toy").facts["recipe"]["strategy"]["name"] == "semo"
    imported = python(project, workspace, "-c", "from hwnas.strategies import Semo; print(Semo(initial=3))")
    assert imported.stdout == "Semo(initial=3)\n"


def test_in_the_project_the_line_brings_conformance_tests_and_contracts(project: Path) -> None:
    """The test of cuts takes long, and is run on the same strategy above."""
    tests = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/strategies/test_conformance.py"]
    found = python(project, project, *tests, "-k", "semo and not cut")
    passed = re.search(r"(\d+) passed", found.stdout)
    assert passed is not None and int(passed[1]) >= 14 and found.returncode == 0, found.stdout
    lint = ["-c", "from importlinter.cli import lint_imports_command as lint; lint()", "--no-cache"]
    assert "Strategies are independent of each other KEPT" in python(project, project, *lint).stdout
    (project / "hwnas" / "strategies" / "semo.py").write_text(
        FILE.replace("from hwnas.study", "from hwnas.strategies.nsga2 import Nsga2\nfrom hwnas.study")
    )
    broken = python(project, project, *lint)
    assert broken.returncode == 1
    assert "hwnas.strategies.semo is not allowed to import hwnas.strategies.nsga2" in broken.stdout
