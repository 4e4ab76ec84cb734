"""Blocks that convolve or attend."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from hwnas.core import SpaceError
from hwnas.nn import build_block
from hwnas.nn.hybrid_blocks import ElasticHybridLayer, PixelAttention, build_body, describe_hybrid, describe_patches
from hwnas.space import Block

ENTRIES = [
    describe_hybrid(8, c_out, 7, operation=operation, middle=6, heads=3, stride=stride)
    for operation in ("conv", "attention")
    for c_out, stride in ((8, 1), (12, 1), (12, 2), (8, 2))
]


def test_attention_is_torchs_own() -> None:
    torch.manual_seed(0)
    mine = PixelAttention(12, heads=3)
    x = torch.randn(2, 12, 3, 4)
    query, key, value = mine.project(x).flatten(2).transpose(1, 2).chunk(3, dim=2)
    heads = (part.reshape(2, 12, 3, 4).transpose(1, 2) for part in (query, key, value))
    theirs = torch.nn.functional.scaled_dot_product_attention(*heads)
    torch.testing.assert_close(mine(x), theirs.transpose(1, 2).reshape(2, 12, 12).transpose(1, 2).reshape(2, 12, 3, 4))


@pytest.mark.parametrize("block", [*ENTRIES, describe_patches(4, 8, 12, side=3)], ids=lambda block: block.key)
def test_entries_have_the_counts_of_their_modules(block: Block) -> None:
    with torch.device("meta"):
        module = build_block(block).eval()
        with FlopCounterMode(display=False) as counter:
            out = module(torch.zeros(1, *block.input_shape))
    assert tuple(out.shape[1:]) == block.output_shape
    assert counter.get_total_flops() // 2 == block.macs
    assert sum(p.numel() for p in module.parameters()) == block.parameters


def test_a_layer_runs_and_cuts_each_of_its_entries() -> None:
    torch.manual_seed(0)
    layer = ElasticHybridLayer(ENTRIES).eval()
    assert (len(layer.arrivals), len(layer.bodies)) == (8, 4), "what follows an entry is shared between strides"
    x = torch.randn(2, 8, 7, 7)
    for block in ENTRIES:
        torch.testing.assert_close(layer(x, block), layer.cut(block)(x))


def test_unknown_operations_are_named() -> None:
    with pytest.raises(SpaceError, match='operation "atention" is unknown; did you mean "attention"'):
        build_body("atention", 4, 8, 1)
