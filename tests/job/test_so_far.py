from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest

from hwnas.core import Budget, ReplayError
from hwnas.job import SoFar
from hwnas.store import FolderLock
from hwnas.strategies import RandomSearch
from hwnas.study import Event
from tests.job.workspace import run
from tests.study.test_scores import EARLY, WithEarly
from tests.study.toys import TINY, rows, study


class Killed(BaseException):
    pass


def after(evaluations: int, act: object) -> object:
    def progress(event: Event) -> None:
        if event.kind == "evaluation" and event.done == evaluations:
            act()  # type: ignore[operator]

    return progress


def kill() -> None:
    raise Killed


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def stopped(folder: Path) -> None:
    with pytest.raises(Killed), study(folder=folder, progress=after(5, kill)) as searched:  # type: ignore[arg-type]
        searched.run(RandomSearch())


def test_nothing_has_begun(tmp_path: Path) -> None:
    assert SoFar.load(tmp_path) is None
    assert SoFar.load(tmp_path / "none") is None
    assert list(tmp_path.iterdir()) == []


def test_of_a_stopped_run_the_front_so_far_is_that_of_its_evaluations(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "mine"
    stopped(folder)
    before = files(folder)
    found = SoFar.load(folder)
    assert found is not None
    assert files(folder) == before, "looking changes nothing"
    assert (found.state, found.evaluations, found.failed, found.goes_on) == ("stopped", 5, 0, "")
    five = study(budget=Budget(evaluations=5)).run(RandomSearch())
    assert rows(found.best) == rows(five.front)


def test_scores_are_no_evaluations_and_hide_none(tmp_path: Path) -> None:
    networks = list(TINY.enumerate())[:3]
    with study(folder=tmp_path, evaluate=WithEarly(), scores=[EARLY]) as searched:
        front = searched.evaluate(networks[:2])
        searched.score(networks, "early")
    found = SoFar.load(tmp_path)
    assert found is not None and found.evaluations == 2 and set(rows(found.best)) <= set(rows(front))
    with pytest.raises(ReplayError, match="2 evaluations and 3 evaluations at a lower fidelity"):
        study(folder=tmp_path, evaluate=WithEarly(), scores=[EARLY], seed=1)


def test_a_working_process_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    seen: list[str] = []

    def look() -> None:
        seen.append(run(capsys, "front", "mine")[1])

    with study(folder=Path("runs/mine"), progress=after(5, look)) as searched:  # type: ignore[arg-type]
        searched.run(RandomSearch())
    [said] = seen
    assert said.startswith(f"runs/mine: process {os.getpid()} on {socket.gethostname()} works on it\n")
    assert "to go on" not in said


def test_a_process_of_another_machine_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path("runs/mine")
    stopped(folder)
    lock = FolderLock(folder)
    row = json.loads(lock.path.read_text()) | {"host": "elsewhere", "pid": 7}
    lock.path.write_text(json.dumps(row))
    code, out, _ = run(capsys, "front", "mine")
    assert code == 0
    assert "process 7 on elsewhere holds it" in out and "delete runs/mine/lock" in out


@pytest.mark.parametrize(
    ("file", "text", "command"),
    [
        ("mine.toml", "[budget]\nevaluations = 9", "hwnas search search/mine.toml"),
        ("my recipe.toml", 'name = "mine"', "hwnas search 'search/my recipe.toml'"),
        ("other.toml", "", "hwnas search RECIPE"),
    ],
)
def test_a_run_of_a_recipe_says_how_it_goes_on(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    file: str,
    text: str,
    command: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    stopped(Path("runs/mine"))
    Path("search").mkdir()
    for path in (Path("search") / file, Path("runs/mine/recipe.toml")):
        path.write_text(text)
    code, out, err = run(capsys, "front", "mine")
    assert (code, err) == (0, "")
    assert "runs/mine: stopped before it was finished\n" in out
    assert f"evaluated: 5{' of 9' if 'budget' in text else ''} networks\n" in out
    if command.endswith("RECIPE"):
        why = "none in search/ has its name and equals runs/mine/recipe.toml"
        assert out.endswith(f"\nto go on: {command}\n  RECIPE: the file that the run began with; {why}\n")
    else:
        assert out.endswith(f"\nto go on: {command}\n")


def test_of_two_recipes_of_a_name_the_one_that_the_run_keeps_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    stopped(Path("runs/mine"))
    Path("search").mkdir()
    for file, text in (("a.toml", "seed = 1"), ("b.toml", "seed = 2"), ("c.toml", "seed = 3")):
        Path("search", file).write_text(f'name = "mine"\n{text}')
    Path("runs/mine/recipe.toml").write_text('name = "mine"\nseed = 2')
    found = SoFar.load(Path("runs/mine"))
    assert found is not None and (found.goes_on, found.recipe) == ("hwnas search search/b.toml", Path("search/b.toml"))
    Path("runs/mine/recipe.toml").write_text('name = "mine"\nseed = 4')
    found = SoFar.load(Path("runs/mine"))
    assert found is not None and (found.goes_on, found.recipe) == ("hwnas search RECIPE", None)


def test_a_finished_study_says_what_it_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with study(folder=Path("runs/mine"), budget=Budget(evaluations=5)) as searched:
        outcome = searched.run(RandomSearch())
    code, out, _ = run(capsys, "front", "mine")
    assert code == 0
    assert "the search of a study is finished" in out and outcome.reason in out and "to go on" not in out
    assert all(evaluation.architecture.digest in out for evaluation in outcome.front)
    code, out, _ = run(capsys, "front", "mine", "--json")
    found = json.loads(out)
    assert (found["state"], found["process"], len(found["best"])) == ("searched", None, len(outcome.front))
    for command in (["pick", "mine"], ["export", "mine", "--to", "onnx"]):
        code, _, err = run(capsys, *command)
        assert code == 2 and "hwnas front runs/mine" in err
        assert "the search of a study is finished, and its networks were not exported" in err
