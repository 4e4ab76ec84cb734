import itertools
from pathlib import Path

import numpy as np
import pytest

from hwnas.core import DataError, Limit, Objective
from hwnas.evaluation.benchmarks import (
    MILLION,
    BlockSum,
    StageSum,
    accel_nasbench,
    block_sum_front,
    data_folder,
    mbv3_45,
    mbv3_45_space,
    nas_bench_macro,
    nasbench201,
    stage_sum_front,
    transnasbench101,
)
from hwnas.pareto import non_dominated
from hwnas.space import Decision, Space
from tests.evaluation.tables import (
    accuracy_of,
    write_accel_nasbench,
    write_macro,
    write_mbv3_45,
    write_nasbench201,
    write_transnas,
)

ACCURACY, MACS = Objective.named("accuracy"), Objective.named("macs")


def test_nasbench201_has_every_row_in_its_place(tmp_path: Path) -> None:
    codes = write_nasbench201(tmp_path)
    benchmark = nasbench201(tmp_path)
    assert benchmark.space.size == 15625
    assert benchmark.columns["accuracy"].batch(codes) == pytest.approx(accuracy_of(codes, 0) / 100)
    assert benchmark.columns["latency_ms@raspi4"].batch(codes).tolist() == (1.0 + codes[:, 0]).tolist()
    assert benchmark.columns["latency_ms@pi5_onnx"].batch(codes).tolist() == (2.0 + codes[:, 1]).tolist()
    assert benchmark.columns["energy_mj@pi5_onnx"].batch(codes).tolist() == (10.0 - codes[:, 2]).tolist()
    assert benchmark.columns["macs"].batch(codes) == pytest.approx((1.0 + codes.sum(axis=1)) * MILLION)
    assert benchmark.reported["test_accuracy"].batch(codes) == pytest.approx(accuracy_of(codes, 2) / 100)
    early = nasbench201(tmp_path, epochs=12)
    assert early.columns["accuracy"].batch(codes) == pytest.approx(accuracy_of(codes, 1) / 100)
    assert benchmark.columns["accuracy@12_epochs"].batch(codes) == pytest.approx(accuracy_of(codes, 1) / 100)
    assert early.reported["test_accuracy"].batch(codes) == pytest.approx(accuracy_of(codes, 2) / 100)


def test_no_cell_without_a_path_is_on_the_true_front(tmp_path: Path) -> None:
    write_nasbench201(tmp_path)
    benchmark = nasbench201(tmp_path)
    codes, costs = benchmark.true_front((ACCURACY, Objective.named("latency_ms@raspi4")))
    assert benchmark.columns["connected"].batch(codes).min() == 1.0
    every = np.array(list(itertools.product(range(5), repeat=6)))
    every = every[every[:, 3] > 0]
    both = np.stack([-benchmark.columns["accuracy"].batch(every), 1.0 + every[:, 0]], axis=1)
    assert sorted(map(tuple, costs)) == sorted(map(tuple, both[non_dominated(both)]))


def test_macro_is_chosen_by_one_training_and_reported_by_two_others(tmp_path: Path) -> None:
    codes = write_macro(tmp_path)
    benchmark = nas_bench_macro(tmp_path)
    assert benchmark.space.size == 6561
    assert benchmark.columns["accuracy"].batch(codes) == pytest.approx(accuracy_of(codes, 1) / 100)
    mean = (accuracy_of(codes, 2) + accuracy_of(codes, 3)) / 200
    assert benchmark.reported["test_accuracy"].batch(codes) == pytest.approx(mean)


def test_mbv3_45_is_the_space_described(tmp_path: Path) -> None:
    write_mbv3_45(tmp_path)
    space = mbv3_45(tmp_path).space
    assert len(space.decisions) == 45
    assert space.size == (9**2 + 9**3 + 9**4) ** 5
    assert space.one_hot(space.sample_codes(3, np.random.default_rng(0))).shape == (3, 135)


def stage_sum(seed: int, name: str = "m") -> StageSum:
    return StageSum(mbv3_45_space(), np.random.default_rng(seed).normal(size=136), name, "u")


def test_a_stage_sum_is_the_dot_product_with_the_one_hot_columns() -> None:
    model = stage_sum(0)
    codes = model.space.sample_codes(50, np.random.default_rng(1))
    columns = np.concatenate([model.space.one_hot(codes), np.ones((50, 1))], axis=1)
    assert model.batch(codes) == pytest.approx(columns @ model.weights)
    assert model(model.space.decode(codes)[0]).value == pytest.approx(float(model.batch(codes)[0]))


@pytest.mark.parametrize("seed", range(3))
def test_ends_of_a_stage_sum_are_the_ends(seed: int) -> None:
    model = stage_sum(seed)
    low, smallest = model.smallest()
    high, largest = model.largest()
    assert model(smallest).value == low and model(largest).value == high
    values = model.batch(model.space.sample_codes(5000, np.random.default_rng(seed)))
    assert low < values.min() and values.max() < high


@pytest.mark.slow
def test_nothing_beats_the_true_front_of_stage_sums(tmp_path: Path) -> None:
    write_mbv3_45(tmp_path)
    benchmark = mbv3_45(tmp_path)
    _, front = benchmark.true_front((ACCURACY, MACS))
    assert len(front) > 20
    codes = benchmark.space.sample_codes(20_000, np.random.default_rng(0))
    drawn = np.stack([-benchmark.columns["accuracy"].batch(codes), benchmark.columns["macs"].batch(codes)], axis=1)
    every = np.concatenate([front, drawn])
    assert set(non_dominated(every).tolist()) <= set(range(len(front)))
    for column, end in enumerate((benchmark.columns["accuracy"].largest()[0], benchmark.columns["macs"].smallest()[0])):
        assert front[:, column].min() == pytest.approx(-end if column == 0 else end)


