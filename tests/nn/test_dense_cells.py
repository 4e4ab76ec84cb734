"""Dense cells against torch written out by hand, and their counts against the modules that run."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F

from hwnas.core import SpaceError
from hwnas.nn import build_block
from hwnas.nn.dense_cells import (
    CONVOLUTIONS,
    GROUPS,
    NORMS,
    DenseCell,
    DenseHead,
    Pick,
    describe_dense_cell,
    describe_dense_head,
    describe_dense_stem,
    describe_halving_pool,
    groups_of,
    layer,
)
from hwnas.space import Block
from tests.zoo.counting import counted_macs

PAIRS = list(itertools.product(NORMS, CONVOLUTIONS))


def check(block: Block) -> None:
    """The module has the block's shapes, parameters and multiply-adds."""
    module = build_block(block).eval()
    assert tuple(module(torch.randn(2, *block.input_shape)).shape[1:]) == block.output_shape
    assert sum(p.numel() for p in module.parameters()) == block.parameters
    assert counted_macs(module, block.input_shape) == block.macs


@pytest.mark.parametrize("pair", PAIRS)
def test_a_described_cell_is_the_built_one(pair: tuple[str, str]) -> None:
    for layers in ((pair,), (pair, PAIRS[9]), (PAIRS[1], pair), (pair, pair, pair)):
        block = describe_dense_cell(layers, 24, 8, 6, bottleneck=4)
        check(block)
        kernels = block.kernels or ()
        assert sum(kernel.macs for kernel in kernels) == block.macs
        for kernel in kernels:
            check(kernel)


def test_the_other_pieces_are_what_they_are_described_as() -> None:
    check(describe_dense_stem(3, 16, 9, stride=2))
    check(describe_halving_pool(12, 7))
    check(describe_dense_head(24, 5, 4, read=24))
    check(describe_dense_head(24, 5, 4, read=12))


def test_what_a_cell_reads_stays_and_its_growth_comes_behind() -> None:
    torch.manual_seed(0)
    cell = DenseCell(16, 8, (("norm_relu", "conv_1x1"), ("norm", "group_conv_3x3")), bottleneck=4).eval()
    x = torch.randn(2, 16, 5, 5)
    kept = x.clone()
    y = cell(x)
    assert torch.equal(x, kept), "nothing is rectified in place that others read"
    first, second = (part[-1].weight for part in cell.layers)  # type: ignore[index]
    scale = (1 + 1e-5) ** -0.5
    hidden = F.conv2d(F.relu(x * scale), first)
    new = F.conv2d(hidden * scale, second, padding=1, groups=4)
    torch.testing.assert_close(y, torch.cat([x, new], dim=1))


def test_identity_does_not_rectify_its_input() -> None:
    torch.manual_seed(0)
    module = layer("identity", "conv_1x1", 4, 4)
    x = torch.randn(1, 4, 3, 3)
    torch.testing.assert_close(module(x), F.conv2d(x, module[-1].weight))  # type: ignore[arg-type]


def test_a_fresh_learned_group_reads_from_everywhere() -> None:
    assert Pick(8, 8).order.tolist() == [0, 4, 1, 5, 2, 6, 3, 7]
    assert sorted(Pick(8, 4).order.tolist()) == [0, 1, 4, 5]
    assert Pick(6, 3).order.tolist() == [0, 1, 2]
    assert "order" in Pick(8, 8).state_dict(), "the choice is saved with the weights"


def test_groups_by_hand() -> None:
    assert groups_of("conv_3x3", 16, 32) == 1
    assert groups_of("group_conv_3x3", 16, 32) == groups_of("learned_group_conv_1x1", 16, 32) == GROUPS
    assert groups_of("depthwise_conv_3x3", 24, 32) == 8


def test_unknown_names_are_refused() -> None:
    with pytest.raises(SpaceError, match='convolution "conv_5x5" is unknown; did you mean "conv_'):
        groups_of("conv_5x5", 4, 4)
    with pytest.raises(SpaceError, match='norm "relu" is unknown; did you mean "norm_relu"'):
        layer("relu", "conv_1x1", 4, 4)


def test_a_head_may_read_some_channels_only() -> None:
    head = DenseHead(8, 3, read=4).eval()
    x = torch.rand(2, 8, 2, 2)
    seen = x.clone()
    seen[:, [2, 3, 6, 7]] = 0
    torch.testing.assert_close(head(x), head(seen))
