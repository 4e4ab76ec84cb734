"""Toy201 against its published checksums; the checks of hwnas.testing are tested in test_replay.py."""

import numpy as np
import pytest
from numpy.typing import NDArray

from hwnas.core import Objective
from hwnas.pareto import hypervolume, non_dominated
from hwnas.testing import Toy201Latency, toy201, toy201_accuracy, toy201_network

Table = tuple[NDArray[np.float64], NDArray[np.float64]]

CHECKSUMS = {
    "000000": (10, 1.0),
    "111111": (72.546018, 1.6),
    "222222": (92.842575, 5.2),
    "333333": (93.475346, 12.4),
    "403120": (87.635744, 4.1),
    "332133": (93.922641, 9.4),
    "211112": (91.456102, 2.8),
    "321142": (93.231491, 4.9),
    "322123": (93.771062, 7.0),
    "331133": (93.893627, 8.8),
}


@pytest.fixture(scope="module")
def table() -> Table:
    space = toy201().space
    everything = list(space.enumerate())
    latency = Toy201Latency(space).batch(space.encode(everything))
    return np.array([toy201_accuracy(a) for a in everything]), latency


@pytest.mark.parametrize(("operations", "expected"), CHECKSUMS.items())
def test_checksums(operations: str, expected: tuple[float, float]) -> None:
    network = toy201_network(operations)
    assert 100 * toy201_accuracy(network) == pytest.approx(expected[0], abs=5e-7)
    latency = Toy201Latency(toy201().space)(network)
    assert (latency.value, latency.unit, latency.origin) == (expected[1], "ms", "computed")


def test_the_whole_table(table: Table) -> None:
    accuracy, latency = table
    assert len(accuracy) == toy201().space.size == 15_625
    assert 100 * accuracy.mean() == pytest.approx(85.261074, abs=5e-7)
    assert latency.mean() == pytest.approx(4.72, abs=5e-7)
    assert (accuracy == 0.1).sum() == 341
    assert accuracy.max() == toy201_accuracy(toy201_network("332133"))
    assert (accuracy == accuracy.max()).sum() == 1
    for limit, best in [(3, "211112"), (5, "321142"), (7, "322123"), (9, "331133")]:
        assert accuracy[latency <= limit].max() == toy201_accuracy(toy201_network(best))


def test_the_exact_front(table: Table) -> None:
    accuracy, latency = table
    costs = np.stack([100 - 100 * accuracy, latency], axis=1)
    assert len(non_dominated(costs)) == 43
    assert hypervolume(costs, [90, 12.5]) / (90 * 12.5) == pytest.approx(0.826813, abs=5e-7)


def test_the_bounds_are_the_table_s(table: Table) -> None:
    cost = Toy201Latency(toy201().space)
    for (value, network), end in ((cost.smallest(), table[1].min()), (cost.largest(), table[1].max())):
        assert value == cost(network).value == end


def test_the_objectives() -> None:
    assert toy201().objectives == (Objective.named("accuracy"), Objective.named("latency_ms"))
