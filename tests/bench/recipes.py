"""Recipes with some values in place of their own: other seeds, equal budgets; and what a run of one took."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from hwnas.job import Front
from tests.bench.figures import MissingDataError


def with_value(text: str, section: str, key: str, value: int) -> str:
    """A recipe with another value.

    Args:
        text: Of the recipe.
        section: That holds the key; empty for what stands before all sections.
        key: Of a value that the recipe names.
        value: In its place.

    Raises:
        MissingDataError: If the recipe does not name it.

    Example:
        >>> with_value("seed = 0\\n[training]\\nepochs = 4\\n", "training", "epochs", 8)
        'seed = 0\\n[training]\\nepochs = 8\\n'
    """
    start = text.find(f"[{section}]") if section else 0
    end = text.find("\n[", start + 1)
    part = text[start:] if end < 0 else text[start:end]
    changed, count = re.subn(rf"^{key} = \S+", f"{key} = {value}", part, count=1, flags=re.MULTILINE)
    if start < 0 or not count:
        raise MissingDataError(f"the recipe has no {key} in [{section or 'its head'}]; expected one to replace")
    return text[:start] + changed + ("" if end < 0 else text[end:])


def written(text: str, name: str, root: Path) -> Path:
    """The recipe as a file of the workspace, beside the runs.

    Args:
        text: Of the recipe.
        name: Of the run.
        root: The workspace.
    """
    path = root / "runs" / "recipes" / f"{name}.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def whole_seconds(front: Front) -> float:
    """Of everything from the first epoch to the written front, the rival's own training included.

    A run that was resumed knows only its last sitting's clock; its stored parts are then the better lower bound. As
    many networks train at a time as there are torch threads.
    """
    trained = sum(member.training_seconds for member in front.members) / torch.get_num_threads()
    return max(float(front.facts["seconds_of_this_process"]), float(front.facts["search"]["seconds"]) + trained)
