"""The arithmetic of the measuring program, with made-up times."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from hwnas.device import measure as program
from tests.profiling.fake_machine import FakeMachine, FakeRuntime, by_size

times = st.lists(st.integers(1, 20), min_size=2, max_size=12)


def floats(*values: float) -> NDArray[np.float64]:
    return np.array(values, dtype=np.float64)


# ------------------------------------------------------------------------------------------------------ statistics


def test_summary_of_a_hundred_equally_spaced_runs() -> None:
    kept = program.summary(np.arange(1000, 102000, 1000), visits=4)
    assert kept == {
        "p25_us": 26.0,
        "min_us": 1.0,
        "median_us": 51.0,
        "p90_us": 91.0,
        "iqr_rel": pytest.approx(50 / 51),
        "runs": 101,
        "visits": 4,
    }


def test_the_estimate_ignores_a_quarter_of_disturbed_runs_the_mean_would_not() -> None:
    runs = np.array([1000] * 70 + [90000] * 30)
    assert program.summary(runs, visits=1)["p25_us"] == 1.0
    assert runs.mean() > 20000


@given(times, st.randoms(use_true_random=False))
def test_kendall_tau_is_scipys(first: list[int], random: Any) -> None:
    second = list(first)
    random.shuffle(second)
    mine = program.kendall_tau(floats(*first), floats(*second))
    other = scipy.stats.kendalltau(first, second).statistic
    assert (mine is None and np.isnan(other)) or mine == pytest.approx(other)


def test_kendall_tau_has_no_order_in_one_model_or_in_equal_ones() -> None:
    assert program.kendall_tau(floats(1.0), floats(2.0)) is None
    assert program.kendall_tau(floats(1.0, 1.0), floats(1.0, 2.0)) is None


def test_networks_closer_than_the_gate_resolves_are_ties() -> None:
    # All within 2 %, and in reverse order the second time: a quiet machine, though tau is -1.
    first, second = floats(100.0, 101.0, 102.0), floats(102.0, 101.0, 100.0)
    assert program.kendall_tau(first, second) == -1.0
    assert program.resolved_tau(first, second, resolution=0.03) == (None, 1.0)
    noise = program.noise_of(first, second)
    assert noise["median"] == pytest.approx(2 / 101)
    assert noise["resolved_tau"] is None


def test_a_gross_swap_is_no_tie_however_noisy_the_rest() -> None:
    first, second = floats(100.0, 200.0, 400.0), floats(220.0, 90.0, 400.0)
    tau, close = program.resolved_tau(first, second, resolution=0.03)
    # Means 160, 145, 400: all three pairs are apart, one of them is reversed.
    assert tau == pytest.approx(1 / 3)
    assert close == 0.0


def test_noise_in_closed_form() -> None:
    first = floats(*[100.0] * 20)
    second = floats(*[101.0] * 19, 110.0)
    noise = program.noise_of(first, second)
    assert noise["median"] == pytest.approx(1 / 100.5)
    # The 95th percentile of 20 values lies 0.05 of the way from the 19th to the 20th.
    assert noise["p95"] == pytest.approx(1 / 100.5 + 0.05 * (10 / 105 - 1 / 100.5))
    assert noise["models"] == 20


@given(times)
def test_equal_halves_are_quiet(values: list[int]) -> None:
    noise = program.noise_of(floats(*values), floats(*values))
    assert (noise["median"], noise["p95"]) == (0.0, 0.0)
    assert program.verdict(noise, "strict", marks=[]) == "quiet"


@pytest.mark.parametrize(
    ("median", "p95", "tau", "strict", "default", "mark"),
    [
        (0.01, 0.03, 0.97, "quiet", "quiet", "quiet"),
        (0.0, 0.0, None, "quiet", "quiet", "quiet"),
        (0.011, 0.03, 0.97, "refused", "noisy", "noisy"),
        (0.01, 0.031, 0.97, "refused", "noisy", "noisy"),
        (0.01, 0.03, 0.96, "refused", "noisy", "noisy"),
        (0.03, 0.5, 0.5, "refused", "noisy", "noisy"),
        (0.031, 0.5, 0.5, "refused", "refused", "noisy"),
    ],
)
def test_the_verdict(median: float, p95: float, tau: float | None, strict: str, default: str, mark: str) -> None:
    noise = {"median": median, "p95": p95, "resolved_tau": tau}
    policies = ("strict", "default", "mark")
    assert [program.verdict(noise, policy, marks=[]) for policy in policies] == [strict, default, mark]
    # A mark takes "quiet" away, whatever the halves say, and nothing else.
    marked = ["marked" if word == "quiet" else word for word in (strict, default, mark)]
    assert [program.verdict(noise, policy, marks=["busy: the load was 7.5"]) for policy in policies] == marked


@pytest.mark.parametrize("models", [1, 13])
@pytest.mark.parametrize(
    ("how", "mark"),
    [
        ({"load": 7.5}, "busy: the load was 7.5 on 2 cores"),
        ({"switched": range(10**4)}, "interrupted: the system took the core away in 100% of the visits"),
        ({"slowness": {5: 1.2, 6: 1.2}}, "drifting: the last rounds took 1.20 times as long as the first"),
    ],
)
def test_a_measurement_with_a_mark_is_not_called_quiet(
    how: dict[str, Any], mark: str, models: int, tmp_path: Path
) -> None:
    """Halves that agree are no proof: what disturbs every round alike does not show in them."""
    job = a_job(tmp_path)
    result = program.measure(job | {"models": job["models"][:models]}, FakeMachine(**how).machine())
    assert result["conditions"]["marks"] == [mark]
    assert program.is_quiet(result["noise"])
    assert result["verdict"] == "marked"
    assert program.words(result) == f"marked as {mark} (halves differ by 0.0%)"


def test_one_unsteady_model_takes_quiet_away(tmp_path: Path) -> None:
    job = a_job(tmp_path)
    uneven = job["models"][0]["path"]
    fake = FakeMachine()
    fake.takes = lambda path: by_size(path) * (1 + (path == uneven and fake.round % 2))
    result = program.measure(job, fake.machine())
    assert result["conditions"]["row_marks"] == {"block 0": "uneven: its even and its odd rounds differ by 67%"}
    assert (result["conditions"]["marks"], result["verdict"]) == ([], "marked")


def test_nothing_that_could_be_run_has_no_verdict_of_quiet(tmp_path: Path) -> None:
    class LoadsNothing(FakeRuntime):
        def load(self, path: str, *, batch: int, seed: int) -> Callable[[], object]:
            raise RuntimeError("no model")

    job, fake = a_job(tmp_path, on_noise="default"), FakeMachine()
    result = program.measure(job, replace(fake.machine(), runtime=lambda job: LoadsNothing(fake)))
    assert list(result["failures"]) == [model["key"] for model in job["models"]]
    assert (result["noise"], result["verdict"]) == (None, "untimed")
    assert program.words(result) == "nothing could be run"


# ------------------------------------------------------------------------------------------------------- measuring


def rounds_of(**times: list[int]) -> list[program.Round]:
    """Rounds in which each model took these nanoseconds in each of three runs."""
    count = len(next(iter(times.values())))
    return [
        program.Round({key: np.array([ns[n]] * 3) for key, ns in times.items()}, frozenset(), np.array([]), None, 10, 1)
        for n in range(count)
    ]


def collected(
    networks: list[str], references: list[str], rounds: int = 4, *, limit_s: float = 1.0, drop: bool = False, **ns: Any
) -> tuple[list[program.Round], dict[str, NDArray[np.bool_]], dict[str, Any], list[tuple[int, int]]]:
    """The time of a model is a number, or those of odd and even rounds."""
    seen: list[tuple[int, int]] = []
    times = {key: value if isinstance(value, tuple) else (value, value) for key, value in ns.items()}

    def one_round(number: int) -> program.Round:
        return rounds_of(**{key: [both[(number - 1) % 2]] for key, both in times.items()})[0]

    found, kept, noise = program.collect(
        one_round,
        networks,
        references,
        plan=program.Plan(rounds, dict.fromkeys(times, 3), 0.1, limit_s, capped=False),
        drop=drop,
        on_round=lambda one, done, planned: seen.append((done, planned)),
    )
    return found, kept, noise, seen


def test_a_quiet_machine_is_measured_once() -> None:
    rounds, kept, noise, seen = collected(["a", "b"], ["a", "b"], a=1000, b=2000)
    assert len(rounds) == 4
    assert all(marks.all() for marks in kept.values())
    assert noise["median"] == 0.0
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_disagreeing_halves_double_the_rounds_twice_and_no_more() -> None:
    rounds, _, noise, seen = collected(["a"], ["a"], a=(1000, 1100))
    assert len(rounds) == 16
    assert noise["median"] == pytest.approx(100 / 1050)
    assert [planned for _, planned in seen] == [4] * 4 + [8] * 4 + [16] * 8


def test_rounds_are_not_doubled_beyond_the_time_limit() -> None:
    # Four rounds of 10 ns each; eight would take 80 ns.
    assert len(collected(["a"], ["a"], a=(1000, 1100), limit_s=80e-9)[0]) == 8
    assert len(collected(["a"], ["a"], a=(1000, 1100), limit_s=79e-9)[0]) == 4


def test_the_gate_looks_at_the_networks_only() -> None:
    _, _, noise, seen = collected(["net"], ["net"], block=(1000, 1100), net=5000)
    assert noise["models"] == 1
    assert len(seen) == 4


def test_a_visit_discards_its_first_runs() -> None:
    calls: list[int] = []
    took = program.visit(lambda: calls.append(0), 5, time.perf_counter_ns)
    assert len(took) == 5
    assert len(calls) == 5 + program.WARM_UP
    assert (took >= 0).all()


def test_the_pilot_stops_when_a_model_is_slow() -> None:
    fake = FakeMachine(takes=lambda path: {"slow": 150_000_000, "quick": 1000}[path])
    for name, us, runs in (("slow", 150_000.0, 2), ("quick", 1.0, 5)):
        before = fake.ns
        assert program.pilot_us(fake.run_of(name), fake.machine().clock) == (us, us)
        assert fake.ns - before == pytest.approx(runs * us * 1000)


@given(
    st.dictionaries(st.text(max_size=3), st.floats(1, 1e6), min_size=1, max_size=8),
    st.integers(2, 40),
    st.floats(0.1, 1000),
)
def test_a_plan_keeps_to_its_limit_or_is_the_smallest_there_is(
    pilots: dict[str, float], rounds: int, limit_s: float
) -> None:
    fewest = program.FEWEST_RUNS + program.WARM_UP
    two_rounds = min(rounds, 2) * fewest * sum(pilots.values()) / 1e6
    if two_rounds <= 0.9 * limit_s:
        assert program.plan_for(pilots, rounds=rounds, limit_s=limit_s, kept=True).seconds <= limit_s
    elif two_rounds > limit_s:
        with pytest.raises(program.TimeLimitError):
            program.plan_for(pilots, rounds=rounds, limit_s=limit_s, kept=True)
    plan = program.plan_for(pilots, rounds=rounds, limit_s=limit_s)
    assert plan.seconds == pytest.approx(
        plan.rounds * sum((program.WARM_UP + plan.runs[key]) * us for key, us in pilots.items()) / 1e6
    )
    full = {key: program.SHORT_RUNS if us < program.SHORT_US else program.RUNS for key, us in pilots.items()}
    assert all(program.FEWEST_RUNS <= plan.runs[key] <= full[key] for key in pilots)
    assert min(rounds, program.FEWEST_ROUNDS) <= plan.rounds <= rounds
    smallest = plan.rounds <= program.FEWEST_ROUNDS and set(plan.runs.values()) == {program.FEWEST_RUNS}
    assert plan.seconds <= limit_s or smallest
    assert plan.capped == (plan.runs != full or plan.rounds != rounds)


def test_a_slow_model_does_not_take_for_ever() -> None:
    """20 rounds of 14 runs of 200 ms, doubled twice, would be 224 s for this model alone."""
    plan = program.plan_for({"slow": 200e3, **{f"quick{n}": 20.0 for n in range(100)}}, rounds=20, limit_s=25.0)
    assert plan.seconds <= 25.0
    assert {plan.runs[key] for key in plan.runs if key != "slow"} == {program.SHORT_RUNS}
    assert plan.runs["slow"] < program.RUNS


# --------------------------------------------------------------------------------------------------- whole jobs


def a_job(folder: Path, **changes: Any) -> dict[str, Any]:
    """Two blocks, six networks and five references, in files that are only as long as they should take."""
    kinds = {"block": 2, "network": 6, "reference": 5}
    models: list[dict[str, str]] = []
    for kind, count in kinds.items():
        for n in range(count):
            path = folder / f"{kind}{n}"
            path.write_bytes(bytes([n]) * (100 * (n + 1) + len(models)))
            models.append({"key": f"{kind} {n}", "path": str(path), "kind": kind})
    job = {"models": models, "batch": 1, "threads": 1, "cores": [1], "rounds": 6, "seed": 3, "on_noise": "default"}
    return job | {"empty": None, "parent": None} | changes


def test_a_job_in_closed_form(tmp_path: Path) -> None:
    job = a_job(tmp_path)
    result = program.measure(job, FakeMachine().machine())
    for model in job["models"]:
        row = result["timings"][model["key"]]
        us = by_size(model["path"]) / 1000
        assert {row[name] for name in ("p25_us", "min_us", "median_us", "p90_us")} == {us}
        assert (row["iqr_rel"], row["runs"], row["visits"], row["energy_mj"]) == (0.0, 6 * 20, 6, None)
    conditions = result["conditions"]
    assert (result["verdict"], conditions["marks"], conditions["dropped_visits"]) == ("quiet", [], 0)
    assert (conditions["pinned"], conditions["governor"], conditions["processes"]) == ([1], "performance", 1)
    assert (conditions["drift"], conditions["factor_low"], conditions["factor_high"]) == (1.0, 1.0, 1.0)
    assert conditions["planned_s"] < conditions["seconds"]
    json.dumps(result, allow_nan=False)


def test_the_planned_seconds_are_said_before_the_first_round(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = program.measure(a_job(tmp_path), FakeMachine().machine())
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    stages = [line["stage"] for line in lines]
    assert stages == ["load", "plan", *["measure"] * 6]
    plan = lines[1]
    assert (plan["rounds"], plan["models"], plan["capped"]) == (6, 13, False)
    assert plan["seconds"] == result["conditions"]["planned_s"]
    runs = 6 * sum((program.WARM_UP + program.SHORT_RUNS) * by_size(str(path)) for path in tmp_path.iterdir())
    assert plan["seconds"] == pytest.approx(runs / 1e9)


def test_the_planned_seconds_are_those_of_a_machine_as_busy_as_it_is(tmp_path: Path) -> None:
    """The fastest of five runs is what a model needs; four of five took three times as long here, and will again."""
    ran: dict[str, int] = {}

    def takes(path: str) -> int:
        ran[path] = ran.get(path, 0) + 1
        return by_size(path) * (1 if ran[path] % 5 == 1 else 3)

    fake = FakeMachine(takes=takes)
    conditions = program.measure(a_job(tmp_path, on_noise="mark"), fake.machine())["conditions"]
    runs = 6 * sum((program.WARM_UP + program.SHORT_RUNS) * by_size(str(path)) for path in tmp_path.iterdir())
    assert conditions["planned_s"] == pytest.approx(2.6 * runs / 1e9)
    assert conditions["rounds"] == 6
    assert conditions["planned_s"] == pytest.approx(conditions["seconds"], rel=0.1)


def slow_all(path: str) -> int:
    return 200_000_000


def test_a_capped_job_says_so(tmp_path: Path) -> None:
    """A round of 13 models takes 13 s with 3 timed runs each, and the pilot 5.2 s."""
    fake = FakeMachine(takes=slow_all)
    result = program.measure(a_job(tmp_path, rounds=20, limit_s=60.0), fake.machine())
    conditions = result["conditions"]
    assert conditions["capped"]
    assert conditions["marks"] == ["short: 4 rounds, to keep to 60 s"]
    assert {row["runs"] for row in result["timings"].values()} == {4 * 3}
    assert conditions["seconds"] <= 60.0


def test_a_limit_that_nobody_set_gives_way_to_eight_rounds(tmp_path: Path) -> None:
    very_slow = program.measure(a_job(tmp_path, rounds=20), FakeMachine(takes=lambda path: 10**9).machine())
    assert very_slow["conditions"]["rounds"] == 8
    assert very_slow["conditions"]["planned_s"] == 8 * 13 * 5 > program.LIMIT_S


@pytest.mark.parametrize(("limit_s", "needed"), [(1.0, 26), (10.0, 26), (25.0, 26)])
def test_a_limit_too_short_for_two_rounds_is_refused_with_what_they_take(
    tmp_path: Path, limit_s: float, needed: int
) -> None:
    fake = FakeMachine(takes=slow_all)
    with pytest.raises(
        program.TimeLimitError, match=f"limit_s is {limit_s:g}, and two rounds of .* models .*take about"
    ) as info:
        program.measure(a_job(tmp_path, limit_s=limit_s), fake.machine())
    assert "--limit-s" in info.value.hint
    assert fake.ns / 1e9 < limit_s + 6.0, "found out by the pilot"


@pytest.mark.parametrize("from_round", [1, 2, 3, 5])
def test_a_machine_that_becomes_slow_does_not_carry_a_limit_with_it(tmp_path: Path, from_round: int) -> None:
    """From some round on (the first has the pilot) a run takes 2 s. A limit of 10 s is kept to within one run."""
    fake = FakeMachine(takes=lambda path: 1_000_000, slowness=dict.fromkeys(range(from_round, 200), 2000.0))
    job = a_job(tmp_path, limit_s=10.0, rounds=6)
    machine = fake.machine()
    if from_round < 3:
        with pytest.raises(program.TimeLimitError, match=r"limit_s is 10, and two rounds of .*13 models"):
            program.measure(job, machine)
    else:
        conditions = program.measure(job, machine)["conditions"]
        assert conditions["rounds"] == from_round - 1
        assert conditions["marks"] == [f"short: {from_round - 1} rounds, to keep to 10 s"]
    assert fake.ns / 1e9 <= 10.0 + 2.0


def test_progress_is_said_within_a_long_round(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program.measure(a_job(tmp_path, rounds=2), FakeMachine(takes=slow_all).machine())
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    said = [line["done"] for line in lines if line["stage"] == "measure"]
    assert said == sorted(said)
    assert len(set(said)) == 26, "each visit takes longer than the pause between two words"
    assert "pilot" in {line["stage"] for line in lines}


def test_all_references_are_visited_in_every_round_and_every_order_is_another(tmp_path: Path) -> None:
    fake = FakeMachine()
    job = a_job(tmp_path)
    program.measure(job, fake.machine())
    paths = [model["path"] for model in job["models"]]
    orders = [fake.order[i : i + len(paths)] for i in range(0, len(fake.order), len(paths))]
    assert all(sorted(order) == sorted(paths) for order in orders)
    assert len({tuple(order) for order in orders}) == 6


def test_equal_machines_give_equal_results_and_another_seed_another_order(tmp_path: Path) -> None:
    fakes = [FakeMachine(), FakeMachine(), FakeMachine()]
    results = [
        program.measure(a_job(tmp_path, seed=seed), fake.machine()) for seed, fake in zip((3, 3, 4), fakes, strict=True)
    ]
    assert results[0] == results[1]
    assert fakes[0].order == fakes[1].order != fakes[2].order


# ------------------------------------------------------------------------------------------- dropping and marking


def test_visits_are_dropped_by_the_flag_only_and_counted_either_way(tmp_path: Path) -> None:
    # Round 3 is slow as a whole; in the second round, one of the 13 visits lost its core.
    slow: dict[str, Any] = {"slowness": {3: 1.5}, "switched": frozenset({15})}
    kept = program.measure(a_job(tmp_path), FakeMachine(**slow).machine())
    dropped = program.measure(a_job(tmp_path, drop_disturbed=True), FakeMachine(**slow).machine())
    for result, count in ((kept, 0), (dropped, 13 + 1)):
        conditions = result["conditions"]
        assert conditions["dropped_visits"] == count
        assert (conditions["switched_visits"], conditions["visits"]) == (1, 13 * 6)
        assert conditions["factor_high"] == pytest.approx(1.5)
        assert sum(row["visits"] for row in result["timings"].values()) == 13 * 6 - count
    assert all(row["p90_us"] > 1.4 * row["p25_us"] for row in kept["timings"].values())
    assert all(row["p90_us"] == row["p25_us"] for row in dropped["timings"].values())


def test_a_model_disturbed_in_half_of_its_visits_keeps_all(tmp_path: Path) -> None:
    always = FakeMachine(switched=frozenset(range(10**4)))
    conditions = program.measure(a_job(tmp_path, drop_disturbed=True), always.machine())["conditions"]
    assert conditions["dropped_visits"] == 0
    assert conditions["marks"] == ["interrupted: the system took the core away in 100% of the visits"]


@given(st.lists(st.booleans(), min_size=2, max_size=20))
def test_what_is_kept_is_more_than_half_of_either_half(disturbed: list[bool]) -> None:
    marks = np.array(disturbed)
    kept = program.kept_visits(marks, drop=True)
    assert program.kept_visits(marks, drop=False).all()
    assert kept.all() or (kept == ~marks).all()
    assert all(half.mean() > 0.5 for half in (kept[0::2], kept[1::2]))


def test_a_busy_machine_is_noticed(tmp_path: Path) -> None:
    """Case O-10: quiet, busy, quiet; only the busy one is marked, and the quiet ones agree."""
    quiet = program.measure(a_job(tmp_path), FakeMachine().machine())
    noise = {n: 1.0 + 0.5 * (n % 2) for n in range(1, 100)}
    busy = program.measure(a_job(tmp_path), FakeMachine(load=7.5, slowness=noise).machine())
    again = program.measure(a_job(tmp_path), FakeMachine(slowness=dict.fromkeys(range(1, 9), 1.03)).machine())
    assert (quiet["conditions"]["marks"], again["conditions"]["marks"]) == ([], [])
    assert (quiet["verdict"], again["verdict"], busy["verdict"]) == ("quiet", "quiet", "refused")
    assert busy["conditions"]["marks"][0] == "busy: the load was 7.5 on 2 cores"
    assert (busy["conditions"]["load_before"], busy["conditions"]["load_max"]) == (7.5, 7.5)
    totals = [sum(row["p25_us"] for row in result["timings"].values()) for result in (quiet, again)]
    assert totals[0] == pytest.approx(totals[1], rel=0.15)


def test_drift_is_marked(tmp_path: Path) -> None:
    drifting = FakeMachine(slowness={5: 1.08, 6: 1.08, 4: 1.08})
    conditions = program.measure(a_job(tmp_path, on_noise="mark"), drifting.machine())["conditions"]
    assert conditions["drift"] is not None
    quiet = {"load_max": None, "steal_share": None, "drift": 1.0, "switched_share": 0.0, "capped": False}
    assert program.marks_of(quiet | {"drift": 0.9}, cores=2) == [
        "drifting: the last rounds took 0.90 times as long as the first"
    ]
    assert program.marks_of(quiet | {"steal_share": 0.2}, cores=None) == [
        "stolen: the hypervisor gave 20% of the time to others"
    ]
    assert program.marks_of(quiet, cores=None) == []


def one_row(values: list[float], *, others: float = 0.0) -> list[program.Round]:
    """Nine rounds of ten steady models and one whose rounds take these multiples of 100 us."""
    rng = np.random.default_rng(0)
    rounds = []
    for value in values:
        ns = {f"steady {n}": 100_000 * (1 + others * rng.standard_normal()) for n in range(10)} | {
            "one": 100_000 * value
        }
        runs = {key: (us * (1 + 0.01 * np.arange(8))).astype(np.int64) for key, us in ns.items()}
        rounds.append(program.Round(runs, frozenset(), np.array([]), None, 10, 1))
    return rounds


def test_a_row_that_creeps_among_steady_ones_is_marked() -> None:
    creeping = [1.0 + 0.01 * n for n in range(12)]
    assert program.row_marks(one_row(creeping, others=0.005)) == {
        "one": "drifting: its last rounds took 1.08 times as long as its first, while all together did not"
    }
    # The whole machine's drift is no row's.
    together = [
        replace(one, runs_ns={key: (runs * value).astype(np.int64) for key, runs in one.runs_ns.items()})
        for one, value in zip(one_row([1.0] * 12), creeping, strict=True)
    ]
    assert program.row_marks(together) == {}


def test_a_row_that_is_uneven_or_scattered_is_marked() -> None:
    assert program.row_marks(one_row([1.0, 1.2] * 6))["one"].startswith(
        "uneven: its even and its odd rounds differ by 18%"
    )
    rounds = one_row([1.0] * 12)
    wild = [replace(one, runs_ns=one.runs_ns | {"one": np.array([100, 110, 190, 250] * 2) * 1000}) for one in rounds]
    assert program.row_marks(wild)["one"].startswith("scattered: half of its runs lie ")
    assert program.row_marks([]) == {}


def test_noise_of_a_steady_row_earns_no_mark() -> None:
    rng = np.random.default_rng(1)
    marked = sum(
        "one" in program.row_marks(one_row((1 + 0.02 * rng.standard_normal(20)).tolist(), others=0.02))
        for _ in range(50)
    )
    assert marked == 0


def test_marks_of_rows_are_in_the_result(tmp_path: Path) -> None:
    fake = FakeMachine()
    fake.takes = lambda path: by_size(path) * (100 + 2 * fake.round if path.endswith("block1") else 100)
    conditions = program.measure(a_job(tmp_path, rounds=12), fake.machine())["conditions"]
    assert list(conditions["row_marks"]) == ["block 1"]
    assert program.measure(a_job(tmp_path), FakeMachine().machine())["conditions"]["row_marks"] == {}


def test_an_unknown_quota_is_marked() -> None:
    quiet = {"load_max": None, "steal_share": None, "drift": 1.0, "switched_share": 0.0, "capped": False}
    assert program.marks_of(quiet, cores=2, quota_unread="cpu.max holds 'x'") == ["of unknown quota: cpu.max holds 'x'"]


# ------------------------------------------------------------------------------------------------------------ log


class Stop(BaseException):
    """As a kill, at a moment of the test's choosing."""


