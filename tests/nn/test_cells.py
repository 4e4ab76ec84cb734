"""Cells against the benchmark's definition, written a second time here with every edge in place."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from hwnas.core import SpaceError
from hwnas.nn import build_block
from hwnas.nn.cells import (
    CELL_BUILDERS,
    NONE,
    OPERATIONS,
    Cell,
    Edges,
    describe_cell,
    describe_kernel,
    kernels_of,
    operation,
    read_cell,
    without_dead_edges,
    write_cell,
)

EVERY = [
    ((ops[0],), ops[1:3], ops[3:]) for ops in itertools.islice(itertools.product(OPERATIONS, repeat=6), 0, None, 97)
]
cells = st.lists(st.sampled_from(OPERATIONS), min_size=6, max_size=6).map(
    lambda ops: ((ops[0],), tuple(ops[1:3]), tuple(ops[3:]))
)


def naive(cell: Cell, edges: Edges, x: Tensor) -> Tensor:
    """Every edge computed, as the benchmark does; weights come from the cell under test, dead edges get fresh ones."""
    nodes = [x]
    for node, row in enumerate(edges, start=1):
        total = torch.zeros_like(x)
        for source, name in enumerate(row):
            if name != NONE:
                key = f"{source}-{node}"
                module: nn.Module = cell.operations[key] if key in cell.operations else operation(name, x.shape[1])
                total = total + module(nodes[source])
        nodes.append(total)
    return nodes[-1]


def paths(edges: Edges, source: int, target: int) -> bool:
    """By recursion, where the code under test goes through the nodes once."""
    return source == target or any(
        edges[node - 1][source] != NONE and paths(edges, node, target) for node in range(source + 1, target + 1)
    )


@settings(deadline=None, max_examples=40)
@given(cells)
def test_a_cell_without_its_dead_edges_computes_the_same(edges: Edges) -> None:
    torch.manual_seed(0)
    cell = Cell(4, edges).eval()
    x = torch.randn(2, 4, 6, 6)
    # A dead edge that is fed by the input still adds to a node that nobody reads, or is fed by a node of zeros: a
    # convolution without bias and a pool keep zeros zero, and so does a norm with its first statistics.
    torch.testing.assert_close(cell(x), naive(cell, edges, x))


@given(cells)
def test_an_edge_is_alive_if_it_lies_on_a_path(edges: Edges) -> None:
    for node, row in enumerate(without_dead_edges(edges), start=1):
        for source, name in enumerate(row):
            chosen = edges[node - 1][source]
            alive = chosen != NONE and paths(edges, 0, source) and paths(edges, node, 3)
            assert name == (chosen if alive else NONE)


@given(cells)
def test_strings_are_read_as_written(edges: Edges) -> None:
    assert read_cell(write_cell(edges)) == edges
    alive = without_dead_edges(edges)
    assert without_dead_edges(alive) == alive


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("|nor_conv_3x4~0|+|none~0|none~1|", 'operation "nor_conv_3x4" is unknown; did you mean "nor_conv_3x3"'),
        ("|none~1|", "node 1 has inputs .*expected one from each node before it"),
        ("|none~0|+|none~0|", "node 2 has inputs"),
        ("", "node 1 has inputs"),
    ],
)
def test_other_strings_are_refused(text: str, words: str) -> None:
    with pytest.raises(SpaceError, match=words):
        read_cell(text)


@pytest.mark.parametrize("edges", EVERY[::16])
def test_a_described_cell_is_the_built_one(edges: Edges) -> None:
    block = describe_cell(edges, 6, 8)
    module = build_block(block).eval()
    counted = 0

    def count(layer: nn.Module, _: object, y: Tensor) -> None:
        nonlocal counted
        assert isinstance(layer, nn.Conv2d)
        counted += layer.weight.numel() * y.shape[-1] * y.shape[-2]

    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(count)
    assert tuple(module(torch.randn(1, *block.input_shape)).shape[1:]) == block.output_shape
    assert (counted, sum(p.numel() for p in module.parameters())) == (block.macs, block.parameters)


@pytest.mark.parametrize(
    ("text", "kernels"),
    [
        ("|none~0|+|none~0|none~1|+|none~0|none~1|none~2|", ["zero"]),
        ("|none~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|", []),
        ("|none~0|+|none~0|none~1|+|nor_conv_3x3~0|none~1|none~2|", ["nor_conv_3x3"]),  # rectified before
        # The residual is added by the second convolution; node 0 is read as it is, too, and so rectified apart.
        (
            "|nor_conv_3x3~0|+|none~0|nor_conv_1x1~1|+|skip_connect~0|none~1|skip_connect~2|",
            ["nor_conv_1x1", "nor_conv_3x3", "relu"],
        ),
        # Two convolutions read node 0, which nothing convolved: they share its rectifier. One of them adds the other.
        (
            "|avg_pool_3x3~0|+|nor_conv_1x1~0|none~1|+|nor_conv_3x3~0|skip_connect~1|skip_connect~2|",
            ["avg_pool_3x3", "nor_conv_1x1", "nor_conv_3x3", "relu"],
        ),
        (
            "|avg_pool_3x3~0|+|none~0|none~1|+|avg_pool_3x3~0|skip_connect~1|none~2|",
            ["add", "avg_pool_3x3", "avg_pool_3x3"],
        ),
    ],
)
def test_kernels_by_hand(text: str, kernels: list[str]) -> None:
    assert sorted(kernels_of(without_dead_edges(read_cell(text)))) == kernels


def test_every_kernel_can_be_built_and_timed_alone() -> None:
    kinds = {kind for edges in EVERY for kind in kernels_of(without_dead_edges(edges))}
    assert kinds == {"relu", "add", "zero", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"} <= set(CELL_BUILDERS)
    for kind in sorted(kinds):
        block = describe_kernel(kind, 4, 8)
        module = build_block(block).eval()
        x = torch.randn(1, 4, 8, 8)
        y = module(x)
        assert y.shape == x.shape
        expected = {"relu": F.relu(x), "add": 2 * x, "zero": torch.zeros_like(x)}
        if kind in expected:
            torch.testing.assert_close(y, expected[kind])


def test_an_unknown_operation_is_refused() -> None:
    with pytest.raises(SpaceError, match='operation "dil_conv_3x3" cannot be built'):
        operation("dil_conv_3x3", 4)
