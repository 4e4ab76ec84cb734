"""From a space to its table, on this machine, with the smallest space there is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from torch import Tensor, nn

from hwnas.core import DeviceError, MeasureError, TableError
from hwnas.cost import LatencyTable, UnitSumCost, blocks_of
from hwnas.device import Device
from hwnas.profiling import ProfileReport, Progress, profile, profiler, table_matches
from hwnas.profiling.profiler import drift, rescaled, spread_keys
from hwnas.profiling.session import Verdict
from hwnas.space import Block
from tests.profiling.chain import build, build_network, chain, convolution
from tests.profiling.models import timing

HERE = Device(name="this-cpu")
SPACE = chain()
KEY = convolution(5).key


@pytest.fixture(scope="module")
def steps() -> list[Progress]:
    return []


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory, steps: list[Progress]) -> ProfileReport:
    folder = tmp_path_factory.mktemp("latency_tables")
    return profile(
        SPACE, build, build_network, device=HERE, folder=folder, seed=5, on_noise="mark", progress=steps.append
    )


def test_the_table_is_written_under_its_name_and_reads_back_equal(report: ProfileReport) -> None:
    assert report.path.name == "this-cpu--onnxruntime-cpu--chain.jsonl"
    assert [path.name for path in report.path.parent.iterdir()] == [report.path.name]
    assert LatencyTable.load(report.path) == report.table


def test_every_block_is_timed(report: ProfileReport) -> None:
    assert sorted(report.table.rows) == sorted(blocks_of(SPACE))
    assert report.measured == 5
    assert report.failures == {}
    small, large = report.table.rows[convolution(1).key], report.table.rows[KEY]
    assert small.p25_us < large.p25_us
    assert large.visits >= 20


def test_the_header_says_where_the_times_come_from(report: ProfileReport) -> None:
    header = report.table.header
    assert (header.unit, header.space, header.space_digest) == ("us", "chain", SPACE.digest)
    assert (header.threads, header.batch, header.precision, header.resolutions) == (1, 1, "float32", (12,))
    assert (header.protocol.order_seed, header.weights, header.export.opset) == (5, "random", 17)
    assert header.protocol.rounds >= 20
    assert header.empty_run_us is not None
    assert header.noise is not None
    assert header.noise.passed == (report.measurement.verdict == "quiet")
    assert len(header.reference) == 5
    assert header.device.cores is None or header.device.cores >= 1


def test_the_calibration_predicts_networks_it_has_not_seen(report: ProfileReport) -> None:
    calibration = report.table.header.calibration
    assert calibration is not None
    assert calibration.holdout is not None
    assert (calibration.n, calibration.holdout.n) == (20, 13)
    # Room for a busy machine; a quiet one gives about 1 %.
    assert calibration.holdout.mape < 0.1
    cost = UnitSumCost.from_table(SPACE, report.table)
    for reference in report.table.header.reference:
        predicted = cost.batch(SPACE.encode([SPACE.canonical(reference.architecture)]))[0]
        assert predicted == pytest.approx(reference.p25_us / 1000, rel=0.25)


def test_the_table_matches_the_machine_it_was_made_on(report: ProfileReport) -> None:
    said = table_matches(report.table, HERE, SPACE)
    assert [line for line in said if "noisy" not in line] == []
    assert bool(said) == (report.measurement.verdict == "noisy")


def test_a_busy_or_noisy_machine_is_told(report: ProfileReport) -> None:
    header = report.table.header

    def with_load(load: float | None, verdict: Verdict) -> list[str]:
        protocol = header.protocol.model_copy(update={"load_before": load, "load_after": load})
        changed = header.model_copy(
            update={"protocol": protocol, "device": header.device.model_copy(update={"cores": 2})}
        )
        measurement = replace(report.measurement, verdict=verdict)
        return replace(report, table=replace(report.table, header=changed), measurement=measurement).warnings

    assert with_load(2.0, "quiet") == with_load(None, "quiet") == []
    assert with_load(2.5, "quiet") == ["the machine was busy: the load was 2.5 on 2 cores"]
    assert with_load(None, "noisy") == [f"the table is marked noisy: {report.measurement.noise}"]


def test_progress_goes_through_all_stages(report: ProfileReport, steps: list[Progress]) -> None:
    assert list(dict.fromkeys(step.stage for step in steps)) == ["export", "load", "measure"]
    assert steps[-1].done == steps[-1].total
    assert report.seconds > 0


class Unwilling(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise RuntimeError("no such kernel")


def build_but_not_five(block: Block) -> nn.Module:
    return Unwilling() if block.key == KEY else build(block)


@pytest.fixture(scope="module")
def partial(tmp_path_factory: pytest.TempPathFactory) -> ProfileReport:
    folder = tmp_path_factory.mktemp("partial")
    return profile(
        SPACE,
        build_but_not_five,
        build_network,
        device=HERE,
        folder=folder,
        rounds=4,
        on_noise="mark",
        workspace=folder,
    )


def test_a_block_that_fails_is_listed_with_its_reason_and_the_others_are_kept(partial: ProfileReport) -> None:
    assert list(partial.failures) == [KEY]
    assert "no such kernel" in partial.failures[KEY]
    assert len(partial.table.rows) == 4
    written = LatencyTable.load(partial.path)
    assert written.header.failures == dict(partial.failures)
    assert written.header.calibration is None
    assert any("not calibrated" in line for line in partial.warnings)
    with pytest.raises(TableError, match="could not be measured: .*no such kernel"):
        table_matches(written, HERE, SPACE)


def test_a_workspace_that_is_given_keeps_the_files(partial: ProfileReport) -> None:
    assert len(list(partial.path.parent.glob("*.onnx"))) == 4 + 33 + 5


def test_only_what_an_existing_table_lacks_is_measured(
    report: ProfileReport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profiler, "ANCHORS", 2)
    without = replace(report.table, rows={key: row for key, row in report.table.rows.items() if key != KEY})
    filled = profile(
        SPACE,
        build,
        build_network,
        device=HERE,
        folder=tmp_path,
        rounds=4,
        on_noise="mark",
        existing=without,
    )
    assert filled.measured == 3  # the missing one and the anchors
    assert sorted(filled.table.rows) == sorted(report.table.rows)
    anchors = spread_keys(without.rows, 2)
    factor = drift({key: without.rows[key] for key in anchors}, filled.table.rows)
    for key in set(without.rows) - set(anchors):
        assert filled.table.rows[key] == rescaled(without.rows, factor)[key]
    assert filled.table.header.calibration is not None


def test_an_existing_table_of_other_conditions_is_refused_before_anything_is_measured(report: ProfileReport) -> None:
    header = report.table.header.model_copy(update={"batch": 8})
    with pytest.raises(TableError, match="batch is 8 in the table, 1 in this run"):
        profile(SPACE, build, build_network, device=HERE, existing=replace(report.table, header=header))


def test_a_machine_that_has_drifted_too_far_is_told() -> None:
    assert drift({}, {"a": timing(1.0)}) == 1.0
    assert drift({"a": timing(10.0), "b": timing(10.0)}, {"a": timing(11.0), "b": timing(11.0)}) == pytest.approx(1.1)
    with pytest.raises(MeasureError, match="take 2.00 times as long now; expected 0.85 to 1.15"):
        drift({"a": timing(10.0)}, {"a": timing(20.0), "b": timing(1.0)})


def test_rescaling_keeps_what_is_no_time() -> None:
    row = rescaled({"a": timing(10.0)}, 2.0)["a"]
    assert (row.p25_us, row.min_us, row.median_us, row.p90_us) == (20.0, 18.0, 21.0, 30.0)
    assert (row.iqr_rel, row.runs, row.visits) == (0.1, 240, 20)


def test_anchors_are_spread_from_the_quickest_to_the_slowest() -> None:
    rows = {f"r{n:02}": timing(100.0 - n) for n in range(40)}
    assert spread_keys(rows, 3) == ["r39", "r19", "r00"]
    assert spread_keys({"b": timing(1.0), "a": timing(1.0)}, 3) == ["a", "b"]


def test_a_space_of_which_nothing_works_is_an_error_that_leaves_no_table(tmp_path: Path) -> None:
    with pytest.raises(MeasureError, match="space chain: no block could be exported; the first: .*no such kernel"):
        profile(SPACE, lambda block: Unwilling(), build_network, device=HERE, folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_too_many_threads_are_refused_before_anything_is_exported(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="threads is 2; 1 core may be used here"):
        profile(SPACE, build, build_network, device=Device(name="a", threads=2), folder=tmp_path, quota=lambda: 1.0)
