"""One strategy after another on one archive, one set of shared weights and one budget."""

from __future__ import annotations

from dataclasses import dataclass

from hwnas.core import RecipeError
from hwnas.study.strategy import Concluding, Strategy
from hwnas.study.study import Study


@dataclass(frozen=True)
class InSequence:
    """A strategy that ends by itself, and one that goes on from what it found until the budget is spent.

    So one run searches by gradient and by evolution: the first trains the weights and derives a network for each of
    its targets, the second starts from these and evaluates more with the same weights.

    Attributes:
        first: Ends by itself, before the budget does.
        then: Takes the best of what is known into its first population.

    Raises:
        RecipeError: If one of them has something to do after the search.

    Example:
        >>> from hwnas.strategies import FBNet, Nsga2
        >>> InSequence(FBNet(targets=4), Nsga2(population=20)).trains_weights
        True
    """

    first: Strategy
    then: Strategy

    def __post_init__(self) -> None:
        for strategy in (self.first, self.then):
            if isinstance(strategy, Concluding):
                raise RecipeError(f"{type(strategy).__name__} concludes after its search, so it can only be run alone")

    @property
    def trains_weights(self) -> bool:
        """Whether the first of them trains the shared weights."""
        return bool(getattr(self.first, "trains_weights", False))

    def search(self, study: Study) -> None:
        """The first to its end, then the other.

        Raises:
            BudgetSpent: If the budget ends.
        """
        self.first.search(study)
        self.then.search(study)
