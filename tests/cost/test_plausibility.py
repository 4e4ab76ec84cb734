"""Rows that cannot be right, planted into a table that is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hwnas.core import Architecture
from hwnas.cost import (
    LatencyTable,
    calibrate,
    contradicted_rows,
    doubtful_rows,
    entries_of,
    implausible_rows,
    in_lines,
)
from hwnas.space import Block, Space
from tests.cost.toy_space import flat_table, flat_us, toy_space
from tests.profiling.models import timing

SPACE = toy_space()
COUNT = 44


def us_of(space: Space, architecture: Architecture, times: dict[str, float]) -> float:
    return 5.0 + sum(times[block.key] for block in space.blocks_of(architecture))


def honest() -> LatencyTable:
    """Blocks whose times grow with their work, and 44 networks that take the sum of them and 5 us."""
    blocks = entries_of(SPACE)
    rng = np.random.default_rng(0)
    rows = {
        key: replace(timing(flat_us(block) * rng.uniform(0.98, 1.02)), macs=block.macs) for key, block in blocks.items()
    }
    times = {key: row.p25_us for key, row in rows.items()}
    networks = SPACE.sample(COUNT, rng)
    measured = [us_of(SPACE, network, times) * rng.uniform(0.99, 1.01) for network in networks]
    calibration = calibrate(
        SPACE, rows, networks[:20], measured[:20], held_out=networks[20:], held_out_us=measured[20:]
    )
    table = flat_table(SPACE)
    header = table.header.model_copy(update={"calibration": calibration})
    return LatencyTable(header, rows, source="toy.jsonl")


@pytest.fixture(scope="module")
def table() -> LatencyTable:
    return honest()


def changed(table: LatencyTable, key: str, factor: float) -> LatencyTable:
    row = table.rows[key]
    return replace(table, rows={**table.rows, key: replace(row, p25_us=row.p25_us * factor)})


def often_used(table: LatencyTable) -> list[str]:
    """Rows that some of the networks hold and others do not, the heaviest in them first."""
    assert table.header.calibration is not None
    held = [
        {block.key for block in SPACE.blocks_of(Architecture(network.architecture))}
        for network in table.header.calibration.networks
    ]
    counts = {key: sum(key in keys for keys in held) for key in table.rows}
    telling = [key for key, count in counts.items() if 8 <= count <= COUNT - 8]
    return sorted(telling, key=lambda key: (-table.rows[key].p25_us, key))


def test_a_table_that_is_right_is_believed(table: LatencyTable) -> None:
    assert doubtful_rows(SPACE, table) == {}


@pytest.mark.parametrize("factor", [1000.0, 1e-3])
def test_a_row_a_thousand_times_off_is_named_with_both_times(table: LatencyTable, factor: float) -> None:
    for key in [key for key in table.rows if key.startswith("mbconv")][::5]:
        wrong = changed(table, key, factor)
        assert list(doubtful_rows(SPACE, wrong)) == [key]
        assert f"takes {wrong.rows[key].p25_us:.3g} us; by its neighbours" in implausible_rows(wrong.rows)[key]


def test_a_row_that_the_networks_contradict_is_named_with_the_time_they_speak_for(table: LatencyTable) -> None:
    key = often_used(table)[0]
    wrong = changed(table, key, 3.0)
    assert implausible_rows(wrong.rows) == {}
    found = contradicted_rows(SPACE, wrong)
    assert list(found) == [key]
    spoken = float(found[key].rsplit(" ", 2)[-2])
    assert spoken == pytest.approx(table.rows[key].p25_us, rel=0.2)
    assert "the table's 44 measured networks speak for about" in found[key]


def test_a_row_that_every_network_holds_is_named_too(table: LatencyTable) -> None:
    [head] = [key for key in table.rows if key.startswith("head")]
    assert list(doubtful_rows(SPACE, changed(table, head, 1e-3))) == [head]


def test_without_networks_or_work_nothing_is_known(table: LatencyTable) -> None:
    plain = flat_table(SPACE)
    assert contradicted_rows(SPACE, plain) == {}
    key = next(iter(plain.rows))
    unknown = {name: replace(row, macs=None) for name, row in changed(plain, key, 1e3).rows.items()}
    assert implausible_rows(unknown) == {}
    lacking = replace(table, rows=dict(list(table.rows.items())[1:]))
    assert doubtful_rows(SPACE, lacking) == {}


def test_a_few_rows_of_other_kinds_are_not_compared() -> None:
    blocks = [Block(kind, (), (8, 4, 4), (8, 4, 4), 100, 0) for kind in ("stem", "head")]
    rows = {block.key: replace(timing(10.0**n), macs=100) for n, block in enumerate(blocks)}
    assert implausible_rows(rows) == {}


def test_lines_are_few() -> None:
    assert in_lines({str(n): "is odd" for n in range(7)})[-2:] == ['row "4" is odd', "2 more rows are like that"]
    assert in_lines({}) == []
