"""The measuring program: times ONNX files on the machine it runs on, and says what machine that is.

    python measure.py job.json result.json
    python measure.py --machine

Standard library, numpy and onnxruntime only, Python 3.9 or newer. It is one file that imports nothing of hwnas, because
it also runs where hwnas is not installed: as a child process here, over ssh, or carried to a board by hand. So what
hwnas itself asks of this machine is written here too, and `hwnas.device` hands it on. Progress goes to the standard
output as JSON lines; the result is a JSON file that appears whole or not at all. A job is

    {"models": [{"key": "a", "path": "a.onnx", "kind": "network"}, ...],  kind: "block", "network" or "reference"
     "batch": 1, "threads": 1, "cores": [1] or null, "rounds": 20, "seed": 0, "on_noise": "default",
     "empty": "empty.onnx" or null, "parent": pid or null}

Paths start at the job's folder. Without `cores` the program chooses them itself, `core` first if the job has one. What
a job says `about` itself is handed back in the result.

It may hold `"limit_s"` (seconds of timing), `"drop_disturbed"` (false), `"energy"` (true: where a counter can be read)
and `"log"`: a file to which each finished round is appended, so that the same job goes on there when it was killed.
The job `{"resident": "a.onnx", "batch": 1, "threads": 1, "seed": 0}` runs one model and tells the memory that takes.

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
"""

from __future__ import annotations

import functools
import gc
import hashlib
import json
import math
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # the runtime is loaded when something is run: hwnas.device is free of it
    import onnxruntime

SCHEMA = 1
WARM_UP = 2
SHORT_US = 50.0  # below this a visit takes more runs, so that the clock's grain does not show
RUNS, SHORT_RUNS = 12, 20
FEWEST_RUNS, FEWEST_ROUNDS = 3, 8  # less than that is no distribution; beyond it the time limit gives way
PILOT_NS = 200_000_000
LIMIT_S = 300.0

MEDIAN_LIMIT = 0.01
P95_LIMIT = 0.03
TAU_LIMIT = 0.97
REFUSE_MEDIAN = 0.03  # beyond this not even the default policy takes the numbers
DOUBLINGS = 2
FEWEST_NETWORKS = 5  # with fewer whole networks the gate looks at all models
FACTOR_LIMIT = 0.1  # a round in which the reference networks are further off than this is disturbed
DRIFT_LIMIT, STEAL_LIMIT, SWITCHED_LIMIT = 0.05, 0.05, 0.2  # beyond these a measurement is marked
ENERGY_NS = 200_000_000  # RAPL counters step about once in a millisecond: some 200 steps
RESIDENT_RUNS = 5

Floats = NDArray[np.float64]
Run = Callable[[], object]
Clock = Callable[[], int]


# What the process ends with where a line on the error stream is all there is to say.
PARENT_GONE, LOG_DAMAGED, NOT_THIS_MACHINE, NO_RUNTIME = 3, 4, 10, 11


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


class LogError(Exception):
    """The log of rounds is damaged, or of another job."""


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


def resolved_tau(first: Floats, second: Floats, *, resolution: float) -> tuple[float | None, float]:
    """Kendall's tau over the pairs that lie further apart than the measurement can resolve, and the share of the rest.

    Models that take nearly the same time change places in any repetition, so in a narrow range of latencies tau is low
    however quiet the machine is. Such pairs are ties. The resolution is what the gate allows, not what was observed:
    a noisy measurement would otherwise excuse itself.

    Args:
        first: Times [n] in one half of the measurement.
        second: Times [n] in the other.
        resolution: Relative difference of the mean times below which a pair is a tie.

    Returns:
        (tau, share of pairs that are ties); tau is None if all are.

    Example:
        >>> resolved_tau(np.array([100.0, 101.0, 200.0]), np.array([101.0, 100.0, 200.0]), resolution=0.03)
        (1.0, 0.33333333333333337)
    """
    middle = np.log((first + second) / 2)
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


