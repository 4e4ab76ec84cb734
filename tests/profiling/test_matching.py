"""When a table is refused, and when one is only told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from hwnas.core import Architecture, TableError
from hwnas.cost import LatencyTable, NoiseRecord
from hwnas.device import Device, fingerprint
from hwnas.profiling import table_matches
from hwnas.profiling.matching import classes_of, resolutions_of
from hwnas.profiling.runtimes import runtime_version
from hwnas.space import Decision, Space
from hwnas.zoo import FAMILIES
from tests.profiling.chain import chain
from tests.profiling.models import table_for

HERE = Device(name="this-cpu")
SPACE = chain()
TABLE = table_for(SPACE, Architecture({"depth": 1, "kernel1": 3}))


def changed(field: str, value: object, table: LatencyTable = TABLE) -> LatencyTable:
    """The table with one field of its header replaced; parts after a dot."""
    room, _, part = field.partition(".")
    new = getattr(table.header, room).model_copy(update={part: value}) if part else value
    return replace(table, header=table.header.model_copy(update={room: new}))


def test_a_table_made_here_and_now_matches_without_a_word() -> None:
    assert table_matches(TABLE, HERE, SPACE) == []


OTHER_MINOR = "0.1.2"
OTHER_NUMBER = 4711
OF_THE_SPACE: list[tuple[str, Any]] = [
    ("space_digest", "0123456789abcdef"),
    ("entries_digest", "0123456789abcdef"),
]
OF_THE_CONDITIONS: list[tuple[str, Any]] = [
    ("resolutions", (32, 64)),
    ("classes", 10),
    ("precision", "float16"),
    ("batch", 8),
    ("threads", 2),
    ("runtime.provider", "CUDAExecutionProvider"),
    ("runtime.optimization_level", "basic"),
    ("runtime.intra_op_threads", 2),
    ("runtime.onnxruntime", OTHER_MINOR),
    ("device.cpu_model", "Another CPU"),
]
if fingerprint().family is not None:
    OF_THE_CONDITIONS += [("device.family", OTHER_NUMBER), ("device.model", OTHER_NUMBER)]
REFUSED = OF_THE_SPACE + OF_THE_CONDITIONS


@pytest.mark.parametrize(("field", "value"), REFUSED, ids=[field for field, _ in REFUSED])
def test_a_table_made_under_other_conditions_is_refused_by_field_and_both_values(field: str, value: object) -> None:
    """Case O-14, and each field that a table is refused for."""
    here = TABLE.header.model_dump()
    for part in field.split("."):
        here = here[part]
    with pytest.raises(TableError) as info:
        table_matches(changed(field, value), HERE, SPACE)
    assert f"a.jsonl: made under other conditions: {field} is {value!r} in the table, {here!r} in this run" in str(
        info.value
    )
    assert info.value.hint == "measure this-cpu again for space chain: hwnas profile RECIPE"


@pytest.mark.parametrize(("field", "value"), OF_THE_CONDITIONS, ids=[field for field, _ in OF_THE_CONDITIONS])
def test_other_conditions_can_be_allowed_and_are_handed_over_once(field: str, value: object) -> None:
    allowed: list[str] = []
    said = table_matches(changed(field, value), HERE, SPACE, on_mismatch=allowed.append)
    assert len(allowed) == 1
    assert allowed[0].startswith(f"a.jsonl: {field} is {value!r} in the table, ")
    assert said == []


@pytest.mark.parametrize(
    "table",
    [changed(field, value) for field, value in OF_THE_SPACE]
    + [changed("calibration", None), replace(TABLE, rows=dict(list(TABLE.rows.items())[1:]))],
    ids=["space_digest", "entries_digest", "calibration", "a row"],
)
def test_a_table_that_predicts_nothing_is_refused_whatever_is_allowed(table: LatencyTable) -> None:
    with pytest.raises(TableError):
        table_matches(table, HERE, SPACE, on_mismatch=lambda line: None)


def test_a_table_too_noisy_for_a_profile_is_refused_and_can_be_allowed() -> None:
    table = changed("noise", NoiseRecord(median=0.05, p95=0.2, tau=0.9, passed=False))
    with pytest.raises(TableError, match=r"a.jsonl: the device was too noisy .* differ by 5.0%") as info:
        table_matches(table, HERE, SPACE)
    assert "stop other work, and measure this-cpu again" in info.value.hint
    allowed: list[str] = []
    table_matches(table, HERE, SPACE, on_mismatch=allowed.append)
    assert len(allowed) == 1


def test_what_the_table_does_not_know_is_told_and_not_refused() -> None:
    for field in ("device.family", "device.model"):
        if fingerprint().family is not None:
            [line] = table_matches(changed(field, None), HERE, SPACE)
            assert f"{field} is unknown in the table" in line
    assert table_matches(changed("classes", None), HERE, SPACE) == []


def test_a_table_of_version_1_may_be_used_and_says_so_in_one_line() -> None:
    device = TABLE.header.device.model_copy(update={"vendor": None, "caches": None})
    table = changed("classes", None, changed("schema_version", 1, changed("device", device)))
    [line] = table_matches(table, HERE, SPACE)
    assert "it is of schema version 1" in line


def test_all_differences_are_named_at_once() -> None:
    table = changed("threads", 2, changed("batch", 8))
    with pytest.raises(TableError, match=r"batch is 8 in the table, 1 in this run; threads is 2 in the table, 1 in"):
        table_matches(table, HERE, SPACE)


def test_a_device_file_with_more_threads_refuses_the_table() -> None:
    with pytest.raises(TableError, match="threads is 1 in the table, 2 in this run"):
        table_matches(TABLE, Device(name="this-cpu", threads=2), SPACE)


def test_another_space_names_a_block_that_is_missing() -> None:
    with pytest.raises(TableError, match=r"space_digest is .* in the table.*first of 36 blocks that it lacks is 'head"):
        table_matches(TABLE, HERE, FAMILIES["toy"].space)


def test_a_missing_row_is_named_with_the_way_to_fill_it() -> None:
    key = sorted(TABLE.rows)[0]
    rows = {other: timing for other, timing in TABLE.rows.items() if other != key}
    with pytest.raises(TableError, match="1 of the 5 blocks of space chain is missing") as info:
        table_matches(replace(TABLE, rows=rows), HERE, SPACE)
    assert key in str(info.value)
    assert info.value.hint.endswith("hwnas profile RECIPE --missing")


def test_a_table_without_calibration_is_refused() -> None:
    with pytest.raises(TableError, match="a.jsonl: calibration is missing"):
        table_matches(changed("calibration", None), HERE, SPACE)


WARNED: list[tuple[str, Any, str]] = [
    ("runtime.onnxruntime", ".".join([*str(runtime_version()).split(".")[:2], "99"]), "runtime.onnxruntime is"),
    ("export.torch", "0.0", "export.torch is 0.0 in the table"),
    ("export.onnx", None, "export.onnx is unknown in the table"),
    ("device.stepping", 99, "device.stepping is 99 in the table"),
    ("device.hypervisor", "Other", "device.hypervisor is Other in the table"),
    ("device.memory_bytes", 1, "device.memory_bytes is 1 in the table"),
    ("device.affinity", (0, 1, 2, 77), "device.affinity is 0, 1, 2, 77 in the table"),
    ("device.quota", 99.5, "device.quota is 99.5 in the table"),
    ("device.flags", ("avx9",), "device.flags is avx9 in the table"),
    ("device.vendor", "Other", "device.vendor is Other in the table"),
    ("device.caches", {"L1 data": 1}, "device.caches is L1 data 1 in the table"),
    (
        "protocol.marks",
        ("busy: the load was 7.5 on 2 cores",),
        "when it was measured, the machine was busy: the load was 7.5 on 2 cores",
    ),
    ("device.name", "twin", "it is named after device twin, this is this-cpu"),
    ("noise", NoiseRecord(median=0.02, p95=0.1, tau=0.9, passed=False), "it is marked noisy"),
    ("noise", None, "it is marked noisy"),
    ("created_utc", datetime.now(UTC) - timedelta(days=45, hours=1), "it is 45 days old"),
]


@pytest.mark.parametrize(("field", "value", "line"), WARNED, ids=[line for _, _, line in WARNED])
def test_what_moves_latencies_a_little_is_told(field: str, value: object, line: str) -> None:
    found = table_matches(changed(field, value), HERE, SPACE)
    assert len(found) == 1
    assert found[0].startswith("a.jsonl: ")
    assert line in found[0]


def test_age_is_told_by_the_clock_that_is_given() -> None:
    later = datetime.now(UTC) + timedelta(days=31)
    assert table_matches(TABLE, HERE, SPACE, now=later) == ["a.jsonl: it is 31 days old"]


@pytest.mark.parametrize(("minutes", "told"), [(4, False), (6, True), (60 * 24 * 400, True)])
def test_a_table_of_the_future_is_told_where_clocks_that_differ_a_little_do_not_explain_it(
    minutes: int, told: bool
) -> None:
    made = TABLE.header.created_utc
    found = table_matches(TABLE, HERE, SPACE, now=made - timedelta(minutes=minutes))
    line = f"a.jsonl: it is dated in the future, {made.isoformat(timespec='minutes')}: the clock of this machine"
    assert [one.startswith(line) for one in found] == [True] * told


def test_the_quota_reader_that_is_given_is_asked() -> None:
    asked: list[int] = []
    reader: Callable[[], float | None] = lambda: asked.append(1) or 64.0  # type: ignore[func-returns-value]  # noqa: E731
    assert table_matches(TABLE, HERE, SPACE, quota=reader) == [
        "a.jsonl: device.quota is unknown in the table, 64.0 here"
    ]
    assert asked


def test_resolutions_are_the_sides_of_the_images() -> None:
    assert resolutions_of(FAMILIES["toy"].space) == (32, 48)
    assert resolutions_of(SPACE) == (12,)
    assert resolutions_of(Space("bare", (Decision("n", (1, 2)),))) == ()


def test_classes_are_the_numbers_at_the_end() -> None:
    assert (classes_of(SPACE), classes_of(FAMILIES["toy"].space)) == (3, 10)
    assert classes_of(Space("open", SPACE.decisions, SPACE.units[:-1])) is None


# ---------------------------------------------------------------------------------------------- kinds of cores, rows


KINDS: dict[str, tuple[int, ...]] = {"cpu_core": (0, 1), "cpu_atom": (2, 3)}


def on_hybrid(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine, if it had fast and slow cores."""
    real = fingerprint()
    here = replace(real, core_kinds=KINDS, siblings=(), affinity=(0, 1, 2, 3))
    monkeypatch.setattr("hwnas.profiling.session.fingerprint", lambda **_: here)


