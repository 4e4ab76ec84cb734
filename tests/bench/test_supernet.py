"""The bench against the ofa package, for a round or two: both train, both cut, and what is compared is the same."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.bench import supernet
from tests.bench.figures import data_folder
from tests.bench.supernet import SIDES, Pair, extraction, extraction_rows, extraction_seconds, learning, step

pytest.importorskip("ofa.imagenet_classification.elastic_nn.networks", reason="needs ofa, tqdm and pyyaml")


def test_both_networks_are_one_before_the_first_step() -> None:
    pair = Pair()
    pair.theirs.eval()
    pair.ours.eval()
    _, architecture = pair.drawn()
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(pair.theirs(x), pair.ours(x, architecture), atol=1e-5)


def test_theirs_in_our_memory_format_is_the_same_network() -> None:
    pair = Pair()
    pair.drawn()
    x = torch.randn(2, 3, 32, 32)
    pair.theirs.eval()
    pair.theirs_last.eval()
    with torch.no_grad():
        assert torch.allclose(pair.theirs(x), pair.theirs_last(x.to(memory_format=torch.channels_last)), atol=1e-5)
    wide = [w for w in pair.theirs_last.parameters() if w.dim() == 4 and min(w.shape[1:]) > 1]
    assert wide and all(w.is_contiguous(memory_format=torch.channels_last) for w in wide)


def test_steps_are_compared_with_the_better_of_theirs(tmp_path: Path) -> None:
    measured = step(tmp_path, seeds=(0, 1, 2), rounds=1, warm=1)
    rows = {row.figure: row for row in measured.rows}
    judged = rows["training step, the better of ofa and ofa in channels_last, over hwnas, mean"]
    of_each = [rows[f"training step, {name} over hwnas, mean"].value for name in SIDES[:2]]
    assert 0 < judged.value <= min(of_each) + 1e-9, "a mean of the lesser ratios is at most the lesser of the means"
    assert judged.error is not None and judged.seeds == 3
    assert [row.contender for row in rows.values() if row.unit == "ms"] == ["rival", "rival", "ours"]
    assert (judged.must, judged.goal) == (1.3, 1.6) and not judged.void


def test_extractions_count_from_the_first_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supernet, "FIRST", 1)
    monkeypatch.setattr(supernet, "SEARCHED", 3)
    monkeypatch.setattr(supernet, "STEADY", 5)
    times = iter([4.0, 2.0, 10.0, 1.0, 1.0, 10.0, 10.0, 1.0, 1.0, 10.0])
    monkeypatch.setattr(supernet, "_seconds", lambda call: next(times))
    taken = extraction_seconds(0)
    rows = {row.figure: row for row in extraction_rows([taken, taken, taken])}
    ratio = "extraction, ofa over hwnas, "
    assert rows[f"{ratio}the first 1, mean"].value == pytest.approx(2 / 4), (
        "hwnas is first in even rounds, 4 s; ofa 2 s"
    )
    assert rows[f"{ratio}the first 3, mean"].value == pytest.approx((2 + 10 + 10) / (4 + 1 + 1))
    assert rows[f"{ratio}steady, after 3, mean"].value == pytest.approx(20 / 2)
    assert [row.judged for row in rows.values()].count(True) == 1


def test_every_seed_cuts_in_a_process_that_has_cut_nothing(tmp_path: Path) -> None:
    measured = extraction(tmp_path, seeds=(0,))
    rows = {row.figure: row.value for row in measured.rows}
    first, steady = (rows[f"extraction, hwnas, {part}, mean"] for part in ("the first 5", "steady, after 60"))
    assert first > steady > 0


def test_both_learn_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    if not (data_folder() / "cifar10_jpeg").is_dir():
        pytest.skip("needs cifar10_jpeg under HWNAS_BENCH_DATA")
    monkeypatch.setattr(supernet, "STEPS", 2)
    monkeypatch.setattr(supernet, "TRIED", 1)
    monkeypatch.setattr(supernet, "SEEDS", 3)
    measured = learning(data_folder())
    rows = {row.figure: row.value for row in measured.rows}
    gap = rows["accuracy after the same steps, hwnas, mean"] - rows["accuracy after the same steps, ofa, mean"]
    judged = next(row for row in measured.rows if "at least minus two standard errors" in row.figure)
    each = [rows[f"seed {n}, hwnas minus ofa"] for n in range(3)]
    assert judged.value == pytest.approx(gap) == pytest.approx(sum(each) / 3)
    assert judged.must == pytest.approx(-min(2 * float(np.std(each, ddof=1)) / 3**0.5, 0.02))
    assert rows["logits after one step in double precision, largest difference"] < 1e-12
