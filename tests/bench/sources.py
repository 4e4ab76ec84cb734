"""The code that a figure depends on, and a digest of it: what has changed since says whether the figure still holds.

From a part of a bench everything is followed that it names: functions, classes and constants of the bench and of hwnas,
through re-exports to where they are defined. Comments, docstrings and layout count for nothing.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from types import FunctionType
from typing import Any

ROOT = Path(__file__).parents[2]
ROOMS = ("hwnas", "tests")
PROGRAMS = {"hwnas.profiling.program": "hwnas.device.measure"}
"""Modules that run another one as a program, by its path: no import shows it."""

Place = tuple[str, str]
"""A module and a name in it; an empty name is the whole module."""


@dataclass(frozen=True)
class _Module:
    """A parsed file.

    Attributes:
        defined: By name, the statements that define it.
        imported: By name, where it comes from.
        loose: Statements that define nothing, such as calls: they run whatever is used.
    """

    defined: Mapping[str, list[ast.stmt]]
    imported: Mapping[str, Place]
    loose: list[ast.stmt]


def sources_of(part: object) -> dict[str, str]:
    """By module, a digest of the code in it that a part of a bench depends on.

    Args:
        part: A function, or a `partial` of one; what a partial is given counts as well.
    """
    todo, extra = _roots(part)
    found: dict[str, set[str]] = {}
    seen: set[Place] = set()
    while todo:
        place = todo.pop()
        if place in seen:
            continue
        seen.add(place)
        module, name = place
        parsed = _parsed(module)
        if parsed is None:
            continue
        if module in PROGRAMS:
            todo.append((PROGRAMS[module], ""))
        texts = found.setdefault(module, set())
        if not name or (name not in parsed.defined and name not in parsed.imported):
            statements = [statement for group in parsed.defined.values() for statement in group]
            todo += parsed.imported.values()
        elif name in parsed.imported:
            statements = []
            todo.append(parsed.imported[name])
        else:
            statements = parsed.defined[name]
        for statement in [*statements, *parsed.loose]:
            texts.add(_text(statement))
            todo += _named(statement, module, parsed)
    digests = {module: _digest("\n".join(sorted(texts))) for module, texts in found.items() if texts}
    return dict(sorted((digests | ({"arguments": _digest("\n".join(extra))} if extra else {})).items()))


def digest_of_sources(sources: Mapping[str, str]) -> str:
    """One digest of them all."""
    return _digest("\n".join(f"{module} {digest}" for module, digest in sorted(sources.items())))


def digest_of_file(path: Path) -> str:
    """Of a file's bytes; of one that is not there, a word that no digest is."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path.is_file() else "gone"


def file_of(module: str, root: Path = ROOT) -> Path | None:
    """Where a module of the repository lies; None for one of elsewhere."""
    if module.partition(".")[0] not in ROOMS:
        return None
    path = root.joinpath(*module.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


def _roots(part: object) -> tuple[list[Place], list[str]]:
    """Where to begin, and the plain values that a partial is given."""
    if isinstance(part, partial):
        places, values = _roots(part.func)
        for name, value in [*enumerate(part.args), *sorted(part.keywords.items())]:
            if isinstance(value, FunctionType | type):
                places.append((value.__module__, value.__qualname__.partition(".")[0]))
            else:
                values.append(f"{name}={value!r}")
                if isinstance(value, tuple):  # names of modules count as the modules do
                    places += [(item, "") for item in value if isinstance(item, str) and file_of(item) is not None]
        return places, values
    if isinstance(part, FunctionType):
        return [(part.__module__, part.__qualname__.partition(".")[0])], []
    raise TypeError(f"{part!r} is no function, nor a partial of one: its sources cannot be told")


@cache
def _parsed(module: str) -> _Module | None:
    path = file_of(module)
    if path is None:
        return None
    defined: dict[str, list[ast.stmt]] = {}
    imported: dict[str, Place] = {}
    loose: list[ast.stmt] = []
    body = list(ast.parse(path.read_text(encoding="utf-8")).body)
    while body:
        statement = body.pop(0)
        match statement:
            case ast.Import() | ast.ImportFrom():
                imported |= _imports(statement)
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                body = [*statement.body, *body]
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                defined.setdefault(statement.name, []).append(statement)
            case ast.Assign() | ast.AnnAssign() | ast.AugAssign():
                targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
                names = [n.id for target in targets for n in ast.walk(target) if isinstance(n, ast.Name)]
                for name in names:
                    defined.setdefault(name, []).append(statement)
            case ast.Expr(value=ast.Constant()):
                pass  # a docstring
            case _:
                loose.append(statement)
    return _Module(defined, imported, loose)


def _imports(statement: ast.Import | ast.ImportFrom) -> dict[str, Place]:
    if isinstance(statement, ast.Import):
        return {(a.asname or a.name).partition(".")[0]: (a.name, "") for a in statement.names}
    module = statement.module or ""
    found = {}
    for alias in statement.names:
        inner = f"{module}.{alias.name}"
        place = (inner, "") if file_of(inner) is not None else (module, alias.name)
        found[alias.asname or alias.name] = place
    return found


def _named(statement: ast.stmt, module: str, parsed: _Module) -> Iterator[Place]:
    """What a statement refers to. Of an imported module only the names that are taken from it."""
    whole: dict[str, Place] = {name: place for name, place in parsed.imported.items() if not place[1]}
    qualified = set()
    for node in ast.walk(statement):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from _imports(node).values()
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in whole:
            qualified.add(node.value)
            yield whole[node.value.id][0], node.attr
        elif isinstance(node, ast.Name) and node not in qualified:
            if node.id in parsed.imported:
                yield parsed.imported[node.id]
            elif node.id in parsed.defined:
                yield module, node.id


def _text(statement: ast.stmt) -> str:
    """Its code without docstrings, in one form."""
    copy: Any = ast.parse(ast.unparse(statement))
    for node in ast.walk(copy):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            kept = [s for s in body if not (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant))]
            node.__dict__["body"] = kept or [ast.Pass()]
    return ast.unparse(copy)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
