"""The objective forms: their gradients, which of them keep to a target, and what they refuse."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from hwnas.core import CostError, RecipeError, StoreError
from hwnas.testing import Toy201Latency, toy201, toy201_accuracy
from hwnas.training import (
    Lagrangian,
    target_absolute_loss,
    target_absolute_reward,
    target_hinge_loss,
    target_hinge_reward,
    target_two_regime_reward,
    trade_off_linear_loss,
    trade_off_log_loss,
    trade_off_log_ratio_loss,
    trade_off_mean_log_loss,
    trade_off_product_reward,
)

TIMES_MS = torch.tensor([0.4, 1.5, 3.0, 7.0], dtype=torch.float64)
ABOVE_0 = st.floats(0.01, 100)


def number(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


# ------------------------------------------------------------------------------------------------------------ gradients


def slope(form: Callable[[Tensor, Tensor], Tensor], *, loss: float) -> tuple[Tensor, Tensor, float]:
    """Of a form on an expected latency, to the logits; the probabilities and the latency in ms."""
    logits = torch.tensor([0.3, -0.2, 1.0, 0.1], dtype=torch.float64, requires_grad=True)
    p = logits.softmax(0)
    expected = p @ TIMES_MS
    (found,) = torch.autograd.grad(form(number(loss), expected), logits)
    return found, p.detach(), float(expected.detach())


@pytest.mark.parametrize(("scale", "exponent"), [(0.2, 0.6), (1.0, 1.0), (0.5, 2.0)])
def test_fbnets_gradient_is_that_of_the_power_of_the_logarithm_of_microseconds(scale: float, exponent: float) -> None:
    """F5: CE alpha beta (log E)^(beta - 1) / E p_k (t_k - E), E and t in us."""
    found, p, e_ms = slope(lambda ce, e: trade_off_log_loss(ce, e, scale=scale, exponent=exponent), loss=1.7)
    e, t = 1000 * e_ms, 1000 * TIMES_MS
    expected = 1.7 * scale * exponent * math.log(e) ** (exponent - 1) / e * p * (t - e)
    assert torch.allclose(found, expected, atol=1e-10, rtol=0)
    assert float(found.abs().max()) > 1e-3, "or the tolerance would say nothing"


FORMS: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], Callable[[float], float]]] = {
    "log_ratio": (
        lambda ce, e: trade_off_log_ratio_loss(ce, e, target_ms=2.0, scale=0.2, exponent=0.3),
        lambda e: 1.7 * 0.2 * 0.3 * (math.log(1000 * e) / math.log(2000)) ** -0.7 / math.log(2000) / e,
    ),
    "linear": (lambda ce, e: trade_off_linear_loss(ce, e, target=2.0, weight=0.3), lambda e: 0.3 / 2),
    "mean_log": (lambda ce, e: trade_off_mean_log_loss(ce, [e, e * e], weight=0.3), lambda e: 0.3 * 3 / 2 / e),
    "absolute": (lambda ce, e: target_absolute_loss(ce, e, target=9.0, weight=0.3), lambda e: -0.3 / 9),
    "hinge": (lambda ce, e: target_hinge_loss(ce, e, target=2.0, weight=0.3), lambda e: 0.3 / 2),
    "hinge below": (lambda ce, e: target_hinge_loss(ce, e, target=9.0, weight=0.3), lambda e: 0.0),
    "lagrangian": (Lagrangian(target=2.0, rate=0.1, multiplier=0.4).loss, lambda e: 0.4 / 2),
}


@pytest.mark.parametrize("name", sorted(FORMS))
def test_gradients_of_the_other_forms(name: str) -> None:
    form, by_cost = FORMS[name]
    found, p, e = slope(form, loss=1.7)
    assert torch.allclose(found, by_cost(e) * p * (TIMES_MS - e), atol=1e-10, rtol=0)


@given(ABOVE_0, ABOVE_0, ABOVE_0)
def test_losses_and_rewards_are_the_formulas(loss: float, cost: float, target: float) -> None:
    ce, e, ratio = number(loss), number(cost), cost / target
    found = {
        trade_off_log_loss(ce, e): 0.2 * loss * math.log(1000 * cost) ** 0.6,
        trade_off_log_ratio_loss(ce, e, target_ms=target): loss
        * (math.log(1000 * cost) / math.log(1000 * target)) ** 0.6,
        trade_off_linear_loss(ce, e, target=target): loss + 0.1 * (ratio - 1),
        trade_off_mean_log_loss(ce, [e, number(2.0)]): loss + 0.01 * (math.log(max(cost, 1)) + math.log(2)) / 2,
        target_absolute_loss(ce, e, target=target, weight=0.5): loss + 0.5 * abs(ratio - 1),
        target_hinge_loss(ce, e, target=target, weight=0.5): loss + 0.5 * max(0, ratio - 1),
    }
    for value, formula in found.items():
        assert float(value) == pytest.approx(formula, rel=1e-9)
    assert trade_off_product_reward(0.8, cost, target=target) == pytest.approx(0.8 * ratio**-0.07)
    assert target_absolute_reward(0.8, cost, target=target, weight=0.5) == pytest.approx(0.8 - 0.5 * abs(ratio - 1))
    assert target_hinge_reward(0.8, cost, target=target, weight=0.5) == pytest.approx(0.8 - 0.5 * max(0, ratio - 1))
    hard = target_two_regime_reward(0.8, cost, target=target)
    assert hard == pytest.approx(0.8 if cost <= target else 0.8 / ratio)


def test_the_exponent_is_more_than_a_factor() -> None:
    """The copied mistake, log(LAT^beta) = beta log(LAT), would leave this ratio alone."""
    one, ten = number(1.0), number(10.0)
    for exponent in (0.5, 2.0):
        ratio = trade_off_log_loss(one, ten, exponent=exponent) / trade_off_log_loss(one, one, exponent=exponent)
        assert float(ratio) == pytest.approx((math.log(10_000) / math.log(1000)) ** exponent)


def test_a_latency_below_a_millisecond_is_not_negative() -> None:
    loss = [float(trade_off_log_loss(number(1.0), number(ms))) for ms in (0.01, 0.1, 0.5, 1.0, 5.0)]
    assert loss[0] > 0 and loss == sorted(loss)


# ------------------------------------------------------------------------------------ trade-offs and targets, on Toy201


@pytest.fixture(scope="module")
def table() -> list[tuple[float, float]]:
    """Accuracy and latency in ms of all 15,625 networks."""
    space = toy201().space
    networks = list(space.enumerate())
    latencies = Toy201Latency(space).batch(space.encode(networks))
    return [(toy201_accuracy(a), float(ms)) for a, ms in zip(networks, latencies, strict=True)]


Reward = Callable[[float, float, float], float]
BEST: dict[str, tuple[Reward, list[float]]] = {
    "product": (lambda a, c, t: trade_off_product_reward(a, c, target=t), [2.2, 2.2, 2.2]),
    "two regimes": (lambda a, c, t: target_two_regime_reward(a, c, target=t), [2.8, 4.9, 7.0]),
    "absolute": (lambda a, c, t: target_absolute_reward(a, c, target=t, weight=0.07), [3.1, 5.1, 7.0]),
    "hinge": (lambda a, c, t: target_hinge_reward(a, c, target=t, weight=0.07), [3.1, 4.9, 7.0]),
    "absolute, small weight": (lambda a, c, t: target_absolute_reward(a, c, target=t, weight=0.02), [4.0, 5.2, 7.0]),
}


@pytest.mark.parametrize("name", sorted(BEST))
def test_the_best_network_follows_the_target_where_the_name_says_so(
    name: str, table: list[tuple[float, float]]
) -> None:
    """Section 2's warning, in numbers: latency of the best network for targets of 3, 5 and 7 ms."""
    reward, expected = BEST[name]
    best = []
    for target in (3.0, 5.0, 7.0):
        rewards = [reward(accuracy, ms, target) for accuracy, ms in table]
        best.append(table[int(np.argmax(rewards))][1])
    assert best == expected


