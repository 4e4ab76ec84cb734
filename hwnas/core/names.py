"""Names that become names of files and folders."""

from __future__ import annotations

import re

from hwnas.core.errors import RecipeError

_LONGEST = 100  # bytes; file systems take 255, and what is derived from a name adds to it
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)


def check_name(name: str, *, what: str = "name") -> None:
    """That a name can stand for a folder, here and on any other system, and for nothing else.

    Args:
        name: To be checked.
        what: It is, for messages.

    Raises:
        RecipeError: If it holds anything but letters, digits, dots, dashes and underscores, begins with a dot or a
            dash, ends with a dot, is too long, or is reserved on some system.

    Example:
        >>> check_name("phone-2.1")
        >>> check_name("..")
        Traceback (most recent call last):
        hwnas.core.errors.RecipeError: name is ".."; it begins with a dot (it names a folder: letters, digits, ...)
    """
    problem = ""
    if not name:
        problem = "it is empty"
    elif name[0] in ".-":
        problem = f"it begins with a {'dot' if name[0] == '.' else 'dash'}"
    elif not re.fullmatch(r"[\w.-]+", name):
        wrong = next(letter for letter in name if not re.fullmatch(r"[\w.-]", letter))
        problem = f"it holds {ascii(wrong)}"
    elif name[-1] == ".":
        problem = "it ends with a dot"
    elif len(name.encode()) > _LONGEST:
        problem = f"it has {len(name.encode())} bytes, more than {_LONGEST}"
    elif _RESERVED.fullmatch(name):
        problem = "some systems reserve it"
    if problem:
        raise RecipeError(
            f"{what} is {_quoted(name)}; {problem}",
            hint=f'it names a folder: letters, digits, dots, dashes and underscores; give {what} = "my-run"',
        )


def _quoted(name: str) -> str:
    return f'"{name}"' if name.isprintable() else ascii(name)
