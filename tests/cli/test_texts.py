"""Lines for people can be told apart without colours, and numbers agree with their nouns."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from hwnas.cli.lists import states_of
from hwnas.cli.terminal import Terminal
from hwnas.core import Objective, counted
from hwnas.device import Device
from hwnas.pareto import reason
from tests.job.workspace import REPOSITORY, run


def test_an_error_is_a_word_a_colon_and_a_text(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "front", "no-such-run")
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    code, _, err = run(capsys, "front")
    assert code == 2
    assert err.startswith("error: ")


def test_a_note_is_a_word_a_colon_and_a_text() -> None:
    told = io.StringIO()
    Terminal(Console(file=told)).say("the machine was noisy")
    assert told.getvalue() == "  note: the machine was noisy\n"


@pytest.mark.parametrize(
    ("number", "words"), [(0, "0 epochs"), (1, "1 epoch"), (2, "2 epochs"), (1500, "1,500 epochs")]
)
def test_one_is_singular(number: int, words: str) -> None:
    assert counted(number, "epoch") == words


def test_a_device_that_nobody_can_try_is_not_called_untried() -> None:
    pi = Device.load("raspberry-pi-5", REPOSITORY / "devices")
    board = Device(name="board", host="user@board")
    assert [row["state"] for row in states_of([pi, board])] == ["estimate only", "not tried"]


def test_of_one_point_there_is_nothing_to_weigh() -> None:
    objectives = [Objective.named("accuracy"), Objective.named("latency_ms")]
    assert reason([{"accuracy": 0.5, "latency_ms": 1.0}], objectives, 0, by="knee") == "the only one"
