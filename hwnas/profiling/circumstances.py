"""Where and with what a time was measured, as it is stored with the number, and whether two times can be compared."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from hwnas.cost import LatencyTable
from hwnas.device import Device
from hwnas.profiling.session import Measurement

__all__ = [
    "against",
    "circumstances_of",
    "circumstances_of_table",
    "in_words",
    "marks_of",
    "scaling_in_words",
    "table_differences",
    "told_of",
]


def circumstances_of(measurement: Measurement, device: Device, *, now: datetime | None = None) -> dict[str, Any]:
    """What a time depends on, as the measuring program found it where it ran; None is unknown.

    Args:
        measurement: The session.
        device: Its file.
        now: When it was measured.
    """
    found = measurement.conditions
    return {
        "device": device.name,
        "cpu": found.get("machine", {}).get("cpu_model"),
        "gpu": (found.get("gpu") or {}).get("name"),
        "runtime": _runtime(found, device),
        "provider": found.get("provider"),
        "threads": device.threads,
        "batch": device.batch,
        "estimator": "p25 of pooled runs",
        "measured_utc": (now or datetime.now(UTC)).isoformat(timespec="seconds"),
        "load_max": found.get("load_max"),
        "verdict": measurement.verdict,
        "marks": list(marks_of(measurement)),
        "row_marks": _row_marks(measurement),
    }


def circumstances_of_table(table: LatencyTable) -> dict[str, Any]:
    """What the times of a table depend on, under the same names."""
    header = table.header
    return {
        "device": header.device.name,
        "cpu": header.device.cpu_model,
        "gpu": None if header.device.gpu is None else header.device.gpu.name,
        "runtime": str(header.runtime),
        "threads": header.threads,
        "batch": header.batch,
    }


def _runtime(found: Mapping[str, Any], device: Device) -> str:
    version = found.get("version") or found.get("onnxruntime") or "of an unknown version"
    return f"{found.get('name', device.runtime)} {version}"


def marks_of(measurement: Measurement) -> tuple[str, ...]:
    """What the measuring program says of the machine meanwhile, one phrase each; empty if it was quiet."""
    return tuple(measurement.conditions.get("marks", ()))


def _row_marks(measurement: Measurement) -> dict[str, str]:
    """What the measuring program says of single models, a network by its name."""
    found: Mapping[str, str] = measurement.conditions.get("row_marks", {})
    return {key.removeprefix("network "): mark for key, mark in sorted(found.items())}


def told_of(measurement: Measurement) -> list[str]:
    """What the measuring program says to a reader of the numbers, one line each; empty if all was quiet and known.

    Marks of the machine, then of single models (a network by its name), then what could not be read, as an energy
    counter that only some processors let it read.
    """
    return [
        *(f"the machine was {mark}" for mark in marks_of(measurement)),
        *(f"{name} was {mark}" for name, mark in _row_marks(measurement).items()),
        *measurement.conditions.get("notes", ()),
    ]


def table_differences(
    table: LatencyTable, measurement: Measurement, device: Device, *, exact: bool = True
) -> dict[str, str]:
    """How the machine and the runtime of a measurement differ from those of a table.

    Args:
        table: With its header.
        measurement: Later, perhaps elsewhere.
        device: Its file.
        exact: Compare the runtime's version to its last part, which seldom moves a time.

    Returns:
        By field of the header, a phrase with the table's value and that of the measurement.
    """
    found = measurement.conditions
    machine = found.get("machine")
    if machine is None:
        return {}
    run: dict[str, Any] = {"device.cpu_model": machine.get("cpu_model"), "runtime.name": found.get("name")}
    # One processor name may stand for several processors; not every system tells their numbers.
    numbers = {f"device.{name}": machine.get(name) for name in ("family", "model")}
    run |= {name: value for name, value in numbers.items() if value is not None}
    if device.runtime.startswith("onnxruntime-"):
        run["runtime.onnxruntime"] = found.get("onnxruntime")
    else:
        run["runtime.version"] = found.get("version")
    if len(machine.get("core_kinds") or ()) > 1:
        run["protocol.core_kind"] = found.get("core_kind")
    if device.uses_gpu:
        run["device.gpu.name"] = (found.get("gpu") or {}).get("name")
    return table.differences(run, exact=exact)


def in_words(conditions: Mapping[str, Any]) -> str:
    """Where and with what a stored time was measured.

    Example:
        >>> in_words({"cpu": "A", "runtime": "onnxruntime-cpu 1.27.0", "threads": 1, "batch": 8})
        'A, onnxruntime-cpu 1.27.0, threads 1, batch 8'
    """
    where = conditions.get("gpu") or conditions.get("cpu") or "an unnamed processor"
    with_what = f"threads {conditions.get('threads', 'unknown')}, batch {conditions.get('batch', 'unknown')}"
    # Earlier versions stored the conditions of the table, whatever the time was measured on.
    whose = " (conditions of its table)" if "session_factor" in conditions and "scaled" not in conditions else ""
    return f"{where}, {conditions.get('runtime', 'runtime unknown')}, {with_what}{whose}"


def scaling_in_words(raw_ms: float | None, conditions: Mapping[str, Any]) -> str:
    """What was done to a stored time; empty if it is as it was measured.

    Example:
        >>> scaling_in_words(0.022, {"session_factor": 1.1, "scaled": True})
        ' (0.0220 ms as measured, divided by 1.100 to match its table)'
    """
    factor = conditions.get("session_factor")
    if raw_ms is None or factor is None or not conditions.get("scaled", True):
        return ""
    return f" ({raw_ms:.4f} ms as measured, divided by {factor:.3f} to match its table)"


_COMPARED = {"cpu": "{}", "gpu": "{}", "runtime": "{}", "threads": "threads {}", "batch": "batch {}"}


def against(now: Mapping[str, Any], stored: Mapping[str, Any]) -> list[str]:
    """Why two times cannot be compared, one phrase for each condition; empty if they can.

    Of the runtime's version the last part may differ.

    Args:
        now: See `circumstances_of`.
        stored: The same of an earlier time; what it does not name is not compared.

    Example:
        >>> quick = {"cpu": "A", "runtime": "onnxruntime-cpu 1.27.0", "threads": 1, "batch": 8}
        >>> against(quick, quick | {"batch": 1, "runtime": "onnxruntime-cpu 1.27.1"})
        ['batch 8 against batch 1']
    """
    phrases = []
    for name, words in _COMPARED.items():
        if name not in stored:
            continue
        ours, theirs = now.get(name), stored[name]
        same = _minor(ours) == _minor(theirs) if name == "runtime" else ours == theirs
        if not same:
            one, other = (words.format(value or f"unknown {name}") for value in (ours, theirs))
            phrases.append(f"{one} against {other}")
    return phrases


def _minor(runtime: object) -> list[str]:
    return str(runtime).split(".")[:2]