def minimised(
    objective: Callable[[Tensor, Tensor], Tensor], *, update: Callable[[float], None] | None = None
) -> Tensor:
    """Probabilities after 1,500 steps of Adam on a loss and the latency of four options.

    The loss has a little curvature in the probabilities, as a network's has.
    """
    error = torch.tensor([1.0, 0.5, 0.3, 0.2], dtype=torch.float64)
    logits = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([logits], lr=0.05)
    for _ in range(1500):
        p = logits.softmax(0)
        expected = p @ TIMES_MS
        adam.zero_grad()
        objective(p @ error + 0.05 * (p * p.log()).sum(), expected).backward()  # type: ignore[no-untyped-call]
        adam.step()
        if update is not None:
            update(float(expected.detach()))
    return logits.detach().softmax(0)


@pytest.mark.parametrize("target", [1.0, 2.0, 4.0])
def test_the_lagrangian_finds_the_target(target: float) -> None:
    price = Lagrangian(target=target, rate=0.005)
    assert float(minimised(price.loss, update=price.update) @ TIMES_MS) == pytest.approx(target, rel=0.01)
    assert price.multiplier > 0


def test_a_target_that_does_not_bind_costs_nothing() -> None:
    price = Lagrangian(target=20.0, rate=0.02, multiplier=1.0)
    assert int(minimised(price.loss, update=price.update).argmax()) == 3
    assert price.multiplier == 0


