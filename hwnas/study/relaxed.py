"""Searching by gradient: distributions over networks that learn together with the weights they share.

A gradient method yields one network per trade-off, which is why it is run many times for a front. Here several
distributions, each pulled by an objective of its own, take turns on one set of weights: after one training there is a
candidate for every point that was asked for, and all go through the study's evaluation into the same archive as
everybody else's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hwnas.core import Architecture, CostError, Evaluation, Option, RecipeError
from hwnas.cost import UnitSumCost
from hwnas.data import MiniBatch
from hwnas.nn import ArchitectureParameters, ExpectedCost, Gate, GateMaker, HardSample
from hwnas.space import Codes, Space
from hwnas.study.study import Study
from hwnas.training import Bilevel, Lagrangian, Placement, Trainer
from hwnas.training.bilevel import AfterStep

DAMPING = 8.0
"""Of the prices of targets. Tried on a small space at 0, 0.5, 2 and 8: expected costs ended 13, 11, 6 and 0.2 % off."""

CLOSE = 0.02
"""How far below its target a network may cost, as a share, to count as one that meets it."""

_KEPT, _CHILDREN, _ROUNDS = 100, 200, 40  # of the evolution towards networks that meet a target
_TRIES = 50  # draws for each network that is wanted
_REDRAWN = 2.0  # decisions of a child, on average
_FLATTER = 0.25  # exponent of the shares that children are drawn from


@dataclass(frozen=True)
class Pull:
    """What one distribution minimises.

    Attributes:
        name: Of the distribution, in notes.
        objective: From the validation loss [] and the expected cost [] to what is minimised [].
        price: Moved by the expected cost after each step, where the objective is a `Lagrangian`'s; None else.
    """

    name: str
    objective: Callable[[Tensor, Tensor], Tensor]
    price: Lagrangian | None = None


@dataclass(frozen=True)
class Alphas:
    """How the parameters of the distributions are moved: by Adam.

    Attributes:
        learning_rate: Above 0.
        betas: Adam's; a first one of 0 where most parameters have no gradient in a step.
        weight_decay: Pulls towards uniform.
        noise: Standard deviation of the logits at the start.
    """

    learning_rate: float
    betas: tuple[float, float]
    weight_decay: float = 0.0
    noise: float = 1e-3


@dataclass(frozen=True)
class Distribution:
    """What became of a `Pull`.

    Attributes:
        name: Name of the `Pull` that this distribution was trained for.
        shares: By decision, the probability of each option.
        expected_cost: Of a network drawn from it, in the cost's unit.
        target: Of the cost, where the pull has a price; None else.
    """

    name: str
    shares: Mapping[str, Sequence[float]]
    expected_cost: float
    target: float | None = None


def differentiable_cost(study: Study) -> UnitSumCost:
    """The predicted cost that gradients flow through: the first of the objectives, else of the limits, that is one.

    Raises:
        RecipeError: If nothing that is asked for is predicted by a sum over units.
    """
    wanted = [objective.name for objective in study.objectives] + [limit.name for limit in study.limits]
    for name in wanted:
        for cost in study.costs:
            if cost.name == name and isinstance(cost, UnitSumCost):
                return cost
    raise RecipeError(
        f"the strategy searches by the gradient of a predicted cost; of {', '.join(wanted)} none is one",
        hint="ask for latency_ms from a latency table, macs or parameters",
    )


def spread_targets(study: Study, cost: UnitSumCost, count: int) -> tuple[float, ...]:
    """Values of a cost, each the same factor above the one before: from a little above the smallest up to the limit.

    Args:
        study: Knows the limits.
        cost: In whose unit they are.
        count: How many.

    Raises:
        RecipeError: If the count is below 1.
    """
    if count < 1:
        raise RecipeError(f"targets is {count}; expected at least 1")
    smallest, largest = cost.smallest()[0], cost.largest()[0]
    for limit in study.limits:
        if limit.name == cost.name and limit.at_most is not None:
            largest = min(largest, limit.at_most)
    # The ends are one network each, which no distribution has to be trained for.
    shares = np.linspace(0, 1, count + 2)[1:-1] if count > 1 else np.array([0.5])
    return tuple(float(smallest * (largest / smallest) ** share) for share in shares)


class _InTurn:
    """Rules that take turns, one a step."""

    def __init__(self, rules: Sequence[Bilevel], prices: Sequence[Lagrangian | None]) -> None:
        self.rules, self.prices = rules, prices
        self.steps = 0

    def __call__(self, batch: MiniBatch, rng: np.random.Generator) -> float:
        """The step of whose turn it is.

        Raises:
            NonFiniteLossError: As its rule does.
        """
        rule = self.rules[self.steps % len(self.rules)]
        self.steps += 1
        return rule(batch, rng)

    def state_dict(self) -> dict[str, Any]:
        """Of all rules and prices, and whose turn it is."""
        return {
            "steps": self.steps,
            "rules": [rule.state_dict() for rule in self.rules],
            "prices": [None if price is None else price.state_dict() for price in self.prices],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Put a state back."""
        self.steps = int(state_dict["steps"])
        for rule, state in zip(self.rules, state_dict["rules"], strict=True):
            rule.load_state_dict(state)
        for price, state in zip(self.prices, state_dict["prices"], strict=True):
            if price is not None:
                price.load_state_dict(state)


