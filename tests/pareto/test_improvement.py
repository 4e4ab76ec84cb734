import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hwnas.pareto import expected_improvement, hypervolume, hypervolume_share

ONE = np.ones(1)


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 3).flatmap(
        lambda m: st.tuples(
            arrays(np.float64, st.tuples(st.integers(0, 6), st.just(m)), elements=st.integers(0, 9)),
            arrays(np.float64, st.tuples(st.integers(1, 5), st.just(m)), elements=st.integers(0, 9)),
        )
    )
)
def test_a_certain_point_gains_the_volume_it_adds(both: tuple[np.ndarray, np.ndarray]) -> None:
    front, points = both
    reference = np.full(points.shape[1], 8.0)
    gains = expected_improvement(front, reference, points[:, :1], ONE, points[:, 1:])
    before = hypervolume(front, reference)
    for point, gain in zip(points, gains, strict=True):
        assert gain == pytest.approx(hypervolume(np.concatenate([front, point[None]]), reference) - before, abs=1e-9)


def test_what_may_be_is_weighted() -> None:
    rng = np.random.default_rng(0)
    front, known, values = rng.random((5, 3)), rng.random((4, 2)), rng.random((4, 3))
    weights, reference = np.array([0.2, 0.5, 0.3]), np.ones(3)
    each = [expected_improvement(front, reference, values[:, [n]], ONE, known) for n in range(3)]
    assert expected_improvement(front, reference, values, weights, known) == pytest.approx(
        sum(w * e for w, e in zip(weights, each, strict=True))
    )


def test_many_points_are_judged_as_few_are(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    front, known, values = rng.random((6, 3)), rng.random((50, 2)), rng.random((50, 2))
    half, reference = np.array([0.5, 0.5]), np.ones(3)
    whole = expected_improvement(front, reference, values, half, known)
    monkeypatch.setattr("hwnas.pareto.improvement._NUMBERS_AT_ONCE", 100)
    assert expected_improvement(front, reference, values, half, known) == pytest.approx(whole)


def test_the_share_of_a_front_is_one_and_of_less_is_less() -> None:
    truth = np.array([[0.0, 30.0], [2.0, 20.0], [10.0, 10.0]])
    assert hypervolume_share(truth, truth) == pytest.approx(1.0)
    assert 0 < hypervolume_share(truth[:2], truth) < 1
    assert hypervolume_share(truth * [7, 0.1], truth * [7, 0.1]) == pytest.approx(1.0)
    assert hypervolume_share(truth[:2] * [7, 0.1], truth * [7, 0.1]) == pytest.approx(
        hypervolume_share(truth[:2], truth)
    )
    assert hypervolume_share(np.empty((0, 2)), truth) == 0.0
    assert hypervolume_share(truth[:1], truth[:1]) == pytest.approx(1.0), "a front of one point has no range"
    with pytest.raises(ValueError, match="the front has no row"):
        hypervolume_share(truth, truth[:0])


@pytest.mark.parametrize("place", range(4))
def test_numbers_that_are_nan_are_refused(place: int) -> None:
    numbers = [np.ones((1, 2)), np.full(2, 3.0), np.ones((1, 1)), np.ones((1, 1))]
    numbers[place].flat[0] = np.nan
    front, reference, values, known = numbers
    with pytest.raises(ValueError, match="holds a number that is not finite"):
        expected_improvement(front, reference, values, ONE, known)
