"""Whole networks measured later, brought to the session in which their table was made."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from torch import nn

from hwnas.core import Architecture, MeasureError, TableError
from hwnas.cost import LatencyTable, Timing
from hwnas.device import Device, QuotaReader, cgroup_quota, scratch
from hwnas.device.measure import P95_LIMIT, resolved_tau
from hwnas.profiling.circumstances import table_differences, told_of
from hwnas.profiling.exporting import export_all, network_source
from hwnas.profiling.matching import FACTOR_REFUSED, FACTOR_SILENT, TAU_REFUSED, MismatchCall, conditions_of
from hwnas.profiling.program import Identity
from hwnas.profiling.session import ROUNDS, Measurement, ModelFile, OnNoise, ProgressCall, measure_models
from hwnas.space import Space


@dataclass(frozen=True)
class Remeasurement:
    """Networks timed together with the reference networks of a table.

    Attributes:
        latency_ms: By name; brought to the table's session where `scaled`, else as measured now.
        raw_ms: By name, as measured now.
        timings: By name, as measured now, the whole distribution.
        factor: How much longer the reference networks take now than when the table was made, at the median.
        spread: How far a single reference network is off that factor at most, relative.
        tau: Kendall's rank correlation of the reference networks, now and then, over pairs that were further apart then
            than the noise gate lets two measurements of one network be; None if there are none.
        failures: By name, why a network could not be run.
        measurement: The session: its noise, verdict and conditions.
        differences: How its machine and runtime differ from the table's, one phrase by field of the header.
        scaled: Whether times were divided by the factor: only a table that still describes this machine allows it.
    """

    latency_ms: Mapping[str, float]
    raw_ms: Mapping[str, float]
    timings: Mapping[str, Timing]
    factor: float
    spread: float
    tau: float | None
    failures: Mapping[str, str]
    measurement: Measurement
    differences: Mapping[str, str] = field(default_factory=dict)
    scaled: bool = True

    @property
    def holds(self) -> bool:
        """Whether the table still describes the machine: a factor within 0.85 to 1.15, the references in order."""
        return _holds(self.factor, self.tau)

    @property
    def warnings(self) -> list[str]:
        """What a reader of the numbers should know, one line each."""
        lines = []
        low, high = FACTOR_SILENT
        if not self.holds:
            lines.append(
                f"the table no longer describes this machine: {self._drift()}; times are as measured, not brought to "
                "its session"
            )
        elif not self.scaled:
            lines.append("times are as measured, as the table was made on another machine or with another runtime")
        elif not low <= self.factor <= high:
            lines.append(f"the machine has drifted since the table was made, and times were corrected: {self._drift()}")
        lines += [f"the table differs: {line}" for line in self.differences.values()]
        lines += told_of(self.measurement)
        if self.measurement.verdict == "noisy":
            lines.append(f"the machine was noisy: {self.measurement.noise}")
        lines += [f"{name} could not be measured: {reason}" for name, reason in sorted(self.failures.items())]
        return lines

    def _drift(self) -> str:
        tau = "" if self.tau is None else f", in the order of tau {self.tau:.2f}"
        return f"its reference networks take {self.factor:.2f} times as long{tau}"


def remeasure(
    networks: Mapping[str, Path],
    *,
    table: LatencyTable,
    device: Device,
    space: Space,
    build_network: Callable[[Architecture], nn.Module],
    rounds: int = ROUNDS,
    on_noise: OnNoise = "mark",
    energy: Collection[str] = (),
    quota: QuotaReader = cgroup_quota,
    by_hand: Path | None = None,
    progress: ProgressCall | None = None,
) -> Remeasurement:
    """Time networks interleaved with the table's reference networks, which are built again from its header.

    Sessions minutes apart differ by 1 to 3 % as a whole; dividing by the factor of the reference networks leaves 0.25
    to 0.5 %. That is a correction for drift. Where the factor is outside of 0.85 to 1.15, the references are in another
    order, or the table was made on another processor or with another runtime, times stay as they were measured.

    Args:
        networks: ONNX files by name; may be empty, if only the references matter.
        table: With reference networks in its header.
        device: As it was for the table.
        space: Of the table.
        build_network: As it was for the table: the same shapes; weights are drawn anew from the table's seed.
        rounds: Visits of each model.
        on_noise: See `measure_models`; by default nothing is refused: a search should not lose its front at the end.
        energy: Names of networks to read a GPU's energy counter for: half a minute each.
        quota: Says how many cores' worth of time this process may spend.
        by_hand: See `measure_models`.
        progress: Called as the work goes on.

    Raises:
        TableError: If the table has no reference networks, or the results of a device that is reached by hand are of
            another machine than the table.
        MeasureError: If the measuring program failed, or no reference network could be run.
        DeviceError: If the device cannot be reached, or has more threads than a process there has cores.
        SpaceError: If a reference network is not one of the space.
    """
    if not table.header.reference:
        raise TableError(
            f"{table.source}: it has no reference networks, so times of today cannot be compared with it",
            hint="measure the device again: hwnas profile RECIPE",
        )
    stored = {f"reference {n}": record for n, record in enumerate(table.header.reference)}
    sources = {
        key: network_source(space, Architecture(record.architecture), build_network) for key, record in stored.items()
    }
    with scratch("remeasure") as folder:
        files, failures = export_all(
            sources,
            folder,
            seed=table.header.protocol.order_seed,
            runtime=device.runtime,
            batch=device.batch,
            progress=progress,
        )
        models = {key: ModelFile(path, "reference") for key, path in files.items()}
        models |= {f"network {name}": ModelFile(path) for name, path in networks.items()}
        if not models:
            raise MeasureError(
                f"{table.source}: no reference network could be exported: {sorted(failures.values())[0]}"
            )
        measurement = measure_models(
            models,
            device=device,
            rounds=rounds,
            seed=table.header.protocol.order_seed,
            on_noise=on_noise,
            energy=[f"network {name}" for name in energy],
            quota=quota,
            by_hand=by_hand,
            progress=progress,
        )
    if device.reach == "kit":  # nobody could ask before; of other devices the table was checked when it was loaded
        found = {"fingerprint": measurement.conditions["machine"], "onnxruntime": measurement.conditions["onnxruntime"]}
        table.check_conditions(conditions_of(device, Identity.from_json(found)))
    failures |= measurement.failures
    again = [key for key in stored if key in measurement.timings]
    if not again:
        raise MeasureError(f"{table.source}: no reference network could be run: {sorted(failures.values())[0]}")
    then = np.array([stored[key].p25_us for key in again])
    now = np.array([measurement.timings[key].p25_us for key in again])
    factor = float(np.median(now / then))
    tau = resolved_tau(then, now, resolution=P95_LIMIT, by=then)[0]
    scaled = _holds(factor, tau) and not table_differences(table, measurement, device, exact=False)
    timings = {name: measurement.timings[f"network {name}"] for name in networks if f"network {name}" not in failures}
    raw_ms = {name: timing.p25_us / 1000 for name, timing in timings.items()}
    return Remeasurement(
        latency_ms={name: ms / factor if scaled else ms for name, ms in raw_ms.items()},
        raw_ms=raw_ms,
        timings=timings,
        factor=factor,
        spread=float(np.abs(now / then / factor - 1).max()),
        tau=tau,
        failures={key.removeprefix("network "): reason for key, reason in failures.items()},
        measurement=measurement,
        differences=table_differences(table, measurement, device),
        scaled=scaled,
    )


def _holds(factor: float, tau: float | None) -> bool:
    low, high = FACTOR_REFUSED
    return low <= factor <= high and (tau is None or tau >= TAU_REFUSED)


def check_references(
    table: LatencyTable,
    *,
    device: Device,
    space: Space,
    build_network: Callable[[Architecture], nn.Module],
    rounds: int = ROUNDS,
    quota: QuotaReader = cgroup_quota,
    on_mismatch: MismatchCall | None = None,
    progress: ProgressCall | None = None,
) -> Remeasurement:
    """Measure only the reference networks, and refuse a table that no longer describes the machine. Takes seconds.

    Args:
        table: With reference networks in its header.
        device: See `remeasure`, also for what follows.
        space: Of the table.
        build_network: As it was for the table.
        rounds: Visits of each network.
        quota: Says how many cores' worth of time this process may spend.
        on_mismatch: Takes what would otherwise be refused, and lets it pass; see `table_matches`.
        progress: Called as the work goes on.

    Raises:
        TableError: If the references take less than 0.85 or more than 1.15 times as long as they did, are in another
            order (tau below 0.9), or there are none.
        MeasureError: As `remeasure`.
        DeviceError: As `remeasure`.
        SpaceError: As `remeasure`.
    """
    result = remeasure(
        {},
        table=table,
        device=device,
        space=space,
        build_network=build_network,
        rounds=rounds,
        quota=quota,
        progress=progress,
    )
    if not result.holds:
        low, high = FACTOR_REFUSED
        tau = "" if result.tau is None else f" and their order agrees to tau {result.tau:.2f}"
        fault = (
            f"{table.source}: its reference networks take {result.factor:.2f} times as long now{tau}; "
            f"expected {low} to {high} and at least {TAU_REFUSED}"
        )
        if on_mismatch is not None:
            on_mismatch(fault)
            return result
        raise TableError(
            fault,
            hint=f"stop other work, or measure {device.name} again for space {space.name}: hwnas profile RECIPE",
        )
    return result
