import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

from hwnas.core import Architecture, Metric, RecipeError
from hwnas.evaluation import Answer, Evaluator, FromFunction, Job, Preparing, Workers, answer
from tests.fake_torch import FakeTorch

ROOT = Path(__file__).parents[2]


def jobs(*ks: int) -> list[Job]:
    return [Job(Architecture({"k": k}), "full", None, seed=100 + k) for k in ks]


def scripted(architecture: Architecture) -> Mapping[str, float | Metric]:
    """What k says: die in some way, or answer after a while."""
    match architecture["k"]:
        case 1:
            time.sleep(0.1)  # the first is the slowest: order must not be the order of finishing
        case 7:
            os._exit(3)
        case 8:
            os.kill(os.getpid(), signal.SIGSEGV)
        case 9:
            raise ValueError("no\nsuch kernel")
        case 10:
            sys.exit("stop")
        case 11:
            return {}
        case 12:
            return {"accuracy": float("inf")}
        case 13:
            return {"accuracy": Metric(np.float64(0.5), "share", "measured"), "loss": np.float64(1.0)}
        case 14:
            return {"accuracy": "high"}  # type: ignore[dict-item]
    return {"accuracy": float(architecture["k"])}


def environment(architecture: Architecture) -> Mapping[str, float]:
    return {
        "pid": os.getpid(),
        "threads": float(os.environ["OMP_NUM_THREADS"]),
        "draw": float(np.random.random()),  # noqa: NPY002
    }


class Unloadable:
    def __call__(
        self, architecture: Architecture, *, fidelity: str, weights: str | None, seed: int
    ) -> dict[str, float]:
        return {}

    def __reduce__(self) -> "tuple[object, tuple[str]]":
        return (_refuse, ("no such GPU",))


def _refuse(text: str) -> None:
    raise RuntimeError(text)


@pytest.mark.parametrize(
    ("k", "failure"),
    [
        (9, "ValueError: no such kernel"),
        (10, "SystemExit: stop"),
        (11, "the evaluator returned {}; it must return metrics by name"),
        (12, "accuracy is inf; it must be a finite number"),
        (14, "ValueError: could not convert string to float: 'high'"),
    ],
)
def test_whatever_goes_wrong_is_the_answer_s_failure(k: int, failure: str) -> None:
    got = answer(FromFunction(scripted), jobs(k)[0])
    assert got.failure == failure
    assert got.metrics == {}


def test_numpy_numbers_become_plain_ones() -> None:
    metrics = answer(FromFunction(scripted), jobs(13)[0]).metrics
    assert metrics == {"accuracy": Metric(0.5, "share", "measured"), "loss": 1.0}
    assert isinstance(metrics["accuracy"], Metric)
    assert type(metrics["accuracy"].value) is type(metrics["loss"]) is float


def test_the_job_and_the_seeds_reach_the_evaluator() -> None:
    def show(architecture: Architecture, *, fidelity: str, weights: str | None, seed: int) -> dict[str, float]:
        assert (fidelity, weights) == ("low", "net@3")
        return {"seed": seed, "draw": np.random.random()}  # noqa: NPY002

    job = Job(Architecture({"k": 1}), "low", "net@3", 2**62)
    first, second = answer(show, job), answer(show, job)
    assert first.failure == ""
    assert first.metrics == second.metrics
    assert first.metrics["seed"] == 2**62


def test_interrupts_are_not_swallowed() -> None:
    def interrupted(architecture: Architecture) -> Mapping[str, float]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        answer(FromFunction(interrupted), jobs(1)[0])


def test_the_clock_is_the_one_handed_in() -> None:
    readings = iter([10.0, 12.5])
    with Workers(FromFunction(scripted), clock=lambda: next(readings)) as workers:
        assert [a.seconds for a in workers.answers(jobs(2))] == [2.5]


@pytest.fixture(scope="module")
def two() -> Iterator[Workers]:
    with Workers(FromFunction(scripted), workers=2) as workers:
        yield workers


