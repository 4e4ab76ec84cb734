"""Batch-norm statistics of one network, estimated afresh."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from hwnas.core import DataError


def reestimate_batch_norm(module: nn.Module, images: Iterable[Tensor]) -> None:
    """Replace every running statistic by its plain average over the given batches.

    A network cut from a supernet inherits statistics that mix all networks trained before it; its accuracy means
    nothing until they are its own. The module's mode and its norms' momentum are left as they were.
    Source: Yu and Huang 2019 (arXiv 1903.05134), post-statistics of batch normalisation.

    Args:
        module: Its `BatchNorm2d` layers are changed in place.
        images: Batches [n, c, h, w] of equal size, so that the average is over images.

    Raises:
        DataError: If there is no batch.

    Example:
        >>> norm = nn.BatchNorm2d(1)
        >>> reestimate_batch_norm(norm, [torch.full((4, 1, 2, 2), 3.0)])
        >>> norm.running_mean
        tensor([3.])
    """
    norms = [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    modes = [(part, part.training) for part in module.modules()]
    seen = 0
    try:
        module.eval()
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # cumulative average
            norm.train()
        with torch.no_grad():
            for batch in images:
                module(batch)
                seen += 1
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for part, mode in modes:
            part.training = mode
    if norms and not seen:
        raise DataError("batch-norm re-estimation got no batch; give at least one of the training images")
