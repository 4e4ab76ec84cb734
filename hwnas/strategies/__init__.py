"""Search strategies: one file per method, one line each in `STRATEGIES`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import get_type_hints

from pydantic import TypeAdapter, ValidationError

from hwnas.core import RecipeError
from hwnas.core.errors import did_you_mean
from hwnas.strategies.bayesian import Bayesian
from hwnas.strategies.darts import Darts
from hwnas.strategies.dpp_net import DppNet
from hwnas.strategies.fbnet import FBNet
from hwnas.strategies.nat import Nat
from hwnas.strategies.nsga2 import Nsga2
from hwnas.strategies.nsga3 import Nsga3
from hwnas.strategies.proxyless_nas import ProxylessNas
from hwnas.strategies.random_search import RandomSearch
from hwnas.strategies.regularized_evolution import RegularizedEvolution
from hwnas.strategies.reinforce import Reinforce
from hwnas.strategies.spos import Spos
from hwnas.study import InSequence, Strategy, in_words

BLACK_BOX: dict[
    str, type[Bayesian | DppNet | Nat | Nsga2 | Nsga3 | RandomSearch | RegularizedEvolution | Reinforce | Spos]
] = {
    "random": RandomSearch,
    "regularized_evolution": RegularizedEvolution,
    "reinforce": Reinforce,
    "spos": Spos,
    "nsga2": Nsga2,
    "nsga3": Nsga3,
    "nat": Nat,
    "dpp_net": DppNet,
    "bayesian": Bayesian,
}
"""Those that only ask for evaluations, so they search whatever can be evaluated."""

BY_GRADIENT: dict[str, type[Darts | FBNet | ProxylessNas]] = {
    "darts": Darts,
    "fbnet": FBNet,
    "proxyless_nas": ProxylessNas,
}
"""Those that train shared weights and distributions over networks together, so they need a supernet and images."""

STRATEGIES = {**BLACK_BOX, **BY_GRADIENT}
"""Each strategy by the name that recipes use."""


def build(name: str, parameters: Mapping[str, object]) -> Strategy:
    """The strategy of a recipe: its fields are the parameters, checked by name and type.

    Args:
        name: A key of `STRATEGIES`.
        parameters: By field; what is left out keeps its default. After a strategy that searches by gradient, `then` may
            hold another one that only evaluates, with its own `name` and parameters: it goes on from what was found.

    Raises:
        RecipeError: If the name or a parameter is unknown, or a value has the wrong type or range.

    Example:
        >>> build("nsga2", {"population": 40})
        Nsga2(population=40, crossover_probability=0.9, mutations=2.0, mutation_eta=1.0)
        >>> build("nsga2", {"populaton": 20})
        Traceback (most recent call last):
        hwnas.core.errors.RecipeError: strategy nsga2 has no parameter "populaton"; did you mean "population"?
    """
    if name not in STRATEGIES:
        raise RecipeError(f'strategy "{name}" is unknown; {did_you_mean(name, STRATEGIES)}')
    if "then" in parameters:
        return InSequence(
            build(name, {key: value for key, value in parameters.items() if key != "then"}),
            _build_then(name, parameters["then"]),
        )
    kind = STRATEGIES[name]
    types = get_type_hints(kind)
    fields = [field.name for field in dataclasses.fields(kind)]
    values = {}
    for key, value in parameters.items():
        if key not in fields:
            known = did_you_mean(key, fields) if fields else "it has none"
            raise RecipeError(f'strategy {name} has no parameter "{key}"; {known}')
        plain = tuple(value) if isinstance(value, list) else value  # TOML has no tuples
        try:
            # Strict: "20" or true where a number belongs is a mistake, not a number.
            values[key] = TypeAdapter(types[key]).validate_python(plain, strict=True)
        except ValidationError as error:
            expected = error.errors()[0]["msg"][:1].lower() + error.errors()[0]["msg"][1:]
            raise RecipeError(f"strategy {name}: {key} is {value!r}; {expected}") from error
    return kind(**values)


def _build_then(name: str, then: object) -> Strategy:
    """What goes on after a strategy.

    Raises:
        RecipeError: If nothing can, or this cannot.
    """
    if name not in BY_GRADIENT:
        raise RecipeError(
            f"strategy {name} searches until the budget is spent, so nothing comes after it",
            hint=f"[strategy.then] goes with {', '.join(BY_GRADIENT)}",
        )
    if not isinstance(then, Mapping) or str(then.get("name")) not in BLACK_BOX:
        raise RecipeError(
            f"[strategy.then] is {then!r}; expected a table with a name, one of {', '.join(BLACK_BOX)}, and parameters"
        )
    return build(str(then["name"]), {key: value for key, value in then.items() if key != "name"})


__all__ = [
    "BLACK_BOX",
    "BY_GRADIENT",
    "STRATEGIES",
    "Bayesian",
    "Darts",
    "DppNet",
    "FBNet",
    "Nat",
    "Nsga2",
    "Nsga3",
    "ProxylessNas",
    "RandomSearch",
    "RegularizedEvolution",
    "Reinforce",
    "Spos",
    "build",
    "in_words",
]
