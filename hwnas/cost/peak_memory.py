"""The memory that a network's activations need: the largest of its blocks' peaks, for every network of a space at once.

Blocks run one after the other and hand on one tensor, so what a network needs at any moment is what the block needs
that runs then. It is a maximum, not a sum: there is no exact mean over a distribution, and no calibration.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from hwnas.core import Architecture, CostError, Metric, Origin, TableError, digest_of
from hwnas.cost.table import LatencyTable
from hwnas.cost.unit_sum import End, Tensor, blocks_of, canonical_entries, extreme
from hwnas.space import Codes, Space


@dataclass(frozen=True, eq=False)
class PeakMemory:
    """Peak activation bytes of any network of a chain space, from its blocks' peaks. A cost model.

    Attributes:
        space: Whose networks.
        fixed: The peak of the blocks that every network has.
        tensors: One per set of decisions, none of them twice.

    Example:
        >>> from hwnas.space import Block, Decision, Unit
        >>> a, b = (Block("conv", (("kernel", k),), (8, 4, 4), (8, 4, 4), k * k * 128, k * k * 8) for k in (3, 5))
        >>> space = Space("tiny", (Decision("kernel", (3, 5)),), (Unit("u", ("kernel",), (a, b)),))
        >>> PeakMemory.of(space, {a.key: 1024, b.key: 2048})(Architecture({"kernel": 5}))
        Metric(value=2048.0, unit='bytes', origin='computed', low=None, high=None, extrapolated=False, ...)
    """

    space: Space
    fixed: float
    tensors: tuple[Tensor, ...]
    name: str = field(init=False, default="peak_memory_bytes")
    unit: str = field(init=False, default="bytes")
    origin: Origin = field(init=False, default="computed")
    digest: str = field(init=False, default="")

    def __post_init__(self) -> None:
        parts = [[labels, tensor.ravel().tolist()] for labels, tensor in self.tensors]
        object.__setattr__(self, "digest", digest_of([self.name, self.space.digest, self.fixed, parts]))

    @classmethod
    def of(cls, space: Space, peaks: dict[str, int]) -> PeakMemory:
        """From the peak of each block, by key.

        Raises:
            CostError: If the space has no units, or a block's peak is not given.
        """
        for key in blocks_of(space):
            if key not in peaks:
                raise CostError(f"space {space.name}: the peak memory of block {key!r} is unknown")
        found: dict[tuple[str, ...], NDArray[np.float64]] = {}
        for unit in space.units:
            blocks = [unit.blocks[entry] for entry in canonical_entries(space, unit)]
            flat = np.array([float(peaks[block.key]) if block else 0.0 for block in blocks])
            labels = tuple(sorted(unit.labels, key=space.index))
            tensor = flat.reshape([len(space[label].options) for label in unit.labels])
            tensor = tensor.transpose([unit.labels.index(label) for label in labels])
            found[labels] = np.maximum(found[labels], tensor) if labels in found else tensor.copy(order="C")
        fixed = float(found.pop((), np.zeros(())))
        return cls(space, fixed, tuple(found.items()))

    @classmethod
    def from_table(cls, space: Space, table: LatencyTable) -> PeakMemory:
        """From the column of a latency table.

        Raises:
            TableError: If the table is of another space, misses a block, or does not say the peak of one.
            CostError: If the space has no units, or its blocks hand on more than one tensor, so that more than what one
                of them needs is alive at a time.
        """
        _check_chain(space)
        table.check_space(space)
        table.check_coverage(space)
        peaks = {key: table.rows[key].peak_activation_bytes for key in blocks_of(space)}
        known = {key: peak for key, peak in peaks.items() if peak is not None}
        if len(known) < len(peaks):
            first = next(key for key, peak in peaks.items() if peak is None)
            raise TableError(
                f"{table.source}: peak_activation_bytes of {len(peaks) - len(known)} blocks is unknown, the first is "
                f"{first!r}; a table of schema version 1 has no such column",
                hint="measure the device again: hwnas profile",
            )
        return cls.of(space, known)

    def __call__(self, architecture: Architecture) -> Metric:
        """The peak of one network.

        Raises:
            SpaceError: If the architecture is not one of the space.
        """
        return Metric(float(self.batch(self.space.encode([architecture]))[0]), self.unit, self.origin)

    def batch(self, codes: Codes) -> NDArray[np.float64]:
        """The peaks of n networks [n] from their codes or genotypes [n, decisions]; inactive decisions do not matter.

        Raises:
            CostError: If the codes do not fit the space.
        """
        decisions = len(self.space.decisions)
        if codes.ndim != 2 or codes.shape[1] != decisions:
            raise CostError(f"codes of space {self.space.name}: shape {codes.shape}; expected [n, {decisions}]")
        columns = np.maximum(codes, 0).T
        peak = np.full(len(codes), self.fixed)
        for labels, tensor in self.tensors:
            index = tuple(columns[self.space.index(label)] for label in labels)
            try:
                np.maximum(peak, tensor[index], out=peak)
            except IndexError as error:
                raise CostError(
                    f"codes of space {self.space.name}: one of {', '.join(labels)} has a code beyond its options; "
                    f"their numbers of options are {list(tensor.shape)}"
                ) from error
        return peak

    def smallest(self) -> tuple[float, Architecture]:
        """The smallest peak in the space, exactly, and a network that has it.

        Raises:
            CostError: If the decisions hang together too closely to be searched exactly.
        """
        return self._named("smallest")

    def largest(self) -> tuple[float, Architecture]:
        """The largest peak in the space, exactly, and a network that has it.

        Raises:
            CostError: As `smallest`.
        """
        return self._named("largest")

    def _named(self, end: End) -> tuple[float, Architecture]:
        codes = extreme(self.space, self.tensors, end, join=np.maximum, what="peak")
        return float(self.batch(codes)[0]), self.space.decode(codes)[0]


def _check_chain(space: Space) -> None:
    first = space.decode(space.canonical_codes(np.zeros((1, len(space.decisions)), dtype=np.int64)))[0]
    blocks = space.blocks_of(first)
    split = [block for block in blocks if block.kernels is not None]
    # Channels are enough to tell; a head may read them without their places.
    apart = [after for before, after in pairwise(blocks) if before.output_shape[0] != after.input_shape[0]]
    for found, what in ((split, "is measured by its kernels"), (apart, "does not read what the block before it gives")):
        if found:
            raise CostError(
                f"space {space.name}: the peak memory of its networks does not follow from their blocks': "
                f"block {found[0].key!r} {what}",
                hint="leave peak_memory_bytes out of the recipe; the members' own peaks are in front.json",
            )
