"""What every surrogate must do, and closed forms for each."""

import warnings
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.interpolate import RBFInterpolator
from scipy.stats import kendalltau

from hwnas.learners import SURROGATES, GaussianProcess, Mlp, Rbf, Rnn, Surrogate, Trees

Floats = NDArray[np.float64]
Make = Callable[[int], Surrogate]
MAKERS: dict[str, Make] = {**SURROGATES, "rnn": lambda seed: Rnn((3,) * 12, embedding=16, hidden=32, seed=seed)}
every = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())


def one_hot(n: int, *, decisions: int = 12, options: int = 3, seed: int = 0) -> Floats:
    codes = np.random.default_rng(seed).integers(0, options, size=(n, decisions))
    columns: Floats = (codes[:, :, None] == np.arange(options)).reshape(n, -1).astype(np.float64)
    return columns


def linear(x: Floats) -> Floats:
    y: Floats = np.asarray(x @ np.random.default_rng(7).normal(size=x.shape[1]))
    return y


@every
def test_ranks_unseen_networks_of_a_linear_metric(make: Make) -> None:
    train, test = one_hot(120), one_hot(200, seed=1)
    predicted = make(0).fit(train, linear(train)).predict(test)
    assert predicted.shape == (200,)
    assert kendalltau(predicted, linear(test)).statistic > 0.5


@every
def test_same_samples_same_model_to_the_bit(make: Make) -> None:
    train, test = one_hot(60), one_hot(40, seed=1)
    np.random.seed(1)  # noqa: NPY002 - what is tested is that the global generator plays no part
    first = make(3).fit(train, linear(train)).predict(test)
    np.random.seed(2)  # noqa: NPY002
    assert np.array_equal(make(3).fit(train, linear(train)).predict(test), first)


@every
@pytest.mark.parametrize("n", [2, 3, 10])
def test_fewer_samples_than_columns(make: Make, n: int) -> None:
    train = one_hot(n)
    assert np.isfinite(make(0).fit(train, linear(train)).predict(one_hot(20, seed=1))).all()


@every
def test_repeated_samples_constant_columns_and_a_constant_metric(make: Make) -> None:
    train = np.concatenate([one_hot(20), one_hot(20), np.zeros((2, 36))])
    train[:, -1] = 0.0
    noisy = np.concatenate([np.zeros(20), np.ones(22)])  # equal rows with different values
    assert np.isfinite(make(0).fit(train, noisy).predict(train)).all()
    assert make(0).fit(train, np.full(42, 5.0)).predict(train) == pytest.approx(np.full(42, 5.0), abs=0.05)


@every
def test_units_of_the_metric_do_not_matter(make: Make) -> None:
    train, test = one_hot(60), one_hot(40, seed=1)
    share = make(0).fit(train, linear(train)).predict(test)
    percent = make(0).fit(train, 100 * linear(train) + 7).predict(test)
    assert np.corrcoef(percent, share)[0, 1] > 0.99  # not equal: rounding decides between equally good splits
    assert percent.mean() == pytest.approx(100 * share.mean() + 7, abs=0.1 * 100 * share.std())


@every
def test_what_cannot_be_learned_from_is_refused(make: Make) -> None:
    x = one_hot(4)
    with pytest.raises(ValueError, match=r"x has shape \(4, 36\) and y \(3,\)"):
        make(0).fit(x, np.zeros(3))
    with pytest.raises(ValueError, match="1 samples; expected at least 2"):
        make(0).fit(x[:1], np.zeros(1))
    with pytest.raises(ValueError, match="not finite"):
        make(0).fit(x, np.array([0.0, 1.0, np.nan, 2.0]))


@every
def test_no_warning_leaks(make: Make) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make(0).fit(one_hot(30), np.linspace(0, 1, 30) ** 9).predict(one_hot(5))


def test_rbf_is_scipys_where_scipys_is_defined() -> None:
    rng = np.random.default_rng(0)
    x, z = rng.random((30, 3)), rng.random((20, 3))
    y = np.sin(4 * x).sum(axis=1)
    exact = RBFInterpolator(x, y, kernel="cubic", degree=1)(z)
    assert Rbf(smoothing=0.0, ridge=0.0).fit(x, y).predict(z) == pytest.approx(exact, abs=1e-8)
    assert Rbf().fit(x, y).predict(z) == pytest.approx(exact, abs=0.1)


def test_rbf_passes_through_its_samples_without_smoothing() -> None:
    x = one_hot(40)
    y = np.random.default_rng(1).random(40)
    assert Rbf(smoothing=0.0).fit(x, y).predict(x) == pytest.approx(y, abs=1e-6)
    assert np.abs(Rbf(smoothing=1.0).fit(x, y).predict(x) - y).max() > 0.01


def test_gaussian_process_follows_a_line_beyond_its_samples() -> None:
    x = np.linspace(0, 1, 15)[:, None]
    beyond = GaussianProcess(iterations=50).fit(x, 2 * x.ravel()).predict(np.array([[1.5]]))
    assert beyond == pytest.approx([3.0], abs=0.1)


def test_gaussian_process_keeps_climbing_with_more_iterations() -> None:
    x = one_hot(60)
    y = linear(x) ** 2
    likelihood = [GaussianProcess(iterations=n).fit(x, y).regressor.log_marginal_likelihood_value_ for n in (0, 3, 30)]
    assert likelihood[0] < likelihood[1] < likelihood[2]


def test_trees_find_a_step_and_differ_by_seed() -> None:
    x = one_hot(80)
    y = x[:, 0] * x[:, 4]
    trees = Trees(trees=200, columns=1.0, leaf=1).fit(x, y)
    assert trees.predict(x) == pytest.approx(y, abs=1e-12)
    few = [Trees(trees=2, seed=seed).fit(x, y).predict(x) for seed in (0, 1)]
    assert not np.array_equal(few[0], few[1])
    assert len(Trees(trees=3).fit(x, y).forest.estimators_) == 3
    coarse = Trees(leaf=20).fit(x, y).predict(x)
    assert np.abs(coarse - y).max() > 0.1


def test_mlp_uses_its_settings() -> None:
    x = one_hot(40)
    y = linear(x)
    networks = [
        Mlp(hidden=(8,), epochs=5),
        Mlp(hidden=(8,), epochs=6),
        Mlp(hidden=(9,), epochs=5),
        Mlp(hidden=(8,), epochs=5, learning_rate=0.01),
        Mlp(hidden=(8,), epochs=5, weight_decay=10.0),
        Mlp(hidden=(8,), epochs=5, seed=1),
    ]
    assert len({network.fit(x, y).predict(x).tobytes() for network in networks}) == len(networks)
