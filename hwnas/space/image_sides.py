"""How large the images of a space may be."""

from __future__ import annotations

from collections.abc import Iterable

from hwnas.core import SpaceError

LARGEST_SIDE = 4096  # pixels: one float RGB image is 200 MB then, and its features in a network are gigabytes


def check_largest_side(sides: Iterable[object]) -> None:
    """Refuse sides that no memory holds, before anything of that size is made.

    Args:
        sides: Of the square images, in pixels.

    Raises:
        SpaceError: If one is above `LARGEST_SIDE`; names it.

    Example:
        >>> check_largest_side([32, 224])
        >>> check_largest_side([100000])
        Traceback (most recent call last):
        hwnas.core.errors.SpaceError: resolutions holds 100000; expected at most 4096 pixels, as one RGB image takes ...
    """
    for side in sides:
        if isinstance(side, int) and side > LARGEST_SIDE:
            raise SpaceError(
                f"resolutions holds {side}; expected at most {LARGEST_SIDE} pixels, as one RGB image takes "
                f"{12 * side**2 / 1e9:.1f} GB as floats and its features a multiple of that"
            )
