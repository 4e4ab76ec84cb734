"""DPP-Net: networks grow decision by decision, and what grows on is Pareto-optimal on all devices at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from hwnas.core import Architecture, Evaluation, RecipeError
from hwnas.core.errors import did_you_mean
from hwnas.learners import SURROGATES, Model, Rnn, Surrogate
from hwnas.pareto import Points, ends, genotypes_of, standings, survive, unseen
from hwnas.space import Codes, Space
from hwnas.study import JSON, Study
from hwnas.study.foresight import foresee, learn

_LEAST = 4  # beginnings that are kept even under a small budget: among fewer, ranks mean nothing
_POOL = 4  # networks whose rests are tried, for each that is wanted


@dataclass(frozen=True)
class DppNet:
    """From level to level one more decision is made, in the order of the space, and `width` beginnings are kept.

    Each level (1) evaluates a network of every beginning that was kept, and continues each with every option of the
    next decision; (2) fits a regressor to all that was evaluated and asks it about the continuations; (3) keeps `width`
    of them by Pareto rank, then by crowding, over all objectives: what the regressor says, and costs, on as many
    devices as there are objectives. The front of all evaluated networks is the result.

    Differences from the paper. It trains cells of one layer, then of two, and so on; the spaces here know complete
    networks only, in which an undecided layer cannot be left out. So a beginning is evaluated in a network whose other
    decisions are drawn, and judged by the mean over `rests` such networks. Hence every space can be searched, all of
    the limits can be kept (those on predicted costs before anything is evaluated, by leaving out beginnings for which
    no network within them was found), and nothing that was evaluated is lost to the front. A beginning in which a
    decision is inactive stays as it is at that level. Where a round of `width` takes more than half of the budget,
    fewer are kept; what is left goes to further rounds, whose last levels hold new networks only. The paper puts a cut
    between (2) and (3), `cut = "published"`: the 2 `width` that promise most accuracy. It loses the fast end of the
    front. On Toy201 (220 evaluations, 5 seeds, trees) hypervolumes were 0.950 of the exact front's with the cut and
    0.995 without it, which is why that is the default; 0.997 with the rnn (3 seeds).

    Source: Dong et al. 2018 (DPP-Net, arXiv 1806.08198), section 3.2 and figure 3.

    Attributes:
        width: Beginnings that are kept per level; K of the paper.
        rests: Networks by which a beginning is judged.
        cut: "published" keeps 2 `width` by predicted accuracy (the first objective that no cost model predicts) before
            Pareto ranks decide; "pareto" lets them decide at once.
        regressor: "rnn", the paper's, or one of `hwnas.learners.SURROGATES`.
        hidden: Units of the rnn, and length of the vectors that it reads.
        steps: Of the rnn's training, at each level.

    Raises:
        RecipeError: If a parameter is out of its range.

    Example:
        >>> DppNet(width=32).regressor
        'rnn'
    """

    version: ClassVar[int] = 1

    width: int = 128
    rests: int = 8
    cut: Literal["pareto", "published"] = "pareto"
    regressor: str = "rnn"
    hidden: int = 128
    steps: int = 150

    def __post_init__(self) -> None:
        for name in ("width", "rests", "hidden", "steps"):
            if getattr(self, name) < 1:
                raise RecipeError(f"dpp_net: {name} is {getattr(self, name)}; expected at least 1")
        if self.regressor != "rnn" and self.regressor not in SURROGATES:
            hint = did_you_mean(self.regressor, ["rnn", *SURROGATES])
            raise RecipeError(f'dpp_net: regressor "{self.regressor}" is unknown; {hint}')

    def search(self, study: Study) -> None:
        """Grow from the first decision to the last, round after round, until the budget is spent."""
        order = growth_order(study.space)
        width = self._affordable(study, order)
        known: list[Evaluation] = []
        while True:
            before = len(known)
            beginnings: list[list[int]] = [[0] * len(study.space.decisions)]
            for level in range(1, len(order) + 1):
                step = partial(self._level, study, order[:level], beginnings, tuple(known), width)
                grown = study.once(f"level {level} of {len(order)}", step)
                seen = {evaluation.architecture for evaluation in known}
                found = study.evaluate([Architecture(options) for options in grown["networks"]])
                known += [evaluation for evaluation in found if evaluation.architecture not in seen]
                beginnings = grown["beginnings"]
            if len(known) == before:
                break
        while True:  # hardly anything new is left: take the rest at random, until the study sees that nothing comes
            study.evaluate(study.sample(width))

    def _affordable(self, study: Study, order: Sequence[int]) -> int:
        """The width with which a round fits into half of the budget."""
        if study.budget.evaluations is None:
            return self.width
        beginnings = list(accumulate((len(study.space.decisions[i].options) for i in order), lambda a, b: a * b))
        width = min(self.width, _LEAST)
        while width < self.width and 2 * sum(min(n, width + 1) for n in beginnings) <= study.budget.evaluations:
            width += 1
        return width

    def _level(
        self,
        study: Study,
        decided: Sequence[int],
        beginnings: Sequence[Sequence[int]],
        known: Sequence[Evaluation],
        width: int,
        rng: np.random.Generator,
    ) -> JSON:
        """Which beginnings are kept, and a network of each. One durable step: a resume fits nothing."""
        space = study.space
        seen = {row.tobytes() for row in space.encode(evaluation.architecture for evaluation in known)}
        grown = _continued(space, np.array(beginnings, dtype=np.int64), decided)
        candidates = _complete(study, grown, decided, self.rests, rng)
        feasible = len(candidates.begun)
        if len(decided) == len(growth_order(space)):
            candidates = candidates.take(candidates.new(seen))
        learned = self._learned(study, known, rng)
        if learned is None or not len(candidates.begun):  # nothing is known yet, or nothing is new any more
            promising = rng.permutation(len(candidates.begun))
            chosen = np.sort(promising[:width])
        else:
            points = candidates.judged(study, learned)
            promising = self._promising(study, points, learned, width)
            chosen = np.sort(promising[_best(points.take(promising), width, rng)])
        kept = candidates.take(chosen)
        return {
            "sizes": {
                "continued": len(grown),
                "feasible": feasible,
                "promising": len(promising),
                "kept": len(chosen),
            },
            "beginnings": kept.begun.tolist(),
            "networks": [dict(network) for network in space.decode(kept.one_each(seen, rng))],
        }

    def _learned(self, study: Study, known: Sequence[Evaluation], rng: np.random.Generator) -> dict[str, Model] | None:
        """A model of each objective that no cost model predicts; None if there is too little to learn from."""
        usable = [known[n] for n in standings(known, study.objectives, study.limits).index]
        learned = learn(study, usable, self._surrogate(study.space, int(rng.integers(2**32))))
        told = {*learned, *(cost.name for cost in study.costs)}
        return learned if all(objective.name in told for objective in study.objectives) else None

    def _promising(self, study: Study, points: Points, learned: dict[str, Model], width: int) -> NDArray[np.int64]:
        """The paper's cut: those that promise most in what is learned."""
        if self.cut == "pareto":
            return np.arange(len(points))
        names = [objective.name for objective in study.objectives]
        column = next((n for n, name in enumerate(names) if name in learned), 0)
        return np.lexsort((points.costs[:, column], points.violation))[: 2 * width]

    def _surrogate(self, space: Space, seed: int) -> Surrogate:
        if self.regressor == "rnn":
            return Rnn.of(space, embedding=self.hidden, hidden=self.hidden, steps=self.steps, seed=seed)
        return SURROGATES[self.regressor](seed)


