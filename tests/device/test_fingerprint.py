"""What a machine says of itself, from files made up to look like real ones."""

from __future__ import annotations

import json
from pathlib import Path

from hwnas.device import fingerprint
from tests.device.test_cores import write

X86 = {
    "proc/cpuinfo": "processor\t: 0\nvendor_id\t: GenuineFast\nmodel name\t: Fast CPU\n"
    "cpu family\t: 25\nmodel\t\t: 97\nstepping\t: 2\n"
    "flags\t\t: fpu sse4_1 avx2 fma hypervisor avx512f avx512_vnni\n\nprocessor\t: 1\nmodel name\t: Fast CPU\n",
    "proc/meminfo": "MemTotal:       16384 kB\nMemFree:  1 kB\n",
    "sys/class/dmi/id/sys_vendor": "QEMU\n",
    **{
        f"sys/devices/system/cpu/cpu0/cache/index{n}/{name}": f"{text}\n"
        for n, row in enumerate((("1", "Data", "32K"), ("3", "Unified", "32768K"), ("4", "Unified", "odd")))
        for name, text in zip(("level", "type", "size"), row, strict=True)
    },
}
ARM = {"proc/cpuinfo": "processor\t: 0\nFeatures\t: fp asimd asimddp\n\nModel\t\t: Small Board 4\n"}


def test_an_x86_guest(tmp_path: Path) -> None:
    found = fingerprint(root=write(tmp_path, X86), quota=lambda: 1.5, affinity=(1,))
    assert (found.cpu_model, found.family, found.model, found.stepping) == ("Fast CPU", 25, 97, 2)
    assert found.flags == ("sse4_1", "avx2", "fma", "avx512f", "avx512_vnni")
    assert (found.hypervisor, found.memory_bytes) == ("QEMU", 16384 * 1024)
    assert (found.affinity, found.quota) == ((1,), 1.5)
    assert (found.vendor, found.caches) == ("GenuineFast", {"L1 data": 32768, "L3 unified": 33554432})


def test_an_arm_board_says_nothing_of_a_hypervisor(tmp_path: Path) -> None:
    found = fingerprint(root=write(tmp_path, ARM))
    assert (found.cpu_model, found.flags) == ("Small Board 4", ("asimd", "asimddp"))
    assert [found.hypervisor, found.family, found.stepping, found.memory_bytes] == [None] * 4


def test_bare_metal_and_an_unnamed_guest_are_told_apart(tmp_path: Path) -> None:
    bare = write(tmp_path / "bare", {"proc/cpuinfo": "flags : fpu avx2\n"})
    guest = write(tmp_path / "guest", {"proc/cpuinfo": "flags : fpu avx2 hypervisor\n"})
    assert (fingerprint(root=bare).hypervisor, fingerprint(root=guest).hypervisor) == ("none", "unnamed")


def test_unknown_is_none_and_never_zero(tmp_path: Path) -> None:
    found = fingerprint(root=tmp_path, quota=lambda: None)
    assert [found.flags, found.family, found.model, found.memory_bytes, found.quota] == [None] * 5
    assert [found.vendor, found.caches] == [None, None]
    assert 0 not in [value for value in found.to_json().values() if not isinstance(value, list)]


def test_a_fingerprint_is_json_and_repeats() -> None:
    found = fingerprint()
    assert json.loads(json.dumps(found.to_json())) == found.to_json()
    assert found == fingerprint()
    assert found.cores is None or found.affinity is None or found.cores >= len(found.affinity)
