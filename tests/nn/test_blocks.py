import itertools

import pytest
import torch

from hwnas.core import Architecture, SpaceError
from hwnas.nn import build_block, build_network
from hwnas.nn.blocks import describe_head, describe_mbconv, describe_stem
from hwnas.space import Block, Decision, Space

BLOCKS = [
    describe_stem(3, 8, 9, kernel=3, stride=2, activation_name="hswish"),
    describe_head(16, 24, 5, 3, activation_name="hswish"),
    *(
        describe_mbconv(8, c_out, 7, hidden=24, kernel=kernel, stride=stride, activation_name="relu", squeeze=squeeze)
        for c_out, kernel, stride, squeeze in itertools.product((8, 12), (3, 5), (1, 2), (0, 4))
    ),
]


def counted_macs(module: torch.nn.Module, images: torch.Tensor) -> int:
    """A second implementation: every convolution and linear layer counts outputs times inputs per output."""
    total = 0

    def count(part: torch.nn.Module, inputs: object, output: torch.Tensor) -> None:
        nonlocal total
        weight = part.weight
        assert isinstance(weight, torch.Tensor)
        total += output[0].numel() * weight[0].numel()

    for part in module.modules():
        if isinstance(part, torch.nn.Conv2d | torch.nn.Linear):
            part.register_forward_hook(count)
    module(images)
    return total


@pytest.mark.parametrize("block", BLOCKS, ids=lambda b: b.key)
def test_a_block_is_what_its_entry_says(block: Block) -> None:
    module = build_block(block).eval()
    images = torch.randn(2, *block.input_shape)
    output = module(images)
    assert output.shape == (2, *block.output_shape)
    assert sum(p.numel() for p in module.parameters()) == block.parameters
    assert counted_macs(module, images[:1]) == block.macs
    assert block.feature("boundary") == images[0].numel() + output[0].numel()


def test_keys_tell_all_entries_apart() -> None:
    assert len({block.key for block in BLOCKS}) == len(BLOCKS)


def test_residual_is_marked_where_shapes_agree() -> None:
    assert [b.residual for b in BLOCKS if b.kind == "mbconv"] == [
        c_out == 8 and stride == 1 for c_out, _, stride, _ in itertools.product((8, 12), (3, 5), (1, 2), (0, 4))
    ]


def test_unknown_kinds_and_activations_are_named() -> None:
    with pytest.raises(SpaceError, match=r'kind "mbcon" is unknown; did you mean "mbconv"'):
        build_block(Block("mbcon", (), (1, 1, 1), (1,), 0, 0))
    with pytest.raises(SpaceError, match=r'activation "hswich" is unknown; did you mean "hswish"'):
        build_block(describe_head(4, 4, 2, 2, activation_name="hswich"))


def test_a_space_without_units_builds_no_network() -> None:
    with pytest.raises(SpaceError, match="declares no units"):
        build_network(Space("bare", (Decision("k", (3,)),)), Architecture({"k": 3}))
