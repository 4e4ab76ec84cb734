"""What is said of networks before they are evaluated."""

import numpy as np
import pytest

from hwnas.core import Budget, Limit
from hwnas.learners import Trees
from hwnas.study import FAR
from hwnas.study.foresight import foresee, learn
from hwnas.testing import toy201


def test_costs_are_exact_and_the_rest_is_what_was_learned() -> None:
    study = toy201().study(budget=Budget(evaluations=60))
    known = study.evaluate(study.sample(60))
    learned = learn(study, known, Trees(leaf=1, columns=1.0))
    assert list(learned) == ["accuracy"]
    codes = study.space.encode(e.architecture for e in known)
    points = foresee(study, learned, codes)
    assert points.costs[:, 1] == pytest.approx([e["latency_ms"] for e in known])
    assert points.costs[:, 0] == pytest.approx([-e["accuracy"] for e in known], abs=1e-6)
    assert not points.violation.any()


def test_limits_on_costs_and_on_what_is_learned_add_up() -> None:
    limits = [Limit("latency_ms", at_most=4.0), Limit("accuracy", at_least=0.5)]
    study = toy201(limits=limits).study(budget=Budget(evaluations=40))
    learned = learn(study, study.evaluate(study.sample(40)), Trees())
    codes = study.space.sample_codes(50, np.random.default_rng(0))
    points = foresee(study, learned, codes)
    latency, accuracy = study.predict(codes)["latency_ms"], -points.costs[:, 0]
    expected = np.maximum(latency / 4 - 1, 0) + np.maximum(1 - accuracy / 0.5, 0)
    assert points.violation == pytest.approx(expected, abs=1e-9)
    assert (points.violation <= FAR).all() and points.violation.any()


def test_nothing_is_said_of_no_network_and_nothing_learned_from_one() -> None:
    study = toy201().study(budget=Budget(evaluations=4))
    known = study.evaluate(study.sample(1))
    assert learn(study, known, Trees()) == {}
    assert len(foresee(study, {}, study.space.encode([]))) == 0
