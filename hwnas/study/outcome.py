"""What a search tells while it runs, and what it leaves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hwnas.core import Evaluation

EventKind = Literal["resume", "environment", "evaluation", "epoch", "step", "end", "finished"]


@dataclass(frozen=True)
class Event:
    """Progress.

    Attributes:
        kind: `resume`: the store has answered all it knows and computing begins; `environment`: software or machine
            differ from the stored run's; `evaluation`, `epoch`: one was computed; `step`: a durable step was committed;
            `end`: a part of the program ended; `finished`: the run had finished before.
        done: Evaluations charged so far; for `epoch` the phase's epochs, for `step` the part's steps.
        total: What `done` runs up to, None where there is no such number.
        text: One line for people.
        evaluation: The one that was computed.
    """

    kind: EventKind
    done: int
    total: int | None
    text: str
    evaluation: Evaluation | None = None


@dataclass(frozen=True)
class Outcome:
    """What a search found.

    Attributes:
        front: The feasible evaluations at full fidelity that nothing beats, best in the first objective first.
        evaluations: Everything asked for, in the order first asked for, failures and refusals included.
        reason: Why the search ended.
        notes: What a reader of the result should know: resumed, moved to other software, how many failed and why.
        seconds: Evaluation, training and proposals together, as stored.
        finished_before: Whether this run had ended before and nothing was computed now.
    """

    front: list[Evaluation]
    evaluations: list[Evaluation]
    reason: str
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    finished_before: bool = False
