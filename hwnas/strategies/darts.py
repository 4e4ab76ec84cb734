"""DARTS: a mixture of all options whose shares are learned by gradient, towards several points of the front at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from hwnas.core import RecipeError
from hwnas.nn import Softmax
from hwnas.study import Study
from hwnas.study.relaxed import DAMPING, Alphas, Pull, derive, differentiable_cost, spread_targets, train_distributions
from hwnas.training import Lagrangian


@dataclass(frozen=True)
class Darts:
    """Every option runs, weighted by its probability; probabilities follow the validation loss, weights the training's.

    Differences from the paper:

    - The cost of a network is part of the objective, at a price that settles where the expected cost meets its target;
      the paper has no cost. Several targets are searched in turn on one set of shared weights.
    - A decision of the space is what has a distribution. In the `darts` space that is a pair of inputs per node and an
      operation per side of the pair: there is no distribution per edge, no operation "none" and no choice of the two
      strongest inputs, as there are in the paper. In `nasbench201` a decision is an edge, as in the paper.
    - Batch norms of the supernet keep their affine parameters; the paper's have none in the search.
    - Networks at the end: the likeliest at the target, the most likely and some likely draws. They inherit the shared
      weights, and the recipe's [members] train them further; the paper trains the most likely network from scratch.
    - Defaults are for short runs: 20 epochs, a rate of 0.05 for the logits and a warm-up (50 epochs, 0.0003 and none
      there). Nothing guards against a collapse to skips.

    Source: Liu et al. 2019 (arXiv 1806.09055), algorithm 1; the price is ours.

    Attributes:
        targets: Number of points between the cheapest network and the limit, each with a distribution of its own.
        epochs: Epochs over the training images, the warm-up included.
        order: 2 looks one weight step ahead, at three times the cost; 1 does not.
        learning_rate: Rate of the logits. Adam moves them with betas (0.5, 0.999).
        weight_decay: Decay of the logits.
        warmup: Share of the epochs before the first architecture step, one epoch at least unless it is 0.
        price_rate: How fast the price of the cost moves, per architecture step at twice the target.
        samples: Networks evaluated per target: the most likely, and the likeliest of some draws.

    Raises:
        RecipeError: If a parameter is out of its range.

    Example:
        >>> Darts(targets=2).order
        1
    """

    version: ClassVar[int] = 1
    trains_weights: ClassVar[bool] = True

    targets: int = 4
    epochs: int = 20
    order: Literal[1, 2] = 1
    learning_rate: float = 0.05
    weight_decay: float = 1e-3
    warmup: float = 0.2
    price_rate: float = 0.05
    samples: int = 4

    def __post_init__(self) -> None:
        if self.targets < 1 or self.epochs < 1 or self.samples < 1:
            raise RecipeError(
                f"darts: targets is {self.targets}, epochs {self.epochs}, samples {self.samples}; expected at least 1"
            )

    def search(self, study: Study) -> None:
        """Train, then evaluate what the distributions stand for."""
        pulls = []
        for target in spread_targets(study, differentiable_cost(study), self.targets):
            price = Lagrangian(target=target, rate=self.price_rate, damping=DAMPING)
            pulls.append(Pull(f"{target:.4g}", price.loss, price))
        distributions = train_distributions(
            study,
            pulls,
            epochs=self.epochs,
            gates=lambda share, space: Softmax(),  # noqa: ARG005 - nothing is annealed
            alphas=Alphas(self.learning_rate, (0.5, 0.999), self.weight_decay),
            warmup=self.warmup,
            second_order=self.order == 2,
        )
        derive(study, distributions, samples=self.samples)
