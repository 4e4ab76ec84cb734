"""A Python file of the user's own, as a module."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType

from hwnas.core.errors import RecipeError

_PREFIX = "hwnas_own_"


def module_of(path: Path) -> ModuleType:
    """The file as a module, run once per process and version of the file.

    Raises:
        RecipeError: If it is not there or cannot be run; says why.
    """
    if not path.is_file():
        raise RecipeError(f"there is no file {path}")
    text = path.read_bytes()
    name = f"{_PREFIX}{hashlib.sha256(str(path).encode() + text).hexdigest()[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise RecipeError(f"{path}: is no Python file; its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise RecipeError(f"{path}: cannot be run: {type(error).__name__}: {error}{own_line(error)}") from error
    return module


def own_line(error: BaseException) -> str:
    """Where in a file of the user's own an error arose, as " (nets.py, line 12)"; empty if in none.

    Example:
        >>> own_line(ValueError("no file of one's own has raised it"))
        ''
    """
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        return f" ({Path(error.filename).name}, line {error.lineno})"
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        if str(frame.f_globals.get("__name__", "")).startswith(_PREFIX):
            return f" ({Path(frame.f_code.co_filename).name}, line {line})"
    return ""
