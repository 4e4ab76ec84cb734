# ruff: noqa: N802, N815 - the driver names its calls so
"""The measuring program's GPU side, with stubs of both driver libraries and of onnxruntime: no GPU was there."""

from __future__ import annotations

import ctypes
import itertools
import sys
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest

from hwnas.cost.table import GpuRecord
from hwnas.device import measure as program
from tests.device.stub_nvml import GPU_IS_LOST, NOT_SUPPORTED, StubGpu, StubNvml

UUID = "00010203-0405-0607-0809-0a0b0c0d0e0f"


class StubCuda:
    """libcuda with one stream; event n is recorded at the time of the n-th tick."""

    def __init__(self, *, gpus: int = 1, fails: str = "") -> None:
        self.gpus, self.fails = gpus, fails
        self.now_ms = 0.0
        self.recorded: dict[int, float] = {}
        self.handles = itertools.count(100)
        self.synchronised = 0

    def __getattr__(self, name: str) -> Callable[..., int]:
        if name.startswith("do_"):
            raise AttributeError(name)

        def call(*arguments: Any) -> int:
            if name == self.fails:
                return 999
            return int(getattr(self, f"do_{name}", lambda *_: 0)(*arguments) or 0)

        return call

    def do_cuDeviceGetCount(self, count: Any) -> None:
        count._obj.value = self.gpus

    def do_cuDeviceGetUuid_v2(self, uuid: Any, device: Any) -> None:
        uuid._obj[:] = list(range(16))

    def do_cuStreamCreate(self, stream: Any, flags: int) -> None:
        stream._obj.value = next(self.handles)

    do_cuEventCreate = do_cuStreamCreate

    def do_cuEventRecord(self, event: ctypes.c_void_p, stream: ctypes.c_void_p) -> None:
        self.recorded[event.value or 0] = self.now_ms

    def do_cuStreamSynchronize(self, stream: ctypes.c_void_p) -> None:
        self.synchronised += 1

    def do_cuEventElapsedTime(self, elapsed: Any, first: ctypes.c_void_p, second: ctypes.c_void_p) -> None:
        elapsed._obj.value = self.recorded[second.value or 0] - self.recorded[first.value or 0]


def stream_over(cuda: StubCuda, clock: Callable[[], int] = lambda: 0) -> program.CudaStream:
    return program.CudaStream(cuda, only=True, clock=clock)


# ---------------------------------------------------------------------------------------------------------- events


def test_each_run_has_its_own_time_on_the_device_even_after_the_ring_is_full() -> None:
    cuda = StubCuda()
    stream = stream_over(cuda, itertools.count(0, 500).__next__)
    for run in range(100):
        stream.start()
        cuda.now_ms += run / 8
        stream.stop()
    assert cuda.synchronised == 100
    taken = stream.last(3)
    assert taken.tolist() == [[97 * 125_000, 500], [98 * 125_000, 500], [99 * 125_000, 500]]
    assert (stream.uuid, stream.pointer) == (UUID, 100)


def test_a_launch_bound_visit_is_seen_in_its_summary() -> None:
    found = program.device_summary([np.array([[1000, 900]] * 4), np.array([[3000, 2900]] * 4)])
    assert found == {"p25_us": 1.0, "median_us": 2.0, "enqueue_p25_us": 0.9}


@pytest.mark.parametrize(("gpus", "mend"), [(0, "CUDA_VISIBLE_DEVICES"), (2, 'gpu = "GPU-..."')])
def test_no_gpu_or_several_are_refused_with_the_way_out(gpus: int, mend: str) -> None:
    with pytest.raises(program.UnusableError, match=f"{gpus} GPUs are visible; expected one") as info:
        stream_over(StubCuda(gpus=gpus))
    assert mend in info.value.mend


def test_a_gpu_that_vanishes_while_it_runs_is_told() -> None:
    cuda = StubCuda()
    stream = stream_over(cuda)
    stream.start()
    cuda.fails = "cuStreamSynchronize"
    with pytest.raises(program.UnusableError, match="answers cuStreamSynchronize with error 999"):
        stream.stop()


