"""The measuring program: times model files on the machine it runs on, and says what machine that is.

    python measure.py job.json result.json
    python measure.py --machine [runtime [gpu]]
    python measure.py --runtimes empty.onnx onnxruntime-cpu,torch [gpu]

Standard library, numpy and onnxruntime only, Python 3.9 or newer. It is one file that imports nothing of hwnas, because
it also runs where hwnas is not installed: as a child process here, over ssh, or carried to a board by hand. So what
hwnas itself asks of this machine is written here too, and `hwnas.device` hands it on. Progress goes to the standard
output as JSON lines; the result is a JSON file that appears whole or not at all. A job is

    {"models": [{"key": "a", "path": "a.onnx", "kind": "network"}, ...],  kind: "block", "network" or "reference"
     "batch": 1, "threads": 1, "cores": [1] or null, "rounds": 20, "seed": 0, "on_noise": "default",
     "empty": "empty.onnx" or null, "parent": pid or null,
     "runtime": "onnxruntime-cpu", "gpu": "GPU-..." or "auto" or null}

`runtime` is one of `RUNTIMES`; what it needs beyond numpy and onnxruntime is imported when it is asked for, and it says
what is missing. `--runtimes` tries some of them on an empty model and prints what works.

Paths start at the job's folder. Without `cores` the program chooses them itself, `core` first if the job has one. What
a job says `about` itself is handed back in the result.

It may hold `"limit_s"` (seconds of timing, which are kept; without it about 300, which give way to 8 rounds of 3 runs),
`"schema"` (of this form), `"drop_disturbed"` (false), `"energy"` (true: of the processor, where a
counter can be read), `"gpu_energy"` (the keys of models to read a GPU's counter for, half a minute each; none) and
`"log"`: a file to which each finished round is appended, so that the same job goes on there when it was killed. The job
`{"resident": "a.onnx", "batch": 1, "threads": 1, "seed": 0}` runs one model and tells the memory that takes.

How it measures, and why (numbers from trials on a shared two-core machine):

* All sessions live in one process, and rounds visit all models in a new random order: what drifts hits all alike.
  The same networks timed one after the other differ by 1.2 % at the median, interleaved by 0.14 to 0.4 %.
* A visit is 2 discarded and 12 to 20 timed runs: the first run after other models takes 1.3 to 2.9 times as long.
* The estimate is the lower quartile of all runs pooled. It repeats to 0.4 %, the minimum to 0.6 %, the mean to 1.8 %.
  No run is thrown away. Whole visits are, if the job says so: those in which the system took the core away, and those
  of rounds in which the reference networks were off by more than a tenth. They are counted either way.
* The gate compares each model's even rounds with its odd rounds. If they disagree, the rounds are doubled, twice at
  most; what is still too noisy then is marked, or refused.
* The time is bounded: a pilot tells how long the rounds will take, and slow models get fewer runs, then fewer rounds.
  The clock is looked at after every run, too, as a machine may become slower than its pilot was.
* Each model's rounds are compared with the rounds of all: one that drifts or scatters among steady ones is marked.
* Live sessions are asked what they really run on: a GPU provider that fell back to the CPU is refused. On a GPU the
  result is waited for, events on its own stream give the device's share, and a visit in which the GPU throttled is
  dropped, counted and taken again.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import gc
import hashlib
import importlib
import json
import math
import os
import platform
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # the runtime is loaded when something is run: hwnas.device is free of it
    import onnxruntime

SCHEMA = 1
WARM_UP = 2
SHORT_US = 50.0  # below this a visit takes more runs, so that the clock's grain does not show
RUNS, SHORT_RUNS = 12, 20
FEWEST_RUNS, FEWEST_ROUNDS = 3, 8  # less than that is no distribution; beyond it a limit that nobody set gives way
TWO_ROUNDS = 2  # without a second one nothing tells how noisy the first was; beyond it a limit that was set is an error
PILOT_RUNS, PILOT_NS = 5, 200_000_000
SAID_NS = 2_000_000_000  # a word of progress at least so often, where no single run takes longer
LIMIT_S = 300.0

MEDIAN_LIMIT = 0.01
P95_LIMIT = 0.03
TAU_LIMIT = 0.97
REFUSE_MEDIAN = 0.03  # beyond this not even the default policy takes the numbers
DOUBLINGS = 2
FEWEST_NETWORKS = 5  # with fewer whole networks the gate looks at all models
FACTOR_LIMIT = 0.1  # a round in which the reference networks are further off than this is disturbed
DRIFT_LIMIT, STEAL_LIMIT, SWITCHED_LIMIT = 0.05, 0.05, 0.2  # beyond these a measurement is marked
DRIFT_ERRORS = 4.0  # and one model's drift has to be so many of its own standard errors
UNEVEN_LIMIT = 0.1  # beyond this a single model is marked, whatever the others do
SCATTER_LIMIT, SCATTER_TIMES = 0.5, 5.0  # quartiles further apart than this, and than so many times the others'
SAME_KIND = 0.9  # a core with at least this share of the fastest one's capacity or clock is of its kind
SHOWN_MARKS = 3  # to the person beside the machine; the result holds all
ENERGY_NS = 200_000_000  # RAPL counters step about once in a millisecond: some 200 steps
RESIDENT_RUNS = 5

GPU_WARM_UP_SECONDS = 1.0  # of the first model: the libraries load, and the clock rises and stays up
GPU_NEXT_WARM_UP_SECONDS = 0.1  # of each other: its algorithms are chosen and its memory is taken in its first runs
THROTTLED_VISITS = 5  # in a row, and the measurement is given up
UNUSABLE = 6  # what the process ends with when the runtime or the GPU cannot be used

Floats = NDArray[np.float64]
Run = Callable[[], object]
Clock = Callable[[], int]


# What the process ends with where a line on the error stream is all there is to say.
PARENT_GONE, LOG_DAMAGED, NOT_THIS_MACHINE, NO_RUNTIME, TOO_SLOW, NEWER_JOB = 3, 4, 10, 11, 13, 14


class ParentGoneError(Exception):
    """Whoever asked for the measurement no longer runs."""


class CoresError(Exception):
    """More threads than cores that may be used, or a core that may not.

    Args:
        message: What was asked for and what there is.
        hint: The way out.
    """

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


class TimeLimitError(Exception):
    """A limit that does not allow for two rounds.

    Args:
        message: What the limit is, and how long two rounds take.
        hint: The way out.
    """

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


class TimeUpError(Exception):
    """The time limit was reached in the middle of a round."""


class NewerJobError(Exception):
    """A job of a later version of hwnas than this program."""


class LogError(Exception):
    """The log of rounds is damaged, or of another job."""


class UnusableError(Exception):
    """A runtime or a GPU that cannot be used here.

    Args:
        missing: What was found, and what was expected.
        mend: The way out; a command where there is one.
    """

    def __init__(self, missing: str, *, mend: str) -> None:
        super().__init__(missing)
        self.missing = missing
        self.mend = mend


# ------------------------------------------------------------------------------------------------------ statistics


def summary(runs_ns: NDArray[np.int64], *, visits: int) -> dict[str, float | int]:
    """What is kept of a model's runs, times in microseconds.

    Example:
        >>> summary(np.array([1000, 2000, 3000, 4000, 5000]), visits=1)["p25_us"]
        2.0
    """
    low, p25, median, p75, p90 = (np.percentile(runs_ns, [0, 25, 50, 75, 90]) / 1000).tolist()
    return {
        "p25_us": p25,
        "min_us": low,
        "median_us": median,
        "p90_us": p90,
        "iqr_rel": (p75 - p25) / median,
        "runs": int(runs_ns.size),
        "visits": visits,
    }


def kendall_tau(first: Floats, second: Floats) -> float | None:
    """Kendall's rank correlation (tau-b) of two measurements [n]; None where there is no order.

    Source: Kendall 1945 (Biometrika 33), the form that allows for ties.

    Example:
        >>> kendall_tau(np.array([1.0, 2.0, 3.0]), np.array([1.0, 3.0, 2.0]))
        0.3333333333333333
    """
    pairs = np.triu_indices(len(first), k=1)
    a = np.sign(first[:, None] - first[None, :])[pairs]
    b = np.sign(second[:, None] - second[None, :])[pairs]
    ordered = float(np.sqrt(np.abs(a).sum() * np.abs(b).sum()))
    return float((a * b).sum()) / ordered if ordered else None


def resolved_tau(
    first: Floats, second: Floats, *, resolution: float, by: Floats | None = None
) -> tuple[float | None, float]:
    """Kendall's tau over the pairs that lie further apart than the measurement can resolve, and the share of the rest.

    Models that take nearly the same time change places in any repetition, so in a narrow range of latencies tau is low
    however quiet the machine is. Such pairs are ties. The resolution is what the gate allows, not what was observed:
    a noisy measurement would otherwise excuse itself.

    Args:
        first: Times [n] in one half of the measurement.
        second: Times [n] in the other.
        resolution: Relative difference below which a pair is a tie.
        by: Times [n] whose differences are looked at for that; the means of both by default.

    Returns:
        (tau, share of pairs that are ties); tau is None if all are.

    Example:
        >>> resolved_tau(np.array([100.0, 101.0, 200.0]), np.array([101.0, 100.0, 200.0]), resolution=0.03)
        (1.0, 0.33333333333333337)
    """
    middle = np.log((first + second) / 2 if by is None else by)
    i, j = np.triu_indices(len(first), k=1)
    apart = np.abs(middle[i] - middle[j]) > np.log1p(resolution)
    if not apart.any():
        return None, 1.0
    agree = np.sign(first[i] - first[j]) * np.sign(second[i] - second[j])
    return float(agree[apart].mean()), float(1 - apart.mean())


def noise_of(first: Floats, second: Floats) -> dict[str, float | int | None]:
    """How well two halves of a measurement agree, times [n] each.

    Returns:
        `median` and `p95` of the relative differences; `tau` of all pairs; `resolved_tau` of those further apart than
        3 %, and `close_pairs`, the share of the others; `models`, how many were compared.
    """
    difference = np.abs(first - second) / ((first + second) / 2)
    resolved, close = resolved_tau(first, second, resolution=P95_LIMIT)
    return {
        "median": float(np.median(difference)),
        "p95": float(np.percentile(difference, 95)),
        "tau": kendall_tau(first, second),
        "resolved_tau": resolved,
        "close_pairs": close,
        "models": len(first),
    }


def is_quiet(noise: Mapping[str, Any]) -> bool:
    """Whether the gate passes."""
    tau = noise["resolved_tau"]
    return noise["median"] <= MEDIAN_LIMIT and noise["p95"] <= P95_LIMIT and (tau is None or tau >= TAU_LIMIT)


def verdict(noise: Mapping[str, Any] | None, on_noise: str, *, marks: Sequence[str]) -> str:
    """What to do with a measurement, by its noise and its marks.

    Args:
        noise: As `noise_of` returns it; None if nothing could be timed.
        on_noise: "strict" refuses whatever does not pass the gate, "default" only what differs by more than 3 % at the
            median, "mark" nothing.
        marks: Of the machine and of single models. The gate cannot see what disturbs both halves alike.

    Returns:
        "quiet": the halves agree and there is no mark; "marked": they agree, and there are marks; "noisy": they do not
        agree, the times may be used but must be marked; "refused"; "untimed": there is nothing to judge.

    Example:
        >>> verdict({"median": 0.02, "p95": 0.02, "resolved_tau": None}, "default", marks=[])
        'noisy'
        >>> verdict({"median": 0.0, "p95": 0.0, "resolved_tau": None}, "default", marks=["busy: the load was 7.5"])
        'marked'
    """
    if noise is None:
        return "untimed"
    if is_quiet(noise):
        return "marked" if marks else "quiet"
    refused = {"strict": True, "default": noise["median"] > REFUSE_MEDIAN, "mark": False}[on_noise]
    return "refused" if refused else "noisy"


def all_marks(conditions: Mapping[str, Any]) -> list[str]:
    """The marks of the machine and those of single models, each with its key.

    Example:
        >>> all_marks({"marks": ["busy: the load was 7.5"], "row_marks": {"a": "uneven: by 20%"}})
        ['busy: the load was 7.5', 'a: uneven: by 20%']
    """
    rows: Mapping[str, str] = conditions.get("row_marks", {})
    return [*conditions.get("marks", ()), *(f"{key}: {mark}" for key, mark in sorted(rows.items()))]


# ------------------------------------------------------------------------------------------------------- measuring


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    Attributes:
        rounds: To begin with.
        runs: Timed runs in a visit, by key.
        seconds: What those rounds will take, by the pilot; see `expected_s` for a machine that is busy.
        limit_s: What all rounds may take; doubling stops there.
        capped: Whether slow models got fewer runs or rounds than asked for.
        kept: Whether the limit is kept whatever comes; if not it gives way to 8 rounds of 3 runs.
    """

    rounds: int
    runs: dict[str, int]
    seconds: float
    limit_s: float
    capped: bool
    kept: bool = False

    @property
    def fewest_rounds(self) -> int:
        """Rounds that are done even when the time is up, as far as the limit gives way."""
        return TWO_ROUNDS if self.kept else FEWEST_ROUNDS


