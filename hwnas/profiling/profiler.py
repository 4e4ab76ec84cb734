"""From a space to its latency table on a device."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from hwnas.core import Architecture, CostError, DeviceError, MeasureError, counted, digest_of
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
    RepeatRecord,
    RuntimeRecord,
    TableHeader,
    Timing,
    calibrate,
    doubtful_rows,
    entries_of,
    every_network,
    in_lines,
    terms_of,
)
from hwnas.device import Device, QuotaReader, cgroup_quota, scratch
from hwnas.device.measure import P95_LIMIT, Machine
from hwnas.nn import to_onnx, to_pt2
from hwnas.profiling.earlier import keep_earlier
from hwnas.profiling.exporting import block_source, export_all, network_source
from hwnas.profiling.journal import Journal, sha256_of
from hwnas.profiling.liveness import footprint_of
from hwnas.profiling.matching import (
    FACTOR_REFUSED,
    classes_of,
    conditions_of,
    marked_lines,
    resolutions_of,
    version_of,
)
from hwnas.profiling.networks import CALIBRATION, CALIBRATION_OF_KERNELS, Networks, choose_networks
from hwnas.profiling.program import Identity, Progress, ProgressCall
from hwnas.profiling.runtimes import check_runtime, suffix_of
from hwnas.profiling.session import ROUNDS, Measurement, ModelFile, OnNoise, measure_models, reach_of
from hwnas.space import Block, Space
from hwnas.store.lock import FolderLock

ANCHORS = 12
"""Rows of an existing table that are timed again, to bring the others to this session."""

SHOWN = 5
"""Failures that are told one by one."""

GRAPH_BYTES = 8192
"""Of an exported file without its weights, about."""


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
        notes: Lesser things that a reader should know, as that a block's memory is unknown.
        earlier: Where the table is kept whose place this one took; None if there was none.
        doubtful: Rows that cannot be right, by key, with the reason.
    """

    table: LatencyTable
    path: Path
    seconds: float
    measured: int
    measurement: Measurement
    failures: Mapping[str, str]
    notes: tuple[str, ...] = ()
    earlier: Path | None = None
    doubtful: Mapping[str, str] = field(default_factory=dict)

    @property
    def failed_blocks(self) -> dict[str, str]:
        """Blocks that could not be measured, with the reason: without them nothing can be predicted."""
        return failed_blocks(self.failures)

    @property
    def warnings(self) -> list[str]:
        """What a reader of the table should know, one line each."""
        by_kind = self.failed_blocks | dict(sorted(self.failures.items()))  # blocks first: networks fail with them
        failed = [f"{key} could not be measured: {reason}" for key, reason in by_kind.items()]
        lines = failed[:SHOWN]
        if len(failed) > SHOWN:
            lines.append(f"{len(failed) - SHOWN} more could not be measured; the table's header names them")
        if self.measurement.verdict == "noisy":
            lines.append(f"the table is marked noisy: {self.measurement.noise}")
        protocol = self.table.header.protocol
        lines += [f"the machine was {mark}" for mark in protocol.marks]
        lines += marked_lines(protocol.row_marks)
        lines += in_lines(self.doubtful)
        lines += [*protocol.notes, *self.notes]
        if self.table.header.calibration is None:
            lines.append("the table lacks blocks and so is not calibrated: nothing can be predicted from it yet")
        return lines


