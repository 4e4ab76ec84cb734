"""The largest of the blocks' peaks: by hand, by listing every network, and refused where a block's is unknown."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwnas.core import CostError, Objective, TableError
from hwnas.cost import LatencyTable, PeakMemory, blocks_of
from hwnas.space import Block
from hwnas.zoo import FAMILIES

from .toy_space import SHALLOW, UNEVEN, flat_table, toy_space

SPACE = toy_space()
CODES = SPACE.encode(SPACE.enumerate())


def peak(block: Block) -> int:
    return 4 * (prod(block.input_shape) + prod(block.output_shape))


PEAKS = {key: peak(block) for key, block in blocks_of(SPACE).items()}


def table_with(peaks: dict[str, int | None]) -> LatencyTable:
    table = flat_table(SPACE)
    rows = {key: replace(row, peak_activation_bytes=peaks[key]) for key, row in table.rows.items()}
    return replace(table, rows=rows)


@settings(deadline=None, max_examples=10)
@given(st.randoms(use_true_random=False))
def test_it_is_the_largest_block_of_each_network_and_its_ends_are_exact(random: object) -> None:
    peaks = {key: random.randint(1, 10**6) for key in PEAKS}  # type: ignore[attr-defined]
    model = PeakMemory.of(SPACE, peaks)
    by_hand = [float(max(peaks[block.key] for block in SPACE.blocks_of(a))) for a in SPACE.decode(CODES)]
    assert model.batch(CODES).tolist() == by_hand
    for (value, architecture), expected in ((model.smallest(), min(by_hand)), (model.largest(), max(by_hand))):
        assert value == expected == model(architecture).value


def test_a_table_says_the_peaks() -> None:
    model = PeakMemory.from_table(SPACE, table_with(dict(PEAKS)))
    assert model.digest == PeakMemory.of(SPACE, PEAKS).digest
    assert (model(SHALLOW).unit, model(SHALLOW).origin) == ("bytes", "computed")
    assert Objective.named(model.name).direction == "minimize"
    # At 32 pixels the stem takes most: 3x32x32 in, 8x16x16 out.
    assert model(SHALLOW).value == model(UNEVEN).value == 4 * (3 * 32 * 32 + 8 * 16 * 16)


def test_another_peak_is_another_digest() -> None:
    changed = PEAKS | {next(iter(PEAKS)): 10**9}
    assert PeakMemory.of(SPACE, changed).digest != PeakMemory.of(SPACE, PEAKS).digest


def test_an_unknown_peak_is_refused_and_never_zero() -> None:
    key = sorted(PEAKS)[3]
    with pytest.raises(TableError, match="peak_activation_bytes of 1 blocks is unknown") as info:
        PeakMemory.from_table(SPACE, table_with(PEAKS | {key: None}))
    assert key in info.value.message
    assert "hwnas profile" in info.value.hint
    with pytest.raises(CostError, match="the peak memory of block .* is unknown"):
        PeakMemory.of(SPACE, {other: 1 for other in PEAKS if other != key})


def test_codes_that_do_not_fit_are_refused() -> None:
    model = PeakMemory.of(SPACE, PEAKS)
    with pytest.raises(CostError, match="expected"):
        model.batch(CODES[:, :2])
    with pytest.raises(CostError, match="has a code beyond its options"):
        model.batch(np.full_like(CODES[:1], 99))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("darts_small", "does not read what the block before it gives"),
        ("nas_rl_small", "does not read what the block before it gives"),
        ("nasbench201", "is measured by its kernels"),
    ],
)
def test_networks_that_are_no_chain_of_measured_blocks_are_refused(name: str, words: str) -> None:
    with pytest.raises(CostError, match=f"the peak memory of its networks does not follow.*{words}"):
        PeakMemory.from_table(FAMILIES[name].space, table_with(dict(PEAKS)))
