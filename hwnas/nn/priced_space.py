"""The blocks of a model space: what the profiler times and the cost model adds up.

A unit is an elastic layer, a `LayerChoice` with the candidates that hold no further choice, a block of a `Repeat`, or
what is wrapped in `Block`. Its labels are the decisions inside it, those that decide whether it stands there, and the
resolution; for every combination the plain module is made and its shapes, multiply-adds and parameters are read on
torch's meta device. Then whole networks, drawn at random, are traced and must show the same blocks: a space whose
blocks hang on decisions elsewhere is refused, not tabulated wrongly.
"""

from __future__ import annotations

import copy
import itertools
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from hwnas.core import Architecture, Option, SpaceError, digest_of, generator
from hwnas.core.own_file import own_line
from hwnas.nn.choices import Block, Cell, Choice, InputChoice, LayerChoice, Options, Repeat, freeze
from hwnas.nn.model_space import Conditions, ModelSpace, walk
from hwnas.nn.model_space import _all_of as all_of
from hwnas.space import Block as Entry
from hwnas.space import Space, Unit

MOST_ENTRIES = 20_000
"""Combinations of the decisions of one unit above which a space is refused."""

CHECKED = 100
"""Random networks whose blocks are compared with the tabulated ones."""


@dataclass(frozen=True)
class PricedSpace:
    """A space with units, and how to make their blocks.

    Attributes:
        space: The decisions of the model, and its units.
        makers: By an entry's key, what makes its plain module with fresh random weights.
    """

    space: Space
    makers: Mapping[str, Callable[[], nn.Module]]

    def build_block(self, block: Entry) -> nn.Module:
        """The plain module of an entry of the latency table, with fresh random weights.

        Raises:
            SpaceError: If no unit of the space has it.
        """
        if block.key not in self.makers:
            raise SpaceError(f"space {self.space.name} has no block {block.key!r}")
        return self.makers[block.key]()


@dataclass(frozen=True)
class _Site:
    """A unit before its blocks are known.

    Attributes:
        path: Of the module in the model.
        module: A choice, or a module with choices inside.
        conditions: All of these hold where it stands.
        labels: The decisions that its block may hang on.
        own: Those of them that no other part of the model reads, so that the unit's input cannot hang on them.
    """

    path: str
    module: nn.Module
    conditions: Conditions
    labels: tuple[str, ...]
    own: frozenset[str]

    def chosen(self, options: Options) -> nn.Module | None:
        """The plain module for some options; None where the place is empty or passes its input on."""
        if any(options[condition.label] not in condition.options for condition in self.conditions):
            return None
        if isinstance(self.module, LayerChoice):
            candidate = self.module.candidate(options[self.module.label])
            if holds_choice(candidate):  # which has units of its own
                return None
        plain = freeze(self.module, options)
        return None if isinstance(plain, nn.Identity) else plain


def with_units(model: ModelSpace) -> PricedSpace:
    """The space of a model with the units that its cost is the sum of.

    A branch whose result no `InputChoice` or `Cell` takes is priced, though an extracted network leaves it out: put it
    into a `LayerChoice` with `nn.Identity()` where that matters.

    Args:
        model: Left as it is.

    Raises:
        SpaceError: If parameters stand outside of any unit, a unit takes several inputs or hangs on too many decisions,
            or a network holds other blocks than its decisions say.

    Example:
        >>> class Net(ModelSpace):
        ...     def __init__(self):
        ...         super().__init__(resolutions=(8,), channels=1)
        ...         self.conv = LayerChoice([nn.Conv2d(1, 4, k, padding=k // 2) for k in (3, 5)], label="conv")
        ...         self.head = Block(nn.Linear(4, 2))
        ...
        ...     def forward(self, x):
        ...         return self.head(self.conv(x).mean((2, 3)))
        >>> for unit in with_units(Net()).space.units:
        ...     print(unit.name, unit.labels, [block.macs for block in unit.blocks])
        conv ('resolution', 'conv') [2304, 6400]
        head ('resolution',) [8]
    """
    shadow = copy.deepcopy(model).to("meta").eval()
    tracer = _Tracer(model, shadow)
    units, makers = [], dict[str, Callable[[], nn.Module]]()
    for site in tracer.sites.values():
        unit, made = _tabulated(site, model, tracer)
        units.append(unit)
        makers |= made
    space = Space(model.space_name, model.space.decisions, tuple(units))
    _check(space, tracer)
    return PricedSpace(space, makers)


