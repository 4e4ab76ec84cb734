"""How well latency is predicted, what a prediction costs, and how far a few samples carry to a new device.

`python -m tests.bench latency` runs every part, `python -m tests.bench latency cost chain` some; a new one is a line in
`LATENCY`.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from hwnas.core import Architecture
from hwnas.cost import Holdout, LatencyTable, Timing, UnitSumCost, blocks_of, calibrate, score
from hwnas.device import Device
from hwnas.nn import build_block, build_network
from hwnas.profiling import Measurement, ModelFile, Networks, choose_networks, measure_models
from hwnas.profiling import profile as profile_space
from hwnas.profiling.exporting import Source, block_source, export_all, network_source
from hwnas.profiling.session import ROUNDS
from hwnas.space import Space
from hwnas.zoo import family
from tests.bench.few_shot import KNOWN, POOL, SEEDS, rows_few_shot
from tests.bench.figures import ROOT, TIME, Bench, Contender, Measured, MissingDataError, Null, Row
from tests.bench.pieces import Piece, kernels, operators
from tests.bench.rivals import FITTED, ONE_MACHINE, affine, by_macs, or_nan
from tests.bench.tables import cells, front, repeat

TABLE = "latency_tables/amd-epyc-vm--onnxruntime-cpu--mobilenet_v3-8be2f6.jsonl"
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    # The space of search/fashion_mnist.toml; the terms of the calibration were chosen on these two.
    "28 px": {"family": "mobilenet_v3", "channels": 1, "classes": 10, "fields": {}},
    "32 to 64 px": {"family": "mobilenet_v3", "channels": 3, "classes": 10, "fields": {"resolutions": [32, 48, 64]}},
    # Held out: no bench had measured it before.
    "224 px, proxyless": {"family": "proxyless", "channels": 3, "classes": 1000, "fields": {}},
}

Clock = Callable[[], float]
Measure = Callable[[Mapping[str, ModelFile]], Measurement]
Export = Callable[[Mapping[str, Source], Path], tuple[dict[str, Path], dict[str, str]]]


# --------------------------------------------------------------------------------------------------------- few-shot


def few_shot(data: Path) -> Measured:
    """A new device of HELP's from ten or twenty samples."""
    return Measured(
        rows_few_shot(data),
        {"candidates": POOL},
        given=f"{KNOWN}; samples that the model chose",
        seeds=SEEDS,
        threads=1,
    )


# ------------------------------------------------------------------------------------------------ cost of a prediction


def cost(data: Path, *, batch: int = 1_000_000, single: int = 1000, clock: Clock = time.perf_counter) -> Measured:
    """What asking for a latency costs, one network at a time and many at once; the best of five, one thread.

    Args:
        data: Not used.
        batch: Networks at once.
        single: Networks one by one.
        clock: Seconds.
    """
    space = family("mobilenet_v3", {}, channels=1, classes=10).space
    model = UnitSumCost.from_table(space, LatencyTable.load(ROOT / TABLE))
    codes = space.sample_codes(batch, np.random.default_rng(0))
    architectures = space.decode(codes[:single])
    one = min(_seconds(lambda: [model(architecture) for architecture in architectures], clock) for _ in range(5))
    many = min(_seconds(lambda: model.batch(codes), clock) for _ in range(5))
    return Measured(
        [
            Row(
                "cost of one architecture, with its band (NNI, from memory: 39 us)",
                1e6 * one / len(architectures),
                "us",
                39.0,
                None,
                "lower",
                null=TIME,
            ),
            Row(
                f"cost of {batch:,} architectures at once, each",
                1e6 * many / batch,
                "us",
                1.0,
                None,
                "lower",
                null=TIME,
            ),
        ],
        {"space": space.name, "table": Path(TABLE).name, "of": "the best of five"},
        given="a latency table",
        seeds=1,
        threads=1,
        inputs=(ROOT / TABLE,),
        few="a time: the best of five",
    )


def _seconds(work: Callable[[], object], clock: Clock) -> float:
    start = clock()
    work()
    return clock() - start


# ----------------------------------------------------------------------------------------------------- chain space


@dataclass(frozen=True)
class Rivals:
    """Held-out scores of cheaper predictors, each an affine function fitted on the same networks.

    Attributes:
        macs: Of multiply-adds.
        operators: Of the sum of every operator timed alone.
        kernels: Of the sum of what the runtime fuses, timed alone.
    """

    macs: Holdout
    operators: Holdout
    kernels: Holdout


