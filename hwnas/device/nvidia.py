"""NVIDIA GPUs and slices of them (MIG), as NVML tells: identity, clocks, what the driver does not say."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol, TypeVar, cast

from hwnas.core import DeviceError
from hwnas.device.measure import CHOSEN_CLOCKS, VISIBLE, reason_names, visible_entries

T = TypeVar("T")

_SM_CLOCK = 1
_INSTALL = 'pip install "hwnas[nvidia]"'


class Memory(Protocol):
    """What NVML says of memory, in bytes."""

    total: int
    used: int


class Nvml(Protocol):
    """The part of the module `pynvml` (package nvidia-ml-py) that is used; a handle is the driver's own."""

    NVMLError: type[Exception]

    def nvmlInit(self) -> None: ...  # noqa: D102, N802
    def nvmlSystemGetDriverVersion(self) -> str | bytes: ...  # noqa: D102, N802
    def nvmlSystemGetCudaDriverVersion_v2(self) -> int: ...  # noqa: D102, N802
    def nvmlDeviceGetCount(self) -> int: ...  # noqa: D102, N802
    def nvmlDeviceGetHandleByIndex(self, index: int, /) -> Any: ...  # noqa: D102, N802
    def nvmlDeviceGetName(self, handle: Any, /) -> str | bytes: ...  # noqa: D102, N802
    def nvmlDeviceGetUUID(self, handle: Any, /) -> str | bytes: ...  # noqa: D102, N802
    def nvmlDeviceGetMigMode(self, handle: Any, /) -> list[int]: ...  # noqa: D102, N802
    def nvmlDeviceGetMaxMigDeviceCount(self, handle: Any, /) -> int: ...  # noqa: D102, N802
    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle: Any, index: int, /) -> Any: ...  # noqa: D102, N802
    def nvmlDeviceGetMemoryInfo(self, handle: Any, /) -> Memory: ...  # noqa: D102, N802
    def nvmlDeviceGetEnforcedPowerLimit(self, handle: Any, /) -> int: ...  # noqa: D102, N802
    def nvmlDeviceGetClockInfo(self, handle: Any, kind: int, /) -> int: ...  # noqa: D102, N802
    def nvmlDeviceGetMaxClockInfo(self, handle: Any, kind: int, /) -> int: ...  # noqa: D102, N802
    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: Any, /) -> int: ...  # noqa: D102, N802
    def nvmlDeviceGetPersistenceMode(self, handle: Any, /) -> int: ...  # noqa: D102, N802
    def nvmlDeviceGetComputeRunningProcesses(self, handle: Any, /) -> list[Any]: ...  # noqa: D102, N802


@dataclass(frozen=True)
class NvidiaGpu:
    """One GPU, or one slice of a GPU. None is unknown: the driver did not say; nothing unknown is ever 0.

    Attributes:
        uuid: "GPU-..." or "MIG-..."; what a device file names it by.
        name: As the driver names it.
        mig: Whether it is a slice. Clock, power and processes are then those of the whole card.
        card_uuid: Of the whole card.
        memory_bytes: Of the GPU or slice.
        memory_used_bytes: By everybody, and by the driver itself.
        power_cap_w: As enforced.
        sm_clock_mhz: Now.
        max_sm_clock_mhz: The highest there is.
        throttle_reasons: Why the clock is held down now.
        clocks_locked: True if a chosen clock holds it down; None otherwise, as the driver cannot be asked.
        persistent: Whether the driver stays loaded when nobody uses the GPU; without that, first runs are slow.
        processes: That compute on the card; inside a container the driver may see none of them.
    """

    uuid: str | None
    name: str | None
    mig: bool
    card_uuid: str | None
    memory_bytes: int | None
    memory_used_bytes: int | None
    power_cap_w: float | None
    sm_clock_mhz: int | None
    max_sm_clock_mhz: int | None
    throttle_reasons: tuple[str, ...] | None
    clocks_locked: bool | None
    persistent: bool | None
    processes: int | None

    @property
    def unknown(self) -> tuple[str, ...]:
        """What the driver did not say."""
        return tuple(name for name, value in asdict(self).items() if value is None and name != "clocks_locked")


