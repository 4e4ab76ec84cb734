from __future__ import annotations

import math
import time

import numpy as np
import pytest

from hwnas.core import CostError, Limit, Metric, SpaceError, TableError
from hwnas.cost import TERMS, Calibration, CostModel, Features, LatencyTable, UnitSumCost
from hwnas.space import Space

from .random_space import all_genotypes
from .toy_space import IDENTITY, SHALLOW, UNEVEN, flat_table, toy_space

ALL_TERMS = Calibration(
    terms=TERMS,
    coefficients=(0.9, 120.0, -5.0, 0.001, 30.0, 12.0),
    n=20,
    loo_mape=0.007,
    band=0.04,
    box={"sum": (3300.0, 25500.0)},
)


@pytest.fixture(scope="module")
def space() -> Space:
    return toy_space()


@pytest.fixture(scope="module")
def latency(space: Space) -> UnitSumCost:
    return UnitSumCost.from_table(space, flat_table(space))


# --------------------------------------------------------------------------------------------------------- by hand


def test_flat_table_by_hand(latency: UnitSumCost) -> None:
    shallow, uneven = latency(SHALLOW), latency(UNEVEN)
    assert shallow.value == pytest.approx(1.0 + 0.9 + 0.9 + 0.5, rel=1e-12)
    assert uneven.value == pytest.approx(1.0 + (0.9 + 3.0) + 1.5 + 0.5, rel=1e-12)
    assert (uneven.unit, uneven.origin) == ("ms", "predicted")
    assert uneven.low == pytest.approx(6.9 * math.exp(-0.05))
    assert uneven.high == pytest.approx(6.9 * math.exp(0.05))
    large = latency.space.canonical({**UNEVEN, "size": 48})
    assert latency(large).value == pytest.approx(1.0 + 2 * (0.9 + 3.0 + 1.5) + 0.5, rel=1e-12)


def test_counts_by_hand(space: Space) -> None:
    macs, parameters = UnitSumCost.count(space, "macs"), UnitSumCost.count(space, "parameters")
    stem, head = 54 * 32 * 32, 72
    first = 8 * 24 * 16**2 + (24 * 9 + 24 * 16) * 8**2
    second = 16 * 48 * 8**2 + (48 * 9 + 48 * 24) * 4**2
    assert macs(SHALLOW) == Metric(stem + first + second + head, "multiply-adds", "computed")
    weights = (8 * 24 + 24 * 9 + 24 * 16) + (16 * 48 + 48 * 9 + 48 * 24)
    assert parameters(SHALLOW) == Metric(216 + 16 + weights + 75, "parameters", "computed")
    assert parameters(space.canonical({**SHALLOW, "size": 48})) == parameters(SHALLOW)


def test_bounds_by_hand(latency: UnitSumCost) -> None:
    value, architecture = latency.smallest()
    assert value == pytest.approx(3.3)
    assert architecture == SHALLOW
    value, architecture = latency.largest()
    assert value == pytest.approx(1.0 + 4 * 6.0 + 0.5)
    assert set(architecture.values()) == {48, 2, 5, 6}


# ------------------------------------------------------------------------------------------------- the whole space


def test_batch_bounds_and_single_agree_on_every_network(space: Space, latency: UnitSumCost) -> None:
    codes = space.encode(space.enumerate())
    assert len(codes) == space.size == 800
    for cost in (latency, UnitSumCost.count(space, "macs"), UnitSumCost.count(space, "parameters")):
        values = cost.batch(codes)
        assert values.dtype == np.float64
        assert [cost(a).value for a in space.decode(codes)] == values.tolist()
        for bound, (value, architecture) in ((values.min(), cost.smallest()), (values.max(), cost.largest())):
            assert value == bound == cost(architecture).value
            assert space.contains(architecture)


def test_a_limit_at_the_smallest_value_can_be_met(latency: UnitSumCost) -> None:
    """O-20: to the bit, or the cheapest network would be refused."""
    value, architecture = latency.smallest()
    assert Limit("latency_ms", at_most=value).violation(latency(architecture).value) == 0


def test_genes_of_unused_layers_do_not_matter(space: Space, latency: UnitSumCost) -> None:
    """O-07."""
    one, other = space.encode([SHALLOW]), space.encode([SHALLOW])
    unused = [i for i, d in enumerate(space.decisions) if d.label.startswith(("s0.b1", "s1.b1"))]
    other[0, unused] = 1
    assert space.decode(space.canonical_codes(other)) == [SHALLOW]
    for cost in (latency, UnitSumCost.count(space, "macs"), UnitSumCost.count(space, "parameters")):
        assert cost.batch(one) == cost.batch(other)


