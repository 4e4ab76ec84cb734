"""A user's text on its way into a language: names of files, classes and runs may hold anything."""

from __future__ import annotations

import shlex
import unicodedata


def visible(text: str) -> str:
    r"""Text on one line that is shown and not obeyed: control characters and halves of characters as escapes.

    Args:
        text: Anything, as the name of a file.

    Example:
        >>> visible("été [red] $10_$20")
        'été [red] $10_$20'
        >>> print(visible("one" + chr(10) + "two" + chr(27) + "[2J" + chr(0xDC80)))
        one\ntwo\x1b[2J\udc80
    """
    return "".join(
        letter if letter.isprintable() or unicodedata.category(letter) == "Zs" else escaped(letter) for letter in text
    )


def escaped(letter: str) -> str:
    r"""A character in letters that every terminal and every font has.

    Example:
        >>> print(escaped("中"), escaped(chr(9)))
        \u4e2d \t
    """
    return letter.encode("unicode_escape").decode("ascii")


def command_line(*words: object) -> str:
    """A command that a shell takes as these words, whatever they hold.

    Args:
        words: The program and its arguments.

    Example:
        >>> print(command_line("hwnas", "front", "my run", "$10"))
        hwnas front 'my run' '$10'
    """
    return shlex.join(map(str, words))
