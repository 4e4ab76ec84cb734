"""The blocks that only published networks have: against second implementations, and in the runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
import torch.nn.functional as F

from hwnas.core import SpaceError
from hwnas.nn import build_block, write_onnx
from hwnas.nn.blocks import (
    MixingHead,
    Separable,
    describe_mbconv,
    describe_mixing_head,
    describe_pooling_mbconv,
    describe_separable,
)
from hwnas.nn.bottleneck import (
    describe_bottleneck,
    describe_pool_head,
    describe_pooling_stem,
    describe_residual_conv,
)
from hwnas.nn.shuffle import describe_shuffle
from hwnas.nn.split_blocks import SplitMBConv, describe_split_mbconv
from hwnas.space import Block
from tests.zoo.counting import check_counts

BLOCKS = {
    "separable": describe_separable(8, 8, 6, kernel=5, stride=1, activation_name="relu6"),
    "separable, strided": describe_separable(8, 12, 7, kernel=3, stride=2, activation_name="hswish"),
    "separable, groups": describe_separable(8, 12, 6, kernel=3, stride=1, activation_name="relu", groups=2),
    "separable, no shortcut": describe_separable(8, 8, 6, kernel=3, stride=1, activation_name="relu", shortcut=False),
    "mbconv, no shortcut": describe_mbconv(
        8, 8, 6, hidden=16, kernel=3, stride=1, activation_name="relu", squeeze=8, shortcut=False
    ),
    "mixing head": describe_mixing_head(8, 24, 32, 5, 4, activation_name="hswish"),
    "pooling mbconv": describe_pooling_mbconv(
        8, 12, 7, hidden=16, kernel=3, stride=2, activation_name="silu", squeeze=8
    ),
    "pooling mbconv, not expanding": describe_pooling_mbconv(
        8, 12, 6, hidden=8, kernel=5, stride=1, activation_name="silu", squeeze=0
    ),
    "bottleneck": describe_bottleneck(16, 16, 6, middle=8, stride=1),
    "bottleneck, strided": describe_bottleneck(8, 16, 7, middle=8, stride=2),
    "residual conv": describe_residual_conv(8, 6),
    "pooling stem": describe_pooling_stem(4, 8, 7),
    "pool head": describe_pool_head(8, 5, 4),
    **{
        f"split mbconv {c_in} to {c_out}, stride {stride}, {'shortcut' * shortcut} {'split' * split}": (
            describe_split_mbconv(
                c_in, c_out, 7, expansion=2, stride=stride, shortcut=bool(shortcut), split=bool(split)
            )
        )
        for c_in, c_out, stride in ((8, 8, 1), (7, 8, 1), (8, 12, 2), (8, 8, 2))
        for shortcut in (0, 1)
        for split in (0, 1)
    },
    "shuffle": describe_shuffle(8, 8, 6, kernel=5, stride=1, depthwise=1),
    "shuffle, strided": describe_shuffle(8, 20, 7, kernel=7, stride=2, depthwise=1),
    "xception": describe_shuffle(8, 8, 6, kernel=3, stride=1, depthwise=3),
    "xception, wider": describe_shuffle(8, 20, 6, kernel=3, stride=1, depthwise=3),
}


@pytest.mark.parametrize("block", BLOCKS.values(), ids=list(BLOCKS))
def test_counts_are_those_of_the_module(block: Block) -> None:
    check_counts([block])


@pytest.mark.parametrize("block", BLOCKS.values(), ids=list(BLOCKS))
def test_the_runtime_gives_the_same_outputs(block: Block, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = build_block(block)
    x = torch.randn(4, *block.input_shape)
    assert module(x).shape == (4, *block.output_shape)
    write_onnx(module.eval(), tmp_path / "block.onnx", input_shape=block.input_shape)
    session = ort.InferenceSession(str(tmp_path / "block.onnx"), providers=["CPUExecutionProvider"])
    [found] = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(found, module(x).numpy(), atol=1e-5)


def test_a_separable_block_is_its_layers() -> None:
    block = build_block(BLOCKS["separable"]).eval()
    assert isinstance(block, Separable)
    x = torch.randn(1, 8, 6, 6)
    y = F.relu6(F.conv2d(x, block.depthwise.weight, padding=2, groups=8) / (1 + 1e-5) ** 0.5)
    y = F.conv2d(y, block.project.weight) / (1 + 1e-5) ** 0.5
    assert torch.allclose(block(x), x + y, atol=1e-6)
    bare = build_block(BLOCKS["separable, no shortcut"])
    assert isinstance(bare, Separable) and not bare.residual


def test_a_mixing_head_has_no_norm_after_the_mean() -> None:
    block = build_block(BLOCKS["mixing head"]).eval()
    assert isinstance(block, MixingHead)
    x = torch.randn(1, 8, 4, 4)
    y = F.hardswish(F.conv2d(x, block.conv.weight) / (1 + 1e-5) ** 0.5).mean((2, 3))
    y = F.linear(F.hardswish(y @ block.mix.weight.T), block.classifier.weight, block.classifier.bias)
    assert torch.allclose(block(x), y, atol=1e-6)


def test_shuffle_blocks_mix_halves_over_two_blocks() -> None:
    a, b = (build_block(BLOCKS["shuffle"]).eval() for _ in range(2))
    x = torch.randn(1, 8, 6, 6, requires_grad=True)
    [once] = torch.autograd.grad(a(x)[:, :4].square().sum(), x)
    [twice] = torch.autograd.grad(b(a(x))[:, :4].square().sum(), x)
    assert (once.abs().sum((0, 2, 3)) > 0).tolist() == [True, False] * 4
    assert (twice.abs().sum((0, 2, 3)) > 0)[1::2].any()


def test_a_grouped_projection_needs_channels_that_divide() -> None:
    with pytest.raises((SpaceError, ValueError), match="divisible"):
        build_block(describe_separable(8, 9, 6, kernel=3, stride=1, activation_name="relu", groups=2))


@pytest.mark.parametrize(("c_in", "c_out", "stride"), [(8, 8, 1), (7, 8, 1), (8, 12, 2), (8, 8, 2)])
@pytest.mark.parametrize("shortcut", [True, False])
@pytest.mark.parametrize("split", [True, False])
def test_a_split_block_is_its_layers(c_in: int, c_out: int, stride: int, *, shortcut: bool, split: bool) -> None:
    """Norms of fresh modules scale by one number, so that the layers can be written out without them."""
    torch.manual_seed(0)
    block = SplitMBConv(c_in, c_out, expansion=2, stride=stride, shortcut=shortcut, split=split).eval()
    x, scale = torch.randn(2, c_in, 7, 7), (1 + 1e-5) ** -0.5
    left = c_in // 2 if split else 0
    passed, taken = x[:, :left], x[:, left:]
    y = scale * F.relu(scale * F.conv2d(taken, block.expand.weight))
    y = F.conv2d(y, block.depthwise.weight, stride=stride, padding=1, groups=y.shape[1])
    y = scale * F.conv2d(F.relu(y), block.project.weight)
    weights = {name: value for name, value in block.named_parameters() if value.dim() == 4}
    if shortcut:
        projection = weights.get("shortcut.0.weight")
        y = y + (taken if projection is None else scale * F.conv2d(taken, projection, stride=stride))
        assert (projection is None) == (stride == 1 and c_in == c_out)
    if split and stride > 1:
        passed = scale * F.conv2d(passed, weights["beside.0.weight"], stride=stride, padding=1, groups=left)
        passed = scale * F.conv2d(F.relu(passed), weights["beside.3.weight"])
    if split:
        joined = torch.cat([passed, y], 1)
        y = torch.stack([joined[:, : c_out // 2], joined[:, c_out // 2 :]], 2).flatten(1, 2)
    torch.testing.assert_close(block(x), y, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(block.train()(x).shape, y.shape)
