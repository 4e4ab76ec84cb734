from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, DotProduct, WhiteKernel

from hwnas.learners import RelevanceGp
from hwnas.learners.relevance_gp import _loss, _squared

Floats = NDArray[np.float64]


def samples(n: int = 40, seed: int = 0) -> tuple[Floats, Floats]:
    """Only the first of three groups matters."""
    rng = np.random.default_rng(seed)
    x = rng.random((n, 4))
    return x, np.sin(4 * x[:, 0]) + x[:, 1] ** 2 + 0.01 * rng.normal(size=n)


def test_the_posterior_is_that_of_scikit_learn() -> None:
    x, y = samples()
    model = RelevanceGp((2, 1, 1)).fit(x, y)
    relevance = np.repeat(np.exp(model.parameters[:3]), (2, 1, 1))
    close, linear, noise = np.exp(model.parameters[3:])
    kernel = (
        ConstantKernel(close, "fixed") * RBF(1 / np.sqrt(2 * relevance), "fixed")
        + ConstantKernel(linear, "fixed") * DotProduct(0.0, "fixed")
        + WhiteKernel(noise + 1e-6, "fixed")
    )
    other = GaussianProcessRegressor(kernel, alpha=0.0, optimizer=None).fit(x, (y - y.mean()) / y.std())
    new, _ = samples(20, seed=1)
    mean, deviation = model.posterior(new)
    expected, with_noise = other.predict(new, return_std=True)
    assert mean == pytest.approx(y.mean() + y.std() * expected, abs=1e-6)
    assert deviation**2 == pytest.approx(y.var() * (with_noise**2 - noise - 1e-6), abs=1e-6)
    assert model.predict(new).tolist() == mean.tolist()


def test_the_gradient_is_that_of_differences() -> None:
    x, y = samples(12)
    squares = np.stack([_squared(x[:, :2], x[:, :2]), _squared(x[:, 2:], x[:, 2:])])
    theta = np.array([0.3, -0.5, 0.2, -1.0, -2.0])
    centre, width = np.zeros(5), np.full(5, 2.0)

    def loss(at: Floats) -> float:
        return _loss(at, squares, x @ x.T, y, centre, width)[0]

    gradient = _loss(theta, squares, x @ x.T, y, centre, width)[1]
    for n in range(5):
        step = np.eye(5)[n] * 1e-6
        assert gradient[n] == pytest.approx((loss(theta + step) - loss(theta - step)) / 2e-6, rel=1e-4, abs=1e-6)


def test_groups_of_no_effect_are_found_out() -> None:
    x, y = samples(80)
    parameters = RelevanceGp((2, 1, 1), iterations=50).fit(x, y).parameters
    assert parameters[0] > parameters[1] + 2 and parameters[0] > parameters[2] + 2


def test_a_fit_goes_on_from_an_earlier_one() -> None:
    x, y = samples()
    whole = RelevanceGp((2, 1, 1), iterations=60).fit(x, y)
    again = RelevanceGp((2, 1, 1), iterations=0).fit(x, y, start=whole.parameters.tolist())
    assert again.parameters.tolist() == whole.parameters.tolist()
    assert again.predict(x).tolist() == whole.predict(x).tolist()


def test_what_is_told_is_believed_as_by_a_model_that_had_it_from_the_start() -> None:
    x, y = samples()
    model = RelevanceGp((2, 1, 1)).fit(x, y)
    rows = np.random.default_rng(1).uniform(0, 1, (6, 4))
    belief = model.belief(rows)
    assert (belief.mean.tolist(), belief.deviation.tolist()) == tuple(part.tolist() for part in model.posterior(rows))
    told = belief.told(4).of(np.array([0, 1, 2, 5])).told(1)
    of_both = np.concatenate([x, rows[[4, 1]]]), np.concatenate([y, belief.mean[[4, 1]]])
    mean, deviation = replace(model, x=of_both[0], y=of_both[1]).posterior(rows[[0, 1, 2, 5]])
    assert told.mean == pytest.approx(mean, abs=1e-6)
    assert told.deviation == pytest.approx(deviation, abs=1e-6)
    assert (told.deviation < belief.deviation[[0, 1, 2, 5]]).all()


def test_only_the_newest_samples_decide_the_hyper_parameters() -> None:
    x, y = samples(60)
    few = RelevanceGp((2, 1, 1), most=20).fit(x, y)
    other_y = y.copy()
    other_y[:40] = y[:40][::-1]  # the same mean and deviation
    assert RelevanceGp((2, 1, 1), most=20).fit(x, other_y).parameters == pytest.approx(few.parameters)
    assert RelevanceGp((2, 1, 1)).fit(x, other_y).parameters != pytest.approx(few.parameters)


def test_columns_and_groups_must_fit() -> None:
    x, y = samples()
    with pytest.raises(ValueError, match=r"x has 4 columns; its groups \(2, 1\) are others"):
        RelevanceGp((2, 1)).fit(x, y)
    with pytest.raises(ValueError, match="not finite"):
        RelevanceGp((4,)).fit(x, np.full_like(y, np.nan))


def test_equal_values_are_no_fault() -> None:
    x, _ = samples()
    assert RelevanceGp((4,)).fit(x, np.ones(len(x))).predict(x) == pytest.approx(np.ones(len(x)))