def killed(job: dict[str, Any], after: int) -> FakeMachine:
    """A machine on which the job was killed in the round after that many."""
    fake = FakeMachine()
    load = fake._load

    def load_or_stop() -> float | None:
        if fake.asked > after:
            raise Stop
        return load()

    with pytest.raises(Stop):
        program.measure(job, replace(fake.machine(), load_average=load_or_stop))
    return fake


@pytest.mark.parametrize("after", [0, 1, 5])
def test_a_killed_job_goes_on_and_ends_as_the_unbroken_one(tmp_path: Path, after: int) -> None:
    unbroken = program.measure(a_job(tmp_path), FakeMachine().machine())
    log = tmp_path / "log.jsonl"
    job = a_job(tmp_path, log=str(log))
    killed(job, after)
    with log.open("a") as file:
        file.write('{"round": 99, "runs_')  # the line that was being written
    whole = FakeMachine()
    result = program.measure(job, whole.machine())
    assert result["timings"] == unbroken["timings"]
    assert result["noise"] == unbroken["noise"]
    assert result["conditions"]["processes"] == (2 if after else 1)
    assert len(log.read_text().splitlines()) == 1 + 6
    visited = whole.order[-(6 - after) * 13 :]
    reference = FakeMachine()
    program.measure(a_job(tmp_path), reference.machine())
    assert visited == reference.order[-(6 - after) * 13 :]


