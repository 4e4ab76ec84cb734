"""In which parts two studies differ, in words."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from re import fullmatch
from typing import Any

from hwnas.core import Limit

Differences = Callable[[Mapping[str, Any], Mapping[str, Any]], list[str]]
"""What of a stored identity and the present one differs, one phrase each; nothing where a run may go on."""

_SHOWN = 5
_LONG = 60


def identity_differences(stored: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Each part in which two studies differ, sorted by name.

    Example:
        >>> identity_differences({"seed": 1, "budget": [20, None, 0.1]}, {"seed": 1, "budget": [30, None, 0.1]})
        ['the budget: 20 evaluations stored, 30 evaluations now']
    """
    if any(name.startswith("recipe.") for name in stored) and not any(name.startswith("recipe.") for name in now):
        return ["the run of a recipe stored, a study of a script now"]
    names = sorted(name for name in {*stored, *now} if stored.get(name) != now.get(name))
    found = []
    for name in names:
        before, after = stored.get(name), now.get(name)
        in_words = _IN_WORDS.get(name)
        if in_words is not None and before is not None and after is not None:
            found.append(in_words(before, after))
        elif name.startswith("metrics.") and before is not None and after is not None:
            found.append(f"the function of metric {name.removeprefix('metrics.')} was changed since")
        else:
            found.append(f"{name}: {shortened(before)} stored, {shortened(after)} now")
    return found


@dataclass(frozen=True)
class StrategyDifferences:
    """In which parts a stored strategy is another than the present one.

    Attributes:
        of_user: What the user has changed, one phrase each.
        of_version: What another version of hwnas asks for otherwise, one phrase each.
        to_set: Parameters that another version of hwnas sets otherwise by default, with the stored values.
    """

    of_user: tuple[str, ...] = ()
    of_version: tuple[str, ...] = ()
    to_set: tuple[tuple[str, Any], ...] = ()

    @property
    def lines(self) -> list[str]:
        """All of them, one phrase each."""
        defaults = [
            f"{' in '.join(_place(key))} was {json.dumps(value)} by default when it began" for key, value in self.to_set
        ]
        return [*self.of_user, *self.of_version, *defaults]

    @property
    def way_out(self) -> str:
        """What lets the stored run go on."""
        if self.of_version:
            return "install the hwnas that began it"
        places = [(*_place(key), value) for key, value in self.to_set]
        settings = [f"set {name} = {json.dumps(value)} in {table}" for name, table, value in places]
        return " and ".join([*(["undo the change"] if self.of_user else []), *settings])


def strategy_differences(
    stored: Mapping[str, Any], now: Mapping[str, Any], default: Mapping[str, Any] | None = None, *, ended: bool = False
) -> StrategyDifferences:
    """The same for what `strategy_identity` says of two strategies.

    What earlier versions of hwnas stored has no versions of strategies, but one digest of all source. As that of
    hwnas may be worded otherwise by now, only the replay can tell there whether the same is asked for.

    Args:
        stored: Of the run.
        now: Of the present strategy.
        default: Of the present strategy's parameters those that have their default.
        ended: Whether the search has ended. It is then not run again, so what code and defaults are now says nothing.

    Example:
        >>> found = strategy_differences(
        ...     {"name": "Sweep", "parameters": {"step": 1}, "versions": {}, "code": "a"},
        ...     {"name": "Sweep", "parameters": {"step": 2}, "versions": {}, "code": "b"},
        ... )
        >>> found.of_user
        ('strategy Sweep: step 1 stored, 2 now', 'the code of strategy Sweep was changed since')
    """
    name, stored = now["name"], _unwrapped(stored)
    if stored["name"] != name:
        return StrategyDifferences((f"the strategy: {stored['name']} stored, {name} now",))
    before, after, usual = _flat(stored["parameters"]), _flat(now["parameters"]), _flat(default or {})
    versions = stored.get("versions")
    of_user, to_set = [], list[tuple[str, Any]]()
    for key in sorted({*before, *after}):
        if before.get(key) == after.get(key) or (ended and key not in before):
            continue
        if versions == now["versions"] or key not in usual:
            of_user.append(
                f"strategy {name}: {key} {shortened(before.get(key))} stored, {shortened(after.get(key))} now"
            )
        elif key in before:  # nobody but hwnas has changed it
            to_set.append((key, before[key]))
    if ended:
        return StrategyDifferences(tuple(of_user))
    of_version = [
        f"strategy {part}: version {versions.get(part, 'nothing')} stored, {version} now"
        for part, version in now["versions"].items()
        if versions is not None and versions.get(part) != version
    ]
    of_version += [f"{key} had no value by default when it began" for key, value in to_set if value is None]
    if stored["code"] != now["code"] and not (versions is None and now["versions"]):
        of_user.append(f"the code of strategy {name} was changed since")
    settable = tuple((key, value) for key, value in to_set if value is not None)
    return StrategyDifferences(tuple(of_user), tuple(of_version), settable)