def growth_order(space: Space) -> list[int]:
    """The decisions that are made, one a level: in the space's order, those that switch others first.

    Example:
        >>> from hwnas.space import Condition, Decision
        >>> deep = ((Condition("depth", (2,)),),)
        >>> growth_order(Space("tiny", (Decision("k2", (3, 5), deep), Decision("depth", (1, 2)), Decision("k1", (3,)))))
        [1, 0]
    """
    parents = [{c.label for group in decision.active_if for c in group} for decision in space.decisions]
    order: list[int] = []
    made: set[str] = set()
    while len(order) < len(parents):
        free = next(i for i, wanted in enumerate(parents) if i not in order and wanted <= made)
        order.append(free)
        made.add(space.decisions[free].label)
    return [i for i in order if len(space.decisions[i].options) > 1]


@dataclass(frozen=True, eq=False)
class _Candidates:
    """Beginnings with networks that begin so.

    Attributes:
        begun: [n, decisions], genotypes, of meaning in the decided columns.
        networks: [n, rests, decisions], canonical codes; a beginning with fewer networks repeats them.
    """

    begun: Codes
    networks: Codes

    def take(self, index: NDArray[np.int64]) -> _Candidates:
        """Some of them."""
        return _Candidates(self.begun[index], self.networks[index])

    def new(self, seen: set[bytes]) -> NDArray[np.int64]:
        """Those whose first network is new."""
        return unseen(self.networks[:, 0], set(seen))

    def judged(self, study: Study, learned: dict[str, Model]) -> Points:
        """The mean of what is foreseen of the networks."""
        n, rests, decisions = self.networks.shape
        each = foresee(study, learned, self.networks.reshape(n * rests, decisions))
        return Points(
            self.begun, each.costs.reshape(n, rests, -1).mean(axis=1), each.violation.reshape(n, rests).mean(axis=1)
        )

    def one_each(self, seen: set[bytes], rng: np.random.Generator) -> Codes:
        """Of each beginning one of its networks, a new one if there is any."""
        taken, rows = set(seen), self.networks[:, 0].copy()
        for n, networks in enumerate(self.networks):
            order = rng.permutation(len(networks))
            fresh = [k for k in order.tolist() if networks[k].tobytes() not in taken]
            rows[n] = networks[fresh[0] if fresh else order[0]]
            taken.add(rows[n].tobytes())
        return rows


