"""Whether searches by gradient end at the latency that was asked for, and how good their networks are there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hwnas.core import Architecture, Budget, Evaluation, Objective
from hwnas.cost import UnitSum, UnitSumCost
from hwnas.data import DataSource, Images, Preprocessing, batches
from hwnas.evaluation import FromFunction
from hwnas.nn import Gates, Supernet
from hwnas.space import Block, Decision, Space, Unit
from hwnas.strategies import Darts, FBNet, ProxylessNas
from hwnas.study import Epoch, OneShot, Phase, State, Strategy, Study
from hwnas.study.environment import one_torch_thread
from hwnas.study.relaxed import spread_targets
from hwnas.testing import Problem
from hwnas.training import Schedule
from hwnas.zoo import family
from tests.bench.figures import Measured, Null, Row, mean_of

LAYERS, CLASSES, STEPS, SIZE = 10, 4, 60, 32
TARGETS, EPOCHS, DIGITS_EPOCHS, SEEDS = 3, 12, 8, tuple(range(10))
EXACT = "exact latency of every network, as a sum over blocks"
PLANTED = (
    f"{EXACT}; shared weights that hold the planted qualities, which add up, from the start; price rates of fbnet and "
    "proxyless_nas chosen on seeds 100 to 104"
)

METHODS: Mapping[str, Callable[[int], Strategy]] = {
    "darts": lambda epochs: Darts(targets=TARGETS, epochs=epochs, samples=1),
    "fbnet": lambda epochs: FBNet(targets=TARGETS, epochs=epochs, samples=1),
    "proxyless_nas": lambda epochs: ProxylessNas(targets=TARGETS, epochs=epochs, samples=1),
}
"""With so many epochs: for each target one network."""

UNMOVED = Darts(targets=TARGETS, epochs=1, samples=1, learning_rate=1e-12)
"""Its distributions stay as they begin, uniform, and its networks are derived at the targets."""


@dataclass(frozen=True)
class Planted:
    """Layers of four options whose qualities and latencies are known, and add up.

    Attributes:
        quality: [layers, options]; their sum is how sure a network is of the right class.
        latency_us: [layers, options], whole numbers.
    """

    quality: NDArray[np.float64]
    latency_us: NDArray[np.int64]

    @classmethod
    def draw(cls, seed: int, *, layers: int = LAYERS) -> Planted:
        """Costlier options are better; by how much differs from layer to layer."""
        rng = np.random.default_rng(seed)
        latency = np.cumsum(rng.integers(20, 200, size=(layers, 4)), axis=1)
        gain = np.diff(latency, axis=1, prepend=0) ** 0.7 * rng.lognormal(0.0, 0.6, size=(layers, 4))
        quality = np.cumsum(gain, axis=1)
        return cls(5.0 * quality / quality[:, -1].sum(), latency)

    @property
    def space(self) -> Space:
        """A decision per layer, and a resolution that is none."""
        layers, options = self.quality.shape
        decisions = [Decision(f"layer{n}", tuple(range(options))) for n in range(layers)]
        units = [
            Unit(d.label, (d.label,), tuple(_block(f"{d.label}.{k}", int(us)) for k, us in enumerate(row)))
            for d, row in zip(decisions, self.latency_us, strict=True)
        ]
        return Space("planted", (Decision("resolution", (2,)), *decisions), tuple(units))

    def best(self, most_us: float) -> float:
        """The quality of the best network that takes at most so long, exactly."""
        reached = np.full(round(most_us) + 1, -np.inf)
        reached[0] = 0.0
        for qualities, times in zip(self.quality, self.latency_us, strict=True):
            after = np.full_like(reached, -np.inf)
            for quality, us in zip(qualities, times.tolist(), strict=True):
                if us < len(reached):
                    after[us:] = np.maximum(after[us:], reached[: len(reached) - us] + quality)
            reached = after
        return float(reached.max())

    def quality_of(self, architecture: Architecture) -> float:
        """Of one network."""
        return sum(float(row[int(architecture[f"layer{n}"])]) for n, row in enumerate(self.quality))

    def problem(self) -> Problem:
        """Accuracy against latency, with shared weights that hold the planted qualities."""
        space = self.space
        latency = UnitSumCost(UnitSum.of(space, lambda block: block.macs / 1000), "latency_ms", "ms", "computed")
        return Problem(
            space,
            FromFunction(lambda a: {"accuracy": 1 - float(np.exp(-self.quality_of(a)))}),
            (Objective.named("accuracy"), Objective.named("latency_ms")),
            (latency,),
            one_shot=OneShot(
                lambda: _Supernet(space, self.quality),
                lambda rng: (_batch(rng) for _ in range(STEPS)),
                _batch,
                steps=STEPS,
                schedule=lambda epochs: Schedule(epochs, learning_rate=0.05),
            ),
        )


def _block(name: str, us: int) -> Block:
    return Block(name, (), (CLASSES, 2, 2), (CLASSES, 2, 2), us, 0)


class _Supernet(nn.Module):
    """As sure of the class that an image shows as its gates are worth; the bias is all there is to train."""

    def __init__(self, space: Space, quality: NDArray[np.float64]) -> None:
        super().__init__()
        self.space = space
        self.quality = torch.tensor(quality, dtype=torch.float32)
        self.bias = nn.Parameter(torch.zeros(CLASSES))

    def forward(self, x: Tensor, gates: Gates) -> Tensor:
        """Images [n, classes, 2, 2] to logits [n, classes]."""
        assert not isinstance(gates, Architecture)
        sure = torch.stack([(gates[f"layer{n}"].values * row).sum() for n, row in enumerate(self.quality)]).sum()
        return sure * x.mean((2, 3)) + self.bias

    def extract(self, architecture: Architecture) -> nn.Module:
        """Nothing here asks for it.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError(f"{architecture}: planted networks are not cut out")


