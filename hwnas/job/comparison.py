"""Fronts of several runs on one device and the same images, side by side."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwnas.core import RecipeError
from hwnas.job.front import Front, Member, margins_of
from hwnas.pareto import cheaper_first, costs_of, hypervolume_share, non_dominated, non_dominated_beyond
from hwnas.study import in_words

_ABSENT = "nothing"


@dataclass(frozen=True)
class Standing:
    """One run among the others.

    Attributes:
        run: Its name, or its folder where another of the runs has the same name.
        strategy: That it searched with.
        networks: On its own front.
        joint: Those of them that no network of any of the runs beats; see `joint_front`.
        volume: Of what the joint front dominates, the share that its front dominates alone.
        minutes: Of its search and of the training of its members, as the store has them: of every process that worked
            on the run, and of each of several trainings at once.
        best: Its front's best value of each objective, in their order.
        latency_notes: What a reader of its latencies should know, see `Front`.
        left_out: Networks whose file is not theirs, by digest why, see `Member.fault`; they are on no front.
    """

    run: str
    strategy: str
    networks: int
    joint: int
    volume: float
    minutes: float
    best: tuple[float, ...]
    latency_notes: tuple[str, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """A plain map of everything."""
        return {
            "run": self.run,
            "strategy": self.strategy,
            "networks": self.networks,
            "joint": self.joint,
            "volume": self.volume,
            "minutes": self.minutes,
            "best": list(self.best),
            "latency_notes": list(self.latency_notes),
            "left_out": dict(self.left_out),
        }


def compare(fronts: Sequence[Front]) -> list[Standing]:
    """How the fronts of several runs stand to each other, in the order given.

    A run's own front is what it handed over: chosen on validation images. It is judged here by its accuracy on the
    test images, which nothing was chosen by, and by its measured costs.

    Args:
        fronts: Two or more, of one device, the same images and the same objectives; `examined`, if what has happened to
            their files since is to count.

    Raises:
        RecipeError: If the runs cannot be compared; names what differs.
    """
    _check(fronts)
    rows = [(n, values_of(member)) for n, front in enumerate(fronts) for member in front.on_front]
    objectives = fronts[0].objectives
    costs = costs_of([values for _, values in rows], objectives)
    owner = np.array([n for n, _ in rows], dtype=np.int64)
    kept, joint = non_dominated(costs), joint_front(fronts)
    standings = []
    names = names_of(fronts)
    for n, front in enumerate(fronts):
        own: NDArray[np.float64] = costs[owner == n]
        standings.append(
            Standing(
                run=names[n],
                strategy=in_words(front.facts["recipe"]["strategy"]),
                networks=len(own),
                joint=int((owner[joint] == n).sum()),
                volume=hypervolume_share(own, costs[kept]) if len(own) else 0.0,
                minutes=_seconds(front) / 60,
                best=tuple(
                    float(own[:, k].min()) * (-1 if objective.direction == "maximize" else 1)
                    for k, objective in enumerate(objectives)
                )
                if len(own)
                else (),
                latency_notes=tuple(front.latency_notes),
                left_out={member.architecture.digest: member.fault for member in front.members if member.fault},
            )
        )
    return standings


def values_of(member: Member) -> dict[str, float]:
    """A member's metrics, those that were taken on images from the test part."""
    return {**member.values, **{name: value for name, value in member.test_values.items() if name in member.metrics}}


def joint_front(fronts: Sequence[Front]) -> list[int]:
    """Of the members on the fronts, front after front, those that no network of any of the runs beats.

    A gain within the noise is a tie, and of ties the cheaper is taken, as on a run's own front, but on the test images.
    Of networks that are equal in every objective none is cheaper: all of them are on it, whatever run they are of.

    Args:
        fronts: That can be compared, see `compare`.
    """
    members = [member for front in fronts for member in front.on_front]
    objectives = fronts[0].objectives
    latency = max(float(front.facts.get("ties", {}).get("latency", 0.0)) for front in fronts)
    margins = margins_of(members, objectives, part="test", counts=fronts[0].counts("test"), latency=latency)
    costs = costs_of([values_of(member) for member in members], objectives)
    kept = costs[non_dominated_beyond(costs, margins, first=cheaper_first(objectives))]
    return np.flatnonzero((costs[:, None] == kept[None]).all(axis=2).any(axis=1)).tolist()