def test_a_model_that_fails_while_it_is_measured_is_named() -> None:
    calls = itertools.count()

    def run() -> None:
        if next(calls) > 10:
            raise RuntimeError("device removed\nmore")

    program.pilot_us(run, lambda: 0)
    with pytest.raises(program.UnusableError, match="net ran when it was loaded, and fails now: device removed"):
        program.visit_on("net", run, 12, lambda: 0)


# ------------------------------------------------------------------------------------------------------------ NVML


def reasons(*values: int) -> Iterator[int]:
    return itertools.chain(values, itertools.repeat(0))


def test_the_gpu_is_found_by_uuid_and_its_state_is_a_record_of_the_table() -> None:
    nvml = StubNvml(StubGpu("GPU-other", "NVIDIA T4"), StubGpu(f"GPU-{UUID}", reasons=itertools.repeat(0x02)))
    watch = program.GpuWatch(UUID, nvml)
    watch.undisturbed(lambda: np.array([1]))
    record = GpuRecord(**watch.state())
    assert (record.name, record.driver, record.cuda) == ("NVIDIA H100 PCIe", "580.65", "13.1")
    assert (record.uuid, record.mig, record.power_cap_w) == (f"GPU-{UUID}", False, 350.0)
    assert (record.sm_clock_mhz, record.clocks_locked, record.throttled_visits) == ((1755, 1755, 1755), True, 0)


def test_a_slice_has_its_own_identity_and_its_cards_clock() -> None:
    card = StubGpu("GPU-card", slices=[StubGpu(f"MIG-{UUID}", "H100 MIG 1g", 10 << 30)], clock=1400)
    card.slices[0].refused = {"nvmlDeviceGetClockInfo": NOT_SUPPORTED}
    watch = program.GpuWatch(UUID, StubNvml(card))
    watch.look()
    state = watch.state()
    assert (state["uuid"], state["mig"], state["card_uuid"]) == (f"MIG-{UUID}", True, "GPU-card")
    assert (state["memory_bytes"], state["sm_clock_mhz"]) == (10 << 30, [1400, 1400, 1400])
    assert watch.energy_mj() is None, "the card's counter holds the other slices' energy too"


def test_throttled_visits_are_dropped_taken_again_and_counted() -> None:
    gpu = StubGpu(f"GPU-{UUID}", reasons=reasons(0, 0x04, 0x40, 0))
    watch = program.GpuWatch(UUID, StubNvml(gpu))
    visits = iter([np.array([n]) for n in range(9)])
    assert watch.undisturbed(lambda: next(visits)).tolist() == [2]
    state = watch.state()
    assert state["throttled_visits"] == 2
    assert state["throttle_reasons"] == ["power cap", "hardware thermal slowdown"]


def test_a_gpu_that_throttles_all_the_time_is_given_up() -> None:
    watch = program.GpuWatch(UUID, StubNvml(StubGpu(f"GPU-{UUID}", reasons=itertools.repeat(0x20))))
    with pytest.raises(program.UnusableError, match="throttled in 5 visits in a row: software thermal") as info:
        watch.undisturbed(lambda: np.array([1]))
    assert "nvidia-smi -lgc" in info.value.mend


@pytest.mark.parametrize(
    ("nvml", "said"),
    [
        (None, "nvidia-ml-py is not installed"),
        (StubNvml(fails=1), "does not start: Error"),
        (StubNvml(StubGpu("GPU-other")), f"knows no GPU {UUID}"),
    ],
)
def test_without_nvml_everything_is_unknown_and_nothing_is_dropped(nvml: Any, said: str) -> None:
    watch = program.GpuWatch(UUID, nvml)
    assert watch.undisturbed(lambda: np.array([7])).tolist() == [7]
    state = watch.state()
    assert (state["nvml"], state["uuid"], state["sm_clock_mhz"], state["clocks_locked"]) == (said, UUID, None, None)
    assert watch.energy_mj() is None
    assert GpuRecord(**state).power_cap_w is None


