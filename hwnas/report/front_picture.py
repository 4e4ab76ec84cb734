"""The front as a picture: what was measured, beside what was predicted."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from hwnas.core import write_atomically
from hwnas.report.axis import Axis, Dot, front_line
from hwnas.report.lettering import for_legend, spell_out

INK, MUTED, ACCENT, OTHER = "#1b1f24", "#8a939e", "#0b6e4f", "#c8553d"
SERIES = (ACCENT, OTHER, "#2f6db3", "#8a5fb0", "#b8860b", "#5b6470")
"""Of fronts in one picture, in their order; told apart by their marks, too."""

_PLACES = ((6, 5), (6, -12), (-13, 5), (-13, -12), (6, 15), (6, -22))
"""Where a name may stand beside its dot, in points, the best first."""
_NEAR = 9.0  # points: closer than this a name covers what stands there


def front_picture(
    path: Path,
    *,
    dots: Sequence[Dot],
    x: Axis,
    y: Axis,
    title: str,
    caption: str,
    shade: Axis | None = None,
    limit_x: float | None = None,
    word: str = "measured",
) -> Figure:
    """Draw a front and write a PNG in one step.

    Args:
        path: Of the picture.
        dots: All that was measured; those that nothing beats in what is drawn are joined by a line that steps as the
            front does.
        x: Across.
        y: Upright.
        title: What and where.
        caption: Conditions, small, below.
        shade: A third objective, drawn as colour; None for none.
        limit_x: A hard limit on what is drawn across, drawn where it lies within the picture.
        word: How values across came about: "measured", "estimated" or "predicted".

    Returns:
        What was written.

    Raises:
        OSError: If the file cannot be written.
    """
    figure, axes = _page()
    line = front_line(dots, x, y)
    _step(axes, line, x, y, color=ACCENT, linewidth=1.2, alpha=0.5)
    _whiskers(axes, dots, x, y)
    below = [dot for dot in dots if dot.on_front and dot not in line]
    kinds: list[tuple[list[Dot], dict[str, Any], str]] = [
        (line, {"color": ACCENT}, f"{word}, on the front"),
        (below, {"color": ACCENT, "markerfacecolor": "white"}, f"{word}, on the front, but not by what is drawn here"),
        ([dot for dot in dots if not dot.on_front], {"color": MUTED, "markersize": 6}, f"{word}, not on the front"),
    ]
    for group, style, label in kinds:
        for searched, mark in ((True, "o"), (False, "s")):
            part = [dot for dot in group if dot.searched == searched]
            style = {"markersize": 8, **style, "linestyle": "none", "zorder": 3, "markeredgewidth": 1.2}
            text = label if searched else f"{label}, not from the search"
            edge = {} if "markerfacecolor" in style else {"markeredgecolor": "white"}
            _scatter(axes, part, x, y, marker=mark, label=text, **style, **edge)
    _explain_whiskers(axes, dots)
    _shade(figure, axes, dots, x, y, shade)
    if limit_x is not None and axes.get_xlim()[0] < x.factor * limit_x < 1.5 * axes.get_xlim()[1]:
        axes.axvline(x.factor * limit_x, color=OTHER, linewidth=1, linestyle=":")
        axes.annotate(
            f"limit {x.factor * limit_x:.3g} {x.unit}",
            (x.factor * limit_x, axes.get_ylim()[1]),
            xytext=(-4, -6),
            textcoords="offset points",
            rotation=90,
            ha="right",
            va="top",
            fontsize=8,
            color=OTHER,
        )
    _finish(figure, axes, title=title, caption=caption, x=x, y=y)
    _name(figure, axes, dots, x, y)
    _write(figure, path)
    return figure


def fronts_picture(
    path: Path, *, fronts: Mapping[str, Sequence[Dot]], x: Axis, y: Axis, title: str, caption: str
) -> Figure:
    """Draw several fronts into one picture, each with a colour and a mark of its own, and write a PNG in one step.

    Args:
        path: Of the picture.
        fronts: By name, which the legend says; those that nothing beats of any front are filled.
        x: Across.
        y: Upright.
        title: What and where.
        caption: Conditions, small, below.

    Returns:
        What was written.

    Raises:
        OSError: If the file cannot be written.
    """
    figure, axes = _page()
    for n, (name, dots) in enumerate(fronts.items()):
        colour, mark = SERIES[n % len(SERIES)], "osD^vP"[n % 6]
        # Its own front of what is drawn: a network chosen by other images may lie below the line.
        own = front_line([Dot(dot.x, dot.y) for dot in dots], x, y)
        _step(axes, own, x, y, color=colour, linewidth=1.2, alpha=0.4)
        style = {"linestyle": "none", "marker": mark, "markersize": 6, "color": colour}
        _scatter(axes, dots, x, y, markerfacecolor="white", zorder=3, **style)
        _scatter(axes, [dot for dot in dots if dot.on_front], x, y, zorder=4, **style)
        axes.plot([], [], color=colour, marker=mark, markersize=6, linewidth=1.2, label=for_legend(name))
    axes.plot([], [], color=INK, marker="o", markersize=6, linestyle="none", label="filled: nothing beats it")
    _finish(figure, axes, title=title, caption=caption, x=x, y=y)
    _write(figure, path)
    return figure


def _page() -> tuple[Figure, Any]:
    figure = Figure(figsize=(7.2, 4.8), dpi=160, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def _finish(figure: Figure, axes: Any, *, title: str, caption: str, x: Axis, y: Axis) -> None:
    axes.set_xlabel(x.label, color=INK)
    axes.set_ylabel(y.label, color=INK)
    axes.margins(0.08)
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, color=INK)
    axes.grid(visible=True, color="#e6e8eb", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    if axes.get_legend_handles_labels()[0]:
        # Above the axes: inside them it would cover what it explains.
        axes.legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2, borderaxespad=0.2)
    figure.supxlabel(caption, fontsize=7, color=MUTED)


def _write(figure: Figure, path: Path) -> None:
    spell_out(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    write_atomically(path, buffer.getvalue())


def _scatter(axes: Any, dots: Sequence[Dot], x: Axis, y: Axis, **style: Any) -> None:
    if dots:
        axes.plot([x.factor * dot.x for dot in dots], [y.factor * dot.y for dot in dots], **style)


def _step(axes: Any, dots: Sequence[Dot], x: Axis, y: Axis, **style: Any) -> None:
    """Between two networks of a front the best that is to be had is the left one where less across is better."""
    if dots:
        across, upright = [x.factor * dot.x for dot in dots], [y.factor * dot.y for dot in dots]
        axes.step(across, upright, where="pre" if x.maximize else "post", **style)


def _whiskers(axes: Any, dots: Sequence[Dot], x: Axis, y: Axis) -> None:
    """What was predicted, how wide an estimate's band is, how sure an accuracy is."""
    thin = {"color": MUTED, "linewidth": 1, "zorder": 2}
    for dot in dots:
        across, upright = x.factor * dot.x, y.factor * dot.y
        if dot.predicted_x is not None:
            predicted = x.factor * dot.predicted_x
            axes.plot([predicted, across], [upright] * 2, marker="|", markevery=[0], markersize=8, **thin)
        if dot.band is not None:
            axes.plot([x.factor * end for end in dot.band], [upright] * 2, alpha=0.6, **thin)
        if dot.error is not None:
            ends = [y.possible(upright + side * y.factor * dot.error) for side in (-1, 1)]
            axes.plot([across] * 2, ends, alpha=0.4, solid_capstyle="butt", **{**thin, "linewidth": 3})


