"""Shared weights of two-input cells against plain cells, and their mixtures against sums written out."""

from __future__ import annotations

import itertools
from typing import cast

import pytest
import torch
from torch import Tensor, nn

from hwnas.nn import Gate
from hwnas.nn.two_input_cells import Features, Place, Wiring
from hwnas.nn.two_input_supernet import ElasticTwoInputCell, Owner, SoftEdge

NAMES = ("skip_connect", "sep_conv_3x3", "max_pool_3x3")
PAIRS = {2: [(0, 1)], 3: [(0, 1), (0, 2), (1, 2)]}
PLACES = [
    Place("normal", 4, 1, Features(8, 6), Features(8, 6), (2, 3)),
    Place("reduce", 4, 2, Features(6, 7), Features(6, 7), (0, 3), raw=True, matching="where_needed"),
]
WIRING: Wiring = (
    (("sep_conv_3x3", 0), ("skip_connect", 1)),
    (("max_pool_3x3", 0), ("sep_conv_3x3", 2)),
)


def cell(place: Place, owner: Owner) -> ElasticTwoInputCell:
    torch.manual_seed(0)
    found = ElasticTwoInputCell(place, nodes=2, operations=NAMES, owner=owner)
    for part in found.modules():
        if isinstance(part, nn.BatchNorm2d):
            for value in (part.weight, part.bias, part.running_mean, part.running_var):
                assert value is not None
                nn.init.uniform_(value, 0.5, 1.5)
    return found.eval()


def images(place: Place) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    before, last = (torch.randn(2, c, s, s) for c, s in (place.before, place.last))
    return before, last


def hard_gate(option: int, options: int) -> Gate:
    return Gate(torch.eye(options)[option], (option,))


def darts_edges(wiring: Wiring) -> list[tuple[SoftEdge, SoftEdge]]:
    """One-hot gates of a wiring whose nodes read pairs of states."""
    edges = []
    for node, ((left, first), (right, second)) in enumerate(wiring, start=2):
        reads = hard_gate(PAIRS[node].index((first, second)), len(PAIRS[node]))
        low, high = (tuple(pair[side] for pair in PAIRS[node]) for side in (0, 1))
        edges.append((
            SoftEdge(reads, low, hard_gate(NAMES.index(left), 3)),
            SoftEdge(reads, high, hard_gate(NAMES.index(right), 3)),
        ))
    return edges


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("owner", ["node", "edge"])
def test_hard_soft_and_plain_cells_agree(place: Place, owner: Owner) -> None:
    elastic, x = cell(place, owner), images(place)
    plain = elastic.cut(WIRING)
    torch.testing.assert_close(elastic(*x, WIRING), plain(*x))
    torch.testing.assert_close(elastic.soft(*x, darts_edges(WIRING)), plain(*x))
    assert not plain.training


@pytest.mark.parametrize("owner", ["node", "edge"])
def test_an_edge_that_is_chosen_twice(owner: Owner) -> None:
    """Both edges of a node on one state with one operation: the same weights or each its own."""
    elastic, x = cell(PLACES[0], owner), images(PLACES[0])
    twice: Wiring = ((("sep_conv_3x3", 1), ("sep_conv_3x3", 1)), (("skip_connect", 2), ("skip_connect", 2)))
    plain = elastic.cut(twice)
    torch.testing.assert_close(elastic(*x, twice), plain(*x))
    left, right = (part.state_dict() for part in cast(nn.ModuleList, plain.operations[0]))
    assert all(torch.equal(left[name], right[name]) for name in left) == (owner == "node")
    edges = [
        tuple(SoftEdge(hard_gate(s, node), tuple(range(node)), hard_gate(NAMES.index(name), 3)) for name, s in pair)
        for node, pair in enumerate(twice, start=2)
    ]
    torch.testing.assert_close(elastic.soft(*x, edges), plain(*x))  # type: ignore[arg-type]


def test_soft_edges_are_the_sum_over_what_is_read_and_carried() -> None:
    """Second implementation for DARTS: every pair of states with every pair of operations, weighted by the product."""
    torch.manual_seed(2)
    elastic, x = cell(PLACES[0], "node"), images(PLACES[0])
    simplex = {node: [torch.rand(n).softmax(0).requires_grad_() for n in (len(PAIRS[node]), 3, 3)] for node in (2, 3)}
    edges = []
    for node, (pairs, first, second) in simplex.items():
        reads = Gate(pairs, tuple(range(len(pairs))))
        low, high = (tuple(pair[side] for pair in PAIRS[node]) for side in (0, 1))
        carry = (Gate(first, (0, 1, 2)), Gate(second, (0, 1, 2)))
        edges.append((SoftEdge(reads, low, carry[0]), SoftEdge(reads, high, carry[1])))
    states = [elastic.inputs[0](x[0]), elastic.inputs[1](x[1])]
    for node, (pairs, first, second) in simplex.items():
        total: Tensor = torch.zeros(())
        for (p, (low_state, high_state)), (f, left), (g, right) in itertools.product(
            zip(pairs, PAIRS[node], strict=True), zip(first, NAMES, strict=True), zip(second, NAMES, strict=True)
        ):
            y = elastic.operations[node - 2][0][low_state][left](states[low_state])  # type: ignore[index]
            z = elastic.operations[node - 2][0][high_state][right](states[high_state])  # type: ignore[index]
            total = total + p * f * g * (y + z)
        states.append(total)
    found = elastic.soft(*x, edges)
    torch.testing.assert_close(found, torch.cat(states[2:], dim=1), atol=1e-5, rtol=1e-5)
    found.pow(2).sum().backward()  # type: ignore[no-untyped-call]
    for values in itertools.chain.from_iterable(simplex.values()):
        assert values.grad is not None


@pytest.mark.parametrize("owner", ["node", "edge"])
def test_what_is_not_chosen_gets_no_gradient(owner: Owner) -> None:
    elastic, x = cell(PLACES[0], owner).train(), images(PLACES[0])
    loss: Tensor = elastic(*x, WIRING).sum()
    loss.backward()  # type: ignore[no-untyped-call]
    used = {
        ".".join(name.split(".")[1:5])
        for name, p in elastic.named_parameters()
        if name.startswith("operations") and p.grad is not None
    }
    second = "1" if owner == "edge" else "0"
    assert used == {"0.0.0.sep_conv_3x3", f"1.{second}.2.sep_conv_3x3"}
    assert all(p.grad is not None for p in elastic.inputs.parameters())
