"""What a picture's axis says of a metric: its name in words, its unit, and the factor from stored to drawn values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hwnas.core import Objective
from hwnas.pareto import non_dominated

# By unit: the factor, and what is written. Units that are not here are drawn as they are.
_DRAWN = {
    "share": (100.0, "%"),
    "multiply-adds": (1e-6, "millions"),
    "parameters": (1e-3, "thousands"),
    "bytes": (1 / 1024, "KiB"),
}
_WORDS = {"latency_ms": "latency", "energy_mj": "energy", "macs": "multiply-adds", "model_bytes": "model size"}


@dataclass(frozen=True)
class Axis:
    """One direction of a picture.

    Attributes:
        label: Name, how values came about, and unit.
        maximize: Whether more is better.
        factor: From a metric's own unit to what is drawn.
        unit: Of what is drawn.

    Example:
        >>> axis = Axis.of(Objective.named("balanced_accuracy"), "validation images")
        >>> axis.label, axis.maximize, axis.factor * 0.25
        ('balanced accuracy, validation images, %', True, 25.0)
        >>> Axis.of(Objective.named("latency_ms@pi4"), "estimated").label
        'latency on pi4, estimated, ms'
    """

    label: str
    maximize: bool
    factor: float = 1.0
    unit: str = ""

    @classmethod
    def of(cls, objective: Objective, detail: str = "") -> Axis:
        """The axis of an objective.

        Args:
            objective: What is drawn.
            detail: On which images, on which device, measured or estimated; empty for nothing.
        """
        name, _, device = objective.name.partition("@")
        words = _WORDS.get(name, name.removesuffix("_bytes").replace("_", " ")) + (f" on {device}" if device else "")
        factor, unit = _DRAWN.get(objective.unit, (1.0, objective.unit))
        return cls(
            ", ".join(part for part in (words, detail, unit) if part),
            objective.direction == "maximize",
            factor,
            unit,
        )

    def possible(self, drawn: float) -> float:
        """A drawn value, moved to the nearest that the metric can have: a share ends at 0 and 100 %.

        Example:
            >>> [Axis.of(Objective.named(name)).possible(105.7) for name in ("accuracy", "latency_ms")]
            [100.0, 105.7]
        """
        return min(max(drawn, 0.0), 100.0) if self.unit == "%" else drawn

    def in_words(self, value: float) -> str:
        """A value for people.

        Example:
            >>> Axis.of(Objective.named("accuracy")).in_words(0.9664), Axis.of(Objective.named("macs")).in_words(4.2e6)
            ('96.6 %', '4.2 millions')
        """
        drawn = self.factor * value
        return f"{drawn:.1f} %" if self.unit == "%" else f"{drawn:.3g} {self.unit}".rstrip()


def drawn_axes(objectives: Sequence[Objective]) -> tuple[Objective, Objective]:
    """Which objectives a picture draws across and upright: the first two.

    Upright is the share of images where one of them is one, else the first. A run with one objective is drawn against
    latency, or latency against accuracy.

    Example:
        >>> [one.name for one in drawn_axes([Objective.named("accuracy"), Objective.named("macs")])]
        ['macs', 'accuracy']
        >>> [one.name for one in drawn_axes([Objective.named("latency_ms"), Objective.named("macs")])]
        ['macs', 'latency_ms']
        >>> [one.name for one in drawn_axes([Objective.named("latency_ms")])]
        ['latency_ms', 'accuracy']
    """
    first, *others = objectives
    second = others[0] if others else Objective.named("accuracy" if first.name == "latency_ms" else "latency_ms")
    return (first, second) if second.unit == "share" and first.unit != "share" else (second, first)


@dataclass(frozen=True)
class Dot:
    """One network of a picture; numbers in the metrics' own units.

    Attributes:
        x: Across.
        y: Upright.
        name: Short; written beside it. Empty for none.
        on_front: Whether nothing beats it.
        searched: Whether the search found it; others are drawn as squares.
        predicted_x: What the search believed, None if nothing was predicted.
        band: The ends of an estimate's band across, None where there is none.
        error: Standard error of `y`, None where there is none.
        shade: A third objective, None where there is none.
    """

    x: float
    y: float
    name: str = ""
    on_front: bool = True
    searched: bool = True
    predicted_x: float | None = None
    band: tuple[float, float] | None = None
    error: float | None = None
    shade: float | None = None


def front_line(dots: Sequence[Dot], x: Axis, y: Axis) -> list[Dot]:
    """Of dots on a front those that no other of them beats in what is drawn, from left to right.

    With two objectives these are all of them, unless what is drawn is not what the front was made of.

    Example:
        >>> latency, accuracy = Axis("ms", maximize=False), Axis("%", maximize=True)
        >>> found = front_line([Dot(3, 0.8), Dot(1, 0.7), Dot(2, 0.9)], latency, accuracy)
        >>> [dot.x for dot in found]
        [1, 2]
    """
    rows = [dot for dot in dots if dot.on_front]
    costs = np.array([[-d.x if x.maximize else d.x, -d.y if y.maximize else d.y] for d in rows], dtype=np.float64)
    return sorted((rows[n] for n in non_dominated(costs.reshape(-1, 2)).tolist()), key=lambda dot: dot.x)
