"""Devices: what a network is to run on, how to reach it, what it is made of, and the program that times networks."""

from hwnas.device.device import Device
from hwnas.device.measure import Fingerprint, QuotaReader, allowed_cores, cgroup_quota, fingerprint, usable_cores
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
