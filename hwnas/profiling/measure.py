"""The measuring program: times model files on the machine it runs on. Standard library, numpy and onnxruntime only.

    python measure.py job.json result.json
    python measure.py --runtimes empty.onnx onnxruntime-cpu,torch [gpu]

It is one file that imports nothing of hwnas, because it also runs where hwnas is not installed. Progress goes to the
standard output as JSON lines; the result is a JSON file that appears whole or not at all. A job is

    {"models": [{"key": "a", "path": "a.onnx", "kind": "network"}, ...],  kind: "block", "network" or "reference"
     "batch": 1, "threads": 1, "cores": [1] or null, "rounds": 20, "seed": 0, "on_noise": "default",
     "empty": "empty.onnx" or null, "parent": pid or null,
     "runtime": "onnxruntime-cpu", "gpu": "GPU-..." or "auto" or null, "energy": false}

`runtime` is one of `RUNTIMES`; what it needs beyond numpy and onnxruntime is imported when it is asked for, and it says
what is missing. `--runtimes` tries some of them on an empty model and prints what works.

How it measures, and why (numbers from trials on a shared two-core machine):

* All sessions live in one process, and rounds visit all models in a new random order: what drifts hits all alike.
  The same networks timed one after the other differ by 1.2 % at the median, interleaved by 0.14 to 0.4 %.
* A visit is 2 discarded and 12 to 20 timed runs: the first run after other models takes 1.3 to 2.9 times as long.
* The estimate is the lower quartile of all runs pooled. It repeats to 0.4 %, the minimum to 0.6 %, the mean to 1.8 %.
  No run is thrown away.
* The gate compares each model's even rounds with its odd rounds. If they disagree, the rounds are doubled, twice at
  most; what is still too noisy then is marked, or refused.
* Live sessions are asked what they really run on: a GPU provider that fell back to the CPU is refused. On a GPU the
  result is waited for, events on its own stream give the device's share, and a visit in which the GPU throttled is
  dropped, counted and taken again.
"""

from __future__ import annotations

import ctypes
import functools
import gc
import importlib
import json
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnxruntime
from numpy.typing import NDArray

SCHEMA = 1
WARM_UP = 2
SHORT_US = 50.0  # below this a visit takes more runs, so that the clock's grain does not show
RUNS, SHORT_RUNS = 12, 20

MEDIAN_LIMIT = 0.01
P95_LIMIT = 0.03
TAU_LIMIT = 0.97
REFUSE_MEDIAN = 0.03  # beyond this not even the default policy takes the numbers
DOUBLINGS = 2
FEWEST_NETWORKS = 5  # with fewer whole networks the gate looks at all models

GPU_WARM_UP_SECONDS = 1.0  # algorithm search, allocation and clocks that rise
THROTTLED_VISITS = 5  # in a row, and the measurement is given up
UNUSABLE = 6  # what the process ends with when the runtime or the GPU cannot be used

Floats = NDArray[np.float64]
Run = Callable[[], object]


class ParentGoneError(Exception):
    """Whoever asked for the measurement no longer runs."""


class UnusableError(Exception):
    """A runtime or a GPU that cannot be used here.

    Args:
        missing: What was found, and what was expected.
        mend: The way out; a command where there is one.
    """

    def __init__(self, missing: str, *, mend: str) -> None:
        super().__init__(missing)
        self.missing = missing
        self.mend = mend


# ------------------------------------------------------------------------------------------------------ statistics


def summary(runs_ns: NDArray[np.int64], *, visits: int) -> dict[str, float | int]:
    """What is kept of a model's runs, times in microseconds.

    Example:
        >>> summary(np.array([1000, 2000, 3000, 4000, 5000]), visits=1)["p25_us"]
        2.0
    """
    low, p25, median, p75, p90 = (np.percentile(runs_ns, [0, 25, 50, 75, 90]) / 1000).tolist()
    return {
        "p25_us": p25,
        "min_us": low,
        "median_us": median,
        "p90_us": p90,
        "iqr_rel": (p75 - p25) / median,
        "runs": int(runs_ns.size),
        "visits": visits,
    }


def kendall_tau(first: Floats, second: Floats) -> float | None:
    """Kendall's rank correlation (tau-b) of two measurements [n]; None where there is no order.

    Source: Kendall 1945 (Biometrika 33), the form that allows for ties.

    Example:
        >>> kendall_tau(np.array([1.0, 2.0, 3.0]), np.array([1.0, 3.0, 2.0]))
        0.3333333333333333
    """
    pairs = np.triu_indices(len(first), k=1)
    a = np.sign(first[:, None] - first[None, :])[pairs]
    b = np.sign(second[:, None] - second[None, :])[pairs]
    ordered = float(np.sqrt(np.abs(a).sum() * np.abs(b).sum()))
    return float((a * b).sum()) / ordered if ordered else None


def resolved_tau(first: Floats, second: Floats, *, resolution: float) -> tuple[float | None, float]:
    """Kendall's tau over the pairs that lie further apart than the measurement can resolve, and the share of the rest.

    Models that take nearly the same time change places in any repetition, so in a narrow range of latencies tau is low
    however quiet the machine is. Such pairs are ties. The resolution is what the gate allows, not what was observed:
    a noisy measurement would otherwise excuse itself.

    Args:
        first: Times [n] in one half of the measurement.
        second: Times [n] in the other.
        resolution: Relative difference of the mean times below which a pair is a tie.

    Returns:
        (tau, share of pairs that are ties); tau is None if all are.

    Example:
        >>> resolved_tau(np.array([100.0, 101.0, 200.0]), np.array([101.0, 100.0, 200.0]), resolution=0.03)
        (1.0, 0.33333333333333337)
    """
    middle = np.log((first + second) / 2)
    i, j = np.triu_indices(len(first), k=1)
    apart = np.abs(middle[i] - middle[j]) > np.log1p(resolution)
    if not apart.any():
        return None, 1.0
    agree = np.sign(first[i] - first[j]) * np.sign(second[i] - second[j])
    return float(agree[apart].mean()), float(1 - apart.mean())


