"""The differentiable cost against enumeration, against the cost model in numpy, and against finite differences."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hwnas.core import CostError
from hwnas.cost import Calibration, UnitSumCost
from hwnas.nn import ExpectedCost, excess, one_hot_gates
from hwnas.nn.gates import Gate
from hwnas.space import Block, Decision, Space, Unit
from tests.cost.toy_space import UNEVEN, flat_table, toy_space

CALIBRATION = Calibration(
    terms=("sum", "constant", "blocks", "boundary", "se", "residual"),
    coefficients=(0.9, 120.0, -5.0, 0.001, 30.0, 12.0),
    n=20,
    loo_mape=0.007,
    band=0.04,
    box={},
)
SPACE = toy_space()
COST = UnitSumCost.from_table(SPACE, flat_table(SPACE, calibration=CALIBRATION))
EXPECTED = ExpectedCost(COST, dtype=torch.float64)


def chances(seed: int) -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(seed)
    return {d.label: torch.tensor(rng.dirichlet(np.ones(len(d.options)))) for d in SPACE.decisions}


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**32 - 1))
def test_it_is_the_mean_over_all_draws(seed: int) -> None:
    """Brute force: every combination of options with its probability, through the cost of its canonical network."""
    p = {label: values.numpy() for label, values in chances(seed).items()}
    genotypes = np.array(list(itertools.product(*(range(len(d.options)) for d in SPACE.decisions))))
    weight = np.prod([p[d.label][genotypes[:, i]] for i, d in enumerate(SPACE.decisions)], axis=0)
    mean = float((weight * COST.batch(SPACE.canonical_codes(genotypes))).sum())
    found = EXPECTED({label: torch.tensor(values) for label, values in p.items()})
    assert float(found) == pytest.approx(mean, rel=1e-12)
    assert float(found) == pytest.approx(COST.expectation(p), rel=1e-12)


def test_the_gradient_is_that_of_the_calibrated_table() -> None:
    """Central differences of the numpy cost, to 1e-5."""
    logits = {d.label: torch.randn(len(d.options), dtype=torch.float64) for d in SPACE.decisions}
    for values in logits.values():
        values.requires_grad_()
    EXPECTED({label: values.softmax(0) for label, values in logits.items()}).backward()  # type: ignore[no-untyped-call]

    def cost(changed: dict[str, np.ndarray[Any, np.dtype[np.float64]]]) -> float:
        return COST.expectation({label: np.exp(v) / np.exp(v).sum() for label, v in changed.items()})

    step = 1e-5
    plain = {label: values.detach().numpy().copy() for label, values in logits.items()}
    for label, values in logits.items():
        assert values.grad is not None
        for i in range(len(values)):
            up, down = ({**plain, label: plain[label] + sign * step * np.eye(len(values))[i]} for sign in (1, -1))
            assert float(values.grad[i]) == pytest.approx((cost(up) - cost(down)) / (2 * step), rel=1e-5, abs=1e-9)


def test_a_choice_costs_what_the_table_says() -> None:
    gates = one_hot_gates(SPACE, UNEVEN)
    assert float(EXPECTED(gates)) == pytest.approx(COST(UNEVEN).value, rel=1e-12)
    single = ExpectedCost(COST)({label: Gate(gate.values, gate.support) for label, gate in gates.items()})
    assert single.dtype == torch.float32
    assert float(single) == pytest.approx(COST(UNEVEN).value, rel=1e-5)


def test_the_joint_tensor_of_a_cell_is_contracted_exactly() -> None:
    """An edge that is dead unless the next one is alive: no product of the edges' own means gives this."""

    def cell(first: str, second: str) -> Block:
        alive = second == "conv"
        return Block(
            "cell", (("cell", f"{first}{second}"),), (8, 4, 4), (8, 4, 4), 100 * alive * (1 + (first == "conv")), 1
        )

    options = ("none", "conv")
    blocks = tuple(cell(a, b) for a, b in itertools.product(options, options))
    space = Space("cell", (Decision("a", options), Decision("b", options)), (Unit("c", ("a", "b"), blocks),))
    expected = ExpectedCost(UnitSumCost.count(space, "macs"), dtype=torch.float64)
    p = {"a": torch.tensor([0.25, 0.75]), "b": torch.tensor([0.5, 0.5])}
    assert float(expected(p)) == pytest.approx(0.5 * (0.25 * 100 + 0.75 * 200))


def test_steps_along_the_gradient_lower_the_cost_until_the_target_is_kept() -> None:
    logits = {d.label: torch.zeros(len(d.options), dtype=torch.float64, requires_grad=True) for d in SPACE.decisions}
    target = 0.6 * COST.expectation({label: np.full(len(v), 1 / len(v)) for label, v in logits.items()})
    seen = []
    for _ in range(60):
        expected = EXPECTED({label: values.softmax(0) for label, values in logits.items()})
        seen.append(expected.item())
        loss = excess(expected, target=target)
        for values, slope in zip(logits.values(), torch.autograd.grad(loss, list(logits.values())), strict=True):
            values.data -= slope
    assert seen[1] < seen[0]
    assert seen[-1] <= target
    assert float(excess(torch.tensor(seen[-1]), target=target)) == 0


def test_the_unit_does_not_change_the_excess() -> None:
    assert excess(torch.tensor(0.3), target=0.2) == pytest.approx(float(excess(torch.tensor(300.0), target=200.0)))


def test_what_is_missing_or_of_another_size_is_named() -> None:
    p = chances(0)
    with pytest.raises(CostError, match=r"expected latency_ms in space toy: no probabilities for 's0\.depth'"):
        EXPECTED({label: values for label, values in p.items() if label != "s0.depth"})
    with pytest.raises(CostError, match=r"'size' has probabilities of shape \(3,\); expected \[2\]"):
        EXPECTED({**p, "size": torch.ones(3) / 3})
    with pytest.raises(CostError, match="target is 0.0; it must be above 0"):
        excess(torch.tensor(1.0), target=0.0)
