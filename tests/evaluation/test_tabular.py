import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray

from hwnas.core import DataError, Limit, Objective
from hwnas.evaluation.tabular import Benchmark, Lookup, TableColumn
from hwnas.space import Codes, Condition, Decision, Space

SPACE = Space("tiny", (Decision("kernel", (3, 5, 7)), Decision("expand", (1, 6))))
ACCURACY = TableColumn(SPACE, np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.4]), "accuracy", "share")
LATENCY = TableColumn(SPACE, np.array([1.0, 2.0, 2.0, 3.0, 4.0, 5.0]), "latency_ms", "ms")


def every(objectives: tuple[Objective, ...], columns: object, limits: object) -> Codes:
    assert len(objectives) == 2
    return SPACE.encode(SPACE.enumerate())


BENCHMARK = Benchmark(
    name="tiny",
    space=SPACE,
    columns={"accuracy": ACCURACY, "latency_ms": LATENCY},
    reported={},
    limits=(Limit("latency_ms", at_most=9.0),),
    candidates=every,
    source="by hand",
)


def test_a_column_has_the_number_of_each_network_whatever_the_order_of_asking() -> None:
    networks = list(SPACE.enumerate())
    codes = SPACE.encode(networks)
    for network, value in zip(networks, LATENCY.batch(codes), strict=True):
        place = (3, 5, 7).index(int(network["kernel"])) * 2 + (1, 6).index(int(network["expand"]))
        assert value == LATENCY.values[place] == LATENCY(network).value
    assert LATENCY(networks[0]).unit == "ms" and LATENCY(networks[0]).origin == "measured"


def test_ends_are_the_ends() -> None:
    for column in (ACCURACY, LATENCY):
        for (value, network), expected in (
            (column.smallest(), column.values.min()),
            (column.largest(), column.values.max()),
        ):
            assert value == expected == column(network).value


def test_other_numbers_have_another_digest() -> None:
    other = TableColumn(SPACE, LATENCY.values + 1, "latency_ms", "ms")
    same = TableColumn(SPACE, LATENCY.values.copy(), "latency_ms", "ms")
    assert len({LATENCY.digest, other.digest, ACCURACY.digest}) == 3 and same.digest == LATENCY.digest


@pytest.mark.parametrize("values", [np.arange(5.0), np.array([1.0, 2.0, np.nan, 4.0, 5.0, 6.0])])
def test_a_column_with_gaps_is_refused(values: NDArray[np.float64]) -> None:
    with pytest.raises(DataError, match=r"space tiny: m has 5 finite numbers of [56]; expected 6"):
        TableColumn(SPACE, values, "m", "ms")


def test_a_space_with_decisions_that_may_not_count_is_refused() -> None:
    deep = ((Condition("depth", (2,)),),)
    space = Space("chain", (Decision("depth", (1, 2)), Decision("kernel", (3, 5), deep)))
    with pytest.raises(DataError, match="can be inactive"):
        TableColumn(space, np.arange(4.0), "m", "ms")


def test_the_evaluator_answers_with_its_metric_alone() -> None:
    network = next(iter(SPACE.enumerate()))
    assert dict(Lookup(ACCURACY)(network, fidelity="full", weights=None, seed=3)) == {"accuracy": ACCURACY(network)}
    assert BENCHMARK.evaluator.column is ACCURACY


def test_the_true_front_is_what_nothing_beats() -> None:
    objectives = (Objective.named("accuracy"), Objective.named("latency_ms"))
    codes, costs = BENCHMARK.true_front(objectives)
    assert costs.tolist() == [[-0.1, 1.0], [-0.3, 2.0], [-0.4, 3.0], [-0.5, 4.0]]
    assert [-ACCURACY.batch(codes)[n] for n in range(4)] == costs[:, 0].tolist()
    assert BENCHMARK.costs_of(objectives, codes).tolist() == costs.tolist()
    _, limited = BENCHMARK.true_front(objectives, (Limit("latency_ms", at_least=2.0, at_most=3.0),))
    assert limited.tolist() == [[-0.3, 2.0], [-0.4, 3.0]]


def test_the_reported_front_is_that_of_the_reported_metric() -> None:
    test = TableColumn(SPACE, ACCURACY.values[::-1].copy(), "test_accuracy", "share")
    benchmark = dataclasses.replace(BENCHMARK, reported={"test_accuracy": test})
    objectives = (Objective.named("accuracy"), Objective.named("latency_ms"))
    _, costs = benchmark.true_front(objectives, reported=True)
    assert costs.tolist() == [[-0.4, 1.0], [-0.5, 2.0]]


def test_costs_are_told_beforehand_and_the_accuracy_is_not() -> None:
    assert [cost.name for cost in BENCHMARK.costs(("accuracy", "latency_ms"))] == ["latency_ms"]
    assert [cost.name for cost in BENCHMARK.costs(("accuracy",))] == ["latency_ms"], "the limit is about it"
    with pytest.raises(DataError, match='benchmark tiny has no "latency"; did you mean "latency_ms"'):
        BENCHMARK.costs(("latency",))
