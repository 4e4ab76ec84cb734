"""The main job on a toy space: profile, search, measured front, picks, and what a stopped or wrong run says."""

import json
import re
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from hwnas.core import (
    ExportError,
    LimitError,
    NonFiniteLossError,
    PickError,
    RecipeError,
    ReplayError,
    StoreError,
    TableError,
)
from hwnas.cost import LatencyTable
from hwnas.device import fingerprint
from hwnas.export import read_metadata
from hwnas.job import Front, Silent, assemble, check_member_file, profile, search, use_refit
from hwnas.job.member_file import file_digest
from hwnas.job.members import Finisher
from hwnas.nn import load_network
from hwnas.training import Trainer
from tests.job.workspace import RECIPE, Listener, ignore_drift, make_workspace


@pytest.fixture(scope="module", autouse=True)
def any_drift() -> Iterator[None]:
    yield from ignore_drift()


@pytest.fixture
def finished(finished_toy: Path) -> Path:
    """A workspace whose run is finished."""
    return finished_toy


@pytest.fixture
def workspace(finished: Path, tmp_path: Path) -> Iterator[Path]:
    """A workspace with a table and no run."""
    threads = torch.get_num_threads()
    make_workspace(tmp_path)
    shutil.copytree(finished / "latency_tables", tmp_path / "latency_tables")
    yield tmp_path
    torch.set_num_threads(threads)


def table_of(root: Path) -> Path:
    [path] = (root / "latency_tables").glob("*.jsonl")
    return path


def names(front: Front) -> list[tuple[str, dict[str, float], float]]:
    """What must be equal between equal runs: everything but freshly measured times."""
    return sorted(
        (
            member.role + member.architecture.digest,
            {k: m.value for k, m in member.metrics.items() if k != "latency_ms"},
            member.predicted["latency_ms"].value,
        )
        for member in front.members
    )


def test_the_front_is_measured_complete_and_strict_json(finished: Path) -> None:
    folder = finished / "runs" / "toy"

    def refuse(name: str) -> float:
        raise AssertionError(f"{name} in a JSON file")

    row = json.loads((folder / "front.json").read_text(), parse_constant=refuse)
    front = Front.load(folder)
    assert front.to_json() == row
    assert 1 <= len(front.on_front) <= 3
    assert [member.role for member in front.members].count("default") == 1
    assert front.marked() == front, "whatever is measured competes"
    for member in front.members:
        assert member.metrics["latency_ms"].origin == "measured"
        assert member.predicted["latency_ms"].origin == "predicted"
        assert member.parity["largest_difference"] <= 1e-4
        assert member.training_seconds > 0
        assert 0 <= member.test["accuracy"] <= 1
        assert member.metrics["accuracy"].standard_error is not None
        for part in ("validation", "test"):
            assert list(member.answers[part].counts) == list(row["data"]["counts"][part].values())
        assert member.answers["validation"].accuracy == member.values["accuracy"]
        assert member.answers["test"].balanced_accuracy == member.test["balanced_accuracy"]
    search_facts = row["search"]
    assert sum(kind["ok"] + kind["failed"] for kind in search_facts["counts"]) == search_facts["evaluations"]
    assert {kind["weights"] for kind in search_facts["counts"]} >= {search_facts["weights"]}
    assert search_facts["repeated"] >= 0
    assert (search_facts["networks"], search_facts["evaluations"]) == (12, 12)
    assert search_facts["weights"] == "supernet@2" and row["finished"]["networks"] == len(front.members)
    volume = search_facts["hypervolume"]
    assert len(volume["after_each_network"]) == 12 and volume["reference"]["accuracy"] == 0.0
    assert volume["after_each_network"] == sorted(volume["after_each_network"])
    members = [m for m in front.members if m.role == "member"]
    errors = [m.predicted["latency_ms"].value / m.metrics["latency_ms"].value - 1 for m in members]
    assert row["prediction_error"]["mape"] == pytest.approx(np.mean(np.abs(errors)))
    assert sorted(p.suffix for p in (folder / "members").iterdir()) == sorted(
        [".onnx", ".safetensors"] * len(front.members)
    )


