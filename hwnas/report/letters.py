"""The front as a picture of letters, for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from hwnas.report.front_picture import Dot

ON_FRONT, BEATEN, RIVAL = "o", ".", "x"


def front_in_letters(
    dots: Sequence[Dot], *, rivals: Sequence[Dot] = (), width: int = 64, height: int = 14
) -> list[str]:
    """Accuracy upwards against latency to the right, one line per row and a legend; nothing for no dots.

    Args:
        dots: Members: "o" on the front, "." beaten by another. Where several fall on one place, the front is shown.
        rivals: Networks that were not found by the search: "x".
        width: Columns of the picture, without the labels.
        height: Rows of the picture.

    Example:
        >>> front = [Dot(1.0, 0.8), Dot(3.0, 0.9), Dot(3.0, 0.8, on_front=False)]
        >>> for line in front_in_letters(front, width=9, height=3)[:-1]:
        ...     print(line)
        90.0 % |        o
               |
        80.0 % |o       .
               +---------
                1       3 ms
    """
    everything = [
        *((dot, BEATEN) for dot in dots if not dot.on_front),
        *((dot, RIVAL) for dot in rivals),
        *((dot, ON_FRONT) for dot in dots if dot.on_front),
    ]
    if not everything:
        return []
    latencies = [dot.latency_ms for dot, _ in everything]
    accuracies = [dot.accuracy for dot, _ in everything]
    left, right, low, high = min(latencies), max(latencies), min(accuracies), max(accuracies)
    rows = [[" "] * width for _ in range(height)]
    for dot, letter in everything:
        column = round((dot.latency_ms - left) / (right - left or 1.0) * (width - 1))
        row = round((high - dot.accuracy) / (high - low or 1.0) * (height - 1))
        rows[row][column] = letter
    labels = ["" for _ in rows]
    labels[-1], labels[0] = f"{100 * low:.1f} %", f"{100 * high:.1f} %"
    margin = max(map(len, labels))
    ends = f"{left:.3g}", f"{right:.3g}"
    gap = max(1, width - len(ends[0]) - len(ends[1]))
    return [
        *(f"{label:>{margin}} |{''.join(row)}".rstrip() for label, row in zip(labels, rows, strict=True)),
        f"{'':>{margin}} +{'-' * width}",
        f"{'':>{margin}}  {ends[0]}{' ' * gap}{ends[1]} ms",
        f"{'':>{margin}}  {ON_FRONT} on the front, {BEATEN} beaten by another"
        + (f", {RIVAL} not from the search" if rivals else ""),
    ]
