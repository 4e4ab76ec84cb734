"""Tiny files with the columns of the published tables, for tests without the tables."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray


def accuracy_of(codes: NDArray[np.int64], seed: int) -> NDArray[np.float64]:
    """Percent, different for every network."""
    found: NDArray[np.float64] = 60 + 5 * codes.sum(axis=1) + np.random.default_rng(seed).random(len(codes))
    return found


def write_nasbench201(folder: Path) -> NDArray[np.int64]:
    """The three files, in an order of rows that is not that of the codes; the codes of each row."""
    home = folder / "nasbench201"
    home.mkdir(parents=True)
    codes = np.array(list(itertools.product(range(5), repeat=6)), dtype=np.int64)
    codes = np.random.default_rng(0).permutation(codes)
    edges = ("0_1", "0_2", "1_2", "0_3", "1_3", "2_3")
    columns: dict[str, NDArray[Any]] = {f"op_{edge}": codes[:, n] for n, edge in enumerate(edges)}
    columns |= {"connected": codes[:, 3] > 0}
    for dataset in ("cifar10", "cifar100", "imagenet16_120"):
        columns |= {f"flops_m_{dataset}": 1.0 + codes.sum(axis=1), f"params_m_{dataset}": 0.1 + codes[:, 0]}
        for seed, name in enumerate(("val_acc_200ep", "val_acc_12ep", "test_acc_200ep")):
            columns[f"{dataset}_{name}_pct"] = accuracy_of(codes, seed)
    pq.write_table(pa.table(columns), home / "archs.parquet")
    pq.write_table(
        pa.table({"arch_index": np.arange(len(codes)), "raspi4_ms": 1.0 + codes[:, 0]}), home / "latency_help.parquet"
    )
    pi5 = {
        "arch_index": np.arange(len(codes)),
        "pi5_onnx_cifar100_lat_ms": 2.0 + codes[:, 1],
        "pi5_onnx_ninapro_lat_ms": 3.0 + codes[:, 1],
        "pi5_onnx_cifar100_energy_mj": 10.0 - codes[:, 2],
    }
    pq.write_table(pa.table(pi5), home / "edge_pi5_pixel.parquet")
    return codes


def write_macro(folder: Path) -> NDArray[np.int64]:
    """The file of NAS-Bench-Macro; the codes of each row."""
    (folder / "nas_bench_macro").mkdir(parents=True)
    codes = np.array(list(itertools.product(range(3), repeat=8)), dtype=np.int64)[::-1].copy()
    columns = {"arch": ["".join(map(str, row)) for row in codes.tolist()], "flops_m": 1.0 + codes.sum(axis=1)}
    columns |= {f"cifar10_test_acc_run{n}_pct": accuracy_of(codes, n) for n in (1, 2, 3)}
    columns["params_m"] = 0.5 + codes[:, 0]
    pq.write_table(pa.table(columns), folder / "nas_bench_macro" / "archs.parquet")
    return codes


def write_mbv3_45(folder: Path, seed: int = 0) -> None:
    """The file of MBv3-45 with other weights."""
    (folder / "mbv3_45").mkdir(parents=True)
    rng = np.random.default_rng(seed)
    np.savez(folder / "mbv3_45" / "weights.npz", acc=rng.random(136), mac=5 * rng.random(136))


def write_accel_nasbench(folder: Path, networks: int = 3000) -> dict[str, NDArray[Any]]:
    """The file of Accel-NASBench, with numbers that are sums over blocks: its columns. The A100's have a gap."""
    (folder / "accel_nasbench").mkdir(parents=True)
    rng = np.random.default_rng(0)
    columns: dict[str, NDArray[Any]] = {}
    total = np.full(networks, 10.0)
    for block in range(7):
        e, k = rng.choice([1, 4, 6], networks), rng.choice([3, 5], networks)
        layers, se = rng.integers(1, 5 if block == 5 else 4, networks), rng.integers(0, 2, networks).astype(bool)
        columns |= {f"block{block}_{name}": values for name, values in zip("ekl", (e, k, layers), strict=True)}
        columns[f"block{block}_se"] = se
        total = total + e * k * layers / 10 + se  # decisions of a block meet in a product
    columns |= {"imagenet_val_top1_pct": 30 + total / 4, "macs_m": total, "params_m": total / 10}
    columns |= {f"{chip}_latency_ms": total / 7 for chip in ("zcu102", "vck190")}
    columns |= {f"{chip}_throughput_ips": 1000 / (total / 50) for chip in ("a100", "3090", "tpuv2", "tpuv3")}
    columns["a100_throughput_ips"][3] = np.nan
    pq.write_table(pa.table(columns), folder / "accel_nasbench" / "archs.parquet")
    return columns


def write_transnas(folder: Path) -> NDArray[np.int64]:
    """The file of TransNAS-Bench-101's cells; the codes of each row."""
    (folder / "transnasbench101").mkdir(parents=True)
    codes = np.random.default_rng(0).permutation(np.array(list(itertools.product(range(4), repeat=6)), dtype=np.int64))
    columns = {
        "arch": ["_".join(map(str, row)) for row in codes.tolist()],
        "class_scene_val_metric": accuracy_of(codes, 0),
        "normal_val_metric": codes.sum(axis=1) / 20,
        "room_layout_val_metric": codes.sum(axis=1) / 20 - 1,
    }
    pq.write_table(pa.table(columns), folder / "transnasbench101" / "micro.parquet")
    return codes
