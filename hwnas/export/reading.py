"""ONNX files as users bring them: what they hold, what they say of themselves, and whether that is still true."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import onnx
from onnx.external_data_helper import ExternalDataInfo, load_external_data_for_model, uses_external_data

from hwnas.core import ExportError
from hwnas.core.escaping import command_line
from hwnas.device.refusals import first_line
from hwnas.export.graph_digest import FORM, content_digest, metadata_digest

PREFIX = "hwnas."
DIGEST = "digest"
"""The entry with the digests of the file; it is not part of what the digest of the metadata covers."""
NUMBERS = ("accuracy", "latency_predicted", "latency_measured", "parity", "table", "estimate")
"""Metadata that holds only for the graph and the weights that were exported."""

State = Literal["as exported", "changed", "edited", "unknown"]
"""Of a file since its export. "changed": graph or weights are others. "edited": hwnas's metadata are others."""

UNKNOWN = "made by an earlier version or its digest was removed"
"""What is known of a file without a digest."""


@dataclass(frozen=True)
class Described:
    """An ONNX file and what it says of itself.

    Attributes:
        path: Of the file.
        model: With its external data loaded.
        metadata: Every "hwnas.<name>" entry by name; empty if hwnas did not export the file.
        state: "unknown" if the file has no digest, as those of earlier versions, or one that this version cannot
            compute.
        sha256: Of its graph and weights now, see `content_digest`.
        metadata_sha256: Of its "hwnas.<name>" entries now, see `metadata_digest`.
        covered: Whether its digest covers its metadata too; those of earlier versions cover graph and weights alone.
        beside: Names of the files that hold weights of it.
        said: How it differs from what its run recorded, or that the run recorded nothing, in one line; empty where no
            run is known, or nothing differs.
    """

    path: Path
    model: onnx.ModelProto
    metadata: Mapping[str, Any]
    state: State
    sha256: str
    metadata_sha256: str
    covered: bool
    beside: tuple[str, ...] = ()
    said: str = ""

    @property
    def numbers(self) -> dict[str, Any]:
        """The metadata that holds for this file alone: accuracy, latency, parity; empty if it cannot be known to."""
        if self.state != "as exported":
            return {}
        return {name: value for name, value in self.metadata.items() if name in NUMBERS}

    @property
    def remark(self) -> str:
        """What a reader of its numbers should know, in one line; empty if the file is as it was exported."""
        if self.said or not self.metadata:
            return self.said
        when = self.metadata.get("exported_utc", "date unknown")
        if self.state == "changed":
            return (
                f"changed since it was exported ({when}): the accuracy and the latency in its metadata are those of "
                "another graph or other weights"
            )
        if self.state == "edited":
            return (
                f"its metadata was edited since it was exported ({when}): graph and weights are the same, but the "
                "accuracy and the latency in its metadata need not be those that were found"
            )
        if self.state == "unknown":
            return f"{UNKNOWN}: whether it was changed since its export, or its metadata edited, cannot be told"
        if not self.covered:
            return (
                "its digest, of an earlier version, covers graph and weights alone: whether its metadata was edited "
                "cannot be told"
            )
        return ""


def describe(path: Path) -> Described:
    """Read a file, its metadata, and whether graph, weights and metadata are those that were exported.

    The digests are in the file itself: they find what was changed by a tool or by mistake, not a forgery that takes
    them anew.

    Raises:
        ExportError: If the file is missing, damaged, no ONNX file, or lacks its external data.
    """
    model = load_onnx(path, external_data=False)
    beside = _load_external_data(path, model)
    metadata = _metadata(path, model)
    try:
        sha256 = content_digest(model)
    except ValueError as error:
        raise ExportError(f"{path}: damaged: {first_line(error)}", hint=_AGAIN) from error
    stored, own = stored_digest(model), own_metadata_digest(model)
    covered = stored.get("form") == FORM and "metadata_sha256" in stored
    state: State = "unknown"
    if stored.get("form") == FORM:
        state = "as exported" if stored.get("sha256") == sha256 else "changed"
    if state == "as exported" and covered and stored["metadata_sha256"] != own:
        state = "edited"
    return Described(path, model, metadata, state, sha256, own, covered, beside)


def stored_digest(model: onnx.ModelProto) -> dict[str, Any]:
    """The digests that a model says it was exported with; empty if it says none."""
    found: Any = None
    for entry in model.metadata_props:
        if entry.key == PREFIX + DIGEST:
            try:
                found = json.loads(entry.value)
            except ValueError:
                found = None
    return found if isinstance(found, dict) else {}


def own_metadata_digest(model: onnx.ModelProto) -> str:
    """The digest of a model's "hwnas.<name>" entries as they are now, without the one that holds it."""
    entries = ((entry.key, entry.value) for entry in model.metadata_props)
    return metadata_digest((key, value) for key, value in entries if key.startswith(PREFIX) and key != PREFIX + DIGEST)


def read_metadata(path: Path) -> dict[str, Any]:
    """What a file says of itself: every "hwnas.<name>" entry as JSON values by name.

    Raises:
        ExportError: If there is no such file, it is no ONNX file, or it was not written by hwnas.
    """
    found = _metadata(path, load_onnx(path, external_data=False))
    check_metadata(path, found)
    return found


def check_metadata(path: Path, metadata: Mapping[str, Any]) -> None:
    """That a file says anything of itself.

    Raises:
        ExportError: If it does not.
    """
    if not metadata:
        raise ExportError(
            f"{path}: holds no hwnas metadata; expected a file that hwnas exported",
            hint=f"time it as it is: {command_line('hwnas', 'bench', path)}; or write one with metadata: "
            "hwnas export RUN --to FILE",
        )


