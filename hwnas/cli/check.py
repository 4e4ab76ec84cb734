"""`hwnas check`: does it work? This machine, a latency table, or an ONNX file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from hwnas.cli.options import AllowMismatch, AsJson
from hwnas.cli.terminal import show, show_json, show_table
from hwnas.cli.verdict import verdict
from hwnas.core import ExportError, HwnasError, TableError, counted
from hwnas.core.escaping import command_line
from hwnas.cost import LatencyTable, doubtful_rows, implausible_rows, in_lines
from hwnas.device import (
    Device,
    NvidiaGpu,
    allowed_cores,
    cgroup_quota,
    fingerprint,
    nvidia_state,
    quota_unread,
    scratch,
)
from hwnas.device.refusals import first_line, in_plain_words
from hwnas.export import (
    BATCHES,
    NUMBERS,
    UNKNOWN,
    Described,
    allowed_on_noise,
    check_metadata,
    export_onnx,
    logits,
    open_session,
)
from hwnas.job import EARLIER, Recorded, describe_file
from hwnas.job.bench import space_of
from hwnas.job.front import differences_in_words
from hwnas.nn import MBConv, is_chain, load_network
from hwnas.profiling import try_runtimes
from hwnas.profiling.circumstances import in_words, scaling_in_words
from hwnas.profiling.matching import conditions_of, marked_lines
from hwnas.profiling.session import reach_of

_REQUIRED = ("version", "classes", "preprocessing", "architecture", "accuracy", "latency_predicted", "parity")


def check(
    file: Annotated[
        Path | None, typer.Argument(help="An ONNX file or a latency table; this machine without it.")
    ] = None,
    allow_mismatch: AllowMismatch = False,
    as_json: AsJson = False,
) -> None:
    """Check this machine, a latency table, or an exported ONNX file."""
    if file is None:
        rows = check_machine()
        if as_json:
            show_json(rows)
        else:
            show_table("this machine", ["what", "state", ""], [[r["what"], r["state"], r["detail"]] for r in rows])
            for line in ways_out(rows):
                show(line)
        if any(row["state"] == "fails" for row in rows):
            raise typer.Exit(2)
        return
    found = check_table(file, allow_mismatch=allow_mismatch) if file.suffix == ".jsonl" else check_onnx(file)
    if as_json:
        show_json(found)
    else:
        for line in found["lines"]:
            show(line)
    if found.get("state", "as exported") != "as exported":
        raise typer.Exit(2)


def ways_out(rows: list[dict[str, str]]) -> list[str]:
    """What is missing and what mends it, for the rows that have it.

    Example:
        >>> ways_out([{"what": "a", "state": "missing", "detail": "", "missing": "no a", "mend": "pip install a"}])
        ['a: no a', '    pip install a']
    """
    return [
        line for row in rows if "mend" in row for line in (f"{row['what']}: {row['missing']}", f"    {row['mend']}")
    ]


def quota_in_words(quota: float | None, unread: str | None) -> str:
    """A quota of cores, none, or why it is unknown.

    Example:
        >>> quota_in_words(1.5, None), quota_in_words(None, None), quota_in_words(None, "cpu.max holds 'x'")
        ('1.5', 'none', "unknown (cpu.max holds 'x')")
    """
    if quota is None and unread is not None:
        return f"unknown ({unread})"
    return "none" if quota is None else f"{quota:g}"


def kinds_in_words(kinds: Mapping[str, tuple[int, ...]] | None) -> str:
    """The kinds of cores and how many there are of each, the fastest first.

    Example:
        >>> kinds_in_words({"cpu_core": (0, 1), "cpu_atom": (2,)})
        'cpu_core x 2, cpu_atom x 1'
    """
    return ", ".join(f"{name} x {len(cores)}" for name, cores in (kinds or {}).items()) or "unknown"


def check_runtimes() -> list[dict[str, str]]:
    """Each runtime, tried in a process of its own; all but onnxruntime on the CPU are optional."""
    rows = []
    for name, state in try_runtimes().items():
        row = {"what": name, "state": "works", "detail": state.detail}
        if not state.works:
            row["state"] = "fails" if name == "onnxruntime-cpu" else "missing"
            row |= {"detail": "see below", "missing": state.missing or "unknown", "mend": state.mend or "unknown"}
        rows.append(row)
    return rows


def check_nvidia() -> list[dict[str, str]]:
    """NVIDIA GPUs, and whether their driver answers."""
    state = nvidia_state()
    if state.missing is not None:
        return [
            {
                "what": "NVIDIA",
                "state": "unknown",
                "detail": "see below",
                "missing": state.missing,
                "mend": state.mend or "unknown",
            }
        ]
    rows = [{"what": "NVIDIA", "state": "fails", "detail": problem} for problem in state.problems]
    rows += [{"what": "NVIDIA", "state": "works", "detail": gpu_in_words(gpu)} for gpu in state.gpus]
    gpus = counted(len(state.gpus), "GPU or slice", "GPUs or slices")
    driver = f"driver {state.driver or 'unknown'}, CUDA up to {state.cuda or 'unknown'}, {gpus}"
    return [{"what": "NVIDIA driver", "state": "works", "detail": driver}, *rows]


def gpu_in_words(gpu: NvidiaGpu) -> str:
    """One line of a GPU; what the driver does not say is unknown, and told once."""
    known = [f"{gpu.uuid or 'UUID unknown'} {gpu.name or 'unnamed'}{' (MIG slice)' if gpu.mig else ''}"]
    if gpu.memory_bytes is not None:
        known.append(f"{gpu.memory_bytes / 2**30:.0f} GiB")
    if gpu.sm_clock_mhz is not None:
        known.append(f"{gpu.sm_clock_mhz} of {gpu.max_sm_clock_mhz or 'unknown'} MHz")
    if gpu.power_cap_w is not None:
        known.append(f"cap {gpu.power_cap_w:.0f} W")
    if gpu.throttle_reasons:
        known.append(f"throttled: {', '.join(gpu.throttle_reasons)}")
    if gpu.processes:
        known.append(f"{gpu.processes} processes")
    return ", ".join(known) + (f"; unknown: {', '.join(gpu.unknown)}" if gpu.unknown else "")


def check_machine() -> list[dict[str, str]]:
    """What works on this machine: packages, cores, runtimes, GPUs, and the way from torch to the runtime."""
    rows = []
    for package in ("torch", "onnx", "onnxscript", "onnxruntime", "numpy", "pymoo", "moocore", "scikit-learn"):
        try:
            rows.append({"what": package, "state": "works", "detail": metadata.version(package)})
        except metadata.PackageNotFoundError:
            rows.append({"what": package, "state": "fails", "detail": f"not installed: pip install {package}"})
    here = fingerprint()
    rows.append({"what": "processor", "state": "works", "detail": here.cpu_model or "unknown"})
    cores = allowed_cores()
    quota, unread = cgroup_quota(), quota_unread()
    rows.append({
        "what": "cores",
        "state": "works" if unread is None else "unknown",
        "detail": f"{len(cores) if cores else 'unknown'} allowed, quota {quota_in_words(quota, unread)}"
        + (f", kinds {kinds_in_words(here.core_kinds)}" if len(here.core_kinds or ()) > 1 else ""),
    })
    load = os.getloadavg()[0]
    busy = cores is not None and load > len(cores) / 2
    rows.append({
        "what": "load",
        "state": "busy" if busy else "works",
        "detail": f"{load:.2f}; timings want a quiet machine",
    })
    rows += check_runtimes()
    rows += check_nvidia()
    try:
        with scratch("check") as folder:
            block = MBConv(8, 8, hidden=24, kernel=3, stride=1, activation_name="hswish", squeeze=8)
            done = export_onnx(block, folder / "block.onnx", input_shape=(8, 8, 8), metadata={"check": True})
        rows.append({
            "what": "export",
            "state": "works",
            "detail": f"torch and onnxruntime agree to {done.parity.largest_difference:.0e}",
        })
    except HwnasError as error:
        rows.append({"what": "export", "state": "fails", "detail": error.message})
    return rows


def check_table(file: Path, *, allow_mismatch: bool = False) -> dict[str, Any]:
    """What a latency table says of itself, and whether it may be used on this machine.

    Args:
        file: The table.
        allow_mismatch: Only tell what differs.

    Raises:
        TableError: If it is missing or damaged, or was made under other conditions.
    """
    table = LatencyTable.load(file)
    header = table.header
    # Threads, batch and precision are a device file's to say; here the question is whether this is the machine.
    device = Device.model_validate({
        "name": header.device.name,
        "runtime": header.runtime.name,
        "gpu": None if header.device.gpu is None else "auto",
        "threads": header.threads,
        "batch": header.batch,
    })
    differing = table.differences(conditions_of(device, reach_of(device).identity()))
    if differing and not allow_mismatch:
        raise TableError(
            f"{file}: made under other conditions: {'; '.join(differing.values())}",
            hint="measure this machine: hwnas profile RECIPE; or look at the table alone: --allow-mismatch",
        )
    doubtful, unknown = _doubtful(table)
    judged = verdict(header, doubtful)
    lines = [
        f"{file}: {counted(len(table.rows), 'block')} of {header.space}, undamaged, schema version "
        f"{header.schema_version}",
        f"  device {header.device.name}: {header.device.cpu_model}, {counted(header.threads, 'thread')}, "
        f"batch {header.batch}, {header.runtime}",
        f"  {judged}",
        *(f"  when it was measured, the machine was {mark}" for mark in header.protocol.marks),
        *(f"  when it was measured, {line}" for line in marked_lines(header.protocol.row_marks)),
        *(f"  {line}" for line in [*in_lines(doubtful), *unknown]),
        *(f"  {note}" for note in header.protocol.notes),
        *(f"  not for this machine: {line}" for line in differing.values()),
    ]
    return {
        "file": str(file),
        "blocks": len(table.rows),
        "mismatches": list(differing.values()),
        "verdict": judged,
        "doubtful": doubtful,
        "header": header.model_dump(mode="json"),
        "lines": lines,
    }


def _doubtful(table: LatencyTable) -> tuple[dict[str, str], list[str]]:
    """The rows that cannot be right, by key, and what could not be looked at, one line each."""
    try:
        return doubtful_rows(space_of(table), table), []
    except TableError as error:  # of a space that is not built from a header alone, as one of somebody's own
        reason = error.message.removeprefix(f"{table.source}: ")
        unknown = f"whether its measured networks contradict a row was not looked at: {reason}"
        return implausible_rows(table.rows), [unknown]


def check_onnx(file: Path) -> dict[str, Any]:
    """Run an exported file as a stranger would: alone, at several batch sizes, against the torch weights beside it.

    A file that was changed since, or of which that cannot be told, is run and compared, too, but its numbers are not
    shown as its own. For a file in a run's folder the run's front is the witness.

    Raises:
        ExportError: If it is no such file, lacks metadata, does not run, is not consistent over batch sizes, or
            disagrees with the weights beside it although it was not changed.
        StoreError: If it lies in the folder of a run whose front cannot be read.
    """
    found = describe_file(file)
    facts = found.metadata
    check_metadata(file, facts)
    missing = [name for name in _REQUIRED if name not in facts]
    if not {"latency_measured", "estimate"} & facts.keys():
        missing.append("latency_measured")  # only a device that cannot be reached leaves it out
    if missing:
        raise ExportError(f"{file}: its metadata lacks {', '.join(missing)}", hint="export it again: hwnas export")
    size, channels = facts["preprocessing"]["size"], facts["preprocessing"]["channels"]
    images = np.random.default_rng(0).standard_normal((max(BATCHES), channels, size, size), dtype=np.float32)
    answers = _answers(file, images)
    whole = answers[len(images)]
    classes = len(facts["classes"])
    if whole.shape != (len(images), classes) or not np.isfinite(whole).all():
        raise ExportError(
            f"{file}: gives {whole.shape} for {len(images)} images; expected {counted(classes, 'finite logit')} each"
            + (f"; {found.remark}" if found.remark else ""),
            hint="export it again: hwnas export",
        )
    changed, own = found.state == "changed", found.state == "as exported"
    tolerance = allowed_on_noise(whole, facts["parity"]["tolerance"])
    by_batch = {n: float(np.abs(answers[n] - whole[:n]).max()) for n in BATCHES}
    for n, difference in by_batch.items():
        if not changed and not difference <= tolerance:  # NaN is a failure, too
            raise ExportError(
                f"{file}: batch {n} differs from batch {len(images)} by {difference:.3g} on logits; {tolerance:g} is "
                "allowed",
                hint="export it again: hwnas export",
            )
    recorded = Recorded.of(file)
    weights = file.with_suffix(".safetensors")
    if recorded is not None and recorded.weights_changed and not changed:
        raise ExportError(
            f"{weights}: changed since it was exported, beside {file.name}, which was not",
            hint="keep your version elsewhere, and run hwnas search with its recipe: it writes the member again",
        )
    # A model of the user's own can only be built by its class, which no file names.
    against = _against_torch(weights, images, whole) if weights.is_file() and is_chain(weights) else None
    if against is not None and not changed and not against <= tolerance:
        raise ExportError(
            f"{file}: differs from {weights.name} by {against:.3g} on logits; {tolerance:g} is allowed",
            hint="export it again: hwnas export",
        )
    lines = [
        f"{file}: {_state_in_words(found)}, {_files_in_words(found)}",
        f"  input [batch, {channels}, {size}, {size}] -> {counted(classes, 'class', 'classes')}; ran at batch "
        f"{', '.join(map(str, BATCHES))}",
        *(_numbers(found, against) if own else _numbers_of_another(found, against, by_batch)),
    ]
    return {
        "file": str(file),
        "size_bytes": sum(path.stat().st_size for path in _files_of(found)),
        "batches": list(BATCHES),
        "state": found.state,
        "sha256": found.sha256,
        "difference_now": against,
        "metadata": {name: value for name, value in facts.items() if own or name not in NUMBERS},
        "before_the_change": {name: value for name, value in facts.items() if changed and name in NUMBERS},
        "unconfirmed": {name: value for name, value in facts.items() if not own and not changed and name in NUMBERS},
        "remark": found.remark or None,
        "lines": lines,
    }


def _state_in_words(found: Described) -> str:
    match found.state:
        case "as exported":
            return "as it was exported" if found.covered else "graph and weights as they were exported"
        case "changed":
            return "changed since it was exported"
        case "edited":
            return "its metadata was edited since it was exported"
    return found.said or f"{UNKNOWN}: whether its numbers belong to this file cannot be told"


def _files_of(found: Described) -> list[Path]:
    return [found.path, *(found.path.parent / name for name in found.beside)]


def _files_in_words(found: Described) -> str:
    sizes = [f"{path.stat().st_size / 1024:.0f} KiB" for path in _files_of(found)]
    if not found.beside:
        return f"one file, {sizes[0]}"
    beside = ", ".join(f"{name}, {size}" for name, size in zip(found.beside, sizes[1:], strict=True))
    return f"{sizes[0]}, with its weights in {beside}"


def _numbers(found: Described, against: float | None) -> list[str]:
    """The numbers that a file carries, where nothing says that they are another's."""
    facts = found.metadata
    exported = f" on {facts['exported_utc']}" if "exported_utc" in facts else ""
    return [
        f"  torch and this file differed by {facts['parity']['largest_difference']:.0e} on logits when exported"
        f"{exported}" + ("" if against is None else f", by {against:.0e} now"),
        f"  validation accuracy {facts['accuracy']['accuracy']:.2%}, {_latency_of(facts)}",
        *(f"  {line}" for line in _measured_elsewhere(facts)),
        *([f"  {found.remark}"] if found.remark else []),
    ]