def noise_of(first: Floats, second: Floats) -> dict[str, float | int | None]:
    """How well two halves of a measurement agree, times [n] each.

    Returns:
        `median` and `p95` of the relative differences; `tau` of all pairs; `resolved_tau` of those further apart than
        3 %, and `close_pairs`, the share of the others; `models`, how many were compared.
    """
    difference = np.abs(first - second) / ((first + second) / 2)
    resolved, close = resolved_tau(first, second, resolution=P95_LIMIT)
    return {
        "median": float(np.median(difference)),
        "p95": float(np.percentile(difference, 95)),
        "tau": kendall_tau(first, second),
        "resolved_tau": resolved,
        "close_pairs": close,
        "models": len(first),
    }


def is_quiet(noise: Mapping[str, Any]) -> bool:
    """Whether the gate passes."""
    tau = noise["resolved_tau"]
    return noise["median"] <= MEDIAN_LIMIT and noise["p95"] <= P95_LIMIT and (tau is None or tau >= TAU_LIMIT)


def verdict(noise: Mapping[str, Any], on_noise: str) -> str:
    """What to do with a measurement: it is "quiet", "noisy" (usable, marked) or "refused".

    Args:
        noise: As `noise_of` returns it.
        on_noise: "strict" refuses whatever does not pass the gate, "default" only what differs by more than 3 % at the
            median, "mark" nothing.

    Example:
        >>> verdict({"median": 0.02, "p95": 0.02, "resolved_tau": None}, "default")
        'noisy'
    """
    if is_quiet(noise):
        return "quiet"
    refused = {"strict": True, "default": noise["median"] > REFUSE_MEDIAN, "mark": False}[on_noise]
    return "refused" if refused else "noisy"


# ------------------------------------------------------------------------------------------------------- measuring


def visit(run: Run, runs: int) -> NDArray[np.int64]:
    """The nanoseconds of some runs in a row, after a few that are not counted."""
    clock = time.perf_counter_ns
    for _ in range(WARM_UP):
        run()
    took = np.empty(runs, dtype=np.int64)
    for i in range(runs):
        start = clock()
        run()
        took[i] = clock() - start
    return took


def collect(
    visits: Mapping[str, Callable[[], NDArray[np.int64]]],
    networks: Sequence[str],
    *,
    rounds: int,
    rng: np.random.Generator,
    on_round: Callable[[int, int], None],
) -> tuple[dict[str, list[NDArray[np.int64]]], dict[str, float | int | None]]:
    """Visit all models in rounds until the halves agree, or the rounds have been doubled twice.

    Args:
        visits: What takes one visit of each model and returns its runs in nanoseconds.
        networks: The models that the gate looks at.
        rounds: To begin with.
        rng: Of the orders.
        on_round: Called with the rounds done and the rounds planned.

    Returns:
        Per model its visits, in order, and the noise of the networks.
    """
    keys = sorted(visits)
    taken: dict[str, list[NDArray[np.int64]]] = {key: [] for key in keys}
    done = 0
    for doubling in range(DOUBLINGS + 1):
        planned = rounds * 2**doubling
        while done < planned:
            for i in rng.permutation(len(keys)):
                taken[keys[i]].append(visits[keys[i]]())
            done += 1
            on_round(done, planned)
        halves = [
            np.array([np.percentile(np.concatenate(taken[key][half::2]), 25) for key in networks]) for half in (0, 1)
        ]
        noise = noise_of(halves[0], halves[1])
        if is_quiet(noise):
            break
    return taken, noise


# -------------------------------------------------------------------------------------------------------- runtimes


class Runtime(Protocol):
    """What loads model files and runs them, and can say what it is.

    Attributes:
        stream: What times runs on the GPU, besides the host's clock; None where the CPU does the work, or the GPU's
            share cannot be told.
        gpu: UUID of the GPU, as the driver writes it without "GPU-" or "MIG-"; None on the CPU.
    """

    stream: CudaStream | None
    gpu: str | None

    def load(self, path: str, *, batch: int, seed: int) -> Run:
        """A call that runs one model once on one fixed normal input and returns when the result is there."""
        ...

    def identity(self) -> dict[str, Any]:
        """What the sessions loaded so far really are: version, provider, every option."""
        ...


def fixed_input(name: str, dimensions: Sequence[object], *, batch: int, seed: int) -> NDArray[np.float32]:
    """One normal image batch; equal seeds and shapes make equal ones.

    Raises:
        ValueError: If the dimensions are not those of an image batch of known size.
    """
    shape = [batch if dimension == "batch" else dimension for dimension in dimensions]
    sizes = [size for size in shape if isinstance(size, int)]
    if len(sizes) != len(shape) or sizes[:1] != [batch]:
        raise ValueError(f"input {name} is {list(dimensions)}; expected batch {batch} and fixed sizes")
    return np.random.default_rng([seed, *sizes]).standard_normal(sizes, dtype=np.float32)


def check_finite(outputs: Sequence[Any]) -> None:
    """That a model makes numbers.

    Raises:
        ValueError: If it does not.
    """
    if not all(np.isfinite(output).all() for output in outputs):
        raise ValueError("an output is not finite")


