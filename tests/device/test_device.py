"""Device files, and cores enough for them."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from hwnas.core import DeviceError
from hwnas.device import Device

REPOSITORY = Path(__file__).parents[2]


def written(folder: Path, text: str, name: str = "pi") -> Path:
    path = folder / f"{name}.toml"
    path.write_text(text)
    return path


def test_the_bundled_device_is_this_cpu_with_the_defaults() -> None:
    assert Device.load("this-cpu", REPOSITORY / "devices") == Device(name="this-cpu")


def test_a_device_is_named_after_its_file_and_loads_by_path_or_name(tmp_path: Path) -> None:
    path = written(tmp_path, "threads = 4\ncore = 2\nbatch = 8\n")
    expected = Device(name="pi", threads=4, core=2, batch=8)
    assert Device.load(path) == Device.load(str(path)) == Device.load("pi", tmp_path) == expected


def test_a_device_does_not_change() -> None:
    with pytest.raises(ValidationError):
        Device(name="a").threads = 2


def test_a_device_round_trips_through_json() -> None:
    device = Device(name="a", threads=2, core=1)
    assert Device.model_validate_json(device.model_dump_json()) == device
    assert hash(device) == hash(device.model_copy())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("thread = 4", r'pi\.toml: unknown key thread = 4; did you mean "threads"\?'),
        ("wheels = 4", r"pi\.toml: unknown key wheels = 4; known: batch, core, gpu, host, identity, port, "),
        ('name = "other"', r'pi\.toml: name is "other"; the file\'s own name is the device\'s name'),
        ("threads = 0", r"pi\.toml: threads is 0; it must be greater than or equal to 1"),
        ("threads = 1025", r"pi\.toml: threads is 1025; it must be less than or equal to 1024"),
        (f"batch = {2**70}", r"pi\.toml: batch is \d+; it must be less than or equal to 9223372036854775807"),
        ('threads = "2"', r"pi\.toml: threads is '2'; it must be a valid integer"),
        ("threads = true", r"pi\.toml: threads is True; it must be a valid integer"),
        ('reach = "radio"', r"pi\.toml: reach is 'radio'; it must be 'local', 'ssh', 'kit' or 'none'"),
        ('reach = "ssh"', r'pi\.toml: reach is "ssh", so host must be given: "user@board"'),
        ('host = "-oProxyCommand=x"', r"pi\.toml: host is '-oProxyCommand=x'; it must be"),
        ('host = "two words"', r"pi\.toml: host is 'two words'; it must be"),
        ('host = "a"\nport = 0', r"pi\.toml: port is 0; it must be greater than or equal to 1"),
        ('host = "a"\nreach = "kit"', r"pi\.toml: reach is \"kit\", so host = 'a' has no use: drop one of the two"),
        ("port = 22", r'pi\.toml: reach is "local", so port = 22 has no use'),
        ('python = "python3.12"', r"pi\.toml: reach is \"local\", so python = 'python3.12' has no use"),
        ('precision = "int8"', r"pi\.toml: precision is 'int8'; it must be 'float32'"),
        ('runtime = "cuda"', r"pi\.toml: runtime is 'cuda'; it must be 'onnxruntime-cpu', 'onnxruntime-cuda'"),
        ('gpu = "0"', r"pi\.toml: gpu is '0'; "),
        ('gpu = "auto"', r"pi\.toml: onnxruntime-cpu runs on the CPU; drop gpu, or choose onnxruntime-cuda"),
        ("core = -1", r"pi\.toml: core is -1; it must be greater than or equal to 0"),
        ("threads = ", r"pi\.toml: not TOML: "),
    ],
)
def test_a_wrong_device_file_is_refused_by_file_key_and_value(tmp_path: Path, text: str, message: str) -> None:
    written(tmp_path, text)
    with pytest.raises(DeviceError, match=message):
        Device.load("pi", tmp_path)


def test_a_host_means_ssh(tmp_path: Path) -> None:
    device = Device.load(written(tmp_path, 'host = "user@board"\nport = 2222\npython = "~/venv/bin/python"\n'))
    assert (device.reach, device.host, device.port, device.identity) == ("ssh", "user@board", 2222, None)
    assert Device.model_validate_json(device.model_dump_json()) == device
    assert Device.load(written(tmp_path, 'reach = "kit"')).host is None


def test_a_missing_device_names_the_near_one(tmp_path: Path) -> None:
    written(tmp_path, "", name="pixel4")
    with pytest.raises(
        DeviceError, match=r'pixel\.toml: there is no such device file; did you mean "pixel4"\?'
    ) as info:
        Device.load("pixel", tmp_path)
    assert "hwnas devices" in info.value.hint
    with pytest.raises(DeviceError, match="nowhere holds none"):
        Device.load("pixel", tmp_path / "nowhere")


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pi.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DeviceError, match="pi.toml: is in UTF-16; expected a device file in UTF-8"):
        Device.load("pi", tmp_path)


def test_a_gpu_is_named_by_uuid(tmp_path: Path) -> None:
    device = Device.load(written(tmp_path, 'runtime = "torch"\ngpu = "MIG-3b2c1d00-aaaa"'))
    assert (device.gpu, device.uses_gpu) == ("MIG-3b2c1d00-aaaa", True)
    assert not Device(name="a", runtime="torch").uses_gpu
    assert Device(name="a", runtime="onnxruntime-tensorrt").uses_gpu
    assert not Device(name="a").uses_gpu


def unlimited() -> float | None:
    return None


@pytest.mark.parametrize(
    ("device", "cores", "expected"),
    [
        (Device(name="a"), (0, 1, 2, 3), (3,)),
        (Device(name="a", threads=2), (0, 1, 2, 3), (2, 3)),
        (Device(name="a", core=0), (0, 1, 2, 3), (0,)),
        (Device(name="a", core=2, threads=2), (0, 1, 2, 3), (2, 3)),
        (Device(name="a", core=3, threads=2), (0, 1, 2, 3), (2, 3)),
        (Device(name="a"), (1,), (1,)),
    ],
)
def test_as_many_cores_as_threads_are_pinned(device: Device, cores: tuple[int, ...], expected: tuple[int, ...]) -> None:
    assert device.check_cores(cores, quota=unlimited) == expected


def test_more_threads_than_the_affinity_allows_are_refused() -> None:
    message = r"device a: threads is 4; 1 core may be used here \(affinity 1, quota none\)"
    with pytest.raises(DeviceError, match=message) as info:
        Device(name="a", threads=4).check_cores((1,), quota=unlimited)
    assert info.value.hint == "set threads to at most 1, or allow more cores"


def test_more_threads_than_the_quota_pays_for_are_refused() -> None:
    with pytest.raises(DeviceError, match=r"threads is 3; 2 cores may be used here \(affinity 0,1,2,3, quota 2.5\)"):
        Device(name="a", threads=3).check_cores((0, 1, 2, 3), quota=lambda: 2.5)
    assert Device(name="a").check_cores((0, 1), quota=lambda: 0.5) == (1,)


def test_the_cores_of_another_machine_are_named_as_its_own() -> None:
    board = Device(name="pi", host="user@board", threads=4)
    assert board.choose_cores((0, 1, 2, 3), None) == (0, 1, 2, 3)
    assert board.choose_cores(None, None) is None
    with pytest.raises(DeviceError, match=r"device pi: threads is 4; 2 cores may be used on user@board"):
        board.choose_cores((0, 1), None)


def test_a_core_that_is_not_allowed_is_refused() -> None:
    with pytest.raises(DeviceError, match="device a: core is 7; this process may use 0,1"):
        Device(name="a", core=7).check_cores((0, 1), quota=unlimited)


def test_without_affinity_nothing_is_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hwnas.device.device.allowed_cores", lambda: None)
    assert Device(name="a", threads=64).check_cores(quota=unlimited) is None


# ------------------------------------------------------------------------------- devices that cannot be reached

ROOFLINE = "[roofline]\npeak_gflops = 100\nbandwidth_gb_per_s = 10.5\nlaunch_us = 2"


def test_a_device_that_cannot_be_reached_has_a_roofline(tmp_path: Path) -> None:
    device = Device.load(written(tmp_path, f'reach = "none"\nruntime = "none"\n{ROOFLINE}'))
    assert device.estimated and device.roofline is not None
    assert (device.roofline.peak_gflops, device.roofline.bandwidth_gb_per_s) == (100.0, 10.5)
    assert not Device(name="here").estimated
    assert Device.model_validate_json(device.model_dump_json()) == device


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('reach = "none"\nruntime = "none"', r'reach is "none"; it is "none" exactly where there is a \[roofline\]'),
        (ROOFLINE, r'reach is "local"; it is "none" exactly where there is a \[roofline\]'),
        (
            f'reach = "none"\n{ROOFLINE}',
            r'reach is "none" and runtime is "onnxruntime-cpu"; both are "none" or neither is',
        ),
        (f'reach = "none"\nruntime = "none"\n{ROOFLINE}\nwatts = 5', r"roofline\.watts is 5; it must be"),
        (f'reach = "none"\nruntime = "none"\n{ROOFLINE.replace("100", "0")}', r"roofline\.peak_gflops is 0; it must"),
        ('reach = "none"\nruntime = "none"\n[roofline]\nlaunch_us = 2', r"roofline\.peak_gflops is missing"),
    ],
)
def test_a_device_file_that_claims_both_or_neither_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DeviceError, match=message):
        Device.load(written(tmp_path, text))


def test_nothing_can_be_timed_on_a_device_that_cannot_be_reached(tmp_path: Path) -> None:
    device = Device.load(written(tmp_path, f'reach = "none"\nruntime = "none"\n{ROOFLINE}'))
    with pytest.raises(DeviceError, match='device pi: reach is "none": it cannot be reached.*hwnas search works'):
        device.check_cores((0, 1), quota=lambda: None)
