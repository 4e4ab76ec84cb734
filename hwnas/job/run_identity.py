"""What a run is: which parts of a recipe its search rests on, and what of them has changed since it began."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from hwnas.core import digest_of
from hwnas.data import Splits
from hwnas.job.recipe import Recipe
from hwnas.strategies.registry import own_files
from hwnas.study import identity_differences, shortened
from hwnas.study.environment import strategy_identity

_COVERED = ("budget", "limits", "measured", "members", "metrics", "objectives", "seed", "strategy")
"""Keys of a recipe that the search does not rest on, or that a study's own identity says more exactly."""
_FILES = "strategy.files"
_HELPING = ("recipe.evaluation.seconds", "recipe.evaluation.workers", "recipe.training.threads")


def search_identity(recipe: Recipe, splits: Splits) -> dict[str, Any]:
    """What must be equal for a search to be the same, beside what a study compares itself.

    How many processes and cores help, how long an evaluation may take (what timed out is stored as such), where the
    images lie, and how the members are trained afterwards, is not of it.

    Args:
        recipe: Of the run.
        splits: Its images.
    """
    row: dict[str, Any] = recipe.model_dump(mode="json", exclude={"name", "table", *_COVERED})
    parameters = strategy_identity(recipe.build_strategy())["parameters"]
    if not adapts(parameters) and not own_files(recipe.strategy):  # one of the user's own may adapt without saying so
        del row["adaptation"]
    return {
        **{key: value for key, value in _flat("recipe", row).items() if key not in _HELPING},
        "data": splits.to_json()["digest"],
        **{f"metrics.{metric.name}": metric.digest for metric in recipe.own_metrics()},
        **strategy_files(recipe.strategy),
    }


def keys_set(*recipes: bytes) -> frozenset[str]:
    r"""Every key that one of some recipes sets, as `search_identity` names it.

    Args:
        recipes: Their files' content.

    Raises:
        ValueError: If one is not TOML in UTF-8.

    Example:
        >>> sorted(keys_set(b"seed = 1", b"[training]\nepochs = 2"))
        ['recipe.seed', 'recipe.training.epochs']
    """
    texts = [content.decode("utf-8-sig") for content in recipes]
    return frozenset(key for text in texts for key in _flat("recipe", tomllib.loads(text)))


def strategy_files(strategy: Mapping[str, Any]) -> dict[str, str]:
    """A digest of the files that a strategy of the user's own is in; nothing for the strategies of hwnas.

    A study compares the code of the class itself; the class may call functions beside it.

    Example:
        >>> strategy_files({"name": "nsga2"})
        {}
    """
    files = own_files(strategy)
    return {_FILES: digest_of([file.read_text(encoding="utf-8") for file in files])} if files else {}


def _file_differences(stored: Mapping[str, Any], now: Mapping[str, Any], *, finished: bool) -> list[str]:
    """Whether the file of a strategy of the user's own was changed; of a finished run it says nothing any more.

    Example:
        >>> _file_differences({"strategy.files": "a"}, {"strategy.files": "b"}, finished=False)
        ['the file of the strategy was changed since']
        >>> _file_differences({"strategy.files": "a"}, {"strategy.files": "b"}, finished=True)
        []
    """
    both = _FILES in stored and _FILES in now
    changed = both and stored[_FILES] != now[_FILES]
    return ["the file of the strategy was changed since"] if changed and not finished else []


