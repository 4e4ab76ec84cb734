import sys
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from hwnas.core import Limit
from hwnas.strategies.random_search import RandomSearch
from hwnas.study import Strategy
from hwnas.study.environment import differences, environment, strategy_identity
from tests.study.toys import Program, accuracy


@dataclass(frozen=True)
class Everything:
    size: int = 3
    rate: float = 0.5
    names: tuple[str, ...] = ("a", "b")
    weights: dict[str, float] = field(default_factory=lambda: {"b": 1.0, "a": 2.0})
    limit: Limit = field(default_factory=lambda: Limit("latency_ms", at_most=2.0))
    function: Callable[..., object] = accuracy
    kind: type = int


@dataclass(frozen=True)
class Wrapping:
    inner: Strategy


class Plain:
    def __init__(self) -> None:
        self.size = 4


def test_versions_and_machine_are_named_without_importing_anything() -> None:
    found = environment()
    assert found["numpy"] == np.__version__
    assert found["python"] == sys.version.split()[0]
    assert all(found.values())


def test_parameters_are_the_same_in_every_process() -> None:
    """No addresses, no order of a hash."""
    assert strategy_identity(Everything())["parameters"] == {
        "size": 3,
        "rate": 0.5,
        "names": ["a", "b"],
        "weights": {"a": 2.0, "b": 1.0},
        "limit": {
            "type": "hwnas.core.objective:Limit",
            "name": "latency_ms",
            "at_most": 2.0,
            "at_least": None,
            "safe": False,
        },
        "function": "tests.study.toys:accuracy",
        "kind": "builtins:int",
    }
    assert strategy_identity(Plain())["parameters"] == {"size": 4}


def test_code_is_part_of_the_identity_where_it_can_be_read() -> None:
    made, other = type("Made", (), {})(), type("Other", (), {})()
    assert strategy_identity(made)["code"] == strategy_identity(other)["code"]
    assert len({strategy_identity(thing)["code"] for thing in (made, Plain(), Everything())}) == 3


def test_the_code_of_a_wrapped_strategy_counts_and_that_of_hwnas_by_its_version() -> None:
    one, other = Wrapping(RandomSearch()), Wrapping(Program(print))
    assert strategy_identity(one)["code"] != strategy_identity(other)["code"]
    assert strategy_identity(one)["versions"] == {"RandomSearch": RandomSearch.version}
    assert strategy_identity(other)["versions"] == {}
    assert strategy_identity(one)["parameters"] == {"inner": {"type": "hwnas.strategies.random_search:RandomSearch"}}


def test_differences_name_missing_fields() -> None:
    assert differences({"a": 1, "c": 3}, {"b": 2, "c": 3}) == ["a: 1 stored, nothing now", "b: nothing stored, 2 now"]
