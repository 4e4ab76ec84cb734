"""ProxylessNAS: one option runs, drawn by its probability; binary gates carry the gradients of loss and latency."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

from torch import Tensor

from hwnas.core import RecipeError
from hwnas.nn import BinaryGate, GateMaker, HardSample, TwoPath, rescale_pairs
from hwnas.study import Study
from hwnas.study.relaxed import DAMPING, Alphas, Pull, derive, differentiable_cost, spread_targets, train_distributions
from hwnas.training import Lagrangian, trade_off_linear_loss, trade_off_log_ratio_loss

_EVERY = 5
"""Weight steps to an architecture step in the release, whose runs have 36,000 architecture steps."""

_ENOUGH = 400
"""Architecture steps that a distribution needs: at the default rate a logit can move by 20 in so many."""


def _linear(target: float, weight: float, loss: Tensor, expected: Tensor) -> Tensor:
    return trade_off_linear_loss(loss, expected, target=target, weight=weight)


def _product(target: float, exponent: float, error: Tensor, cost: Tensor) -> Tensor:
    return -(1.0 - error) * (target / cost) ** exponent


_MS_TO_US = math.log(80_000) / math.log(80)
"""What an exponent on a logarithm of microseconds is to one of milliseconds, at the release's reference of 80 ms.