def test_a_finished_job_is_not_measured_again(tmp_path: Path) -> None:
    job = a_job(tmp_path, log=str(tmp_path / "log.jsonl"))
    first = program.measure(job, FakeMachine().machine())
    fake = FakeMachine()
    assert program.measure(job, fake.machine())["timings"] == first["timings"]
    assert fake.order == []


@pytest.mark.parametrize(
    ("line", "text", "message"),
    [
        (1, '{"schema": 2, "plan": 7}', "line 1 is of schema 2, of a later hwnas; .* upgrade hwnas, or delete"),
        (2, "garbage", "line 2 is damaged"),
        (2, "[1]", "line 2 is damaged"),
        (2, "{}", "line 2 is damaged"),
        (3, '{"round":2,"process":1,"load":0,"took_ns":1,"switched":[],"empty_ns":[],"runs_ns":[[]]}', "line 3 is dam"),
        (1, '{"job": "another"}', "line 1 is of another measurement"),
    ],
)
def test_a_damaged_log_is_refused_with_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], line: int, text: str, message: str
) -> None:
    log = tmp_path / "log.jsonl"
    job = a_job(tmp_path, log=str(log))
    program.measure(job, FakeMachine().machine())
    lines = log.read_text().splitlines()
    lines[line - 1] = text
    log.write_text("\n".join(lines) + "\n")
    with pytest.raises(program.LogError, match=f"log.jsonl: {message}"):
        program.measure(job, FakeMachine().machine())