def _numbers_of_another(found: Described, against: float | None, by_batch: Mapping[int, float]) -> list[str]:
    """What is said of a file whose numbers are another's, or may be."""
    facts = found.metadata
    return [
        f"  the same images in other batches give logits that differ by up to {max(by_batch.values()):.0e}",
        *(
            []
            if against is None
            else [f"  the torch weights beside it and this file differ by {against:.0e} on logits"]
        ),
        *([] if found.remark == EARLIER else [f"  {found.remark}"]),  # the first line says it
        *(
            [
                f"  its metadata says: validation accuracy {facts['accuracy']['accuracy']:.2%}, {_latency_of(facts)}",
                *(f"  {line}" for line in _measured_elsewhere(facts)),
            ]
            if found.state == "unknown"
            else []
        ),
        f"  take its own: {command_line('hwnas', 'bench', found.path)}; its accuracy on images that nothing was chosen "
        "by",
    ]


def _answers(file: Path, images: np.ndarray[Any, np.dtype[np.float32]]) -> dict[int, np.ndarray[Any, Any]]:
    """A file's logits by batch size.

    Raises:
        ExportError: If the runtime refuses it.
    """
    session = open_session(file)
    try:
        return {n: logits(session, images[:n]) for n in BATCHES}
    except Exception as error:  # the runtime's errors share no base
        shape = ", ".join(map(str, images.shape[1:]))
        raise ExportError(
            f"{file}: does not run on images [batch, {shape}]: {in_plain_words(first_line(error))}",
            hint="export it again: hwnas export",
        ) from error


