from __future__ import annotations

import pytest

from hwnas.report import Dot, front_in_letters

FRONT = [Dot(0.5, 0.9), Dot(1.0, 0.95), Dot(2.0, 0.97)]


def places(lines: list[str], letter: str) -> list[tuple[int, int]]:
    return [
        (row, column)
        for row, line in enumerate(lines[:-3])
        for column, found in enumerate(line.partition("|")[2])
        if found == letter
    ]


def test_every_dot_is_where_its_numbers_say() -> None:
    lines = front_in_letters(FRONT, width=16, height=8)
    assert places(lines, "o") == [(0, 15), (2, 5), (7, 0)]
    assert lines[0].startswith("97.0 % |") and lines[7].startswith("90.0 % |")
    assert lines[9].split() == ["0.5", "2", "ms"]
    assert lines[10].strip() == "o on the front, . beaten by another"


def test_rivals_and_beaten_members_have_letters_of_their_own_and_the_front_is_on_top() -> None:
    beaten, rival = Dot(2.0, 0.9, on_front=False), Dot(0.5, 0.97)
    lines = front_in_letters([*FRONT, beaten, Dot(0.5, 0.9, on_front=False)], rivals=[rival], width=16, height=8)
    assert places(lines, ".") == [(7, 15)] and places(lines, "x") == [(0, 0)]
    assert len(places(lines, "o")) == 3
    assert lines[-1].endswith("x not from the search")


@pytest.mark.parametrize("n", [0, 1])
def test_fronts_of_none_and_one(n: int) -> None:
    lines = front_in_letters(FRONT[:n], width=10, height=3)
    assert len(lines) == (6 if n else 0)
    assert places(lines, "o") == [(0, 0)][:n]
    assert all(len(line) < 80 for line in lines)
