"""The arithmetic of the measuring program, with made-up times."""

from __future__ import annotations

import ast
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from hwnas.device import measure as program

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
    assert program.verdict(noise, "strict") == "quiet"


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
    assert [program.verdict(noise, policy) for policy in ("strict", "default", "mark")] == [strict, default, mark]


# ------------------------------------------------------------------------------------------------------- measuring


def steady(value: int) -> Callable[[], NDArray[np.int64]]:
    return lambda: np.array([value] * 3)


def alternating(low: int, high: int) -> Callable[[], NDArray[np.int64]]:
    calls = iter(range(10**6))
    return lambda: np.array([high if next(calls) % 2 else low] * 3)


def collected(
    visits: dict[str, Callable[[], NDArray[np.int64]]], networks: list[str], rounds: int = 4
) -> tuple[dict[str, list[NDArray[np.int64]]], dict[str, Any], list[tuple[int, int]]]:
    seen: list[tuple[int, int]] = []
    taken, noise = program.collect(
        visits,
        networks,
        rounds=rounds,
        rng=np.random.default_rng(0),
        on_round=lambda done, planned: seen.append((done, planned)),
    )
    return taken, noise, seen


def test_a_quiet_machine_is_measured_once() -> None:
    taken, noise, seen = collected({"a": steady(1000), "b": steady(2000)}, ["a", "b"])
    assert {key: len(visits) for key, visits in taken.items()} == {"a": 4, "b": 4}
    assert noise["median"] == 0.0
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_disagreeing_halves_double_the_rounds_twice_and_no_more() -> None:
    taken, noise, seen = collected({"a": alternating(1000, 1100)}, ["a"])
    assert len(taken["a"]) == 16
    assert noise["median"] == pytest.approx(100 / 1050)
    assert [planned for _, planned in seen] == [4] * 4 + [8] * 4 + [16] * 8


def test_the_gate_looks_at_the_networks_only() -> None:
    _, noise, seen = collected({"block": alternating(1000, 1100), "net": steady(5000)}, ["net"])
    assert noise["models"] == 1
    assert len(seen) == 4


def test_every_round_visits_all_models_in_another_order() -> None:
    order: list[str] = []

    def note(key: str) -> Callable[[], NDArray[np.int64]]:
        def one() -> NDArray[np.int64]:
            order.append(key)
            return np.array([1000])

        return one

    keys = [f"m{n}" for n in range(8)]
    collected({key: note(key) for key in keys}, keys)
    rounds = [order[i : i + 8] for i in range(0, 32, 8)]
    assert all(sorted(one) == keys for one in rounds)
    assert len({tuple(one) for one in rounds}) == 4


def test_a_visit_discards_its_first_runs() -> None:
    calls: list[int] = []
    took = program.visit(lambda: calls.append(0), 5)
    assert len(took) == 5
    assert len(calls) == 5 + program.WARM_UP
    assert (took >= 0).all()


def test_quick_models_get_more_runs() -> None:
    slow = program.visits_of({"slow": lambda: sum(range(20000)), "quick": lambda: None}, lambda: None)
    assert (len(slow["slow"]()), len(slow["quick"]())) == (program.RUNS, program.SHORT_RUNS)


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