The release prices (log latency in ms / log 80)^weight, which has no meaning below 1 ms. A relative change of latency
moves the loss by weight / log(latency), so at 80 ms the exponent 2.58 x weight on microseconds has the same price."""


def _log_ratio(target: float, weight: float, loss: Tensor, expected: Tensor) -> Tensor:
    return trade_off_log_ratio_loss(loss, expected, target_ms=target, exponent=_MS_TO_US * weight)


_FORMS = {"add_linear": _linear, "mul_log": _log_ratio, "product": _product}


@dataclass(frozen=True)
class ProxylessNas:
    """Weight steps run one network that is drawn; architecture steps two options per decision, all, or drawn networks.

    `update = "gradient"` carries the gradient of the validation loss through binary gates. `update = "reinforce"`, the
    form that the paper's main results come from, scores whole networks that were drawn by accuracy and latency, so
    that nothing has to be differentiable; `loss = "product"`, accuracy times a power of target over latency, is the
    authors' there, once for each of `weights`.

    `loss = "add_linear"` and "mul_log" are the two of the authors' release, trade-offs both, once for each of
    `weights`: the target in them only rescales. `loss = "target"` prices the latency until the expected one meets a
    target, for each of `targets` between the cheapest network and the limit.

    Differences from the paper and its release:

    - The target form is ours. Several distributions learn in turn on one set of shared weights; the paper trains one.
    - "mul_log" takes the logarithm of microseconds, as networks for small images need less than 1 ms. Its exponent is
      the given weight times 2.58, so that the price at the release's reference of 80 ms is that of the release.
      The constant factor of the release's loss (0.2) is left out, since Adam does not see it.
    - Expected latency comes from all options; the release's two-path step takes that of the drawn pair.
    - A step in which the zero operation was drawn moves that decision too; the release skips it.
    - The baseline of "reinforce" with "product" is the one of earlier steps; the release lets a step's own rewards
      enter first. With "target", where the price moves from step to step, it is the mean of the step.
    - Networks at the end: the likeliest at the target, the most likely and some likely draws; the release takes the
      most likely. They inherit the shared weights, and the recipe's [members] train them further; the release trains
      anew.
    - Defaults are for short runs: 20 epochs and a rate of 0.05 for the logits (120 epochs and 0.001 there).

    Source: Cai et al. 2019 (arXiv 1812.00332), sections 3.2 and 3.3, and their released code for the losses.

    Attributes:
        update: "gradient" or "reinforce".
        paths: "two" options per decision in an architecture step by gradient, or "all".
        networks: Networks drawn and scored in an architecture step by reinforce.
        loss: "target"; by gradient also "add_linear" and "mul_log", by reinforce "product".
        targets: Number of points between the cheapest network and the limit, for "target".
        weights: lambda of "add_linear", or exponent of "mul_log" and "product"; one distribution each.
        epochs: Epochs over the training images, the warm-up included.
        learning_rate: Rate of the logits. Adam moves them with betas (0, 0.999), as most have no gradient in a step.
        warmup: Share of the epochs before the first architecture step, one epoch at least; the weights learn from
            uniform draws. The release has 40 of 160 epochs in all.
        every: Weight steps of a distribution to one of its architecture steps. None stands for the release's 5 in a run
            long enough for 400 architecture steps of each distribution, and for fewer in a shorter one.
        baseline_momentum: Share of the old baseline that is kept at each step, for "product"; 0.01 in the release.
        price_rate: How fast the price of the latency moves, per architecture step at twice the target.
        samples: Networks evaluated per distribution: the most likely, and the likeliest of some draws.

    Raises:
        RecipeError: If a parameter is out of its range.

    Example:
        >>> ProxylessNas(loss="add_linear", weights=(0.1, 0.5)).paths
        'two'
    """

    version: ClassVar[int] = 1
    trains_weights: ClassVar[bool] = True

    update: Literal["gradient", "reinforce"] = "gradient"
    paths: Literal["two", "all"] = "two"
    networks: int = 10
    loss: Literal["target", "add_linear", "mul_log", "product"] = "target"
    targets: int = 4
    weights: tuple[float, ...] = (0.1, 0.5)
    epochs: int = 20
    learning_rate: float = 0.05
    warmup: float = 0.25
    every: int | None = None
    baseline_momentum: float = 0.01
    price_rate: float = 0.02
    samples: int = 4

    def __post_init__(self) -> None:
        if self.targets < 1 or self.epochs < 1 or self.samples < 1 or (self.every is not None and self.every < 1):
            raise RecipeError(
                f"proxyless_nas: targets is {self.targets}, epochs {self.epochs}, samples {self.samples}, every "
                f"{self.every}; expected at least 1"
            )
        losses = ("target", "product") if self.update == "reinforce" else ("target", "add_linear", "mul_log")
        if self.loss not in losses:
            raise RecipeError(
                f'proxyless_nas: loss is "{self.loss}" and update "{self.update}", which goes with {", ".join(losses)}'
            )
        if self.networks < 2:
            raise RecipeError(
                f"proxyless_nas: networks is {self.networks}; expected at least 2, which are compared with each other"
            )
        if self.loss != "target" and not self.weights:
            raise RecipeError(f'proxyless_nas: loss is "{self.loss}" and weights is empty; expected one or more')

    def search(self, study: Study) -> None:
        """Train, then evaluate what the distributions stand for."""
        cost = differentiable_cost(study)
        pulls: list[Pull] = []
        middle = spread_targets(study, cost, 1)[0]
        scored = self.networks if self.update == "reinforce" else 0
        # Each network that is scored moves the price.
        rate = self.price_rate / max(1, scored)
        for target in spread_targets(study, cost, self.targets) if self.loss == "target" else ():
            price = Lagrangian(target=target, rate=rate, damping=DAMPING)
            pulls.append(Pull(f"{target:.4g}", price.loss, price))
        for weight in self.weights if self.loss != "target" else ():
            pulls.append(Pull(f"weight {weight}", partial(_FORMS[self.loss], middle, weight)))
        arch_gates: GateMaker = TwoPath() if self.paths == "two" else BinaryGate()
        distributions = train_distributions(
            study,
            pulls,
            epochs=self.epochs,
            gates=lambda share, space: arch_gates,  # noqa: ARG005 - nothing is annealed
            weight_gates=lambda share, space: HardSample(space),  # noqa: ARG005
            alphas=Alphas(self.learning_rate, (0.0, 0.999)),
            warmup=self.warmup,
            every=self.every or self._interval(study, len(pulls)),
            after_step=rescale_pairs if self.paths == "two" and not scored else None,
            draws=scored,
            baseline_momentum=self.baseline_momentum,
        )
        derive(study, distributions, samples=self.samples)

    def _interval(self, study: Study, distributions: int) -> int:
        """Weight steps to an architecture step: the release's, or fewer where they would leave too few."""
        steps = round((1 - self.warmup) * self.epochs * study.one_shot.steps / distributions)
        return min(_EVERY, max(1, steps // _ENOUGH))
