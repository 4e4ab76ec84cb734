"""How a cost joins accuracy in one number: losses for gradients (torch numbers), rewards for samples (floats).

Two families, named apart, as they promise different things:

- `trade_off_*` price the cost. A target in them is a factor of the price and nothing else, so the result does **not**
  come out at the target: another target gives the same network, or what another weight would have given.
- `target_*`, and `Lagrangian`, pull the result to the target or below it.

| here | loss or reward | used by |
|---|---|---|
| `trade_off_product_reward` | accuracy (c / T)^w | MnasNet, ProxylessNAS by reward |
| `target_two_regime_reward` | the same with another w below T than above | MnasNet's hard variant |
| `target_absolute_reward`, `target_absolute_loss` | - beta abs(c / T - 1), + on a loss | TuNAS |
| `target_hinge_reward`, `target_hinge_loss` | - beta max(0, c / T - 1), + on a loss | |
| `trade_off_log_loss` | loss a (log c)^b | FBNet |
| `trade_off_log_ratio_loss` | a loss (log c / log T)^b | ProxylessNAS |
| `trade_off_linear_loss` | loss + lambda (c / T - 1) | ProxylessNAS |
| `trade_off_mean_log_loss` | loss + lambda mean of log c_j | SNAS |
| `Lagrangian` | loss + mu (c / T - 1), mu learned | ours; the one to start with |

A cost in a loss is an expected one, a number [] with a gradient; see `hwnas.nn.ExpectedCost`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from hwnas.core import CostError, RecipeError, StoreError
from hwnas.nn import excess

_US_PER_MS = 1000.0

# ----------------------------------------------------------------------------------------------------------- rewards


def trade_off_product_reward(accuracy: float, cost: float, *, target: float, exponent: float = -0.07) -> float:
    """Accuracy times a power of the cost: a constant price for each relative change of the cost.

    Source: Tan et al. 2019 (MnasNet, arXiv 1807.11626), equation 2 with both exponents equal; Cai et al. 2019
    (ProxylessNAS, arXiv 1812.00332) with -0.1. The target is a constant factor: it does not move the best network.

    Args:
        accuracy: 0..1.
        cost: In any unit, above 0.
        target: In the same unit, above 0.
        exponent: 0 or below.

    Raises:
        CostError: If cost or target is not above 0.
        RecipeError: If the exponent is above 0, which would reward cost.

    Example:
        >>> trade_off_product_reward(0.8, 4.0, target=2.0, exponent=-1.0)
        0.4
    """
    return accuracy * _power(cost, target, exponent)


def target_two_regime_reward(
    accuracy: float, cost: float, *, target: float, below: float = 0.0, above: float = -1.0
) -> float:
    """Accuracy times a power of the cost, with one exponent up to the target and another beyond.

    Source: Tan et al. 2019 (MnasNet, arXiv 1807.11626), equations 2 and 3; the default is its hard variant.

    Args:
        accuracy: 0..1.
        cost: In any unit, above 0.
        target: In the same unit, above 0.
        below: Exponent where cost <= target, 0 or below.
        above: Exponent where cost > target, 0 or below; steeper than `below`, or the target means nothing.

    Raises:
        CostError: If cost or target is not above 0.
        RecipeError: If an exponent is above 0, or `above` is not below `below`.

    Example:
        >>> [target_two_regime_reward(0.8, cost, target=2.0) for cost in (1.0, 2.0, 4.0)]
        [0.8, 0.8, 0.4]
    """
    if not above < below:
        raise RecipeError(
            f"exponents of the reward are {below} up to the target and {above} above it; expected a lower one above it",
            hint="with equal exponents it is trade_off_product_reward, which keeps to no target",
        )
    return accuracy * _power(cost, target, below if cost <= target else above)


def target_absolute_reward(accuracy: float, cost: float, *, target: float, weight: float) -> float:
    """Accuracy less the relative distance to the target, on either side.

    Source: Bender et al. 2020 (TuNAS, arXiv 2008.06120), section 3.2.

    Args:
        accuracy: 0..1.
        cost: In any unit.
        target: In the same unit, above 0.
        weight: Accuracy that a distance of the whole target costs, 0 or above; a small one leaves slack.

    Raises:
        CostError: If the target is not above 0, or the cost is no finite number.
        RecipeError: If the weight is negative.

    Example:
        >>> [round(target_absolute_reward(0.8, cost, target=2.0, weight=0.2), 3) for cost in (1.0, 2.0, 3.0)]
        [0.7, 0.8, 0.7]
    """
    return accuracy - _weight(weight) * abs(_finite(cost) / _target(target) - 1)


def target_hinge_reward(accuracy: float, cost: float, *, target: float, weight: float) -> float:
    """Accuracy less the relative excess over the target; cheaper than the target is neither better nor worse.

    Args:
        accuracy: 0..1.
        cost: In any unit.
        target: In the same unit, above 0.
        weight: Accuracy that an excess of the whole target costs, 0 or above; a small one leaves slack.

    Raises:
        CostError: If the target is not above 0, or the cost is no finite number.
        RecipeError: If the weight is negative.

    Example:
        >>> [round(target_hinge_reward(0.8, cost, target=2.0, weight=0.2), 3) for cost in (1.0, 2.0, 3.0)]
        [0.8, 0.8, 0.7]
    """
    return accuracy - _weight(weight) * max(0.0, _finite(cost) / _target(target) - 1)


# ------------------------------------------------------------------------------------------------------------ losses


def trade_off_log_loss(loss: Tensor, expected_ms: Tensor, *, scale: float = 0.2, exponent: float = 0.6) -> Tensor:
    """The loss times a power of the logarithm of the latency **in microseconds**.

    A logarithm depends on its unit: the paper's table is in us, and in ms it would be negative for fast networks. So
    the conversion is done here. Source: Wu et al. 2019 (FBNet, arXiv 1812.03443), equation 3: (log LAT)^beta, which is
    not the log(LAT^beta) of some copies, where beta is a constant factor.

    Args:
        loss: [].
        expected_ms: The expected latency [], in ms.
        scale: alpha of the paper, above 0.
        exponent: beta of the paper, above 0.

    Raises:
        CostError: If the latency is not above e us, where the logarithm is 1.
        RecipeError: If scale or exponent is not above 0.

    Example:
        >>> round(float(trade_off_log_loss(torch.tensor(1.0), torch.tensor(25.33), scale=0.2, exponent=0.6)), 4)
        0.8029
    """
    factor = _log_us(expected_ms) ** _positive("exponent", exponent)
    return loss * (_positive("scale", scale) * factor)


def trade_off_log_ratio_loss(
    loss: Tensor, expected_ms: Tensor, *, target_ms: float, scale: float = 1.0, exponent: float = 0.6
) -> Tensor:
    """The loss times a power of the ratio of the logarithms of latency and target, **in microseconds**.

    The target is a constant factor: it does not move the best network. Source: the released code of Cai et al. 2019
    (ProxylessNAS, arXiv 1812.00332), form "mul#log", with scale 0.2 and exponent 0.3 there.

    Args:
        loss: [].
        expected_ms: The expected latency [], in ms.
        target_ms: In ms.
        scale: Above 0.
        exponent: Above 0.

    Raises:
        CostError: If the latency or the target is not above e us, where the logarithm is 1.
        RecipeError: If scale or exponent is not above 0.

    Example:
        >>> float(trade_off_log_ratio_loss(torch.tensor(3.0), torch.tensor(5.0), target_ms=5.0))
        3.0
    """
    ratio = _log_us(expected_ms) / _log_us(expected_ms.new_tensor(target_ms))
    return loss * (_positive("scale", scale) * ratio ** _positive("exponent", exponent))


def trade_off_linear_loss(loss: Tensor, expected: Tensor, *, target: float, weight: float = 0.1) -> Tensor:
    """The loss and the cost's relative distance to the target, whose sign counts: cheaper is always better.

    The target rescales the weight and does nothing else. Source: the released code of Cai et al. 2019 (ProxylessNAS,
    arXiv 1812.00332), form "add#linear".

    Args:
        loss: [].
        expected: The expected cost [], in any unit.
        target: In the same unit, above 0.
        weight: Loss that the whole target costs, 0 or above.

    Raises:
        CostError: If the target is not above 0.
        RecipeError: If the weight is negative.

    Example:
        >>> round(float(trade_off_linear_loss(torch.tensor(1.0), torch.tensor(3.0), target=2.0, weight=0.1)), 4)
        1.05
    """
    return loss + _weight(weight) * (expected / _target(target) - 1)


def trade_off_mean_log_loss(loss: Tensor, expected: Sequence[Tensor], *, weight: float = 1e-2) -> Tensor:
    """The loss and the mean of the logarithms of several costs: parameters, multiply-adds, memory traffic.

    The unit of a cost adds a constant and so does not matter, as long as costs are above 1 in it: smaller ones count as
    1, with no gradient. Source: the released code of Xie et al. 2019 (SNAS, arXiv 1812.09926), its log penalty.

    Args:
        loss: [].
        expected: Expected costs [], at least one.
        weight: 0 or above.

    Raises:
        CostError: If there is no cost.
        RecipeError: If the weight is negative.

    Example:
        >>> costs = [torch.tensor(math.e), torch.tensor(0.0)]
        >>> round(float(trade_off_mean_log_loss(torch.tensor(1.0), costs, weight=0.1)), 4)
        1.05
    """
    if not expected:
        raise CostError("a log penalty got no cost; expected at least one")
    return loss + _weight(weight) * torch.stack([cost.clamp(min=1.0).log() for cost in expected]).mean()


def target_absolute_loss(loss: Tensor, expected: Tensor, *, target: float, weight: float) -> Tensor:
    """The loss and the cost's relative distance to the target, on either side.

    Source: Bender et al. 2020 (TuNAS, arXiv 2008.06120), section 3.2, as a loss.

    Args:
        loss: [].
        expected: The expected cost [], in any unit.
        target: In the same unit, above 0.
        weight: Loss that a distance of the whole target costs, 0 or above.

    Raises:
        CostError: If the target is not above 0.
        RecipeError: If the weight is negative.

    Example:
        >>> float(target_absolute_loss(torch.tensor(1.0), torch.tensor(1.0), target=2.0, weight=0.5))
        1.25
    """
    return loss + _weight(weight) * (expected / _target(target) - 1).abs()


def target_hinge_loss(loss: Tensor, expected: Tensor, *, target: float, weight: float) -> Tensor:
    """The loss and the cost's relative excess over the target; see `hwnas.nn.excess`.

    Args:
        loss: [].
        expected: The expected cost [], in any unit.
        target: In the same unit, above 0.
        weight: Loss that an excess of the whole target costs, 0 or above; a small one leaves slack.

    Raises:
        CostError: If the target is not above 0.
        RecipeError: If the weight is negative.

    Example:
        >>> float(target_hinge_loss(torch.tensor(1.0), torch.tensor(3.0), target=2.0, weight=0.5))
        1.25
    """
    return loss + _weight(weight) * excess(expected, target=target)


class Lagrangian:
    """The loss and the cost's distance to a target, at a price that rises while the cost is too high and falls else.

    The price is the multiplier of the constraint, by dual ascent: it finds the weight that the other forms ask for. A
    search calls `loss` for its gradient and then `update`, once per step of the architecture. It settles where the loss
    is curved in the probabilities and the price moves slowly beside them; where the loss is a straight line in them, or
    the rate is high, the cost circles around the target, unless `damping` adds to the price what the cost is above the
    target now. Source: ours; the method of multipliers is textbook (Boyd and Vandenberghe 2004, section 5), its damped
    form for inequalities Rockafellar's (1973, Journal of Optimization Theory and Applications 12).

    Args:
        target: In the cost's unit, above 0.
        rate: How fast the price moves: by `rate` per step at twice the target. Above 0.
        multiplier: The price to begin with, 0 or above.
        damping: Price of the momentary distance, 0 or above: by `damping` at twice the target.

    Raises:
        CostError: If the target is not above 0.
        RecipeError: If the rate is not above 0, or the multiplier or the damping is negative.

    Example:
        >>> price = Lagrangian(target=2.0, rate=0.5)
        >>> price.update(4.0)
        >>> price.multiplier, float(price.loss(torch.tensor(1.0), torch.tensor(3.0)))
        (0.5, 1.25)
        >>> price.update(0.2)
        >>> round(price.multiplier, 3)
        0.05
        >>> float(Lagrangian(target=2.0, rate=0.5, damping=1.0).loss(torch.tensor(1.0), torch.tensor(3.0)))
        1.125
    """

    def __init__(self, *, target: float, rate: float, multiplier: float = 0.0, damping: float = 0.0) -> None:
        self.target = _target(target)
        self.rate = _positive("rate", rate)
        self.multiplier = _weight(multiplier, "multiplier")
        self.damping = _weight(damping, "damping")

    def loss(self, loss: Tensor, expected: Tensor) -> Tensor:
        """The loss [] with the priced distance [], whose sign counts, at an expected cost []."""
        distance = expected / self.target - 1
        if not self.damping:
            return loss + self.multiplier * distance
        paid = (self.multiplier + self.damping * distance).clamp(min=0.0)
        return loss + (paid.square() - self.multiplier**2) / (2 * self.damping)

    def slope(self, expected: float) -> float:
        """What a share of the target more costs now: the derivative of the priced distance, at an expected cost.

        Raises:
            CostError: If the cost is not a finite number.
        """
        return max(0.0, self.multiplier + self.damping * (_finite(expected) / self.target - 1))

    def update(self, expected: float) -> None:
        """Move the price by what the cost is now.

        Raises:
            CostError: If the cost is not a finite number.
        """
        self.multiplier = max(0.0, self.multiplier + self.rate * (_finite(expected) / self.target - 1))

    def state_dict(self) -> dict[str, Any]:
        """The price."""
        return {"multiplier": self.multiplier}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Put a price back.

        Raises:
            StoreError: If the state holds no price, or one that is not a finite number from 0.
        """
        value = state_dict.get("multiplier")
        if not isinstance(value, int | float) or not 0 <= value < math.inf:
            raise StoreError(f"the state of a Lagrangian has the multiplier {value!r}; expected a number from 0")
        self.multiplier = float(value)


