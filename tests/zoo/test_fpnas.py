"""FPNAS's space and the network its authors released."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from hwnas.core import SpaceError, generator
from hwnas.cost import UnitSumCost, entries_of
from hwnas.data import DataSource, Images, Preprocessing, batches
from hwnas.nn import one_hot_gates, write_onnx
from hwnas.training import Schedule, SinglePath, Trainer
from hwnas.zoo import FAMILIES, Fpnas, family
from hwnas.zoo.fpnas import FPNASNET
from tests.zoo.counting import check_counts, counted_macs

IMAGENET = Fpnas()
SMALL = Fpnas(
    "small",
    channels=1,
    classes=10,
    resolutions=(8, 12),
    expansions=(2, 3),
    stem_width=4,
    stem_stride=1,
    first_width=6,
    widths=(8, 16),
    depths=(2, 2),
    strides=(1, 2),
    head_width=24,
)


def test_the_space_has_sixteen_blocks_at_each_of_sixteen_places() -> None:
    assert IMAGENET.space.size == 16**16
    assert replace(IMAGENET, expansions=(4, 6, 8)).space.size == 12**16
    listed = list(replace(SMALL, depths=(1, 1)).space.enumerate())
    assert len(listed) == len({SMALL.name + a.to_json() for a in listed}) == 2 * 8**2


def test_the_released_network_has_the_size_worked_out_by_hand() -> None:
    """Layer by layer from the lists of the authors' network: channels, expansions, strides, shortcuts, splits."""
    channels = [24, 24, 40, 40, 40, 80, 80, 80, 80, 112, 112, 112, 192, 192, 192, 320]
    strides = [2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1]
    side, c_in = 112, 24
    macs = side * side * (27 * 34 + 34 * 9 + 34 * 24)
    parameters = 27 * 34 + 34 * 9 + 34 * 24 + 2 * (34 + 34 + 24)
    for operation, c_out, stride in zip(FPNASNET, channels, strides, strict=True):
        left = c_in // 2 if "split" in operation else 0
        taken, given, out = c_in - left, c_out - left, side // stride
        hidden = int(operation[1]) * taken
        layers = [(side, taken * hidden, hidden), (out, 9 * hidden, hidden), (out, hidden * given, given)]
        if "shortcut" in operation and (stride == 2 or taken != given):
            layers.append((out, taken * given, given))
        if left and stride == 2:
            layers += [(out, 9 * left, left), (out, left * left, left)]
        macs += sum(pixels * pixels * weights for pixels, weights, _ in layers)
        parameters += sum(weights + 2 * norm for _, weights, norm in layers)
        side, c_in = out, c_out
    macs += side * side * 320 * 1280 + 1280 * 1000
    parameters += 320 * 1280 + 2 * 1280 + 1280 * 1000 + 1000
    a = IMAGENET.architecture(FPNASNET)
    check_counts(IMAGENET.space.blocks_of(a))
    assert UnitSumCost.count(IMAGENET.space, "macs")(a).value == macs == 301_211_352
    assert UnitSumCost.count(IMAGENET.space, "parameters")(a).value == parameters == 3_439_004


def test_hard_soft_and_extracted_networks_agree() -> None:
    torch.manual_seed(0)
    net = SMALL.supernet().train()
    for operation in SMALL.operations:  # so that norms are no identities
        net(torch.randn(8, 1, 8, 8), SMALL.architecture([operation] * 4, resolution=8))
    net.eval()
    for a in SMALL.space.sample(12, np.random.default_rng(1)):
        x = torch.randn(2, 1, int(a["resolution"]), int(a["resolution"]))
        plain = net.extract(a)
        torch.testing.assert_close(net(x, a), plain(x), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(net(x, one_hot_gates(SMALL.space, a)), plain(x), atol=1e-5, rtol=1e-5)
        blocks = SMALL.space.blocks_of(a)
        check_counts(blocks)
        assert counted_macs(plain, blocks[0].input_shape) == sum(block.macs for block in blocks)


def test_networks_are_exported(tmp_path: Path) -> None:
    for number, a in enumerate(SMALL.space.sample(4, np.random.default_rng(2))):
        network, side = SMALL.build_network(a).eval(), int(a["resolution"])
        path = tmp_path / f"{number}.onnx"
        write_onnx(network, path, input_shape=(1, side, side))
        x = torch.randn(3, 1, side, side)
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        [found] = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        torch.testing.assert_close(torch.from_numpy(found), network(x).detach(), atol=1e-4, rtol=1e-4)


def test_places_of_a_stage_share_their_blocks() -> None:
    """Sixteen kinds for each first place of a stage that differs, sixteen for the others, and three fixed blocks."""
    assert len(entries_of(IMAGENET.space)) == 16 * (6 + 5) + 3


def test_the_shared_weights_are_trained() -> None:
    learner = replace(SMALL, resolutions=(8,), expansions=(3,), depths=(1, 1))
    splits = DataSource("digits", limit=300).load(0)
    images = Images(splits.train, Preprocessing.fit(splits.train))
    torch.manual_seed(0)
    net = learner.supernet()
    losses: list[float] = []
    trainer = Trainer(
        net,
        SinglePath(net, random=1),
        batches=lambda rng: batches(images, batch_size=32, generator=rng, drop_last=True),
        steps=len(images) // 32,
        schedule=Schedule(40, learning_rate=0.1),
        progress=lambda done, total, loss: losses.append(loss),
    )
    for k in range(40):
        trainer.epoch(k, generator(0, k))
    assert np.mean(losses[-10:]) < 0.6 * np.mean(losses[:5])


def test_a_recipe_can_change_what_the_family_fixes() -> None:
    found = family("fpnas_small", {"expansions": [3], "stem_width": 8}, channels=1, classes=4)
    assert isinstance(found, Fpnas)
    assert (found.expansions, found.channels, found.classes) == ((3,), 1, 4)
    assert found.default()["stage1.block1.operation"] == "e3_shortcut"
    assert FAMILIES["fpnas"].has_supernet


def test_other_operations_are_refused() -> None:
    with pytest.raises(SpaceError, match="2 operations; expected 4, one per place"):
        SMALL.architecture(["e2", "e2"])
    with pytest.raises(SpaceError, match="has no option 'e4'"):
        SMALL.architecture(["e2", "e2", "e4", "e2"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"resolutions": (32, 16)}, r"resolutions is \[32, 16\]; expected ascending"),
        ({"expansions": (0, 2)}, r"expansions is \[0, 2\]; expected ascending numbers above 0"),
        ({"depths": (1, 1)}, "depths has 2 entries, widths has 6"),
        ({"strides": (2, 2, 2, 0, 2, 1)}, "must be above 0"),
        ({"widths": (24, 40, 81, 112, 192, 320)}, "widths holds 81; it must be even"),
        ({"widths": (24, 40, 80, 40, 192, 320)}, "stage4.block1 turns 80 channels into 40"),
        ({"first_width": 1}, "first_width is 1; a split needs at least 2 channels"),
        ({"head_width": 0}, "head_width is 0"),
    ],
)
def test_impossible_values_are_named(change: dict[str, object], words: str) -> None:
    with pytest.raises(SpaceError, match=words):
        replace(IMAGENET, **change)  # type: ignore[arg-type]
