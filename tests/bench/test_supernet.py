"""The bench against the ofa package, for a round or two: both train, both cut, and what is compared is the same."""

from pathlib import Path

import pytest
import torch

from tests.bench import supernet
from tests.bench.figures import data_folder
from tests.bench.supernet import Pair, learning, speed

pytest.importorskip("ofa.imagenet_classification.elastic_nn.networks", reason="needs ofa, tqdm and pyyaml")


def test_both_networks_are_one_before_the_first_step() -> None:
    pair = Pair()
    pair.theirs.eval()
    pair.ours.eval()
    _, architecture = pair.drawn()
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(pair.theirs(x), pair.ours(x, architecture), atol=1e-5)


def test_speeds_are_ratios_of_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supernet, "ROUNDS", 2)
    rows = {row.figure: row.value for row in speed(tmp_path).rows}
    ratio = rows["training step, ofa"] / rows["training step, hwnas"]
    assert rows["training step, ofa over hwnas"] == pytest.approx(ratio)
    assert all(value > 0 for value in rows.values())


def test_both_learn_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    if not (data_folder() / "cifar10_jpeg").is_dir():
        pytest.skip("needs cifar10_jpeg under HWNAS_BENCH_DATA")
    monkeypatch.setattr(supernet, "STEPS", 2)
    monkeypatch.setattr(supernet, "TRIED", 1)
    monkeypatch.setattr(supernet, "SEEDS", 2)
    rows = {row.figure: row.value for row in learning(data_folder()).rows}
    gap = rows["accuracy after the same steps, hwnas"] - rows["accuracy after the same steps, ofa"]
    assert rows["accuracy after the same steps, hwnas minus ofa"] == pytest.approx(gap)
    assert gap == pytest.approx(sum(rows[f"seed {n}, hwnas minus ofa"] for n in (0, 1)) / 2)
    assert rows["logits after one step in double precision, largest difference"] < 1e-12
