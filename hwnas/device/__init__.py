"""Devices: what a network is to run on, how to reach it, and what it is made of."""

from hwnas.device.cores import QuotaReader, allowed_cores, cgroup_quota, usable_cores
from hwnas.device.device import Device
from hwnas.device.fingerprint import Fingerprint, fingerprint
from hwnas.device.roofline import Efficiency, KernelKind, Roofline

__all__ = [
    "Device",
    "Efficiency",
    "Fingerprint",
    "KernelKind",
    "QuotaReader",
    "Roofline",
    "allowed_cores",
    "cgroup_quota",
    "fingerprint",
    "usable_cores",
]
