"""What a run without a front has found so far, who works on it, and how it goes on. Reads only."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hwnas.core import Evaluation, Objective
from hwnas.core.escaping import command_line
from hwnas.pareto import front_of
from hwnas.store import Holder, Store, holder_of

State = Literal["working", "on another machine", "stopped", "searched"]


@dataclass(frozen=True)
class SoFar:
    """A run that has begun and has no front.json.

    Attributes:
        folder: Of the run.
        state: "working" if a living process holds it; "on another machine" if it cannot be told from here whether one
            does; "searched" if a study of the user's own has ended; else "stopped".
        holder: The process that holds it, or held it last.
        epochs: Trained so far, by phase.
        evaluations: Stored so far, at full fidelity.
        failed: How many of them failed.
        budget: Evaluations that the recipe allows; None if it says nothing, or there is none.
        objectives: In order.
        best: Of the evaluations so far, those that nothing beats. Accuracies are those of the search, before any final
            training.
        reason: Why the search has ended; empty if it has not.
        goes_on: The command that goes on with it; empty for a study of the user's own.
        recipe: Where recipes lie, the one that it runs; None if none there has its name and equals its `recipe.toml`.
    """

    folder: Path
    state: State
    holder: Holder | None
    epochs: Mapping[str, int]
    evaluations: int
    failed: int
    budget: int | None
    objectives: tuple[Objective, ...]
    best: tuple[Evaluation, ...]
    reason: str
    goes_on: str
    recipe: Path | None

    @classmethod
    def load(cls, folder: Path, *, recipes: Path = Path("search")) -> SoFar | None:
        """What a run's store holds; None if no run has begun there.

        Args:
            folder: Of the run.
            recipes: Where recipes lie: the command that goes on names the one of this run.

        Raises:
            StoreError: If the store is damaged, foreign or of a newer hwnas, or cannot be read.
        """
        with Store.snapshot(folder) as store:
            header, evaluations = store.header(), [e for e in store.evaluations() if e.fidelity == "full"]
            epochs = {name: int(version.rpartition("@")[2]) for name, version in store.newest_versions().items()}
        if not header:
            return None
        objectives = tuple(Objective(*row) for row in header["identity"]["objectives"])
        recipe, holder = _toml(folder / "recipe.toml"), holder_of(folder)
        reason = str(header.get("outcome", {}).get("reason", ""))
        own = None if recipe is None else _recipe_of(folder, recipe, recipes)
        alive = False if holder is None else holder.alive
        state: State = "stopped"
        if alive is None:
            state = "on another machine"
        elif alive:
            state = "working"
        elif reason and recipe is None:
            state = "searched"
        return cls(
            folder=folder,
            state=state,
            holder=holder,
            epochs=epochs,
            evaluations=len(evaluations),
            failed=sum(evaluation.status == "failed" for evaluation in evaluations),
            budget=(recipe or {}).get("budget", {}).get("evaluations"),
            objectives=objectives,
            best=tuple(front_of(evaluations, objectives)),
            reason=reason,
            goes_on="" if recipe is None else command_line("hwnas", "search", own or Path("RECIPE")),
            recipe=own,
        )

    def to_json(self) -> dict[str, Any]:
        """A plain map of everything."""
        return {
            "run": self.folder.name,
            "state": self.state,
            "process": None if self.holder is None else {"pid": self.holder.pid, "host": self.holder.host},
            "epochs": dict(self.epochs),
            "evaluations": self.evaluations,
            "failed": self.failed,
            "budget": self.budget,
            "objectives": [{"name": o.name, "direction": o.direction, "unit": o.unit} for o in self.objectives],
            "best": [evaluation.to_json() for evaluation in self.best],
            "reason": self.reason,
            "goes_on": self.goes_on,
            "recipe": None if self.recipe is None else str(self.recipe),
        }


def _toml(path: Path) -> dict[str, Any] | None:
    """A recipe as it was written; empty if it cannot be read, None if there is none."""
    if not path.is_file():
        return None
    with suppress(OSError, ValueError):
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    return {}


def _recipe_of(folder: Path, kept: Mapping[str, Any], recipes: Path) -> Path | None:
    """The recipe that a run was made from: of its name and equal to the one that the run keeps; None if none is."""
    for path in sorted(recipes.glob("*.toml")):
        found = _toml(path)
        if found and found == kept and found.get("name", path.stem) == folder.name:
            return path
    return None
