"""For the tests of strategies: a problem whose answers are known, and checks that a program can be cut and resumed.

`hwnas.testing.conformance` holds a strategy to everything that it must do; a cut and a resumed run are part of it.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwnas.core import (
    Architecture,
    Budget,
    Evaluation,
    Limit,
    Metric,
    Objective,
    Origin,
    Score,
    generator,
    seed_of,
)
from hwnas.core.own_file import _PREFIX, module_of
from hwnas.cost import CostModel
from hwnas.evaluation import Evaluator, FromFunction, seed_globals
from hwnas.evaluation.state_file import load_state, read_state, save_state
from hwnas.space import Codes, Decision, Space
from hwnas.study import Adapt, Epoch, Event, OneShot, Outcome, State, Strategy, Study

# ------------------------------------------------------------------------------------------------------- Toy201

_OPERATIONS = ("none", "skip", "conv1", "conv3", "pool")
_EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
_QUALITY = (0.0, 0.3, 1.0, 2.0, 0.5)
_EDGE_WEIGHTS = (1.00, 0.80, 0.65, 0.55, 0.75, 0.90)
_TENTHS_OF_MS = np.array((0, 1, 7, 19, 4))


@dataclass(frozen=True)
class Problem:
    """All that a study needs, but a strategy and a budget.

    Attributes:
        space: What is searched.
        evaluate: Its accuracies.
        objectives: What is wanted.
        costs: What is predicted.
        limits: What must hold.
        adapt: Trains shared weights on, for strategies that ask for it.
        one_shot: Shared weights and images, for strategies that train them.
        scores: Cheap metrics that a strategy may buy.
    """

    space: Space
    evaluate: Evaluator
    objectives: tuple[Objective, ...]
    costs: tuple[CostModel, ...] = ()
    limits: tuple[Limit, ...] = ()
    adapt: Adapt | None = None
    one_shot: OneShot | None = None
    scores: tuple[Score, ...] = ()

    def study(
        self,
        *,
        budget: Budget,
        seed: int = 0,
        folder: Path | None = None,
        workers: int = 1,
        progress: Callable[[Event], None] | None = None,
    ) -> Study:
        """A study of this problem.

        Args:
            budget: What it may spend.
            seed: Decides everything random.
            folder: Where it is stored; None keeps it in memory.
            workers: Processes that evaluate.
            progress: Told of everything that happens.
        """
        return Study(
            self.space,
            evaluate=self.evaluate,
            objectives=self.objectives,
            costs=self.costs,
            limits=self.limits,
            budget=budget,
            seed=seed,
            folder=folder,
            workers=workers,
            adapt=self.adapt,
            one_shot=self.one_shot,
            scores=self.scores,
            progress=progress,
        )


def toy201(*, limits: Sequence[Limit] = ()) -> Problem:
    """A cell of six edges with five operations each: 15,625 networks with a known optimum and front.

    Latency is additive over the edges and exact; accuracy depends on which edges are live. Its 43 Pareto-optimal
    points have a hypervolume of 0.826813 (error in %, latency in ms; reference 90 and 12.5, divided by their product).

    Args:
        limits: To search under.

    Example:
        >>> problem, best = toy201(), toy201_network("332133")
        >>> problem.space.size, toy201_accuracy(best), problem.costs[0](best).value
        (15625, 0.93922641..., 9.4)
    """
    space = Space("toy201", tuple(Decision(f"edge{tail}{head}", _OPERATIONS) for tail, head in _EDGES))
    objectives = (Objective.named("accuracy"), Objective.named("latency_ms"))
    return Problem(space, FromFunction(_toy201_metrics), objectives, (Toy201Latency(space),), tuple(limits))


def toy201_network(operations: str) -> Architecture:
    """The network with these operations, one digit per edge.

    Example:
        >>> toy201_network("012343")["edge02"]
        'skip'
    """
    labels = [f"edge{tail}{head}" for tail, head in _EDGES]
    return Architecture({label: _OPERATIONS[int(digit)] for label, digit in zip(labels, operations, strict=True)})


def toy201_accuracy(architecture: Architecture) -> float:
    """Accuracy in 0..1. Edges count if they lie on a path from the first to the last node.

    Example:
        >>> toy201_accuracy(toy201_network("000000"))
        0.1
    """
    codes = [_OPERATIONS.index(str(architecture[f"edge{tail}{head}"])) for tail, head in _EDGES]
    used = [(edge, code) for edge, code in enumerate(codes) if code]
    from_first, to_last = {0}, {3}
    for edge, _ in used:  # edges are in topological order of their heads
        if _EDGES[edge][0] in from_first:
            from_first.add(_EDGES[edge][1])
    for edge, _ in sorted(used, key=lambda pair: _EDGES[pair[0]][0], reverse=True):
        if _EDGES[edge][1] in to_last:
            to_last.add(_EDGES[edge][0])
    live = [(edge, code) for edge, code in used if _EDGES[edge][0] in from_first and _EDGES[edge][1] in to_last]
    if not live:
        return 0.1
    capacity = sum(_EDGE_WEIGHTS[edge] * _QUALITY[code] for edge, code in live)
    residual = (3, _OPERATIONS.index("skip")) in live
    convolutions = sum(code == _OPERATIONS.index("conv3") for _, code in live)
    weightless = all(_OPERATIONS[code] in {"skip", "pool"} for _, code in live)
    percent = 94 - 30 * math.exp(-0.7 * (capacity + 0.8 * residual)) - 0.12 * max(0, convolutions - 4) ** 2
    return (percent - 15 * weightless) / 100


def _toy201_metrics(architecture: Architecture) -> Mapping[str, float]:
    return {"accuracy": toy201_accuracy(architecture)}


@dataclass(frozen=True)
class Toy201Latency:
    """The latency of Toy201 in ms: 1 ms and a share per edge, dead edges included. A cost model."""

    space: Space
    name: str = "latency_ms"
    unit: str = "ms"
    origin: Origin = "computed"
    digest: str = "toy201"

    def __call__(self, architecture: Architecture) -> Metric:
        """The latency of one network."""
        return Metric(float(self.batch(self.space.encode([architecture]))[0]), self.unit, self.origin)

    def batch(self, codes: Codes) -> NDArray[np.float64]:
        """The latencies of codes [n, 6], [n]. Summed as integers, so that ties are exact."""
        tenths: NDArray[np.float64] = (10 + _TENTHS_OF_MS[codes].sum(axis=1)) / 10
        return tenths

    def smallest(self) -> tuple[float, Architecture]:
        """No edge at all."""
        return 1.0, toy201_network("000000")

    def largest(self) -> tuple[float, Architecture]:
        """A 3x3 convolution on every edge."""
        return 12.4, toy201_network("333333")


# -------------------------------------------------------------------------------------------------- cut and resume


class _Cut(BaseException):
    """Ends a run as a kill would, as far as the program can tell."""


def check_replay(
    strategy: Strategy,
    *,
    problem: Problem | None = None,
    budget: Budget | None = None,
    seed: int = 0,
    cuts: int = 8,
    other_process: bool = True,
) -> None:
    """Cut a tiny run at its durable steps and resume it: what comes out must equal the unbroken run.

    Cut once at up to `cuts` steps spread over the run, and within as many requests; then one run cut after *every*
    step; then, in a new process with another hash seed, a run cut after its first step and one cut half-way. Compared
    are architectures, their order, status, metrics to the bit, fidelities, weight versions, the front and the reason.

    Args:
        strategy: With parameters that make the run tiny.
        problem: Toy201 by default.
        budget: 12 evaluations by default.
        seed: Of the studies.
        cuts: How many single cuts at most.
        other_process: Whether to resume under another PYTHONHASHSEED too; strategy and problem are pickled for it.

    Raises:
        AssertionError: With the first difference and where the run was cut.

    Example:
        >>> from hwnas.strategies.random_search import RandomSearch
        >>> check_replay(RandomSearch(), cuts=2, other_process=False)
    """
    run = _Run(strategy, problem or toy201(), budget or Budget(evaluations=12), seed)
    with tempfile.TemporaryDirectory(prefix="hwnas-replay-") as name:
        home = Path(name)
        steps: list[Event] = []
        expected = _rows(run.finish(home / "unbroken", steps.append))
        _compare(expected, _rows(run.finish(home / "again")), "run again from the start")
        _compare(expected, _rows(run.finish(home / "unbroken")), "opened again after its end")
        for kind in ("step", "evaluation"):
            total = sum(event.kind == kind for event in steps)
            for cut in sorted({1 + (total - 1) * i // max(1, cuts - 1) for i in range(cuts)} if total else ()):
                folder = home / f"{kind}{cut}"
                run.cut(folder, kind, cut)
                _compare(expected, _rows(run.finish(folder)), f"cut after {kind} {cut} of {total}")
        folder = home / "every"
        while run.cut(folder, "step", 1):
            pass
        _compare(expected, _rows(run.finish(folder)), "cut after every step")
        if other_process:
            total = sum(event.kind == "step" for event in steps)
            folders = {cut: home / f"elsewhere{cut}" for cut in sorted({1, max(1, total // 2)})}
            for cut, folder in folders.items():
                run.cut(folder, "step", cut)
            found = _elsewhere(run, list(folders.values()), home)
            for cut, rows in zip(folders, found, strict=True):
                where = f"cut after step {cut} of {total}, resumed in a process with another hash seed"
                _compare(expected, rows, where)


@dataclass(frozen=True)
class _Run:
    strategy: Strategy
    problem: Problem
    budget: Budget
    seed: int

    def finish(self, folder: Path, progress: Callable[[Event], None] | None = None) -> Outcome:
        with self.problem.study(budget=self.budget, seed=self.seed, folder=folder, progress=progress) as study:
            return study.run(self.strategy)

    def cut(self, folder: Path, kind: str, after: int) -> bool:
        """Run until the n-th new event of a kind; whether it came to that."""
        seen = 0

        def progress(event: Event) -> None:
            nonlocal seen
            seen += event.kind == kind
            if seen == after:
                raise _Cut

        try:
            self.finish(folder, progress)
        except _Cut:
            return True
        return False


def _rows(outcome: Outcome) -> list[Any]:
    """All that must be equal, as JSON."""
    evaluations = [_row(evaluation) for evaluation in outcome.evaluations]
    return [*evaluations, {"front": [e.architecture.digest for e in outcome.front]}, {"reason": outcome.reason}]


def _row(evaluation: Evaluation) -> dict[str, Any]:
    row = evaluation.to_json()
    del row["seconds"]
    return row


def _compare(expected: list[Any], found: list[Any], where: str) -> None:
    for n, (one, other) in enumerate(zip(expected, found, strict=False)):
        if one != other:
            raise AssertionError(f"{where}: row {n + 1} of {len(expected)} is {other}; unbroken it is {one}")
    if len(expected) != len(found):
        raise AssertionError(f"{where}: {len(found)} rows; unbroken there are {len(expected)}")


def _elsewhere(run: _Run, folders: list[Path], home: Path) -> list[list[Any]]:
    # Finishes runs in a new process whose sets and strings hash otherwise.
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    before = os.environ.get("PYTHONHASHSEED")
    os.environ["PYTHONHASHSEED"] = str(1 + seed_of("hash", str(home)) % 2**31)
    try:
        own = [_OwnModule(Path(str(m.__file__))) for name, m in sys.modules.items() if name.startswith(_PREFIX)]
        process = context.Process(target=_finish_elsewhere, args=(own, run, folders, there))
        process.start()
    finally:
        if before is None:
            del os.environ["PYTHONHASHSEED"]
        else:
            os.environ["PYTHONHASHSEED"] = before
    there.close()
    try:
        found = here.recv()
    except EOFError:
        found = 'it ended without an answer; a script has to call this below if __name__ == "__main__":'
    process.join()
    here.close()
    if isinstance(found, str):
        raise AssertionError(f"resumed in a process with another hash seed: {found}")
    rows: list[list[Any]] = found
    return rows


@dataclass(frozen=True)
class _OwnModule:
    """A file of the user's own. Reading this in another process loads the file there, before objects of its classes."""

    path: Path

    def __reduce__(self) -> tuple[Callable[[Path], ModuleType], tuple[Path]]:
        return module_of, (self.path,)