def verdict(noise: Mapping[str, Any], on_noise: str) -> str:
    """What to do with a measurement: it is "quiet", "noisy" (usable, marked) or "refused".

    Args:
        noise: As `noise_of` returns it.
        on_noise: "strict" refuses whatever does not pass the gate, "default" only what differs by more than 3 % at the
            median, "mark" nothing.

    Example:
        >>> verdict({"median": 0.02, "p95": 0.02, "resolved_tau": None}, "default")
        'noisy'
    """
    if is_quiet(noise):
        return "quiet"
    refused = {"strict": True, "default": noise["median"] > REFUSE_MEDIAN, "mark": False}[on_noise]
    return "refused" if refused else "noisy"


# ------------------------------------------------------------------------------------------------------- measuring


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    Attributes:
        rounds: To begin with.
        runs: Timed runs in a visit, by key.
        seconds: What those rounds will take, by the pilot.
        limit_s: What all rounds may take; doubling stops there.
        capped: Whether slow models got fewer runs or rounds than asked for.
    """

    rounds: int
    runs: dict[str, int]
    seconds: float
    limit_s: float
    capped: bool


def plan_for(pilots_us: Mapping[str, float], *, rounds: int, limit_s: float) -> Plan:
    """Fit the rounds into a time limit.

    The longest visits are shortened first, down to 3 timed runs: a slow model's first run differs least from the next.
    Then the rounds become fewer, down to 8. What still takes longer takes longer, and the plan says how long.

    Args:
        pilots_us: How long a run of each model takes.
        rounds: Asked for.
        limit_s: Seconds for all of them.

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
        fitting = max(min(rounds, FEWEST_ROUNDS), fitting - fitting % 2)
    return Plan(fitting, runs, seconds(runs, fitting), limit_s, capped=runs != full or fitting != rounds)


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
    """

    runs_ns: dict[str, NDArray[np.int64]]
    switched: frozenset[str]
    empty_ns: NDArray[np.int64]
    load: float | None
    took_ns: int
    process: int


def visit(run: Run, runs: int, clock: Clock) -> NDArray[np.int64]:
    """The nanoseconds of some runs in a row, after a few that are not counted."""
    for _ in range(WARM_UP):
        run()
    took = np.empty(runs, dtype=np.int64)
    for i in range(runs):
        start = clock()
        run()
        took[i] = clock() - start
    return took


def pilot_us(run: Run, clock: Clock) -> float:
    """About how long a run takes: the fastest of five, or of those that fit into 0.2 s."""
    fastest, spent = float("inf"), 0
    for _ in range(5):
        start = clock()
        run()
        took = clock() - start
        fastest, spent = min(fastest, took), spent + took
        if spent > PILOT_NS:
            break
    return max(fastest, 1.0) / 1000


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
        times = np.array([np.percentile(one.runs_ns[key], 25) for one in rounds])
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
    runs: NDArray[np.int64] = np.concatenate([
        one.runs_ns[key] for one, keep in zip(rounds[half], kept[half], strict=True) if keep
    ])
    return runs


def drift_of(factors: Floats) -> float | None:
    """How much longer the last third of the rounds took than the first; None with fewer than six rounds.

    Example:
        >>> drift_of(np.array([1.0, 1.0, 1.0, 1.1, 1.1, 1.1]))
        1.1
    """
    third = len(factors) // 3
    return float(np.median(factors[-third:]) / np.median(factors[:third])) if third >= 2 else None


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
        one_round: Does the round of that number, from 1.
        networks: The models that the gate looks at.
        references: The models that tell a disturbed round.
        plan: Rounds to begin with, and the limit.
        done: Rounds of an earlier process.
        drop: Whether disturbed visits are left out.
        on_round: Called with each new round, its number and the rounds planned.

    Returns:
        The rounds, per model which of its visits count, and the noise of the networks.
    """
    rounds = list(done)
    for doubling in range(DOUBLINGS + 1):
        planned = plan.rounds * 2**doubling
        spent_s = sum(one.took_ns for one in rounds) / 1e9
        if doubling and spent_s + spent_s * (planned / len(rounds) - 1) > plan.limit_s:
            break
        while len(rounds) < planned:
            one = one_round(len(rounds) + 1)
            rounds.append(one)
            on_round(one, len(rounds), planned)
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


