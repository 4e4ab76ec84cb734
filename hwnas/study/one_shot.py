"""Shared weights that a strategy may train itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # all of them load torch, for which a study of tables need not wait
    from hwnas.data import MiniBatch
    from hwnas.nn import Supernet
    from hwnas.training import Placement, Schedule


@dataclass(frozen=True)
class OneShot:
    """What a gradient method is given beside the study: shared weights that it trains itself, and images.

    Attributes:
        supernet: Makes the weights afresh.
        training: One epoch of training batches.
        validation: One batch of the images by which distributions are moved.
        steps: Batches in an epoch.
        schedule: How weights are moved in so many epochs.
        label_smoothing: Share of each label spread over all classes, in the weights' loss.
        placement: Where they are trained; the batches lie there.
        phase: Name under which the weights are trained; evaluations read its versions.
        progress: Called with (steps done, steps in all, loss).
    """

    supernet: Callable[[], Supernet]
    training: Callable[[np.random.Generator], Iterable[MiniBatch]]
    validation: Callable[[np.random.Generator], MiniBatch]
    steps: int
    schedule: Callable[[int], Schedule]
    label_smoothing: float = 0.0
    placement: Placement | None = None
    phase: str = "supernet"
    progress: Callable[[int, int, float], None] | None = None
