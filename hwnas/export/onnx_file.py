"""One network to one ONNX file that explains itself."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from torch import nn

from hwnas.core import ExportError, write_atomically
from hwnas.device import scratch
from hwnas.export.graph_digest import FORM, content_digest
from hwnas.export.parity import Parity, check_parity
from hwnas.export.reading import DIGEST, PREFIX, Described, load_onnx, own_metadata_digest, stored_digest
from hwnas.nn import write_onnx


@dataclass(frozen=True)
class Exported:
    """What became of an export.

    Attributes:
        path: The one file.
        parity: Against the torch network.
        size_bytes: Of the file.
        sha256: Of its graph and weights, see `content_digest`.
    """

    path: Path
    parity: Parity
    size_bytes: int
    sha256: str


def export_onnx(
    network: nn.Module,
    path: Path,
    *,
    input_shape: tuple[int, ...],
    metadata: Mapping[str, Any],
    images: NDArray[np.float32] | None = None,
) -> Exported:
    """Write one ONNX file: weights inside, dynamic batch, checked against torch at batch 1, 2, 5 and 16.

    Args:
        network: Exported in evaluation mode; its mode is left as it was.
        path: Replaced in one step, only after the check passed.
        input_shape: (channels, height, width) of one preprocessed image.
        metadata: JSON values by name; stored in the file under "hwnas.<name>". Added are the parity found, the time of
            the export, and digests of graph and weights and of these entries, see `content_digest` and
            `metadata_digest`.
        images: Preprocessed images [n, c, h, w] to check with; without them noise, see `check_parity`.

    Raises:
        ExportError: If the export or the check fails; `path` is then as it was.

    Example:
        >>> import tempfile
        >>> network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Hardswish(), nn.Flatten())
        >>> path = Path(tempfile.mkdtemp()) / "small.onnx"
        >>> exported = export_onnx(network, path, input_shape=(1, 8, 8), metadata={"classes": ["a", "b"]})
        >>> from hwnas.export import describe
        >>> found = describe(path)
        >>> exported.parity.largest_difference < 1e-4, found.state, found.metadata["classes"]
        (True, 'as exported', ['a', 'b'])
    """
    with scratch("export") as folder:
        raw = folder / "model.onnx"
        write_onnx(network, raw, input_shape=input_shape)
        model = onnx.load(str(raw))
    norms = _unfolded(model.graph)
    if norms:
        raise ExportError(f"{path.name}: {norms} batch norms were not folded into convolutions; expected none")
    onnx.checker.check_model(model)
    parity = check_parity(network, model.SerializeToString(), input_shape=input_shape, images=images)
    sha256 = content_digest(model)
    _set(
        model,
        {
            **metadata,
            "parity": parity.to_json(),
            "exported_utc": datetime.now(UTC).isoformat(timespec="seconds"),
            DIGEST: {"form": FORM, "sha256": sha256},
        },
    )
    _seal(model)
    content = model.SerializeToString()
    write_atomically(path, content)
    return Exported(path, parity, len(content), sha256)


def _unfolded(graph: onnx.GraphProto) -> int:
    """Norms that a convolution before them, which nothing else reads, should have taken in.

    A norm of a sum, of a concatenation or before an activation and its convolution has to stay.
    """
    convolved = {name for node in graph.node if node.op_type == "Conv" for name in node.output}
    read = Counter(name for node in graph.node for name in node.input)
    return sum(
        node.op_type == "BatchNormalization" and node.input[0] in convolved and read[node.input[0]] == 1
        for node in graph.node
    )


def add_metadata(path: Path, metadata: Mapping[str, Any]) -> None:
    """Add or replace metadata of an exported file, in one step.

    The digest of graph and weights stays that of what was exported. That of the metadata is taken anew where it was
    right before: what somebody else has edited stays known as edited.

    Raises:
        ExportError: If there is no such file or it is no ONNX file.
    """
    model = load_onnx(path)
    before = stored_digest(model).get("metadata_sha256")
    unedited = before is not None and before == own_metadata_digest(model)
    _set(model, metadata)
    if unedited and DIGEST not in metadata:
        _seal(model)
    write_atomically(path, model.SerializeToString())


def sealed(found: Described) -> bytes:
    """A file as the content of one file with all weights, and with all digests if it is known to be as exported.

    Args:
        found: Its state is "as exported", or "unknown" for a run of an earlier version. Where its digests are right and
            its weights inside, its bytes stay as they are. Files of earlier versions get the digests that they lack
            where a run's record vouches for them, and no digest where nothing does.
    """
    known = found.state == "as exported"
    digests = {"form": FORM, "sha256": found.sha256, "metadata_sha256": found.metadata_sha256}
    if not found.beside and (not known or found.metadata.get(DIGEST) == digests):
        return found.path.read_bytes()
    model = onnx.ModelProto()
    model.CopyFrom(found.model)
    if known:
        _set(model, {DIGEST: digests})
    content: bytes = model.SerializeToString()
    return content


def _seal(model: onnx.ModelProto) -> None:
    """Put the digest of the metadata beside that of graph and weights."""
    _set(model, {DIGEST: {**stored_digest(model), "metadata_sha256": own_metadata_digest(model)}})


def _set(model: onnx.ModelProto, metadata: Mapping[str, Any]) -> None:
    entries = {entry.key: entry.value for entry in model.metadata_props}
    for name, value in metadata.items():
        entries[PREFIX + name] = json.dumps(value, allow_nan=False)
    onnx.helper.set_model_props(model, {key: entries[key] for key in sorted(entries)})
