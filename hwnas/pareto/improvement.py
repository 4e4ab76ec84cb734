"""How much volume a network may be expected to add to a front, when one of its costs is uncertain."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_NUMBERS_AT_ONCE = 4_000_000


def expected_improvement(
    front: Floats, reference: Floats, values: Floats, weights: Floats, known: Floats
) -> NDArray[np.float64]:
    """The expected gain in hypervolume of points whose first cost has a few possible values and whose others are known.

    Exact for those values: where the other costs are at most so large, the front has a least first cost, and below it
    the point gains what it lies below; that is added up over the cells between the front's other costs. With one
    objective it is the usual expected improvement.

    Source: expected hypervolume improvement by cells (Emmerich et al. 2011, CEC), with all costs but one certain.

    Args:
        front: [points, objectives], all minimised; the uncertain cost first. May be empty.
        reference: [objectives], of the volume.
        values: [n, values], what the first cost may be.
        weights: [values], how probable each is.
        known: [n, objectives - 1], the other costs.

    Returns:
        [n], 0 or above.

    Raises:
        ValueError: If a number is not finite.

    Example:
        >>> front, reference = np.array([[1.0, 2.0], [2.0, 1.0]]), np.array([3.0, 3.0])
        >>> half = np.array([0.5, 0.5])
        >>> expected_improvement(front, reference, np.array([[0.5, 9.0]]), half, np.array([[1.5]])).tolist()
        [0.625]
    """
    for name, numbers in (("front", front), ("reference", reference), ("values", values), ("known", known)):
        if not np.isfinite(numbers).all():
            raise ValueError(f"expected_improvement: {name} holds a number that is not finite")
    inside = front[(front < reference).all(axis=1)] if len(front) else np.empty((0, len(reference)))
    ends = [np.unique(np.append(inside[:, column], reference[column])) for column in range(1, len(reference))]
    starts = [np.concatenate([[-np.inf], end[:-1]]) for end in ends]  # a cell for what lies before the first, too
    least = np.full([len(end) for end in ends], reference[0])
    for row in inside:
        covered = np.ix_(*(start >= row[column + 1] for column, start in enumerate(starts)))
        least[covered] = np.minimum(least[covered], row[0])
    levels, level = np.unique(least.ravel(), return_inverse=True)
    of_level = (level[:, None] == np.arange(len(levels))).astype(np.float64)  # [cells, levels]
    total = np.empty(len(values))
    step = max(1, _NUMBERS_AT_ONCE // (least.size + len(levels) * len(weights)))
    for first in range(0, len(values), step):
        part = slice(first, first + step)
        volume = np.ones((len(values[part]), 1))
        for column, (start, end) in enumerate(zip(starts, ends, strict=True)):
            width = np.maximum(end - np.maximum(start, known[part, column, None]), 0.0)
            volume = (volume[:, :, None] * width[:, None, :]).reshape(len(volume), -1)
        gain = np.maximum(levels[None, :, None] - values[part, None, :], 0.0) @ weights
        total[part] = ((volume @ of_level) * gain).sum(axis=1)
    return total