@dataclass(frozen=True)
class NvidiaState:
    """What NVML says of this machine.

    Attributes:
        gpus: In NVML's order, slices in place of a card that is cut into them. CUDA counts in another order.
        driver: Version.
        cuda: The newest version that the driver supports.
        problems: GPUs that do not answer, one line each.
        missing: Why NVML cannot be asked at all; None if it can.
        mend: What mends that.
    """

    gpus: tuple[NvidiaGpu, ...] = ()
    driver: str | None = None
    cuda: str | None = None
    problems: tuple[str, ...] = ()
    missing: str | None = None
    mend: str | None = None

    def to_json(self) -> dict[str, Any]:
        """A plain map.

        Example:
            >>> NvidiaState().to_json()["gpus"]
            []
        """
        found = asdict(self)
        return found | {"gpus": [dict(gpu) for gpu in found["gpus"]], "problems": list(self.problems)}


def nvidia_state(nvml: Nvml | None = None) -> NvidiaState:
    """Ask NVML what there is; never fails.

    Args:
        nvml: The module pynvml, imported if not given; another object in tests.
    """
    if nvml is None:
        try:
            nvml = cast("Nvml", importlib.import_module("pynvml"))
        except ImportError:
            return NvidiaState(missing="nvidia-ml-py is not installed, so no NVIDIA GPU can be asked", mend=_INSTALL)
    try:
        nvml.nvmlInit()
        count = nvml.nvmlDeviceGetCount()
    except nvml.NVMLError as error:
        return NvidiaState(
            missing=f"NVML does not start: {error}",
            mend="for a GPU, install its driver (nvidia-smi must work); in a container, start it with --gpus all",
        )
    gpus: list[NvidiaGpu] = []
    problems: list[str] = []
    for index in range(count):
        try:
            gpus += _with_slices(nvml, nvml.nvmlDeviceGetHandleByIndex(index))
        except nvml.NVMLError as error:
            problems.append(f"GPU {index} of {count} does not answer: {error}")
    cuda = _ask(nvml, nvml.nvmlSystemGetCudaDriverVersion_v2)
    return NvidiaState(
        gpus=tuple(gpus),
        driver=_text(_ask(nvml, nvml.nvmlSystemGetDriverVersion)),
        cuda=None if cuda is None else f"{cuda // 1000}.{cuda % 1000 // 10}",
        problems=tuple(problems),
    )


def gpu_for(wanted: str, state: NvidiaState, *, environment: Mapping[str, str] = os.environ) -> NvidiaGpu | None:
    """The GPU or slice that a device file means.

    Args:
        wanted: A UUID, or "auto": the only one that CUDA can see.
        state: What there is.
        environment: Of the process, for CUDA_VISIBLE_DEVICES.

    Returns:
        None if NVML cannot be asked.

    Raises:
        DeviceError: if there is none, CUDA_VISIBLE_DEVICES hides it, or there are several that "auto" could mean.
    """
    if state.missing is not None:
        return None
    known = ", ".join(f"{gpu.uuid} ({gpu.name or 'unnamed'})" for gpu in state.gpus) or "none"
    if wanted != "auto":
        for gpu in state.gpus:
            if gpu.uuid == wanted and gpu not in visible(state.gpus, environment):
                raise DeviceError(
                    f"gpu is {wanted}, which CUDA_VISIBLE_DEVICES = {environment[VISIBLE]!r} hides",
                    hint=f"unset {VISIBLE}, or name a GPU that it allows in the device file",
                )
            if gpu.uuid == wanted:
                return gpu
        gone = f"; {'; '.join(state.problems)}" if state.problems else ""
        raise DeviceError(f"gpu is {wanted}; there are: {known}{gone}", hint="nvidia-smi -L lists them too")
    seen = visible(state.gpus, environment)
    if len(seen) == 1:
        return seen[0]
    raise DeviceError(
        f'gpu is "auto", and {len(seen)} are visible of: {known}',
        hint='name one in the device file: gpu = "GPU-..."' if seen else "look at CUDA_VISIBLE_DEVICES and nvidia-smi",
    )


