"""Durable by replay: the check passes programs that keep the rules and finds those that do not (design review 2, 9)."""

import time
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pytest

from hwnas.core import Budget, ReplayError
from hwnas.study import Study
from hwnas.testing import check_replay, check_training_state, toy201
from tests.study.toys import Numbers
from tests.study.victim import Generations

SMALL = Budget(evaluations=12, reserve=0.25)


def _propose(relaxed: float, rng: np.random.Generator) -> list[float]:
    return [relaxed, rng.random()]


@dataclass(frozen=True)
class Trained:
    """Everything at once: two phases that share weights, proposals, weight versions, fidelities, a conclusion."""

    rounds: int = 3

    def search(self, study: Study) -> None:
        net, optimizer, alpha = Numbers(1.0), Numbers(), Numbers()

        def weights(k: int, rng: np.random.Generator) -> Any:
            net.value += rng.random() + optimizer.value + np.random.random()  # noqa: NPY002
            optimizer.value = 0.9 * optimizer.value + k
            return {"loss": net.value}

        def architecture(k: int, rng: np.random.Generator) -> Any:
            alpha.value += net.value * rng.random()
            net.value *= 0.5
            return alpha.value

        for _ in range(self.rounds):
            phase = study.train("weights", {"net": net, "optimizer": optimizer}, weights, 2)
            relaxed = study.train("alpha", {"net": net, "alpha": alpha}, architecture)
            seeds = study.once("proposals", partial(_propose, relaxed.result[0]))
            draws = np.random.default_rng(int(1e6 * sum(seeds)) % 2**32)
            found = study.evaluate(study.sample(2, draws), weights=phase.version)
            study.evaluate([study.mutate(e.architecture) for e in found], fidelity="low", weights=phase.version)

    def conclude(self, study: Study) -> None:
        net = Numbers()
        phase = study.train("final", {"net": net}, lambda k, rng: float(rng.random()), 2)
        study.evaluate(study.sample(2), weights=phase.version)


@dataclass(frozen=True)
class ReadsAModule:
    """Design review 2.6: reads a module's value between two phases."""

    def search(self, study: Study) -> None:
        net = Numbers()

        def epoch(k: int, rng: np.random.Generator) -> None:
            net.value += rng.random()

        while True:
            study.train("net", {"net": net}, epoch)
            study.evaluate(study.sample(2, np.random.default_rng(int(1e6 * net.value))))


@dataclass(frozen=True)
class ReadsInOnce:
    """The same, but reads it in a durable step."""

    def search(self, study: Study) -> None:
        net = Numbers()

        def epoch(k: int, rng: np.random.Generator) -> None:
            net.value += rng.random()

        while True:
            study.train("net", {"net": net}, epoch)
            value = study.once("value", lambda rng: net.value)
            study.evaluate(study.sample(2, np.random.default_rng(int(1e6 * value))))


@dataclass(frozen=True)
class ReadsTheClock:
    """Design review 2.8."""

    def search(self, study: Study) -> None:
        while True:
            study.evaluate(study.sample(2, np.random.default_rng(time.perf_counter_ns())))


@dataclass(frozen=True)
class IteratesASet:
    """Design review 2.1: the order of a set of strings depends on PYTHONHASHSEED."""

    def search(self, study: Study) -> None:
        names = {a.digest: a for a in study.sample(12)}
        for name in set(names):
            study.evaluate([names[name]])


@dataclass(frozen=True)
class DrawsGlobally:
    """Design review 2.4: global draws between the steps; Study's seeds make them harmless."""

    def search(self, study: Study) -> None:
        while True:
            study.evaluate(study.sample(2, np.random.default_rng(np.random.randint(2**31))))  # noqa: NPY002


@pytest.mark.parametrize("strategy", [Generations(4, 3), ReadsInOnce(), DrawsGlobally()])
def test_programs_that_keep_the_rules_pass(strategy: Any) -> None:
    check_replay(strategy, cuts=3, other_process=False)


def test_a_program_with_everything_passes_in_another_process_too() -> None:
    check_replay(Trained(), budget=SMALL, cuts=4)


@pytest.mark.parametrize("strategy", [ReadsAModule(), ReadsTheClock()])
def test_programs_that_break_the_rules_are_found(strategy: Any) -> None:
    with pytest.raises((AssertionError, ReplayError)) as caught:
        check_replay(strategy, cuts=4, other_process=False)
    assert "row" in str(caught.value) or "the stored run asked for" in str(caught.value)


def test_the_order_of_a_set_shows_only_under_another_hash_seed() -> None:
    check_replay(IteratesASet(), cuts=1, other_process=False)
    with pytest.raises(AssertionError, match="another hash seed: ReplayError: .* asked for evaluate: 1"):
        check_replay(IteratesASet(), cuts=1)


def test_a_training_that_hides_state_is_found() -> None:
    """Design review 2.7."""

    def build(declared: bool) -> Any:
        net, momentum = Numbers(), Numbers()

        def epoch(k: int, rng: np.random.Generator) -> Any:
            momentum.value = 0.9 * momentum.value + rng.random()
            net.value += momentum.value
            return {"seconds": time.perf_counter(), "epoch": k}

        return ({"net": net, "momentum": momentum} if declared else {"net": net}), epoch

    check_training_state(lambda: build(True), tolerate=["seconds"])
    with pytest.raises(AssertionError, match=r"epoch 2 resumed .* left another state\['net'\]\['value'\]"):
        check_training_state(lambda: build(False), tolerate=["seconds"])
    with pytest.raises(AssertionError, match="epoch 1 resumed .* returned"):
        check_training_state(lambda: build(True))


def test_toy201_searched_under_two_hash_seeds_is_equal() -> None:
    check_replay(Generations(4, 3), problem=toy201(), cuts=1)
