"""The bench of the main job, on the toy recipe: what it compares is what the run left."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from hwnas.job import Front, assemble, profile
from hwnas.training import Schedule, Trainer
from hwnas.zoo import MobileNetV3, NasBench201
from tests.bench.fashion_mnist import _alone, alone, found, matched, scaled
from tests.bench.figures import MissingDataError
from tests.job.workspace import RECIPE, ignore_drift, make_workspace


@pytest.fixture(scope="module", autouse=True)
def any_drift() -> Iterator[None]:
    yield from ignore_drift()


def test_the_bench_compares_the_front_with_the_default_network(tmp_path: Path) -> None:
    recipe = make_workspace(tmp_path)
    threads = torch.get_num_threads()
    profile(recipe, root=tmp_path, on_noise="mark")
    options = {"recipe": recipe, "root": tmp_path, "picture": tmp_path / "front.png"}
    measured = found(tmp_path, **options)
    first = (tmp_path / "front.png").read_bytes()
    rows = {row.figure: row for row in measured.rows}
    front = Front.load(tmp_path / "runs" / "toy")
    members = [m for m in front.members if m.role == "member"]
    best = max([m for m in members if m.on_front] or members, key=lambda m: m.values["accuracy"])
    assert rows["most accurate member by validation, test accuracy"].value == best.test["accuracy"]
    default = next(m for m in front.members if m.role == "default")
    assert rows["default network beside the members, test accuracy"].value == default.test["accuracy"]
    whole = rows["whole run: supernet, search, members, rival, measuring"].value * 60
    assert whole > sum(member.training_seconds for member in front.members) / torch.get_num_threads()
    assert measured.conditions["recipe"] == "toy.toml"
    rows = {row.figure: row for row in alone(tmp_path, **options).rows}
    torch.set_num_threads(threads)
    assert rows["(b) default network alone for the whole run's time, epochs"].value >= 1
    assert 0 < rows["(b) latency"].value < 10 * default.values["latency_ms"]
    assert (tmp_path / "front.png").read_bytes() != first, "the long trained network is in the picture"
    for member in members:
        again = rows[f"{member.architecture.digest}, latency measured once more"].value
        assert 0 < again < 10 * member.values["latency_ms"]
    assert (tmp_path / "front.png").stat().st_size > 10_000


def test_members_meet_the_default_network_in_their_own_latency(tmp_path: Path) -> None:
    recipe = make_workspace(tmp_path)
    threads = torch.get_num_threads()
    measured = matched(tmp_path, recipe=recipe, root=tmp_path, seeds=(3,), levels=(50.0, 1e-6), factors=(1.0, 2.0))
    torch.set_num_threads(threads)
    rows = {row.figure: row for row in measured.rows}
    of = "within 50 times the default network's latency"
    front = Front.load(tmp_path / "runs" / "toy_seed3")
    members = [m for m in front.members if m.role == "member"]
    chosen = max([m for m in members if m.on_front] or members, key=lambda m: m.values["accuracy"])
    assert rows[f"{of}: member, test accuracy, mean"].value == chosen.test["accuracy"]
    assert rows[f"{of}: width of the scaled default, mean"].value in {1.0, 2.0}
    assert not any("1e-06" in figure for figure in rows), "nothing is so fast"
    [judged] = [row for row in measured.rows if row.must is not None]
    assert judged.value == 0, "one seed has no standard error, so nothing is shown"


def test_the_rival_is_trained_by_the_members_schedule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before, it had the supernet's learning rate and weight decay."""
    text = RECIPE.replace("[members]\n", "[members]\nlearning_rate = 0.07\nweight_decay = 5e-4\n")
    recipe = make_workspace(tmp_path, recipe=text)
    seen: list[tuple[float, float]] = []

    class Watched(Trainer):
        def __init__(self, *args: Any, schedule: Schedule, **options: Any) -> None:
            seen.append((schedule.learning_rate, schedule.weight_decay))
            super().__init__(*args, schedule=schedule, **options)

    monkeypatch.setattr("tests.bench.fashion_mnist.Trainer", Watched)
    assembly = assemble(recipe, root=tmp_path)
    _alone(assembly, assembly.family, assembly.family.default(), 1)
    assert seen == [(0.07, 5e-4)]


def test_scaling_keeps_channels_in_steps_of_four() -> None:
    family = scaled(MobileNetV3(), 0.3)
    assert isinstance(family, MobileNetV3)
    assert (family.stem_width, family.widths, family.head_width) == (4, (4, 8, 20), 56)
    assert scaled(MobileNetV3(), 1.0).space.digest == MobileNetV3().space.digest
    with pytest.raises(MissingDataError, match="only mobilenet_v3"):
        scaled(NasBench201(), 2.0)
