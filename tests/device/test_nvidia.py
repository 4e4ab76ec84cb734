"""NVIDIA GPUs through a stub of the driver's library: no GPU is needed, and none was there when this was written."""

from __future__ import annotations

import itertools
import sys

import pytest

from hwnas.core import DeviceError
from hwnas.device import NvidiaGpu, gpu_for, nvidia_state
from hwnas.device.nvidia import visible
from tests.device.stub_nvml import GPU_IS_LOST, NO_PERMISSION, NOT_SUPPORTED, UNINITIALIZED, StubGpu, StubNvml

FAST = StubGpu("GPU-fa57", "NVIDIA H100 PCIe")
SLOW = StubGpu("GPU-510e", "NVIDIA T4", memory=16 << 30)


def cut() -> StubGpu:
    return StubGpu("GPU-ca4d", slices=[StubGpu("MIG-1", "H100 MIG 1g.10gb", 10 << 30), StubGpu("MIG-2", "H100 MIG 2g")])


def test_a_gpu_says_what_it_is() -> None:
    state = nvidia_state(StubNvml(FAST))
    assert (state.driver, state.cuda, state.missing, state.problems) == ("580.65", "13.1", None, ())
    [gpu] = state.gpus
    assert gpu == NvidiaGpu(
        uuid="GPU-fa57",
        name="NVIDIA H100 PCIe",
        mig=False,
        card_uuid="GPU-fa57",
        memory_bytes=80 << 30,
        memory_used_bytes=1 << 30,
        power_cap_w=350.0,
        sm_clock_mhz=1755,
        max_sm_clock_mhz=1980,
        throttle_reasons=(),
        clocks_locked=None,
        persistent=True,
        processes=0,
    )
    assert gpu.unknown == ()


def test_slices_stand_in_place_of_their_card() -> None:
    gpus = nvidia_state(StubNvml(cut(), FAST)).gpus
    assert [(gpu.uuid, gpu.mig, gpu.card_uuid) for gpu in gpus] == [
        ("MIG-1", True, "GPU-ca4d"),
        ("MIG-2", True, "GPU-ca4d"),
        ("GPU-fa57", False, "GPU-fa57"),
    ]
    assert gpus[0].memory_bytes == 10 << 30


def test_what_the_driver_refuses_is_unknown_and_never_zero() -> None:
    """Case O-09: a driver that answers little, as on a slice."""
    calls = ("MemoryInfo", "ClockInfo", "MaxClockInfo", "CurrentClocksThrottleReasons", "EnforcedPowerLimit")
    refused = {f"nvmlDeviceGet{call}": NOT_SUPPORTED for call in calls} | {"nvmlDeviceGetMemoryInfo": NO_PERMISSION}
    [gpu] = nvidia_state(StubNvml(StubGpu("GPU-1", refused=refused))).gpus
    assert gpu.unknown == (
        "memory_bytes",
        "memory_used_bytes",
        "power_cap_w",
        "sm_clock_mhz",
        "max_sm_clock_mhz",
        "throttle_reasons",
    )
    assert gpu.name == "NVIDIA H100 PCIe"


def test_a_library_that_does_not_start_is_told_with_the_way_out() -> None:
    state = nvidia_state(StubNvml(fails=UNINITIALIZED))
    assert state.gpus == ()
    assert state.missing is not None
    assert state.missing.startswith("NVML does not start")
    assert "nvidia-smi" in str(state.mend)


def test_without_the_binding_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    state = nvidia_state()
    assert state.missing is not None
    assert state.mend == 'pip install "hwnas[nvidia]"'
    assert gpu_for("auto", state) is None


def test_a_gpu_that_has_gone_is_named_and_the_others_are_kept() -> None:
    lost = StubGpu("GPU-1057", refused={"*": GPU_IS_LOST})
    state = nvidia_state(StubNvml(lost, FAST))
    assert [gpu.uuid for gpu in state.gpus] == ["GPU-fa57"]
    assert state.problems == ("GPU 0 of 2 does not answer: GPU is lost",)
    with pytest.raises(DeviceError, match="gpu is GPU-1057; there are: GPU-fa57 .*GPU 0 of 2 does not answer"):
        gpu_for("GPU-1057", state)


def test_throttling_and_chosen_clocks_are_told() -> None:
    [gpu] = nvidia_state(StubNvml(StubGpu("GPU-1", reasons=itertools.repeat(0x01 | 0x02 | 0x04 | 0x40)))).gpus
    assert gpu.throttle_reasons == ("power cap", "hardware thermal slowdown")
    assert gpu.clocks_locked is True


def test_gpus_are_chosen_by_uuid_whatever_the_order() -> None:
    for order in ((FAST, SLOW), (SLOW, FAST)):
        state = nvidia_state(StubNvml(*order))
        found = gpu_for("GPU-510e", state, environment={"CUDA_VISIBLE_DEVICES": "0"})
        assert found is not None
        assert found.name == "NVIDIA T4"


def test_a_gpu_that_is_hidden_is_refused_though_it_is_there() -> None:
    state = nvidia_state(StubNvml(SLOW, FAST))
    for value in ("", "-1", "GPU-fa57"):
        with pytest.raises(DeviceError, match=f"gpu is GPU-510e, which CUDA_VISIBLE_DEVICES = '{value}' hides") as info:
            gpu_for("GPU-510e", state, environment={"CUDA_VISIBLE_DEVICES": value})
        assert "unset CUDA_VISIBLE_DEVICES" in info.value.hint


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, ["GPU-510e", "GPU-fa57"]),
        ({"CUDA_VISIBLE_DEVICES": ""}, []),
        ({"CUDA_VISIBLE_DEVICES": "GPU-fa"}, ["GPU-fa57"]),
        ({"CUDA_VISIBLE_DEVICES": "GPU-fa57, GPU-510e"}, ["GPU-fa57", "GPU-510e"]),
        # CUDA's number 0 is the fastest, NVML's is the first on the bus: not to be told.
        ({"CUDA_VISIBLE_DEVICES": "0"}, ["GPU-510e", "GPU-fa57"]),
        ({"CUDA_VISIBLE_DEVICES": "0", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}, ["GPU-510e"]),
        ({"CUDA_VISIBLE_DEVICES": "7", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}, []),
    ],
)
def test_what_cuda_can_see(environment: dict[str, str], expected: list[str]) -> None:
    state = nvidia_state(StubNvml(SLOW, FAST))
    assert [gpu.uuid for gpu in visible(state.gpus, environment)] == expected
    if len(expected) != 1:
        with pytest.raises(DeviceError, match=f'gpu is "auto", and {len(expected)} are visible of: GPU-510e'):
            gpu_for("auto", state, environment=environment)


def test_the_state_is_plain_json() -> None:
    import json

    found = json.loads(json.dumps(nvidia_state(StubNvml(cut())).to_json()))
    assert [gpu["uuid"] for gpu in found["gpus"]] == ["MIG-1", "MIG-2"]
