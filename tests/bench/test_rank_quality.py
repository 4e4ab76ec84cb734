"""The rank-quality bench for a second or two, and its truth against the benchmark's own file."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy.stats import kendalltau

from hwnas.core import Architecture
from hwnas.zoo import NasBench201
from tests.bench import rank_quality
from tests.bench.figures import Null, data_folder
from tests.bench.rank_quality import RANK, Truth, partial_tau, truth


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
    monkeypatch.setattr(rank_quality, "MINUTES", 0.02)
    monkeypatch.setattr(rank_quality, "NETWORKS", 4)
    monkeypatch.setattr(rank_quality, "TRIED", 256)
    monkeypatch.setattr(rank_quality, "CHUNKS", 2)
    monkeypatch.setattr(rank_quality, "LIMIT", 2000)
    measured = partial(RANK[part], seeds=(0,))(data)
    rows = {row.figure.partition(": ")[2]: row.value for row in measured.rows}
    assert -1 <= rows["Kendall tau, norms re-estimated, mean"] <= 1
    assert rows["steps, mean"] >= 2
    assert rows["true accuracy of the one it takes for the best, mean"] <= rows["true accuracy of the best"]
    assert 0 < rows["mean inherited accuracy, mean"] < 0.5


def test_an_order_that_is_right_is_1_and_multiply_adds_are_the_null_contender(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Accuracies are put in place of those of trained networks: the true ones, and the true ones upside down."""

    def given(supernet: object, networks: list[Architecture], *_: object) -> tuple[list[float], list[float]]:
        known = dict(zip(truth_now.networks, truth_now.accuracy, strict=True))
        right = [known[network] for network in networks]
        return right, [-accuracy for accuracy in right]

    truth_now = truth(data, NasBench201(cells=1, resolutions=(rank_quality.SIDE,)), count=12)
    monkeypatch.setattr(rank_quality, "NETWORKS", 12)
    monkeypatch.setattr(rank_quality, "LIMIT", 200)
    monkeypatch.setattr(rank_quality, "_accuracies", given)
    measured = rank_quality.rank(data, program=lambda supernet, validation: iter(()), name="none")
    rows = {row.figure.partition(": ")[2]: row for row in measured.rows}
    judged = rows["Kendall tau, norms re-estimated, mean"]
    assert judged.value == pytest.approx(1)
    assert rows["Kendall tau, the supernet's norms, mean"].value == pytest.approx(-1)
    assert rows["partial tau given multiply-adds, norms re-estimated, mean"].value == pytest.approx(1)
    assert rows["partial tau given multiply-adds, the supernet's norms, mean"].value == pytest.approx(-1)
    by_macs = rows["Kendall tau of multiply-adds, for comparison"]
    assert rows["tau to multiply-adds, norms re-estimated, mean"].value == pytest.approx(by_macs.value)
    assert judged.null == Null("multiply-adds", by_macs.value) and by_macs.contender == "null"
    assert rows["true accuracy of the one it takes for the best, mean"].value == max(truth_now.accuracy)
    assert rows["steps, mean"].value == 0


def test_a_partial_tau_follows_from_the_three_taus() -> None:
    """Three small rankings, whose pairs one can count."""
    a, b, c = [1.0, 2.0, 3.0, 4.0, 5.0], [2.0, 1.0, 3.0, 5.0, 4.0], [2.0, 4.0, 1.0, 5.0, 3.0]
    taus = [kendalltau(x, y).statistic for x, y in ((a, b), (a, c), (b, c))]
    assert taus == pytest.approx([0.6, 0.2, 0.2])
    expected = (0.6 - 0.2 * 0.2) / (1 - 0.2**2)
    assert partial_tau(a, Truth([], b), np.array(c)) == pytest.approx(expected)
