"""What this machine is: the device part of a latency table's header."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hwnas.device.cores import QuotaReader, allowed_cores, cgroup_quota

# Instruction sets that the runtime has kernels for; each changes latencies. Linux's names, x86 then ARM.
FLAGS = (
    "sse4_1",
    "avx",
    "avx2",
    "fma",
    "avx_vnni",
    "avx512f",
    "avx512bw",
    "avx512_vnni",
    "avx512_bf16",
    "amx_tile",
    "amx_int8",
    "amx_bf16",
    "neon",
    "asimd",
    "asimddp",
    "asimdhp",
    "i8mm",
    "bf16",
    "sve",
    "sve2",
)


@dataclass(frozen=True)
class Fingerprint:
    """What is known about a machine. None is unknown; nothing unknown is ever 0.

    Attributes:
        cpu_model: As the processor names itself; where it has no name, its architecture, as "aarch64".
        family: CPU family, x86 only.
        model: Model number within the family, x86 only.
        stepping: Revision of the model, x86 only.
        flags: Those of `FLAGS` the CPU has.
        cores: Visible to the system.
        affinity: Cores this process may use.
        quota: Cores' worth of time this process may spend; None: no limit, or unknown.
        hypervisor: Who made the virtual machine; "none" on bare metal.
        memory_bytes: Of the whole machine.
        vendor: Of the processor; on ARM systems the number of who designed it.
        caches: Size in bytes of each cache that the first core sees, as "L1 data".
    """

    cpu_model: str | None
    family: int | None
    model: int | None
    stepping: int | None
    flags: tuple[str, ...] | None
    cores: int | None
    affinity: tuple[int, ...] | None
    quota: float | None
    hypervisor: str | None
    memory_bytes: int | None
    vendor: str | None
    caches: dict[str, int] | None

    def to_json(self) -> dict[str, Any]:
        """A plain map of everything, unknown parts as None.

        Example:
            >>> "cpu_model" in fingerprint().to_json()
            True
        """
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}


def fingerprint(
    *,
    quota: QuotaReader = cgroup_quota,
    affinity: tuple[int, ...] | None = None,
    root: Path = Path("/"),
) -> Fingerprint:
    """Describe this machine.

    Args:
        quota: Says how many cores' worth of time the process may spend.
        affinity: Cores the process may use; asked of the system if not given.
        root: Where the system's files lie; another folder in tests.

    Example:
        >>> fingerprint(quota=lambda: 1.5).quota
        1.5
    """
    info = _cpu_info(root)
    words = info.get("flags", info.get("Features", "")).split()
    return Fingerprint(
        cpu_model=info.get("model name") or info.get("Model") or info.get("Hardware") or platform.machine() or None,
        family=_number(info.get("cpu family")),
        model=_number(info.get("model")),
        stepping=_number(info.get("stepping")),
        flags=tuple(flag for flag in FLAGS if flag in words) if words else None,
        cores=os.cpu_count(),
        affinity=allowed_cores() if affinity is None else affinity,
        quota=quota(),
        hypervisor=_hypervisor(root, words),
        memory_bytes=_memory(root),
        vendor=info.get("vendor_id") or info.get("CPU implementer") or None,
        caches=_caches(root),
    )


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdigit() else None


def _cpu_info(root: Path) -> Mapping[str, str]:
    """The first core's lines, and lines of the machine as a whole, which ARM systems put last."""
    info: dict[str, str] = {}
    for line in _read(root / "proc/cpuinfo").splitlines():
        name, colon, value = line.partition(":")
        if colon:
            info.setdefault(name.strip(), value.strip())
    return info


def _hypervisor(root: Path, flags: list[str]) -> str | None:
    if "hypervisor" not in flags:
        return "none" if "fpu" in flags else None  # only x86 says so in its flags
    return _read(root / "sys/class/dmi/id/sys_vendor") or _read(root / "sys/hypervisor/type") or "unnamed"


def _memory(root: Path) -> int | None:
    for line in _read(root / "proc/meminfo").splitlines():
        if line.startswith("MemTotal:"):
            kibibytes = _number(line.split()[1])
            return kibibytes * 1024 if kibibytes else None
    return None


def _caches(root: Path) -> dict[str, int] | None:
    caches = {}
    for folder in sorted((root / "sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind, size = (_read(folder / name) for name in ("level", "type", "size"))
        number = _number(size.removesuffix("K"))
        if level and number:
            caches[f"L{level} {kind.lower()}"] = number * (1024 if size.endswith("K") else 1)
    return caches or None
