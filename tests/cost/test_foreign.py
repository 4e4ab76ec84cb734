"""Published tables: networks whose latency was published with them, units, and what is damaged or unknown."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwnas.core import TableError
from hwnas.cost import LatencyTable
from hwnas.cost.foreign import ForeignBlock, ForeignTable, import_table, parse_key

REPOSITORY = Path(__file__).parents[2]
DATA = Path(os.environ.get("HWNAS_BENCH_DATA", REPOSITORY.parent / "shared" / "data"))
CONV = "Conv-input:224x224x3-output:112x112x24"
BLOCK = "expanded_conv-input:56x56x24-output:28x28x40-expand:3-kernel:5-stride:2-idskip:0"


def data(name: str) -> Path:
    path = DATA / name
    if not path.exists():
        pytest.skip(f"needs {name} in HWNAS_BENCH_DATA (default ../shared/data)")
    return path


def written(folder: Path, *lines: str, name: str = "t.csv") -> Path:
    path = folder / name
    path.write_text("\n".join(lines) + "\n")
    return path


# ------------------------------------------------------------------------------------------------- published truths


def published(blocks: list[list[Any]], resolution: int) -> list[ForeignBlock]:
    """The questions for a network of Once-for-All's list: [in, out, kernel, stride, expand, hidden, se, activation]."""
    side = -(-resolution // 2)
    asked = [ForeignBlock("conv", 3, resolution, resolution_px=resolution)]
    for c_in, c_out, kernel, stride, _, hidden, se, activation in blocks:
        asked.append(
            ForeignBlock(
                "mbconv", c_in, side, c_out, hidden=hidden or c_in, kernel=kernel, stride=stride, se=se,
                activation=activation.replace("_", ""), residual=stride == 1 and c_in == c_out,
                resolution_px=resolution,
            )
        )  # fmt: skip
        side = -(-side // stride)
    asked += [
        ForeignBlock("conv", c_in=c_out, side_in=side, resolution_px=resolution),
        ForeignBlock("pool", side_in=side, resolution_px=resolution),
        ForeignBlock("conv", side_in=1, resolution_px=resolution),
        ForeignBlock("linear", resolution_px=resolution),
    ]
    return asked


@pytest.mark.parametrize(("name", "truth_ms"), [("30ms", 29.97), ("41ms", 39.91), ("50ms", 49.78)])
def test_the_blocks_of_a_published_network_add_up_to_its_latency(name: str, truth_ms: float) -> None:
    """The sums stand in the README of the data; the names say what their authors reported."""
    import pyarrow.parquet as pq

    table = import_table(data("ofa/note10_block_lut.parquet"))
    nets = pq.read_table(data("ofa/specialized_nets.parquet")).to_pylist()
    [net] = [one for one in nets if one["device"] == "note10" and f"lat-{name}" in one["name"]]
    found_ms = table.sum_us(published(json.loads(net["blocks_json"]), net["resolution_px"])) / 1000
    assert found_ms == pytest.approx(truth_ms, abs=0.006)


def test_every_row_of_the_three_tables_is_understood() -> None:
    for name, unit, rows in (
        ("ofa/note10_block_lut.parquet", None, 1632),
        ("ofa/proxyless_mobile_block_lut.parquet", None, 72),
        ("msunas_cpu_table/i7_8700k.parquet", "ms", 4050),
    ):
        table = import_table(data(name), unit=unit)  # type: ignore[arg-type]
        assert len(table.rows) == rows and not table.unknown
        for row in table.rows:
            block = row.block
            assert block.c_in and block.c_out and row.latency_us > 0
            if block.kind == "mbconv":
                assert block.hidden and block.hidden >= block.c_in and block.kernel in {3, 5, 7}
                assert block.side_in and block.side_out == -(-block.side_in // (block.stride or 0))


def test_a_table_that_does_not_say_its_unit_is_asked_for() -> None:
    path = data("msunas_cpu_table/i7_8700k.parquet")
    with pytest.raises(TableError, match=r"i7_8700k\.parquet: column mean does not say its unit.*--unit us, --unit ms"):
        import_table(path)
    in_ms, in_s = import_table(path, unit="ms"), import_table(path, unit="s")
    assert in_s.rows[7].latency_us == pytest.approx(1000 * in_ms.rows[7].latency_us)
    assert in_ms.rows[7].std_us is not None and in_ms.rows[7].std_us > 0


def test_phones_are_told_apart_by_column_and_transformers_left_out() -> None:
    path = data("block_luts/phone_blocks_fp32.parquet")
    with pytest.raises(TableError, match=r"columns pixel1_ms, pixel4_ms, pixel6_ms, xiaomi11_ms all.*--column NAME"):
        import_table(path)
    table = import_table(path, column="pixel4_ms")
    assert len(table.rows) == 1800 and len(table.unknown) == 10316
    where, key = table.unknown[0]
    assert where.startswith("row ") and key.startswith(("trans", "mbpool"))
    question = ForeignBlock("mbconv", 16, 64, 16, hidden=16, kernel=5, stride=1, se=False)
    assert table.find(question).key == "conv_64_16_16_1_1_hard_swish_5_nose"


# ------------------------------------------------------------------------------------------------------------- keys


@given(
    c_in=st.integers(7, 400), c_out=st.integers(1, 400), ratio=st.integers(1, 6), side=st.integers(1, 224),
    kernel=st.sampled_from([3, 5, 7]), stride=st.sampled_from([1, 2]), se=st.booleans(), hs=st.booleans(),
    as_ratio=st.booleans(),
)  # fmt: skip
def test_a_key_says_the_same_with_hidden_channels_or_their_ratio(
    c_in: int, c_out: int, ratio: int, side: int, kernel: int, stride: int, se: bool, hs: bool, as_ratio: bool
) -> None:
    out, skip = -(-side // stride), stride == 1 and c_in == c_out
    key = f"expanded_conv-input:{side}x{side}x{c_in}-output:{out}x{out}x{c_out}"
    key += f"-expand:{ratio if as_ratio else ratio * c_in}-kernel:{kernel}-stride:{stride}"
    key += f"-idskip:{int(skip)}-se:{int(se)}-hs:{int(hs)}"
    assert parse_key(key) == ForeignBlock(
        "mbconv", c_in, side, c_out, out, ratio * c_in, kernel, stride, se, "hswish" if hs else "relu", skip
    )


@pytest.mark.parametrize(
    "key", ["", "Conv", "Conv-input:224x112x3-output:1x1x3", "Warp-input:8x8x3-output:8x8x3", f"{BLOCK}-", "conv_1_2"]
)
def test_other_keys_are_unknown(key: str) -> None:
    assert parse_key(key) is None


def test_what_a_table_does_not_say_stays_unsaid() -> None:
    block = parse_key(BLOCK)
    assert block is not None and block.se is None and block.activation is None and block.hidden == 72


# ------------------------------------------------------------------------------------------------------ small files


def test_csv_and_json_say_the_same(tmp_path: Path) -> None:
    csv = import_table(written(tmp_path, "key,latency_us,std", f"{CONV},990,9", f"{BLOCK},400.5,4"))
    rows = {CONV: {"latency_us": 990, "std": 9}, BLOCK: {"latency_us": 400.5, "std": 4}}
    as_json = import_table(written(tmp_path, json.dumps(rows), name="t.json"))
    assert csv.rows == as_json.rows
    assert csv.rows[0].latency_us == 990.0 and csv.rows[0].std_us == 9.0
    plain = import_table(written(tmp_path, json.dumps({CONV: 0.99}), name="p.json"), unit="ms")
    assert plain.rows[0].latency_us == 990.0


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (("key,mean", f"{CONV},1", f"{BLOCK},nan"), rf"1 damaged: line 3 \({BLOCK}\): mean is nan, expected"),
        (("key,mean", f"{CONV},-1"), "line 2 .*mean is -1.0, expected a finite number above 0"),
        (("key,mean", f"{CONV},"), "line 2 .*mean is None"),
        (("key,mean", f"{CONV},fast"), "line 2 .*mean is 'fast'"),
        (("key,mean", f"{CONV},1", f"{CONV},2"), r"line 3 .*stands at line 2 too"),
        (("name,mean", f"{CONV},1"), "no column names the blocks; its columns are name, mean"),
        (("key,time", f"{CONV},1"), "no column holds latencies"),
        (("key,mean", "Warp-input:1x1x1-output:1x1x1,1"), r"no block is of a known kind; line 2 is 'Warp"),
        (("key,mean",), "holds no rows"),
    ],
)
def test_damage_is_named_by_line(tmp_path: Path, lines: tuple[str, ...], message: str) -> None:
    with pytest.raises(TableError, match=message):
        import_table(written(tmp_path, *lines), unit="ms")


def test_a_unit_that_contradicts_the_file_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, "key,latency_ms", f"{CONV},1")
    with pytest.raises(TableError, match='column latency_ms is in "ms"; the unit given is "us"'):
        import_table(path, unit="us")
    with pytest.raises(TableError, match='unit is "min"; expected one of us, ms, s'):
        import_table(path, unit="min")  # type: ignore[arg-type]
    with pytest.raises(TableError, match='column "latency_us" holds no latencies; did you mean "latency_ms"'):
        import_table(path, column="latency_us")


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="of no known kind; expected .parquet, .csv"):
        import_table(written(tmp_path, "x", name="t.yaml"))
    with pytest.raises(TableError, match="none.csv: cannot be read"):
        import_table(tmp_path / "none.csv")
    for name in ("t.parquet", "t.json"):
        with pytest.raises(TableError, match=f"{name}: cannot be read"):
            import_table(written(tmp_path, "{", name=name))
    with pytest.raises(TableError, match="is a JSON list"):
        import_table(written(tmp_path, "[]", name="t.json"))


