"""Small random spaces, with decisions that can be inactive and units that share labels in any order."""

from __future__ import annotations

from math import prod

import numpy as np
from hypothesis import strategies as st

from hwnas.space import Block, Codes, Condition, Decision, Space, Unit


@st.composite
def random_spaces(draw: st.DrawFn) -> Space:
    decisions: list[Decision] = []
    for i in range(draw(st.integers(1, 5))):
        active_if = []
        for parent in draw(st.lists(st.sampled_from(decisions), max_size=2)) if decisions else []:
            options = draw(st.lists(st.sampled_from(parent.options), min_size=1, unique=True))
            active_if.append((Condition(parent.label, tuple(options)),))
        decisions.append(Decision(f"d{i}", tuple(range(draw(st.integers(1, 3)))), tuple(active_if)))
    parents = {d.label: {c.label for group in d.active_if for c in group} for d in decisions}
    units = []
    for i in range(draw(st.integers(1, 4))):
        labels = set(draw(st.lists(st.sampled_from(sorted(parents)), max_size=2, unique=True)))
        while missing := {p for label in labels for p in parents[label]} - labels:
            labels |= missing
        order = tuple(draw(st.permutations(sorted(labels))))
        n = prod(len(d.options) for d in decisions if d.label in labels)
        costs = draw(st.lists(st.none() | st.integers(0, 9), min_size=n, max_size=n))
        blocks = (c if c is None else Block("b", (("cost", c),), (1,), (1,), c, c) for c in costs)
        units.append(Unit(f"u{i}", order, tuple(blocks)))
    return Space("random", tuple(decisions), tuple(units))


def all_genotypes(space: Space) -> Codes:
    shape = [len(d.options) for d in space.decisions]
    return np.stack(np.unravel_index(np.arange(prod(shape)), shape), axis=1).astype(np.int64)


def cost_by_hand(space: Space, codes: list[int]) -> int:
    """A second implementation: walk through the units of one network."""
    total = 0
    for unit in space.units:
        entry = 0
        for label in unit.labels:
            entry = entry * len(space[label].options) + max(codes[space.index(label)], 0)
        block = unit.blocks[entry]
        total += block.macs if block else 0
    return total
