"""What costs nothing: orders that need no search. A bound that one of them meets is no bound."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from math import comb

import numpy as np
from numpy.typing import NDArray

from hwnas.pareto import non_dominated

Floats = NDArray[np.float64]
Places = NDArray[np.int64]


def layers(costs: Floats) -> list[Places]:
    """Places of rows [n, costs]: the non-dominated ones, then those of what is left, and so on.

    >>> [layer.tolist() for layer in layers(np.array([[2.0, 2.0], [1.0, 1.0], [3.0, 0.5]]))]
    [[1, 2], [0]]
    """
    if costs.shape[1] == 2:
        return _layers_of_two(costs)
    different, which = np.unique(costs, axis=0, return_inverse=True)  # equal rows stay together
    left = np.arange(len(different))
    found = []
    while len(left):
        first = np.zeros(len(left), dtype=bool)
        first[non_dominated(different[left])] = True
        found.append(np.flatnonzero(np.isin(which.ravel(), left[first])))
        left = left[~first]
    return found


def _layers_of_two(costs: Floats) -> list[Places]:
    """By one pass in ascending order of the first cost: a layer is known by the least second cost in it so far.

    A point belongs to the first layer whose least second cost is above its own; equal points stay together.
    """
    least: list[float] = []
    members: list[list[int]] = []
    before, at = (np.nan, np.nan), 0
    for place in np.lexsort((costs[:, 1], costs[:, 0])).tolist():
        point = (float(costs[place, 0]), float(costs[place, 1]))
        if point != before:
            at = bisect_right(least, point[1])
            if at == len(least):
                least.append(point[1])
                members.append([])
            least[at] = point[1]
        members[at].append(place)
        before = point
    return [np.array(layer, dtype=np.int64) for layer in members]


def layer_after_layer(sorted_layers: Sequence[Places], rng: np.random.Generator) -> Places:
    """One order of layers, each in any order: sorting by what was given, where a count stands for accuracy."""
    return np.concatenate([rng.permutation(layer) for layer in sorted_layers])


def largest_first(values: Floats, rng: np.random.Generator) -> Places:
    """Places in descending order of values, equal ones in any order: the most multiply-adds first.

    >>> largest_first(np.array([1.0, 3.0, 2.0]), np.random.default_rng(0)).tolist()
    [1, 2, 0]
    """
    shuffled = rng.permutation(len(values))
    return shuffled[np.argsort(-values[shuffled], kind="stable")]


def found_by_chance(networks: int, best: int, drawn: int) -> float:
    """The chance that so many random draws without repetition hold one of the best networks.

    >>> found_by_chance(10, 1, 5)
    0.5
    """
    return 1 - comb(networks - best, drawn) / comb(networks, drawn)


def draws_until_best(networks: int, best: int) -> float:
    """How many random draws without repetition it takes, on average, until one of the best networks is among them.

    >>> draws_until_best(9, 1)
    5.0
    """
    return (networks + 1) / (best + 1)


def until_best(order: Sequence[int] | Places, best: Sequence[int] | Places) -> int:
    """How many of an order are taken until one of the best is among them.

    >>> until_best([4, 2, 7], [7, 2])
    2
    """
    return int(np.flatnonzero(np.isin(order, best))[0]) + 1
