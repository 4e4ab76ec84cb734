from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from hwnas.core import Architecture, CostError
from hwnas.cost import TERMS, Features, band, calibrate, choose_terms, fit, score
from hwnas.cost.calibration import RIDGE
from hwnas.space import Space

from .toy_space import SHALLOW, UNEVEN, flat_table, toy_space

Floats = NDArray[np.float64]


def networks(n: int, seed: int) -> tuple[Space, list[Architecture], Floats]:
    space = toy_space()
    codes = np.unique(space.sample_codes(4 * n, np.random.default_rng(seed)), axis=0)
    picked = np.random.default_rng(seed).permutation(len(codes))[:n]
    return space, space.decode(codes[picked]), Features.of(space, flat_table(space).rows)(codes[picked])


def column(name: str) -> int:
    return [str(term) for term in TERMS].index(name)


# --------------------------------------------------------------------------------------------------------- features


def test_features_by_hand() -> None:
    space = toy_space()
    features = Features.of(space, flat_table(space).rows)(space.encode([SHALLOW, UNEVEN]))
    assert TERMS == ("sum", "constant", "blocks", "boundary", "se", "residual")
    stem, head = 3 * 32 * 32 + 8 * 16 * 16, 24 + 3
    first = 8 * 16 * 16 + 16 * 8 * 8
    second = 16 * 8 * 8 + 24 * 4 * 4
    inside = 2 * 16 * 8 * 8
    assert features.tolist() == [
        [3300.0, 1.0, 4.0, stem + first + second + head, 1.0, 0.0],
        [6900.0, 1.0, 5.0, stem + first + inside + second + head, 1.0, 1.0],
    ]


def test_a_block_without_a_time_is_named() -> None:
    space, table = toy_space(), flat_table(toy_space())
    key = list(table.rows)[-1]
    with pytest.raises(CostError, match="has no time") as caught:
        Features.of(space, {k: t for k, t in table.rows.items() if k != key})
    assert repr(key) in caught.value.message


# -------------------------------------------------------------------------------------------------------------- fit


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(5, 25), st.integers(1, 6))
def test_leave_one_out_equals_leaving_one_out(seed: int, n: int, k: int) -> None:
    """Brute force: each network is predicted by normal equations of the others, with the same ridge."""
    rng = np.random.default_rng(seed)
    features = rng.uniform(1, 10, size=(n, k))
    measured = features @ rng.uniform(0.5, 2, size=k) * rng.lognormal(0, 0.05, size=n)
    relative = features / measured[:, None]
    penalty = RIDGE * np.diag((relative**2).sum(axis=0) * (np.arange(k) > 0))
    expected = []
    for i in range(n):
        others = np.delete(relative, i, axis=0)
        coefficients = np.linalg.solve(others.T @ others + penalty, others.sum(axis=0))
        expected.append(features[i] @ coefficients / measured[i])
    result = fit(features, measured)
    np.testing.assert_allclose(result.left_out, expected, rtol=1e-6)
    assert result.loo_mape == pytest.approx(np.abs(np.array(expected) - 1).mean(), rel=1e-6)


def test_the_first_term_is_not_held_back() -> None:
    features = np.array([[10.0], [20.0], [30.0], [50.0], [80.0]])
    assert fit(features, features[:, 0] * 1.3).coefficients.tolist() == pytest.approx([1.3], rel=1e-14)


def test_a_feature_that_no_network_has_gets_no_weight() -> None:
    features = np.stack([np.arange(1.0, 9.0), np.zeros(8)], axis=1)
    assert fit(features, features[:, 0]).coefficients.tolist() == pytest.approx([1.0, 0.0])


def test_relative_errors_count_not_absolute_ones() -> None:
    """Two networks that disagree by 10 % each way pull alike, however slow one is."""
    features = np.array([[100.0], [10_000.0]])
    result = fit(features, np.array([100.0 / 0.9, 10_000.0 / 1.1]))
    assert result.coefficients[0] == pytest.approx((0.9 + 1.1) / (0.9**2 + 1.1**2))


