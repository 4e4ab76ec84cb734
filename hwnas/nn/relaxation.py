"""Gate makers: how logits over options become the gates that a supernet is called with.

A gate maker is a function of logits and of a generator, and of nothing else, so that a step can be repeated and a
second-order method can evaluate two losses under the same draws. What differs between methods is three things: the
values, the options that run, and the gradient that comes back to the logits:

| gate maker | values | options that run | gradient to the logits |
|---|---|---|---|
| `Softmax` | probabilities | all | of softmax |
| `Concrete` | a softened draw | all | of the softened draw |
| `STConcrete` | a draw, one-hot | all, or the drawn one | of the softened draw |
| `BinaryGate` | a draw, one-hot | all | of the probabilities |
| `TwoPath` | a draw out of a drawn pair, one-hot | the pair | of the pair's probabilities |
| `HardSample` | a draw, one-hot | the drawn one | none; log-probabilities for the score function |
| `UniformOneHot` | a uniform draw, one-hot | the drawn one | none |

The sandwich and the fair rule are sequences of architectures rather than gates: `sandwich_sequence`, `fair_sequence`.

Every decision is drawn, active or not, so the draws of one decision do not depend on those of another. A gate of an
inactive decision meets nothing in the network and gets no gradient; where an architecture is made, it is canonical.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from hwnas.core import Architecture, NoFeasibleError, NonFiniteLossError, RecipeError, SpaceError
from hwnas.nn.gates import Gate
from hwnas.space import Codes, Space


class ArchitectureParameters(nn.Module):
    """One vector of logits per decision that has a choice: the alpha or theta of the papers.

    It is a module of its own, never a part of the supernet, so that no optimizer of the weights holds a logit.

    Args:
        space: The decisions. Those with one option have no parameter.
        noise: Standard deviation of the initial logits; 0 starts every decision uniform.
        rng: Draws the noise.
        device: Where the logits go.
        dtype: Of the logits.

    Raises:
        RecipeError: If the noise is negative, or there is noise to draw and nothing to draw it with.

    Example:
        >>> from hwnas.space import Decision
        >>> space = Space("tiny", (Decision("kernel", (3, 5)), Decision("stride", (1,))))
        >>> parameters = ArchitectureParameters(space)
        >>> {label: values.tolist() for label, values in parameters().items()}
        {'kernel': [0.0, 0.0], 'stride': [0.0]}
        >>> len(list(parameters.parameters()))
        1
    """

    def __init__(
        self,
        space: Space,
        *,
        noise: float = 0.0,
        rng: np.random.Generator | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        if not noise >= 0:
            raise RecipeError(f"noise of the architecture parameters is {noise}; it must be 0 or above")
        if noise and rng is None:
            raise RecipeError(f"noise of the architecture parameters is {noise} without a generator; pass rng")
        self.space = space
        chosen = [decision for decision in space.decisions if len(decision.options) > 1]
        self._labels = [decision.label for decision in chosen]
        self._vectors = nn.ParameterList()  # labels hold dots, which names of parameters may not
        for decision in chosen:
            draws = np.zeros(len(decision.options)) if rng is None else rng.normal(0, noise, len(decision.options))
            self._vectors.append(nn.Parameter(torch.tensor(draws, device=device, dtype=dtype)))
        self.register_buffer("_certain", torch.zeros(1, device=device, dtype=dtype), persistent=False)

    def forward(self) -> dict[str, Tensor]:
        """By label the logits [options], in the order of the space; a constant where there is one option."""
        own: dict[str, Tensor] = dict(zip(self._labels, self._vectors, strict=True))
        certain = self._buffers["_certain"]
        assert certain is not None  # registered above
        return {decision.label: own.get(decision.label, certain) for decision in self.space.decisions}

    def probabilities(self) -> dict[str, Tensor]:
        """By label the probability of each option [options], with a gradient: what `ExpectedCost` takes."""
        return {label: values.softmax(0) for label, values in self().items()}

    def most_likely(self) -> Architecture:
        """The network that takes the most likely option of every decision."""
        codes = [int(values.argmax()) for values in self().values()]
        return self.space.decode(self.space.canonical_codes(np.array([codes], dtype=np.int64)))[0]

    def get_extra_state(self) -> dict[str, Any]:
        """The labels, in the order of the vectors."""
        return {"labels": list(self._labels)}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Check the labels of a state that is being loaded.

        Raises:
            SpaceError: If the state belongs to other decisions.
        """
        if state["labels"] != self._labels:
            raise SpaceError(
                f"architecture parameters of space {self.space.name}: the state is for decisions {state['labels']}; "
                f"expected {self._labels}"
            )