def test_a_gpu_that_nvml_has_lost_ends_the_measurement() -> None:
    gpu = StubGpu(f"GPU-{UUID}")
    watch = program.GpuWatch(UUID, StubNvml(gpu))
    gpu.refused["*"] = GPU_IS_LOST
    with pytest.raises(program.UnusableError, match="the GPU has gone: nvmlDeviceGetClockInfo: GPU is lost"):
        watch.undisturbed(lambda: np.array([1]))


def test_calls_that_the_driver_refuses_drop_no_visit() -> None:
    refused = dict.fromkeys(("nvmlDeviceGetClockInfo", "nvmlDeviceGetCurrentClocksThrottleReasons"), NOT_SUPPORTED)
    watch = program.GpuWatch(UUID, StubNvml(StubGpu(f"GPU-{UUID}", refused=refused)))
    assert watch.undisturbed(lambda: np.array([3])).tolist() == [3]
    assert watch.state()["sm_clock_mhz"] is None


# ---------------------------------------------------------------------------------------------------------- energy


class Bench:
    """A GPU of 100 W, 20 W when idle, whose counter moves every 0.1 s; a run takes 2 ms."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.mj = 0.0

    def clock(self) -> float:
        return self.seconds

    def spend(self, seconds: float, watts: float) -> None:
        self.seconds += seconds
        self.mj += seconds * watts * 1000

    def run(self) -> None:
        self.spend(0.002, 100)

    def sleep(self, seconds: float) -> None:
        self.spend(seconds, 20)

    def counter(self) -> int:
        self.at_step = getattr(self, "at_step", (0, 0))
        step = int(self.seconds / 0.1)
        if step != self.at_step[0]:
            self.at_step = (step, round(self.mj))
        return self.at_step[1]


def test_energy_of_a_run_with_and_without_what_idling_takes() -> None:
    bench = Bench()
    found = program.energy_per_run(bench.run, bench.counter, clock=bench.clock, sleep=bench.sleep)
    assert found is not None
    assert found["energy_mj"] == pytest.approx(200, rel=0.01)
    assert found["above_idle_mj"] == pytest.approx(160, rel=0.03)
    assert found["steps"] >= 3 * 100 - 3
    assert found["runs"] == pytest.approx(3 * 5000, rel=0.02)


def test_a_counter_that_moves_too_rarely_or_not_at_all_gives_no_number() -> None:
    bench = Bench()

    def energy(counter: Callable[[], int | None]) -> dict[str, float | int] | None:
        return program.energy_per_run(bench.run, counter, clock=bench.clock, sleep=bench.sleep, seconds=0.3)

    assert energy(bench.counter) is None  # 9 steps at most
    assert energy(lambda: 5) is None
    assert energy(lambda: None) is None


# ----------------------------------------------------------------------------------------------------- onnxruntime


class StubSession:
    """A session whose providers are what a test says, not what was asked for."""

    live: tuple[str, ...] = ()
    asked: list[Any] = []
    on_cpu: tuple[str, ...] = ()

    def __init__(self, path: str, options: Any, providers: list[Any]) -> None:
        type(self).asked = providers

    def disable_fallback(self) -> None:
        pass

    def get_providers(self) -> list[str]:
        return [*self.live, "CPUExecutionProvider"]

    def get_provider_options(self) -> dict[str, dict[str, str]]:
        return {name: dict(options) for name, options in self.asked} | {"CPUExecutionProvider": {}}

    def get_provider_graph_assignment_info(self) -> list[Any]:
        nodes = [SimpleNamespace(domain="acme", op_type=name) for name in self.on_cpu]
        return [SimpleNamespace(ep_name="CPUExecutionProvider", get_nodes=lambda: nodes)]

    def get_inputs(self) -> list[Any]:
        return [SimpleNamespace(name="image", type="tensor(float)", shape=["batch", 2])]

    def get_outputs(self) -> list[Any]:
        return [SimpleNamespace(name="logits")]

    def io_binding(self) -> Any:
        return SimpleNamespace(
            bind_ortvalue_input=lambda *_: None,
            bind_output=lambda *_: None,
            copy_outputs_to_cpu=lambda: [np.ones(3)],
        )

    def run_with_iobinding(self, binding: Any, options: Any) -> None:
        pass


def gpu_runtime(
    live: tuple[str, ...],
    name: str = "onnxruntime-cuda",
    *,
    on_cpu: tuple[str, ...] = (),
    preload: Callable[[], object] = lambda: None,
) -> program.OnnxRuntime:
    session = type("Session", (StubSession,), {"live": live, "on_cpu": on_cpu})
    ort = SimpleNamespace(
        __version__="1.32.0",
        get_available_providers=lambda: ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"],
        InferenceSession=session,
        OrtValue=SimpleNamespace(ortvalue_from_numpy=lambda *_: None),
        RunOptions=onnxruntime.RunOptions,
        preload_dlls=preload,
        set_default_logger_severity=lambda level: None,
    )
    return program.OnnxRuntime(
        name, threads=1, batch=1, gpu=None, ort=ort, open_stream=lambda _: stream_over(StubCuda())
    )


def test_a_live_session_on_the_gpu_gives_its_options_back() -> None:
    runtime = gpu_runtime(("CUDAExecutionProvider",))
    run = runtime.load("a.onnx", batch=1, seed=0)
    run()
    identity = runtime.identity()
    assert identity["provider"] == "CUDAExecutionProvider"
    assert identity["options"] == {
        "arena_extend_strategy": "kNextPowerOfTwo",
        "cudnn_conv_algo_search": "EXHAUSTIVE",
        "cudnn_conv_use_max_workspace": "1",
        "device_id": "0",
        "do_copy_in_default_stream": "1",
        "use_tf32": "0",
    }
    assert runtime.gpu == UUID
    assert runtime.stream is not None
    assert len(runtime.stream.last(2)) == 2


def test_libraries_that_pip_installed_are_loaded_first_and_what_that_prints_is_no_result(
    capsys: pytest.CaptureFixture[str],
) -> None:
    gpu_runtime(("CUDAExecutionProvider",), preload=lambda: sys.stdout.write("Failed to load libcufft.so\n"))
    assert capsys.readouterr() == ("", "Failed to load libcufft.so\n")


@pytest.mark.parametrize(
    ("name", "live"),
    [
        ("onnxruntime-cuda", ()),
        ("onnxruntime-tensorrt", ()),
        ("onnxruntime-tensorrt", ("CUDAExecutionProvider",)),
    ],
)
def test_a_session_that_silently_fell_back_is_refused(name: str, live: tuple[str, ...]) -> None:
    """Row A1: the provider is listed as available, and the live session runs elsewhere."""
    runs_on = ", ".join([*live, "CPUExecutionProvider"])
    with pytest.raises(program.UnusableError, match=f"{name} was asked for, and the live session runs on {runs_on}"):
        gpu_runtime(live, name).load("a.onnx", batch=1, seed=0)


def test_operators_that_went_to_the_cpu_are_named() -> None:
    runtime = gpu_runtime(("CUDAExecutionProvider",), on_cpu=("Warp", "Bend"))
    with pytest.raises(ValueError, match="CUDAExecutionProvider cannot run acme::Bend, acme::Warp"):
        runtime.load("a.onnx", batch=1, seed=0)


def test_the_cpu_is_never_listed_behind_a_gpu() -> None:
    names = [[name for name, _ in program.providers_for(runtime, stream=1)] for runtime in program.PROVIDERS]
    assert names == [
        ["CPUExecutionProvider"],
        ["CUDAExecutionProvider"],
        ["TensorrtExecutionProvider", "CUDAExecutionProvider"],
    ]