@dataclass(frozen=True)
class _Batch:
    labels: Tensor
    shown: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def images(self, size: int) -> Tensor:
        return self.shown.expand(-1, -1, size, size)


def _batch(rng: np.random.Generator) -> Any:
    labels = torch.from_numpy(rng.integers(CLASSES, size=SIZE))
    noise = torch.from_numpy(rng.normal(0, 0.3, size=(SIZE, CLASSES))).float()
    return _Batch(labels, (torch.nn.functional.one_hot(labels, CLASSES).float() + noise)[:, :, None, None])


@dataclass(frozen=True)
class Ended:
    """Where one run ended, per target.

    Attributes:
        expected: The distribution's expected cost over the target, less 1.
        likeliest: The cost of its most likely network over the target, less 1.
        derived: The evaluated network that is nearest to the target.
    """

    expected: list[float]
    likeliest: list[float]
    derived: list[Evaluation]


class _Listening(Study):
    """A study that keeps what the last epoch of a training said."""

    last: Any = None

    def train(self, name: str, state: State, epoch: Epoch, epochs: int = 1, *, every: int = 1) -> Phase:
        """As the study does it."""
        phase = super().train(name, state, epoch, epochs, every=every)
        self.last = phase.result[-1]
        return phase


def ended(problem: Problem, strategy: Strategy, seed: int) -> Ended:
    """Run a strategy that yields a distribution for each of `TARGETS` targets, and look at all of them."""
    study = _Listening(
        problem.space,
        evaluate=problem.evaluate,
        objectives=problem.objectives,
        costs=problem.costs,
        one_shot=problem.one_shot,
        budget=Budget(evaluations=2 * TARGETS),
        seed=seed,
    )
    cost = problem.costs[0]
    assert isinstance(cost, UnitSumCost)
    targets = spread_targets(study, cost, TARGETS)
    found = study.run(strategy).evaluations
    rows = [[int(np.argmax(shares[d.label])) for d in problem.space.decisions] for shares in study.last["shares"]]
    likeliest = cost.batch(problem.space.canonical_codes(np.array(rows, dtype=np.int64))).tolist()
    return Ended(
        [value / target - 1 for value, target in zip(study.last["expected"], targets, strict=True)],
        [value / target - 1 for value, target in zip(likeliest, targets, strict=True)],
        [min(found, key=lambda e: abs(e["latency_ms"] / target - 1)) for target in targets],
    )


def behind(planted: Planted, found: Ended) -> float:
    """How far the derived networks are behind the best of their latency, in accuracy; the mean over targets."""
    gaps = [
        1 - float(np.exp(-planted.best(1000 * evaluation["latency_ms"]))) - evaluation["accuracy"]
        for evaluation in found.derived
    ]
    return float(np.mean(gaps))


def gradient(_: Path, *, seeds: Sequence[int] = SEEDS, epochs: int = EPOCHS) -> Measured:
    """Where the distributions of every gradient method end, on planted problems with a known optimum; one per seed.

    Judged is the distribution itself: its expected cost, and the network that it holds for the most likely. A network
    that is derived from it by a search within 2 % of the target lies there whatever was learned; of that one counts how
    far it is behind the best of its latency. Beside it stands the network that the same search at the target derives
    from a distribution that was never moved, which is the same for all methods.
    """
    rows: list[Row] = []
    planted = [Planted.draw(seed) for seed in seeds]
    with one_torch_thread():
        untrained = [ended(one.problem(), UNMOVED, seed) for one, seed in zip(planted, seeds, strict=True)]
        of_null = [behind(one, found) for one, found in zip(planted, untrained, strict=True)]
        nearest = 100 * max(_nearest(one.problem(), seed) for one, seed in zip(planted, seeds, strict=True))
        for name, make in METHODS.items():
            trained = [ended(one.problem(), make(epochs), seed) for one, seed in zip(planted, seeds, strict=True)]
            gaps = [behind(one, found) for one, found in zip(planted, trained, strict=True)]
            rows += _off_target(name, trained, nearest)
            figure = f"{name} accuracy behind the best network of the same latency"
            shares = [a / b for a, b in zip(gaps, of_null, strict=True)]
            rows += [
                mean_of(
                    f"{figure}, over that of the untrained distribution",
                    shares,
                    "ratio",
                    "lower",
                    must=0.5,
                    goal=0.25,
                    null=Null("the untrained distribution", 1.0),
                ),
                mean_of(figure, gaps, "share", "lower"),
            ]
    figure = "untrained distribution, accuracy behind the best network of the same latency"
    rows.append(mean_of(figure, of_null, "share", "lower", contender="null"))
    conditions = {"problem": "planted", "epochs": epochs, "targets": TARGETS}
    return Measured(rows, conditions, given=PLANTED, seeds=len(seeds), threads=1)