class GateMaker(Protocol):
    """Turns logits into gates."""

    def __call__(self, logits: Mapping[str, Tensor], rng: np.random.Generator) -> dict[str, Gate]:
        """The gates of one step.

        Args:
            logits: By label, [options]; a decision with one option gets a constant gate.
            rng: Where every draw comes from, in the order of the labels.

        Raises:
            NonFiniteLossError: If something is to be drawn by logits that are not finite.
        """
        ...


# ------------------------------------------------------------------------------------------------- soft and two-faced


@dataclass(frozen=True)
class Softmax:
    """The probabilities themselves; every option runs.

    Source: Liu et al. 2019 (DARTS, arXiv 1806.09055), equation 2.

    Example:
        >>> gate = Softmax()({"kernel": torch.zeros(2)}, np.random.default_rng(0))["kernel"]
        >>> gate.values, gate.support
        (tensor([0.5000, 0.5000]), (0, 1))
    """

    def __call__(self, logits: Mapping[str, Tensor], rng: np.random.Generator) -> dict[str, Gate]:  # noqa: ARG002 - the protocol's
        """Nothing is drawn."""
        return {label: Gate(values.softmax(0), _all(values)) for label, values in logits.items()}


@dataclass(frozen=True)
class Concrete:
    """A draw from the concrete (Gumbel-softmax) distribution; every option runs.

    At a high temperature all options get about the same share, near 0 the values are a draw from the probabilities.
    Source: Xie et al. 2019 (SNAS, arXiv 1812.09926) and Wu et al. 2019 (FBNet, arXiv 1812.03443), both in section 3.

    Attributes:
        temperature: Above 0. A search anneals it: see `annealed`.

    Raises:
        RecipeError: If the temperature is not above 0.

    Example:
        >>> gate = Concrete(1.0)({"kernel": torch.zeros(2)}, np.random.default_rng(0))["kernel"]
        >>> round(float(gate.values.sum()), 6), gate.support
        (1.0, (0, 1))
    """

    temperature: float

    def __post_init__(self) -> None:
        _check_temperature(self.temperature)

    def __call__(self, logits: Mapping[str, Tensor], rng: np.random.Generator) -> dict[str, Gate]:
        """One softened draw per decision."""
        return {
            label: Gate(_concrete(label, values, self.temperature, rng), _all(values))
            for label, values in logits.items()
        }


@dataclass(frozen=True)
class STConcrete:
    """A one-hot draw whose gradient is that of the softened draw.

    With all options run it is the straight-through estimator, and finds what the softened draw finds. With the drawn
    one alone, as in GDAS, a step costs one option; but then only that option's slope is known, the others count as 0,
    and an option that does nothing (a slope of 0 indeed) wins against all that hurt at first: on the planted chains of
    the tests it is all that is ever found. `TwoPath` costs two options and has no such bias.
    Source: Jang et al. 2017 (arXiv 1611.01144), section 2.2; Dong and Yang 2019 (GDAS, arXiv 1910.04465), section 3.

    Attributes:
        temperature: Of the softened draw, above 0; the values stay one-hot.
        runs: Which options are computed.

    Raises:
        RecipeError: If the temperature is not above 0.

    Example:
        >>> logits = torch.zeros(2, requires_grad=True)
        >>> gate = STConcrete(1.0, runs="drawn")({"kernel": logits}, np.random.default_rng(0))["kernel"]
        >>> gate.values.tolist(), gate.support, gate.values.requires_grad
        ([0.0, 1.0], (1,), True)
    """

    temperature: float
    runs: Literal["all", "drawn"] = "all"

    def __post_init__(self) -> None:
        _check_temperature(self.temperature)

    def __call__(self, logits: Mapping[str, Tensor], rng: np.random.Generator) -> dict[str, Gate]:
        """One draw per decision."""
        gates = {}
        for label, values in logits.items():
            soft = _concrete(label, values, self.temperature, rng)
            code = int(soft.argmax())
            support = _all(values) if self.runs == "all" else (code,)
            gates[label] = Gate(_straight_through(code, soft), support)
        return gates