def identity_of(job: Mapping[str, Any]) -> str:
    """What makes two jobs the same: what is measured, and how; not where the files lie.

    Raises:
        OSError: If a model's file cannot be read.
    """
    import onnxruntime

    models = [
        [model["key"], model["kind"], hashlib.sha256(Path(model["path"]).read_bytes()).hexdigest()]
        for model in job["models"]
        if Path(model["path"]).is_file()
    ]
    parts = [models, [job[name] for name in ("batch", "threads", "cores", "rounds", "seed")], onnxruntime.__version__]
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
        if not all(runs.ndim == 1 and runs.size for runs in visits):
            raise ValueError("a visit without runs")
        return Round(
            dict(zip(self.keys, visits, strict=True)),
            frozenset(self.keys[i] for i in line["switched"]),
            np.array(line["empty_ns"], dtype=np.int64),
            line["load"],
            int(line["took_ns"]),
            int(line["process"]),
        )

    def begin(self, plan: Plan) -> None:
        """Write down what is going to be measured, unless that was done by an earlier process."""
        if self.plan is None:
            self.plan = plan
            self._append({"job": self._identity, "keys": self.keys, "plan": vars(plan)})

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
        })

    def _append(self, line: Mapping[str, Any]) -> None:
        if self.path is None:
            return
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, separators=(",", ":")) + "\n")
            file.flush()
            os.fsync(file.fileno())


# --------------------------------------------------------------------------------------------------------- runtime


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


def image_for(session: onnxruntime.InferenceSession, *, batch: int, seed: int) -> dict[str, NDArray[np.float32]]:
    """One fixed normal input.

    Raises:
        ValueError: If the model does not take one image batch of known size.
    """
    inputs = session.get_inputs()
    if len(inputs) != 1 or inputs[0].type != "tensor(float)":
        raise ValueError(f"has inputs {[(i.name, i.type) for i in inputs]}; expected one of type tensor(float)")
    dimensions = inputs[0].shape
    shape = [batch if dimension == "batch" else dimension for dimension in dimensions]
    if not all(isinstance(dimension, int) for dimension in shape) or shape[:1] != [batch]:
        raise ValueError(f"input {inputs[0].name} is {dimensions}; expected batch {batch} and fixed sizes")
    return {inputs[0].name: np.random.default_rng([seed, *shape]).standard_normal(shape, dtype=np.float32)}


def load(path: str, options: onnxruntime.SessionOptions, *, batch: int, seed: int) -> Run:
    """A call that runs one model on one fixed normal input, tried once.

    Raises:
        ValueError: If the input is not one image batch of known size, or an output is not finite.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    run = functools.partial(session.run, None, image_for(session, batch=batch, seed=seed))
    if not all(np.isfinite(output).all() for output in run()):
        raise ValueError("an output is not finite")
    return run


def reason_of(error: Exception) -> str:
    """One line that says why a model could not be used."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def load_all(
    job: Mapping[str, Any], watch: Callable[[], None], loader: Callable[..., Run] = load
) -> tuple[dict[str, Run], dict[str, str]]:
    """What runs each model, and the reasons of those that cannot be run."""
    options = session_options(threads=job["threads"], batch=job["batch"])
    loaded: dict[str, Run] = {}
    failures: dict[str, str] = {}
    models = job["models"]
    for done, model in enumerate(models, start=1):
        watch()
        try:
            loaded[model["key"]] = loader(model["path"], options, batch=job["batch"], seed=job["seed"])
        except Exception as error:  # noqa: BLE001 - the runtime's errors share no base, and the other models go on
            failures[model["key"]] = reason_of(error)
        if done % 16 == 0 or done == len(models):
            say(stage="load", done=done, total=len(models))
    return loaded, failures


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
    quotas = [quota for folder in _groups(root) if (quota := _quota_of(folder)) is not None]
    return min(quotas, default=None)


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


