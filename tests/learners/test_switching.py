import time

import numpy as np
import pytest
from numpy.typing import NDArray

from hwnas.core import RecipeError
from hwnas.learners import SURROGATES, Switching

Floats = NDArray[np.float64]


def bits(n: int, *, columns: int = 10, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).integers(0, 2, size=(n, columns)).astype(np.float64)


def step(x: Floats) -> Floats:
    """One column that matters, in leaps up and down, among several that do not."""
    y: Floats = np.array([0.0, 8.0, 2.0, 9.0])[np.floor(4 * x[:, 0]).astype(int)] + 0.1 * x[:, 1]
    return y


def smooth(x: Floats) -> Floats:
    return np.sin(3 * x[:, 0]) * np.cos(2 * x[:, 1])


def test_the_winner_has_the_best_mean_minus_deviation() -> None:
    rng = np.random.default_rng(0)
    cases = {
        "linear": (bits(80), bits(80) @ np.arange(10.0)),
        "step": (x := rng.random((80, 6)), step(x)),
        "smooth": (z := rng.random((80, 2)), smooth(z)),
    }
    winners = {}
    for name, (rows, values) in cases.items():
        fitted = Switching().fit(rows, values)
        scores = {kind: np.mean(taus) - np.std(taus) for kind, taus in fitted.taus.items()}
        assert fitted.scores == pytest.approx(scores)
        assert fitted.scores[fitted.winner] == max(fitted.scores.values())
        assert all(len(taus) == 10 for taus in fitted.taus.values())
        winners[name] = fitted.winner
    assert winners["step"] == "trees"
    assert winners["linear"] != "trees" and winners["smooth"] != "trees"


def test_the_winner_is_fitted_on_all_samples() -> None:
    x = bits(60)
    y = x @ np.arange(10.0)
    fitted = Switching(seed=4).fit(x, y)
    alone = SURROGATES[fitted.winner](0).fit(x, y)
    assert fitted.winner == "rbf"
    assert np.array_equal(fitted.predict(x), alone.predict(x))


def test_folds_are_the_samples_each_once_and_follow_the_seed() -> None:
    x, y = bits(40), np.random.default_rng(0).random(40)
    first, again, other = (Switching(("rbf", "gp"), folds=4, seed=seed).fit(x, y) for seed in (0, 0, 1))
    assert first.taus == again.taus
    assert first.taus != other.taus
    assert len(first.taus["rbf"]) == 4


class Recorder:
    """Predicts the first column, and remembers what it was given."""

    def __init__(self) -> None:
        self.fitted: list[list[float]] = []
        self.asked: list[list[float]] = []

    def fit(self, x: Floats, y: Floats) -> "Recorder":
        self.fitted.append(y.tolist())
        return self

    def predict(self, x: Floats) -> Floats:
        self.asked.append(x[:, 0].tolist())
        return x[:, 0]


def test_each_sample_is_left_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder()
    monkeypatch.setitem(SURROGATES, "rbf", lambda _: recorder)
    y = np.arange(23.0)
    fitted = Switching(folds=5, seed=2).fit(np.stack([y, -y], axis=1), y)
    assert fitted.winner == "rbf" and fitted.taus["rbf"] == pytest.approx([1.0] * 5)
    assert sorted(sum(recorder.asked, [])) == y.tolist()
    for fitted_on, asked in zip(recorder.fitted, recorder.asked, strict=False):
        assert sorted(fitted_on + asked) == y.tolist()
    assert recorder.fitted[-1] == y.tolist()  # the last fit is on all samples
    assert len(recorder.fitted) == 6


@pytest.mark.parametrize("n", [2, 3])
def test_too_few_samples_to_compare(n: int) -> None:
    fitted = Switching(("trees", "rbf")).fit(bits(n), np.arange(float(n)))
    assert (fitted.winner, fitted.scores) == ("trees", {})


def test_few_samples_make_fewer_folds() -> None:
    assert len(Switching().fit(bits(9), np.arange(9.0)).taus["gp"]) == 4


def test_one_candidate_needs_no_comparison() -> None:
    assert Switching(("gp",)).fit(bits(30), np.arange(30.0)).taus == {}


def test_a_constant_metric_scores_nothing() -> None:
    fitted = Switching().fit(bits(30), np.ones(30))
    assert fitted.winner == "rbf" and set(fitted.scores.values()) == {0.0}


@pytest.mark.parametrize(
    ("candidates", "folds", "message"),
    [
        ((), 10, "none given; known: rbf, gp, trees, mlp"),
        (("tree",), 10, 'surrogates: "tree" is unknown; did you mean "trees"'),
        (("gp", "gp"), 10, "given twice"),
        (("gp", "rbf"), 1, "1 folds; expected at least 2"),
    ],
)
def test_wrong_settings_are_named(candidates: tuple[str, ...], folds: int, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Switching(candidates, folds=folds)


def test_a_fit_of_the_largest_archive_takes_seconds_not_minutes() -> None:
    codes = np.random.default_rng(0).integers(0, 3, size=(350, 45))
    x = (codes[:, :, None] == np.arange(3)).reshape(350, -1).astype(np.float64)
    start = time.process_time()
    Switching().fit(x, x @ np.random.default_rng(1).normal(size=135))
    assert time.process_time() - start < 20  # about 3 s on an idle core of 2023


def test_a_candidate_that_predicts_nan_never_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its tau would be NaN, and a NaN that comes first is the largest of all."""

    class Broken:
        def fit(self, x: Floats, y: Floats) -> "Broken":
            return self

        def predict(self, x: Floats) -> Floats:
            return np.full(len(x), np.nan)

    monkeypatch.setitem(SURROGATES, "gp", lambda seed: Broken())
    fitted = Switching(("gp", "rbf")).fit(bits(40), bits(40) @ np.arange(10.0))
    assert fitted.winner == "rbf"
    assert fitted.scores["gp"] == -1.0
