import math
from pathlib import Path

import numpy as np
import pytest

from hwnas.core import Objective
from hwnas.evaluation.benchmarks import mbv3_45 as read
from hwnas.evaluation.benchmarks import nasbench201
from hwnas.pareto import hypervolume
from hwnas.strategies import Nat, Nsga2, RandomSearch
from tests.bench.figures import Measured, data_folder
from tests.bench.mbv3_45 import volume
from tests.bench.other_tools import PYMOO
from tests.bench.search import mbv3_45
from tests.bench.tabular import (
    Share,
    Side,
    found,
    mbv3_45_surrogate,
    nasbench201_paper,
    overhead,
    pi5,
)
from tests.evaluation.tables import write_mbv3_45, write_nasbench201

SOME = {"pymoo nsga2": PYMOO}


@pytest.fixture
def data() -> Path:
    folder = data_folder()
    if not (folder / "mbv3_45" / "weights.npz").exists():
        pytest.skip("needs mbv3_45/weights.npz in HWNAS_BENCH_DATA (default ../shared/data)")
    return folder


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables of the same columns with other numbers."""
    folder = tmp_path_factory.mktemp("data")
    write_nasbench201(folder)
    write_mbv3_45(folder)
    return folder


def test_volume_of_nothing_is_nothing() -> None:
    assert volume([]) == 0.0


def test_a_tiny_run_gives_every_row(data: Path) -> None:
    nat = Nat(population=8, generations=2, surrogates=("rbf",))
    measured = mbv3_45(data, evaluations=30, nat_evaluations=20, nat=nat, seeds=[0], tools=SOME, tool_seeds=1)
    assert len(measured.rows) == 7 + 4
    assert all(math.isfinite(row.value) for row in measured.rows)
    assert measured.rows[0].must == 0.594 and not measured.rows[0].ok  # 30 evaluations are not enough
    of_pymoo = {row.figure: row.value for row in measured.rows if row.contender == "rival"}
    assert of_pymoo["pymoo nsga2: evaluations until 0.6, of 90: runs that arrive, of 1"] == 0


def test_values_are_those_of_the_readme(data: Path) -> None:
    benchmark = read(data)
    middle = benchmark.space.canonical({d.label: d.options[1] for d in benchmark.space.decisions})
    assert 0.70 < benchmark.columns["accuracy"](middle).value < 0.80
    assert 100e6 < benchmark.columns["macs"](middle).value < 520e6


def test_the_true_front_bounds_what_any_search_can_reach(data: Path) -> None:
    benchmark = read(data)
    codes, _ = benchmark.true_front((Objective.named("accuracy"), Objective.named("macs")))
    front = [
        {"accuracy": a, "macs": m}
        for a, m in zip(benchmark.columns["accuracy"].batch(codes), benchmark.columns["macs"].batch(codes), strict=True)
    ]
    costs = np.array([[1 - row["accuracy"], row["macs"] / 1e6] for row in front])
    assert hypervolume(costs, (0.30, 520.0)) / 42 == pytest.approx(0.69445, abs=1e-5)


def test_nsga2_reaches_the_other_tools(data: Path) -> None:
    measured = mbv3_45(
        data, evaluations=1000, nat_evaluations=2, nat=Nat(population=2, generations=1), seeds=[11], tools={}
    )
    assert measured.rows[0].value >= 0.594


def rows_of(measured: Measured, n: int) -> None:
    assert len(measured.rows) == n
    assert len({row.figure for row in measured.rows}) == n
    assert all(math.isfinite(row.value) for row in measured.rows)


def test_tiny_runs_of_the_parts_on_tables_give_every_row(tiny: Path) -> None:
    rows_of(nasbench201_paper(tiny, seeds=3, evaluations=12), 37)
    rows_of(mbv3_45_surrogate(tiny, strategy=RandomSearch(), seeds=3, most=12, early=6, target=0.0), 9)
    rows_of(pi5(tiny, sides={"nsga2": Side(Nsga2())}, seeds=3, evaluations=12), 4)
    rows_of(overhead(tiny, evaluations=40), 2)


def test_a_search_that_never_gets_there_has_no_mean(tiny: Path) -> None:
    measured = mbv3_45_surrogate(tiny, strategy=RandomSearch(), seeds=3, most=12, early=6, target=2.0)
    [never] = [row for row in measured.rows if row.must == 100]
    assert never.value == math.inf and never.verdict == "FAILS" and never.to_json()["value"] is None


def test_a_run_ends_with_the_evaluation_that_is_enough(tiny: Path) -> None:
    benchmark = nasbench201(tiny)
    objectives = (Objective.named("accuracy"), Objective.named("latency_ms@raspi4"))
    share = Share(benchmark, objectives, until=0.5)
    asked = found(benchmark, Nsga2(), objectives, evaluations=300, seed=0, enough=share.watch())
    assert len(asked) < 300
    assert share.of(asked) >= 0.5 > share.of(asked[:-1])
    assert all(evaluation["connected"] == 1.0 for evaluation in asked)
    assert share.of([]) == 0.0