def test_a_lost_round_is_noticed(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    job = a_job(tmp_path, log=str(log))
    program.measure(job, FakeMachine().machine())
    lines = log.read_text().splitlines(keepends=True)
    log.write_text("".join(lines[:2] + lines[3:]))
    with pytest.raises(program.LogError, match="line 3 is round 3; expected 2"):
        program.measure(job, FakeMachine().machine())


@pytest.mark.parametrize("change", [{"seed": 4}, {"batch": 2}, {"rounds": 8}])
def test_a_log_of_another_job_is_refused(tmp_path: Path, change: dict[str, int]) -> None:
    log = str(tmp_path / "log.jsonl")
    program.measure(a_job(tmp_path, log=log), FakeMachine().machine())
    with pytest.raises(program.LogError, match="line 1 is of another measurement; delete the file"):
        program.measure(a_job(tmp_path, log=log, **change), FakeMachine().machine())


# --------------------------------------------------------------------------------------------------------- energy


def a_thousandfold(path: str) -> int:
    """Some milliseconds: a hundred runs fill the window of the counter."""
    return 1000 * by_size(path)


def test_energy_is_power_times_time_also_when_the_counter_wraps(tmp_path: Path) -> None:
    for range_uj in (10**12, 5_000_000):  # 20 W wrap the small one every quarter of a second
        fake = FakeMachine(takes=a_thousandfold, watts=20.0, range_uj=range_uj)
        job = a_job(tmp_path)
        result = program.measure(job, fake.machine())
        for model in job["models"]:
            millijoules = 20.0 * a_thousandfold(model["path"]) / 1e9 * 1000
            assert result["timings"][model["key"]]["energy_mj"] == pytest.approx(millijoules, rel=1e-3)
        assert result["conditions"]["idle_watts"] == pytest.approx(20.0, rel=1e-3)


def test_energy_that_cannot_be_read_or_does_not_step_is_none_and_never_zero(tmp_path: Path) -> None:
    for watts in (None, 0.0):
        result = program.measure(a_job(tmp_path), FakeMachine(takes=a_thousandfold, watts=watts).machine())
        assert {row["energy_mj"] for row in result["timings"].values()} == {None}
        assert result["conditions"]["idle_watts"] is None
    off = program.measure(a_job(tmp_path, energy=False), FakeMachine(takes=a_thousandfold, watts=20.0).machine())
    assert {row["energy_mj"] for row in off["timings"].values()} == {None}


def test_an_energy_that_is_there_for_some_only_is_told(tmp_path: Path) -> None:
    fake = FakeMachine(takes=a_thousandfold, watts=20.0)
    asked = 0

    def now_and_then() -> tuple[program.Counter, ...] | None:
        nonlocal asked
        asked += 1
        return None if asked in {8, 20} else fake._energy()

    result = program.measure(a_job(tmp_path), replace(fake.machine(), energy=now_and_then))
    unmeasured = [key for key, row in result["timings"].items() if row["energy_mj"] is None]
    assert len(unmeasured) == 2
    assert result["conditions"]["notes"] == [
        "the energy of 2 of 13 models is unmeasured: the counter could not be read, or did not step, or time was up"
    ]
    shut = replace(fake.machine(), energy=lambda: None, energy_unread=lambda: "counters cannot be read")
    assert program.measure(a_job(tmp_path), shut)["conditions"]["notes"] == ["counters cannot be read"]
    assert program.measure(a_job(tmp_path), FakeMachine().machine())["conditions"]["notes"] == []


def test_counters_are_read_from_the_systems_files(tmp_path: Path) -> None:
    assert program.rapl(tmp_path) is None
    zones = tmp_path / "sys/class/powercap"
    for name, title, used in (("0", "package-0", "70"), ("0:0", "core", "30"), ("1", "package-1", "9")):
        zone = zones / f"intel-rapl:{name}"
        zone.mkdir(parents=True)
        for file, text in (("name", title), ("energy_uj", used), ("max_energy_range_uj", "100")):
            (zone / file).write_text(f"{text}\n")
    assert program.rapl(tmp_path) == (program.Counter(70, 100), program.Counter(9, 100))
    assert program.rapl_unread(tmp_path) is None
    (zones / "intel-rapl:1" / "energy_uj").write_text("garbage")
    assert program.rapl(tmp_path) is None
    said = str(program.rapl_unread(tmp_path))
    assert "energy is unmeasured, as counters cannot be read (intel-rapl:1: holds no number): run as super" in said
    (zones / "intel-rapl:1" / "energy_uj").unlink()
    assert "intel-rapl:1: No such file" in str(program.rapl_unread(tmp_path))
    assert program.rapl_unread(tmp_path / "empty") is None


@given(st.integers(0, 99), st.integers(0, 99))
def test_a_wrapped_counter_has_used_what_is_left_and_what_is_new(first: int, used: int) -> None:
    after = (first + used) % 100
    assert program.used_uj([program.Counter(first, 100)], [program.Counter(after, 100)]) == (used or None)


# --------------------------------------------------------------------------------------------------------- machine


def test_stolen_time_is_a_share_and_unknown_is_none() -> None:
    assert program.steal_share((5, 100), (5, 200)) == 0.0
    assert program.steal_share((5, 100), None) is None
    assert program.steal_share((5, 100), (5, 100)) is None


def test_the_watcher_raises_when_the_parent_is_another() -> None:
    program.watcher(os.getppid())()
    program.watcher(None)()
    with pytest.raises(program.ParentGoneError):
        program.watcher(os.getpid())()


def test_pinning_is_left_alone_where_the_system_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_setaffinity", raising=False)
    assert program.pin([0]) is None


def test_what_the_system_does_not_say_is_none(tmp_path: Path) -> None:
    assert program.governor(tmp_path) is None
    folder = tmp_path / "sys/devices/system/cpu/cpu0/cpufreq"
    folder.mkdir(parents=True)
    (folder / "scaling_governor").write_text("powersave\n")
    assert program.governor(tmp_path) == "powersave"
    switches = program.switches()
    assert switches is None or switches >= 0
    peak = program.resident_peak()
    assert peak is None or peak > 2**20


def test_the_program_uses_nothing_but_the_standard_library_numpy_and_onnxruntime() -> None:
    tree = ast.parse(Path(program.__file__).read_text(encoding="utf-8"))
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or "relative"]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert imported - set(sys.stdlib_module_names) == {"numpy", "onnxruntime"}


