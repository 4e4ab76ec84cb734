"""How much a search may spend, and what cheap metrics cost of it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hwnas.core.errors import RecipeError


@dataclass(frozen=True)
class Budget:
    """What ends a search. At least one part must be given.

    Attributes:
        evaluations: Distinct networks evaluated at full fidelity; a network asked for again costs nothing. A `Score`
            of a network counts as a share of one.
        minutes: Stored seconds of evaluation and training, as minutes. A run that is resumed counts what was stored,
            not the clock, but two runs under a time budget need not be equal.
        reserve: Share of both parts that only `conclude` may spend.

    Raises:
        RecipeError: If nothing is limited or a part is not above 0.

    Example:
        >>> Budget(evaluations=200).evaluations
        200
    """

    evaluations: int | None = None
    minutes: float | None = None
    reserve: float = 0.1

    def __post_init__(self) -> None:
        if self.evaluations is None and self.minutes is None:
            raise RecipeError("budget: give evaluations, minutes or both; a search without an end is refused")
        for name, value in (("evaluations", self.evaluations), ("minutes", self.minutes)):
            if value is not None and not 0 < value < math.inf:
                raise RecipeError(f"budget: {name} is {value}; it must be above 0 and finite")
        if not 0 <= self.reserve < 1:
            raise RecipeError(f"budget: reserve is {self.reserve}; it must be in 0..1, below 1")


@dataclass(frozen=True)
class Score:
    """A cheap metric of a network, such as its accuracy after a short training, that has a price.

    Attributes:
        name: Of the metric, and the fidelity at which an evaluator is asked for it.
        price: Share of an evaluation at full fidelity, above 0 and below 1.

    Raises:
        RecipeError: If the name is empty or "full", or the price is out of its range.

    Example:
        >>> Score("accuracy@12_epochs", price=12 / 200).price
        0.06
    """

    name: str
    price: float

    def __post_init__(self) -> None:
        if self.name in {"", "full"}:
            raise RecipeError(f'score: name is "{self.name}"; expected the name of a metric other than "full"')
        if not 0 < self.price < 1:
            raise RecipeError(
                f"score {self.name}: price is {self.price}; expected a share of an evaluation, above 0 and below 1"
            )
