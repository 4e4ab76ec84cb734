"""Whether a latency table holds for the machine behind a device, its file, and a space."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from importlib import metadata
from typing import Any

from hwnas.core import TableError
from hwnas.cost import LatencyTable
from hwnas.device import Device, QuotaReader, cgroup_quota
from hwnas.profiling.program import Identity, runtime_version
from hwnas.profiling.session import identify
from hwnas.space import Space

__all__ = [
    "FACTOR_REFUSED",
    "FACTOR_SILENT",
    "TAU_REFUSED",
    "conditions_of",
    "resolutions_of",
    "runtime_version",
    "table_matches",
    "version_of",
]

OLD = timedelta(days=30)

# Reference networks measured again, over what they took then: silent, corrected with a warning, refused.
FACTOR_SILENT = (0.95, 1.05)
FACTOR_REFUSED = (0.85, 1.15)
TAU_REFUSED = 0.9


def table_matches(
    table: LatencyTable,
    device: Device,
    space: Space,
    *,
    quota: QuotaReader = cgroup_quota,
    now: datetime | None = None,
) -> list[str]:
    """Check that a table may be used, and tell what else has changed since it was made.

    A device that is reached by hand only cannot be asked what it is: of its machine nothing is compared.

    Args:
        table: With its header.
        device: That the search is for.
        space: That is searched.
        quota: Says how many cores' worth of time this process may spend.
        now: To tell the table's age.

    Returns:
        One line per difference that can move latencies a little: versions, age, the kind of virtual machine, noise.

    Raises:
        DeviceError: If the device should be reached and cannot be.
        MeasureError: If it does not say what it is.
        TableError: If space, unit, precision, batch, threads, runtime or processor differ, a block is missing, or the
            table was never calibrated; names each field, the table's value and this run's, and the command to measure.
    """
    rebuild = f"measure {device.name} again for space {space.name}: hwnas profile RECIPE"
    identity = identify(device, quota=quota)
    conditions = conditions_of(device, identity) | {
        "resolutions": resolutions_of(space),
        "space_digest": space.digest,
        "entries_digest": space.entries_digest,
    }
    try:
        table.check_conditions(conditions)
    except TableError as error:
        missing = table.missing(space)
        first = f"; the first of {len(missing)} blocks that it lacks is {missing[0]!r}" if missing else ""
        raise TableError(error.message + first, hint=rebuild) from error
    try:
        table.check_coverage(space)
    except TableError as error:
        raise TableError(error.message, hint=f"{rebuild} --missing") from error
    if table.header.calibration is None:
        raise TableError(f"{table.source}: calibration is missing; expected one on whole networks", hint=rebuild)
    return [f"{table.source}: {line}" for line in _changes(table, device, identity, now or datetime.now(UTC))]


def conditions_of(device: Device, identity: Identity | None) -> dict[str, Any]:
    """The fields of a header that must be as they are on the device now, whatever the space.

    Args:
        device: Its file.
        identity: What it is; None where nobody can ask.

    Example:
        >>> conditions_of(Device(name="board", reach="kit", threads=4), None)["runtime.intra_op_threads"]
        4
    """
    known: dict[str, Any] = {}
    if identity is not None:
        known = {"runtime.onnxruntime": identity.onnxruntime, "device.cpu_model": identity.fingerprint.cpu_model}
    return {
        "unit": "us",
        "precision": device.precision,
        "batch": device.batch,
        "threads": device.threads,
        "runtime.provider": "CPUExecutionProvider",
        "runtime.optimization_level": "all",
        "runtime.intra_op_threads": device.threads,
    } | known


def resolutions_of(space: Space) -> tuple[int, ...]:
    """The sides of the images that networks of the space take: the heights at its first unit."""
    blocks = space.units[0].blocks if space.units else ()
    return tuple(
        sorted({block.input_shape[1] for block in blocks if block is not None and len(block.input_shape) == 3})
    )


def version_of(package: str) -> str | None:
    """The installed version; None if it is not installed, as when hwnas runs from its source tree.

    Example:
        >>> version_of("no-such-package") is None
        True
    """
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _changes(table: LatencyTable, device: Device, identity: Identity | None, now: datetime) -> list[str]:
    header = table.header
    changes = []
    here: dict[str, object] = {}
    if identity is not None:
        here = {"runtime.onnxruntime": identity.onnxruntime}
        here |= {f"device.{name}": value for name, value in asdict(identity.fingerprint).items()}
    here |= {"export.torch": version_of("torch"), "export.onnx": version_of("onnx")}
    recorded = header.model_dump()
    for name, value in here.items():
        room, field = name.split(".")
        found = recorded[room][field]
        if found != value:
            changes.append(f"{name} is {_plain(found)} in the table, {_plain(value)} here")
    age = now - header.created_utc
    if age > OLD:
        changes.append(f"it is {age.days} days old")
    if header.noise is None or not header.noise.passed:
        changes.append("it is marked noisy: the halves of its measurement did not agree")
    if header.device.name != device.name:
        changes.append(f"it is named after device {header.device.name}, this is {device.name}")
    return changes


def _plain(value: object) -> str:
    if value is None:
        return "unknown"
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
