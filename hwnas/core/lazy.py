"""Names of a package that are loaded when they are first used, so that importing it costs nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def loaded_when_used(package: str, places: Mapping[str, str]) -> Callable[[str], Any]:
    """A package's `__getattr__`.

    No module of the package may have the name of something in it: once loaded, it would take that name's place.

    Args:
        package: Its name.
        places: By name, the module that holds it.

    Example:
        >>> find = loaded_when_used("some", {"sqrt": "math"})
        >>> find("sqrt")(4.0)
        2.0
        >>> find("cbrt")
        Traceback (most recent call last):
        AttributeError: module 'some' has no attribute 'cbrt'
    """

    def find(name: str) -> Any:
        if name in places:
            return getattr(import_module(places[name]), name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return find
