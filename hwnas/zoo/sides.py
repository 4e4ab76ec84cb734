"""Which sides of images a family can be given."""

from __future__ import annotations

from collections.abc import Sequence

from hwnas.core import SpaceError


def check_sides(resolutions: Sequence[int], *, why: str, step: int = 1, least: int = 1) -> None:
    """Refuse sides that strides do not allow, and name the nearest that they do.

    Args:
        resolutions: Searched.
        why: What limits them, for the message.
        step: They must be multiples of it.
        least: The smallest.

    Raises:
        SpaceError: If there is none, they do not ascend, or one cannot be; names it and the nearest that can.

    Example:
        >>> try:
        ...     check_sides([32, 50], why="the stem divides it", step=32)
        ... except SpaceError as error:
        ...     error.message
        'resolutions holds 50; the stem divides it, so expected multiples of 32: the nearest are 32 and 64'
    """
    if list(resolutions) != sorted(set(resolutions)) or not resolutions:
        raise SpaceError(f"resolutions is {list(resolutions)}; expected ascending numbers, each once")
    smallest = max(step, -(-least // step) * step)
    for side in resolutions:
        if side >= smallest and side % step == 0:
            continue
        below = side // step * step
        nearest = f"the nearest are {below} and {below + step}" if below >= smallest else f"the smallest is {smallest}"
        wanted = f"multiples of {step}" if step > 1 else f"at least {smallest}"
        raise SpaceError(f"resolutions holds {side}; {why}, so expected {wanted}: {nearest}")