@dataclass(frozen=True)
class BinaryGate:
    """A one-hot draw whose gradient is that of the probabilities; every option runs, for the gradient's sake.

    dL/dlogit_i = sum_j dL/dgate_j p_j (delta_ij - p_i). It is exact on average where the loss is linear in the gates.
    For a step of the weights, which needs no gradient to the logits, `HardSample` draws the same at one option's cost.
    Source: Cai et al. 2019 (ProxylessNAS, arXiv 1812.00332), equation 4.

    Example:
        >>> logits = torch.zeros(2, requires_grad=True)
        >>> gate = BinaryGate()({"kernel": logits}, np.random.default_rng(0))["kernel"]
        >>> (gate.values * torch.tensor([1.0, 3.0])).sum().backward()
        >>> gate.values.tolist(), gate.support, logits.grad.tolist()
        ([0.0, 1.0], (0, 1), [-0.5, 0.5])
    """

    def __call__(self, logits: Mapping[str, Tensor], rng: np.random.Generator) -> dict[str, Gate]:
        """One draw per decision."""
        return {
            label: Gate(
                _straight_through(int(_perturbed(label, values, rng).argmax()), values.softmax(0)), _all(values)
            )
            for label, values in logits.items()
        }


@dataclass(frozen=True)
class TwoPath:
    """A one-hot draw between two options, themselves drawn; the two run, and the gradient is that of the pair's share.

    A step of the optimizer moves the two logits; `rescale_pairs`, called after it, keeps the probabilities of all other
    options. Source: Cai et al. 2019 (ProxylessNAS, arXiv 1812.00332), section 3.2.

    Example:
        >>> logits = torch.zeros(5, requires_grad=True)
        >>> gate = TwoPath()({"kernel": logits}, np.random.default_rng(0))["kernel"]
        >>> len(gate.support), gate.values.count_nonzero().item()
        (2, 1)
    """

    def __call__(self, logits: Mapping[str, Tensor], rng: np.random.Generator) -> dict[str, Gate]:
        """A pair per decision, drawn without replacement, and one of the pair."""
        gates = {}
        for label, values in logits.items():
            # The two largest of logits + Gumbel noise are two draws without replacement.
            pair = tuple(sorted(np.argsort(-_perturbed(label, values, rng), kind="stable")[:2].tolist()))
            pair_values = values[list(pair)]
            code = pair[int(_perturbed(label, pair_values, rng).argmax())]
            shares = torch.zeros_like(values).index_put(
                (torch.tensor(pair, device=values.device),), pair_values.softmax(0)
            )
            gates[label] = Gate(_straight_through(code, shares), pair)
        return gates


def rescale_pairs(logits: Mapping[str, Tensor], before: Mapping[str, Tensor], gates: Mapping[str, Gate]) -> None:
    """After a step with `TwoPath`, leave the probabilities of the options that were not drawn as they were.

    The log of the factor by which the pair's sum of exponentials grew is subtracted from both; all other logits are
    put back, as an optimizer with momentum moves those of earlier steps too. Source: Cai et al. 2019 (ProxylessNAS,
    arXiv 1812.00332), section 3.2, which shifts the pair; putting the others back is ours, and changes nothing for
    Adam with betas (0, b).

    Args:
        logits: By label [options], changed in place.
        before: The values before the step.
        gates: Of that step; their supports are the pairs.

    Example:
        >>> before, logits = {"k": torch.zeros(3)}, {"k": torch.tensor([1.0, -1.0, 0.1])}
        >>> rescale_pairs(logits, before, {"k": Gate(torch.tensor([1.0, 0.0, 0.0]), (0, 1))})
        >>> [round(p, 4) for p in logits["k"].softmax(0).tolist()]
        [0.5872, 0.0795, 0.3333]
    """
    with torch.no_grad():
        for label, gate in gates.items():
            pair = list(gate.support)
            moved, old = logits[label][pair], before[label][pair]
            kept = before[label].clone()
            kept[pair] = moved - (moved.logsumexp(0) - old.logsumexp(0))
            if len(kept) > 1:  # one option alone has a constant, which is shared
                logits[label].copy_(kept)


