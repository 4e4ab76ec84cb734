"""A cell whose every edge carries the weights of all operations: the shared weights of cell spaces.

Shapes: n images, c channels, h height, w width.
Source: Dong and Yang 2020 (arXiv 2001.00326), section 4, methods with weight sharing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from hwnas.nn.cells import NONE, Cell, Edges, operation, without_dead_edges
from hwnas.nn.gates import Gate

_ALIVE = "alive"


class ElasticCell(nn.Module):
    """A `Cell` whose operations are chosen at every call.

    Each edge has its own weights for each operation. An edge that changes nothing is not computed, whatever it carries:
    its weights get no gradient.

    Args:
        channels: In and out.
        nodes: With the input node; each later node has an edge from every one before it.
        operations: What an edge may carry, in the order of the gates' codes.

    Example:
        >>> cell = ElasticCell(4, nodes=3, operations=("none", "skip_connect", "nor_conv_1x1"))
        >>> x = torch.randn(2, 4, 5, 5)
        >>> edges = (("none",), ("skip_connect", "none"))
        >>> torch.equal(cell(x, edges), x), torch.equal(cell.cut(edges)(x), x)
        (True, True)
    """

    def __init__(self, channels: int, *, nodes: int, operations: Sequence[str]) -> None:
        super().__init__()
        self.channels = channels
        self.names = tuple(operations)
        self.operations = nn.ModuleDict({
            f"{source}-{node}": nn.ModuleDict({name: operation(name, channels) for name in operations if name != NONE})
            for node in range(1, nodes)
            for source in range(node)
        })

    def forward(self, x: Tensor, edges: Edges) -> Tensor:
        """One choice: [n, channels, h, w] -> the same shape; zeros where no path leads through the cell."""
        nodes: list[Tensor | None] = [x]
        for node, row in enumerate(without_dead_edges(edges), start=1):
            total: Tensor | None = None
            for source, name in enumerate(row):
                value = nodes[source]
                if name != NONE and value is not None:
                    y = self._operation(source, node, name)(value)
                    total = y if total is None else total + y
            nodes.append(total)
        return _or_zeros(nodes[-1], x)

    def soft(self, x: Tensor, gates: Sequence[Sequence[Gate]]) -> Tensor:
        """The relaxation: every edge is the sum of its supported operations, each times its weight.

        "none" adds nothing, so what it weighs is missing from the sum. Edges that no supported operation leads to, or
        away from, are not computed; so with one-hot gates the result equals the hard call.

        Args:
            x: [n, channels, h, w].
            gates: Of each edge, laid out as `Edges`: per node after the input one for each node before it.

        Returns:
            The same shape as x.
        """
        supported = tuple(
            tuple(_ALIVE if any(self.names[code] != NONE for code in gate.support) else NONE for gate in row)
            for row in gates
        )
        nodes: list[Tensor | None] = [x]
        for node, row in enumerate(without_dead_edges(supported), start=1):
            total: Tensor | None = None
            for source, mark in enumerate(row):
                value = nodes[source]
                if mark == NONE or value is None:
                    continue
                gate = gates[node - 1][source]
                for code in gate.support:
                    if self.names[code] != NONE:
                        y = gate.weight(code) * self._operation(source, node, self.names[code])(value)
                        total = y if total is None else total + y
            nodes.append(total)
        return _or_zeros(nodes[-1], x)

    def cut(self, edges: Edges) -> Cell:
        """The plain cell of one choice without its dead edges, with its own copy of the weights."""
        cell = Cell(self.channels, edges)
        for key, part in cell.operations.items():
            source, _, node = key.partition("-")
            name = cell.edges[int(node) - 1][int(source)]
            part.load_state_dict(self._operation(int(source), int(node), name).state_dict())
        return cell.train(self.training)

    def _operation(self, source: int, node: int, name: str) -> nn.Module:
        return cast(Mapping[str, nn.Module], self.operations[f"{source}-{node}"])[name]


def _or_zeros(y: Tensor | None, x: Tensor) -> Tensor:
    # Not x * 0: then all that made x would run backwards for a gradient of 0.
    return torch.zeros_like(x) if y is None else y
