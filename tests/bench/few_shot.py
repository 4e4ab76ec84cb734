"""Few-shot transfer on HELP's devices and by its rules: a new device from 10 or 20 networks measured there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from hwnas.cost.few_shot import FewShot, Structure, nasbench201_structure
from tests.bench.figures import Null, Row, need

TRAINING = (
    "1080ti_b1", "1080ti_b32", "1080ti_b256", "silver_4114", "silver_4210r", "samsung_a50", "pixel3", "essential_ph_1",
    "samsung_s7",
)  # fmt: skip
NEW = ("titan_rtx_b256", "gold_6226", "pixel2", "raspi4", "eyeriss", "fpga")
HELP = {"titan_rtx_b256": 0.987, "gold_6226": 0.989, "pixel2": 0.802, "raspi4": 0.890, "eyeriss": 0.940, "fpga": 0.985}
HELP_MEAN = 0.932
QUERIES = slice(900, 1900)
POOL, SEEDS = 2000, 5
KNOWN = "latencies of all 15,625 networks on nine other devices (HELP: of 900)"


@dataclass(frozen=True)
class Devices:
    """NAS-Bench-201 on 27 devices.

    Attributes:
        latency_ms: By device, [15625] each.
        structure: Of the cells.
        connected: Rows of cells whose output depends on their input.
    """

    latency_ms: Mapping[str, NDArray[np.float64]]
    structure: Sequence[Structure]
    connected: NDArray[np.int64]


def load(data: Path) -> Devices:
    """Read the tables.

    Raises:
        MissingDataError: If they are not there.
    """
    import pyarrow.parquet as pq

    latency = pq.read_table(need(data / "nasbench201" / "latency_help.parquet"))
    cells = pq.read_table(need(data / "nasbench201" / "archs.parquet"))
    assert latency["arch_index"].to_pylist() == cells["arch_index"].to_pylist()
    edges = ["op_0_1", "op_0_2", "op_1_2", "op_0_3", "op_1_3", "op_2_3"]
    return Devices(
        {
            name.removesuffix("_ms"): latency[name].to_numpy().astype(np.float64)
            for name in latency.column_names
            if name != "arch_index"
        },
        nasbench201_structure(np.stack([cells[name].to_numpy() for name in edges], axis=1)),
        np.flatnonzero(cells["connected"].to_numpy()),
    )


def rows_few_shot(data: Path) -> list[Row]:
    """Mean rank correlation over HELP's six test devices, over all other networks and by HELP's own rules.

    HELP's rules, as its code has them: networks 900 to 1,899, without the fastest and the slowest tenth on each device.
    Its figures are those of its README. A seed draws the 2,000 connected cells that the networks to be measured are
    chosen from. Neither the model nor its priors have seen the test devices. HELP's code takes the latencies of ten
    fixed networks as a device's embedding beside the ten samples; here ten samples are all.
    """
    devices = load(data)
    rows = []
    without = _means(unsampled(devices, NEW, TRAINING))
    nulls = [Null("the mean of the known devices, no sample", value) for value in without]
    by_chance = _means(correlations(devices, NEW, TRAINING, 10, at_random=True))
    for name, values, given in (
        ("no sample, the mean of the known devices", without, KNOWN),
        ("10 random samples", by_chance, f"{KNOWN}; 10 random samples"),
    ):
        for value, rules in zip(values, ("all other networks", "HELP's rules"), strict=True):
            figure = f"few-shot, {name}, mean Spearman of {len(NEW)} new devices, {rules}"
            rows.append(Row(figure, value, "rank correlation", contender="null", given=given))
    for count in (10, 20):
        found = correlations(devices, NEW, TRAINING, count)
        everywhere, by_rules = _means(found)
        must = 0.93 if count == 10 else None
        of = f"few-shot, {count} samples, mean Spearman of {len(NEW)} new devices"
        rows += [
            Row(f"{of}, all other networks", everywhere, "rank correlation", must, null=nulls[0]),
            Row(
                f"{of}, HELP's rules (HELP {HELP_MEAN} with 10)",
                by_rules,
                "rank correlation",
                must,
                HELP_MEAN,
                null=nulls[1],
            ),
        ]
        if count == 10:
            rows += [
                Row(
                    f"few-shot, 10 samples, {name}, HELP's rules (HELP {HELP[name]})",
                    found[name][1],
                    "rank correlation",
                )
                for name in NEW
            ]
    left_out: dict[str, float] = {}
    for hardware in sorted({hardware_of(name) for name in devices.latency_ms}):
        settings = [name for name in devices.latency_ms if hardware_of(name) == hardware]
        known = [name for name in devices.latency_ms if hardware_of(name) != hardware]
        left_out |= {k: pair[0] for k, pair in correlations(devices, settings, known, 10, seeds=1).items()}
    figure = (
        f"few-shot, 10 samples, {len(left_out)} settings each from other hardware, mean Spearman, all other networks"
    )
    return [*rows, Row(figure, float(np.mean(list(left_out.values()))), "rank correlation", seeds=1)]


def _means(found: Mapping[str, tuple[float, float]]) -> tuple[float, float]:
    """Over devices: of all other networks, and by HELP's rules."""
    everywhere, by_rules = np.mean(list(found.values()), axis=0).tolist()
    return everywhere, by_rules


def unsampled(devices: Devices, new: Sequence[str], known: Sequence[str]) -> dict[str, tuple[float, float]]:
    """For each new device Spearman's correlation of the mean of the known ones, scaled: what no sample at all gives."""
    scaled = [devices.latency_ms[name] / np.median(devices.latency_ms[name]) for name in known]
    predicted = np.mean(scaled, axis=0)
    found = {}
    for name in new:
        truth = devices.latency_ms[name]
        rows = (np.arange(len(truth)), middle(truth, np.arange(len(truth))[QUERIES]))
        everywhere, by_rules = (float(spearmanr(predicted[part], truth[part]).statistic) for part in rows)
        found[name] = (everywhere, by_rules)
    return found


def hardware_of(name: str) -> str:
    """Another batch on the same card is no new device.

    >>> hardware_of("titan_rtx_b256")
    'titan_rtx'
    """
    return name.split("_b")[0]


def correlations(
    devices: Devices,
    new: Sequence[str],
    known: Sequence[str],
    count: int,
    *,
    seeds: int = SEEDS,
    at_random: bool = False,
) -> dict[str, tuple[float, float]]:
    """For each new device Spearman's correlation over all other networks, and by HELP's rules; means over seeds."""
    model = FewShot.of(np.stack([devices.latency_ms[name] for name in known], axis=1), devices.structure)
    found: dict[str, list[list[float]]] = {name: [] for name in new}
    for seed in range(seeds):
        pool = np.random.default_rng(seed).choice(devices.connected, POOL, replace=False)
        chosen = pool[:count] if at_random else model.choose(count, pool)
        for name in new:
            truth = devices.latency_ms[name]
            predicted = model.predict(chosen, truth[chosen])
            rest = np.setdiff1d(np.arange(len(truth)), chosen)
            kept = np.setdiff1d(middle(truth, np.arange(len(truth))[QUERIES]), chosen)
            found[name].append([float(spearmanr(predicted[part], truth[part]).statistic) for part in (rest, kept)])
    means = {name: np.mean(pairs, axis=0).tolist() for name, pairs in found.items()}
    return {name: (everywhere, by_rules) for name, (everywhere, by_rules) in means.items()}


def middle(truth: NDArray[np.float64], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows without the fastest and the slowest tenth."""
    order = rows[np.argsort(truth[rows], kind="stable")]
    return order[int(len(order) * 0.1) : int(len(order) * 0.9)]