def plan_for(pilots_us: Mapping[str, float], *, rounds: int, limit_s: float, kept: bool = False) -> Plan:
    """Fit the rounds into a time limit.

    The longest visits are shortened first, down to 3 timed runs: a slow model's first run differs least from the next.
    Then the rounds become fewer, down to 8, and where the limit is to be kept down to 2. Without that, what still takes
    longer takes longer, and the plan says how long.

    Args:
        pilots_us: How long a run of each model takes.
        rounds: Asked for.
        limit_s: Seconds for all of them.
        kept: Whether somebody asked for that limit, so that it is kept.

    Raises:
        TimeLimitError: If it is to be kept, and not even two rounds fit.

    Example:
        >>> plan = plan_for({"quick": 10.0, "slow": 200e3}, rounds=20, limit_s=30.0)
        >>> plan.rounds, plan.runs, round(plan.seconds), plan.capped
        (20, {'quick': 20, 'slow': 5}, 28, True)
    """
    full = {key: SHORT_RUNS if us < SHORT_US else RUNS for key, us in pilots_us.items()}

    def seconds(runs: Mapping[str, int], rounds: int) -> float:
        return rounds * sum((WARM_UP + runs[key]) * us for key, us in pilots_us.items()) / 1e6

    runs, visit_us = full, max(((WARM_UP + full[key]) * us for key, us in pilots_us.items()), default=0.0)
    while seconds(runs, rounds) > limit_s and any(n > FEWEST_RUNS for n in runs.values()):
        visit_us *= 0.9
        runs = {
            key: min(full[key], max(FEWEST_RUNS, int(visit_us / us) - WARM_UP)) for key, us in sorted(pilots_us.items())
        }
    fitting = rounds
    if seconds(runs, rounds) > limit_s:
        fitting = int(rounds * limit_s / seconds(runs, rounds))
        fewest = min(rounds, TWO_ROUNDS if kept else FEWEST_ROUNDS)
        fitting = max(fewest, fitting - fitting % 2)
    if kept and seconds(runs, fitting) > limit_s:
        raise TimeLimitError(*_too_slow(limit_s, seconds(runs, fitting), f"two rounds of {len(pilots_us)} models"))
    return Plan(fitting, runs, seconds(runs, fitting), limit_s, capped=runs != full or fitting != rounds, kept=kept)


def _too_slow(limit_s: float, seconds: float, what: str) -> tuple[str, str]:
    """What is wrong with a limit that is too short for something, and the way out."""
    return (
        f"limit_s is {limit_s:g}, and {what} take about {seconds:.0f} s",
        f"allow for more, as hwnas profile --limit-s {math.ceil(1.5 * seconds)}, or set no limit",
    )


@dataclass(frozen=True)
class Round:
    """One pass over all models.

    Attributes:
        runs_ns: Of each model's visit, by key.
        switched: Keys of the visits in which the system took the core away.
        empty_ns: Runs of the model that does nothing.
        load: Average at the end; None if unknown.
        took_ns: In all.
        process: Counts the processes that worked on the job.
        on_device: By key, the times on a GPU [runs, 2], see `CudaStream.last`; empty where none works.
    """

    runs_ns: dict[str, NDArray[np.int64]]
    switched: frozenset[str]
    empty_ns: NDArray[np.int64]
    load: float | None
    took_ns: int
    process: int
    on_device: dict[str, NDArray[np.int64]] = field(default_factory=dict)


def visit(run: Run, runs: int, clock: Clock, *, end_ns: float = math.inf) -> NDArray[np.int64]:
    """The nanoseconds of some runs in a row, after a few that are not counted.

    Args:
        run: What is timed.
        runs: That are timed.
        clock: Nanoseconds.
        end_ns: When the time is up.

    Raises:
        TimeUpError: If it is.
    """
    for _ in range(WARM_UP):
        run()
        if clock() > end_ns:
            raise TimeUpError
    took = np.empty(runs, dtype=np.int64)
    for i in range(runs):
        start = clock()
        run()
        stop = clock()
        took[i] = stop - start
        if stop > end_ns:
            raise TimeUpError
    return took


def pilot_us(run: Run, clock: Clock) -> tuple[float, float]:
    """About how long a run takes: the fastest and the mean of five, or of those that fit into 0.2 s.

    The fastest says what the model needs; the mean, what a run costs here and now, the first after others included.
    """
    fastest, spent, runs = float("inf"), 0, 0
    while runs < PILOT_RUNS and spent <= PILOT_NS:
        start = clock()
        run()
        took = clock() - start
        fastest, spent, runs = min(fastest, took), spent + took, runs + 1
    return max(fastest, 1.0) / 1000, max(spent / runs, 1.0) / 1000


def expected_s(plan: Plan, means_us: Mapping[str, float]) -> float:
    """How long the rounds of a plan will take, at what runs cost on this machine as busy as it is.

    Example:
        >>> expected_s(Plan(20, {"a": 12}, 0.28, 300.0, capped=False), {"a": 1500.0})
        0.42
    """
    return plan.rounds * sum((WARM_UP + plan.runs[key]) * us for key, us in means_us.items()) / 1e6


def quartiles_of(rounds: Sequence[Round], key: str) -> Floats:
    """The lower quartile of a model's runs in each round [rounds], in nanoseconds."""
    visits = [one.runs_ns[key] for one in rounds]
    if len({len(runs) for runs in visits}) == 1:  # at once: thousands of small calls take long on a board
        return np.asarray(np.percentile(np.stack(visits), 25, axis=1), dtype=np.float64)
    return np.array([np.percentile(runs, 25) for runs in visits], dtype=np.float64)


def round_factors(rounds: Sequence[Round], keys: Sequence[str]) -> Floats:
    """How much longer these models took in each round than over all rounds, at the median [rounds].

    Example:
        >>> times = [np.array([ns]) for ns in (100, 100, 100, 150)]
        >>> rounds = [Round({"a": runs_ns}, frozenset(), np.array([]), None, 0, 1) for runs_ns in times]
        >>> round_factors(rounds, ["a"]).tolist()
        [1.0, 1.0, 1.0, 1.5]
    """
    ratios = []
    for key in keys:
        times = quartiles_of(rounds, key)
        ratios.append(times / np.median(times))
    factors: Floats = np.median(np.array(ratios), axis=0)
    return factors


def disturbed_visits(rounds: Sequence[Round], references: Sequence[str]) -> dict[str, NDArray[np.bool_]]:
    """Which visits of each model were disturbed: by a switch, or in a round with the references off by a tenth."""
    off = np.abs(round_factors(rounds, references) - 1) > FACTOR_LIMIT
    return {key: off | np.array([key in one.switched for one in rounds]) for key in sorted(rounds[0].runs_ns)}


def kept_visits(disturbed: NDArray[np.bool_], *, drop: bool) -> NDArray[np.bool_]:
    """Which visits of a model count.

    Where every other visit or more was disturbed, among the even rounds or the odd ones, all are kept: the rest would
    be a sample of nothing, and the gate has to say what the numbers are worth.

    Example:
        >>> kept_visits(np.array([True, False, False, False, False, False]), drop=True).tolist()
        [False, True, True, True, True, True]
        >>> kept_visits(np.array([True, False, False, False]), drop=True).tolist()
        [True, True, True, True]
    """
    if not drop or any(half.mean() >= 0.5 for half in (disturbed[0::2], disturbed[1::2]) if half.size):
        return np.ones(len(disturbed), dtype=np.bool_)
    return ~disturbed


def pooled(rounds: Sequence[Round], key: str, kept: NDArray[np.bool_], half: slice = slice(None)) -> NDArray[np.int64]:
    """All runs of a model in the visits that count, of all rounds or of a half of them."""
    runs: NDArray[np.int64] = np.concatenate([one.runs_ns[key] for one, keep in zip(rounds[half], kept[half]) if keep])
    return runs


def drift_of(factors: Floats) -> float | None:
    """How much longer the last third of the rounds took than the first; None with fewer than six rounds.

    Example:
        >>> drift_of(np.array([1.0, 1.0, 1.0, 1.1, 1.1, 1.1]))
        1.1
    """
    third = len(factors) // 3
    return float(np.median(factors[-third:]) / np.median(factors[:third])) if third >= 2 else None


def row_marks(rounds: Sequence[Round]) -> dict[str, str]:
    """What a reader of single models' numbers should know, by key; empty where all were as steady as the machine.

    The factor of each round, the median over all models, is taken out first: what all do together is the machine's.

    Args:
        rounds: All of them, of the same models.

    Example:
        >>> rounds = [
        ...     Round({"a": np.array([100]), "b": np.array([200]), "c": np.array([300 + 10 * n])},
        ...           frozenset(), np.array([]), None, 0, 1)
        ...     for n in range(9)
        ... ]
        >>> row_marks(rounds)
        {'c': 'drifting: its last rounds took 1.19 times as long as its first, while all together did not'}
    """
    keys = sorted(rounds[0].runs_ns) if rounds else []
    if not keys:
        return {}
    factors = round_factors(rounds, keys)
    scatters = {key: summary(np.concatenate([one.runs_ns[key] for one in rounds]), visits=1)["iqr_rel"] for key in keys}
    usual = float(np.median(list(scatters.values())))
    marks = {}
    for key in keys:
        times = quartiles_of(rounds, key) / factors
        even, odd = (float(np.percentile(times[half::2], 25)) for half in (0, 1)) if len(times) > 1 else (1.0, 1.0)
        if (drifted := drift_of(times)) is not None and _is_drift(drifted, times):
            marks[key] = (
                f"drifting: its last rounds took {drifted:.2f} times as long as its first, while all together did not"
            )
        elif abs(even - odd) / ((even + odd) / 2) > UNEVEN_LIMIT:
            marks[key] = f"uneven: its even and its odd rounds differ by {abs(even - odd) / ((even + odd) / 2):.0%}"
        elif scatters[key] > max(SCATTER_LIMIT, SCATTER_TIMES * usual):
            marks[key] = f"scattered: half of its runs lie {scatters[key]:.0%} apart, of all models {usual:.0%}"
    return marks


def _is_drift(drifted: float, times: Floats) -> bool:
    """Whether a drift is more than the difference of two medians that such rounds would show anyway."""
    # From one round to the next, so that a drift does not count as noise.
    deviation = 1.4826 * float(np.median(np.abs(np.diff(times)))) / math.sqrt(2) / float(np.median(times))
    error = math.sqrt(2) * 1.2533 * deviation / math.sqrt(len(times) // 3)
    return abs(drifted - 1) > max(DRIFT_LIMIT, DRIFT_ERRORS * error)


def collect(
    one_round: Callable[[int], Round],
    networks: Sequence[str],
    references: Sequence[str],
    *,
    plan: Plan,
    done: Sequence[Round] = (),
    drop: bool = False,
    on_round: Callable[[Round, int, int], None],
) -> tuple[list[Round], dict[str, NDArray[np.bool_]], dict[str, float | int | None]]:
    """Go through rounds until the halves agree, the rounds have been doubled twice, or the time is up.

    Args:
        one_round: Does the round of that number, from 1; raises `TimeUpError` where a limit that is kept is reached.
        networks: The models that the gate looks at.
        references: The models that tell a disturbed round.
        plan: Rounds to begin with, and the limit.
        done: Rounds of an earlier process.
        drop: Whether disturbed visits are left out.
        on_round: Called with each new round, its number and the rounds planned.

    Returns:
        The rounds, per model which of its visits count, and the noise of the networks.

    Raises:
        TimeUpError: If a limit that is kept was reached before there were two rounds.
    """
    rounds = list(done)

    def spent_s() -> float:
        return sum(one.took_ns for one in rounds) / 1e9

    over = False
    for doubling in range(DOUBLINGS + 1):
        planned = plan.rounds * 2**doubling
        if doubling and (over or spent_s() * planned / len(rounds) > plan.limit_s):
            break
        while len(rounds) < planned and not over:
            try:
                one = one_round(len(rounds) + 1)
            except TimeUpError:
                if len(rounds) < TWO_ROUNDS:
                    raise
                over = True
                break
            rounds.append(one)
            on_round(one, len(rounds), planned)
            over = len(rounds) >= plan.fewest_rounds and spent_s() > plan.limit_s
        disturbed = disturbed_visits(rounds, references)
        kept = {key: kept_visits(marks, drop=drop) for key, marks in disturbed.items()}
        first, second = (
            np.array([np.percentile(pooled(rounds, key, kept[key], slice(half, None, 2)), 25) for key in networks])
            for half in (0, 1)
        )
        noise = noise_of(first, second)
        if is_quiet(noise):
            break
    return rounds, kept, noise


# ------------------------------------------------------------------------------------------------------------- log


def identity_of(job: Mapping[str, Any], runtime: Mapping[str, Any]) -> str:
    """What makes two jobs the same: what is measured, and how; not where the files lie.

    Args:
        job: As a map.
        runtime: What `Runtime.identity` says.

    Raises:
        OSError: If a model's file cannot be read.
    """
    models = [
        [model["key"], model["kind"], hashlib.sha256(Path(model["path"]).read_bytes()).hexdigest()]
        for model in job["models"]
        if Path(model["path"]).is_file()
    ]
    parts = [models, [job[name] for name in ("batch", "threads", "cores", "rounds", "seed")]]
    parts += [[*(runtime[name] for name in ("name", "version", "provider")), job.get("gpu")]]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def read_lines(path: Path) -> list[dict[str, Any]]:
    r"""The lines of a log. Half a last line, which is what a killed process leaves, is cut off the file.

    Raises:
        LogError: If another line is damaged; names its number.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "log.jsonl"
        >>> _ = path.write_text('{"a": 1}\n{"a":')
        >>> read_lines(path), path.read_text()
        ([{'a': 1}], '{"a": 1}\n')
    """
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        with path.open("r+b") as file:
            file.truncate(whole)
    lines = []
    for number, line in enumerate(content[:whole].splitlines(), start=1):
        try:
            value = json.loads(line)
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise LogError(f"{path}: line {number} is damaged; delete the file to measure afresh")
        lines.append(value)
    return lines


def _newer(schema: object) -> bool:
    """Whether that is the number of a later form than this program's."""
    return isinstance(schema, int) and schema > SCHEMA


class Log:
    """Finished rounds in a file of JSON lines that is only ever appended to.

    Args:
        path: Of the file; None keeps nothing.
        identity: Of the job.
        keys: Of the models that could be loaded.

    Raises:
        LogError: If the file is damaged, or of another job.
    """

    def __init__(self, path: Path | None, *, identity: str, keys: Sequence[str]) -> None:
        self.path, self.keys = path, sorted(keys)
        self.plan: Plan | None = None
        self.rounds: list[Round] = []
        lines = read_lines(path) if path is not None and path.is_file() else []
        if lines and _newer(lines[0].get("schema")):
            raise LogError(
                f"{path}: line 1 is of schema {lines[0]['schema']}, of a later hwnas; this one reads up to {SCHEMA}; "
                "upgrade hwnas, or delete the file to measure afresh"
            )
        if lines and (lines[0].get("job") != identity or lines[0].get("keys") != self.keys):
            raise LogError(f"{path}: line 1 is of another measurement; delete the file to measure afresh")
        try:
            self.plan = Plan(**lines[0]["plan"]) if lines else None
        except (KeyError, TypeError) as error:
            raise LogError(f"{path}: line 1 is damaged; delete the file to measure afresh") from error
        for number, line in enumerate(lines[1:], start=2):
            try:
                self.rounds.append(self._round(line))
            except (KeyError, TypeError, ValueError) as error:
                raise LogError(f"{path}: line {number} is damaged; delete the file to measure afresh") from error
            if line["round"] != len(self.rounds):
                raise LogError(f"{path}: line {number} is round {line['round']}; expected {len(self.rounds)}")
        self.process = max((one.process for one in self.rounds), default=0) + 1
        self._identity = identity

    def _round(self, line: Mapping[str, Any]) -> Round:
        visits = [np.array(runs, dtype=np.int64) for runs in line["runs_ns"]]
        # Python 3.9 knows no strict zip.
        if len(visits) != len(self.keys) or not all(runs.ndim == 1 and runs.size for runs in visits):
            raise ValueError("a visit without runs")
        return Round(
            dict(zip(self.keys, visits)),
            frozenset(self.keys[i] for i in line["switched"]),
            np.array(line["empty_ns"], dtype=np.int64),
            line["load"],
            int(line["took_ns"]),
            int(line["process"]),
            {key: np.array(times, dtype=np.int64) for key, times in line.get("on_device", {}).items()},
        )

    def begin(self, plan: Plan) -> None:
        """Write down what is going to be measured, unless that was done by an earlier process."""
        if self.plan is None:
            self.plan = plan
            self._append({"schema": SCHEMA, "job": self._identity, "keys": self.keys, "plan": vars(plan)})

    def append(self, one: Round) -> None:
        """Add a round, in the file for good."""
        self.rounds.append(one)
        self._append({
            "round": len(self.rounds),
            "process": one.process,
            "load": one.load,
            "took_ns": one.took_ns,
            "switched": [i for i, key in enumerate(self.keys) if key in one.switched],
            "empty_ns": one.empty_ns.tolist(),
            "runs_ns": [one.runs_ns[key].tolist() for key in self.keys],
            **({"on_device": {key: one.on_device[key].tolist() for key in self.keys}} if one.on_device else {}),
        })

    def _append(self, line: Mapping[str, Any]) -> None:
        if self.path is None:
            return
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, separators=(",", ":")) + "\n")
            file.flush()
            os.fsync(file.fileno())


