"""A strategy whose code changes says whether it still asks for the same, since runs go on under later versions."""

from __future__ import annotations

import ast
import inspect
import sys

import pytest

from hwnas.core import digest_of
from hwnas.strategies import STRATEGIES, strategy_class

SHARED = ("hwnas.learners.", "hwnas.pareto.", "hwnas.strategies.", "hwnas.study.")
"""Where code that strategies search with lies."""
APART = {"hwnas.study.study", "hwnas.study.strategy", "hwnas.study.one_shot"}
"""What a strategy is given instead; the tests of replay are about it."""

CODE = {
    "random": (1, "a38afbb16727923b"),
    "regularized_evolution": (1, "5e0670b7349843e2"),
    "reinforce": (1, "dba1ffe1d42ea661"),
    "spos": (1, "0e93020cd223302a"),
    "nsga2": (1, "1a1326ecd09230ab"),
    "nsga3": (1, "ea1c3ba68c05b207"),
    "nat": (1, "d571c705700d230c"),
    "dpp_net": (1, "100b4f810cf59e40"),
    "bayesian": (1, "94ab7666bf60e116"),
    "darts": (1, "a85c753df19dcbe2"),
    "fbnet": (1, "69498672ba8203f0"),
    "proxyless_nas": (1, "19f5bc0cb21d9b7d"),
}
"""Of each strategy the version, and the digest of the code that it searches with, without layout and comments."""


def modules_of(kind: type) -> list[str]:
    """The module of a strategy, and those with search code that it uses, also by way of others."""
    found = [kind.__module__, "hwnas.study.sampling"]  # what `study.sample` and `study.mutate` draw
    for name in found:
        used = {getattr(value, "__module__", None) or "" for value in vars(sys.modules[name]).values()}
        found += sorted(m for m in used - APART if m.startswith(SHARED) and m not in found)
    return sorted(found)


def code_of(text: str) -> object:
    """Source as what it does: the syntax tree without docstrings, positions, and versions of strategies."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [part for part in body if not _says_nothing(part)]  # type: ignore[attr-defined]
    return _shape(tree)


def _says_nothing(node: ast.AST) -> bool:
    if isinstance(node, ast.AnnAssign):
        return isinstance(node.target, ast.Name) and node.target.id == "version"
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _shape(node: object) -> object:
    # Not ast.dump: what it prints of empty fields differs between versions of Python.
    if isinstance(node, ast.AST):
        fields = [[name, _shape(value)] for name, value in ast.iter_fields(node) if value not in (None, [])]
        return [type(node).__name__, fields]
    return [_shape(part) for part in node] if isinstance(node, list) else repr(node)


def row_of(name: str) -> tuple[int, str]:
    kind = strategy_class(name)
    version: int = getattr(kind, "version")  # noqa: B009 - not of the protocol, as a strategy of a user's has none
    return version, digest_of([code_of(inspect.getsource(sys.modules[m])) for m in modules_of(kind)])


@pytest.mark.parametrize("name", STRATEGIES)
def test_code_that_changed_has_another_version_or_asks_for_the_same(name: str) -> None:
    now, kind = row_of(name), strategy_class(name)
    assert now == CODE.get(name), (
        f"the code that {name} searches with was changed ({', '.join(modules_of(kind))}). If a stopped run "
        f"would now be asked for something else, raise `version` of {kind.__name__}: such runs are then "
        "refused in a line. If it asks for the same (another layout, a rename, a speed-up), leave the version. Either "
        f'way put this row into CODE: "{name}": {now},'
    )


def test_only_what_code_does_counts() -> None:
    code = 'class A:\n    """Text."""\n    version: int = 1\n    n = (1 +\n 2)  # why\n'
    same = 'class A:\n    """Other text."""\n\n    version: int = 2\n    n = 1 + 2\n'
    assert code_of(code) == code_of(same)
    assert code_of(code) != code_of(code.replace("2)", "3)"))


def test_code_that_strategies_share_counts_for_those_that_use_it() -> None:
    assert "hwnas.study.generations" in modules_of(strategy_class("nsga2"))
    assert "hwnas.study.relaxed" in modules_of(strategy_class("fbnet"))
    assert "hwnas.study.relaxed" not in modules_of(strategy_class("nsga2"))
    assert all("hwnas.study.study" not in modules_of(strategy_class(name)) for name in STRATEGIES)
