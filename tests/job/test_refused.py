"""A command that is refused leaves a run as it was, finished or stopped: every file, byte for byte."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from hwnas.evaluation.shared_weights import SharedWeights
from hwnas.job import Front, search
from hwnas.job.members import Finisher
from hwnas.store import FolderLock
from hwnas.strategies import Nsga2
from hwnas.training import Trainer
from tests.job.workspace import RECIPE, Listener, ignore_drift, run

State = Callable[[Path], object]


@pytest.fixture(scope="module", autouse=True)
def any_drift() -> Iterator[None]:
    yield from ignore_drift()


@pytest.fixture(scope="module")
def stopped_toy(finished_toy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same workspace, with a run that was stopped in its search."""
    root = tmp_path_factory.mktemp("stopped")
    shutil.copytree(finished_toy, root, dirs_exist_ok=True)
    shutil.rmtree(root / "runs" / "toy")
    calls = 0
    call = SharedWeights.__call__

    def cut(self: SharedWeights, *args: object, **options: object) -> object:
        nonlocal calls
        calls += 1
        if calls > 7:
            raise KeyboardInterrupt
        return call(self, *args, **options)  # type: ignore[arg-type]

    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(SharedWeights, "__call__", cut)
        with pytest.raises(KeyboardInterrupt):
            search(root / "search" / "toy.toml", root=root)
    torch.set_num_threads(threads)
    return root


