"""What every strategy must do, on tiny problems. A new strategy adds one line to `TINY`."""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest

from hwnas.core import Architecture, Budget, Limit, NoFeasibleError, Objective, RecipeError
from hwnas.evaluation import FromFunction
from hwnas.pareto import front_of
from hwnas.space import Condition, Decision, Space
from hwnas.strategies import BLACK_BOX, Nat, Nsga2, RandomSearch, build
from hwnas.study import Outcome, Strategy
from hwnas.testing import Problem, check_replay, toy201, toy201_accuracy

TINY: dict[str, dict[str, object]] = {
    "random": {},
    "regularized_evolution": {"population": 5, "sample": 2},
    "reinforce": {"policies": 3},
    "spos": {"population": 6, "best": 3},
    "nsga2": {"population": 6},
    "nsga3": {"population": 6},
    "nat": {"initial": 6, "per_iteration": 3, "population": 8, "generations": 2, "surrogates": ["rbf"]},
    "dpp_net": {"width": 4, "rests": 2, "hidden": 8, "steps": 5},
    "bayesian": {"initial": 6, "population": 8, "generations": 2},
}

ACCURACY, LATENCY, PARAMETERS = (Objective.named(name) for name in ("accuracy", "latency_ms", "parameters"))
every = pytest.mark.parametrize("strategy", [build(name, TINY[name]) for name in BLACK_BOX], ids=list(BLACK_BOX))


def run(strategy: Strategy, problem: Problem | None = None, *, evaluations: int = 30, seed: int = 0) -> Outcome:
    return (problem or toy201()).study(budget=Budget(evaluations=evaluations), seed=seed).run(strategy)


def networks(outcome: Outcome) -> list[str]:
    return [evaluation.architecture.to_json() for evaluation in outcome.evaluations]


def chain() -> Space:
    """Depth 1 to 3 and two decisions per block: 4 + 16 + 64 networks."""
    decisions = [Decision("depth", (1, 2, 3))]
    for block in range(3):
        deep = tuple(depth for depth in (1, 2, 3) if depth > block)
        active = () if block == 0 else ((Condition("depth", deep),),)
        decisions += [Decision(f"{kind}{block}", (3, 5), active) for kind in ("kernel", "expand")]
    return Space("chain", tuple(decisions))


def chain_metrics(architecture: Architecture) -> dict[str, float]:
    size = sum(float(option) for option in architecture.values())
    return {"accuracy": 1 - 1 / size, "latency_ms": size + 0.1 * len(architecture), "parameters": size**2}


def chain_problem(*objectives: Objective) -> Problem:
    return Problem(chain(), FromFunction(chain_metrics), objectives or (ACCURACY, LATENCY))


def test_every_strategy_is_tried() -> None:
    assert list(TINY) == list(BLACK_BOX)


@every
def test_a_strategy_is_a_frozen_value_of_plain_parameters(strategy: Strategy) -> None:
    kind: Any = type(strategy)
    assert strategy == kind(**{field.name: getattr(strategy, field.name) for field in dataclasses.fields(kind)})
    assert isinstance(hash(strategy), int)
    for field in dataclasses.fields(kind):
        assert isinstance(getattr(strategy, field.name), int | float | str | tuple | None)
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(strategy, field.name, 1)
    assert kind.__doc__ and "Source" in (kind.__doc__ + (__import__(kind.__module__, fromlist=["x"]).__doc__ or ""))


@every
def test_a_run_that_is_cut_goes_on_as_if_it_had_not_been(strategy: Strategy) -> None:
    check_replay(strategy, budget=Budget(evaluations=20), cuts=4)


@every
def test_the_budget_is_spent_to_the_last_evaluation_and_never_on_a_known_network(strategy: Strategy) -> None:
    outcome = run(strategy, evaluations=33)
    assert len(networks(outcome)) == len(set(networks(outcome))) == 33
    assert "budget" in outcome.reason
    assert networks(run(strategy, evaluations=33)) == networks(outcome)
    assert networks(run(strategy, evaluations=33, seed=1)) != networks(outcome)


@every
@pytest.mark.parametrize("evaluations", [1, 2, 3, 5])
def test_budgets_smaller_than_any_population(strategy: Strategy, evaluations: int) -> None:
    assert len(run(strategy, evaluations=evaluations).evaluations) == evaluations


@every
def test_two_encodings_of_one_network_are_one_evaluation(strategy: Strategy) -> None:
    """Case O-07: the chain has 192 encodings of 84 networks."""
    outcome = run(strategy, chain_problem(), evaluations=60)
    assert len(networks(outcome)) == len(set(networks(outcome))) == 60
    assert all(chain().contains(evaluation.architecture) for evaluation in outcome.evaluations)


@every
def test_a_space_that_is_used_up_ends_the_search(strategy: Strategy) -> None:
    outcome = run(strategy, chain_problem(), evaluations=500)
    assert chain().size == 84 and len(outcome.evaluations) >= 80  # the last few are drawn at random, or not at all
    assert "nothing new" in outcome.reason


@every
def test_a_space_of_one_network(strategy: Strategy) -> None:
    space = Space("one", (Decision("kernel", (3,)),))
    problem = Problem(space, FromFunction(lambda _: {"accuracy": 0.5}), (ACCURACY,))
    assert len(run(strategy, problem, evaluations=10).evaluations) == 1


