import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from hwnas.strategies import Nat
from tests.bench.figures import data_folder
from tests.bench.mbv3_45 import Linear, load, space, volume
from tests.bench.search import mbv3_45


@pytest.fixture
def data() -> Path:
    folder = data_folder()
    if not (folder / "mbv3_45" / "weights.npz").exists():
        pytest.skip("needs mbv3_45/weights.npz in HWNAS_BENCH_DATA (default ../shared/data)")
    return folder


def weights(seed: int) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(size=136)


def test_space_is_the_one_described() -> None:
    networks = space()
    assert len(networks.decisions) == 45
    assert networks.size == (9**2 + 9**3 + 9**4) ** 5
    assert networks.one_hot(networks.sample_codes(3, np.random.default_rng(0))).shape == (3, 135)


def test_linear_is_the_dot_product_with_the_one_hot_columns() -> None:
    model = Linear(space(), weights(0), "m", "u")
    codes = model.space.sample_codes(50, np.random.default_rng(1))
    columns = np.concatenate([model.space.one_hot(codes), np.ones((50, 1))], axis=1)
    assert model.batch(codes) == pytest.approx(columns @ model.weights)
    assert model(model.space.decode(codes)[0]).value == pytest.approx(float(model.batch(codes)[0]))


@pytest.mark.parametrize("seed", range(3))
def test_ends_are_the_ends(seed: int) -> None:
    model = Linear(space(), weights(seed), "m", "u")
    low, smallest = model.smallest()
    high, largest = model.largest()
    assert model(smallest).value == low and model(largest).value == high
    values = model.batch(model.space.sample_codes(5000, np.random.default_rng(seed)))
    assert low < values.min() and values.max() < high


def test_no_network_with_another_first_stage_is_smaller() -> None:
    model = Linear(space(), weights(7), "m", "u")
    low, smallest = model.smallest()
    row = model.space.encode([smallest])[0].clip(min=0)
    stage = [model.space.index(label) for label in (d.label for d in model.space.decisions) if label[6:7] == "0"]
    stage = [0, *stage]
    assert len(stage) == 9  # its depth, four kernels, four expansions
    others = np.array(list(itertools.product(range(3), repeat=9)))
    rows = np.repeat(row[None], len(others), axis=0)
    rows[:, stage] = others
    assert model.batch(model.space.canonical_codes(rows)).min() == pytest.approx(low)


def test_volume_of_nothing_is_nothing() -> None:
    assert volume([]) == 0.0


def test_a_tiny_run_gives_every_row(data: Path) -> None:
    nat = Nat(population=8, generations=2, surrogates=("rbf",))
    measured = mbv3_45(data, evaluations=30, nat_evaluations=20, nat=nat, seeds=[0])
    assert len(measured.rows) == 7
    assert all(math.isfinite(row.value) for row in measured.rows)
    assert measured.rows[0].must == 0.594 and not measured.rows[0].ok  # 30 evaluations are not enough
    assert measured.conditions["seeds"] == [0]


def test_values_are_those_of_the_readme(data: Path) -> None:
    evaluate, macs = load(data)
    middle = macs.space.canonical({d.label: d.options[1] for d in macs.space.decisions})
    error = evaluate(middle, fidelity="full", weights=None, seed=0)["error"]
    assert 0.20 < error < 0.30 and 100 < macs(middle).value < 520
    assert evaluate.calls == 1 and evaluate.seconds > 0


def test_nsga2_reaches_the_other_tools(data: Path) -> None:
    measured = mbv3_45(data, evaluations=1000, nat_evaluations=2, nat=Nat(population=2, generations=1), seeds=[11])
    assert measured.rows[0].value >= 0.594
