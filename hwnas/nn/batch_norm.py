"""Batch-norm statistics of one network, estimated afresh."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from hwnas.core import DataError


def reestimate_batch_norm(module: nn.Module, images: Iterable[Tensor]) -> None:
    """Replace every running statistic by its plain average over the given batches.

    A network cut from a supernet inherits statistics that mix all networks trained before it; its accuracy means
    nothing until they are its own. The module's mode and its norms' momentum are left as they were.
    Source: Yu and Huang 2019 (arXiv 1903.05134), post-statistics of batch normalisation.

    Args:
        module: Its batch norms, and instance norms that keep statistics, are changed in place. A norm that keeps none
            is left as it is.
        images: Batches [n, c, h, w] of equal size, so that the average is over images.

    Raises:
        DataError: If there is no batch.

    Example:
        >>> norm = nn.BatchNorm2d(1)
        >>> reestimate_batch_norm(norm, [torch.full((4, 1, 2, 2), 3.0)])
        >>> norm.running_mean
        tensor([3.])
    """
    norms = [part for part in module.modules() if isinstance(part, _BatchNorm) and part.running_mean is not None]
    others = [part for part in module.modules() if isinstance(part, _InstanceNorm) and part.running_mean is not None]
    momenta = [(norm, norm.momentum) for norm in (*norms, *others)]
    modes = [(part, part.training) for part in module.modules()]
    seen = 0
    try:
        module.eval()
        for norm, _ in momenta:
            norm.reset_running_stats()
            norm.momentum = None  # cumulative average
            norm.train()
        with torch.no_grad():
            for batch in images:
                seen += 1
                for norm in others:
                    norm.momentum = 1 / seen  # which instance norms do not know as None
                module(batch)
    finally:
        for norm, momentum in momenta:
            norm.momentum = momentum
        for part, mode in modes:
            part.training = mode
    if momenta and not seen:
        raise DataError("batch-norm re-estimation got no batch; give at least one of the training images")
