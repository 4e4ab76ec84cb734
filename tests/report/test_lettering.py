from __future__ import annotations

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from hwnas.report import lettering
from hwnas.report.lettering import spell_out

NASTY = [
    "shop $10_$20",
    "$",
    "$$",
    "\\alpha",
    "a\\$b",
    "[red]",
    "{0}",
    "%d",
    "a\nb",
    "\x00",
    "\udcff",
    "été",
    "東京",
    "_x",
    "👍🏽",
    "",
]


def drawn(text: str) -> tuple[bytes, Figure]:
    """A figure with a text in every place that a user's text comes to; warnings, as of a missing glyph, are errors."""
    figure = Figure(figsize=(20, 10), dpi=20)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.plot([0.001, 0.002], [1, 2], label=text)
    axes.set_title(text, loc="left")
    axes.set_xlabel(text)
    axes.annotate(text, (0.001, 1))
    axes.legend([text])
    figure.supxlabel(text)
    spell_out(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue(), figure


@settings(max_examples=30)
@given(st.text(max_size=12) | st.sampled_from(NASTY))
def test_any_text_is_drawn(text: str) -> None:
    assert drawn(text)[0].startswith(b"\x89PNG")


@given(st.text(st.characters(codec="latin-1", categories=["L", "N", "P", "S"]), max_size=20))
@settings(max_examples=30)
def test_text_that_the_font_has_stays_as_it_is(text: str) -> None:
    figure = drawn(text)[1]
    assert figure.axes[0].get_title(loc="left") == text
    assert figure.axes[0].get_xlabel() == text == figure.get_supxlabel()


def test_letters_without_a_font_are_escapes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lettering, "_others", lambda: ())
    assert drawn("shop 東京\nb")[1].axes[0].get_xlabel() == "shop \\u6771\\u4eac\nb"


def test_letters_are_taken_from_a_font_that_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    font = "/fonts/Kanji.ttf"
    monkeypatch.setattr(lettering, "_others", lambda: (("Empty", "/fonts/Empty.ttf"), ("Kanji", font)))
    known = lettering._letters_of

    def letters_of(path: str, letters: set[str]) -> set[str]:
        return letters & set("東京") if path == font else known(path, letters)

    monkeypatch.setattr(lettering, "_letters_of", letters_of)
    figure = Figure()
    text = figure.suptitle("shop 東京 \ue000")
    spell_out(figure)
    assert text.get_text() == "shop 東京 \\ue000"
    assert text.get_fontfamily()[-1] == "Kanji" and "Empty" not in text.get_fontfamily()


def test_every_other_font_is_asked_but_the_one_of_boxes() -> None:
    names = {name for name, _ in lettering._others()}
    assert "DejaVu Serif" in names
    assert not any("Last Resort" in name for name in names)