def gradient_digits(_: Path, *, seeds: Sequence[int] = (0, 1, 2), epochs: int = DIGITS_EPOCHS) -> Measured:
    """The same for networks that are trained: handwritten digits, a small MobileNetV3 chain, a made-up device.

    The device takes 5 us per block and 0.5 us per 1,000 multiply-adds. Only latencies are looked at.
    """
    rows: list[Row] = []
    with one_torch_thread():
        nearest = 100 * max(_nearest(digits_problem(seed), seed) for seed in seeds)
        for name, make in METHODS.items():
            trained = [ended(digits_problem(seed), make(epochs), seed) for seed in seeds]
            rows += _off_target(f"{name} on digits", trained, nearest)
    conditions = {"problem": "digits, toy", "epochs": epochs, "targets": TARGETS}
    return Measured(rows, conditions, given=EXACT, seeds=len(seeds), threads=1)


def _nearest(problem: Problem, seed: int, *, drawn: int = 20_000) -> float:
    """How far the network is off its target that latencies alone choose, as a share; the worst of the targets.

    It is the nearest of many that are drawn at random, and was not trained at all: a distribution that is sure of it
    has its latency, expected and most likely. So a bound on the distance alone says nothing of what was learned.
    """
    study = Study(
        problem.space,
        evaluate=problem.evaluate,
        objectives=problem.objectives,
        costs=problem.costs,
        budget=Budget(evaluations=1),
    )
    cost = problem.costs[0]
    assert isinstance(cost, UnitSumCost)
    values = cost.batch(problem.space.sample_codes(drawn, np.random.default_rng(seed)))
    return max(float(np.abs(values / target - 1).min()) for target in spread_targets(study, cost, TARGETS))


def _off_target(name: str, trained: Sequence[Ended], nearest: float) -> list[Row]:
    """The worst of all targets and seeds, in %, and the mean over seeds of the worst of the targets.

    Args:
        name: Of the method.
        trained: Where its runs ended.
        nearest: How far off a network is that latencies alone choose, in %.
    """
    rows = []
    null = Null("the nearest of 20,000 random networks", nearest)
    for what, key in (("expected latency", "expected"), ("latency of the most likely network", "likeliest")):
        worst = [100 * max(abs(off) for off in getattr(found, key)) for found in trained]
        figure = f"{name}, {what} off target, worst of {TARGETS} targets and {len(trained)} seeds"
        rows.append(Row(figure, max(worst), "%", 5.0, 2.0, "lower", null=null))
        rows.append(mean_of(f"{name}, {what} off target, worst of {TARGETS} targets", worst, "%", "lower"))
    return rows


def digits_problem(seed: int) -> Problem:
    """Digits at 8 pixels, and a latency that is a sum over blocks."""
    splits = DataSource("digits").load(seed)
    preprocessing = Preprocessing.fit(splits.train)
    train, validation = Images(splits.train, preprocessing), Images(splits.validation, preprocessing)
    found = family("toy", {"resolutions": [8]}, channels=1, classes=10)
    latency = UnitSumCost(
        UnitSum.of(found.space, lambda block: 0.005 + block.macs / 2e6), "latency_ms", "ms", "computed"
    )

    def supernet() -> Supernet:
        torch.manual_seed(seed)
        return found.supernet()

    return Problem(
        found.space,
        FromFunction(lambda _: {"accuracy": 0.5}),
        (Objective.named("accuracy"), Objective.named("latency_ms")),
        (latency,),
        one_shot=OneShot(
            supernet,
            lambda rng: batches(train, batch_size=SIZE, generator=rng, drop_last=True),
            lambda rng: next(batches(validation, batch_size=SIZE, generator=rng)),
            steps=len(train) // SIZE,
            schedule=lambda epochs: Schedule(epochs, learning_rate=0.05),
        ),
    )
