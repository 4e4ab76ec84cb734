"""Tiny ONNX files and tables to test with."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import onnx
import onnx.helper as make
from onnx import TensorProto

from hwnas.core import Architecture
from hwnas.cost import (
    Calibration,
    DeviceRecord,
    ExportRecord,
    LatencyTable,
    NoiseRecord,
    ProtocolRecord,
    ReferenceRecord,
    RuntimeRecord,
    TableHeader,
    Timing,
    entries_of,
)
from hwnas.device import fingerprint
from hwnas.profiling.matching import classes_of, resolutions_of, version_of
from hwnas.profiling.runtimes import runtime_version
from hwnas.space import Space


def write_model(path: Path, *operators: str, shape: tuple[Any, ...] = ("batch", 64, 64), dtype: int = 1) -> Path:
    """A chain of elementwise operators."""
    names = ["image", *(f"x{n}" for n in range(len(operators) - 1)), "logits"]
    nodes = [
        make.make_node(operator, [source], [target])
        for operator, source, target in zip(operators, names, names[1:], strict=False)
    ]
    ends = [make.make_tensor_value_info(name, dtype, list(shape)) for name in ("image", "logits")]
    graph = make.make_graph(nodes, "chain", [ends[0]], [ends[1]])
    model = make.make_model(graph, opset_imports=[make.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def write_broken_model(path: Path) -> Path:
    """An operator that no runtime has."""
    return write_model(path, "Warp")


def write_infinite_model(path: Path) -> Path:
    """A model whose output is not finite: the logarithm of a negative number."""
    return write_model(path, "Log")


FLOAT, DOUBLE = TensorProto.FLOAT, TensorProto.DOUBLE
assert onnx.__version__


def timing(p25_us: float) -> Timing:
    return Timing(p25_us, p25_us * 0.9, p25_us * 1.05, p25_us * 1.5, 0.1, 240, 20)


def table_for(space: Space, architecture: Architecture, **changes: Any) -> LatencyTable:
    """A table as it would have been made here and now, of times that nobody measured."""
    header: dict[str, Any] = {
        "unit": "us",
        "space": space.name,
        "space_digest": space.digest,
        "entries_digest": space.entries_digest,
        "created_utc": datetime.now(UTC),
        "tool_version": "0",
        "device": DeviceRecord(name="this-cpu", **fingerprint().__dict__),
        "runtime": RuntimeRecord(onnxruntime=runtime_version(), denormals_as_zero=True),
        "export": ExportRecord(torch=version_of("torch"), onnx=version_of("onnx")),
        "resolutions": resolutions_of(space),
        "classes": classes_of(space),
        "protocol": ProtocolRecord(rounds=20, runs=12),
        "reference": (ReferenceRecord(architecture=dict(architecture), p25_us=20.0),),
        "noise": NoiseRecord(median=0.003, p95=0.01, tau=0.99, passed=True),
        "calibration": Calibration(terms=("sum",), coefficients=(1.0,), n=20, loo_mape=0.01, band=0.03, box={}),
    }
    rows = changes.pop("rows", None) or {key: timing(10.0) for key in entries_of(space)}
    return LatencyTable(TableHeader(**header | changes), rows, source="a.jsonl")