def test_a_stranger_can_use_the_file_alone(finished: Path) -> None:
    """Case O-25: the metadata is enough to prepare images and to name classes; accuracy is as promised."""
    from hwnas.data import DataSource

    front = Front.load(finished / "runs" / "toy")
    member = front.pick("most-accurate")
    facts = read_metadata(front.onnx_path(member))
    assert facts["classes"] == [str(n) for n in range(10)]
    assert facts["architecture"] == dict(member.architecture)
    conditions = facts["latency_measured"]["conditions"]
    assert (conditions["threads"], conditions["batch"]) == (1, 1)
    assert conditions["cpu"] == fingerprint().cpu_model
    assert conditions["runtime"] == f"onnxruntime-cpu {onnxruntime.__version__}"
    assert conditions["raw_ms"] == member.raw_latency_ms
    assert facts["digest"]["sha256"] == member.digests["onnx_content"]
    assert facts["digest"]["metadata_sha256"] == member.digests["onnx_metadata"]
    assert file_digest(front.onnx_path(member)) == member.digests["onnx"]
    assert file_digest(front.folder / member.weights) == member.digests["weights"]
    assert facts["table"]["digest"] == LatencyTable.load(table_of(finished)).digest
    rule = facts["preprocessing"]
    test = DataSource("digits", limit=400).load(3).test
    from PIL import Image

    images = []
    for image in test:
        picture = Image.fromarray(image[:, :, 0]).resize((rule["size"],) * 2, Image.Resampling.BILINEAR)
        pixels = np.asarray(picture, np.float32)[None] / 255
        images.append((pixels - np.float32(rule["mean"][0])) / np.float32(rule["std"][0]))
    session = onnxruntime.InferenceSession(str(front.onnx_path(member)), providers=["CPUExecutionProvider"])
    [found] = session.run(None, {"image": np.stack(images).astype(np.float32)})
    share = float((found.argmax(1) == test.labels).mean())
    assert share == pytest.approx(member.test["accuracy"], abs=1.01 / len(test.labels))
    network = load_network(front.folder / member.weights)
    with torch.inference_mode():
        assert np.abs(network(torch.tensor(np.stack(images))).numpy() - found).max() < 1e-4


def test_the_same_recipe_gives_the_same_front_twice(finished: Path, workspace: Path) -> None:
    again = search(workspace / "search" / "toy.toml", root=workspace)
    assert names(again) == names(Front.load(finished / "runs" / "toy"))


def test_a_finished_run_says_so_and_computes_nothing(finished: Path) -> None:
    listener = Listener()
    before = (finished / "runs" / "toy" / "front.json").read_bytes()
    search(finished / "search" / "toy.toml", root=finished, teller=listener)
    assert any("finished already" in line for line in listener.lines)
    assert (finished / "runs" / "toy" / "front.json").read_bytes() == before


def make_earlier(root: Path) -> None:
    """Give a finished run the form that a version without digests, with other defaults, left it in."""
    folder = root / "runs" / "toy"
    row = json.loads((folder / "front.json").read_text())
    for member in row["members"]:
        del member["digests"]
        path = folder / member["onnx"]
        model = onnx.load(str(path))
        entries = {entry.key: entry.value for entry in model.metadata_props if entry.key != "hwnas.digest"}
        onnx.helper.set_model_props(model, entries)
        onnx.save(model, str(path))
    (folder / "front.json").write_text(json.dumps(row))
    with closing(sqlite3.connect(folder / "store.sqlite")) as store, store:
        header = {name: json.loads(value) for name, value in store.execute("SELECT name, value FROM header")}
        header["identity"]["recipe.training.momentum"] = 0.85
        inner = {"type": "hwnas.strategies.nsga2:Nsga2", **header["strategy"]["parameters"], "mutation_eta": 7.0}
        header["strategy"] = {"name": "WithSupernet", "parameters": {"strategy": inner}, "code": "of that version"}
        store.execute("DELETE FROM header WHERE name = 'follow_up'")
        for name in ("identity", "strategy"):
            store.execute("UPDATE header SET value = ? WHERE name = ?", (json.dumps(header[name]), name))


