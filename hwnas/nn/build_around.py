"""Plain modules made around weights that exist already, as when a network is cut from a supernet.

Making a module draws random numbers for every weight, which takes longer than the cut itself. Here its structure is
made once per entry, without memory for weights, and copied.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import torch
from torch import Tensor, nn

from hwnas.core import SpaceError
from hwnas.nn.blocks import build_block
from hwnas.space import Block


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
    return _template(block).filled(tensors, block.key, mode=mode)


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
        self.parameters = {n: None if p is None else (path + n, p.shape) for n, p in module._parameters.items()}
        self.buffers = {n: None if b is None else (path + n, b.shape) for n, b in module._buffers.items()}
        self.children = {
            n: None if child is None else _Part(child, f"{path}{n}.") for n, child in module._modules.items()
        }

    def filled(self, tensors: Mapping[str, Tensor], key: str, *, mode: bool) -> nn.Module:
        made = object.__new__(self.kind)
        held = made.__dict__
        held.update(self.fixed)
        for name, container in self.empty:
            held[name] = container()
        for name, content in self.copied:
            held[name] = content.copy()
        held["training"] = mode
        for name, asked in self.parameters.items():
            held["_parameters"][name] = None if asked is None else nn.Parameter(_fitting(tensors, *asked, key))
        for name, asked in self.buffers.items():
            if name == "num_batches_tracked":
                held["_buffers"][name] = torch.zeros((), dtype=torch.long)
            else:
                held["_buffers"][name] = None if asked is None else _fitting(tensors, *asked, key)
        for name, child in self.children.items():
            held["_modules"][name] = None if child is None else child.filled(tensors, key, mode=mode)
        return made


def _fitting(tensors: Mapping[str, Tensor], name: str, shape: torch.Size, key: str) -> Tensor:
    found = tensors.get(name)
    if found is None or found.shape != shape:
        state = "missing" if found is None else f"{tuple(found.shape)}"
        raise SpaceError(f"{key}: tensor {name} is {state}; expected {tuple(shape)}")
    return found.detach() if found.requires_grad else found
