"""Memory banks: what flows between them, and what a layer's convolutions make of it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from hwnas.core import SpaceError
from hwnas.nn import build_block
from hwnas.nn.memory_banks import (
    PATTERNS,
    BankConvolutions,
    BankFrame,
    BankNetwork,
    LayerPlan,
    describe_bank_convolutions,
    run_block,
)
from tests.zoo.counting import check_counts

PLAIN = LayerPlan((0, 1), (0, 1), 2, 3, 1, 1, "1000")


def test_a_residual_and_a_dense_network_are_both_there() -> None:
    """Section 3.1: reading and writing the same banks adds, writing a new bank each puts side by side."""
    x = torch.arange(72.0).reshape(2, 4, 3, 3)

    def double(read: Sequence[Tensor]) -> Tensor:
        return 2 * torch.cat(list(read), dim=1)

    residual = [(double, PLAIN), (double, PLAIN)]
    assert torch.equal(run_block(x, residual, width=2, banks=2), 9 * x)
    dense = [(double, PLAIN._replace(reads=(0,), writes=(bank,), units=1)) for bank in (2, 3)]
    assert torch.equal(run_block(x, dense, width=2, banks=4), torch.cat([x, 2 * x[:, :2], 2 * x[:, :2]], dim=1))


def test_units_are_written_in_turn_and_empty_banks_read_as_zeros() -> None:
    x = torch.ones(1, 1, 1, 1)
    two = (lambda read: torch.tensor([5.0, 7.0]).reshape(1, 2, 1, 1), PLAIN._replace(writes=(0, 1, 3), units=2))
    assert run_block(x, [two], width=1, banks=4).flatten().tolist() == [6.0, 7.0, 0.0, 5.0]
    copy = (lambda read: read[0] + 1, PLAIN._replace(reads=(2,), writes=(1,), units=1))
    assert run_block(x, [copy], width=1, banks=3).flatten().tolist() == [1.0, 1.0, 0.0]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_patterns_are_sums_of_chains(pattern: str) -> None:
    torch.manual_seed(0)
    made = BankConvolutions(6, 4, pattern=pattern, kernel=3, dilation=2, groups=2)
    x = torch.randn(2, 6, 9, 9)
    c = {int(name): nn.Sequential(nn.ReLU(), module) for name, module in made.convolutions.items()}
    wanted = {
        "1000": lambda: c[0](x),
        "1010": lambda: c[0](x) + c[2](x),
        "1100": lambda: c[1](c[0](x)),
        "1110": lambda: c[1](c[0](x)) + c[2](x),
        "1111": lambda: c[1](c[0](x)) + c[3](c[2](x)),
    }[pattern]()
    torch.testing.assert_close(made(x), wanted)
    assert sorted(c) == [number for number, bit in enumerate(pattern) if bit == "1"]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_entries_have_the_counts_of_their_modules(pattern: str) -> None:
    check_counts([describe_bank_convolutions(8, 4, 5, pattern=pattern, kernel=5, dilation=1, groups=4)])


def test_a_network_says_what_it_is() -> None:
    frame = BankFrame(1, 8, 3, (2, 4), (1, 1), banks=3, filled=2, bottleneck=1, stem_kernel=3, largest=3)
    network = BankNetwork(frame, ((PLAIN,), (PLAIN._replace(writes=(2,), units=1, pattern="1100"),)))
    again = build_block(network.block)
    again.load_state_dict(network.state_dict())
    assert isinstance(again, BankNetwork)
    assert (again.frame, again.plans) == (frame, network.plans)
    x = torch.randn(2, 1, 8, 8)
    torch.testing.assert_close(again.eval()(x), network.eval()(x))


def test_unknown_patterns_are_named() -> None:
    with pytest.raises(SpaceError, match='pattern "1001" is unknown; did you mean'):
        BankConvolutions(4, 4, pattern="1001", kernel=3, dilation=1, groups=1)
