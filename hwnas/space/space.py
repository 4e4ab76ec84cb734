"""A space: an ordered list of decisions, and everything that follows from it.

Two forms of one architecture are used: `Architecture` (a map, canonical) for people and files, and a row of *codes* for
speed: one integer per decision, the index of its option, -1 where the decision is inactive. Rows with a code for every
decision, active or not, are *genotypes*; `canonical_codes` turns them into codes. All code functions take and return
arrays [n, decisions].
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

import numpy as np
from numpy.typing import NDArray

from hwnas.core import Architecture, Option, SpaceError, digest_of
from hwnas.core.errors import did_you_mean
from hwnas.space.block import Block, Unit
from hwnas.space.decision import Decision
from hwnas.space.image_sides import check_largest_side

Codes = NDArray[np.int64]
_Switch = tuple[int, tuple[tuple[tuple[int, NDArray[np.bool_]], ...], ...]]
_Wanted = tuple[int, tuple[tuple[tuple[int, frozenset[int]], ...], ...]]


@dataclass(frozen=True)
class Space:
    """An ordered list of named decisions.

    Attributes:
        name: Used in file names and messages.
        decisions: In the author's order, which is the order of the codes.
        units: The places whose blocks add up to a network's cost; empty for a space without a cost model.

    Raises:
        SpaceError: If labels repeat, a condition names an unknown decision or option, conditions form a circle, a
            unit does not fit the decisions, or the decision "resolution" offers a side above 4096 pixels.

    Example:
        >>> from hwnas.space import Condition
        >>> deep = ((Condition("depth", (2,)),),)
        >>> space = Space("tiny", (Decision("depth", (1, 2)), Decision("k1", (3, 5)), Decision("k2", (3, 5), deep)))
        >>> space.size
        6
        >>> space.canonical({"depth": 1, "k1": 3, "k2": 5})
        Architecture({'depth': 1, 'k1': 3})
    """

    name: str
    decisions: tuple[Decision, ...]
    units: tuple[Unit, ...] = ()
    digest: str = field(init=False, default="")
    entries_digest: str = field(init=False, default="")
    _index: Mapping[str, int] = field(init=False, repr=False, compare=False, default_factory=dict)
    _switches: tuple[_Switch, ...] = field(init=False, repr=False, compare=False, default=())
    _codes: Mapping[tuple[str, Option], int] = field(init=False, repr=False, compare=False, default_factory=dict)
    _options_wanted: tuple[_Wanted, ...] = field(init=False, repr=False, compare=False, default=())

    def __post_init__(self) -> None:
        index = {decision.label: i for i, decision in enumerate(self.decisions)}
        if len(index) < len(self.decisions):
            labels = [decision.label for decision in self.decisions]
            repeated = sorted({label for label in labels if labels.count(label) > 1})
            raise SpaceError(f"space {self.name}: decision {repeated[0]!r} is declared twice")
        object.__setattr__(self, "_index", index)
        if "resolution" in index:
            check_largest_side(self.decisions[index["resolution"]].options)
        self._check_conditions()
        object.__setattr__(
            self, "_switches", tuple(self._switch(i) for i in self._topological_order() if self.decisions[i].active_if)
        )
        object.__setattr__(
            self,
            "_codes",
            {(d.label, option): code for d in self.decisions for code, option in enumerate(d.options)},
        )
        object.__setattr__(self, "_options_wanted", tuple(_wanted(switch) for switch in self._switches))
        self._check_units()
        rows = [
            [
                d.label,
                list(d.options),
                [[[c.label, list(c.options)] for c in group] for group in d.active_if],
                *([list(d.prior)] if d.prior else []),
            ]
            for d in self.decisions
        ]
        object.__setattr__(self, "digest", digest_of(rows))
        entries = [
            [unit.name, list(unit.labels), [block.key if block else None for block in unit.blocks]]
            for unit in self.units
        ]
        object.__setattr__(self, "entries_digest", digest_of(entries))

    def _check_conditions(self) -> None:
        for decision in self.decisions:
            for condition in itertools.chain.from_iterable(decision.active_if):
                where = f"space {self.name}: decision {decision.label!r} is active if {condition.label!r}"
                if condition.label not in self._index:
                    raise SpaceError(f"{where}, which is unknown; {did_you_mean(condition.label, self._index)}")
                options = self[condition.label].options
                for option in condition.options:
                    if option not in options:
                        raise SpaceError(f"{where} is {option!r}, which is not one of {list(options)}")

    def _topological_order(self) -> tuple[int, ...]:
        parents = [
            {self._index[condition.label] for group in decision.active_if for condition in group}
            for decision in self.decisions
        ]
        order: list[int] = []
        while len(order) < len(self.decisions):
            ready = [i for i in range(len(parents)) if i not in order and parents[i] <= set(order)]
            if not ready:
                circle = [d.label for i, d in enumerate(self.decisions) if i not in order]
                raise SpaceError(f"space {self.name}: conditions form a circle among {circle}")
            order += ready
        return tuple(order)

    def _switch(self, i: int) -> _Switch:
        """What decision i hangs on, as tables from a parent's code to whether it is one of those wanted."""
        groups = []
        for group in self.decisions[i].active_if:
            tables = []
            for condition in group:
                options = self[condition.label].options
                # One entry more than options, so that code -1 (the parent is inactive) reads False.
                wanted = np.array([*(option in condition.options for option in options), False])
                tables.append((self._index[condition.label], wanted))
            groups.append(tuple(tables))
        return i, tuple(groups)

    def _check_units(self) -> None:
        for unit in self.units:
            where = f"space {self.name}: unit {unit.name!r}"
            for label in unit.labels:
                if label not in self._index:
                    raise SpaceError(f"{where} depends on {label!r}, which is no decision of the space")
                for group in self[label].active_if:
                    missing = [c.label for c in group if c.label not in unit.labels]
                    if missing:
                        raise SpaceError(
                            f"{where} depends on {label!r}, which {missing[0]!r} can deactivate; "
                            f"list {missing[0]!r} among its labels too"
                        )
            entries = prod(len(self[label].options) for label in unit.labels)
            if len(set(unit.labels)) < len(unit.labels) or entries != len(unit.blocks):
                raise SpaceError(
                    f"{where} has {len(unit.blocks)} blocks for labels {list(unit.labels)}; expected {entries}, "
                    "one per combination, each label once"
                )

    def __getitem__(self, label: str) -> Decision:
        if label not in self._index:
            raise SpaceError(f"space {self.name} has no decision {label!r}; {did_you_mean(label, self._index)}")
        return self.decisions[self._index[label]]

    def index(self, label: str) -> int:
        """The column of a decision in the codes.

        Raises:
            SpaceError: If the space has no such decision.
        """
        return self._index[self[label].label]

    # ---------------------------------------------------------------------------------------- canonical form

    def active(self, genotypes: Codes) -> NDArray[np.bool_]:
        """Which decisions count, [n, decisions].

        Example:
            >>> from hwnas.space import Condition
            >>> deep = ((Condition("depth", (2,)),),)
            >>> space = Space("tiny", (Decision("depth", (1, 2)), Decision("k2", (3, 5), deep)))
            >>> space.active(np.array([[0, 1], [1, 1]])).tolist()
            [[True, False], [True, True]]
        """
        active = np.ones(genotypes.shape, dtype=bool)
        for i, groups in self._switches:
            active[:, i] = False
            for group in groups:
                fulfilled = np.ones(len(genotypes), dtype=bool)
                for parent, wanted in group:
                    fulfilled &= active[:, parent] & wanted[genotypes[:, parent]]
                active[:, i] |= fulfilled
        return active

    def canonical_codes(self, genotypes: Codes) -> Codes:
        """Genotypes with every inactive decision set to -1."""
        return np.where(self.active(genotypes), genotypes, -1)

    def canonical(self, options: Mapping[str, Option]) -> Architecture:
        """The architecture that a full or partial map of options stands for.

        Raises:
            SpaceError: If a label or an option is unknown, or an active decision is missing.
        """
        row = np.zeros((1, len(self.decisions)), dtype=np.int64)
        for label, option in options.items():
            decision = self[label]
            row[0, self._index[label]] = _code(self.name, decision, option)
        architecture = self.decode(self.canonical_codes(row))[0]
        missing = [label for label in architecture if label not in options]
        if missing:
            raise SpaceError(f"space {self.name}: the architecture does not say {missing[0]!r}; it is active")
        return architecture

    def contains(self, architecture: Mapping[str, Option]) -> bool:
        """Whether this is a canonical architecture of the space."""
        try:
            return self.canonical(architecture) == architecture
        except SpaceError:
            return False

    # ---------------------------------------------------------------------------------------------- encodings

    def encode(self, architectures: Iterable[Architecture]) -> Codes:
        """Codes [n, decisions], -1 where inactive.

        Raises:
            SpaceError: If an architecture is not one of the space.
        """
        rows = [self._row(architecture) for architecture in architectures]
        return np.array(rows, dtype=np.int64).reshape(len(rows), len(self.decisions))

    def _row(self, architecture: Architecture) -> list[int]:
        """One row of `encode`, in plain Python: for a few rows numpy's calls cost more than the work.

        Raises:
            SpaceError: If the architecture is not one of the space.
        """
        row = [-1] * len(self.decisions)
        for label, option in architecture.items():
            code = self._codes.get((label, option))
            if code is None:
                code = _code(self.name, self[label], option)  # which names the fault
            row[self._index[label]] = code
        active = [True] * len(row)
        for i, groups in self._options_wanted:
            active[i] = False
            for group in groups:  # in loops: `any` over `all` takes three times as long
                for parent, wanted in group:
                    if not active[parent] or (row[parent] if row[parent] > 0 else 0) not in wanted:
                        break
                else:
                    active[i] = True
                    break
        for i, code in enumerate(row):
            if active[i] != (code >= 0):
                state = "is active but not given" if active[i] else "is given but inactive"
                raise SpaceError(f"space {self.name}: {self.decisions[i].label!r} {state} in {architecture}")
        return row

    def decode(self, codes: Codes) -> list[Architecture]:
        """Architectures for canonical codes [n, decisions].

        Example:
            >>> Space("tiny", (Decision("k", (3, 5)),)).decode(np.array([[1]]))
            [Architecture({'k': 5})]
        """
        decisions = self.decisions
        return [
            Architecture({d.label: d.options[code] for d, code in zip(decisions, row, strict=True) if code >= 0})
            for row in np.asarray(codes).tolist()
        ]

    def one_hot(self, codes: Codes) -> NDArray[np.float64]:
        """One column per option of every decision, all zero where inactive; [n, sum of options].

        Example:
            >>> Space("tiny", (Decision("k", (3, 5)),)).one_hot(np.array([[1], [-1]])).tolist()
            [[0.0, 1.0], [0.0, 0.0]]
        """
        columns = [
            codes[:, [i]] == np.arange(len(decision.options))[None, :] for i, decision in enumerate(self.decisions)
        ]
        return np.concatenate(columns, axis=1).astype(np.float64)

    def blocks_of(self, architecture: Architecture) -> list[Block]:
        """The blocks of one network, in the order of the units.

        Raises:
            SpaceError: If the architecture is not one of the space.
        """
        codes = self.encode([architecture])[0].clip(min=0)
        blocks = []
        for unit in self.units:
            entry = 0
            for label in unit.labels:
                entry = entry * len(self[label].options) + int(codes[self.index(label)])
            block = unit.blocks[entry]
            if block is not None:
                blocks.append(block)
        return blocks

    # ----------------------------------------------------------------------------------------------- variation

    def sample_codes(self, n: int, rng: np.random.Generator) -> Codes:
        """Canonical codes of n networks, uniform over options, or by their prior (not over distinct networks).

        Every decision is drawn, active or not, so that the draws of one network do not depend on the options of
        another.
        """
        options = np.array([len(decision.options) for decision in self.decisions])
        drawn = rng.integers(0, options, size=(n, len(options)))
        for i, decision in enumerate(self.decisions):
            if decision.prior is not None:
                drawn[:, i] = rng.choice(len(decision.options), size=n, p=decision.shares)
        return self.canonical_codes(drawn)

    def sample(self, n: int, rng: np.random.Generator) -> list[Architecture]:
        """N architectures, uniform over options, or by their prior."""
        return self.decode(self.sample_codes(n, rng))

    def sample_by(
        self, frequencies: Mapping[str, Sequence[float]], n: int, rng: np.random.Generator
    ) -> list[Architecture]:
        """N architectures, each option drawn as often as is said.

        Args:
            frequencies: By decision, a share for each option; they sum to 1.
            n: How many.
            rng: Draws every decision, active or not.

        Raises:
            SpaceError: If a decision is missing, or its shares are no distribution over its options.

        Example:
            >>> Space("tiny", (Decision("k", (3, 5)),)).sample_by({"k": [0.0, 1.0]}, 2, np.random.default_rng(0))
            [Architecture({'k': 5}), Architecture({'k': 5})]
        """
        drawn = np.empty((n, len(self.decisions)), dtype=np.int64)
        for i, decision in enumerate(self.decisions):
            shares = np.asarray(frequencies.get(decision.label, ()), dtype=np.float64)
            wrong = shares.shape != (len(decision.options),) or not (shares >= 0).all()
            if wrong or not np.isclose(shares.sum(), 1.0, rtol=0, atol=1e-6):
                raise SpaceError(
                    f"space {self.name}: the shares of {decision.label!r} are {shares.tolist()}; expected "
                    f"{len(decision.options)} that sum to 1"
                )
            drawn[:, i] = rng.choice(len(shares), size=n, p=shares / shares.sum())
        return self.decode(self.canonical_codes(drawn))

    def mutate(self, architecture: Architecture, rng: np.random.Generator, *, tries: int = 100) -> Architecture:
        """A network that differs: each decision is redrawn with probability 1 / decisions, at least one is.

        A decision that wakes up takes a random option.

        Raises:
            SpaceError: If no other network was found in `tries` draws, as in a space of one.

        Example:
            >>> space = Space("tiny", (Decision("k", (3, 5)),))
            >>> space.mutate(Architecture({"k": 3}), np.random.default_rng(0))
            Architecture({'k': 5})
        """
        parent = self.encode([architecture])
        options = np.array([len(decision.options) for decision in self.decisions])
        for _ in range(tries):
            drawn = rng.integers(0, options, size=(1, len(options)))
            redraw = rng.random(parent.shape) < 1 / len(options)
            redraw[0, rng.integers(len(options))] = True
            child = self.canonical_codes(np.where(redraw | (parent < 0), drawn, parent))
            if not np.array_equal(child, parent):
                return self.decode(child)[0]
        raise SpaceError(f"space {self.name}: no other network than {architecture} in {tries} mutations")

    def cross(self, a: Architecture, b: Architecture, rng: np.random.Generator) -> Architecture:
        """A child that takes each decision from either parent; where only one has it, from that one.

        Example:
            >>> space = Space("tiny", (Decision("k", (3, 5)),))
            >>> space.cross(Architecture({"k": 5}), Architecture({"k": 5}), np.random.default_rng(0))
            Architecture({'k': 5})
        """
        first, second = self.encode([a]), self.encode([b])
        pick = np.where(rng.random(first.shape) < 0.5, first, second)
        genotype = np.where(pick >= 0, pick, np.maximum(first, second))
        return self.decode(self.canonical_codes(np.maximum(genotype, 0)))[0]

    def neighbours(self, architecture: Architecture) -> list[Architecture]:
        """Every network one active decision away; decisions that wake up take their first option."""
        parent = self.encode([architecture])[0]
        rows = []
        for i, decision in enumerate(self.decisions):
            for code in range(len(decision.options)):
                if parent[i] >= 0 and code != parent[i]:
                    row = np.maximum(parent, 0)
                    row[i] = code
                    rows.append(row)
        if not rows:
            return []
        return self.decode(np.unique(self.canonical_codes(np.stack(rows)), axis=0))

    # ------------------------------------------------------------------------------------------------- counting

    @property
    def size(self) -> int:
        """How many canonical architectures the space holds, exactly, without listing them.

        Decisions are summed out one by one, each with those that it hangs together with (as in Dechter 1999, section
        4), so that long chains of conditions are counted as fast as short ones.
        """
        states = [len(decision.options) + 1 for decision in self.decisions]
        tables = [self._possible(i) for i in range(len(self.decisions))]
        parents = {j for i, (axes, _) in enumerate(tables) for j in axes if j != i}
        left = [*(i for i in range(len(tables)) if i not in parents), *sorted(parents)]
        total = 1
        for n in range(len(left)):
            if left[n] in parents:  # the one that hangs together with the fewest
                scopes = {i: {j for axes, _ in tables if i in axes for j in axes} for i in left[n:]}
                best = min(left[n:], key=lambda i: prod(states[j] for j in scopes[i]))
                left[n:] = [best, *(i for i in left[n:] if i != best)]
            i = left[n]
            scope = sorted({j for axes, _ in tables if i in axes for j in axes})
            joined = np.ones([states[j] for j in scope], dtype=object)  # Python's integers, which have no largest
            for axes, table in tables:
                if i in axes:
                    joined = joined * table.reshape([states[j] if j in axes else 1 for j in scope])
            summed = joined.sum(axis=scope.index(i))
            rest = tuple(j for j in scope if j != i)
            tables = [known for known in tables if i not in known[0]]
            if rest:
                tables.append((rest, summed))
            else:
                total *= int(summed)
        return total

    def _possible(self, i: int) -> tuple[tuple[int, ...], NDArray[np.object_]]:
        """Which states of decision i go with which of the decisions it hangs on, as 0 or 1; the last is inactive.

        Returns:
            The decisions of the axes, ascending, and an entry for each combination of their states.
        """
        groups = next((groups for child, groups in self._switches if child == i), None)
        parents = sorted({parent for group in groups or () for parent, _ in group})
        axes = sorted([i, *parents])

        def along(values: NDArray[np.bool_], axis: int) -> NDArray[np.bool_]:
            return values.reshape([-1 if j == axis else 1 for j in axes])

        active = np.array(groups is None).reshape([1] * len(axes))
        for group in groups or ():
            fulfilled = np.ones([1] * len(axes), dtype=bool)
            for parent, wanted in group:
                fulfilled = fulfilled & along(wanted, parent)
            active = active | fulfilled
        given = along(np.append(np.ones(len(self.decisions[i].options), dtype=bool), [False]), i)
        shape = [len(self.decisions[j].options) + 1 for j in axes]
        return tuple(axes), np.broadcast_to(given == active, shape).astype(int).astype(object)

    def enumerate(self) -> Iterator[Architecture]:
        """Every canonical architecture; look at `size` first."""
        seen: set[bytes] = set()
        ranges = [range(len(decision.options)) for decision in self.decisions]
        for chunk in _chunks(itertools.product(*ranges), 4096):
            for row in self.canonical_codes(np.array(chunk, dtype=np.int64).reshape(len(chunk), -1)):
                if row.tobytes() not in seen:
                    seen.add(row.tobytes())
                    yield self.decode(row[None])[0]


def _wanted(switch: _Switch) -> _Wanted:
    """The tables of a switch as sets of codes, for one row at a time."""
    i, groups = switch
    sets = (
        tuple((parent, frozenset(np.flatnonzero(table[:-1]).tolist())) for parent, table in group) for group in groups
    )
    return i, tuple(sets)


def _code(space: str, decision: Decision, option: Option) -> int:
    for code, known in enumerate(decision.options):
        if known == option and isinstance(known, str) == isinstance(option, str):
            return code
    raise SpaceError(
        f"space {space}: decision {decision.label!r} has no option {option!r}; "
        f"options: {', '.join(map(repr, decision.options))}"
    )


def _chunks(rows: Iterable[tuple[int, ...]], n: int) -> Iterator[list[tuple[int, ...]]]:
    iterator = iter(rows)
    while chunk := list(itertools.islice(iterator, n)):
        yield chunk