def _quota_of(group: Path) -> float | None:
    words = _text(group / "cpu.max").split() or [
        _text(group / "cpu.cfs_quota_us").strip(),
        _text(group / "cpu.cfs_period_us").strip(),
    ]
    try:
        quota, period = (float(word) for word in words)
    except ValueError:  # "max", or a file that is not there
        return None
    cores = quota / period if quota > 0 and period > 0 else math.inf
    return cores if math.isfinite(cores) else None


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
    threads: int, core: int | None, *, cores: tuple[int, ...] | None, quota: float | None, where: str = "here"
) -> tuple[int, ...] | None:
    """As many cores as there are threads; None on systems that do not say which there are.

    Args:
        threads: Of the runtime.
        core: One of the cores to take; None: the last ones, as interrupts and other programs tend to sit on the first.
        cores: That the process may use, ascending.
        quota: Cores' worth of time that the process may spend.
        where: How errors call the machine.

    Raises:
        CoresError: If there are fewer cores than threads, or the core is not among them.

    Example:
        >>> choose_cores(2, None, cores=(0, 1, 2, 3), quota=None), choose_cores(1, 0, cores=(0, 1), quota=0.5)
        ((2, 3), (0,))
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
    if core is None:
        return cores[-threads:]
    if core not in cores:
        raise CoresError(f"core is {core}; this process may use {_ranges(cores)} {where}", "set core to one of these")
    others = [other for other in cores if other != core]
    return tuple(sorted([core, *others[: threads - 1]]))


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
        quota: Cores' worth of time this process may spend; None: no limit, or unknown.
        hypervisor: Who made the virtual machine; "none" on bare metal.
        memory_bytes: Of the whole machine.
        vendor: Of the processor; on ARM systems the number of who designed it.
        caches: Size in bytes of each cache that the first core sees, as "L1 data".
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

    def to_json(self) -> dict[str, Any]:
        """A plain map of everything, unknown parts as None.

        Example:
            >>> "cpu_model" in fingerprint().to_json()
            True
        """
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Fingerprint:
        """From what `to_json` gives.

        Raises:
            TypeError: If a field is missing or unknown.

        Example:
            >>> Fingerprint.from_json(fingerprint().to_json()) == fingerprint()
            True
        """
        values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in row.items()}
        return cls(**values)


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
    return Fingerprint(
        cpu_model=info.get("model name") or info.get("Model") or info.get("Hardware") or platform.machine() or None,
        family=_number(info.get("cpu family")),
        model=_number(info.get("model")),
        stepping=_number(info.get("stepping")),
        flags=tuple(flag for flag in FLAGS if flag in words) if words else None,
        cores=os.cpu_count(),
        affinity=allowed_cores() if affinity is None else affinity,
        quota=quota(),
        hypervisor=_hypervisor(root, words),
        memory_bytes=_memory(root),
        vendor=info.get("vendor_id") or info.get("CPU implementer") or None,
        caches=_caches(root),
    )


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


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


# --------------------------------------------------------------------------------------------------------- machine


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


def used_uj(before: Sequence[Counter] | None, after: Sequence[Counter] | None) -> int | None:
    """Microjoules between two readings less than a turn of the counter apart; None if unknown or no step was seen.

    Example:
        >>> used_uj([Counter(90, 100)], [Counter(15, 100)]), used_uj([Counter(9, 100)], [Counter(9, 100)])
        (25, None)
    """
    if before is None or after is None or len(before) != len(after):
        return None
    used = 0
    for one, other in zip(before, after, strict=True):
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
        sleep: Waits for some seconds.
        pin: As above.
        cores: That the load is shared by.
        load: Makes what runs a model.
    """

    clock: Clock = time.perf_counter_ns
    load_average: Callable[[], float | None] = load_average
    ticks: Callable[[], tuple[int, int] | None] = ticks
    switches: Callable[[], int | None] = switches
    governor: Callable[[], str | None] = governor
    energy: Callable[[], Sequence[Counter] | None] = rapl
    sleep: Callable[[float], None] = time.sleep
    pin: Callable[[Sequence[int] | None], list[int] | None] = pin
    cores: Callable[[], int | None] = os.cpu_count
    load: Callable[..., Run] = load