# ------------------------------------------------------------------------------------------------------------ terms


def planted(features: Floats, noise: float, seed: int) -> Floats:
    """T = 60 us + 0.9 sum + 0.02 us per boundary element."""
    exact = 60.0 + 0.9 * features[:, 0] + 0.02 * features[:, column("boundary")]
    return np.asarray(exact * np.random.default_rng(seed).lognormal(0, noise, size=len(exact)), dtype=np.float64)


def test_planted_coefficients_are_recovered() -> None:
    _, _, features = networks(40, seed=1)
    measured = planted(features, noise=0.0, seed=0)
    columns = [0, 1, column("boundary")]
    exact = fit(features[:, columns], measured, ridge=0.0)
    assert exact.coefficients.tolist() == pytest.approx([0.9, 60.0, 0.02], rel=1e-8)
    assert exact.loo_mape < 1e-12
    held_back = fit(features[:, columns], measured)
    assert held_back.coefficients[0] == pytest.approx(0.9, rel=0.01)
    np.testing.assert_allclose(features[:, columns] @ held_back.coefficients, measured, rtol=2e-3)


def test_a_plain_sum_needs_no_further_term() -> None:
    _, _, features = networks(20, seed=2)
    terms, result = choose_terms(features, 1.1 * features[:, 0])
    assert terms == ("sum",)
    assert result.coefficients.tolist() == pytest.approx([1.1], rel=1e-12)


def test_useless_terms_are_passed_over_and_later_useful_ones_found() -> None:
    """SE costs 300 us each here; blocks and boundary say nothing that the sum does not."""
    rng = np.random.default_rng(0)
    n = 40
    features = np.stack(
        [rng.uniform(500, 3000, n), np.ones(n), np.full(n, 6.0), np.full(n, 1e4), rng.integers(0, 4, n), np.zeros(n)],
        axis=1,
    )
    measured = (features[:, 0] + 300 * features[:, 4]) * rng.lognormal(0, 0.003, n)
    terms, result = choose_terms(features, measured)
    assert [term for term in terms if term != "constant"] == ["sum", "se"]
    assert result.coefficients[-1] == pytest.approx(300, rel=0.03)
    assert result.loo_mape < 0.005


def test_noise_alone_rarely_earns_a_term() -> None:
    kept = []
    for seed in range(100):
        _, _, features = networks(20, seed)
        measured = features[:, 0] * np.random.default_rng(seed + 1000).lognormal(0, 0.01, size=20)
        kept.append(len(choose_terms(features, measured)[0]) - 1)
    assert np.mean(kept) < 0.5  # of five that could be kept


def test_more_terms_only_if_they_help() -> None:
    _, _, features = networks(30, seed=5)
    measured = planted(features, noise=0.003, seed=5)
    terms, best = choose_terms(features, measured)
    assert terms[0] == "sum"
    assert [TERMS.index(term) for term in terms] == sorted(TERMS.index(term) for term in terms)
    assert best.loo_mape < 0.95 * fit(features[:, :1], measured).loo_mape


@pytest.mark.parametrize(
    ("n", "change", "words"),
    [
        (4, None, "4 measured networks .*expected at least 5.*measure more networks"),
        (10, np.nan, "not finite, or a time is not above 0"),
        (10, 0.0, "not finite, or a time is not above 0"),
        (10, -1.0, "not finite, or a time is not above 0"),
    ],
)
def test_calibration_refuses(n: int, change: float | None, words: str) -> None:
    _, _, features = networks(n, seed=0)
    measured = features[:, 0].copy()
    if change is not None:
        measured[2] = change
    with pytest.raises(CostError, match=words):
        choose_terms(features, measured)


# ------------------------------------------------------------------------------------------------------------- band