def failed_blocks(failures: Mapping[str, str]) -> dict[str, str]:
    """The blocks among what failed, with the reasons; the others are whole networks.

    Example:
        >>> failed_blocks({"stem": "no such kernel", "network 0a": "no such kernel"})
        {'stem': 'no such kernel'}
    """
    whole = ("network ", "reference ")
    return {key: reason for key, reason in sorted(failures.items()) if not key.startswith(whole)}


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
    journal: Path | None = None,
    seed: int = 0,
    rounds: int = ROUNDS,
    on_noise: OnNoise = "default",
    limit_s: float | None = None,
    drop_disturbed: bool = False,
    repeat: bool = False,
    existing: LatencyTable | None = None,
    family: FamilyRecord | None = None,
    quota: QuotaReader = cgroup_quota,
    machine: Machine | None = None,
    now: datetime | None = None,
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
        journal: A folder of this profile's own, in the place of `workspace`: finished files and rounds are kept there
            until the table is written, so that a profile that was killed goes on when it is started again.
        seed: Of the choice of networks, their weights, the inputs and the order of visits.
        rounds: Visits of each model, see `measure_models`.
        on_noise: See `measure_models`.
        limit_s: See `measure_models`.
        drop_disturbed: See `measure_models`.
        repeat: Measure everything once more in a fresh process, and put into the header how far the times differ.
        existing: A table of the same device: only the blocks it lacks are timed, and its rows are brought to this
            session by timing a dozen of them again. The networks are always timed.
        family: What the space was built from, for the header.
        quota: Says how many cores' worth of time this process may spend.
        machine: A clock and other readers of one's own, see `measure_models`.
        now: That the table says it was made at.
        progress: Called as the work goes on.

    Raises:
        StoreError: If another process works in the journal's folder.
        MeasureError: If the runtime does not work here, the files do not fit onto the disk, the measuring program
            failed, the machine was too noisy, no block could be measured, the
            journal is damaged, or the machine has drifted too far from the existing table.
        TableError: If the existing table was made under other conditions.
        CostError: If the space has no units, or too few networks could be measured to calibrate.
        DeviceError: If the device cannot be reached, or has more threads than a process there has cores.
    """
    started = time.perf_counter()
    identity = reach_of(device, quota=quota).identity()  # before anything is exported: is it there, has it the cores?
    device.cores_of(identity.fingerprint)
    if machine is None:
        check_runtime(device)
    blocks = entries_of(space)
    networks = choose_networks(space, seed=seed, calibration=networks_needed(space))
    old: dict[str, Timing] = {}
    if existing is not None:
        existing.check_conditions(conditions_of(device, identity))
        old = {key: timing for key, timing in existing.rows.items() if key in blocks}
    anchors = spread_keys(old, ANCHORS)
    timed = {key: block for key, block in blocks.items() if key not in old or key in anchors}
    with ExitStack() as stack:
        files_at = workspace or journal or stack.enter_context(scratch("profile"))
        check_room(files_at, export_bytes(space, timed, networks), device=device, there=identity.free_bytes)
        done = None
        if journal is not None:
            lock = FolderLock(journal.with_name(f"{journal.name}.lock"))
            stack.callback(shutil.rmtree, lock.path.parent, ignore_errors=True)
            wanted = [_key(role, a) for role, architectures in _roles(networks) for a in architectures]
            how = [seed, rounds, limit_s, drop_disturbed, sorted([*timed, *wanted])]
            done = Journal(journal, _identity(space, device, how, identity))
            files_at = journal
            if progress is not None and (done.discarded or len(done)):
                left = (
                    "is of other conditions and thrown away"
                    if done.discarded
                    else f"has {counted(len(done), 'file')}: going on"
                )
                total = len(timed) + len(wanted)
                progress(Progress("export", 0, total, f"an earlier profile that was not finished {left}"))
        models, failures = models_of(
            space,
            timed,
            networks,
            build,
            build_network,
            folder=files_at,
            device=device,
            seed=seed,
            journal=done,
            progress=progress,
        )

        def session(seed: int, log: Path | None) -> Measurement:
            return measure_models(
                models,
                device=device,
                rounds=rounds,
                seed=seed,
                on_noise=on_noise,
                limit_s=limit_s,
                drop_disturbed=drop_disturbed,
                log=log,
                quota=quota,
                machine=machine,
                progress=progress,
            )

        try:
            measurement = session(seed, None if done is None else done.rounds)
        except (MeasureError, DeviceError) as error:
            if done is None:
                raise
            raise type(error)(error.message, hint=_with_kept(error.hint, done.folder)) from error
        repeated = repeat_of(measurement, session(seed + 1, None)) if repeat else None
        report = table_of(
            space,
            networks,
            measurement,
            failures,
            device=device,
            folder=folder,
            seed=seed,
            family=family,
            export=export_record(device),
            timed=timed,
            old=old,
            files={key: model.path for key, model in models.items()},
            repeated=repeated,
            now=now,
            started=started,
        )
        if done is not None:
            done.remove()
    return report


def export_bytes(space: Space, blocks: Mapping[str, Block], networks: Networks) -> int:
    """About what the files of these blocks and networks take: four bytes a parameter, and a graph each."""
    parameters = [block.parameters for block in blocks.values()]
    for _, architectures in _roles(networks):
        parameters += [sum(block.parameters for block in space.blocks_of(a)) for a in architectures]
    return sum(4 * count + GRAPH_BYTES for count in parameters)


def check_room(folder: Path, needed: int, *, device: Device, there: int | None) -> None:
    """That the files to be exported fit onto the disk, and those of a device onto its own.

    Args:
        folder: Where they go; what it holds already counts.
        needed: Bytes of all.
        device: That they are for.
        there: Bytes that are free on a device elsewhere; None: unknown, or it is this machine.

    Raises:
        MeasureError: If not, with both figures.
    """
    disk = next(parent for parent in (folder, *folder.resolve().parents) if parent.is_dir())
    held = sum(path.stat().st_size for path in folder.glob("*.onnx")) if folder.is_dir() else 0
    for where, free, rest in (
        (str(disk), shutil.disk_usage(disk).free, needed - held),
        (f"the temporary folder of {device.host}", there, needed),
    ):
        if free is not None and rest > free:
            raise MeasureError(
                f"device {device.name}: the files to be timed take about {rest / 2**20:.0f} MiB, and {where} has "
                f"{free / 2**20:.0f} MiB free",
                hint="free some space there first; a space with fewer or smaller options needs less",
            )


def models_of(
    space: Space,
    blocks: Mapping[str, Block],
    networks: Networks,
    build: Callable[[Block], nn.Module],
    build_network: Callable[[Architecture], nn.Module],
    *,
    folder: Path,
    device: Device,
    seed: int,
    journal: Journal | None = None,
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
    files, failures = export_all(
        sources, folder, seed=seed, runtime=device.runtime, batch=device.batch, journal=journal, progress=progress
    )
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
    timed: Mapping[str, Block],
    old: Mapping[str, Timing],
    files: Mapping[str, Path],
    started: float,
    repeated: RepeatRecord | None = None,
    now: datetime | None = None,
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
        timed: The blocks that were measured.
        old: Rows of an earlier table, to be brought to this session.
        files: The ONNX files, by key, as far as they are here: rows and references say more of those.
        started: `time.perf_counter()` when the work began.
        repeated: How far a second measurement differs.
        now: That the table says it was made at.

    Raises:
        MeasureError: If no block could be measured, or the machine has drifted too far from the old rows.
        CostError: If too few networks could be measured to calibrate.
    """
    blocks = entries_of(space)
    failures = {**failures, **measurement.failures}
    new, notes = _with_footprints(measurement, files, timed)
    if not new:
        raise MeasureError(f"space {space.name}: no block could be measured; the first: {_first(failures)}")
    rows = rescaled(old, drift(old, new)) | new
    calibration = None
    if rows.keys() >= blocks.keys():
        calibration = _calibrate(space, rows, networks, measurement, failures)
    sha256 = {key: sha256_of(path) for key, path in files.items() if key.startswith("reference")}
    header = _header(
        space,
        networks,
        measurement,
        calibration,
        failures,
        sha256,
        repeated,
        device=device,
        seed=seed,
        family=family,
        export=export,
    )
    if now is not None:
        header = header.model_copy(update={"created_utc": now})
    path = table_path(folder, device, space)
    table = LatencyTable(header, rows, source=str(path))
    earlier = keep_earlier(path, table)
    table.save(path)
    return ProfileReport(
        table,
        path,
        time.perf_counter() - started,
        len(new),
        measurement,
        failures,
        tuple(notes),
        earlier,
        doubtful_rows(space, table),
    )