def train_distributions(
    study: Study,
    pulls: Sequence[Pull],
    *,
    epochs: int,
    gates: Callable[[float, Space], GateMaker],
    weight_gates: Callable[[float, Space], GateMaker] | None = None,
    alphas: Alphas,
    cost_of: Callable[[Mapping[str, Gate]], Mapping[str, Gate]] | None = None,
    warmup: float = 0.1,
    every: int = 1,
    second_order: bool = False,
    after_step: AfterStep | None = None,
    draws: int = 0,
    baseline_momentum: float | None = None,
) -> list[Distribution]:
    """Train shared weights and several distributions over networks, and evaluate with those weights from here on.

    Distributions are over networks of the largest resolution, since a batch has one.

    Args:
        study: Holds the shared weights and the cost.
        pulls: One distribution for each.
        epochs: Over the training images, the warm-up included.
        gates: Gates of architecture steps, for the progress of the training and the space that is drawn from. The
            progress is 0 in the first epoch and 1 in the last; a single epoch has 1.
        weight_gates: Of weight steps; None for the same.
        alphas: How the distributions are moved.
        cost_of: From the gates of a step to those whose cost is counted; None for the distribution's own expectation.
        warmup: Share of the epochs in which the weights alone learn. Above 0 it is one epoch at least, where there are
            two or more.
        every: Weight steps of a distribution to one of its architecture steps.
        second_order: Whether architecture steps look one weight step ahead.
        after_step: As in `Bilevel`.
        draws: Networks per architecture step that are scored by their error and their own cost, with the score function
            in place of gradients through gates; 0 for gates. A pull with a price then adds it to the error; each
            network moves the price.
        baseline_momentum: As in `Bilevel`, for pulls without a price.

    Raises:
        RecipeError: If the study has no weights to train, or a value does not make sense.
        BudgetSpent: If the time is spent.
    """
    if not 0 <= warmup < 1 or epochs < 1:
        raise RecipeError(f"epochs is {epochs} and warmup {warmup}; expected 1 or more, and a share below 1")
    one_shot, cost = study.one_shot, differentiable_cost(study)
    supernet = one_shot.supernet()
    at_one = _OneResolution(study.space)
    expected = ExpectedCost(cost)
    sampler = HardSample(at_one.space)

    def drawn(logits: Mapping[str, Tensor], rng: np.random.Generator) -> list[tuple[dict[str, Gate], Tensor]]:
        samples = sampler.sample(logits, draws, rng)
        return [
            (at_one.gates(sampler.gates(logits, network)), log_prob)
            for network, log_prob in zip(samples.architectures, samples.log_probs, strict=True)
        ]

    rules: list[Bilevel] = []
    found: list[Trainer] = []
    for n, pull in enumerate(pulls):
        parameters = ArchitectureParameters(at_one.space, noise=alphas.noise, rng=study.rng(f"alphas {n}"))
        adam = torch.optim.Adam(
            parameters.parameters(), lr=alphas.learning_rate, betas=alphas.betas, weight_decay=alphas.weight_decay
        )
        rules.append(
            Bilevel(
                supernet,
                parameters,
                adam,
                one_shot.validation,
                resolution=at_one.side,
                gates=at_one.making(gates(0.0, at_one.space)),
                weight_gates=at_one.making((weight_gates or gates)(0.0, at_one.space)),
                objective=_scored(pull, parameters, expected, at_one)
                if draws
                else _objective(pull, parameters, expected, at_one, cost_of),
                look_ahead=(lambda: found[0].optimizer) if second_order else None,
                every=every,
                warmup=_warmup_steps(warmup, epochs, one_shot.steps) // len(pulls),
                after_step=None if after_step is None else at_one.without(after_step),
                label_smoothing=one_shot.label_smoothing,
                draws=drawn if draws else None,
                baseline_momentum=baseline_momentum if pull.price is None else None,
            )
        )
    in_turn = _InTurn(rules, [pull.price for pull in pulls])
    trainer = Trainer(
        cast(nn.Module, supernet),
        in_turn,
        batches=one_shot.training,
        steps=one_shot.steps,
        schedule=one_shot.schedule(epochs),
        placement=one_shot.placement or Placement(),
        progress=one_shot.progress,
        what="the supernet",
    )
    found.append(trainer)

    def epoch(k: int, rng: np.random.Generator) -> Any:
        progress = k / (epochs - 1) if epochs > 1 else 1.0
        for rule in rules:
            rule.gates = at_one.making(gates(progress, at_one.space))
            rule.weight_gates = at_one.making((weight_gates or gates)(progress, at_one.space))
        row: dict[str, Any] = trainer.epoch(k, rng)
        with torch.no_grad():
            row["shares"] = [
                {label: values.tolist() for label, values in at_one.whole(rule.parameters.probabilities()).items()}
                for rule in rules
            ]
            row["expected"] = [float(expected(at_one.whole(rule.parameters.probabilities()))) for rule in rules]
        return row

    phase = study.train(one_shot.phase, {**trainer.state, "rule": in_turn}, epoch, epochs)
    study.use_weights(phase.version)
    last = cast(dict[str, Any], phase.result[-1])
    return [
        Distribution(pull.name, shares, value, None if pull.price is None else pull.price.target)
        for pull, shares, value in zip(pulls, last["shares"], last["expected"], strict=True)
    ]


