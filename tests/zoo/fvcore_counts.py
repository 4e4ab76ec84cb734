"""A third-party count of what a network does: fvcore traces it and adds up its operators.

Source: github.com/facebookresearch/fvcore, `fvcore.nn.FlopCountAnalysis`, which counts a multiply-add as one.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

with warnings.catch_warnings():
    # fvcore compiles its losses by torch.jit.script when it is imported, which torch deprecates; no test calls them.
    warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", FutureWarning)
    from fvcore.nn import FlopCountAnalysis
    from fvcore.nn.jit_handles import (
        addmm_flop_jit,
        bmm_flop_jit,
        conv_flop_jit,
        einsum_flop_jit,
        get_shape,
        linear_flop_jit,
        matmul_flop_jit,
    )

Handle = Callable[[Sequence[Any], Sequence[Any]], Any]


class Call(NamedTuple):
    """One operator that multiplies and adds.

    Attributes:
        macs: Multiply-adds.
        weights: Numbers of its filters; 0 where it multiplies features with features.
        groups: Of a convolution; 1 of everything else.
    """

    macs: int
    weights: int
    groups: int


@dataclass(frozen=True)
class Traced:
    """What fvcore sees in one network.

    Attributes:
        calls: What multiplies and adds, in the order of the calls.
        others: By operator without its namespace, what fvcore counts for it; 0 where it has no formula.
        means: Of each `adaptive_avg_pool2d`, the numbers that it reads.
    """

    calls: tuple[Call, ...]
    others: Mapping[str, int]
    means: tuple[int, ...]

    @property
    def macs(self) -> int:
        """Of the whole network."""
        return sum(call.macs for call in self.calls)


def traced(network: nn.Module, shape: Sequence[int]) -> Traced:
    """The operators of a network on one image [c, h, w]. Its weights become zeros, so it may be on the meta device."""
    network.to_empty(device="cpu").eval()
    for tensor in (*network.parameters(), *network.buffers()):
        tensor.detach().zero_()
    analysis = FlopCountAnalysis(network, torch.zeros(1, *shape))
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    calls: list[Call] = []
    means: list[int] = []

    def noting(handle: Handle, *, weighs: bool) -> Handle:
        def count(inputs: Sequence[Any], outputs: Sequence[Any]) -> dict[str, int]:
            found = handle(inputs, outputs)
            macs = int(sum(found.values()) if isinstance(found, dict) else found)
            groups = inputs[8].toIValue() if handle is conv_flop_jit else 1
            calls.append(Call(macs, prod(get_shape(inputs[1])) if weighs else 0, groups))
            return {}

        return count

    def mean(inputs: Sequence[Any], outputs: Sequence[Any]) -> int:
        means.append(prod(get_shape(inputs[0])))
        return means[-1]

    multiply_adds = {
        "aten::_convolution": noting(conv_flop_jit, weighs=True),
        "aten::addmm": noting(addmm_flop_jit, weighs=True),
        "aten::bmm": noting(bmm_flop_jit, weighs=False),
        "aten::einsum": noting(einsum_flop_jit, weighs=False),
        "aten::linear": noting(linear_flop_jit, weighs=True),
        "aten::matmul": noting(matmul_flop_jit, weighs=False),
        "aten::mm": noting(matmul_flop_jit, weighs=False),
        "aten::scaled_dot_product_attention": noting(_attention, weighs=False),
    }
    analysis.set_op_handle(**multiply_adds, **{"aten::adaptive_avg_pool2d": mean})
    others = {name: int(n) for name, n in analysis.by_operator().items()}
    others |= {name.removeprefix("aten::"): 0 for name in analysis.unsupported_ops()}
    return Traced(tuple(calls), others, tuple(means))


def unread(network: nn.Module, shape: Sequence[int]) -> int:
    """Multiply-adds of convolutions that no logit depends on: their filters get no gradient. On the meta device."""
    macs: dict[Tensor, int] = {}

    def note(layer: nn.Module, inputs: Any, output: Tensor) -> None:
        if isinstance(layer, nn.Conv2d):
            macs[layer.weight] = output[0].numel() * prod(layer.weight.shape[1:])

    hooks = [layer.register_forward_hook(note) for layer in network.modules()]
    network.eval()(torch.empty(1, *shape, device="meta")).sum().backward()
    for hook in hooks:
        hook.remove()
    return sum(n for weight, n in macs.items() if weight.grad is None)


def _attention(inputs: Sequence[Any], outputs: Sequence[Any]) -> int:
    """Queries with keys, and what comes of them with values: fvcore knows both products, not the operator of both."""
    query, key, value = (get_shape(given) for given in inputs[:3])
    return int(prod(query[:-1]) * key[-2] * (query[-1] + value[-1]))