# -------------------------------------------------------------------------------------------------------- runtimes


class Runtime(Protocol):
    """What loads model files and runs them, and can say what it is.

    Attributes:
        stream: What times runs on the GPU, besides the host's clock; None where the CPU does the work, or the GPU's
            share cannot be told.
        gpu: UUID of the GPU, as the driver writes it without "GPU-" or "MIG-"; None on the CPU.
    """

    stream: CudaStream | None
    gpu: str | None

    def load(self, path: str, *, batch: int, seed: int) -> Run:
        """A call that runs one model once on one fixed normal input and returns when the result is there."""
        ...

    def identity(self) -> dict[str, Any]:
        """What the sessions loaded so far really are: version, provider, every option."""
        ...


def fixed_input(name: str, dimensions: Sequence[object], *, batch: int, seed: int) -> NDArray[np.float32]:
    """One normal image batch; equal seeds and shapes make equal ones.

    Raises:
        ValueError: If the dimensions are not those of an image batch of known size.
    """
    shape = [batch if dimension == "batch" else dimension for dimension in dimensions]
    sizes = [size for size in shape if isinstance(size, int)]
    if len(sizes) != len(shape) or sizes[:1] != [batch]:
        raise ValueError(f"input {name} is {list(dimensions)}; expected batch {batch} and fixed sizes")
    return np.random.default_rng([seed, *sizes]).standard_normal(sizes, dtype=np.float32)


def check_finite(outputs: Sequence[Any]) -> None:
    """That a model makes numbers.

    Raises:
        ValueError: If it does not.
    """
    if not all(np.isfinite(output).all() for output in outputs):
        raise ValueError("an output is not finite")


def session_options(*, threads: int, batch: int) -> onnxruntime.SessionOptions:
    """As a careful deployment would set them: explicit threads, no spinning, no profiling, all optimisations."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    options.enable_cpu_mem_arena = True
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Random weights can make denormal numbers, which are 5 to 30 times slower and say nothing of the architecture.
    options.add_session_config_entry("session.set_denormal_as_zero", "1")
    options.add_free_dimension_override_by_name("batch", batch)
    return options


def image_for(session: Any, *, batch: int, seed: int) -> dict[str, NDArray[np.float32]]:
    """One fixed normal input of an onnxruntime session.

    Raises:
        ValueError: If the model does not take one image batch of known size.
    """
    inputs = session.get_inputs()
    if len(inputs) != 1 or inputs[0].type != "tensor(float)":
        raise ValueError(f"has inputs {[(i.name, i.type) for i in inputs]}; expected one of type tensor(float)")
    return {inputs[0].name: fixed_input(inputs[0].name, inputs[0].shape, batch=batch, seed=seed)}


PROVIDERS = {
    "onnxruntime-cpu": "CPUExecutionProvider",
    "onnxruntime-cuda": "CUDAExecutionProvider",
    "onnxruntime-tensorrt": "TensorrtExecutionProvider",
}


def providers_for(name: str, *, stream: int | None) -> list[tuple[str, dict[str, str]]]:
    """The providers of a session in the order in which they may take operators, every option that moves times explicit.

    The CPU is never listed behind a GPU: what only it can run must be told, not run there. TF32 is off, as a device
    file says float32.

    Example:
        >>> providers_for("onnxruntime-cpu", stream=None)
        [('CPUExecutionProvider', {})]
    """
    if name == "onnxruntime-cpu":
        return [(PROVIDERS[name], {})]
    # The GPU that was asked for is the only visible one, and so the first.
    common = {"device_id": "0", "user_compute_stream": str(stream)}
    cuda = common | {
        "cudnn_conv_algo_search": "EXHAUSTIVE",
        "cudnn_conv_use_max_workspace": "1",
        "do_copy_in_default_stream": "1",
        "arena_extend_strategy": "kNextPowerOfTwo",
        "use_tf32": "0",
    }
    if name == "onnxruntime-cuda":
        return [("CUDAExecutionProvider", cuda)]
    tensorrt = common | {
        "trt_max_workspace_size": str(1 << 30),
        "trt_fp16_enable": "0",
        "trt_int8_enable": "0",
        "trt_engine_cache_enable": "0",
        "trt_builder_optimization_level": "3",
    }
    return [("TensorrtExecutionProvider", tensorrt), ("CUDAExecutionProvider", cuda)]


class OnnxRuntime:
    """onnxruntime with one execution provider; a session that runs anything on the CPU instead of a GPU is refused.

    Args:
        name: One of `PROVIDERS`.
        threads: Within an operator.
        batch: Images per run.
        gpu: A UUID, "auto", or None on the CPU.
        ort: The module onnxruntime; another object in tests.
        open_stream: Opens the GPU; another in tests.

    Raises:
        UnusableError: If this build of onnxruntime lacks the provider, or the GPU cannot be used.
    """

    def __init__(
        self,
        name: str,
        *,
        threads: int,
        batch: int,
        gpu: str | None,
        ort: Any = None,
        open_stream: Callable[[str], CudaStream] | None = None,
    ) -> None:
        self._ort = importlib.import_module("onnxruntime") if ort is None else ort
        self._name, self._threads, self._provider = name, threads, PROVIDERS[name]
        self.stream: CudaStream | None = None
        self.gpu: str | None = None
        available = self._ort.get_available_providers()
        if self._provider not in available:
            raise UnusableError(
                f"onnxruntime {self._ort.__version__} has no {self._provider}; it has {', '.join(available)}",
                mend="pip uninstall -y onnxruntime && pip install onnxruntime-gpu",
            )
        if name != "onnxruntime-cpu":
            self.stream = (open_stream or CudaStream.open)(gpu or "auto")
            self.gpu = self.stream.uuid
            # CUDA's and cuDNN's own packages, if pip installed them: the system's loader does not look there.
            preload = getattr(self._ort, "preload_dlls", None)
            if preload is not None:
                with contextlib.redirect_stdout(sys.stderr):  # it prints what it did not find
                    preload()
            # Errors only: it warns in every session that there is no plug-in for CUDA, which is built in.
            self._ort.set_default_logger_severity(3)
        self._options = session_options(threads=threads, batch=batch)
        # Newer versions can say which operator went where; older ones can only be forbidden to use the CPU.
        self._tells = "get_provider_graph_assignment_info" in dir(self._ort.InferenceSession)
        if self.stream is not None:
            entry = "session.record_ep_graph_assignment_info" if self._tells else "session.disable_cpu_ep_fallback"
            self._options.add_session_config_entry(entry, "1")
        self._read_back: dict[str, dict[str, str]] = {}

    def load(self, path: str, *, batch: int, seed: int) -> Run:
        """See `Runtime`.

        Raises:
            UnusableError: If the live session is not on the provider that was asked for.
            ValueError: If operators were given to the CPU, the input is not one image batch of known size, or an
                output is not finite.
        """
        stream = self.stream
        wanted = providers_for(self._name, stream=None if stream is None else stream.pointer)
        session = self._ort.InferenceSession(path, self._options, providers=wanted)
        session.disable_fallback()  # or an error at a later run would quietly open a CPU session
        self._check_live(session)
        feed = image_for(session, batch=batch, seed=seed)
        if stream is None:
            run: Run = functools.partial(session.run, None, feed)
            check_finite(session.run(None, feed))
            return run
        [(name, image)] = feed.items()
        binding = session.io_binding()
        binding.bind_ortvalue_input(name, self._ort.OrtValue.ortvalue_from_numpy(image, "cuda", 0))
        for output in session.get_outputs():
            binding.bind_output(output.name, "cuda", 0)
        # The stream waits itself, after its second event: else the device's time would hold the host's wait.
        options = self._ort.RunOptions()
        options.add_run_config_entry("disable_synchronize_execution_providers", "1")

        def run_on_gpu() -> None:
            stream.start()
            session.run_with_iobinding(binding, options)
            stream.stop()

        run_on_gpu()
        check_finite(binding.copy_outputs_to_cpu())
        return run_on_gpu

    def _check_live(self, session: Any) -> None:
        live = session.get_providers()
        if live[:1] != [self._provider]:
            raise UnusableError(
                f"{self._name} was asked for, and the live session runs on {', '.join(live)}: {self._provider} could "
                "not be loaded",
                mend="pip install 'onnxruntime-gpu[cuda,cudnn]', or the versions of CUDA, cuDNN and TensorRT that "
                "onnxruntime's install page names for it",
            )
        self._read_back = {
            provider: {key: str(value) for key, value in sorted(options.items())}
            for provider, options in session.get_provider_options().items()
            if provider != "CPUExecutionProvider" or self.stream is None
        }
        if self.stream is not None and self._tells:
            lost = sorted({
                f"{node.domain or 'ai.onnx'}::{node.op_type}"
                for part in session.get_provider_graph_assignment_info()
                if part.ep_name == "CPUExecutionProvider"
                for node in part.get_nodes()
            })
            if lost:
                raise ValueError(f"{self._provider} cannot run {', '.join(lost)}: onnxruntime gave it to the CPU")

    def identity(self) -> dict[str, Any]:
        """See `Runtime`."""
        options = self._read_back.get(self._provider, {})
        build = getattr(self._ort, "get_build_info", None)
        return {
            "name": self._name,
            "version": str(self._ort.__version__),
            "onnxruntime": str(self._ort.__version__),
            "provider": self._provider,
            "optimization_level": "all",
            "intra_op_threads": self._threads,
            "inter_op_threads": 1,
            "spinning": False,
            "denormals_as_zero": True,
            # The stream's address is another in every process and says nothing.
            "options": {key: value for key, value in options.items() if key != "user_compute_stream"},
            "build": None if build is None else str(build()),
            "arena": True,
            "graph_capture": False,
        }


class TorchRuntime:
    """torch, for comparison: a `.pt2` file of torch.export, its operators called one by one, or compiled.

    Args:
        name: "torch" or "torch-compile"; the latter needs a C++ compiler and takes seconds per model.
        threads: Within an operator.
        gpu: A UUID, "auto", or None on the CPU.
        open_stream: Opens the GPU; another in tests.

    Raises:
        UnusableError: If torch, a compiler or the GPU is missing.
    """

    def __init__(
        self, name: str, *, threads: int, gpu: str | None, open_stream: Callable[[str], CudaStream] | None = None
    ) -> None:
        found = compiler()
        if name == "torch-compile" and found is None:
            raise UnusableError(
                "torch.compile needs a C++ compiler; none of CXX, c++, g++, clang++ and cl is there",
                mend='apt-get install g++ (or your system\'s package of it), or runtime = "torch"',
            )
        # Read when torch is imported: idle threads wait, and compile workers do not stay beside the measurement.
        os.environ |= {"OMP_WAIT_POLICY": "PASSIVE", "TORCHINDUCTOR_COMPILE_THREADS": "1"}
        self._torch = torch = imported("torch", mend="pip install torch")
        self._name, self._threads = name, threads
        self.stream: CudaStream | None = None
        self.gpu: str | None = None
        self._device = "cpu"
        torch.set_num_threads(threads)
        torch.set_grad_enabled(False)
        self._flushed = bool(torch.set_flush_denormal(True))
        self._options = {"grad": "off"}
        if name == "torch-compile":
            self._options["compiler"] = str(found)
        if gpu is not None:
            self._open_gpu(gpu, open_stream or CudaStream.open)

    def _open_gpu(self, gpu: str, open_stream: Callable[[str], CudaStream]) -> None:
        torch = self._torch
        if torch.version.cuda is None:
            raise UnusableError(
                f"torch {torch.__version__} is built without CUDA", mend="pip install torch, of a CUDA index"
            )
        self.stream = open_stream(gpu)
        self.gpu, self._device = self.stream.uuid, "cuda"
        torch.set_float32_matmul_precision("highest")
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.benchmark = True  # searches algorithms, as onnxruntime is told to
        torch.cuda.set_stream(torch.cuda.ExternalStream(self.stream.pointer))
        self._options |= {
            "use_tf32": "0",
            "cudnn_benchmark": "1",
            "cuda": str(torch.version.cuda),
            "cudnn": str(torch.backends.cudnn.version()),
        }

    def load(self, path: str, *, batch: int, seed: int) -> Run:
        """See `Runtime`.

        Raises:
            ValueError: If the file is no program of one image batch, or an output is not finite.
        """
        torch = self._torch
        program = torch.export.load(path)
        # The flat graph, called with its weights: `program.module()` adds 0.2 ms of checks and packing to every call.
        values = {**program.state_dict, **program.constants}
        signature = program.graph_signature
        if len(signature.user_inputs) != 1 or signature.buffers_to_mutate:
            raise ValueError(f"takes {len(signature.user_inputs)} inputs; expected one, and no buffer that changes")
        shapes = {node.name: node.meta["val"] for node in program.graph.nodes if node.op == "placeholder"}
        [name] = signature.user_inputs
        if shapes[name].dtype != torch.float32:
            raise ValueError(f"input {name} is {shapes[name].dtype}; expected torch.float32")
        image = fixed_input(name, [int(size) for size in shapes[name].shape], batch=batch, seed=seed)
        flat = [
            torch.from_numpy(image) if spec.kind.name == "USER_INPUT" else values[spec.target].detach()
            for spec in signature.input_specs
        ]
        arguments = [value.to(self._device) for value in flat]
        call = program.graph_module
        if self._name == "torch-compile":
            call = torch.compile(call, dynamic=False, fullgraph=True)
        stream = self.stream
        run: Run = functools.partial(call, *arguments)
        if stream is not None:

            def run_on_gpu() -> None:
                stream.start()
                call(*arguments)
                stream.stop()

            run = run_on_gpu
        check_finite([output.cpu().numpy() for output in call(*arguments)])
        return run

    def identity(self) -> dict[str, Any]:
        """See `Runtime`."""
        return {
            "name": self._name,
            "version": str(self._torch.__version__).split("+")[0],  # the build, as "+cu130", is not in the package's
            "onnxruntime": None,
            "provider": self._device,
            "optimization_level": "inductor" if self._name == "torch-compile" else "none",
            "intra_op_threads": self._threads,
            "inter_op_threads": 1,
            "spinning": False,
            "denormals_as_zero": self._flushed,
            "options": dict(self._options),
            "build": None,
            "arena": None,
            "graph_capture": False,
        }


class OpenVino:
    """OpenVINO on the CPU: one stream, float32 (it would choose bfloat16 itself where the CPU has it).

    Raises:
        UnusableError: If openvino is not installed.
    """

    stream: CudaStream | None = None
    gpu: str | None = None

    def __init__(self, *, threads: int) -> None:
        self._openvino = imported("openvino", mend='pip install "hwnas[openvino]"')
        self._threads = threads
        self._core = self._openvino.Core()
        self._asked = {
            "INFERENCE_PRECISION_HINT": "f32",
            "NUM_STREAMS": "1",
            "INFERENCE_NUM_THREADS": str(threads),
            "ENABLE_CPU_PINNING": "NO",  # the program pins itself
        }
        self._read_back: dict[str, str] = {}
        self._devices: list[str] = []

    def load(self, path: str, *, batch: int, seed: int) -> Run:
        """See `Runtime`.

        Raises:
            UnusableError: If the compiled model does not run on the CPU.
            ValueError: If the input is not one image batch of known size, or an output is not finite.
        """
        model = self._core.read_model(path)
        if len(model.inputs) != 1 or model.input().get_element_type().get_type_name() != "f32":
            types = [(i.get_any_name(), i.get_element_type().get_type_name()) for i in model.inputs]
            raise ValueError(f"has inputs {types}; expected one of type f32")
        partial = model.input().get_partial_shape()
        sizes = [part.get_length() if part.is_static else "?" for part in partial]
        name = model.input().get_any_name()
        image = fixed_input(name, [batch if sizes[:1] == ["?"] else sizes[0], *sizes[1:]], batch=batch, seed=seed)
        model.reshape(list(image.shape))
        compiled = self._core.compile_model(model, "CPU", self._asked)
        self._devices = [str(device) for device in compiled.get_property("EXECUTION_DEVICES")]
        if self._devices != ["CPU"]:
            raise UnusableError(f"openvino runs on {self._devices}; expected CPU", mend='runtime = "onnxruntime-cpu"')
        self._read_back = {name: self._text(compiled.get_property(name)) for name in sorted(self._asked)}
        request = compiled.create_infer_request()
        request.set_input_tensor(self._openvino.Tensor(image))
        request.infer()
        check_finite([output.data for output in request.output_tensors])
        run: Run = request.infer
        return run

    def _text(self, value: Any) -> str:
        return str(value.get_type_name() if isinstance(value, self._openvino.Type) else value)

    def identity(self) -> dict[str, Any]:
        """See `Runtime`."""
        return {
            "name": "openvino",
            "version": str(self._openvino.__version__).split("-")[0],
            "onnxruntime": None,
            "provider": ", ".join(self._devices) or "CPU",
            "optimization_level": "all",
            "intra_op_threads": self._threads,
            "inter_op_threads": 1,
            "spinning": None,
            "denormals_as_zero": None,
            "options": dict(self._read_back),
            "build": None,
            "arena": None,
            "graph_capture": False,
        }


RUNTIMES: dict[str, Callable[[Mapping[str, Any]], Runtime]] = {
    **{
        name: lambda job, name=name: OnnxRuntime(  # type: ignore[misc]
            name, threads=job["threads"], batch=job["batch"], gpu=job.get("gpu")
        )
        for name in PROVIDERS
    },
    "torch": lambda job: TorchRuntime("torch", threads=job["threads"], gpu=job.get("gpu")),
    "torch-compile": lambda job: TorchRuntime("torch-compile", threads=job["threads"], gpu=job.get("gpu")),
    "openvino": lambda job: OpenVino(threads=job["threads"]),
}
"""What makes each runtime from a job."""


def runtime_of(job: Mapping[str, Any]) -> Runtime:
    """The runtime that a job asks for.

    Raises:
        UnusableError: If it cannot be used here.
    """
    return RUNTIMES[job.get("runtime", "onnxruntime-cpu")](job)


def imported(module: str, *, mend: str) -> Any:
    """A module that a runtime needs.

    Raises:
        UnusableError: If it is not installed or does not load.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise UnusableError(f"{error.name} is not installed for {sys.executable}", mend=mend) from error
    except (ImportError, OSError) as error:
        raise UnusableError(f"{module} is installed and does not load: {reason_of(error)}", mend=mend) from error


