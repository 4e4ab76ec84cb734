"""Checkpoints that a run is to go on from, looked at before anything is written to it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch
from torch import nn

from hwnas.core import Architecture
from hwnas.evaluation.state_file import load_state, read_state
from hwnas.job.assembly import Assembly
from hwnas.job.members import settings_digest
from hwnas.nn import Supernet
from hwnas.store import RunFolder

_ROLES = ("member", "default")


def check_checkpoints(assembly: Assembly, held: RunFolder) -> None:
    """Refuse a checkpoint that is damaged or another run's, if it is one that this run would go on from.

    One that is gone is no fault, as it is trained anew; nor is one of a final training by other settings.

    Args:
        assembly: The recipe's objects.
        held: The run's folder, not opened yet.

    Raises:
        StoreError: Naming the file, what is wrong with it, and the way out.
    """
    found = {name: path for name, path in held.checkpoints.items() if path.is_file()}
    if not found:
        return
    with torch.random.fork_rng(devices=[]):  # what is built here must move nobody's generator
        supernet = assembly.family.supernet() if assembly.recipe.evaluation.weights == "shared" else None
        trainings = {name: path for name, path in found.items() if name.partition("-")[0] in _ROLES}
        for name, path in found.items():
            if name in trainings:
                continue
            if supernet is not None and name in ("supernet", "teacher"):
                load_state({"module": cast(nn.Module, supernet)}, path)
            else:
                read_state(path)
        _check_trainings(assembly, held, trainings, supernet)


def _check_trainings(
    assembly: Assembly, held: RunFolder, trainings: Mapping[str, Path], supernet: Supernet | None
) -> None:
    wanted = _by_present_settings(assembly, trainings)
    if not wanted:
        return
    family = assembly.family
    networks = {one.architecture.digest: one.architecture for one in held.evaluations}
    for name, path in wanted.items():
        role, digest, _ = name.split("-")
        architecture: Architecture | None = family.default() if role == "default" else networks.get(digest)
        if architecture is None:  # of no network that the search has evaluated, so it is not asked for
            continue
        if role == "default" or supernet is None:
            network = family.build_network(architecture)
        else:
            network = supernet.extract(architecture)
        load_state({"module": network}, path)


def _by_present_settings(assembly: Assembly, trainings: Mapping[str, Path]) -> dict[str, Path]:
    """The final trainings that the recipe's [members] would take as they are."""
    recipe = assembly.recipe
    alone = {role: settings_digest(recipe, role, None) for role in _ROLES}
    teachers = [name for name in trainings if name.startswith("member-") and name.endswith(alone["member"])]
    taught = {settings_digest(recipe, "member", teacher) for teacher in teachers}
    digests = {"member": {alone["member"], *taught}, "default": {alone["default"]}}
    return {
        name: path
        for name, path in trainings.items()
        if name.count("-") == 2 and name.rpartition("-")[2] in digests[name.partition("-")[0]]
    }
