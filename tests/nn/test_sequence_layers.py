"""Pools without padding, and what ends a sequence."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from hwnas.core import SpaceError
from hwnas.cost.roofline import kernels_of
from hwnas.nn import build_block
from hwnas.nn.sequence_layers import SequenceHead, describe_sequence_head, describe_window_pool, pooled_side
from tests.zoo.counting import counted_macs


@pytest.mark.parametrize(("kernel", "stride"), [(5, 3), (3, 2), (2, 2)])
def test_a_pool_gives_what_its_entry_says(kernel: int, stride: int) -> None:
    for size in range(kernel, 20):
        block = describe_window_pool(3, size, kernel=kernel, stride=stride)
        out = build_block(block)(torch.zeros(2, 3, size, size))
        assert out.shape == (2, *block.output_shape)
        assert out.shape[2] == pooled_side(size, kernel, stride) == len(range(0, size - kernel + 1, stride))
    assert pooled_side(kernel - 1, kernel, stride) == 0
    with pytest.raises(SpaceError, match=rf"pool of {kernel}x{kernel} on features of 1x1; the window must fit"):
        describe_window_pool(3, 1, kernel=kernel, stride=stride)


@pytest.mark.parametrize("mean", [True, False])
@pytest.mark.parametrize("hidden", [(), (7,), (7, 5)])
def test_a_head_gives_what_its_entry_says(hidden: tuple[int, ...], mean: bool) -> None:
    torch.manual_seed(0)
    block = describe_sequence_head(3, hidden, 4, 6, mean=mean)
    module = build_block(block)
    assert isinstance(module, SequenceHead)
    x = torch.randn(2, 3, 6, 6)
    y = x.mean((2, 3)) if mean else x.flatten(1)
    for layer in module.hidden:
        y = F.relu(layer(y))
    torch.testing.assert_close(module(x), module.classifier(y))
    assert sum(p.numel() for p in module.parameters()) == block.parameters
    assert sum(k.operations // 2 for k in kernels_of(block) if k.kind != "elementwise") == block.macs
    assert counted_macs(module, (3, 6, 6)) == block.macs
