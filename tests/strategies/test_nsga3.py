import numpy as np
import pytest

from hwnas.core import Architecture, Budget, Objective, RecipeError
from hwnas.evaluation import FromFunction
from hwnas.pareto import hypervolume
from hwnas.space import Decision, Space
from hwnas.strategies import Nsga2, Nsga3, RandomSearch
from hwnas.study import Strategy
from hwnas.testing import Problem
from tests.strategies.toy import mean_share, run

OBJECTIVES = tuple(Objective.named(name) for name in ("error", "latency_ms", "parameters"))


def three_objectives() -> Problem:
    """Ten decisions of seven options. Two of them say where on an eighth of a sphere, the others how far outside."""
    space = Space("sphere", tuple(Decision(f"d{n}", tuple(range(7))) for n in range(10)))

    def metrics(architecture: Architecture) -> dict[str, float]:
        x = np.array([float(architecture[f"d{n}"]) / 6 for n in range(10)])
        radius = 1 + float(((x[2:] - 0.5) ** 2).sum())
        a, b = x[:2] * np.pi / 2
        return {
            "error": radius * float(np.cos(a) * np.cos(b)),
            "latency_ms": radius * float(np.cos(a) * np.sin(b)),
            "parameters": radius * float(np.sin(a)),
        }

    return Problem(space, FromFunction(metrics), OBJECTIVES)


def volume(strategy: Strategy, seed: int) -> float:
    outcome = three_objectives().study(budget=Budget(evaluations=600), seed=seed).run(strategy)
    costs = np.array([[e[objective.name] for objective in OBJECTIVES] for e in outcome.evaluations])
    return float(hypervolume(costs, [2.0, 2.0, 2.0]))


def test_more_of_three_objectives_front_is_found_than_by_chance() -> None:
    found, by_chance = ([volume(s, seed) for seed in range(3)] for s in (Nsga3(), RandomSearch()))
    assert min(found) > max(by_chance) + 0.1


def test_two_objectives_are_no_obstacle() -> None:
    """Random search has 0.967 on 220 evaluations."""
    assert mean_share(Nsga3(population=20), range(3)) > 0.972


def test_a_population_must_hold_a_direction_for_each_objective() -> None:
    study = three_objectives().study(budget=Budget(evaluations=9))
    with pytest.raises(RecipeError, match="population is 2; expected at least 3, one for each objective"):
        study.run(Nsga3(population=2))
    with pytest.raises(RecipeError, match="population is 1; expected at least 2"):
        Nsga3(population=1)


@pytest.mark.parametrize(
    "other",
    [
        Nsga3(population=8, crossover_probability=0.0),
        Nsga3(population=8, mutations=0.5),
        Nsga3(population=8, mutation_eta=20.0),
        Nsga3(population=9),
        Nsga2(population=8),
    ],
)
def test_every_parameter_is_used(other: Strategy) -> None:
    plain, changed = (
        [e.architecture for e in run(s, evaluations=60).evaluations] for s in (Nsga3(population=8), other)
    )
    assert plain != changed
