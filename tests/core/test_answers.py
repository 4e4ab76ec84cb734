"""Standard errors of accuracies against simulation and against textbook formulas; chance; what is stored."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwnas.core import SHARES, Answers, Chance, Gap, share_error


def answers(*classes: str) -> Answers:
    """One string per class: 1 is right, 0 is wrong."""
    return Answers(tuple(map(len, classes)), np.array([letter == "1" for letter in "".join(classes)]))


some = st.lists(st.text("01", min_size=1, max_size=20), min_size=1, max_size=5).map(lambda rows: answers(*rows))


def test_answers_are_sorted_by_class_and_keep_the_order_within() -> None:
    labels = np.array([2, 0, 2, 1, 0])
    found = Answers.of(np.array([2, 0, 0, 1, 1]), labels)
    assert found.counts == (2, 1, 2) and found.right.tolist() == [True, False, True, True, False]
    assert found.accuracy == 0.6 and found.balanced_accuracy == pytest.approx((0.5 + 1 + 0.5) / 3)


@given(some)
def test_what_is_stored_comes_back(one: Answers) -> None:
    assert Answers.from_json(one.to_json()) == one and hash(Answers.from_json(one.to_json())) == hash(one)
    assert len(one.to_json()["right"]) <= math.ceil(len(one.right) / 6) + 3, "bits, not numbers"


@pytest.mark.parametrize("metric", SHARES)
def test_the_standard_error_is_how_far_chance_moves_an_accuracy(metric: str) -> None:
    rng = np.random.default_rng(0)
    counts, shares = (60, 240), (0.6, 0.9)

    def draw() -> Answers:
        return Answers(counts, np.concatenate([rng.random(n) < p for n, p in zip(counts, shares, strict=True)]))

    found = [draw() for _ in range(2000)]
    simulated = np.std([one.value(metric) for one in found])
    # The plain one is that of images drawn whatever their class, which is a little more.
    assert np.mean([one.standard_error(metric) for one in found]) == pytest.approx(simulated, rel=0.06)


@pytest.mark.parametrize("metric", SHARES)
def test_the_error_of_a_pair_is_how_far_chance_moves_their_difference(metric: str) -> None:
    """Two networks that agree on most images: the pair's error is right, that of two samples far too large."""
    rng = np.random.default_rng(1)
    counts = (100, 300)

    def draw() -> tuple[Answers, Answers]:
        easy = rng.random(sum(counts)) < 0.9
        one, other = (np.where(rng.random(sum(counts)) < 0.06, ~easy, easy) for _ in range(2))
        return Answers(counts, one), Answers(counts, other)

    pairs = [draw() for _ in range(2000)]
    gaps = [one.minus(other, metric) for one, other in pairs]
    simulated = np.std([gap.value for gap in gaps])
    assert np.mean([gap.standard_error for gap in gaps]) == pytest.approx(simulated, rel=0.08)
    assert np.mean([one.apart(other, metric).standard_error for one, other in pairs]) > 1.2 * simulated


def test_one_standard_error_of_a_pair_by_hand() -> None:
    one, other = answers("1" * 97 + "0" * 3), answers("0" * 4 + "1" * 96)
    gap = one.minus(other, "accuracy")  # 4 images only the one names rightly, 3 only the other
    assert gap.value == pytest.approx(0.01) and gap.standard_error == pytest.approx(math.sqrt(4 + 3 + 2) / 100)
    assert gap.tied and not gap.sure and str(gap) == "+1.0 +- 3.0 points"
    assert other.minus(one, "error").value == pytest.approx(0.01)


@pytest.mark.parametrize(("only", "tied"), [(0, True), (1, True), (2, True), (3, False)])
def test_two_images_are_no_gain_three_are(only: int, tied: bool) -> None:
    """As McNemar's test with its correction for few images: (3 - 1) / sqrt(3) is above 1, (2 - 1) / sqrt(2) is not."""
    one, other = answers("1" * 100), answers("0" * only + "1" * (100 - only))
    for metric in SHARES:
        assert one.minus(other, metric).tied == tied


def test_classes_of_equal_size_make_balanced_and_plain_the_same() -> None:
    one, other = answers("1110", "0111", "1100"), answers("1010", "0101", "1110")
    plain, balanced = (one.minus(other, metric) for metric in ("accuracy", "balanced_accuracy"))
    assert balanced.value == pytest.approx(plain.value)
    assert balanced.standard_error == pytest.approx(plain.standard_error)


def test_images_must_be_the_same_and_add_up() -> None:
    with pytest.raises(ValueError, match="expected the same images"):
        answers("11").minus(answers("1"), "accuracy")
    for counts, images in (((2,), 3), ((), 0)):
        with pytest.raises(ValueError, match="expected as many, > 0"):
            Answers(counts, np.ones(images, dtype=bool))


def test_a_class_without_images_in_the_part_does_not_count() -> None:
    found = Answers.of(np.array([0, 2, 0]), np.array([0, 2, 2]))
    assert found.counts == (1, 0, 2) and found.balanced_accuracy == 0.75
    assert Chance.of("balanced_accuracy", found.counts).value == 0.5


def test_a_perfect_network_is_not_known_to_be_perfect() -> None:
    assert answers("1" * 50).standard_error("accuracy") > 0.01
    assert share_error(1.0, 50) == answers("1" * 50).standard_error("accuracy")


@pytest.mark.parametrize(
    ("metric", "counts", "value", "dead"),
    [
        ("accuracy", (15,) * 10, 0.089, True),
        ("accuracy", (15,) * 10, 0.14, True),  # 0.1 + 1.6 standard errors
        ("accuracy", (15,) * 10, 0.16, False),
        ("accuracy", (135, 389), 0.75, True),  # naming the larger class always gives 0.742
        ("balanced_accuracy", (135, 389), 0.52, True),
        ("balanced_accuracy", (135, 389), 0.97, False),
        ("balanced_accuracy", (135, 389), 0.1, True),  # worse than chance is no better
    ],
)
def test_chance(metric: str, counts: tuple[int, ...], value: float, dead: bool) -> None:
    assert Chance.of(metric, counts).explains(value) == dead


def test_a_gap_is_sure_from_two_errors_on() -> None:
    assert [Gap(gap, 0.01).sure for gap in (0.019, 0.02, -0.02)] == [False, True, True]
