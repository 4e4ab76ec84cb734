"""Devices: what a network is to run on, how to reach it, and what it is made of."""

from hwnas.device.cores import QuotaReader, allowed_cores, cgroup_quota, usable_cores
from hwnas.device.device import Device, Runtime
from hwnas.device.fingerprint import Fingerprint, fingerprint
from hwnas.device.nvidia import NvidiaGpu, NvidiaState, gpu_for, nvidia_state

__all__ = [
    "Device",
    "Fingerprint",
    "NvidiaGpu",
    "NvidiaState",
    "QuotaReader",
    "Runtime",
    "allowed_cores",
    "cgroup_quota",
    "fingerprint",
    "gpu_for",
    "nvidia_state",
    "usable_cores",
]
