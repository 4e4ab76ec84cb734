"""The second kind of latency predictor: kernels measured, whole networks fitted."""

from __future__ import annotations

import numpy as np
import pytest

from hwnas.core import CostError, TableError
from hwnas.cost import Features, UnitSumCost, calibrate, entries_of, terms_of
from hwnas.cost.calibration import share_of
from hwnas.profiling import choose_networks
from hwnas.profiling.networks import CALIBRATION_OF_KERNELS
from hwnas.profiling.profiler import networks_needed
from hwnas.zoo import NasBench201
from tests.cost.toy_space import IDENTITY, flat_table, toy_space
from tests.profiling.models import table_for, timing

OPERATIONS = ("none", "skip_connect", "nor_conv_3x3", "avg_pool_3x3")
FAMILY = NasBench201("cells", channels=1, resolutions=(8,), operations=OPERATIONS, cells=1, width=4)
SPACE = FAMILY.space
ROWS = {key: timing(5.0 + n) for n, key in enumerate(entries_of(SPACE))}


def test_features_are_sums_over_the_kernels_that_run() -> None:
    a = FAMILY.architecture("|nor_conv_3x3~0|+|none~0|none~1|+|skip_connect~0|avg_pool_3x3~1|none~2|")
    features = dict(zip(terms_of(SPACE), Features.of(SPACE, ROWS)(SPACE.encode([a]))[0].tolist(), strict=True))
    kinds = ["add", "avg_pool_3x3", "nor_conv_3x3", "relu"]
    assert {term: value for term, value in features.items() if term.startswith("count:") and value} == {
        f"count:{kind}": 3.0 for kind in kinds
    }, "one cell in each of three stages"
    assert features["constant"] == 1.0
    assert features["kernels"] == 3 * 4 + 4, "and stem, two reductions, head"
    by_hand = sum(ROWS[part.key].p25_us for block in SPACE.blocks_of(a) for part in block.kernels or (block,))
    assert features["sum"] == pytest.approx(by_hand)


def test_planted_costs_of_kernels_are_found_on_networks_that_were_never_fitted() -> None:
    """Each convolution takes 3 us more in a network than alone, each pool 2 us less."""
    networks = choose_networks(SPACE, seed=0, calibration=networks_needed(SPACE))
    assert len(networks.calibration) == CALIBRATION_OF_KERNELS
    features = Features.of(SPACE, ROWS)
    column = {term: n for n, term in enumerate(features.terms)}

    def times(architectures: object) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        x = features(SPACE.encode(architectures))  # type: ignore[arg-type]
        exact = 0.9 * x[:, 0] + 3 * x[:, column["count:nor_conv_3x3"]] - 2 * x[:, column["count:avg_pool_3x3"]]
        return np.asarray(exact * np.random.default_rng(len(x)).lognormal(0, 0.002, len(x)))

    found = calibrate(
        SPACE,
        ROWS,
        networks.calibration,
        times(networks.calibration),
        held_out=networks.held_out,
        held_out_us=times(networks.held_out),
    )
    assert found.kind == "kernels"
    assert found.holdout is not None
    assert found.holdout.mape < 0.005
    assert {one.role for one in found.networks} == {"fitted", "held_out"}
    cost = UnitSumCost.from_table(SPACE, table_for(SPACE, networks.calibration[0], calibration=found, rows=ROWS))
    predicted = cost.batch(SPACE.encode(networks.held_out)) * 1000
    assert np.abs(predicted / times(networks.held_out) - 1).max() < 0.02
    assert cost(networks.held_out[0]).high == pytest.approx(cost(networks.held_out[0]).value * np.exp(found.band))
    assert cost.smallest()[0] == pytest.approx(cost.batch(SPACE.encode(SPACE.enumerate())).min())


def test_no_network_is_held_out_whose_twin_is_fitted() -> None:
    networks = choose_networks(SPACE, seed=1, calibration=60)
    everything = networks.calibration + networks.held_out + networks.reference
    assert len({FAMILY.live_cell(a) for a in everything}) == len(everything) == 60 + 24 + 5


def test_a_kernel_without_a_time_is_named() -> None:
    key = next(key for key in ROWS if key.startswith("relu"))
    with pytest.raises(CostError, match=f"space cells: block '{key}' has no time"):
        Features.of(SPACE, {k: row for k, row in ROWS.items() if k != key})


def test_terms_of_another_kind_of_table_are_refused() -> None:
    space = toy_space()
    wrong = IDENTITY.model_copy(update={"terms": ("sum", "count:relu"), "coefficients": (1.0, 1.0)})
    with pytest.raises(TableError, match=r"the calibration has the terms \['count:relu'\]"):
        UnitSumCost.from_table(space, flat_table(space, calibration=wrong))
    stem = space.units[0].blocks[0]
    assert stem is not None
    assert share_of("count:relu", stem, {}) == 0.0
