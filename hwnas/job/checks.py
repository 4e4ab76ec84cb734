"""What a search would refuse a recipe for, found before anything takes time: by the search, a profile or a kit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from hwnas.core import RecipeError
from hwnas.device import Device
from hwnas.nn import Sectioned
from hwnas.strategies.registry import trains_weights

if TYPE_CHECKING:
    from hwnas.job.assembly import Assembly

VALIDATED = frozenset({"accuracy", "balanced_accuracy", "error"})
"""Metrics that are found in validation."""
_FROM_TABLES = ("latency_ms", "macs", "parameters", "peak_memory_bytes", "model_bytes")


def check_searchable(assembly: Assembly) -> None:
    """Refuse a recipe that no search could carry out, whatever the device's latencies are.

    Raises:
        RecipeError: If it asks for shared weights in a space without a supernet, for training by blocks in one without
            sections, for a search by gradient without shared weights, or for a metric that nothing yields.
        DeviceError: If a further device is unknown.
    """
    recipe, path = assembly.recipe, assembly.path
    shared = recipe.evaluation.weights == "shared"
    if shared and not assembly.family.has_supernet:
        raise RecipeError(
            f'{path}: [space] name is "{recipe.space["name"]}", which has no supernet, so its networks cannot be '
            "scored with shared weights",
            hint='set weights = "scratch" in [evaluation] to train each candidate for a few epochs, or take a space '
            "that has one: hwnas spaces",
        )
    if shared and recipe.training.rule == "block_wise":
        _check_sections(assembly)
    if not shared and trains_weights(recipe.build_strategy()):
        raise RecipeError(
            f'{path}: [strategy] name is "{recipe.strategy["name"]}", which trains shared weights; '
            '[evaluation] weights is "scratch"',
            hint='set weights = "shared", or take another strategy: hwnas methods',
        )
    check_metrics(assembly, {*_FROM_TABLES, *(f"latency_ms@{name}" for name in recipe.devices)})
    for name in recipe.devices:
        Device.load(name, assembly.root / "devices")


def check_metrics(assembly: Assembly, predicted: set[str]) -> None:
    """Refuse objectives and limits that are neither predicted nor found in validation.

    Args:
        assembly: With the recipe.
        predicted: What costs predict.

    Raises:
        RecipeError: Names the metric, and what there is.
    """
    recipe = assembly.recipe
    known = predicted | VALIDATED | set(recipe.metrics)
    for name in (*recipe.objectives, *recipe.limits):
        if name not in known:
            raise RecipeError(
                f"{assembly.path}: asks for {name}, which is neither predicted from blocks nor found in validation; "
                f"expected some of {', '.join(sorted(known))}",
                hint="hwnas bench --energy reads a GPU's counter for one file; published tables have energies"
                if name == "energy_mj"
                else "a metric of your own is a function: [metrics.NAME]",
            )


def _check_sections(assembly: Assembly) -> None:
    with torch.device("meta"):
        sectioned = isinstance(assembly.family.supernet(), Sectioned)
    if not sectioned:
        raise RecipeError(
            f'{assembly.path}: [training] rule is "block_wise"; space {assembly.family.space.name} cannot run its '
            "networks section by section: their features change shape with a choice, or are no chain",
            hint='set rule = "sandwich" or "single_path"',
        )
