"""The code that a figure depends on, and a digest of it: what has changed since says whether the figure still holds.

From a part of a bench everything is followed that it names: functions, classes and constants of the bench and of hwnas,
through re-exports, and through texts "module:name", to where they are defined; of a class the methods whose names come
up anywhere in that code. Layout,
comments, docstrings, annotations of functions and what errors say do not count; neither does what only keeps things.
"""

from __future__ import annotations

import ast
import copy
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from types import FunctionType

ROOT = Path(__file__).parents[2]
ROOMS = ("hwnas", "tests")
PROGRAMS = {"hwnas.profiling.program": "hwnas.device.measure"}
"""Modules that run another one as a program, by its path: no import shows it."""

KEEPERS = (
    "hwnas.core.errors",
    "hwnas.core.files",
    "hwnas.store",
    "hwnas.evaluation.state_file",
    "hwnas.study.environment",
)
"""Modules that say or keep what was found, and find nothing: a figure is not of them. Their own tests are."""

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
    places, extra = _roots(part)
    walk = _Walk(places)
    walk.run()
    digests = {module: _digest("\n".join(sorted(texts))) for module, texts in walk.found.items() if texts}
    return dict(sorted((digests | ({"arguments": _digest("\n".join(extra))} if extra else {})).items()))


class _Walk:
    """Everything that is reached from some places.

    Args:
        places: To begin with.
    """

    def __init__(self, places: list[Place]) -> None:
        self.todo = places
        self.seen: set[Place] = set()
        self.found: dict[str, set[str]] = {}
        self.words: set[str] = set()  # attributes, and texts that may name one
        self.methods: dict[Place, dict[str, list[ast.stmt]]] = {}  # of classes that were reached, not yet reached

    def run(self) -> None:
        """Until nothing new comes up."""
        while self.todo:
            while self.todo:
                self._visit(self.todo.pop())
            for (module, _), methods in list(self.methods.items()):
                for name in sorted(self.words & methods.keys()):
                    for statement in methods.pop(name):
                        self._take(module, statement)

    def _visit(self, place: Place) -> None:
        module, name = place
        parsed = None if place in self.seen or _keeps(module) else _parsed(module)
        self.seen.add(place)
        if parsed is None:
            return
        if module in PROGRAMS:
            self.todo.append((PROGRAMS[module], ""))
        statements: list[ast.stmt] = []
        if not name or (name not in parsed.defined and name not in parsed.imported):
            statements = [statement for group in parsed.defined.values() for statement in group]
            self.todo += parsed.imported.values()
        elif name in parsed.imported:
            self.todo.append(parsed.imported[name])
        else:
            statements = parsed.defined[name]
        for statement in [*statements, *parsed.loose]:
            if isinstance(statement, ast.ClassDef) and name and _is_ours(statement, parsed):
                shell, methods = _without_methods(statement)
                self.methods[module, name] = methods
                statement = shell
            self._take(module, statement)

    def _take(self, module: str, statement: ast.stmt) -> None:
        parsed = _parsed(module)
        assert parsed is not None, "a statement was found in it"
        code = _plain(statement)
        self.found.setdefault(module, set()).add(ast.unparse(code))
        for node in ast.walk(code):
            if isinstance(node, ast.Attribute):
                self.words.add(node.attr)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                self.words.add(node.value)
                place = node.value.partition(":")  # "module:name", which a registry loads when it is asked for
                if place[2].isidentifier() and file_of(place[0]) is not None:
                    self.todo.append((place[0], place[2]))
        self.todo += _named(code, module, parsed)


def _keeps(module: str) -> bool:
    return any(module == keeper or module.startswith(f"{keeper}.") for keeper in KEEPERS)


def _is_ours(statement: ast.ClassDef, parsed: _Module) -> bool:
    """Whether all that calls its methods is code that is followed: no base is of another package."""
    names = [base.id for base in statement.bases if isinstance(base, ast.Name)]
    own = (n in parsed.defined or file_of(parsed.imported.get(n, ("", ""))[0]) is not None for n in names)
    return len(names) == len(statement.bases) and all(own)


def _without_methods(statement: ast.ClassDef) -> tuple[ast.ClassDef, dict[str, list[ast.stmt]]]:
    """A class with those methods alone that Python calls by itself, and the others by name."""
    kept: list[ast.stmt] = []
    methods: dict[str, list[ast.stmt]] = {}
    for part in statement.body:
        if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef) and not part.name.startswith("__"):
            methods.setdefault(part.name, []).append(part)
        else:
            kept.append(part)
    shell = copy.copy(statement)
    shell.body = kept or [ast.Pass()]
    return shell, methods


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


def _named(statement: ast.AST, module: str, parsed: _Module) -> Iterator[Place]:
    """What some code refers to. Of an imported module only the names that are taken from it."""
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


def _plain(statement: ast.stmt) -> ast.Module:
    """Its code in one form, without docstrings, annotations of functions, and what errors say."""
    code = ast.parse(ast.unparse(ast.fix_missing_locations(statement)))
    for node in ast.walk(code):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            node.exc, node.cause = node.exc.func, None
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.returns = None
        elif isinstance(node, ast.arg):
            node.annotation = None
        body = getattr(node, "body", None)
        if isinstance(body, list):
            kept = [s for s in body if not (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant))]
            node.__dict__["body"] = kept or [ast.Pass()]
    return code


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
