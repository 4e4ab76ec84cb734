"""Case O-18: a hard kill at random moments, and on."""

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hwnas.core import generator
from hwnas.store import Store
from tests.study import victim
from tests.study.toys import rows

ROOT = Path(__file__).parents[2]


def run_until(kind: str, folder: Path, lines: int | None, extra_s: float = 0.0) -> list[str]:
    """Start the victim, kill it a moment after it has printed so many lines; the lines."""
    command = [sys.executable, "-m", "tests.study.victim", kind, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        seen = []
        for line in process.stdout:
            seen.append(line.strip())
            if len(seen) == lines:
                time.sleep(extra_s)
                process.kill()
                break
        rest = [line.strip() for line in process.stdout]
    assert process.returncode == (0 if lines is None else -9)
    return seen + rest


@pytest.mark.parametrize(("kind", "most"), [("search", 20), ("train", 15)])
def test_killed_three_times_and_resumed_it_equals_the_unbroken_run(tmp_path: Path, kind: str, most: int) -> None:
    unbroken = getattr(victim, kind)(None)
    dice = random.Random(18)
    seen: list[str] = []
    for _ in range(3):
        seen += run_until(kind, tmp_path, dice.randint(1, most), dice.random() * 0.03)
    seen += run_until(kind, tmp_path, None)
    # What is committed is never computed again; a kill loses at most what was done in the last 50 ms.
    assert len(set(seen)) == len([line for line in seen if line]) - lost(seen)
    assert lost(seen) <= 3 * 16
    again = run_until(kind, tmp_path, None)
    assert len(again) == 1
    assert again[0].startswith("finished this run is finished: ")
    outcome = getattr(victim, kind)(tmp_path)
    assert outcome.finished_before
    assert rows(outcome.evaluations) == rows(unbroken.evaluations)
    assert rows(outcome.front) == rows(unbroken.front)
    assert outcome.reason == unbroken.reason
    if kind == "train":
        with Store(tmp_path) as store:
            results = [store.epoch("net", n + 1) for n in range(victim.EPOCHS)]
        assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == [f"net@{victim.EPOCHS}.ckpt"]
        assert [row.result for row in results if row] == unbroken_results()


def lost(lines: list[str]) -> int:
    return len(lines) - len(set(lines))


def unbroken_results() -> list[float]:
    """The training by hand: epoch by epoch, with the study's generators."""
    weights, results = [0.0] * victim.WEIGHTS, []
    for number in range(1, victim.EPOCHS + 1):
        draws = generator(0, "epoch", "net", number, "rng").random(victim.WEIGHTS).tolist()
        weights = [a + b for a, b in zip(weights, draws, strict=True)]
        results.append(sum(weights))
    return results