def test_answers_come_in_the_order_of_the_jobs_and_deaths_hit_only_their_own(two: Workers) -> None:
    got = list(two.answers(jobs(1, 7, 2, 8, 9, 3)))
    assert [(dict(a.metrics), a.failure) for a in got] == [
        ({"accuracy": 1.0}, ""),
        ({}, "its worker ended with exit code 3"),
        ({"accuracy": 2.0}, ""),
        ({}, "its worker ended by SIGSEGV"),
        ({}, "ValueError: no such kernel"),
        ({"accuracy": 3.0}, ""),
    ]


def test_a_caller_may_stop_early_and_ask_again(two: Workers) -> None:
    answers = two.answers(jobs(2, 1, 1, 1))
    assert next(answers).metrics == {"accuracy": 2.0}
    answers.close()
    assert [a.metrics["accuracy"] for a in two.answers(jobs(3, 4))] == [3.0, 4.0]
    assert list(two.answers([])) == []


def test_workers_fix_their_threads_and_draw_as_this_process_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    with Workers(FromFunction(environment), workers=2, threads=1) as workers:
        elsewhere = list(workers.answers(jobs(1, 2, 3)))
    here = [answer(FromFunction(environment), job) for job in jobs(1, 2, 3)]
    assert os.environ["OMP_NUM_THREADS"] == "5"
    assert {a.metrics["threads"] for a in elsewhere} == {1.0}
    assert os.getpid() not in {a.metrics["pid"] for a in elsewhere}
    assert [a.metrics["draw"] for a in elsewhere] == [a.metrics["draw"] for a in here]


def test_torch_threads_are_set_for_an_evaluation_and_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = FakeTorch(threads=4)
    monkeypatch.setitem(sys.modules, "torch", torch)
    with Workers(FromFunction(lambda a: {"threads": torch.threads}), threads=2) as workers:
        assert [a.metrics for a in workers.answers(jobs(1))] == [{"threads": 2.0}]
    assert torch.threads == 4


def test_an_evaluator_that_cannot_be_pickled_is_refused_before_anything_starts() -> None:
    evaluate = FromFunction(lambda a: {"accuracy": 1.0})
    with pytest.raises(RecipeError, match="FromFunction cannot be sent to worker processes.*workers = 1"):
        Workers(evaluate, workers=2)
    with pytest.raises(RecipeError, match="cannot be sent to worker processes.*workers = 1 without a time limit"):
        Workers(evaluate, workers=1, seconds=1.0)
    Workers(evaluate, workers=1)


def test_an_evaluator_that_cannot_be_loaded_ends_with_its_reason() -> None:
    pickle.dumps(Unloadable())
    with (
        Workers(Unloadable(), workers=2) as workers,
        pytest.raises(RecipeError, match="could not load the evaluator: RuntimeError: no such GPU"),
    ):
        list(workers.answers(jobs(1)))