# ------------------------------------------------------------------------------------------------------------- hard


@dataclass(frozen=True)
class Samples:
    """Networks drawn by logits, and what a score-function learner needs of each.

    Attributes:
        architectures: n, canonical.
        log_probs: [n], natural logarithm of the probability of each network, with a gradient to the logits. Decisions
            that are inactive in it do not count, so that networks which are one have one probability.
        entropies: [n], in nats, with a gradient: of the decisions that are active in each. Their mean estimates the
            entropy of the distribution over networks.
    """

    architectures: tuple[Architecture, ...]
    log_probs: Tensor
    entropies: Tensor


@dataclass(frozen=True)
class HardSample:
    """A one-hot draw without gradient; only the drawn option runs.

    Its learners use the score function: the gradient of a mean reward E[R] is E[R dlog p]. Source: Williams 1992
    (Machine Learning 8), with independent decisions as in ProxylessNAS (arXiv 1812.00332), section 3.3.2.

    Attributes:
        space: Knows which decisions are active.

    Example:
        >>> from hwnas.space import Decision
        >>> space = Space("tiny", (Decision("kernel", (3, 5)),))
        >>> samples = HardSample(space).sample({"kernel": torch.zeros(2)}, 3, np.random.default_rng(0))
        >>> len(samples.architectures), samples.log_probs.exp()
        (3, tensor([0.5000, 0.5000, 0.5000]))
    """

    space: Space

    def __call__(self, logits: Mapping[str, Tensor], rng: np.random.Generator) -> dict[str, Gate]:
        """One network; decisions that are inactive in it take their first option."""
        return _one_hot(self.space, self._codes(logits, 1, rng), logits)

    def sample(self, logits: Mapping[str, Tensor], n: int, rng: np.random.Generator) -> Samples:
        """N networks with their log-probabilities and entropies.

        Raises:
            NonFiniteLossError: If logits are not finite.
            SpaceError: If logits are missing or of another number of options.
        """
        return self._samples(logits, self._codes(logits, n, rng))

    def known(self, logits: Mapping[str, Tensor], architectures: Sequence[Architecture]) -> Samples:
        """The same of networks that are there already, such as those drawn by earlier logits.

        Raises:
            SpaceError: If an architecture is not of the space.
        """
        return self._samples(logits, self.space.encode(architectures))

    def gates(self, logits: Mapping[str, Tensor], architecture: Architecture) -> dict[str, Gate]:
        """The gates of a network that was drawn, in the logits' type and place.

        Raises:
            SpaceError: If the architecture is not of the space.
        """
        return _one_hot(self.space, self.space.encode([architecture]), logits)

    def _samples(self, logits: Mapping[str, Tensor], codes: Codes) -> Samples:
        first = next(iter(logits.values()))
        active = torch.from_numpy(codes >= 0).to(first.device)
        chosen = torch.from_numpy(codes.clip(min=0)).to(first.device)
        log_probs, entropies = [], []
        for n, decision in enumerate(self.space.decisions):
            log_p = logits[decision.label].log_softmax(0)
            log_probs.append(torch.where(active[:, n], log_p[chosen[:, n]], 0.0))
            entropies.append(torch.where(active[:, n], -(log_p.exp() * log_p).sum(), 0.0))
        return Samples(tuple(self.space.decode(codes)), torch.stack(log_probs).sum(0), torch.stack(entropies).sum(0))

    def _codes(self, logits: Mapping[str, Tensor], n: int, rng: np.random.Generator) -> Codes:
        columns = []
        for decision in self.space.decisions:
            values = _logits_of(self.space, logits, decision.label)
            columns.append(_perturbed(decision.label, values, rng, n=n).argmax(axis=1))
        return self.space.canonical_codes(np.stack(columns, axis=1).astype(np.int64))


