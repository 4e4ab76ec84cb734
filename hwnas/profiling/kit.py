"""A device that is reached by hand: a folder to carry there, and the result that is brought back."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from hwnas.core import Architecture, MeasureError, TableError
from hwnas.core.escaping import command_line
from hwnas.cost import ExportRecord, FamilyRecord, RuntimeRecord, entries_of
from hwnas.device import Device, Fingerprint, scratch
from hwnas.profiling.by_hand import RESULTS, check_free, pack
from hwnas.profiling.networks import choose_networks
from hwnas.profiling.profiler import (
    ProfileReport,
    export_record,
    failed_blocks,
    models_of,
    networks_needed,
    table_of,
)
from hwnas.profiling.program import ProgressCall, read_result
from hwnas.profiling.session import ROUNDS, Measurement, OnNoise, job_of, measurement_of
from hwnas.space import Block, Space


@dataclass(frozen=True)
class Kit:
    """A folder to carry to a device.

    Attributes:
        path: The folder.
        models: ONNX files in it.
        size_bytes: Of all its files.
        failures: Blocks and whole networks that could not be built or exported, with the reason.
    """

    path: Path
    models: int
    size_bytes: int
    failures: Mapping[str, str]

    @property
    def failed_blocks(self) -> dict[str, str]:
        """Blocks that are not in it, with the reason: without them nothing can be predicted."""
        return failed_blocks(self.failures)


def write_kit(
    space: Space,
    build: Callable[[Block], nn.Module],
    build_network: Callable[[Architecture], nn.Module],
    *,
    device: Device,
    folder: Path,
    recipe: str,
    seed: int = 0,
    rounds: int = ROUNDS,
    on_noise: OnNoise = "default",
    progress: ProgressCall | None = None,
) -> Kit:
    """Write everything that a board with Python, numpy and onnxruntime needs to be measured; the whole folder or none.

    Args:
        space: With units.
        build: The plain module of a block.
        build_network: The plain module of an architecture.
        device: Threads, batch, core, name.
        folder: Must not exist, or be empty.
        recipe: Of the space; named in what a person reads.
        seed: Of the choice of networks, their weights, the inputs and the order of visits.
        rounds: Visits of each model, see `measure_models`.
        on_noise: See `measure_models`.
        progress: Called after each file.

    Raises:
        MeasureError: If the folder is in use, or no block could be exported.
        CostError: If the space has no units.
    """
    check_free(folder)  # before a minute of exporting
    networks = choose_networks(space, seed=seed, calibration=networks_needed(space))
    with scratch("kit") as temporary:
        models, failures = models_of(
            space,
            entries_of(space),
            networks,
            build,
            build_network,
            folder=temporary,
            device=device,
            seed=seed,
            progress=progress,
        )
        job = job_of(
            models,
            temporary,
            device=device,
            cores=None,
            rounds=rounds,
            seed=seed,
            on_noise=on_noise,
            log=Path("rounds.jsonl"),  # so that a board that was switched off goes on
        )
        made = {"recipe": recipe, "export": export_record(device).model_dump(), "failures": failures}
        size_bytes = pack(
            job,
            folder,
            device=device,
            about=_decides(space, device, seed=seed) | made,
            then=f"Bring `{RESULTS}` back, and where hwnas is: "
            f"`{command_line('hwnas', 'profile', recipe, '--from', RESULTS)}`.",
        )
    return Kit(folder, len(models), size_bytes, failures)


def take_in(
    results: Path,
    space: Space,
    *,
    device: Device,
    folder: Path = Path("latency_tables"),
    seed: int = 0,
    family: FamilyRecord | None = None,
) -> ProfileReport:
    """Make the latency table of a device from what its kit's `measure.py` wrote there.

    Args:
        results: The file that was brought back.
        space: That the kit was made for.
        device: That it was made for.
        folder: Where the table goes.
        seed: That it was made with.
        family: What the space was built from, for the header.

    Raises:
        MeasureError: If the file is missing, damaged, of another kit (each difference is named), or the device was too
            noisy.
        CostError: If too few networks could be measured to calibrate.
    """
    started = time.perf_counter()
    result = read_result(results)
    about = result["about"]
    _check_kit(results, about, space, device, seed=seed)
    measurement, export = _whole(results, result)
    return table_of(
        space,
        choose_networks(space, seed=seed, calibration=networks_needed(space)),
        measurement,
        about["failures"],
        device=device,
        folder=folder,
        seed=seed,
        family=family,
        export=export,
        timed=entries_of(space),
        old={},
        files={},
        started=started,
    )


def _whole(results: Path, result: Mapping[str, Any]) -> tuple[Measurement, ExportRecord]:
    """A result as values, having checked all that a table takes from it: the file went through people's hands.

    Raises:
        MeasureError: If it is damaged, or the device was too noisy.
    """
    try:
        needed = {name: result["conditions"][name] for name in _CONDITIONS}
        Fingerprint.from_json(needed["machine"])
        return measurement_of(result), ExportRecord(**result["about"]["export"])
    except (KeyError, TypeError, ValueError) as error:
        said = error.message if isinstance(error, TableError) else f"{type(error).__name__} {error}"
        raise MeasureError(
            f"{results}: damaged: {said}; expected what measure.py writes", hint="bring the file as it was written"
        ) from error


_CONDITIONS = (
    *RuntimeRecord.model_fields,
    "machine",
    "gpu",
    "rounds",
    "runs",
    "load_before",
    "load_after",
    "steal_share",
)


def _decides(space: Space, device: Device, *, seed: int) -> dict[str, Any]:
    """What a kit and a recipe must have in common. The recipe's name is not part of it: two may share a table."""
    return {
        "device": device.name,
        "space": space.name,
        "space_digest": space.digest,
        "entries_digest": space.entries_digest,
        "seed": seed,
        "precision": device.precision,
        "batch": device.batch,
        "threads": device.threads,
        "core": device.core,
        "runtime": device.runtime,
        "gpu": device.gpu,
    }


def _check_kit(results: Path, about: object, space: Space, device: Device, *, seed: int) -> None:
    """That a result is of the kit that these would make.

    Raises:
        MeasureError: If not, with each difference.
    """
    if not isinstance(about, dict) or not {"recipe", "export", "failures"} <= about.keys():
        raise MeasureError(
            f"{results}: does not say which kit it is of; expected what a kit's measure.py writes",
            hint="write a kit, and run measure.py in its folder: hwnas kit RECIPE",
        )
    wanted = _decides(space, device, seed=seed)
    differing = [
        f"{name} is {about.get(name)!r} in the kit, {value!r} here"
        for name, value in wanted.items()
        if about.get(name) != value
    ]
    if differing:
        raise MeasureError(
            f"{results}: of another kit, made for recipe {about['recipe']}: {'; '.join(differing)}",
            hint="give the recipe and the device file that the kit was made with, or make a new kit: hwnas kit RECIPE",
        )