def _place(key: str) -> tuple[str, str]:
    """A parameter and the table of a recipe that sets it; a strategy after another has one of its own."""
    *parts, name = key.split(".")
    return name, f"[{'.'.join(['strategy', *(part for part in parts if part != 'first')])}]"


def _unwrapped(stored: Mapping[str, Any]) -> Mapping[str, Any]:
    """The strategy itself: earlier versions stored a wrapper that trains the supernet before it."""
    if stored["name"] not in ("WithSupernet", "WithSupernetConcluding"):
        return stored
    parameters = dict(stored["parameters"]["strategy"])
    return {**stored, "name": str(parameters.pop("type")).rpartition(":")[2], "parameters": parameters}


def _flat(parameters: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in parameters.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": _unplaced(value)}
    return found


def _unplaced(value: object) -> object:
    """A function or class by its name alone: its file may be called otherwise than when the run began."""
    return value.partition(":")[2] if isinstance(value, str) and fullmatch(r"[\w.]+:[\w.<>]+", value) else value


def some_of(differences: Sequence[str]) -> str:
    """The first few, and how many more there are.

    Example:
        >>> some_of(["a", "b", "c", "d", "e", "f", "g"])
        'a; b; c; d; e; and 2 more'
    """
    more = len(differences) - _SHOWN
    return "; ".join([*differences[:_SHOWN], *([f"and {more} more"] if more > 0 else [])])


def shortened(value: object) -> str:
    """A value in a line.

    Example:
        >>> shortened(None), shortened(["a", 1])
        ('nothing', 'a, 1')
    """
    if value is None:
        return "nothing"
    text = ", ".join(map(str, value)) if isinstance(value, list) and value else str(value)
    return text if len(text) <= _LONG else f"{text[: _LONG - 3]}..."


def _space(stored: list[Any], now: list[Any]) -> str:
    if stored[0] != now[0]:
        return f"the space: {stored[0]} stored, {now[0]} now"
    return f"the space {now[0]}: its decisions or blocks were changed since"


def _objectives(stored: list[Any], now: list[Any]) -> str:
    return f"the objectives: {_named(stored)} stored, {_named(now)} now"


def _named(rows: list[Any]) -> str:
    return ", ".join(f"{name} ({', '.join(filter(None, rest))})" for name, *rest in rows)


def _limits(stored: list[Any], now: list[Any]) -> str:
    def in_words(rows: list[Any]) -> str:
        found = [Limit(row[0], at_least=row[1], at_most=row[2], safe=bool(row[3:])) for row in rows]
        return ", ".join(map(str, found)) or "none"

    return f"the limits: {in_words(stored)} stored, {in_words(now)} now"


def _costs(stored: list[Any], now: list[Any]) -> str:
    before, after = ({row[0]: row for row in rows} for rows in (stored, now))
    if before.keys() != after.keys():
        return f"what is predicted: {', '.join(before) or 'nothing'} stored, {', '.join(after) or 'nothing'} now"
    if list(before) != list(after):
        return f"the order of what is predicted: {', '.join(before)} stored, {', '.join(after)} now"
    changed = [name for name, row in before.items() if row != after[name]]
    return f"{' and '.join(changed)}: predicted by another table or formula than when the run began"


def _budget(stored: list[Any], now: list[Any]) -> str:
    def in_words(row: list[Any]) -> str:
        evaluations, minutes, reserve = row
        parts = [
            *([f"{evaluations} evaluations"] if evaluations is not None else []),
            *([f"{minutes:g} minutes"] if minutes is not None else []),
            *([f"{reserve:.0%} in reserve"] if stored[2] != now[2] else []),
        ]
        return " and ".join(parts)

    return f"the budget: {in_words(stored)} stored, {in_words(now)} now"


_IN_WORDS: dict[str, Callable[[list[Any], list[Any]], str]] = {
    "space": _space,
    "objectives": _objectives,
    "limits": _limits,
    "costs": _costs,
    "budget": _budget,
}
