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

MEDIAN_LIMIT = 0.01
P95_LIMIT = 0.03
TAU_LIMIT = 0.97
REFUSE_MEDIAN = 0.03  # beyond this not even the default policy takes the numbers
DOUBLINGS = 2
FEWEST_NETWORKS = 5  # with fewer whole networks the gate looks at all models

Floats = NDArray[np.float64]
Run = Callable[[], object]


# What the process ends with where a line on the error stream is all there is to say.
PARENT_GONE, NOT_THIS_MACHINE, NO_RUNTIME = 3, 10, 11


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
    import onnxruntime

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
    import onnxruntime

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
    return quota / period if quota > 0 and period > 0 else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def usable_cores(cores: tuple[int, ...] | None, quota: float | None) -> int | None:
    """How many threads can run at once, the quota rounded up; None if nothing is known.

    Example:
        >>> usable_cores((0, 1, 2, 3), 1.5), usable_cores((1,), None), usable_cores(None, None)
        (2, 1, None)
    """
    bounds = [len(cores)] if cores else []
    if quota is not None:
        bounds.append(math.ceil(quota))
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
    import onnxruntime

    started = time.perf_counter()
    watch = watcher(job["parent"])
    watch()
    load_before, ticks_before = load_average(), ticks()
    here = fingerprint()  # before the pinning, which changes what it says
    pinned = pin(job["cores"] or choose_cores(job["threads"], job.get("core"), cores=here.affinity, quota=here.quota))
    settle_allocator()
    loaded, failures = load_all(job, watch)
    result: dict[str, Any] = {
        "schema": SCHEMA,
        "about": job.get("about"),
        "timings": {},
        "failures": failures,
        "noise": None,
        "verdict": "quiet",
    }
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
        "machine": here.to_json(),
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


def this_machine() -> dict[str, Any]:
    """What this machine is, and the runtime's version as it says itself: builds for some hardware have other names."""
    import onnxruntime

    return {"fingerprint": fingerprint().to_json(), "onnxruntime": str(onnxruntime.__version__)}


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
        for model in job["models"]:
            model["path"] = str(request.parent / model["path"])
        if job["empty"] is not None:
            job["empty"] = str(request.parent / job["empty"])
        result = measure(job)
    except ParentGoneError:
        return PARENT_GONE
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
    if result["about"] is not None:  # run by hand: nobody reads the result before it is carried home
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
