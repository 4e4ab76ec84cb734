"""Orders without a search, against slower ways to the same."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hwnas.pareto import fronts
from tests.bench.nulls import draws_until_best, found_by_chance, layer_after_layer, layers


@given(
    arrays(
        np.float64,
        st.tuples(st.integers(1, 30), st.integers(2, 3)),
        elements=st.integers(0, 5).map(float),
    )
)
def test_layers_are_those_of_the_sorting_that_searches_use(
    costs: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
) -> None:
    assert [sorted(layer.tolist()) for layer in layers(costs)] == [sorted(layer.tolist()) for layer in fronts(costs)]


def test_an_order_takes_one_layer_after_the_other() -> None:
    found = [np.array([3, 1]), np.array([0]), np.array([2, 4])]
    order = layer_after_layer(found, np.random.default_rng(0)).tolist()
    assert set(order[:2]) == {1, 3} and order[2] == 0 and set(order[3:]) == {2, 4}


@pytest.mark.parametrize("best", [1, 2])
def test_chance_is_that_of_all_orders(best: int) -> None:
    places = [min(order.index(k) for k in range(best)) + 1 for order in permutations(range(5))]
    assert draws_until_best(5, best) == pytest.approx(np.mean(places))
    assert found_by_chance(5, best, 3) == pytest.approx(np.mean([place <= 3 for place in places]))
