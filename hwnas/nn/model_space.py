"""An ordinary torch module with choices in it, as a space and as its supernet."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from hwnas.core import Architecture, SpaceError
from hwnas.nn.answering import answering
from hwnas.nn.choices import Cell, Choice, InputChoice, freeze
from hwnas.nn.gates import Gates
from hwnas.space import Condition, Decision, Space
from hwnas.space.image_sides import check_largest_side

Conditions = tuple[Condition, ...]


class ModelSpace(nn.Module):
    """A network with choices in it: write `__init__` and `forward(x)` as for any module.

    It is a supernet: `net(x, architecture)` or `net(x, gates)` runs what they say, and `net.extract(architecture)` is
    the plain network, an instance of the same class in which every choice has given way to what it chose, called as
    `plain(x)`. The side of the images is a decision, too: "resolution".

    Args:
        resolutions: Sides of the square images that the network may be given, ascending.
        channels: Of the images.
        name: Of the space; the class's unless given.

    Raises:
        SpaceError: If the resolutions cannot be a decision's, or one is above 4096 pixels.

    Example:
        >>> from hwnas.nn import LayerChoice
        >>> class Net(ModelSpace):
        ...     def __init__(self):
        ...         super().__init__(resolutions=(8,), channels=1)
        ...         self.conv = LayerChoice({f"k{k}": nn.Conv2d(1, 4, k, padding=k // 2) for k in (3, 5)}, label="conv")
        ...         self.head = nn.Linear(4, 2)
        ...
        ...     def forward(self, x):
        ...         return self.head(self.conv(x).relu().mean((2, 3)))
        >>> net, images = Net(), torch.zeros(1, 1, 8, 8)
        >>> a = Architecture({"conv": "k5", "resolution": 8})
        >>> net.space.size, torch.equal(net(images, a), net.extract(a)(images))
        (2, True)
    """

    def __init__(self, *, resolutions: Sequence[int] = (32,), channels: int = 3, name: str | None = None) -> None:
        super().__init__()
        sides = tuple(resolutions)
        if not sides or list(sides) != sorted(set(sides)) or sides[0] < 1:
            raise SpaceError(f"resolutions is {list(sides)}; expected ascending numbers above 0, each once")
        check_largest_side(sides)
        self.resolutions = sides
        self.channels = channels
        self.space_name = name or type(self).__name__
        self.architecture: Architecture | None = None
        self._space: Space | None = None

    @property
    def space(self) -> Space:
        """The decisions, in the order in which the modules stand; it has no units, see `with_units`.

        Raises:
            SpaceError: If two choices of one label have different options.
        """
        if self._space is None:
            self._space = Space(self.space_name, declared(self))
        return self._space

    def default(self) -> Architecture:
        """The network one would take without a search: the first option of every decision, unless you override it.

        Raises:
            SpaceError: As for `space`.
        """
        return self.space.canonical({decision.label: decision.options[0] for decision in self.space.decisions})

    def __call__(self, x: Tensor, gates: Gates | None = None) -> Any:
        """What `forward` makes of images [n, channels, side, side].

        Args:
            x: The images.
            gates: An architecture, or a gate per decision; not for a network that was extracted.

        Raises:
            SpaceError: If the gates are missing, do not say a decision that runs, or mean another size of images.
        """
        if self.architecture is not None:
            if gates is not None and gates != self.architecture:
                raise SpaceError(f"{self.space_name}: extracted as {self.architecture}; it cannot run as {gates}")
            return super().__call__(x)
        if gates is None:
            raise SpaceError(
                f"{self.space_name}: called without gates, so nothing says what its choices take",
                hint="call net(x, architecture), or net(x, gates); or take net.extract(architecture)",
            )
        self._check_size(x, gates)
        with answering(gates):
            return super().__call__(x)

    def _check_size(self, x: Tensor, gates: Gates) -> None:
        answer = gates.get("resolution")
        if isinstance(answer, int):
            side = answer
        elif answer is None or isinstance(answer, str | float) or len(answer.support) > 1:
            raise SpaceError(
                f"{self.space_name}: the gates say {answer!r} of 'resolution'; a batch has one size, so exactly one of "
                f"{list(self.resolutions)} is expected"
            )
        else:
            side = self.resolutions[answer.support[0]]
        if tuple(x.shape[-2:]) != (side, side):
            raise SpaceError(f"images of {tuple(x.shape[-2:])} for a network of resolution {side}; resize them first")

    def extract(self, architecture: Architecture) -> ModelSpace:
        """The plain network of one architecture, with its own cut of the weights, no choice and no unused parameter.

        Raises:
            SpaceError: If the architecture is not one of the space.
        """
        self.space.encode([architecture])  # which names the fault
        shared = {id(self._space): self._space}  # a value, which a copy would only cost time
        plain = cast(ModelSpace, freeze(self, architecture, shared))
        plain.architecture = architecture
        for module in plain.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d) and module.running_mean is not None:
                module.track_running_stats = True  # which rules that mix networks switch off
        if any(isinstance(choice, InputChoice | Cell) for choice in _choices(self)):
            _drop_unused(plain, (self.channels, int(architecture["resolution"]), int(architecture["resolution"])))
        return plain


def declared(module: nn.Module) -> tuple[Decision, ...]:
    """The decisions of a model space, the resolution first; one label is one decision, active if any of its places is.

    Raises:
        SpaceError: If two choices of one label have different options.
    """
    found: dict[str, Decision] = {}
    places: dict[str, list[Conditions]] = {}
    if isinstance(module, ModelSpace):
        found["resolution"] = Decision("resolution", module.resolutions)
        places["resolution"] = [()]
    for path, choice, conditions in walk(module):
        for decision in choice.decisions:
            known = found.setdefault(decision.label, decision)
            if known.options != decision.options:
                raise SpaceError(
                    f"{path}: decision {decision.label!r} has the options {list(decision.options)} here and "
                    f"{list(known.options)} elsewhere; one label is one decision",
                    hint="give both the same options, or two labels",
                )
            if known.prior is None and decision.prior is not None:
                found[decision.label] = decision
            places.setdefault(decision.label, []).append(conditions)
    return tuple(
        Decision(label, decision.options, _any_of(places[label]), decision.prior) for label, decision in found.items()
    )


def _any_of(places: Sequence[Conditions]) -> tuple[Conditions, ...]:
    """When a decision counts that stands in several places: always, if one of them has no condition."""
    if any(not conditions for conditions in places):
        return ()
    return tuple(dict.fromkeys(places))


def walk(module: nn.Module, path: str = "", conditions: Conditions = ()) -> Iterator[tuple[str, Choice, Conditions]]:
    """Every choice below a module, outer ones first: where it stands, and what must hold for it to count."""
    if isinstance(module, Choice):
        yield path or type(module).__name__, module, conditions
        for part in module.parts:
            yield from walk(part.module, _joined(path, part.name), _all_of(conditions, part.conditions))
        return
    for name, child in module.named_children():
        yield from walk(child, _joined(path, name), conditions)


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _all_of(outer: Conditions, inner: Conditions) -> Conditions:
    """Conditions of both, those on one label narrowed to what both allow."""
    merged = {condition.label: condition for condition in outer}
    for condition in inner:
        known = merged.get(condition.label)
        options = tuple(o for o in known.options if o in condition.options) if known else condition.options
        merged[condition.label] = Condition(condition.label, options)
    return tuple(merged.values())


def _choices(module: nn.Module) -> Iterator[Choice]:
    return (choice for _, choice, _ in walk(module))


class Unused(nn.Module):
    """Stands where a branch was whose result nothing reads: zeros of the shape that it had.

    Args:
        shape: Of the result for one image.

    Example:
        >>> Unused((2,))(torch.tensor([[1.0, 2.0, 3.0]]))
        tensor([[0., 0.]])
    """

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.shape = tuple(shape)

    def forward(self, *inputs: Any) -> Tensor:
        """Whatever the branch was called with -> zeros [n, *shape]."""
        first = inputs[0] if isinstance(inputs[0], Tensor) else inputs[0][0]
        return cast(Tensor, first.new_zeros(first.shape[0], *self.shape))


def _drop_unused(network: nn.Module, image: tuple[int, ...]) -> None:
    """Replace modules of which no parameter can change the output.

    A shadow of the network without numbers (torch's meta device) is run forward and backward: what gets no gradient
    there is not connected to the output.
    """
    shadow = copy.deepcopy(network).to("meta").train()
    shapes: dict[str, tuple[int, ...]] = {}
    for name, module in shadow.named_modules():
        module.register_forward_hook(partial(_note, shapes, name))
    for parameter in shadow.parameters():
        parameter.requires_grad_(True)  # noqa: FBT003 - torch's signature
    shadow(torch.zeros(2, *image, device="meta")).sum().backward()
    unused = {name for name, parameter in shadow.named_parameters() if parameter.grad is None}
    if unused:
        _drop(network, "", unused, shapes)


def _note(shapes: dict[str, tuple[int, ...]], name: str, module: nn.Module, inputs: Any, out: Any) -> None:  # noqa: ARG001
    if isinstance(out, Tensor):
        shapes[name] = tuple(out.shape[1:])


def _drop(module: nn.Module, path: str, unused: set[str], shapes: Mapping[str, tuple[int, ...]]) -> None:
    for name, child in list(module.named_children()):
        where = _joined(path, name)
        parameters = [f"{where}.{inner}" for inner, _ in child.named_parameters()]
        if parameters and where in shapes and all(parameter in unused for parameter in parameters):
            setattr(module, name, Unused(shapes[where]))
        else:
            _drop(child, where, unused, shapes)
