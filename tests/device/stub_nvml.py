# ruff: noqa: N802 - the driver names its calls so
"""A driver library whose answers are chosen by a test: a few GPUs, cut or whole, some that do not answer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

NOT_SUPPORTED, NO_PERMISSION, NOT_FOUND, GPU_IS_LOST, UNINITIALIZED = 3, 4, 6, 15, 1


class StubError(Exception):
    """As pynvml's: its number in `value`."""

    def __init__(self, value: int) -> None:
        super().__init__({3: "Not Supported", 4: "Insufficient Permissions", 15: "GPU is lost"}.get(value, "Error"))
        self.value = value


@dataclass
class StubGpu:
    """One GPU; `refused` holds the calls that it answers with an error."""

    uuid: str
    name: str = "NVIDIA H100 PCIe"
    memory: int = 80 << 30
    slices: list[StubGpu] = field(default_factory=list)
    parent: StubGpu | None = None
    refused: dict[str, int] = field(default_factory=dict)
    reasons: Iterator[int] | None = None
    clock: int = 1755
    energy: Iterator[int] | None = None


class StubNvml:
    """The calls of pynvml, over stub GPUs."""

    NVMLError: type[Exception] = StubError

    def __init__(self, *gpus: StubGpu, fails: int | None = None) -> None:
        self.gpus = gpus
        self.fails = fails
        self.calls: list[str] = []
        for gpu in gpus:
            for piece in gpu.slices:
                piece.parent = gpu

    def _check(self, call: str, gpu: StubGpu) -> None:
        self.calls.append(call)
        for refused in (gpu.refused, gpu.parent.refused if gpu.parent else {}):
            if code := refused.get(call, refused.get("*")):
                raise StubError(code)

    def nvmlInit(self) -> None:
        if self.fails is not None:
            raise StubError(self.fails)

    def nvmlSystemGetDriverVersion(self) -> bytes:
        return b"580.65"

    def nvmlSystemGetCudaDriverVersion_v2(self) -> int:
        return 13010

    def nvmlDeviceGetCount(self) -> int:
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int, /) -> StubGpu:
        return self.gpus[index]

    def nvmlDeviceGetHandleByUUID(self, uuid: str, /) -> StubGpu:
        for gpu in self.gpus:
            for each in (gpu, *gpu.slices):
                if each.uuid == uuid:
                    return each
        raise StubError(NOT_FOUND)

    def nvmlDeviceGetName(self, handle: StubGpu, /) -> str:
        self._check("nvmlDeviceGetName", handle)
        return handle.name

    def nvmlDeviceGetUUID(self, handle: StubGpu, /) -> str:
        self._check("nvmlDeviceGetUUID", handle)
        return handle.uuid

    def nvmlDeviceGetMigMode(self, handle: StubGpu, /) -> list[int]:
        self._check("nvmlDeviceGetMigMode", handle)
        return [int(bool(handle.slices)), 0]

    def nvmlDeviceGetMaxMigDeviceCount(self, handle: StubGpu, /) -> int:
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle: StubGpu, index: int, /) -> StubGpu:
        if index >= len(handle.slices):
            raise StubError(NOT_FOUND)
        return handle.slices[index]

    def nvmlDeviceGetDeviceHandleFromMigDeviceHandle(self, handle: StubGpu, /) -> StubGpu:
        if handle.parent is None:
            raise StubError(2)
        return handle.parent

    def nvmlDeviceGetMemoryInfo(self, handle: StubGpu, /) -> Any:
        self._check("nvmlDeviceGetMemoryInfo", handle)
        return SimpleNamespace(total=handle.memory, used=1 << 30)

    def nvmlDeviceGetEnforcedPowerLimit(self, handle: StubGpu, /) -> int:
        self._check("nvmlDeviceGetEnforcedPowerLimit", handle)
        return 350_000

    def nvmlDeviceGetClockInfo(self, handle: StubGpu, kind: int, /) -> int:
        self._check("nvmlDeviceGetClockInfo", handle)
        return handle.clock

    def nvmlDeviceGetMaxClockInfo(self, handle: StubGpu, kind: int, /) -> int:
        self._check("nvmlDeviceGetMaxClockInfo", handle)
        return 1980

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: StubGpu, /) -> int:
        self._check("nvmlDeviceGetCurrentClocksThrottleReasons", handle)
        return 0 if handle.reasons is None else next(handle.reasons)

    def nvmlDeviceGetPersistenceMode(self, handle: StubGpu, /) -> int:
        self._check("nvmlDeviceGetPersistenceMode", handle)
        return 1

    def nvmlDeviceGetComputeRunningProcesses(self, handle: StubGpu, /) -> list[Any]:
        self._check("nvmlDeviceGetComputeRunningProcesses", handle)
        return []

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: StubGpu, /) -> int:
        self._check("nvmlDeviceGetTotalEnergyConsumption", handle)
        if handle.energy is None:
            raise StubError(NOT_SUPPORTED)
        return next(handle.energy)