def test_a_finished_run_of_an_earlier_version_is_finished(finished: Path, workspace: Path) -> None:
    """Nobody changed [members] or a default of another version, and nothing is searched again."""
    shutil.copytree(finished / "runs", workspace / "runs")
    make_earlier(workspace)
    folder, listener = workspace / "runs" / "toy", Listener()
    before = {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
    search(workspace / "search" / "toy.toml", root=workspace, teller=listener)
    assert any("finished already" in line for line in listener.lines)
    assert not any("[members] was changed" in line for line in listener.lines)
    assert {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()} == before


@pytest.mark.parametrize("key", ["momentum = 0.9", "momentum = 0.8"])
def test_a_key_that_the_recipe_sets_counts_in_a_finished_run_too(finished: Path, workspace: Path, key: str) -> None:
    shutil.copytree(finished / "runs", workspace / "runs")
    make_earlier(workspace)
    recipe = workspace / "search" / "toy.toml"
    recipe.write_text(RECIPE.replace("[training]", f"[training]\n{key}"))
    with pytest.raises(ReplayError, match=re.escape(f"[training] momentum: 0.85 stored, {key[-3:]} now")):
        search(recipe, root=workspace)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("", "the run was made by an earlier version: what the search found is kept, members are trained again"),
        ("count = 1", "[members] was changed: what the search found is kept, members are trained by the new settings"),
    ],
)
def test_why_members_of_an_earlier_version_are_trained_again_is_told(
    finished: Path, workspace: Path, change: str, said: str
) -> None:
    shutil.copytree(finished / "runs", workspace / "runs")
    make_earlier(workspace)
    front = Front.load(workspace / "runs" / "toy")
    front.onnx_path(front.members[0]).unlink()
    recipe, listener = workspace / "search" / "toy.toml", Listener()
    recipe.write_text(RECIPE.replace("count = 2", change or "count = 2"))
    search(recipe, root=workspace, teller=listener)
    assert said in listener.lines


@pytest.mark.parametrize("loss", ["front.json damaged", "a member's file gone", "a member's file changed"])
def test_what_a_finished_run_has_lost_is_written_again(finished: Path, workspace: Path, loss: str) -> None:
    """The way out that `hwnas front` and `hwnas export` name; nothing is trained again."""
    shutil.copytree(finished / "runs", workspace / "runs")
    front = Front.load(workspace / "runs" / "toy")
    if loss == "front.json damaged":
        (front.folder / "front.json").write_text("{")
    elif loss == "a member's file changed":
        shutil.copy(front.onnx_path(front.members[1]), front.onnx_path(front.members[0]))
        with pytest.raises(ExportError, match="changed since it was exported"):
            check_member_file(front, front.members[0])
    else:
        front.onnx_path(front.members[0]).unlink()
    again = search(workspace / "search" / "toy.toml", root=workspace)
    assert names(again) == names(front)
    assert [m.training_seconds for m in again.members] == [m.training_seconds for m in front.members]
    assert all(check_member_file(again, member).state == "as exported" for member in again.members)


