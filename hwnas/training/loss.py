"""Losses on logits [n, classes]."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


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
