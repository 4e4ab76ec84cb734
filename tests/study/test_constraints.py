import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from hwnas.core import Architecture, Limit, LimitError, Metric, NoFeasibleError, generator
from hwnas.space import Codes, Decision, Space
from hwnas.study import sampling
from hwnas.study.constraints import Constraints, broken
from tests.study.toys import FOUR, TINY, Sum

WIDE = Space("wide", tuple(Decision(f"d{i}", (0, 1, 2)) for i in range(20)))


def constraints(space: Space, *limits: Limit) -> Constraints:
    return Constraints(space, (Sum(space),), limits)


class Steep(Sum):
    """The other way round, so that a limit on each leaves a band or nothing."""

    def batch(self, codes: Codes) -> NDArray[np.float64]:
        return np.asarray(50.0 - codes.sum(axis=1), dtype=np.float64)

    def smallest(self) -> tuple[float, Architecture]:
        return super().largest()

    def largest(self) -> tuple[float, Architecture]:
        return super().smallest()


# ------------------------------------------------------------------------------------------------------ violation


def test_violation_adds_shares_of_the_bounds() -> None:
    both = constraints(
        TINY, Limit("latency_ms", at_most=1.5), Limit("latency_ms", at_least=1.2), Limit("accuracy", at_least=0.9)
    )
    codes = TINY.encode(list(TINY.enumerate()))
    latency = both.predict(codes)["latency_ms"]
    expected = [max(0, v - 1.5) / 1.5 + max(0, 1.2 - v) / 1.2 for v in latency]
    assert both.violation(codes).tolist() == pytest.approx(expected)
    assert both.feasible(codes).tolist() == [violation == 0 for violation in expected]


@given(st.floats(0.01, 100), st.floats(-1e-13, 1e-13))
def test_a_limit_set_to_a_network_s_own_value_admits_it_whatever_the_order_of_its_sum(
    bound: float, noise: float
) -> None:
    metric = Metric(bound * (1 + noise), "ms", "predicted")
    assert broken({"latency_ms": metric}, [Limit("latency_ms", at_most=bound)]) == ""


def test_broken_says_by_how_much_and_passes_over_what_is_not_known() -> None:
    metrics = {"accuracy": Metric(0.7, "share", "measured"), "latency_ms": Metric(3.0, "ms", "predicted")}
    limits = [Limit("accuracy", at_least=0.75), Limit("latency_ms", at_most=2.0), Limit("energy_mj", at_most=1)]
    assert broken(metrics, limits) == (
        "accuracy is 0.7, 0.05 short of the limit accuracy >= 0.75; "
        "latency_ms is 3 ms, 1 ms beyond the limit latency_ms <= 2"
    )


def test_a_cost_that_is_not_a_number_is_not_feasible() -> None:
    class Broken(Sum):
        def batch(self, codes: Codes) -> NDArray[np.float64]:
            return np.full(len(codes), np.nan)

    judged = Constraints(TINY, (Broken(TINY),), (Limit("latency_ms", at_most=5),))
    assert judged.violation(np.zeros((1, 3), dtype=np.int64)).tolist() == [np.inf]


def test_unreachable_limits_name_the_nearest_value_and_the_way_out() -> None:
    with pytest.raises(
        LimitError, match=r"limit latency_ms <= 0\.5: .*smallest latency_ms.* is 1 ms.*set the limit to 1 or more"
    ):
        constraints(TINY, Limit("latency_ms", at_most=0.5)).check_reachable()
    with pytest.raises(
        LimitError, match=r"limit latency_ms >= 9: .*largest latency_ms.* is 3 ms.*set the limit to 3 or less"
    ):
        constraints(TINY, Limit("latency_ms", at_least=9, at_most=10)).check_reachable()
    constraints(TINY, Limit("latency_ms", at_most=1.0), Limit("accuracy", at_least=1.0)).check_reachable()


# ------------------------------------------------------------------------------------------------------- sampling


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 12), st.integers(0, 10**6), st.floats(1.0, 3.0))
def test_samples_are_feasible_distinct_and_as_many_as_there_are(n: int, seed: int, bound: float) -> None:
    judged = constraints(TINY, Limit("latency_ms", at_most=bound))
    there = sum(judged.feasible(TINY.encode(list(TINY.enumerate()))))
    got = sampling.sample(judged, n, generator(seed))
    assert len(got) == len(set(got)) == min(n, there)
    assert judged.feasible(TINY.encode(got)).all()


def test_without_limits_a_sample_is_plain_draws() -> None:
    assert sampling.sample(constraints(WIDE), 50, generator(1)) == WIDE.sample(50, generator(1))


