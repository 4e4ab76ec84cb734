"""Two-input cells in shared weights: every edge of every node carries all operations.

Shapes: n images, c channels, h height, w width.
Source: Liu et al. 2019 (arXiv 1806.09055), section 2.1, for edges that mix operations; Pham et al. 2018 (arXiv
1802.03268), section 2.3, for cells whose nodes choose what they read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, cast

import torch
from torch import Tensor, nn

from hwnas.nn.gates import Gate
from hwnas.nn.two_input_cells import Place, TwoInputCell, Wiring, build_piece

Owner = Literal["node", "edge"]
"""Whose an operation's weights are: one set per node and state, as in DARTS, whose edges read different states; or one
for each of a node's two edges, which may read the same state."""


class SoftEdge(NamedTuple):
    """What the gates say of one of a node's edges.

    Attributes:
        reads: Over the options of what it reads.
        sources: The state for each of them.
        carries: Over the operations.
    """

    reads: Gate
    sources: tuple[int, ...]
    carries: Gate


class ElasticTwoInputCell(nn.Module):
    """A `TwoInputCell` whose wiring is chosen at every call; what a call does not use gets no gradient.

    Args:
        place: Where it stands.
        nodes: How many.
        operations: What an edge may carry, in the order of the gates' codes.
        owner: Whose the weights are.
    """

    def __init__(self, place: Place, *, nodes: int, operations: Sequence[str], owner: Owner) -> None:
        super().__init__()
        self.place = place
        self.names = tuple(operations)
        self.owner = owner
        self.inputs = nn.ModuleList(build_piece(block) for block in place.inputs)
        self.operations = nn.ModuleList(
            nn.ModuleList(
                nn.ModuleList(
                    nn.ModuleDict({name: build_piece(place.operation(name, source)) for name in operations})
                    for source in range(node)
                )
                for _ in range(2 if owner == "edge" else 1)
            )
            for node in range(2, 2 + nodes)
        )
        self.endings = nn.ModuleDict({str(number): build_piece(block) for number, block in place.endings.items()})

    def forward(self, before: Tensor, last: Tensor, wiring: Wiring) -> Tensor:
        """One choice: as `TwoInputCell`."""
        states: list[Tensor] = [self.inputs[0](before), self.inputs[1](last)]
        for node, ((left, first), (right, second)) in enumerate(wiring):
            states.append(
                self._operation(node, 0, first, left)(states[first])
                + self._operation(node, 1, second, right)(states[second])
            )
        return self._given(states)

    def soft(self, before: Tensor, last: Tensor, wiring: Sequence[tuple[SoftEdge, SoftEdge]]) -> Tensor:
        """The relaxation: an edge is the sum over what it reads and carries, weighted by both; a node adds its edges.

        Where both edges use the same weights on the same state, these run once.

        Args:
            before: [n, c, h, w], of the cell before the last.
            last: [n, c, h, w], of the last cell.
            wiring: Of each node its two edges.

        Returns:
            [n, outputs * channels, h / stride, w / stride].
        """
        states: list[Tensor] = [self.inputs[0](before), self.inputs[1](last)]
        for node, edges in enumerate(wiring):
            weights: dict[tuple[int, int, str], Tensor] = {}
            for side, edge in enumerate(edges):
                for read in edge.reads.support:
                    for code in edge.carries.support:
                        pool = side if self.owner == "edge" else 0
                        key = pool, edge.sources[read], self.names[code]
                        weight = edge.reads.weight(read) * edge.carries.weight(code)
                        weights[key] = weights[key] + weight if key in weights else weight
            total: Tensor | None = None
            for (side, source, name), weight in weights.items():
                y = weight * self._operation(node, side, source, name)(states[source])
                total = y if total is None else total + y
            states.append(cast(Tensor, total))
        return self._given(states)

    def cut(self, wiring: Wiring) -> TwoInputCell:
        """The plain cell of one wiring, with its own copy of the weights."""
        cell = TwoInputCell(self.place, wiring)
        cell.inputs.load_state_dict(self.inputs.state_dict())
        cell.endings.load_state_dict(self.endings.state_dict())
        for node, (pair, edges) in enumerate(zip(cell.operations, wiring, strict=True)):
            for side, (plain, (name, source)) in enumerate(zip(cast(nn.ModuleList, pair), edges, strict=True)):
                plain.load_state_dict(self._operation(node, side, source, name).state_dict())
        return cell.train(self.training)

    def _operation(self, node: int, side: int, source: int, name: str) -> nn.Module:
        sides = cast(nn.ModuleList, self.operations[node])
        sources = cast(nn.ModuleList, sides[side if self.owner == "edge" else 0])
        return cast(Mapping[str, nn.Module], sources[source])[name]

    def _given(self, states: Sequence[Tensor]) -> Tensor:
        return torch.cat(
            [
                self.endings[str(number)](states[number]) if str(number) in self.endings else states[number]
                for number in self.place.outputs
            ],
            dim=1,
        )
