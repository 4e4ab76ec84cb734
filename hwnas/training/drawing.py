"""Which networks a step of a supernet's training draws."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from hwnas.core import Architecture, RecipeError
from hwnas.core.errors import did_you_mean
from hwnas.cost import CostModel
from hwnas.nn import fair_sequence
from hwnas.space import Space

_AT_ONCE, _TRIES = 64, 32

Draw = Callable[[int, np.random.Generator], list[Architecture]]
"""So many networks of a step, from a generator."""


def fair_draw(space: Space) -> Draw:
    """Draws in which no option of a decision comes twice before every other has come once.

    Source: Chu et al. 2021 (FairNAS, arXiv 1907.01845), where a step has as many networks as there are options.

    Example:
        >>> from hwnas.space import Decision
        >>> draw = fair_draw(Space("tiny", (Decision("k", (3, 5, 7)),)))
        >>> sorted(a["k"] for a in draw(3, np.random.default_rng(0)))
        [3, 5, 7]
    """

    def draw(n: int, rng: np.random.Generator) -> list[Architecture]:
        networks: list[Architecture] = []
        while len(networks) < n:
            networks += fair_sequence(space, rng)
        return networks[:n]

    return draw


def binned_draw(space: Space, cost: CostModel, *, bins: int = 8) -> Draw:
    """Draws as often from cheap networks and dear ones as from those between.

    Uniform over options, nearly all networks cost about the same, and the ends of a front are hardly ever trained. Here
    one of equally wide bins of the cost is drawn first, and then a network in it, uniform over options; where none
    comes up in 2,048 draws, the one that came nearest. Source: the code published with Guo et al. 2020 (SPOS, arXiv
    1904.00420), which draws from bins of multiply-adds and rejects what lies outside.

    Args:
        space: Drawn from.
        cost: Of which the bins are, from the smallest network's to the largest's.
        bins: At least 1.

    Raises:
        RecipeError: If there is no bin.

    Example:
        >>> from hwnas.cost import UnitSumCost
        >>> from hwnas.zoo import FAMILIES
        >>> space = FAMILIES["toy"].space
        >>> macs = UnitSumCost.count(space, "macs")
        >>> len(binned_draw(space, macs)(3, np.random.default_rng(0)))
        3
    """
    if bins < 1:
        raise RecipeError(f"binned draws with {bins} bins; expected at least 1")
    edges = np.linspace(cost.smallest()[0], cost.largest()[0], bins + 1)

    def draw(n: int, rng: np.random.Generator) -> list[Architecture]:
        return [one(rng) for _ in range(n)]

    def one(rng: np.random.Generator) -> Architecture:
        chosen = int(rng.integers(bins))
        best, least = None, np.inf
        for _ in range(_TRIES):
            networks = space.sample(_AT_ONCE, rng)
            values = cost.batch(space.encode(networks))
            inside = np.searchsorted(edges[1:-1], values, side="right") == chosen
            if inside.any():
                return networks[int(inside.argmax())]
            outside = np.maximum(edges[chosen] - values, values - edges[chosen + 1])
            if outside.min() < least:
                best, least = networks[int(outside.argmin())], float(outside.min())
        assert best is not None  # a space has a network
        return best

    return draw


class Opening:
    """Progressive shrinking: draws of the largest network alone first, then of ever smaller options too.

    The first part of the training, `until`, has one stage for the largest network and one for each kind of decisions.
    In its stage the options of a kind join one by one, those next to the largest network's first; after its stage all
    are drawn uniformly. Kinds that are not named are open from the start. Source: Cai et al. 2020 (arXiv 1908.09791),
    section 3.3, which shrinks resolution all along, then kernel, depth and width; its distillation from the largest
    network is the sandwich rule's here.

    Args:
        space: Drawn from.
        largest: The network that everything starts with.
        kinds: Ends of labels, in the order in which they open: "kernel" are "stage1.block1.kernel" and all such.
        until: Share of the training after which everything is open, above 0 and up to 1.

    Raises:
        RecipeError: If a kind is not one of the space, or comes twice, or the share is out of range.

    Example:
        >>> from hwnas.space import Decision
        >>> space = Space("tiny", (Decision("a.kernel", (3, 5, 7)), Decision("a.expansion", (3, 6))))
        >>> largest = Architecture({"a.kernel": 7, "a.expansion": 6})
        >>> opening = Opening(space, largest, ["kernel", "expansion"], until=0.6)
        >>> opening.at(0.0), sorted({a["a.kernel"] for a in opening(50, np.random.default_rng(0))})
        (None, [7])
        >>> opening.at(0.25), sorted({a["a.kernel"] for a in opening(50, np.random.default_rng(0))})
        (None, [5, 7])
        >>> opening.at(0.6), sorted({(a["a.kernel"], a["a.expansion"]) for a in opening(99, np.random.default_rng(0))})
        (None, [(3, 3), (3, 6), (5, 3), (5, 6), (7, 3), (7, 6)])
    """

    def __init__(self, space: Space, largest: Architecture, kinds: Sequence[str], *, until: float = 0.5) -> None:
        check_kinds(space, kinds)
        if not 0 < until <= 1:
            raise RecipeError(f"progressive shrinking until {until}; expected a share above 0 and up to 1")
        self.space = space
        self.kinds = tuple(kinds)
        self.until = until
        [self._largest] = space.encode([largest])
        self.at(0.0)

    def at(self, share: float) -> None:
        """Open what is open when so much of the training is done, 0..1."""
        # Stage 0 has the largest network alone; stage n opens the n-th kind.
        stage = min(share / self.until, 1.0) * (len(self.kinds) + 1)
        self._open: list[np.ndarray] = []
        for decision, code in zip(self.space.decisions, self._largest.tolist(), strict=True):
            count, kind = len(decision.options), _kind(decision.label)
            opened = 1.0
            if kind in self.kinds and code >= 0:
                opened = min(1.0, max(0.0, stage - 1 - self.kinds.index(kind)))
            near = np.argsort(abs(np.arange(count) - code), kind="stable")
            joined = count if opened == 1 else 1 + int(np.ceil(opened * (count - 1)))
            self._open.append(np.sort(near[:joined]))

    def __call__(self, n: int, rng: np.random.Generator) -> list[Architecture]:
        """N networks, every decision uniform over its open options."""
        columns = [options[rng.integers(len(options), size=n)] for options in self._open]
        return self.space.decode(self.space.canonical_codes(np.stack(columns, axis=1).astype(np.int64)))

    def within(self, architecture: Architecture) -> Architecture:
        """The network that is open now and nearest to this one, option by option."""
        [wanted] = self.space.encode([architecture])
        row = [
            # What is inactive in it may have to wake up: then it takes the option farthest from the largest's.
            int(options[np.argmin(abs(options - code))]) if code >= 0 else int(options[np.argmax(abs(options - most))])
            for options, code, most in zip(self._open, wanted.tolist(), self._largest.tolist(), strict=True)
        ]
        [found] = self.space.decode(self.space.canonical_codes(np.array([row], dtype=np.int64)))
        return found


def check_kinds(space: Space, kinds: Sequence[str]) -> None:
    """Refuse kinds of decisions that a space cannot open one after another.

    Raises:
        RecipeError: If a kind is not one of the space, or comes twice; names it.
    """
    known = list(dict.fromkeys(_kind(decision.label) for decision in space.decisions))
    for kind in kinds:
        if kind not in known:
            raise RecipeError(
                f'progressive: "{kind}" is no kind of decisions of {space.name}; {did_you_mean(kind, known)}'
            )
    if len(set(kinds)) < len(kinds):
        raise RecipeError(f"progressive: {', '.join(kinds)}; expected each kind once")


def _kind(label: str) -> str:
    return label.rpartition(".")[2]