def visible(gpus: tuple[NvidiaGpu, ...], environment: Mapping[str, str]) -> tuple[NvidiaGpu, ...]:
    """Those that CUDA may see; several if it cannot be told which.

    CUDA_VISIBLE_DEVICES may hold UUIDs, or the first letters of them, or numbers. Numbers follow CUDA's own order, the
    fastest first, which NVML does not know; only with CUDA_DEVICE_ORDER=PCI_BUS_ID it is NVML's.

    Example:
        >>> visible((), {"CUDA_VISIBLE_DEVICES": ""})
        ()
    """
    entries = visible_entries(environment)
    if entries is None:
        return gpus
    if not all(entry.isdigit() for entry in entries):
        chosen = [gpu for entry in entries for gpu in gpus if gpu.uuid is not None and gpu.uuid.startswith(entry)]
        return tuple(dict.fromkeys(chosen))
    numbers = [int(entry) for entry in entries]
    if len(gpus) == 1 or environment.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID":
        return tuple(gpus[number] for number in numbers if number < len(gpus))
    return gpus if numbers else ()


def _with_slices(nvml: Nvml, card: Any) -> Iterator[NvidiaGpu]:
    """The card; or its slices, as nothing can run on the rest of a card that is cut."""
    name = nvml.nvmlDeviceGetName(card)  # not only asked: a card that has gone must be told
    mode = _ask(nvml, lambda: nvml.nvmlDeviceGetMigMode(card))
    if not mode or mode[0] != 1:
        yield _gpu(nvml, card, card, name=_text(name), mig=False)
        return
    for index in range(_ask(nvml, lambda: nvml.nvmlDeviceGetMaxMigDeviceCount(card)) or 0):
        piece = _ask(nvml, lambda index=index: nvml.nvmlDeviceGetMigDeviceHandleByIndex(card, index))  # type: ignore[misc]
        if piece is not None:
            own = _text(_ask(nvml, lambda piece=piece: nvml.nvmlDeviceGetName(piece)))  # type: ignore[misc]
            yield _gpu(nvml, piece, card, name=own, mig=True)


def _gpu(nvml: Nvml, handle: Any, card: Any, *, name: str | None, mig: bool) -> NvidiaGpu:
    memory = _ask(nvml, lambda: nvml.nvmlDeviceGetMemoryInfo(handle))
    power_mw = _ask(nvml, lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(card))
    reasons = _ask(nvml, lambda: nvml.nvmlDeviceGetCurrentClocksThrottleReasons(card))
    persistent = _ask(nvml, lambda: nvml.nvmlDeviceGetPersistenceMode(card))
    processes = _ask(nvml, lambda: nvml.nvmlDeviceGetComputeRunningProcesses(card))
    return NvidiaGpu(
        uuid=_text(_ask(nvml, lambda: nvml.nvmlDeviceGetUUID(handle))),
        name=name,
        mig=mig,
        card_uuid=_text(_ask(nvml, lambda: nvml.nvmlDeviceGetUUID(card))),
        memory_bytes=None if memory is None else int(memory.total),
        memory_used_bytes=None if memory is None else int(memory.used),
        power_cap_w=None if power_mw is None else power_mw / 1000,
        sm_clock_mhz=_ask(nvml, lambda: nvml.nvmlDeviceGetClockInfo(card, _SM_CLOCK)),
        max_sm_clock_mhz=_ask(nvml, lambda: nvml.nvmlDeviceGetMaxClockInfo(card, _SM_CLOCK)),
        throttle_reasons=None if reasons is None else tuple(reason_names(reasons)),
        clocks_locked=True if reasons is not None and reasons & CHOSEN_CLOCKS else None,
        persistent=None if persistent is None else bool(persistent),
        processes=None if processes is None else len(processes),
    )


def _ask(nvml: Nvml, call: Callable[[], T]) -> T | None:
    """The answer; None where the driver does not support the call, forbids it, or the binding is too old for it."""
    try:
        return call()
    except (nvml.NVMLError, AttributeError):
        return None


def _text(value: str | bytes | None) -> str | None:
    return value.decode() if isinstance(value, bytes) else value