@pytest.mark.parametrize("target", [1.0, 2.0, 4.0])
def test_a_hinge_keeps_to_the_target_and_a_linear_price_does_not(target: float) -> None:
    hinge = minimised(lambda loss, e: target_hinge_loss(loss, e, target=target, weight=5.0))
    assert float(hinge @ TIMES_MS) == pytest.approx(target, rel=0.05)
    linear = minimised(lambda loss, e: trade_off_linear_loss(loss, e, target=target, weight=0.2 * target))
    assert int(linear.argmax()) == 1, "the price per ms is the same for each target, and so is the result"


def test_with_a_constant_loss_fbnet_takes_the_cheapest() -> None:
    """Section 5.7: with CE constant the parameters must converge to the cheapest option."""
    p = minimised(lambda loss, e: trade_off_log_loss(torch.ones_like(e), e))
    assert float(p[0]) > 0.99


# ---------------------------------------------------------------------------------------------- the price, and refusals


def test_the_price_rises_falls_and_never_pays() -> None:
    price, prices = Lagrangian(target=2.0, rate=0.5), []
    for cost in (1.0, 4.0, 3.0, 2.0, 1.0, 0.0, 0.0):
        price.update(cost)
        prices.append(price.multiplier)
    assert prices == pytest.approx([0.0, 0.5, 0.75, 0.75, 0.5, 0.0, 0.0])


@given(st.floats(0, 1e6))
def test_the_price_travels_as_a_state(multiplier: float) -> None:
    price = Lagrangian(target=2.0, rate=0.5, multiplier=multiplier)
    other = Lagrangian(target=2.0, rate=0.5)
    other.load_state_dict(price.state_dict())
    assert other.multiplier == multiplier


@pytest.mark.parametrize("state", [{}, {"multiplier": -1.0}, {"multiplier": math.nan}, {"multiplier": "1"}])
def test_a_state_without_a_price_is_refused(state: dict[str, object]) -> None:
    with pytest.raises(StoreError, match="expected a number from 0"):
        Lagrangian(target=2.0, rate=0.5).load_state_dict(state)


