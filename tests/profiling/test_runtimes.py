"""Runtimes other than onnxruntime on the CPU, through the real measuring program, where they are installed."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import onnx
import onnx.helper as make
import pytest
from torch import nn

from hwnas.core import MeasureError
from hwnas.device import Device, Runtime
from hwnas.nn import write_onnx, write_pt2
from hwnas.profiling import Measurement, ModelFile, measure_models, suffix_of, try_runtimes
from hwnas.profiling.runtimes import RUNTIMES, provider_of, runtime_version
from hwnas.profiling.session import DeviceTime
from tests.profiling.models import write_model

HERE: tuple[Runtime, ...] = ("onnxruntime-cpu", "torch", "openvino")


def need(runtime: Runtime) -> None:
    if runtime == "openvino" and importlib.util.find_spec("openvino") is None:
        pytest.skip('openvino is not installed (pip install "hwnas[openvino]")')


def network(width: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1),
        nn.BatchNorm2d(width),
        nn.Hardswish(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(width, 3),
    )


def write_network(folder: Path, runtime: Runtime, width: int) -> Path:
    path = folder / f"{width}{suffix_of(runtime)}"
    if path.suffix == ".pt2":
        write_pt2(network(width), path, input_shape=(3, 16, 16), batch=1)
    else:
        write_onnx(network(width), path, input_shape=(3, 16, 16))
    return path


def write_foreign_operator(path: Path) -> Path:
    """An operator of a domain that no runtime knows, as a user's own layer would be exported."""
    model = onnx.load(write_model(path, "Tanh"))
    model.graph.node[0].op_type, model.graph.node[0].domain = "Warp", "acme"
    model.opset_import.append(make.make_opsetid("acme", 1))
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture(scope="module", params=HERE)
def measured(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Runtime, Measurement]:
    runtime: Runtime = request.param
    need(runtime)
    folder = tmp_path_factory.mktemp(runtime)
    models = {f"width {width}": ModelFile(write_network(folder, runtime, width)) for width in (4, 64)}
    if suffix_of(runtime) == ".onnx":
        models["foreign"] = ModelFile(write_foreign_operator(folder / "foreign.onnx"), "block")
    return runtime, measure_models(models, device=Device(name="a", runtime=runtime), rounds=2, on_noise="mark")


def test_each_runtime_times_real_networks_in_their_order(measured: tuple[Runtime, Measurement]) -> None:
    _, found = measured
    assert sorted(found.timings) == ["width 4", "width 64"]
    assert 0 < found.timings["width 4"].p25_us < found.timings["width 64"].p25_us
    assert found.empty_run_us is not None
    assert found.empty_run_us > 0
    assert (found.device_times, found.energy) == ({}, {}), "only a GPU has times and a counter of its own"


def test_a_runtime_says_what_it_really_is(measured: tuple[Runtime, Measurement]) -> None:
    runtime, found = measured
    conditions = found.conditions
    device = Device(name="a", runtime=runtime)
    assert (conditions["name"], conditions["provider"]) == (runtime, provider_of(device))
    assert str(conditions["version"]).split("+")[0] == str(runtime_version(runtime)).split("+")[0]
    assert (conditions["onnxruntime"] is None) == (runtime != "onnxruntime-cpu")
    assert (conditions["intra_op_threads"], conditions["gpu"]) == (1, None)
    if runtime == "openvino":
        assert conditions["options"]["INFERENCE_PRECISION_HINT"] == "f32"
        assert conditions["options"]["INFERENCE_NUM_THREADS"] == "1"


def test_an_operator_the_runtime_cannot_run_is_named_and_the_others_are_kept(
    measured: tuple[Runtime, Measurement],
) -> None:
    """Case O-11."""
    runtime, found = measured
    if suffix_of(runtime) == ".onnx":
        assert list(found.failures) == ["foreign"]
        assert re.search(r"acme[.:]+Warp", found.failures["foreign"])
        assert "\n" not in found.failures["foreign"]
    assert "foreign" not in found.timings


def test_a_file_of_another_kind_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(MeasureError, match=r"a\.onnx: runtime torch of device a runs \.pt2 files"):
        measure_models({"a": tmp_path / "a.onnx"}, device=Device(name="a", runtime="torch"))


@pytest.mark.parametrize("runtime", ["onnxruntime-cuda", "onnxruntime-tensorrt"])
def test_a_provider_that_is_not_there_is_told_with_the_command_that_mends_it(tmp_path: Path, runtime: Runtime) -> None:
    state = try_runtimes([runtime])[runtime]
    if state.works:
        pytest.skip(f"{runtime} works here")
    if "has no" not in str(state.missing):
        pytest.skip(f"this onnxruntime has the provider: {state.missing}")
    model = write_model(tmp_path / "a.onnx", "Tanh")
    with pytest.raises(MeasureError, match=f"has no {provider_of(Device(name='a', runtime=runtime))}; it has") as info:
        measure_models({"a": model}, device=Device(name="a", runtime=runtime), rounds=2)
    assert info.value.hint == state.mend == "pip uninstall -y onnxruntime && pip install onnxruntime-gpu"


def test_a_runtime_that_crashes_takes_no_other_with_it(tmp_path: Path) -> None:
    """Row A6: importing it aborts the process on some machines."""
    states = {"works": True, "identity": {"version": "1", "provider": "p"}, "gpu": None, "missing": None, "mend": None}
    program = tmp_path / "program.py"
    program.write_text(
        "import json, os, sys\n"
        "names = sys.argv[3].split(',')\n"
        "if 'torch' in names: os.kill(os.getpid(), 6)\n"
        f"print(json.dumps({{name: json.loads({json.dumps(states)!r}) for name in names}}))\n"
    )
    found = try_runtimes(["onnxruntime-cpu", "torch", "openvino"], program=program)
    assert {name: state.works for name, state in found.items()} == {
        "onnxruntime-cpu": True,
        "torch": False,
        "openvino": True,
    }
    assert found["torch"].detail.startswith("its process was ended by SIGABRT: it said nothing; mend it: pip")
    assert found["openvino"].detail == "1, p"


def test_every_runtime_of_a_device_file_is_one_of_the_program() -> None:
    from hwnas.device import measure as program

    assert sorted(program.RUNTIMES) == sorted(RUNTIMES)


def test_a_network_is_bound_by_launches_when_handing_over_takes_most_of_its_time() -> None:
    assert DeviceTime(100.0, 100.0, 81.0).launch_bound
    assert not DeviceTime(100.0, 100.0, 79.0).launch_bound


@pytest.mark.slow
def test_compiled_torch_runs_a_real_network(tmp_path: Path) -> None:
    state = try_runtimes(["torch-compile"])["torch-compile"]
    if not state.works:
        pytest.skip(state.detail)
    model = write_network(tmp_path, "torch-compile", 4)
    device = Device(name="a", runtime="torch-compile")
    found = measure_models({"a": model}, device=device, rounds=2, on_noise="mark")
    assert found.timings["a"].p25_us > 0
    assert found.conditions["optimization_level"] == "inductor"
