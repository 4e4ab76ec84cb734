from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hwnas.report import Dot, front_picture, fronts_picture
from hwnas.report.front_picture import ACCENT, OTHER, SERIES


def colours(path: Path) -> set[tuple[int, ...]]:
    pixels = np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3)
    return {tuple(row) for row in np.unique(pixels, axis=0).tolist()}


def rgb(text: str) -> tuple[int, ...]:
    return tuple(int(text[n : n + 2], 16) for n in (1, 3, 5))


@pytest.mark.parametrize("members", [0, 1, 5])
@pytest.mark.parametrize("rival", [False, True])
def test_what_was_measured_is_drawn(tmp_path: Path, members: int, *, rival: bool) -> None:
    path = tmp_path / "front.png"
    dots = [Dot(0.1 * n, 0.8 + 0.02 * n, 0.11 * n, on_front=n % 2 == 1) for n in range(1, members + 1)]
    rivals = [Dot(0.2, 0.85, label="alone")] if rival else []
    front_picture(path, dots=dots, rivals=rivals, title="t", caption="c", accuracy_label="a", limit_ms=0.3)
    found = colours(path)
    assert (rgb(ACCENT) in found) == (members > 0)
    assert [p.name for p in tmp_path.iterdir()] == ["front.png"]
    if rival:
        assert rgb(OTHER) in found


def test_each_front_has_its_colour_also_when_one_is_empty(tmp_path: Path) -> None:
    fronts = {
        "a": [Dot(0.1, 0.8), Dot(0.2, 0.9, on_front=False)],
        "b": [],
        "c": [Dot(0.15, 0.85)],
    }
    path = tmp_path / "fronts.png"
    fronts_picture(path, fronts=fronts, title="t", caption="c", accuracy_label="a")
    found = colours(path)
    assert {rgb(SERIES[0]), rgb(SERIES[1]), rgb(SERIES[2])} <= found
    assert rgb(SERIES[3]) not in found
