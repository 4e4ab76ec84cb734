"""Layers of ENAS's macro space and networks of them."""

from __future__ import annotations

import pytest
import torch

from hwnas.core import SpaceError
from hwnas.nn import build_block
from hwnas.nn.summed_skips import (
    OPERATIONS,
    SummedFrame,
    SummedLayer,
    SummedNetwork,
    describe_norm,
    describe_summed_layer,
)
from tests.zoo.counting import check_counts


@pytest.mark.parametrize("operation", OPERATIONS)
def test_entries_have_the_counts_of_their_modules(operation: str) -> None:
    check_counts([describe_summed_layer(operation, 6, 5), describe_norm(6, 5)])


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_layer_keeps_the_shape_and_gives_no_negative_numbers(operation: str) -> None:
    torch.manual_seed(0)
    out = SummedLayer(4, operation)(torch.randn(2, 4, 7, 7))
    assert out.shape == (2, 4, 7, 7)
    assert out.min() >= 0


def test_unknown_operations_are_named() -> None:
    with pytest.raises(SpaceError, match='operation "conv_7x7" is unknown; did you mean'):
        SummedLayer(4, "conv_7x7")


def test_a_network_is_its_layers_and_norms() -> None:
    """Written out for three layers in two stages, of which the last takes the stem's value, too."""
    torch.manual_seed(0)
    frame = SummedFrame(1, 6, (2, 1), (4, 6), 3)
    net = SummedNetwork(frame, (("conv_3x3", ()), ("avg_pool_3x3", (1,)), ("sep_conv_3x3", (1, 0)))).eval()
    x = torch.randn(2, 1, 6, 6)
    stem = net.stem(x)
    second = net.norms[0](net.layers[1](net.layers[0](stem)) + stem)
    [reductions] = net.reductions
    reduced = dict(reductions.named_children())
    assert sorted(reduced) == ["0", "2"]
    third = net.norms[1](net.layers[2](reduced["2"](second)) + reduced["0"](stem))
    torch.testing.assert_close(net(x), net.head(third))


def test_a_network_says_what_it_is() -> None:
    net = SummedNetwork(SummedFrame(1, 6, (1, 1), (4, 6), 3), (("conv_3x3", ()), ("conv_5x5", (1,))))
    again = build_block(net.block)
    again.load_state_dict(net.state_dict())
    assert isinstance(again, SummedNetwork)
    assert (again.frame, again.wiring) == (net.frame, net.wiring)
