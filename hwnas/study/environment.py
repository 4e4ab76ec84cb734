"""What must be equal for a resumed run to be equal to the bit: software, machine, threads."""

from __future__ import annotations

import dataclasses
import inspect
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import Any

from hwnas.core import digest_of
from hwnas.study.strategy import Strategy

_PACKAGES = ("hwnas", "numpy", "scipy", "scikit-learn", "pymoo", "moocore", "torch")


@cache
def environment() -> Mapping[str, str]:
    """Versions and machine, by name. Nothing is imported for it.

    Example:
        >>> sorted(environment())[:3]
        ['cpu', 'hwnas', 'machine']
    """
    versions = {package: _version(package) for package in _PACKAGES}
    return MappingProxyType(
        versions
        | {
            "python": platform.python_version(),
            "machine": f"{platform.system()} {platform.machine()}",
            "cpu": _cpu(),
        }
    )


def differences(stored: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Each field that differs, sorted by name.

    Example:
        >>> differences({"seed": 1, "numpy": "2.0"}, {"seed": 2, "numpy": "2.0"})
        ['seed: 1 stored, 2 now']
    """
    return [
        f"{name}: {stored.get(name, 'nothing')} stored, {now.get(name, 'nothing')} now"
        for name in sorted({*stored, *now})
        if stored.get(name) != now.get(name)
    ]


def strategy_identity(strategy: object) -> dict[str, Any]:
    """What a strategy is, as JSON: its name, its parameters, and what says that it asks for the same.

    Strategies of hwnas say it by their `version`, so that a later hwnas may word them otherwise; all others by a digest
    of their source. Both hold those that a strategy is made of, too.

    Example:
        >>> @dataclasses.dataclass(frozen=True)
        ... class Sweep:
        ...     step: int = 2
        >>> strategy_identity(Sweep())["parameters"]
        {'step': 2}
        >>> from hwnas.strategies import Nsga2
        >>> strategy_identity(Nsga2())["versions"]
        {'Nsga2': 1}
    """
    parts = _parts(strategy)
    ours = [type(part) for part in parts if _is_ours(type(part))]
    kind = type(strategy)
    return {
        "name": kind.__qualname__,  # not the module: a script is `__main__` when run and has a name when imported
        "parameters": _fields(strategy),
        "versions": {part.__qualname__: part.version for part in ours if hasattr(part, "version")},
        "code": digest_of([_source(type(part)) for part in parts if type(part) not in ours]),
    }


def at_default(strategy: object) -> dict[str, Any]:
    """The parameters that are what a strategy of hwnas, or one that it is made of, sets by default; as JSON.

    Example:
        >>> from hwnas.strategies import Nsga2
        >>> at_default(Nsga2(population=40, mutations=1.0))
        {'crossover_probability': 0.9, 'mutation_eta': 1.0}
    """
    if not (dataclasses.is_dataclass(strategy) and _is_ours(type(strategy))):
        return {}
    found: dict[str, Any] = {}
    for field in dataclasses.fields(strategy):
        value = getattr(strategy, field.name)
        if isinstance(value, Strategy):
            found[field.name] = at_default(value)
        elif value == field.default:
            found[field.name] = _plain(value)
    return found


def torch_threads() -> int | None:
    """How many threads torch computes with, None while nobody has imported it."""
    torch = sys.modules.get("torch")
    return None if torch is None else int(torch.get_num_threads())


def set_torch_threads(threads: int) -> None:
    """Set them, if torch is imported."""
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(threads)


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Within, torch computes with one thread, also in Python threads that begin there."""
    before = torch_threads()
    set_torch_threads(1)
    try:
        yield
    finally:
        if before is not None:
            set_torch_threads(before)


def _parts(strategy: object) -> list[object]:
    """A strategy, and those that it is made of."""
    inner = [part for _, part in sorted(getattr(strategy, "__dict__", {}).items()) if isinstance(part, Strategy)]
    return [strategy, *(found for part in inner for found in _parts(part))]


def _is_ours(kind: type) -> bool:
    return kind.__module__.startswith("hwnas.")


def _source(kind: type) -> str:
    try:
        return inspect.getsource(kind)
    except (OSError, TypeError):  # defined at a prompt: there is no source to compare
        return ""


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"


def _fields(value: object) -> dict[str, Any]:
    if dataclasses.is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return {name: _plain(part) for name, part in sorted(getattr(value, "__dict__", {}).items())}


def _plain(value: object) -> Any:
    """JSON that stays the same from process to process: functions and objects go by name, never by address."""
    match value:
        case None | bool() | int() | float() | str():
            return value
        case Mapping():
            return {str(key): _plain(part) for key, part in sorted(value.items(), key=lambda item: str(item[0]))}
        case Sequence():
            return [_plain(part) for part in value]
    kind = value if inspect.isroutine(value) or inspect.isclass(value) else type(value)
    name = f"{kind.__module__}:{kind.__qualname__}"
    return name if kind is value else {"type": name, **_fields(value)}
