"""Plain modules made around weights that exist already, as when a network is cut from a supernet.

Making a module draws random numbers for every weight, which takes longer than the cut itself. Here its structure is
made once per entry, without memory for weights, and copied.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType

import torch
from torch import Tensor, nn

from hwnas.core import SpaceError
from hwnas.nn.blocks import build_block
from hwnas.space import Block

_NOTHING: Mapping[str, Tensor] = MappingProxyType({})


def build_around(block: Block, tensors: Mapping[str, Tensor], *, mode: bool = True) -> nn.Module:
    """The plain module of an entry, with given weights.

    Args:
        block: What it is.
        tensors: By the names of the module's state; those of parameters become trainable. They are not copied.
            Counters of batches start at 0.
        mode: Whether it is made for training, as in `nn.Module.train`.

    Raises:
        SpaceError: If a tensor is missing or has the wrong shape; names it.

    Example:
        >>> from hwnas.nn.blocks import describe_head
        >>> block = describe_head(2, 3, 4, 1, activation_name="relu")
        >>> head = build_around(block, build_block(block).state_dict())
        >>> head.classifier.weight.shape
        torch.Size([4, 3])
    """
    return _template(block).around(tensors, block.key, mode=mode)


def cut_like(
    block: Block, source: nn.Module, *, changed: Mapping[str, Tensor] = _NOTHING, mode: bool | None = None
) -> nn.Module:
    """The plain module of an entry, with its own copy of the first channels of every tensor of a wider module.

    Tensors are looked up in the source's own parts, one after the other: a table of names took as long as the copies.

    Args:
        block: What it is.
        source: A module whose parts and tensors have the same names and are at least as large.
        changed: By the names of the new module's state, tensors that it takes as they are instead.
        mode: Whether it is made for training, as in `nn.Module.train`; as the source is, if not given.

    Raises:
        SpaceError: If a tensor is missing or too small; names it.

    Example:
        >>> from hwnas.nn.blocks import describe_head
        >>> wide, narrow = (describe_head(c_in, 3, 4, 1, activation_name="relu") for c_in in (8, 2))
        >>> source = build_block(wide)
        >>> torch.equal(cut_like(narrow, source).conv.weight, source.conv.weight[:, :2])
        True
    """
    with torch.no_grad():
        return _template(block).cut(source, changed, block.key, mode=source.training if mode is None else mode)


@lru_cache(maxsize=4096)
def _template(block: Block) -> _Part:
    with torch.device("meta"):
        return _Part(build_block(block), "")


class _Part:
    """What a module and its children are made of, read off once."""

    def __init__(self, module: nn.Module, path: str) -> None:
        self.kind = type(module)
        held = module.__dict__
        # Parameters, buffers, children and hooks are dicts and sets: nothing that can change is shared.
        self.fixed = {name: value for name, value in held.items() if not isinstance(value, dict | set)}
        filled = ("_parameters", "_buffers", "_modules")
        containers = {name: value for name, value in held.items() if isinstance(value, dict | set)}
        self.empty = [(name, type(value)) for name, value in containers.items() if not value or name in filled]
        self.copied = [(name, value) for name, value in containers.items() if value and name not in filled]
        self.parameters = [(n, path + n, None if p is None else p.shape) for n, p in module._parameters.items()]
        self.buffers = [(n, path + n, None if b is None else b.shape) for n, b in module._buffers.items()]
        self.zero = torch.zeros((), dtype=torch.long, device="cpu")
        self.children = [
            (n, path + n, None if child is None else _Part(child, f"{path}{n}."))
            for n, child in module._modules.items()
        ]

    def around(self, tensors: Mapping[str, Tensor], key: str, *, mode: bool) -> nn.Module:
        """The module, with tensors by their names from the outermost one."""
        made, parameters, buffers, modules = self._hollow(mode=mode)
        for name, path, shape in self.parameters:
            parameters[name] = None if shape is None else nn.Parameter(_fitting(tensors, path, shape, key))
        for name, path, shape in self.buffers:
            if shape is None:
                buffers[name] = None
            else:
                buffers[name] = self.zero.clone() if name == _COUNTER else _fitting(tensors, path, shape, key)
        for name, _, part in self.children:
            modules[name] = None if part is None else part.around(tensors, key, mode=mode)
        return made

    def cut(self, source: nn.Module, changed: Mapping[str, Tensor], key: str, *, mode: bool) -> nn.Module:
        """The module, with copies of the first channels of what the source has in the same places.

        Raises:
            SpaceError: If the source lacks one, or its own is too small.
        """
        made, parameters, buffers, modules = self._hollow(mode=mode)
        mine = source._parameters
        for name, path, shape in self.parameters:
            if shape is None:
                parameters[name] = None
            elif path in changed:
                parameters[name] = nn.Parameter(_fitting(changed, path, shape, key))
            else:
                parameters[name] = nn.Parameter(_first_channels(mine.get(name), shape, path, key))
        running = source._buffers
        for name, path, shape in self.buffers:
            if shape is None:
                buffers[name] = None
            else:
                buffers[name] = (
                    self.zero.clone() if name == _COUNTER else _first_channels(running.get(name), shape, path, key)
                )
        wider = source._modules
        for name, path, part in self.children:
            if part is None:
                modules[name] = None
                continue
            inside = wider.get(name)
            if inside is None:
                raise SpaceError(f"{key}: part {path} is missing in {type(source).__name__}; it was made without")
            modules[name] = part.cut(inside, changed, key, mode=mode)
        return made

    def _hollow(self, *, mode: bool) -> tuple[nn.Module, dict[str, object], dict[str, object], dict[str, object]]:
        """The module without tensors and children, and the dicts that hold them."""
        made = object.__new__(self.kind)
        held = made.__dict__
        held.update(self.fixed)
        for name, container in self.empty:
            held[name] = container()
        for name, content in self.copied:
            held[name] = content.copy()
        held["training"] = mode
        return made, held["_parameters"], held["_buffers"], held["_modules"]


_COUNTER = "num_batches_tracked"


def _fitting(tensors: Mapping[str, Tensor], name: str, shape: torch.Size, key: str) -> Tensor:
    found = tensors.get(name)
    if found is None or found.shape != shape:
        state = "missing" if found is None else f"{tuple(found.shape)}"
        raise SpaceError(f"{key}: tensor {name} is {state}; expected {tuple(shape)}")
    return found.detach() if found.requires_grad else found


def _first_channels(found: Tensor | None, shape: torch.Size, name: str, key: str) -> Tensor:
    """A copy of the first channels out and in, in the memory format of the source.

    Raises:
        SpaceError: If there is no tensor, it is too small, or its kernel is of another size.
    """
    if found is None:
        raise SpaceError(f"{key}: tensor {name} is missing; expected at least {tuple(shape)}")
    has = found.shape
    if has == shape:
        return found.clone()
    if len(has) != len(shape) or has[0] < shape[0] or has[1:2] < shape[1:2] or has[2:] != shape[2:]:
        raise SpaceError(f"{key}: tensor {name} is {tuple(has)}; expected at least {tuple(shape)}")
    if len(shape) == 1:
        return found.narrow_copy(0, 0, shape[0])  # one call where a view and its copy are two; most tensors are norms'
    return found.as_strided(shape, found.stride()).clone()
