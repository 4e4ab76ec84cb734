"""The parent's side of the measuring program: starts it, follows it, takes its result."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import onnx
from torch import nn

from hwnas.core import MeasureError
from hwnas.cost import Timing
from hwnas.device import Device, QuotaReader, cgroup_quota
from hwnas.nn import write_pt2
from hwnas.profiling.runtimes import suffix_of

Kind = Literal["block", "network", "reference"]
OnNoise = Literal["strict", "default", "mark"]
Verdict = Literal["quiet", "noisy"]

PROGRAM = Path(__file__).with_name("measure.py")
ROUNDS = 20
UNUSABLE = 6
"""What the program ends with when its last two lines say what is missing and what mends it."""


@dataclass(frozen=True)
class Progress:
    """How far a long piece of work is.

    Attributes:
        stage: "export", "load" or "measure".
        done: Models, or visits of models.
        total: Grows when a noisy measurement is prolonged.
    """

    stage: str
    done: int
    total: int


ProgressCall = Callable[[Progress], None]


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
        tau = "none" if self.resolved_tau is None else f"{self.resolved_tau:.3f}"
        return f"halves differ by {self.median:.1%} at the median, {self.p95:.1%} at the 95th percentile, tau {tau}"


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
        verdict: "noisy" times may be used but must be marked.
        empty_run_us: Time of a model that does nothing: the cost of the call.
        conditions: Runtime, GPU, cores, rounds, load, seconds, as the measuring program found them.
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


def measure_models(
    models: Mapping[str, Path | ModelFile],
    *,
    device: Device,
    rounds: int = ROUNDS,
    seed: int = 0,
    on_noise: OnNoise = "default",
    energy: bool = False,
    quota: QuotaReader = cgroup_quota,
    progress: ProgressCall | None = None,
) -> Measurement:
    """Time model files together, in a child process of their own.

    Args:
        models: By any key. A path alone is a whole network.
        device: Runtime, threads, batch, cores and GPU.
        rounds: Visits of each model, at least 2; doubled up to twice while the halves disagree.
        seed: Of the orders and of the inputs.
        on_noise: "strict" refuses what does not pass the gate, "default" only what differs by more than 3 % at the
            median, "mark" nothing.
        energy: Measure it too, where a GPU counts it: half a minute for each model.
        quota: Says how many cores' worth of time this process may spend.
        progress: Called in this process as the work goes on.

    Raises:
        MeasureError: If there is nothing to time, a file is not of the runtime's kind, the runtime or the GPU cannot be
            used, the program failed, or the machine was too noisy.
        DeviceError: If the device has more threads than this process has cores.
    """
    if not models or rounds < 2:
        raise MeasureError(f"measuring {len(models)} models in {rounds} rounds; expected at least 1 in 2")
    cores = device.check_cores(quota=quota)
    files = {key: model if isinstance(model, ModelFile) else ModelFile(model) for key, model in models.items()}
    suffix = suffix_of(device.runtime)
    for file in files.values():
        if file.path.suffix != suffix:
            raise MeasureError(
                f"{file.path}: runtime {device.runtime} of device {device.name} runs {suffix} files",
                hint="the torch runtimes are for comparing; what is handed over is ONNX and runs with the others",
            )
    with tempfile.TemporaryDirectory(prefix="hwnas-measure-") as name:
        folder = Path(name)
        empty = folder / f"empty{suffix}"
        if suffix == ".pt2":
            write_pt2(nn.Identity(), empty, input_shape=(1,), batch=device.batch)
        else:
            write_empty_model(empty)
        job = {
            "models": [
                {"key": key, "path": str(file.path.resolve()), "kind": file.kind} for key, file in files.items()
            ],
            "batch": device.batch,
            "threads": device.threads,
            "cores": None if cores is None else list(cores),
            "rounds": rounds,
            "seed": seed,
            "on_noise": on_noise,
            "empty": str(empty),
            "parent": os.getpid(),
            "runtime": device.runtime,
            "gpu": device.gpu,
            "energy": energy,
        }
        result = _run(job, folder, progress)
    return _measurement(result)


def write_empty_model(path: Path) -> None:
    """A model that hands its input through; its time is the cost of a call."""
    image = onnx.helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, ["batch", 1])
    logits = onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["batch", 1])
    node = onnx.helper.make_node("Identity", ["image"], ["logits"])
    graph = onnx.helper.make_graph([node], "empty", [image], [logits])
    # The newest runtime reads old files, an old one not the newest: so an old form.
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())


def _run(job: Mapping[str, Any], folder: Path, progress: ProgressCall | None) -> dict[str, Any]:
    """The result of the measuring program, which never outlives this call.

    Raises:
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
                if progress is not None:
                    _pass_on(line, progress)
            code = child.wait()
        finally:
            # Nothing to do unless an exception came through: Ctrl-C, or one of the caller's own from `progress`.
            child.kill()
    if code == UNUSABLE:
        *_, missing, mend = errors.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        raise MeasureError(missing, hint=mend)
    if code or not answer.is_file():
        raise MeasureError(f"the measuring program {_end_of(code)}: {_last_line(errors)}")
    result: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
    return result


def _pass_on(line: str, progress: ProgressCall) -> None:
    try:
        step = json.loads(line)
    except json.JSONDecodeError:  # the runtime's own words, of which there should be none
        return
    progress(Progress(step["stage"], step["done"], step["total"]))


def _end_of(code: int) -> str:
    if code >= 0:
        return f"ended with code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"


def _last_line(errors: Path) -> str:
    lines = [line.strip() for line in errors.read_text(encoding="utf-8", errors="replace").splitlines()]
    return next((line for line in reversed(lines) if line), "it said nothing")


def _measurement(result: Mapping[str, Any]) -> Measurement:
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
        device_times={key: DeviceTime(**times) for key, times in result["device_timings"].items()},
        energy={key: None if found is None else Energy(**found) for key, found in result["energy"].items()},
    )
