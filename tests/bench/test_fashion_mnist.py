"""The bench of the main job, on the toy recipe: what it compares is what the run left."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from hwnas.job import Front, profile
from tests.bench.fashion_mnist import alone, found, matched
from tests.job.workspace import ignore_drift, make_workspace


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
    best = [m for m in members if m.on_front] or members
    assert rows["best member, test accuracy"].value == max(m.test["accuracy"] for m in best)
    default = next(m for m in front.members if m.role == "default")
    assert rows["default network beside the members, test accuracy"].value == default.test["accuracy"]
    whole = rows["whole run: supernet, search, members, rival, measuring"].value * 60
    assert whole > sum(member.training_seconds for member in front.members) / torch.get_num_threads()
    assert measured.conditions["recipe"] == "toy.toml"
    rows = {row.figure: row for row in matched(tmp_path, recipe=recipe, root=tmp_path).rows}
    [first_row, *others] = rows.values()
    faster = [m for m in best if m.values["latency_ms"] < default.values["latency_ms"]]
    assert len(others) == 3 * len(faster)
    assert first_row.value == sum(row.value >= 0 for row in others if " minus (a)" in row.figure)
    rows = {row.figure: row for row in alone(tmp_path, **options).rows}
    torch.set_num_threads(threads)
    assert rows["(b) default network alone for the whole run's time, epochs"].value >= 1
    assert 0 < rows["(b) latency"].value < 10 * default.values["latency_ms"]
    assert (tmp_path / "front.png").read_bytes() != first, "the long trained network is in the picture"
    for member in members:
        again = rows[f"{member.architecture.digest}, latency measured once more"].value
        assert 0 < again < 10 * member.values["latency_ms"]
    assert (tmp_path / "front.png").stat().st_size > 10_000