def rivals(space: Space, networks: Networks, times_us: Mapping[str, float], truth_us: Mapping[str, float]) -> Rivals:
    """The rivals of the block sum on the same split.

    Args:
        space: With units.
        networks: Those measured as a whole.
        times_us: Of every operator and kernel of `tests.bench.pieces`, by key.
        truth_us: Of every network, by digest.
    """

    def of(pieces: Callable[[Architecture], float]) -> Holdout:
        split = (networks.calibration, networks.held_out)
        x = [np.array([pieces(a) for a in part], dtype=np.float64) for part in split]
        y = [np.array([truth_us[a.digest] for a in part]) for part in split]
        return affine(x[0], y[0], x[1], y[1])

    def total(split: Callable[..., list[Piece]]) -> Callable[[Architecture], float]:
        return lambda a: sum(times_us[piece.key] for block in space.blocks_of(a) for piece in split(block))

    macs = UnitSumCost.count(space, "macs")
    return Rivals(of(lambda a: macs(a).value), of(total(operators)), of(total(kernels)))


def chain_rows(
    name: str,
    space: Space,
    networks: Networks,
    table: LatencyTable,
    times_us: Mapping[str, float],
    truth_us: Mapping[str, float],
) -> list[Row]:
    """The rows of one space whose blocks, pieces and networks were timed in one session.

    Args:
        name: Of the variant.
        space: With units.
        networks: 20 to fit on, 24 held out.
        table: Of this session's block times, calibrated on the 20 networks.
        times_us: Of the pieces, by key.
        truth_us: Of the networks, by digest.
    """
    model = UnitSumCost.from_table(space, table)
    measured = np.array([truth_us[a.digest] for a in networks.held_out]) / 1000
    metrics = [model(a) for a in networks.held_out]
    ours = score([metric.value for metric in metrics], measured)
    inside = [
        metric.low is not None and metric.high is not None and metric.low <= value <= metric.high
        for metric, value in zip(metrics, measured.tolist(), strict=True)
    ]
    calibration = table.header.calibration
    assert calibration is not None  # for the type checker: from_table has refused it
    half_width = 100 * float(np.expm1(calibration.band))
    others = rivals(space, networks, times_us, truth_us)
    of = f"chain, {name}, {len(networks.calibration)} fitted, {len(measured)} held out"
    macs = others.macs
    held = 100 * float(np.mean(inside))
    rows = [
        Row(f"{of}: MAPE", 100 * ours.mape, "%", 3.0, 1.5, "lower", null=by_macs(100 * macs.mape)),
        Row(f"{of}: within 10 %", 100 * ours.within_10, "%", 98.0, null=by_macs(100 * macs.within_10)),
        Row(f"{of}: within 5 %", 100 * ours.within_5, "%", None, 99.0, null=by_macs(100 * macs.within_5)),
        Row(f"{of}: Kendall tau", or_nan(ours.tau), "rank correlation", 0.93, null=by_macs(or_nan(macs.tau))),
        Row(f"{of}: bias, absolute", 100 * abs(ours.bias), "%", 1.5, None, "lower", null=by_macs(100 * abs(macs.bias))),
        Row(
            f"{of}: MAPE over that of MACs, affine",
            ours.mape / macs.mape,
            "ratio",
            0.5,
            0.2,
            "lower",
            null=by_macs(1.0),
        ),
        Row(
            f"{of}: MAPE over that of the operator sum, affine",
            ours.mape / others.operators.mape,
            "ratio",
            0.5,
            0.2,
            "lower",
            null=by_macs(macs.mape / others.operators.mape),
        ),
        Row(
            f"{of}: MAPE over that of the fused-kernel sum, affine",
            ours.mape / others.kernels.mape,
            "ratio",
            1.0,
            None,
            "lower",
            null=by_macs(macs.mape / others.kernels.mape),
        ),
        Row(f"{of}: 90 % band holds", held, "%"),
        Row(f"{of}: 90 % band holds, distance to 90", abs(held - 90), "points", 7.0, 3.0, "lower", null=WIDEST),
        Row(f"{of}: half width of the band", half_width, "%", 8.0, 4.0, "lower", null=WITH_COVERAGE),
    ]
    for rival, found in (("MACs", macs), ("operator sum", others.operators), ("kernel sum", others.kernels)):
        contender: Contender = "null" if rival == "MACs" else "rival"
        figure = f"{of}: MAPE of {rival}, affine"
        rows.append(Row(figure, 100 * found.mape, "%", better="lower", contender=contender, given=FITTED))
    return rows


WIDEST = Null("a band that holds everything", 10.0)
WITH_COVERAGE = "none alone: a band of no width is as narrow as can be, and holds nothing"