@dataclass(frozen=True)
class UniformOneHot:
    """A draw uniform over options, whatever the logits; only the drawn option runs.

    A decision with a prior is drawn by it. With a filter, draws are repeated until one passes, so that what passes is
    drawn as often as without it, relative to the rest that passes. Source: Guo et al. 2020
    (SPOS, arXiv 1904.00420), section 3.

    Attributes:
        space: Its decisions are drawn.
        accept: Whether a network may be trained; None for all.
        tries: Draws before it gives up, at least 1.

    Raises:
        RecipeError: If `tries` is below 1.

    Example:
        >>> from hwnas.space import Decision
        >>> space = Space("tiny", (Decision("kernel", (3, 5)),))
        >>> UniformOneHot(space, accept=lambda a: a["kernel"] > 3).draw(np.random.default_rng(0))
        Architecture({'kernel': 5})
    """

    space: Space
    accept: Callable[[Architecture], bool] | None = None
    tries: int = 1000

    def __post_init__(self) -> None:
        if self.tries < 1:
            raise RecipeError(f"tries of a uniform draw is {self.tries}; it must be at least 1")

    def __call__(self, logits: Mapping[str, Tensor], rng: np.random.Generator) -> dict[str, Gate]:
        """One network, in the logits' type and place; inactive decisions take their first option.

        Raises:
            NoFeasibleError: If no draw passed the filter.
        """
        return _one_hot(self.space, self.space.encode([self.draw(rng)]), logits)

    def draw(self, rng: np.random.Generator) -> Architecture:
        """One network.

        Raises:
            NoFeasibleError: If no draw passed the filter.
        """
        for _ in range(self.tries):
            architecture = self.space.sample(1, rng)[0]
            if self.accept is None or self.accept(architecture):
                return architecture
        raise NoFeasibleError(
            f"space {self.space.name}: the filter accepted none of {self.tries:,} networks drawn uniformly",
            hint="loosen the filter, or raise tries",
        )


def fair_sequence(space: Space, rng: np.random.Generator) -> list[Architecture]:
    """Networks that use the options of each decision equally often, to be trained in one step.

    As many networks as the largest number of options; where a decision has k options and k does not divide that, its
    options differ by one. An option of a decision that can be inactive counts in fewer networks. Source: Chu et al.
    2021 (FairNAS, arXiv 1907.01845), strict fairness.

    Example:
        >>> from hwnas.space import Decision
        >>> space = Space("tiny", (Decision("k", (3, 5)), Decision("e", (3, 4, 6, 8))))
        >>> networks = fair_sequence(space, np.random.default_rng(0))
        >>> sorted(a["e"] for a in networks), sorted(a["k"] for a in networks)
        ([3, 4, 6, 8], [3, 3, 5, 5])
    """
    options = [len(decision.options) for decision in space.decisions]
    n = max(options)
    # The options that are used once more are others each time: a random relabelling before the shuffle.
    columns = [rng.permutation(rng.permutation(count)[np.arange(n) % count]) for count in options]
    return space.decode(space.canonical_codes(np.stack(columns, axis=1).astype(np.int64)))


def sandwich_sequence(
    space: Space, largest: Architecture, smallest: Architecture, *, random: int, rng: np.random.Generator
) -> list[Architecture]:
    """The networks of one sandwich step: the largest, some random ones, the smallest; n = random + 2.

    Source: Yu and Huang 2019 (arXiv 1903.05134); Wang et al. 2021 (AlphaNet, arXiv 2102.07954) with n = 4.

    Args:
        space: Where the random ones come from.
        largest: By whatever is called size, first: it teaches the others.
        smallest: Last.
        random: How many between, drawn uniformly over options; 0 or more.
        rng: Draws them.

    Raises:
        SpaceError: If an end is not of the space.
        RecipeError: If `random` is negative.

    Example:
        >>> from hwnas.space import Decision
        >>> space = Space("tiny", (Decision("k", (3, 5, 7)),))
        >>> ends = Architecture({"k": 7}), Architecture({"k": 3})
        >>> [a["k"] for a in sandwich_sequence(space, *ends, random=2, rng=np.random.default_rng(0))]
        [7, 7, 5, 3]
    """
    if random < 0:
        raise RecipeError(f"random networks of a sandwich are {random}; expected 0 or more")
    space.encode([largest, smallest])  # names an end that is not of the space
    return [largest, *space.sample(random, rng), smallest]


