"""Parts of the latency bench that need whole tables, a whole search, or half an hour between two measurements."""

from __future__ import annotations

import math
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwnas.core import Architecture
from hwnas.cost import Holdout, LatencyTable, UnitSumCost, entries_of, score
from hwnas.device import Device
from hwnas.job import Front
from hwnas.job import profile as profile_recipe
from hwnas.job import search as run_search
from hwnas.nn import build_block, build_network
from hwnas.profiling import Measurement, ModelFile, choose_networks, measure_models
from hwnas.profiling import profile as profile_space
from hwnas.profiling.profiler import models_of, networks_needed, repeat_of
from hwnas.profiling.session import ROUNDS
from hwnas.space import Space
from hwnas.zoo import family
from tests.bench.figures import ROOT, Measured, Null, Row
from tests.bench.rivals import FITTED, ONE_MACHINE, affine, by_macs, or_nan

CELLS: Mapping[str, Any] = {"resolutions": [16], "cells": 2}
QUICKSTART = ROOT / "search" / "quickstart.toml"
HALF_AN_HOUR_S = 1800.0
TWICE = "nothing: the same models are measured twice, and nobody contends"


def cells(data: Path, *, device: str = "this-cpu", seed: int = 1, rounds: int = ROUNDS) -> Measured:
    """NAS-Bench-201's cells built as real networks: kernels measured, calibrated on whole networks.

    Args:
        data: Not used.
        device: In devices/.
        seed: Of the choice of networks.
        rounds: Visits of each model.
    """
    space = family("nasbench201", CELLS, channels=3, classes=10).space
    target = Device.load(device, ROOT / "devices")
    build = partial(build_network, space)
    with tempfile.TemporaryDirectory(prefix="hwnas-bench-") as folder:
        report = profile_space(space, build_block, build, device=target, folder=Path(folder), seed=seed, rounds=rounds)
        networks = choose_networks(space, seed=seed, calibration=networks_needed(space))
        models, _ = models_of(
            space,
            entries_of(space),
            networks,
            build_block,
            build,
            folder=Path(folder) / "again",
            device=target,
            seed=seed,
            progress=None,
        )
        again = _timed({key: file for key, file in models.items() if key.startswith("network ")}, target, seed, rounds)
    later = {key.removeprefix("network "): timing.p25_us for key, timing in again.timings.items()}
    seconds = Row("cells: profile, with export", report.seconds, "s", better="lower")
    return Measured(
        [*cell_rows(space, report.table, later), seconds],
        {
            "space": space.name,
            "device": device,
            "seed": seed,
            "verdict": report.measurement.verdict,
            "noise": str(report.measurement.noise),
            "truth": {"session": "another", "verdict": again.verdict},
        },
        given=f"every kernel timed alone, and {FITTED}",
        seeds=1,
        threads=target.threads,
        few=ONE_MACHINE,
    )


def cell_rows(space: Space, table: LatencyTable, later_us: Mapping[str, float]) -> list[Row]:
    """How well a cell space's table predicts the networks it was not fitted on, beside cheaper predictors.

    Args:
        space: Of the table.
        table: Calibrated, with networks held out.
        later_us: Of all its networks, by digest, from another session; brought to the table's by the fitted ones.
    """
    calibration = table.header.calibration
    assert calibration is not None, "a profile that has not failed has one"
    records = [(Architecture(record.architecture), record) for record in calibration.networks]
    fitted = [(a, record.p25_us) for a, record in records if record.role == "fitted"]
    factor = float(np.median([later_us[a.digest] / us for a, us in fitted]))
    held_out = [(a, later_us[a.digest] / factor) for a, record in records if record.role == "held_out"]
    x, x_us = [a for a, _ in fitted], np.array([us for _, us in fitted])
    y, y_us = [a for a, _ in held_out], np.array([us for _, us in held_out])
    model = UnitSumCost.from_table(space, table)
    counted = UnitSumCost.count(space, "macs")
    found = score([1000 * model(a).value for a in y], y_us)

    def kernels_us(architecture: Architecture) -> float:
        blocks = space.blocks_of(architecture)
        parts = [part for block in blocks for part in ((block,) if block.kernels is None else block.kernels)]
        return sum(table.rows[part.key].p25_us for part in parts)

    def rival(of: Callable[[Architecture], float]) -> Holdout:
        return affine(np.array([of(a) for a in x]), x_us, np.array([of(a) for a in y]), y_us)

    macs, kernels = rival(lambda a: counted(a).value), rival(kernels_us)
    of = f"cells, from {calibration.kind}, {len(x)} fitted, {len(y)} held out"
    return [
        Row(f"{of}: MAPE", 100 * found.mape, "%", 3.0, 1.5, "lower", null=by_macs(100 * macs.mape)),
        Row(f"{of}: Kendall tau", or_nan(found.tau), "rank correlation", 0.92, 0.95, null=by_macs(or_nan(macs.tau))),
        Row(
            f"{of}: MAPE over that of MACs, affine",
            found.mape / macs.mape,
            "ratio",
            0.7,
            None,
            "lower",
            null=by_macs(1.0),
        ),
        Row(f"{of}: MAPE over that of the kernel sum, affine", found.mape / kernels.mape, "ratio", better="lower"),
        Row(f"{of}: MAPE of MACs, affine", 100 * macs.mape, "%", better="lower", contender="null", given=FITTED),
        Row(f"{of}: MAPE of the kernel sum, affine", 100 * kernels.mape, "%", better="lower", contender="rival"),
        Row(f"{of}: within 10 %", 100 * found.within_10, "%"),
        Row(f"{of}: half width of the band", 100 * math.expm1(calibration.band), "%", None, None, "lower"),
        Row(f"{of}: the other session over the table's", factor, "ratio"),
    ]


