"""Readers of published tables: files that lie outside the repository, made into a `Benchmark`.

The files are Parquet or NPZ, one row per network, units in the names of the columns. Where they lie says the
environment variable HWNAS_BENCH_DATA.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import prod
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from sklearn.linear_model import Ridge

from hwnas.core import Architecture, DataError, Limit, Metric, Objective, Origin, Score, digest_of
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

    `accuracy` is on the validation images, `test_accuracy` after 200 epochs on the test images; `accuracy@12_epochs` is
    the score that a search may buy for 12/200 of an evaluation. Latencies are
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
        column(_shares(archs[f"{dataset}_val_acc_12ep_pct"]), "accuracy@12_epochs", "share"),
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
        scores=(Score("accuracy@12_epochs", price=12 / 200),) if epochs == 200 else (),
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

    Args:
        objectives: What is wanted.
        columns: A `StageSum` each.
        limits: On the bad side of objectives: such limits only cut a front off.

    Raises:
        DataError: If a column is no such sum, or a limit is another.
    """
    _check_limits(objectives, limits)
    space = mbv3_45_space()
    parts = [
        (
            stage.clip(min=0),
            np.stack([o.as_cost(_part(c, stage)) for o, c in zip(objectives, columns, strict=True)], axis=1),
        )
        for stage in _stages(space)
    ]
    return space.canonical_codes(_joined(parts))


def _check_limits(objectives: tuple[Objective, ...], limits: tuple[Limit, ...]) -> None:
    """Refuse limits that do more than cut a front of sums off.

    Raises:
        DataError: If a limit is on another side, or on something that is not wanted.
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


def _joined(parts: Sequence[tuple[Codes, Floats]]) -> Codes:
    """The front of networks of several parts whose costs add up: of each part all that it can be.

    A part of a network on the front is on the front of such parts: with another in its place that beats it, so would
    the whole. So fronts of ever more parts are joined, and what is beaten on the way is dropped.

    Args:
        parts: Per part its codes [n, decisions], 0 in decisions of other parts, and its costs [n, objectives].
    """
    found, sums = np.zeros((1, parts[0][0].shape[1]), dtype=np.int64), np.zeros((1, parts[0][1].shape[1]))
    for rows, costs in parts:
        best = non_dominated(costs)
        joined = (sums[:, None] + costs[best][None]).reshape(-1, costs.shape[1])
        kept = non_dominated(joined)
        found, sums = found[kept // len(best)] + rows[best][kept % len(best)], joined[kept]
    return found


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


# --------------------------------------------------------------------------------------------------- Accel-NASBench

ACCEL_BLOCKS = 7
ACCEL_OPTIONS: Mapping[str, tuple[int | bool, ...]] = {
    "e": (1, 4, 6),
    "k": (3, 5),
    "l": (1, 2, 3),
    "se": (False, True),
}
"""By the ends of the file's columns: expansion, kernel, layers, squeeze-excite."""
_ACCEL_LAYERS_OF_BLOCK_5 = (1, 2, 3, 4)
_ACCEL_RIDGE = 1.0