def session_options(*, threads: int, batch: int) -> onnxruntime.SessionOptions:
    """As a careful deployment would set them: explicit threads, no spinning, no profiling, all optimisations."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Random weights can make denormal numbers, which are 5 to 30 times slower and say nothing of the architecture.
    options.add_session_config_entry("session.set_denormal_as_zero", "1")
    options.add_free_dimension_override_by_name("batch", batch)
    return options


PROVIDERS = {
    "onnxruntime-cpu": "CPUExecutionProvider",
    "onnxruntime-cuda": "CUDAExecutionProvider",
    "onnxruntime-tensorrt": "TensorrtExecutionProvider",
}


def providers_for(name: str, *, stream: int | None) -> list[tuple[str, dict[str, str]]]:
    """The providers of a session in the order in which they may take operators, every option that moves times explicit.

    The CPU is never listed behind a GPU: what only it can run must be told, not run there. TF32 is off, as a device
    file says float32.

    Example:
        >>> providers_for("onnxruntime-cpu", stream=None)
        [('CPUExecutionProvider', {})]
    """
    if name == "onnxruntime-cpu":
        return [(PROVIDERS[name], {})]
    # The GPU that was asked for is the only visible one, and so the first.
    common = {"device_id": "0", "user_compute_stream": str(stream)}
    cuda = common | {
        "cudnn_conv_algo_search": "EXHAUSTIVE",
        "cudnn_conv_use_max_workspace": "1",
        "do_copy_in_default_stream": "1",
        "arena_extend_strategy": "kNextPowerOfTwo",
        "use_tf32": "0",
    }
    if name == "onnxruntime-cuda":
        return [("CUDAExecutionProvider", cuda)]
    tensorrt = common | {
        "trt_max_workspace_size": str(1 << 30),
        "trt_fp16_enable": "0",
        "trt_int8_enable": "0",
        "trt_engine_cache_enable": "0",
        "trt_builder_optimization_level": "3",
    }
    return [("TensorrtExecutionProvider", tensorrt), ("CUDAExecutionProvider", cuda)]


class OnnxRuntime:
    """onnxruntime with one execution provider; a session that runs anything on the CPU instead of a GPU is refused.

    Args:
        name: One of `PROVIDERS`.
        threads: Within an operator.
        batch: Images per run.
        gpu: A UUID, "auto", or None on the CPU.
        ort: The module onnxruntime; another object in tests.
        open_stream: Opens the GPU; another in tests.

    Raises:
        UnusableError: If this build of onnxruntime lacks the provider, or the GPU cannot be used.
    """

    def __init__(
        self,
        name: str,
        *,
        threads: int,
        batch: int,
        gpu: str | None,
        ort: Any = None,
        open_stream: Callable[[str], CudaStream] | None = None,
    ) -> None:
        self._ort = importlib.import_module("onnxruntime") if ort is None else ort
        self._name, self._threads, self._provider = name, threads, PROVIDERS[name]
        self.stream: CudaStream | None = None
        self.gpu: str | None = None
        available = self._ort.get_available_providers()
        if self._provider not in available:
            raise UnusableError(
                f"onnxruntime {self._ort.__version__} has no {self._provider}; it has {', '.join(available)}",
                mend="pip uninstall -y onnxruntime && pip install onnxruntime-gpu",
            )
        if name != "onnxruntime-cpu":
            self.stream = (open_stream or CudaStream.open)(gpu or "auto")
            self.gpu = self.stream.uuid
        self._options = session_options(threads=threads, batch=batch)
        # Newer versions can say which operator went where; older ones can only be forbidden to use the CPU.
        self._tells = "get_provider_graph_assignment_info" in dir(self._ort.InferenceSession)
        if self.stream is not None:
            entry = "session.record_ep_graph_assignment_info" if self._tells else "session.disable_cpu_ep_fallback"
            self._options.add_session_config_entry(entry, "1")
        self._read_back: dict[str, dict[str, str]] = {}

    def load(self, path: str, *, batch: int, seed: int) -> Run:
        """See `Runtime`.

        Raises:
            UnusableError: If the live session is not on the provider that was asked for.
            ValueError: If operators were given to the CPU, the input is not one image batch of known size, or an
                output is not finite.
        """
        stream = self.stream
        wanted = providers_for(self._name, stream=None if stream is None else stream.pointer)
        session = self._ort.InferenceSession(path, self._options, providers=wanted)
        session.disable_fallback()  # or an error at a later run would quietly open a CPU session
        self._check_live(session)
        inputs = session.get_inputs()
        if len(inputs) != 1 or inputs[0].type != "tensor(float)":
            raise ValueError(f"has inputs {[(i.name, i.type) for i in inputs]}; expected one of type tensor(float)")
        image = fixed_input(inputs[0].name, inputs[0].shape, batch=batch, seed=seed)
        if stream is None:
            run: Run = functools.partial(session.run, None, {inputs[0].name: image})
            check_finite(session.run(None, {inputs[0].name: image}))
            return run
        binding = session.io_binding()
        binding.bind_ortvalue_input(inputs[0].name, self._ort.OrtValue.ortvalue_from_numpy(image, "cuda", 0))
        for output in session.get_outputs():
            binding.bind_output(output.name, "cuda", 0)
        # The stream waits itself, after its second event: else the device's time would hold the host's wait.
        options = self._ort.RunOptions()
        options.add_run_config_entry("disable_synchronize_execution_providers", "1")

        def run_on_gpu() -> None:
            stream.start()
            session.run_with_iobinding(binding, options)
            stream.stop()

        run_on_gpu()
        check_finite(binding.copy_outputs_to_cpu())
        return run_on_gpu

    def _check_live(self, session: Any) -> None:
        live = session.get_providers()
        if live[:1] != [self._provider]:
            raise UnusableError(
                f"{self._name} was asked for, and the live session runs on {', '.join(live)}: {self._provider} could "
                "not be loaded",
                mend="install the versions of CUDA, cuDNN and TensorRT that onnxruntime's install page names for it",
            )
        self._read_back = {
            provider: {key: str(value) for key, value in sorted(options.items())}
            for provider, options in session.get_provider_options().items()
            if provider != "CPUExecutionProvider" or self.stream is None
        }
        if self.stream is not None and self._tells:
            lost = sorted({
                f"{node.domain or 'ai.onnx'}::{node.op_type}"
                for part in session.get_provider_graph_assignment_info()
                if part.ep_name == "CPUExecutionProvider"
                for node in part.get_nodes()
            })
            if lost:
                raise ValueError(f"{self._provider} cannot run {', '.join(lost)}: onnxruntime gave it to the CPU")

    def identity(self) -> dict[str, Any]:
        """See `Runtime`."""
        options = self._read_back.get(self._provider, {})
        return {
            "name": self._name,
            "version": str(self._ort.__version__),
            "onnxruntime": str(self._ort.__version__),
            "provider": self._provider,
            "optimization_level": "all",
            "intra_op_threads": self._threads,
            "inter_op_threads": 1,
            "spinning": False,
            "denormals_as_zero": True,
            # The stream's address is another in every process and says nothing.
            "options": {key: value for key, value in options.items() if key != "user_compute_stream"},
        }


class TorchRuntime:
    """torch, for comparison: a `.pt2` file of torch.export, its operators called one by one, or compiled.

    Args:
        name: "torch" or "torch-compile"; the latter needs a C++ compiler and takes seconds per model.
        threads: Within an operator.
        gpu: A UUID, "auto", or None on the CPU.
        open_stream: Opens the GPU; another in tests.

    Raises:
        UnusableError: If torch, a compiler or the GPU is missing.
    """

    def __init__(
        self, name: str, *, threads: int, gpu: str | None, open_stream: Callable[[str], CudaStream] | None = None
    ) -> None:
        found = compiler()
        if name == "torch-compile" and found is None:
            raise UnusableError(
                "torch.compile needs a C++ compiler; none of CXX, c++, g++, clang++ and cl is there",
                mend='apt-get install g++ (or your system\'s package of it), or runtime = "torch"',
            )
        # Read when torch is imported: idle threads wait, and compile workers do not stay beside the measurement.
        os.environ |= {"OMP_WAIT_POLICY": "PASSIVE", "TORCHINDUCTOR_COMPILE_THREADS": "1"}
        self._torch = torch = imported("torch", mend="pip install torch")
        self._name, self._threads = name, threads
        self.stream: CudaStream | None = None
        self.gpu: str | None = None
        self._device = "cpu"
        torch.set_num_threads(threads)
        torch.set_grad_enabled(False)
        self._flushed = bool(torch.set_flush_denormal(True))
        self._options = {"grad": "off"}
        if name == "torch-compile":
            self._options["compiler"] = str(found)
        if gpu is not None:
            self._open_gpu(gpu, open_stream or CudaStream.open)

    def _open_gpu(self, gpu: str, open_stream: Callable[[str], CudaStream]) -> None:
        torch = self._torch
        if torch.version.cuda is None:
            raise UnusableError(
                f"torch {torch.__version__} is built without CUDA", mend="pip install torch, of a CUDA index"
            )
        self.stream = open_stream(gpu)
        self.gpu, self._device = self.stream.uuid, "cuda"
        torch.set_float32_matmul_precision("highest")
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.benchmark = True  # searches algorithms, as onnxruntime is told to
        torch.cuda.set_stream(torch.cuda.ExternalStream(self.stream.pointer))
        self._options |= {
            "use_tf32": "0",
            "cudnn_benchmark": "1",
            "cuda": str(torch.version.cuda),
            "cudnn": str(torch.backends.cudnn.version()),
        }

    def load(self, path: str, *, batch: int, seed: int) -> Run:
        """See `Runtime`.

        Raises:
            ValueError: If the file is no program of one image batch, or an output is not finite.
        """
        torch = self._torch
        program = torch.export.load(path)
        # The flat graph, called with its weights: `program.module()` adds 0.2 ms of checks and packing to every call.
        values = {**program.state_dict, **program.constants}
        signature = program.graph_signature
        if len(signature.user_inputs) != 1 or signature.buffers_to_mutate:
            raise ValueError(f"takes {len(signature.user_inputs)} inputs; expected one, and no buffer that changes")
        shapes = {node.name: node.meta["val"] for node in program.graph.nodes if node.op == "placeholder"}
        [name] = signature.user_inputs
        if shapes[name].dtype != torch.float32:
            raise ValueError(f"input {name} is {shapes[name].dtype}; expected torch.float32")
        image = fixed_input(name, [int(size) for size in shapes[name].shape], batch=batch, seed=seed)
        flat = [
            torch.from_numpy(image) if spec.kind.name == "USER_INPUT" else values[spec.target].detach()
            for spec in signature.input_specs
        ]
        arguments = [value.to(self._device) for value in flat]
        call = program.graph_module
        if self._name == "torch-compile":
            call = torch.compile(call, dynamic=False, fullgraph=True)
        stream = self.stream
        run: Run = functools.partial(call, *arguments)
        if stream is not None:

            def run_on_gpu() -> None:
                stream.start()
                call(*arguments)
                stream.stop()

            run = run_on_gpu
        check_finite([output.cpu().numpy() for output in call(*arguments)])
        return run

    def identity(self) -> dict[str, Any]:
        """See `Runtime`."""
        return {
            "name": self._name,
            "version": str(self._torch.__version__).split("+")[0],  # the build, as "+cu130", is not in the package's
            "onnxruntime": None,
            "provider": self._device,
            "optimization_level": "inductor" if self._name == "torch-compile" else "none",
            "intra_op_threads": self._threads,
            "inter_op_threads": 1,
            "spinning": False,
            "denormals_as_zero": self._flushed,
            "options": dict(self._options),
        }


class OpenVino:
    """OpenVINO on the CPU: one stream, float32 (it would choose bfloat16 itself where the CPU has it).

    Raises:
        UnusableError: If openvino is not installed.
    """

    stream: CudaStream | None = None
    gpu: str | None = None

    def __init__(self, *, threads: int) -> None:
        self._openvino = imported("openvino", mend='pip install "hwnas[openvino]"')
        self._threads = threads
        self._core = self._openvino.Core()
        self._asked = {
            "INFERENCE_PRECISION_HINT": "f32",
            "NUM_STREAMS": "1",
            "INFERENCE_NUM_THREADS": str(threads),
            "ENABLE_CPU_PINNING": "NO",  # the program pins itself
        }
        self._read_back: dict[str, str] = {}
        self._devices: list[str] = []

    def load(self, path: str, *, batch: int, seed: int) -> Run:
        """See `Runtime`.

        Raises:
            UnusableError: If the compiled model does not run on the CPU.
            ValueError: If the input is not one image batch of known size, or an output is not finite.
        """
        model = self._core.read_model(path)
        if len(model.inputs) != 1 or model.input().get_element_type().get_type_name() != "f32":
            types = [(i.get_any_name(), i.get_element_type().get_type_name()) for i in model.inputs]
            raise ValueError(f"has inputs {types}; expected one of type f32")
        partial = model.input().get_partial_shape()
        sizes = [part.get_length() if part.is_static else "?" for part in partial]
        name = model.input().get_any_name()
        image = fixed_input(name, [batch if sizes[:1] == ["?"] else sizes[0], *sizes[1:]], batch=batch, seed=seed)
        model.reshape(list(image.shape))
        compiled = self._core.compile_model(model, "CPU", self._asked)
        self._devices = [str(device) for device in compiled.get_property("EXECUTION_DEVICES")]
        if self._devices != ["CPU"]:
            raise UnusableError(f"openvino runs on {self._devices}; expected CPU", mend='runtime = "onnxruntime-cpu"')
        self._read_back = {name: self._text(compiled.get_property(name)) for name in sorted(self._asked)}
        request = compiled.create_infer_request()
        request.set_input_tensor(self._openvino.Tensor(image))
        request.infer()
        check_finite([output.data for output in request.output_tensors])
        run: Run = request.infer
        return run

    def _text(self, value: Any) -> str:
        return str(value.get_type_name() if isinstance(value, self._openvino.Type) else value)

    def identity(self) -> dict[str, Any]:
        """See `Runtime`."""
        return {
            "name": "openvino",
            "version": str(self._openvino.__version__).split("-")[0],
            "onnxruntime": None,
            "provider": ", ".join(self._devices) or "CPU",
            "optimization_level": "all",
            "intra_op_threads": self._threads,
            "inter_op_threads": 1,
            "spinning": None,
            "denormals_as_zero": None,
            "options": dict(self._read_back),
        }


RUNTIMES: dict[str, Callable[[Mapping[str, Any]], Runtime]] = {
    **{
        name: lambda job, name=name: OnnxRuntime(  # type: ignore[misc]
            name, threads=job["threads"], batch=job["batch"], gpu=job.get("gpu")
        )
        for name in PROVIDERS
    },
    "torch": lambda job: TorchRuntime("torch", threads=job["threads"], gpu=job.get("gpu")),
    "torch-compile": lambda job: TorchRuntime("torch-compile", threads=job["threads"], gpu=job.get("gpu")),
    "openvino": lambda job: OpenVino(threads=job["threads"]),
}
"""What makes each runtime from a job."""


def imported(module: str, *, mend: str) -> Any:
    """A module that a runtime needs.

    Raises:
        UnusableError: If it is not installed or does not load.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise UnusableError(f"{error.name} is not installed for {sys.executable}", mend=mend) from error
    except (ImportError, OSError) as error:
        raise UnusableError(f"{module} is installed and does not load: {reason_of(error)}", mend=mend) from error


