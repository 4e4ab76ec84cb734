"""The checks of `hwnas.testing.conformance` pass strategies that keep the rules, and find those that break one."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pytest

from hwnas.study import Strategy, Study
from hwnas.testing import conformance
from hwnas.testing.conformance import check_conformance, checks_of
from tests.study.toys import Numbers


@dataclass(frozen=True)
class Grid:
    """In order, without any chance, and it ends by itself."""

    def search(self, study: Study) -> None:
        everything = list(study.space.enumerate())
        for n in range(60):
            study.evaluate([everything[7919 * n % len(everything)]])


@dataclass(frozen=True)
class Draws:
    at_once: int = 4

    def search(self, study: Study) -> None:
        while True:
            study.evaluate(study.sample(self.at_once))


@dataclass(frozen=True)
class Concludes(Draws):
    def conclude(self, study: Study) -> None:
        study.evaluate(study.sample(1))


@dataclass
class Thaws:
    at_once: int = 4

    def search(self, study: Study) -> None:
        Draws(self.at_once).search(study)


@dataclass(frozen=True)
class Hides(Draws):
    def __post_init__(self) -> None:
        object.__setattr__(self, "_seen", [])


@dataclass(frozen=True)
class Holds(Draws):
    things: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class DrawsGlobally:
    """Which a study makes harmless."""

    def search(self, study: Study) -> None:
        while True:
            study.evaluate(study.sample(4, np.random.default_rng(np.random.randint(2**31))))  # noqa: NPY002


@dataclass(frozen=True)
class DrawsAnew:
    def search(self, study: Study) -> None:
        rng = np.random.default_rng()
        while True:
            study.evaluate(study.sample(4, rng))


@dataclass(frozen=True)
class Remembers(Draws):
    calls: ClassVar[list[int]] = []

    def search(self, study: Study) -> None:
        self.calls.append(0)
        study.sample(len(self.calls))
        super().search(study)


@dataclass(frozen=True)
class Insists(Draws):
    """Waits until an evaluation has succeeded."""

    def search(self, study: Study) -> None:
        while True:
            [found] = study.evaluate(study.sample(1))
            if found["accuracy"] > 2:
                return


@dataclass(frozen=True)
class IgnoresLimits(Draws):
    def search(self, study: Study) -> None:
        while True:
            study.evaluate(study.space.sample(4, study.rng("mine")))


def failing(strategy: Strategy) -> list[str]:
    found = []
    for check in checks_of(strategy):
        if "cut" not in str(check):  # whose faults test_replay finds
            try:
                check()
            except Exception:  # noqa: BLE001 - a strategy may fail in any way
                found.append(str(check))
    return found


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        (Draws(), ["reads_no_clock"]),  # this file imports time
        (Concludes(), ["reads_no_clock"]),
        (Thaws(), ["is_a_frozen_value", "reads_no_clock"]),
        (Hides(), ["is_a_frozen_value", "reads_no_clock"]),
        (Holds(), ["is_a_frozen_value", "reads_no_clock"]),
        (DrawsGlobally(), ["reads_no_clock"]),
        (DrawsAnew(), ["reads_no_clock", "repeats_itself"]),
        (Remembers(), ["reads_no_clock", "repeats_itself"]),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, list) else "",
)
def test_each_rule_that_is_broken_is_found_and_no_other(strategy: Strategy, expected: list[str]) -> None:
    assert failing(strategy) == expected


@pytest.mark.parametrize(
    ("strategy", "check", "message"),
    [
        (Draws(), "reads_no_clock", r"^test_conformance.py, line \d: imports time$"),
        (Thaws(), "is_a_frozen_value", "Thaws is not frozen: write @dataclass"),
        (Hides(), "is_a_frozen_value", "it keeps _seen beside its fields"),
        (Holds(), "is_a_frozen_value", r"things is \[\]: no number"),
        (DrawsAnew(), "repeats_itself", "network 1 is .* when it is run again with the same seed"),
        (Insists(), "goes_on_after_failures", "KeyError|accuracy"),
        (IgnoresLimits(), "finds_the_only_network_within_a_limit", "no network"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_was_found_is_said(strategy: Strategy, check: str, message: str) -> None:
    [found] = [one for one in checks_of(strategy) if str(one) == check]
    with pytest.raises(Exception, match=message):
        found()


def test_all_that_fails_is_named_at_once_with_what_it_should_do(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = (conformance.is_a_frozen_value, conformance.reads_no_clock, conformance.ends_when_everything_fails)
    monkeypatch.setattr(conformance, "ONLY_EVALUATES", chosen)
    with pytest.raises(AssertionError) as caught:
        check_conformance(Thaws())
    lines = str(caught.value).splitlines()
    assert lines[0] == "Thaws fails 2 of 3 checks:"
    assert lines[1].startswith("is_a_frozen_value: It is a frozen dataclass of plain parameters, which are all that")
    assert lines[1].endswith("Thaws is not frozen: write @dataclass(frozen=True)")
    assert "imports time" in lines[2]


def test_every_check_has_a_claim() -> None:
    for check in (*checks_of(Draws()), *checks_of(Gradient())):
        assert check.claim.endswith(".") and str(check).isidentifier()


def test_a_strategy_that_ends_by_itself_and_leaves_nothing_to_chance_is_one_too() -> None:
    assert failing(Grid()) == ["reads_no_clock"]


# ------------------------------------------------------------------------------------------------------- by gradient


@dataclass(frozen=True)
class Gradient:
    """Trains a number, and evaluates with it."""

    trains_weights: ClassVar[bool] = True

    epochs: int = 2
    with_weights: bool = True
    waits: bool = False

    def search(self, study: Study) -> None:
        if self.with_weights:
            assert study.one_shot.steps
        net = Numbers(1.0)

        def epoch(k: int, rng: np.random.Generator) -> Any:
            net.value += rng.random()
            return net.value + (time.perf_counter() if self.waits else 0.0)

        phase = study.train("supernet", {"net": net}, epoch, self.epochs)
        drawn = np.random.default_rng(int(1e6 * phase.result[-1]) % 2**32)
        study.evaluate(study.sample(3, drawn), weights=phase.version if self.with_weights else None)


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        (Gradient(), ["reads_no_clock"]),
        (Gradient(with_weights=False), ["reads_no_clock", "scores_with_what_it_trained", "asks_for_shared_weights"]),
        (Gradient(waits=True), ["reads_no_clock", "repeats_its_training"]),
    ],
    ids=["keeps all", "needs no weights", "waits"],
)
def test_by_gradient_each_rule_that_is_broken_is_found_and_no_other(strategy: Strategy, expected: list[str]) -> None:
    assert failing(strategy) == expected
    if expected == ["reads_no_clock"]:
        [cut] = [check for check in checks_of(strategy) if "cut" in str(check)]
        cut()
