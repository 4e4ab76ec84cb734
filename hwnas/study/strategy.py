"""What a search method looks like to the study, and what it is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from hwnas.evaluation.state_file import State

if TYPE_CHECKING:
    from hwnas.study.study import Study

JSON = Any
"""What `json` can write: maps, lists, strings, finite numbers, truth values, None. Tuples come back as lists."""

Epoch = Callable[[int, np.random.Generator], JSON]
"""Trains one epoch. Given its index (from 0, over all calls of the phase) and a generator of its own."""


@dataclass(frozen=True)
class Phase:
    """What a program learns from training.

    Attributes:
        version: Names the weights: the phase and its epochs so far ("supernet@12"). Part of an evaluation's key.
        result: What each epoch of this call returned, in order.
    """

    version: str
    result: list[JSON]


Adapt = Callable[["Study", str, Mapping[str, Sequence[float]], int], str]
"""Trains a study's shared weights on, and returns the new version, made by `Study.train`.

Given are the study, the version in use, how often each option of each decision is to be drawn (shares, in the order of
the options), and the number of epochs.
"""


@dataclass(frozen=True)
class Training:
    """One of several phases that are trained side by side.

    Attributes:
        name: Of the phase.
        state: All that its epochs change; nothing of it may belong to another of them.
        epoch: Trains one epoch. It must draw from its own generator alone, since the global ones are shared, and
            should give up at once when `Study.stopping` says so.
        epochs: How many.
    """

    name: str
    state: State
    epoch: Epoch
    epochs: int = 1


@runtime_checkable
class Strategy(Protocol):
    """A search method: an ordinary program against a study, and a frozen dataclass whose fields are its parameters.

    A resumed run calls the program again from the top and answers from the store what was asked before, so a strategy
    saves no state. Four rules make that work:

    1. Randomness only from `study.rng(name)`, or the generator that `train` and `once` hand over.
    2. Use only what the study returns; never read a module's weights between two steps, only inside `study.once`.
    3. No clock.
    4. No iteration over sets.

    `hwnas.testing.check_replay` finds out whether a strategy keeps them.
    """

    def search(self, study: Study) -> None:
        """Ask the study for evaluations until it raises `BudgetSpent`, or return earlier."""
        ...


@runtime_checkable
class Concluding(Protocol):
    """A strategy that derives its final architectures after the search, from the budget's reserve."""

    def conclude(self, study: Study) -> None:
        """Run after `search` has ended for whatever reason."""
        ...


def in_words(strategy: Mapping[str, object]) -> str:
    """The names in a recipe's table of a strategy.

    Example:
        >>> in_words({"name": "fbnet", "then": {"name": "nsga2"}})
        'fbnet, then nsga2'
    """
    then = strategy.get("then")
    return f"{strategy['name']}, then {in_words(then)}" if isinstance(then, Mapping) else str(strategy["name"])
