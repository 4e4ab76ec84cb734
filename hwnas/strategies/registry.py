"""Every strategy by the name that recipes use, one line each, and how a recipe's table becomes one."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, cast, get_type_hints

from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from hwnas.core import RecipeError
from hwnas.core.errors import did_you_mean
from hwnas.core.own_file import module_of, own_line
from hwnas.study import InSequence, Strategy

STRATEGIES: Mapping[str, str] = {
    "random": "hwnas.strategies.random_search:RandomSearch",
    "regularized_evolution": "hwnas.strategies.regularized_evolution:RegularizedEvolution",
    "reinforce": "hwnas.strategies.reinforce:Reinforce",
    "spos": "hwnas.strategies.spos:Spos",
    "nsga2": "hwnas.strategies.nsga2:Nsga2",
    "nsga3": "hwnas.strategies.nsga3:Nsga3",
    "nat": "hwnas.strategies.nat:Nat",
    "dpp_net": "hwnas.strategies.dpp_net:DppNet",
    "bayesian": "hwnas.strategies.bayesian:Bayesian",
    "darts": "hwnas.strategies.darts:Darts",
    "fbnet": "hwnas.strategies.fbnet:FBNet",
    "proxyless_nas": "hwnas.strategies.proxyless_nas:ProxylessNas",
}
"""Where each strategy is: "module:Class". A module is loaded when its strategy is asked for."""

_KEYS = ("name", "then")
"""Keys of `[strategy]` that are no parameters."""


def strategy_class(name: str) -> type[Strategy]:
    """The class of a strategy, a frozen dataclass.

    Args:
        name: A key of `STRATEGIES`, or "file.py:Class" for a strategy of the user's own, from the current folder.

    Raises:
        RecipeError: If there is no such strategy, or the class is none; names the file, the line and the way out.

    Example:
        >>> strategy_class("nsga2").__name__
        'Nsga2'
    """
    if ":" in name:
        return _own_class(name)
    if name not in STRATEGIES:
        raise RecipeError(
            f'strategy "{name}" is unknown; {did_you_mean(name, STRATEGIES)}',
            hint='hwnas methods lists them; a strategy of your own: name = "file.py:Class"',
        )
    module, _, class_name = STRATEGIES[name].partition(":")
    found: type[Strategy] = getattr(import_module(module), class_name)
    return found


def own_files(strategy: Mapping[str, object]) -> list[Path]:
    """The files of the user's own that a recipe's `[strategy]` names, `[strategy.then]` included; absolute.

    Example:
        >>> own_files({"name": "nsga2"}), [file.name for file in own_files({"name": "mine.py:Mine"})]
        ([], ['mine.py'])
    """
    name, then = str(strategy.get("name", "")), strategy.get("then")
    own = [_file_of(name)] if ":" in name else []
    return own + (own_files(then) if isinstance(then, Mapping) else [])


def trains_weights(strategy: object) -> bool:
    """Whether a strategy, or a class of them, trains the shared weights itself: it searches by gradient.

    Example:
        >>> trains_weights(build("darts", {})), trains_weights(build("nsga2", {}))
        (True, False)
    """
    return bool(getattr(strategy, "trains_weights", False))


def names_that_only_evaluate() -> list[str]:
    """Names of those strategies that search whatever can be evaluated, in order. Loads all of them."""
    return [name for name in STRATEGIES if not trains_weights(strategy_class(name))]


def build(name: str, parameters: Mapping[str, object]) -> Strategy:
    """The strategy of a recipe: its fields are the parameters, checked by name and type.

    Args:
        name: A key of `STRATEGIES`, or "file.py:Class" for a strategy of the user's own, from the current folder.
        parameters: Values by field; what is left out keeps its default. After a strategy that searches by gradient,
            `then` may hold another one that only evaluates, with its own `name` and parameters: it goes on from what
            was found.

    Raises:
        RecipeError: If the name or a parameter is unknown, or a value has the wrong type or range; or if a file of the
            user's own holds no such strategy.

    Example:
        >>> build("nsga2", {"population": 40})
        Nsga2(population=40, crossover_probability=0.9, mutations=2.0, mutation_eta=1.0)
        >>> build("nsga2", {"populaton": 20})
        Traceback (most recent call last):
        hwnas.core.errors.RecipeError: strategy nsga2 has no parameter "populaton"; did you mean "population"?
    """
    if "then" in parameters:
        first = build(name, {key: value for key, value in parameters.items() if key != "then"})
        return InSequence(first, _build_then(name, first, parameters["then"]))
    kind = strategy_class(name)
    fields = parameters_of(kind)
    types = _types_of(name, kind)
    values = {}
    for key, value in parameters.items():
        if key not in fields:
            known = did_you_mean(key, fields) if fields else "it has none"
            raise RecipeError(f'strategy {name} has no parameter "{key}"; {known}')
        values[key] = _checked(name, key, value, types[key])
    for key, field in fields.items():
        if key not in values and not has_default(field):
            raise RecipeError(f"strategy {name}: {key} is missing, which has no default")
    make: Any = kind
    try:
        made: Strategy = make(**values)
    except RecipeError:
        raise
    except Exception as error:  # the class may be the user's own, which may raise anything
        raise RecipeError(
            f"strategy {name} cannot be built: {type(error).__name__}: {error}{own_line(error)}"
        ) from error
    return made


def parameters_of(kind: type[Strategy]) -> dict[str, dataclasses.Field[Any]]:
    """The fields of a strategy's class that `[strategy]` may set, by name.

    Example:
        >>> list(parameters_of(strategy_class("spos")))
        ['population', 'best', 'mutation']
    """
    fields: tuple[dataclasses.Field[Any], ...] = dataclasses.fields(kind)  # type: ignore[arg-type]
    return {field.name: field for field in fields if field.init}


def has_default(field: dataclasses.Field[Any]) -> bool:
    """Whether a field may be left out."""
    return field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING


def default_of(field: dataclasses.Field[Any]) -> object:
    """The value of a field that is left out. It must have one."""
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def _types_of(name: str, kind: type[Strategy]) -> dict[str, Any]:
    try:
        return get_type_hints(kind)
    except Exception as error:  # annotations of the user's own are code, which may raise anything
        raise RecipeError(
            f"strategy {name}: the types of its fields cannot be read: {type(error).__name__}: {error}{_place(kind)}",
            hint="import what they name outside of TYPE_CHECKING",
        ) from error


def _checked(name: str, key: str, value: object, wanted: Any) -> object:
    """A value of the wanted type. TOML has no tuples, so a list is one unless a list is wanted.

    Raises:
        RecipeError: If it is none.
    """
    try:
        adapter: TypeAdapter[object] = TypeAdapter(wanted)
    except PydanticUserError as error:
        raise RecipeError(
            f"strategy {name}: {key} cannot be set in a recipe: its type is {wanted}",
            hint="numbers, texts, true and false, and tuples of them can",
        ) from error
    try:
        # Strict: "20" or true where a number belongs is a mistake, not a number.
        return adapter.validate_python(_with_tuples(value), strict=True)
    except ValidationError as error:
        try:
            return adapter.validate_python(value, strict=True)
        except ValidationError:
            expected = error.errors()[0]["msg"][:1].lower() + error.errors()[0]["msg"][1:]
            raise RecipeError(f"strategy {name}: {key} is {value!r}; {expected}") from error


def _with_tuples(value: object) -> object:
    return tuple(map(_with_tuples, value)) if isinstance(value, list) else value


def _build_then(name: str, first: Strategy, then: object) -> Strategy:
    """What goes on after a strategy.

    Raises:
        RecipeError: If nothing can, or this cannot.
    """
    if not trains_weights(first):
        by_gradient = ", ".join(one for one in STRATEGIES if trains_weights(strategy_class(one)))
        raise RecipeError(
            f"strategy {name} searches until the budget is spent, so nothing comes after it",
            hint=f"[strategy.then] goes with {by_gradient}",
        )
    if isinstance(then, Mapping) and isinstance(then.get("name"), str):
        found = build(then["name"], {key: value for key, value in then.items() if key != "name"})
        if not trains_weights(found):
            return found
    raise RecipeError(
        f"[strategy.then] is {then!r}; expected a table with a name, one of {', '.join(names_that_only_evaluate())}, "
        "and parameters"
    )


def _own_class(name: str) -> type[Strategy]:
    """The class that "file.py:Class" names.

    Raises:
        RecipeError: If the file cannot be run, or the class is missing or is no strategy.
    """
    path, class_name = _file_of(name), name.rpartition(":")[2]
    if not path.is_file():
        raise RecipeError(f'name is "{name}"; there is no file {path}', hint="paths are from the current folder")
    module = module_of(path)
    found: Any = getattr(module, class_name, None)
    if not inspect.isclass(found):
        classes = [key for key, value in vars(module).items() if inspect.isclass(value) and hasattr(value, "search")]
        known = did_you_mean(class_name, classes) if classes else "it has no class with search(study)"
        raise RecipeError(
            f'{path}: has no strategy "{class_name}"; {known}',
            hint="a strategy is a frozen dataclass with search(study)",
        )
    where = f"{path}: {class_name}"
    kind = cast(type[Strategy], found)
    if not callable(getattr(kind, "search", None)):
        raise RecipeError(f"{where} has no method search{_place(kind)}", hint="def search(self, study): ...")
    try:
        inspect.signature(kind.search).bind(None, None)
    except TypeError as error:
        raise RecipeError(
            f"{where}.search does not take one study ({error}){_place(kind)}", hint="def search(self, study): ..."
        ) from error
    if not dataclasses.is_dataclass(found):
        raise RecipeError(
            f"{where} is no dataclass, so it has no fields to be the keys of [strategy]{_place(kind)}",
            hint=f"write @dataclass(frozen=True) in the line before class {class_name}",
        )
    for key in _KEYS:
        if key in parameters_of(kind):
            raise RecipeError(
                f"{where} has a field {key}, which is a key of every [strategy] already{_place(kind)}",
                hint="give the field another name",
            )
    return kind


def _file_of(name: str) -> Path:
    """The file in "file.py:Class"; a relative one is from the current folder."""
    return Path(name.rpartition(":")[0]).resolve()


def _place(kind: type) -> str:
    """Where a class of the user's own is defined, as " (mine.py, line 12)"; empty where that is not known."""
    try:
        path, line = inspect.getsourcefile(kind), inspect.getsourcelines(kind)[1]
    except (OSError, TypeError):
        return ""
    return f" ({Path(path).name}, line {line})" if path else ""
