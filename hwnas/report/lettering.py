"""The one door of text into a picture: names are drawn as they are, or in letters that the fonts here have."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font
from matplotlib.text import Text

from hwnas.core.escaping import escaped, visible

_DRAWS_ANYTHING_AS_A_BOX = "Last Resort"


def spell_out(figure: Figure) -> None:
    r"""Make every text of a figure say what was written: no mathematics between two $, no empty boxes.

    Call it before anything is drawn, and again after further texts are placed. Letters that the figure's font lacks are
    taken from other fonts of this machine; those that no font has are written as escapes. Labels of ticks are
    matplotlib's own and stay as they are.

    Args:
        figure: Changed in place.

    Example:
        >>> figure = Figure()
        >>> title = figure.suptitle("shop $10_$20" + chr(27))
        >>> spell_out(figure)
        >>> print(title.get_text(), title.get_parse_math())
        shop $10_$20\x1b False
    """
    ticks = {
        id(text)
        for axes in figure.axes
        for axis in (axes.xaxis, axes.yaxis)
        for text in axis.findobj(Text)
        if text is not axis.label
    }
    texts: list[Text] = [text for text in figure.findobj(Text) if id(text) not in ticks]
    for text in texts:
        text.set_parse_math(False)
        text.set_text("\n".join(map(visible, text.get_text().split("\n"))))
        families, lacking = _fonts_for(text.get_text(), text.get_fontproperties())
        if families:
            text.set_fontfamily([*text.get_fontfamily(), *families])
        if lacking:
            text.set_text("".join(escaped(letter) if letter in lacking else letter for letter in text.get_text()))


def for_legend(text: str) -> str:
    """A label that a legend shows: matplotlib leaves out those that begin with an underscore.

    Example:
        >>> for_legend("_mine"), for_legend("mine")
        (' _mine', 'mine')
    """
    return f" {text}" if text.startswith("_") else text


def _fonts_for(words: str, properties: FontProperties) -> tuple[list[str], set[str]]:
    """Families that have the letters which the font of a text lacks, and the letters that none has."""
    lacking = {letter for letter in words if letter != "\n"}
    lacking -= _letters_of(findfont(properties), lacking)
    families = []
    for family, path in _others() if lacking else ():
        found = _letters_of(path, lacking)
        if found:
            families.append(family)
            lacking -= found
        if not lacking:
            break
    return families, lacking


def _letters_of(path: str, letters: Iterable[str]) -> set[str]:
    """Those of some letters that a font draws."""
    try:
        font = get_font(path)
        return {letter for letter in letters if font.scalable and font.get_char_index(ord(letter))}
    except (OSError, RuntimeError):  # a file that is gone, or of a kind that matplotlib cannot draw
        return set()


@cache
def _others() -> tuple[tuple[str, str], ...]:
    """Each family of this machine that has an upright face of normal weight, with its file, in the order of names."""
    faces = {
        font.name: font.fname
        for font in fontManager.ttflist
        if font.style == "normal" and font.weight in {400, "normal", "regular"}
    }
    return tuple(sorted((name, path) for name, path in faces.items() if not name.startswith(_DRAWS_ANYTHING_AS_A_BOX)))