# ------------------------------------------------------------------------------------------------------------ saved


@pytest.fixture
def table(tmp_path: Path) -> ForeignTable:
    return import_table(written(tmp_path, "key,mean,var,count", f"{CONV},0.99,0.01,50", f"{BLOCK},0.4,,"), unit="ms")


def test_a_saved_table_says_the_same(table: ForeignTable, tmp_path: Path) -> None:
    path = tmp_path / "saved.jsonl"
    table.save(path)
    again = import_table(path)
    assert again.rows == table.rows and again.unit == "us"
    assert again.rows[0].std_us == pytest.approx(100) and again.rows[1].count is None
    head = json.loads(path.read_text().splitlines()[0])
    assert (head["source_digest"], head["source_unit"], head["column"]) == (table.digest, "ms", "mean")


def test_a_saved_table_is_never_taken_for_a_measured_one(table: ForeignTable, tmp_path: Path) -> None:
    path = tmp_path / "phone--ort--toy.jsonl"
    table.save(path)
    with pytest.raises(TableError, match="phone--ort--toy.jsonl: line 1: sha256 is None"):
        LatencyTable.load(path)


def test_a_damaged_saved_table_is_refused_with_its_line(table: ForeignTable, tmp_path: Path) -> None:
    path = tmp_path / "saved.jsonl"
    table.save(path)
    lines = path.read_text().splitlines()
    for changed, message in (
        ([lines[0], lines[1].replace('"key"', '"kay"')], "line 2: key or block is missing"),
        ([lines[0], lines[1].replace('"c_in"', '"c_inn"')], "line 2: block holds c_inn, which is unknown"),
        ([lines[0], lines[1], lines[2].replace("400", "-400")], "line 3: latency is -400"),
        ([lines[0], lines[1][:-3]], "cannot be read"),
        (lines[1:], "line 1: is not the header of a table that was imported"),
    ):
        path.write_text("\n".join(changed) + "\n")
        with pytest.raises(TableError, match=message):
            import_table(path)


def test_a_question_with_no_or_many_answers_is_refused(table: ForeignTable) -> None:
    with pytest.raises(TableError, match=r"0 of 2 blocks fit kind=mbconv c_in=7; expected one"):
        table.find(ForeignBlock("mbconv", c_in=7))
    with pytest.raises(TableError, match=r"2 of 2 blocks fit : 'Conv.*ask for more"):
        table.find(ForeignBlock())
    assert table.sum_us([ForeignBlock("conv"), ForeignBlock("mbconv")]) == pytest.approx(1390)
