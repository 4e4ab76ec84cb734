"""The measuring program: times ONNX files on the machine it runs on. Standard library, numpy and onnxruntime only.

    python measure.py job.json result.json

It is one file that imports nothing of hwnas, because it also runs where hwnas is not installed. Progress goes to the
standard output as JSON lines; the result is a JSON file that appears whole or not at all. A job is

    {"models": [{"key": "a", "path": "a.onnx", "kind": "network"}, ...],  kind: "block", "network" or "reference"
     "batch": 1, "threads": 1, "cores": [1] or null, "rounds": 20, "seed": 0, "on_noise": "default",
     "empty": "empty.onnx" or null, "parent": pid or null}

How it measures, and why (numbers from trials on a shared two-core machine):

* All sessions live in one process, and rounds visit all models in a new random order: what drifts hits all alike.
  The same networks timed one after the other differ by 1.2 % at the median, interleaved by 0.14 to 0.4 %.
* A visit is 2 discarded and 12 to 20 timed runs: the first run after other models takes 1.3 to 2.9 times as long.
* The estimate is the lower quartile of all runs pooled. It repeats to 0.4 %, the minimum to 0.6 %, the mean to 1.8 %.
  No run is thrown away.
* The gate compares each model's even rounds with its odd rounds. If they disagree, the rounds are doubled, twice at
  most; what is still too noisy then is marked, or refused.
"""

from __future__ import annotations

import functools
import gc
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

SCHEMA = 1
WARM_UP = 2
SHORT_US = 50.0  # below this a visit takes more runs, so that the clock's grain does not show
RUNS, SHORT_RUNS = 12, 20

MEDIAN_LIMIT = 0.01
P95_LIMIT = 0.03
TAU_LIMIT = 0.97
REFUSE_MEDIAN = 0.03  # beyond this not even the default policy takes the numbers
DOUBLINGS = 2
FEWEST_NETWORKS = 5  # with fewer whole networks the gate looks at all models

Floats = NDArray[np.float64]
Run = Callable[[], object]


class ParentGoneError(Exception):
    """Whoever asked for the measurement no longer runs."""


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


def visit(run: Run, runs: int) -> NDArray[np.int64]:
    """The nanoseconds of some runs in a row, after a few that are not counted."""
    clock = time.perf_counter_ns
    for _ in range(WARM_UP):
        run()
    took = np.empty(runs, dtype=np.int64)
    for i in range(runs):
        start = clock()
        run()
        took[i] = clock() - start
    return took


def collect(
    visits: Mapping[str, Callable[[], NDArray[np.int64]]],
    networks: Sequence[str],
    *,
    rounds: int,
    rng: np.random.Generator,
    on_round: Callable[[int, int], None],
) -> tuple[dict[str, list[NDArray[np.int64]]], dict[str, float | int | None]]:
    """Visit all models in rounds until the halves agree, or the rounds have been doubled twice.

    Args:
        visits: What takes one visit of each model and returns its runs in nanoseconds.
        networks: The models that the gate looks at.
        rounds: To begin with.
        rng: Of the orders.
        on_round: Called with the rounds done and the rounds planned.

    Returns:
        Per model its visits, in order, and the noise of the networks.
    """
    keys = sorted(visits)
    taken: dict[str, list[NDArray[np.int64]]] = {key: [] for key in keys}
    done = 0
    for doubling in range(DOUBLINGS + 1):
        planned = rounds * 2**doubling
        while done < planned:
            for i in rng.permutation(len(keys)):
                taken[keys[i]].append(visits[keys[i]]())
            done += 1
            on_round(done, planned)
        halves = [
            np.array([np.percentile(np.concatenate(taken[key][half::2]), 25) for key in networks]) for half in (0, 1)
        ]
        noise = noise_of(halves[0], halves[1])
        if is_quiet(noise):
            break
    return taken, noise


# --------------------------------------------------------------------------------------------------------- runtime


def session_options(*, threads: int, batch: int) -> onnxruntime.SessionOptions:
    """As a careful deployment would set them: explicit threads, no spinning, no profiling, all optimisations."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Random weights can make denormal numbers, which are 5 to 30 times slower and say nothing of the architecture.
    options.add_session_config_entry("session.set_denormal_as_zero", "1")
    options.add_free_dimension_override_by_name("batch", batch)
    return options


def load(path: str, options: onnxruntime.SessionOptions, *, batch: int, seed: int) -> Run:
    """A call that runs one model on one fixed normal input, tried once.

    Raises:
        ValueError: If the input is not one image batch of known size, or an output is not finite.
    """
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    inputs = session.get_inputs()
    if len(inputs) != 1 or inputs[0].type != "tensor(float)":
        raise ValueError(f"has inputs {[(i.name, i.type) for i in inputs]}; expected one of type tensor(float)")
    dimensions = inputs[0].shape
    shape = [batch if dimension == "batch" else dimension for dimension in dimensions]
    if not all(isinstance(dimension, int) for dimension in shape) or shape[:1] != [batch]:
        raise ValueError(f"input {inputs[0].name} is {dimensions}; expected batch {batch} and fixed sizes")
    image = np.random.default_rng([seed, *shape]).standard_normal(shape, dtype=np.float32)
    run = functools.partial(session.run, None, {inputs[0].name: image})
    if not all(np.isfinite(output).all() for output in run()):
        raise ValueError("an output is not finite")
    return run


def reason_of(error: Exception) -> str:
    """One line that says why a model could not be used."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def load_all(job: Mapping[str, Any], watch: Callable[[], None]) -> tuple[dict[str, Run], dict[str, str]]:
    """What runs each model, and the reasons of those that cannot be run."""
    options = session_options(threads=job["threads"], batch=job["batch"])
    loaded: dict[str, Run] = {}
    failures: dict[str, str] = {}
    models = job["models"]
    for done, model in enumerate(models, start=1):
        watch()
        try:
            loaded[model["key"]] = load(model["path"], options, batch=job["batch"], seed=job["seed"])
        except Exception as error:  # noqa: BLE001 - the runtime's errors share no base, and the other models go on
            failures[model["key"]] = reason_of(error)
        if done % 16 == 0 or done == len(models):
            say(stage="load", done=done, total=len(models))
    return loaded, failures