def names_of(fronts: Sequence[Front]) -> list[str]:
    """What to call some runs beside each other: their names, or their folders where two have one name."""
    names = [str(front.facts["run"]) for front in fronts]
    return [
        name if names.count(name) == 1 else front.folder.as_posix() for name, front in zip(names, fronts, strict=True)
    ]


def _seconds(front: Front) -> float:
    """Of search and training over all processes: a run that was interrupted does not seem quicker."""
    return float(front.facts["search"]["seconds"]) + math.fsum(member.training_seconds for member in front.members)


def _check(fronts: Sequence[Front]) -> None:
    """Refuse what cannot be compared.

    Raises:
        RecipeError: As `compare`.
    """
    if len(fronts) < 2:
        raise RecipeError(
            f"{len(fronts)} run{'' if len(fronts) == 1 else 's'} named; expected two or more",
            hint="hwnas compare RUN RUN ...",
        )
    first = fronts[0]
    folders = Counter(front.folder.resolve() for front in fronts)
    twice = next((front.folder for front in fronts if folders[front.folder.resolve()] > 1), None)
    if twice is not None:
        raise RecipeError(f"{twice} is named twice; expected different runs", hint="hwnas compare RUN RUN ...")
    if not any(front.on_front for front in fronts):
        faults = sorted({member.fault for front in fronts for member in front.members if member.fault})
        raise RecipeError(
            "no run has a network on its front, so there is nothing to compare"
            + (f"; networks were left out: {', '.join(faults)}" if faults else ""),
            hint="hwnas search with the recipe of each run writes its files again" if faults else "",
        )
    for front in fronts[1:]:
        for what, ours, theirs in (
            ("objectives", [o.name for o in first.objectives], [o.name for o in front.objectives]),
            ("device", first.facts["device"], front.facts["device"]),
            ("images", _images(first), _images(front)),
            ("measured latencies", first.timed, front.timed),
            ("processor", _processor(first), _processor(front)),
        ):
            if ours != theirs and not (what == "processor" and None in (ours, theirs)):
                where, ours, theirs = _first_difference(ours, theirs)
                raise RecipeError(
                    f"other {what}: {where}{first.folder} has {ours}, {front.folder} has {theirs}",
                    hint="only fronts of one device, the same images and the same objectives can be compared",
                )


def _first_difference(ours: Any, theirs: Any) -> tuple[str, Any, Any]:
    """Where two values differ first, as the keys that lead there, and what each has there.

    Example:
        >>> _first_difference({"counts": {"train": 5, "test": 1}}, {"counts": {"train": 6, "test": 2}})
        ('for counts.train, ', 5, 6)
        >>> _first_difference("pi4", "pi5")
        ('', 'pi4', 'pi5')
    """
    path = []
    while isinstance(ours, dict) and isinstance(theirs, dict):
        key = next(key for key in [*ours, *theirs] if ours.get(key, _ABSENT) != theirs.get(key, _ABSENT))
        path.append(str(key))
        ours, theirs = ours.get(key, _ABSENT), theirs.get(key, _ABSENT)
    return (f"for {'.'.join(path)}, " if path else ""), ours, theirs


def _images(front: Front) -> dict[str, Any]:
    data = front.facts["data"]
    return {name: data[name] for name in ("source", "counts", "digest")}


def _processor(front: Front) -> str | None:
    """What its networks were timed on; None where nothing was, or an earlier version did not keep it."""
    conditions = (front.facts.get("measurement") or {}).get("conditions", {})
    found = conditions.get("gpu") or conditions.get("cpu")
    return None if found is None else str(found)
