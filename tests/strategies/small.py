"""Every strategy with parameters that make a run tiny."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hwnas.core import RecipeError
from hwnas.strategies.registry import build, parameters_of
from hwnas.study import Strategy

SMALL: dict[str, dict[str, object]] = {
    "random": {},
    "regularized_evolution": {"population": 5, "sample": 2},
    "reinforce": {"policies": 3},
    "spos": {"population": 6, "best": 3},
    "nsga2": {"population": 6},
    "nsga3": {"population": 6},
    "nat": {"initial": 6, "per_iteration": 3, "population": 8, "generations": 2, "surrogates": ["rbf"]},
    "dpp_net": {"width": 4, "rests": 2, "hidden": 8, "steps": 5},
    "bayesian": {"initial": 6, "population": 8, "generations": 2},
    "darts": {"targets": 2, "epochs": 3, "samples": 2},
    "fbnet": {"targets": 2, "epochs": 3, "samples": 2, "every": 1},
    "proxyless_nas": {"targets": 2, "epochs": 3, "samples": 2, "every": 1},
}
"""Chosen for these; a strategy that is not here gets `shrunk`."""

MOST = 5


def small(name: str) -> Strategy:
    """The strategy of that name, tiny."""
    return build(name, SMALL[name]) if name in SMALL else shrunk(build(name, {}))


def shrunk(strategy: Strategy) -> Strategy:
    """A strategy with whole numbers above `MOST` replaced by it, where the strategy takes it."""
    for key in parameters_of(type(strategy)):
        value = getattr(strategy, key)
        if isinstance(value, int) and value > MOST:
            changed: dict[str, Any] = {key: MOST}
            try:
                strategy = replace(strategy, **changed)  # type: ignore[type-var]
            except RecipeError:  # too few for this one
                continue
    return strategy