def annealed(share: float, *, start: float, end: float) -> float:
    """A temperature that falls by the same factor in equal times.

    Source: Wu et al. 2019 (FBNet, arXiv 1812.03443): exponential decay per epoch.

    Args:
        share: Of the search that is done, 0..1.
        start: Temperature at 0, above 0.
        end: Temperature at 1, above 0.

    Raises:
        RecipeError: If a temperature is not above 0.

    Example:
        >>> [annealed(share, start=4.0, end=1.0) for share in (0.0, 0.5, 1.0)]
        [4.0, 2.0, 1.0]
    """
    _check_temperature(start)
    _check_temperature(end)
    return float(start * (end / start) ** share)


# ------------------------------------------------------------------------------------------------------------- parts


def _all(values: Tensor) -> tuple[int, ...]:
    return tuple(range(len(values)))


def _check_temperature(temperature: float) -> None:
    if not 0 < temperature < float("inf"):
        raise RecipeError(f"temperature is {temperature}; it must be a finite number above 0")


def _noise(label: str, values: Tensor, rng: np.random.Generator, *, n: int | None = None) -> NDArray[np.float64]:
    """Gumbel noise for logits, [options] or [n, options].

    Raises:
        NonFiniteLossError: If the logits are not finite; the largest of them would be a draw of nothing.
    """
    if not bool(values.isfinite().all()):
        raise NonFiniteLossError(
            f"the architecture parameters of {label!r} are {values.tolist()}; expected finite numbers",
            hint="lower the learning rate of the architecture parameters",
        )
    # Always finite: numpy draws again where -log(-log u) would not be, so nothing is clamped here.
    return rng.gumbel(size=values.shape if n is None else (n, *values.shape))


def _perturbed(label: str, values: Tensor, rng: np.random.Generator, *, n: int | None = None) -> NDArray[np.float64]:
    """Logits and Gumbel noise, [options] or [n, options]: the position of the largest is a draw from their softmax."""
    noise = _noise(label, values, rng, n=n)
    return values.detach().cpu().numpy().astype(np.float64) + noise


def _concrete(label: str, values: Tensor, temperature: float, rng: np.random.Generator) -> Tensor:
    # The papers add the noise to log-probabilities: logits less a constant, which the softmax takes away again.
    noise = torch.tensor(_noise(label, values, rng), device=values.device, dtype=values.dtype)
    return ((values + noise) / temperature).softmax(0)


def _straight_through(code: int, soft: Tensor) -> Tensor:
    """One-hot to the bit, with the gradient of `soft`."""
    hard = F.one_hot(torch.tensor(code, device=soft.device), len(soft)).to(soft)
    return hard + (soft - soft.detach())  # the bracket is 0 exactly; adding and subtracting in turn would round


def _one_hot(space: Space, codes: Codes, logits: Mapping[str, Tensor]) -> dict[str, Gate]:
    gates = {}
    for decision, code in zip(space.decisions, codes[0].clip(min=0).tolist(), strict=True):
        values = torch.zeros_like(_logits_of(space, logits, decision.label), requires_grad=False)
        values[code] = 1.0
        gates[decision.label] = Gate(values, (code,))
    return gates


def _logits_of(space: Space, logits: Mapping[str, Tensor], label: str) -> Tensor:
    options = len(space[label].options)
    if label not in logits:
        raise SpaceError(f"space {space.name}: no logits for {label!r}; found {sorted(logits)}")
    if logits[label].shape != (options,):
        raise SpaceError(
            f"space {space.name}: {label!r} has logits of shape {tuple(logits[label].shape)}; expected [{options}]"
        )
    return logits[label]