ONE = torch.ones(())


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: trade_off_log_loss(ONE, number(math.e / 1000)), CostError, r"latency is 2.71828 us; .* more than e"),
        (lambda: trade_off_log_loss(ONE, number(math.nan)), CostError, "latency is nan us"),
        (lambda: trade_off_log_ratio_loss(ONE, ONE, target_ms=0.002), CostError, "latency is 2 us"),
        (lambda: trade_off_log_loss(ONE, ONE, scale=0.0), RecipeError, "scale of the objective is 0.0"),
        (lambda: trade_off_log_ratio_loss(ONE, ONE, target_ms=1.0, exponent=-1.0), RecipeError, "exponent .* is -1.0"),
        (lambda: trade_off_mean_log_loss(ONE, []), CostError, "got no cost"),
        (lambda: trade_off_linear_loss(ONE, ONE, target=0.0), CostError, "target is 0.0; it must be above 0"),
        (lambda: trade_off_linear_loss(ONE, ONE, target=1.0, weight=-0.1), RecipeError, "weight .* is -0.1"),
        (lambda: target_absolute_loss(ONE, ONE, target=math.inf, weight=1.0), CostError, "target is inf"),
        (lambda: target_hinge_loss(ONE, ONE, target=-2.0, weight=1.0), CostError, "target is -2.0"),
        (lambda: target_hinge_reward(0.5, 1.0, target=math.nan, weight=1.0), CostError, "target is nan"),
        (lambda: trade_off_product_reward(0.5, 0.0, target=1.0), CostError, "cost is 0.0; it must be above 0"),
        (lambda: trade_off_product_reward(0.5, 1.0, target=1.0, exponent=0.1), RecipeError, "exponent .* is 0.1"),
        (lambda: target_two_regime_reward(0.5, 1.0, target=1.0, below=-1.0), RecipeError, "-1.0 up to the target"),
        (lambda: Lagrangian(target=1.0, rate=0.0), RecipeError, "rate of the objective is 0.0"),
        (lambda: Lagrangian(target=1.0, rate=1.0, multiplier=-1.0), RecipeError, "multiplier of the objective is -1.0"),
        (lambda: Lagrangian(target=1.0, rate=1.0).update(math.nan), CostError, "the cost is nan"),
        (lambda: Lagrangian(target=1.0, rate=1.0).slope(math.nan), CostError, "the cost is nan"),
        (lambda: target_hinge_reward(0.5, math.nan, target=1.0, weight=1.0), CostError, "the cost is nan"),
        (lambda: target_absolute_reward(0.5, math.inf, target=1.0, weight=1.0), CostError, "the cost is inf"),
        (lambda: trade_off_product_reward(0.5, math.inf, target=1.0), CostError, "cost is inf"),
        (lambda: trade_off_product_reward(0.5, 1.0, target=1.0, exponent=math.nan), RecipeError, "exponent .* is nan"),
    ],
)
def test_impossible_numbers_are_named(call: Callable[[], object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_a_log_penalty_has_no_gradient_below_1() -> None:
    """Section 5.13: max(cost, 1), or the logarithm of a cost near 0 would rule the search."""
    cost = torch.tensor([0.5, 3.0], dtype=torch.float64, requires_grad=True)
    trade_off_mean_log_loss(ONE.double(), list(cost), weight=1.0).backward()  # type: ignore[no-untyped-call]
    assert cost.grad is not None
    assert np.allclose(cost.grad.numpy(), [0.0, 1 / 6])


def test_a_damped_price_pulls_before_it_has_risen_and_never_pushes_up() -> None:
    price = Lagrangian(target=2.0, rate=0.5, damping=4.0)
    cost = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    price.loss(torch.zeros((), dtype=torch.float64), cost).backward()  # type: ignore[no-untyped-call]
    assert cost.grad is not None
    assert float(cost.grad) == pytest.approx(4.0 * (3.0 / 2.0 - 1) / 2.0)  # damping x distance, by the chain rule
    below = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    price.loss(torch.zeros((), dtype=torch.float64), below).backward()  # type: ignore[no-untyped-call]
    assert float(below.grad) == 0.0  # type: ignore[arg-type]
    with pytest.raises(RecipeError, match="damping"):
        Lagrangian(target=2.0, rate=0.5, damping=-1.0)