# ------------------------------------------------------------------------------------------------------------- sites


def holds_choice(module: nn.Module) -> bool:
    """Whether a module is a choice, or has one inside.

    Example:
        >>> net = nn.Sequential(Repeat([nn.ReLU()], depths=(0, 1), label="depth"))
        >>> holds_choice(nn.Sequential(nn.ReLU())), holds_choice(net)
        (False, True)
    """
    return any(isinstance(part, Choice) and not isinstance(part, Block) for part in module.modules())


def _sites(model: ModelSpace) -> Iterator[_Site]:
    places = [decision.label for _, choice, _ in walk(model) for decision in choice.decisions]
    for path, module, conditions in _places(model, "", ()):
        inside = [decision.label for _, choice, _ in walk(module) for decision in choice.decisions]
        own = frozenset(label for label in inside if inside.count(label) == places.count(label))
        wanted = ["resolution", *(condition.label for condition in conditions), *inside]
        labels = dict.fromkeys(wanted)
        for label in wanted:  # and whatever can switch those off
            labels |= dict.fromkeys(_parents(model.space, label))
        yield _Site(path, module, conditions, tuple(labels), own)


def _parents(space: Space, label: str) -> Iterator[str]:
    for group in space[label].active_if:
        for condition in group:
            yield condition.label
            yield from _parents(space, condition.label)


def _places(module: nn.Module, path: str, conditions: Conditions) -> Iterator[tuple[str, nn.Module, Conditions]]:
    """Where units stand, from the outside in.

    Raises:
        SpaceError: If parameters stand outside of any unit.
    """
    here = path or type(module).__name__
    match module:
        case Block():
            yield here, module, conditions
        case LayerChoice():
            yield here, module, conditions
            for part in module.parts:
                if holds_choice(part.module):
                    yield from _places(part.module, f"{path}.{part.name}", all_of(conditions, part.conditions))
        case Repeat():
            for part in module.parts:
                where, when = f"{path}.{part.name}", all_of(conditions, part.conditions)
                divided = (Block, Repeat, Cell, InputChoice, LayerChoice)
                if any(isinstance(inner, divided) for inner in part.module.modules()):
                    yield from _places(part.module, where, when)
                else:
                    yield where, part.module, when
        case Cell():
            for part in module.parts:
                yield from _places(part.module, f"{path}.{part.name}", all_of(conditions, part.conditions))
        case InputChoice():
            return
        case Choice():
            yield here, module, conditions
        case _:
            own = [name for name, _ in module.named_parameters(recurse=False)]
            if own:
                raise SpaceError(
                    f"{here}: its parameters ({', '.join(own)}) belong to no unit, so nothing says what it costs",
                    hint=f"wrap it: self.{here} = nn.Block(...), with the layers that the runtime fuses with it",
                )
            for name, child in module.named_children():
                yield from _places(child, f"{path}.{name}" if path else name, conditions)


# ------------------------------------------------------------------------------------------------------------ tracing


