"""Choices that a module is written with: which layer, which inputs, how many blocks.

Each is an ordinary module. It declares its decisions, runs what the gates of the call say, and gives way to a plain
module when an architecture is extracted. Shapes are the author's own; candidates of one choice give one shape.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol, cast, get_args, runtime_checkable

import torch
from torch import Tensor, nn

from hwnas.core import Option, SpaceError
from hwnas.nn.answering import answer_to
from hwnas.nn.gates import Gate
from hwnas.space import Condition, Decision

Options = Mapping[str, Option]
"""What an architecture, or a part of one, says."""

Memo = dict[int, Any]
"""Of `copy.deepcopy`: what has been copied, so that shared modules stay shared."""

Reduction = Literal["sum", "mean", "concat", "none"]
"""What becomes of several inputs: one tensor, or a list as it is."""


class Part(NamedTuple):
    """A module inside a choice, and when it counts.

    Attributes:
        name: Of the submodule.
        module: The submodule.
        conditions: All of these must hold; none: whenever the choice itself counts.
    """

    name: str
    module: nn.Module
    conditions: tuple[Condition, ...]


@runtime_checkable
class Choice(Protocol):
    """A module whose work decisions determine."""

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """Its own, without conditions: where it stands says when they count."""
        ...

    @property
    def parts(self) -> tuple[Part, ...]:
        """Submodules that may hold further choices."""
        ...

    def frozen(self, options: Options, memo: Memo) -> nn.Module:
        """The plain module for some options, with its own copy of the weights."""
        ...


def freeze(module: nn.Module, options: Options, memo: Memo | None = None) -> nn.Module:
    """A copy of a module in which every choice has given way to what it chose.

    Args:
        module: Left as it is.
        options: Of all decisions inside that count.
        memo: Of an outer copy.

    Raises:
        SpaceError: If the options do not say a decision that counts.

    Example:
        >>> net = nn.Sequential(LayerChoice({"a": nn.ReLU(), "b": nn.Tanh()}, label="act"))
        >>> freeze(net, {"act": "b"})
        Sequential(
          (0): Tanh()
        )
    """
    memo = {} if memo is None else memo
    if id(module) in memo:
        return cast(nn.Module, memo[id(module)])
    if isinstance(module, Choice):
        memo[id(module)] = module.frozen(options, memo)
        return cast(nn.Module, memo[id(module)])
    for choice in outermost_choices(module):
        freeze(cast(nn.Module, choice), options, memo)
    return copy.deepcopy(module, memo)


def outermost_choices(module: nn.Module) -> Iterator[Choice]:
    """The choices inside a module that lie in no other choice."""
    for child in module.children():
        if isinstance(child, Choice):
            yield child
        else:
            yield from outermost_choices(child)


def option_of(options: Options, label: str) -> Option:
    """What some options say of a decision.

    Raises:
        SpaceError: If they do not say it.
    """
    if label not in options:
        raise SpaceError(f"the architecture does not say {label!r}, which the network needs; it says {dict(options)}")
    return options[label]


# ------------------------------------------------------------------------------------------------------------ layers


class LayerChoice(nn.Module):
    """One of several layers.

    Args:
        candidates: By name, or in a row (then the options are 0, 1, ...). Each takes the same inputs.
        label: Of the decision; choices with one label are one decision.
        prior: How often each is drawn by `Space.sample`, in any scale; equally often unless given.

    Raises:
        SpaceError: If there is no candidate, or a name cannot be a submodule's.

    Example:
        >>> from hwnas.core import Architecture
        >>> from hwnas.nn.answering import answering
        >>> choice = LayerChoice({"skip": nn.Identity(), "relu": nn.ReLU()}, label="act")
        >>> with answering(Architecture({"act": "relu"})):
        ...     choice(torch.tensor([-1.0, 2.0]))
        tensor([0., 2.])
    """

    def __init__(
        self,
        candidates: Mapping[str, nn.Module] | Sequence[nn.Module],
        *,
        label: str,
        prior: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        named = dict(candidates) if isinstance(candidates, Mapping) else dict(enumerate(candidates))
        for name in named:
            if isinstance(name, str) and (not name or "." in name):
                raise SpaceError(f"LayerChoice {label!r}: candidate {name!r}; names are not empty and hold no dot")
        self.label = label
        self.options: tuple[Option, ...] = tuple(named)
        self.prior = None if prior is None else tuple(float(share) for share in prior)
        self.decisions = (Decision(label, self.options, prior=self.prior),)
        # A module dictionary has methods of its own: "type" and "double" are names that it cannot take.
        keys = [f"{name}_" if hasattr(nn.ModuleDict, str(name)) else str(name) for name in named]
        self._keys = dict(zip(self.options, keys, strict=True))
        self.candidates = nn.ModuleDict(dict(zip(keys, named.values(), strict=True)))

    def __len__(self) -> int:
        return len(self.options)

    def candidate(self, option: Option) -> nn.Module:
        """The layer of an option.

        Raises:
            SpaceError: If there is none.
        """
        if option not in self._keys:
            raise SpaceError(f"LayerChoice {self.label!r} has no candidate {option!r}; it has {list(self.options)}")
        return self.candidates[self._keys[option]]

    @property
    def parts(self) -> tuple[Part, ...]:
        """The candidates, each with the option that chooses it."""
        return tuple(
            Part(f"candidates.{self._keys[option]}", self.candidate(option), (Condition(self.label, (option,)),))
            for option in self.options
        )

    def forward(self, *inputs: Any) -> Any:
        """What the chosen candidate makes of the inputs, or the weighted sum of those that a gate supports."""
        answer = answer_to(self.label)
        if not isinstance(answer, Gate):
            return self.candidate(answer)(*inputs)
        return _mixed([(answer.weight(code), self.candidate(self.options[code])(*inputs)) for code in answer.support])

    def frozen(self, options: Options, memo: Memo) -> nn.Module:
        """The chosen candidate."""
        return freeze(self.candidate(option_of(options, self.label)), options, memo)


def _mixed(weighted: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    first, *others = (weight * value for weight, value in weighted)
    for other in others:
        first = first + other
    return first


# ------------------------------------------------------------------------------------------------------------ inputs


class InputChoice(nn.Module):
    """Some of several tensors, reduced to one.

    Args:
        n_candidates: Tensors that it is called with, in a list.
        n_chosen: How many are taken: 1, more, or None for any subset, the empty one included, which gives zeros.
        reduction: "sum", "mean" or "concat" (along channels), or "none" for the list of what was taken.
        label: Of the decision. A subset is one decision per tensor: "label.0", "label.1", ...

    Raises:
        SpaceError: If the numbers do not fit, or the reduction is unknown.

    Example:
        >>> from hwnas.core import Architecture
        >>> from hwnas.nn.answering import answering
        >>> skip = InputChoice(2, n_chosen=None, label="skip")
        >>> with answering(Architecture({"skip.0": 0, "skip.1": 1})):
        ...     skip([torch.tensor([1.0]), torch.tensor([5.0])])
        tensor([5.])
    """

    def __init__(
        self, n_candidates: int, *, n_chosen: int | None = 1, reduction: Reduction = "sum", label: str
    ) -> None:
        super().__init__()
        if n_candidates < 1 or (n_chosen is not None and not 1 <= n_chosen <= n_candidates):
            raise SpaceError(
                f"InputChoice {label!r}: n_chosen is {n_chosen} of {n_candidates}; expected 1 to all, or None"
            )
        if reduction not in get_args(Reduction):
            raise SpaceError(
                f'InputChoice {label!r}: reduction is "{reduction}"; expected one of {", ".join(get_args(Reduction))}'
            )
        self.label = label
        self.n_candidates = n_candidates
        self.n_chosen = n_chosen
        self.reduction: Reduction = reduction
        self._subsets: tuple[tuple[int, ...], ...] = ()
        if n_chosen is None:
            self.decisions = tuple(Decision(f"{label}.{n}", (0, 1)) for n in range(n_candidates))
        else:
            self._subsets = tuple(itertools.combinations(range(n_candidates), n_chosen))
            names = [chosen[0] if n_chosen == 1 else "+".join(map(str, chosen)) for chosen in self._subsets]
            self.decisions = (Decision(label, tuple(names)),)

    @property
    def parts(self) -> tuple[Part, ...]:
        """None: the tensors come from elsewhere."""
        return ()

    def forward(self, inputs: Sequence[Tensor]) -> Any:
        """A tensor, or the list of those chosen where the reduction is "none".

        Raises:
            SpaceError: If another number of tensors comes in, or a soft gate meets a reduction that has no mean.
        """
        self._check(inputs)
        answers = [answer_to(decision.label) for decision in self.decisions]
        if not any(isinstance(answer, Gate) for answer in answers):
            chosen = self._chosen(
                dict(zip((d.label for d in self.decisions), cast(list[Option], answers), strict=True))
            )
            return reduce([inputs[n] for n in chosen], self.reduction, like=inputs[0])
        return self._soft(inputs, cast(list[Gate], answers))

    def _soft(self, inputs: Sequence[Tensor], gates: Sequence[Gate]) -> Tensor:
        if self.reduction == "none" or (self.n_chosen is None and self.reduction != "sum"):
            raise SpaceError(
                f'InputChoice {self.label!r}: reduction "{self.reduction}" '
                f"{'of a subset ' if self.n_chosen is None else ''}has no weighted form",
                hint='use reduction "sum", or a method that samples networks instead of mixing them',
            )
        if self.n_chosen is None:  # the expectation of the sum: each tensor by the share in which it is taken
            taken = [(gate.weight(1), n) for n, gate in enumerate(gates) if 1 in gate.support]
            return _mixed([(weight, inputs[n]) for weight, n in taken]) if taken else torch.zeros_like(inputs[0])
        [gate] = gates
        return _mixed([
            (gate.weight(code), reduce([inputs[n] for n in self._subsets[code]], self.reduction, like=inputs[0]))
            for code in gate.support
        ])

    def _chosen(self, options: Options) -> tuple[int, ...]:
        if self.n_chosen is None:
            return tuple(n for n, decision in enumerate(self.decisions) if option_of(options, decision.label))
        return self._subsets[self.decisions[0].options.index(option_of(options, self.label))]

    def _check(self, inputs: Sequence[Tensor]) -> None:
        if len(inputs) != self.n_candidates:
            raise SpaceError(f"InputChoice {self.label!r} got {len(inputs)} tensors; expected {self.n_candidates}")

    def frozen(self, options: Options, memo: Memo) -> nn.Module:  # noqa: ARG002 - the protocol's
        """A plain module that takes the chosen of the same list."""
        return ChosenInputs(self._chosen(options), self.reduction)


class ChosenInputs(nn.Module):
    """What is left of an `InputChoice`.

    Example:
        >>> ChosenInputs((1,), "sum")([torch.tensor([1.0]), torch.tensor([5.0])])
        tensor([5.])
    """

    def __init__(self, chosen: tuple[int, ...], reduction: Reduction) -> None:
        super().__init__()
        self.chosen = chosen
        self.reduction: Reduction = reduction

    def forward(self, inputs: Sequence[Tensor]) -> Any:
        """A tensor, or the list of those chosen where the reduction is "none"."""
        return reduce([inputs[n] for n in self.chosen], self.reduction, like=inputs[0])

    def extra_repr(self) -> str:
        """For printing."""
        return f"{list(self.chosen)}, {self.reduction}"


def reduce(tensors: Sequence[Tensor], reduction: Reduction, *, like: Tensor) -> Any:
    """Several tensors as one.

    Args:
        tensors: Of one shape; with "concat" they may differ in axis 1.
        reduction: How.
        like: Gives the shape of the zeros that stand for no tensor.
    """
    if reduction == "none":
        return list(tensors)
    if not tensors:
        return torch.zeros_like(like)
    if reduction == "concat":
        return torch.cat(list(tensors), dim=1)
    total = tensors[0]
    for tensor in tensors[1:]:
        total = total + tensor
    return total / len(tensors) if reduction == "mean" else total


# ------------------------------------------------------------------------------------------------------------- depth


class Repeat(nn.Module):
    """The first few of a row of blocks.

    Args:
        blocks: All of them, or what makes block n (0, 1, ...).
        depths: How many may be run, ascending; 0 leaves the input as it is.
        label: Of the decision.

    Raises:
        SpaceError: If depths are not ascending, or more than there are blocks.

    Example:
        >>> from hwnas.core import Architecture
        >>> from hwnas.nn.answering import answering
        >>> class Add1(nn.Module):
        ...     def forward(self, x):
        ...         return x + 1
        >>> with answering(Architecture({"depth": 2})):
        ...     Repeat(lambda n: Add1(), depths=(1, 2, 3), label="depth")(torch.zeros(1))
        tensor([2.])
    """

    def __init__(
        self, blocks: Callable[[int], nn.Module] | Sequence[nn.Module], *, depths: Sequence[int], label: str
    ) -> None:
        super().__init__()
        self.depths = tuple(depths)
        if not self.depths or list(self.depths) != sorted(set(self.depths)) or self.depths[0] < 0:
            raise SpaceError(f"Repeat {label!r}: depths is {list(depths)}; expected ascending numbers, each once")
        made = [blocks(n) for n in range(self.depths[-1])] if callable(blocks) else list(blocks)
        if len(made) != self.depths[-1]:
            raise SpaceError(f"Repeat {label!r}: {len(made)} blocks for a depth of up to {self.depths[-1]}")
        self.label = label
        self.decisions = (Decision(label, self.depths),)
        self.blocks = nn.ModuleList(made)

    @property
    def parts(self) -> tuple[Part, ...]:
        """The blocks, each with the depths that reach it."""
        found = []
        for n, block in enumerate(self.blocks):
            deep = tuple(depth for depth in self.depths if depth > n)
            conditions = () if len(deep) == len(self.depths) else (Condition(self.label, deep),)
            found.append(Part(f"blocks.{n}", block, conditions))
        return tuple(found)

    def forward(self, x: Tensor) -> Tensor:
        """The output of the last block that runs, or the weighted sum over the depths that a gate supports."""
        answer = answer_to(self.label)
        if not isinstance(answer, Gate):
            for block in self.blocks[: int(answer)]:
                x = block(x)
            return x
        ends = {self.depths[code]: answer.weight(code) for code in answer.support}
        weighted = [(ends[0], x)] if 0 in ends else []
        for n, block in enumerate(self.blocks[: max(ends)], start=1):
            x = block(x)
            if n in ends:
                weighted.append((ends[n], x))
        return _mixed(weighted)

    def frozen(self, options: Options, memo: Memo) -> nn.Module:
        """The blocks that run, in a row."""
        depth = int(option_of(options, self.label))
        return nn.Sequential(*(freeze(block, options, memo) for block in self.blocks[:depth]))


class Block(nn.Module):
    """A part of a network that is timed as a whole.

    Wrap what stands outside of any choice, stem and classifier say, and rows of layers that the runtime fuses.

    Args:
        module: Run as it is.

    Example:
        >>> Block(nn.ReLU())(torch.tensor([-1.0]))
        tensor([0.])
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.decisions: tuple[Decision, ...] = ()

    @property
    def parts(self) -> tuple[Part, ...]:
        """The module."""
        return (Part("module", self.module, ()),)

    def forward(self, *inputs: Any) -> Any:
        """What the module makes of the inputs."""
        return self.module(*inputs)

    def frozen(self, options: Options, memo: Memo) -> nn.Module:
        """The module without its wrapping."""
        return freeze(self.module, options, memo)