def compiler() -> str | None:
    """The C++ compiler that torch.compile would find; None if there is none."""
    names = [os.environ.get("CXX", ""), "c++", "g++", "clang++", "cl"]
    return next((found for name in names if name and (found := shutil.which(name))), None)


def try_runtimes(names: Sequence[str], empty: str, gpu: str | None) -> dict[str, dict[str, Any]]:
    """What works here, by runtime: its identity, or what is missing and what mends it.

    Args:
        names: Of `RUNTIMES`.
        empty: An ONNX file that does nothing, for those that read ONNX. The others are only made ready.
        gpu: A UUID, "auto", or None.

    Returns:
        Per runtime {"works", "identity", "gpu", "missing", "mend"}.
    """
    found: dict[str, dict[str, Any]] = {}
    for name in names:
        state: dict[str, Any] = {"works": False, "identity": None, "gpu": None, "missing": None, "mend": None}
        try:
            runtime = RUNTIMES[name]({"threads": 1, "batch": 1, "gpu": gpu})
            if not isinstance(runtime, TorchRuntime):
                runtime.load(empty, batch=1, seed=0)
            state |= {"works": True, "identity": runtime.identity(), "gpu": runtime.gpu}
        except UnusableError as error:
            state |= {"missing": error.missing, "mend": error.mend}
        except Exception as error:  # noqa: BLE001 - the runtimes' errors share no base, and the others are asked too
            state |= {"missing": f"it fails: {reason_of(error)}", "mend": f"install {name.split('-')[0]} again"}
        found[name] = state
    return found