class _Tracer:
    """Runs networks on the meta device and notes what shapes their units see."""

    def __init__(self, model: ModelSpace, shadow: ModelSpace) -> None:
        self.model, self.shadow = model, shadow
        self.sites = {site.path: site for site in _sites(model)}
        self._known: dict[Architecture, dict[str, tuple[int, ...]]] = {}
        modules = dict(shadow.named_modules())
        for path in self.sites:
            inner = modules[path]
            inner.register_forward_pre_hook(partial(self._note, path))
        self._seen: dict[str, tuple[int, ...]] = {}

    def _note(self, path: str, module: nn.Module, inputs: tuple[Any, ...]) -> None:  # noqa: ARG002 - torch's signature
        tensors = [value for value in inputs if isinstance(value, Tensor)]
        if len(tensors) != 1 or len(inputs) != 1:
            raise SpaceError(
                f"{path}: called with {len(inputs)} inputs; a unit is timed with one tensor",
                hint="wrap the part around it that takes one tensor in nn.Block(...)",
            )
        shape = tuple(tensors[0].shape[1:])
        if path in self._seen:
            raise SpaceError(
                f"{path}: called twice in one network, with {self._seen[path]} and {shape}; a unit has one place",
                hint="wrap both calls in one nn.Block(...), or give each place a module of its own",
            )
        self._seen[path] = shape

    def shapes(self, architecture: Architecture) -> dict[str, tuple[int, ...]]:
        """By unit, the shape of its input in one network; units that do not run are absent.

        Raises:
            SpaceError: If the forward pass fails; names the line where it is in a file of the user's own.
        """
        if architecture not in self._known:
            self._seen = {}
            side = int(architecture["resolution"])
            try:
                with torch.no_grad():
                    self.shadow(torch.zeros(1, self.model.channels, side, side, device="meta"), architecture)
            except SpaceError:
                raise
            except Exception as error:  # it is the user's code, which may raise anything
                raise SpaceError(
                    f"{type(self.model).__name__}: its forward pass fails on images of {side} x {side} as "
                    f"{architecture}: {type(error).__name__}: {error}{own_line(error)}",
                    hint="every network must run at every size: drop the smallest sizes, or the option that fails",
                ) from error
            self._known[architecture] = self._seen
        return self._known[architecture]

    def input_of(self, site: _Site, options: Options) -> tuple[int, ...] | None:
        """The shape that a unit sees where its labels take these options; None if it does not run there."""
        space = self.model.space
        full = {decision.label: decision.options[0] for decision in space.decisions}
        full |= {label: option for label, option in options.items() if label not in site.own}
        return self.shapes(space.canonical(full)).get(site.path)


def _tabulated(site: _Site, model: ModelSpace, tracer: _Tracer) -> tuple[Unit, dict[str, Callable[[], nn.Module]]]:
    space = model.space
    ranges = [space[label].options for label in site.labels]
    if prod(map(len, ranges)) > MOST_ENTRIES:
        raise SpaceError(
            f"{site.path}: hangs on {len(site.labels)} decisions with {prod(map(len, ranges))} combinations; at most "
            f"{MOST_ENTRIES} are tabulated: {', '.join(site.labels)}",
            hint="share one width per stage, or divide the part into several nn.Block(...)",
        )
    blocks: list[Entry | None] = []
    makers: dict[str, Callable[[], nn.Module]] = {}
    known: dict[tuple[Any, ...], Entry] = {}
    inside = {decision.label for _, choice, _ in walk(site.module) for decision in choice.decisions}
    for combination in itertools.product(*ranges):
        options: dict[str, Option] = dict(zip(site.labels, combination, strict=True))
        shape = tracer.input_of(site, options)
        plain = site.chosen(options) if shape is not None else None
        if shape is None or plain is None:
            blocks.append(None)
            continue
        key = (shape, *((label, options[label]) for label in site.labels if label in inside))
        if key not in known:
            known[key] = describe(plain, shape)
            makers[known[key].key] = partial(_made, site, options)
        blocks.append(known[key])
    return Unit(site.path, site.labels, tuple(blocks)), makers


def _made(site: _Site, options: Options) -> nn.Module:
    module = site.chosen(options)
    if module is None:
        raise SpaceError(f"{site.path}: holds no block for {dict(options)}")
    redraw(module)
    return module


def redraw(module: nn.Module) -> None:
    """Give all layers that know how new random weights."""
    for part in module.modules():
        reset = getattr(part, "reset_parameters", None)
        if callable(reset):
            reset()


def _check(space: Space, tracer: _Tracer) -> None:
    """Compare random networks with the tables.

    Raises:
        SpaceError: If a network holds another block at some unit than the table says.
    """
    rng = generator(0, "units", space.digest)
    for architecture in dict.fromkeys(space.sample(min(CHECKED, space.size), rng)):
        shapes = tracer.shapes(architecture)
        codes = space.encode([architecture])[0].clip(min=0)
        for unit in space.units:
            entry = 0
            for label in unit.labels:
                entry = entry * len(space[label].options) + int(codes[space.index(label)])
            block = unit.blocks[entry]
            seen = shapes.get(unit.name)
            if block is not None and seen != block.input_shape:
                raise SpaceError(
                    f"{unit.name}: sees {seen or 'no input'} in {architecture}, {block.input_shape} in other networks "
                    f"that agree in {', '.join(unit.labels)}; so its cost hangs on decisions elsewhere",
                    hint="pass the deciding ValueChoice to the layer, give all candidates before it one shape, or wrap "
                    "the part that varies together in nn.Block(...)",
                )


