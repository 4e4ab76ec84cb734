"""Setting what other people's code draws from."""

from __future__ import annotations

import random
import sys

import numpy as np


def seed_globals(seed: int) -> None:
    """Seed the global generators of Python, numpy and, if it is imported, torch (processor and CUDA).

    hwnas itself draws from none of them, but torch's initialisers and dropout, and users' functions, do. A step that is
    replayed draws nothing, so without this every later draw would differ from the unbroken run's.

    Args:
        seed: Below 2^63.

    Example:
        >>> seed_globals(3)
        >>> first = random.random()
        >>> seed_globals(3)
        >>> random.random() == first
        True
    """
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - the point is the global generator that others draw from
    torch = sys.modules.get("torch")  # importing torch takes a second, which searches in tables need not pay
    if torch is not None:
        # Not torch.manual_seed: it costs 0.1 ms, and without a GPU in use it queues a call for each seed it was given.
        torch.default_generator.manual_seed(seed)
        if torch.cuda.is_initialized():
            torch.cuda.manual_seed_all(seed)
