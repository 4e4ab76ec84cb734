from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwnas.core import TableError
from hwnas.cost import Calibration, Holdout, LatencyTable, NoiseRecord, Timing, UnitSumCost, blocks_of

from .toy_space import IDENTITY, SHALLOW, UNEVEN, flat_table, header, timing, toy_space

AFFINE = Calibration(
    terms=("sum", "constant", "boundary"),
    coefficients=(0.9, 120.0, 0.001),
    n=20,
    loo_mape=0.007,
    band=0.04,
    box={"sum": (3300.0, 25500.0), "boundary": (1e3, 1e5)},
    holdout=Holdout(mape=0.008, bias=-0.001, within_5=1.0, within_10=1.0, tau=0.98, n=10),
)

positive = st.floats(min_value=1e-9, max_value=1e9)
timings = st.builds(
    Timing,
    *(positive, positive, positive, positive, st.floats(0, 10), st.integers(1, 10**6), st.integers(1, 10**6)),
    device_us=st.none() | positive,
    energy_mj=st.none() | positive,
    macs=st.none() | st.integers(0, 10**12),
    weight_bytes=st.none() | st.integers(0, 10**12),
    peak_activation_bytes=st.none() | st.integers(1, 10**12),
)


def rewrite(path: Path, change: Callable[[list[dict[str, Any]]], None]) -> None:
    """Edit the lines of a table and sign them again, as somebody would who writes tables with a script."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    change(lines)
    body = "".join(json.dumps(line) + "\n" for line in lines[1:])
    if "sha256" in lines[0]:
        lines[0]["sha256"] = hashlib.sha256(body.encode()).hexdigest()
    path.write_text(json.dumps(lines[0]) + "\n" + body)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "this-cpu--ort--toy.jsonl"
    flat_table(toy_space(), calibration=AFFINE).save(path)
    return path


# ------------------------------------------------------------------------------------------------------- round trip


@settings(deadline=None, max_examples=30)
@given(st.dictionaries(st.text(max_size=12), timings, max_size=6), st.none() | st.floats(0, 1), positive)
def test_what_is_saved_is_loaded(
    tmp_path_factory: pytest.TempPathFactory, rows: dict[str, Timing], tau: float | None, empty: float
) -> None:
    path = tmp_path_factory.mktemp("table") / "t.jsonl"
    calibration = AFFINE.model_copy(
        update={"holdout": AFFINE.holdout.model_copy(update={"tau": tau}) if AFFINE.holdout else None}
    )
    noise = NoiseRecord(median=0.004, p95=0.012, tau=0.985, passed=True)
    head = header(toy_space(), calibration=calibration)
    head = head.model_copy(update={"empty_run_us": empty, "noise": noise, "failures": {"a": "why"}})
    table = LatencyTable(head, rows)
    table.save(path)
    loaded = LatencyTable.load(path)
    assert loaded == table
    assert list(loaded.rows) == sorted(rows)
    assert loaded.digest == table.digest == hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    assert loaded.source == str(path)


def test_a_file_of_an_earlier_version_keeps_its_digest(path: Path) -> None:
    """What stands for a table may not change because a later version knows one more field of the header."""
    head, rest = path.read_text().split("\n", 1)
    header = json.loads(head)
    del header["family"]
    path.write_text(json.dumps(header) + "\n" + rest)
    table = LatencyTable.load(path)
    assert table.digest == hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    assert replace(table, drift_spread=0.1).text() == path.read_text(), "a copy is a copy"
    other = replace(table, header=table.header.model_copy(update={"tool_version": "other"}))
    assert other.digest != table.digest
    assert replace(table, rows={}).digest != table.digest


def test_the_file_is_strict_json_one_block_a_line(path: Path) -> None:
    def no_constant(name: str) -> None:
        raise AssertionError(name)

    lines = [json.loads(line, parse_constant=no_constant) for line in path.read_text().splitlines()]
    assert lines[0]["unit"] == "us"
    assert lines[0]["empty_run"] == 3.6
    assert lines[0]["created_utc"] == "2026-01-02T03:04:05Z"
    assert [line["key"] for line in lines[1:]] == list(blocks_of(toy_space()))
    assert set(lines[1]) == {
        *("key", "p25", "min", "median", "p90", "iqr_rel", "runs", "visits"),
        *("energy_mj", "macs", "weight_bytes", "peak_activation_bytes"),
    }
    assert lines[1]["energy_mj"] is None, "unmeasured, not 0"


def test_saving_leaves_one_file_and_replaces_what_was_there(path: Path) -> None:
    flat_table(toy_space(), calibration=None).save(path)
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    assert LatencyTable.load(path).header.calibration is None


# ------------------------------------------------------------------------------------------------------------ units


@pytest.mark.parametrize(("unit", "us"), [("us", 1.0), ("ms", 1e3), ("s", 1e6)])
def test_a_table_in_another_unit_says_the_same(path: Path, unit: str, us: float) -> None:
    """O-15: every time of the file is in its unit."""
    expected = LatencyTable.load(path)

    def convert(lines: list[dict[str, Any]]) -> None:
        head = lines[0]
        head["unit"] = unit
        head["empty_run"] /= us
        head["reference"][0]["p25"] /= us
        head["calibration"]["coefficients"] = [0.9, 120.0 / us, 0.001 / us]
        head["calibration"]["box"]["sum"] = [3300.0 / us, 25500.0 / us]
        for line in lines[1:]:
            line |= {name: line[name] / us for name in ("p25", "min", "median", "p90")}

    rewrite(path, convert)
    table = LatencyTable.load(path)
    assert table.header.unit == "us"
    assert table.header.empty_run_us == pytest.approx(3.6, rel=1e-12)
    assert table.header.reference[0].p25_us == pytest.approx(3300.0, rel=1e-12)
    space = toy_space()
    found, known = UnitSumCost.from_table(space, table), UnitSumCost.from_table(space, expected)
    for architecture in (SHALLOW, UNEVEN, known.largest()[1]):
        assert found(architecture).value == pytest.approx(known(architecture).value, rel=1e-12)
        assert found(architecture).unit == "ms"
        assert found.extrapolated(architecture) == known.extrapolated(architecture)
    codes = space.encode(space.enumerate())
    assert ((found.batch(codes) <= 8.0) == (known.batch(codes) <= 8.0)).all()


def test_a_table_without_unit_is_refused(path: Path) -> None:
    rewrite(path, lambda lines: lines[0].pop("unit"))
    with pytest.raises(TableError, match=r'toy\.jsonl: line 1: unit is missing.*"us", "ms", "s".*hwnas profile'):
        LatencyTable.load(path)


def test_in_memory_times_are_microseconds() -> None:
    head = header(toy_space()).model_copy(update={"unit": "ms"})
    with pytest.raises(TableError, match='unit is "ms"; in memory every time is in "us"'):
        LatencyTable(head, {})


# ----------------------------------------------------------------------------------------------------------- damage


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"none\.jsonl: there is no such latency table \(.*hwnas profile"):
        LatencyTable.load(tmp_path / "none.jsonl")


def test_a_folder_is_no_table(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="cannot be read"):
        LatencyTable.load(tmp_path)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\n", b"\x80\x04\x95pickle\n"])
def test_other_bytes_are_no_table(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "t.jsonl"
    path.write_bytes(content)
    with pytest.raises(TableError, match=r"t\.jsonl: (the file is empty|cannot be read).*hwnas profile"):
        LatencyTable.load(path)


def test_cut_off_in_the_last_line(path: Path) -> None:
    lines = path.read_text().count("\n")
    path.write_text(path.read_text()[:-10])
    with pytest.raises(TableError, match=rf"toy\.jsonl: line {lines} is cut off; expected .*hwnas profile"):
        LatencyTable.load(path)


def test_cut_off_between_lines(path: Path) -> None:
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(TableError, match=r"line 1: sha256 does not fit the \d+ lines.*hwnas profile"):
        LatencyTable.load(path)


def test_only_a_header(path: Path) -> None:
    path.write_text(path.read_text().split("\n")[0] + "\n")
    with pytest.raises(TableError, match="sha256 does not fit the 0 lines"):
        LatencyTable.load(path)


def test_an_edited_number(path: Path) -> None:
    path.write_text(path.read_text().replace('"p25":500.0', '"p25":100.0'))
    with pytest.raises(TableError, match="sha256 does not fit"):
        LatencyTable.load(path)


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_any_damage_is_a_table_error_or_harmless(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("table") / "t.jsonl"
    table = flat_table(toy_space())
    table.save(path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        loaded = LatencyTable.load(path)
    except TableError as error:
        assert str(path) in str(error)
        assert "hwnas profile" in error.hint
    else:
        assert loaded.rows == table.rows  # only the header's text changed


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda lines: lines[0].update(colour="red"), "line 1: colour is an unknown field"),
        (lambda lines: lines[0]["device"].update(mood="good"), "line 1: device.mood is an unknown field"),
        (lambda lines: lines[0].pop("entries_digest"), "line 1: entries_digest is missing"),
        (lambda lines: lines[0].pop("sha256"), "line 1: sha256 is None; expected the sha256 of the lines"),
        (
            lambda lines: lines[0].update(unit="min"),
            "line 1: unit is 'min'; expected input should be 'us', 'ms' or 's'",
        ),
        (lambda lines: lines[0].update(schema_version=0), "line 1: schema_version is 0; expected input should be 1 or"),
        (lambda lines: lines[1].pop("macs"), "line 2: macs is missing"),
        (lambda lines: lines[1].update(macs=1.5), "line 2: macs is 1.5; expected a whole number"),
        (lambda lines: lines[1].update(peak_activation_bytes=0), "line 2: peak_activation_bytes is 0; expected a fin"),
        (lambda lines: lines[1].update(energy_mj=0), "line 2: energy_mj is 0; expected a finite number above 0"),
        (lambda lines: lines[0].update(batch=0), "line 1: batch is 0; expected input should be greater"),
        (lambda lines: lines[0].update(created_utc="2026-01-02"), "line 1: created_utc is '2026-01-02'"),
        (lambda lines: lines[0]["calibration"]["coefficients"].pop(), "calibration is .*2 coefficients for terms"),
        (lambda lines: lines[0]["calibration"].update(band=math.nan), "line 1: a number is NaN; expected finite"),
        (lambda lines: lines[1].update(p25=math.nan), "line 2: a number is NaN; expected finite numbers"),
        (lambda lines: lines[2].update(p90=math.inf), "line 3: a number is Infinity"),
        (lambda lines: lines[1].update(p25=0), "line 2: p25_us is 0.0; expected a finite number above 0"),
        (lambda lines: lines[1].update(p25=-3), "line 2: p25_us is -3.0"),
        (lambda lines: lines[1].update(p25=10**400), "line 2: a number is too large"),
        (lambda lines: lines[1].update(median="3"), "line 2: median is '3'; expected a number"),
        (lambda lines: lines[1].update(min=True), "line 2: min is True; expected a number"),
        (lambda lines: lines[1].update(runs=2.5), "line 2: runs is 2.5; expected a whole number"),
        (lambda lines: lines[1].update(p99=1.0), "line 2: p99 is an unknown field; expected only key, p25"),
        (lambda lines: lines[1].pop("visits"), "line 2: visits is missing"),
        (lambda lines: lines[1].pop("key"), "line 2: key is missing"),
        (lambda lines: lines[1].update(key=7), "line 2: key is 7"),
        (lambda lines: lines.append(lines[1]), r"line \d+: key 'head .*' stands in the table twice"),
        (lambda lines: lines.insert(1, [1, 2]), r"line 2: the line is '\[1, 2\]'; expected a JSON object"),
    ],
)
def test_a_wrong_field_is_named(path: Path, change: Callable[[list[dict[str, Any]]], None], words: str) -> None:
    rewrite(path, change)
    with pytest.raises(TableError, match=rf"toy\.jsonl: {words}|toy\.jsonl: line 1: {words}") as caught:
        LatencyTable.load(path)
    assert "hwnas profile" in caught.value.hint


@pytest.mark.parametrize("line", ["{'key': 1}", '{"key":', "[" * 100_000, "1" * 5000])
def test_a_line_that_is_no_json_is_named(path: Path, line: str) -> None:
    text = path.read_text().splitlines()
    text.insert(2, line)
    path.write_text("\n".join(text) + "\n")
    with pytest.raises(TableError, match="line 3: (is not JSON|the line is)"):
        LatencyTable.load(path)


# ---------------------------------------------------------------------------------------------------------- timings


def test_a_table_of_version_1_says_what_it_knows(path: Path) -> None:
    def older(lines: list[dict[str, Any]]) -> None:
        lines[0]["schema_version"] = 1
        del lines[0]["classes"], lines[0]["device"]["vendor"], lines[0]["runtime"]["build"]
        for line in lines[1:]:
            for name in ("energy_mj", "macs", "weight_bytes", "peak_activation_bytes"):
                del line[name]

    rewrite(path, older)
    table = LatencyTable.load(path)
    assert table.header.schema_version == 1
    assert (table.header.classes, table.header.device.vendor, table.header.runtime.build) == (None, None, None)
    assert {row.macs for row in table.rows.values()} == {None}
    assert table.rows == flat_table(toy_space()).rows


@pytest.mark.parametrize("path", sorted((Path(__file__).parents[2] / "latency_tables").glob("*.jsonl")), ids=str)
def test_the_tables_of_the_repository_load(path: Path) -> None:
    table = LatencyTable.load(path)
    assert table.rows
    assert table.header.calibration is not None


@pytest.mark.parametrize("name", ["p25_us", "min_us", "median_us", "p90_us", "iqr_rel", "runs", "visits"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -1])
def test_timings_are_finite_and_positive(name: str, value: float) -> None:
    with pytest.raises(TableError, match=f"{name} is {value}"):
        Timing(**{**asdict(timing(10.0)), name: value})


def test_a_coarse_clock_may_see_no_spread() -> None:
    assert replace(timing(10.0), iqr_rel=0.0).iqr_rel == 0.0
    with pytest.raises(TableError, match="p25_us is 0"):
        replace(timing(10.0), p25_us=0.0)


# ----------------------------------------------------------------------------------------------------------- checks


def test_a_complete_table_covers_its_space() -> None:
    space = toy_space()
    flat_table(space).check_coverage(space)
    assert flat_table(space).missing(space) == []


def test_one_missing_row_is_named() -> None:
    """O-13."""
    space, table = toy_space(), flat_table(toy_space())
    key = next(key for key in table.rows if "kernel=5" in key)
    holey = LatencyTable(table.header, {k: t for k, t in table.rows.items() if k != key}, source="t.jsonl")
    assert holey.missing(space) == [key]
    with pytest.raises(TableError) as caught:
        holey.check_coverage(space)
    assert str(caught.value) == (
        f"t.jsonl: 1 of the {len(table.rows)} blocks of space toy is missing: {key!r} "
        "(measure just these: hwnas profile --missing)"
    )
    with pytest.raises(TableError, match="1 of the"):
        UnitSumCost.from_table(space, holey)


def test_many_missing_rows_are_counted() -> None:
    space, table = toy_space(), flat_table(toy_space())
    empty = LatencyTable(table.header, {})
    with pytest.raises(TableError) as caught:
        empty.check_coverage(space)
    n = len(table.rows)
    assert f"{n} of the {n} blocks" in caught.value.message
    assert f"and {n - 5} more" in caught.value.message
    assert [repr(key) in caught.value.message for key in table.rows] == [True] * 5 + [False] * (n - 5)


def test_a_block_that_failed_tells_why() -> None:
    """O-11."""
    space, table = toy_space(), flat_table(toy_space())
    key = list(table.rows)[3]
    failed = table.header.model_copy(update={"failures": {key: "Conv is not implemented for expand 6"}})
    holey = LatencyTable(failed, {k: t for k, t in table.rows.items() if k != key})
    with pytest.raises(TableError, match=r"could not be measured: Conv is not implemented for expand 6"):
        holey.check_coverage(space)


def test_rows_beyond_the_space_do_no_harm() -> None:
    space, table = toy_space(), flat_table(toy_space())
    LatencyTable(table.header, {**table.rows, "mystery": timing(1.0)}).check_coverage(space)


def test_a_table_of_another_space_is_refused() -> None:
    space, table = toy_space(), flat_table(toy_space())
    other = toy_space(depths=(1,))
    with pytest.raises(
        TableError, match=f"space_digest is '{space.digest}' in the table, '{other.digest}' in this run"
    ):
        table.check_space(other)
    with pytest.raises(TableError, match="entries_digest"):
        UnitSumCost.from_table(other, table)
    table.check_space(space)


@pytest.mark.parametrize(
    ("name", "value", "ok"),
    [
        ("batch", 1, True),
        ("batch", 8, False),
        ("precision", "float16", False),
        ("threads", 2, False),
        ("resolutions", (64,), False),
        ("device.cpu_model", "Other CPU", False),
        ("runtime.provider", "CUDAExecutionProvider", False),
        ("runtime.optimization_level", "basic", False),
        ("runtime.onnxruntime", "1.32.9", True),
        ("runtime.onnxruntime", "1.33.0", False),
    ],
)
def test_other_conditions_are_refused(name: str, value: object, ok: bool) -> None:
    """O-14."""
    table = flat_table(toy_space())
    if ok:
        table.check_conditions({name: value})
        return
    with pytest.raises(TableError) as caught:
        table.check_conditions({"batch": 1, name: value})
    found: Any = table.header.model_dump()
    for part in name.split("."):
        found = found[part]
    assert f"{name} is {found!r} in the table, {value!r} in this run" in caught.value.message
    assert "hwnas profile" in caught.value.hint


def test_all_differing_conditions_are_named() -> None:
    with pytest.raises(TableError, match="batch is 1 .*; threads is 1 .*on this-cpu"):
        flat_table(toy_space()).check_conditions({"batch": 2, "threads": 2})


def test_a_condition_that_is_no_field_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(KeyError):
        flat_table(toy_space()).check_conditions({"moon": 1})


def test_noise() -> None:
    table = flat_table(toy_space())
    table.check_noise()
    noisy = NoiseRecord(median=0.03, p95=0.09, tau=0.8, passed=False)
    with pytest.raises(TableError, match=r"too noisy.* 3\.0% \(median\) and 9\.0% .* 0\.800"):
        LatencyTable(table.header.model_copy(update={"noise": noisy}), table.rows).check_noise()
    calm = noisy.model_copy(update={"passed": True})
    LatencyTable(table.header.model_copy(update={"noise": calm}), table.rows).check_noise()
    LatencyTable(table.header.model_copy(update={"noise": noisy}), table.rows).check_noise(median=0.03)


def test_a_table_of_a_later_version_says_upgrade_whatever_else_it_holds(path: Path) -> None:
    def later(lines: list[dict[str, Any]]) -> None:
        lines[0].update(schema_version=3, unit="moons", colour="red")
        del lines[0]["sha256"], lines[0]["device"]

    rewrite(path, later)
    with pytest.raises(TableError, match="schema_version is 3: a later hwnas wrote the table; this one reads") as info:
        LatencyTable.load(path)
    assert info.value.hint == "upgrade hwnas: pip install --upgrade hwnas"


def test_a_term_that_was_not_kept_has_no_weight() -> None:
    assert (IDENTITY.coefficient("sum"), IDENTITY.coefficient("se")) == (1.0, 0.0)
