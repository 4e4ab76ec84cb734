"""Six strategies on one space, one device and the same images: measured fronts of trained networks, side by side.

A part runs its recipe, or takes the run that is there. `together` runs all of them with equal budgets and three seeds:
for each seed their fronts make a joint one. A search takes some ten minutes on two cores, `together` three hours.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from hwnas.cli.compare import draw_together
from hwnas.job import Front, assemble, compare, profile
from hwnas.job import search as run_search
from tests.bench.adaptation import adaptation
from tests.bench.figures import ROOT, TIME, Bench, Contender, Measured, Null, Row, mean_of, need
from tests.bench.recipes import whole_seconds, with_value, written

STRATEGIES = ("random", "nat", "spos", "dpp_net", "proxyless_nas", "fbnet")
SEEDS = (0, 1, 2)
ONE_RUN = "one run of the recipe, as a user has it; part together compares with three"
GIVEN = "a latency table of the device; images; no accuracy"
PICTURE = ROOT / "tests" / "bench" / "results" / "real_weights.png"


def found(data: Path, *, recipe: Path, root: Path = ROOT) -> Measured:
    """One search: its time, its front, and how well its latencies were predicted.

    Args:
        data: With cifar10_jpeg/.
        recipe: Of the run.
        root: The workspace.
    """
    assembly = assemble(recipe, root=root)
    if not assembly.table_path.is_file():
        profile(recipe, root=root)
    front = run_search(recipe, root=root)
    training = assembly.recipe.training
    conditions = {
        "recipe": recipe.name,
        "seed": assembly.recipe.seed,
        "training_epochs": training.epochs,
        "training_batch": training.batch_size,
        "evaluations": assembly.recipe.budget.evaluations,
        "member_epochs": assembly.recipe.members.epochs,
        "tuned": "nothing: defaults, but for what the recipe says",
        **_conditions(front),
    }
    threads = torch.get_num_threads()
    return Measured(rows_of(front), conditions, given=GIVEN, seeds=1, threads=threads, few=ONE_RUN)


def rows_of(front: Front) -> list[Row]:
    """The figures of one run."""
    name = front.facts["run"]
    latencies = np.array([member.values["latency_ms"] for member in front.on_front])
    minutes = whole_seconds(front) / 60
    chosen = max(front.on_front, key=lambda member: member.values["accuracy"])
    one_for_all = float(np.abs(latencies.mean() / latencies - 1).mean())
    return [
        Row(f"{name}: whole run", minutes, "minutes", 30, 10, "lower", null=TIME),
        Row(f"{name}: networks on its front", len(front.on_front), "networks"),
        Row(f"{name}: test accuracy of the most accurate by validation", chosen.test["accuracy"], "share"),
        Row(f"{name}: fastest", min(latencies), "ms", None, None, "lower"),
        Row(f"{name}: slowest over fastest", max(latencies) / min(latencies), "ratio"),
        Row(
            f"{name}: predicted against measured latency, mean error",
            front.facts["prediction_error"]["mape"],
            "share",
            0.05,
            0.02,
            "lower",
            null=Null("one latency for all", one_for_all),
        ),
    ]


def variant(text: str, *, seed: int, budget: Budgets) -> str:
    """A recipe with another seed and the budgets of all, in place of its own.

    Args:
        text: Of the recipe.
        seed: Of the run.
        budget: Epochs of the shared weights, evaluations.

    Raises:
        MissingDataError: If the recipe lacks a line that is to be replaced.
    """
    gradient = re.search(r'^name = "(fbnet|proxyless_nas|darts)"', text, re.MULTILINE) is not None
    section = "strategy" if gradient else "training"
    changed = with_value(text, "", "seed", seed)
    changed = with_value(changed, section, "epochs", budget.epochs)
    changed = with_value(changed, "training", "batch_size", budget.batch_size)
    return with_value(changed, "budget", "evaluations", budget.evaluations)


@dataclass(frozen=True)
class Budgets:
    """What every strategy may spend.

    Attributes:
        epochs: Over the training images, of shared weights, with or without distributions.
        batch_size: Of them.
        evaluations: Of networks with these weights.
    """

    epochs: int = 8
    batch_size: int = 256
    evaluations: int = 60


def together(
    data: Path,
    *,
    strategies: Sequence[str] = STRATEGIES,
    root: Path = ROOT,
    picture: Path = PICTURE,
    seeds: Sequence[int] = SEEDS,
    budget: Budgets = Budgets(),
) -> Measured:
    """The share of the joint front's volume that each strategy has: test accuracy and measured latency.

    All strategies get the same epochs, batch and evaluations, each seed its own joint front. Members are trained by one
    schedule; nothing is chosen by test accuracy.

    Args:
        data: With cifar10_jpeg/.
        strategies: Each with a recipe `search/cifar10_NAME.toml`.
        root: The workspace; gets a run for each strategy and seed.
        picture: Gets the fronts of the first seed.
        seeds: Of the runs.
        budget: Of each run.
    """
    volumes: dict[str, list[float]] = {name: [] for name in strategies}
    joint: dict[str, list[float]] = {name: [] for name in strategies}
    device: dict[str, object] = {}
    for seed in seeds:
        fronts = [_run(name, root, seed, budget) for name in strategies]
        device = _conditions(fronts[0])
        if seed == seeds[0]:
            draw_together(fronts, picture)
        standings = {standing.run: standing for standing in compare(fronts)}
        for name, front in zip(strategies, fronts, strict=True):
            volumes[name].append(standings[front.facts["run"]].volume)
            joint[name].append(standings[front.facts["run"]].joint)
    rows = []
    for name in strategies:
        whose: Contender = "null" if name == "random" else "ours"
        of = f"{name}, {budget.epochs} epochs, {budget.evaluations} evaluations"
        rows += [
            mean_of(f"{of}: share of the joint front's volume", volumes[name], "share", contender=whose),
            mean_of(f"{of}: its networks on the joint front", joint[name], "networks", contender=whose),
        ]
    conditions = {"picture": picture.name, "member_epochs": "as the recipes say", **device}
    return Measured(rows, conditions, given=GIVEN, seeds=len(seeds), threads=torch.get_num_threads())


def _run(strategy: str, root: Path, seed: int, budget: Budgets) -> Front:
    recipe = root / "search" / f"cifar10_{strategy}.toml"
    text = variant(recipe.read_text(encoding="utf-8"), seed=seed, budget=budget)
    own = written(text, f"cifar10_{strategy}_seed{seed}", root)
    if not assemble(own, root=root).table_path.is_file():
        profile(own, root=root)
    return run_search(own, root=root)


def _conditions(front: Front) -> dict[str, object]:
    return {"device": front.facts["device"]["name"], "images": front.facts["data"]["counts"]}


def _part(data: Path, *, strategy: str) -> Measured:
    need(data / "cifar10_jpeg")
    return found(data, recipe=ROOT / "search" / f"cifar10_{strategy}.toml")


REAL_WEIGHTS: Bench = {
    **{strategy: partial(_part, strategy=strategy) for strategy in STRATEGIES},
    "together": together,
    "adaptation": adaptation,
}
"""The parts of `python -m tests.bench real_weights`."""