def test_wrong_usage_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["job.json"]) == 2
    assert "usage: python measure.py job.json result.json" in capsys.readouterr().err


def test_a_job_whose_parent_is_gone_leaves_no_result(tmp_path: Path) -> None:
    job = {
        "models": [{"key": "a", "path": "a.onnx", "kind": "block"}],
        "batch": 1,
        "threads": 1,
        "cores": None,
        "rounds": 2,
        "seed": 0,
        "on_noise": "mark",
        "empty": None,
        "parent": os.getpid(),
    }
    (tmp_path / "job.json").write_text(json.dumps(job))
    assert program.main([str(tmp_path / "job.json"), str(tmp_path / "result.json")]) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["job.json"]


# ------------------------------------------------------------------------------------------------------- versions


def test_a_job_of_a_later_version_says_upgrade(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    request = tmp_path / "job.json"
    request.write_text(json.dumps({"schema": 2, "moons": []}))
    assert program.main([str(request), str(tmp_path / "result.json")]) == program.NEWER_JOB
    assert "upgrade hwnas, or take the measure.py that belongs to the job" in capsys.readouterr().err
    assert not (tmp_path / "result.json").exists()


# ------------------------------------------------------------------------------------------------------ one GPU


@pytest.mark.parametrize(
    ("value", "gpu", "left", "note"),
    [
        (None, "auto", None, ""),
        (None, "GPU-ab", "GPU-ab", ""),
        ("GPU-ab", "GPU-ab", "GPU-ab", ""),
        ("GPU-cd,GPU-a", "GPU-ab", "GPU-ab", ""),
        ("0,1", "auto", "0,1", ""),
        ("0,1", "GPU-ab", "GPU-ab", "CUDA_VISIBLE_DEVICES was 0,1; GPU-ab of the device file is used"),
    ],
)
def test_the_gpu_of_the_device_file_is_made_the_only_one_with_a_word(
    value: str | None, gpu: str, left: str | None, note: str
) -> None:
    environment = {} if value is None else {"CUDA_VISIBLE_DEVICES": value}
    assert program.set_visible(gpu, environment) == note
    assert environment.get("CUDA_VISIBLE_DEVICES") == left


@pytest.mark.parametrize(
    ("value", "gpu", "message"),
    [
        ("", "auto", "is '', which hides every GPU"),
        ("", "GPU-ab", "is '', which hides every GPU"),
        ("-1", "GPU-ab", "is '-1', which hides every GPU"),
        ("GPU-cd", "GPU-ab", "is 'GPU-cd', which hides GPU-ab of the device file"),
    ],
)
def test_a_gpu_that_the_environment_hides_is_not_taken(value: str, gpu: str, message: str) -> None:
    environment = {"CUDA_VISIBLE_DEVICES": value}
    with pytest.raises(program.UnusableError, match=message) as info:
        program.set_visible(gpu, environment)
    assert "unset CUDA_VISIBLE_DEVICES" in info.value.mend
    assert environment == {"CUDA_VISIBLE_DEVICES": value}


# ------------------------------------------------------------------------------------------------ temporary folders


def test_what_a_killed_process_left_goes_with_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    script = (
        "import sys, time\nfrom hwnas.device import scratch\n"
        "with scratch('trial') as folder:\n"
        "    (folder / 'big').write_text('x')\n"
        "    print(folder, flush=True)\n"
        "    time.sleep(100)\n"
    )
    environment = os.environ | {"TMPDIR": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=environment) as child:
        assert child.stdout is not None
        left = Path(child.stdout.readline().strip())
        with program.scratch("other") as mine:
            assert left.is_dir(), "it is still used"
        child.kill()
    assert (left / "big").exists()
    (tmp_path / "hwnas-of-somebody").mkdir()
    with program.scratch("other") as mine:
        assert not left.exists()
        program.sweep(tmp_path)
        assert mine.is_dir()
    assert [path.name for path in tmp_path.iterdir()] == ["hwnas-of-somebody"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux ends a process with its parent")
def test_a_process_that_hangs_ends_with_its_parent(tmp_path: Path) -> None:
    """The parent is killed while the child is deep in a call that never returns."""
    child = (
        "import os, time\nfrom hwnas.device.measure import die_with\n"
        "die_with(os.getppid())\nprint(os.getpid(), flush=True)\ntime.sleep(1000)\n"
    )
    parent = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {child!r}])\n"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(
        [sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        assert Path(f"/proc/{pid}").exists()
        process.kill()
    end = time.monotonic() + 20
    while time.monotonic() < end and _runs(pid):
        time.sleep(0.05)
    assert not _runs(pid)


def test_a_parent_that_is_gone_already_is_noticed() -> None:
    with pytest.raises(program.ParentGoneError):
        program.die_with(os.getppid() + 100_000)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