def _continued(space: Space, begun: Codes, decided: Sequence[int]) -> Codes:
    """Every beginning with every option of the decision that is made last, where that is active; each once."""
    column = decided[-1]
    options = np.arange(len(space.decisions[column].options))
    rows = np.repeat(begun, len(options), axis=0)
    rows[:, column] = np.tile(options, len(begun))
    # What switches a decision was made before it, so whether it counts is known by now.
    marked = np.full_like(rows, -1)
    marked[:, decided] = space.canonical_codes(rows)[:, decided]
    return rows[unseen(marked, set())]


def _complete(study: Study, begun: Codes, decided: Sequence[int], rests: int, rng: np.random.Generator) -> _Candidates:
    """Beginnings with networks within the limits on predicted costs; those for which none was found are left out.

    The rests are those of networks that keep the limits; the ends of the space, which are the likeliest to keep them
    with any beginning, come last.
    """
    space = study.space
    drawn = space.encode([*study.sample(_POOL * rests, rng), *ends(space, study.costs)])
    pool = genotypes_of(space, drawn, rng)
    kept, networks = [], []
    for n, beginning in enumerate(begun):
        rows = pool.copy()
        rows[:, decided] = beginning[decided]
        codes = space.canonical_codes(rows)
        within = np.flatnonzero(study.feasible(codes))[:rests]
        if len(within):
            kept.append(n)
            networks.append(codes[np.resize(within, rests)])
    shape = (len(kept), rests, len(space.decisions))
    return _Candidates(begun[kept], np.array(networks, dtype=np.int64).reshape(shape))


def _best(points: Points, width: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Those that nothing beats, thinned by crowding or filled up from the next ranks."""
    numbered = Points(np.arange(len(points))[:, None], points.costs, points.violation)
    return survive(numbered, width, rng).points.genotypes[:, 0]
