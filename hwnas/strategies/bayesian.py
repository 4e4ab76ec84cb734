"""Bayesian optimisation: a Gaussian process on decisions and known costs says where the front may grow most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri
from scipy.stats import rankdata

from hwnas.core import Architecture, Evaluation, Limit, RecipeError
from hwnas.learners import Belief, RelevanceGp, RelevanceModel
from hwnas.pareto import (
    Points,
    Variation,
    breed,
    expected_improvement,
    genotypes_of,
    non_dominated,
    reference_of,
    standings,
    unseen,
)
from hwnas.space import Codes
from hwnas.strategies.buying import QUANTILES, BoughtScore, purchase
from hwnas.study import JSON, Study, first_archive, survival_of

Floats = NDArray[np.float64]
_ScoresBought = Mapping[str, tuple[Evaluation, ...]]  # by name

_NODES, _NODE_WEIGHTS = np.polynomial.hermite_e.hermegauss(12)
_NODE_WEIGHTS = _NODE_WEIGHTS / _NODE_WEIGHTS.sum()
_OPTIMISM = 2.0
_MARGIN = 0.1  # of the reference of volumes, beyond the front
_LOOKED_AT_AGAIN = 1000  # candidates that are judged anew after each choice of a batch
_LONG_TAIL = 4.0
_FIRST_SCORES = 0.1  # of the budget, at most, for random ones
_POOL = 8  # times the networks in flight, from which scores are bought
_LEAN = 0.05  # how much all objectives together count beside the worst, where several are folded into one


@dataclass(frozen=True)
class Bayesian:
    """Evaluates, again and again, the networks from which the front's volume may be expected to grow most.

    A Gaussian process learns the one objective that no cost model predicts, from one-hot decisions and from every known
    cost (multiply-adds and parameters say much about accuracy), and finds out how much each matters. Where a few values
    lie far from the rest (networks that hardly learn), they would decide everything, so values become normal scores
    first; elsewhere that would only bend what is straight. The expected gain in volume is an integral over the one
    uncertain objective alone, since all others are known of every network, and 12 quadrature nodes approximate it.
    With one objective it is expected improvement. Small spaces are listed whole;
    in large ones candidates come from an evolution on the optimistic end of the prediction. Of several objectives that
    nothing predicts, random weights make one, anew for each proposal (ParEGO).
    A limit that nothing predicts is learned like the objective, and the gain multiplied with the chance to keep it. As
    many networks at a time as the study keeps in flight, each chosen as if those before it had come out as predicted.

    Where the study sells scores (`Study(scores=...)`), they are bought where that pays: a second process learns each
    score from decisions and costs, and the first learns from the score as well, bought or predicted with its doubt
    (recursive co-kriging). Before networks are evaluated, scores of the most promising candidates are bought as long
    as the best of them may then be expected to gain more per evaluation spent. Every evaluated network is scored, too.
    On three latency columns of NAS-Bench-201, 3 seeds each, 99 % of the volume took 58, 61 and 64 evaluations with the
    price of scores, and 125, 102 and 150 without scores. `initial_scores` was chosen on these runs; with three other
    seeds the first two columns took 57 and 63, and 112 and 96 without scores.

    Source: expected improvement (Jones et al. 1998, J. Global Optim. 13, 455-492) and its form for volumes (Emmerich et
    al. 2011, CEC), ParEGO (Knowles 2006, IEEE Trans. Evol. Comp. 10(1)), recursive co-kriging (Le Gratiet and Garnier
    2014, Int. J. Uncertainty Quantification 4(5)); the combination, and the rule by which scores are bought, are
    hwnas's own.

    Attributes:
        initial: Networks of the first archive: the ends of the space, then random ones.
        listed: A space of up to so many encodings is listed whole.
        population: Of the evolution in a larger one.
        generations: Of that evolution.
        use_costs: Whether known costs are learned from.
        use_scores: Whether values with a long tail become normal scores before they are learned.
        buy_scores: Whether scores are bought that the study sells; nothing else depends on it.
        initial_scores: Random networks whose scores are bought first, for at most a tenth of the budget.

    Raises:
        RecipeError: If a parameter is out of its range.

    Example:
        >>> Bayesian(initial=30).listed
        20000
    """

    version: ClassVar[int] = 1

    initial: int = 10
    listed: int = 20_000
    population: int = 100
    generations: int = 20
    use_costs: bool = True
    use_scores: bool = True
    buy_scores: bool = True
    initial_scores: int = 120

    def __post_init__(self) -> None:
        for name, least in {"initial": 2, "listed": 0, "population": 2, "generations": 1, "initial_scores": 1}.items():
            if getattr(self, name) < least:
                raise RecipeError(f"bayesian: {name} is {getattr(self, name)}; expected at least {least}")

    def search(self, study: Study) -> None:
        """Evaluate, fit and choose until the budget is spent."""
        archive = study.evaluate(self._first(study))
        scores = self._first_scores(study, archive)
        parameters: Mapping[str, Sequence[float]] = {}
        while True:
            proposal = study.once("proposal", partial(self._propose, study, tuple(archive), parameters, scores))
            if not proposal["architectures"]:
                break
            parameters = proposal["parameters"]
            architectures = [Architecture(options) for options in proposal["architectures"]]
            if "score" in proposal:
                scores = _with(scores, proposal["score"], study.score(architectures, proposal["score"]))
                continue
            for name, bought in scores.items():
                known = {evaluation.architecture for evaluation in bought}
                missing = [architecture for architecture in architectures if architecture not in known]
                if missing:
                    scores = _with(scores, name, study.score(missing, name))
            archive += study.evaluate(architectures)
        while True:  # hardly anything new is left: take the rest at random, until the study sees that nothing comes
            study.evaluate(study.sample(study.in_flight))

    def _first(self, study: Study) -> list[Architecture]:
        return first_archive(study, self.initial)

    def _first_scores(self, study: Study, archive: Sequence[Evaluation]) -> _ScoresBought:
        """Of what was evaluated, and of random networks for a small share of the budget."""
        scores: _ScoresBought = {}
        for score in study.scores if self.buy_scores else ():
            n = self.initial_scores
            if study.budget.evaluations is not None:
                n = min(n, int(_FIRST_SCORES * study.budget.evaluations / score.price))
            networks = [*(evaluation.architecture for evaluation in archive), *(study.sample(n) if n else [])]
            scores = _with(scores, score.name, study.score(networks, score.name))
        return scores

    def _propose(
        self,
        study: Study,
        archive: Sequence[Evaluation],
        parameters: Mapping[str, Sequence[float]],
        scores: _ScoresBought,
        rng: np.random.Generator,
    ) -> JSON:
        """Which networks to evaluate next. One durable step: a resume fits nothing."""
        space = study.space
        codes = space.encode(evaluation.architecture for evaluation in archive)
        seen = {row.tobytes() for row in codes}
        known = standings(archive, study.objectives, study.limits)
        chosen = codes[:0]
        if len(known.index) >= 2:
            view = _View(study, codes[known.index], use_costs=self.use_costs, scores=scores, parameters=parameters)
            goal = _Goal.of(study, known.costs, rng)
            learned = self._learn(view, goal, [archive[n] for n in known.index], study, parameters)
            parameters = {name: fitted.model.parameters.tolist() for name, fitted in learned.items()}
            parameters |= {f"score {one.name}": one.model.parameters.tolist() for one in view.scores}
            feasible = known.violation == 0
            costs = goal.costs(known.costs)
            if not goal.places:  # with one objective only the order counts, so it is improved in scores
                costs = learned[_GOAL].scale.score(goal.uncertain)[:, None]
                learned[_GOAL] = _Fitted(learned[_GOAL].model, _Plain())
            candidates = self._candidates(study, view, goal, learned, codes[known.index], costs, feasible, seen, rng)
            best = costs[feasible] if feasible.any() else costs
            if view.scores:
                pool, reference = _choose(study, view, goal, learned, best, candidates, _POOL * study.in_flight)
                name, bought = _purchase(study, view, goal, learned, best, pool, reference, rng)
                if len(bought):
                    return {
                        "architectures": [dict(network) for network in space.decode(bought)],
                        "parameters": dict(parameters),
                        "score": name,
                    }
                chosen = pool[: study.in_flight]
            else:
                chosen, _ = _choose(study, view, goal, learned, best, candidates, study.in_flight)
        missing = study.in_flight - len(chosen)
        if missing:
            drawn = space.encode(study.sample(2 * study.in_flight, rng))
            new = unseen(drawn, seen | {row.tobytes() for row in chosen})[:missing]
            chosen = np.concatenate([chosen, drawn[new]])
        return {"architectures": [dict(network) for network in space.decode(chosen)], "parameters": dict(parameters)}

    def _learn(
        self,
        view: _View,
        goal: _Goal,
        known: Sequence[Evaluation],
        study: Study,
        parameters: Mapping[str, Sequence[float]],
    ) -> dict[str, _Fitted]:
        """What is uncertain, under "goal", and every limit that nothing predicts."""
        x = view.of_archive
        wanted = {_GOAL: (goal.uncertain, np.arange(len(known)))}
        predicted = {cost.name for cost in study.costs}
        for limit in study.limits:
            rows = np.array(
                [n for n, evaluation in enumerate(known) if limit.name in evaluation.metrics], dtype=np.int64
            )
            if limit.name not in predicted and len(rows) >= 2:
                wanted[limit.name] = (np.array([known[n][limit.name] for n in rows]), rows)
        learned = {}
        for name, (y, rows) in wanted.items():
            scale = _Scores(y) if self.use_scores and _long_tailed(y) else _Plain()
            start = parameters.get(name)
            if start is not None and len(start) != len(view.groups) + 3:
                start = None  # a known cost has begun to differ between networks
            gp = RelevanceGp(view.groups, iterations=15 if start is None else 4)
            learned[name] = _Fitted(gp.fit(x[rows], scale.score(y), start=start), scale)
        return learned

    def _candidates(
        self,
        study: Study,
        view: _View,
        goal: _Goal,
        learned: Mapping[str, _Fitted],
        archive: Codes,
        costs: Floats,
        feasible: NDArray[np.bool_],
        seen: set[bytes],
        rng: np.random.Generator,
    ) -> Codes:
        """New networks within the limits on predicted costs."""
        space = study.space
        shape = tuple(len(decision.options) for decision in space.decisions)
        if prod(shape) <= self.listed:
            every = np.stack(np.unravel_index(np.arange(prod(shape)), shape), axis=1).astype(np.int64)
            every = space.canonical_codes(every)
        else:
            every = self._evolve(study, view, goal, learned, archive, costs, feasible, rng)
        new = every[unseen(every, set(seen))]
        return new[study.feasible(new)]

    def _evolve(
        self,
        study: Study,
        view: _View,
        goal: _Goal,
        learned: Mapping[str, _Fitted],
        archive: Codes,
        costs: Floats,
        feasible: NDArray[np.bool_],
        rng: np.random.Generator,
    ) -> Codes:
        """All networks that an evolution meets which takes the optimistic end of predictions for true."""
        space, seen, variation = study.space, set[bytes](), Variation()
        survival = survival_of(costs.shape[1], self.population)

        def judge(genotypes: Codes) -> Points:
            codes = space.canonical_codes(genotypes)
            belief = view.belief(learned[_GOAL].model, codes)[0]
            mean, deviation = belief.mean, belief.deviation
            low = learned[_GOAL].scale.value(mean - deviation)
            rows = np.concatenate([low[:, None], goal.known(study, codes)], axis=1)
            return Points(genotypes, rows, study.violation(codes))

        parents = Points(genotypes_of(space, archive, rng), costs, np.where(feasible, 0.0, 1.0))
        best = survival(parents, self.population, rng).points.genotypes
        drawn = space.sample_codes(self.population, rng)
        first = np.concatenate([best, genotypes_of(space, drawn, rng)])
        points = judge(first[unseen(space.canonical_codes(first), seen)])
        met = [points.genotypes]
        for _ in range(self.generations):
            survivors = survival(points, self.population, rng)
            children = breed(space, survivors, seen, self.population, rng, variation)
            points = survivors.points.join(judge(children)) if len(children) else survivors.points
            met.append(children)
        return space.canonical_codes(np.concatenate(met))


_GOAL = "goal"


class _View:
    """What is learned from: one-hot decisions, each known cost that differs in standard units of the archive, scores.

    A score that was not bought is what the model of those bought believes, and its doubt widens what is believed of the
    goal: two models in a row, as in recursive co-kriging (Le Gratiet and Garnier 2014).
    """

    def __init__(
        self,
        study: Study,
        archive: Codes,
        *,
        use_costs: bool,
        scores: _ScoresBought,
        parameters: Mapping[str, Sequence[float]],
    ) -> None:
        self._study = study
        values = study.predict(archive) if use_costs else {}
        self._scales = {
            name: (float(value.mean()), float(value.std()))
            for name, value in sorted(values.items())
            if np.isfinite(value).all() and value.std() > 0
        }
        groups = (*(len(d.options) for d in study.space.decisions), *(1 for _ in self._scales))
        learned = [
            BoughtScore.learn(name, of, study.space, self._without_scores, groups, parameters.get(f"score {name}"))
            for name, of in scores.items()
        ]
        self.scores = [one for one in learned if one is not None]
        self.groups = (*groups, *(1 for _ in self.scores))
        self.of_archive = self.x(archive)

    def x(self, codes: Codes) -> Floats:
        """[n, columns]."""
        return self._with_doubts(codes)[0]

    def belief(self, model: RelevanceModel, codes: Codes) -> tuple[Belief, Floats]:
        """What a model believes of codes [n, decisions], and how far doubt in each score shifts it; [scores, n]."""
        x, doubts = self._with_doubts(codes)
        belief = model.belief(x)
        if not len(doubts):
            return belief, doubts
        shifts = np.empty_like(doubts)
        for n, doubt in enumerate(doubts):
            moved = x.copy()
            moved[:, n - len(doubts)] += doubt
            shifts[n] = np.where(doubt > 0, model.predict(moved) - belief.mean, 0.0)
        return replace(belief, variance=belief.variance + ((shifts / model.scale) ** 2).sum(axis=0)), shifts

    def _with_doubts(self, codes: Codes) -> tuple[Floats, Floats]:
        """[n, columns], and the deviation of each score, [scores, n]."""
        x = self._without_scores(codes)
        if not self.scores:
            return x, np.empty((0, len(codes)))
        estimates = [score.estimate(codes, x) for score in self.scores]
        columns, doubts = (np.stack(part) for part in zip(*estimates, strict=True))
        return np.concatenate([x, columns.T], axis=1), doubts

    def _without_scores(self, codes: Codes) -> Floats:
        one_hot = self._study.space.one_hot(codes)
        if not self._scales:
            return one_hot
        values = self._study.predict(codes)
        columns = [(values[name] - mean) / deviation for name, (mean, deviation) in self._scales.items()]
        return np.concatenate([one_hot, np.nan_to_num(np.stack(columns, axis=1))], axis=1)


@dataclass(frozen=True)
class _Goal:
    """The objectives as one uncertain cost and the known ones.

    Attributes:
        uncertain: [archive], to be learned.
        names: Of the known objectives.
        places: Of the known objectives among all.
    """

    uncertain: Floats
    names: tuple[str, ...]
    places: tuple[int, ...]

    @classmethod
    def of(cls, study: Study, costs: Floats, rng: np.random.Generator) -> _Goal:
        """Of objectives that nothing predicts, one by random weights; the first where everything is predicted."""
        predicted = {cost.name for cost in study.costs}
        unknown = [n for n, objective in enumerate(study.objectives) if objective.name not in predicted] or [0]
        places = tuple(n for n in range(len(study.objectives)) if n not in unknown)
        uncertain = costs[:, unknown[0]]
        if len(unknown) > 1:
            part = costs[:, unknown]
            span = np.ptp(part, axis=0)
            part = rng.dirichlet(np.ones(len(unknown))) * (part - part.min(axis=0)) / np.where(span > 0, span, 1.0)
            uncertain = part.max(axis=1) + _LEAN * part.sum(axis=1)
        return cls(uncertain, tuple(study.objectives[n].name for n in places), places)

    def costs(self, costs: Floats) -> Floats:
        """[archive, 1 + known], all minimised."""
        return np.concatenate([self.uncertain[:, None], costs[:, list(self.places)]], axis=1)

    def known(self, study: Study, codes: Codes) -> Floats:
        """[n, known]: the known objectives of any networks, as costs."""
        values = study.predict(codes)
        columns = [study.objectives[n].as_cost(values[name]) for n, name in zip(self.places, self.names, strict=True)]
        return np.stack(columns, axis=1) if columns else np.empty((len(codes), 0))


def _long_tailed(values: Floats) -> bool:
    """Whether one end lies much farther from the median than the other."""
    middle = float(np.median(values))
    sides = sorted([float(values.max()) - middle, middle - float(values.min())])
    return sides[1] > _LONG_TAIL * sides[0]


class _Plain:
    """Values as they are."""

    def score(self, values: Floats) -> Floats:
        return values

    def score_of(self, value: float) -> float:
        return value

    def value(self, scores: Floats) -> Floats:
        return scores


class _Scores:
    """Values to normal scores of their ranks, and back by linear pieces; below the least as among the least tenth."""

    def __init__(self, values: Floats) -> None:
        self._values = np.unique(values)
        scores = self.score(values)
        self._scores = np.unique(scores)
        tenth = min(len(self._values) - 1, max(1, len(self._values) // 10))
        rise = self._values[tenth] - self._values[0]
        self._slope = float(rise / (self._scores[tenth] - self._scores[0])) if tenth else 0.0

    def score(self, values: Floats) -> Floats:
        found: Floats = ndtri((rankdata(values) - 0.5) / len(values))
        return found

    def score_of(self, value: float) -> float:
        return float(np.interp(value, self._values, self._scores))

    def value(self, scores: Floats) -> Floats:
        inside = np.interp(scores, self._scores, self._values)
        below: Floats = np.minimum(scores - self._scores[0], 0.0) * self._slope
        return inside + below


@dataclass(frozen=True, eq=False)
class _Fitted:
    """A model of scores, and what scores mean."""

    model: RelevanceModel
    scale: _Scores | _Plain


def _choose(
    study: Study, view: _View, goal: _Goal, learned: Mapping[str, _Fitted], costs: Floats, candidates: Codes, n: int
) -> tuple[Codes, Floats | None]:
    """The n candidates with the largest expected gains, each as if those before it had come out as predicted.

    And the reference of the volume, None where there was no candidate.
    """
    model, scale = learned[_GOAL].model, learned[_GOAL].scale
    chosen = []
    known = goal.known(study, candidates)
    belief, _ = view.belief(model, candidates)
    chance = _chance(study.limits, learned, belief.x)
    reference: Floats | None = None
    for turn in range(min(n, len(candidates))):
        mean, deviation = belief.mean, belief.deviation
        values = scale.value(mean[:, None] + deviation[:, None] * _NODES)
        if reference is None:
            low = scale.value(mean - _OPTIMISM * deviation)
            reference = _reference(costs, np.concatenate([low[:, None], known], axis=1))
        front = costs[non_dominated(costs)]
        gain = chance * expected_improvement(front, reference, values, _NODE_WEIGHTS, known)
        order = np.lexsort((mean, -gain))
        best = order[0]
        chosen.append(candidates[best])
        belief = belief.told(int(best))
        costs = np.concatenate([costs, np.append(scale.value(mean[[best]]), known[best])[None]])
        left = order[1 : _LOOKED_AT_AGAIN + 1] if turn == 0 else order[1:]
        candidates, belief, known, chance = candidates[left], belief.of(left), known[left], chance[left]
    return np.array(chosen, dtype=np.int64).reshape(len(chosen), len(study.space.decisions)), reference


def _purchase(
    study: Study,
    view: _View,
    goal: _Goal,
    learned: Mapping[str, _Fitted],
    costs: Floats,
    pool: Codes,
    reference: Floats | None,
    rng: np.random.Generator,
) -> tuple[str, Codes]:
    """The score that pays best, and the networks to buy it for; none where evaluating at once pays better."""
    best, found = 0.0, ("", pool[:0])
    if reference is None:
        return found
    model, scale = learned[_GOAL].model, learned[_GOAL].scale
    belief, shifts = view.belief(model, pool)
    chance, known = _chance(study.limits, learned, belief.x), goal.known(study, pool)
    front = costs[non_dominated(costs)]
    levels = ndtri((np.arange(QUANTILES) + 0.5) / QUANTILES)
    prices = {score.name: score.price for score in study.scores}
    sizes = [study.in_flight * 2**n for n in range(1 + int(np.log2(_POOL)))]
    for score, shift in zip(view.scores, shifts, strict=True):
        rest = replace(belief, variance=belief.variance - (shift / model.scale) ** 2)
        gains = np.stack(
            [
                chance
                * expected_improvement(
                    front,
                    reference,
                    scale.value((belief.mean + level * shift)[:, None] + rest.deviation[:, None] * _NODES),
                    _NODE_WEIGHTS,
                    known,
                )
                for level in levels
            ],
            axis=1,
        )
        scored = score.bought(pool)
        number, rate = purchase(gains, scored, price=prices[score.name], n=study.in_flight, sizes=sizes, rng=rng)
        if number and rate > best:
            best, found = rate, (score.name, pool[~scored][:number])
    return found


def _with(scores: _ScoresBought, name: str, more: Sequence[Evaluation]) -> _ScoresBought:
    """Scores with more of one, each network once."""
    by_network = {evaluation.architecture: evaluation for evaluation in (*scores.get(name, ()), *more)}
    return {**scores, name: tuple(by_network.values())}


def _reference(costs: Floats, predicted: Floats) -> Floats:
    """A little beyond the worst costs of the front that is expected, so that a search reaches for all of it."""
    every = np.concatenate([costs, predicted])
    return reference_of(every[non_dominated(every)], margin=_MARGIN)


def _chance(limits: Sequence[Limit], learned: Mapping[str, _Fitted], x: Floats) -> Floats:
    """[n]: how probably each candidate keeps the limits that nothing predicts."""
    chance = np.ones(len(x))
    for limit in limits:
        if limit.name in learned:
            mean, deviation = learned[limit.name].model.posterior(x)
            scale = learned[limit.name].scale
            if limit.at_most is not None:
                chance *= ndtr((scale.score_of(limit.at_most) - mean) / deviation)
            if limit.at_least is not None:
                chance *= ndtr((mean - scale.score_of(limit.at_least)) / deviation)
    return chance