@pytest.mark.parametrize("size", [0, 2**20])
def test_a_program_without_a_main_guard_is_told_so(tmp_path: Path, size: int) -> None:
    """However large the evaluator: one of more than a pipe holds left the driver waiting forever."""
    program = tmp_path / "program.py"
    program.write_text(
        "from functools import partial\n"
        "from hwnas.core import Architecture, RecipeError\n"
        "from hwnas.evaluation import FromFunction, Job, Workers\n"
        "def f(ballast, a): return {'accuracy': 1.0}\n"
        "try:\n"
        f"    evaluate = FromFunction(partial(f, bytes({size})))\n"
        "    list(Workers(evaluate, workers=2).answers([Job(Architecture({'k': 1}), 'full', None, 0)]))\n"
        "except RecipeError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, program],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert 'start your program under `if __name__ == "__main__":`' in done.stdout


def test_more_threads_than_any_machine_has_cores_are_refused() -> None:
    with pytest.raises(RecipeError, match="threads is 1000000; it must be at most 1024"):
        Workers(FromFunction(scripted), threads=1_000_000)


def test_more_workers_than_any_machine_has_cores_are_refused() -> None:
    with pytest.raises(RecipeError, match="workers is 1000000; it must be at most 1024"):
        Workers(FromFunction(scripted), workers=1_000_000)


@pytest.mark.parametrize(("workers", "threads"), [(0, 1), (1, 0)])
def test_counts_below_one_are_refused(workers: int, threads: int) -> None:
    with pytest.raises(RecipeError, match=rf"workers is {workers}, threads is {threads}"):
        Workers(FromFunction(scripted), workers=workers, threads=threads)


def _sleep(architecture: Architecture) -> Mapping[str, float]:
    Path(str(architecture["file"])).write_text(str(os.getpid()))
    time.sleep(60)
    return {"accuracy": 1.0}


def _drive(folder: str) -> None:
    todo = [Job(Architecture({"file": f"{folder}/{n}"}), "full", None, 0) for n in range(2)]
    with Workers(FromFunction(_sleep), workers=2) as workers:
        list(workers.answers(todo))


def test_no_worker_outlives_a_killed_driver(tmp_path: Path) -> None:
    """Design review 2.13: two of two workers were alive two seconds after the kill."""
    program = f"from tests.evaluation.test_workers import _drive; _drive({str(tmp_path)!r})"
    driver = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT)
    files = [tmp_path / "0", tmp_path / "1"]
    _until(lambda: all(file.exists() and file.read_text() for file in files))
    driver.kill()
    driver.wait()
    _until(lambda: not any(_running(int(file.read_text())) for file in files), seconds=5.0)


def _running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _until(condition: Callable[[], bool], *, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def sleepy(architecture: Architecture) -> Mapping[str, float]:
    """k 7 sleeps for a minute, any other answers at once with the process that it ran in."""
    if architecture["k"] == 7:
        time.sleep(60)
    return {"accuracy": float(architecture["k"]), "pid": float(os.getpid())}


class Prepared:
    """Takes a second to be ready, then answers at once: whether it was."""

    def __init__(self) -> None:
        self.ready = False

    def prepare(self) -> None:
        time.sleep(1.0)
        self.ready = True

    def __call__(
        self, architecture: Architecture, *, fidelity: str, weights: str | None, seed: int
    ) -> dict[str, float]:
        return {"accuracy": float(self.ready)}


@pytest.mark.parametrize("workers", [1, 2])
def test_an_evaluation_over_its_time_has_failed_and_the_others_go_on(workers: int) -> None:
    """One that sleeps would hang the search for ever, in a worker as in the search's own process."""
    started = time.monotonic()
    with Workers(FromFunction(sleepy), workers=workers, seconds=0.5) as pool:
        got = list(pool.answers(jobs(1, 7, 2)))
    assert time.monotonic() - started < 30
    assert [(a.metrics.get("accuracy"), a.failure) for a in got] == [
        (1.0, ""),
        (None, "timed out: no answer within 0.5 s, the time limit of one evaluation"),
        (2.0, ""),
    ]
    assert 0.5 <= got[1].seconds < 10
    pids = [got[0].metrics["pid"], got[2].metrics["pid"]]
    assert os.getpid() not in pids
    if workers == 1:
        assert pids[0] != pids[1], "the process that timed out was replaced"


def test_what_a_worker_prepares_is_nobody_s_time() -> None:
    assert isinstance(Prepared(), Preparing)
    with Workers(Prepared(), seconds=0.5) as pool:
        assert [a.metrics for a in pool.answers(jobs(1, 2))] == [{"accuracy": 1.0}] * 2


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf")])
def test_a_time_limit_that_is_none_is_refused(seconds: float) -> None:
    with pytest.raises(RecipeError, match=f"seconds is {seconds}; expected a number above 0"):
        Workers(FromFunction(scripted), seconds=seconds)


def test_an_answer_is_a_value() -> None:
    assert Answer() == Answer({}, "", 0.0)
    evaluate: Evaluator = FromFunction(scripted)
    assert evaluate == FromFunction(scripted)
