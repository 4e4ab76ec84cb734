"""Affinity and quota, from files made up to look like real systems."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwnas.device import allowed_cores, cgroup_quota, usable_cores


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
