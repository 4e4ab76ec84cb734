"""A workspace with a toy recipe whose whole run takes seconds, and a latency table written by hand."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from hwnas.cli import main
from hwnas.job import Silent

REPOSITORY = Path(__file__).parents[2]

RECIPE = """
seed = 3
[space]
name = "toy"
resolutions = [8, 12]
[data]
source = "digits"
limit = 400
[limits.latency_ms]
at_most = "90 %"
[strategy]
name = "nsga2"
population = 6
[budget]
evaluations = 12
[training]
epochs = 2
batch_size = 64
random_networks = 1
threads = 1
[members]
count = 2
epochs = 1
batch_size = 64
default_epochs = 1
[evaluation]
batch_norm_images = 128
"""


def make_workspace(folder: Path, *, recipe: str = RECIPE) -> Path:
    """A folder with devices/ and search/toy.toml; returns the recipe's path."""
    shutil.copytree(REPOSITORY / "devices", folder / "devices")
    (folder / "search").mkdir()
    path = folder / "search" / "toy.toml"
    path.write_text(recipe)
    return path


# A shared machine may run half as fast for a minute. hwnas then refuses to compare times of two sessions, rightly so
# (tests/profiling has the refusals); these tests are about something else and let any drift pass.
PLACES = ("hwnas.profiling.remeasuring.FACTOR_REFUSED", "hwnas.profiling.profiler.FACTOR_REFUSED")
ANY_DRIFT = (1e-3, 1e3)
ANY_ORDER = ("hwnas.profiling.remeasuring.TAU_REFUSED", -1.0)
ANY_NOISE = ("hwnas.profiling.matching.NOISE_REFUSED", 1e3)


def ignore_drift() -> Iterator[None]:
    """Let any drift of the machine pass until the generator goes on: the body of a fixture."""
    with pytest.MonkeyPatch.context() as patched:
        for place in PLACES:
            patched.setattr(place, ANY_DRIFT)
        patched.setattr(*ANY_ORDER)
        patched.setattr(*ANY_NOISE)
        yield


PROGRAM = f"""
import hwnas.profiling.matching, hwnas.profiling.profiler, hwnas.profiling.remeasuring
hwnas.profiling.profiler.FACTOR_REFUSED = hwnas.profiling.remeasuring.FACTOR_REFUSED = {ANY_DRIFT}
hwnas.profiling.remeasuring.TAU_REFUSED = {ANY_ORDER[1]}
hwnas.profiling.matching.NOISE_REFUSED = {ANY_NOISE[1]}
from hwnas.cli import main
main()
"""


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """A command in this process: its exit code, output and errors."""
    code = 0
    try:
        main(list(arguments))
    except SystemExit as end:
        code = int(end.code or 0)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


class Listener(Silent):
    """Remembers stages and lines."""

    def __init__(self) -> None:
        self.stages: list[str] = []
        self.lines: list[str] = []

    def stage(self, name: str) -> None:
        self.stages.append(name)

    def say(self, text: str) -> None:
        self.lines.append(text)