def _latency_of(facts: Mapping[str, Any]) -> str:
    if "latency_measured" in facts:
        found, conditions = facts["latency_measured"], facts["latency_measured"]["conditions"]
        raw = scaling_in_words(conditions.get("raw_ms"), conditions)
        return f"{found['value']:.4f} ms measured{raw} on {in_words(conditions)}"
    found = facts["latency_predicted"]
    return (
        f"{found['value']:.4g} ms {found['origin']} for {facts['estimate']['device']} ({found['low']:.4g} to "
        f"{found['high']:.4g})"
    )


def _measured_elsewhere(facts: Mapping[str, Any]) -> list[str]:
    """How the table that the search predicted with differs from what the file was measured with, and marks."""
    conditions = facts.get("latency_measured", {}).get("conditions", {})
    differing = conditions.get("table_differs") or facts.get("table", {}).get("mismatches", [])
    return [
        *differences_in_words(differing),
        *(f"when it was measured, the machine was {mark}" for mark in conditions.get("marks", ())),
        *(f"when it was measured, {line}" for line in marked_lines(conditions.get("row_marks", {}))),
    ]


def _against_torch(weights: Path, images: np.ndarray[Any, np.dtype[np.float32]], found: Any) -> float:
    """Largest difference between logits and those of the torch network rebuilt from its weights."""
    network = load_network(weights)
    with torch.inference_mode():
        return float(np.abs(network(torch.from_numpy(images)).numpy() - found).max())
