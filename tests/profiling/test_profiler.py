"""From a space to its table, on this machine, with the smallest space there is."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor, nn

from hwnas.core import Architecture, CostError, DeviceError, MeasureError, TableError
from hwnas.cost import LatencyTable, RepeatRecord, UnitSumCost, blocks_of
from hwnas.cost.refit import refit
from hwnas.device import Device, Runtime
from hwnas.profiling import (
    ProfileReport,
    Progress,
    choose_networks,
    matching,
    profile,
    profiler,
    table_matches,
    try_runtimes,
)
from hwnas.profiling.journal import Journal
from hwnas.profiling.profiler import check_room, drift, export_bytes, repeat_of, rescaled, spread_keys
from hwnas.profiling.session import Verdict
from hwnas.space import Block, Decision, Space, Unit
from tests.profiling.chain import HEAD, STEM, build, build_network, chain, convolution
from tests.profiling.fake_machine import FakeMachine, by_size
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
    assert header.noise.passed == (report.measurement.verdict != "noisy")
    assert len(header.reference) == 5
    assert header.device.cores is None or header.device.cores >= 1
    assert (header.schema_version, header.classes) == (2, 3)
    assert (header.runtime.arena, header.runtime.graph_capture, header.export.constant_folding) == (True, False, True)
    assert header.runtime.build is None or "Release" in header.runtime.build
    assert all(len(reference.onnx_sha256 or "") == 64 for reference in header.reference)
    protocol = header.protocol
    assert (protocol.drop_disturbed, protocol.dropped_visits, protocol.processes) == (False, 0, 1)
    assert protocol.visits == 43 * protocol.rounds
    assert protocol.pinned is None or len(protocol.pinned) == 1
    assert protocol.planned_s is not None
    assert (protocol.limit_s, protocol.capped, protocol.repeat) == (300.0, False, None)


def test_a_row_says_what_else_a_block_takes(report: ProfileReport) -> None:
    for key, block in blocks_of(SPACE).items():
        row = report.table.rows[key]
        assert (row.macs, row.weight_bytes) == (block.macs, 4 * block.parameters)
        assert row.peak_activation_bytes is not None
    assert report.table.rows[KEY].peak_activation_bytes == 2 * 4 * 8 * 12 * 12
    measured = {row.energy_mj is None for row in report.table.rows.values()}
    assert measured == {report.table.header.protocol.energy == "unmeasured"}


def test_the_calibration_predicts_networks_it_has_not_seen(report: ProfileReport) -> None:
    """Case O-12: whole networks, from the smallest to the largest, and the table itself says how far it was off."""
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


def test_the_table_matches_the_machine_it_was_made_on(report: ProfileReport, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matching, "NOISE_REFUSED", 1e3)  # a machine too noisy for any table is not the question
    said = table_matches(report.table, HERE, SPACE)
    assert [line for line in said if not ("noisy" in line or "when it was measured" in line)] == []
    assert bool([line for line in said if "noisy" in line]) == (report.measurement.verdict == "noisy")


def test_a_busy_or_noisy_machine_is_told(report: ProfileReport) -> None:
    header = report.table.header

    def marked(marks: tuple[str, ...], verdict: Verdict) -> list[str]:
        protocol = header.protocol.model_copy(update={"marks": marks})
        changed = header.model_copy(update={"protocol": protocol})
        measurement = replace(report.measurement, verdict=verdict)
        return replace(report, table=replace(report.table, header=changed), measurement=measurement).warnings

    assert marked((), "quiet") == []
    busy = "busy: the load was 2.5 on 2 cores"
    assert marked((busy,), "quiet") == [f"the machine was {busy}"]
    assert marked((), "noisy") == [f"the table is marked noisy: {report.measurement.noise}"]


def test_progress_goes_through_all_stages(report: ProfileReport, steps: list[Progress]) -> None:
    stages = list(dict.fromkeys(step.stage for step in steps))
    assert [stage for stage in stages if stage != "energy"] == ["export", "load", "plan", "measure"]
    [note] = [step.note for step in steps if step.note]
    assert note.startswith("timing 43 models in 20 rounds, about ")
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
    """Case O-11: the space still counts its multiply-adds, as blocks know them without being run."""
    assert list(partial.failures) == [KEY]
    assert "no such kernel" in partial.failures[KEY]
    assert len(partial.table.rows) == 4
    written = LatencyTable.load(partial.path)
    assert written.header.failures == dict(partial.failures)
    assert written.header.calibration is None
    assert any("not calibrated" in line for line in partial.warnings)
    with pytest.raises(TableError, match="could not be measured: .*no such kernel"):
        table_matches(written, HERE, SPACE)


def test_failures_are_told_a_few_at_a_time(partial: ProfileReport) -> None:
    assert partial.failed_blocks == dict(partial.failures)
    many = {f"conv {n}": "no such kernel" for n in range(8)} | {"network 0a": "no such kernel"}
    told = [line for line in replace(partial, failures=many).warnings if "could not be measured" in line]
    assert told[-1] == "4 more could not be measured; the table's header names them"
    assert len(told) == 6
    assert len(replace(partial, failures=many).failed_blocks) == 8


# ------------------------------------------------------------------------- found out before anything is exported


def refuse_to_export(*_: object, **__: object) -> Any:
    raise AssertionError("something was exported")


@pytest.mark.parametrize(("runtime", "module"), [("openvino", "openvino"), ("onnxruntime-tensorrt", None)])
def test_a_runtime_that_is_not_there_is_told_before_anything_is_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runtime: Runtime, module: str | None
) -> None:
    state = try_runtimes([runtime])[runtime]
    if state.works:
        pytest.skip(f"{module or runtime} works here")
    monkeypatch.setattr(profiler, "export_all", refuse_to_export)
    device = Device(name="a", runtime=runtime)
    with pytest.raises(MeasureError, match=f"device a: runtime {runtime} does not work here: ") as info:
        profile(SPACE, build, build_network, device=device, folder=tmp_path / "tables", journal=tmp_path / "journal")
    assert "pip" in info.value.hint
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_too_small_is_told_before_anything_is_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profiler, "export_all", refuse_to_export)
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 2**18}))
    message = rf"device this-cpu: the files to be timed take about \d+ MiB, and {tmp_path} has 0 MiB free"
    with pytest.raises(MeasureError, match=message):
        profile(SPACE, build, build_network, device=HERE, folder=tmp_path / "tables", workspace=tmp_path / "files")
    assert list(tmp_path.iterdir()) == []


def test_room_counts_here_and_on_the_device(tmp_path: Path) -> None:
    board = Device(name="pi", host="user@board")
    check_room(tmp_path / "not" / "yet", 2**20, device=board, there=None)
    check_room(tmp_path, 2**20, device=board, there=2**20)
    with pytest.raises(MeasureError, match="take about 2 MiB, and the temporary folder of user@board has 1 MiB free"):
        check_room(tmp_path, 2**21, device=board, there=2**20)


def test_files_take_about_what_was_estimated(tmp_path: Path) -> None:
    profile(
        SPACE,
        build,
        build_network,
        device=HERE,
        folder=tmp_path / "t",
        workspace=tmp_path / "files",
        rounds=2,
        on_noise="mark",
    )
    taken = sum(path.stat().st_size for path in (tmp_path / "files").glob("*.onnx"))
    estimated = export_bytes(SPACE, blocks_of(SPACE), choose_networks(SPACE, seed=0))
    assert 0.3 < taken / estimated < 1.1


def test_a_workspace_that_is_given_keeps_the_files(partial: ProfileReport) -> None:
    assert len(list(partial.path.parent.glob("*.onnx"))) == 4 + 33 + 5


def test_only_what_an_existing_table_lacks_is_measured(
    report: ProfileReport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profiler, "ANCHORS", 2)
    monkeypatch.setattr(profiler, "FACTOR_REFUSED", (1e-3, 1e3))  # how fast the machine is now is not the question
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


# ------------------------------------------------------------------------------ with a clock of one's own


NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def faked(folder: Path, fake: FakeMachine | None = None, **options: Any) -> ProfileReport:
    return profile(
        SPACE,
        build,
        build_network,
        device=HERE,
        folder=folder,
        rounds=options.pop("rounds", 6),
        quota=lambda: 1.5,
        machine=(fake or FakeMachine()).machine(),
        now=NOW,
        **options,
    )


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> ProfileReport:
    return faked(tmp_path_factory.mktemp("unbroken"))


def test_two_profiles_with_the_clock_injected_are_the_same_file(unbroken: ProfileReport, tmp_path: Path) -> None:
    again = faked(tmp_path)
    assert again.path.read_bytes() == unbroken.path.read_bytes()
    assert again.table.header.device.quota == 1.5
    assert again.table.header.created_utc == NOW


class Killed(BaseException):
    """At a moment of the test's choosing."""


