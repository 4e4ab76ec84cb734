"""Programs that are killed from outside: `python -m tests.study.victim search|train FOLDER`; they print as they go."""

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hwnas.core import Architecture, Budget
from hwnas.evaluation import FromFunction
from hwnas.study import Event, Outcome, Study
from hwnas.testing import toy201, toy201_accuracy
from tests.study.toys import study

EPOCHS, WEIGHTS = 60, 20_000


def slow(architecture: Architecture) -> Mapping[str, float]:
    time.sleep(0.004)
    return {"accuracy": toy201_accuracy(architecture)}


@dataclass(frozen=True)
class Generations:
    """Ten generations of eight: mutants of the best so far, proposed in a durable step."""

    size: int = 8
    generations: int = 10

    def search(self, study: Study) -> None:
        found = study.evaluate(study.sample(self.size))
        for _ in range(self.generations - 1):
            best = sorted(found, key=lambda e: (-e["accuracy"], e.architecture.to_json()))[: self.size]

            def propose(rng: np.random.Generator, best: Any = best) -> Any:
                return [dict(study.mutate(e.architecture, rng)) for e in best]

            found += study.evaluate([Architecture(row) for row in study.once("mutants", propose)])


class Weights:
    """Large enough that writing a checkpoint takes a part of the time."""

    def __init__(self) -> None:
        self.values = [0.0] * WEIGHTS

    def state_dict(self) -> dict[str, Any]:
        return {"values": self.values}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.values = state_dict["values"]


@dataclass(frozen=True)
class Trained:
    """Many short epochs with a checkpoint each."""

    epochs: int = EPOCHS

    def search(self, study: Study) -> None:
        weights = Weights()

        def epoch(k: int, rng: np.random.Generator) -> float:
            weights.values = [a + b for a, b in zip(weights.values, rng.random(WEIGHTS).tolist(), strict=True)]
            return sum(weights.values)

        phase = study.train("net", {"net": weights}, epoch, self.epochs)
        study.evaluate(study.sample(1), weights=phase.version)


def search(folder: Path | None, progress: Any = None) -> Outcome:
    problem = toy201()
    with study(
        problem.space,
        evaluate=FromFunction(slow if folder else problem.evaluate.function),  # type: ignore[attr-defined]
        costs=problem.costs,
        budget=Budget(evaluations=80),
        seed=1,
        folder=folder,
        progress=progress,
    ) as searched:
        return searched.run(Generations())


def train(folder: Path | None, progress: Any = None) -> Outcome:
    with study(budget=Budget(evaluations=1), folder=folder, progress=progress) as searched:
        return searched.run(Trained())


def _say(event: Event) -> None:
    if event.kind in {"evaluation", "epoch", "finished"}:
        sys.stdout.write(f"{event.kind} {event.text}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    {"search": search, "train": train}[sys.argv[1]](Path(sys.argv[2]), _say)
