"""A Python file of the user's own, as a module."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from hwnas.core.errors import RecipeError


def module_of(path: Path) -> ModuleType:
    """The file as a module, run once per process and version of the file.

    Raises:
        RecipeError: If it is not there or cannot be run; says why.
    """
    if not path.is_file():
        raise RecipeError(f"there is no file {path}")
    text = path.read_bytes()
    name = f"hwnas_own_{hashlib.sha256(str(path).encode() + text).hexdigest()[:16]}"
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
        raise RecipeError(f"{path}: cannot be run: {type(error).__name__}: {error}") from error
    return module