def _finish_elsewhere(own: list[ModuleType], run: _Run, folders: list[Path], answer: Any) -> None:  # noqa: ARG001
    try:
        answer.send([_rows(run.finish(folder)) for folder in folders])
    except Exception as error:  # noqa: BLE001 - told to the test that asked, which raises it
        answer.send(f"{type(error).__name__}: {error}")


# ------------------------------------------------------------------------------------------------- training state


def check_training_state(
    build: Callable[[], tuple[State, Epoch]], *, epochs: int = 2, seed: int = 0, tolerate: Sequence[str] = ()
) -> None:
    """Check that an epoch changes nothing but what is declared as its state.

    Trains `epochs` epochs at once, and again with everything built anew and put back from the saved state before each
    epoch, as a run that is killed after each epoch does. Results and states must be equal to the bit.

    Args:
        build: Makes the state and the epoch that changes it, from nothing.
        epochs: At least 2.
        seed: Of the generators.
        tolerate: Top-level keys of an epoch's result that may differ (seconds, say).

    Raises:
        AssertionError: Naming the epoch and what differs.

    Example:
        >>> class Average:
        ...     value = 0.0
        ...     def state_dict(self):
        ...         return {"value": self.value}
        ...     def load_state_dict(self, state_dict):
        ...         self.value = state_dict["value"]
        >>> def build(declared=True):
        ...     average = Average()
        ...     def epoch(k, rng):
        ...         average.value = 0.9 * average.value + rng.random()
        ...         return average.value
        ...     return {"average": average} if declared else {"other": Average()}, epoch
        >>> check_training_state(build)
        >>> check_training_state(lambda: build(declared=False))
        Traceback (most recent call last):
        AssertionError: epoch 2 resumed from its checkpoint returned ...; unbroken it returned ...
    """
    with tempfile.TemporaryDirectory(prefix="hwnas-state-") as name:
        home = Path(name)
        state, epoch = _built(build, seed)
        unbroken = []
        for k in range(epochs):
            unbroken.append(_epoch(epoch, k, seed, tolerate))
            save_state(state, home / f"unbroken{k}")
        for k in range(epochs):
            state, epoch = _built(build, seed)
            if k:
                load_state(state, home / f"cut{k - 1}")
            result = _epoch(epoch, k, seed, tolerate)
            save_state(state, home / f"cut{k}")
            where = f"epoch {k + 1} resumed from its checkpoint"
            if result != unbroken[k]:
                raise AssertionError(f"{where} returned {result}; unbroken it returned {unbroken[k]}")
            place = _difference(read_state(home / f"unbroken{k}"), read_state(home / f"cut{k}"), "state")
            if place:
                raise AssertionError(f"{where} left another {place} than unbroken")


