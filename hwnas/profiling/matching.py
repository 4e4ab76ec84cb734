"""Whether a latency table holds for the machine behind a device, its file, and a space."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from importlib import metadata
from typing import Any

from hwnas.core import DeviceError, TableError
from hwnas.cost import LatencyTable, TableHeader, doubtful_rows, in_lines
from hwnas.device import Device, QuotaReader, cgroup_quota, kind_of
from hwnas.profiling.program import Identity
from hwnas.profiling.runtimes import provider_of
from hwnas.profiling.session import identify
from hwnas.space import Space

__all__ = [
    "FACTOR_REFUSED",
    "FACTOR_SILENT",
    "TAU_REFUSED",
    "conditions_of",
    "resolutions_of",
    "table_matches",
    "version_of",
]

OLD = timedelta(days=30)
CLOCKS_APART = timedelta(minutes=5)
"""By how much the clocks of two machines may differ without a word."""

# Reference networks measured again, over what they took then: silent, corrected with a warning, refused.
FACTOR_SILENT = (0.95, 1.05)
FACTOR_REFUSED = (0.85, 1.15)
TAU_REFUSED = 0.9

NOISE_REFUSED = 0.03
"""Two halves of a measurement that differ by more at the median: a profile is refused then, and so is such a table."""

MismatchCall = Callable[[str], None]

_OF_THE_SPACE = ("unit", "space_digest", "entries_digest")
"""What no override helps against: there would be no number to predict with."""


def table_matches(
    table: LatencyTable,
    device: Device,
    space: Space,
    *,
    quota: QuotaReader = cgroup_quota,
    now: datetime | None = None,
    on_mismatch: MismatchCall | None = None,
) -> list[str]:
    """Check that a table may be used, and tell what else has changed since it was made.

    A device that is reached by hand only cannot be asked what it is: of its machine nothing is compared.

    Args:
        table: With its header.
        device: That the search is for.
        space: That is searched.
        quota: Says how many cores' worth of time this process may spend.
        now: To tell the table's age.
        on_mismatch: Takes each difference that would otherwise be refused, one line each, and lets it pass; whoever
            gives it must store them with the result. Another space, a missing block and a missing calibration are
            refused all the same.

    Returns:
        One line per difference that can move latencies a little: versions, age, the kind of virtual machine, noise; and
        per row that cannot be right.

    Raises:
        DeviceError: If the device should be reached and cannot be.
        MeasureError: If it does not say what it is.
        TableError: If space, unit, precision, batch, threads, classes, runtime, processor or the kind of its cores
            differ, a block is missing, the machine was too noisy, or the table was never calibrated; names each field,
            the table's value and this run's, and the command to measure.
    """
    rebuild = f"measure {device.name} again for space {space.name}: hwnas profile RECIPE"
    identity = identify(device, quota=quota)
    conditions = conditions_of(device, identity) | {
        "resolutions": resolutions_of(space),
        "classes": classes_of(space),
        "space_digest": space.digest,
        "entries_digest": space.entries_digest,
    }
    if table.header.classes is None:  # of schema version 1; entries_digest tells such a difference without a name
        del conditions["classes"]
    differing = _known(table, table.differences(conditions))
    if differing and (on_mismatch is None or differing.keys() & set(_OF_THE_SPACE)):
        missing = table.missing(space)
        first = f"; the first of {len(missing)} blocks that it lacks is {missing[0]!r}" if missing else ""
        raise TableError(
            f"{table.source}: made under other conditions: {'; '.join(differing.values())}; the table is of space "
            f"{table.header.space} on {table.header.device.name}{first}",
            hint=rebuild,
        )
    try:
        table.check_coverage(space)
    except TableError as error:
        raise TableError(error.message, hint=f"{rebuild} --missing") from error
    if table.header.calibration is None:
        raise TableError(f"{table.source}: calibration is missing; expected one on whole networks", hint=rebuild)
    try:
        table.check_noise(median=NOISE_REFUSED)
    except TableError as error:
        if on_mismatch is None:
            raise TableError(error.message, hint=f"stop other work, and {rebuild}") from error
        on_mismatch(error.message)
    if on_mismatch is not None:
        for line in differing.values():
            on_mismatch(f"{table.source}: {line}")
    changes = _changes(table, device, identity, now or datetime.now(UTC))
    said = [line for name, line in changes if name not in differing]
    return [f"{table.source}: {line}" for line in [*said, *in_lines(doubtful_rows(space, table))]]


def _known(table: LatencyTable, differing: dict[str, str]) -> dict[str, str]:
    """Without differences from what the table or this system does not know of the processor: they are only told."""
    here = table.header.device
    unknown = {name for name in ("family", "model") if getattr(here, name) is None}
    return {name: line for name, line in differing.items() if name.removeprefix("device.") not in unknown}


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
        here = identity.fingerprint
        known = _versions(device, identity) | {"device.cpu_model": here.cpu_model}
        # Makers give several processors one name ("AMD EPYC" in a guest): the numbers tell them apart, where there are.
        # Where all cores are alike, the name of their kind says nothing that the processor's does not.
        several = here.core_kinds is not None and len(here.core_kinds) > 1
        kind = kind_of(_pinned(device, identity), here.core_kinds) if several else None
        numbers = {"device.family": here.family, "device.model": here.model, "protocol.core_kind": kind}
        known |= {name: value for name, value in numbers.items() if value is not None}
        if device.uses_gpu:
            known["device.gpu.name"] = identity.gpu
    return {
        "unit": "us",
        "precision": device.precision,
        "batch": device.batch,
        "threads": device.threads,
        "runtime.name": device.runtime,
        "runtime.provider": provider_of(device),
        "runtime.optimization_level": {"torch": "none", "torch-compile": "inductor"}.get(device.runtime, "all"),
        "runtime.intra_op_threads": device.threads,
    } | known


def _pinned(device: Device, identity: Identity) -> tuple[int, ...] | None:
    """The cores that a measurement would keep to; None where there are too few, which is told when it is tried."""
    try:
        return device.cores_of(identity.fingerprint)
    except DeviceError:
        return None


def _versions(device: Device, identity: Identity) -> dict[str, Any]:
    if device.runtime.startswith("onnxruntime-"):
        return {"runtime.onnxruntime": identity.onnxruntime}
    return {"runtime.version": identity.version}


def classes_of(space: Space) -> int | None:
    """How many numbers networks of the space end in; None if their last blocks do not agree, or there are none.

    Example:
        >>> classes_of(Space("bare", ())) is None
        True
    """
    blocks = space.units[-1].blocks if space.units else ()
    ends = {block.output_shape for block in blocks if block is not None}
    classes = {shape[0] for shape in ends if len(shape) == 1}
    return classes.pop() if len(classes) == len(ends) == 1 else None


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


def _changes(table: LatencyTable, device: Device, identity: Identity | None, now: datetime) -> list[tuple[str, str]]:
    """Fields that have changed, each with a line that says how."""
    header = table.header
    changes: list[tuple[str, str]] = []
    here: dict[str, object] = {}
    if identity is not None:
        here = dict(_versions(device, identity))
        here |= {f"device.{name}": value for name, value in asdict(identity.fingerprint).items()}
        here["protocol.pinned"] = _pinned(device, identity)
        changes += _unknown_kind(header, identity)
    here |= {"export.torch": version_of("torch"), "export.onnx": version_of("onnx")}
    recorded = header.model_dump()
    # What tables of version 1 never say need not be told field by field.
    later = ["device.vendor", "device.caches"] if header.schema_version == 1 else []
    # Nor what older tables of version 2 do not say.
    later += [name for name in _LATER if recorded[name.split(".")[0]][name.split(".")[1]] is None]
    for name, value in here.items():
        room, field = name.split(".")
        found = recorded[room][field]
        if found != value and name not in later:
            changes.append((name, f"{name} is {_plain(found)} in the table, {_plain(value)} here"))
    if header.schema_version == 1:
        changes.append((
            "schema_version",
            "it is of schema version 1, which says neither vendor and caches nor memory and energy of blocks",
        ))
    age = now - header.created_utc
    if age > OLD:
        changes.append(("created_utc", f"it is {age.days} days old"))
    elif age < -CLOCKS_APART:
        when = header.created_utc.isoformat(timespec="minutes")
        changes.append((
            "created_utc",
            f"it is dated in the future, {when}: the clock of this machine is wrong, or that of the one which made it "
            "was, so that its age is unknown",
        ))
    if header.noise is None or not header.noise.passed:
        changes.append(("noise", "it is marked noisy: the halves of its measurement did not agree"))
    changes += [("protocol.marks", f"when it was measured, the machine was {mark}") for mark in header.protocol.marks]
    shown = {key: mark for key, mark in header.protocol.row_marks.items() if key in table.rows}
    changes += [("protocol.row_marks", f"when it was measured, {line}") for line in marked_lines(shown)]
    if header.device.name != device.name:
        changes.append(("device.name", f"it is named after device {header.device.name}, this is {device.name}"))
    return changes


_LATER = ("device.core_kinds", "device.siblings", "device.quota_unread", "protocol.pinned")


def _unknown_kind(header: TableHeader, identity: Identity) -> list[tuple[str, str]]:
    """What to say of a processor with several kinds of cores where the table does not know which of them it timed."""
    kinds = identity.fingerprint.core_kinds or {}
    if header.device.core_kinds is not None or len(kinds) < 2:
        return []
    return [("protocol.core_kind", f"which of {', '.join(kinds)} its cores were is unknown")]


def marked_lines(marks: Mapping[str, str], *, most: int = 5) -> list[str]:
    """One line for each of the first single models that were marked, and how many more there are.

    Example:
        >>> marked_lines({"stem": "uneven: its even and its odd rounds differ by 20%"})
        ['"stem" was uneven: its even and its odd rounds differ by 20%']
    """
    lines = [f'"{key}" was {mark}' for key, mark in sorted(marks.items())]
    return [*lines[:most], *([f"{len(lines) - most} more were marked"] if len(lines) > most else [])]


def _plain(value: object) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_in_brackets(part)}" for name, part in value.items())
    return ", ".join(map(_in_brackets, value)) if isinstance(value, tuple) else str(value)


def _in_brackets(value: object) -> str:
    return f"({', '.join(map(str, value))})" if isinstance(value, tuple) else str(value)