@pytest.fixture(params=["finished", "stopped"])
def workspace(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    finished_toy: Path,
    stopped_toy: Path,
) -> Iterator[Path]:
    threads = torch.get_num_threads()
    shutil.copytree(finished_toy if request.param == "finished" else stopped_toy, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    torch.set_num_threads(threads)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, byte for byte."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def recipe_with(old: str, new: str) -> State:
    assert old in RECIPE

    def change(root: Path) -> None:
        (root / "search" / "toy.toml").write_text(RECIPE.replace(old, new, 1))

    return change


def named(name: str) -> State:
    def change(root: Path) -> None:
        (root / "search" / "toy.toml").write_text(f"name = {json.dumps(name)}\n{RECIPE}")

    return change


def encoded(encoding: str) -> State:
    def change(root: Path) -> None:
        (root / "search" / "toy.toml").write_bytes(f"# café\n{RECIPE}".encode(encoding))

    return change


def table_of(root: Path) -> Path:
    [path] = (root / "latency_tables").glob("*.jsonl")
    return path


def own_table_of_another_machine(root: Path) -> None:
    path = root / "runs" / "toy" / "table.jsonl"
    first, rest = path.read_text().split("\n", 1)
    header = json.loads(first)
    header["device"]["cpu_model"] = "another processor"
    path.write_text("\n".join([json.dumps(header), rest]))


def no_own_table(root: Path) -> None:
    """As a run of before there were copies, whose table was measured again since."""
    (root / "runs" / "toy" / "table.jsonl").unlink()
    path = table_of(root)
    first, rest = path.read_text().split("\n", 1)
    header = json.loads(first)
    header["tool_version"] = "measured again"
    header["calibration"]["coefficients"][0] *= 1.01
    path.write_text("\n".join([json.dumps(header), rest]))


def newer_store(root: Path) -> None:
    import sqlite3

    with sqlite3.connect(root / "runs" / "toy" / "store.sqlite") as store:
        store.execute("PRAGMA user_version = 99")
    store.close()


def held(root: Path) -> None:
    FolderLock(root / "runs" / "toy")


def damaged(name: str) -> State:
    def change(root: Path) -> None:
        (root / "runs" / "toy" / name).write_text("{")

    return change


def searches_a_table(root: Path) -> None:
    (root / "search" / "toy.toml").write_text(
        """
        objectives = ["accuracy", "macs"]
        benchmark = {name = "nas_bench_macro"}
        strategy = {name = "random"}
        budget = {evaluations = 5}
        """
    )


def other_device(root: Path) -> None:
    (root / "devices" / "this-cpu.toml").write_text("threads = 1\ncore = 999\n")


REFUSALS: dict[str, tuple[State, list[str], str]] = {
    "an impossible limit": (
        recipe_with('at_most = "90 %"', "at_most = 0.0001"),
        ["search", "search/toy.toml"],
        r"[limits] latency_ms <= 0.0001",
    ),
    "an impossible limit, starting over": (
        recipe_with('at_most = "90 %"', "at_most = 0.0001"),
        ["search", "search/toy.toml", "--fresh"],
        r"[limits] latency_ms <= 0.0001",
    ),
    "another training": (
        recipe_with("epochs = 2", "epochs = 3"),
        ["search", "search/toy.toml"],
        "it holds another study: [training] epochs: 2 stored, 3 now",
    ),
    "another strategy": (
        recipe_with("population = 6", "population = 5"),
        ["search", "search/toy.toml"],
        "it holds another study: strategy Nsga2: population 6 stored, 5 now",
    ),
    "more evaluations": (
        recipe_with("evaluations = 12", "evaluations = 14"),
        ["search", "search/toy.toml"],
        "the budget: 12 evaluations stored, 14 evaluations now",
    ),
    "other images": (
        recipe_with("limit = 400", "limit = 300"),
        ["search", "search/toy.toml"],
        "[data] limit: 400 stored, 300 now",
    ),
    "another space": (
        recipe_with("resolutions = [8, 12]", "resolutions = [8]"),
        ["search", "search/toy.toml", "--fresh"],
        "hwnas profile search/toy.toml",
    ),
    "a key that is none": (
        recipe_with("epochs = 2", "epohcs = 2"),
        ["search", "search/toy.toml", "--fresh"],
        'unknown key "epohcs"',
    ),
    "no TOML": (recipe_with("[budget]", "[budget"), ["search", "search/toy.toml", "--fresh"], "not TOML"),
    "a name that leads out": (named(".."), ["search", "search/toy.toml", "--fresh"], "it begins with a dot"),
    "a name with a separator": (named("a/../.."), ["search", "search/toy.toml", "--fresh"], "it holds '/'"),
    "a name with a control character": (named("a\tb"), ["search", "search/toy.toml"], r"it holds '\t'"),
    "UTF-16": (encoded("utf-16"), ["search", "search/toy.toml", "--fresh"], "is in UTF-16; expected a recipe in UTF-8"),
    "Latin-1": (encoded("latin-1"), ["profile", "search/toy.toml"], "perhaps Latin-1"),
    "a folder": (lambda root: None, ["search", "search"], "is a folder; expected a recipe"),
    "a recipe that is not there": (lambda root: None, ["search", "search/other.toml"], "no such recipe"),
    "a seed below 0": (recipe_with("seed = 3", "seed = -1"), ["search", "search/toy.toml", "--fresh"], "seed is -1"),
    "a seed of 71 bits": (
        recipe_with("seed = 3", f"seed = {2**70}"),
        ["search", "search/toy.toml", "--fresh"],
        f"seed is {2**70}",
    ),
    "threads that no machine has": (
        recipe_with("threads = 1\n", "threads = 1000000\n"),
        ["search", "search/toy.toml", "--fresh"],
        "[training] threads is 1000000; input should be less than or equal to 1024",
    ),
    "workers that no machine has": (
        recipe_with("[evaluation]\n", "[evaluation]\nworkers = 1000000\n"),
        ["search", "search/toy.toml", "--fresh"],
        "[evaluation] workers is 1000000; input should be less than or equal to 1024",
    ),
    "a device that is not there": (
        lambda root: (root / "search" / "toy.toml").write_text(f'device = "none-such"\n{RECIPE}'),
        ["search", "search/toy.toml", "--fresh"],
        "there is no such device file",
    ),
    "a device with a core that is not there": (other_device, ["search", "search/toy.toml"], "core"),
    "a damaged device file": (
        lambda root: (root / "devices" / "this-cpu.toml").write_text("threads = inf"),
        ["search", "search/toy.toml", "--fresh"],
        "threads is inf; expected a finite number",
    ),
    "images that are not there": (
        recipe_with('source = "digits"', 'source = "image_folder"\npath = "nowhere"'),
        ["search", "search/toy.toml", "--fresh"],
        "nowhere",
    ),
    "no table": (
        lambda root: table_of(root).unlink(),
        ["search", "search/toy.toml", "--fresh"],
        "there is no such latency table",
    ),
    "a cut table": (
        lambda root: table_of(root).write_bytes(table_of(root).read_bytes()[:5000]),
        ["search", "search/toy.toml", "--fresh"],
        "hwnas profile search/toy.toml",
    ),
    "its own table of another machine": (
        own_table_of_another_machine,
        ["search", "search/toy.toml"],
        "device.cpu_model is 'another processor' in the table",
    ),
    "a table measured again, without a copy": (
        no_own_table,
        ["search", "search/toy.toml"],
        "latency_ms: the latency table was measured again since",
    ),
    "its own table damaged": (damaged("table.jsonl"), ["search", "search/toy.toml"], "table.jsonl: line 1 is cut off"),
    "its calibration damaged": (
        damaged("calibration.json"),
        ["search", "search/toy.toml"],
        "calibration.json: damaged",
    ),
    "its store damaged": (damaged("store.sqlite"), ["search", "search/toy.toml"], "it is damaged or no store"),
    "a newer store": (newer_store, ["search", "search/toy.toml"], "upgrade hwnas"),
    "somebody works on it": (held, ["search", "search/toy.toml"], "works on this run"),
    "somebody works on it, starting over": (held, ["search", "search/toy.toml", "--fresh"], "works on this run"),
    "a table's search in a run's folder": (
        searches_a_table,
        ["search", "search/toy.toml", "--fresh"],
        "nas_bench_macro",
    ),
    "a kit for this machine": (lambda root: None, ["kit", "search/toy.toml"], "is this machine, which needs no kit"),
    "results that are not there": (
        lambda root: None,
        ["profile", "search/toy.toml", "--from", "r.jsonl"],
        "there is no such results file",
    ),
    "a bound that no accuracy has": (
        lambda root: None,
        ["pick", "toy", "--at-least", "accuracy=90"],
        "",
    ),
    "an export to no ONNX file": (lambda root: None, ["export", "toy", "--to", "front.json"], ""),
    "a run that is not there": (lambda root: None, ["front", "toi"], "there is no such run"),
}


@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_refused_command_leaves_everything_as_it_was(
    workspace: Path, capsys: pytest.CaptureFixture[str], refusal: str
) -> None:
    prepare, command, message = REFUSALS[refusal]
    prepare(workspace)
    before = contents(workspace)
    code, out, err = run(capsys, *command)
    assert (code, out) == (2, ""), err
    assert message in " ".join(err.split()), err
    last = err.splitlines()[-2:]
    assert any(line.startswith("error:") for line in last), "one line, and one with the way out"
    assert "Traceback" not in err and "weights_only" not in err
    assert contents(workspace) == before
    assert not (workspace.parent / "store.sqlite").exists()


def test_a_refused_first_run_leaves_no_folder(
    finished_toy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(finished_toy, tmp_path, dirs_exist_ok=True)
    shutil.rmtree(tmp_path / "runs")
    recipe_with('at_most = "90 %"', "at_most = 0.0001")(tmp_path)
    before, here = contents(tmp_path), Path.cwd()
    os.chdir(tmp_path)
    try:
        code, _, err = run(capsys, "search", "search/toy.toml")
    finally:
        os.chdir(here)
    assert code == 2, err
    assert contents(tmp_path) == before
    assert not (tmp_path / "runs").exists()


# ----------------------------------------------------------- weights that cannot be used, beside a recipe that changed


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1000])


