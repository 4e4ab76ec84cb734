"""What the stubs of `test_measure_gpu.py` cannot show, on the only NVIDIA GPU of this machine: pytest -m gpu."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from hwnas.core import DeviceError, MeasureError
from hwnas.cost import blocks_of
from hwnas.device import Device, Runtime
from hwnas.device.measure import CudaStream
from hwnas.nn import write_onnx, write_pt2
from hwnas.profiling import Measurement, measure_models, profile, suffix_of, try_runtimes
from hwnas.profiling.runtimes import provider_of
from tests.profiling.chain import build, build_network, chain

pytestmark = pytest.mark.gpu

RUNTIMES: tuple[Runtime, ...] = ("torch", "torch-compile", "onnxruntime-cuda", "onnxruntime-tensorrt")
SIDE = 64


def device_of(runtime: Runtime) -> Device:
    return Device(name="gpu", runtime=runtime, gpu="auto")


@pytest.fixture(scope="module", params=RUNTIMES)
def device(request: pytest.FixtureRequest) -> Device:
    runtime: Runtime = request.param
    state = try_runtimes([runtime], gpu="auto")[runtime]
    if not state.works:
        pytest.skip(state.detail)
    return device_of(runtime)


def convolutions(width: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1),
        *[nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()) for _ in range(6)],
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(width, 3),
    )


def write(folder: Path, device: Device, width: int) -> Path:
    path = folder / f"{width}{suffix_of(device.runtime)}"
    if path.suffix == ".pt2":
        write_pt2(convolutions(width), path, input_shape=(3, SIDE, SIDE), batch=device.batch)
    else:
        write_onnx(convolutions(width), path, input_shape=(3, SIDE, SIDE))
    return path


def driver_says(query: str) -> str:
    """Of the driver's own tool, a second source beside NVML's Python module."""
    found = subprocess.run(
        ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader,nounits"],
        capture_output=True,
        text=True,
        check=True,
    )
    return found.stdout.strip()


@pytest.fixture(scope="module")
def measured(device: Device, tmp_path_factory: pytest.TempPathFactory) -> Measurement:
    folder = tmp_path_factory.mktemp("models")
    models = {str(width): write(folder, device, width) for width in (8, 512)}
    return measure_models(models, device=device, rounds=4, on_noise="mark", limit_s=20)


def test_the_live_session_is_on_the_gpu_that_the_driver_names(device: Device, measured: Measurement) -> None:
    assert not measured.failures
    gpu = measured.conditions["gpu"]
    assert measured.conditions["provider"] == provider_of(device)
    assert gpu["uuid"] == driver_says("uuid")
    assert gpu["name"] == driver_says("name")
    assert gpu["driver"] == driver_says("driver_version")
    assert gpu["mig"] is False
    assert gpu["sm_clock_mhz"][0] > 0


def test_the_device_s_time_is_within_the_host_s_and_grows_with_the_work(measured: Measurement) -> None:
    small, large = (measured.device_times[key] for key in ("8", "512"))
    for key, time in measured.device_times.items():
        assert 0 < time.p25_us <= 1.05 * measured.timings[key].p25_us
    # 4,096 times the work; the small one is bound by launches.
    assert large.p25_us > 3 * small.p25_us
    assert small.launch_bound
    assert not large.launch_bound


def test_float32_is_float32(device: Device, measured: Measurement) -> None:
    """6 layers of 512 x 512 x 9 at 64 x 64 are 116 GFLOP: with TF32 they would go faster than FP32 can."""
    assert measured.conditions["options"]["use_tf32"] == "0"
    peak = torch.cuda.get_device_properties(0).multi_processor_count * 128 * 2 * 2.0e9
    work = 2 * 6 * 512 * 512 * 9 * SIDE * SIDE
    # Winograd's convolutions need up to 4 times fewer multiplications than are counted.
    assert measured.device_times["512"].p25_us * 1e-6 > work / peak / 4


def test_an_event_s_time_is_the_kernel_s() -> None:
    script = (
        "import time, torch, json\n"
        "from hwnas.device.measure import CudaStream\n"
        "stream = CudaStream.open('auto')\n"
        "torch.cuda.set_stream(torch.cuda.ExternalStream(stream.pointer))\n"
        "a = torch.randn(8192, 8192, device='cuda')\n"
        "found = {}\n"
        "for times in (1, 1, 8):\n"
        "    stream.start()\n"
        "    begun = time.perf_counter_ns()\n"
        "    for _ in range(times): a @ a\n"
        "    stream.stop()\n"
        "    found[times] = [int(stream.last(1)[0, 0]), time.perf_counter_ns() - begun]\n"
        "print(json.dumps(found))\n"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    (one, _), (eight, host) = json.loads(run.stdout).values()
    assert 0.9 * host < eight <= host
    assert eight == pytest.approx(8 * one, rel=0.15)


def test_an_unknown_gpu_is_refused_with_the_way_out(tmp_path: Path) -> None:
    nobody = "GPU-00000000-0000-0000-0000-000000000000"
    device = Device(name="gpu", runtime="torch", gpu=nobody)
    with pytest.raises((DeviceError, MeasureError), match="GPU") as caught:
        measure_models({"a": write(tmp_path, device, 4)}, device=device, rounds=2)
    assert caught.value.hint


def test_energy_is_counted(tmp_path: Path) -> None:
    device = device_of("torch")
    found = measure_models(
        {"512": write(tmp_path, device, 512)}, device=device, rounds=2, on_noise="mark", energy=["512"]
    )
    energy = found.energy["512"]
    assert energy is not None
    seconds = found.timings["512"].median_us * 1e-6
    watts = energy.energy_mj / 1000 / seconds
    # Between idling and what the card may draw.
    assert 30 < watts < 1.1 * float(driver_says("power.limit"))
    assert energy.above_idle_mj is not None
    assert 0 < energy.above_idle_mj < energy.energy_mj


def test_a_space_is_profiled_and_predicted(device: Device, tmp_path: Path) -> None:
    space = chain()
    report = profile(space, build, build_network, device=device, folder=tmp_path, on_noise="mark", limit_s=60)
    assert not report.failures
    header = report.table.header
    assert header.device.gpu is not None
    assert header.device.gpu.uuid == driver_says("uuid")
    assert header.runtime.provider == provider_of(device)
    assert sorted(report.table.rows) == sorted(blocks_of(space))
    assert header.calibration is not None
    assert header.calibration.holdout is not None
    assert header.calibration.holdout.mape < 0.1


def test_opening_a_gpu_twice_gives_the_same_one() -> None:
    assert CudaStream.open("auto").uuid == CudaStream.open("auto").uuid == driver_says("uuid").removeprefix("GPU-")
    assert os.environ.get("CUDA_VISIBLE_DEVICES") is None
