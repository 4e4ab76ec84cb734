from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hwnas.core import RecipeError
from hwnas.training import alpha_divergence, distillation

INF = float("inf")


def logits(seed: int, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(6, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def true_divergence(student: Tensor, teacher: Tensor, alpha: float) -> Tensor:
    p, q = teacher.softmax(1), student.softmax(1)
    return (q * ((p / q) ** alpha - 1)).sum(1).mean() / (alpha * (alpha - 1))


@pytest.mark.parametrize("alpha", [-1.0, -0.5, 0.5, 2.0])
def test_value_and_gradient_are_those_of_the_divergence(alpha: float) -> None:
    teacher = logits(0)
    ours, exact = logits(1).requires_grad_(), logits(1).requires_grad_()
    found, expected = alpha_divergence(ours, teacher, alphas=(alpha,), clip=INF), true_divergence(exact, teacher, alpha)
    assert float(found.detach()) == pytest.approx(float(expected.detach()), abs=1e-12)
    found.backward()  # type: ignore[no-untyped-call]
    expected.backward()  # type: ignore[no-untyped-call]
    assert ours.grad is not None and exact.grad is not None
    assert torch.allclose(ours.grad, exact.grad, atol=1e-10, rtol=0)


def test_the_limits_are_the_two_kullback_leibler_divergences() -> None:
    student, teacher = logits(1), logits(0)
    p, q = teacher.log_softmax(1), student.log_softmax(1)
    for alpha, expected in (
        (1.0, F.kl_div(q, p, log_target=True, reduction="batchmean")),
        (0.0, F.kl_div(p, q, log_target=True, reduction="batchmean")),
    ):
        at = float(alpha_divergence(student, teacher, alphas=(alpha,), clip=INF))
        near = float(true_divergence(student, teacher, alpha + 1e-6))
        assert at == pytest.approx(float(expected), abs=1e-12)
        assert at == pytest.approx(near, abs=1e-5)
    ours, exact = logits(1).requires_grad_(), logits(1).requires_grad_()
    alpha_divergence(ours, teacher, alphas=(1.0,), clip=INF).backward()  # type: ignore[no-untyped-call]
    distillation(exact, teacher).backward()  # type: ignore[no-untyped-call]
    assert ours.grad is not None and exact.grad is not None
    assert torch.allclose(ours.grad, exact.grad, atol=1e-12)


def test_each_image_learns_by_the_larger() -> None:
    student, teacher = logits(1, 2.0), logits(0, 2.0)
    rows = [
        max(float(alpha_divergence(student[n : n + 1], teacher[n : n + 1], alphas=(a,))) for a in (-1.0, 1.0))
        for n in range(len(student))
    ]
    assert float(alpha_divergence(student, teacher)) == pytest.approx(sum(rows) / len(rows), rel=1e-12)


def test_it_is_zero_for_equal_networks_only_and_falls_under_its_own_gradient() -> None:
    teacher = logits(0).requires_grad_()
    assert float(alpha_divergence(teacher, teacher).detach()) == pytest.approx(0, abs=1e-14)
    student = logits(1).requires_grad_()
    optimizer = torch.optim.SGD([student], lr=3.0)
    values = []
    for _ in range(300):
        optimizer.zero_grad()
        loss = alpha_divergence(student, teacher)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        values.append(float(loss.detach()))
    assert all(value > 0 for value in values)
    assert values[-1] < 0.05 * values[0]
    assert teacher.grad is None


def test_a_power_of_the_ratio_is_cut_off() -> None:
    student = torch.tensor([[20.0, 0.0]], requires_grad=True)
    alpha_divergence(student, -student.detach(), alphas=(2.0,)).backward()  # type: ignore[no-untyped-call]
    assert student.grad is not None
    assert bool(student.grad.isfinite().all())
    assert float(student.grad.abs().max()) <= 5.0


def test_no_alpha_is_refused() -> None:
    with pytest.raises(RecipeError, match="at least one alpha"):
        alpha_divergence(logits(0), logits(1), alphas=())
    with pytest.raises(RecipeError, match="clip 0"):
        alpha_divergence(logits(0), logits(1), clip=0)
