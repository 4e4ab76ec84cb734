"""The cell of NATS-Bench's size space, and modules cut from larger ones."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hwnas.nn import build_block
from hwnas.nn.cells import Cell, describe_reduction, read_cell
from hwnas.nn.sized_cells import Cuttable, SizedCell, describe_sized_cell
from hwnas.space import Block
from tests.zoo.counting import check_counts


def test_a_cell_of_one_width_is_that_of_nas_bench_201() -> None:
    torch.manual_seed(0)
    text = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|"
    theirs, mine = Cell(6, read_cell(text)), SizedCell(6, 6, widens=False)
    for edge, operation in mine.edges.items():
        operation.load_state_dict(theirs.operations[edge].state_dict())
    x = torch.randn(2, 6, 5, 5)
    torch.testing.assert_close(mine.eval()(x), theirs.eval()(x))


@pytest.mark.parametrize(("c_in", "c_out"), [(4, 4), (4, 6), (6, 4)])
def test_entries_have_the_counts_of_their_modules(c_in: int, c_out: int) -> None:
    check_counts([describe_sized_cell(c_in, c_out, 5)])


@pytest.mark.parametrize(
    ("whole", "part"),
    [
        (describe_sized_cell(6, 6, 4, widens=True), describe_sized_cell(2, 4, 4)),
        (describe_sized_cell(6, 6, 4, widens=True), describe_sized_cell(4, 4, 4)),
        (describe_reduction(6, 6, 4), describe_reduction(4, 2, 4)),
    ],
)
def test_a_part_is_the_module_with_the_first_weights(whole: Block, part: Block) -> None:
    torch.manual_seed(0)
    holder, plain = Cuttable(whole, build_block), build_block(part)
    for value in holder.state_dict().values():
        if value.ndim == 1:
            nn.init.uniform_(value, 0.5, 1.5)
    plain.load_state_dict(holder.share(part))
    x = torch.randn(3, *part.input_shape)
    torch.testing.assert_close(holder.eval()(x, part), plain.eval()(x))
    torch.testing.assert_close(holder.train()(x, part), plain.train()(x))
    for name, value in holder.share(part).items():
        if "running" in name:
            torch.testing.assert_close(value, plain.state_dict()[name])
