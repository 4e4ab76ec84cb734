"""Affinity and quota, from files made up to look like real systems."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwnas.device import (
    Device,
    allowed_cores,
    cgroup_quota,
    core_kinds,
    fingerprint,
    kind_of,
    quota_unread,
    usable_cores,
)
from hwnas.device.measure import choose_cores, core_siblings


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


V2 = {"proc/self/cgroup": "0::/jobs/one\n"}
V1 = {"proc/self/cgroup": "4:memory:/jobs\n1:cpu,cpuacct:/jobs/one\n0::/\n"}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, None),
        (V2, None),
        (V2 | {"sys/fs/cgroup/jobs/one/cpu.max": "max 100000\n"}, None),
        (V2 | {"sys/fs/cgroup/jobs/one/cpu.max": "50000 100000\n"}, 0.5),
        (V2 | {"sys/fs/cgroup/jobs/cpu.max": "50000 100000", "sys/fs/cgroup/jobs/one/cpu.max": "200000 100000"}, 0.5),
        # Inside a container the path is the host's, and only the root of the mount is there.
        (V2 | {"sys/fs/cgroup/cpu.max": "150000 100000\n"}, 1.5),
        (V2 | {"sys/fs/cgroup/cpu.max": "nonsense\n"}, None),
        (V2 | {"sys/fs/cgroup/unified/jobs/one/cpu.max": "30000 10000\n"}, 3.0),
        (V1 | {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"}, None),
        (
            V1
            | {
                "sys/fs/cgroup/cpu/jobs/one/cpu.cfs_quota_us": "250000\n",
                "sys/fs/cgroup/cpu/jobs/one/cpu.cfs_period_us": "100000\n",
            },
            2.5,
        ),
        (
            V1
            | {
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "100000\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            },
            1.0,
        ),
        (V1 | {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "100000", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "0"}, None),
        (V1 | {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "garbage", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"}, None),
        (V1 | {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "50000"}, None),
        (V2 | {"sys/fs/cgroup/cpu.max": ""}, None),
        (V2 | {"sys/fs/cgroup/cpu.max": "1 2 3"}, None),
        (V2 | {"sys/fs/cgroup/cpu.max": "nan 100000"}, None),
        (V2 | {"sys/fs/cgroup/cpu.max": "inf 100000"}, None),
    ],
)
def test_quota_is_the_tightest_of_all_groups(tmp_path: Path, files: dict[str, str], expected: float | None) -> None:
    assert cgroup_quota(write(tmp_path, files)) == expected


UNREAD = {
    "cpu.max": ["nonsense", "1 2 3", "", "nan 100000", "inf 100000", "100000 0", "-5 100000"],
    "cpu.cfs_quota_us": ["garbage", "0"],
}


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in UNREAD.items() for text in texts])
def test_a_quota_that_cannot_be_read_is_unknown_and_not_none(tmp_path: Path, name: str, text: str) -> None:
    files = {f"sys/fs/cgroup/{name}": text, "sys/fs/cgroup/cpu.cfs_period_us": "100000"}
    said = quota_unread(
        write(
            tmp_path,
            files if name == "cpu.max" else V1 | {f.replace("cgroup/", "cgroup/cpu/"): t for f, t in files.items()},
        )
    )
    assert said is not None
    assert "expected 'max' or two numbers" in said
    assert text in said


@pytest.mark.parametrize(
    "files", [{}, V2, V2 | {"sys/fs/cgroup/cpu.max": "max 100000"}, V2 | {"sys/fs/cgroup/cpu.max": "5 10"}]
)
def test_no_quota_and_a_plain_one_are_known(tmp_path: Path, files: dict[str, str]) -> None:
    assert quota_unread(write(tmp_path, files)) is None


def test_a_damaged_group_file_means_no_known_quota(tmp_path: Path) -> None:
    assert cgroup_quota(write(tmp_path, {"proc/self/cgroup": "garbage\n\n:::\n"})) is None


def test_allowed_cores_are_those_of_the_system() -> None:
    if not hasattr(os, "sched_getaffinity"):
        pytest.skip("this system has no affinity")
    assert set(allowed_cores() or ()) == os.sched_getaffinity(0)


def test_allowed_cores_are_unknown_where_the_system_does_not_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert allowed_cores() is None


@given(st.integers(1, 64), st.none() | st.floats(0.01, 64))
def test_usable_cores_never_exceed_a_bound_and_are_at_least_one(n: int, quota: float | None) -> None:
    usable = usable_cores(tuple(range(n)), quota)
    assert usable is not None
    assert 1 <= usable <= n
    assert quota is None or usable == 1 or usable <= quota


# --------------------------------------------------------------------------------------------- fast and slow cores

CPU = "sys/devices/system/cpu"


def capacities(*values: int) -> dict[str, str]:
    return {f"{CPU}/cpu{n}/cpu_capacity": f"{value}\n" for n, value in enumerate(values)}


def clocks(*khz: int) -> dict[str, str]:
    return {f"{CPU}/cpu{n}/cpufreq/cpuinfo_max_freq": f"{value}\n" for n, value in enumerate(khz)}


def threads(*groups: str) -> dict[str, str]:
    return {f"{CPU}/cpu{n}/topology/core_cpus_list": f"{group}\n" for n, group in enumerate(groups)}


BIG_LITTLE = capacities(446, 446, 446, 446, 1024, 1024)  # the slow cores first, as on many ARM boards
SLOW_LAST = capacities(1024, 1024, 446, 446)
THREE = capacities(290, 290, 732, 732, 1024)
# Two fast cores of two threads each, one of them with a favoured clock, then four slow cores.
HYBRID = (
    {"sys/devices/cpu_core/cpus": "0-3\n", "sys/devices/cpu_atom/cpus": "4-7\n"}
    | clocks(5_200_000, 5_200_000, 5_400_000, 5_400_000, *[3_900_000] * 4)
    | threads("0-1", "0-1", "2-3", "2-3", "4", "5", "6", "7")
)
ALIKE = clocks(*[3_000_000] * 4) | threads("0,2", "1,3", "0,2", "1,3")


@pytest.mark.parametrize(
    ("files", "kinds"),
    [
        ({}, None),
        (BIG_LITTLE, {"capacity 1024": (4, 5), "capacity 446": (0, 1, 2, 3)}),
        (SLOW_LAST, {"capacity 1024": (0, 1), "capacity 446": (2, 3)}),
        (THREE, {"capacity 1024": (4,), "capacity 732": (2, 3), "capacity 290": (0, 1)}),
        (HYBRID, {"cpu_core": (0, 1, 2, 3), "cpu_atom": (4, 5, 6, 7)}),
        (ALIKE, {"3000 MHz": (0, 1, 2, 3)}),
        (clocks(4_700_000, 4_650_000, 4_600_000, 4_500_000), {"4700 MHz": (0, 1, 2, 3)}),
        (
            {"sys/devices/cpu_core/cpus": "0", "sys/devices/cpu_atom/cpus": "1-2"}
            | clocks(5_000_000, 3_800_000, 2_500_000),
            {"cpu_core": (0,), "cpu_atom, 3800 MHz": (1,), "cpu_atom, 2500 MHz": (2,)},
        ),
        ({f"{CPU}/cpu0/cpu_capacity": "garbage", "sys/devices/cpu_core/cpus": "0-x"}, None),
    ],
)
def test_kinds_of_cores_are_told_apart_the_fastest_first(
    tmp_path: Path, files: dict[str, str], kinds: dict[str, tuple[int, ...]] | None
) -> None:
    found = core_kinds(write(tmp_path, files))
    assert found == kinds
    assert list(found or {}) == list(kinds or {})


@pytest.mark.parametrize(
    ("files", "wanted", "core", "allowed", "expected"),
    [
        (BIG_LITTLE, 1, None, (0, 1, 2, 3, 4, 5), (5,)),
        (SLOW_LAST, 1, None, (0, 1, 2, 3), (1,)),
        (SLOW_LAST, 3, None, (0, 1, 2, 3), (0, 1, 3)),
        (SLOW_LAST, 1, None, (2, 3), (3,)),  # only slow ones are allowed
        (SLOW_LAST, 2, 2, (0, 1, 2, 3), (2, 3)),  # the others are of the kind that was asked for
        (HYBRID, 1, None, tuple(range(8)), (3,)),
        (HYBRID, 2, None, tuple(range(8)), (1, 3)),  # one thread of each core first
        (HYBRID, 4, None, tuple(range(8)), (0, 1, 2, 3)),
        (HYBRID, 2, None, (2, 3, 4, 5), (2, 3)),
        (HYBRID, 2, 0, tuple(range(8)), (0, 3)),
        (ALIKE, 2, None, (0, 1, 2, 3), (2, 3)),
        (ALIKE, 2, None, (0, 1, 2), (1, 2)),
        ({}, 2, None, (0, 1, 2, 3), (2, 3)),
    ],
)
def test_the_fast_cores_are_chosen_one_thread_of_each_first(
    tmp_path: Path,
    files: dict[str, str],
    wanted: int,
    core: int | None,
    allowed: tuple[int, ...],
    expected: tuple[int, ...],
) -> None:
    root = write(tmp_path, files)
    kinds, siblings = core_kinds(root), core_siblings(root)
    assert choose_cores(wanted, core, cores=allowed, quota=None, kinds=kinds, siblings=siblings) == expected


def test_siblings_are_known_unknown_or_none(tmp_path: Path) -> None:
    assert core_siblings(tmp_path / "empty") is None
    assert core_siblings(write(tmp_path / "hybrid", HYBRID)) == ((0, 1), (2, 3))
    assert core_siblings(write(tmp_path / "plain", threads("0", "1"))) == ()


def test_a_machine_says_its_kinds_and_survives_json(tmp_path: Path) -> None:
    found = fingerprint(root=write(tmp_path, HYBRID), affinity=tuple(range(8)), quota=lambda: None)
    assert type(found).from_json(json.loads(json.dumps(found.to_json()))) == found
    assert kind_of((1, 4), found.core_kinds) == "cpu_core + cpu_atom"
    assert kind_of(None, found.core_kinds) is kind_of((1,), None) is None
    assert Device(name="a", threads=2).cores_of(found) == (1, 3)
