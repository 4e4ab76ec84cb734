"""The runtimes that can time networks: what they load, and whether they work here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, get_args

from hwnas.core import MeasureError
from hwnas.device import Device, Runtime, scratch
from hwnas.profiling.program import PROGRAM, end_of, last_line

RUNTIMES: tuple[Runtime, ...] = tuple(name for name in get_args(Runtime) if name != "none")

_PROVIDERS: dict[Runtime, str] = {
    "onnxruntime-cpu": "CPUExecutionProvider",
    "onnxruntime-cuda": "CUDAExecutionProvider",
    "onnxruntime-tensorrt": "TensorrtExecutionProvider",
    "openvino": "CPU",
}
_PATIENCE_SECONDS = 120.0


def suffix_of(runtime: Runtime) -> Literal[".onnx", ".pt2"]:
    """What the files end in that a runtime loads.

    Example:
        >>> suffix_of("openvino"), suffix_of("torch-compile")
        ('.onnx', '.pt2')
    """
    return ".pt2" if runtime in {"torch", "torch-compile"} else ".onnx"


def provider_of(device: Device) -> str:
    """What a live session of the device must say that it runs on.

    Example:
        >>> provider_of(Device(name="a")), provider_of(Device(name="a", runtime="torch", gpu="auto"))
        ('CPUExecutionProvider', 'cuda')
    """
    return _PROVIDERS.get(device.runtime) or ("cuda" if device.uses_gpu else "cpu")


def runtime_version(runtime: Runtime = "onnxruntime-cpu") -> str | None:
    """The version of a runtime as it says itself; None if it is not installed.

    onnxruntime is asked, as its builds for other hardware are installed under other names.

    Example:
        >>> runtime_version().count(".")
        2
    """
    if runtime.startswith("onnxruntime-"):
        import onnxruntime  # here, because importing hwnas should not load a runtime

        return str(onnxruntime.__version__)
    package = "torch" if runtime.startswith("torch") else runtime
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


@dataclass(frozen=True)
class RuntimeState:
    """Whether a runtime works on this machine, found out by using it.

    Attributes:
        name: As in devices/*.toml.
        works: Whether a live session did what was asked.
        identity: Version, provider and options of that session, if it works.
        gpu: UUID of the GPU it used, if any.
        missing: What is missing, if it does not work.
        mend: The command, or what else, that mends it.
    """

    name: str
    works: bool
    identity: dict[str, Any] | None
    gpu: str | None
    missing: str | None
    mend: str | None

    @property
    def detail(self) -> str:
        """One line."""
        if self.identity is None:
            return f"{self.missing}; mend it: {self.mend}"
        return f"{self.identity['version']}, {self.identity['provider']}"


def try_runtimes(
    names: Sequence[Runtime] = RUNTIMES, *, gpu: str | None = None, program: Path | None = None
) -> dict[str, RuntimeState]:
    """Try runtimes, in a child process: one that crashes while it is loaded ends nothing else.

    Args:
        names: Which ones.
        gpu: As in a device file.
        program: The measuring program; another in tests.

    Returns:
        By name, in the order given.
    """
    from hwnas.profiling.session import write_empty_model  # it imports this file

    with scratch("runtimes") as folder:
        empty = folder / "empty.onnx"
        write_empty_model(empty)
        command = [sys.executable, "-P", str(program or PROGRAM), "--runtimes", str(empty)]
        together = _try(names, command, gpu)
        if isinstance(together, dict):
            return together
        # One of them has taken the others with it: each alone tells which.
        found: dict[str, RuntimeState] = {}
        for name in names:
            alone = _try([name], command, gpu) if len(names) > 1 else together
            found |= alone if isinstance(alone, dict) else {name: _broken(name, alone)}
        return found


def check_runtime(device: Device) -> None:
    """That a device's runtime works here, tried before anything expensive is done for it.

    onnxruntime on the CPU is taken for granted: hwnas needs it itself.

    Raises:
        MeasureError: If it does not, with what is missing and what mends it.
    """
    if device.reach != "local" or device.runtime in {"onnxruntime-cpu", "none"}:
        return
    state = try_runtimes([device.runtime], gpu=device.gpu)[device.runtime]
    if not state.works:
        raise MeasureError(
            f"device {device.name}: runtime {device.runtime} does not work here: {state.missing}", hint=state.mend or ""
        )


def _try(names: Sequence[Runtime], command: list[str], gpu: str | None) -> dict[str, RuntimeState] | str:
    """What one child says; or how it ended."""
    whole = [*command, ",".join(names), *([] if gpu is None else [gpu])]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    try:
        found = subprocess.run(
            whole, env=environment, capture_output=True, text=True, timeout=_PATIENCE_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return f"it did not answer within {_PATIENCE_SECONDS:.0f} s"
    if found.returncode == 0:
        states = json.loads(found.stdout.splitlines()[-1])
        return {name: RuntimeState(name=name, **states[name]) for name in names}
    return f"its process {end_of(found.returncode)}: {last_line(found.stderr)}"


def _broken(name: Runtime, missing: str) -> RuntimeState:
    package = "torch" if name.startswith("torch") else name.split("-")[0]
    mend = f"pip install --force-reinstall {package}"
    return RuntimeState(name=name, works=False, identity=None, gpu=None, missing=missing, mend=mend)
