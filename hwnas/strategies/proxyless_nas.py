"""ProxylessNAS: one option runs, drawn by its probability; binary gates carry the gradients of loss and latency."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

from torch import Tensor

from hwnas.core import RecipeError
from hwnas.nn import BinaryGate, GateMaker, HardSample, TwoPath, rescale_pairs
from hwnas.study import Study
from hwnas.study.relaxed import DAMPING, Alphas, Pull, derive, differentiable_cost, spread_targets, train_distributions
from hwnas.training import Lagrangian, trade_off_linear_loss, trade_off_log_ratio_loss


def _linear(target: float, weight: float, loss: Tensor, expected: Tensor) -> Tensor:
    return trade_off_linear_loss(loss, expected, target=target, weight=weight)


def _log_ratio(target: float, weight: float, loss: Tensor, expected: Tensor) -> Tensor:
    return trade_off_log_ratio_loss(loss, expected, target_ms=target, exponent=weight)


@dataclass(frozen=True)
class ProxylessNas:
    """Weight steps run one network that is drawn; architecture steps run two options per decision, or all.

    `loss = "add_linear"` and "mul_log" are the two of the authors' release, trade-offs both, once for each of
    `weights`: the target in them only rescales. `loss = "target"` prices the latency until the expected one meets a
    target, for each of `targets` between the cheapest network and the limit.

    Source: Cai et al. 2019 (arXiv 1812.00332), sections 3.2 and 3.3, and their released code for the losses; the target
    form is ours.

    Attributes:
        paths: "two" options per decision in an architecture step, or "all".
        loss: "target", "add_linear" or "mul_log".
        targets: Points between the cheapest network and the limit; of "target".
        weights: lambda of "add_linear" or exponent of "mul_log", one distribution each.
        epochs: Over the training images.
        learning_rate: Of the logits, by Adam with betas (0, 0.999): most have no gradient in a step.
        warmup: Share of the epochs before the first architecture step; the weights learn from uniform draws.
        every: Weight steps to an architecture step.
        price_rate: How fast the price of the latency moves, per architecture step at twice the target.
        samples: Networks evaluated per distribution: the most likely, and the likeliest of some draws.

    Raises:
        RecipeError: If a parameter is out of its range.

    Example:
        >>> ProxylessNas(loss="add_linear", weights=(0.1, 0.5)).paths
        'two'
    """

    trains_weights: ClassVar[bool] = True

    paths: Literal["two", "all"] = "two"
    loss: Literal["target", "add_linear", "mul_log"] = "target"
    targets: int = 4
    weights: tuple[float, ...] = (0.1, 0.5)
    epochs: int = 20
    learning_rate: float = 0.05
    warmup: float = 0.3
    every: int = 2
    price_rate: float = 0.05
    samples: int = 4

    def __post_init__(self) -> None:
        if self.targets < 1 or self.epochs < 1 or self.samples < 1 or self.every < 1:
            raise RecipeError(
                f"proxyless_nas: targets is {self.targets}, epochs {self.epochs}, samples {self.samples}, every "
                f"{self.every}; expected at least 1"
            )
        if self.loss != "target" and not self.weights:
            raise RecipeError(f'proxyless_nas: loss is "{self.loss}" and weights is empty; expected one or more')

    def search(self, study: Study) -> None:
        """Train, then evaluate what the distributions stand for."""
        cost = differentiable_cost(study)
        pulls: list[Pull] = []
        middle = spread_targets(study, cost, 1)[0]
        for target in spread_targets(study, cost, self.targets) if self.loss == "target" else ():
            price = Lagrangian(target=target, rate=self.price_rate, damping=DAMPING)
            pulls.append(Pull(f"{target:.4g}", price.loss, price))
        for weight in self.weights if self.loss != "target" else ():
            form = _linear if self.loss == "add_linear" else _log_ratio
            pulls.append(Pull(f"weight {weight}", partial(form, middle, weight)))
        arch_gates: GateMaker = TwoPath() if self.paths == "two" else BinaryGate()
        distributions = train_distributions(
            study,
            pulls,
            epochs=self.epochs,
            gates=lambda share, space: arch_gates,  # noqa: ARG005 - nothing is annealed
            weight_gates=lambda share, space: HardSample(space),  # noqa: ARG005
            alphas=Alphas(self.learning_rate, (0.0, 0.999)),
            warmup=self.warmup,
            every=self.every,
            after_step=rescale_pairs if self.paths == "two" else None,
        )
        derive(study, distributions, samples=self.samples)
