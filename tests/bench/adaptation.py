"""What NAT's adaptation of its supernet gives: against the same search without it, and against a longer supernet.

`search/nat_adaptation.toml`, once as it is, once with `adapt_epochs = 0`, and once with `adapt_epochs = 0` and a
supernet that is trained as many steps more as the adaptations have, with as many networks in each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from hwnas.job import Front, assemble, compare, profile
from hwnas.job import search as run_search
from hwnas.strategies import Nat
from tests.bench.figures import ROOT, Better, Measured, MissingDataError, Row, mean_of
from tests.bench.recipes import whole_seconds, with_value, written

RECIPE = ROOT / "search" / "nat_adaptation.toml"
SEEDS = (0, 1, 2)
ADAPTED, PLAIN, LONGER = "adapted", "not adapted", "not adapted, a supernet of as many steps"


def adaptation(data: Path, *, recipe: Path = RECIPE, root: Path = ROOT, seeds: Sequence[int] = SEEDS) -> Measured:
    """Accuracies and volumes of three fronts for each seed, and what the adapted ones gain.

    Nothing here has a bound; the two sides without adaptation are the null contenders. Members are trained by one
    schedule. The volume is of measured latency and test accuracy, as a share of that of the joint front of the three.

    Args:
        data: Not used; the recipe names its images.
        recipe: Of NAT with adaptation.
        root: The workspace; gets nine runs.
        seeds: Of the runs.

    Raises:
        MissingDataError: If the recipe's strategy is not NAT, or does not adapt.
    """
    text = recipe.read_text(encoding="utf-8")
    own = assemble(recipe, root=root)
    if not own.table_path.is_file():
        profile(recipe, root=root)
    strategy = own.recipe.build_strategy()
    if not isinstance(strategy, Nat):
        raise MissingDataError(f"{recipe.name}: its strategy is {type(strategy).__name__}; expected Nat")
    longer = own.recipe.training.epochs + adapted_epochs(strategy, own.recipe.budget.evaluations)
    texts = {
        ADAPTED: text,
        PLAIN: with_value(text, "strategy", "adapt_epochs", 0),
        LONGER: with_value(with_value(text, "strategy", "adapt_epochs", 0), "training", "epochs", longer),
    }
    found: dict[str, list[Front]] = {side: [] for side in texts}
    volumes: dict[str, list[float]] = {side: [] for side in texts}
    for seed in seeds:
        for n, (side, of_side) in enumerate(texts.items()):
            name = f"{recipe.stem}_{n}_seed{seed}"
            found[side].append(run_search(written(with_value(of_side, "", "seed", seed), name, root), root=root))
        fronts = [runs[-1] for runs in found.values()]
        volume_of = {standing.run: standing.volume for standing in compare(fronts)}
        for side, front in zip(texts, fronts, strict=True):
            volumes[side].append(volume_of[front.facts["run"]])
    figures: Mapping[str, Callable[[Front], float]] = {
        "accuracy with the supernet's weights, mean of the members": _inherited,
        "test accuracy of the most accurate member by validation": _tested,
        "minutes of the whole run": lambda front: whole_seconds(front) / 60,
    }
    rows: list[Row] = []
    for figure, value_of in figures.items():
        unit = "minutes" if figure.startswith("minutes") else "share"
        rows += _compared(figure, {side: [value_of(front) for front in runs] for side, runs in found.items()}, unit)
    rows += _compared("share of the joint front's volume", volumes, "share")
    conditions = {"recipe": recipe.name, "epochs": own.recipe.training.epochs, "epochs_of_the_longer": longer}
    inputs = (recipe,) if recipe.is_relative_to(ROOT) else ()
    given = "a latency table of the device; images; no accuracy"
    return Measured(rows, conditions, given=given, seeds=len(seeds), threads=torch.get_num_threads(), inputs=inputs)


def adapted_epochs(nat: Nat, evaluations: int | None) -> int:
    """Epochs of all adaptations of a run.

    Raises:
        MissingDataError: If there are none, or nobody can know how many.

    Example:
        >>> adapted_epochs(Nat(initial=24, adapt_epochs=5), 48)
        15
    """
    if evaluations is None:
        raise MissingDataError("the budget has no evaluations; expected a number of them")
    iterations = -(-(evaluations - min(nat.initial, evaluations // 2)) // nat.per_iteration)
    if not nat.adapt_epochs or iterations < 1:
        raise MissingDataError(f"adapt_epochs is {nat.adapt_epochs}, iterations {iterations}; expected both positive")
    return iterations * nat.adapt_epochs


def _compared(figure: str, values: Mapping[str, Sequence[float]], unit: str) -> list[Row]:
    """Each side, and the adapted side minus each other, paired by seed."""
    better: Better = "lower" if unit == "minutes" else "higher"
    rows = [
        mean_of(f"{side}: {figure}", found, unit, better, contender="ours" if side == ADAPTED else "null")
        for side, found in values.items()
    ]
    ours = np.array(values[ADAPTED])
    return rows + [
        mean_of(f"adapted minus {side}: {figure}", (ours - np.array(found)).tolist(), unit, better)
        for side, found in values.items()
        if side != ADAPTED
    ]


def _inherited(front: Front) -> float:
    return float(np.mean([m.predicted["accuracy"].value for m in front.members if m.role == "member"]))


def _tested(front: Front) -> float:
    """Nothing is chosen by test accuracy."""
    members = [member for member in front.members if member.role == "member"]
    return max(members, key=lambda member: member.values["accuracy"]).test["accuracy"]