def _built(build: Callable[[], tuple[State, Epoch]], seed: int) -> tuple[State, Epoch]:
    seed_globals(seed_of(seed, "build"))
    return build()


def _epoch(epoch: Epoch, k: int, seed: int, tolerate: Sequence[str]) -> Any:
    seed_globals(seed_of(seed, "epoch", k))
    result = epoch(k, generator(seed, "epoch", k, "rng"))
    return {key: v for key, v in result.items() if key not in tolerate} if isinstance(result, dict) else result


def _difference(one: Any, other: Any, place: str) -> str:
    """Where two states differ first; empty if they do not. Tensors are compared as bytes, so that NaN equals itself."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        keys = sorted({*one, *other}, key=str)
        parts = ((f"{place}[{key!r}]", one.get(key), other.get(key)) for key in keys)
    elif isinstance(one, list | tuple) and isinstance(other, list | tuple) and len(one) == len(other):
        parts = ((f"{place}[{n}]", *pair) for n, pair in enumerate(zip(one, other, strict=True)))
    else:
        return "" if _bytes(one) == _bytes(other) else place
    return next(filter(None, (_difference(a, b, where) for where, a, b in parts)), "")


def _bytes(value: Any) -> tuple[str, bytes]:
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        return f"{value.dtype} {tuple(value.shape)}", value.reshape(-1).view(dtype=_byte_type()).numpy().tobytes()
    return type(value).__name__, repr(value).encode()


def _byte_type() -> Any:
    import torch  # there is a tensor, so it is imported already

    return torch.uint8
