"""FBNet: soft draws that harden, their latency from the table as a part of the loss, then networks drawn from it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

from torch import Tensor

from hwnas.core import RecipeError
from hwnas.nn import Concrete, annealed
from hwnas.study import Study
from hwnas.study.relaxed import DAMPING, Alphas, Pull, derive, differentiable_cost, spread_targets, train_distributions
from hwnas.training import Lagrangian, trade_off_log_loss


@dataclass(frozen=True)
class FBNet:
    """Gates are softened draws (Gumbel-softmax) at a temperature that falls; the latency counted is that of the draw.

    `loss = "published"` is the paper's trade-off, CE x scale x (log latency in us)^exponent, once for each of
    `exponents`: where it ends up is not known beforehand. `loss = "target"` prices the latency until the expected one
    meets a target, for each of `targets` between the cheapest network and the limit. At the end networks are drawn from
    the distributions and evaluated, as in the paper. A draw costs more or less than the expected latency; one that
    breaks a limit is drawn again.

    Differences from the paper:

    - The target form is ours. Several distributions learn in turn on one set of shared weights; the paper trains one.
      Its price is that of the distribution's expected latency; the loss counts the latency of the draw, as there.
    - Architecture steps stand between weight steps, one after every `every`; the paper takes an epoch of weight steps
      on 80 % of the data, then one of architecture steps on 20 %. Here the validation part of the data serves them.
    - Defaults are for short runs: 20 epochs and a rate of 0.05 for the logits (90 epochs and 0.01 there).
    - The drawn networks inherit the shared weights, and the recipe's [members] train the best of them further; the
      paper trains each from scratch.

    Source: Wu et al. 2019 (arXiv 1812.03443), sections 3.1 to 3.3.

    Attributes:
        loss: "target" or "published".
        targets: Number of points between the cheapest network and the limit, for "target".
        exponents: beta of the paper, one distribution each, for "published".
        scale: alpha of the paper, for "published".
        epochs: Epochs over the training images, the warm-up included.
        temperature: Temperature of the first epoch.
        last_temperature: Temperature of the last epoch; the paper's 5 exp(-0.045 x 90) is 0.087.
        learning_rate: Rate of the logits, which Adam moves.
        weight_decay: Decay of the logits, which pulls towards uniform.
        warmup: Share of the epochs before the first architecture step, one epoch at least.
        every: Weight steps to an architecture step; 4 are the paper's 80 % and 20 % of the data.
        price_rate: How fast the price of the latency moves, per architecture step at twice the target.
        samples: Networks drawn and evaluated per distribution.

    Raises:
        RecipeError: If a parameter is out of its range.

    Example:
        >>> FBNet(loss="published", exponents=(0.6,)).scale
        0.2
    """

    version: ClassVar[int] = 1
    trains_weights: ClassVar[bool] = True

    loss: Literal["target", "published"] = "target"
    targets: int = 4
    exponents: tuple[float, ...] = (0.6, 2.0)
    scale: float = 0.2
    epochs: int = 20
    temperature: float = 5.0
    last_temperature: float = 0.087
    learning_rate: float = 0.05
    weight_decay: float = 5e-4
    warmup: float = 0.1
    every: int = 4
    price_rate: float = 0.02
    samples: int = 6

    def __post_init__(self) -> None:
        if self.targets < 1 or self.epochs < 1 or self.samples < 1 or self.every < 1:
            raise RecipeError(
                f"fbnet: targets is {self.targets}, epochs {self.epochs}, samples {self.samples}, every {self.every}; "
                "expected at least 1"
            )
        if self.loss == "published" and not self.exponents:
            raise RecipeError('fbnet: loss is "published" and exponents is empty; expected one for each distribution')

    def search(self, study: Study) -> None:
        """Train, then evaluate draws from the distributions.

        Raises:
            RecipeError: If the published loss, which is about latency, meets another cost.
        """
        pulls: list[Pull] = []
        cost = differentiable_cost(study)
        if self.loss == "published":
            if cost.name != "latency_ms":
                raise RecipeError(
                    f'fbnet: loss is "published", which is about latency, and the study predicts {cost.name}',
                    hint='set loss = "target"',
                )
            for exponent in self.exponents:
                pulls.append(Pull(f"exponent {exponent}", partial(_published, self.scale, exponent)))
        else:
            for target in spread_targets(study, cost, self.targets):
                price = Lagrangian(target=target, rate=self.price_rate, damping=DAMPING)
                pulls.append(Pull(f"{target:.4g}", price.loss, price))
        distributions = train_distributions(
            study,
            pulls,
            epochs=self.epochs,
            gates=lambda share, space: Concrete(  # noqa: ARG005 - the type's
                annealed(share, start=self.temperature, end=self.last_temperature)
            ),
            alphas=Alphas(self.learning_rate, (0.9, 0.999), self.weight_decay),
            cost_of=lambda gates: gates,
            warmup=self.warmup,
            every=self.every,
        )
        derive(study, distributions, samples=self.samples, by="draw")


def _published(scale: float, exponent: float, loss: Tensor, expected_ms: Tensor) -> Tensor:
    return trade_off_log_loss(loss, expected_ms, scale=scale, exponent=exponent)
