"""What is the recurrent network's own; what every surrogate must do is in test_surrogates.py."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import kendalltau

from hwnas.core import RecipeError
from hwnas.learners import SURROGATES, Rnn
from hwnas.space import Condition, Decision, Space

SPACE = Space(
    "chain",
    (
        Decision("depth", (1, 2)),
        Decision("a1", (3, 5, 7)),
        Decision("a2", (3, 5, 7), ((Condition("depth", (2,)),),)),
        Decision("e", ("x", "y")),
    ),
)


def samples(n: int, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    codes = SPACE.sample_codes(n, np.random.default_rng(seed))
    y = codes @ np.array([3.0, 2.0, 1.0, 0.5]) + (codes[:, 1] == codes[:, 2])
    return SPACE.one_hot(codes), y


def test_the_order_in_which_options_stand_is_read() -> None:
    """The same options in another order are another sentence: with shared vectors only the LSTM can tell them apart."""
    codes = np.array([[i, j] for i in range(3) for j in range(3)])
    x = (codes[:, :, None] == np.arange(3)).reshape(9, 6).astype(np.float64)
    y = codes @ np.array([3.0, -1.0])
    model = Rnn((3, 3), (0, 0), embedding=8, hidden=16, learning_rate=0.03).fit(x, y)
    assert kendalltau(model.predict(x), y).statistic > 0.9


def test_decisions_with_the_same_options_share_their_vectors() -> None:
    assert (Rnn.of(SPACE).widths, Rnn.of(SPACE).tables) == ((2, 3, 3, 2), (0, 1, 1, 2))
    x, y = samples(20)
    shared = Rnn.of(SPACE, embedding=4, hidden=8, steps=1).fit(x, y).reader
    own = Rnn((2, 3, 3, 2), embedding=4, hidden=8, steps=1).fit(x, y).reader
    count = [sum(p.numel() for p in reader.parameters()) for reader in (shared, own)]
    assert count[1] - count[0] == 3 * 4


def test_its_parameters_are_the_closed_form_of_an_lstm() -> None:
    x, y = samples(20)
    reader = Rnn.of(SPACE, embedding=5, hidden=7, steps=1).fit(x, y).reader
    assert sum(p.numel() for p in reader.parameters()) == (2 + 3 + 2) * 5 + 4 * 7 * (5 + 7 + 2) + 7 + 1


def test_it_ranks_what_it_has_not_seen_and_every_setting_counts() -> None:
    (x, y), (z, truth) = samples(60), samples(60, seed=1)
    plain = Rnn.of(SPACE, embedding=8, hidden=8, steps=40)
    assert kendalltau(plain.fit(x, y).predict(z), truth).statistic > 0.6
    others = [
        plain,
        Rnn.of(SPACE, embedding=9, hidden=8, steps=40),
        Rnn.of(SPACE, embedding=8, hidden=9, steps=40),
        Rnn.of(SPACE, embedding=8, hidden=8, steps=41),
        Rnn.of(SPACE, embedding=8, hidden=8, steps=40, seed=1),
        Rnn(plain.widths, plain.tables, 8, 8, 40, batch_size=10),
        Rnn(plain.widths, plain.tables, 8, 8, 40, learning_rate=0.01),
        Rnn(plain.widths, plain.tables, 8, 8, 40, weight_decay=0.1),
        Rnn(plain.widths, (), 8, 8, 40),
    ]
    assert len({other.fit(x, y).predict(z).tobytes() for other in others}) == len(others)


def test_torchs_generator_goes_on_as_if_nothing_had_been_fitted() -> None:
    x, y = samples(10)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    Rnn.of(SPACE, embedding=4, hidden=4, steps=2).fit(x, y)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("rows", [0, 1, 5000])
def test_any_number_of_rows_is_predicted(rows: int) -> None:
    x, y = samples(10)
    model = Rnn.of(SPACE, embedding=4, hidden=4, steps=2).fit(x, y)
    assert model.predict(np.resize(x, (rows, x.shape[1]))).shape == (rows,)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Rnn(()), "widths are .. and tables"),
        (lambda: Rnn((3, 0)), r"widths are \[3, 0\]"),
        (lambda: Rnn((3, 2), (0, 0)), r"tables \[0, 0\]; expected a width above 0"),
        (lambda: Rnn((3, 2), (0,)), r"tables \[0\]"),
        (lambda: Rnn((3,), hidden=0), "hidden is 0; expected at least 1"),
        (lambda: Rnn((3,), steps=0), "steps is 0"),
        (lambda: Rnn((3,), learning_rate=0.0), "learning_rate is 0.0"),
    ],
)
def test_impossible_settings_are_named(make: object, words: str) -> None:
    assert callable(make)
    with pytest.raises(RecipeError, match=words):
        make()


def test_columns_of_another_space_are_refused() -> None:
    with pytest.raises(ValueError, match="x has 10 columns; expected 9"):
        Rnn((3, 6)).fit(np.eye(10), np.arange(10.0))


def test_it_is_no_candidate_of_switching_which_knows_no_decisions() -> None:
    assert "rnn" not in SURROGATES
