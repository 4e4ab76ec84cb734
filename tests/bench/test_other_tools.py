"""Other tools ask a benchmark for what they may, within what they may spend."""

from pathlib import Path

import numpy as np
import pytest

from hwnas.core import Objective
from hwnas.evaluation.benchmarks import mbv3_45, nasbench201
from hwnas.evaluation.tabular import Benchmark
from tests.bench.figures import Arrival
from tests.bench.other_tools import OPTUNA, OURS_IN_PYMOO, PYMOO, Asking, OtherTool, pymoo_nsga2_as_ours
from tests.bench.tabular import Share
from tests.evaluation.tables import write_mbv3_45, write_nasbench201

TOOLS = {"pymoo": PYMOO, "pymoo as ours": OURS_IN_PYMOO, **OPTUNA}
OBJECTIVES = {
    "mbv3_45": (Objective.named("accuracy"), Objective.named("macs")),
    "nasbench201": (Objective.named("accuracy"), Objective.named("latency_ms@raspi4")),
}


@pytest.fixture(scope="module")
def benchmarks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Benchmark]:
    """Tables of the same columns with other numbers."""
    folder: Path = tmp_path_factory.mktemp("data")
    write_nasbench201(folder)
    write_mbv3_45(folder)
    return {"mbv3_45": mbv3_45(folder), "nasbench201": nasbench201(folder)}


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("tool", TOOLS)
def test_a_tool_pays_for_distinct_networks_within_the_limits(
    tool: str, name: str, benchmarks: dict[str, Benchmark]
) -> None:
    benchmark, objectives = benchmarks[name], OBJECTIVES[name]
    first, again = (TOOLS[tool].runs(benchmark, objectives, evaluations=60, seeds=1)[0] for _ in range(2))
    assert first.shape == (60, 2)
    assert np.array_equal(first, again), "the seed is all that decides"
    front = benchmark.true_front(objectives)[1]
    assert not any((row < front).all(axis=1).any() for row in first), "nothing is beyond the true front"


def test_what_was_asked_before_and_what_breaks_a_limit_is_not_counted(benchmarks: dict[str, Benchmark]) -> None:
    asking = Asking(benchmarks["nasbench201"], OBJECTIVES["nasbench201"], 3)
    nothing = [decision.options.index("none") for decision in benchmarks["nasbench201"].space.decisions]
    connected = np.array([[3] * 6, [3] * 6, [2] * 6])
    _, violations = asking.tell(np.vstack([connected, nothing]))
    assert violations[:3].tolist() == [0, 0, 0] and violations[3] > 0
    assert (len(asking.costs), asking.asked, asking.spent) == (2, 4, False)
    asking.tell(np.array([[1, 3, 3, 3, 3, 3]]))
    assert asking.spent


def test_genes_that_no_decision_reads_are_the_same_network(benchmarks: dict[str, Benchmark]) -> None:
    asking = Asking(benchmarks["mbv3_45"], OBJECTIVES["mbv3_45"], 5)
    genes = np.zeros((2, 45), dtype=np.int64)
    genes[1, 5 + 3] = 2  # the kernel of a fourth block where the depth is two
    costs, _ = asking.tell(genes)
    assert (costs[0] == costs[1]).all()
    assert len(asking.costs) == 1


def test_a_tool_that_gives_up_has_not_arrived_however_early_it_did(benchmarks: dict[str, Benchmark]) -> None:
    """Before, one evaluation more than it had seen counted: giving up early read like a quick find."""
    benchmark, objectives = benchmarks["nasbench201"], OBJECTIVES["nasbench201"]

    def same_again(asking: Asking, seed: int) -> None:
        while not asking.spent:
            asking.tell(np.array([[3] * 6]))

    [run] = OtherTool(same_again).arrivals(benchmark, objectives, Share(benchmark, objectives), evaluations=40, seeds=1)
    assert run.count is None and run.share < 0.99


def test_a_run_ends_when_it_arrives(benchmarks: dict[str, Benchmark]) -> None:
    benchmark, objectives = benchmarks["nasbench201"], OBJECTIVES["nasbench201"]
    share = Share(benchmark, objectives, until=0.5)
    [found] = PYMOO.arrivals(benchmark, objectives, share, evaluations=300, seeds=1)
    [whole] = PYMOO.runs(benchmark, objectives, evaluations=300, seeds=1)
    assert found.count is not None
    n = int(found.count)
    assert share.of_costs(whole[: n - 1]) < 0.5 <= share.of_costs(whole[:n]) == found.share
    assert share.arrival(whole) == Arrival(float(n), share.of_costs(whole))


def test_pymoo_as_ours_has_our_population_and_mutation(benchmarks: dict[str, Benchmark]) -> None:
    benchmark, objectives = benchmarks["mbv3_45"], OBJECTIVES["mbv3_45"]
    asking = Asking(benchmark, objectives, 10)
    pymoo_nsga2_as_ours(asking, 0, population=17)
    assert asking.asked == 17


def test_a_slow_tool_may_have_fewer_evaluations() -> None:
    assert OtherTool(lambda asking, seed: None).most(10) == 10
    assert OtherTool(lambda asking, seed: None, evaluations=5).most(10) == 5
