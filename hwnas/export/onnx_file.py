"""One network to one ONNX file that explains itself."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from torch import nn

from hwnas.core import ExportError, write_atomically
from hwnas.export.parity import Parity, check_parity
from hwnas.nn import write_onnx

PREFIX = "hwnas."


@dataclass(frozen=True)
class Exported:
    """What became of an export.

    Attributes:
        path: The one file.
        parity: Against the torch network.
        size_bytes: Of the file.
    """

    path: Path
    parity: Parity
    size_bytes: int


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
        metadata: JSON values by name; stored in the file under "hwnas.<name>". The parity found is added.
        images: Preprocessed images [n, c, h, w] to check with; without them noise, see `check_parity`.

    Raises:
        ExportError: If the export or the check fails; `path` is then as it was.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Hardswish(), nn.Flatten())
        >>> path = Path(tempfile.mkdtemp()) / "small.onnx"
        >>> exported = export_onnx(network, path, input_shape=(1, 8, 8), metadata={"classes": ["a", "b"]})
        >>> exported.parity.largest_difference < 1e-4, read_metadata(path)["classes"]
        (True, ['a', 'b'])
    """
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "model.onnx"
        write_onnx(network, raw, input_shape=input_shape)
        model = onnx.load(str(raw))
    norms = _unfolded(model.graph)
    if norms:
        raise ExportError(f"{path.name}: {norms} batch norms were not folded into convolutions; expected none")
    onnx.checker.check_model(model)
    parity = check_parity(network, model.SerializeToString(), input_shape=input_shape, images=images)
    _set(model, {**metadata, "parity": parity.to_json()})
    content = model.SerializeToString()
    write_atomically(path, content)
    return Exported(path, parity, len(content))


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

    Raises:
        ExportError: If there is no such file or it is no ONNX file.
    """
    model = _load(path)
    _set(model, metadata)
    write_atomically(path, model.SerializeToString())


def read_metadata(path: Path) -> dict[str, Any]:
    """What a file says of itself: every "hwnas.<name>" entry as JSON values by name.

    Raises:
        ExportError: If there is no such file, or it was not written by hwnas.
    """
    found = {}
    for entry in _load(path).metadata_props:
        if entry.key.startswith(PREFIX):
            found[entry.key.removeprefix(PREFIX)] = json.loads(entry.value)
    if not found:
        raise ExportError(
            f"{path}: holds no hwnas metadata; expected a file that hwnas exported",
            hint="hwnas export RUN --to FILE writes one",
        )
    return found


def _set(model: onnx.ModelProto, metadata: Mapping[str, Any]) -> None:
    entries = {entry.key: entry.value for entry in model.metadata_props}
    for name, value in metadata.items():
        entries[PREFIX + name] = json.dumps(value, allow_nan=False)
    onnx.helper.set_model_props(model, {key: entries[key] for key in sorted(entries)})


def _load(path: Path) -> onnx.ModelProto:
    if not path.is_file():
        raise ExportError(f"{path}: no such file; expected an ONNX file")
    try:
        return onnx.load(str(path))
    except Exception as error:
        raise ExportError(f"{path}: not an ONNX file or damaged: {str(error).splitlines()[0]}") from error
