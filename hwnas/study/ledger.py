"""What a search has spent, counted so that a replayed program arrives at the same numbers."""

from __future__ import annotations

import math

from hwnas.core import Budget, counted


class Ledger:
    """Evaluations and stored seconds, against a budget. No clock: what is charged comes from the store on replay.

    Args:
        budget: What may be spent in all.

    Example:
        >>> ledger = Ledger(Budget(evaluations=10))
        >>> ledger.open(keep_reserve=True)
        >>> ledger.evaluations_left
        9
    """

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.evaluations = 0
        self.on_scores: float = 0
        self.seconds = 0.0
        self._evaluations_allowed: float = math.inf
        self._seconds_allowed = math.inf
        self.open(keep_reserve=False)

    def open(self, *, keep_reserve: bool) -> None:
        """Allow the whole budget, or what the reserve leaves of it (at least one evaluation)."""
        reserve = self.budget.reserve if keep_reserve else 0.0
        if self.budget.evaluations is not None:
            # Rounded first: 30 * 0.1 must not become 4 by its last bit.
            kept = math.ceil(round(self.budget.evaluations * reserve, 9))
            self._evaluations_allowed = max(1, self.budget.evaluations - kept)
        if self.budget.minutes is not None:
            self._seconds_allowed = 60 * self.budget.minutes * (1 - reserve)

    def open_without_end(self) -> None:
        """Allow everything: the search is over, what comes now is counted only."""
        self._evaluations_allowed = self._seconds_allowed = math.inf

    def charge(self, price: float) -> None:
        """Count an evaluation (price 1), or a score, which costs a share of one."""
        if price == 1:
            self.evaluations += 1
        else:  # rounded: 50 scores at 0.06 are 3, without a last bit
            self.on_scores = round(self.on_scores + price, 9)

    @property
    def spent(self) -> float:
        """Evaluations at full fidelity, and the shares of one that scores cost."""
        return self.evaluations + self.on_scores

    @property
    def evaluations_left(self) -> float:
        """How many more evaluations at full fidelity fit, shares included; infinite without a limit."""
        return max(0, round(self._evaluations_allowed - self.spent, 9))

    def evaluations_text(self) -> str:
        """What to say when no more evaluation fits."""
        total, allowed = self.budget.evaluations, self._evaluations_allowed
        rest = f" (of {total:,}; the rest is for the conclusion)" if total != allowed else ""
        scores = f", {self.on_scores:.6g} of it on scores" if self.on_scores else ""
        return f"the budget of {counted(int(allowed), 'evaluation')} is spent{rest}{scores}"

    def refuse_time(self) -> str:
        """Why nothing more may be computed; empty if something may."""
        if self.seconds < self._seconds_allowed:
            return ""
        minutes = self._seconds_allowed / 60
        return f"the budget of {minutes:.4g} minutes is spent ({self.seconds / 60:.4g} used)"
