"""The parent's side of the measuring program: starts it, follows it, takes its result."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import onnx
from torch import nn

from hwnas.core import DeviceError, MeasureError, counted
from hwnas.cost import Timing
from hwnas.device import (
    LIMIT_S,
    Device,
    OnNoise,
    QuotaReader,
    cgroup_quota,
    fingerprint,
    gpu_for,
    measure,
    nvidia_state,
    scratch,
)
from hwnas.device.measure import Machine
from hwnas.device.refusals import in_plain_words
from hwnas.nn import write_pt2
from hwnas.profiling.by_hand import KitReach
from hwnas.profiling.program import (
    PROGRAM,
    Identity,
    Job,
    Progress,
    ProgressCall,
    Reach,
    check_end,
    end_of,
    last_line,
    pass_on,
    read_result,
)
from hwnas.profiling.runtimes import runtime_version, suffix_of
from hwnas.profiling.ssh import SshReach

Kind = Literal["block", "network", "reference"]
Verdict = Literal["quiet", "marked", "noisy", "untimed"]

ROUNDS = 20

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
    """A file to be timed: one input [batch, ...], its first axis the dynamic axis "batch" or of the right size.

    Attributes:
        path: ONNX, or for the torch runtimes a `.pt2` of `hwnas.nn.write_pt2`.
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
        order = (
            "no two models lie far enough apart to compare their order"
            if self.resolved_tau is None
            else f"rank correlation {self.resolved_tau:.3f}"
        )
        return f"halves differ by {self.median:.1%} at the median, {self.p95:.1%} at the 95th percentile, {order}"


@dataclass(frozen=True)
class DeviceTime:
    """How long a model kept the GPU busy, by events on its stream; a `Timing` holds the host's wall time.

    Attributes:
        p25_us: Lower quartile.
        median_us: Median.
        enqueue_p25_us: For handing the work over; near `p25_us` the model is bound by launches, and sums of blocks
            mislead.
    """

    p25_us: float
    median_us: float
    enqueue_p25_us: float

    @property
    def launch_bound(self) -> bool:
        """Whether handing the work over takes most of the time.

        Source: the warning of NVIDIA's trtexec, at 0.8.

        Example:
            >>> DeviceTime(100.0, 101.0, 90.0).launch_bound
            True
        """
        return self.enqueue_p25_us > 0.8 * self.p25_us


@dataclass(frozen=True)
class Energy:
    """What one run costs, by the device's own counter, the median of three windows of ten seconds.

    Attributes:
        energy_mj: Millijoules, all that the device used.
        runs: Behind the number.
        steps: Of the counter; more than 20 in each window.
        above_idle_mj: Without what the idle device would have used; None where that could not be seen.
    """

    energy_mj: float
    runs: int
    steps: int
    above_idle_mj: float | None = None