def search_differences(
    stored: Mapping[str, Any],
    now: Mapping[str, Any],
    *,
    keys: frozenset[str] | None = None,
    finished: bool = False,
    stored_adapts: bool = True,
) -> list[str]:
    """In which parts a stored search is another than that of the present recipe, in words.

    Keys that a version did not know yet are compared by their defaults. Those of the strategy are not compared, as the
    study says more exactly what it is.

    Args:
        stored: `search_identity` of the run, by this version or an earlier one.
        now: `search_identity` of the recipe.
        keys: Of the recipe's keys compare these alone: `keys_set` of a search that has ended, which rests on no default
            any more. None compares all.
        finished: Whether the search has ended, so that its program is not run again.
        stored_adapts: Whether the stored run's strategy adapts weights; otherwise it rests on nothing of [adaptation].

    Example:
        >>> search_differences({"recipe.training.epochs": 2}, {"recipe.training.epochs": 3})
        ['[training] epochs: 2 stored, 3 now']
        >>> search_differences({}, {"recipe.training.epochs": 10})
        []
        >>> search_differences({}, {"recipe.training.epochs": 11}, keys=frozenset())
        []
    """
    if stored and {_is_recipe(key) for key in stored} == {False}:
        return ["a study of a script stored, the run of a recipe now"]
    before, after = ({**_defaults(), **row} for row in (stored, now))
    if not (stored_adapts and any(key.startswith("recipe.adaptation.") for key in now)):  # nothing of it is used
        before, after = ({k: v for k, v in row.items() if "recipe.adaptation." not in k} for row in (before, after))
    changed = [key for key in sorted({*before, *after}) if _counts(key) and before.get(key) != after.get(key)]
    changed = [key for key in changed if keys is None or key in keys]
    same_images = stored.get("data") == now.get("data")
    found = [
        _in_words(key, before.get(key), after.get(key))
        for key in changed
        if not (same_images and key.startswith("recipe.data."))
    ]
    if not same_images and not any(key.startswith("recipe.data.") for key in changed):
        found.append("the images: others stored than there are now")
    found += _file_differences(stored, now, finished=finished)
    others = [
        {k: v for k, v in row.items() if not _is_recipe(k) and k not in ("data", _FILES)} for row in (stored, now)
    ]
    for line in identity_differences(*others):
        names, _, rest = line.partition(": predicted by another table")
        found.append(f"{names}: the latency table was measured again since" if rest and "latency" in names else line)
    return found


def table_differences(stored: Mapping[str, Any], now: Mapping[str, Any], *, finished: bool = False) -> list[str]:
    """The same for a search on a published table, whose recipe a study's own identity covers but for the files.

    Example:
        >>> table_differences({"seed": 1, "strategy.files": "a"}, {"seed": 1, "strategy.files": "b"})
        ['the file of the strategy was changed since']
    """
    others = [{key: value for key, value in row.items() if key != _FILES} for row in (stored, now)]
    return identity_differences(*others) + _file_differences(stored, now, finished=finished)


def adapts(parameters: Mapping[str, Any]) -> bool:
    """Whether a stored strategy's parameters say that it trains shared weights on.

    Example:
        >>> adapts({"adapt_epochs": 0}), adapts({"adapt_epochs": None}), adapts({"then": {"adapt_epochs": 2}})
        (False, True, True)
    """
    return any(
        adapts(value) if isinstance(value, dict) else key == "adapt_epochs" and value != 0
        for key, value in parameters.items()
    )


def _is_recipe(key: str) -> bool:
    return key.startswith("recipe.")


def _counts(key: str) -> bool:
    """Whether a key is the recipe's and the search rests on it."""
    return _is_recipe(key) and key.split(".")[1] not in _COVERED and key not in _HELPING


def _in_words(key: str, stored: object, now: object) -> str:
    *tables, name = key.split(".")[1:]
    where = f"[{'.'.join(tables)}] " if tables else ""
    return f"{where}{name}: {shortened(stored)} stored, {shortened(now)} now"


def _defaults() -> dict[str, Any]:
    parts = {name: field.default for name, field in Recipe.model_fields.items()}
    tables = {name: part.model_dump(mode="json") for name, part in parts.items() if isinstance(part, BaseModel)}
    return _flat("recipe", tables)


def _flat(prefix: str, value: Any) -> dict[str, Any]:
    """Nested maps as one map with dotted names, so that a difference names the very key."""
    if not isinstance(value, dict):
        return {prefix: value}
    rows = [_flat(f"{prefix}.{key}", part) for key, part in value.items()]
    return {key: part for row in rows for key, part in row.items()}