def test_band_is_the_conformal_quantile() -> None:
    errors = np.exp(np.arange(1.0, 20.0) / 100)  # 19 of them: the 18th smallest covers 18 of 20
    assert band(errors) == pytest.approx(0.18)
    assert band(1 / errors) == pytest.approx(0.18)
    assert band(errors, coverage=0.5) == pytest.approx(0.10)
    assert band(errors[:5]) == pytest.approx(0.05)  # too few: the largest


def test_band_needs_predictions_above_zero() -> None:
    with pytest.raises(CostError, match="no time at all"):
        band(np.array([1.0, -0.1]))


def test_band_covers_new_networks() -> None:
    inside = []
    for seed in range(40):
        _, _, features = networks(80, seed)
        measured = planted(features, noise=0.02, seed=seed)
        terms, best = choose_terms(features[:20], measured[:20])
        predicted = features[20:][:, [TERMS.index(term) for term in terms]] @ best.coefficients
        inside.append((np.abs(np.log(predicted / measured[20:])) <= band(best.left_out)).mean())
    assert 0.83 <= np.mean(inside) <= 0.97


# ------------------------------------------------------------------------------------------------------------ score


def test_score_by_hand() -> None:
    result = score([95.0, 108.0, 300.0, 320.0], [100.0, 100.0, 200.0, 400.0])
    assert result.mape == pytest.approx((0.05 + 0.08 + 0.5 + 0.2) / 4)
    assert result.bias == pytest.approx((-0.05 + 0.08 + 0.5 - 0.2) / 4)
    assert (result.within_5, result.within_10, result.n) == (0.25, 0.5, 4)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=2, max_size=12))
def test_tau_counts_pairs(pairs: list[tuple[int, int]]) -> None:
    """Kendall's tau-b, pair by pair."""
    p, m = np.array(pairs, dtype=np.float64).T
    i, j = np.triu_indices(len(p), k=1)
    a, b = np.sign(p[i] - p[j]), np.sign(m[i] - m[j])
    tau = score(p, m).tau
    if (a == 0).all() or (b == 0).all():
        assert tau is None
    else:
        assert tau == pytest.approx((a * b).sum() / np.sqrt((a != 0).sum() * (b != 0).sum()))


@pytest.mark.parametrize(
    ("p", "m"), [([], []), ([1.0], [1.0, 2.0]), ([np.nan], [1.0]), ([1.0], [0.0]), ([1.0], [np.inf])]
)
def test_score_refuses(p: list[float], m: list[float]) -> None:
    with pytest.raises(CostError, match="expected as many, finite and above 0"):
        score(p, m)


# -------------------------------------------------------------------------------------------------------- calibrate


def test_calibrate_a_space() -> None:
    space, architectures, features = networks(40, seed=7)
    measured = planted(features, noise=0.005, seed=7)
    result = calibrate(
        space,
        flat_table(space).rows,
        architectures[:24],
        measured[:24],
        held_out=architectures[24:],
        held_out_us=measured[24:],
    )
    assert result.n == 24
    assert result.loo_mape is not None and result.loo_mape < 0.01
    assert 0 < result.band < 0.03
    assert set(result.box) == set(TERMS) - {"constant"}
    assert result.box["sum"] == (features[:24, 0].min(), features[:24, 0].max())
    assert result.holdout is not None
    assert result.holdout.n == 16
    assert result.holdout.mape < 0.01
    assert abs(result.holdout.bias) < 0.005
    assert result.holdout.tau is not None
    assert result.holdout.tau > 0.97


def test_calibrate_without_held_out_networks_has_no_score() -> None:
    space, architectures, features = networks(12, seed=8)
    result = calibrate(space, flat_table(space).rows, architectures, features[:, 0])
    assert result.holdout is None
    assert result.terms == ("sum",)
    assert result.coefficients == pytest.approx((1.0,))


def test_networks_and_times_must_pair_up() -> None:
    space, architectures, features = networks(12, seed=8)
    with pytest.raises(CostError, match="11 measured networks of the 12 fitted ones"):
        calibrate(space, flat_table(space).rows, architectures, features[:11, 0])