def reason_of(error: Exception) -> str:
    """One line that says why a model could not be used."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    # OpenVINO begins with the place in its own source, and says last which operators it does not know.
    return lines[-1].strip(" -") if lines[0].startswith("Exception from") else lines[0].strip()


def load_all(
    job: Mapping[str, Any], runtime: Runtime, watch: Callable[[], None]
) -> tuple[dict[str, Run], dict[str, str]]:
    """What runs each model, and the reasons of those that cannot be run.

    Raises:
        UnusableError: If the runtime itself cannot be used.
    """
    loaded: dict[str, Run] = {}
    failures: dict[str, str] = {}
    models = job["models"]
    for done, model in enumerate(models, start=1):
        watch()
        try:
            run = runtime.load(model["path"], batch=job["batch"], seed=job["seed"])
            if runtime.gpu is not None:
                warm_up(run, seconds=GPU_WARM_UP_SECONDS)
            loaded[model["key"]] = run
        except UnusableError:
            raise
        except Exception as error:  # noqa: BLE001 - the runtime's errors share no base, and the other models go on
            failures[model["key"]] = reason_of(error)
        if done % 16 == 0 or done == len(models):
            say(stage="load", done=done, total=len(models))
    return loaded, failures


def visits_of(
    loaded: Mapping[str, Run],
    watch: Callable[[], None],
    *,
    stream: CudaStream | None = None,
    gpu: GpuWatch | None = None,
    on_device: Mapping[str, list[NDArray[np.int64]]] | None = None,
) -> dict[str, Callable[[], NDArray[np.int64]]]:
    """What takes one visit of each model; quick models get more runs.

    Args:
        loaded: What runs each model.
        watch: Called before each visit.
        stream: Of the GPU that runs them.
        gpu: Looked at before and after each visit.
        on_device: Per model, where the times on the device go: an array [runs, 2] per visit, see `CudaStream.last`.
    """

    def one(key: str, run: Run, runs: int) -> NDArray[np.int64]:
        watch()
        take = functools.partial(visit, run, runs)
        try:
            taken = take() if gpu is None else gpu.undisturbed(take)
            if stream is not None and on_device is not None:
                on_device[key].append(stream.last(runs))
        except UnusableError:
            raise
        except Exception as error:  # the runtime's errors share no base, and nothing can be measured any more
            raise UnusableError(
                f"{key} ran when it was loaded, and fails now: {reason_of(error)}",
                mend="look whether the device is still there (for a GPU: nvidia-smi), then start again",
            ) from error
        return taken

    visits: dict[str, Callable[[], NDArray[np.int64]]] = {}
    for key, run in loaded.items():
        pilot_us = visit(run, 5).min() / 1000
        visits[key] = functools.partial(one, key, run, SHORT_RUNS if pilot_us < SHORT_US else RUNS)
    return visits


def device_summary(taken: Sequence[NDArray[np.int64]]) -> dict[str, float]:
    """What is kept of a model's times on the GPU [runs, 2 (device, enqueue)] per visit, in microseconds.

    Where handing the work over takes most of the device's time, the network is bound by launches, and sums of blocks
    mislead.

    Example:
        >>> device_summary([np.array([[2000, 1000], [4000, 3000]])])["median_us"]
        3.0
    """
    both = np.concatenate(list(taken)) / 1000
    return {
        "p25_us": float(np.percentile(both[:, 0], 25)),
        "median_us": float(np.median(both[:, 0])),
        "enqueue_p25_us": float(np.percentile(both[:, 1], 25)),
    }


# ------------------------------------------------------------------------------------------------------ NVIDIA GPUs


class CudaStream:
    """A stream of one GPU, with an event before and after each run, through the driver's own library.

    Both onnxruntime and torch are told to use it, so one clock serves both. Only what every driver since CUDA 11.4 has
    is called.

    Args:
        library: libcuda; another object in tests.
        only: Refuse where several GPUs are visible, as nobody said which.
        clock: Nanoseconds of the host.

    Raises:
        UnusableError: If the driver does not answer, no GPU is visible, or too many are.
    """

    RING = 64

    def __init__(self, library: Any, *, only: bool, clock: Callable[[], int] = time.perf_counter_ns) -> None:
        self._library, self._clock = library, clock
        self._call("cuInit", 0)
        count = ctypes.c_int()
        self._call("cuDeviceGetCount", ctypes.byref(count))
        if count.value < 1 or (only and count.value > 1):
            raise UnusableError(
                f"{count.value} GPUs are visible; expected one",
                mend='name it in the device file by the UUID that hwnas devices shows: gpu = "GPU-..."'
                if count.value
                else "look at nvidia-smi and at CUDA_VISIBLE_DEVICES",
            )
        device, context, stream = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_void_p()
        self._call("cuDeviceGet", ctypes.byref(device), 0)
        uuid = (ctypes.c_ubyte * 16)()
        self._call("cuDeviceGetUuid_v2", ctypes.byref(uuid), device)
        letters = bytes(uuid).hex()
        self.uuid = "-".join(letters[a:b] for a, b in ((0, 8), (8, 12), (12, 16), (16, 20), (20, 32)))
        # The primary context is the one that onnxruntime and torch use.
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
        self._call("cuCtxSetCurrent", context)
        self._call("cuStreamCreate", ctypes.byref(stream), 1)  # does not wait for the default stream
        self._stream = stream
        self._events = [(self._event(), self._event()) for _ in range(self.RING)]
        self._enqueue_ns = [0] * self.RING
        self._runs = 0
        self._started_ns = 0

    @classmethod
    def open(cls, gpu: str) -> CudaStream:
        """Of the GPU with this UUID, or with "auto" of the only one that is visible.

        Raises:
            UnusableError: If there is no driver, or no such GPU.
        """
        if gpu != "auto":
            # Before CUDA starts in this process. CUDA then counts from this one, in whatever order it lists the others.
            os.environ["CUDA_VISIBLE_DEVICES"] = gpu
        try:
            library = ctypes.CDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so.1")
        except OSError as error:
            raise UnusableError(
                f"the NVIDIA driver's library does not load: {error}",
                mend="install the driver (nvidia-smi must work); in a container, start it with --gpus all",
            ) from error
        return cls(library, only=gpu == "auto")

    @property
    def pointer(self) -> int:
        """The stream's address, as other libraries take it."""
        return int(self._stream.value or 0)

    def start(self) -> None:
        """A run begins."""
        self._call("cuEventRecord", self._events[self._runs % self.RING][0], self._stream)
        self._started_ns = self._clock()

    def stop(self) -> None:
        """All of the run is handed over: mark its end, wait for it."""
        place = self._runs % self.RING
        self._enqueue_ns[place] = self._clock() - self._started_ns
        self._call("cuEventRecord", self._events[place][1], self._stream)
        self._call("cuStreamSynchronize", self._stream)
        self._runs += 1

    def last(self, runs: int) -> NDArray[np.int64]:
        """Nanoseconds [runs, 2] of the last runs, at most `RING`: on the device, and for handing the work over."""
        taken = np.empty((runs, 2), dtype=np.int64)
        elapsed_ms = ctypes.c_float()
        for row, run in enumerate(range(self._runs - runs, self._runs)):
            first, second = self._events[run % self.RING]
            self._call("cuEventElapsedTime", ctypes.byref(elapsed_ms), first, second)
            taken[row] = round(elapsed_ms.value * 1e6), self._enqueue_ns[run % self.RING]
        return taken

    def _event(self) -> ctypes.c_void_p:
        event = ctypes.c_void_p()
        self._call("cuEventCreate", ctypes.byref(event), 0)
        return event

    def _call(self, name: str, *arguments: Any) -> None:
        code = getattr(self._library, name)(*arguments)
        if code:
            raise UnusableError(
                f"the NVIDIA driver answers {name} with error {code}",
                mend="look at nvidia-smi and the system's log; the GPU may have gone or be used exclusively",
            )