def compiler() -> str | None:
    """The C++ compiler that torch.compile would find; None if there is none."""
    names = [os.environ.get("CXX", ""), "c++", "g++", "clang++", "cl"]
    return next((found for name in names if name and (found := shutil.which(name))), None)


def try_runtimes(names: Sequence[str], empty: str, gpu: str | None) -> dict[str, dict[str, Any]]:
    """What works here, by runtime: its identity, or what is missing and what mends it.

    Args:
        names: Of `RUNTIMES`.
        empty: An ONNX file that does nothing, for those that read ONNX. The others are only made ready.
        gpu: A UUID, "auto", or None.

    Returns:
        Per runtime {"works", "identity", "gpu", "missing", "mend"}.
    """
    found: dict[str, dict[str, Any]] = {}
    for name in names:
        state: dict[str, Any] = {"works": False, "identity": None, "gpu": None, "missing": None, "mend": None}
        try:
            runtime = RUNTIMES[name]({"threads": 1, "batch": 1, "gpu": gpu})
            if not isinstance(runtime, TorchRuntime):
                runtime.load(empty, batch=1, seed=0)
            state |= {"works": True, "identity": runtime.identity(), "gpu": runtime.gpu}
        except UnusableError as error:
            state |= {"missing": error.missing, "mend": error.mend}
        except Exception as error:  # noqa: BLE001 - the runtimes' errors share no base, and the others are asked too
            state |= {"missing": f"it fails: {reason_of(error)}", "mend": f"install {name.split('-')[0]} again"}
        found[name] = state
    return found


def reason_of(error: Exception) -> str:
    """One line that says why a model could not be used."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    # OpenVINO begins with the place in its own source, and says last which operators it does not know.
    return lines[-1].strip(" -") if lines[0].startswith("Exception from") else lines[0].strip()


def load_all(
    job: Mapping[str, Any], runtime: Runtime, watch: Callable[[], None]
) -> tuple[dict[str, Run], dict[str, str]]:
    """What runs each model, and the reasons of those that cannot be run.

    Raises:
        UnusableError: If the runtime itself cannot be used.
    """
    loaded: dict[str, Run] = {}
    failures: dict[str, str] = {}
    models = job["models"]
    said_ns = time.monotonic_ns()
    for done, model in enumerate(models, start=1):
        watch()
        try:
            run = runtime.load(model["path"], batch=job["batch"], seed=job["seed"])
            if runtime.gpu is not None:
                warm_up(run, seconds=GPU_NEXT_WARM_UP_SECONDS if loaded else GPU_WARM_UP_SECONDS)
            loaded[model["key"]] = run
        except UnusableError:
            raise
        except Exception as error:  # noqa: BLE001 - the runtime's errors share no base, and the other models go on
            failures[model["key"]] = reason_of(error)
        if done % 16 == 0 or done == len(models) or time.monotonic_ns() - said_ns > SAID_NS:
            said_ns = time.monotonic_ns()
            say(stage="load", done=done, total=len(models))
    return loaded, failures


def visit_on(
    key: str,
    run: Run,
    runs: int,
    clock: Clock,
    *,
    stream: CudaStream | None = None,
    gpu: GpuWatch | None = None,
    end_ns: float = math.inf,
) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
    """One visit: its runs in nanoseconds, and where a GPU works its times there, see `CudaStream.last`.

    Args:
        key: Of the model.
        run: What runs it.
        runs: That are timed.
        clock: Of the host.
        stream: Of the GPU that runs it.
        gpu: Looked at before and after; a visit in which it throttled is taken again.
        end_ns: When the time is up.

    Raises:
        UnusableError: If the model does not run any more, or the GPU throttles again and again.
        TimeUpError: If the time is up.
    """
    take = functools.partial(visit, run, runs, clock, end_ns=end_ns)
    try:
        taken = take() if gpu is None else gpu.undisturbed(take)
        return taken, None if stream is None else stream.last(runs)
    except (UnusableError, TimeUpError):
        raise
    except Exception as error:  # the runtime's errors share no base, and nothing can be measured any more
        raise UnusableError(
            f"{key} ran when it was loaded, and fails now: {reason_of(error)}",
            mend="look whether the device is still there (for a GPU: nvidia-smi), then start again",
        ) from error


def device_summary(taken: Sequence[NDArray[np.int64]]) -> dict[str, float]:
    """What is kept of a model's times on the GPU [runs, 2 (device, enqueue)] per visit, in microseconds.

    Where handing the work over takes most of the device's time, the network is bound by launches, and sums of blocks
    mislead.

    Example:
        >>> device_summary([np.array([[2000, 1000], [4000, 3000]])])["median_us"]
        3.0
    """
    both = np.concatenate(list(taken)) / 1000
    return {
        "p25_us": float(np.percentile(both[:, 0], 25)),
        "median_us": float(np.median(both[:, 0])),
        "enqueue_p25_us": float(np.percentile(both[:, 1], 25)),
    }


# ----------------------------------------------------------------------------------------------------------- cores

QuotaReader = Callable[[], Optional[float]]  # noqa: UP045 - evaluated, and Python 3.9 knows no float | None
"""Says how many cores' worth of time this process may spend, None where there is no limit or none is known."""


def allowed_cores() -> tuple[int, ...] | None:
    """The cores this process may run on, ascending; None on systems that do not say.

    Example:
        >>> cores = allowed_cores()
        >>> cores is None or len(cores) >= 1
        True
    """
    if not hasattr(os, "sched_getaffinity"):
        return None
    return tuple(sorted(os.sched_getaffinity(0)))


def cgroup_quota(root: Path = Path("/")) -> float | None:
    """Cores' worth of CPU time that the control groups of this process allow, the tightest of all levels.

    Reads version 2 (`cpu.max`) and version 1 (`cpu.cfs_quota_us`), also where both are mounted side by side.

    Args:
        root: Where the system's files lie; another folder in tests.

    Returns:
        For example 1.5; None where nothing limits it or nothing can be read.

    Example:
        >>> import tempfile
        >>> root = Path(tempfile.mkdtemp())
        >>> (root / "sys/fs/cgroup").mkdir(parents=True)
        >>> _ = (root / "sys/fs/cgroup/cpu.max").write_text("150000 100000")
        >>> cgroup_quota(root)
        1.5
    """
    quotas = [quota for folder in _groups(root) if (quota := _quota_of(folder)[0]) is not None]
    return min(quotas, default=None)


def quota_unread(root: Path = Path("/")) -> str | None:
    """A control group's quota that is there and cannot be read, so that the quota is unknown; None if there is none.

    Example:
        >>> import tempfile
        >>> root = Path(tempfile.mkdtemp())
        >>> (root / "sys/fs/cgroup").mkdir(parents=True)
        >>> _ = (root / "sys/fs/cgroup/cpu.max").write_text("nonsense")
        >>> quota_unread(root).replace(str(root), "")
        "/sys/fs/cgroup/cpu.max holds 'nonsense'; expected 'max' or two numbers"
    """
    return next((fault for folder in _groups(root) if (fault := _quota_of(folder)[1]) is not None), None)


def _groups(root: Path) -> Iterator[Path]:
    """The folders of this process's CPU groups and of all groups above them."""
    mount = root / "sys/fs/cgroup"
    unified, cpu = {"/"}, {"/"}
    for line in _text(root / "proc/self/cgroup").splitlines():
        number, controllers, path = (line.split(":", 2) + ["", ""])[:3]
        if number == "0" and not controllers:
            unified.add(path)
        elif "cpu" in controllers.split(","):
            cpu.add(path)
    mounts = [(mount, unified), (mount / "unified", unified), (mount / "cpu", cpu), (mount / "cpu,cpuacct", cpu)]
    for base, paths in mounts:
        for path in sorted(paths):
            # Inside a container the path may be the host's and not exist here; its parents up to the mount may.
            group = base / path.lstrip("/")
            yield from (folder for folder in (group, *group.parents) if folder.is_relative_to(base) and folder.is_dir())