def of_another_width(path: Path) -> None:
    states = torch.load(path, weights_only=True)
    name, tensor = next((k, v) for k, v in states["module"].items() if v.ndim == 4)
    states["module"][name] = torch.cat([tensor, tensor])
    torch.save(states, path)


def without_the_module(path: Path) -> None:
    torch.save({"other": {}}, path)


def without_a_class(path: Path) -> None:
    states = torch.load(path, weights_only=True)
    states["module"] = {k: v[:-1] if v.ndim and v.shape[0] == 10 else v for k, v in states["module"].items()}
    torch.save(states, path)


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "cut off": (cut_off, "the checkpoint is damaged"),
    "of another width": (of_another_width, "it holds another module than this run's"),
    "of fewer classes": (without_a_class, "it holds another module than this run's"),
    "of another program": (without_the_module, "it holds no 'module', only other"),
}
MORE_MEMBERS = RECIPE.replace("[members]\ncount = 2", "[members]\ncount = 3")
A_TIME_LIMIT = f"{RECIPE}seconds = 600\n"


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("recipe", [MORE_MEMBERS, A_TIME_LIMIT], ids=["members", "time limit"])
def test_a_checkpoint_that_is_refused_leaves_everything_as_it_was(
    workspace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, damage: str, recipe: str
) -> None:
    """Under other conditions too, which a run that goes on would note."""
    change, message = DAMAGES[damage]
    run_folder = workspace / "runs" / "toy"
    if recipe == A_TIME_LIMIT:  # by which a finished run stays finished
        (run_folder / "front.json").unlink(missing_ok=True)
    [path] = (run_folder / "checkpoints").glob("supernet@*.ckpt")
    change(path)
    (workspace / "search" / "toy.toml").write_text(recipe)
    monkeypatch.setattr("hwnas.study.study.environment", lambda: {"numpy": "0.1"})
    torch.set_num_threads(2 if torch.get_num_threads() == 1 else 1)
    before = contents(workspace)
    code, out, err = run(capsys, "search", "search/toy.toml")
    assert (code, out) == (2, ""), err
    assert f"{path.name}: {message}" in " ".join(err.split()), err
    assert "run the same command again" in " ".join(err.split()), "the way out"
    assert contents(workspace) == before


