"""Which networks a step draws: fair ones, and ever smaller ones."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn

from hwnas.core import Architecture, Metric, Origin, RecipeError, generator
from hwnas.cost import UnitSumCost
from hwnas.space import Codes, Condition, Decision, Space
from hwnas.training import Opening, Sandwich, SinglePath, binned_draw, check_kinds, fair_draw
from hwnas.zoo import family
from tests.training.test_rules import toy_batch

KERNELS, EXPANSIONS = (3, 5, 7), (3, 4, 6)


def chain() -> Space:
    """Depth 1 or 2; the second block has decisions only where it is there."""
    decisions = [Decision("depth", (1, 2))]
    for block in (1, 2):
        active = () if block == 1 else ((Condition("depth", (2,)),),)
        decisions += [
            Decision(f"block{block}.kernel", KERNELS, active),
            Decision(f"block{block}.expansion", EXPANSIONS, active),
        ]
    return Space("chain", tuple(decisions))


@dataclass(frozen=True)
class Sum:
    """The sum of the options."""

    space: Space
    name: str = "macs"
    unit: str = "multiply-adds"
    digest: str = "sum"
    origin: Origin = "computed"

    def __call__(self, architecture: Architecture) -> Metric:
        return Metric(sum(float(option) for option in architecture.values()), self.unit, "computed")

    def batch(self, codes: Codes) -> NDArray[np.float64]:
        return (codes + 1.0).sum(axis=1)  # type: ignore[no-any-return]

    def smallest(self) -> tuple[float, Architecture]:
        return float(len(self.space.decisions)), Architecture({d.label: 1 for d in self.space.decisions})

    def largest(self) -> tuple[float, Architecture]:
        return 3.0 * len(self.space.decisions), Architecture({d.label: 3 for d in self.space.decisions})


LARGEST = Architecture({
    "depth": 2,
    "block1.kernel": 7,
    "block1.expansion": 6,
    "block2.kernel": 7,
    "block2.expansion": 6,
})
SMALLEST = Architecture({"depth": 1, "block1.kernel": 3, "block1.expansion": 3})


@given(st.integers(0, 2**32 - 1), st.integers(1, 7))
def test_no_option_comes_twice_before_every_other_came_once(seed: int, n: int) -> None:
    space = Space("flat", tuple(Decision(label, (3, 5, 7)) for label in "abc"))
    drawn = fair_draw(space)(n, np.random.default_rng(seed))
    assert len(drawn) == n
    for label in "abc":
        counts = Counter(network[label] for network in drawn)
        assert max(counts.values()) - min(counts.get(k, 0) for k in (3, 5, 7)) <= 1


def test_every_bin_of_the_cost_is_drawn_as_often() -> None:
    space = Space("flat", tuple(Decision(f"d{n}", (1, 2, 3)) for n in range(8)))
    cost = Sum(space)
    drawn = space.encode(binned_draw(space, cost, bins=4)(1200, generator(0, "draws")))
    counts = np.histogram(cost.batch(drawn), bins=np.linspace(8, 24, 5))[0]
    assert all(abs(count - 300) < 4 * (1200 * 3 / 16) ** 0.5 for count in counts)
    uniform = cost.batch(space.encode(space.sample(1200, generator(0, "uniform"))))
    assert np.histogram(uniform, bins=np.linspace(8, 24, 5))[0][0] < 50, "what the bins are for"
    with pytest.raises(RecipeError, match="0 bins; expected at least 1"):
        binned_draw(space, cost, bins=0)


def test_a_bin_that_hardly_any_network_is_in_gives_the_nearest() -> None:
    """Of 3^30 networks one costs 30, and draws come nowhere near."""
    space = Space("long", tuple(Decision(f"d{n}", (1, 2, 3)) for n in range(30)))
    drawn = Sum(space).batch(space.encode(binned_draw(space, Sum(space), bins=30)(60, generator(0, "draws"))))
    assert len(drawn) == 60 and 30 < drawn.min() < 50 and drawn.max() > 70


def test_options_join_in_the_order_asked_for() -> None:
    """The first half has three stages here: the largest alone, then kernels, then depth."""
    opening = Opening(chain(), LARGEST, ("kernel", "depth"))
    seen: dict[float, set[Architecture]] = {}
    for share in (0.0, 0.1, 0.17, 0.26, 0.34, 0.5, 1.0):
        opening.at(share)
        seen[share] = set(opening(4000, generator(0, "draws")))
    kernels = {share: {a["block1.kernel"] for a in networks} for share, networks in seen.items()}
    depths = {share: {a["depth"] for a in networks} for share, networks in seen.items()}
    assert all({a["block1.expansion"] for a in networks} == set(EXPANSIONS) for networks in seen.values()), "unnamed"
    assert kernels[0.0] == kernels[0.1] == {7} and kernels[0.17] == {5, 7}
    assert kernels[0.26] == kernels[0.34] == kernels[1.0] == {3, 5, 7}
    assert depths[0.0] == depths[0.26] == {2} and depths[0.34] == depths[0.5] == {1, 2}
    assert seen[0.5] == seen[1.0] == set(chain().enumerate()), "everything in the end"
    assert seen[0.0] < seen[0.17] < seen[0.26] < seen[0.34]


def test_open_options_are_drawn_equally_often() -> None:
    opening = Opening(chain(), LARGEST, ("kernel",))
    opening.at(1.0)
    drawn = opening(9000, generator(0, "draws"))
    counts = Counter(a["block1.kernel"] for a in drawn)
    assert all(abs(count - 3000) < 3 * (9000 * 2 / 9) ** 0.5 for count in counts.values())


def test_the_smallest_network_that_is_open() -> None:
    opening = Opening(chain(), LARGEST, ("kernel", "depth", "expansion"))
    assert opening.within(SMALLEST) == LARGEST
    opening.at(0.25)  # the second of four stages is done: kernels are open
    assert opening.within(SMALLEST) == Architecture(dict(LARGEST) | {"block1.kernel": 3, "block2.kernel": 3})
    opening.at(1.0)
    assert opening.within(SMALLEST) == SMALLEST
    assert opening.within(LARGEST) == LARGEST


@pytest.mark.parametrize(
    ("kinds", "until", "message"),
    [
        (("kernl",), 0.5, 'progressive: "kernl" is no kind of decisions of chain; did you mean "kernel"'),
        (("kernel", "kernel"), 0.5, "kernel, kernel; expected each kind once"),
        (("kernel",), 0.0, "until 0.0; expected a share above 0"),
    ],
)
def test_what_makes_no_sense_is_refused(kinds: tuple[str, ...], until: float, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Opening(chain(), LARGEST, kinds, until=until)
    if until:
        with pytest.raises(RecipeError, match=message):
            check_kinds(chain(), kinds)


@pytest.mark.parametrize("rule", ["single_path", "sandwich"])
def test_rules_train_what_is_open_alone(rule: str) -> None:
    toy = family("toy", {"resolutions": [8]}, channels=1, classes=10)
    supernet = toy.supernet()
    macs = UnitSumCost.count(supernet.space, "macs")
    largest, smallest = macs.largest()[1], macs.smallest()[1]
    opening = Opening(supernet.space, largest, tuple({d.label.rpartition(".")[2] for d in supernet.space.decisions}))
    step = (
        SinglePath(supernet, random=2, draw=opening)
        if rule == "single_path"
        else Sandwich(supernet, largest, smallest, random=2, opening=opening)
    )
    trained: list[Architecture] = []
    cast(nn.Module, supernet).register_forward_pre_hook(lambda _, given: trained.append(given[1]))
    step(toy_batch(), generator(0, "step"))
    assert trained and set(trained) == {largest}
    opening.at(1.0)
    trained.clear()
    for n in range(3):
        step(toy_batch(), generator(n, "step"))
    assert len(set(trained)) > 2
    assert rule == "single_path" or smallest in trained