def _warmup_steps(share: float, epochs: int, steps: int) -> int:
    """Weight steps before the first architecture step: whole epochs, one at least unless there is only one epoch."""
    if not share:
        return 0
    return max(1, round(share * epochs)) * steps if epochs > 1 else round(share * steps)


def _objective(
    pull: Pull,
    parameters: ArchitectureParameters,
    expected: ExpectedCost,
    at_one: _OneResolution,
    cost_of: Callable[[Mapping[str, Gate]], Mapping[str, Gate]] | None,
) -> Callable[[Tensor, Mapping[str, Gate]], Tensor]:
    def objective(loss: Tensor, gates: Mapping[str, Gate]) -> Tensor:
        shares = at_one.whole(parameters.probabilities())
        cost = expected(shares if cost_of is None else cost_of(gates))
        if pull.price is None or cost_of is None:
            total = pull.objective(loss, cost)
        else:
            total = _priced(loss, cost, pull.price, float(expected(shares).detach()))
        if pull.price is not None:
            pull.price.update(float(expected(shares).detach()))
        return total

    return objective


def _priced(loss: Tensor, cost: Tensor, price: Lagrangian, mean: float) -> Tensor:
    """A loss and the cost of one draw, at the price of the distribution's expected cost.

    Damping by the cost of each draw would charge their spread, and end below the target: 13 % in the test of three
    targets. With FBNet's draws on planted problems expected costs ended 9.3 % off their targets, and 6.9 % off so.
    """
    return loss + price.slope(mean) * (cost / price.target - 1)


def _scored(
    pull: Pull, parameters: ArchitectureParameters, expected: ExpectedCost, at_one: _OneResolution
) -> Callable[[Tensor, Mapping[str, Gate]], Tensor]:
    """What one drawn network is worth: its error and its own cost. A price is the same for all networks of a step."""

    def objective(error: Tensor, gates: Mapping[str, Gate]) -> Tensor:
        cost = expected(gates)
        if pull.price is None:
            return pull.objective(error, cost)
        mean = float(expected(at_one.whole(parameters.probabilities())).detach())
        total = _priced(error, cost, pull.price, mean)
        pull.price.update(mean)
        return total

    return objective