def test_a_members_checkpoint_that_is_refused_leaves_everything_as_it_was(
    finished_toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(finished_toy, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs" / "toy"
    (folder / "front.json").unlink()
    (tmp_path / "search" / "toy.toml").write_text(A_TIME_LIMIT)
    for role in ("member", "default"):
        path = next((folder / "checkpoints").glob(f"{role}*.ckpt"))
        kept = path.read_bytes()
        without_a_class(path)
        before = contents(tmp_path)
        code, _, err = run(capsys, "search", "search/toy.toml")
        assert code == 2 and f"{path.name}: it holds another module" in " ".join(err.split()), err
        assert contents(tmp_path) == before
        path.write_bytes(kept)
    # One of other settings is not looked at, as nothing goes on from it.
    shutil.copyfile(path, path.with_name("member-000000000000-00000000@1.ckpt"))
    (tmp_path / "search" / "toy.toml").write_text(RECIPE.replace("default_epochs = 1", "default_epochs = 2"))
    without_a_class(path)
    assert search(tmp_path / "search" / "toy.toml", root=tmp_path).on_front


@pytest.mark.parametrize("raised", [True, False])
def test_a_strategy_that_asks_for_something_else_leaves_everything_as_it_was(
    stopped_toy: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *,
    raised: bool,
) -> None:
    """Its version says so, or the replay finds out."""
    shutil.copytree(stopped_toy, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "search" / "toy.toml").write_text(MORE_MEMBERS)
    if raised:
        monkeypatch.setattr(Nsga2, "version", Nsga2.version + 1)
        text = f"strategy Nsga2: version {Nsga2.version - 1} stored, {Nsga2.version} now to go on with it, install the"
    else:
        monkeypatch.setattr(Nsga2, "search", lambda self, study: study.once("otherwise", lambda rng: 1))
        text = "step 2 of search asked for once: 'otherwise'; the stored run asked for evaluate: 6 at 'full'"
    monkeypatch.setattr("hwnas.study.study.environment", lambda: {"numpy": "0.1"})
    before = contents(tmp_path)
    code, _, err = run(capsys, "search", "search/toy.toml")
    assert code == 2 and text in " ".join(err.split()), err
    assert "hwnas front shows what it has found so far; " in " ".join(err.split())
    assert contents(tmp_path) == before


# ------------------------------------------------------------------------------ what a run goes on with nevertheless


def names(front: Front) -> list[tuple[str, dict[str, float], float]]:
    """What must be equal between equal runs: everything but freshly measured times."""
    return sorted(
        (
            m.role + m.architecture.digest,
            {k: v for k, v in m.values.items() if k != "latency_ms"},
            m.training_seconds * 0,
        )
        for m in front.members
    )


def test_a_table_measured_again_or_gone_keeps_no_run_from_going_on(
    stopped_toy: Path, finished_toy: Path, tmp_path: Path
) -> None:
    """A stopped run, for which nothing was to be lost, ends as it would have."""
    shutil.copytree(stopped_toy, tmp_path, dirs_exist_ok=True)
    own = (tmp_path / "runs" / "toy" / "table.jsonl").read_bytes()
    path = table_of(tmp_path)
    path.write_text(path.read_text().replace('"tool_version":"', '"tool_version":"other ', 1))
    told = Listener()
    front = search(tmp_path / "search" / "toy.toml", root=tmp_path, teller=told)
    assert any("was measured again since this run began; the run goes on with the table" in line for line in told.lines)
    assert names(front) == names(Front.load(finished_toy / "runs" / "toy"))
    assert (tmp_path / "runs" / "toy" / "table.jsonl").read_bytes() == own
    shutil.rmtree(tmp_path / "latency_tables")
    told = Listener()
    search(tmp_path / "search" / "toy.toml", root=tmp_path, teller=told)
    assert any("is gone; the run goes on with the table" in line for line in told.lines)
    assert any("finished already" in line for line in told.lines)


def test_images_that_moved_are_the_same_images(
    stopped_toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(stopped_toy, tmp_path, dirs_exist_ok=True)
    from hwnas.job.recipe import Recipe

    dump = Recipe.model_dump

    def moved(self: Recipe, *args: object, **options: object) -> dict[str, object]:
        row = dump(self, *args, **options)  # type: ignore[arg-type]
        row["data"]["path"] = "elsewhere"
        return row

    monkeypatch.setattr(Recipe, "model_dump", moved)
    assert search(tmp_path / "search" / "toy.toml", root=tmp_path).on_front


def test_members_by_other_settings_cost_no_search(
    finished_toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what the change concerns is trained: a third member alone, then all of them for longer, then none."""
    shutil.copytree(finished_toy, tmp_path, dirs_exist_ok=True)
    trained: list[str] = []
    epoch = Trainer.epoch

    def counted(self: Trainer, k: int, rng: np.random.Generator) -> dict[str, float]:
        trained.append(self.what)
        return epoch(self, k, rng)

    monkeypatch.setattr(Trainer, "epoch", counted)
    before = Front.load(tmp_path / "runs" / "toy")
    recipe, told = tmp_path / "search" / "toy.toml", Listener()
    recipe.write_text(RECIPE.replace("[members]\ncount = 2\nepochs = 1", "[members]\ncount = 3\nepochs = 1"))
    more = search(recipe, root=tmp_path, teller=told)
    assert any("what the search found is kept" in line for line in told.lines)
    assert len(more.members) == len(before.members) + 1
    assert (more.folder / "recipe.toml").read_bytes() == recipe.read_bytes(), "what it rests on now"
    assert not any("supernet" in name or "default" in name for name in trained)
    assert 1 <= len(trained) <= 3, "a member is trained again only where its teacher is another"
    trained.clear()
    recipe.write_text(RECIPE.replace("[members]\ncount = 2\nepochs = 1", "[members]\ncount = 3\nepochs = 2"))
    with monkeypatch.context() as patched:
        patched.setattr(Finisher, "export", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            search(recipe, root=tmp_path)
    assert Front.load(more.folder) == more, "the front that was there stays until the next takes its place"
    assert all(more.onnx_path(member).is_file() for member in more.members)
    assert len([name for name in trained if name.startswith("member")]) == 6
    trained.clear()
    longer = search(recipe, root=tmp_path)
    assert trained == []
    assert sorted(path.name for path in (longer.folder / "members").glob("*.onnx")) == sorted(
        Path(member.onnx).name for member in longer.members
    )
    recipe.write_text(RECIPE)
    again = search(recipe, root=tmp_path)
    assert trained == [], "what was paid for once is not paid again"
    assert names(again) == names(before)


def _interrupt(*args: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("which", ["supernet", "member"])
def test_a_checkpoint_that_is_gone_is_trained_anew_and_a_damaged_one_named(
    finished_toy: Path, tmp_path: Path, which: str
) -> None:
    shutil.copytree(finished_toy, tmp_path, dirs_exist_ok=True)
    recipe, folder = tmp_path / "search" / "toy.toml", tmp_path / "runs" / "toy"
    before = Front.load(folder)
    path = next((folder / "checkpoints").glob(f"{which}*.ckpt"))
    (folder / "front.json").unlink()
    path.write_bytes(path.read_bytes()[:1000])
    files, made = contents(folder), (folder / "recipe.toml").stat().st_mtime_ns
    with pytest.raises(Exception, match=f"{path.name}: the checkpoint is damaged") as caught:
        search(recipe, root=tmp_path)
    assert "delete the damaged one and run the same command again" in str(caught.value)
    assert (folder / "recipe.toml").stat().st_mtime_ns == made, "an equal recipe is not written again"
    assert contents(folder) == files
    path.unlink()
    told = Listener()
    again = search(recipe, root=tmp_path, teller=told)
    assert any("is gone" in line and "is trained anew; all evaluations are kept" in line for line in told.lines)
    assert names(again) == names(before)
