"""A machine whose clock is moved by the models that run on it, so that what is measured is known beforehand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hwnas.device.measure import Counter, CudaStream, Machine, runtime_of


def by_size(path: str) -> int:
    """Nanoseconds that grow with the file, as the time of a network grows with its blocks."""
    return 2000 + 10 * Path(path).stat().st_size


@dataclass
class FakeMachine:
    """Runs take as long as `takes` says of their file, times `slowness` of the round that is going on.

    Attributes:
        takes: Nanoseconds of a run.
        slowness: Of each round from 1; 1.0 for those not named.
        switched: Numbers of the visits, counted from 0 over all, in which the core is taken away.
        load: What the system says.
        watts: That the package uses; None: it has no counter.
        range_uj: Where its counter begins again.
        ns: The time.
        round: That is going on.
        order: Files in the order in which rounds visited them.
        visits: Readings of the switches, two a visit.
        visiting: Whether a visit has begun and its model has not run yet.
        asked: Readings of the load, one before the rounds and one at the end of each.
    """

    takes: Callable[[str], int] = by_size
    slowness: dict[int, float] = field(default_factory=dict)
    switched: frozenset[int] = frozenset()
    load: float | None = 0.5
    watts: float | None = None
    range_uj: int = 10**12
    ns: int = 0
    round: int = 1
    order: list[str] = field(default_factory=list)
    visits: int = 0
    asked: int = 0
    visiting: bool = False

    def machine(self) -> Machine:
        return Machine(
            clock=lambda: self.ns,
            load_average=self._load,
            ticks=lambda: None,
            switches=self._switches,
            governor=lambda: "performance",
            energy=self._energy,
            sleep=self._sleep,
            pin=lambda cores: list(cores or []),
            cores=lambda: 2,
            runtime=lambda job: FakeRuntime(self),
        )

    def run_of(self, path: str) -> Callable[[], object]:
        def run() -> None:
            self.ns += round(self.takes(path) * self.slowness.get(self.round, 1.0))
            if self.visiting:
                self.order.append(path)
            self.visiting = False

        return run

    def _load(self) -> float | None:
        self.asked += 1
        self.round = max(1, self.asked)  # asked before the first round, and at the end of each
        return self.load

    def _switches(self) -> int:
        """Asked before and after each visit."""
        before, self.visits = self.visits % 2 == 0, self.visits + 1
        self.visiting = before
        number = (self.visits - 1) // 2
        return 0 if before or number not in self.switched else 1

    def _energy(self) -> tuple[Counter, ...] | None:
        if self.watts is None:
            return None
        return (Counter(int(self.ns * self.watts / 1000) % self.range_uj, self.range_uj),)

    def _sleep(self, seconds: float) -> None:
        self.ns += round(seconds * 1e9)


@dataclass
class FakeRuntime:
    """Says that it is onnxruntime on the CPU, as the real one here; what it runs moves the machine's clock."""

    machine: FakeMachine
    stream: CudaStream | None = None
    gpu: str | None = None

    def load(self, path: str, *, batch: int, seed: int) -> Callable[[], object]:
        return self.machine.run_of(path)

    def identity(self) -> dict[str, Any]:
        return runtime_of({"threads": 1, "batch": 1}).identity()
