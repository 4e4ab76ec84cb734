"""The front as a picture: what was measured, beside what was predicted."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from hwnas.core import write_atomically

INK, MUTED, ACCENT, OTHER = "#1b1f24", "#8a939e", "#0b6e4f", "#c8553d"
SERIES = (ACCENT, OTHER, "#2f6db3", "#8a5fb0", "#b8860b", "#5b6470")
"""Of fronts in one picture, in their order; told apart by their marks, too."""


@dataclass(frozen=True)
class Dot:
    """One measured network.

    Attributes:
        latency_ms: Measured.
        accuracy: In 0..1, on the part that the title names.
        predicted_ms: What the search believed, None if nothing was predicted.
        on_front: Whether nothing beats it.
        label: Written beside it; empty for none.
    """

    latency_ms: float
    accuracy: float
    predicted_ms: float | None = None
    on_front: bool = True
    label: str = ""


def front_picture(
    path: Path,
    *,
    dots: Sequence[Dot],
    rivals: Sequence[Dot] = (),
    title: str,
    caption: str,
    accuracy_label: str,
    limit_ms: float | None = None,
    latency_word: str = "measured",
) -> None:
    """Draw accuracy against latency and write a PNG in one step.

    Args:
        path: Of the picture.
        dots: Members; those on the front are joined by a line that steps as the front does.
        rivals: Networks that were not found by the search, drawn as squares.
        title: What and where.
        caption: Conditions, small, below.
        accuracy_label: Of the upright axis.
        limit_ms: A hard limit, drawn where it lies within the picture.
        latency_word: How the latencies came about: "measured", "estimated" or "predicted".

    Raises:
        OSError: If the file cannot be written.
    """
    figure, axes = _page()
    front = sorted((dot for dot in dots if dot.on_front), key=lambda dot: dot.latency_ms)
    off = [dot for dot in dots if not dot.on_front]
    if front:
        axes.step(
            [dot.latency_ms for dot in front],
            [100 * dot.accuracy for dot in front],
            where="post",
            color=ACCENT,
            linewidth=1.2,
            alpha=0.5,
        )
    for dot in dots:
        if dot.predicted_ms is not None:
            axes.plot(
                [dot.predicted_ms, dot.latency_ms],
                [100 * dot.accuracy] * 2,
                color=MUTED,
                linewidth=1,
                marker="|",
                markevery=[0],
                markersize=8,
                zorder=2,
            )
    if any(dot.predicted_ms is not None for dot in dots):
        axes.plot([], [], color=MUTED, linewidth=0, marker="|", markersize=8, label="latency as predicted")
    style = {"linestyle": "none", "zorder": 3, "markeredgecolor": "white"}
    _scatter(axes, front, marker="o", markersize=8, color=ACCENT, label=f"{latency_word}, on the front", **style)
    _scatter(axes, off, marker="o", markersize=6, color=MUTED, label=f"{latency_word}, beaten by another", **style)
    _scatter(axes, rivals, marker="s", markersize=7, color=OTHER, label="not from the search", **style)
    for dot in [*dots, *rivals]:
        if dot.label:
            axes.annotate(
                dot.label,
                (dot.latency_ms, 100 * dot.accuracy),
                xytext=(7, -11),
                textcoords="offset points",
                fontsize=8,
                color=INK,
            )
    if limit_ms is not None and axes.get_xlim()[0] < limit_ms < 1.5 * axes.get_xlim()[1]:
        axes.axvline(limit_ms, color=OTHER, linewidth=1, linestyle=":")
        axes.annotate(
            f"limit {limit_ms:.3g} ms",
            (limit_ms, axes.get_ylim()[1]),  # at the top: the legend stands at the bottom
            xytext=(-4, -6),
            textcoords="offset points",
            rotation=90,
            ha="right",
            va="top",
            fontsize=8,
            color=OTHER,
        )
    _finish(figure, axes, path, title=title, caption=caption, accuracy_label=accuracy_label)


def fronts_picture(
    path: Path, *, fronts: Mapping[str, Sequence[Dot]], title: str, caption: str, accuracy_label: str
) -> None:
    """Draw several fronts into one picture, each with a colour and a mark of its own, and write a PNG in one step.

    Args:
        path: Of the picture.
        fronts: By name, which the legend says; those that nothing beats of any front are filled.
        title: What and where.
        caption: Conditions, small, below.
        accuracy_label: Of the upright axis.

    Raises:
        OSError: If the file cannot be written.
    """
    figure, axes = _page()
    for n, (name, dots) in enumerate(fronts.items()):
        colour, mark = SERIES[n % len(SERIES)], "osD^vP"[n % 6]
        ordered = sorted(dots, key=lambda dot: dot.latency_ms)
        x, y = [dot.latency_ms for dot in ordered], [100 * dot.accuracy for dot in ordered]
        axes.step(x, y, where="post", color=colour, linewidth=1.2, alpha=0.4)
        axes.plot(x, y, linestyle="none", marker=mark, markersize=6, color=colour, markerfacecolor="white", zorder=3)
        best = [dot for dot in ordered if dot.on_front]
        _scatter(axes, best, linestyle="none", marker=mark, markersize=6, color=colour, zorder=4)
        axes.plot([], [], color=colour, marker=mark, markersize=6, linewidth=1.2, label=name)
    axes.plot([], [], color=INK, marker="o", markersize=6, linestyle="none", label="filled: nothing beats it")
    _finish(figure, axes, path, title=title, caption=caption, accuracy_label=accuracy_label)


def _page() -> tuple[Figure, Any]:
    figure = Figure(figsize=(7.2, 4.6), dpi=160, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def _finish(figure: Figure, axes: Any, path: Path, *, title: str, caption: str, accuracy_label: str) -> None:
    axes.set_xlabel("latency, ms per image", color=INK)
    axes.set_ylabel(f"{accuracy_label}, %", color=INK)
    axes.set_title(title, loc="left", fontsize=11, color=INK)
    axes.grid(visible=True, color="#e6e8eb", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    if axes.get_legend_handles_labels()[0]:
        # Opaque: a limit's line may run behind it.
        axes.legend(framealpha=1.0, edgecolor="none", fontsize=8, loc="lower right")
    figure.supxlabel(caption, fontsize=7, color=MUTED)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    write_atomically(path, buffer.getvalue())


def _scatter(axes: object, dots: Sequence[Dot], **style: object) -> None:
    if dots:
        axes.plot([dot.latency_ms for dot in dots], [100 * dot.accuracy for dot in dots], **style)  # type: ignore[attr-defined]