# ---------------------------------------------------------------------------------------------------------- describing

_PRODUCTS: Mapping[Any, Callable[..., int]] = {
    # Of nn.Bilinear: [n, i] with a weight [o, i, j], and what comes of it with [n, j].
    torch.ops.aten._trilinear: lambda first, weight, *_, **__: 2 * first[0] * (prod(weight) + weight[0] * weight[2]),
    torch.ops.aten.addbmm: lambda _, first, second, **__: 2 * prod(first) * second[-1],
    torch.ops.aten.addmv: lambda _, matrix, *__, **___: 2 * prod(matrix),
    torch.ops.aten.dot: lambda vector, *_, **__: 2 * prod(vector),
    torch.ops.aten.mv: lambda matrix, *_, **__: 2 * prod(matrix),
    torch.ops.aten.vdot: lambda vector, *_, **__: 2 * prod(vector),
}
"""Operators that torch's counter passes over: from the shapes of what they multiply, two for each multiply-add."""


def describe(module: nn.Module, input_shape: Sequence[int]) -> Entry:
    """The entry of a plain module on images of some shape.

    Its key tells it from every module that differs in class, in any plain attribute, or in shapes.

    Raises:
        SpaceError: If the module cannot run on such images.

    Example:
        >>> entry = describe(nn.Conv2d(3, 8, 3, padding=1), (3, 8, 8))
        >>> entry.macs, entry.parameters, entry.output_shape
        (13824, 224, (8, 8, 8))
    """
    shape = tuple(input_shape)
    shadow = copy.deepcopy(module).to("meta").eval()
    counter = FlopCounterMode(display=False, custom_mapping=dict(_PRODUCTS))
    try:
        with torch.no_grad(), warnings.catch_warnings(), counter:
            # The layer is the user's, and no number is computed: what it warns of here says nothing of its use.
            warnings.simplefilter("ignore")
            out = shadow(torch.zeros(1, *shape, device="meta"))
    except (RuntimeError, TypeError, ValueError, NotImplementedError) as error:
        raise SpaceError(f"{type(module).__name__} cannot run on one image of shape {shape}: {error}") from error
    if not isinstance(out, Tensor):
        raise SpaceError(f"{type(module).__name__} gives a {type(out).__name__}; a unit gives one tensor")
    leaves = [type(part).__name__ for part in module.modules() if not list(part.children())]

    return Entry(
        "module",
        (
            ("layers", "-".join(leaves[:6]) + (f"+{len(leaves) - 6}" if len(leaves) > 6 else "")),
            ("id", _identity(module)),
        ),
        shape,
        tuple(out.shape[1:]),
        macs=counter.get_total_flops() // 2,
        parameters=sum(parameter.numel() for parameter in module.parameters()),
    )


def _identity(module: nn.Module) -> str:
    return digest_of(_described(module))[:10]


def _described(module: nn.Module) -> list[Any]:
    """Class, plain attributes, shapes and children of a module, as JSON."""
    plain = {
        name: _plain(value)
        for name, value in sorted(vars(module).items())
        if not name.startswith("_") and name not in ("training", "architecture", "space_name")
    }
    tensors = [[name, list(value.shape)] for name, value in sorted(module.state_dict().items())]
    children = [[name, _described(child)] for name, child in module.named_children()]
    return [f"{type(module).__module__}.{type(module).__qualname__}", plain, tensors, children]


def _plain(value: object) -> Any:
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return repr(value)
        case list() | tuple():
            return [_plain(part) for part in cast(Sequence[object], value)]
        case dict():
            return [[str(name), _plain(part)] for name, part in value.items()]
        case partial():
            return [_plain(value.func), _plain(value.args), _plain(value.keywords)]
        case _:
            return getattr(value, "__qualname__", type(value).__qualname__)
