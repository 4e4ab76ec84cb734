"""Random search: the baseline that every method must beat at an equal budget.

Source: Li and Talwalkar 2019 (UAI), Random Search and Reproducibility for Neural Architecture Search. Draws are uniform
over options, which is not uniform over networks where decisions can be inactive.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from hwnas.study import Study


@dataclass(frozen=True)
class RandomSearch:
    """Evaluates random networks that meet the limits on predicted costs until the budget ends.

    Example:
        >>> from hwnas.core import Budget
        >>> from hwnas.testing import toy201
        >>> outcome = toy201().study(budget=Budget(evaluations=20)).run(RandomSearch())
        >>> len(outcome.evaluations), outcome.reason
        (20, 'the budget of 20 evaluations is spent')
    """

    version: ClassVar[int] = 1

    def search(self, study: Study) -> None:
        """Draw and evaluate, as many at a time as the study keeps in flight."""
        while True:
            study.evaluate(study.sample(study.in_flight))