@dataclass(frozen=True, eq=False)
class BlockSum:
    """A sum over blocks, each a lookup by all its decisions together, and a constant. A cost model.

    Attributes:
        space: In which every decision always counts, and blocks are as many decisions in a row as there are tables.
        tables: Per block [options of its first decision, of its second, ...].
        constant: Added.
        name: Of the metric.
        unit: Of the metric.
        origin: How the numbers came about.

    Example:
        >>> space = Space("tiny", (Decision("a.k", (3, 5)), Decision("b.k", (3, 5))))
        >>> model = BlockSum(space, (np.array([1.0, 2.0]), np.array([0.0, 5.0])), 0.5, "latency_ms", "ms")
        >>> model.batch(np.array([[1, 0], [1, 1]])).tolist()
        [2.5, 7.5]
    """

    space: Space
    tables: tuple[Floats, ...]
    constant: float
    name: str
    unit: str
    origin: Origin = "predicted"
    digest: str = field(init=False, default="")

    def __post_init__(self) -> None:
        parts = [self.space.digest, self.name, self.unit, self.origin, self.constant, [t.tolist() for t in self.tables]]
        object.__setattr__(self, "digest", digest_of(parts))

    def columns(self) -> list[slice]:
        """Of each block, where its decisions lie in the codes."""
        ends = np.cumsum([table.ndim for table in self.tables]).tolist()
        return [slice(end - table.ndim, end) for end, table in zip(ends, self.tables, strict=True)]

    def __call__(self, architecture: Architecture) -> Metric:
        """The number of one network."""
        return Metric(float(self.batch(self.space.encode([architecture]))[0]), self.unit, self.origin)

    def batch(self, codes: Codes) -> Floats:
        """The numbers of codes [n, decisions], [n]."""
        found = np.full(len(codes), self.constant)
        for place, table in zip(self.columns(), self.tables, strict=True):
            found += table[tuple(codes[:, place].T)]
        return found

    def smallest(self) -> tuple[float, Architecture]:
        """The smallest number, and a network that has it."""
        return self._end(1.0)

    def largest(self) -> tuple[float, Architecture]:
        """The largest number, and a network that has it."""
        return self._end(-1.0)

    def _end(self, sign: float) -> tuple[float, Architecture]:
        """Blocks do not meet, so the best of each is the best of all."""
        row = [code for table in self.tables for code in np.unravel_index(int((sign * table).argmin()), table.shape)]
        codes = np.array([row], dtype=np.int64)
        return float(self.batch(codes)[0]), self.space.decode(codes)[0]


def accel_nasbench(folder: Path) -> Benchmark:
    """Accel-NASBench: MnasNet-like chains of seven blocks on ImageNet, timed on six accelerators.

    Of the 1.0e11 networks 5,138 were trained and measured. Every column is a ridge model of those, a sum over blocks in
    which all decisions of a block count together: of networks that were left out of a fit it is off by 1.2 % in
    accuracy (Spearman 0.979), by 0.5 % (A100) to 3.8 % (TPU v3) in latency. `test_accuracy` is `accuracy`: a model has
    no noise to overfit. Latencies are `latency_ms@zcu102` and `@vck190` as measured there, and `@a100`, `@3090`,
    `@tpuv2` and `@tpuv3` as the time of one image at the measured throughput. The accuracy is that after the
    project's shortened training.

    Source: Ahmad et al. 2024 (DAC), Accel-NASBench.

    Args:
        folder: That holds accel_nasbench/.

    Raises:
        DataError: If the file is missing or has other columns.
    """
    rows = _read(folder / "accel_nasbench" / "archs.parquet")
    options = [
        {**ACCEL_OPTIONS, "l": _ACCEL_LAYERS_OF_BLOCK_5 if block == 5 else ACCEL_OPTIONS["l"]}
        for block in range(ACCEL_BLOCKS)
    ]
    space = Space(
        "accel_nasbench",
        tuple(
            Decision(f"block{block}.{name}", values)
            for block, of_block in enumerate(options)
            for name, values in of_block.items()
        ),
    )
    shapes = [tuple(len(values) for values in of_block.values()) for of_block in options]
    places = [
        np.ravel_multi_index(
            tuple(np.searchsorted(values, rows[f"block{block}_{name}"]) for name, values in of_block.items()), shape
        )
        for block, (of_block, shape) in enumerate(zip(options, shapes, strict=True))
    ]
    one_hot = np.concatenate([np.eye(prod(shape))[place] for place, shape in zip(places, shapes, strict=True)], axis=1)
    ends = np.cumsum([prod(shape) for shape in shapes])[:-1]

    def column(values: Floats, name: str, unit: str) -> BlockSum:
        known = np.isfinite(values)
        model = Ridge(alpha=_ACCEL_RIDGE).fit(one_hot[known], values[known])
        tables = [part.reshape(shape) for part, shape in zip(np.split(model.coef_, ends), shapes, strict=True)]
        return BlockSum(space, tuple(tables), float(model.intercept_), name, unit)

    accuracy = _shares(rows["imagenet_val_top1_pct"])
    columns = [
        column(accuracy, "accuracy", "share"),
        column(rows["macs_m"].astype(np.float64) * MILLION, "macs", "multiply-adds"),
        column(rows["params_m"].astype(np.float64) * MILLION, "parameters", "parameters"),
    ]
    for chip in ("zcu102", "vck190"):
        columns.append(column(rows[f"{chip}_latency_ms"].astype(np.float64), f"latency_ms@{chip}", "ms"))
    for chip in ("a100", "3090", "tpuv2", "tpuv3"):
        columns.append(column(1000 / rows[f"{chip}_throughput_ips"].astype(np.float64), f"latency_ms@{chip}", "ms"))
    return Benchmark(
        name="accel_nasbench",
        space=space,
        columns={c.name: c for c in columns},
        reported={"test_accuracy": column(accuracy, "test_accuracy", "share")},
        limits=(),
        candidates=block_sum_front,
        source=f"Accel-NASBench, ridge models of {len(accuracy):,} networks on ImageNet",
    )