def energies(
    loaded: Mapping[str, Run], machine: Machine, watch: Callable[[], None]
) -> tuple[dict[str, float | None], float | None]:
    """Millijoules of one run of each model, whatever else the package does included, and its watts while idle.

    Each model runs in a loop, as the counters step once in a millisecond. None is unmeasured, never 0.
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
        runs, start, before = 0, machine.clock(), machine.energy()
        while machine.clock() - start < ENERGY_NS:
            loaded[key]()
            runs += 1
        used = used_uj(before, machine.energy())
        found[key] = None if used is None else used / 1000 / runs
        say(stage="energy", done=done, total=len(loaded))
    return found, None if idle is None else idle * 1000 / idle_ns


def marks_of(conditions: Mapping[str, Any], *, cores: int | None) -> list[str]:
    """What a reader of the numbers should know of the machine, one line each; empty on a quiet one.

    Args:
        conditions: As `measure` makes them.
        cores: That the load is shared by.

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
    if conditions["capped"]:
        marks.append(f"short: {conditions['rounds']} rounds, to keep to {conditions['limit_s']:.0f} s")
    return marks


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
    """
    import onnxruntime

    machine = machine or Machine()
    started = machine.clock()
    watch = watcher(job["parent"])
    watch()
    load_before, ticks_before = machine.load_average(), machine.ticks()
    here = fingerprint()  # before the pinning, which changes what it says
    pinned = machine.pin(
        job["cores"] or choose_cores(job["threads"], job.get("core"), cores=here.affinity, quota=here.quota)
    )
    settle_allocator()
    loaded, failures = load_all(job, watch, machine.load)
    log_path = Path(job["log"]) if job.get("log") else None
    log = Log(log_path, identity=identity_of(job) if log_path else "", keys=list(loaded))
    result: dict[str, Any] = {
        "schema": SCHEMA,
        "about": job.get("about"),
        "timings": {},
        "failures": failures,
        "noise": None,
        "verdict": "quiet",
    }
    found: dict[str, Any] = {"drift": None, "factor_low": None, "factor_high": None, "idle_watts": None}
    dropped = switched = visits = 0
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        if loaded:
            plan, kept, noise = _rounds(job, loaded, log, machine, watch)
            rounds = log.rounds
            joules, found["idle_watts"] = energies(loaded, machine, watch) if job.get("energy", True) else ({}, None)
            for key in sorted(loaded):
                row = summary(pooled(rounds, key, kept[key]), visits=int(kept[key].sum()))
                result["timings"][key] = row | {"energy_mj": joules.get(key)}
                dropped += int((~kept[key]).sum())
            visits, switched = len(loaded) * len(rounds), sum(len(one.switched) for one in rounds)
            factors = round_factors(rounds, _steady(job, loaded))
            found |= {"drift": drift_of(factors), "factor_low": factors.min(), "factor_high": factors.max()}
            result |= {"noise": noise, "verdict": verdict(noise, job["on_noise"])}
        else:
            plan = Plan(0, {}, 0.0, LIMIT_S, capped=False)
    finally:
        gc.enable()
        gc.unfreeze()
    empty = [one.empty_ns for one in log.rounds if one.empty_ns.size]
    result["empty_run_us"] = float(np.percentile(np.concatenate(empty), 25)) / 1000 if empty else None
    loads = [load for load in (load_before, *(one.load for one in log.rounds)) if load is not None]
    build = getattr(onnxruntime, "get_build_info", None)
    conditions: dict[str, Any] = {
        "onnxruntime": onnxruntime.__version__,
        "build": None if build is None else build(),
        "provider": "CPUExecutionProvider",
        "optimization_level": "all",
        "intra_op_threads": job["threads"],
        "inter_op_threads": 1,
        "spinning": False,
        "denormals_as_zero": True,
        "arena": True,
        "graph_capture": False,
        "python": platform.python_version(),
        "machine": here.to_json(),
        "pinned": pinned,
        "governor": machine.governor(),
        "batch": job["batch"],
        "rounds": len(log.rounds),
        "runs": RUNS,
        "seed": job["seed"],
        "processes": log.process if log.rounds and log.rounds[-1].process == log.process else log.process - 1,
        "planned_s": plan.seconds,
        "limit_s": plan.limit_s,
        "capped": plan.capped,
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
    result["conditions"] = conditions | {"marks": marks_of(conditions, cores=machine.cores())}
    return result


def this_machine() -> dict[str, Any]:
    """What this machine is, and the runtime's version as it says itself: builds for some hardware have other names."""
    import onnxruntime

    return {"fingerprint": fingerprint().to_json(), "onnxruntime": str(onnxruntime.__version__)}


