"""Channel counts as the published networks round them."""

from __future__ import annotations


def divisible(channels: float, by: int = 8) -> int:
    """The nearest multiple of a number, at least that number, and no more than a tenth below the channels wanted.

    Halves round up. Source: Sandler et al. 2018 (arXiv 1801.04381), as in their code and in all that followed it.

    Args:
        channels: Wanted.
        by: Of which the result is a multiple.

    Example:
        >>> [divisible(channels) for channels in (3, 19.2, 20, 36)]
        [8, 24, 24, 40]
    """
    nearest = max(by, int(channels + by / 2) // by * by)
    return nearest + by if nearest < 0.9 * channels else nearest
