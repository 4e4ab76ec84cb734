"""Time an ONNX file on a device under the protocol of the latency tables."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnx
from torch import nn

from hwnas.core import Architecture, DeviceError, ExportError, MeasureError, Metric, SpaceError, TableError, counted
from hwnas.cost import LatencyTable, Timing, UnitSumCost, doubtful_rows, in_lines
from hwnas.cost.refit import with_refit
from hwnas.device import Device, QuotaReader, cgroup_quota, scratch
from hwnas.device.refusals import first_line, refusal
from hwnas.export import Described, State
from hwnas.job.member_file import describe_file
from hwnas.nn import build_network
from hwnas.profiling import Energy, Measurement, ProgressCall, measure_models, remeasure
from hwnas.profiling.circumstances import against, circumstances_of, told_of
from hwnas.profiling.matching import FACTOR_REFUSED, conditions_of
from hwnas.profiling.runtimes import suffix_of
from hwnas.profiling.session import ROUNDS, reach_of
from hwnas.space import Space
from hwnas.zoo import family

_MODEL = "model"


FAR = FACTOR_REFUSED
"""Two times under the same conditions, one over the other: beyond this they are far apart."""


@dataclass(frozen=True)
class OnFile:
    """A latency in a file's metadata.

    Attributes:
        latency: The number, measured or predicted.
        raw_ms: As measured, before it was brought to its table's session; None for a prediction.
        conditions: That it holds for, see `hwnas.profiling.circumstances`; empty where the file does not say.
        not_comparable: Why it does not compare with a time of now, one phrase each; empty if it does.
    """

    latency: Metric
    raw_ms: float | None
    conditions: Mapping[str, Any]
    not_comparable: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """A plain map of everything."""
        return {
            **self.latency.to_json(),
            "raw_ms": self.raw_ms,
            "conditions": dict(self.conditions),
            "not_comparable": list(self.not_comparable),
        }


@dataclass(frozen=True)
class Timed:
    """An ONNX file that was timed.

    Attributes:
        path: Of the file.
        state: Whether it is as it was exported, see `Described`; by the front's record if it lies in a run's folder.
        latency_ms: Lower quartile; with a table brought to the session in which the table was made, if that still
            describes the machine.
        raw_ms: As measured now.
        timing: As measured now, the whole distribution.
        energy: Of one run by the GPU's counter; None if it was not asked for or cannot be read.
        session_factor: How much longer the table's reference networks took than then; None without a table.
        predicted: By the table for the architecture that the file names; None if there is no table or no such name.
        promised: What the file says was predicted when it was exported; None if it says nothing, or is not known to be
            as it was exported.
        measured_then: What the file says was measured when it was exported; None likewise.
        conditions: Device, runtime, input, rounds, load: what the number depends on.
        warnings: What a reader of the number should know.
    """

    path: Path
    state: State
    latency_ms: float
    raw_ms: float
    timing: Timing
    energy: Energy | None
    session_factor: float | None
    predicted: Metric | None
    promised: OnFile | None
    measured_then: OnFile | None
    conditions: Mapping[str, Any]
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """A plain map of everything."""
        return {
            "file": str(self.path),
            "state": self.state,
            "measured": {"latency_ms": self.latency_ms, "raw_ms": self.raw_ms, **asdict(self.timing)},
            "energy": asdict(self.energy) if self.energy else None,
            "session_factor": self.session_factor,
            "predicted": self.predicted.to_json() if self.predicted else None,
            "promised": self.promised.to_json() if self.promised else None,
            "measured_then": self.measured_then.to_json() if self.measured_then else None,
            "error": self.predicted.value / self.latency_ms - 1 if self.predicted else None,
            "conditions": dict(self.conditions),
            "warnings": list(self.warnings),
        }


def bench(
    path: Path,
    *,
    device: Device,
    table: Path | None = None,
    rounds: int = ROUNDS,
    energy: bool = False,
    quota: QuotaReader = cgroup_quota,
    progress: ProgressCall | None = None,
) -> Timed:
    """Time a file with one image input; with a table interleaved with the table's reference networks.

    Args:
        path: An ONNX file.
        device: Threads, batch, cores.
        table: A latency table of this device.
        rounds: Visits of the file.
        energy: Read a GPU's counter too, which takes half a minute. A processor's is always read where there is one.
        quota: Says how many cores' worth of time this process may spend.
        progress: Called as the work goes on.

    Raises:
        ExportError: If the file is missing, no ONNX file, or has other inputs than one float image batch of known size.
        TableError: If the table is damaged, of other conditions, or of a space that cannot be built again.
        MeasureError: If the file cannot be run, or the measuring program failed.
        DeviceError: If the device has more threads than this process has cores, or no GPU whose energy is asked for.
    """
    if energy and not device.uses_gpu:
        raise DeviceError(
            f"device {device.name}: its runtime is {device.runtime}, and no GPU's energy can be read",
            hint="leave --energy out: a processor's is read anyway, where there is a counter",
        )
    if suffix_of(device.runtime) != ".onnx":
        raise DeviceError(
            f"device {device.name}: its runtime is {device.runtime}, which does not run ONNX files",
            hint='name a device with another runtime, as "onnxruntime-cpu": --device NAME',
        )
    file = describe_file(path)
    model, shape = _checked(file, batch=device.batch)
    facts = file.metadata
    found = with_refit(table, LatencyTable.load(table)) if table is not None else None
    predicted: Metric | None = None
    warnings: list[str] = []
    factor: float | None = None
    scaled = False
    with scratch("bench") as folder:
        copy = folder / "model.onnx"
        _save(model, copy, path)
        if found is None:
            measurement = measure_models(
                {_MODEL: copy},
                device=device,
                rounds=rounds,
                on_noise="mark",
                energy=(_MODEL,) if energy else (),
                quota=quota,
                progress=progress,
            )
            key = _MODEL
        else:
            found.check_conditions(conditions_of(device, reach_of(device, quota=quota).identity()))
            space = space_of(found)
            predicted, reason = _prediction(found, space, facts) if file.state == "as exported" else (None, "")
            warnings += [reason] if reason else []
            if predicted is not None:
                warnings += [f"{found.source}: {line}" for line in in_lines(doubtful_rows(space, found))]
            again = remeasure(
                {_MODEL: copy},
                table=found,
                device=device,
                space=space,
                build_network=_builder(space),
                rounds=rounds,
                energy=(_MODEL,) if energy else (),
                quota=quota,
                progress=progress,
            )
            measurement, factor, key = again.measurement, again.factor, f"network {_MODEL}"
            scaled = again.scaled
            warnings += [line for line in again.warnings if not line.startswith(f"{_MODEL} could not")]
    if key in measurement.failures:
        what, hint = refusal(measurement.failures[key], runtime=str(circumstances_of(measurement, device)["runtime"]))
        raise MeasureError(f"{path}: cannot be run: {what}", hint=hint)
    if found is None:
        warnings += told_of(measurement)
        if measurement.verdict == "noisy":
            warnings.append(f"the machine was noisy: {measurement.noise}")
    timing = measurement.timings[key]
    raw_ms = timing.p25_us / 1000
    conditions = _conditions(device, measurement, shape, table=str(table) if table else None)
    promised, measured_then = _promised(file, conditions), _measured_then(file, conditions)
    warnings += [file.remark] if file.remark else []
    latency_ms = raw_ms / factor if factor and scaled else raw_ms
    if predicted is not None:
        warnings += _far(latency_ms, predicted.value, "predicted by the table", band=predicted)
    elif promised is not None and not promised.not_comparable:
        warnings += _far(raw_ms, promised.latency.value, "predicted when it was exported", band=promised.latency)
    if measured_then is not None and not measured_then.not_comparable:
        then_ms = measured_then.raw_ms or measured_then.latency.value
        warnings += _far(raw_ms, then_ms, "measured when it was exported")
    return Timed(
        path=path,
        state=file.state,
        latency_ms=latency_ms,
        raw_ms=raw_ms,
        timing=timing,
        energy=measurement.energy.get(key),
        session_factor=factor,
        predicted=predicted,
        promised=promised,
        measured_then=measured_then,
        conditions=conditions,
        warnings=tuple(warnings),
    )


def _promised(file: Described, now: Mapping[str, Any]) -> OnFile | None:
    """What the file says was predicted for it."""
    found = file.numbers.get("latency_predicted")
    if found is None:
        return None
    # Files of earlier versions name the table's conditions with the measurement instead.
    stored = file.numbers.get("table", {}).get("conditions") or _stored_conditions(file)
    conditions = {name: stored[name] for name in _OF_A_TABLE if name in stored}
    return OnFile(Metric(**found), None, conditions, _not_comparable(now, conditions))


_OF_A_TABLE = ("device", "cpu", "gpu", "runtime", "threads", "batch")


def _measured_then(file: Described, now: Mapping[str, Any]) -> OnFile | None:
    """What the file says was measured with it."""
    found = file.numbers.get("latency_measured")
    if found is None:
        return None
    conditions = _stored_conditions(file)
    latency = Metric(**{name: value for name, value in found.items() if name != "conditions"})
    return OnFile(latency, conditions.get("raw_ms"), conditions, _not_comparable(now, conditions))


def _stored_conditions(file: Described) -> Mapping[str, Any]:
    found: Mapping[str, Any] = file.numbers.get("latency_measured", {}).get("conditions", {})
    return found


def _not_comparable(now: Mapping[str, Any], stored: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(against(now, stored)) if stored else ("the file does not say its conditions",)


def _far(now_ms: float, then_ms: float, what: str, *, band: Metric | None = None) -> list[str]:
    """A line if a time of now is far from one that was expected under the same conditions.

    Example:
        >>> _far(0.5, 0.1, "measured when it was exported")
        ['far apart: 5.00 times the 0.1000 ms measured when it was exported, under the same conditions']
        >>> _far(0.11, 0.1, "measured when it was exported")
        []
    """
    ratio, (low, high) = now_ms / then_ms, FAR
    within = band is not None and band.low is not None and band.high is not None and band.low <= now_ms <= band.high
    if low <= ratio <= high or within:
        return []
    return [f"far apart: {ratio:.2f} times the {then_ms:.4f} ms {what}, under the same conditions"]


def space_of(table: LatencyTable) -> Space:
    """The space of a table, built again from what its header says.

    Raises:
        TableError: If the header does not say it, or what it says gives another space.
    """
    record = table.header.family
    hint = "measure the device again: hwnas profile RECIPE; or leave --table out: the file is then timed alone"
    if record is None:
        raise TableError(
            f"{table.source}: its header does not say what space {table.header.space} is built from, so the reference "
            "networks cannot be built again",
            hint=hint,
        )
    if ":" in record.name:  # a table is data: what it names is not run
        raise TableError(
            f"{table.source}: its space is {record.name}, a model of somebody's own, which a table may not run",
            hint="leave --table out: the file is then timed alone",
        )
    try:
        space = family(record.name, record.fields, channels=record.channels, classes=record.classes).space
        table.check_space(space)
    except (SpaceError, TableError) as error:
        raise TableError(f"{table.source}: its space cannot be built again: {error.message}", hint=hint) from error
    return space


def _builder(space: Space) -> Callable[[Architecture], nn.Module]:
    return lambda architecture: build_network(space, architecture)


def _save(model: onnx.ModelProto, copy: Path, path: Path) -> None:
    """Write a model with its weights as one file, which every way to a device can carry.

    Raises:
        ExportError: If it is larger than an ONNX file may be.
    """
    try:
        onnx.save(model, str(copy))
    except ValueError as error:  # protobuf's limit of 2 GiB
        raise ExportError(
            f"{path}: cannot be timed as one file: {first_line(error)}", hint="time a part of it, or a smaller network"
        ) from error


def _checked(file: Described, *, batch: int) -> tuple[onnx.ModelProto, tuple[int, ...]]:
    """The model with its batch axis named as the measuring program names it, and the shape of one image.

    Raises:
        ExportError: If it is not a file with one image input.
    """
    path, model = file.path, file.model
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    if len(inputs) != 1:
        names = ", ".join(value.name for value in inputs) or "none"
        raise ExportError(
            f"{path}: has {counted(len(inputs), 'input')} ({names}); expected one, the images",
            hint="export it with the images as its only input, the others as constants",
        )
    [image] = inputs
    kind = image.type.tensor_type
    if kind.elem_type != onnx.TensorProto.FLOAT:
        found = onnx.TensorProto.DataType.Name(kind.elem_type)
        raise ExportError(
            f"{path}: input {image.name} holds {found}; expected FLOAT",
            hint="export it with float32 images; a cast or a scale at its start may be part of the graph",
        )
    axes = list(kind.shape.dim)
    if len(axes) != 4:
        there = counted(len(axes), "axis", "axes") if kind.HasField("shape") else "axes that it does not say"
        raise ExportError(
            f"{path}: input {image.name} has {there}; expected 4: batch, channels, height, width",
            hint="export it with images [batch, channels, height, width]; a reshape may be part of the graph",
        )
    named = zip(_AXES[1:], axes[1:], strict=True)
    sizes = {place: str(axis.dim_value) if _fixed(axis) else place.upper() for place, axis in named}
    if any(size.isupper() for size in sizes.values()):
        open_ones = zip(_AXES[1:], axes[1:], strict=True)
        said = ", ".join(f"{place} ({axis.dim_param or '?'})" for place, axis in open_ones if not _fixed(axis))
        raise ExportError(
            f"{path}: input {image.name} leaves {said} open; expected fixed sizes, only the batch may vary",
            hint="its time depends on them; fix those it will be used with: python -m "
            f"onnxruntime.tools.make_dynamic_shape_fixed --input_name {shlex.quote(image.name)} --input_shape "
            f"{batch},{','.join(sizes.values())} {shlex.quote(str(path))} fixed.onnx",
        )
    if _fixed(axes[0]) and axes[0].dim_value != batch:
        raise ExportError(
            f"{path}: input {image.name} has batch {axes[0].dim_value}; the device file says {batch}",
            hint=f"name a device with batch = {axes[0].dim_value} in its file: --device NAME; or export it with an "
            "open batch axis",
        )
    if not _fixed(axes[0]):
        axes[0].dim_param = "batch"
    return model, tuple(axis.dim_value for axis in axes[1:])


_AXES = ("batch", "channels", "height", "width")


def _fixed(axis: Any) -> bool:
    return bool(axis.HasField("dim_value") and axis.dim_value > 0)


def _prediction(table: LatencyTable, space: Space, facts: Mapping[str, Any]) -> tuple[Metric | None, str]:
    """What the table predicts for the file, or why it says nothing; both empty if the file names no architecture."""
    if "architecture" not in facts:
        return None, ""
    if facts.get("space") != space.name:
        return None, f"nothing is predicted: the file is of space {facts.get('space')}, the table of {space.name}"
    return UnitSumCost.from_table(space, table)(Architecture(facts["architecture"])), ""


def _conditions(
    device: Device, measurement: Measurement, shape: tuple[int, ...], *, table: str | None
) -> dict[str, Any]:
    kept = ("onnxruntime", "provider", "optimization_level", "intra_op_threads", "rounds", "load_before", "load_after")
    return {
        **circumstances_of(measurement, device),
        "table": table,
        "input": [device.batch, *shape],
        "noise": None if measurement.noise is None else asdict(measurement.noise),
        "empty_run_us": measurement.empty_run_us,
        **{name: measurement.conditions[name] for name in kept},
    }
