"""How sure an accuracy is: which images a network names rightly, and how far chance alone moves two accuracies apart.

All formulas are the usual ones of shares, with one image named rightly and one wrongly added, spread over the classes:
a network without a single mistake on 50 images is not known to make none on the next 50.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

TIE_ERRORS = 1.0
"""Two accuracies whose difference is at most so many standard errors are tied, and of ties the cheaper is taken.

The rule of one standard error (Breiman et al. 1984, Classification and Regression Trees, section 3.4.3): the simplest
model within one standard error of the best. More would let the cheapest win wherever images are few.
"""

SURE_ERRORS = 2.0
"""A difference of at least so many standard errors is stated as one: about 1 in 20 arises from chance alone."""

SHARES = ("accuracy", "balanced_accuracy", "error")
"""Metrics that are shares of images."""


@dataclass(frozen=True)
class Gap:
    """The difference of two accuracies.

    Attributes:
        value: The first minus the second, in -1..1.
        standard_error: Of the difference.

    Example:
        >>> Gap(0.0014, 0.008).tied, Gap(0.1, 0.016).sure, str(Gap(0.0014, 0.008))
        (True, True, '+0.1 +- 0.8 points')
    """

    value: float
    standard_error: float

    @property
    def margin(self) -> float:
        """The largest difference that is a tie; see `TIE_ERRORS`. A last bit more, so that equal on paper is equal."""
        return TIE_ERRORS * self.standard_error * (1 + 1e-9)

    @property
    def tied(self) -> bool:
        """Whether chance alone explains it."""
        return abs(self.value) <= self.margin

    @property
    def sure(self) -> bool:
        """Whether chance alone hardly explains it; see `SURE_ERRORS`."""
        return abs(self.value) >= SURE_ERRORS * self.standard_error

    def __str__(self) -> str:
        return f"{100 * self.value:+.1f} +- {100 * self.standard_error:.1f} points"


@dataclass(frozen=True)
class Answers:
    """Which images of a part a network names rightly.

    Attributes:
        counts: Images of each class that the part has, in the order of the classes.
        right: [images], bool: class after class, within a class in the part's order.

    Raises:
        ValueError: If the counts do not add up to the images, or there is no image.

    Example:
        >>> answers = Answers.of(np.array([1, 0, 1, 1]), np.array([1, 0, 0, 1]))
        >>> answers.counts, answers.accuracy, answers.balanced_accuracy
        ((2, 2), 0.75, 0.75)
        >>> Answers.from_json(answers.to_json()) == answers
        True
    """

    counts: tuple[int, ...]
    right: NDArray[np.bool_]

    def __post_init__(self) -> None:
        if sum(self.counts) != len(self.right) or not len(self.right):
            raise ValueError(
                f"answers: {len(self.right)} images, classes of {list(self.counts)}; expected as many, > 0"
            )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Answers):
            return NotImplemented
        return self.counts == other.counts and bool(np.array_equal(self.right, other.right))

    def __hash__(self) -> int:
        return hash((self.counts, self.right.tobytes()))

    @classmethod
    def of(cls, found: NDArray[np.int64], labels: NDArray[np.int64]) -> Answers:
        """From the classes that a network named and the true ones, both [images]."""
        order = np.argsort(labels, kind="stable")
        return cls(tuple(np.bincount(labels).tolist()), (found == labels)[order])

    @property
    def accuracy(self) -> float:
        """The share of images named rightly."""
        return float(self.right.mean())

    @property
    def balanced_accuracy(self) -> float:
        """The mean over the classes that occur of that share."""
        shares = [float(part.mean()) for part in self._by_class()]
        return sum(shares) / len(shares)

    def value(self, metric: str) -> float:
        """One of `SHARES`."""
        return {"accuracy": self.accuracy, "balanced_accuracy": self.balanced_accuracy, "error": 1 - self.accuracy}[
            metric
        ]

    def standard_error(self, metric: str) -> float:
        """Of one of `SHARES` as an estimate for images not seen.

        Example:
            >>> half = Answers((50, 50), np.arange(100) % 2 == 0)
            >>> round(half.standard_error("accuracy"), 3), round(half.standard_error("balanced_accuracy"), 3)
            (0.05, 0.05)
        """
        parts, added = self._parts(metric)
        return _root([_variance(int(part.sum()), len(part), added) for part in parts])

    def minus(self, other: Answers, metric: str) -> Gap:
        """The difference to another network on the same images, with the standard error of the pair.

        Images that both name rightly, or both wrongly, say nothing of the difference (McNemar 1947, Psychometrika 12):
        with b images that only this network names rightly and c that only the other does, the difference is (b - c) / n
        and its standard error sqrt(b + c) / n, if both are equally good. For balanced accuracy the same per class. One
        image is added to b and one to c.

        Args:
            other: On the same images.
            metric: One of `SHARES`.

        Raises:
            ValueError: If the images are others.

        Example:
            >>> one = Answers((100,), np.arange(100) < 97)
            >>> other = Answers((100,), np.arange(100) >= 4)
            >>> str(one.minus(other, "accuracy"))
            '+1.0 +- 3.0 points'
        """
        if self.counts != other.counts:
            raise ValueError(f"answers on classes of {self.counts} and of {other.counts}; expected the same images")
        mine, added = self._parts(metric)
        theirs, _ = other._parts(metric)
        error = _root([(int((a != b).sum()) + 2 * added) / len(a) ** 2 for a, b in zip(mine, theirs, strict=True)])
        return Gap(self.value(metric) - other.value(metric), error)

    def apart(self, other: Answers, metric: str) -> Gap:
        """The difference to answers on other images, with the standard error of two independent samples."""
        error = math.hypot(self.standard_error(metric), other.standard_error(metric))
        return Gap(self.value(metric) - other.value(metric), error)

    def chance(self, metric: str) -> Chance:
        """What a network that does not look at the image gets on this part."""
        return Chance.of(metric, self.counts)

    def to_json(self) -> dict[str, Any]:
        """A plain map; the answers as bits in base64."""
        return {
            "counts": list(self.counts),
            "right": base64.b64encode(np.packbits(self.right).tobytes()).decode("ascii"),
        }

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Answers:
        """The answers that `to_json` wrote."""
        bits = np.unpackbits(np.frombuffer(base64.b64decode(row["right"]), dtype=np.uint8))
        return cls(tuple(row["counts"]), bits[: sum(row["counts"])].astype(bool))

    def _by_class(self) -> list[NDArray[np.bool_]]:
        return [part for part in np.split(self.right, np.cumsum(self.counts)[:-1]) if len(part)]

    def _parts(self, metric: str) -> tuple[list[NDArray[np.bool_]], float]:
        """What is averaged with equal weights, and how many images are added to each part."""
        if metric != "balanced_accuracy":
            return [self.right], 1.0
        parts = self._by_class()
        return parts, 1.0 / len(parts)


@dataclass(frozen=True)
class Chance:
    """What guessing gets.

    Attributes:
        value: For balanced accuracy 1 / classes; for accuracy the share of the largest class, which is named always.
        standard_error: Of the accuracy of a guesser on so many images.

    Example:
        >>> chance = Chance.of("accuracy", (15,) * 10)
        >>> chance.value, chance.explains(0.089), chance.explains(0.2)
        (0.1, True, False)
        >>> round(Chance.of("accuracy", (135, 389)).value, 3), Chance.of("balanced_accuracy", (135, 389)).value
        (0.742, 0.5)
    """

    value: float
    standard_error: float

    @classmethod
    def of(cls, metric: str, counts: Sequence[int]) -> Chance:
        """On a part with so many images of each class; for an error it is that of the accuracy."""
        there = [count for count in counts if count]
        if metric == "balanced_accuracy":
            share = 1 / len(there)
            return cls(share, _root([share * (1 - share) / count for count in there]))
        share = max(there) / sum(there)
        error = math.sqrt(share * (1 - share) / sum(there))
        return cls(share, error)

    def explains(self, accuracy: float) -> bool:
        """Whether an accuracy is no surer than a guesser's; see `SURE_ERRORS`."""
        return not accuracy - self.value >= SURE_ERRORS * self.standard_error  # NaN is no better either


def share_error(share: float, images: int) -> float:
    """The standard error of a share of images where only their number is known.

    Example:
        >>> round(share_error(0.5, 100), 3), round(share_error(1.0, 100), 4)
        (0.05, 0.0099)
    """
    return math.sqrt(_variance(share * images, images, 1.0))


def _variance(right: float, images: int, added: float) -> float:
    share = (right + added) / (images + 2 * added)
    return share * (1 - share) / images


def _root(variances: Sequence[float]) -> float:
    """The standard error of a mean of independent parts."""
    return math.sqrt(sum(variances)) / len(variances)
