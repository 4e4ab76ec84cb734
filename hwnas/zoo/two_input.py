"""What the spaces of two-input cells share: places in a cell that decisions fill, and the units they make.

A piece of a cell depends on the operation on its edge and on which state the edge reads, and on nothing else: the
shapes of all cells are fixed by the family. So every edge of every cell is a unit of two decisions, and a network's
multiply-adds and parameters are their exact sum. What no node reads is built and counted as well, up to every second
cell where all read the same input. A runtime leaves it out, so such a network is faster than its sum. Of 2,000 random
networks 5 to 20 % hold such parts, of AmoebaNet's space 67 %, of DARTS' none. On average they are 1 to 3 % of the
multiply-adds, in AmoebaNet's space 9 %, and in a single network up to 71 %.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from torch import Tensor, nn

from hwnas.core import Architecture, SpaceError
from hwnas.core.errors import did_you_mean
from hwnas.nn.gates import Gate, Gates, check_resolution
from hwnas.nn.two_input_cells import EDGE_OPERATIONS, Frame, Place, TwoInputNetwork, Wiring, build_piece
from hwnas.nn.two_input_supernet import ElasticTwoInputCell, Owner, SoftEdge
from hwnas.space import Block, Space, Unit
from hwnas.zoo.sides import check_sides


@dataclass(frozen=True)
class Slot:
    """One of a node's two edges, and the decisions about it.

    Attributes:
        reads: Label of the decision about the state it reads.
        sources: The state for each of its options.
        carries: Label of the decision about its operation.
    """

    reads: str
    sources: tuple[int, ...]
    carries: str


Slots = tuple[tuple[Slot, Slot], ...]
"""Of each node of a cell."""


def wiring_of(space: Space, slots: Slots, architecture: Architecture) -> Wiring:
    """The cell that an architecture says; it must be one of the space.

    Args:
        space: Whose decisions the slots name.
        slots: Of the cell.
        architecture: Says what they read and carry.
    """
    nodes = []
    for pair in slots:
        first, second = (
            (str(architecture[slot.carries]), slot.sources[space[slot.reads].options.index(architecture[slot.reads])])
            for slot in pair
        )
        nodes.append((first, second))
    return tuple(nodes)


def fitted(wiring: Wiring, *, nodes: int, operations: Sequence[str]) -> Wiring:
    """A published cell as far as a space has its like: fewer nodes, or more with the edges of the first one again.

    Operations that the space lacks are its first one instead.

    Example:
        >>> fitted(((("conv", 0), ("skip", 1)),), nodes=2, operations=("skip",))
        ((('skip', 0), ('skip', 1)), (('skip', 0), ('skip', 1)))
    """
    cells = []
    for node in range(nodes):
        first, second = (
            (name if name in operations else operations[0], source)
            for name, source in wiring[node if node < len(wiring) else 0]
        )
        cells.append((first, second))
    return tuple(cells)


def units_of(frames: Sequence[Frame], slots: Mapping[str, Slots], operations: Sequence[str]) -> tuple[Unit, ...]:
    """The units of a space.

    Args:
        frames: The network for each option of the decision "resolution".
        slots: By kind of cell.
        operations: The options of every decision about an operation.
    """
    units = [Unit(f"stem{n + 1}", ("resolution",), blocks) for n, blocks in enumerate(_across(frames, "stem"))]
    for number, places in enumerate(zip(*(frame.places for frame in frames), strict=True), start=1):
        name = f"cell{number}"
        fixed = zip(*(place.fixed for place in places), strict=True)
        units += [Unit(f"{name}.fixed{n}", ("resolution",), blocks) for n, blocks in enumerate(fixed, start=1)]
        additions = tuple(place.addition for place in places)
        for node, pair in enumerate(slots[places[0].kind], start=2):
            units += [
                _edge(f"{name}.node{node}.{side}", places, slot, operations)
                for side, slot in zip(("first", "second"), pair, strict=True)
            ]
            units.append(Unit(f"{name}.node{node}.sum", ("resolution",), additions))
    return (*units, Unit("head", ("resolution",), tuple(frame.head for frame in frames)))


def _across(frames: Sequence[Frame], field: str) -> list[tuple[Block, ...]]:
    return list(zip(*(getattr(frame, field) for frame in frames), strict=True))


def _edge(name: str, places: Sequence[Place], slot: Slot, operations: Sequence[str]) -> Unit:
    """An edge's unit; without the decision about its state where all states have one shape."""
    alike = all(place.stride == 1 and place.state(0) == place.state(2) for place in places)
    labels = ("resolution", slot.carries) if alike else ("resolution", slot.reads, slot.carries)
    sources = slot.sources[:1] if alike else slot.sources
    every = itertools.product(places, sources, operations)
    return Unit(name, labels, tuple(place.operation(operation, source) for place, source, operation in every))