def _quota_of(group: Path) -> tuple[float | None, str | None]:
    """A group's own quota in cores, None without one; and what stands in the way of reading it."""
    both = group / "cpu.max"
    quota, period = group / "cpu.cfs_quota_us", group / "cpu.cfs_period_us"
    try:
        if both.exists():
            where, words = str(both), both.read_text(encoding="utf-8", errors="replace").split()
        elif quota.exists():
            where, words = f"{quota} with {period.name}", [_text(quota).strip(), _text(period).strip()]
        else:
            return None, None
    except OSError as error:
        return None, f"{error.filename} cannot be read: {error.strerror}"
    if len(words) == 2 and words[0] in {"max", "-1"}:
        return None, None
    try:
        most, each = (float(word) for word in words)
        cores = most / each
    except (ValueError, ZeroDivisionError):
        cores = math.nan
    if math.isfinite(cores) and cores > 0:
        return cores, None
    return None, f"{where} holds {' '.join(words)!r}; expected 'max' or two numbers"


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def usable_cores(cores: tuple[int, ...] | None, quota: float | None) -> int | None:
    """How many threads can run at once all the time: the quota rounded down, at least 1; None if nothing is known.

    With a thread more than that the quota runs out within each period, and all of them stand still until the next.

    Example:
        >>> usable_cores((0, 1, 2, 3), 2.5), usable_cores((0, 1), 0.5), usable_cores(None, None)
        (2, 1, None)
    """
    bounds = [len(cores)] if cores else []
    if quota is not None:
        bounds.append(max(1, math.floor(quota)))
    return min(bounds, default=None)


def choose_cores(
    threads: int,
    core: int | None,
    *,
    cores: tuple[int, ...] | None,
    quota: float | None,
    where: str = "here",
    kinds: Mapping[str, Sequence[int]] | None = None,
    siblings: Sequence[Sequence[int]] | None = None,
) -> tuple[int, ...] | None:
    """As many cores as there are threads; None on systems that do not say which there are.

    The fastest kind of core first, and one hardware thread of each core before the second of any. Of equal ones the
    last, as interrupts and other programs tend to sit on the first. With a core that was chosen, the others are of its
    kind as far as there are such.

    Args:
        threads: Of the runtime.
        core: One of the cores to take; None: any.
        cores: That the process may use, ascending.
        quota: Cores' worth of time that the process may spend.
        where: How errors call the machine.
        kinds: As `core_kinds` tells; None: all are of one kind.
        siblings: As `core_siblings` tells; None: each core has one hardware thread.

    Raises:
        CoresError: If there are fewer cores than threads, or the core is not among them.

    Example:
        >>> choose_cores(2, None, cores=(0, 1, 2, 3), quota=None), choose_cores(1, 0, cores=(0, 1), quota=0.5)
        ((2, 3), (0,))
        >>> kinds = {"capacity 1024": (0, 1, 2, 3), "capacity 512": (4, 5)}
        >>> choose_cores(2, None, cores=(0, 1, 2, 3, 4, 5), quota=None, kinds=kinds, siblings=[(0, 1), (2, 3)])
        (1, 3)
    """
    usable = usable_cores(cores, quota)
    if usable is not None and threads > usable:
        raise CoresError(
            f"threads is {threads}; {usable} core{'s' if usable > 1 else ''} may be used {where} "
            f"(affinity {_ranges(cores)}, quota {'none' if quota is None else f'{quota:g}'})",
            f"set threads to at most {usable}, or allow more cores",
        )
    if cores is None:
        return None
    if core is not None and core not in cores:
        raise CoresError(f"core is {core}; this process may use {_ranges(cores)} {where}", "set core to one of these")
    rank = {one: place for place, those in enumerate((kinds or {}).values()) for one in those}
    physical = {one: place for place, those in enumerate(siblings or ()) for one in those}
    wanted = None if core is None else rank.get(core, 0)
    taken: set[int] = set()
    second = {}
    for one in sorted(cores, key=lambda one: (one != core, -one)):
        place = physical.get(one, -1 - one)  # one of its own where nothing is known
        second[one] = place in taken
        taken.add(place)

    def last_chosen(one: int) -> tuple[bool, bool, int, bool, int]:
        kind = rank.get(one, 0)
        return one != core, wanted is not None and kind != wanted, kind, second[one], -one

    return tuple(sorted(sorted(cores, key=last_chosen)[:threads]))


def core_kinds(root: Path = Path("/")) -> dict[str, tuple[int, ...]] | None:
    """Which cores are equally fast, the fastest kind first; None where the system does not say.

    Linux tells it in up to three ways: the capacity of each core (ARM, newer x86), its highest clock, and on Intel's
    hybrid processors a folder for each kind.

    Args:
        root: Where the system's files lie; another folder in tests.
    """
    folder = root / "sys/devices/system/cpu"
    hybrid = {
        core: name
        for name in ("cpu_core", "cpu_atom", "cpu_lowpower")
        for core in _listed(_text(root / "sys/devices" / name / "cpus"))
    }
    numbers = sorted(int(path.name[3:]) for path in folder.glob("cpu[0-9]*") if path.name[3:].isdigit())
    capacity = {core: _number(_read(folder / f"cpu{core}/cpu_capacity")) for core in numbers}
    khz = {core: _number(_read(folder / f"cpu{core}/cpufreq/cpuinfo_max_freq")) for core in numbers}
    facts: dict[tuple[str, int | None, int | None], list[int]] = {}
    for core in numbers:
        kind = (hybrid.get(core, ""), _stair(capacity[core], capacity.values()), _stair(khz[core], khz.values()))
        facts.setdefault(kind, []).append(core)
    if set(facts) <= {("", None, None)}:
        return None
    names = ["cpu_core", "cpu_atom", "cpu_lowpower", ""]
    order = sorted(facts, key=lambda kind: (names.index(kind[0]), -(kind[1] or 0), -(kind[2] or 0)))

    def label(kind: tuple[str, int | None, int | None], *, whole: bool) -> str:
        name, most, clock = kind
        parts = [name, f"capacity {most}" if most else "", f"{clock // 1000} MHz" if clock else ""]
        parts = [part for part in parts if part]
        return ", ".join(parts if whole else parts[:1]) or "unknown"

    short = [label(kind, whole=False) for kind in order]
    return {label(kind, whole=short.count(name) > 1): tuple(facts[kind]) for kind, name in zip(order, short)}


def _stair(value: int | None, values: Iterable[int | None]) -> int | None:
    """The largest of the values that this one counts as equal to: single cores of a kind differ by some per cent."""
    if value is None:
        return None
    top: int | None = None
    for other in sorted({other for other in values if other is not None}, reverse=True):
        if top is None or other < SAME_KIND * top:
            top = other
        if other == value:
            break
    return top


def core_siblings(root: Path = Path("/")) -> tuple[tuple[int, ...], ...] | None:
    """The hardware threads of each core that has several; None where the system does not say.

    Args:
        root: Where the system's files lie; another folder in tests.
    """
    found, told = set(), False
    for path in (root / "sys/devices/system/cpu").glob("cpu[0-9]*/topology"):
        together = _listed(_text(path / "core_cpus_list") or _text(path / "thread_siblings_list"))
        told = told or bool(together)
        if len(together) > 1:
            found.add(together)
    return tuple(sorted(found)) if told else None


def kind_of(cores: Sequence[int] | None, kinds: Mapping[str, Sequence[int]] | None) -> str | None:
    """The kind of these cores; several with a plus between, None where nothing is known.

    Example:
        >>> kind_of([1, 2], {"cpu_core": (0, 1), "cpu_atom": (2, 3)})
        'cpu_core + cpu_atom'
    """
    if not cores or not kinds:
        return None
    return " + ".join(name for name, those in kinds.items() if set(cores) & set(those)) or None


def _listed(text: str) -> tuple[int, ...]:
    """The numbers of a list as Linux writes it, as "0-3,8"; empty where it is none."""
    found: set[int] = set()
    for part in text.strip().split(","):
        first, dash, last = part.partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            return ()
        found.update(range(int(first), int(last or first) + 1))
    return tuple(sorted(found))


def _ranges(cores: tuple[int, ...] | None) -> str:
    return "unknown" if cores is None else ",".join(map(str, cores))


# ----------------------------------------------------------------------------------------------------- fingerprint

# Instruction sets that the runtime has kernels for; each changes latencies. Linux's names, x86 then ARM.
FLAGS = (
    "sse4_1",
    "avx",
    "avx2",
    "fma",
    "avx_vnni",
    "avx512f",
    "avx512bw",
    "avx512_vnni",
    "avx512_bf16",
    "amx_tile",
    "amx_int8",
    "amx_bf16",
    "neon",
    "asimd",
    "asimddp",
    "asimdhp",
    "i8mm",
    "bf16",
    "sve",
    "sve2",
)


@dataclass(frozen=True)
class Fingerprint:
    """What is known about a machine. None is unknown; nothing unknown is ever 0.

    Attributes:
        cpu_model: As the processor names itself; where it has no name, its architecture, as "aarch64".
        family: CPU family, x86 only.
        model: Model number within the family, x86 only.
        stepping: Revision of the model, x86 only.
        flags: Those of `FLAGS` the CPU has.
        cores: Visible to the system.
        affinity: Cores this process may use.
        quota: Cores' worth of time this process may spend; None: no limit, or unknown: see `quota_unread`.
        hypervisor: Who made the virtual machine; "none" on bare metal.
        memory_bytes: Of the whole machine.
        vendor: Of the processor; on ARM systems the number of who designed it.
        caches: Size in bytes of each cache that the first core sees, as "L1 data".
        core_kinds: See the function of this name.
        siblings: See `core_siblings`.
        quota_unread: Why the quota is unknown; None where it is known.
    """

    cpu_model: str | None
    family: int | None
    model: int | None
    stepping: int | None
    flags: tuple[str, ...] | None
    cores: int | None
    affinity: tuple[int, ...] | None
    quota: float | None
    hypervisor: str | None
    memory_bytes: int | None
    vendor: str | None
    caches: dict[str, int] | None
    core_kinds: dict[str, tuple[int, ...]] | None = None
    siblings: tuple[tuple[int, ...], ...] | None = None
    quota_unread: str | None = None

    def to_json(self) -> dict[str, Any]:
        """A plain map of everything, unknown parts as None.

        Example:
            >>> "cpu_model" in fingerprint().to_json()
            True
        """
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Fingerprint:
        """From what `to_json` gives.

        Raises:
            TypeError: If a field is missing or unknown.

        Example:
            >>> Fingerprint.from_json(fingerprint().to_json()) == fingerprint()
            True
        """

        def fixed(value: Any) -> Any:
            if isinstance(value, dict):
                return {key: fixed(part) for key, part in value.items()}
            return tuple(map(fixed, value)) if isinstance(value, list) else value

        return cls(**{key: fixed(value) for key, value in row.items()})


def fingerprint(
    *,
    quota: QuotaReader = cgroup_quota,
    affinity: tuple[int, ...] | None = None,
    root: Path = Path("/"),
) -> Fingerprint:
    """Describe this machine.

    Args:
        quota: Says how many cores' worth of time the process may spend.
        affinity: Cores the process may use; asked of the system if not given.
        root: Where the system's files lie; another folder in tests.

    Example:
        >>> fingerprint(quota=lambda: 1.5).quota
        1.5
    """
    info = _cpu_info(root)
    words = info.get("flags", info.get("Features", "")).split()
    spent = quota()
    return Fingerprint(
        cpu_model=info.get("model name") or info.get("Model") or info.get("Hardware") or platform.machine() or None,
        family=_number(info.get("cpu family")),
        model=_number(info.get("model")),
        stepping=_number(info.get("stepping")),
        flags=tuple(flag for flag in FLAGS if flag in words) if words else None,
        cores=os.cpu_count(),
        affinity=allowed_cores() if affinity is None else affinity,
        quota=spent,
        hypervisor=_hypervisor(root, words),
        memory_bytes=_memory(root),
        vendor=info.get("vendor_id") or info.get("CPU implementer") or None,
        caches=_caches(root),
        core_kinds=core_kinds(root),
        siblings=core_siblings(root),
        quota_unread=quota_unread(root) if spent is None else None,
    )


def _read(path: Path) -> str:
    return _text(path).strip()


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdigit() else None


def _cpu_info(root: Path) -> Mapping[str, str]:
    """The first core's lines, and lines of the machine as a whole, which ARM systems put last."""
    info: dict[str, str] = {}
    for line in _read(root / "proc/cpuinfo").splitlines():
        name, colon, value = line.partition(":")
        if colon:
            info.setdefault(name.strip(), value.strip())
    return info


def _hypervisor(root: Path, flags: list[str]) -> str | None:
    if "hypervisor" not in flags:
        return "none" if "fpu" in flags else None  # only x86 says so in its flags
    return _read(root / "sys/class/dmi/id/sys_vendor") or _read(root / "sys/hypervisor/type") or "unnamed"


def _memory(root: Path) -> int | None:
    for line in _read(root / "proc/meminfo").splitlines():
        if line.startswith("MemTotal:"):
            kibibytes = _number(line.split()[1])
            return kibibytes * 1024 if kibibytes else None
    return None