def chain(data: Path, *, device: str = "this-cpu", seed: int = 1, rounds: int = ROUNDS) -> Measured:
    """Fresh profiles of chain spaces at three sizes, and everything its rivals need, timed on this machine.

    Args:
        data: Not used.
        device: In devices/.
        seed: Another than the shipped table's, so that other networks are held out.
        rounds: Visits of each model.
    """
    target = Device.load(device, ROOT / "devices")
    rows: list[Row] = []
    conditions: dict[str, Any] = {"device": device, "seed": seed}

    def measure(models: Mapping[str, ModelFile]) -> Measurement:
        return measure_models(models, device=target, rounds=rounds, seed=seed)

    for name, variant in VARIANTS.items():
        space = family(
            variant["family"], variant["fields"], channels=variant["channels"], classes=variant["classes"]
        ).space
        with tempfile.TemporaryDirectory(prefix="hwnas-bench-") as folder:
            report = profile_space(
                space,
                build_block,
                partial(build_network, space),
                device=target,
                folder=Path(folder),
                seed=seed,
                rounds=rounds,
            )
            found, told = measured_chain(
                name,
                space,
                report.table,
                measure,
                seed=seed,
                folder=Path(folder),
                export=partial(export_all, seed=seed),
            )
        rows += found
        blocks = len(report.table.rows)
        figure = f"chain, {name}: profile of {blocks} blocks, with export"
        rows.append(Row(figure, report.seconds, "s", 300.0, 60.0, "lower", null=TIME))
        conditions[name] = told
    return Measured(
        rows,
        conditions,
        given=f"every block timed alone, and {FITTED}",
        seeds=1,
        threads=target.threads,
        few=ONE_MACHINE,
    )


def measured_chain(
    name: str, space: Space, table: LatencyTable, measure: Measure, *, seed: int, folder: Path, export: Export
) -> tuple[list[Row], dict[str, Any]]:
    """Time blocks, pieces and networks of a space in one session, calibrate on it, and compare with another session.

    Args:
        name: Of the variant.
        space: With units.
        table: Lends its header, which is not looked at.
        measure: Times ONNX files.
        seed: Of the choice of networks.
        folder: For the files.
        export: Writes them.
    """
    networks = choose_networks(space, seed=seed)
    blocks = blocks_of(space)
    pieces = {piece.key: piece for block in blocks.values() for piece in (*operators(block), *kernels(block))}
    whole = {a.digest: a for a in (*networks.calibration, *networks.held_out)}
    sources = {f"block {key}": block_source(block, build_block) for key, block in blocks.items()}
    sources |= {f"piece {key}": Source(key, piece.build, piece.input_shape) for key, piece in pieces.items()}
    sources |= {
        f"network {digest}": network_source(space, a, partial(build_network, space)) for digest, a in whole.items()
    }
    files, failures = export(sources, folder / "bench")
    measurement = measure({
        key: ModelFile(path, "network" if key.startswith("network ") else "block") for key, path in files.items()
    })
    failures |= measurement.failures
    if failures:
        first = sorted(failures)[0]
        raise MissingDataError(f"{len(failures)} models could not be measured; the first: {first}: {failures[first]}")

    def timed(kind: str) -> dict[str, Timing]:
        return {k.removeprefix(f"{kind} "): t for k, t in measurement.timings.items() if k.startswith(f"{kind} ")}

    in_first = {name: timing.p25_us for name, timing in timed("network").items()}
    rows = timed("block")
    # The truth is of another session than the blocks, brought to theirs by the networks that were fitted.
    again = measure({key: ModelFile(path, "network") for key, path in files.items() if key.startswith("network ")})
    later = {key.removeprefix("network "): timing.p25_us for key, timing in again.timings.items()}
    if later.keys() != in_first.keys():
        raise MissingDataError(f"{len(in_first.keys() - later.keys())} networks could not be measured a second time")
    fitted = [a.digest for a in networks.calibration]
    factor = float(np.median([later[digest] / in_first[digest] for digest in fitted]))
    truth = {digest: us / factor for digest, us in later.items()}
    calibration = calibrate(space, rows, networks.calibration, [in_first[digest] for digest in fitted])
    of_space = {"space": space.name, "space_digest": space.digest, "entries_digest": space.entries_digest}
    fresh = LatencyTable(table.header.model_copy(update={"calibration": calibration, **of_space}), rows)
    times = {key: timing.p25_us for key, timing in timed("piece").items()}
    of_fitted = {digest: in_first[digest] for digest in fitted}
    return chain_rows(name, space, networks, fresh, times, truth | of_fitted), {
        "space": space.name,
        "terms": list(calibration.terms),
        "models": len(measurement.timings),
        "verdict": measurement.verdict,
        "noise": str(measurement.noise),
        "truth": {"session": "another", "verdict": again.verdict, "factor": factor},
        "onnxruntime": measurement.conditions.get("onnxruntime"),
    }


LATENCY: Bench = {
    "few_shot": few_shot,
    "cost": cost,
    "chain": chain,
    "cells": cells,
    "front": front,
    "repeat": repeat,
}
"""The parts of `python -m tests.bench latency`."""
