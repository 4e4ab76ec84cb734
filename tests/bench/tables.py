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

from hwnas.cost import LatencyTable, entries_of
from hwnas.device import Device
from hwnas.job import Front
from hwnas.job import profile as profile_recipe
from hwnas.job import search as run_search
from hwnas.nn import build_block, build_network
from hwnas.profiling import Measurement, ModelFile, choose_networks, measure_models
from hwnas.profiling import profile as profile_space
from hwnas.profiling.profiler import models_of, networks_needed, repeat_of
from hwnas.profiling.session import ROUNDS
from hwnas.zoo import family
from tests.bench.figures import ROOT, Measured, Row

CELLS: Mapping[str, Any] = {"resolutions": [16], "cells": 2}
QUICKSTART = ROOT / "search" / "quickstart.toml"
HALF_AN_HOUR_S = 1800.0


def cells(data: Path, *, device: str = "this-cpu", seed: int = 1, rounds: int = ROUNDS) -> Measured:
    """NAS-Bench-201's cells built as real networks: kernels measured, calibrated on whole networks.

    Args:
        data: Not used.
        device: In devices/.
        seed: Of the choice of networks.
        rounds: Visits of each model.
    """
    space = family("nasbench201", CELLS, channels=3, classes=10).space
    with tempfile.TemporaryDirectory(prefix="hwnas-bench-") as folder:
        report = profile_space(
            space,
            build_block,
            partial(build_network, space),
            device=Device.load(device, ROOT / "devices"),
            folder=Path(folder),
            seed=seed,
            rounds=rounds,
        )
    return Measured(
        [*cell_rows(report.table), Row("cells: profile, with export", report.seconds, "s", None, None, "lower")],
        {
            "space": space.name,
            "device": device,
            "seed": seed,
            "verdict": report.measurement.verdict,
            "noise": str(report.measurement.noise),
        },
    )


def cell_rows(table: LatencyTable) -> list[Row]:
    """How well a cell space's table predicts the networks it was not fitted on.

    Args:
        table: Calibrated, with networks held out.
    """
    calibration = table.header.calibration
    assert calibration is not None and calibration.holdout is not None, "a profile that has not failed has both"
    found = calibration.holdout
    of = f"cells, from {calibration.kind}, {calibration.n} fitted, {found.n} held out"
    return [
        Row(f"{of}: MAPE", 100 * found.mape, "%", 5.0, 3.0, "lower"),
        Row(f"{of}: Kendall tau", float("nan") if found.tau is None else found.tau, "rank correlation", 0.92, 0.95),
        Row(f"{of}: within 10 %", 100 * found.within_10, "%"),
        Row(f"{of}: half width of the band", 100 * math.expm1(calibration.band), "%", None, None, "lower"),
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
        return Measured([], {**conditions, "skipped": refit["skipped"]})
    of = f"found networks of {found.facts['run']}, {refit['networks']}"
    return Measured(
        [
            Row(f"{of}: MAPE as predicted", 100 * refit["before"]["mape"], "%", 5.0, None, "lower"),
            Row(f"{of}: MAPE after refit, each left out", 100 * refit["after"]["mape"], "%", 3.0, 2.0, "lower"),
        ],
        conditions,
    )


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
    return Measured(rows, {"space": space.name, "device": device, "seed": seed, **verdicts})


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
        Row(f"{of}: median difference", 100 * found.median, "%", 1.0, 0.5, "lower"),
        Row(f"{of}: 95th percentile", 100 * found.p95, "%", None, None, "lower"),
        Row(f"{of}: the factor", found.factor, "ratio"),
    ]