@pytest.mark.parametrize("stage", ["export", "round"])
def test_a_killed_profile_goes_on_and_writes_the_same_rows(
    unbroken: ProfileReport, tmp_path: Path, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = tmp_path / "journal"
    fake = FakeMachine()

    def kill(step: Progress) -> None:
        if stage == "export" and step.stage == "export" and len(list(journal.glob("*.onnx"))) == 20:
            raise Killed

    def load_or_kill() -> float | None:
        if stage == "round" and fake.asked > 3:
            raise Killed
        return FakeMachine._load(fake)

    monkeypatch.setattr(fake, "_load", load_or_kill)
    with pytest.raises(Killed):
        faked(tmp_path, fake, journal=journal, progress=kill)
    assert not list(tmp_path.glob("*.jsonl")), "no table until all is done"
    before = {path: path.stat().st_mtime_ns for path in journal.glob("*.onnx")}
    assert len(before) == (20 if stage == "export" else 43)
    notes: list[str] = []
    rewritten: list[Path] = []

    def listen(step: Progress) -> None:
        notes.extend([step.note] if step.note else [])
        if step.stage == "load":
            rewritten.extend(path for path, when in before.items() if path.stat().st_mtime_ns != when)

    monkeypatch.undo()
    report = faked(tmp_path, journal=journal, progress=listen)
    assert notes[0] == f"an earlier profile that was not finished has {len(before)} files: going on"
    assert rewritten == []
    assert report.table.rows == unbroken.table.rows
    assert report.table.header.calibration == unbroken.table.header.calibration
    assert report.table.header.protocol.processes == (2 if stage == "round" else 1)
    assert [path.name for path in tmp_path.iterdir()] == [report.path.name]


def test_what_a_profile_of_other_conditions_left_is_thrown_away(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    Journal(journal, "another")
    (journal / "rounds.jsonl").write_text("of another")
    notes: list[str] = []
    faked(tmp_path, journal=journal, progress=lambda step: notes.extend([step.note] if step.note else []))
    assert notes[0] == "an earlier profile that was not finished is of other conditions and thrown away"


def test_a_refused_measurement_is_not_gone_on_with(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    shaky = FakeMachine(slowness={n: 1.0 + 0.5 * (n % 2) for n in range(100)})
    with pytest.raises(MeasureError, match="too noisy") as info:
        faked(tmp_path, shaky, journal=journal, rounds=2)
    assert info.value.hint.startswith("stop other work on this machine and measure again; what was exported, ")
    assert info.value.hint.endswith(f"MiB, stays in {journal} for the next try: delete it if there is none")
    assert not (journal / "rounds.jsonl").exists()
    assert len(list(journal.glob("*.onnx"))) == 43


def test_a_repeat_tells_the_factor_and_what_is_left_of_the_difference(tmp_path: Path) -> None:
    # The second session, from the ninth reading of the load on, is slower by a tenth as a whole.
    report = faked(tmp_path, FakeMachine(slowness=dict.fromkeys(range(8, 40), 1.1)), repeat=True)
    repeat = report.table.header.protocol.repeat
    assert repeat is not None
    assert repeat.n == 43
    assert repeat.factor == pytest.approx(1.1, abs=0.01)
    assert repeat.median < 0.01
    one, two = (replace(report.measurement, timings={"a": timing(us)}) for us in (10.0, 12.0))
    assert repeat_of(one, two) == RepeatRecord(factor=1.2, median=0.0, p95=0.0, n=1)
    assert repeat_of(one, replace(two, timings={})) is None


class Doubled(nn.Module):
    """A sum that no block holds."""

    def forward(self, x: Tensor) -> Tensor:
        return x + x


def few(*, breaks: str = "") -> tuple[Space, Callable[[Architecture], nn.Module]]:
    """Two kernels and an optional sum: four networks, two of them of equal blocks each."""
    kernels = Unit("layer", ("kernel",), (convolution(1), convolution(5)))
    decisions = (Decision("kernel", (1, 5)), Decision("sum", (0, 1)))
    space = Space("few", decisions, (Unit("stem", (), (STEM,)), kernels, Unit("head", (), (HEAD,))))

    def network(architecture: Architecture) -> nn.Module:
        if str(architecture) == breaks:
            raise ValueError("no such network")
        stem, layer, head = map(build, space.blocks_of(architecture))
        return nn.Sequential(stem, layer, *([Doubled()] if architecture["sum"] else []), head)

    return space, network


def test_a_space_of_few_networks_is_measured_whole_and_predicts_what_was_measured(tmp_path: Path) -> None:
    space, network = few()
    report = profile(
        space,
        build,
        network,
        device=HERE,
        folder=tmp_path,
        rounds=4,
        machine=FakeMachine().machine(),
        quota=lambda: None,
    )
    table = LatencyTable.load(report.path)
    assert table == report.table
    calibration = table.header.calibration
    assert calibration is not None
    assert (calibration.kind, calibration.terms, calibration.n, calibration.holdout) == ("networks", (), 4, None)
    cost = UnitSumCost.from_table(space, table)
    measured = {Architecture(one.architecture): one.p25_us / 1000 for one in calibration.networks}
    assert {a: cost(a).value for a in space.enumerate()} == measured
    assert len({*measured.values()}) == 4, "equal blocks, other times"
    assert cost.smallest()[0] == min(measured.values())
    assert not any(cost(a).extrapolated for a in space.enumerate())
    assert table_matches(table, HERE, space) is not None
    even = {label: np.array([0.5, 0.5]) for label in ("kernel", "sum")}
    assert cost.expectation(even) == pytest.approx(np.mean([*measured.values()]))
    with pytest.raises(TableError, match="every network of the space was measured"):
        refit(space, table, [])


def test_a_network_of_few_that_could_not_be_measured_is_named(tmp_path: Path) -> None:
    space, network = few(breaks=str(Architecture({"kernel": 5, "sum": 1})))
    with pytest.raises(CostError, match="1 of its 4 networks could not be measured.*no such network"):
        profile(space, build, network, device=HERE, folder=tmp_path, rounds=4, machine=FakeMachine().machine())
    assert not [*tmp_path.glob("*.jsonl")]


def test_energy_goes_into_the_rows(tmp_path: Path) -> None:
    fake = FakeMachine(takes=lambda path: 50 * by_size(path), watts=10.0)
    header = faked(tmp_path, fake, rounds=2, on_noise="mark").table.header
    assert header.protocol.energy == "rapl"
    assert header.protocol.idle_watts == pytest.approx(10.0, rel=1e-3)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")
def test_fewer_allowed_cores_than_the_machine_has(tmp_path: Path) -> None:
    """Case O-08: limited to one core; the table says so, and four threads are refused."""
    before = os.sched_getaffinity(0)
    core = max(before)
    try:
        os.sched_setaffinity(0, {core})
        report = faked(tmp_path, rounds=2)
        header = report.table.header
        assert (header.threads, header.device.affinity, header.protocol.pinned) == (1, (core,), (core,))
        with pytest.raises(DeviceError, match="threads is 4; 1 core may be used here"):
            profile(SPACE, build, build_network, device=Device(name="a", threads=4), folder=tmp_path)
    finally:
        os.sched_setaffinity(0, before)
    with pytest.raises(TableError, match="threads is 1 in the table, 2 in this run"):
        table_matches(report.table, Device(name="this-cpu", threads=2), SPACE)
