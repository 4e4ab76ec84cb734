"""Evaluating several architectures at once, in processes that can die without taking the search along."""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from hwnas.core import Architecture, Metric, RecipeError
from hwnas.core.own_file import own_line
from hwnas.device import MOST_THREADS
from hwnas.evaluation.global_seeds import seed_globals
from hwnas.evaluation.protocol import Evaluator, Preparing

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


@dataclass(frozen=True)
class Job:
    """One question to an evaluator."""

    architecture: Architecture
    fidelity: str
    weights: str | None
    seed: int


@dataclass(frozen=True)
class Answer:
    """What came of a job.

    Attributes:
        metrics: Finite numbers by name; empty if it failed.
        failure: Why it failed; empty if it did not.
        seconds: What it took.
    """

    metrics: Mapping[str, float | Metric] = field(default_factory=dict)
    failure: str = ""
    seconds: float = 0.0


def answer(evaluate: Evaluator, job: Job, *, clock: Callable[[], float] = time.perf_counter) -> Answer:
    """Ask an evaluator, here and now; whatever it raises or gets wrong becomes the answer's failure.

    Example:
        >>> from hwnas.evaluation.protocol import FromFunction
        >>> job = Job(Architecture({"k": 3}), "full", None, 0)
        >>> answer(FromFunction(lambda a: {"accuracy": float("nan")}), job).failure
        'accuracy is nan; it must be a finite number'
    """
    seed_globals(job.seed)
    started = clock()
    try:
        returned = evaluate(job.architecture, fidelity=job.fidelity, weights=job.weights, seed=job.seed)
        metrics, failure = _finite(returned)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - users' code: one bad network must not end a search
        text = " ".join(str(error).split())
        metrics, failure = {}, (f"{type(error).__name__}: {text}" if text else type(error).__name__) + own_line(error)
    return Answer(metrics, failure, max(0.0, clock() - started))


def _finite(returned: object) -> tuple[dict[str, float | Metric], str]:
    if not isinstance(returned, Mapping) or not returned:
        return {}, f"the evaluator returned {returned!r:.80}; it must return metrics by name"
    metrics: dict[str, float | Metric] = {}
    for name, value in returned.items():
        if isinstance(value, Metric):
            metrics[str(name)] = replace(value, value=float(value.value))  # a numpy number is not JSON
        elif math.isfinite(float(value)):
            metrics[str(name)] = float(value)
        else:
            return {}, f"{name} is {value}; it must be a finite number"
    return metrics, ""


