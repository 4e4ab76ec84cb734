from __future__ import annotations

from dataclasses import replace

import pytest

from hwnas.core import Objective
from hwnas.report import Axis, Dot, front_in_letters

MS, ACCURACY = Axis.of(Objective.named("latency_ms")), Axis.of(Objective.named("accuracy"))
FRONT = [Dot(0.5, 0.9), Dot(1.0, 0.95), Dot(2.0, 0.97)]


def places(lines: list[str], letter: str) -> list[tuple[int, int]]:
    return [
        (row, column)
        for row, line in enumerate(lines[1:-4])
        for column, found in enumerate(line.partition("|")[2])
        if found == letter
    ]


def test_every_dot_is_where_its_numbers_say() -> None:
    lines = front_in_letters(FRONT, x=MS, y=ACCURACY, width=16, height=8)
    assert places(lines, "o") == [(0, 15), (2, 5), (7, 0)]
    assert lines[0] == "accuracy, %"
    assert lines[1].startswith("97.0 |") and lines[8].startswith("90.0 |")
    assert lines[10].split() == ["0.5", "1.25", "2"] and lines[11].strip() == "latency, ms"
    assert lines[12].strip() == "on the front: o"


def test_names_are_drawn_and_the_legend_says_who_is_what() -> None:
    beaten, rival = Dot(2.0, 0.9, "D", on_front=False), Dot(0.5, 0.97, "E", on_front=False, searched=False)
    named = [replace(dot, name=name) for dot, name in zip(FRONT, "ABC", strict=True)]
    lines = front_in_letters([*named, beaten, rival], x=MS, y=ACCURACY, width=16, height=8)
    assert {name: places(lines, name) for name in "ABCDE"} == {
        "A": [(7, 0)],
        "B": [(2, 5)],
        "C": [(0, 15)],
        "D": [(7, 15)],
        "E": [(0, 0)],
    }
    assert lines[-1].strip() == "on the front: A, B, C; not on it: D, E; not from the search: E"


def test_the_front_lies_on_top_and_what_it_covers_is_named() -> None:
    dots = [Dot(0.5, 0.9, "A"), Dot(0.5, 0.9, "B", on_front=False), Dot(2.0, 0.97, "C")]
    lines = front_in_letters(dots, x=MS, y=ACCURACY)
    assert places(lines, "A") and not places(lines, "B")
    assert lines[-1].endswith("B lies under A")


def test_other_objectives_have_their_names_and_units() -> None:
    size, macs = Axis.of(Objective.named("model_bytes")), Axis.of(Objective.named("macs"))
    lines = front_in_letters([Dot(1e6, 2048.0, "A"), Dot(3e6, 1024.0, "B")], x=macs, y=size, width=20, height=3)
    assert lines[0] == "model size, KiB"
    assert [line.split("|")[0].strip() for line in lines[1:4]] == ["2", "1.5", "1"]
    assert lines[5].split() == ["1", "2", "3"] and lines[6].strip() == "multiply-adds, millions"


@pytest.mark.parametrize("n", [0, 1])
def test_fronts_of_none_and_one(n: int) -> None:
    lines = front_in_letters(FRONT[:n], x=MS, y=ACCURACY, width=10, height=3)
    assert len(lines) == (8 if n else 0)
    assert places(lines, "o") == [(0, 0)][:n]
    assert all(len(line) < 80 for line in front_in_letters(FRONT, x=MS, y=ACCURACY))


def test_few_dots_take_few_rows() -> None:
    assert len(front_in_letters(FRONT[:2], x=MS, y=ACCURACY)) == 11
    assert len(front_in_letters(FRONT * 5, x=MS, y=ACCURACY)) == 19
