import dataclasses
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from hwnas.core import Objective
from hwnas.report import Axis, Dot, drawn_axes, front_line, front_picture, fronts_picture
from hwnas.report.front_picture import ACCENT, SERIES

MS, ACCURACY = Axis.of(Objective.named("latency_ms"), "measured"), Axis.of(Objective.named("accuracy"))


def colours(path: Path) -> set[tuple[int, ...]]:
    pixels = np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3)
    return {tuple(row) for row in np.unique(pixels, axis=0).tolist()}


def rgb(text: str) -> tuple[int, ...]:
    return tuple(int(text[n : n + 2], 16) for n in (1, 3, 5))


def legend_of(figure: Figure) -> list[str]:
    legend = figure.axes[0].get_legend()
    return [text.get_text() for text in legend.get_texts()] if legend else []


def clear_of_data(figure: Figure) -> bool:
    """Whether the legend lies outside of the axes, and within the picture."""
    figure.draw_without_rendering()
    axes, legend = figure.axes[0], figure.axes[0].get_legend()
    assert legend is not None
    box, inside = legend.get_window_extent(), axes.get_window_extent()
    within = box.x0 >= 0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1
    return bool(within and (box.y0 >= inside.y1 - 1 or box.x0 >= inside.x1 or box.y1 <= inside.y0))


@pytest.mark.parametrize("members", [0, 1, 5])
@pytest.mark.parametrize("rival", [False, True])
def test_what_was_measured_is_drawn(tmp_path: Path, members: int, *, rival: bool) -> None:
    path = tmp_path / "front.png"
    dots = [
        Dot(0.1 * n, 0.8 + 0.02 * n, "ABCDE"[n - 1], on_front=n % 2 == 1, predicted_x=0.11 * n, error=0.004)
        for n in range(1, members + 1)
    ]
    dots += [Dot(0.2, 0.85, "F", on_front=False, searched=False)] if rival else []
    figure = front_picture(path, dots=dots, x=MS, y=ACCURACY, title="t", caption="c", limit_x=0.3)
    assert (rgb(ACCENT) in colours(path)) == (members > 0)
    assert [p.name for p in tmp_path.iterdir()] == ["front.png"]
    written = [text.get_text() for text in figure.axes[0].texts]
    assert [text for text in written if not text.startswith("limit")] == [dot.name for dot in dots]
    if dots:
        assert clear_of_data(figure)
        assert ("measured, not on the front, not from the search" in legend_of(figure)) == rival


def test_the_axes_name_the_objectives_with_their_units(tmp_path: Path) -> None:
    x, y = drawn_axes([Objective.named("balanced_accuracy"), Objective.named("peak_memory_bytes")])
    figure = front_picture(
        tmp_path / "a.png",
        dots=[Dot(2048.0, 0.9, "A"), Dot(4096.0, 0.95, "B")],
        x=Axis.of(x),
        y=Axis.of(y, "validation images"),
        title="t",
        caption="c",
    )
    axes = figure.axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("peak memory, KiB", "balanced accuracy, validation images, %")
    line = axes.lines[0]
    assert np.asarray(line.get_xdata()).tolist() == [2, 4]
    assert np.asarray(line.get_ydata()).tolist() == pytest.approx([90, 95])


def test_a_third_objective_is_a_colour_with_a_bar(tmp_path: Path) -> None:
    dots = [Dot(0.1 * n, 0.8 + 0.02 * n, "ABC"[n], shade=1e6 * n) for n in range(3)]
    figure = front_picture(
        tmp_path / "a.png", dots=dots, x=MS, y=ACCURACY, shade=Axis.of(Objective.named("macs")), title="t", caption="c"
    )
    [_, bar] = figure.axes
    assert bar.get_ylabel() == "multiply-adds, millions (less is better)"
    assert clear_of_data(figure)


