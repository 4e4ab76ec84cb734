"""The measuring program as the rest of hwnas sees it: what it is asked, what it says meanwhile, what it answers."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from hwnas.core import DeviceError, MeasureError, counted
from hwnas.core.errors import UPGRADE
from hwnas.device import Device, Fingerprint, measure

PROGRAM = Path(measure.__file__)


@dataclass(frozen=True)
class Progress:
    """How far a long piece of work is.

    Attributes:
        stage: "export", "copy", "load", "pilot", "plan", "measure" or "energy".
        done: Models, visits of models, or blocks of models that are exported.
        total: Grows when a noisy measurement is prolonged.
        note: A line worth keeping, as how long the measurement will take; empty otherwise.
    """

    stage: str
    done: int
    total: int
    note: str = ""


ProgressCall = Callable[[Progress], None]


@dataclass(frozen=True)
class Identity:
    """What a device turned out to be.

    Attributes:
        fingerprint: As it says itself.
        onnxruntime: Version that runs there.
        version: Of the device's runtime, where that is another; None: not known, or not installed.
        gpu: Name of the GPU that works for it; None: none, or the driver does not say.
        free_bytes: Where the device keeps what is sent to it; None: unknown.
    """

    fingerprint: Fingerprint
    onnxruntime: str
    version: str | None = None
    gpu: str | None = None
    free_bytes: int | None = None

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Identity:
        """From what `measure.py --machine` prints.

        Raises:
            KeyError: If a part is missing.
            TypeError: If a part is unknown or of the wrong kind.

        Example:
            >>> from hwnas.device import fingerprint
            >>> row = {"fingerprint": fingerprint().to_json(), "onnxruntime": "1.20.0"}
            >>> Identity.from_json(row).fingerprint == fingerprint()
            True
        """
        here = Fingerprint.from_json(row["fingerprint"])
        return cls(here, str(row["onnxruntime"]), row.get("version"), row.get("gpu"), row.get("free_bytes"))


@dataclass(frozen=True)
class Job:
    """What the measuring program is asked to do; see the top of its file.

    Attributes:
        values: Of job.json; paths start at its folder.
        files: Where the file of each such path lies now.
    """

    values: Mapping[str, Any]
    files: Mapping[str, Path]

    def in_place(self, parent: int) -> dict[str, Any]:
        """The values for a child process on this machine, which reads the files where they lie."""
        here = {name: str(path.resolve()) for name, path in self.files.items()}
        return {
            **self.values,
            "models": [{**model, "path": here[model["path"]]} for model in self.values["models"]],
            "empty": here[self.values["empty"]],
            "parent": parent,
        }


class Reach(Protocol):
    """A way to a device."""

    def identity(self) -> Identity:
        """What the device is.

        Raises:
            DeviceError: If it cannot be reached, or lacks what measuring needs.
        """
        ...

    def run(self, job: Job, *, progress: ProgressCall | None) -> dict[str, Any]:
        """Run the measuring program there; its result.

        Raises:
            DeviceError: If the device cannot be reached, lacks what measuring needs, or has too few cores.
            MeasureError: If the program failed or the device vanished.
        """
        ...


def pass_on(line: str | bytes, progress: ProgressCall | None) -> None:
    """One line of the program's output to whoever wants to know."""
    try:
        step = json.loads(line)
        known = Progress(step["stage"], step["done"], step["total"], _plan(step) if step["stage"] == "plan" else "")
    except (ValueError, KeyError, TypeError):  # the runtime's own words, or those of a login shell
        return
    if progress is not None:
        progress(known)


def _plan(step: Mapping[str, Any]) -> str:
    text = f"timing {counted(step['models'], 'model')} in {counted(step['rounds'], 'round')}"
    text += f", about {max(step['seconds'], 1.0):.0f} s, longer if the machine is noisy"
    text += " (runs and rounds cut to fit)" if step["capped"] else ""
    return text + (f"; {counted(step['rounds_before'], 'round')} of them done before" if step["rounds_before"] else "")


def last_line(text: str) -> str:
    """What a failed program said last.

    Example:
        >>> last_line(chr(10).join(["Traceback:", "  File x", "ValueError: no such core", ""]))
        'ValueError: no such core'
    """
    lines = [line.strip() for line in text.splitlines()]
    return next((line for line in reversed(lines) if line), "it said nothing")


def end_of(code: int) -> str:
    """How a process ended.

    Example:
        >>> end_of(2), end_of(-9)
        ('ended with code 2', 'was ended by SIGKILL')
    """
    if code >= 0:
        return f"ended with code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"


def check_end(code: int, said: str, device: Device) -> None:
    """Turn the endings that the program has words for into errors.

    Raises:
        DeviceError: If the machine has too few cores, or lacks a module.
        MeasureError: If the runtime or the GPU cannot be used, a time limit is too short, the job is of a later hwnas,
            or the log of rounds is damaged, or of another measurement.
    """
    where = "here" if device.host is None else f"on {device.host}"
    if code == measure.UNUSABLE:
        missing, _, mend = said.partition(" | ")
        there = "" if device.host is None else f"device {device.name}, {where}: "
        raise MeasureError(there + missing, hint=mend)
    if code == measure.TOO_SLOW:
        fault, _, hint = said.partition(" | ")
        raise MeasureError(f"device {device.name}: {fault}", hint=hint)
    if code in {measure.LOG_DAMAGED, measure.NEWER_JOB}:
        raise MeasureError(said)
    if code == measure.NOT_THIS_MACHINE:
        fault, _, hint = said.rpartition(": ")
        raise DeviceError(f"device {device.name}: {fault} ({where})", hint=hint)
    if code == measure.NO_RUNTIME or said.startswith("ModuleNotFoundError: No module named"):
        raise DeviceError(
            f"device {device.name}: {device.python} {where} cannot measure: {said}",
            hint=f"give it numpy and onnxruntime, or name another interpreter: python = in devices/{device.name}.toml",
        )


def read_result(path: Path) -> dict[str, Any]:
    """What the measuring program wrote. The one place that knows the form of that file.

    Raises:
        MeasureError: If there is no such file, or it is no result, or of another version.
    """
    again = "run measure.py to its end, and bring its results file as it is"
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise MeasureError(f"{path}: there is no such results file", hint=again) from error
    except (OSError, ValueError) as error:
        raise MeasureError(f"{path}: cannot be read: {error}; expected what measure.py writes", hint=again) from error
    schema = result.get("schema") if isinstance(result, dict) else None
    if isinstance(schema, int) and schema > measure.SCHEMA:
        raise MeasureError(
            f"{path}: schema is {schema}, of a later hwnas; this one reads up to {measure.SCHEMA}", hint=UPGRADE
        )
    lacking = [name for name in _PARTS if not isinstance(result, dict) or name not in result]
    if lacking:
        raise MeasureError(f"{path}: lacks {', '.join(lacking)}; expected what measure.py writes", hint=again)
    if schema != measure.SCHEMA:
        raise MeasureError(
            f"{path}: schema is {schema!r}; this version reads {measure.SCHEMA}",
            hint="make a new kit with this version: hwnas kit RECIPE",
        )
    checked: dict[str, Any] = result
    return checked


_PARTS = (
    *("schema", "about", "timings", "device_timings", "energy", "failures", "noise", "verdict", "empty_run_us"),
    "conditions",
)
