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
from hwnas.study import OneShot, Strategy
from hwnas.study.relaxed import spread_targets
from hwnas.testing import Problem
from hwnas.training import Schedule
from hwnas.zoo import family
from tests.bench.figures import Measured, Row

LAYERS, CLASSES, STEPS, SIZE = 10, 4, 60, 32
TARGETS, EPOCHS, DIGITS_EPOCHS, SEEDS = 3, 12, 8, (0, 1, 2)

METHODS: Mapping[str, Callable[[int], Strategy]] = {
    "darts": lambda epochs: Darts(targets=TARGETS, epochs=epochs, samples=1),
    "fbnet": lambda epochs: FBNet(targets=TARGETS, epochs=epochs, samples=1),
    "proxyless_nas": lambda epochs: ProxylessNas(targets=TARGETS, epochs=epochs, samples=1),
}
"""With so many epochs: for each target one network."""


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


def gradient(_: Path, *, seeds: Sequence[int] = SEEDS, epochs: int = EPOCHS) -> Measured:
    """Derived networks of every gradient method against three targets, on planted problems with a known optimum.

    Per seed another problem. For each target the network that is nearest to it counts: strategies derive one for each.
    How much worse it is than the best network of its latency is known exactly, in accuracy.
    """
    rows: list[Row] = []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for name, make in METHODS.items():
        off = np.zeros((len(seeds), TARGETS))
        behind = np.zeros_like(off)
        for n, seed in enumerate(seeds):
            off[n], behind[n] = _derived(Planted.draw(seed), make(epochs), seed)
        rows += [
            Row(
                f"{name} latency of the derived network off target {k + 1} of {TARGETS}, worst of {len(seeds)} seeds",
                float(100 * np.abs(column).max()),
                "%",
                5.0,
                2.0,
                "lower",
            )
            for k, column in enumerate(off.T)
        ]
        figure = f"{name} accuracy behind the best network of the same latency, mean"
        rows.append(Row(figure, float(behind.mean()), "share", None, None, "lower"))
    torch.set_num_threads(threads)
    return Measured(rows, {"problem": "planted", "seeds": list(seeds), "epochs": epochs, "threads": 1})


def gradient_digits(_: Path, *, epochs: int = DIGITS_EPOCHS, seed: int = 0) -> Measured:
    """The same for networks that are trained: handwritten digits, a small MobileNetV3 chain, a made-up device.

    The device takes 5 us per block and 0.5 us per 1,000 multiply-adds. Only latencies are looked at.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    rows = []
    for name, make in METHODS.items():
        off = _against_targets(digits_problem(seed), make(epochs), seed)[0]
        rows += [
            Row(
                f"{name} on digits, latency of the derived network off target {k + 1} of {TARGETS}",
                100 * abs(share),
                "%",
                5.0,
                2.0,
                "lower",
            )
            for k, share in enumerate(off)
        ]
    torch.set_num_threads(threads)
    return Measured(rows, {"problem": "digits, toy", "seeds": [seed], "epochs": epochs, "threads": 1})


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


def _derived(planted: Planted, strategy: Strategy, seed: int) -> tuple[list[float], list[float]]:
    """Per target how far off its network is, as a share, and how far behind the best in accuracy."""
    off, found = _against_targets(planted.problem(), strategy, seed)
    best = [1 - float(np.exp(-planted.best(1000 * evaluation["latency_ms"]))) for evaluation in found]
    return off, [accuracy - evaluation["accuracy"] for accuracy, evaluation in zip(best, found, strict=True)]


def _against_targets(problem: Problem, strategy: Strategy, seed: int) -> tuple[list[float], list[Evaluation]]:
    """Per target how far off the network nearest to it is, as a share of the target, and the network."""
    study = problem.study(budget=Budget(evaluations=2 * TARGETS), seed=seed)
    cost = problem.costs[0]
    assert isinstance(cost, UnitSumCost)
    targets = spread_targets(study, cost, TARGETS)
    found = study.run(strategy).evaluations
    nearest = [min(found, key=lambda e: abs(e["latency_ms"] / target - 1)) for target in targets]
    return [e["latency_ms"] / target - 1 for e, target in zip(nearest, targets, strict=True)], nearest
