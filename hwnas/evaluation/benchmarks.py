"""Readers of published tables: files that lie outside the repository, made into a `Benchmark`.

The files are Parquet or NPZ, one row per network, units in the names of the columns. Where they lie says the
environment variable HWNAS_BENCH_DATA.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from hwnas.core import Architecture, DataError, Limit, Metric, Objective, Origin, digest_of
from hwnas.cost import CostModel
from hwnas.evaluation.tabular import Benchmark, Floats, TableColumn
from hwnas.pareto import non_dominated
from hwnas.space import Codes, Condition, Decision, Space

DATA_VARIABLE = "HWNAS_BENCH_DATA"
MILLION = 1e6

Dataset = Literal["cifar10", "cifar100", "imagenet16_120"]


def data_folder(root: Path) -> Path:
    """Where the tables lie: $HWNAS_BENCH_DATA, else `shared/data` beside the workspace."""
    named = os.environ.get(DATA_VARIABLE)
    return Path(named) if named else root.resolve().parent / "shared" / "data"


def needed(path: Path) -> Path:
    """The path, if it is there.

    Raises:
        DataError: If it is not; names the variable.
    """
    if not path.is_file():
        raise DataError(
            f"{path} is not there; expected a table of networks",
            hint=f"set {DATA_VARIABLE} to the folder that holds {path.parent.name}/",
        )
    return path


def _read(path: Path) -> Mapping[str, NDArray[np.generic]]:
    table = pq.read_table(needed(path))
    return {name: table[name].to_numpy() for name in table.column_names}


def _shares(row: NDArray[np.generic]) -> Floats:
    return np.asarray(row, dtype=np.float64) / 100


# -------------------------------------------------------------------------------------------------- NAS-Bench-201

NASBENCH201_OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
"""By the codes in the table."""

NASBENCH201_EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
"""From node to node, in the order of the decisions."""


def nasbench201(folder: Path, *, dataset: Dataset = "cifar10", epochs: Literal[12, 200] = 200) -> Benchmark:
    """NAS-Bench-201: a cell of six edges, 15,625 networks trained on three data sets, timed on some thirty devices.

    `accuracy` is on the validation images, `test_accuracy` after 200 epochs on the test images. Latencies are
    `latency_ms@DEVICE` (raspi4, pixel3, gold_6226, 1080ti_b1, fpga, pi5_onnx, ...), energies `energy_mj@DEVICE`
    (pi5_onnx, ...). Those of the Pi 5 and the Pixel phone were taken with networks for CIFAR-100. Cells without a path
    from input to output are outside a limit: runtimes fold them away, so that their latencies mean nothing.

    Source: Dong and Yang 2020 (arXiv 2001.00326); latencies of HW-NAS-Bench (arXiv 2103.10584), HELP (arXiv 2106.08630)
    and HW-NAS-Bench-360.

    Args:
        folder: That holds nasbench201/.
        dataset: Of both accuracies, the multiply-adds and the parameters.
        epochs: After which `accuracy` was taken: 12 is a training of its own, with a schedule of 12 epochs.

    Raises:
        DataError: If a file is missing or has other columns.
    """
    home = folder / "nasbench201"
    archs = _read(home / "archs.parquet")
    edges = tuple(Decision(f"node{n}.from{m}", NASBENCH201_OPERATIONS) for m, n in NASBENCH201_EDGES)
    space = Space("nasbench201", edges)
    operations = np.stack([archs[f"op_{m}_{n}"] for m, n in NASBENCH201_EDGES], axis=1).astype(np.int64)
    order = np.empty(len(operations), dtype=np.int64)  # from the place of the codes to the row of the file
    order[np.ravel_multi_index(tuple(operations.T), (len(NASBENCH201_OPERATIONS),) * len(edges))] = np.arange(
        len(operations)
    )

    def column(values: NDArray[np.generic], name: str, unit: str, origin: Origin = "measured") -> TableColumn:
        return TableColumn(space, np.asarray(values, dtype=np.float64)[order], name, unit, origin)

    accuracy = archs[f"{dataset}_val_acc_{epochs}ep_pct"]
    columns = [
        column(_shares(accuracy), "accuracy", "share"),
        column(archs[f"flops_m_{dataset}"].astype(np.float64) * MILLION, "macs", "multiply-adds", "computed"),
        column(archs[f"params_m_{dataset}"].astype(np.float64) * MILLION, "parameters", "parameters", "computed"),
        column(archs["connected"], "connected", "yes or no", "computed"),
    ]
    for name, values in _read(home / "latency_help.parquet").items():
        if name.endswith("_ms"):
            columns.append(column(values, f"latency_ms@{name.removesuffix('_ms')}", "ms"))
    for name, values in _read(home / "edge_pi5_pixel.parquet").items():
        if name.endswith("_cifar100_lat_ms"):
            columns.append(column(values, f"latency_ms@{name.removesuffix('_cifar100_lat_ms')}", "ms"))
        elif name.endswith("_cifar100_energy_mj"):
            columns.append(column(values, f"energy_mj@{name.removesuffix('_cifar100_energy_mj')}", "mJ"))
    return Benchmark(
        name="nasbench201",
        space=space,
        columns={c.name: c for c in columns},
        reported={
            "test_accuracy": column(_shares(archs[f"{dataset}_test_acc_200ep_pct"]), "test_accuracy", "share"),
        },
        limits=(Limit("connected", at_least=1.0),),
        candidates=partial(_listed, operations[archs["connected"].astype(bool)]),
        source=f"NAS-Bench-201, {dataset}, accuracy after {epochs} epochs",
    )


def _listed(
    codes: Codes,
    objectives: tuple[Objective, ...],  # noqa: ARG001 - the protocol's
    columns: tuple[CostModel, ...],  # noqa: ARG001
    limits: tuple[Limit, ...],  # noqa: ARG001
) -> Codes:
    """Every network, which is among those asked for whatever is wanted."""
    return codes


# ------------------------------------------------------------------------------------------------ NAS-Bench-Macro

MACRO_LAYERS = 8
MACRO_BLOCKS = ("identity", "k3e3", "k5e6")
"""By the digits in the table: a skip, or an inverted bottleneck with kernel and expansion."""


def nas_bench_macro(folder: Path) -> Benchmark:
    """NAS-Bench-Macro: eight layers of three blocks each, 6,561 networks trained three times on CIFAR-10.

    Its accuracies are all on the test images, so `accuracy` is that of the first training and `test_accuracy` the mean
    of the other two: chosen by one, reported by others.

    Source: Su et al. 2021 (arXiv 2103.11922).

    Args:
        folder: That holds nas_bench_macro/.

    Raises:
        DataError: If the file is missing or has other columns.
    """
    rows = _read(folder / "nas_bench_macro" / "archs.parquet")
    space = Space("nas_bench_macro", tuple(Decision(f"layer{n}", MACRO_BLOCKS) for n in range(MACRO_LAYERS)))
    codes = np.array([[int(digit) for digit in str(text)] for text in rows["arch"]], dtype=np.int64)
    order = np.empty(len(codes), dtype=np.int64)
    order[np.ravel_multi_index(tuple(codes.T), (len(MACRO_BLOCKS),) * MACRO_LAYERS)] = np.arange(len(codes))

    def column(values: Floats, name: str, unit: str, origin: Origin = "measured") -> TableColumn:
        return TableColumn(space, values[order], name, unit, origin)

    runs = [_shares(rows[f"cifar10_test_acc_run{n}_pct"]) for n in (1, 2, 3)]
    columns = [
        column(runs[0], "accuracy", "share"),
        column(rows["flops_m"].astype(np.float64) * MILLION, "macs", "multiply-adds", "computed"),
        column(rows["params_m"].astype(np.float64) * MILLION, "parameters", "parameters", "computed"),
    ]
    return Benchmark(
        name="nas_bench_macro",
        space=space,
        columns={c.name: c for c in columns},
        reported={"test_accuracy": column((runs[1] + runs[2]) / 2, "test_accuracy", "share")},
        limits=(),
        candidates=partial(_listed, codes),
        source="NAS-Bench-Macro, CIFAR-10, three trainings",
    )


# -------------------------------------------------------------------------------------------------------- MBv3-45

STAGES, BLOCKS = 5, 4
DEPTHS, KERNELS, EXPANSIONS = (2, 3, 4), (3, 5, 7), (3, 4, 6)


def mbv3_45_space() -> Space:
    """The space: a depth per stage, then every block's kernel, then every block's expansion."""
    depths = [Decision(f"depth{s}", DEPTHS) for s in range(STAGES)]
    blocks = [
        Decision(f"{kind}{s}.{b}", options, _if_deep_enough(s, b))
        for kind, options in (("kernel", KERNELS), ("expand", EXPANSIONS))
        for s in range(STAGES)
        for b in range(BLOCKS)
    ]
    return Space("mbv3_45", (*depths, *blocks))


def _if_deep_enough(stage: int, block: int) -> tuple[tuple[Condition, ...], ...]:
    deeper = tuple(depth for depth in DEPTHS if depth > block)
    return () if deeper == DEPTHS else ((Condition(f"depth{stage}", deeper),),)


@dataclass(frozen=True, eq=False)
class StageSum:
    """A sum over the options that a network of `mbv3_45_space` takes, and a constant. A cost model.

    Attributes:
        space: `mbv3_45_space`.
        weights: [columns of `Space.one_hot` + 1], the constant last.
        name: Of the metric.
        unit: Of the metric.
        origin: How the numbers came about.
    """

    space: Space
    weights: Floats
    name: str
    unit: str
    origin: Origin = "predicted"
    digest: str = field(init=False, default="")

    def __post_init__(self) -> None:
        parts = [self.space.digest, self.name, self.unit, self.origin, self.weights.tolist()]
        object.__setattr__(self, "digest", digest_of(parts))

    def __call__(self, architecture: Architecture) -> Metric:
        """The number of one network."""
        return Metric(float(self.batch(self.space.encode([architecture]))[0]), self.unit, self.origin)

    def batch(self, codes: Codes) -> Floats:
        """The numbers of codes [n, 45], [n]."""
        columns = np.maximum(codes, 0) + 3 * np.arange(codes.shape[1])  # every decision has three options
        values: Floats = np.where(codes >= 0, self.weights[columns], 0.0).sum(axis=1) + self.weights[-1]
        return values

    def smallest(self) -> tuple[float, Architecture]:
        """The smallest number, and a network that has it."""
        return self._end(1.0)

    def largest(self) -> tuple[float, Architecture]:
        """The largest number, and a network that has it."""
        return self._end(-1.0)

    def _end(self, sign: float) -> tuple[float, Architecture]:
        """Stages do not meet in one weight, so the best of each, over its depths, is the best of all."""
        weights = sign * self.weights[:-1].reshape(-1, 3)
        row = weights.argmin(axis=1)
        least = weights.min(axis=1)[STAGES:].reshape(2, STAGES, BLOCKS).sum(axis=0)
        for stage in range(STAGES):
            sums = [weights[stage, code] + least[stage, :depth].sum() for code, depth in enumerate(DEPTHS)]
            row[stage] = int(np.argmin(sums))
        codes = self.space.canonical_codes(row[None].astype(np.int64))
        return float(self.batch(codes)[0]), self.space.decode(codes)[0]


def mbv3_45(folder: Path) -> Benchmark:
    """MBv3-45: a MobileNetV3 chain of 45 decisions, judged by ridge models of published ImageNet evaluations.

    `test_accuracy` is `accuracy`: a model has no noise to overfit. The true front is exact, though nobody can list the
    space: both models are sums over stages, so fronts of stages add up to the front of the whole.

    Source: sub-networks of Once-for-All (Cai et al. 2020, arXiv 1908.09791), as evaluated by DyNAS-T.

    Args:
        folder: That holds mbv3_45/.

    Raises:
        DataError: If the file is missing.
    """
    with np.load(needed(folder / "mbv3_45" / "weights.npz")) as file:
        accuracy, macs = (np.asarray(file[name], dtype=np.float64) for name in ("acc", "mac"))
    space = mbv3_45_space()
    worth = StageSum(space, accuracy / 100, "accuracy", "share")
    cost = StageSum(space, macs * MILLION, "macs", "multiply-adds")
    return Benchmark(
        name="mbv3_45",
        space=space,
        columns={"accuracy": worth, "macs": cost},
        reported={"test_accuracy": StageSum(space, accuracy / 100, "test_accuracy", "share")},
        limits=(),
        candidates=stage_sum_front,
        source="MBv3-45, ridge models of ImageNet evaluations",
    )


def stage_sum_front(
    objectives: tuple[Objective, ...], columns: tuple[CostModel, ...], limits: tuple[Limit, ...] = ()
) -> Codes:
    """Every network of `mbv3_45_space` that no other beats in sums over stages.

    A part of a network on the front is on the front of such parts: with another in its place that beats it, so would
    the whole. So fronts of ever more stages are joined, and what is beaten on the way is dropped.

    Args:
        objectives: What is wanted.
        columns: A `StageSum` each.
        limits: On the bad side of objectives: such limits only cut a front off.

    Raises:
        DataError: If a column is no such sum, or a limit is another.
    """
    wanted = {objective.name: objective for objective in objectives}
    for limit in limits:
        direction = wanted[limit.name].direction if limit.name in wanted else None
        other = {"minimize": limit.at_least, "maximize": limit.at_most}
        if direction is None or other[direction] is not None:
            raise DataError(
                f"limit {limit}: the true front of sums over stages is known only under limits on the bad side of "
                f"objectives, which are {', '.join(wanted)}"
            )
    space = mbv3_45_space()
    every = _stages(space)
    zero = np.zeros((1, len(space.decisions)), dtype=np.int64)
    found, sums = zero, np.zeros((1, len(columns)))
    for stage in every:
        parts = np.stack([o.as_cost(_part(c, stage)) for o, c in zip(objectives, columns, strict=True)], axis=1)
        best = non_dominated(parts)
        joined = (sums[:, None] + parts[best][None]).reshape(-1, len(columns))
        kept = non_dominated(joined)
        rows = stage[best].clip(min=0)
        found, sums = found[kept // len(best)] + rows[kept % len(best)], joined[kept]
    return space.canonical_codes(found)


def _stages(space: Space) -> list[Codes]:
    """Of each stage all its networks, as codes [n, decisions]; -1 in decisions of other stages and of no effect."""
    found = []
    for stage in range(STAGES):
        own = [
            n for n, d in enumerate(space.decisions) if d.label[len(d.label.rstrip(".0123456789")) :][0] == str(stage)
        ]
        rows = np.zeros((len(DEPTHS) ** len(own), len(space.decisions)), dtype=np.int64)
        rows[:, own] = list(itertools.product(range(3), repeat=len(own)))
        codes = np.unique(space.canonical_codes(rows)[:, own], axis=0)
        full = np.full((len(codes), len(space.decisions)), -1, dtype=np.int64)
        full[:, own] = codes
        found.append(full)
    return found


def _part(column: CostModel, codes: Codes) -> Floats:
    """What a stage adds to the sum.

    Raises:
        DataError: If the column is no such sum.
    """
    if not isinstance(column, StageSum):
        raise DataError(f"{column.name} is no sum over stages")
    return column.batch(codes) - float(column.weights[-1])