# ------------------------------------------------------------------------------------------------------------- parts


def _finite(cost: float) -> float:
    if not math.isfinite(cost):
        raise CostError(f"the cost is {cost}; expected a finite number")
    return cost


def _power(cost: float, target: float, exponent: float) -> float:
    if not 0 < cost < math.inf:
        raise CostError(f"cost is {cost}; it must be above 0 and finite")
    if not exponent <= 0:
        raise RecipeError(f"exponent of the reward is {exponent}; it must be 0 or below, or cost would be rewarded")
    return float((cost / _target(target)) ** exponent)


def _log_us(cost_ms: Tensor) -> Tensor:
    cost_us = cost_ms * _US_PER_MS
    if not bool(cost_us > math.e):
        raise CostError(
            f"latency is {float(cost_us):.6g} us; its logarithm needs more than e = 2.718 us",
            hint="give milliseconds; for a cost this small take a linear or hinge form",
        )
    return cost_us.log()


def _target(target: float) -> float:
    if not 0 < target < math.inf:
        raise CostError(f"target is {target}; it must be above 0")
    return target


def _weight(weight: float, name: str = "weight") -> float:
    if not 0 <= weight < math.inf:
        raise RecipeError(f"{name} of the objective is {weight}; it must be 0 or above")
    return weight


def _positive(name: str, value: float) -> float:
    if not 0 < value < math.inf:
        raise RecipeError(f"{name} of the objective is {value}; it must be above 0")
    return value
