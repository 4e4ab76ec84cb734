"""What a run needs in memory is told before it is needed."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from hwnas.core import RecipeError
from hwnas.job import search
from hwnas.job.memory import Need, fitting, free_bytes, step_bytes
from tests.job.workspace import RECIPE, make_workspace

GIB = 2**30
CPU = torch.device("cpu")


def test_what_a_step_keeps_is_counted_by_hand() -> None:
    """The convolution keeps the image, batch norm its 2 x 8 x 8 inputs and two statistics, ReLU its outputs."""
    network = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2), nn.ReLU())
    image, features = 3 * 64 * 4, 2 * 64 * 4
    statistics = 2 * 2 * 4 // 2  # of a batch of two images
    assert step_bytes(network, (3, 8, 8)) == image + 2 * features + statistics
    assert all(parameter.device == CPU for parameter in network.parameters())
    assert network[1].running_mean.tolist() == [0.0, 0.0]  # type: ignore[operator]


def test_weights_are_no_part_of_an_image() -> None:
    assert step_bytes(nn.Linear(1000, 1000), (1000,)) == 4000


PROGRAM = """
import torch
from hwnas.device.measure import resident_peak
from hwnas.job.memory import step_bytes
from hwnas.zoo import FAMILIES

torch.set_num_threads(1)
family, side, batch = FAMILIES["toy"], 224, 32
network = family.build_network(family.default()).train()
images = torch.randn(batch, 1, side, side)

def step(n):
    network(images[:n]).sum().backward()
    return resident_peak()

print(-step(2) + step(batch), batch * step_bytes(network, (1, side, side)))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peak memory is read from /proc")
def test_the_count_is_what_a_step_really_takes() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=300)
    grown, counted = map(int, done.stdout.split())
    assert counted > 2e8
    assert 0.8 * counted < grown < 1.6 * counted


class Stubborn(nn.Module):
    """Needs numbers to run."""

    def forward(self, x: Tensor) -> Tensor:
        return x if float(x.sum()) > 0 else -x


def test_a_network_that_needs_numbers_is_not_guessed() -> None:
    assert step_bytes(Stubborn(), (1, 4, 4)) is None


NEED = Need(1000, (1024, 2048), 3 * (1024**2 + 2048**2), step_bytes=GIB // 4, batch_size=128, side=2048)


def test_what_cannot_fit_is_refused_with_numbers_and_a_way_out() -> None:
    with pytest.raises(RecipeError) as caught:
        NEED.check(28 * GIB, where="a.toml")
    assert caught.value.message == (
        "a.toml: needs at least 46.6 GiB of memory, and 28.0 GiB are free: 32.0 GiB for 128 images of 2048 x 2048 in a "
        "step, 14.6 GiB for the pixels of 1,000 images at 1024 and 2048"
    )
    assert "limit = 860 in [data]" in caught.value.hint
    replace(NEED, images=860, batch_size=50).check(28 * GIB, where="a.toml")


def test_the_batch_size_that_is_proposed_fits_and_without_one_a_side() -> None:
    need = replace(NEED, images=10)
    with pytest.raises(RecipeError) as caught:
        need.check(8 * GIB, where="a.toml")
    assert caught.value.hint == "set batch_size = 28, or lower resolutions in [space]"
    replace(need, batch_size=28).check(8 * GIB, where="a.toml")
    with pytest.raises(RecipeError, match="8 trainings side by side, each of 128 images") as caught:
        replace(need, steps=8).check(3 * GIB, where="a.toml")
    assert caught.value.hint == "lower resolutions in [space] to 1636 or less, with batch_size = 2"


def test_what_fits_or_is_unknown_passes() -> None:
    NEED.check(47 * GIB, where="a.toml")
    NEED.check(None, where="a.toml")
    assert fitting(3 * GIB, free=10 * GIB, most=8) == 3
    assert fitting(None, free=GIB, most=8) == 8
    replace(NEED, step_bytes=None).check(15 * GIB, where="a.toml")


def test_what_is_unknown_is_said_and_not_counted_as_nothing() -> None:
    with pytest.raises(RecipeError, match="needs at least 14.6 GiB .* an unknown part for 128 images") as caught:
        replace(NEED, step_bytes=None).check(10 * GIB, where="a.toml")
    assert caught.value.hint.startswith("lower resolutions in [space], or take fewer images")


def _machine(root: Path, *, limit: str | None = None) -> Path:
    (root / "proc").mkdir()
    (root / "proc" / "meminfo").write_text("MemTotal: 4000 kB\nMemAvailable:    3000 kB\nHugePages_Total:   0\n")
    group = root / "sys" / "fs" / "cgroup"
    group.mkdir(parents=True)
    if limit is not None:
        (group / "memory.max").write_text(limit)
        (group / "memory.current").write_text("900000\n")
        (group / "memory.stat").write_text("anon 500\ninactive_file 100000\n")
    return root


@pytest.mark.parametrize(
    ("limit", "free"),
    [(None, 3000 * 1024), ("max\n", 3000 * 1024), ("1000000\n", 200_000), ("9000000000\n", 3000 * 1024)],
)
def test_free_memory_is_the_machine_s_within_the_group_s_limit(tmp_path: Path, limit: str | None, free: int) -> None:
    assert free_bytes(CPU, _machine(tmp_path, limit=limit)) == free


def test_on_this_system_something_is_free() -> None:
    found = free_bytes(CPU)
    assert found is None or found > 2**20


def test_a_search_that_cannot_fit_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images of 2048 pixels on a machine of 12 GiB: the system would kill the process in the middle."""
    recipe = make_workspace(tmp_path, recipe=RECIPE.replace("resolutions = [8, 12]", "resolutions = [2048]"))
    monkeypatch.setattr(sys.modules["hwnas.job.main_job"], "free_bytes", lambda device: 12 * GIB)
    with pytest.raises(
        RecipeError, match=r"toy.toml: needs at least 7\d.\d GiB of memory, and 12.0 GiB are free"
    ) as caught:
        search(recipe, root=tmp_path)
    assert "set batch_size = " in caught.value.hint
    assert not (tmp_path / "runs").exists()
