"""Devices: what a network is to run on, how to reach it, what it is made of, and the program that times networks."""

from hwnas.device.device import Device, Runtime
from hwnas.device.measure import (
    Fingerprint,
    QuotaReader,
    allowed_cores,
    cgroup_quota,
    core_kinds,
    fingerprint,
    kind_of,
    quota_unread,
    scratch,
    usable_cores,
)
from hwnas.device.nvidia import NvidiaGpu, NvidiaState, gpu_for, nvidia_state
from hwnas.device.protocol import LIMIT_S, OnNoise
from hwnas.device.roofline import Efficiency, KernelKind, Roofline
from hwnas.device.threads import MOST_THREADS, most_threads

__all__ = [
    "LIMIT_S",
    "MOST_THREADS",
    "Device",
    "Efficiency",
    "Fingerprint",
    "KernelKind",
    "NvidiaGpu",
    "NvidiaState",
    "OnNoise",
    "QuotaReader",
    "Roofline",
    "Runtime",
    "allowed_cores",
    "cgroup_quota",
    "core_kinds",
    "fingerprint",
    "gpu_for",
    "kind_of",
    "most_threads",
    "nvidia_state",
    "quota_unread",
    "scratch",
    "usable_cores",
]
