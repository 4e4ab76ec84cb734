"""Search strategies: one file per method, one line each in `STRATEGIES`.

A class is loaded when it is first used, so importing this costs nothing. Each class of `STRATEGIES` can be imported
from here at run time; the names below can be so with their types.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from hwnas.strategies.registry import STRATEGIES, build, strategy_class, trains_weights
from hwnas.study import in_words

if TYPE_CHECKING:
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

__all__ = [
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
    "strategy_class",
    "trains_weights",
]


def __getattr__(name: str) -> Any:
    for module, _, class_name in (place.partition(":") for place in STRATEGIES.values()):
        if class_name == name:
            return getattr(import_module(module), name)
    raise AttributeError(f"module 'hwnas.strategies' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, *(place.partition(":")[2] for place in STRATEGIES.values())})
