"""From a space to its latency table on a device."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from torch import nn

from hwnas.core import Architecture, MeasureError
from hwnas.cost import (
    TERMS,
    Calibration,
    DeviceRecord,
    ExportRecord,
    FamilyRecord,
    LatencyTable,
    NoiseRecord,
    ProtocolRecord,
    ReferenceRecord,
    RuntimeRecord,
    TableHeader,
    Timing,
    calibrate,
    entries_of,
    terms_of,
)
from hwnas.device import Device, QuotaReader, cgroup_quota
from hwnas.nn.to_onnx import EXPORTER, OPSET
from hwnas.profiling.exporting import block_source, export_all, network_source
from hwnas.profiling.matching import FACTOR_REFUSED, conditions_of, resolutions_of, version_of
from hwnas.profiling.networks import CALIBRATION, CALIBRATION_OF_KERNELS, Networks, choose_networks
from hwnas.profiling.session import ROUNDS, Measurement, ModelFile, OnNoise, ProgressCall, measure_models, reach_of
from hwnas.space import Block, Space

ANCHORS = 12
"""Rows of an existing table that are timed again, to bring the others to this session."""


@dataclass(frozen=True)
class ProfileReport:
    """What came of profiling a space.

    Attributes:
        table: As written.
        path: Of its file.
        seconds: In all, export included.
        measured: Blocks that the table got from this run.
        measurement: The session: its noise, verdict and conditions.
        failures: Blocks and whole networks that could not be built, exported or run, with the reason.
    """

    table: LatencyTable
    path: Path
    seconds: float
    measured: int
    measurement: Measurement
    failures: Mapping[str, str]

    @property
    def warnings(self) -> list[str]:
        """What a reader of the table should know, one line each."""
        lines = [f"{key} could not be measured: {reason}" for key, reason in sorted(self.failures.items())]
        if self.measurement.verdict == "noisy":
            lines.append(f"the table is marked noisy: {self.measurement.noise}")
        protocol, cores = self.table.header.protocol, self.table.header.device.cores
        loads = [load for load in (protocol.load_before, protocol.load_after) if load is not None]
        if loads and cores is not None and max(loads) > cores:
            lines.append(f"the machine was busy: the load was {max(loads):.1f} on {cores} cores")
        if self.table.header.calibration is None:
            lines.append("the table lacks blocks and so is not calibrated: nothing can be predicted from it yet")
        return lines


def table_path(folder: Path, device: Device, space: Space) -> Path:
    """Where the table of a space on a device lies.

    Example:
        >>> table_path(Path("latency_tables"), Device(name="this-cpu"), Space("toy", ())).name
        'this-cpu--onnxruntime-cpu--toy.jsonl'
    """
    return folder / f"{device.name}--{device.runtime}--{space.name}.jsonl"


def profile(
    space: Space,
    build: Callable[[Block], nn.Module],
    build_network: Callable[[Architecture], nn.Module],
    *,
    device: Device,
    folder: Path = Path("latency_tables"),
    workspace: Path | None = None,
    seed: int = 0,
    rounds: int = ROUNDS,
    on_noise: OnNoise = "default",
    existing: LatencyTable | None = None,
    family: FamilyRecord | None = None,
    quota: QuotaReader = cgroup_quota,
    progress: ProgressCall | None = None,
) -> ProfileReport:
    """Time every block of a space and some whole networks in one session, calibrate, and write the table.

    The networks' weights are random, and can be made again from the seed and the architectures in the table's header.
    A block that cannot be measured is named in the header, the others are kept; the table is then not calibrated.

    Args:
        space: With units.
        build: The plain module of a block.
        build_network: The plain module of an architecture; its input is that of the network's first block.
        device: Threads, batch, cores, name.
        folder: Where the table goes.
        workspace: Where the ONNX files go and stay; if not given, a temporary folder that is removed.
        seed: Of the choice of networks, their weights, the inputs and the order of visits.
        rounds: Visits of each model, see `measure_models`.
        on_noise: See `measure_models`.
        existing: A table of the same device: only the blocks it lacks are timed, and its rows are brought to this
            session by timing a dozen of them again. The networks are always timed.
        family: What the space was built from, for the header.
        quota: Says how many cores' worth of time this process may spend.
        progress: Called as the work goes on.

    Raises:
        MeasureError: If the measuring program failed, the machine was too noisy, the space has fewer than five
            networks, no block could be measured, or the machine has drifted too far from the existing table.
        TableError: If the existing table was made under other conditions.
        CostError: If the space has no units, or too few networks could be measured to calibrate.
        DeviceError: If the device cannot be reached, or has more threads than a process there has cores.
    """
    started = time.perf_counter()
    identity = reach_of(device, quota=quota).identity()  # before anything is exported: is it there, has it the cores?
    device.choose_cores(identity.fingerprint.affinity, identity.fingerprint.quota)
    blocks = entries_of(space)
    networks = choose_networks(space, seed=seed, calibration=networks_needed(space))
    old: dict[str, Timing] = {}
    if existing is not None:
        existing.check_conditions(conditions_of(device, identity))
        old = {key: timing for key, timing in existing.rows.items() if key in blocks}
    anchors = spread_keys(old, ANCHORS)
    timed = {key: block for key, block in blocks.items() if key not in old or key in anchors}
    with tempfile.TemporaryDirectory(prefix="hwnas-profile-") as temporary:
        models, failures = models_of(
            space,
            timed,
            networks,
            build,
            build_network,
            folder=workspace or Path(temporary),
            seed=seed,
            progress=progress,
        )
        measurement = measure_models(
            models, device=device, rounds=rounds, seed=seed, on_noise=on_noise, quota=quota, progress=progress
        )
    return table_of(
        space,
        networks,
        measurement,
        failures,
        device=device,
        folder=folder,
        seed=seed,
        family=family,
        export=export_record(),
        timed=timed,
        old=old,
        started=started,
    )


def models_of(
    space: Space,
    blocks: Mapping[str, Block],
    networks: Networks,
    build: Callable[[Block], nn.Module],
    build_network: Callable[[Architecture], nn.Module],
    *,
    folder: Path,
    seed: int,
    progress: ProgressCall | None,
) -> tuple[dict[str, ModelFile], dict[str, str]]:
    """Blocks and whole networks as ONNX files in a folder, and what could not be built or exported.

    Raises:
        MeasureError: If that is every block.
    """
    sources = {key: block_source(block, build) for key, block in blocks.items()}
    for role, architectures in _roles(networks):
        for architecture in architectures:
            sources[_key(role, architecture)] = network_source(space, architecture, build_network)
    files, failures = export_all(sources, folder, seed=seed, progress=progress)
    models = {
        key: ModelFile(path, "block" if key in blocks else "reference" if key.startswith("reference") else "network")
        for key, path in files.items()
    }
    if not blocks.keys() & models.keys():
        raise MeasureError(f"space {space.name}: no block could be exported; the first: {_first(failures)}")
    return models, failures


def table_of(
    space: Space,
    networks: Networks,
    measurement: Measurement,
    failures: Mapping[str, str],
    *,
    device: Device,
    folder: Path,
    seed: int,
    family: FamilyRecord | None,
    export: ExportRecord,
    timed: Collection[str],
    old: Mapping[str, Timing],
    started: float,
) -> ProfileReport:
    """Calibrate, and write the table.

    Args:
        space: That was measured.
        networks: Chosen for it with the seed.
        measurement: Of the blocks and the networks.
        failures: Of the export.
        device: That was measured on.
        folder: Where the table goes.
        seed: As in `profile`.
        family: What the space was built from, for the header.
        export: What made the ONNX files.
        timed: Keys of the blocks that were measured.
        old: Rows of an earlier table, to be brought to this session.
        started: `time.perf_counter()` when the work began.

    Raises:
        MeasureError: If no block could be measured, or the machine has drifted too far from the old rows.
        CostError: If too few networks could be measured to calibrate.
    """
    blocks = entries_of(space)
    failures = {**failures, **measurement.failures}
    new = {key: timing for key, timing in measurement.timings.items() if key in timed}
    if not new:
        raise MeasureError(f"space {space.name}: no block could be measured; the first: {_first(failures)}")
    rows = rescaled(old, drift(old, new)) | new
    calibration = None
    if rows.keys() >= blocks.keys():
        calibration = _calibrate(space, rows, networks, measurement)
    table = LatencyTable(
        _header(
            space,
            networks,
            measurement,
            calibration,
            failures,
            device=device,
            seed=seed,
            family=family,
            export=export,
        ),
        rows,
        source=str(table_path(folder, device, space)),
    )
    path = table_path(folder, device, space)
    table.save(path)
    return ProfileReport(table, path, time.perf_counter() - started, len(new), measurement, failures)


def networks_needed(space: Space) -> int:
    """How many whole networks the calibration of a space wants: more where only kernels are measured.

    Raises:
        CostError: If the space has no units.

    Example:
        >>> from hwnas.space import Unit
        >>> conv = Block("conv", (), (8, 4, 4), (8, 4, 4), 0, 0)
        >>> networks_needed(Space("tiny", (), (Unit("u", (), (conv,)),)))
        20
    """
    return CALIBRATION if terms_of(space) == TERMS else CALIBRATION_OF_KERNELS


def export_record() -> ExportRecord:
    """What makes ONNX files here.

    Example:
        >>> export_record().opset
        17
    """
    return ExportRecord(torch=version_of("torch"), onnx=version_of("onnx"), exporter=EXPORTER, opset=OPSET)


def spread_keys(rows: Mapping[str, Timing], n: int) -> list[str]:
    """Up to n keys, from the quickest row to the slowest."""
    by_time = sorted(rows, key=lambda key: (rows[key].p25_us, key))
    if len(by_time) <= n:
        return by_time
    return [by_time[i] for i in np.linspace(0, len(by_time) - 1, n).round().astype(int)]


def drift(old: Mapping[str, Timing], new: Mapping[str, Timing]) -> float:
    """How much longer things take now than then: the median ratio of what was timed both times; 1 if nothing was.

    Raises:
        MeasureError: If it is outside 0.85 to 1.15.
    """
    ratios = [new[key].p25_us / old[key].p25_us for key in sorted(old.keys() & new.keys())]
    factor = float(np.median(ratios)) if ratios else 1.0
    low, high = FACTOR_REFUSED
    if not low <= factor <= high:
        raise MeasureError(
            f"blocks of the existing table take {factor:.2f} times as long now; expected {low} to {high}",
            hint="measure all of them again: hwnas profile RECIPE, without --missing",
        )
    return factor


def rescaled(rows: Mapping[str, Timing], factor: float) -> dict[str, Timing]:
    """Rows with every time multiplied.

    Example:
        >>> rescaled({"a": Timing(1.0, 1.0, 1.0, 1.0, 0.1, 12, 1)}, 1.1)["a"].p25_us
        1.1
    """
    return {
        key: replace(
            timing,
            p25_us=timing.p25_us * factor,
            min_us=timing.min_us * factor,
            median_us=timing.median_us * factor,
            p90_us=timing.p90_us * factor,
        )
        for key, timing in rows.items()
    }


def _roles(networks: Networks) -> list[tuple[str, tuple[Architecture, ...]]]:
    return [("network", networks.calibration + networks.held_out), ("reference", networks.reference)]


def _key(role: str, architecture: Architecture) -> str:
    return f"{role} {architecture.digest}"


def _first(failures: Mapping[str, str]) -> str:
    return next((f"{key}: {reason}" for key, reason in sorted(failures.items())), "none was tried")


def _calibrate(space: Space, rows: Mapping[str, Timing], networks: Networks, measurement: Measurement) -> Calibration:
    def timed(architectures: Sequence[Architecture]) -> tuple[list[Architecture], list[float]]:
        found = [a for a in architectures if _key("network", a) in measurement.timings]
        return found, [measurement.timings[_key("network", a)].p25_us for a in found]

    fitted, fitted_us = timed(networks.calibration)
    held_out, held_out_us = timed(networks.held_out)
    return calibrate(space, rows, fitted, fitted_us, held_out=held_out, held_out_us=held_out_us)


def _header(
    space: Space,
    networks: Networks,
    measurement: Measurement,
    calibration: Calibration | None,
    failures: Mapping[str, str],
    *,
    device: Device,
    seed: int,
    family: FamilyRecord | None,
    export: ExportRecord,
) -> TableHeader:
    conditions, noise = measurement.conditions, measurement.noise
    references = [
        ReferenceRecord(architecture=dict(a), p25_us=measurement.timings[_key("reference", a)].p25_us)
        for a in networks.reference
        if _key("reference", a) in measurement.timings
    ]
    return TableHeader(
        unit="us",
        space=space.name,
        space_digest=space.digest,
        entries_digest=space.entries_digest,
        created_utc=datetime.now(UTC),
        tool_version=version_of("hwnas") or "source tree",
        device=DeviceRecord(name=device.name, **conditions["machine"]),
        runtime=RuntimeRecord(**{name: conditions[name] for name in RuntimeRecord.model_fields}),
        export=export,
        precision=device.precision,
        batch=device.batch,
        threads=device.threads,
        resolutions=resolutions_of(space),
        weights="random",
        protocol=ProtocolRecord(
            rounds=conditions["rounds"],
            runs=conditions["runs"],
            order_seed=seed,
            load_before=conditions["load_before"],
            load_after=conditions["load_after"],
            steal_share=conditions["steal_share"],
        ),
        empty_run_us=measurement.empty_run_us,
        reference=tuple(references),
        noise=None
        if noise is None or noise.tau is None
        else NoiseRecord(median=noise.median, p95=noise.p95, tau=noise.tau, passed=measurement.verdict == "quiet"),
        calibration=calibration,
        failures=dict(sorted(failures.items())),
        family=family,
    )