def test_the_cheapest_of_a_large_space_is_found_under_a_limit_that_only_it_meets() -> None:
    judged = constraints(WIDE, Limit("latency_ms", at_most=1.0))
    assert [set(a.values()) for a in sampling.sample(judged, 8, generator(0))] == [{0}]


def test_a_tight_limit_on_a_large_space_is_filled_by_mutation() -> None:
    """About one draw in 400,000 meets it."""
    judged = Constraints(WIDE, (Sum(WIDE),), (Limit("latency_ms", at_most=4.0),))
    got = sampling.sample(judged, 30, generator(0))
    assert len(set(got)) == 30
    assert judged.feasible(WIDE.encode(got)).all()


def test_two_limits_that_draws_never_meet_together_are_climbed_to() -> None:
    costs = (Sum(WIDE), Steep(WIDE, name="memory_mb", unit="MB"))
    limits = (Limit("latency_ms", at_most=4.0), Limit("latency_ms", at_least=3.5), Limit("memory_mb", at_most=45))
    judged = Constraints(WIDE, costs, limits)
    got = sampling.sample(judged, 4, generator(0))
    assert got
    assert judged.feasible(WIDE.encode(got)).all()


def test_limits_that_exclude_each_other_end_with_the_nearest() -> None:
    costs = (Sum(FOUR), Steep(FOUR, name="memory_mb", unit="MB"))
    judged = Constraints(FOUR, costs, (Limit("latency_ms", at_most=1.0), Limit("memory_mb", at_most=49.0)))
    with pytest.raises(
        NoFeasibleError,
        match=r"space four: none of \S+ networks tried meets latency_ms <= 1 and memory_mb <= 49; "
        r"the nearest has latency_ms \S+, memory_mb \S+ \(loosen",
    ):
        sampling.sample(judged, 4, generator(0))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6))
def test_mutants_are_feasible_and_other_networks(seed: int) -> None:
    judged = constraints(TINY, Limit("latency_ms", at_most=2.0))
    parent = sampling.sample(judged, 1, generator(seed))[0]
    child = sampling.mutate(judged, parent, generator(seed, "mutate"))
    assert child != parent
    assert judged.feasible(TINY.encode([child]))[0]


def test_a_network_without_feasible_neighbours_comes_back_itself() -> None:
    judged = constraints(TINY, Limit("latency_ms", at_most=1.0))
    cheapest = Sum(TINY).smallest()[1]
    assert sampling.mutate(judged, cheapest, generator(0)) == cheapest
    single = Space("single", (Decision("a", (1,)),))
    only = next(single.enumerate())
    assert sampling.mutate(constraints(single), only, generator(0)) == only


def test_a_safe_limit_is_kept_by_the_far_end_of_the_band() -> None:
    import math

    from hwnas.cost import UnitSumCost
    from tests.cost.toy_space import flat_table, toy_space

    space = toy_space()
    cost = UnitSumCost.from_table(space, flat_table(space))
    codes = space.encode(space.enumerate())
    values = cost.batch(codes)
    assert cost.band is not None
    width = math.exp(cost.band)
    plain, safe, least = (
        Constraints(space, (cost,), (limit,))
        for limit in (
            Limit("latency_ms", at_most=10.0),
            Limit("latency_ms", at_most=10.0, safe=True),
            Limit("latency_ms", at_least=10.0, safe=True),
        )
    )
    assert (plain.feasible(codes) == (values <= 10.0 * (1 + 1e-9))).all()
    assert (safe.feasible(codes) == (values * width <= 10.0 * (1 + 1e-9))).all()
    assert (least.feasible(codes) == (values / width >= 10.0 * (1 - 1e-9))).all()
    assert plain.feasible(codes).sum() > safe.feasible(codes).sum() > 0
    for n in range(0, len(codes), 40):
        said = broken(safe.metrics(space.decode(codes[[n]])[0]), safe.limits)
        assert bool(said) == (not safe.feasible(codes[[n]])[0])
    smallest = cost.smallest()[0]
    Constraints(space, (cost,), (Limit("latency_ms", at_most=smallest * 1.02),)).check_reachable()
    with pytest.raises(LimitError, match=r"latency_ms <= 3.366 with its band: .*can be reached is 3.469"):
        Constraints(space, (cost,), (Limit("latency_ms", at_most=smallest * 1.02, safe=True),)).check_reachable()
    measured = {"latency_ms": Metric(9.9, "ms", "measured")}
    assert broken(measured, safe.limits) == "", "a measured number has no band"