def block_sum_front(
    objectives: tuple[Objective, ...], columns: tuple[CostModel, ...], limits: tuple[Limit, ...] = ()
) -> Codes:
    """Every network that no other beats in sums over blocks.

    Args:
        objectives: What is wanted.
        columns: A `BlockSum` of the same blocks each.
        limits: On the bad side of objectives: such limits only cut a front off.

    Raises:
        DataError: If a column is no such sum, or a limit is another.
    """
    _check_limits(objectives, limits)
    sums = [column for column in columns if isinstance(column, BlockSum)]
    if len(sums) < len(columns):
        raise DataError(f"{next(c.name for c in columns if not isinstance(c, BlockSum))} is no sum over blocks")
    parts = []
    for n, place in enumerate(sums[0].columns()):
        shape = sums[0].tables[n].shape
        rows = np.zeros((prod(shape), len(sums[0].space.decisions)), dtype=np.int64)
        rows[:, place] = np.stack(np.unravel_index(np.arange(prod(shape)), shape), axis=1)
        costs = np.stack([o.as_cost(c.tables[n].ravel()) for o, c in zip(objectives, sums, strict=True)], axis=1)
        parts.append((rows, costs))
    return _joined(parts)


# ----------------------------------------------------------------------------------------------- TransNAS-Bench-101

TRANSNAS_OPERATIONS = 4
TRANSNAS_EDGES = ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3))
"""From node to node, in the order of the file's names."""
Task = Literal["class_object", "class_scene", "jigsaw", "segmentsemantic", "autoencoder", "normal", "room_layout"]


def transnasbench101(folder: Path, *, task: Task = "class_scene") -> Benchmark:
    """TransNAS-Bench-101, its cells: six edges of four operations, 4,096 networks trained on seven tasks of Taskonomy.

    `accuracy` is the final validation metric of the task: the share that is right (for `segmentsemantic` of pixels),
    for `autoencoder` and `normal` the structural similarity, for `room_layout` exp(-loss), as the table has the loss
    alone. There are no costs in the table, so accuracy is the only objective, and nothing is reported beside it.

    Source: Duan et al. 2021 (arXiv 2105.11871).

    Args:
        folder: That holds transnasbench101/.
        task: That `accuracy` is of.

    Raises:
        DataError: If the file is missing or has other columns.
    """
    rows = _read(folder / "transnasbench101" / "micro.parquet")
    operations = tuple(range(TRANSNAS_OPERATIONS))
    space = Space("transnasbench101", tuple(Decision(f"node{n}.from{m}", operations) for m, n in TRANSNAS_EDGES))
    codes = np.array([[int(code) for code in str(text).split("_")] for text in rows["arch"]], dtype=np.int64)
    order = np.empty(len(codes), dtype=np.int64)
    order[np.ravel_multi_index(tuple(codes.T), (TRANSNAS_OPERATIONS,) * len(TRANSNAS_EDGES))] = np.arange(len(codes))
    values = np.asarray(rows[f"{task}_val_metric"], dtype=np.float64)
    if task == "room_layout":
        values = np.exp(values)  # the file holds the loss with its sign changed
    elif task not in {"autoencoder", "normal"}:
        values = values / 100
    accuracy = TableColumn(space, values[order], "accuracy", "share", "measured")
    return Benchmark(
        name="transnasbench101",
        space=space,
        columns={"accuracy": accuracy},
        reported={},
        limits=(),
        candidates=partial(_listed, codes),
        source=f"TransNAS-Bench-101, cells, {task}",
    )
