"""Numbers of things in messages."""

from __future__ import annotations


def counted(number: int, noun: str, plural: str = "") -> str:
    """A number with its noun, in the singular for 1.

    Args:
        number: Of things.
        noun: In the singular, with any words before it.
        plural: In the plural; `noun` with an "s" unless given.

    Example:
        >>> counted(1, "network"), counted(12000, "network"), counted(2, "class", "classes")
        ('1 network', '12,000 networks', '2 classes')
    """
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"
