"""ONNX files as users bring them: whole, changed, cut off, something else, without their weights."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from torch import nn

from hwnas.core import ExportError
from hwnas.export import add_metadata, describe, export_onnx, load_onnx, read_metadata


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    path = tmp_path / "net.onnx"
    network = nn.Sequential(nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 36, 3))
    export_onnx(network, path, input_shape=(1, 8, 8), metadata={"version": "9.9", "accuracy": {"accuracy": 0.5}})
    return path


def change_one_weight(path: Path) -> None:
    model = onnx.load(str(path))
    tensor = model.graph.initializer[0]
    values = numpy_helper.to_array(tensor).copy()
    values.flat[0] += np.float32(1)
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    onnx.save(model, str(path))


def test_a_file_knows_that_it_is_as_it_was_exported(exported: Path) -> None:
    found = describe(exported)
    assert (found.state, found.remark) == ("as exported", "")
    assert found.numbers.keys() == {"accuracy", "parity"}
    digest = {"form": 1, "sha256": found.sha256, "metadata_sha256": found.metadata_sha256}
    assert found.metadata["digest"] == digest and found.covered
    assert found.metadata["exported_utc"].endswith("+00:00")


def test_metadata_added_later_and_another_way_to_store_it_change_nothing(exported: Path, tmp_path: Path) -> None:
    add_metadata(exported, {"latency_measured": {"value": 0.1}})
    assert describe(exported).state == "as exported" and describe(exported).remark == ""
    other = tmp_path / "other" / "net.onnx"
    other.parent.mkdir()
    onnx.save_model(
        onnx.load(str(exported)), str(other), save_as_external_data=True, location="net.bin", size_threshold=0
    )
    assert describe(other).state == "as exported" and describe(other).beside == ("net.bin",)


def test_changed_weights_are_told_and_the_numbers_are_no_longer_its_own(exported: Path) -> None:
    when = read_metadata(exported)["exported_utc"]
    change_one_weight(exported)
    add_metadata(exported, {"accuracy": {"accuracy": 0.9}})  # does not vouch for the change
    found = describe(exported)
    assert (found.state, found.numbers) == ("changed", {})
    assert found.remark.startswith(f"changed since it was exported ({when}): the accuracy and the latency")


def test_a_file_without_a_digest_cannot_tell(exported: Path) -> None:
    model = onnx.load(str(exported))
    entries = {entry.key: entry.value for entry in model.metadata_props if entry.key != "hwnas.digest"}
    helper.set_model_props(model, entries)
    onnx.save(model, str(exported))
    found = describe(exported)
    assert found.state == "unknown"
    assert found.remark == (
        "made by an earlier version or its digest was removed: whether it was changed since its export, or its "
        "metadata edited, cannot be told"
    )
    assert found.numbers == {}
    helper.set_model_props(model, entries | {"hwnas.digest": json.dumps({"form": 99, "sha256": "x"})})
    onnx.save(model, str(exported))
    assert describe(exported).state == "unknown"


def edit_metadata(path: Path, entries: dict[str, str | None]) -> None:
    """Put entries into a file as another tool would; None removes one."""
    model = onnx.load(str(path))
    found = {entry.key: entry.value for entry in model.metadata_props} | entries
    helper.set_model_props(model, {key: value for key, value in found.items() if value is not None})
    onnx.save(model, str(path))


@pytest.mark.parametrize(
    "entries",
    [
        {"hwnas.accuracy": '{"accuracy": 0.99}'},
        {"hwnas.accuracy": '{"accuracy":0.5}'},
        {"hwnas.parity": None},
        {"hwnas.latency_measured": '{"value": 0.01}'},
    ],
)
def test_edited_metadata_of_the_same_graph_is_told(exported: Path, entries: dict[str, str | None]) -> None:
    edit_metadata(exported, entries)
    found = describe(exported)
    assert (found.state, found.numbers) == ("edited", {})
    assert found.remark.startswith("its metadata was edited since it was exported (20")
    add_metadata(exported, {"latency_predicted": {"value": 0.2}})
    assert describe(exported).state == "edited", "what hwnas adds later does not vouch for what others have edited"


def test_entries_of_other_tools_do_not_matter(exported: Path) -> None:
    edit_metadata(exported, {"author": "somebody", "onnx.infer": "yes"})
    assert describe(exported).state == "as exported"


def test_a_digest_of_an_earlier_version_is_read_and_said_to_cover_less(exported: Path) -> None:
    sha256 = describe(exported).sha256
    edit_metadata(exported, {"hwnas.digest": json.dumps({"form": 1, "sha256": sha256})})
    edit_metadata(exported, {"hwnas.accuracy": '{"accuracy": 0.99}'})
    found = describe(exported)
    assert (found.state, found.covered) == ("as exported", False)
    assert found.remark == (
        "its digest, of an earlier version, covers graph and weights alone: whether its metadata was edited cannot be "
        "told"
    )
    add_metadata(exported, {"latency_measured": {"value": 0.1}})
    assert not describe(exported).covered, "what was edited before cannot be known"
    change_one_weight(exported)
    assert describe(exported).state == "changed"


def test_a_file_of_nobodys_has_no_remark(tmp_path: Path, exported: Path) -> None:
    model = onnx.load(str(exported))
    helper.set_model_props(model, {"author": "somebody"})
    path = tmp_path / "foreign.onnx"
    onnx.save(model, str(path))
    found = describe(path)
    assert (found.metadata, found.state, found.remark) == ({}, "unknown", "")
    with pytest.raises(ExportError, match="foreign.onnx: holds no hwnas metadata") as refused:
        read_metadata(path)
    assert f"hwnas bench {path}" in refused.value.hint


def test_metadata_that_is_no_json_is_named(exported: Path) -> None:
    model = onnx.load(str(exported))
    helper.set_model_props(model, {"hwnas.classes": "[1,"})
    onnx.save(model, str(exported))
    with pytest.raises(ExportError, match=r"net.onnx: its metadata hwnas.classes is '\[1,'; expected a JSON value"):
        describe(exported)


def test_a_file_cut_off_says_so_wherever_it_ends(exported: Path) -> None:
    content = exported.read_bytes()
    for share in (0.1, 0.5, 0.9):
        exported.write_bytes(content[: int(share * len(content))])
        with pytest.raises(ExportError, match=r"net.onnx: cut off: it has [\d,]+ bytes; expected at least") as refused:
            load_onnx(exported)
        assert "copy it again" in refused.value.hint


@pytest.mark.parametrize(
    ("content", "said", "way_out"),
    [
        (b"", "not an ONNX file: it is empty", "export it again"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS", "git lfs pull"),
        (b"\x1c\x00\x00\x00TFL3" + b"\x00" * 40, "a TensorFlow Lite file", "convert it to ONNX"),
        (b'\x40\x00\x00\x00\x00\x00\x00\x00{"a": 1}', "a safetensors file", "export the network"),
        (b"<html>", "not an ONNX file or damaged", "export it again"),
        (b"\x08\x08", "not an ONNX file or damaged", "export it again"),
    ],
)
def test_what_is_no_onnx_file_is_called_by_its_name(tmp_path: Path, content: bytes, said: str, way_out: str) -> None:
    path = tmp_path / "x.onnx"
    path.write_bytes(content)
    with pytest.raises(ExportError, match=f"x.onnx: .*{said}") as refused:
        load_onnx(path)
    assert way_out in refused.value.hint


def test_a_torch_checkpoint_and_a_folder_are_named(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.onnx", "w") as archive:
        archive.writestr("data.pkl", b"1")
    with pytest.raises(ExportError, match=r"a zip archive, as torch.save") as refused:
        load_onnx(tmp_path / "x.onnx")
    assert "torch.onnx.export" in refused.value.hint
    with pytest.raises(ExportError, match="is a folder; expected an ONNX file"):
        load_onnx(tmp_path)


def test_weights_that_are_elsewhere_are_named(exported: Path, tmp_path: Path) -> None:
    path = tmp_path / "big" / "big.onnx"
    path.parent.mkdir()
    onnx.save_model(
        onnx.load(str(exported)), str(path), save_as_external_data=True, location="big.bin", size_threshold=0
    )
    data = path.with_name("big.bin")
    data.write_bytes(data.read_bytes()[:-8])
    with pytest.raises(ExportError, match=r"its weights in .*big.bin are cut off: [\d,]+ bytes; expected at least"):
        load_onnx(path)
    data.unlink()
    with pytest.raises(ExportError, match=r"big.onnx: its weights lie in big.bin, which is not in .*big") as refused:
        load_onnx(path)
    assert "copy it there too" in refused.value.hint
    assert load_onnx(path, external_data=False).graph.initializer