def visits_of(loaded: Mapping[str, Run], watch: Callable[[], None]) -> dict[str, Callable[[], NDArray[np.int64]]]:
    """What takes one visit of each model; quick models get more runs."""

    def one(run: Run, runs: int) -> NDArray[np.int64]:
        watch()
        return visit(run, runs)

    visits: dict[str, Callable[[], NDArray[np.int64]]] = {}
    for key, run in loaded.items():
        pilot_us = visit(run, 5).min() / 1000
        visits[key] = functools.partial(one, run, SHORT_RUNS if pilot_us < SHORT_US else RUNS)
    return visits


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


def watcher(parent: int | None) -> Callable[[], None]:
    """A check that raises when the parent is gone, so that nobody's measurement goes on for ever."""

    def watch() -> None:
        if parent is not None and os.name == "posix" and os.getppid() != parent:
            raise ParentGoneError

    return watch


def measure(job: Mapping[str, Any]) -> dict[str, Any]:
    """Do a job; see the top of the file.

    Raises:
        ParentGoneError: If the parent ended meanwhile.
    """
    started = time.perf_counter()
    watch = watcher(job["parent"])
    load_before, ticks_before = load_average(), ticks()
    pinned = pin(job["cores"])
    settle_allocator()
    loaded, failures = load_all(job, watch)
    result: dict[str, Any] = {"schema": SCHEMA, "timings": {}, "failures": failures, "noise": None, "verdict": "quiet"}
    empty: list[NDArray[np.int64]] = []
    rounds_done = 0
    gc.collect()
    gc.freeze()
    gc.disable()
    if loaded:
        visits = visits_of(loaded, watch)
        whole = [model["key"] for model in job["models"] if model["key"] in loaded and model["kind"] != "block"]
        nothing = None
        if job["empty"] is not None:
            options = session_options(threads=job["threads"], batch=job["batch"])
            nothing = load(job["empty"], options, batch=job["batch"], seed=job["seed"])

        def on_round(done: int, planned: int) -> None:
            nonlocal rounds_done
            rounds_done = done
            if nothing is not None:
                empty.append(visit(nothing, SHORT_RUNS))
            total = len(loaded)
            say(stage="measure", done=done * total, total=planned * total, round=done, rounds=planned)

        taken, noise = collect(
            visits,
            sorted(whole) if len(whole) >= FEWEST_NETWORKS else sorted(loaded),
            rounds=job["rounds"],
            rng=np.random.default_rng(job["seed"]),
            on_round=on_round,
        )
        for key in sorted(taken):
            result["timings"][key] = summary(np.concatenate(taken[key]), visits=len(taken[key]))
        result |= {"noise": noise, "verdict": verdict(noise, job["on_noise"])}
    gc.enable()
    result["empty_run_us"] = float(np.percentile(np.concatenate(empty), 25)) / 1000 if empty else None
    result["conditions"] = {
        "onnxruntime": onnxruntime.__version__,
        "provider": "CPUExecutionProvider",
        "optimization_level": "all",
        "intra_op_threads": job["threads"],
        "inter_op_threads": 1,
        "spinning": False,
        "denormals_as_zero": True,
        "python": platform.python_version(),
        "pinned": pinned,
        "batch": job["batch"],
        "rounds": rounds_done,
        "runs": RUNS,
        "seed": job["seed"],
        "load_before": load_before,
        "load_after": load_average(),
        "steal_share": steal_share(ticks_before, ticks()),
        "seconds": time.perf_counter() - started,
    }
    return result


def main(arguments: Sequence[str]) -> int:
    """Read a job, write its result; the exit code."""
    if len(arguments) != 2:
        print("usage: python measure.py job.json result.json", file=sys.stderr)
        return 2
    job = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
    try:
        result = measure(job)
    except ParentGoneError:
        return 3
    target = Path(arguments[1])
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(result, allow_nan=False), encoding="utf-8")
    temporary.replace(target)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
