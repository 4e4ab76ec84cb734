"""Which whole networks are measured beside the blocks, and with which weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from hwnas.core import Architecture, CostError, generator, seed_of
from hwnas.cost import UnitSum, blocks_of
from hwnas.space import Codes, Space

CALIBRATION = 20
"""Calibration networks: 4 extremes, 4 of the expected optimum, the others at the quantiles."""
CALIBRATION_OF_KERNELS = 60
"""The same where the table holds kernels instead of blocks, so that more is left to the fit."""
HELD_OUT = 24
REFERENCES = 5
FEWEST = 5
"""Networks of different blocks that a calibration needs."""
LISTED = CALIBRATION + HELD_OUT
"""Networks up to which a space with fewer different ones is measured whole."""
_POOL = 4096


@dataclass(frozen=True)
class Networks:
    """Whole networks of a space, chosen before anything is measured.

    Attributes:
        calibration: From blocks to networks is fitted on these.
        held_out: The printed error is of these; none is in `calibration`.
        reference: Measured again whenever the table is used. In a space too small for 49 networks they may be among
            the others.
        whole: Whether `calibration` is every network of the space: each is then predicted by its own time, and nothing
            is fitted.
    """

    calibration: tuple[Architecture, ...]
    held_out: tuple[Architecture, ...]
    reference: tuple[Architecture, ...]
    whole: bool = False


def choose_networks(space: Space, *, seed: int, calibration: int = CALIBRATION, held_out: int = HELD_OUT) -> Networks:
    """Networks to calibrate on, others to check with, 5 to refer to; fewer in a small space. None is chosen twice.

    They are spread by their multiply-adds, which rank networks well enough for that (tau 0.8) and are known before the
    first measurement. Spreading by predicted latency would need the blocks timed first, in a session of their own: the
    files loaded twice, and times that one session's drift separates from the other's.

    Those to calibrate on are 4 at the extremes (the smallest and the largest of the space and of a random sample), 4
    where a search tends to end up, which random networks do not cover (without squeeze-and-excitation, deep and thin,
    wide, shallow), and the others at the quantiles. Of those held out half are uniform random, half at quantiles.

    Where fewer than five networks have different blocks, as with two choices of a layer and some optional skips, there
    is too little to fit: every network is measured. If there are more than 44, some of them are, with equal blocks
    among them, and none is held out, as none would be unseen.

    Args:
        space: With units.
        seed: Equal seeds choose equal networks.
        calibration: At most so many to calibrate on.
        held_out: At most so many to check with.

    Raises:
        CostError: If the space has no units.
    """
    picker = _Picker(space, generator(seed, "profiled networks"))
    n = len(picker.pool)
    if n < FEWEST:
        return _of_equal_blocks(space, seed=seed, calibration=calibration)
    small = n < calibration + held_out + REFERENCES
    held_out = min(held_out, n // 3, n - FEWEST)
    calibration = min(calibration, n - held_out)
    references = [] if small else list(picker.at_quantiles(REFERENCES))
    chosen = list(islice(picker.telling(), calibration))
    chosen += picker.at_quantiles(calibration - len(chosen))
    checks = list(picker.at_random(held_out // 2))
    checks += picker.at_quantiles(held_out - len(checks))
    if small:
        references = picker.spread(chosen)
    fitted, checked, referred = (tuple(space.decode(picker.pool[rows])) for rows in (chosen, checks, references))
    return Networks(fitted, checked, referred)


def _of_equal_blocks(space: Space, *, seed: int, calibration: int) -> Networks:
    """All networks of a space whose blocks tell fewer than five apart; some, if they are more than `LISTED`."""
    picker = _Picker(space, generator(seed, "profiled networks"), different=False)
    whole = space.size <= LISTED
    chosen = list(range(len(picker.pool))) if whole else list(islice(picker.telling(), calibration))
    chosen += [] if whole else picker.at_quantiles(calibration - len(chosen))
    measured, references = (tuple(space.decode(picker.pool[rows])) for rows in (chosen, picker.spread(chosen)))
    return Networks(measured, (), references, whole=whole)


class _Picker:
    """Takes networks out of a pool, none twice: all of a small space, else a random sample with the two extremes.

    Args:
        space: With units.
        rng: Draws the sample and its order.
        different: Whether of networks with equal blocks one is enough.
    """

    def __init__(self, space: Space, rng: np.random.Generator, *, different: bool = True) -> None:
        macs = UnitSum.of(space, lambda block: block.macs)
        if space.size <= _POOL:
            everything = space.encode(space.enumerate())
            self.pool: Codes = everything[rng.permutation(len(everything))]
        else:
            sample = space.sample_codes(_POOL, rng)
            _, first = np.unique(sample, axis=0, return_index=True)
            sample = sample[np.sort(first)]  # in the order they were drawn, so that the first ones are random ones
            ends = [code for code in _ends(space, macs) if not (sample == code).all(axis=1).any()]
            self.pool = np.concatenate([sample, *ends])
        if different:
            self.pool = _different(space, self.pool)
        self.macs = macs(self.pool)
        self.blocks = UnitSum.of(space, lambda block: block.feature("blocks"))(self.pool)
        self.se = UnitSum.of(space, lambda block: block.se)(self.pool)
        self.parameters = UnitSum.of(space, lambda block: block.parameters)(self.pool)
        self.taken: set[int] = set()

    def _take(self, order: Iterable[int]) -> Iterator[int]:
        """The first of an order that is left, if any."""
        for i in order:
            if i not in self.taken:
                self.taken.add(i)
                yield i
                return

    def _best(self, *criteria: NDArray[np.float64]) -> Iterator[int]:
        """The one left that is smallest by the first criterion, then by the next."""
        return self._take(np.lexsort([np.arange(len(self.macs)), *reversed(criteria)]).tolist())

    def telling(self) -> Iterator[int]:
        """Two small ones, two large ones; then one with the least SE, one deep and thin, one wide, one shallow."""
        from_median = np.abs(self.macs - np.median(self.macs))
        for size in (self.macs, -self.macs, self.macs, -self.macs):
            yield from self._best(size)
        yield from self._best(self.se, from_median)
        yield from self._best(-self.blocks, self.macs)
        yield from self._best(-self.parameters / self.blocks, from_median)
        yield from self._best(self.blocks, -self.macs)

    def at_quantiles(self, n: int) -> Iterator[int]:
        """Spread evenly over the networks in the order of their size."""
        order = np.argsort(self.macs, kind="stable")
        for share in (np.arange(n) + 0.5) / max(n, 1):
            nearest = np.argsort(np.abs(np.arange(len(order)) - share * (len(order) - 1)), kind="stable")
            yield from self._take(order[nearest].tolist())

    def spread(self, chosen: Sequence[int]) -> list[int]:
        """A few of those chosen, from the smallest to the largest."""
        by_size = sorted(chosen, key=lambda i: (self.macs[i], i))
        places = np.linspace(0, len(chosen) - 1, min(REFERENCES, len(chosen))).round().astype(int)
        return [by_size[place] for place in places]

    def at_random(self, n: int) -> Iterator[int]:
        """The first ones left; the pool is in random order."""
        for _ in range(n):
            yield from self._take(range(len(self.pool)))


def _different(space: Space, codes: Codes) -> Codes:
    """The codes without those that mean a network that is there already, as dead edges of a cell can: in order.

    Measured beside its twin a network that is held out would not be unseen.
    """
    ids = {key: number for number, key in enumerate(blocks_of(space), start=1)}
    columns: dict[tuple[int, tuple[str, ...]], NDArray[np.int64]] = {}
    for unit in space.units:
        if (id(unit.blocks), unit.labels) not in columns:
            known = np.array([ids.get(block.key, 0) if block else 0 for block in unit.blocks])
            choice = tuple(np.maximum(codes[:, space.index(label)], 0) for label in unit.labels)
            shape = tuple(len(space[label].options) for label in unit.labels)
            entries = np.ravel_multi_index(choice, shape) if choice else np.zeros(len(codes), dtype=np.int64)
            columns[id(unit.blocks), unit.labels] = known[entries]
    _, first = np.unique(np.stack([*columns.values()], axis=1), axis=0, return_index=True)
    return codes[np.sort(first)]


def _ends(space: Space, macs: UnitSum) -> list[Codes]:
    try:
        return [space.encode([architecture]) for _, architecture in (macs.smallest(), macs.largest())]
    except CostError:  # decisions that hang together too closely: the sample's own ends must do
        return []


def build_seeded(build: Callable[[], nn.Module], *, seed: int, name: str) -> nn.Module:
    """A module whose weights depend on a seed and a name alone, so that it can be built again later.

    Kernels are normal with variance 2 / fan-in, norms neutral, biases 0: activations keep their scale through any
    depth, so no denormal number slows a run. Torch's global generator is left as it was.

    Args:
        build: Makes the module.
        seed: Of the table.
        name: Of the module: a block's key or an architecture's digest.

    Example:
        >>> a, b = (build_seeded(lambda: nn.Linear(2, 2), seed=1, name="x") for _ in range(2))
        >>> bool((a.weight == b.weight).all())
        True
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(seed, "weights", name))
        module = build()
        # What the module was built from (a supernet, say) may have been drawn earlier: draw everything afresh.
        torch.manual_seed(seed_of(seed, "weights", name))
        with torch.no_grad():
            for label, parameter in sorted(module.named_parameters()):
                if parameter.ndim > 1:
                    parameter.normal_(std=(2 * parameter.shape[0] / parameter.numel()) ** 0.5)
                elif label.endswith("bias"):
                    parameter.zero_()
                elif label.endswith("weight"):
                    parameter.fill_(1.0)
            for part in module.modules():
                if isinstance(part, _BatchNorm):
                    part.reset_running_stats()
    return module.eval()