def test_expectation_under_equal_chances(space: Space, latency: UnitSumCost) -> None:
    chances = {d.label: np.full(len(d.options), 1 / len(d.options)) for d in space.decisions}
    mean = latency.batch(all_genotypes(space)).mean()
    assert latency.expectation(chances) == pytest.approx(mean, rel=1e-12)
    by_hand = 1.0 + 0.5 + 3 * (0.1 * 4 * 4.5) * 1.5  # two first blocks, and two second ones half of the time
    assert mean == pytest.approx(by_hand)


def test_tensors_and_constant_are_all_there_is(latency: UnitSumCost) -> None:
    codes = np.maximum(latency.space.encode([UNEVEN]), 0)[0]
    entries = [tensor[tuple(codes[latency.space.index(o)] for o in labels)] for labels, tensor in latency.tensors]
    assert latency.constant + sum(entries) == pytest.approx(6.9)


def test_a_hundred_thousand_encodings_take_a_blink(space: Space, latency: UnitSumCost) -> None:
    codes = space.sample_codes(100_000, np.random.default_rng(0))
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        latency.batch(codes)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.2


# ------------------------------------------------------------------------------------------------------ calibration


def test_every_term_is_folded_into_the_tensors(space: Space) -> None:
    table = flat_table(space, calibration=ALL_TERMS)
    cost = UnitSumCost.from_table(space, table)
    codes = space.encode(space.enumerate())
    expected = Features.of(space, table.rows)(codes) @ np.array(ALL_TERMS.coefficients) / 1000
    np.testing.assert_allclose(cost.batch(codes), expected, rtol=1e-12)


def test_without_calibration_there_is_no_prediction(space: Space) -> None:
    with pytest.raises(TableError, match="flat-table: the table is not calibrated.*hwnas profile"):
        UnitSumCost.from_table(space, flat_table(space, calibration=None))


def test_a_calibration_that_predicts_no_time_is_refused(space: Space) -> None:
    absurd = IDENTITY.model_copy(update={"terms": ("sum", "constant"), "coefficients": (1.0, -4000.0)})
    with pytest.raises(CostError, match=r"predicts -0\.7 ms for .*expected above 0"):
        UnitSumCost.from_table(space, flat_table(space, calibration=absurd))


def test_networks_beyond_the_calibration_are_marked(space: Space) -> None:
    narrow = IDENTITY.model_copy(update={"box": {"sum": (3300.0, 7000.0), "blocks": (4.0, 5.0)}})
    cost = UnitSumCost.from_table(space, flat_table(space, calibration=narrow))
    assert not cost.extrapolated(SHALLOW)  # on the edge
    assert not cost.extrapolated(UNEVEN)
    assert cost.extrapolated(space.canonical({**UNEVEN, "size": 48}))  # too slow
    deep = {"s1.depth": 2, "s1.b1.kernel": 3, "s1.b1.expand": 3, "s0.b1.kernel": 3, "s0.b1.expand": 3}
    assert cost.extrapolated(space.canonical({**SHALLOW, "s0.depth": 2, **deep}))  # fast enough, but six blocks
    assert not UnitSumCost.count(space, "macs").extrapolated(SHALLOW)


# ---------------------------------------------------------------------------------------------------- names, digests


def test_devices_are_told_apart_by_name(space: Space, latency: UnitSumCost) -> None:
    other = UnitSumCost.from_table(space, flat_table(space), device_suffix="pi4")
    assert (latency.name, other.name) == ("latency_ms", "latency_ms@pi4")
    assert latency.digest != other.digest


def test_digest_follows_the_numbers(space: Space, latency: UnitSumCost) -> None:
    assert latency.digest == UnitSumCost.from_table(toy_space(), flat_table(toy_space())).digest
    wider = flat_table(space, calibration=IDENTITY.model_copy(update={"band": 0.06}))
    assert latency.digest != UnitSumCost.from_table(space, wider).digest
    table = flat_table(space)
    key = next(iter(table.rows))
    slower = LatencyTable(table.header, {**table.rows, key: list(table.rows.values())[-1]})
    assert latency.digest != UnitSumCost.from_table(space, slower).digest


def test_it_is_a_cost_model(space: Space, latency: UnitSumCost) -> None:
    models: list[CostModel] = [latency, UnitSumCost.count(space, "macs")]
    assert [(model.name, model.unit, model.origin) for model in models] == [
        ("latency_ms", "ms", "predicted"),
        ("macs", "multiply-adds", "computed"),
    ]


def test_other_networks_are_refused(latency: UnitSumCost) -> None:
    other = toy_space(depths=(1,)).decode(np.zeros((1, 7), dtype=np.int64))[0]
    broken = type(other)({**other, "s0.depth": 3})
    with pytest.raises(SpaceError, match=r"'s0\.depth' has no option 3"):
        latency(broken)