class Workers:
    """A fixed number of processes that answer jobs; with one worker and no time limit, this process does.

    Every evaluation runs on `threads` torch threads, here as in a worker, so that the number of workers changes no bit
    of a result. Workers are started with the first jobs (spawn: nothing is inherited from this process), and end with
    it, even if it is killed. A worker that dies, or takes longer than `seconds`, is replaced, and its job fails with
    the reason; the others are kept. An evaluator with a method `prepare()` (reading the images, for example) has it
    called once in each worker, before the clock of its first job starts.

    Args:
        evaluate: Pickled if there is more than one worker or a time limit.
        workers: How many jobs run at once.
        threads: Threads of each evaluation.
        seconds: What one evaluation may take; None for no limit.
        clock: Measures jobs that run in this process; workers use `time.perf_counter`.

    Raises:
        RecipeError: If `workers` or `threads` is below 1 or above 1024, `seconds` is not above 0, or the evaluator
            cannot be pickled though it must.

    Example:
        >>> from hwnas.evaluation.protocol import FromFunction
        >>> with Workers(FromFunction(lambda a: {"accuracy": 0.5}), workers=1) as pool:
        ...     [a.metrics for a in pool.answers([Job(Architecture({"k": 3}), "full", None, 0)])]
        [{'accuracy': 0.5}]
    """

    def __init__(
        self,
        evaluate: Evaluator,
        *,
        workers: int = 1,
        threads: int = 1,
        seconds: float | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        if workers < 1 or threads < 1:
            raise RecipeError(f"workers is {workers}, threads is {threads}; both must be at least 1")
        for name, asked in (("workers", workers), ("threads", threads)):
            if asked > MOST_THREADS:
                raise RecipeError(f"{name} is {asked}; it must be at most {MOST_THREADS}")
        if seconds is not None and not 0 < seconds < math.inf:
            raise RecipeError(f"seconds is {seconds}; expected a number above 0, or none for no limit")
        self.workers = workers
        self._evaluate = evaluate
        self._threads = threads
        self._seconds = seconds
        self._clock = clock
        self._here = workers == 1 and seconds is None
        self._pickled = b"" if self._here else _pickled(evaluate)
        self._slots: list[_Slot] = []
        self._finalizer = weakref.finalize(self, _end_all, self._slots)

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the workers. They start again with the next jobs."""
        _end_all(self._slots)

    def answers(self, jobs: Sequence[Job]) -> Generator[Answer, None, None]:
        """The answers in the order of the jobs, each as soon as those before it are there.

        A caller that stops early loses what was under way.

        Raises:
            RecipeError: If a worker cannot start.
        """
        if self._here:
            for job in jobs:
                with _torch_threads(self._threads):
                    result = answer(self._evaluate, job, clock=self._clock)
                yield result
        elif jobs:
            yield from self._from_processes(jobs)

    def _start(self, n: int) -> None:
        new = [_Slot(self._threads) for _ in range(n - len(self._slots))]
        self._slots += new
        for slot in new:  # after all are started: each reads once it has imported what it needs
            slot.load(self._pickled)

    def _from_processes(self, jobs: Sequence[Job]) -> Generator[Answer, None, None]:
        self._start(min(self.workers, len(jobs)))
        waiting = list(reversed(range(len(jobs))))
        done: dict[int, Answer] = {}
        under_way: dict[int, _Slot] = {}
        try:
            for n in range(len(jobs)):
                while n not in done:
                    idle = [slot for slot in self._slots if slot not in under_way.values()]
                    for slot in idle[: len(waiting)]:
                        index = waiting.pop()
                        slot.send(jobs[index])
                        under_way[index] = slot
                    left = [slot.seconds_left(self._seconds) for slot in under_way.values()]
                    wait([source for slot in under_way.values() for source in slot.sources], _least(left))
                    for index, slot in list(under_way.items()):
                        result = slot.poll(self._seconds)
                        if result is not None:
                            done[index] = result
                            del under_way[index]
                            if not slot.alive:
                                self._slots.remove(slot)
                                self._start(len(self._slots) + 1)
                yield done.pop(n)
        finally:
            for slot in under_way.values():  # stopped early: their answers belong to nobody
                slot.end()
                self._slots.remove(slot)


class _Slot:
    """One worker process and the pipe to it."""

    def __init__(self, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process: BaseProcess = context.Process(
            target=_work, args=(theirs, threads), daemon=True, name="hwnas-worker"
        )
        with _environment({name: str(threads) for name in _THREAD_VARIABLES}):
            self._process.start()
        theirs.close()
        self._started = time.perf_counter()
        self._ready = False
        self.alive = True

    @property
    def sources(self) -> tuple[Connection | int, ...]:
        """What to wait for: an answer or a death."""
        return self._connection, self._process.sentinel

    def load(self, pickled: bytes) -> None:
        # Not an argument of the process: those go through a pipe that this process holds the other end of as well, and
        # a child that dies before it has read them (a program without a guarded main) leaves the write waiting forever.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._connection.send_bytes(pickled)

    def send(self, job: Job) -> None:
        self._started = time.perf_counter()
        # A worker that died while idle shows in the next poll, as one that dies at work does.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._connection.send(job)

    def seconds_left(self, limit: float | None) -> float | None:
        """Of the present job's time; None without a limit, and while the worker is still preparing."""
        if limit is None or not self._ready:
            return None
        return max(0.0, self._started + limit - time.perf_counter())

    def poll(self, limit: float | None) -> Answer | None:
        # The answer if it is there, a failure if the worker is gone or over its time, None while it works.
        alive = self._process.is_alive()  # asked before the pipe, or a last answer could slip between
        try:
            message = self._connection.recv() if self._connection.poll() else None
        except (EOFError, ConnectionResetError):
            alive, message = False, None
        if isinstance(message, Answer):
            return message
        if message:
            self.end()
            raise RecipeError(
                f"a worker could not load the evaluator: {message}",
                hint="define it in a module that a new process can import, or use workers = 1 without a time limit",
            )
        if message is not None:
            self._ready = True
            self._started = time.perf_counter()  # preparing is nobody's evaluation
            return None
        if not alive:
            return self._post_mortem()
        return self._timed_out(limit) if limit is not None and self.seconds_left(limit) == 0 else None

    def _timed_out(self, limit: float) -> Answer:
        self.end()
        return Answer(
            failure=f"timed out: no answer within {limit:g} s, the time limit of one evaluation",
            seconds=time.perf_counter() - self._started,
        )

    def _post_mortem(self) -> Answer:
        self._process.join(timeout=5.0)  # the pipe ends a moment before the process does
        self.end()
        code = self._process.exitcode
        if not self._ready:
            raise RecipeError(
                f"a worker ended while starting (exit code {code})",
                hint='start your program under `if __name__ == "__main__":`, or use workers = 1 without a time limit',
            )
        how = f"by {signal.Signals(-code).name}" if code is not None and code < 0 else f"with exit code {code}"
        return Answer(failure=f"its worker ended {how}", seconds=time.perf_counter() - self._started)

    def end(self) -> None:
        """Harmless when repeated."""
        self.alive = False
        self._connection.close()
        if self._process.is_alive():
            self._process.kill()
        self._process.join()


def _least(seconds: Sequence[float | None]) -> float | None:
    return min((value for value in seconds if value is not None), default=None)


def _end_all(slots: list[_Slot]) -> None:
    for slot in slots:
        slot.end()
    slots.clear()


def _work(connection: Connection, threads: int) -> None:
    """The life of a worker."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # they reach the whole group; the driver ends us
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    try:
        pickled = connection.recv_bytes()
    except (EOFError, ConnectionResetError):  # the driver is gone
        return
    try:
        evaluate = pickle.loads(pickled)  # noqa: S301 - from our own parent's memory, never from disk
        if isinstance(evaluate, Preparing):
            with _torch_threads(threads):
                evaluate.prepare()
    except Exception as error:  # noqa: BLE001 - told to the driver, which raises it
        connection.send(f"{type(error).__name__}: {error}")
        return
    connection.send("")
    with contextlib.suppress(EOFError, ConnectionResetError, BrokenPipeError):
        while True:
            job = connection.recv()
            with _torch_threads(threads):
                connection.send(answer(evaluate, job))


def _die_with_parent() -> None:
    """End this process when the driver is gone, even in the middle of a job: each orphan would slow the next run."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "a worker is always a child"
    # The sentinel alone may stay silent: a child that the driver forked can hold the other end open.
    while os.getppid() == parent.pid and not wait([parent.sentinel], timeout=1.0):
        pass
    os._exit(1)


@contextlib.contextmanager
def _torch_threads(threads: int) -> Iterator[None]:
    torch = sys.modules.get("torch")
    if torch is None:  # a worker's environment says the same to a torch imported later
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _pickled(evaluate: Evaluator) -> bytes:
    try:
        return pickle.dumps(evaluate)
    except Exception as error:  # pickling runs users' code, which may raise anything
        raise RecipeError(
            f"the evaluator {type(evaluate).__name__} cannot be sent to worker processes: {error}",
            hint="define it at the top level of a module, or use workers = 1 without a time limit",
        ) from error