@every
def test_limits_on_predicted_costs_cost_no_evaluation(strategy: Strategy) -> None:
    outcome = run(strategy, toy201(limits=[Limit("latency_ms", at_least=1.5, at_most=2.5)]))
    evaluated = [evaluation for evaluation in outcome.evaluations if "accuracy" in evaluation.metrics]
    assert len(evaluated) == 30
    assert all(1.5 <= evaluation["latency_ms"] <= 2.5 for evaluation in evaluated)
    assert outcome.front and {evaluation.status for evaluation in evaluated} == {"ok"}


@every
def test_a_limit_that_only_the_smallest_network_meets(strategy: Strategy) -> None:
    outcome = run(strategy, toy201(limits=[Limit("latency_ms", at_most=1.0)]))
    assert [evaluation["latency_ms"] for evaluation in outcome.front] == [1.0]


@every
def test_limits_on_what_only_an_evaluation_tells(strategy: Strategy) -> None:
    outcome = run(strategy, toy201(limits=[Limit("accuracy", at_least=0.85)]), evaluations=50)
    assert outcome.front and all(evaluation["accuracy"] >= 0.85 for evaluation in outcome.front)


@every
@pytest.mark.parametrize(
    "objectives", [(LATENCY,), (ACCURACY, LATENCY), (ACCURACY, LATENCY, PARAMETERS)], ids=["one", "two", "three"]
)
def test_any_number_of_objectives_and_no_cost_model(strategy: Strategy, objectives: tuple[Objective, ...]) -> None:
    outcome = run(strategy, chain_problem(*objectives), evaluations=30)
    assert outcome.front == front_of(outcome.evaluations, objectives)


@every
def test_failures_are_kept_out_of_the_search_and_do_not_end_it(strategy: Strategy) -> None:
    def evaluate(architecture: Architecture) -> dict[str, float]:
        if architecture["edge01"] == "conv3":
            raise RuntimeError("out of memory")
        return {"accuracy": math.nan if architecture["edge02"] == "pool" else toy201_accuracy(architecture)}

    outcome = run(strategy, dataclasses.replace(toy201(), evaluate=FromFunction(evaluate)), evaluations=60)
    assert len(outcome.evaluations) == 60
    failed = [evaluation for evaluation in outcome.evaluations if evaluation.status == "failed"]
    assert failed and all(evaluation.reason for evaluation in failed)
    assert all(evaluation.architecture["edge01"] != "conv3" for evaluation in outcome.front)


@every
def test_when_everything_fails_the_search_ends_and_says_so(strategy: Strategy) -> None:
    problem = dataclasses.replace(toy201(), evaluate=FromFunction(lambda _: {"accuracy": math.nan}))
    with pytest.raises(NoFeasibleError, match="no network"):
        run(strategy, problem, evaluations=40)


@every
def test_global_generators_play_no_part(strategy: Strategy) -> None:
    np.random.seed(1)  # noqa: NPY002 - what is tested is that this changes nothing
    first = networks(run(strategy))
    np.random.seed(2)  # noqa: NPY002
    assert networks(run(strategy)) == first


def test_build_makes_what_the_recipe_says() -> None:
    assert build("random", {}) == RandomSearch()
    assert build("nsga2", {"population": 20, "mutations": 1}) == Nsga2(population=20, mutations=1.0)
    assert build("nat", {"surrogates": ["gp", "trees"]}) == Nat(surrogates=("gp", "trees"))


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("nsg2", {}, 'strategy "nsg2" is unknown; did you mean "nsga2"'),
        ("enas", {}, 'strategy "enas" is unknown'),
        ("nsga2", {"populaton": 3}, 'nsga2 has no parameter "populaton"; did you mean "population"'),
        ("random", {"population": 3}, 'random has no parameter "population"; it has none'),
        ("nsga2", {"population": "20"}, "nsga2: population is '20'; input should be a valid integer"),
        ("nsga2", {"population": True}, "population is True"),
        ("nsga2", {"population": 20.5}, "population is 20.5"),
        ("nsga2", {"population": 1}, "nsga2: population is 1; expected at least 2"),
        ("nsga2", {"crossover_probability": 1.5}, "nsga2: crossover_probability is 1.5; expected a number in 0..1"),
        ("reinforce", {"learning_rate": 0}, "reinforce: learning_rate is 0.0"),
        ("reinforce", {"decay": 1.0}, "decay 1.0, policies 5; expected above 0, a share below 1"),
        ("nsga2", {"mutation_eta": math.nan}, "mutation_eta is nan"),
        ("nat", {"initial": 1}, "nat: initial is 1; expected at least 2"),
        ("nat", {"generations": 0}, "nat: generations is 0; expected at least 1"),
        ("nat", {"mutations": -1}, "nat: mutations is -1.0; expected a finite number"),
        ("nat", {"surrogates": ["tree"]}, '"tree" is unknown; did you mean "trees"'),
        ("nat", {"surrogates": "gp"}, "surrogates is 'gp'"),
        ("dpp_net", {"width": 0}, "dpp_net: width is 0; expected at least 1"),
        ("dpp_net", {"regressor": "tree"}, '"tree" is unknown; did you mean "trees"'),
        ("dpp_net", {"cut": "both"}, "dpp_net: cut is 'both'"),
        ("nat", {"folds": 1}, "1 folds; expected at least 2"),
    ],
)
def test_build_names_what_is_wrong(name: str, parameters: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        build(name, parameters)
