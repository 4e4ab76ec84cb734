"""The front as a picture of letters, for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from hwnas.report.axis import Axis, Dot

ON_FRONT, BEATEN, RIVAL = "o", ".", "x"


def front_in_letters(dots: Sequence[Dot], *, x: Axis, y: Axis, width: int = 64, height: int | None = None) -> list[str]:
    """One axis upwards, the other to the right, one line per row, and a legend; nothing for no dots.

    A dot with a name of one letter is that letter; others are "o" on the front, "." not, "x" not from the search. Where
    several fall on one place the front is shown, and the legend says what lies below.

    Args:
        dots: Networks.
        x: Across.
        y: Upright.
        width: Columns of the picture, without the labels.
        height: Rows of the picture; by default as many as the dots need.

    Example:
        >>> from hwnas.core import Objective
        >>> x, y = (Axis.of(Objective.named(name)) for name in ("latency_ms", "accuracy"))
        >>> front = [Dot(1.0, 0.8, "A"), Dot(3.0, 0.9, "B"), Dot(3.0, 0.8, "C", on_front=False)]
        >>> for line in front_in_letters(front, x=x, y=y, width=9, height=3):
        ...     print(line)
        accuracy, %
        90.0 |        B
        85.0 |
        80.0 |A       C
             +---------
              1   2   3
              latency, ms
              on the front: A, B; not on it: C
    """
    if not dots:
        return []
    height = height or min(14, 2 * len(dots) + 2)
    # The front last, so that it lies on top.
    ordered = sorted(dots, key=lambda dot: (dot.on_front, dot.searched))
    left, right = min(dot.x for dot in dots), max(dot.x for dot in dots)
    low, high = min(dot.y for dot in dots), max(dot.y for dot in dots)
    rows = [[" "] * width for _ in range(height)]
    below: list[str] = []
    shown: dict[tuple[int, int], str] = {}
    for dot in ordered:
        column = round((dot.x - left) / (right - left or 1.0) * (width - 1))
        row = round((high - dot.y) / (high - low or 1.0) * (height - 1))
        letter = _letter(dot)
        if (row, column) in shown and dot.name:
            below.append(f"{shown[row, column]} lies under {letter}")
        rows[row][column] = shown[row, column] = letter
    labels = ["" for _ in rows]
    middle = (height - 1) // 2
    if 0 < middle < height - 1:
        labels[middle] = f"{y.factor * (high - (high - low) * middle / (height - 1)):.1f}"
    labels[-1], labels[0] = _number(y.factor * low, y), _number(y.factor * high, y)
    if high == low:
        labels = [labels[0], *[""] * (height - 1)]
    margin = max(map(len, labels))
    return [
        y.label,
        *(f"{label:>{margin}} |{''.join(row)}".rstrip() for label, row in zip(labels, rows, strict=True)),
        f"{'':>{margin}} +{'-' * width}",
        f"{'':>{margin}}  {_ends(x.factor * left, x.factor * right, width)}".rstrip(),
        f"{'':>{margin}}  {x.label}",
        f"{'':>{margin}}  {'; '.join([*_legend(dots), *below])}",
    ]


def _letter(dot: Dot) -> str:
    if len(dot.name) == 1:
        return dot.name
    return ON_FRONT if dot.on_front else BEATEN if dot.searched else RIVAL


def _legend(dots: Sequence[Dot]) -> list[str]:
    """Who is what."""
    groups = {
        "on the front": [dot for dot in dots if dot.on_front],
        "not on it": [dot for dot in dots if not dot.on_front],
        "not from the search": [dot for dot in dots if not dot.searched],
    }
    return [
        f"{text}: {', '.join(dict.fromkeys(_letter(dot) for dot in group))}" for text, group in groups.items() if group
    ]


def _number(value: float, axis: Axis) -> str:
    return f"{value:.1f}" if axis.unit == "%" else f"{value:.3g}"


def _ends(left: float, right: float, width: int) -> str:
    """Numbers under both ends of an axis and, where there is room, under its middle."""
    if left == right:
        return f"{left:.3g}".ljust(width)
    texts = f"{left:.3g}", f"{(left + right) / 2:.3g}", f"{right:.3g}"
    line = texts[0].ljust(width - len(texts[2])) + texts[2]
    start = (width - len(texts[1])) // 2
    if line[max(0, start - 1) : start + len(texts[1]) + 1].strip():
        return line
    return line[:start] + texts[1] + line[start + len(texts[1]) :]
