"""A number that is a sum over the blocks of a network, for every network of a space at once.

Each unit of a space becomes a dense tensor with one axis per decision that it depends on, and units that depend on the
same decisions are added into one tensor. Each decision stands in a tensor once, which is why a depth that makes several
blocks present is a single axis and not a product of probabilities: those blocks come and go together.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hwnas.core import Architecture, CostError
from hwnas.space import Block, Codes, Space, Unit

Tensor = tuple[tuple[str, ...], NDArray[np.float64]]
"""The decisions of the axes, in the order of the space, and one number per combination of their options."""

End = Literal["smallest", "largest"]
"""One of the two ends of what the networks of a space cost."""

_ROWS = 4096
"""Networks at a time: what is worked on stays in the cache, which makes a large batch three times as fast."""

_LARGEST_TABLE = 2**24
"""Entries of one table while eliminating decisions: 128 MiB. Chain spaces with tied widths need some thousands."""


def blocks_of(space: Space) -> dict[str, Block]:
    """Every block that some network of the space holds, by key, sorted: what a latency table must cover.

    Raises:
        CostError: If the space has no units, so that nothing is known about its blocks.

    Example:
        >>> from hwnas.space import Decision, Unit
        >>> a, b = (Block("conv", (("kernel", k),), (8, 4, 4), (8, 4, 4), k * k * 128, k * k * 8) for k in (3, 5))
        >>> list(blocks_of(Space("tiny", (Decision("kernel", (3, 5)),), (Unit("u", ("kernel",), (a, b)),))))
        ['conv kernel=3 8x4x4->8x4x4', 'conv kernel=5 8x4x4->8x4x4']
    """
    _check_units(space)
    # Units that repeat, as the cells of a stage, share their blocks: tens of thousands are looked at once.
    different = {(id(unit.blocks), unit.labels): unit for unit in space.units}
    blocks = {
        block.key: block
        for unit in different.values()
        for block in (unit.blocks[entry] for entry in canonical_entries(space, unit))
        if block
    }
    return {key: blocks[key] for key in sorted(blocks)}


def entries_of(space: Space) -> dict[str, Block]:
    """What a latency table of the space must cover, by key, sorted: its blocks, or the kernels of those that have any.

    Raises:
        CostError: If the space has no units, so that nothing is known about its blocks.

    Example:
        >>> from hwnas.space import Decision, Unit
        >>> relu, conv = (Block(kind, (), (8, 4, 4), (8, 4, 4), 0, 0) for kind in ("relu", "conv"))
        >>> cell = Block("cell", (), (8, 4, 4), (8, 4, 4), 0, 0, kernels=(relu, conv, conv))
        >>> list(entries_of(Space("tiny", (), (Unit("u", (), (cell,)),))))
        ['conv 8x4x4->8x4x4', 'relu 8x4x4->8x4x4']
    """
    entries = {
        entry.key: entry
        for block in blocks_of(space).values()
        for entry in ((block,) if block.kernels is None else block.kernels)
    }
    return {key: entries[key] for key in sorted(entries)}


@dataclass(frozen=True, eq=False)
class UnitSum:
    """A constant and some tensors, whose entries for one network add up to its number.

    Attributes:
        space: Whose codes are read.
        constant: What every network has.
        tensors: One per set of decisions, none of them twice.

    Example:
        >>> from hwnas.space import Decision, Unit
        >>> a, b = (Block("conv", (("kernel", k),), (8, 4, 4), (8, 4, 4), k * k * 128, k * k * 8) for k in (3, 5))
        >>> space = Space("tiny", (Decision("kernel", (3, 5)),), (Unit("u", ("kernel",), (a, b)),))
        >>> macs = UnitSum.of(space, lambda block: block.macs)
        >>> macs(np.array([[0], [1]])).tolist(), macs.expectation({"kernel": np.array([0.5, 0.5])})
        ([1152.0, 3200.0], 2176.0)
    """

    space: Space
    constant: float
    tensors: tuple[Tensor, ...]

    @classmethod
    def of(cls, space: Space, value: Callable[[Block], float], *, constant: float = 0.0) -> UnitSum:
        """The sum of a number that every block has.

        Args:
            space: With units.
            value: Asked once per distinct block.
            constant: Added to every network.

        Raises:
            CostError: If the space has no units.
        """
        values = {key: float(value(block)) for key, block in blocks_of(space).items()}
        sums: dict[tuple[str, ...], NDArray[np.float64]] = {}
        known: dict[tuple[int, tuple[str, ...]], NDArray[np.float64]] = {}
        for unit in space.units:
            same = id(unit.blocks), unit.labels
            if same not in known:
                blocks = [unit.blocks[entry] for entry in canonical_entries(space, unit)]
                known[same] = np.array([values[block.key] if block else 0.0 for block in blocks])
            flat = known[same]
            labels = tuple(sorted(unit.labels, key=space.index))
            tensor = flat.reshape([len(space[label].options) for label in unit.labels])
            tensor = tensor.transpose([unit.labels.index(label) for label in labels])
            sums[labels] = sums[labels] + tensor if labels in sums else tensor.copy(order="C")
        constant += float(sums.pop((), np.zeros(())))
        for tensor in sums.values():
            tensor.setflags(write=False)
        return cls(space, constant, tuple(sums.items()))

    @classmethod
    def listed(cls, space: Space, values: Mapping[Architecture, float]) -> UnitSum:
        """The numbers of every network of a small space, as one tensor over all its decisions.

        Args:
            space: Of few networks.
            values: One for each.

        Raises:
            CostError: If a network has none, or the decisions have too many combinations.

        Example:
            >>> from hwnas.space import Decision
            >>> space = Space("tiny", (Decision("kernel", (3, 5)),))
            >>> times = {Architecture({"kernel": 3}): 1.5, Architecture({"kernel": 5}): 4.0}
            >>> UnitSum.listed(space, times)(np.array([[1], [0]])).tolist()
            [4.0, 1.5]
        """
        shape = tuple(len(decision.options) for decision in space.decisions)
        if prod(shape) > _LARGEST_TABLE:
            raise CostError(f"space {space.name}: {prod(shape):,} combinations of its options are too many to list")
        genotypes = np.stack(np.unravel_index(np.arange(prod(shape)), shape), axis=1) if shape else np.zeros((1, 0))
        architectures = space.decode(space.canonical_codes(genotypes.astype(np.int64)))
        for architecture in architectures:
            if architecture not in values:
                raise CostError(f"space {space.name}: network {architecture} has no number; expected one for each")
        numbers = [values[architecture] for architecture in architectures]
        if not shape:
            return cls(space, numbers[0], ())
        tensor = np.array(numbers, dtype=np.float64).reshape(shape)
        tensor.setflags(write=False)
        return cls(space, 0.0, ((tuple(decision.label for decision in space.decisions), tensor),))

    @classmethod
    def weighted(cls, sums: Sequence[UnitSum], weights: Sequence[float]) -> UnitSum:
        """A weighted sum of sums over one space.

        Args:
            sums: At least one.
            weights: One per sum.

        Example:
            >>> from hwnas.space import Decision
            >>> space = Space("tiny", (Decision("kernel", (3, 5)),))
            >>> parts = [UnitSum(space, 1.0, ((("kernel",), np.array([1.0, 2.0])),)), UnitSum(space, 10.0, ())]
            >>> UnitSum.weighted(parts, [2.0, 0.5])(np.array([[0], [1]])).tolist()
            [9.0, 11.0]
        """
        tensors: dict[tuple[str, ...], NDArray[np.float64]] = {}
        for part, weight in zip(sums, weights, strict=True):
            for labels, tensor in part.tensors:
                tensors[labels] = tensors[labels] + weight * tensor if labels in tensors else weight * tensor
        for tensor in tensors.values():
            tensor.setflags(write=False)
        constant = sum(weight * part.constant for part, weight in zip(sums, weights, strict=True))
        return cls(sums[0].space, constant, tuple(tensors.items()))

    def __call__(self, codes: Codes) -> NDArray[np.float64]:
        """The numbers of n networks from their codes or genotypes [n, decisions]; inactive decisions do not matter.

        Raises:
            CostError: If the codes do not fit the space.
        """
        decisions = len(self.space.decisions)
        if codes.ndim != 2 or codes.shape[1] != decisions:
            raise CostError(
                f"codes of space {self.space.name}: shape {codes.shape}; expected [n, {decisions}], "
                "a row per network and a column per decision"
            )
        if len(codes) == 1 and (codes[0] < self._one_row.options).all():
            return self._one_row(codes[0])
        total = np.full(len(codes), self.constant)
        for start in range(0, len(codes), _ROWS):
            columns = np.ascontiguousarray(np.maximum(codes[start : start + _ROWS], 0).T)
            part = total[start : start + _ROWS]
            for labels, tensor in self.tensors:
                index = tuple(columns[self.space.index(label)] for label in labels)
                try:
                    part += tensor.ravel()[np.ravel_multi_index(index, tensor.shape)]
                except ValueError as error:
                    raise CostError(
                        f"codes of space {self.space.name}: one of {', '.join(labels)} has a code beyond its options; "
                        f"their numbers of options are {list(tensor.shape)}"
                    ) from error
        return total

    @cached_property
    def _one_row(self) -> OneRow:
        return OneRow.of([self])

    def expectation(self, probabilities: Mapping[str, NDArray[np.float64]]) -> float:
        """The exact mean when every decision is drawn on its own, whatever is active.

        Args:
            probabilities: Per label one number per option, adding up to 1.

        Raises:
            CostError: If a label is missing, or its probabilities are not some.
        """
        used = sorted({label for labels, _ in self.tensors for label in labels}, key=self.space.index)
        for label in used:
            options = len(self.space[label].options)
            if label not in probabilities:
                raise CostError(f"expected cost in space {self.space.name}: no probabilities for {label!r}")
            given = np.asarray(probabilities[label])
            if given.shape != (options,) or not (np.all(given >= 0) and abs(given.sum() - 1) <= 1e-6):
                raise CostError(
                    f"expected cost in space {self.space.name}: {label!r} has {given.tolist()}; "
                    f"expected {options} numbers >= 0 that add up to 1"
                )
        total = self.constant
        for labels, tensor in self.tensors:
            value: NDArray[np.float64] = tensor
            for label in labels:
                value = np.tensordot(probabilities[label], value, axes=1)
            total += float(value)
        return total

    def smallest(self) -> tuple[float, Architecture]:
        """The smallest number of all, exactly, and a network that has it; see `extreme`.

        Raises:
            CostError: If the decisions hang together so closely that a table would not fit into memory.
        """
        return self._named("smallest")

    def largest(self) -> tuple[float, Architecture]:
        """As `smallest`, for the largest number.

        Raises:
            CostError: As `smallest`.
        """
        return self._named("largest")

    def _named(self, end: End) -> tuple[float, Architecture]:
        codes = extreme(self.space, self.tensors, end, join=np.add, what="cost")
        return float(self(codes)[0]), self.space.decode(codes)[0]

    @property
    def digest(self) -> str:
        """Sixteen hex digits over the labels and the bytes of the tensors; the same in every process."""
        content = hashlib.sha256(np.float64(self.constant).astype("<f8").tobytes())
        for labels, tensor in self.tensors:
            content.update(repr((labels, tensor.shape)).encode())
            content.update(tensor.astype("<f8").tobytes())
        return content.hexdigest()[:16]


@dataclass(frozen=True, eq=False)
class OneRow:
    """Sums over one space laid side by side, so that one network is one lookup for all of them.

    Attributes:
        options: Of each decision.
        strides: [decisions, tensors]: how far a code leads within a tensor.
        starts: Where each tensor begins among the entries.
        entries: Of all tensors, end to end: [entries, sums].
        constants: [sums].
    """

    options: NDArray[np.int64]
    strides: NDArray[np.int64]
    starts: NDArray[np.int64]
    entries: NDArray[np.float64]
    constants: NDArray[np.float64]

    @classmethod
    def of(cls, sums: Sequence[UnitSum]) -> OneRow:
        """Of sums whose tensors belong to sets of labels that the first one has, too.

        Example:
            >>> from hwnas.space import Decision
            >>> space = Space("tiny", (Decision("kernel", (3, 5)),))
            >>> parts = [UnitSum(space, 1.0, ((("kernel",), np.array([1.0, 2.0])),)), UnitSum(space, 10.0, ())]
            >>> OneRow.of(parts)(np.array([1])).tolist()
            [3.0, 10.0]
        """
        first = sums[0]
        space, shapes = first.space, {labels: tensor.shape for labels, tensor in first.tensors}
        strides = np.zeros((len(space.decisions), len(shapes)), dtype=np.int64)
        for n, (labels, shape) in enumerate(shapes.items()):
            for axis, label in enumerate(labels):
                strides[space.index(label), n] = prod(shape[axis + 1 :])
        columns = []
        for part in sums:
            known = dict(part.tensors)
            every = (known.get(labels, np.zeros(shape)).ravel() for labels, shape in shapes.items())
            columns.append(np.concatenate([np.zeros(0), *every]))
        return cls(
            np.array([len(decision.options) for decision in space.decisions], dtype=np.int64),
            strides,
            np.cumsum([0, *map(prod, shapes.values())], dtype=np.int64)[:-1],
            np.stack(columns, axis=1),
            np.array([part.constant for part in sums]),
        )

    def __call__(self, row: NDArray[np.int64]) -> NDArray[np.float64]:
        """The numbers [sums] of one network, added in the order of `UnitSum`, so equal to the bit."""
        total = self.constants.copy()
        for entry in self.entries[np.maximum(row, 0) @ self.strides + self.starts]:
            total += entry
        return total


def extreme(space: Space, tensors: Sequence[Tensor], end: End, *, join: np.ufunc, what: str) -> Codes:
    """Canonical codes [1, decisions] of the network at one end of what its tensors join to; exact.

    Decisions are eliminated one by one: the tables that hold one are joined, and its best option is kept for every
    combination of its neighbours (bucket elimination, Dechter 1999, section 4). Inactive decisions need no care, as no
    entry depends on them.

    Args:
        space: Of the tensors.
        tensors: Their entries at 0 or above where `join` is `np.maximum`.
        end: Which.
        join: `np.add` or `np.maximum`.
        what: How errors call the number.

    Raises:
        CostError: If the decisions hang together so closely that a table would not fit into memory.
    """
    best, where = (np.min, np.argmin) if end == "smallest" else (np.max, np.argmax)
    sizes = {decision.label: len(decision.options) for decision in space.decisions}
    tables = list(tensors)
    choices: list[tuple[str, tuple[str, ...], NDArray[np.int64]]] = []
    left = [label for label in sizes if any(label in labels for labels, _ in tables)]
    while left:
        scopes = {
            label: sorted({other for labels, _ in tables if label in labels for other in labels}, key=space.index)
            for label in left
        }
        label = min(left, key=lambda label: prod(sizes[other] for other in scopes[label]))
        scope = scopes[label]
        if prod(sizes[other] for other in scope) > _LARGEST_TABLE:
            raise CostError(
                f"space {space.name}: its smallest and largest {what} cannot be found exactly, as "
                f"{len(scope)} decisions hang together ({', '.join(scope[:4])}, ...)",
                hint="tie decisions, for example one width per stage",
            )
        joined = np.zeros([sizes[other] for other in scope])
        for labels, table in tables:
            if label in labels:
                joined = join(joined, table.reshape([sizes[o] if o in labels else 1 for o in scope]))
        axis = scope.index(label)
        rest = tuple(other for other in scope if other != label)
        choices.append((label, rest, where(joined, axis=axis)))
        tables = [table for table in tables if label not in table[0]] + [(rest, best(joined, axis=axis))]
        left.remove(label)
    genotype = np.zeros((1, len(sizes)), dtype=np.int64)
    for label, rest, choice in reversed(choices):
        genotype[0, space.index(label)] = choice[tuple(genotype[0, space.index(o)] for o in rest)]
    return space.canonical_codes(genotype)


def _check_units(space: Space) -> None:
    if not space.units:
        raise CostError(
            f"space {space.name} has no units, so nothing is known about the cost of its networks",
            hint="give the space units, or report the cost from the evaluation",
        )


def canonical_entries(space: Space, unit: Unit) -> NDArray[np.int64]:
    """For each entry of a unit the one that is read: inactive decisions at their first option.

    What can deactivate a label is among the labels of the unit (`Space` checks it), so the rest of a genotype, here
    all first options, does not matter.
    """
    shape = tuple(len(space[label].options) for label in unit.labels)
    entries = np.arange(prod(shape))
    if not any(space[label].active_if for label in unit.labels):
        return entries
    columns = [space.index(label) for label in unit.labels]
    genotypes = np.zeros((len(entries), len(space.decisions)), dtype=np.int64)
    genotypes[:, columns] = np.stack(np.unravel_index(entries, shape), axis=1)
    read = np.maximum(space.canonical_codes(genotypes), 0)[:, columns]
    canonical: NDArray[np.int64] = np.ravel_multi_index(tuple(read.T), shape)
    return canonical