# -------------------------------------------------------------------------------------------------------------- cells


class Cell(nn.Module):
    """A small graph whose nodes choose their inputs and what to do with each.

    Node n sees the cell's inputs and the nodes before it. In each of its slots it takes one of those and applies one
    operation; a node is the sum of its slots. Cells with one label share all decisions, never weights.

    Args:
        operations: By name, what makes an operation for (node, source); sources count the cell's inputs first.
        nodes: How many nodes the cell has.
        slots: Inputs of each node.
        inputs: Tensors that the cell is called with.
        merge: "all" nodes are concatenated along channels, or only those that no other node takes ("loose_ends").
        label: Starts the labels: "label.node1.slot1.input", "label.node1.slot1.operation", ...

    Raises:
        SpaceError: If a number is below 1, or `merge` is unknown.

    Example:
        >>> from hwnas.core import Architecture
        >>> from hwnas.nn.answering import answering
        >>> cell = Cell({"same": lambda node, source: nn.Identity()}, nodes=1, slots=1, inputs=2, label="c")
        >>> with answering(Architecture({"c.node1.slot1.input": 1, "c.node1.slot1.operation": "same"})):
        ...     cell([torch.zeros(1, 1), torch.ones(1, 1)])
        tensor([[1.]])
    """

    def __init__(
        self,
        operations: Mapping[str, Callable[[int, int], nn.Module]],
        *,
        nodes: int,
        slots: int = 2,
        inputs: int = 2,
        merge: Literal["all", "loose_ends"] = "all",
        label: str,
    ) -> None:
        super().__init__()
        for name, value in (("nodes", nodes), ("slots", slots), ("inputs", inputs)):
            if value < 1:
                raise SpaceError(f"Cell {label!r}: {name} is {value}; it must be above 0")
        if merge not in ("all", "loose_ends"):
            raise SpaceError(f'Cell {label!r}: merge is "{merge}"; expected "all" or "loose_ends"')
        self.label = label
        self.inputs = inputs
        self.slots = slots
        self.merge: Literal["all", "loose_ends"] = merge
        self.edges = nn.ModuleList(
            nn.ModuleList(
                nn.ModuleList(
                    LayerChoice(
                        {name: make(node, source) for name, make in operations.items()},
                        label=f"{label}.node{node + 1}.slot{slot + 1}.operation",
                    )
                    for source in range(inputs + node)
                )
                for slot in range(slots)
            )
            for node in range(nodes)
        )
        self.decisions = tuple(
            Decision(self._input_label(node, slot), tuple(range(inputs + node)))
            for node in range(nodes)
            for slot in range(slots)
        )

    def _input_label(self, node: int, slot: int) -> str:
        return f"{self.label}.node{node + 1}.slot{slot + 1}.input"

    def _places(self) -> Iterator[tuple[int, int, nn.ModuleList]]:
        for node, slots in enumerate(self.edges):
            for slot, sources in enumerate(cast(nn.ModuleList, slots)):
                yield node, slot, cast(nn.ModuleList, sources)

    @property
    def parts(self) -> tuple[Part, ...]:
        """The operations of every edge, each with the input that chooses the edge."""
        return tuple(
            Part(f"edges.{node}.{slot}.{source}", edge, (Condition(self._input_label(node, slot), (source,)),))
            for node, slot, sources in self._places()
            for source, edge in enumerate(sources)
        )

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Tensors of one shape [n, c, ...] -> the merged nodes [n, c * merged, ...].

        Raises:
            SpaceError: If another number of tensors comes in, or the inputs are soft where loose ends are merged.
        """
        if len(inputs) != self.inputs:
            raise SpaceError(f"Cell {self.label!r} got {len(inputs)} tensors; expected {self.inputs}")
        states, taken = list(inputs), set[int]()
        node_slots: dict[int, list[Tensor]] = {}
        for node, slot, sources in self._places():
            answer = answer_to(self._input_label(node, slot))
            if isinstance(answer, Gate):
                if self.merge == "loose_ends" and len(answer.support) > 1:
                    raise SpaceError(
                        f"Cell {self.label!r}: which nodes are loose ends is not decided while inputs are soft",
                        hint='use merge="all", or a method that samples networks instead of mixing them',
                    )
                taken |= set(answer.support)
                value = _mixed([(answer.weight(code), sources[code](states[code])) for code in answer.support])
            else:
                taken.add(int(answer))
                value = sources[int(answer)](states[int(answer)])
            node_slots.setdefault(node, []).append(value)
            if slot == self.slots - 1:
                states.append(cast(Tensor, reduce(node_slots[node], "sum", like=value)))
        return _merged(states, self.inputs, taken, self.merge)

    def frozen(self, options: Options, memo: Memo) -> nn.Module:
        """A plain cell of the chosen edges."""
        chosen = [
            (node, int(option_of(options, self._input_label(node, slot))), sources)
            for node, slot, sources in self._places()
        ]
        edges = tuple((node, source) for node, source, _ in chosen)
        return ChosenCell(
            edges, [freeze(sources[source], options, memo) for _, source, sources in chosen], self.inputs, self.merge
        )


class ChosenCell(nn.Module):
    """What is left of a `Cell`: its edges, each with one operation.

    Args:
        edges: (node, source) of each, nodes ascending.
        operations: One per edge.
        inputs: Tensors that it is called with.
        merge: As in `Cell`.

    Example:
        >>> ChosenCell(((0, 1),), [nn.Identity()], 2, "all")([torch.zeros(1, 1), torch.ones(1, 1)])
        tensor([[1.]])
    """

    def __init__(
        self,
        edges: tuple[tuple[int, int], ...],
        operations: Sequence[nn.Module],
        inputs: int,
        merge: Literal["all", "loose_ends"],
    ) -> None:
        super().__init__()
        self.edges = edges
        self.operations = nn.ModuleList(operations)
        self.inputs = inputs
        self.merge: Literal["all", "loose_ends"] = merge

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Tensors of one shape [n, c, ...] -> the merged nodes [n, c * merged, ...]."""
        states = list(inputs)
        for (node, source), operation in zip(self.edges, self.operations, strict=True):
            value: Tensor = operation(states[source])
            if len(states) == self.inputs + node:
                states.append(value)
            else:
                states[-1] = states[-1] + value
        return _merged(states, self.inputs, {source for _, source in self.edges}, self.merge)


def _merged(states: Sequence[Tensor], inputs: int, taken: set[int], merge: Literal["all", "loose_ends"]) -> Tensor:
    nodes = range(inputs, len(states))
    return torch.cat([states[n] for n in nodes if merge == "all" or n not in taken], dim=1)