def test_the_line_is_the_front_of_what_is_drawn(tmp_path: Path) -> None:
    """Chosen by validation, drawn by test: what lies below the front is hollow and not on the line."""
    dots = [Dot(1.0, 0.80, "A"), Dot(2.0, 0.78, "B"), Dot(3.0, 0.85, "C")]
    assert [dot.name for dot in front_line(dots, MS, ACCURACY)] == ["A", "C"]
    figure = front_picture(tmp_path / "a.png", dots=dots, x=MS, y=ACCURACY, title="t", caption="c")
    line = figure.axes[0].lines[0]
    assert np.asarray(line.get_xdata()).tolist() == [1, 3] and line.get_drawstyle() == "steps-post"
    assert "measured, on the front, but not by what is drawn here" in legend_of(figure)


def test_a_metric_to_be_made_large_steps_the_other_way(tmp_path: Path) -> None:
    speed = Axis("images per second", maximize=True)
    dots = [Dot(10.0, 0.9), Dot(20.0, 0.8), Dot(5.0, 0.8)]
    assert [dot.x for dot in front_line(dots, speed, ACCURACY)] == [10, 20]
    figure = front_picture(tmp_path / "a.png", dots=dots, x=speed, y=ACCURACY, title="t", caption="c")
    assert figure.axes[0].lines[0].get_drawstyle() == "steps-pre"


def test_names_do_not_cover_each_other(tmp_path: Path) -> None:
    dots = [Dot(1.0 + 0.002 * n, 0.8 + 0.0002 * n, name) for n, name in enumerate("ABC")] + [Dot(2.0, 0.9, "D")]
    figure = front_picture(tmp_path / "a.png", dots=dots, x=MS, y=ACCURACY, title="t", caption="c")
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert not any(one.overlaps(other) for n, one in enumerate(boxes) for other in boxes[:n])


def test_each_front_has_its_colour_also_when_one_is_empty(tmp_path: Path) -> None:
    fronts = {
        "a": [Dot(0.1, 0.8), Dot(0.2, 0.9, on_front=False)],
        "b": [],
        "c": [Dot(0.15, 0.85), Dot(0.3, 0.7, on_front=False)],
    }
    path = tmp_path / "fronts.png"
    figure = fronts_picture(path, fronts=fronts, x=MS, y=ACCURACY, title="t", caption="c")
    found = colours(path)
    assert {rgb(SERIES[0]), rgb(SERIES[2])} <= found
    assert rgb(SERIES[3]) not in found
    assert legend_of(figure) == ["a", "b", "c", "filled: nothing beats it"] and clear_of_data(figure)
    steps = [line for line in figure.axes[0].lines if line.get_drawstyle() == "steps-post"]
    assert [np.asarray(line.get_xdata()).tolist() for line in steps] == [[0.1, 0.2], [0.15]]


@pytest.mark.parametrize("text", ["shop $10_$20", "_mine", "[/y] {0} %d", "a\x00b \udcff", "\ue000 été"])
def test_any_name_is_drawn_wherever_it_stands(tmp_path: Path, text: str) -> None:
    axis = Axis(text, maximize=False)
    dots = [Dot(1.0, 2.0, text, predicted_x=1.5), Dot(2.0, 1.0, text, shade=3.0), Dot(2.0, 2.0, text, searched=False)]
    one = front_picture(
        tmp_path / "a.png",
        dots=[dataclasses.replace(dot, shade=1.0) for dot in dots],
        x=axis,
        y=axis,
        shade=axis,
        title=text,
        caption=text,
        limit_x=1.7,
        word=text,
    )
    other = fronts_picture(tmp_path / "b.png", fronts={text: dots}, x=axis, y=axis, title=text, caption=text)
    shown = text.encode("unicode_escape").decode() if "\x00" in text else text.replace("\ue000", "\\ue000")
    for figure in (one, other):
        assert figure.get_supxlabel() == shown == figure.get_suptitle()
    assert shown in {label.strip() for label in legend_of(other)}