@pytest.mark.parametrize("where", ["supernet", "search", "member", "measure"])
def test_a_stopped_run_goes_on_to_the_same_front(
    finished: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Ctrl-C at four places; the run that goes on finds what the unbroken one found."""
    recipe = workspace / "search" / "toy.toml"
    with monkeypatch.context() as patched:
        stop_at(patched, where)
        with pytest.raises(KeyboardInterrupt):
            search(recipe, root=workspace)
    assert not (workspace / "runs" / "toy" / "front.json").exists()
    assert names(search(recipe, root=workspace)) == names(Front.load(finished / "runs" / "toy"))


def stop_at(patched: pytest.MonkeyPatch, where: str) -> None:
    calls = 0

    def stop_after(n: int) -> None:
        nonlocal calls
        calls += 1
        if calls > n:
            raise KeyboardInterrupt

    if where in ("supernet", "member"):
        epoch = Trainer.epoch

        def cut_epoch(self: Trainer, k: int, rng: np.random.Generator) -> dict[str, float]:
            stop_after({"supernet": 1, "member": 3}[where])
            return epoch(self, k, rng)

        patched.setattr(Trainer, "epoch", cut_epoch)
    elif where == "search":
        from hwnas.evaluation.shared_weights import SharedWeights

        call = SharedWeights.__call__

        def cut_call(self: SharedWeights, *args: object, **options: object) -> object:
            stop_after(7)
            return call(self, *args, **options)  # type: ignore[arg-type]

        patched.setattr(SharedWeights, "__call__", cut_call)
    else:

        def cut_measure(*args: object, **options: object) -> None:
            raise KeyboardInterrupt

        patched.setattr("hwnas.job.timing.remeasure", cut_measure)


def test_an_impossible_limit_is_refused_before_any_training(workspace: Path) -> None:
    """Case O-20: the smallest reachable value is named."""
    recipe = workspace / "search" / "toy.toml"
    recipe.write_text(RECIPE.replace('at_most = "90 %"', "at_most = 0.0001"))
    listener = Listener()
    with pytest.raises(LimitError, match=r"latency_ms.* 0\.0001.*(0\.0\d+)"):
        search(recipe, root=workspace, teller=listener)
    assert not any("train" in stage for stage in listener.stages)


@pytest.mark.parametrize(
    ("table", "key"), [("training", "threads"), ("evaluation", "threads"), ("evaluation", "workers")]
)
def test_more_threads_or_workers_than_the_machine_can_have_are_refused_before_anything_is_thrown_away(
    workspace: Path, finished: Path, table: str, key: str
) -> None:
    recipe = workspace / "search" / "toy.toml"
    old = {"training": "threads = 1\n", "evaluation": "[evaluation]\n"}[table]
    recipe.write_text(RECIPE.replace(old, f"{'' if table == 'training' else old}{key} = 5\n"))
    shutil.copytree(finished / "runs", workspace / "runs")
    folder = workspace / "runs" / "toy"
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(RecipeError, match=rf"\[{table}\] {key} is 5; this machine can have at most 4, four") as refused:
        search(recipe, root=workspace, fresh=True, quota=lambda: 1.0)
    assert refused.value.hint == f"set {key} to at most 4, or drop the key"
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def edit_header(root: Path, change: dict[str, object]) -> None:
    path = table_of(root)
    first, *rest = path.read_text().splitlines()
    header = json.loads(first)
    for name, value in change.items():
        *rooms, field = name.split(".")
        place = header
        for room in rooms:
            place = place[room]
        assert field in place
        place[field] = value
    path.write_text("\n".join([json.dumps(header), *rest]) + "\n")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"threads": 2}, "threads is 2.*1"),
        ({"batch": 8}, "batch is 8.*1"),
        ({"device.cpu_model": "another processor"}, "cpu_model is .?another processor"),
        ({"space_digest": "0" * 16}, "space"),
        ({"runtime.onnxruntime": "1.2.3"}, "onnxruntime is .?1.2.3"),
    ],
)
def test_a_table_of_other_conditions_is_refused(workspace: Path, change: dict[str, object], message: str) -> None:
    edit_header(workspace, change)
    with pytest.raises(TableError, match=message) as caught:
        search(workspace / "search" / "toy.toml", root=workspace)
    assert "hwnas profile" in caught.value.hint
    assert "toy.toml" in caught.value.hint


def test_a_mismatch_that_is_allowed_is_told_and_stored_in_the_result(workspace: Path) -> None:
    edit_header(workspace, {"device.cpu_model": "another processor"})
    listener = Listener()
    front = search(workspace / "search" / "toy.toml", root=workspace, allow_mismatch=True, teller=listener)
    [line] = json.loads((front.folder / "front.json").read_text())["table"]["mismatches"]
    assert "device.cpu_model is 'another processor' in the table" in line
    assert f"allowed: {line}" in listener.lines
    assert all(member.memory["peak_activation_bytes"] for member in front.members)


def test_a_missing_or_truncated_table_is_refused(workspace: Path) -> None:
    recipe, path = workspace / "search" / "toy.toml", table_of(workspace)
    content = path.read_text()
    path.write_text(content[: len(content) * 2 // 3])
    with pytest.raises(TableError, match=re.escape(path.name)) as caught:
        search(recipe, root=workspace)
    assert "hwnas profile" in caught.value.hint
    path.unlink()
    with pytest.raises(TableError, match=re.escape(path.name)) as caught:
        search(recipe, root=workspace)
    assert f"hwnas profile {recipe}" in caught.value.hint


def test_what_a_run_learnt_is_used_when_asked_for(finished: Path, workspace: Path) -> None:
    recipe = workspace / "search" / "toy.toml"
    with pytest.raises(StoreError, match="there is no such file"):
        use_refit(recipe, root=workspace)
    shutil.copytree(finished / "runs", workspace / "runs")
    path, calibration = use_refit(recipe, root=workspace)
    assert path.parent == workspace / "latency_tables" and calibration.n > 20
    assert assemble(recipe, root=workspace).load_table(Silent(), recheck=False).refitted == calibration
    table = LatencyTable.load(table_of(workspace))
    LatencyTable(table.header.model_copy(update={"tool_version": "other"}), table.rows).save(table_of(workspace))
    with pytest.raises(TableError, match="belongs to another table"):
        use_refit(recipe, root=workspace)


def test_a_table_that_lacks_a_row_names_it_and_can_be_completed(workspace: Path) -> None:
    """Case O-13: the very key, before anything is trained; --missing measures only that."""
    recipe, path = workspace / "search" / "toy.toml", table_of(workspace)
    table = LatencyTable.load(path)
    gone = sorted(key for key in table.rows if key.startswith("mbconv"))[0]
    LatencyTable(table.header, {k: v for k, v in table.rows.items() if k != gone}).save(path)
    with pytest.raises(TableError, match=re.escape(gone)) as caught:
        search(recipe, root=workspace)
    assert "--missing" in caught.value.hint
    report = profile(recipe, root=workspace, missing=True, on_noise="mark")
    assert gone in report.table.rows
    assert not report.table.missing(load_space(recipe, workspace))


def load_space(recipe: Path, root: Path):  # type: ignore[no-untyped-def]
    from hwnas.job import assemble

    return assemble(recipe, root=root).family.space


def test_another_recipe_in_the_same_run_is_refused_with_the_difference(workspace: Path, finished: Path) -> None:
    shutil.copytree(finished / "runs", workspace / "runs")
    recipe = workspace / "search" / "toy.toml"
    recipe.write_text(RECIPE.replace("epochs = 2", "epochs = 3"))
    with pytest.raises(ReplayError, match=r"\[training\] epochs: 2 stored, 3 now") as caught:
        search(recipe, root=workspace)
    assert "--fresh" in caught.value.hint


def test_training_that_diverges_stops_with_epoch_and_step_and_keeps_the_checkpoint(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Case O-16: nothing is lost but the epoch that diverged."""
    recipe = workspace / "search" / "toy.toml"
    epoch = Trainer.epoch

    def poisoned(self: Trainer, k: int, rng: np.random.Generator) -> dict[str, float]:
        if k == 1:
            rule = self.rule
            monkeypatch.setattr(self, "rule", lambda batch, generator: rule(batch, generator) * float("nan"))
        return epoch(self, k, rng)

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "epoch", poisoned)
        with pytest.raises(NonFiniteLossError, match="epoch 2, step 1"):
            search(recipe, root=workspace)
    [checkpoint] = (workspace / "runs" / "toy" / "checkpoints").glob("*.ckpt")
    assert checkpoint.name == "supernet@1.ckpt"
    state = torch.load(checkpoint, weights_only=True)["module"]
    assert all(bool(torch.isfinite(value).all()) for value in state.values())