def _explain_whiskers(axes: Any, dots: Sequence[Dot]) -> None:
    """Their part of the legend."""
    if any(dot.predicted_x is not None for dot in dots):
        axes.plot([], [], color=MUTED, marker="|", markersize=8, linewidth=0, label="predicted")
    if any(dot.band is not None for dot in dots):
        axes.plot([], [], color=MUTED, linewidth=1, alpha=0.6, label="90 % band")
    if any(dot.error is not None for dot in dots):
        axes.plot([], [], color=MUTED, linewidth=3, alpha=0.4, label="one standard error")


def _shade(figure: Figure, axes: Any, dots: Sequence[Dot], x: Axis, y: Axis, shade: Axis | None) -> None:
    known = [(dot, dot.shade) for dot in dots if dot.shade is not None]
    if shade is None or not known:
        return
    drawn = axes.scatter(
        [x.factor * dot.x for dot, _ in known],
        [y.factor * dot.y for dot, _ in known],
        c=[shade.factor * value for _, value in known],
        s=[20 if dot.on_front else 10 for dot, _ in known],
        marker="o",
        cmap="viridis",
        zorder=5,
    )
    bar = figure.colorbar(drawn, ax=axes, pad=0.02, aspect=30)
    bar.set_label(f"{shade.label} ({'more' if shade.maximize else 'less'} is better)", fontsize=8, color=INK)


def _name(figure: Figure, axes: Any, dots: Sequence[Dot], x: Axis, y: Axis) -> None:
    """Write names beside dots, where they cover neither dots nor names."""
    spell_out(figure)
    figure.draw_without_rendering()  # places are known only after the layout
    to_points = 72 / figure.dpi
    places = axes.transData.transform([(x.factor * dot.x, y.factor * dot.y) for dot in dots]) if dots else []
    taken = [(to_points * float(across), to_points * float(upright)) for across, upright in places]
    for dot, (across, upright) in zip(dots, list(taken), strict=True):
        if not dot.name:
            continue

        def room(place: tuple[int, int], across: float = across, upright: float = upright) -> float:
            middle = (across + place[0] + 3, upright + place[1] + 3)
            return min(min(math.dist(middle, other) for other in taken), _NEAR)

        best = max(_PLACES, key=room)  # the first of those with room enough
        taken.append((across + best[0] + 3, upright + best[1] + 3))
        axes.annotate(
            dot.name,
            (x.factor * dot.x, y.factor * dot.y),
            xytext=best,
            textcoords="offset points",
            fontsize=9,
            fontweight="bold" if dot.on_front else "normal",
            color=INK,
            annotation_clip=False,
            zorder=6,
        )
