"""Whatever has happened to a member's file, no command shows or hands over its numbers as if nothing had."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

from hwnas.core import ExportError, RecipeError
from hwnas.export import describe
from hwnas.job import Front, check_member_file, compare, describe_file, examined
from hwnas.job.member_file import file_digest
from tests.job.workspace import run


@pytest.fixture
def runs(finished_toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two equal runs, `toy` and `other`; the tests stand above it."""
    for name in ("toy", "other"):
        shutil.copytree(finished_toy / "runs" / "toy", tmp_path / "runs" / name)
    path = tmp_path / "runs" / "other" / "front.json"
    path.write_text(path.read_text().replace('"run": "toy"', '"run": "other"'))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs"


def best(front: Front) -> Path:
    return front.onnx_path(front.on_front[0])


def quantised(path: Path, front: Front) -> None:
    model = onnx.load(str(path))
    entries = {entry.key: entry.value for entry in model.metadata_props}
    quantize_dynamic(str(path), str(path), weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul", "Gemm"])
    small = onnx.load(str(path))
    helper.set_model_props(small, entries)
    onnx.save(small, str(path))


def one_weight_changed(path: Path, front: Front) -> None:
    model = onnx.load(str(path))
    tensor = model.graph.initializer[0]
    values = numpy_helper.to_array(tensor).copy()
    values.flat[0] += np.float32(1)
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    onnx.save(model, str(path))


def with_entries(path: Path, change: Callable[[dict[str, str]], Any]) -> None:
    model = onnx.load(str(path))
    entries = {entry.key: entry.value for entry in model.metadata_props}
    change(entries)
    helper.set_model_props(model, entries)
    onnx.save(model, str(path))


def metadata_edited(path: Path, front: Front) -> None:
    with_entries(path, lambda entries: entries.update({"hwnas.accuracy": '{"accuracy": 0.99}'}))


def edited_without_digest(path: Path, front: Front) -> None:
    metadata_edited(path, front)
    with_entries(path, lambda entries: entries.pop("hwnas.digest"))


def edited_with_new_digest(path: Path, front: Front) -> None:
    """A forgery that the file's own digest cannot find."""
    metadata_edited(path, front)
    found = describe(path)
    digest = {"form": 1, "sha256": found.sha256, "metadata_sha256": found.metadata_sha256}
    with_entries(path, lambda entries: entries.update({"hwnas.digest": json.dumps(digest)}))
    assert describe(path).state == "as exported"


def swapped(path: Path, front: Front) -> None:
    other = next(front.onnx_path(member) for member in front.members if front.onnx_path(member) != path)
    shutil.copy(other, path)


def truncated(path: Path, front: Front) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def missing(path: Path, front: Front) -> None:
    path.unlink()


def weights_lost(path: Path, front: Front) -> None:
    apart(path, front)
    path.with_name("apart.bin").unlink()


def apart(path: Path, front: Front) -> None:
    model = onnx.load(str(path))
    path.unlink()
    onnx.save_model(model, str(path), save_as_external_data=True, location="apart.bin", size_threshold=0)


def stored_anew(path: Path, front: Front) -> None:
    with_entries(path, lambda entries: None)
    model = onnx.load(str(path))
    model.doc_string = "seen by another tool"
    onnx.save(model, str(path))


FAULTS: dict[Callable[[Path, Front], None], tuple[str, str]] = {
    quantised: ("changed", "changed since it was exported"),
    one_weight_changed: ("changed", "changed since it was exported"),
    metadata_edited: ("edited", "its metadata was edited"),
    edited_without_digest: ("edited", "its metadata was edited"),
    edited_with_new_digest: ("edited", "its metadata was edited"),
    swapped: ("changed", "changed since it was exported"),
    truncated: ("damaged", "its file is damaged"),
    missing: ("missing", "its file is missing"),
    weights_lost: ("damaged", "its file is damaged"),
}


@pytest.mark.parametrize("happened", FAULTS)
def test_every_command_finds_what_has_happened_to_a_member(
    capsys: pytest.CaptureFixture[str], runs: Path, happened: Callable[[Path, Front], None]
) -> None:
    state, words = FAULTS[happened]
    front = Front.load(runs / "toy")
    gone, path = front.on_front[0], best(front)
    happened(path, front)
    with pytest.raises(ExportError, match=path.name):
        check_member_file(front, gone)
    for arguments in (
        ["check", f"runs/toy/{gone.onnx}"],
        ["pick", "toy", "--by", gone.architecture.digest],
        ["export", "toy", "--by", gone.architecture.digest, "--to", "model.onnx"],
    ):
        code, out, _ = run(capsys, *arguments)
        assert code == 2, arguments
        assert "as it was exported" not in out and "99.00" not in out
    assert not Path("model.onnx").exists()

    row = found_front = json.loads(run(capsys, "front", "toy", "--json")[1])
    [found] = [member for member in row["members"] if member["onnx"] == gone.onnx]
    assert (found["file_state"], found["fault"], found["on_front"]) == (state, words, False)
    assert all(member["fault"] is None for member in row["members"] if member["onnx"] != gone.onnx)
    code, out, _ = run(capsys, "front", "toy")
    assert code == 0
    assert f"left out, {words}: {front.letter(gone)}" in out
    assert all(line.split()[-1] != "front" for line in out.splitlines() if gone.architecture.digest in line)
    legend = next(line for line in out.splitlines() if "on the front: " in line)
    assert f" {front.letter(gone)}" not in legend.replace(";", "").replace(",", ""), "it is not drawn"

    row = json.loads(run(capsys, "compare", "toy", "other", "--json")[1])
    toy, other = row["runs"]
    assert toy["left_out"] == {gone.architecture.digest: words} and other["left_out"] == {}
    # What was tied with the network that is gone may be better by itself, so volumes say nothing of who has lost.
    assert other["joint"] >= 1 and toy["networks"] == sum(m["on_front"] for m in found_front["members"])
    code, out, _ = run(capsys, "compare", "toy", "other")
    assert f"note: toy: left out, {words}: {front.letter(gone)}" in out


@pytest.mark.parametrize("happened", [apart, stored_anew])
def test_another_way_to_store_a_member_changes_nothing(
    capsys: pytest.CaptureFixture[str], runs: Path, happened: Callable[[Path, Front], None]
) -> None:
    front = Front.load(runs / "toy")
    member, path = front.on_front[0], best(front)
    happened(path, front)
    assert check_member_file(front, member).state == "as exported"
    assert [one.on_front for one in examined(front).members] == [one.on_front for one in front.members]
    code, _, err = run(capsys, "export", "toy", "--by", member.architecture.digest, "--to", "model.onnx")
    assert (code, err) == (0, "")
    code, out, _ = run(capsys, "check", "model.onnx")
    assert code == 0 and "as it was exported, one file" in out


def test_a_file_of_another_member_is_called_by_its_name(runs: Path) -> None:
    front = Front.load(runs / "toy")
    path = best(front)
    swapped(path, front)
    assert describe(path).state == "as exported", "by itself it is whole"
    found = describe_file(path)
    assert found.state == "changed" and found.numbers == {}
    assert "another network of the run" in found.remark


def test_the_record_of_a_run_vouches_for_a_file_without_a_digest(
    capsys: pytest.CaptureFixture[str], runs: Path
) -> None:
    """Of an earlier version: front.json has the sha256 of the whole file."""
    front = Front.load(runs / "toy")
    path = best(front)
    with_entries(path, lambda entries: entries.pop("hwnas.digest"))
    record = front.folder / "front.json"
    old, new = front.on_front[0].digests["onnx"], file_digest(path)
    record.write_text(record.read_text().replace(old, new))
    again = Front.load(runs / "toy")
    assert describe(path).state == "unknown"
    assert describe_file(path).state == check_member_file(again, again.on_front[0]).state == "as exported"
    code, _, _ = run(capsys, "export", "toy", "--by", again.on_front[0].architecture.digest, "--to", "model.onnx")
    assert code == 0 and describe(Path("model.onnx")).state == "as exported", "the copy gets the digests that it lacks"
    assert describe(Path("model.onnx")).covered


EARLIER_RUN = "made by an earlier version, which kept no digests: whether its files were changed since their export"


def as_of_an_earlier_version(folder: Path) -> Front:
    """A run as versions without digests wrote it: neither front.json nor a member's file holds one."""
    path = folder / "front.json"
    row = json.loads(path.read_text())
    for member in row["members"]:
        del member["digests"]
    path.write_text(json.dumps(row))
    front = Front.load(folder)
    for member in front.members:
        with_entries(front.onnx_path(member), lambda entries: entries.pop("hwnas.digest"))
    return front


def test_a_run_of_an_earlier_version_opens_with_one_remark(capsys: pytest.CaptureFixture[str], runs: Path) -> None:
    front = as_of_an_earlier_version(runs / "toy")
    as_of_an_earlier_version(runs / "other")
    found = examined(front)
    assert {member.file for member in found.members} == {"unknown"} and found.on_front == [
        replace(member, file="unknown") for member in front.on_front
    ]
    best_one = front.on_front[0].architecture.digest
    for arguments, times in (
        (["front", "toy"], 1),
        (["compare", "toy", "other"], 2),
        (["pick", "toy", "--by", best_one], 1),
        (["export", "toy", "--by", best_one, "--to", "model.onnx"], 1),
    ):
        code, out, err = run(capsys, *arguments)
        assert (code, err) == (0, ""), arguments
        assert out.count("made by an earlier version") == out.count(EARLIER_RUN) == times, arguments
    assert json.loads(run(capsys, "pick", "toy", "--by", best_one, "--json")[1])["file_state"] == "unknown"
    assert Path("model.onnx").read_bytes() == best(front).read_bytes(), "the copy gets no digest that vouches for it"


def test_check_says_first_that_of_a_file_of_an_earlier_version_it_cannot_be_told(
    capsys: pytest.CaptureFixture[str], runs: Path
) -> None:
    front = as_of_an_earlier_version(runs / "toy")
    path = best(front)
    code, out, _ = run(capsys, "check", str(path))
    assert code == 2
    assert out.startswith(f"{path}: {EARLIER_RUN} cannot be told, one file, ")
    assert out.count("cannot be told") == 1 and "its metadata says: validation accuracy " in out
    row = json.loads(run(capsys, "check", str(path), "--json")[1])
    assert row["state"] == "unknown" and "accuracy" in row["unconfirmed"]


def test_weights_apart_of_an_earlier_version_are_exported_into_one_file_without_a_digest(
    capsys: pytest.CaptureFixture[str], runs: Path
) -> None:
    front = as_of_an_earlier_version(runs / "toy")
    apart(best(front), front)
    code, _, err = run(capsys, "export", "toy", "--by", front.on_front[0].architecture.digest, "--to", "model.onnx")
    assert (code, err) == (0, "")
    copy = describe(Path("model.onnx"))
    assert copy.state == "unknown" and not copy.beside


def test_one_digest_that_was_removed_of_several_is_no_run_of_an_earlier_version(
    capsys: pytest.CaptureFixture[str], runs: Path
) -> None:
    front = Front.load(runs / "toy")
    path, record = best(front), runs / "toy" / "front.json"
    with_entries(path, lambda entries: entries.pop("hwnas.digest"))
    row = json.loads(record.read_text())
    next(member for member in row["members"] if member["onnx"] == front.on_front[0].onnx)["digests"] = {}
    record.write_text(json.dumps(row))
    code, _, err = run(capsys, "pick", "toy", "--by", front.on_front[0].architecture.digest)
    assert code == 2 and "made by an earlier version or its digest was removed" in err
    code, out, _ = run(capsys, "front", "toy")
    assert code == 0 and "cannot be told: neither front.json nor the file holds a digest" in out


@pytest.mark.parametrize("happened", [swapped, truncated, missing])
def test_of_an_earlier_version_too_what_is_surely_another_file_is_refused(
    capsys: pytest.CaptureFixture[str], runs: Path, happened: Callable[[Path, Front], None]
) -> None:
    front = as_of_an_earlier_version(runs / "toy")
    happened(best(front), front)
    with pytest.raises(ExportError, match=best(front).name):
        check_member_file(front, front.on_front[0])
    assert run(capsys, "pick", "toy", "--by", front.on_front[0].architecture.digest)[0] == 2


def test_changed_weights_beside_a_file_are_named(capsys: pytest.CaptureFixture[str], runs: Path) -> None:
    front = Front.load(runs / "toy")
    weights = front.folder / front.on_front[0].weights
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))
    code, _, err = run(capsys, "check", f"runs/toy/{front.on_front[0].onnx}")
    assert code == 2
    assert f"{weights.name}: changed since it was exported, beside {best(front).name}, which was not" in err


def test_where_every_file_is_gone_there_is_no_front_and_nothing_to_compare(
    capsys: pytest.CaptureFixture[str], runs: Path
) -> None:
    for name in ("toy", "other"):
        shutil.rmtree(runs / name / "members")
    code, out, _ = run(capsys, "front", "toy")
    assert code == 0
    assert "toy: 0 networks on the measured front" in out
    assert "no picture: no network's file is as it was exported" in out
    assert not (runs / "toy" / "front.png").exists(), "one of before would show them"
    with pytest.raises(RecipeError, match="networks were left out: its file is missing") as refused:
        compare([examined(Front.load(runs / name)) for name in ("toy", "other")])
    assert "hwnas search" in refused.value.hint


def test_the_front_is_drawn_anew_from_the_files_that_are_left(runs: Path) -> None:
    front = Front.load(runs / "toy")
    for member in front.on_front:
        front.onnx_path(member).unlink()
    found = examined(front)
    assert [found.standing(member) for member in found.members if member.fault] == ["its file is missing"] * len(
        front.on_front
    )
    assert found.marked() == found
    assert [found.letter(m) for m in found.members] == [front.letter(m) for m in front.members]