def _caches(root: Path) -> dict[str, int] | None:
    caches = {}
    for folder in sorted((root / "sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind, size = (_read(folder / name) for name in ("level", "type", "size"))
        number = _number(size[:-1] if size.endswith("K") else size)
        if level and number:
            caches[f"L{level} {kind.lower()}"] = number * (1024 if size.endswith("K") else 1)
    return caches or None


# ------------------------------------------------------------------------------------------------------ NVIDIA GPUs


VISIBLE = "CUDA_VISIBLE_DEVICES"


def visible_entries(environment: Mapping[str, str]) -> list[str] | None:
    """What CUDA_VISIBLE_DEVICES lists, as CUDA reads it: up to the first negative number; None where it is not set.

    Example:
        >>> visible_entries({"CUDA_VISIBLE_DEVICES": "1, 0,-1,2"}), visible_entries({"CUDA_VISIBLE_DEVICES": ""})
        (['1', '0'], [])
    """
    if VISIBLE not in environment:
        return None
    entries = []
    for entry in environment[VISIBLE].split(","):
        if not entry.strip() or entry.strip().startswith("-"):
            break
        entries.append(entry.strip())
    return entries


def set_visible(gpu: str, environment: MutableMapping[str, str]) -> str:
    """Make the GPU of this UUID the only one that CUDA will see; "auto" leaves all as it is.

    To be called before CUDA starts in this process. CUDA then counts from this one, in whatever order it lists others.

    Args:
        gpu: A UUID, or "auto".
        environment: Of this process.

    Returns:
        What was set aside for it, where that cannot be told from the numbers; empty if nothing.

    Raises:
        UnusableError: If CUDA_VISIBLE_DEVICES hides every GPU, or this one.

    Example:
        >>> environment = {"CUDA_VISIBLE_DEVICES": "1"}
        >>> set_visible("GPU-ab", environment), environment
        ('CUDA_VISIBLE_DEVICES was 1; GPU-ab of the device file is used', {'CUDA_VISIBLE_DEVICES': 'GPU-ab'})
    """
    entries = visible_entries(environment)
    if entries == []:
        raise UnusableError(
            f"{VISIBLE} is {environment[VISIBLE]!r}, which hides every GPU",
            mend=f"unset {VISIBLE}, or let it name the GPU",
        )
    if gpu == "auto":
        return ""
    note = ""
    if entries is not None and not any(gpu.startswith(entry) for entry in entries):
        if not all(entry.isdigit() for entry in entries):
            raise UnusableError(
                f"{VISIBLE} is {environment[VISIBLE]!r}, which hides {gpu} of the device file",
                mend=f"unset {VISIBLE}, or name one of the GPUs that it allows in the device file",
            )
        note = f"{VISIBLE} was {environment[VISIBLE]}; {gpu} of the device file is used"
    environment[VISIBLE] = gpu
    return note


class CudaStream:
    """A stream of one GPU, with an event before and after each run, through the driver's own library.

    Both onnxruntime and torch are told to use it, so one clock serves both. Only what every driver since CUDA 11.4 has
    is called.

    Args:
        library: libcuda; another object in tests.
        only: Refuse where several GPUs are visible, as nobody said which.
        clock: Nanoseconds of the host.
        note: What a reader of the numbers should know of the choice; empty if nothing.

    Raises:
        UnusableError: If the driver does not answer, no GPU is visible, or too many are.
    """

    RING = 64

    def __init__(
        self, library: Any, *, only: bool, clock: Callable[[], int] = time.perf_counter_ns, note: str = ""
    ) -> None:
        self._library, self._clock, self.note = library, clock, note
        self._call("cuInit", 0)
        count = ctypes.c_int()
        self._call("cuDeviceGetCount", ctypes.byref(count))
        if count.value < 1 or (only and count.value > 1):
            raise UnusableError(
                f"{count.value} GPUs are visible; expected one",
                mend='name it in the device file by the UUID that hwnas devices shows: gpu = "GPU-..."'
                if count.value
                else "look at nvidia-smi and at CUDA_VISIBLE_DEVICES",
            )
        device, context, stream = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_void_p()
        self._call("cuDeviceGet", ctypes.byref(device), 0)
        uuid = (ctypes.c_ubyte * 16)()
        self._call("cuDeviceGetUuid_v2", ctypes.byref(uuid), device)
        letters = bytes(uuid).hex()
        self.uuid = "-".join(letters[a:b] for a, b in ((0, 8), (8, 12), (12, 16), (16, 20), (20, 32)))
        # The primary context is the one that onnxruntime and torch use.
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
        self._call("cuCtxSetCurrent", context)
        self._call("cuStreamCreate", ctypes.byref(stream), 1)  # does not wait for the default stream
        self._stream = stream
        self._events = [(self._event(), self._event()) for _ in range(self.RING)]
        self._enqueue_ns = [0] * self.RING
        self._runs = 0
        self._started_ns = 0

    @classmethod
    def open(cls, gpu: str) -> CudaStream:
        """Of the GPU with this UUID, or with "auto" of the only one that is visible.

        Raises:
            UnusableError: If there is no driver, or no such GPU.
        """
        note = set_visible(gpu, os.environ)
        try:
            library = ctypes.CDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so.1")
        except OSError as error:
            raise UnusableError(
                f"the NVIDIA driver's library does not load: {error}",
                mend="install the driver (nvidia-smi must work); in a container, start it with --gpus all",
            ) from error
        return cls(library, only=gpu == "auto", note=note)

    @property
    def pointer(self) -> int:
        """The stream's address, as other libraries take it."""
        return int(self._stream.value or 0)

    def start(self) -> None:
        """A run begins."""
        self._call("cuEventRecord", self._events[self._runs % self.RING][0], self._stream)
        self._started_ns = self._clock()

    def stop(self) -> None:
        """All of the run is handed over: mark its end, wait for it."""
        place = self._runs % self.RING
        self._enqueue_ns[place] = self._clock() - self._started_ns
        self._call("cuEventRecord", self._events[place][1], self._stream)
        self._call("cuStreamSynchronize", self._stream)
        self._runs += 1

    def last(self, runs: int) -> NDArray[np.int64]:
        """Nanoseconds [runs, 2] of the last runs, at most `RING`: on the device, and for handing the work over."""
        taken = np.empty((runs, 2), dtype=np.int64)
        elapsed_ms = ctypes.c_float()
        for row, run in enumerate(range(self._runs - runs, self._runs)):
            first, second = self._events[run % self.RING]
            self._call("cuEventElapsedTime", ctypes.byref(elapsed_ms), first, second)
            taken[row] = round(elapsed_ms.value * 1e6), self._enqueue_ns[run % self.RING]
        return taken

    def _event(self) -> ctypes.c_void_p:
        event = ctypes.c_void_p()
        self._call("cuEventCreate", ctypes.byref(event), 0)
        return event

    def _call(self, name: str, *arguments: Any) -> None:
        code = getattr(self._library, name)(*arguments)
        if code:
            raise UnusableError(
                f"the NVIDIA driver answers {name} with error {code}",
                mend="look at nvidia-smi and the system's log; the GPU may have gone or be used exclusively",
            )


# NVML's bits for why a clock is lower than it could be. Idleness, chosen clocks and a synchronised board are no harm.
THROTTLE_REASONS = {
    0x04: "power cap",
    0x08: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "power brake",
}
CHOSEN_CLOCKS = 0x02
GPU_IS_LOST = 15


def answer(nvml: Any, call: str, *arguments: Any) -> Any:
    """What NVML says to one call; None where it does not support it, forbids it or is too old to know it.

    Raises:
        UnusableError: If the GPU is gone.
    """
    function = getattr(nvml, call, None)
    if function is None:
        return None
    try:
        value = function(*arguments)
    except nvml.NVMLError as error:
        if getattr(error, "value", None) == GPU_IS_LOST:
            raise UnusableError(
                f"the GPU has gone: {call}: {error}", mend="look at nvidia-smi and the system's log, then start again"
            ) from error
        return None
    return value.decode() if isinstance(value, bytes) else value


class GpuWatch:
    """Clock, throttle reasons and energy of one GPU or slice of a GPU, as NVML tells; None is unknown, never 0.

    Args:
        uuid: As CUDA writes it; NVML counts GPUs in another order than CUDA, so they are matched by it.
        nvml: The module pynvml; another object in tests. None where it is not installed.

    Raises:
        UnusableError: If the GPU is gone.
    """

    def __init__(self, uuid: str, nvml: Any) -> None:
        self.dropped = 0
        self.reasons_seen = 0
        self.clocks_mhz: list[int] = []
        self._nvml, self._handle, self._card = nvml, None, None
        self._identity: dict[str, Any] = {"uuid": uuid, "mig": None, "nvml": "nvidia-ml-py is not installed"}
        if nvml is None:
            return
        try:
            nvml.nvmlInit()
        except nvml.NVMLError as error:
            self._identity["nvml"] = f"does not start: {error}"
            return
        for prefix in ("GPU-", "MIG-"):
            self._handle = self._handle or answer(nvml, "nvmlDeviceGetHandleByUUID", prefix + uuid)
        if self._handle is None:
            self._identity["nvml"] = f"knows no GPU {uuid}"
            return
        # A slice has no clock, no power and no counter of its own; its card has.
        whole = answer(nvml, "nvmlDeviceGetDeviceHandleFromMigDeviceHandle", self._handle)
        self._card = self._handle if whole is None else whole
        self._identity = self._identify(sliced=whole is not None)

    @classmethod
    def of(cls, uuid: str | None) -> GpuWatch | None:
        """Of the GPU that a runtime uses, if it uses one."""
        if uuid is None:
            return None
        try:
            nvml = importlib.import_module("pynvml")
        except ImportError:
            nvml = None
        return cls(uuid, nvml)

    def _identify(self, *, sliced: bool) -> dict[str, Any]:
        def ask(call: str, *arguments: Any) -> Any:
            return answer(self._nvml, call, *arguments)

        cuda = ask("nvmlSystemGetCudaDriverVersion_v2")
        power = ask("nvmlDeviceGetEnforcedPowerLimit", self._card)
        memory = ask("nvmlDeviceGetMemoryInfo", self._handle)
        return {
            "name": ask("nvmlDeviceGetName", self._handle),
            "uuid": ask("nvmlDeviceGetUUID", self._handle),
            "mig": sliced,
            "card_uuid": ask("nvmlDeviceGetUUID", self._card),
            "driver": ask("nvmlSystemGetDriverVersion"),
            "cuda": None if cuda is None else f"{cuda // 1000}.{cuda % 1000 // 10}",
            "power_cap_w": None if power is None else power / 1000,
            "memory_bytes": None if memory is None else int(memory.total),
            "max_sm_clock_mhz": ask("nvmlDeviceGetMaxClockInfo", self._card, 1),
            "nvml": "answers",
        }

    def look(self) -> int:
        """The reasons that hold the clock down now, 0 if there are none or none is known; notes the clock."""
        if self._card is None:
            return 0
        clock = answer(self._nvml, "nvmlDeviceGetClockInfo", self._card, 1)
        if clock is not None:
            self.clocks_mhz.append(int(clock))
        reasons = answer(self._nvml, "nvmlDeviceGetCurrentClocksThrottleReasons", self._card)
        self.reasons_seen |= reasons or 0
        return int(reasons or 0)

    def undisturbed(self, visit: Callable[[], NDArray[np.int64]]) -> NDArray[np.int64]:
        """A visit before and after which the GPU did not throttle; others are dropped and counted.

        Raises:
            UnusableError: If it throttles again and again.
        """
        for _ in range(THROTTLED_VISITS):
            before = self.look()
            runs = visit()
            reasons = before | self.look()
            if not any(reasons & bit for bit in THROTTLE_REASONS):
                return runs
            self.dropped += 1
        raise UnusableError(
            f"the GPU throttled in {THROTTLED_VISITS} visits in a row: {', '.join(reason_names(reasons))}",
            mend="let it cool, or lock its clock where it can stay: nvidia-smi -lgc MHZ",
        )

    def energy_mj(self) -> int | None:
        """The counter of millijoules since the driver was loaded; None where there is none."""
        if self._card is None:
            return None
        # A slice cannot be told from its neighbours on the card.
        whole = None if self._identity["mig"] else answer(self._nvml, "nvmlDeviceGetTotalEnergyConsumption", self._card)
        return None if whole is None else int(whole)

    def state(self) -> dict[str, Any]:
        """Identity and what was seen."""
        clocks = self.clocks_mhz
        return self._identity | {
            "sm_clock_mhz": [min(clocks), int(np.median(clocks)), max(clocks)] if clocks else None,
            # NVML has no question for it: it only says when a chosen clock holds the GPU down.
            "clocks_locked": True if self.reasons_seen & CHOSEN_CLOCKS else None,
            "throttled_visits": self.dropped,
            "throttle_reasons": reason_names(self.reasons_seen),
        }


def reason_names(reasons: int) -> list[str]:
    """Throttle reasons in words.

    Example:
        >>> reason_names(0x44)
        ['power cap', 'hardware thermal slowdown']
    """
    return [name for bit, name in THROTTLE_REASONS.items() if reasons & bit]


ENERGY_SECONDS, ENERGY_WINDOWS, ENERGY_STEPS = 10.0, 3, 20


def energy_per_run(
    run: Run,
    counter_mj: Callable[[], int | None],
    *,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
    seconds: float = ENERGY_SECONDS,
) -> dict[str, float | int] | None:
    """Millijoules of one run by an energy counter, the median of three windows.

    A counter moves in steps, of up to 0.1 s. So a window begins and ends at a step and holds more than 20 of them; one
    that has not got so many is prolonged up to three times.

    Args:
        run: One run, to the end.
        counter_mj: Millijoules so far; None where there is no counter.
        clock: Seconds.
        sleep: Waits, to see what the device needs when idle.
        seconds: Of each window.

    Returns:
        `energy_mj` as counted, `above_idle_mj` without what the idle device would have used in that time, `runs` and
        counter `steps` of all windows; None where the counter is missing or moves too rarely.
    """
    if counter_mj() is None:
        return None

    def window(act: Callable[[], object], length: float) -> tuple[float, float, int, int] | None:
        """(mJ, seconds, acts, steps) from one step of the counter to another."""
        begun = last = first = None
        first_at = last_at = clock()
        acts = acts_at_last = steps = 0
        deadline = clock() + 3 * length
        while clock() < deadline:
            act()
            acts += 1
            now = counter_mj()
            if now is None:
                return None
            if begun is None:
                begun = now
            elif first is None and now != begun:
                first = last = now
                first_at, acts, acts_at_last = clock(), 0, 0
            elif first is not None and now != last:
                last, last_at, acts_at_last, steps = now, clock(), acts, steps + 1
                if steps > ENERGY_STEPS and last_at - first_at >= length:
                    return float(last - first), last_at - first_at, acts_at_last, steps
        return None

    idle = window(lambda: sleep(0.01), seconds / 5)
    taken = [window(run, seconds) for _ in range(ENERGY_WINDOWS)]
    whole = [each for each in taken if each is not None]
    if len(whole) < ENERGY_WINDOWS:
        return None
    per_run = float(np.median([mj / acts for mj, _, acts, _ in whole]))
    result: dict[str, float | int] = {
        "energy_mj": per_run,
        "runs": sum(acts for _, _, acts, _ in whole),
        "steps": sum(steps for _, _, _, steps in whole),
    }
    if idle is not None:
        idle_mw = idle[0] / idle[1]
        result["above_idle_mj"] = float(np.median([(mj - idle_mw * took) / acts for mj, took, acts, _ in whole]))
    return result


def warm_up(run: Run, *, seconds: float, clock: Callable[[], float] = time.perf_counter) -> None:
    """Run for some time, so that algorithms are chosen, memory is there and the clock has risen."""
    end = clock() + seconds
    while clock() < end:
        run()


# --------------------------------------------------------------------------------------------------------- machine


_ALIVE = ".alive"


@contextlib.contextmanager
def scratch(name: str) -> Iterator[Path]:
    """A temporary folder that is gone after the block; those that killed processes have left go, too.

    Args:
        name: What it is for; part of the folder's name.

    Example:
        >>> with scratch("trial") as folder:
        ...     there = folder.is_dir()
        >>> there, folder.exists()
        (True, False)
    """
    sweep(Path(tempfile.gettempdir()))
    with tempfile.TemporaryDirectory(prefix=f"hwnas-{name}-") as text:
        held = hold(Path(text))
        try:
            yield Path(text)
        finally:
            if held is not None:
                held.close()


def hold(folder: Path) -> Any:
    """Mark a folder as in use until the file that is returned is closed or this process ends; None on Windows."""
    try:
        import fcntl
    except ImportError:
        return None
    making = folder / f"{_ALIVE}.new"
    file = making.open("w")
    fcntl.flock(file, fcntl.LOCK_EX)
    making.rename(folder / _ALIVE)  # so that it is never there unlocked while it is used
    return file


def sweep(parent: Path) -> None:
    """Remove what processes that are gone have left: folders of this user whose mark nobody holds any more."""
    try:
        import fcntl
    except ImportError:
        return
    for mark in parent.glob(f"hwnas-*/{_ALIVE}"):
        with contextlib.suppress(OSError):
            if mark.parent.is_symlink() or mark.lstat().st_uid != os.getuid():
                continue
            with mark.open() as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(mark.parent, ignore_errors=True)


def say(**values: object) -> None:
    """One progress line."""
    print(json.dumps(values), flush=True)


def pin(cores: Sequence[int] | None) -> list[int] | None:
    """Stay on these cores; the cores that then hold, None where the system does not say."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    if cores:
        os.sched_setaffinity(0, cores)
    return sorted(os.sched_getaffinity(0))


def settle_allocator() -> None:
    """Bring the C library's allocator to the state of a process that has run for a while.

    A fresh process of glibc hands the memory of each freed output back to the system and asks for it again at the next
    run: up to 1.2 us more, a fifth of a small block, until the first large block is freed; that raises its thresholds.
    """
    bytearray(31 << 20)  # freed at once; just below the largest size that glibc learns from


def load_average() -> float | None:
    """Programs that want to run, averaged over the last minute; None where the system does not say."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def ticks() -> tuple[int, int] | None:
    """Stolen and all clock ticks of all cores since boot; None where the system does not say."""
    try:
        numbers = [int(word) for word in Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()[1:9]]
    except (OSError, ValueError, IndexError):
        return None
    return (numbers[7], sum(numbers)) if len(numbers) == 8 else None


def steal_share(before: tuple[int, int] | None, after: tuple[int, int] | None) -> float | None:
    """Share of the time between that the hypervisor gave to others.

    Example:
        >>> steal_share((10, 1000), (30, 1200)), steal_share(None, (1, 2))
        (0.1, None)
    """
    if before is None or after is None or after[1] <= before[1]:
        return None
    return (after[0] - before[0]) / (after[1] - before[1])


def switches() -> int | None:
    """How often the system took the core away from this thread; None where it does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    who = getattr(resource, "RUSAGE_THREAD", resource.RUSAGE_SELF)
    return int(resource.getrusage(who).ru_nivcsw)


def governor(root: Path = Path("/")) -> str | None:
    """What sets the frequency of the first core; None where the system does not say."""
    try:
        text = (root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").read_text(encoding="ascii")
    except (OSError, ValueError):
        return None
    return text.strip() or None


@dataclass(frozen=True)
class Counter:
    """What one processor package has used so far.

    Attributes:
        energy_uj: Since some moment, in microjoules.
        range_uj: Where the counter begins again at 0.
    """

    energy_uj: int
    range_uj: int


def rapl(root: Path = Path("/")) -> tuple[Counter, ...] | None:
    """The energy counters of all packages; None where there are none, or one cannot be read.

    Only the superuser may read them (CVE-2020-8694), and guests seldom have any. They count whatever the package does.
    """
    counters = []
    try:
        for zone in sorted((root / "sys/class/powercap").glob("intel-rapl:*")):
            if not (zone / "name").read_text(encoding="ascii").startswith("package"):
                continue  # a part of a package, or the same once more under another name
            values = [(zone / name).read_text(encoding="ascii") for name in ("energy_uj", "max_energy_range_uj")]
            counters.append(Counter(int(values[0]), int(values[1])))
    except (OSError, ValueError):
        return None
    return tuple(counters) or None


def rapl_unread(root: Path = Path("/")) -> str | None:
    """Why the processor's energy is unknown although there are counters; None where there are none, or all are read.

    Args:
        root: Where the system's files lie; another folder in tests.
    """
    faults = []
    for zone in sorted((root / "sys/class/powercap").glob("intel-rapl:*")):
        try:
            if (zone / "name").read_text(encoding="ascii").startswith("package"):
                for part in ("energy_uj", "max_energy_range_uj"):
                    int((zone / part).read_text(encoding="ascii"))
        except (OSError, ValueError) as error:
            faults.append(f"{zone.name}: {error.strerror if isinstance(error, OSError) else 'holds no number'}")
    if not faults:
        return None
    return f"the processor's energy is unmeasured, as counters cannot be read ({'; '.join(faults)}): run as superuser"


def used_uj(before: Sequence[Counter] | None, after: Sequence[Counter] | None) -> int | None:
    """Microjoules between two readings less than a turn of the counter apart; None if unknown or no step was seen.

    Example:
        >>> used_uj([Counter(90, 100)], [Counter(15, 100)]), used_uj([Counter(9, 100)], [Counter(9, 100)])
        (25, None)
    """
    if before is None or after is None or len(before) != len(after):
        return None
    used = 0
    for one, other in zip(before, after):
        step = other.energy_uj - one.energy_uj
        used += step if step >= 0 else step + one.range_uj
    return used if used > 0 else None


def resident_peak() -> int | None:
    """The most memory this process has held so far, in bytes; None where the system does not say.

    Not `ru_maxrss`: that starts from what the process held before it became this program, the parent's memory.
    """
    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        return None
    return None


@dataclass(frozen=True)
class Machine:
    """What the program asks of the machine and does to it; a test gives its own.

    Attributes:
        clock: Nanoseconds since some moment.
        load_average: See the functions of these names.
        ticks: As above.
        switches: As above.
        governor: As above.
        energy: The counters, see `rapl`.
        energy_unread: Why there are none, see `rapl_unread`.
        sleep: Waits for some seconds.
        pin: As above.
        cores: That the load is shared by.
        runtime: Makes the runtime of a job.
    """

    clock: Clock = time.perf_counter_ns
    load_average: Callable[[], float | None] = load_average
    ticks: Callable[[], tuple[int, int] | None] = ticks
    switches: Callable[[], int | None] = switches
    governor: Callable[[], str | None] = governor
    energy: Callable[[], Sequence[Counter] | None] = rapl
    energy_unread: Callable[[], str | None] = rapl_unread
    sleep: Callable[[float], None] = time.sleep
    pin: Callable[[Sequence[int] | None], list[int] | None] = pin
    cores: Callable[[], int | None] = os.cpu_count
    runtime: Callable[[Mapping[str, Any]], Runtime] = runtime_of


def energies(
    loaded: Mapping[str, Run], machine: Machine, watch: Callable[[], None], *, end_ns: float = math.inf
) -> tuple[dict[str, float | None], float | None]:
    """Millijoules of one run of each model, whatever else the package does included, and its watts while idle.

    Each model runs in a loop, as the counters step once in a millisecond. None is unmeasured, never 0.

    Args:
        loaded: What runs each model.
        machine: With the counters and the clock.
        watch: Called before each model.
        end_ns: When the time is up; models after that are absent.
    """
    if machine.energy() is None:
        return {}, None
    before, start = machine.energy(), machine.clock()
    machine.sleep(ENERGY_NS / 1e9)
    idle = used_uj(before, machine.energy())
    idle_ns = machine.clock() - start
    found: dict[str, float | None] = {}
    for done, key in enumerate(sorted(loaded), start=1):
        watch()
        if machine.clock() > end_ns:
            break
        runs, start, before = 0, machine.clock(), machine.energy()
        while machine.clock() - start < ENERGY_NS:
            loaded[key]()
            runs += 1
        used = used_uj(before, machine.energy())
        found[key] = None if used is None else used / 1000 / runs
        say(stage="energy", done=done, total=len(loaded))
    return found, None if idle is None else idle * 1000 / idle_ns


def energy_notes(
    of_processor: Mapping[str, float | None] | None, of_gpu: Mapping[str, object], *, models: int, unread: str | None
) -> list[str]:
    """What a reader of the energies should know, one line each: what is missing among them, and why.

    Args:
        of_processor: By key, None where it could not be read; None if the processor's was not asked for.
        of_gpu: By key, None where it could not be read.
        models: That were timed.
        unread: Why the processor's counters cannot be read, if there are any.

    Example:
        >>> energy_notes({"a": 1.0, "b": None}, {}, models=3, unread=None)
        ['the energy of 2 of 3 models is unmeasured: the counter could not be read, or did not step, or time was up']
    """
    notes = []
    if of_processor is not None and unread is not None:
        notes.append(unread)
    elif of_processor:
        missing = models - sum(joules is not None for joules in of_processor.values())
        if missing:
            notes.append(
                f"the energy of {missing} of {models} models is unmeasured: the counter could not be read, or did not "
                "step, or time was up"
            )
    lost = sorted(key for key, found in of_gpu.items() if found is None)
    if lost:
        notes.append(
            f"the GPU's energy is unmeasured for {', '.join(lost)}: its counter cannot be read (slices of a GPU have "
            "none), or moves too rarely, or time was up"
        )
    return notes


def marks_of(conditions: Mapping[str, Any], *, cores: int | None, quota_unread: str | None = None) -> list[str]:
    """What a reader of the numbers should know of the machine, one line each; empty on a quiet one.

    Args:
        conditions: As `measure` makes them.
        cores: That the load is shared by.
        quota_unread: Why the quota is unknown, if it is.

    Example:
        >>> quiet = {"load_max": 1.0, "steal_share": 0.0, "drift": 1.0, "switched_share": 0.0, "capped": False}
        >>> marks_of(quiet, cores=2), marks_of(quiet | {"load_max": 7.5}, cores=2)
        ([], ['busy: the load was 7.5 on 2 cores'])
    """
    marks = []
    load, steal, drift = conditions["load_max"], conditions["steal_share"], conditions["drift"]
    if load is not None and cores is not None and load > cores:
        marks.append(f"busy: the load was {load:.1f} on {cores} core{'s' if cores > 1 else ''}")
    if steal is not None and steal > STEAL_LIMIT:
        marks.append(f"stolen: the hypervisor gave {steal:.0%} of the time to others")
    if drift is not None and abs(drift - 1) > DRIFT_LIMIT:
        marks.append(f"drifting: the last rounds took {drift:.2f} times as long as the first")
    if conditions["switched_share"] > SWITCHED_LIMIT:
        marks.append(f"interrupted: the system took the core away in {conditions['switched_share']:.0%} of the visits")
    if quota_unread is not None:
        marks.append(f"of unknown quota: {quota_unread}")
    if conditions["capped"]:
        marks.append(f"short: {conditions['rounds']} rounds, to keep to {conditions['limit_s']:.0f} s")
    return marks


def die_with(parent: int | None) -> None:
    """Have Linux end this process when its parent ends, even in the middle of a run that takes for ever."""
    if parent is None or not sys.platform.startswith("linux"):
        return
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, int(signal.SIGKILL))  # PR_SET_PDEATHSIG
    watcher(parent)()  # it may have ended before that


def watcher(parent: int | None) -> Callable[[], None]:
    """A check that raises when the parent is gone, so that nobody's measurement goes on for ever."""

    def watch() -> None:
        if parent is not None and os.name == "posix" and os.getppid() != parent:
            raise ParentGoneError

    return watch


def measure(job: Mapping[str, Any], machine: Machine | None = None) -> dict[str, Any]:
    """Do a job; see the top of the file.

    Args:
        job: As a map.
        machine: What is asked of the machine; by default this one.

    Raises:
        ParentGoneError: If the parent ended meanwhile.
        LogError: If the job's log is damaged, or of another job.
        UnusableError: If the runtime or the GPU cannot be used.
        TimeLimitError: If a limit that was set does not allow for two rounds.
        NewerJobError: If the job is of a later version of hwnas.
    """
    if _newer(job.get("schema")):
        raise NewerJobError(
            f"the job is of schema {job['schema']}, of a later hwnas; this measure.py reads up to {SCHEMA}: upgrade "
            "hwnas, or take the measure.py that belongs to the job"
        )
    machine = machine or Machine()
    started = machine.clock()
    watch = watcher(job["parent"])
    watch()
    load_before, ticks_before = machine.load_average(), machine.ticks()
    here = fingerprint()  # before the pinning, which changes what it says
    pinned = machine.pin(
        job["cores"]
        or choose_cores(
            job["threads"],
            job.get("core"),
            cores=here.affinity,
            quota=here.quota,
            kinds=here.core_kinds,
            siblings=here.siblings,
        )
    )
    settle_allocator()
    runtime = machine.runtime(job)
    # First of all, as a runtime that does not do what it was asked to shows it here.
    nothing = None if job["empty"] is None else runtime.load(job["empty"], batch=job["batch"], seed=job["seed"])
    gpu = GpuWatch.of(runtime.gpu)
    loaded, failures = load_all(job, runtime, watch)
    log_path = Path(job["log"]) if job.get("log") else None
    log = Log(log_path, identity=identity_of(job, runtime.identity()) if log_path else "", keys=list(loaded))
    result: dict[str, Any] = {
        "schema": SCHEMA,
        "about": job.get("about"),
        "timings": {},
        "device_timings": {},
        "energy": {},
        "failures": failures,
        "noise": None,
    }
    found: dict[str, Any] = {"drift": None, "factor_low": None, "factor_high": None, "idle_watts": None}
    dropped = switched = visits = 0
    marked: dict[str, str] = {}
    notes = [runtime.stream.note] if runtime.stream is not None and runtime.stream.note else []
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        if loaded:
            plan, kept, noise, end_ns = _rounds(
                job, loaded, log, machine, watch, nothing=nothing, stream=runtime.stream, gpu=gpu
            )
            rounds = log.rounds
            marked = row_marks(rounds)
            # What the processor uses while it waits for a GPU is not what the network needs.
            counted = job.get("energy", True) and gpu is None
            joules, found["idle_watts"] = energies(loaded, machine, watch, end_ns=end_ns) if counted else ({}, None)
            for key in sorted(loaded):
                row = summary(pooled(rounds, key, kept[key]), visits=int(kept[key].sum()))
                result["timings"][key] = row | {"energy_mj": joules.get(key)}
                dropped += int((~kept[key]).sum())
                there = [one.on_device[key] for n, one in enumerate(rounds) if kept[key][n] and key in one.on_device]
                if there:
                    result["device_timings"][key] = device_summary(there)
                if gpu is not None and key in job.get("gpu_energy", ()):
                    watch()
                    in_time = machine.clock() <= end_ns
                    result["energy"][key] = energy_per_run(loaded[key], gpu.energy_mj) if in_time else None
                    say(stage="energy", done=len(result["energy"]), total=len(job["gpu_energy"]))
            notes += energy_notes(
                joules if counted else None,
                result["energy"],
                models=len(loaded),
                unread=machine.energy_unread() if counted and not joules else None,
            )
            visits, switched = len(loaded) * len(rounds), sum(len(one.switched) for one in rounds)
            factors = round_factors(rounds, _steady(job, loaded))
            found |= {"drift": drift_of(factors), "factor_low": factors.min(), "factor_high": factors.max()}
            result["noise"] = noise
        else:
            plan = Plan(0, {}, 0.0, LIMIT_S, capped=False)
    finally:
        gc.enable()
        gc.unfreeze()
    empty = [one.empty_ns for one in log.rounds if one.empty_ns.size]
    result["empty_run_us"] = float(np.percentile(np.concatenate(empty), 25)) / 1000 if empty else None
    loads = [load for load in (load_before, *(one.load for one in log.rounds)) if load is not None]
    conditions: dict[str, Any] = {
        **runtime.identity(),
        "gpu": None if gpu is None else gpu.state(),
        "python": platform.python_version(),
        "machine": here.to_json(),
        "pinned": pinned,
        "core_kind": kind_of(pinned, here.core_kinds),
        "row_marks": marked,
        "notes": notes,
        "governor": machine.governor(),
        "batch": job["batch"],
        "rounds": len(log.rounds),
        "runs": RUNS,
        "seed": job["seed"],
        "processes": log.process if log.rounds and log.rounds[-1].process == log.process else log.process - 1,
        "planned_s": plan.seconds,
        "limit_s": plan.limit_s,
        "capped": plan.capped or len(log.rounds) < plan.rounds,
        "visits": visits,
        "switched_visits": switched,
        "switched_share": switched / visits if visits else 0.0,
        "drop_disturbed": bool(job.get("drop_disturbed", False)),
        "dropped_visits": dropped,
        "load_before": load_before,
        "load_max": max(loads, default=None),
        "load_after": machine.load_average(),
        "steal_share": steal_share(ticks_before, machine.ticks()),
        "seconds": (machine.clock() - started) / 1e9,
        **{name: None if value is None else float(value) for name, value in found.items()},
    }
    conditions["marks"] = marks_of(conditions, cores=machine.cores(), quota_unread=here.quota_unread)
    judged = verdict(result["noise"], job["on_noise"], marks=all_marks(conditions))
    return result | {"verdict": judged, "conditions": conditions}


def this_machine(runtime: str = "onnxruntime-cpu", gpu: str | None = None) -> dict[str, Any]:
    """What this machine is, and a runtime's version as it says itself: builds for some hardware have other names.

    Args:
        runtime: One of `RUNTIMES`.
        gpu: A UUID, "auto", or None.

    Raises:
        UnusableError: If the runtime or the GPU cannot be used.
    """
    import onnxruntime

    here = fingerprint().to_json()
    found: dict[str, Any] = {"fingerprint": here, "onnxruntime": str(onnxruntime.__version__)}
    found["free_bytes"] = shutil.disk_usage(tempfile.gettempdir()).free
    if runtime != "onnxruntime-cpu":
        live = runtime_of({"runtime": runtime, "threads": 1, "batch": 1, "gpu": gpu})
        watched = GpuWatch.of(live.gpu)
        found["version"] = live.identity()["version"]
        found["gpu"] = None if watched is None else watched.state().get("name")
    return found


def _steady(job: Mapping[str, Any], loaded: Mapping[str, Run]) -> list[str]:
    """The models that tell how the machine goes: the reference networks, else all."""
    references = [model["key"] for model in job["models"] if model["kind"] == "reference" and model["key"] in loaded]
    return sorted(references or loaded)


def _rounds(
    job: Mapping[str, Any],
    loaded: Mapping[str, Run],
    log: Log,
    machine: Machine,
    watch: Callable[[], None],
    *,
    nothing: Run | None,
    stream: CudaStream | None,
    gpu: GpuWatch | None,
) -> tuple[Plan, dict[str, NDArray[np.bool_]], dict[str, float | int | None], float]:
    """Do the rounds that the log lacks; the plan, which visits count, the noise, and when the time is up.

    Raises:
        TimeLimitError: If a limit that was set does not allow for two rounds.
    """
    begun_ns = machine.clock()
    limit_s, kept_limit = job.get("limit_s") or LIMIT_S, job.get("limit_s") is not None
    if log.plan is None:
        pilots: dict[str, float] = {}
        means: dict[str, float] = {}
        said_ns = begun_ns
        for key, run in loaded.items():
            watch()
            pilots[key], means[key] = pilot_us(run, machine.clock)
            now = machine.clock()
            if now - said_ns > SAID_NS:
                said_ns = now
                say(stage="pilot", done=len(pilots), total=len(loaded))
            if kept_limit and now - begun_ns > limit_s * 1e9 and len(pilots) < len(loaded):
                # Two rounds of what was tried already take longer, whatever the others take.
                needed = TWO_ROUNDS * max((WARM_UP + FEWEST_RUNS) * sum(pilots.values()) / 1e6, (now - begun_ns) / 1e9)
                what = f"two rounds of the first {len(pilots)} of {len(loaded)} models alone"
                raise TimeLimitError(*_too_slow(limit_s, needed, what))
        fitted = plan_for(pilots, rounds=job["rounds"], limit_s=limit_s, kept=kept_limit)
        seconds = expected_s(fitted, means)
        log.begin(replace(fitted, seconds=min(seconds, limit_s) if kept_limit else seconds))
    plan = log.plan
    assert plan is not None  # for the type checker: begin sets it
    say(
        stage="plan",
        done=0,
        total=len(loaded),
        seconds=plan.seconds,
        rounds=plan.rounds,
        models=len(loaded),
        capped=plan.capped,
        rounds_before=len(log.rounds),
    )
    spent_ns = sum(one.took_ns for one in log.rounds)
    up_ns = begun_ns + plan.limit_s * 1e9 - spent_ns
    end_ns = up_ns if plan.kept else math.inf
    planned, said_ns = plan.rounds, machine.clock()
    keys = sorted(loaded)
    whole = [model["key"] for model in job["models"] if model["key"] in loaded and model["kind"] != "block"]

    def one_round(number: int) -> Round:
        nonlocal said_ns
        start = machine.clock()
        runs_ns: dict[str, NDArray[np.int64]] = {}
        switched, on_device = set(), {}
        # Seeded by the round's number, so that a process that goes on visits in the same orders.
        for i in np.random.default_rng([job["seed"], number]).permutation(len(keys)):
            key = keys[i]
            watch()
            before = machine.switches()
            late = machine.clock() > up_ns
            runs_ns[key], there = visit_on(
                key,
                loaded[key],
                min(plan.runs[key], FEWEST_RUNS) if late else plan.runs[key],
                machine.clock,
                stream=stream,
                gpu=gpu,
                end_ns=end_ns,
            )
            if there is not None:
                on_device[key] = there
            if machine.switches() != before:
                switched.add(key)
            if machine.clock() - said_ns > SAID_NS:
                said_ns = machine.clock()
                visits = (number - 1) * len(keys) + len(runs_ns)
                say(stage="measure", done=visits, total=planned * len(keys), round=number, rounds=planned)
        empty = np.array([], dtype=np.int64) if nothing is None else visit(nothing, SHORT_RUNS, machine.clock)
        took = machine.clock() - start
        return Round(runs_ns, frozenset(switched), empty, machine.load_average(), took, log.process, on_device)

    def on_round(one: Round, done: int, now_planned: int) -> None:
        nonlocal planned, said_ns
        planned, said_ns = now_planned, machine.clock()
        log.append(one)
        total = len(keys)
        say(stage="measure", done=done * total, total=planned * total, round=done, rounds=planned)

    try:
        _, kept, noise = collect(
            one_round,
            sorted(whole) if len(whole) >= FEWEST_NETWORKS else keys,
            _steady(job, loaded),
            plan=plan,
            done=log.rounds,
            drop=job.get("drop_disturbed", False),
            on_round=on_round,
        )
    except TimeUpError as error:
        fewest = f"two rounds of {len(keys)} models, as slow as the machine has become,"
        needed = TWO_ROUNDS * (machine.clock() - begun_ns + spent_ns) / 1e9
        raise TimeLimitError(*_too_slow(plan.limit_s, needed, fewest)) from error
    return plan, kept, noise, end_ns


def resident(job: Mapping[str, Any]) -> dict[str, int | None]:
    """The memory that this process held at most: with the model's session made, and after five runs.

    Raises:
        ValueError: If the model's input is not one image batch of known size.
    """
    import onnxruntime

    options = session_options(threads=job["threads"], batch=job["batch"])
    session = onnxruntime.InferenceSession(job["resident"], options, providers=["CPUExecutionProvider"])
    loaded = resident_peak()
    image = image_for(session, batch=job["batch"], seed=job["seed"])
    for _ in range(RESIDENT_RUNS):
        session.run(None, image)
    return {"loaded_bytes": loaded, "run_bytes": resident_peak()}


def main(arguments: Sequence[str]) -> int:
    """Read a job, write its result; the exit code."""
    try:
        if arguments[:1] == ["--machine"] and len(arguments) <= 3:
            print(json.dumps(this_machine(*arguments[1:])))
            return 0
        if arguments[:1] == ["--runtimes"] and len(arguments) in {3, 4}:
            print(json.dumps(try_runtimes(arguments[2].split(","), arguments[1], (*arguments[3:], None)[0])))
            return 0
        if len(arguments) != 2:
            print("usage: python measure.py job.json result.json", file=sys.stderr)
            return 2
        request, target = map(Path, arguments)
        job = json.loads(request.read_text(encoding="utf-8"))
        die_with(job.get("parent"))
        for part in ("empty", "log", "resident"):
            if job.get(part) is not None:
                job[part] = str(request.parent / job[part])
        for model in job.get("models", ()):
            model["path"] = str(request.parent / model["path"])
        result: dict[str, Any] = dict(resident(job)) if "resident" in job else measure(job)
    except ParentGoneError:
        return PARENT_GONE
    except LogError as error:
        print(error, file=sys.stderr)
        return LOG_DAMAGED
    except CoresError as error:
        print(f"{error}: {error.hint}", file=sys.stderr)
        return NOT_THIS_MACHINE
    except TimeLimitError as error:
        print(f"{error} | {error.hint}", file=sys.stderr)
        return TOO_SLOW
    except NewerJobError as error:
        print(error, file=sys.stderr)
        return NEWER_JOB
    except UnusableError as error:
        print(f"{error.missing} | {error.mend}", file=sys.stderr)
        return UNUSABLE
    except ModuleNotFoundError as error:
        print(
            f"{sys.executable} has no module {error.name}: {sys.executable} -m pip install {error.name}",
            file=sys.stderr,
        )
        return NO_RUNTIME
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(result, allow_nan=False) + "\n", encoding="utf-8")
    temporary.replace(target)
    if result.get("about") is not None:  # run by hand: nobody reads the result before it is carried home
        print(f"{target}: {len(result['timings'])} models timed, {len(result['failures'])} failed; {words(result)}")
    return 0


def words(result: Mapping[str, Any]) -> str:
    """What a person beside the machine should know of a result.

    Example:
        >>> words({"noise": {"median": 0.05}, "verdict": "refused"})
        'too noisy (halves differ by 5.0%): stop other work and run it again'
    """
    if result["verdict"] == "untimed":
        return "nothing could be run"
    said = f"halves differ by {result['noise']['median']:.1%}"
    marks = all_marks(result.get("conditions", {}))
    more = f" and {len(marks) - SHOWN_MARKS} more" if len(marks) > SHOWN_MARKS else ""
    return {
        "quiet": f"a quiet machine ({said})",
        "marked": f"marked as {'; '.join(marks[:SHOWN_MARKS])}{more} ({said})",
        "noisy": f"a noisy machine ({said}): better stop other work and run it again",
        "refused": f"too noisy ({said}): stop other work and run it again",
    }[result["verdict"]]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