def front(data: Path, *, recipe: Path = QUICKSTART, devices: Path = ROOT / "devices") -> Measured:
    """The networks that a search finds lie elsewhere than those a table was fitted on: the error there, and after them.

    Args:
        data: Not used.
        recipe: Is profiled and searched in a folder of its own.
        devices: Folder of the device's file.
    """
    with tempfile.TemporaryDirectory(prefix="hwnas-bench-") as folder:
        root = Path(folder)
        shutil.copytree(devices, root / "devices")
        (root / "search").mkdir()
        own = Path(shutil.copy(recipe, root / "search"))
        profile_recipe(own, root=root)
        return front_figures(run_search(own, root=root))


def front_figures(found: Front) -> Measured:
    """The rows of a finished run.

    Args:
        found: Its front.
    """
    refit = found.facts["refit"]
    conditions = {
        "run": found.facts["run"],
        "measurement": found.facts["measurement"]["verdict"],
        "session_factor": found.facts["measurement"]["session_factor"],
    }
    if "skipped" in refit:
        return Measured([], {**conditions, "skipped": refit["skipped"]}, given="nothing", seeds=1, threads=1)
    of = f"found networks of {found.facts['run']}, {refit['networks']}"
    measured = np.array([m.values["latency_ms"] for m in found.on_front])
    predicted = np.array([m.predicted["latency_ms"].value for m in found.on_front])
    one_for_all = Null("one latency for all", _mape(np.full_like(measured, measured.mean()), measured))
    return Measured(
        [
            Row(f"{of}: MAPE as predicted", 100 * refit["before"]["mape"], "%", 5.0, None, "lower", null=one_for_all),
            Row(
                f"{of}: MAPE after refit, each left out",
                100 * refit["after"]["mape"],
                "%",
                3.0,
                2.0,
                "lower",
                null=one_for_all,
            ),
            Row(
                f"{of}: largest error on the front",
                100 * float(np.abs(predicted / measured - 1).max()),
                "%",
                12.0,
                None,
                "lower",
                null=one_for_all,
            ),
        ],
        conditions,
        given="a latency table of the same device, profiled before",
        seeds=1,
        threads=1,
        few=ONE_MACHINE,
    )


def _mape(predicted: NDArray[np.float64], measured: NDArray[np.float64]) -> float:
    """In %."""
    return 100 * float(np.abs(predicted / measured - 1).mean())


def repeat(
    data: Path,
    *,
    device: str = "this-cpu",
    seed: int = 1,
    rounds: int = ROUNDS,
    gap_s: float = HALF_AN_HOUR_S,
    wait: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Measured:
    """The blocks and networks of the chain space, measured twice with half an hour between, after the reference factor.

    Args:
        data: Not used.
        device: In devices/.
        seed: Of the networks and the order of visits.
        rounds: Visits of each model.
        gap_s: From the end of the first to the start of the second.
        wait: Until then.
        clock: Says how long the first took.
    """
    target = Device.load(device, ROOT / "devices")
    space = family("mobilenet_v3", {}, channels=1, classes=10).space
    networks = choose_networks(space, seed=seed, calibration=networks_needed(space))
    with tempfile.TemporaryDirectory(prefix="hwnas-bench-") as folder:
        models, _ = models_of(
            space,
            entries_of(space),
            networks,
            build_block,
            partial(build_network, space),
            folder=Path(folder),
            device=target,
            seed=seed,
            progress=None,
        )
        started = clock()
        first = _timed(models, target, seed, rounds)
        took = clock() - started
        wait(gap_s)
        second = _timed(models, target, seed + 1, rounds)
    rows = repeat_rows(first, second, minutes=gap_s / 60)
    verdicts = {"first": first.verdict, "second": second.verdict, "seconds_each": round(took, 1)}
    conditions = {"space": space.name, "device": device, "seed": seed, **verdicts}
    return Measured(rows, conditions, given=TWICE, seeds=1, threads=target.threads, few=ONE_MACHINE)


def _timed(models: Mapping[str, ModelFile], device: Device, seed: int, rounds: int) -> Measurement:
    return measure_models(models, device=device, seed=seed, rounds=rounds)


def repeat_rows(first: Measurement, second: Measurement, *, minutes: float) -> list[Row]:
    """How far two measurements of the same models differ.

    Args:
        first: Of the two.
        second: Later, in another process.
        minutes: Between them.
    """
    found = repeat_of(first, second)
    assert found is not None, "both have timed the same models"
    of = f"{found.n} models twice, {minutes:g} minutes apart, after the reference factor"
    return [
        Row(f"{of}: median difference", 100 * found.median, "%", 1.0, 0.5, "lower", null=TWICE),
        Row(f"{of}: 95th percentile", 100 * found.p95, "%", 2.5, None, "lower", null=TWICE),
        Row(f"{of}: the factor", found.factor, "ratio"),
    ]