@dataclass(frozen=True)
class Measurement:
    """What came of timing some models together.

    Attributes:
        timings: By key; models that failed are absent.
        failures: By key, why a model could not be loaded or run.
        noise: Of the whole networks if there are five or more, else of all models; None if every model failed.
        verdict: "quiet" only without any mark; "marked" where the halves agree and there are marks; "noisy" times may
            be used but must be marked; "untimed" if every model failed.
        empty_run_us: Time of a model that does nothing: the cost of the call.
        conditions: Identity, runtime, GPU, cores, rounds, load, seconds, as the measuring program found them there.
        device_times: By key, where the runtime can time its GPU.
        energy: By key, if it was asked for; None where it could not be measured.
    """

    timings: dict[str, Timing]
    failures: dict[str, str]
    noise: Noise | None
    verdict: Verdict
    empty_run_us: float | None
    conditions: dict[str, Any]
    device_times: dict[str, DeviceTime] = field(default_factory=dict)
    energy: dict[str, Energy | None] = field(default_factory=dict)


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
        """What this machine is.

        Raises:
            DeviceError: If its file names a GPU that is not there, or does not say which of several.
        """
        version = None if self.device.runtime == "onnxruntime-cpu" else runtime_version(self.device.runtime)
        gpu = gpu_for(self.device.gpu or "auto", nvidia_state()) if self.device.uses_gpu else None
        ort = str(runtime_version())  # of the package that hwnas needs itself
        return Identity(fingerprint(quota=self.quota), ort, version, None if gpu is None else gpu.name)

    def run(self, job: Job, *, progress: ProgressCall | None) -> dict[str, Any]:
        """Run a job in a child process, which never outlives this call.

        Raises:
            DeviceError: If the runtime is not installed.
            MeasureError: If the program failed.
        """
        with scratch("measure") as folder:
            return _run(job.in_place(os.getpid()), folder, progress, self.device)


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
    limit_s: float | None = None,
    drop_disturbed: bool = False,
    energy: Collection[str] = (),
    log: Path | None = None,
    quota: QuotaReader = cgroup_quota,
    by_hand: Path | None = None,
    machine: Machine | None = None,
    progress: ProgressCall | None = None,
) -> Measurement:
    """Time model files together on a device, in a process of their own.

    Args:
        models: By any key. A path alone is a whole network.
        device: Runtime, threads, batch, cores and GPU, and how to reach it.
        rounds: Visits of each model, at least 2; doubled up to twice while the halves disagree.
        seed: Of the orders and of the inputs.
        on_noise: "strict" refuses what does not pass the gate, "default" only what differs by more than 3 % at the
            median, "mark" nothing.
        limit_s: Seconds that the timing may take. Slow models get fewer runs, then all fewer rounds; see `plan_for` in
            the measuring program. A number is kept; by default it is about 300, which give way to 8 rounds of 3 runs.
        drop_disturbed: Leave out whole visits in which the system took the core away, and those of rounds in which the
            reference networks were off by more than a tenth. They are counted.
        energy: Keys of models to read a GPU's energy counter for: half a minute each.
        log: A file to which each finished round is appended; the same measurement goes on there when it was killed.
            Only for this machine: what runs elsewhere begins anew.
        quota: Says how many cores' worth of time this process may spend, if the device is this machine.
        by_hand: Of a device that is reached by hand: the folder that is carried there, and that its results come back
            to.
        machine: A clock and other readers of one's own; the measurement then takes place in this process.
        progress: Called in this process as the work goes on.

    Raises:
        MeasureError: If there is nothing to time, a file is not of the runtime's kind, the runtime or the GPU cannot be
            used, the program failed, the device vanished, or was too noisy; if two rounds take longer than the limit;
            if the log is damaged or of another measurement; or if a folder has to be carried to the device first.
        DeviceError: If the device cannot be reached, or has more threads than there are cores.
    """
    if not models or rounds < 2:
        raise MeasureError(
            f"measuring {counted(len(models), 'model')} in {counted(rounds, 'round')}; expected at least 1 in 2"
        )
    reach = reach_of(device, quota=quota, by_hand=by_hand)
    there = None if device.reach == "kit" else reach.identity().fingerprint
    cores = None if there is None else device.cores_of(there)
    with scratch("job") as folder:
        job = job_of(
            models,
            folder,
            device=device,
            cores=cores,
            rounds=rounds,
            seed=seed,
            on_noise=on_noise,
            limit_s=limit_s,
            drop_disturbed=drop_disturbed,
            energy=energy,
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
    limit_s: float | None = None,
    drop_disturbed: bool = False,
    energy: Collection[str] = (),
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
        energy: As in `measure_models`.
        log: As in `measure_models`; may start at the job's folder.

    Raises:
        MeasureError: If a file is not of the runtime's kind.
    """
    files = {key: model if isinstance(model, ModelFile) else ModelFile(model) for key, model in models.items()}
    suffix = suffix_of(device.runtime)
    for file in files.values():
        if file.path.suffix != suffix:
            raise MeasureError(
                f"{file.path}: runtime {device.runtime} of device {device.name} runs {suffix} files",
                hint="the torch runtimes are for comparing; what is handed over is ONNX and runs with the others",
            )
    names = {key: f"models/{n}{suffix}" for n, key in enumerate(files, start=1)}
    empty = folder / f"empty{suffix}"
    if suffix == ".pt2":
        write_pt2(nn.Identity(), empty, input_shape=(1,), batch=device.batch)
    else:
        write_empty_model(empty)
    values = {
        "schema": measure.SCHEMA,
        "models": [{"key": key, "path": names[key], "kind": file.kind} for key, file in files.items()],
        "batch": device.batch,
        "threads": device.threads,
        "core": device.core,
        "cores": None if cores is None else list(cores),
        "rounds": rounds,
        "seed": seed,
        "on_noise": on_noise,
        "empty": f"models/{empty.name}",
        "limit_s": limit_s,
        "drop_disturbed": drop_disturbed,
        "log": None if log is None else str(log),
        "parent": None,
        "runtime": device.runtime,
        "gpu": device.gpu,
        "gpu_energy": sorted(energy),
    }
    return Job(values, {names[key]: file.path for key, file in files.items()} | {f"models/{empty.name}": empty})


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


def measure_resident(paths: Sequence[Path], *, device: Device, seed: int = 0) -> list[Resident]:
    """The memory that running each of some ONNX files takes on this machine, in child processes of their own.

    On another device it stays unknown: only this machine's processes are looked at, and only those of
    onnxruntime on the CPU.

    Args:
        paths: Of the files.
        device: Threads and batch.
        seed: Of the input.

    Raises:
        MeasureError: If the model cannot be run.
    """
    if device.reach != "local" or device.runtime != "onnxruntime-cpu":
        return [Resident(None, None) for _ in paths]
    with scratch("resident") as folder:
        write_empty_model(folder / "empty.onnx")
        found: list[dict[str, int | None]] = []
        for model in (folder / "empty.onnx", *(path.resolve() for path in paths)):
            job = {"resident": str(model), "batch": device.batch, "threads": device.threads, "seed": seed}
            job["parent"] = os.getpid()
            found.append(_run(job, folder, None, device))

    def beyond(part: str, one: Mapping[str, int | None]) -> int | None:
        nothing, whole = found[0][part], one[part]
        # Two processes never come out alike to the page, so a tiny model may seem to take less than nothing.
        return None if nothing is None or whole is None or whole <= nothing else whole - nothing

    return [Resident(beyond("loaded_bytes", one), beyond("run_bytes", one)) for one in found[1:]]


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
        MeasureError: If it failed, with its last line; or with what is missing for the runtime, and the way out.
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
        raise MeasureError(f"the measuring program {end_of(code)}: {said}")
    found: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8")) if "resident" in job else read_result(answer)
    return found


def _run_here(job: Mapping[str, Any], machine: Machine) -> dict[str, Any]:
    """The result of the measuring program, run in this process.

    Raises:
        MeasureError: If its log is damaged or of another measurement, or two rounds take longer than the limit.
    """
    try:
        return measure.measure({**job, "parent": None}, machine)
    except measure.LogError as error:
        raise MeasureError(str(error)) from error
    except measure.TimeLimitError as error:
        raise MeasureError(str(error), hint=error.hint) from error


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
    on_device = {key: DeviceTime(**times) for key, times in result["device_timings"].items()}
    return Measurement(
        timings={
            key: Timing(**timing, device_us=on_device[key].p25_us if key in on_device else None)
            for key, timing in result["timings"].items()
        },
        failures={key: in_plain_words(reason) for key, reason in result["failures"].items()},
        noise=noise,
        # Not as it is in the result: kits of earlier versions said "quiet" beside their marks.
        verdict=cast(Verdict, measure.verdict(result["noise"], "mark", marks=measure.all_marks(conditions))),
        empty_run_us=result["empty_run_us"],
        conditions=conditions,
        device_times=on_device,
        energy={key: None if found is None else Energy(**found) for key, found in result["energy"].items()},
    )