class TwoInputSupernet(nn.Module):
    """All networks of a space of two-input cells in one set of weights.

    The resolution is hard: the images must come in the size that the gates ask for. The rest may be soft.

    Args:
        space: The decisions.
        frames: The network for each resolution, of equal pieces.
        slots: By kind of cell.
        operations: The options of every decision about an operation.
        owner: Whose an operation's weights are.
    """

    def __init__(
        self,
        space: Space,
        frames: Mapping[int, Frame],
        slots: Mapping[str, Slots],
        operations: Sequence[str],
        *,
        owner: Owner,
    ) -> None:
        super().__init__()
        self.space = space
        self.frames = dict(frames)
        self.resolutions = tuple(frames)
        self.slots = dict(slots)
        frame = next(iter(frames.values()))
        self.fork = frame.fork
        self.stem = nn.ModuleList(build_piece(block) for block in frame.stem)
        self.cells = nn.ModuleList(
            ElasticTwoInputCell(place, nodes=len(slots[place.kind]), operations=operations, owner=owner)
            for place in frame.places
        )
        self.head = build_piece(frame.head)

    def forward(self, x: Tensor, gates: Gates) -> Tensor:
        """Logits [n, classes] of images [n, c, side, side].

        Raises:
            SpaceError: If the images are not of the size that the gates ask for, or the resolution is soft.
        """
        check_resolution(x, gates, self.resolutions)
        before = last = x
        for number, block in enumerate(self.stem, start=1):
            last = block(last)
            before = last if number == self.fork else before
        if isinstance(gates, Architecture):
            wirings = {kind: wiring_of(self.space, slots, gates) for kind, slots in self.slots.items()}
            for cell in self._cells():
                before, last = last, cell(before, last, wirings[cell.place.kind])
        else:
            soft = {kind: [_soft(pair, gates) for pair in slots] for kind, slots in self.slots.items()}
            for cell in self._cells():
                before, last = last, cell.soft(before, last, soft[cell.place.kind])
        return cast(Tensor, self.head(last))

    def extract(self, architecture: Architecture) -> TwoInputNetwork:
        """The plain network of one architecture, with its own copy of the weights.

        Raises:
            SpaceError: If the architecture is not one of the space.
        """
        self.space.encode([architecture])
        wirings = {kind: wiring_of(self.space, slots, architecture) for kind, slots in self.slots.items()}
        network = TwoInputNetwork(self.frames[int(architecture["resolution"])], wirings)
        network.stem.load_state_dict(self.stem.state_dict())
        network.head.load_state_dict(self.head.state_dict())
        for plain, cell in zip(network.cells, self._cells(), strict=True):
            plain.load_state_dict(cell.cut(wirings[cell.place.kind]).state_dict())
        return network.train(self.training)

    def _cells(self) -> list[ElasticTwoInputCell]:
        return cast(list[ElasticTwoInputCell], list(self.cells))


def _soft(pair: tuple[Slot, Slot], gates: Mapping[str, Gate]) -> tuple[SoftEdge, SoftEdge]:
    first, second = (SoftEdge(gates[slot.reads], slot.sources, gates[slot.carries]) for slot in pair)
    return first, second


def check_family(
    *, resolutions: Sequence[int], operations: Sequence[str], least: int, above_0: Mapping[str, int]
) -> None:
    """Refuse values that no family of such cells can have.

    Args:
        resolutions: Searched.
        operations: What edges may carry.
        least: The smallest side of an image.
        above_0: Fields that must be.

    Raises:
        SpaceError: If a value is impossible; names the field and the value.
    """
    check_sides(resolutions, why="it is halved until nothing is left below that", least=least)
    for field, value in above_0.items():
        if value < 1:
            raise SpaceError(f"{field} is {value}; it must be above 0")
    for operation in operations:
        if operation not in EDGE_OPERATIONS:
            raise SpaceError(f'operations holds "{operation}"; {did_you_mean(operation, EDGE_OPERATIONS)}')
    if not operations or len(set(operations)) < len(operations):
        raise SpaceError(f"operations is {list(operations)}; expected at least one, each once")
