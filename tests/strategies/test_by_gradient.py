"""What the strategies that search by gradient do beyond what every strategy must do, and the machinery below them."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import numpy as np
import pytest
import torch

from hwnas.core import Budget, Limit, RecipeError
from hwnas.nn import BinaryGate, Concrete, HardSample, TwoPath
from hwnas.strategies import Darts, FBNet, ProxylessNas, build
from hwnas.strategies.proxyless_nas import _log_ratio
from hwnas.study import Outcome, Strategy, Study
from hwnas.study.relaxed import (
    CLOSE,
    Alphas,
    Distribution,
    Pull,
    _warmup_steps,
    at_target,
    derive,
    differentiable_cost,
    spread_targets,
    train_distributions,
)
from hwnas.testing import Problem, check_replay, toy201
from hwnas.testing.relaxed import ONE_SHOT, relaxed_problem, tiny
from hwnas.training import Bilevel, Lagrangian
from tests.strategies.small import SMALL, small

NAMES = ("darts", "fbnet", "proxyless_nas")
every = pytest.mark.parametrize("strategy", [small(name) for name in NAMES], ids=NAMES)


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def run(strategy: Strategy, problem: Problem | None = None, *, seed: int = 0, evaluations: int = 30) -> Outcome:
    return (problem or relaxed_problem()).study(budget=Budget(evaluations=evaluations), seed=seed).run(strategy)


def networks(outcome: Outcome) -> list[str]:
    return [evaluation.architecture.to_json() for evaluation in outcome.evaluations]


@every
def test_candidates_of_every_target_are_evaluated_once_each(strategy: Strategy) -> None:
    outcome = run(strategy)
    found = networks(outcome)
    assert 2 <= len(found) == len(set(found)) <= 4
    assert all(tiny().space.contains(e.architecture) for e in outcome.evaluations)
    assert {e.architecture["resolution"] for e in outcome.evaluations} == {8}, "the largest, which a batch has"
    assert networks(run(strategy)) == found
    assert all(e.weights == "supernet@3" for e in outcome.evaluations), "scored with the weights that were trained"


@every
def test_a_study_without_weights_is_refused(strategy: Strategy) -> None:
    with pytest.raises(RecipeError, match="none is one|this study has none"):
        run(strategy, toy201())
    bare = dataclasses.replace(relaxed_problem(), one_shot=None)
    with pytest.raises(RecipeError, match="searches by gradient and trains shared weights; this study has none"):
        run(strategy, bare)


@pytest.mark.parametrize(
    ("strategy", "message"),
    [
        (lambda: Darts(targets=0), "targets is 0"),
        (lambda: FBNet(every=0), "every 0"),
        (lambda: FBNet(loss="published", exponents=()), "exponents is empty"),
        (lambda: ProxylessNas(samples=0), "samples 0"),
        (lambda: ProxylessNas(loss="mul_log", weights=()), "weights is empty"),
        (
            lambda: ProxylessNas(loss="product"),
            'loss is "product" and update "gradient", which goes with target, ',
        ),
        (lambda: ProxylessNas(update="reinforce", loss="add_linear"), "which goes with target, product"),
        (lambda: ProxylessNas(update="reinforce", networks=1), "networks is 1; expected at least 2"),
    ],
)
def test_parameters_out_of_range_are_named(strategy: Any, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        strategy()


def test_the_published_loss_of_fbnet_is_about_latency() -> None:
    with pytest.raises(RecipeError, match="is about latency, and the study predicts macs"):
        run(FBNet(loss="published"))


@pytest.mark.parametrize("loss", ["add_linear", "mul_log"])
@pytest.mark.parametrize("paths", ["two", "all"])
def test_the_published_losses_of_proxyless_nas_run(loss: Any, paths: Any) -> None:
    assert run(ProxylessNas(paths=paths, loss=loss, weights=(0.5,), epochs=2, every=1, samples=1)).evaluations


@pytest.mark.parametrize("loss", ["target", "product"])
def test_proxyless_nas_by_reinforce_runs_and_can_be_cut(loss: Any) -> None:
    strategy = ProxylessNas(update="reinforce", networks=4, loss=loss, targets=2, epochs=3, every=1, samples=2)
    outcome = run(strategy)
    assert 2 <= len(networks(outcome)) <= 4 and outcome.front
    if loss == "target":  # whose price is state
        check_replay(strategy, problem=relaxed_problem(), budget=Budget(evaluations=10), cuts=1)


# ------------------------------------------------------------------------------------------- evolution that goes on


def test_evolution_goes_on_from_what_the_gradient_found() -> None:
    alone = networks(run(build("fbnet", SMALL["fbnet"])))
    both = build("fbnet", {**SMALL["fbnet"], "then": {"name": "nsga2", "population": 6}})
    outcome = run(both, evaluations=20)
    assert networks(outcome)[: len(alone)] == alone
    assert len(outcome.evaluations) == 20 and "budget" in outcome.reason
    assert {e.weights for e in outcome.evaluations} == {"supernet@3"}, "all are scored with the weights trained first"
    check_replay(both, problem=relaxed_problem(), budget=Budget(evaluations=14), cuts=1)


@pytest.mark.parametrize(
    ("name", "then", "message"),
    [
        ("fbnet", {"name": "darts"}, "expected a table with a name, one of random, "),
        ("fbnet", "nsga2", "is 'nsga2'; expected a table"),
        ("fbnet", {"name": "nsga2", "populaton": 3}, 'nsga2 has no parameter "populaton"'),
        ("nsga2", {"name": "random"}, "nsga2 searches until the budget is spent, so nothing comes after it"),
    ],
)
def test_what_cannot_go_on_is_refused(name: str, then: object, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        build(name, {"then": then})


# ------------------------------------------------------------------------------------------------------ the machinery


def study() -> Study:
    return relaxed_problem().study(budget=Budget(evaluations=50))


@pytest.mark.parametrize("gates", ["softmax-like", "two paths", "score function"])
def test_the_price_brings_the_expected_cost_to_its_target(gates: str) -> None:
    opened = study()
    cost = differentiable_cost(opened)
    targets = spread_targets(opened, cost, 3)
    assert list(targets) == sorted(targets)
    assert cost.smallest()[0] < targets[0] and targets[-1] < cost.largest()[0]
    draws, rate = (20, 0.03) if gates == "score function" else (0, 0.1)
    prices = [Lagrangian(target=target, rate=0.05 / max(1, draws), damping=8.0) for target in targets]
    found = train_distributions(
        opened,
        [Pull(str(n), price.loss, price) for n, price in enumerate(prices)],
        epochs=60,
        gates=lambda share, space: TwoPath() if gates == "two paths" else BinaryGate(),
        weight_gates=lambda share, space: HardSample(space),
        alphas=Alphas(rate, (0.0, 0.999)),
        warmup=0.1,
        draws=draws,
    )
    assert found[0].expected_cost == pytest.approx(targets[0], rel=0.05)
    for distribution, target, price in zip(found, targets, prices, strict=True):
        # Where the loss alone stays below the target, nothing has to be paid.
        assert distribution.expected_cost == pytest.approx(target, rel=0.05) or (
            distribution.expected_cost < target and price.multiplier < 0.05
        )
        for label, shares in distribution.shares.items():
            assert sum(shares) == pytest.approx(1, abs=1e-5), label
    evaluations = derive(opened, found, samples=3)
    assert len(evaluations) == len({e.architecture for e in evaluations})


def test_a_cost_that_counts_alone_ends_at_the_cheapest_network() -> None:
    opened = study()
    cost = differentiable_cost(opened)
    [found] = train_distributions(
        opened,
        [Pull("cost", lambda loss, expected: expected / cost.smallest()[0])],
        epochs=40,
        gates=lambda share, space: BinaryGate(),
        weight_gates=lambda share, space: HardSample(space),
        alphas=Alphas(0.2, (0.0, 0.999)),
        warmup=0.0,
    )
    [best] = derive(opened, [found], samples=1)
    cheapest = min((a for a in tiny().space.enumerate() if a["resolution"] == 8), key=cost_of)
    assert best.architecture == cheapest


def undecided(target: float) -> Distribution:
    """Uniform over everything but the resolution."""
    shares = {d.label: [1 / len(d.options)] * len(d.options) for d in tiny().space.decisions}
    return Distribution("undecided", shares | {"resolution": [0.0, 1.0]}, target, target)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_for_a_target_the_first_network_costs_what_was_asked_for(share: float) -> None:
    """The most likely network of an undecided distribution is any; the one that is derived is not."""
    opened = study()
    costs = sorted(cost_of(a) for a in tiny().space.enumerate() if a["resolution"] == 8)
    target = costs[int(share * len(costs))] * 1.001
    [found] = derive(opened, [undecided(target)], samples=1)
    assert (1 - CLOSE) * target <= found["macs"] <= target
    met = at_target(opened, undecided(target), np.random.default_rng(0))
    assert met and all((1 - CLOSE) * target <= cost_of(a) <= target for a in met)


def test_of_the_networks_at_a_target_the_likeliest_comes_first() -> None:
    opened = study()
    target = float(np.median([cost_of(a) for a in tiny().space.enumerate() if a["resolution"] == 8]))
    rng = np.random.default_rng(3)
    shares = {d.label: rng.dirichlet(np.ones(len(d.options))).tolist() for d in tiny().space.decisions}
    shares["resolution"] = [0.0, 1.0]
    first = at_target(opened, Distribution("random", shares, target, target), rng)[0]

    def log_share(a: Any) -> float:
        return sum(float(np.log(shares[x][tiny().space[x].options.index(o)])) for x, o in a.items())

    close = [
        a for a in tiny().space.enumerate() if a["resolution"] == 8 and (1 - CLOSE) * target <= cost_of(a) <= target
    ]
    assert log_share(first) == pytest.approx(max(map(log_share, close)), abs=0.5)


def test_a_target_that_no_network_has_leaves_the_most_likely_and_is_marked() -> None:
    told: list[str] = []
    opened = relaxed_problem().study(budget=Budget(evaluations=50), progress=lambda event: told.append(event.text))
    assert at_target(opened, undecided(0.5 * differentiable_cost(opened).smallest()[0]), np.random.default_rng(0)) == []
    assert len(derive(opened, [undecided(1.0)], samples=1)) == 1
    missed = "target 1 multiply-adds is missed: within the limits no network was found"
    assert [text for text in told if text.startswith(missed)]
    target = float(np.median([cost_of(a) for a in tiny().space.enumerate() if a["resolution"] == 8]))
    derive(opened, [undecided(target)], samples=1)
    assert len([text for text in told if "missed" in text]) == 1
    with pytest.raises(RecipeError, match="no target to be met"):
        at_target(opened, dataclasses.replace(undecided(1.0), target=None), np.random.default_rng(0))


def cost_of(architecture: Any) -> float:
    return sum(block.macs for block in tiny().space.blocks_of(architecture))


def test_impossible_values_are_refused() -> None:
    with pytest.raises(RecipeError, match="targets is 0"):
        spread_targets(study(), differentiable_cost(study()), 0)
    with pytest.raises(RecipeError, match="warmup 1"):
        train_distributions(
            study(), [], epochs=2, gates=lambda s, p: BinaryGate(), alphas=Alphas(0.1, (0, 0.9)), warmup=1
        )


# ------------------------------------------------------------------------------------------------- as the papers say


def test_fbnet_draws_from_its_distribution() -> None:
    """Networks come as often as their probability says; the likeliest alone would always be the same few."""
    opened = study()
    skewed = next(d for d in tiny().space.decisions if len(d.options) == 2 and d.label != "resolution")
    shares = {**undecided(1.0).shares, skewed.label: [0.8, 0.2]}
    distributions = [Distribution(str(n), shares, 1.0) for n in range(40)]
    found: list[str] = []
    for n, distribution in enumerate(distributions):
        opened = relaxed_problem().study(budget=Budget(evaluations=5), seed=n)
        [network] = derive(opened, [distribution], samples=1, by="draw")
        found.append(str(network.architecture.get(skewed.label)))
    drawn = [x for x in found if x != "None"]
    share = drawn.count(str(skewed.options[0])) / len(drawn)
    assert 0.6 < share < 0.95, "0.8 within three standard errors; the likeliest would give 1"


def test_draws_outside_the_limits_are_drawn_again() -> None:
    middle = float(np.median([cost_of(a) for a in tiny().space.enumerate() if a["resolution"] == 8]))
    opened = relaxed_problem(limits=[Limit("macs", at_most=middle)]).study(budget=Budget(evaluations=50))
    found = derive(opened, [undecided(2 * middle)], samples=8, by="draw")
    assert len(found) == 8 and all(evaluation["macs"] <= middle for evaluation in found)


def test_the_temperature_reaches_its_end_and_the_warm_up_is_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []

    class Watched(Concrete):
        def __post_init__(self) -> None:
            seen.append(self.temperature)
            super().__post_init__()

    monkeypatch.setattr("hwnas.strategies.fbnet.Concrete", Watched)
    run(FBNet(targets=1, epochs=4, samples=1, temperature=5.0, last_temperature=0.1))
    epochs = sorted(set(seen), reverse=True)
    assert epochs == pytest.approx([5.0, 5.0 * 0.02 ** (1 / 3), 5.0 * 0.02 ** (2 / 3), 0.1])


@pytest.mark.parametrize(
    ("share", "epochs", "steps"), [(0.1, 4, 100), (0.1, 90, 900), (0.3, 10, 300), (0.0, 4, 0), (0.1, 1, 10)]
)
def test_a_warm_up_is_whole_epochs(share: float, epochs: int, steps: int) -> None:
    assert _warmup_steps(share, epochs, 100) == steps


@pytest.mark.parametrize("weight", [0.1, 0.3])
def test_mul_log_has_the_price_of_the_release_at_its_reference(weight: float) -> None:
    """The slope at 80 ms is that of (log ms / log 80)^weight, found by finite differences of plain numbers."""
    cost = torch.tensor(80.0, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(_log_ratio(80.0, weight, torch.tensor(1.0, dtype=torch.float64), cost), cost)
    step = 1e-4
    released = [(np.log(80.0 + sign * step) / np.log(80.0)) ** weight for sign in (1, -1)]
    assert float(slope) == pytest.approx((released[0] - released[1]) / (2 * step), rel=1e-6)


def test_only_a_fixed_objective_has_a_moving_baseline(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float | None] = []

    class Watched(Bilevel):
        def __init__(self, *args: Any, baseline_momentum: float | None = None, **options: Any) -> None:
            asked.append(baseline_momentum)
            super().__init__(*args, baseline_momentum=baseline_momentum, **options)

    monkeypatch.setattr("hwnas.study.relaxed.Bilevel", Watched)
    losses: tuple[Literal["target", "product"], ...] = ("target", "product")
    for loss in losses:
        run(ProxylessNas(update="reinforce", networks=3, loss=loss, targets=1, weights=(0.1,), epochs=2, samples=1))
    assert asked == [None, 0.01]


@pytest.mark.parametrize(("epochs", "steps", "every"), [(12, 60, 1), (20, 400, 5), (20, 160, 3), (160, 1000, 5)])
def test_the_interval_of_the_release_needs_a_long_run(epochs: int, steps: int, every: int) -> None:
    """Two distributions, a warm-up of a quarter: (3/4 x epochs x steps / 2) / 400, from 1 to 5."""
    long = dataclasses.replace(relaxed_problem(), one_shot=dataclasses.replace(ONE_SHOT, steps=steps))
    opened = long.study(budget=Budget(evaluations=5))
    strategy = ProxylessNas(epochs=epochs)
    assert strategy._interval(opened, 2) == every
    assert strategy._interval(opened, 2) >= strategy._interval(opened, 4)
