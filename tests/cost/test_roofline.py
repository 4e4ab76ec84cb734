"""The estimate of devices that nobody here has: by hand, against the block counts, and against a table of a phone."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwnas.core import Architecture, CostError, Objective, TableError
from hwnas.cost import CostModel, EstimatedLatency, block_us, blocks_of, kernels_of, read_measured
from hwnas.device import Device, Efficiency, Roofline
from hwnas.nn.blocks import describe_head, describe_mbconv, describe_stem
from hwnas.space import Block, Space
from hwnas.zoo import FAMILIES, MobileNetV3

REPOSITORY = Path(__file__).parents[2]
DATA = Path(os.environ.get("HWNAS_BENCH_DATA", REPOSITORY.parent / "shared" / "data"))
BOARDS = ("a100", "h100", "jetson-orin-nano", "pixel-4-cpu", "raspberry-pi-5", "t4")

# 20 operations a nanosecond in every kind of kernel, and 10 bytes a nanosecond: bounds that are easy in the head.
EVEN = Roofline(
    peak_gflops=20.0,
    bandwidth_gb_per_s=10.0,
    launch_us=3.0,
    efficiency=Efficiency(dense=1.0, depthwise=1.0, elementwise=1.0),
)
FAST_MEMORY = EVEN.model_copy(update={"bandwidth_gb_per_s": 1e9})
FAST_UNITS = EVEN.model_copy(update={"peak_gflops": 1e9})


def toy() -> Space:
    return FAMILIES["toy"].space


# ------------------------------------------------------------------------------------------------------- by hand


def test_a_stem_bound_by_arithmetic() -> None:
    stem = describe_stem(3, 8, 32, kernel=3, stride=2, activation_name="relu")
    operations = 2 * 16 * 16 * 27 * 8
    assert block_us(stem, FAST_MEMORY) == pytest.approx(3.0 + operations / 2e4)


def test_a_stem_bound_by_memory() -> None:
    stem = describe_stem(3, 8, 32, kernel=3, stride=2, activation_name="relu")
    numbers = 3 * 32 * 32 + 8 * 16 * 16 + 27 * 8
    assert block_us(stem, FAST_UNITS) == pytest.approx(3.0 + 4 * numbers / 1e4)


def test_the_slower_of_the_two_counts_kernel_by_kernel() -> None:
    block = describe_mbconv(8, 16, 16, hidden=24, kernel=5, stride=2, activation_name="relu", squeeze=0)
    dense, depthwise, project = kernels_of(block)
    assert [kernel.kind for kernel in (dense, depthwise, project)] == ["dense", "depthwise", "dense"]
    by_hand = 3 * 3.0
    by_hand += max(2 * 256 * 8 * 24 / 2e4, 4 * (256 * 8 + 256 * 24 + 8 * 24) / 1e4)
    by_hand += max(2 * 64 * 24 * 25 / 2e4, 4 * (256 * 24 + 64 * 24 + 24 * 25) / 1e4)
    by_hand += max(2 * 64 * 24 * 16 / 2e4, 4 * (64 * 24 + 64 * 16 + 24 * 16) / 1e4)
    assert block_us(block, EVEN) == pytest.approx(by_hand)


def test_squeezing_and_adding_cost_kernels_and_numbers() -> None:
    plain = describe_mbconv(16, 16, 8, hidden=48, kernel=3, stride=1, activation_name="relu", squeeze=0)
    squeezed = describe_mbconv(16, 16, 8, hidden=48, kernel=3, stride=1, activation_name="relu", squeeze=12)
    assert len(kernels_of(squeezed)) == len(kernels_of(plain)) + 4
    assert plain.residual and kernels_of(plain)[-1].numbers == 8 * 8 * (48 + 16 + 16)


def test_kernels_have_the_multiply_adds_of_their_block() -> None:
    for family in FAMILIES.values():
        for block in blocks_of(family.space).values() if isinstance(family, MobileNetV3) else ():
            found = sum(kernel.operations // 2 for kernel in kernels_of(block) if kernel.kind != "elementwise")
            assert found == block.macs, block.key


@given(st.sampled_from(["peak_gflops", "bandwidth_gb_per_s"]), st.floats(1.01, 100))
def test_a_faster_device_is_never_slower_and_at_most_so_much_faster(field: str, factor: float) -> None:
    block = describe_head(64, 128, 10, 7, activation_name="hswish")
    faster = EVEN.model_copy(update={field: getattr(EVEN, field) * factor})
    assert block_us(block, EVEN) / factor <= block_us(block, faster) <= block_us(block, EVEN) * (1 + 1e-12)


def test_a_batch_reads_the_weights_once_and_half_precision_half_the_bytes() -> None:
    head = describe_head(64, 128, 10, 1, activation_name="hswish")
    one, many = block_us(head, FAST_UNITS), block_us(head, FAST_UNITS, batch=8)
    weights = 4 * (64 * 128 + 128 * 10) / 1e4
    numbers = 4 * (64 + 128 + 256 + 128 + 10) / 1e4
    assert one == pytest.approx(9 + weights + numbers)
    assert many == pytest.approx(9 + weights + 8 * numbers)
    assert block_us(head, FAST_UNITS, precision="float16") == pytest.approx(9 + (weights + numbers) / 2)


def test_what_is_unknown_is_refused_and_not_free() -> None:
    with pytest.raises(CostError, match='block kind "stam" are unknown; did you mean "stem"'):
        block_us(Block("stam", (), (1, 2, 2), (1, 2, 2), 0, 0), EVEN)
    with pytest.raises(CostError, match='precision is "float15"; did you mean "float16"'):
        block_us(describe_head(8, 8, 2, 1, activation_name="relu"), EVEN, precision="float15")


# ----------------------------------------------------------------------------------------------------- cost model


def test_a_network_is_the_sum_of_its_blocks_and_marked_estimated() -> None:
    space = toy()
    model: CostModel = EstimatedLatency.of(space, EVEN)
    for architecture in space.sample(20, np.random.default_rng(0)):
        by_blocks = math.fsum(block_us(block, EVEN) for block in space.blocks_of(architecture)) / 1000
        metric = model(architecture)
        assert metric.value == pytest.approx(by_blocks)
        assert (metric.unit, metric.origin) == ("ms", "estimated")
        assert (metric.low, metric.high) == pytest.approx((0.5 * by_blocks, 1.5 * by_blocks))
    assert model.name == Objective.named("latency_ms").name


def test_ends_batches_and_expectation_agree() -> None:
    space = toy()
    model = EstimatedLatency.of(space, EVEN)
    values = model.batch(space.encode(space.enumerate()))
    assert model.smallest()[0] == pytest.approx(values.min()) and model.largest()[0] == pytest.approx(values.max())
    one = space.sample(1, np.random.default_rng(1))[0]
    sure = {d.label: np.eye(len(d.options))[d.options.index(one.get(d.label, d.options[0]))] for d in space.decisions}
    assert model.expectation(sure) == pytest.approx(model(one).value)


def test_the_digest_knows_the_device() -> None:
    space = toy()
    digests = {EstimatedLatency.of(space, device).digest for device in (EVEN, FAST_MEMORY, FAST_UNITS)}
    assert len(digests) == 3 and EstimatedLatency.of(toy(), EVEN).digest in digests
    assert EstimatedLatency.of(space, EVEN, device_suffix="pi5").name == "latency_ms@pi5"


# ---------------------------------------------------------------------------------------------- measured networks


def measured(space: Space, n: int, factor: float, noise: float) -> tuple[list[Architecture], list[float]]:
    rng = np.random.default_rng(3)
    networks = space.sample(n, rng)
    estimate = EstimatedLatency.of(space, EVEN)
    return networks, [estimate(a).value * factor * math.exp(noise * rng.standard_normal()) for a in networks]


def test_measured_networks_set_the_scale() -> None:
    space = toy()
    networks, times = measured(space, 12, 1.7, 0.0)
    model = EstimatedLatency.of(space, EVEN).calibrated(networks, times)
    assert model.origin == "predicted" and model.measured == 12
    for architecture in space.sample(10, np.random.default_rng(9)):
        assert model(architecture).value == pytest.approx(1.7 * EstimatedLatency.of(space, EVEN)(architecture).value)
    metric = model(networks[0])
    assert (metric.low, metric.high) == pytest.approx((
        metric.value,
        metric.value,
    ))  # without noise nothing is uncertain


def test_the_band_is_as_wide_as_the_networks_scatter() -> None:
    space = toy()
    networks, times = measured(space, 40, 0.6, 0.1)
    model = EstimatedLatency.of(space, EVEN).calibrated(networks, times)
    inside = [model(a).low <= t <= model(a).high for a, t in zip(networks, times, strict=True)]  # type: ignore[operator]
    assert 0.85 <= np.mean(inside) < 1.0
    assert 1.1 < model.high < 1.3


def test_too_few_or_impossible_times_are_refused() -> None:
    space = toy()
    networks, times = measured(space, 5, 1.0, 0.0)
    model = EstimatedLatency.of(space, EVEN)
    with pytest.raises(CostError, match=r"4 measured networks with 4 times; expected at least 5 \(measure more"):
        model.calibrated(networks[:4], times[:4])
    with pytest.raises(CostError, match="not finite or not above 0"):
        model.calibrated(networks, [*times[:4], 0.0])


def test_measured_networks_come_from_a_file(tmp_path: Path) -> None:
    space = toy()
    networks, times = measured(space, 6, 1.0, 0.1)
    path = tmp_path / "pi.jsonl"
    rows = [{"architecture": dict(a), "latency_ms": t} for a, t in zip(networks, times, strict=True)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found, found_ms = read_measured(path, space)
    assert found == networks and found_ms.tolist() == times


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: is not JSON"),
        ("[1]", "line 2: holds"),
        ('{"architecture": {}, "latency": 1}', r"line 2: holds \['architecture', 'latency'\]; expected .*latency_ms"),
        ('{"architecture": {}, "latency_ms": 0}', "line 2: latency_ms is 0; expected a finite number above 0"),
        ('{"architecture": {}, "latency_ms": NaN}', "line 2: latency_ms is nan"),
        ('{"architecture": {"kernal": 3}, "latency_ms": 1}', "line 2: architecture is none of space toy.*kernal"),
        ('{"architecture": 3, "latency_ms": 1}', "line 2: architecture is none of space toy"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    space = toy()
    first = {"architecture": dict(space.sample(1, np.random.default_rng(0))[0]), "latency_ms": 1.0}
    path = tmp_path / "pi.jsonl"
    path.write_text(f"{json.dumps(first)}\n{line}\n")
    with pytest.raises(TableError, match=message):
        read_measured(path, space)
    with pytest.raises(TableError, match="none.jsonl: cannot be read"):
        read_measured(tmp_path / "none.jsonl", space)


# ------------------------------------------------------------------------------------------------ shipped devices


@pytest.mark.parametrize("name", BOARDS)
def test_every_shipped_board_gives_times_that_can_be(name: str) -> None:
    device = Device.load(name, REPOSITORY / "devices")
    assert device.estimated and device.roofline is not None
    space = FAMILIES["mobilenet_v3"].space
    low, high = (
        end[0]
        for end in (
            EstimatedLatency.of(space, device.roofline).smallest(),
            EstimatedLatency.of(space, device.roofline).largest(),
        )
    )
    assert 0.02 < low < high < 20


def test_the_estimate_of_a_phone_agrees_with_a_published_table_of_it() -> None:
    """No figure of the device file was fitted to this table, which measured in part, its source says."""
    file = DATA / "block_luts" / "phone_blocks_fp32.parquet"
    if not file.exists():
        pytest.skip("needs block_luts/phone_blocks_fp32.parquet in HWNAS_BENCH_DATA (default ../shared/data)")
    import pyarrow.parquet as pq

    device = Device.load("pixel-4-cpu", REPOSITORY / "devices").roofline
    assert device is not None
    ratios = []
    for row in pq.read_table(file).to_pylist():
        if row["kind"] == "conv":
            hidden = round(row["c_in"] * row["expand"])
            block = describe_mbconv(
                row["c_in"],
                row["c_out"],
                row["hw_in"],
                hidden=hidden,
                kernel=row["kernel"],
                stride=row["stride"],
                activation_name="hswish",
                squeeze=round(hidden / 4) if row["se"] else 0,
            )
            ratios.append(block_us(block, device) / 1000 / row["pixel4_ms"])
    assert len(ratios) == 1788
    assert 0.8 < np.median(ratios) < 1.25
    assert np.mean([0.5 <= ratio <= 1.5 for ratio in ratios]) > 0.95  # the stated band
