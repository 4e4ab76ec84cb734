"""Stages of Genetic-CNN against the paper's rules, decoded a second time by hand."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hwnas.core import SpaceError
from hwnas.nn import Gate, build_block
from hwnas.nn.genetic_stages import (
    ElasticGeneticStage,
    Graph,
    connected,
    describe_genetic_stage,
    predecessors,
    read_code,
    unread,
    without_isolated,
    write_code,
)
from tests.zoo.counting import counted_macs

FOUR: list[Graph] = [
    (row[:1], row[1:3], row[3:]) for row in itertools.product((0, 1), repeat=6)
]  # every graph of four nodes


def stage(nodes: int = 4) -> ElasticGeneticStage:
    torch.manual_seed(0)
    found = ElasticGeneticStage(3, 4, nodes=nodes, kernel=3)
    for part in found.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            for value in (part.weight, part.bias, part.running_mean, part.running_var):
                assert value is not None
                torch.nn.init.uniform_(value, 0.5, 1.5)
    return found.eval()


def by_the_rules(weights: ElasticGeneticStage, graph: Graph, x: Tensor) -> Tensor:
    """Section 3.1 node by node, the default nodes spelt out."""
    edges = {(i, j) for j, row in enumerate(graph, start=1) for i, bit in enumerate(row) if bit}
    start = weights.first(x)
    if not edges:
        return F.max_pool2d(start, 3, stride=2, padding=1)
    values: dict[int, Tensor] = {}
    total = torch.zeros(())
    for node in range(len(graph) + 1):
        fed, read = [i for i, j in edges if j == node], [j for i, j in edges if i == node]
        if fed or read:
            inputs = torch.stack([values[i] for i in sorted(fed)]).sum(0) if fed else start
            values[node] = weights.nodes[node](inputs)
            total = total if read else total + values[node]
    return F.max_pool2d(weights.last(total), 3, stride=2, padding=1)


@pytest.mark.parametrize("graph", FOUR)
def test_every_graph_of_four_nodes_follows_the_rules(graph: Graph) -> None:
    weights, x = stage(), torch.randn(2, 3, 7, 7)
    expected = by_the_rules(weights, graph, x)
    torch.testing.assert_close(weights(x, graph), expected)
    torch.testing.assert_close(weights.cut(graph)(x), expected)
    gates = [[Gate(torch.tensor([1.0 - bit, float(bit)]), (bit,)) for bit in row] for row in graph]
    torch.testing.assert_close(weights.soft(x, gates), expected)
    wide = [[Gate(gate.values, (0, 1)) for gate in row] for row in gates]
    torch.testing.assert_close(weights.soft(x, wide), expected, atol=1e-5, rtol=1e-5)


def test_one_soft_bit_is_a_mixture_before_the_last_convolution() -> None:
    """Two nodes: with the edge weighed p, node 2 reads p of node 1 and 1 - p of the start."""
    weights, x = stage(2), torch.randn(2, 3, 6, 6)
    p = torch.tensor([0.3, 0.7], requires_grad=True)
    start = weights.first(x)
    # Without the edge both nodes are isolated: they exist as much as the edge does.
    first = weights.nodes[0](start)
    second = weights.nodes[1](0.7 * first + 0.3 * start)
    given = weights.last(0.7 * second + 0.0 * first)
    expected = F.max_pool2d(0.3 * start + 0.7 * given, 3, stride=2, padding=1)
    found = weights.soft(x, [[Gate(p, (0, 1))]])
    torch.testing.assert_close(found, expected)
    found.sum().backward()  # type: ignore[no-untyped-call]
    assert p.grad is not None and (p.grad != 0).all()


def test_convolutions_that_do_not_exist_get_no_gradient() -> None:
    weights = stage().train()
    graph = read_code("1-00-000")
    loss: Tensor = weights(torch.randn(2, 3, 6, 6), graph).sum()
    loss.backward()  # type: ignore[no-untyped-call]
    used = {name.split(".")[1] for name, p in weights.named_parameters() if "nodes" in name and p.grad is not None}
    assert used == {"0", "1"}
    weights.zero_grad(set_to_none=True)
    weights(torch.randn(2, 3, 6, 6), read_code("0-00-000")).sum().backward()
    assert all((p.grad is not None) == name.startswith("first") for name, p in weights.named_parameters())


def test_codes_by_hand() -> None:
    graph = read_code("0-11-000-0001")
    assert predecessors(graph) == [[], [], [0, 1], [], [3]]
    assert connected(graph) == [0, 1, 2, 3, 4]
    assert unread(graph) == [2, 4]
    assert write_code(graph) == "0-11-000-0001"
    assert write_code(without_isolated(read_code("0-10-000"))) == "1"
    assert without_isolated(read_code("0-00-000")) == ()
    assert read_code("") == ()


@pytest.mark.parametrize("code", ["1-0", "1-002", "11", "1--00", "0-00-1"])
def test_other_texts_are_refused(code: str) -> None:
    with pytest.raises(SpaceError, match=f'code "{code}": expected a bit for every earlier node'):
        read_code(code)


@pytest.mark.parametrize("graph", FOUR[::5])
def test_a_described_stage_is_the_built_one(graph: Graph) -> None:
    block = describe_genetic_stage(graph, 3, 4, 9, kernel=5)
    module = build_block(block).eval()
    assert tuple(module(torch.randn(1, *block.input_shape)).shape[1:]) == block.output_shape
    assert sum(p.numel() for p in module.parameters()) == block.parameters
    kernels = block.kernels or ()
    assert [sum(k.macs for k in kernels), sum(k.parameters for k in kernels)] == [block.macs, block.parameters]
    for kernel in kernels:
        built = build_block(kernel).eval()
        assert tuple(built(torch.randn(1, *kernel.input_shape)).shape[1:]) == kernel.output_shape
    assert counted_macs(module, block.input_shape) == block.macs


def test_sums_are_kernels_too() -> None:
    block = describe_genetic_stage(read_code("0-11-000-0001"), 3, 4, 9, kernel=3)
    kinds = [kernel.kind for kernel in block.kernels or ()]
    assert kinds.count("add") == 2, "two inputs of the third node, two that nobody reads"
    assert kinds.count("conv_norm_relu") == 5 + 2