def repeat_of(first: Measurement, second: Measurement) -> RepeatRecord | None:
    """How far two measurements of the same models differ once the reference networks' factor is taken out.

    Returns:
        None if no model was timed both times. Without reference networks the factor is that of all models.
    """
    keys = sorted(first.timings.keys() & second.timings.keys())
    if not keys:
        return None
    ratios = {key: second.timings[key].p25_us / first.timings[key].p25_us for key in keys}
    references = [ratio for key, ratio in ratios.items() if key.startswith("reference")]
    factor = float(np.median(references or list(ratios.values())))
    off = np.abs(np.array(list(ratios.values())) / factor - 1)
    return RepeatRecord(factor=factor, median=float(np.median(off)), p95=float(np.percentile(off, 95)), n=len(keys))


def _with_kept(hint: str, folder: Path) -> str:
    """A way out, and where the files are that make the next try shorter."""
    taken = sum(path.stat().st_size for path in folder.iterdir() if path.is_file()) / 2**20
    kept = f"what was exported, {taken:.1f} MiB, stays in {folder} for the next try: delete it if there is none"
    return f"{hint}; {kept}" if hint else kept


def _identity(space: Space, device: Device, how: Sequence[Any], identity: Identity) -> str:
    """What makes an unfinished profile one that can be continued: the same work on the same processor."""
    here = identity.fingerprint
    return digest_of([
        *(space.digest, space.entries_digest, device.model_dump(mode="json"), *how),
        *(here.cpu_model, here.family, here.model, here.stepping, list(here.flags or ())),
        *(identity.onnxruntime, identity.version, identity.gpu, version_of("torch"), version_of("onnx")),
    ])