def of_kind(kind: str | None, pinned: tuple[int, ...], cores: dict[str, tuple[int, ...]] | None) -> LatencyTable:
    device = TABLE.header.device.model_copy(
        update={"core_kinds": cores, "siblings": () if cores else None, "affinity": (0, 1, 2, 3)}
    )
    protocol = TABLE.header.protocol.model_copy(update={"core_kind": kind, "pinned": pinned})
    return changed("protocol", protocol, changed("device", device))


def test_a_table_of_other_cores_is_refused_where_there_are_several_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    on_hybrid(monkeypatch)
    assert table_matches(of_kind("cpu_core", (1,), KINDS), HERE, SPACE) == []
    with pytest.raises(TableError, match="protocol.core_kind is 'cpu_atom' in the table, 'cpu_core' in this run"):
        table_matches(of_kind("cpu_atom", (3,), KINDS), HERE, SPACE)
    allowed: list[str] = []
    said = table_matches(of_kind("cpu_atom", (3,), KINDS), HERE, SPACE, on_mismatch=allowed.append)
    assert len(allowed) == 1
    assert said == ["a.jsonl: protocol.pinned is 3 in the table, 1 here"]
    assert table_matches(of_kind("cpu_core", (0,), KINDS), HERE, SPACE) == [
        "a.jsonl: protocol.pinned is 0 in the table, 1 here"
    ]
    slow = Device(name="this-cpu", core=2)
    with pytest.raises(TableError, match="protocol.core_kind is 'cpu_core' in the table, 'cpu_atom' in this run"):
        table_matches(of_kind("cpu_core", (1,), KINDS), slow, SPACE)


def test_a_table_that_does_not_know_its_cores_is_told_where_it_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    on_hybrid(monkeypatch)
    [line] = table_matches(of_kind(None, (1,), None), HERE, SPACE)
    assert "which of cpu_core, cpu_atom its cores were is unknown" in line


def test_rows_that_were_marked_or_cannot_be_right_are_told_with_their_keys() -> None:
    key = next(iter(TABLE.rows))
    marks = {key: "uneven: its even and its odd rounds differ by 20%", "network a": "drifting"}
    [line] = table_matches(changed("protocol.row_marks", marks), HERE, SPACE)
    assert line == f'a.jsonl: when it was measured, "{key}" was uneven: its even and its odd rounds differ by 20%'
    rows = {other: replace(row, macs=1000) for other, row in TABLE.rows.items()}
    wrong = replace(TABLE, rows=rows | {key: replace(rows[key], p25_us=1e4)})
    [line] = table_matches(wrong, HERE, SPACE)
    assert line == f'a.jsonl: row "{key}" takes 1e+04 us; by its neighbours 10 to 10 us are to be expected'
