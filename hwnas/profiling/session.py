"""The parent's side of the measuring program: starts it, follows it, takes its result."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import onnx

from hwnas.core import DeviceError, MeasureError
from hwnas.cost import Timing
from hwnas.device import Device, QuotaReader, cgroup_quota, fingerprint, measure
from hwnas.device.measure import Machine
from hwnas.profiling.by_hand import KitReach
from hwnas.profiling.program import (
    PROGRAM,
    Identity,
    Job,
    Progress,
    ProgressCall,
    Reach,
    check_end,
    last_line,
    pass_on,
    read_result,
    runtime_version,
)
from hwnas.profiling.ssh import SshReach

Kind = Literal["block", "network", "reference"]
OnNoise = Literal["strict", "default", "mark"]
Verdict = Literal["quiet", "noisy"]

ROUNDS = 20
LIMIT_S = 300.0
"""Seconds of timing, by default: some thousand small models; fewer runs and rounds for what takes longer."""

__all__ = [
    "LIMIT_S",
    "ROUNDS",
    "Kind",
    "LocalReach",
    "Measurement",
    "ModelFile",
    "Noise",
    "OnNoise",
    "Progress",
    "ProgressCall",
    "Resident",
    "Verdict",
    "identify",
    "job_of",
    "measure_models",
    "measure_resident",
    "measurement_of",
    "reach_of",
    "write_empty_model",
]


@dataclass(frozen=True)
class ModelFile:
    """An ONNX file to be timed: one input [batch, ...], its first axis the dynamic axis "batch" or of the right size.

    Attributes:
        path: The file.
        kind: A "network" or "reference" is a whole network, which the noise gate looks at.
    """

    path: Path
    kind: Kind = "network"


@dataclass(frozen=True)
class Noise:
    """How well the even rounds of a measurement agree with the odd ones.

    Attributes:
        median: Relative difference of a model's two times, median over models.
        p95: The same, 95th percentile.
        tau: Kendall's rank correlation of the two halves; None with fewer than two models.
        resolved_tau: The same over pairs further apart than 3 %; None if there are none.
        close_pairs: Share of the pairs that are not.
        models: Compared.
    """

    median: float
    p95: float
    tau: float | None
    resolved_tau: float | None
    close_pairs: float
    models: int

    def __str__(self) -> str:
        tau = "none" if self.resolved_tau is None else f"{self.resolved_tau:.3f}"
        return f"halves differ by {self.median:.1%} at the median, {self.p95:.1%} at the 95th percentile, tau {tau}"


@dataclass(frozen=True)
class Measurement:
    """What came of timing some models together.

    Attributes:
        timings: By key; models that failed are absent.
        failures: By key, why a model could not be loaded or run.
        noise: Of the whole networks if there are five or more, else of all models; None if every model failed.
        verdict: "noisy" times may be used but must be marked.
        empty_run_us: Time of a model that does nothing: the cost of the call.
        conditions: Identity, runtime, cores, rounds, load, seconds, as the measuring program found them there.
    """

    timings: dict[str, Timing]
    failures: dict[str, str]
    noise: Noise | None
    verdict: Verdict
    empty_run_us: float | None
    conditions: dict[str, Any]


@dataclass(frozen=True)
class LocalReach:
    """This machine: a child process of its own.

    Attributes:
        device: Of this machine.
        quota: Says how many cores' worth of time this process may spend.
    """

    device: Device
    quota: QuotaReader = cgroup_quota

    def identity(self) -> Identity:
        """What this machine is."""
        return Identity(fingerprint(quota=self.quota), runtime_version())

    def run(self, job: Job, *, progress: ProgressCall | None) -> dict[str, Any]:
        """Run a job in a child process, which never outlives this call.

        Raises:
            DeviceError: If the runtime is not installed.
            MeasureError: If the program failed.
        """
        with tempfile.TemporaryDirectory(prefix="hwnas-measure-") as folder:
            return _run(job.in_place(os.getpid()), Path(folder), progress, self.device)


def reach_of(device: Device, *, quota: QuotaReader = cgroup_quota, by_hand: Path | None = None) -> Reach:
    """The way to a device.

    Args:
        device: Its file.
        quota: Says how many cores' worth of time this process may spend.
        by_hand: The folder through which a device that is reached by hand is measured.

    Raises:
        DeviceError: If it is reached by hand, and there is no such folder.

    Example:
        >>> type(reach_of(Device(name="pi", host="user@board"))).__name__
        'SshReach'
    """
    match device.reach:
        case "local":
            return LocalReach(device, quota)
        case "ssh":
            return SshReach(device)
    device.check_reachable()
    if by_hand is not None:
        return KitReach(device, by_hand)
    raise DeviceError(
        f'device {device.name}: reach is "kit", so nothing can be measured on it from here',
        hint="write a kit, carry it there and bring its result: hwnas kit RECIPE; or give host in its file",
    )


def identify(device: Device, *, quota: QuotaReader = cgroup_quota) -> Identity | None:
    """What a device is; None for one that is reached by hand only.

    Raises:
        DeviceError: If it should be reached and cannot be.
        MeasureError: If it does not say what it is.
    """
    return None if device.reach == "kit" else reach_of(device, quota=quota).identity()


def measure_models(
    models: Mapping[str, Path | ModelFile],
    *,
    device: Device,
    rounds: int = ROUNDS,
    seed: int = 0,
    on_noise: OnNoise = "default",
    limit_s: float = LIMIT_S,
    drop_disturbed: bool = False,
    log: Path | None = None,
    quota: QuotaReader = cgroup_quota,
    by_hand: Path | None = None,
    machine: Machine | None = None,
    progress: ProgressCall | None = None,
) -> Measurement:
    """Time ONNX files together on a device, in a process of their own.

    Args:
        models: By any key. A path alone is a whole network.
        device: Threads, batch and cores, and how to reach it.
        rounds: Visits of each model, at least 2; doubled up to twice while the halves disagree.
        seed: Of the orders and of the inputs.
        on_noise: "strict" refuses what does not pass the gate, "default" only what differs by more than 3 % at the
            median, "mark" nothing.
        limit_s: Seconds that the timing may take. Slow models get fewer runs, then all fewer rounds; see `plan_for` in
            the measuring program.
        drop_disturbed: Leave out whole visits in which the system took the core away, and those of rounds in which the
            reference networks were off by more than a tenth. They are counted.
        log: A file to which each finished round is appended; the same measurement goes on there when it was killed.
            Only for this machine: what runs elsewhere begins anew.
        quota: Says how many cores' worth of time this process may spend, if the device is this machine.
        by_hand: Of a device that is reached by hand: the folder that is carried there, and that its results come back
            to.
        machine: A clock and other readers of one's own; the measurement then takes place in this process.
        progress: Called in this process as the work goes on.

    Raises:
        MeasureError: If there is nothing to time, the program failed, the device vanished, or was too noisy; if the log
            is damaged or of another measurement; or if a folder has to be carried to the device first.
        DeviceError: If the device cannot be reached, or has more threads than there are cores.
    """
    if not models or rounds < 2:
        raise MeasureError(f"measuring {len(models)} models in {rounds} rounds; expected at least 1 in 2")
    reach = reach_of(device, quota=quota, by_hand=by_hand)
    there = None if device.reach == "kit" else reach.identity().fingerprint
    cores = None if there is None else device.choose_cores(there.affinity, there.quota)
    with tempfile.TemporaryDirectory(prefix="hwnas-job-") as folder:
        job = job_of(
            models,
            Path(folder),
            device=device,
            cores=cores,
            rounds=rounds,
            seed=seed,
            on_noise=on_noise,
            limit_s=limit_s,
            drop_disturbed=drop_disturbed,
            log=log.resolve() if log is not None and device.reach == "local" else None,
        )
        if machine is not None:
            result = _run_here(job.in_place(os.getpid()), machine)
        else:
            result = reach.run(job, progress=progress)
    if device.reach == "local" and there is not None:
        result["conditions"]["machine"] = there.to_json()  # with the quota as whoever asked reads it
    if log is not None and result["verdict"] == "refused":
        log.unlink(missing_ok=True)  # going on with the same rounds would be refused for ever
    return measurement_of(result)


def job_of(
    models: Mapping[str, Path | ModelFile],
    folder: Path,
    *,
    device: Device,
    cores: tuple[int, ...] | None,
    rounds: int,
    seed: int,
    on_noise: OnNoise,
    limit_s: float = LIMIT_S,
    drop_disturbed: bool = False,
    log: Path | None = None,
) -> Job:
    """What the measuring program is asked for.

    Args:
        models: As in `measure_models`.
        folder: Where the file of the model that does nothing goes.
        device: As in `measure_models`.
        cores: To pin to; None: the program chooses them.
        rounds: As in `measure_models`.
        seed: As in `measure_models`.
        on_noise: As in `measure_models`.
        limit_s: As in `measure_models`.
        drop_disturbed: As in `measure_models`.
        log: As in `measure_models`; may start at the job's folder.
    """
    files = {key: model if isinstance(model, ModelFile) else ModelFile(model) for key, model in models.items()}
    names = {key: f"models/{n}.onnx" for n, key in enumerate(files, start=1)}
    empty = folder / "empty.onnx"
    write_empty_model(empty)
    values = {
        "models": [{"key": key, "path": names[key], "kind": file.kind} for key, file in files.items()],
        "batch": device.batch,
        "threads": device.threads,
        "core": device.core,
        "cores": None if cores is None else list(cores),
        "rounds": rounds,
        "seed": seed,
        "on_noise": on_noise,
        "empty": "models/empty.onnx",
        "limit_s": limit_s,
        "drop_disturbed": drop_disturbed,
        "log": None if log is None else str(log),
        "parent": None,
    }
    return Job(values, {names[key]: file.path for key, file in files.items()} | {"models/empty.onnx": empty})


@dataclass(frozen=True)
class Resident:
    """What a model takes of a process's memory, as the system counts it, beyond what a model that does nothing takes.

    Attributes:
        loaded_bytes: The peak while the session is made: the file, and the weights as the runtime packs them. None is
            unknown, or too little to be told from nothing.
        run_bytes: The peak after five runs.
    """

    loaded_bytes: int | None
    run_bytes: int | None


def measure_resident(path: Path, *, device: Device, seed: int = 0) -> Resident:
    """The memory that running an ONNX file takes on this machine, in child processes of their own.

    On another device it stays unknown: only this machine's processes are looked at.

    Args:
        path: As for `measure_models`.
        device: Threads and batch.
        seed: Of the input.

    Raises:
        MeasureError: If the model cannot be run.
    """
    if device.reach != "local":
        return Resident(None, None)
    with tempfile.TemporaryDirectory(prefix="hwnas-resident-") as name:
        folder = Path(name)
        write_empty_model(folder / "empty.onnx")
        found: list[dict[str, int | None]] = []
        for model in (folder / "empty.onnx", path.resolve()):
            job = {"resident": str(model), "batch": device.batch, "threads": device.threads, "seed": seed}
            found.append(_run(job, folder, None, device))

    def beyond(part: str) -> int | None:
        nothing, whole = (one[part] for one in found)
        # Two processes never come out alike to the page, so a tiny model may seem to take less than nothing.
        return None if nothing is None or whole is None or whole <= nothing else whole - nothing

    return Resident(beyond("loaded_bytes"), beyond("run_bytes"))


def write_empty_model(path: Path) -> None:
    """A model that hands its input through; its time is the cost of a call."""
    image = onnx.helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, ["batch", 1])
    logits = onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["batch", 1])
    node = onnx.helper.make_node("Identity", ["image"], ["logits"])
    graph = onnx.helper.make_graph([node], "empty", [image], [logits])
    # The newest runtime reads old files, an old one not the newest: so an old form.
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())


def _run(job: Mapping[str, Any], folder: Path, progress: ProgressCall | None, device: Device) -> dict[str, Any]:
    """The result of the measuring program, which never outlives this call.

    Raises:
        DeviceError: If it cannot run here.
        MeasureError: If it failed, with its last line.
    """
    request, answer, errors = folder / "job.json", folder / "result.json", folder / "errors.txt"
    request.write_text(json.dumps(job), encoding="utf-8")
    # -P: the program's folder must not come first on its path, where it would hide modules of the same name.
    command = [sys.executable, "-P", str(PROGRAM), str(request), str(answer)]
    # numpy's thread pools would stand beside the runtime's.
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    with (
        errors.open("wb") as stderr,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, env=environment, text=True) as child,
    ):
        try:
            assert child.stdout is not None  # for the type checker: it was asked for
            for line in child.stdout:
                pass_on(line, progress)
            code = child.wait()
        finally:
            # Nothing to do unless an exception came through: Ctrl-C, or one of the caller's own from `progress`.
            child.kill()
    if code or not answer.is_file():
        said = last_line(errors.read_text(encoding="utf-8", errors="replace"))
        check_end(code, said, device)
        raise MeasureError(f"the measuring program {_end_of(code)}: {said}")
    found: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8")) if "resident" in job else read_result(answer)
    return found


def _run_here(job: Mapping[str, Any], machine: Machine) -> dict[str, Any]:
    """The result of the measuring program, run in this process.

    Raises:
        MeasureError: If its log is damaged or of another measurement.
    """
    try:
        return measure.measure({**job, "parent": None}, machine)
    except measure.LogError as error:
        raise MeasureError(str(error)) from error


def _end_of(code: int) -> str:
    if code >= 0:
        return f"ended with code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"


def measurement_of(result: Mapping[str, Any]) -> Measurement:
    """What the measuring program wrote, as values.

    Raises:
        MeasureError: If the machine was too noisy.
    """
    noise = None if result["noise"] is None else Noise(**result["noise"])
    conditions = result["conditions"]
    if result["verdict"] == "refused":
        load = conditions["load_before"]
        raise MeasureError(
            f"too noisy: after {conditions['rounds']} rounds the {noise}; expected at most 1 %, 3 % and at least 0.97"
            + ("" if load is None else f"; the load was {load:.1f} before and {conditions['load_after']:.1f} after"),
            hint="stop other work on this machine and measure again",
        )
    return Measurement(
        timings={key: Timing(**timing) for key, timing in result["timings"].items()},
        failures=result["failures"],
        noise=noise,
        verdict=result["verdict"],
        empty_run_us=result["empty_run_us"],
        conditions=conditions,
    )