# NVML's bits for why a clock is lower than it could be. Idleness, chosen clocks and a synchronised board are no harm.
THROTTLE_REASONS = {
    0x04: "power cap",
    0x08: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "power brake",
}
CHOSEN_CLOCKS = 0x02
GPU_IS_LOST = 15


def answer(nvml: Any, call: str, *arguments: Any) -> Any:
    """What NVML says to one call; None where it does not support it, forbids it or is too old to know it.

    Raises:
        UnusableError: If the GPU is gone.
    """
    function = getattr(nvml, call, None)
    if function is None:
        return None
    try:
        value = function(*arguments)
    except nvml.NVMLError as error:
        if getattr(error, "value", None) == GPU_IS_LOST:
            raise UnusableError(
                f"the GPU has gone: {call}: {error}", mend="look at nvidia-smi and the system's log, then start again"
            ) from error
        return None
    return value.decode() if isinstance(value, bytes) else value


class GpuWatch:
    """Clock, throttle reasons and energy of one GPU or slice of a GPU, as NVML tells; None is unknown, never 0.

    Args:
        uuid: As CUDA writes it; NVML counts GPUs in another order than CUDA, so they are matched by it.
        nvml: The module pynvml; another object in tests. None where it is not installed.

    Raises:
        UnusableError: If the GPU is gone.
    """

    def __init__(self, uuid: str, nvml: Any) -> None:
        self.dropped = 0
        self.reasons_seen = 0
        self.clocks_mhz: list[int] = []
        self._nvml, self._handle, self._card = nvml, None, None
        self._identity: dict[str, Any] = {"uuid": uuid, "mig": None, "nvml": "nvidia-ml-py is not installed"}
        if nvml is None:
            return
        try:
            nvml.nvmlInit()
        except nvml.NVMLError as error:
            self._identity["nvml"] = f"does not start: {error}"
            return
        for prefix in ("GPU-", "MIG-"):
            self._handle = self._handle or answer(nvml, "nvmlDeviceGetHandleByUUID", prefix + uuid)
        if self._handle is None:
            self._identity["nvml"] = f"knows no GPU {uuid}"
            return
        # A slice has no clock, no power and no counter of its own; its card has.
        whole = answer(nvml, "nvmlDeviceGetDeviceHandleFromMigDeviceHandle", self._handle)
        self._card = self._handle if whole is None else whole
        self._identity = self._identify(sliced=whole is not None)

    @classmethod
    def of(cls, uuid: str | None) -> GpuWatch | None:
        """Of the GPU that a runtime uses, if it uses one."""
        if uuid is None:
            return None
        try:
            nvml = importlib.import_module("pynvml")
        except ImportError:
            nvml = None
        return cls(uuid, nvml)

    def _identify(self, *, sliced: bool) -> dict[str, Any]:
        def ask(call: str, *arguments: Any) -> Any:
            return answer(self._nvml, call, *arguments)

        cuda = ask("nvmlSystemGetCudaDriverVersion_v2")
        power = ask("nvmlDeviceGetEnforcedPowerLimit", self._card)
        memory = ask("nvmlDeviceGetMemoryInfo", self._handle)
        return {
            "name": ask("nvmlDeviceGetName", self._handle),
            "uuid": ask("nvmlDeviceGetUUID", self._handle),
            "mig": sliced,
            "card_uuid": ask("nvmlDeviceGetUUID", self._card),
            "driver": ask("nvmlSystemGetDriverVersion"),
            "cuda": None if cuda is None else f"{cuda // 1000}.{cuda % 1000 // 10}",
            "power_cap_w": None if power is None else power / 1000,
            "memory_bytes": None if memory is None else int(memory.total),
            "max_sm_clock_mhz": ask("nvmlDeviceGetMaxClockInfo", self._card, 1),
            "nvml": "answers",
        }

    def look(self) -> int:
        """The reasons that hold the clock down now, 0 if there are none or none is known; notes the clock."""
        if self._card is None:
            return 0
        clock = answer(self._nvml, "nvmlDeviceGetClockInfo", self._card, 1)
        if clock is not None:
            self.clocks_mhz.append(int(clock))
        reasons = answer(self._nvml, "nvmlDeviceGetCurrentClocksThrottleReasons", self._card)
        self.reasons_seen |= reasons or 0
        return int(reasons or 0)

    def undisturbed(self, visit: Callable[[], NDArray[np.int64]]) -> NDArray[np.int64]:
        """A visit before and after which the GPU did not throttle; others are dropped and counted.

        Raises:
            UnusableError: If it throttles again and again.
        """
        for _ in range(THROTTLED_VISITS):
            before = self.look()
            runs = visit()
            reasons = before | self.look()
            if not any(reasons & bit for bit in THROTTLE_REASONS):
                return runs
            self.dropped += 1
        raise UnusableError(
            f"the GPU throttled in {THROTTLED_VISITS} visits in a row: {', '.join(reason_names(reasons))}",
            mend="let it cool, or lock its clock where it can stay: nvidia-smi -lgc MHZ",
        )

    def energy_mj(self) -> int | None:
        """The counter of millijoules since the driver was loaded; None where there is none."""
        if self._card is None:
            return None
        # A slice cannot be told from its neighbours on the card.
        whole = None if self._identity["mig"] else answer(self._nvml, "nvmlDeviceGetTotalEnergyConsumption", self._card)
        return None if whole is None else int(whole)

    def state(self) -> dict[str, Any]:
        """Identity and what was seen."""
        clocks = self.clocks_mhz
        return self._identity | {
            "sm_clock_mhz": [min(clocks), int(np.median(clocks)), max(clocks)] if clocks else None,
            # NVML has no question for it: it only says when a chosen clock holds the GPU down.
            "clocks_locked": True if self.reasons_seen & CHOSEN_CLOCKS else None,
            "throttled_visits": self.dropped,
            "throttle_reasons": reason_names(self.reasons_seen),
        }