def load_onnx(path: Path, *, external_data: bool = True) -> onnx.ModelProto:
    """The model of an ONNX file.

    Args:
        path: Of the file.
        external_data: Load weights that lie in other files.

    Raises:
        ExportError: If the file is missing, empty, cut off or no ONNX file, or lacks its external data; says which.
    """
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "no such file"
        raise ExportError(f"{path}: {what}; expected an ONNX file", hint="give the path of a file that ends in .onnx")
    content = path.read_bytes()
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:  # protobuf's own class of errors; the package that holds it is not one of ours
        fault, hint = _fault(content)
        raise ExportError(f"{path}: {fault}", hint=hint) from error
    if not model.ir_version or not model.HasField("graph"):
        fault, hint = _fault(content)
        raise ExportError(f"{path}: {fault}", hint=hint)
    if external_data:
        _load_external_data(path, model)
    return model


_AGAIN = "copy it again, or export it again"
_SIGNATURES = (
    (0, b"version https://git-lfs", "a pointer of Git LFS, not the file itself", "fetch the file: git lfs pull"),
    (
        0,
        b"PK\x03\x04",
        "a zip archive, as torch.save and Keras write",
        "export the network itself: torch.onnx.export(network, (images,), 'model.onnx')",
    ),
    (0, b"\x89HDF", "an HDF5 file, as Keras writes", "convert it to ONNX, with tf2onnx for instance"),
    (4, b"TFL3", "a TensorFlow Lite file", "convert it to ONNX, with tf2onnx for instance"),
    (4, b"ORTM", "a file in onnxruntime's own format", "give the ONNX file that it was made from"),
    (8, b'{"', "a safetensors file: weights without a graph", "give the ONNX file beside it, or export the network"),
)


def _fault(content: bytes) -> tuple[str, str]:
    """Why bytes are no ONNX model, and the way out."""
    if not content:
        return "not an ONNX file: it is empty", _AGAIN
    for start, signature, what, hint in _SIGNATURES:
        if content[start:].startswith(signature):
            return f"not an ONNX file but {what}", hint
    expected = _expected_bytes(content)
    if expected is not None and expected > len(content):
        return f"cut off: it has {len(content):,} bytes; expected at least {expected:,}", _AGAIN
    return "not an ONNX file or damaged; expected a serialised ModelProto", _AGAIN


_FIELDS = {*range(1, 9), 14, 20, 25, 26}
"""Numbers of ModelProto's fields."""
_VARINT, _LENGTH = 0, 2
_FIXED = {1: 8, 5: 4}
"""Bytes of the kinds of one length."""


def _expected_bytes(content: bytes) -> int | None:
    """How long a ModelProto must be that begins so; None if no ModelProto begins so.

    Example:
        >>> _expected_bytes(bytes([0x08, 8, 0x3A, 100])), _expected_bytes(b"no model")
        (104, None)
    """
    at = 0
    while at < len(content):
        key, at = _varint(content, at)
        if key >> 3 not in _FIELDS:
            return None
        kind = key & 7
        if kind == _VARINT:
            _, at = _varint(content, at)
        elif kind == _LENGTH:
            length, at = _varint(content, at)
            at += length
        elif kind in _FIXED:
            at += _FIXED[kind]
        else:
            return None
    return at


def _varint(content: bytes, at: int) -> tuple[int, int]:
    """A number in protobuf's variable length, and where the next field begins."""
    value = shift = 0
    while at < len(content):
        byte = content[at]
        value |= (byte & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if byte < 0x80:
            return value, at
    return value, at + 1  # the number itself is cut off


def _load_external_data(path: Path, model: onnx.ModelProto) -> tuple[str, ...]:
    """Load weights from the files beside a model; their names.

    Raises:
        ExportError: If one is missing, too short, or cannot be read.
    """
    folder = path.parent
    needed: dict[str, int] = {}
    for tensor in _tensors(model.graph):
        if uses_external_data(tensor):
            info = ExternalDataInfo(tensor)
            end = (info.offset or 0) + (info.length or 0)
            needed[info.location] = max(needed.get(info.location, 0), end)
    if not needed:
        return ()
    one_file = f"onnx.save_model(onnx.load({str(path)!r}), 'one.onnx')"
    missing = [name for name in sorted(needed) if not (folder / name).is_file()]
    if missing:
        raise ExportError(
            f"{path}: its weights lie in {', '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not in "
            f"{folder}",
            hint=f"copy {'it' if len(missing) == 1 else 'them'} there too; or write one file where all are: {one_file}",
        )
    for name, length in sorted(needed.items()):
        there = (folder / name).stat().st_size
        if there < length:
            raise ExportError(
                f"{path}: its weights in {folder / name} are cut off: {there:,} bytes; expected at least {length:,}",
                hint=_AGAIN,
            )
    try:
        load_external_data_for_model(model, str(folder))
    except Exception as error:  # the library raises errors of many kinds, its own check of paths among them
        raise ExportError(f"{path}: its weights cannot be read: {first_line(error)}", hint=_AGAIN) from error
    return tuple(sorted(needed))


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Every tensor of a graph and its subgraphs."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for inner in [attribute.g] if attribute.HasField("g") else attribute.graphs:
                yield from _tensors(inner)


def _metadata(path: Path, model: onnx.ModelProto) -> dict[str, Any]:
    """The entries that hwnas wrote.

    Raises:
        ExportError: If one is no JSON value.
    """
    found = {}
    for entry in model.metadata_props:
        if entry.key.startswith(PREFIX):
            try:
                found[entry.key.removeprefix(PREFIX)] = json.loads(entry.value)
            except ValueError as error:
                raise ExportError(
                    f"{path}: its metadata {entry.key} is {entry.value[:40]!r}; expected a JSON value",
                    hint="export it again: hwnas export RUN --to FILE",
                ) from error
    return found