def _with_footprints(
    measurement: Measurement, files: Mapping[str, Path], blocks: Mapping[str, Block]
) -> tuple[dict[str, Timing], list[str]]:
    """The rows of blocks with what else is known of them, and whose memory is not known, and why.

    Where there is no file any more, as of a kit that was carried away, the memory stays unknown.
    """
    rows, notes = {}, []
    for key, block in blocks.items():
        if key not in measurement.timings:
            continue
        row = replace(measurement.timings[key], macs=block.macs)
        rows[key] = row
        if key not in files or files[key].suffix != ".onnx":
            continue
        try:
            found = footprint_of(files[key])
            row = replace(
                row, weight_bytes=found.weight_bytes, peak_activation_bytes=found.peak_activation_bytes or None
            )
        except MeasureError as error:
            notes.append(f"the memory of {key} is unknown: {error.message}")
        rows[key] = row
    return rows, notes


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


def export_record(device: Device) -> ExportRecord:
    """What makes the files that a device's runtime loads.

    Example:
        >>> export_record(Device(name="a", runtime="torch")).exporter
        'torch.export'
    """
    if suffix_of(device.runtime) == ".pt2":
        return ExportRecord(torch=version_of("torch"), exporter=to_pt2.EXPORTER)
    return ExportRecord(
        torch=version_of("torch"),
        onnx=version_of("onnx"),
        exporter=to_onnx.EXPORTER,
        opset=to_onnx.OPSET,
        constant_folding=to_onnx.CONSTANT_FOLDING,
    )


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
            device_us=None if timing.device_us is None else timing.device_us * factor,
        )
        for key, timing in rows.items()
    }


def _roles(networks: Networks) -> list[tuple[str, tuple[Architecture, ...]]]:
    return [("network", networks.calibration + networks.held_out), ("reference", networks.reference)]


def _key(role: str, architecture: Architecture) -> str:
    return f"{role} {architecture.digest}"


def _first(failures: Mapping[str, str]) -> str:
    return next((f"{key}: {reason}" for key, reason in sorted(failures.items())), "none was tried")


def _calibrate(
    space: Space,
    rows: Mapping[str, Timing],
    networks: Networks,
    measurement: Measurement,
    failures: Mapping[str, str],
) -> Calibration:
    def timed(architectures: Sequence[Architecture]) -> tuple[list[Architecture], list[float]]:
        found = [a for a in architectures if _key("network", a) in measurement.timings]
        return found, [measurement.timings[_key("network", a)].p25_us for a in found]

    fitted, fitted_us = timed(networks.calibration)
    if networks.whole:
        untimed = [_key("network", a) for a in networks.calibration if a not in fitted]
        if untimed:
            raise CostError(
                f"space {space.name}: {len(untimed)} of its {counted(len(networks.calibration), 'network')} could not "
                f"be measured, and so few are not predicted from blocks; {untimed[0]}: "
                f"{failures.get(untimed[0], 'no reason was given')}"
            )
        spread = measurement.noise.p95 if measurement.noise else P95_LIMIT
        return every_network(fitted, fitted_us, spread=spread)
    held_out, held_out_us = timed(networks.held_out)
    return calibrate(space, rows, fitted, fitted_us, held_out=held_out, held_out_us=held_out_us)


def _header(
    space: Space,
    networks: Networks,
    measurement: Measurement,
    calibration: Calibration | None,
    failures: Mapping[str, str],
    sha256: Mapping[str, str],
    repeated: RepeatRecord | None,
    *,
    device: Device,
    seed: int,
    family: FamilyRecord | None,
    export: ExportRecord,
) -> TableHeader:
    conditions, noise = measurement.conditions, measurement.noise
    references = [
        ReferenceRecord(
            architecture=dict(a),
            p25_us=measurement.timings[_key("reference", a)].p25_us,
            onnx_sha256=sha256.get(_key("reference", a)),
        )
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
        device=DeviceRecord(name=device.name, gpu=conditions["gpu"], **conditions["machine"]),
        runtime=RuntimeRecord(**{name: conditions[name] for name in RuntimeRecord.model_fields}),
        export=export,
        precision=device.precision,
        batch=device.batch,
        threads=device.threads,
        resolutions=resolutions_of(space),
        classes=classes_of(space),
        weights="random",
        protocol=ProtocolRecord(
            order_seed=seed,
            energy="rapl" if any(row.energy_mj is not None for row in measurement.timings.values()) else "unmeasured",
            repeat=repeated,
            **{name: conditions[name] for name in ProtocolRecord.model_fields if name in conditions},
        ),
        empty_run_us=measurement.empty_run_us,
        reference=tuple(references),
        noise=None
        if noise is None or noise.tau is None
        else NoiseRecord(median=noise.median, p95=noise.p95, tau=noise.tau, passed=measurement.verdict != "noisy"),
        calibration=calibration,
        failures=dict(sorted(failures.items())),
        family=family,
    )