def _steady(job: Mapping[str, Any], loaded: Mapping[str, Run]) -> list[str]:
    """The models that tell how the machine goes: the reference networks, else all."""
    references = [model["key"] for model in job["models"] if model["kind"] == "reference" and model["key"] in loaded]
    return sorted(references or loaded)


def _rounds(
    job: Mapping[str, Any], loaded: Mapping[str, Run], log: Log, machine: Machine, watch: Callable[[], None]
) -> tuple[Plan, dict[str, NDArray[np.bool_]], dict[str, float | int | None]]:
    """Do the rounds that the log lacks; the plan, which visits count, and the noise."""
    if log.plan is None:
        pilots = {key: pilot_us(run, machine.clock) for key, run in loaded.items()}
        log.begin(plan_for(pilots, rounds=job["rounds"], limit_s=job.get("limit_s") or LIMIT_S))
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
    nothing = None
    if job["empty"] is not None:
        options = session_options(threads=job["threads"], batch=job["batch"])
        nothing = machine.load(job["empty"], options, batch=job["batch"], seed=job["seed"])
    keys = sorted(loaded)
    whole = [model["key"] for model in job["models"] if model["key"] in loaded and model["kind"] != "block"]

    def one_round(number: int) -> Round:
        start = machine.clock()
        runs_ns, switched = {}, set()
        # Seeded by the round's number, so that a process that goes on visits in the same orders.
        for i in np.random.default_rng([job["seed"], number]).permutation(len(keys)):
            key = keys[i]
            watch()
            before = machine.switches()
            runs_ns[key] = visit(loaded[key], plan.runs[key], machine.clock)
            if machine.switches() != before:
                switched.add(key)
        empty = np.array([], dtype=np.int64) if nothing is None else visit(nothing, SHORT_RUNS, machine.clock)
        took = machine.clock() - start
        return Round(runs_ns, frozenset(switched), empty, machine.load_average(), took, log.process)

    def on_round(one: Round, done: int, planned: int) -> None:
        log.append(one)
        total = len(keys)
        say(stage="measure", done=done * total, total=planned * total, round=done, rounds=planned)

    _, kept, noise = collect(
        one_round,
        sorted(whole) if len(whole) >= FEWEST_NETWORKS else keys,
        _steady(job, loaded),
        plan=plan,
        done=log.rounds,
        drop=job.get("drop_disturbed", False),
        on_round=on_round,
    )
    return plan, kept, noise


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
        if list(arguments) == ["--machine"]:
            print(json.dumps(this_machine()))
            return 0
        if len(arguments) != 2:
            print("usage: python measure.py job.json result.json", file=sys.stderr)
            return 2
        request, target = map(Path, arguments)
        job = json.loads(request.read_text(encoding="utf-8"))
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
    if result["noise"] is None:
        return "nothing could be run"
    said = f"halves differ by {result['noise']['median']:.1%}"
    return {
        "quiet": f"a quiet machine ({said})",
        "noisy": f"a noisy machine ({said}): better stop other work and run it again",
        "refused": f"too noisy ({said}): stop other work and run it again",
    }[result["verdict"]]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