def test_the_front_of_a_table_is_no_front_of_stage_sums(tmp_path: Path) -> None:
    write_macro(tmp_path)
    macs = nas_bench_macro(tmp_path).columns["macs"]
    with pytest.raises(DataError, match="macs is no sum over stages"):
        stage_sum_front((MACS,), (macs,))


def test_a_limit_that_does_more_than_cut_a_front_off_is_refused(tmp_path: Path) -> None:
    write_mbv3_45(tmp_path)
    columns = tuple(mbv3_45(tmp_path).columns[name] for name in ("accuracy", "macs"))
    for limit in (Limit("macs", at_least=1.0), Limit("accuracy", at_most=0.9), Limit("parameters", at_most=1.0)):
        with pytest.raises(DataError, match=f"limit {limit.name}.*bad side of objectives"):
            stage_sum_front((ACCURACY, MACS), columns, (limit,))


def test_accel_nasbench_s_models_are_the_sums_that_its_numbers_are(tmp_path: Path) -> None:
    rows = write_accel_nasbench(tmp_path)
    benchmark = accel_nasbench(tmp_path)
    assert benchmark.space.size == 36**6 * 48
    networks = [
        benchmark.space.canonical({
            f"block{b}.{name}": rows[f"block{b}_{name}"][n].item() for b in range(7) for name in ("e", "k", "l", "se")
        })
        for n in range(100)
    ]
    codes = benchmark.space.encode(networks)
    total = rows["macs_m"][:100]
    assert benchmark.columns["macs"].batch(codes) == pytest.approx(total * MILLION, rel=0.01)
    assert benchmark.columns["accuracy"].batch(codes) == pytest.approx((30 + total / 4) / 100, rel=0.01)
    assert benchmark.columns["latency_ms@zcu102"].batch(codes) == pytest.approx(total / 7, rel=0.01)
    assert benchmark.columns["latency_ms@a100"].batch(codes) == pytest.approx(total / 50, rel=0.01)  # the gap too


def block_sum(seed: int, name: str) -> BlockSum:
    rng = np.random.default_rng(seed)
    labels = [("a.k", 3), ("a.l", 2), ("b.k", 3), ("c.k", 2), ("c.l", 4)]
    space = Space("three", tuple(Decision(label, tuple(range(n))) for label, n in labels))
    tables = (rng.normal(size=(3, 2)), rng.normal(size=3), rng.normal(size=(2, 4)))
    return BlockSum(space, tables, float(rng.normal()), name, "u")


@pytest.mark.parametrize("seed", range(3))
def test_the_front_and_the_ends_of_block_sums_are_those_of_all_networks(seed: int) -> None:
    columns = (block_sum(seed, "accuracy"), block_sum(seed + 10, "macs"))
    every = np.array(list(itertools.product(range(3), range(2), range(3), range(2), range(4))))
    costs = np.stack([-columns[0].batch(every), columns[1].batch(every)], axis=1)
    codes = block_sum_front((ACCURACY, MACS), columns)
    found = np.stack([-columns[0].batch(codes), columns[1].batch(codes)], axis=1)
    assert np.sort(found, axis=0) == pytest.approx(np.sort(costs[non_dominated(costs)], axis=0))
    low, smallest = columns[1].smallest()
    high, largest = columns[1].largest()
    assert (low, high) == pytest.approx((costs[:, 1].min(), costs[:, 1].max()))
    assert columns[1](smallest).value == low and columns[1](largest).value == high
    with pytest.raises(DataError, match="bad side of objectives"):
        block_sum_front((ACCURACY, MACS), columns, (Limit("macs", at_least=1.0),))


def test_transnas_has_every_cell_in_its_place_and_no_share_where_there_is_none(tmp_path: Path) -> None:
    codes = write_transnas(tmp_path)
    benchmark = transnasbench101(tmp_path)
    assert benchmark.space.size == 4096
    assert benchmark.columns["accuracy"].batch(codes) == pytest.approx(accuracy_of(codes, 0) / 100)
    assert transnasbench101(tmp_path, task="normal").columns["accuracy"].batch(codes) == pytest.approx(
        codes.sum(axis=1) / 20
    )
    assert transnasbench101(tmp_path, task="room_layout").columns["accuracy"].batch(codes) == pytest.approx(
        np.exp(codes.sum(axis=1) / 20 - 1)
    )
    best, costs = benchmark.true_front((ACCURACY,))
    assert -costs[0, 0] == pytest.approx(accuracy_of(codes, 0).max() / 100)


def test_missing_data_names_the_path_and_the_variable(tmp_path: Path) -> None:
    for read in (nasbench201, nas_bench_macro, mbv3_45, accel_nasbench, transnasbench101):
        with pytest.raises(DataError, match=str(tmp_path)) as caught:
            read(tmp_path)
        assert "HWNAS_BENCH_DATA" in caught.value.hint


def test_the_folder_is_the_variable_s_or_beside_the_workspace(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HWNAS_BENCH_DATA", "/elsewhere")
    assert data_folder(tmp_path) == Path("/elsewhere")
    monkeypatch.delenv("HWNAS_BENCH_DATA")
    assert data_folder(tmp_path / "workspace") == tmp_path / "shared" / "data"