def test_a_member_that_diverges_is_named_with_its_table_and_is_never_exported(workspace: Path) -> None:
    """Weights of NaN end the training; they never reach the exporter, which would be blamed."""
    recipe = workspace / "search" / "toy.toml"
    recipe.write_text(
        RECIPE.replace(
            "count = 2\nepochs = 1", "count = 2\nepochs = 1\nlearning_rate = 3e38\nclip = 1e38\nwarmup = 0.0"
        )
    )
    with pytest.raises(NonFiniteLossError) as caught:
        search(recipe, root=workspace)
    assert re.search(
        r"training of (member|default)-[0-9a-f]{12} diverged .*epoch 1.*learning rate 3e\+38", caught.value.message
    )
    assert "lower [members] learning_rate" in caught.value.hint
    assert not (workspace / "runs" / "toy" / "members").exists()


def test_picks_from_a_real_front(finished: Path) -> None:
    front = Front.load(finished / "runs" / "toy")
    fastest, best = front.pick("fastest"), front.pick("most-accurate")
    assert fastest.values["latency_ms"] == min(m.values["latency_ms"] for m in front.on_front)
    assert best.values["accuracy"] == max(m.values["accuracy"] for m in front.on_front)
    assert front.member(best.architecture.digest[:8]) == best
    with pytest.raises(PickError, match=r'"zz" fits 0 members'):
        front.member("zz")
    with pytest.raises(StoreError, match=r"no front; there is no such run") as caught:
        Front.load(finished / "runs" / "other")
    assert "toy" in caught.value.hint


def test_a_damaged_front_file_is_named(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "toy"
    folder.mkdir(parents=True)
    text = (finished / "runs" / "toy" / "front.json").read_text()
    (folder / "front.json").write_text(text[:-100])
    with pytest.raises(StoreError, match=r"front.json: damaged"):
        Front.load(folder)
    (folder / "front.json").write_text(text.replace('"schema": 1', '"schema": 9'))
    with pytest.raises(StoreError, match=r"schema is 9, written by hwnas .*; this version reads 1 \(upgrade hwnas"):
        Front.load(folder)


def test_the_default_network_trains_alone(finished: Path) -> None:
    """Its weights come from scratch: nothing of the supernet may reach it."""
    assert Finisher.train.__doc__ is not None
    front = Front.load(finished / "runs" / "toy")
    default = next(member for member in front.members if member.role == "default")
    assert "accuracy" not in default.predicted, "the search never saw it"
