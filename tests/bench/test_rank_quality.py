"""The rank-quality bench for a second or two, and its truth against the benchmark's own file."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from hwnas.zoo import NasBench201
from tests.bench import rank_quality
from tests.bench.figures import Bench, data_folder
from tests.bench.rank_quality import RANK, truth


@pytest.fixture
def data() -> Path:
    folder = data_folder()
    for name in ("cifar10_jpeg", "nasbench201"):
        if not (folder / name).is_dir():
            pytest.skip(f"needs {name} under HWNAS_BENCH_DATA")
    return folder


def test_the_truth_is_the_benchmarks(data: Path) -> None:
    family = NasBench201(cells=1)
    known = truth(data, family, count=30)
    table = pq.read_table(data / "nasbench201" / "archs.parquet").to_pydict()
    row_of = {name: row for row, name in enumerate(table["arch_str"])}
    assert len({family.cell(network) for network in known.networks}) == 30
    for network, accuracy in zip(known.networks, known.accuracy, strict=True):
        row = row_of[family.cell(network)]
        assert table["connected"][row]
        assert accuracy == pytest.approx(table["cifar10_test_acc_200ep_pct"][row] / 100)


@pytest.mark.parametrize("part", RANK)
def test_each_rule_is_trained_and_ranked(part: str, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench: Bench = RANK
    monkeypatch.setattr(rank_quality, "MINUTES", 0.02)
    monkeypatch.setattr(rank_quality, "NETWORKS", 4)
    monkeypatch.setattr(rank_quality, "TRIED", 256)
    monkeypatch.setattr(rank_quality, "CHUNKS", 2)
    monkeypatch.setattr(rank_quality, "LIMIT", 2000)
    rows = {row.figure.partition(": ")[2]: row.value for row in bench[part](data).rows}
    assert -1 <= rows["Kendall tau, norms re-estimated"] <= 1
    assert rows["steps"] >= 2
    assert rows["true accuracy of the one it takes for the best"] <= rows["true accuracy of the best"]
    assert 0 < rows["mean inherited accuracy"] < 0.5
