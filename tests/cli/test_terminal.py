from __future__ import annotations

import io
import os
import pty
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from hwnas.cli.terminal import OutputClosedError, Terminal, fit, show, show_fault, show_table

NASTY = ["[red]", "[/y]", "shop $10_$20", "été", "東京", "a\nb", "\x1b[2J", "\udcff", "a\\", ":smile:", "[link=x]"]
ANSI = re.compile("\x1b\\[[0-9;?]*[a-zA-Z]")
texts = st.text() | st.sampled_from(NASTY)


class Stream(io.StringIO):
    """A stream of an encoding, which refuses what it lacks."""

    def __init__(self, encoding: str) -> None:
        super().__init__()
        self._encoding = encoding

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._encoding

    def write(self, text: str) -> int:
        text.encode(self._encoding)
        return super().write(text)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@given(texts, st.sampled_from(["ascii", "latin-1", "utf-8", "cp1252"]))
def test_fitted_text_is_one_line_that_the_encoding_has(text: str, encoding: str) -> None:
    fitted = fit(text, encoding)
    fitted.encode(encoding)
    assert len(fitted.splitlines()) <= 1
    assert not any(letter < " " or "\x7f" <= letter < "\xa0" for letter in fitted)


@given(st.text(st.characters(codec="utf-8", categories=["L", "M", "N", "P", "S"])))
def test_plain_text_stays_as_it_is(text: str) -> None:
    assert fit(text, "utf-8") == text == fit(text, None)


@given(texts, texts, texts, st.sampled_from(["ascii", "utf-8"]))
def test_whatever_is_told_the_lines_hold_it_and_nothing_else(stage: str, text: str, said: str, encoding: str) -> None:
    stream, clock = Stream(encoding), Clock()
    with Terminal(Console(file=stream, highlight=False), clock=clock) as terminal:
        terminal.stage(stage)
        terminal.progress(1, 4, text)
        clock.now = 40.0
        terminal.progress(2, 4, text)
        terminal.say(said)
    lines = [
        f"  ... 50%, 1:20 left, {fit(stage, encoding)}, {fit(text, encoding)}",
        f"  note: {fit(said, encoding)}",
        f"  done: {fit(stage, encoding)} (40 s)",
    ]
    if stage and text:
        assert stream.getvalue() == "".join(f"{line}\n" for line in lines)


@given(texts, texts)
def test_an_error_holds_its_text_as_it_is(text: str, hint: str) -> None:
    stream = Stream("ascii")
    show_fault("error", text, hint, stream=stream)
    lines = stream.getvalue().split("\n")
    assert lines[0] == f"error: {fit(text, 'ascii')}"
    assert lines[1:] == ([f"       {fit(hint, 'ascii')}", ""] if hint else [""])


@pytest.mark.parametrize("text", NASTY)
def test_a_table_and_a_line_show_it_as_it_is(capsys: pytest.CaptureFixture[str], text: str) -> None:
    show_table(text, ["name", text], [[text, "1"], ["b", text]], note=text)
    show(text.replace("\n", " "))
    out = capsys.readouterr().out
    assert out.count(fit(text, "utf-8")) == (5 if "\n" in text else 6)


@pytest.mark.parametrize("width", [40, 80, 120])
def test_no_width_hides_the_numbers(width: int) -> None:
    stream, clock = io.StringIO(), Clock()
    console = Console(file=stream, width=width, force_terminal=True, force_interactive=True, highlight=False)
    with Terminal(console, clock=clock) as terminal:
        terminal.stage("train the largest member, the teacher of the others [red]")
        terminal.progress(10, 100, "member-aec44b487769: loss 1.234")
        clock.now = 30.0
        terminal.progress(11, 100, "member-aec44b487769: loss 1.234")
        clock.now = 75.0  # a step that takes long
        terminal._bar.refresh()
        shown = ANSI.sub("", stream.getvalue())
    assert "11% 43:45 left" in shown
    assert "train" in shown
    assert all(len(line) <= width for line in re.split("[\r\n]", shown))


def test_elsewhere_a_long_stage_is_told_now_and_then_and_a_short_one_once() -> None:
    stream, clock = io.StringIO(), Clock()
    with Terminal(Console(file=stream, highlight=False), clock=clock) as terminal:
        terminal.stage("short")
        for clock.now in range(20):
            terminal.progress(clock.now, 20, "")
        terminal.stage("long")
        for second in range(3600):
            clock.now = 20.0 + second
            terminal.progress(second, 3600, "loss 1.0")
    lines = stream.getvalue().splitlines()
    assert lines[0] == "  done: short (19 s)"
    assert lines[1] == "  ... 0%, 59:31 left, long, loss 1.0"
    assert 30 < len(lines) < 80
    assert lines[-1] == "  done: long (1 h 00)"


ROW = ["A 90c45a91fd3a", "98.52 %", "0.1234", "12.5", "1e-07"]
COLUMNS = ["network", "validation", "measured ms", "trained s", "ONNX diff"]


@pytest.mark.parametrize(
    ("width", "gone"),
    [(120, []), (58, ["ONNX diff"]), (44, ["ONNX diff", "trained s"]), (20, ["ONNX diff", "trained s"])],
)
def test_a_narrow_terminal_does_without_spare_columns_and_says_so(
    width: int, gone: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    spare = ("ONNX diff", "trained s", "not a column")
    show_table("one run", COLUMNS, [ROW], spare=spare)
    out = capsys.readouterr().out
    assert all(word in out for word in (*COLUMNS, *ROW)), "a pipe is no narrow terminal"
    monkeypatch.setenv("FORCE_COLOR", "1")
    show_table("one run", COLUMNS, [ROW], spare=spare)
    out = ANSI.sub("", capsys.readouterr().out)
    assert {name for name in COLUMNS if name not in out.splitlines()[1]} == {*gone}
    assert all(number in out for number in ROW[:3])
    assert (f"no room for {', '.join(gone)}: a wider window shows them" in out) == bool(gone)


@pytest.mark.parametrize(("seconds", "said"), [(1.0, ""), (6.0, "  done: train the supernet (6.0 s)\n")])
def test_a_stage_whose_results_were_there_already_is_no_work_that_was_done(seconds: float, said: str) -> None:
    stream, clock = io.StringIO(), Clock()
    with Terminal(Console(file=stream, highlight=False), clock=clock) as terminal:
        terminal.stage("train the supernet")
        clock.now = seconds
    assert stream.getvalue() == said


def test_a_terminal_that_was_closed_takes_nothing_and_stops_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Progress and faults are dropped; results that nobody reads are said, as those of a closed pipe are."""
    (master, slave), (reader, writer) = pty.openpty(), pty.openpty()
    monkeypatch.setenv("TERM", "xterm")
    with os.fdopen(slave, "w", buffering=1) as errors, os.fdopen(writer, "w", buffering=1) as results:
        monkeypatch.setattr("sys.stderr", errors)
        monkeypatch.setattr("sys.stdout", results)
        os.close(reader)
        with pytest.raises(OutputClosedError):
            show("results have nowhere to go")
        with Terminal() as terminal:
            assert terminal.console.is_interactive
            terminal.stage("search")
            os.close(master)
            terminal.say("a line")
            terminal.progress(1, 2, "one")
        show_fault("stopped", "by SIGHUP", "to go on: again")
        errors.flush()
        os.dup2(os.open(os.devnull, os.O_WRONLY), writer)
