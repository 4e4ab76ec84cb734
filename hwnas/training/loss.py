"""Losses on logits [n, classes]."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from hwnas.core import RecipeError


def distillation(student: Tensor, teacher: Tensor) -> Tensor:
    """Cross-entropy of a student's logits against a teacher's probabilities, temperature 1; no gradient to the teacher.

    It differs from the Kullback-Leibler divergence by the teacher's entropy, a constant. Source: Hinton et al. 2015
    (arXiv 1503.02531).

    Example:
        >>> import torch
        >>> logits = torch.tensor([[0.0, 0.0]])
        >>> round(distillation(logits, logits).item(), 4)
        0.6931
    """
    return F.cross_entropy(student, teacher.detach().softmax(dim=1))


def alpha_divergence(
    student: Tensor, teacher: Tensor, *, alphas: tuple[float, ...] = (-1.0, 1.0), clip: float = 5.0
) -> Tensor:
    """The alpha-divergence of a teacher's probabilities p from a student's q, of each image the largest of several.

    D(p, q) = sum of q ((p / q)^alpha - 1) / (alpha (alpha - 1)); at 1 it is KL(p, q), at 0 KL(q, p). A student that is
    unsure where the teacher is sure is found by a positive alpha, one that is sure where the teacher is not by a
    negative one, so the larger of two is learned from. No gradient goes to the teacher. Source: Wang et al. 2021
    (AlphaNet, arXiv 2102.07954), section 3; the gradient is theirs, with the ratio's power cut off at `clip`.

    Args:
        student: Logits [n, classes].
        teacher: Logits [n, classes].
        alphas: At least one.
        clip: Largest (p / q)^alpha that the gradient sees, above 0.

    Returns:
        The mean over images [], 0 where student and teacher agree.

    Raises:
        RecipeError: If there is no alpha, or the clip is not above 0.

    Example:
        >>> teacher = torch.tensor([[2.0, 0.0]])
        >>> float(alpha_divergence(teacher, teacher)), bool(alpha_divergence(-teacher, teacher) > 0)
        (0.0, True)
    """
    if not alphas or not clip > 0:
        raise RecipeError(f"alphas is {alphas} and clip {clip}; expected at least one alpha, and a clip above 0")
    log_p, log_q = teacher.detach().log_softmax(1), student.log_softmax(1)
    with torch.no_grad():
        q, log_ratio = log_q.exp(), log_p - log_q
        found = [_divergence(q, log_ratio, alpha, clip) for alpha in alphas]
        values = torch.stack([value for value, _ in found])
        slopes = torch.stack([slope for _, slope in found])
        largest = values.argmax(0)
        value = values.gather(0, largest[None])[0]
        slope = slopes.gather(0, largest[None, :, None].expand(1, *q.shape))[0]
    surrogate = -(q * slope * log_q).sum(1)  # its gradient is the divergence's, its value is not
    return (surrogate + (value - surrogate).detach()).mean()


def _divergence(q: Tensor, log_ratio: Tensor, alpha: float, clip: float) -> tuple[Tensor, Tensor]:
    """The divergence [n], and minus its derivative to q [n, classes]."""
    if alpha == 0:
        return -(q * log_ratio).sum(1), log_ratio - 1
    ratio = log_ratio.exp()
    if alpha == 1:
        return (q * ratio * log_ratio).sum(1), ratio.clamp(max=clip)
    power = (alpha * log_ratio).exp()
    scale = alpha * (alpha - 1)
    return (q * (power - 1)).sum(1) / scale, power.clamp(max=clip) / alpha + 1 / scale