def reason_names(reasons: int) -> list[str]:
    """Throttle reasons in words.

    Example:
        >>> reason_names(0x44)
        ['power cap', 'hardware thermal slowdown']
    """
    return [name for bit, name in THROTTLE_REASONS.items() if reasons & bit]


ENERGY_SECONDS, ENERGY_WINDOWS, ENERGY_STEPS = 10.0, 3, 20


def energy_per_run(
    run: Run,
    counter_mj: Callable[[], int | None],
    *,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
    seconds: float = ENERGY_SECONDS,
) -> dict[str, float | int] | None:
    """Millijoules of one run by an energy counter, the median of three windows.

    A counter moves in steps, of up to 0.1 s. So a window begins and ends at a step and holds more than 20 of them; one
    that has not got so many is prolonged up to three times.

    Args:
        run: One run, to the end.
        counter_mj: Millijoules so far; None where there is no counter.
        clock: Seconds.
        sleep: Waits, to see what the device needs when idle.
        seconds: Of each window.

    Returns:
        `energy_mj` as counted, `above_idle_mj` without what the idle device would have used in that time, `runs` and
        counter `steps` of all windows; None where the counter is missing or moves too rarely.
    """
    if counter_mj() is None:
        return None

    def window(act: Callable[[], object], length: float) -> tuple[float, float, int, int] | None:
        """(mJ, seconds, acts, steps) from one step of the counter to another."""
        begun = last = first = None
        first_at = last_at = clock()
        acts = acts_at_last = steps = 0
        deadline = clock() + 3 * length
        while clock() < deadline:
            act()
            acts += 1
            now = counter_mj()
            if now is None:
                return None
            if begun is None:
                begun = now
            elif first is None and now != begun:
                first = last = now
                first_at, acts, acts_at_last = clock(), 0, 0
            elif first is not None and now != last:
                last, last_at, acts_at_last, steps = now, clock(), acts, steps + 1
                if steps > ENERGY_STEPS and last_at - first_at >= length:
                    return float(last - first), last_at - first_at, acts_at_last, steps
        return None

    idle = window(lambda: sleep(0.01), seconds / 5)
    taken = [window(run, seconds) for _ in range(ENERGY_WINDOWS)]
    whole = [each for each in taken if each is not None]
    if len(whole) < ENERGY_WINDOWS:
        return None
    per_run = float(np.median([mj / acts for mj, _, acts, _ in whole]))
    result: dict[str, float | int] = {
        "energy_mj": per_run,
        "runs": sum(acts for _, _, acts, _ in whole),
        "steps": sum(steps for _, _, _, steps in whole),
    }
    if idle is not None:
        idle_mw = idle[0] / idle[1]
        result["above_idle_mj"] = float(np.median([(mj - idle_mw * took) / acts for mj, took, acts, _ in whole]))
    return result