class _OneResolution:
    """A space at its largest resolution, and gates for the whole one."""

    def __init__(self, space: Space) -> None:
        sides = space["resolution"].options if "resolution" in {d.label for d in space.decisions} else ()
        if not sides:
            raise CostError(f"space {space.name} has no decision 'resolution'; gradient methods need the images' side")
        self.side = int(max(int(side) for side in sides))
        self._code, self._sides = sides.index(self.side), len(sides)
        fixed = [
            replace(d, options=(self.side,), prior=None) if d.label == "resolution" else d for d in space.decisions
        ]
        self.space = Space(f"{space.name} at {self.side}", tuple(fixed))

    def whole(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The same with the resolution's certain choice."""
        certain = torch.zeros(self._sides, dtype=next(iter(values.values())).dtype)
        certain[self._code] = 1.0
        return {**values, "resolution": certain}

    def making(self, maker: GateMaker) -> GateMaker:
        """A gate maker for the whole space."""
        return lambda logits, rng: self.gates(maker(logits, rng))

    def gates(self, gates: Mapping[str, Gate]) -> dict[str, Gate]:
        """Gates for the whole space."""
        certain = torch.zeros(self._sides)
        certain[self._code] = 1.0
        return {**gates, "resolution": Gate(certain, (self._code,))}

    def without(self, after_step: AfterStep) -> AfterStep:
        """The same, told nothing of the resolution's gate, which has no logits."""

        def call(logits: Mapping[str, Tensor], before: Mapping[str, Tensor], gates: Mapping[str, Gate]) -> None:
            after_step(logits, before, {label: gate for label, gate in gates.items() if label != "resolution"})

        return call


def derive(
    study: Study,
    distributions: Sequence[Distribution],
    *,
    samples: int,
    by: Literal["likeliest", "draw"] = "likeliest",
) -> list[Evaluation]:
    """Evaluate the networks that distributions stand for: the likeliest ones, or plain draws.

    With `by = "draw"` the networks are the first different draws that keep all limits.

    With `by = "likeliest"` they are the most likely network and the likeliest of some draws. A distribution whose cost
    meets a target on average is a mixture of cheaper and more expensive networks. It stays undecided in one or two
    decisions, as the best mixture of a budget does, and the most likely network may lie far from the target. So
    for a target the first network of a distribution is the likeliest of those that cost what was asked for, or up to
    `CLOSE` less. On planted problems (three targets, three methods, three seeds) the most likely networks ended up to
    27 % off their targets.

    Draws that break a limit are left out before they cost anything; where the most likely network breaks one, the
    likeliest of those drawn that keep all takes its place. A target that no network was found for is noted as missed.

    Args:
        study: Evaluates.
        distributions: Trained.
        samples: Networks of each distribution. By likelihood these are the likeliest at its target, the most likely,
            and then the likeliest of the rest.
        by: "likeliest" or "draw".

    Raises:
        BudgetSpent: If the budget ends; what was evaluated is kept.
    """
    # One durable step: which networks are likeliest hangs on the last bits of probabilities.
    choose = _drawn if by == "draw" else _likeliest
    chosen = study.once("networks of the distributions", partial(choose, study, distributions, samples))
    for text in chosen["missed"]:
        study.note(text)
    return study.evaluate([Architecture(options) for options in chosen["networks"]])


def _drawn(
    study: Study, distributions: Sequence[Distribution], samples: int, rng: np.random.Generator
) -> dict[str, list[str] | list[dict[str, Option]]]:
    wanted: dict[Architecture, None] = {}
    missed: list[str] = []
    for distribution in distributions:
        drawn = list(dict.fromkeys(study.space.sample_by(distribution.shares, _TRIES * samples, rng)))
        kept = [a for a, ok in zip(drawn, study.feasible(study.space.encode(drawn)), strict=True) if ok]
        if not kept:
            missed.append(
                f"distribution {distribution.name}: none of {_TRIES * samples} draws keeps the limits, so it adds no "
                "network"
            )
        wanted |= dict.fromkeys(kept[:samples])
    return {"networks": [dict(network) for network in wanted], "missed": missed}


def _likeliest(
    study: Study, distributions: Sequence[Distribution], samples: int, rng: np.random.Generator
) -> dict[str, list[str] | list[dict[str, Option]]]:
    wanted: dict[Architecture, None] = {}
    missed: list[str] = []
    for distribution in distributions:
        codes = {d.label: int(np.argmax(distribution.shares[d.label])) for d in study.space.decisions}
        row = np.array([[codes[d.label] for d in study.space.decisions]], dtype=np.int64)
        likeliest = study.space.decode(study.space.canonical_codes(row))
        drawn = list(dict.fromkeys([*likeliest, *study.space.sample_by(distribution.shares, _TRIES * samples, rng)]))
        kept = [a for a, ok in zip(drawn, study.feasible(study.space.encode(drawn)), strict=True) if ok]
        order = np.argsort(-_log_shares(study.space, distribution.shares, study.space.encode(kept)), kind="stable")
        kept = [kept[n] for n in order]
        met = at_target(study, distribution, rng) if distribution.target is not None else []
        first = list(dict.fromkeys([*met[:1], *kept[:1], *met, *kept]))
        first = first[:samples] or likeliest
        wanted |= dict.fromkeys(first)
        if distribution.target is not None and not met:
            cost = differentiable_cost(study)
            missed.append(
                f"target {distribution.target:.4g} {cost.unit} is missed: within the limits no network was found that "
                f"costs that or up to {CLOSE:.0%} less; the likeliest costs {cost(first[0]).value:.4g} {cost.unit}"
            )
    return {"networks": [dict(network) for network in wanted], "missed": missed}


def at_target(study: Study, distribution: Distribution, rng: np.random.Generator) -> list[Architecture]:
    """The networks likeliest under a distribution that cost what it was asked for, or up to `CLOSE` less, best first.

    Found by an evolution that starts from draws and redraws some decisions, from shares that are flattened so that
    unlikely options come up at all; no network is evaluated.

    Args:
        study: Knows cost and limits.
        distribution: With a target.
        rng: Draws.

    Returns:
        Empty where no such network was found.

    Raises:
        RecipeError: If the distribution has no target.
    """
    target = distribution.target
    if target is None:
        raise RecipeError(f"distribution {distribution.name}: it has no target to be met")
    space, cost = study.space, differentiable_cost(study)
    flat = {label: _flattened(shares) for label, shares in distribution.shares.items()}
    best = space.encode(space.sample_by(distribution.shares, _KEPT, rng))
    met = np.zeros(0, dtype=bool)
    for _ in range(_ROUNDS):
        drawn = space.encode(space.sample_by(flat, _CHILDREN, rng))
        parents = best[rng.integers(len(best), size=_CHILDREN)]
        redrawn = rng.random(parents.shape) < _REDRAWN / parents.shape[1]
        # A decision that wakes up takes what was drawn for it, or its first option: the next rounds move that.
        children = np.where(redrawn | (parents < 0), drawn, parents).clip(min=0)
        rows = np.unique(np.concatenate([best, space.canonical_codes(children), drawn]), axis=0)
        rows = rows[study.feasible(rows)]
        if not len(rows):
            continue
        values = cost.batch(rows)
        outside = np.maximum(values / target - 1, (1 - CLOSE) - values / target).clip(min=0)
        outside[outside < 1e-9] = 0.0
        order = np.lexsort((-_log_shares(space, distribution.shares, rows), outside))[:_KEPT]
        best, met = rows[order], outside[order] == 0
    return space.decode(best[met]) if met.any() else []


def _flattened(shares: Sequence[float]) -> list[float]:
    flat = np.asarray(shares, dtype=np.float64) ** _FLATTER
    return (flat / flat.sum()).tolist()  # type: ignore[no-any-return]


def _log_shares(space: Space, shares: Mapping[str, Sequence[float]], codes: Codes) -> NDArray[np.float64]:
    """The logarithm of the probability of each row of canonical codes; [n]."""
    total = np.zeros(len(codes))
    for column, decision in zip(codes.T, space.decisions, strict=True):
        logs = np.log(np.maximum(shares[decision.label], 1e-30))
        total += np.where(column >= 0, logs[column], 0.0)
    return total
