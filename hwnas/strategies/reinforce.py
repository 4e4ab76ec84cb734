"""REINFORCE: a distribution over every decision moves towards draws that were worth more than those before them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from hwnas.core import Architecture, Option, RecipeError
from hwnas.nn import ArchitectureParameters, HardSample
from hwnas.pareto import directions, standings
from hwnas.space import Space
from hwnas.study import Study

_DRAWS, _TRIES = 16, 8  # of a policy at a time, of which the first within the limits are evaluated; and how often
_SETTLED = 10  # rounds of draws without anything new, after which a policy begins anew
_REMEMBERED = 200  # worths in a baseline; at the default decay the oldest of them counts 1e-9
_TIE = 0.01  # weight of the sum beside the largest, so that of two equal in the largest the better one wins


@dataclass(frozen=True)
class Reinforce:
    """Policies over networks, one for each direction between the objectives, that learn from each network they draw.

    The decisions of a policy are independent. After an evaluation its logits follow the advantage, the worth of the
    network less an average of those before, times the gradient of the network's log-probability; by Adam, one step a
    network. With one objective worth is that objective, scaled by the range seen so far. With several there is a policy
    for each direction: worth is the weighted distance to the best values seen so far (the largest of the objectives',
    scaled by the ranges seen), so that fronts of any shape are reached.

    Differences from the usual form: limits on predicted costs are kept by drawing again, which leaves the gradient
    unbiased as the mean advantage is 0; outside other limits a network is worth less than any inside, by how far
    outside it is. A policy that draws nothing new any more begins anew. Networks are asked for as many at a time as
    the study keeps in flight. What is best is the best seen, never the mode of a policy.

    Source: Williams 1992 (Machine Learning 8, 229-256); independent decisions, Adam and the average as for
    NAS-Bench-201 (arXiv 2001.00326). Directions: Das & Dennis 1998 (SIAM J. Optim. 8(3), 631-657).

    Attributes:
        learning_rate: Of the logits, by Adam.
        decay: Of the average that worths are compared with.
        policies: At most; with several objectives, as many as a lattice of directions has.

    Raises:
        RecipeError: If a parameter is out of its range.

    Example:
        >>> Reinforce(learning_rate=0.5).decay
        0.9
    """

    version: ClassVar[int] = 1

    learning_rate: float = 0.1
    decay: float = 0.9
    policies: int = 5

    def __post_init__(self) -> None:
        if not self.learning_rate > 0 or not 0 <= self.decay < 1 or self.policies < 1:
            raise RecipeError(
                f"reinforce: learning_rate is {self.learning_rate}, decay {self.decay}, policies {self.policies}; "
                "expected above 0, a share below 1, and at least 1"
            )

    def search(self, study: Study) -> None:
        """Draw, evaluate and learn until the budget is spent.

        Raises:
            RecipeError: If there are fewer policies than objectives.
        """
        policies = [_Policy(study.space, weights, self) for weights in self._weights(len(study.objectives))]
        seen: set[Architecture] = set()
        lowest = np.full(len(study.objectives), np.inf)
        highest = -lowest
        for policy in itertools.cycle(policies):
            # A durable step: which networks are drawn hangs on the last bits of probabilities.
            drawn = study.once("networks drawn by a policy", partial(policy.draw, study))
            evaluations = study.evaluate([Architecture(options) for options in drawn])
            networks = [evaluation.architecture for evaluation in evaluations]
            found = standings(evaluations, study.objectives, study.limits)
            if len(found.index):
                lowest = np.minimum(lowest, found.costs.min(axis=0))
                highest = np.maximum(highest, found.costs.max(axis=0))
                for n, costs, violation in zip(found.index.tolist(), found.costs, found.violation, strict=True):
                    policy.learn(networks[n], np.append(costs, violation), lowest, highest)
            policy.settle(new=not seen.issuperset(networks))
            seen.update(networks)

    def _weights(self, objectives: int) -> NDArray[np.float64]:
        if objectives == 1:
            return np.ones((1, 1))
        if self.policies < objectives:
            raise RecipeError(
                f"reinforce: policies is {self.policies}; expected at least {objectives}, one for each objective"
            )
        return directions(objectives, self.policies)


class _Policy:
    """One distribution, and what it learns with."""

    def __init__(self, space: Space, weights: NDArray[np.float64], settings: Reinforce) -> None:
        self.space, self.weights, self.settings = space, weights, settings
        self.sampler = HardSample(space)
        self.begin()

    def begin(self) -> None:
        """Every option is as likely as any other."""
        self.parameters = ArchitectureParameters(self.space)
        logits = list(self.parameters.parameters())  # none where there is nothing to decide
        self.adam = torch.optim.Adam(logits, lr=self.settings.learning_rate) if logits else None
        self.past: list[NDArray[np.float64]] = []
        self.rounds_without_new = 0

    def draw(self, study: Study, rng: np.random.Generator) -> list[dict[str, Option]]:
        """Networks within the limits on predicted costs; where none is likely enough to come up, any such."""
        kept: list[Architecture] = []
        for _ in range(_TRIES):
            with torch.no_grad():
                drawn = self.sampler.sample(self.parameters(), _DRAWS, rng).architectures
            within = study.feasible(self.space.encode(drawn))
            kept += [network for network, ok in zip(drawn, within, strict=True) if ok]
            if len(kept) >= study.in_flight:
                break
        return [dict(network) for network in kept[: study.in_flight] or study.sample(study.in_flight, rng)]

    def learn(
        self,
        network: Architecture,
        costs: NDArray[np.float64],
        lowest: NDArray[np.float64],
        highest: NDArray[np.float64],
    ) -> None:
        """One step by the advantage of a network.

        Args:
            network: That was evaluated.
            costs: Its objectives as costs and its violation of limits, [objectives + 1].
            lowest: Costs seen so far, [objectives].
            highest: Costs seen so far, [objectives].
        """
        self.past = [*self.past[-_REMEMBERED:], costs]
        # All of them by the ranges of today, or a new best network would look like a fall of all that come after it.
        *before, worth = self._worths(np.stack(self.past), lowest, highest).tolist()
        advantage = worth - _average(before, self.settings.decay) if before else 0.0
        if self.adam is None:
            return
        log_prob = self.sampler.known(self.parameters(), [network]).log_probs.sum()
        self.adam.zero_grad()
        (-advantage * log_prob).backward()
        self.adam.step()

    def _worths(
        self, rows: NDArray[np.float64], lowest: NDArray[np.float64], highest: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        costs, violation = rows[:, :-1], rows[:, -1]
        scaled = self.weights * (costs - lowest) / np.where(highest > lowest, highest - lowest, 1.0)
        inside = -scaled.max(axis=1) - _TIE * scaled.sum(axis=1)
        return np.where(violation > 0, -1.0 - _TIE - violation, inside)

    def settle(self, *, new: bool) -> None:
        """Begin anew after rounds in which nothing drawn was new."""
        self.rounds_without_new = 0 if new else self.rounds_without_new + 1
        if self.rounds_without_new == _SETTLED:
            self.begin()


def _average(values: Sequence[float], decay: float) -> float:
    """The running average after the values: it starts at the first, and keeps the share `decay` of itself each time."""
    ages = np.arange(len(values))[::-1]
    weights = (1 - decay) * decay**ages
    weights[0] = decay ** (len(values) - 1)
    return float(weights @ np.asarray(values))
