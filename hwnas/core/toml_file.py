"""Files that people write: text in UTF-8, TOML, numbers that are numbers."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hwnas.core.errors import HwnasError
from hwnas.core.files import refusal

_BYTE_ORDER_MARKS = (
    (b"\xff\xfe\x00\x00", "UTF-32"),
    (b"\x00\x00\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)
LARGEST_WHOLE = 2**63 - 1
"""The largest whole number that a file may hold: libraries take 64 bits."""


def read_text(path: Path, error: type[HwnasError], *, what: str) -> str:
    """The text of a file that a person wrote: UTF-8, with or without a byte order mark.

    Args:
        path: Of the file, which is there.
        error: Is raised.
        what: The file should be, for messages: "recipe".

    Raises:
        HwnasError: Of the kind given, if it is a folder, cannot be read, or is in another encoding; names it.

    Example:
        >>> import tempfile
        >>> from hwnas.core.errors import RecipeError
        >>> path = Path(tempfile.mkdtemp()) / "a.toml"
        >>> _ = path.write_text("seed = 1", encoding="utf-8-sig")
        >>> read_text(path, RecipeError, what="recipe")
        'seed = 1'
        >>> _ = path.write_text("seed = 1", encoding="utf-16")
        >>> read_text(path, RecipeError, what="recipe")
        Traceback (most recent call last):
        hwnas.core.errors.RecipeError: ... is in UTF-16; expected a recipe in UTF-8 (save it as UTF-8, ...)
    """
    if path.is_dir():
        raise error(f"{path}: is a folder; expected a {what}", hint="name a file in it")
    try:
        content = path.read_bytes()
    except OSError as refused:
        message, hint = refusal(refused)
        raise error(f"{path}: cannot be read: {message.removeprefix(f'{path}: ')}", hint=hint) from refused
    found = next((name for mark, name in _BYTE_ORDER_MARKS if content.startswith(mark)), "")
    if not found and b"\x00" in content:
        found = "UTF-16 or no text at all"
    try:
        text = "" if found else content.decode("utf-8-sig")
    except UnicodeDecodeError as wrong:
        line = content[: wrong.start].count(b"\n") + 1
        found = f"another encoding, perhaps Latin-1 or Windows-1252 (byte 0x{content[wrong.start]:02X} in line {line})"
    if found:
        raise error(
            f"{path}: is in {found}; expected a {what} in UTF-8",
            hint="save it as UTF-8, which every editor offers, or convert it with iconv",
        )
    return text


def parse_toml(text: str, path: Path, error: type[HwnasError]) -> dict[str, Any]:
    r"""What a text in TOML says. Infinite numbers are slips, not numbers; for whole ones see `check_whole`.

    Args:
        text: The text.
        path: Of its file, for messages.
        error: Is raised.

    Raises:
        HwnasError: Of the kind given, if it is no TOML, or a number cannot be used; names its key.

    Example:
        >>> from hwnas.core.errors import RecipeError
        >>> parse_toml("[training]\nclip = inf", Path("a.toml"), RecipeError)
        Traceback (most recent call last):
        hwnas.core.errors.RecipeError: a.toml: [training] clip is inf; expected a finite number
    """
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as wrong:
        raise error(f"{path}: not TOML: {wrong}") from wrong
    except RecursionError as wrong:
        raise error(f"{path}: not TOML that can be read: it is nested too deeply") from wrong
    except ValueError as wrong:  # Python converts only so many digits
        raise error(f"{path}: not TOML that can be read: a number has thousands of digits") from wrong
    for keys, value in _numbers(content, ()):
        if isinstance(value, float) and not math.isfinite(value):
            raise error(f"{path}: {_in_words(keys)} is {value}; expected a finite number")
    return content


def check_whole(values: Mapping[str, Any], error: type[HwnasError]) -> None:
    """Refuse whole numbers of more than 64 bits, in tables whose own keys have no bounds that are known.

    Args:
        values: Of a document, or some of its tables, by name.
        error: Is raised.

    Raises:
        HwnasError: Of the kind given; names the key.

    Example:
        >>> from hwnas.core.errors import RecipeError
        >>> check_whole({"space": {"width": 2**70}}, RecipeError)
        Traceback (most recent call last):
        hwnas.core.errors.RecipeError: [space] width is 1180591620717411303424; expected a number of at most 64 bits
    """
    for keys, value in _numbers(values, ()):
        if isinstance(value, int) and abs(value) > LARGEST_WHOLE:
            raise error(f"{_in_words(keys)} is {value}; expected a number of at most 64 bits")


def _in_words(keys: tuple[str, ...]) -> str:
    *tables, key = keys
    return f"[{'.'.join(tables)}] {key}" if tables else key


def _numbers(value: Any, keys: tuple[str, ...]) -> list[tuple[tuple[str, ...], Any]]:
    """Every number of a document with the keys that lead to it."""
    if isinstance(value, dict):
        return [found for key, part in value.items() for found in _numbers(part, (*keys, key))]
    if isinstance(value, list):
        return [found for part in value for found in _numbers(part, keys)]
    return [(keys, value)] if isinstance(value, int | float) else []