def warm_up(run: Run, *, seconds: float, clock: Callable[[], float] = time.perf_counter) -> None:
    """Run for some time, so that algorithms are chosen, memory is there and the clock has risen."""
    end = clock() + seconds
    while clock() < end:
        run()


# --------------------------------------------------------------------------------------------------------- machine


def say(**values: object) -> None:
    """One progress line."""
    print(json.dumps(values), flush=True)


def pin(cores: Sequence[int] | None) -> list[int] | None:
    """Stay on these cores; the cores that then hold, None where the system does not say."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    if cores:
        os.sched_setaffinity(0, cores)
    return sorted(os.sched_getaffinity(0))


def settle_allocator() -> None:
    """Bring the C library's allocator to the state of a process that has run for a while.

    A fresh process of glibc hands the memory of each freed output back to the system and asks for it again at the next
    run: up to 1.2 us more, a fifth of a small block, until the first large block is freed; that raises its thresholds.
    """
    bytearray(31 << 20)  # freed at once; just below the largest size that glibc learns from


def load_average() -> float | None:
    """Programs that want to run, averaged over the last minute; None where the system does not say."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def ticks() -> tuple[int, int] | None:
    """Stolen and all clock ticks of all cores since boot; None where the system does not say."""
    try:
        numbers = [int(word) for word in Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()[1:9]]
    except (OSError, ValueError, IndexError):
        return None
    return (numbers[7], sum(numbers)) if len(numbers) == 8 else None


def steal_share(before: tuple[int, int] | None, after: tuple[int, int] | None) -> float | None:
    """Share of the time between that the hypervisor gave to others.

    Example:
        >>> steal_share((10, 1000), (30, 1200)), steal_share(None, (1, 2))
        (0.1, None)
    """
    if before is None or after is None or after[1] <= before[1]:
        return None
    return (after[0] - before[0]) / (after[1] - before[1])


def watcher(parent: int | None) -> Callable[[], None]:
    """A check that raises when the parent is gone, so that nobody's measurement goes on for ever."""

    def watch() -> None:
        if parent is not None and os.name == "posix" and os.getppid() != parent:
            raise ParentGoneError

    return watch


def measure(job: Mapping[str, Any]) -> dict[str, Any]:
    """Do a job; see the top of the file.

    Raises:
        ParentGoneError: If the parent ended meanwhile.
        UnusableError: If the runtime or the GPU cannot be used.
    """
    started = time.perf_counter()
    watch = watcher(job["parent"])
    load_before, ticks_before = load_average(), ticks()
    pinned = pin(job["cores"])
    settle_allocator()
    runtime = RUNTIMES[job.get("runtime", "onnxruntime-cpu")](job)
    # First of all, as a runtime that does not do what it was asked to shows it here.
    nothing = None if job["empty"] is None else runtime.load(job["empty"], batch=job["batch"], seed=job["seed"])
    gpu = GpuWatch.of(runtime.gpu)
    loaded, failures = load_all(job, runtime, watch)
    result: dict[str, Any] = {"schema": SCHEMA, "timings": {}, "failures": failures, "noise": None, "verdict": "quiet"}
    on_device: dict[str, list[NDArray[np.int64]]] = {key: [] for key in loaded}
    empty: list[NDArray[np.int64]] = []
    rounds_done = 0
    gc.collect()
    gc.freeze()
    gc.disable()
    if loaded:
        visits = visits_of(loaded, watch, stream=runtime.stream, gpu=gpu, on_device=on_device)
        whole = [model["key"] for model in job["models"] if model["key"] in loaded and model["kind"] != "block"]

        def on_round(done: int, planned: int) -> None:
            nonlocal rounds_done
            rounds_done = done
            if nothing is not None:
                empty.append(visit(nothing, SHORT_RUNS))
            total = len(loaded)
            say(stage="measure", done=done * total, total=planned * total, round=done, rounds=planned)

        taken, noise = collect(
            visits,
            sorted(whole) if len(whole) >= FEWEST_NETWORKS else sorted(loaded),
            rounds=job["rounds"],
            rng=np.random.default_rng(job["seed"]),
            on_round=on_round,
        )
        for key in sorted(taken):
            result["timings"][key] = summary(np.concatenate(taken[key]), visits=len(taken[key]))
        result |= {"noise": noise, "verdict": verdict(noise, job["on_noise"])}
    result["device_timings"] = {key: device_summary(taken) for key, taken in on_device.items() if taken}
    result["energy"] = {}
    if gpu is not None and job.get("energy", False):
        for key in sorted(loaded):
            watch()
            result["energy"][key] = energy_per_run(loaded[key], gpu.energy_mj)
    gc.enable()
    result["empty_run_us"] = float(np.percentile(np.concatenate(empty), 25)) / 1000 if empty else None
    result["conditions"] = {
        **runtime.identity(),
        "gpu": None if gpu is None else gpu.state(),
        "python": platform.python_version(),
        "pinned": pinned,
        "batch": job["batch"],
        "rounds": rounds_done,
        "runs": RUNS,
        "seed": job["seed"],
        "load_before": load_before,
        "load_after": load_average(),
        "steal_share": steal_share(ticks_before, ticks()),
        "seconds": time.perf_counter() - started,
    }
    return result


def main(arguments: Sequence[str]) -> int:
    """Read a job, write its result; the exit code."""
    if len(arguments) in {3, 4} and arguments[0] == "--runtimes":
        gpu = arguments[3] if len(arguments) == 4 else None
        print(json.dumps(try_runtimes(arguments[2].split(","), arguments[1], gpu)))
        return 0
    if len(arguments) != 2:
        print("usage: python measure.py job.json result.json", file=sys.stderr)
        return 2
    job = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
    try:
        result = measure(job)
    except ParentGoneError:
        return 3
    except UnusableError as error:
        print(f"{error.missing}\n{error.mend}", file=sys.stderr)
        return UNUSABLE
    target = Path(arguments[1])
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(result, allow_nan=False), encoding="utf-8")
    temporary.replace(target)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
