"""Blocks cut smaller: into single operators, and into what a runtime fuses. What cheaper latency tables are made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hwnas.nn.blocks import activation
from hwnas.space import Block


@dataclass(frozen=True)
class Piece:
    """Something that is timed alone.

    Attributes:
        key: All that changes its time.
        input_shape: (channels, height, width) of one image.
        build: Makes the module.
    """

    key: str
    input_shape: tuple[int, ...]
    build: Callable[[], nn.Module]


class Activation(nn.Module):
    """Rectifier, hard swish or hard sigmoid, alone."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.apply_ = nn.Hardsigmoid() if name == "hsigmoid" else activation(name)

    def forward(self, x: Tensor) -> Tensor:
        return self.apply_(x)


class Scale(nn.Module):
    """Each channel times a number."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.by = nn.Parameter(torch.ones(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.by


class Add(nn.Module):
    """An image more; after a convolution or alone."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.other = nn.Parameter(torch.ones(shape))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.other


class Classifier(nn.Module):
    """Features [n, c, 1, 1] to logits."""

    def __init__(self, c_in: int, classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(c_in, classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.linear(x.flatten(1))
        return logits


def operators(block: Block) -> list[Piece]:
    """Every operator of a block on its own; norms are part of convolutions, as exporters fold them."""
    return _pieces(block, fused=False)


def kernels(block: Block) -> list[Piece]:
    """What a runtime runs as one: a convolution with its activation, or with the image that is added to it."""
    return _pieces(block, fused=True)


def _pieces(block: Block, *, fused: bool) -> list[Piece]:
    c_in, side, _ = block.input_shape
    match block.kind:
        case "stem":
            c_out, stride = block.output_shape[0], int(block.setting("stride"))
            return _conv(c_in, c_out, side, int(block.setting("kernel")), stride, _act(block), fused=fused)
        case "head":
            width = int(block.setting("width"))
            return [
                *_conv(c_in, width, side, 1, 1, _act(block), fused=fused),
                _pool(width, side),
                Piece(
                    f"linear {width} {block.output_shape[0]}",
                    (width, 1, 1),
                    lambda: Classifier(width, block.output_shape[0]),
                ),
            ]
        case "separable":
            kernel, stride = int(block.setting("kernel")), int(block.setting("stride"))
            depthwise = _conv(c_in, c_in, side, kernel, stride, _act(block), groups=c_in, fused=fused)
            return depthwise + _projection(c_in, block, fused=fused)
        case "mbconv":
            return _mbconv(block, fused=fused)
    raise ValueError(f"pieces of block kind {block.kind!r} are unknown")


def _mbconv(block: Block, *, fused: bool) -> list[Piece]:
    c_in, side, _ = block.input_shape
    out = block.output_shape[1]
    hidden, k, stride, squeeze = (int(block.setting(name)) for name in ("hidden", "kernel", "stride", "squeeze"))
    pieces = _conv(c_in, hidden, side, 1, 1, _act(block), fused=fused)
    pieces += _conv(hidden, hidden, side, k, stride, _act(block), groups=hidden, fused=fused)
    if squeeze:
        pieces.append(_pool(hidden, out))
        pieces += _conv(hidden, squeeze, 1, 1, 1, "relu", fused=fused)
        pieces += _conv(squeeze, hidden, 1, 1, 1, "hsigmoid", fused=fused)
        pieces.append(Piece(f"scale {hidden} {out}", (hidden, out, out), lambda: Scale(hidden)))
    return pieces + _projection(hidden, block, fused=fused)


def _projection(c_in: int, block: Block, *, fused: bool) -> list[Piece]:
    """The last convolution of a block, and the image that is added."""
    c_out, out, _ = shape = block.output_shape
    if block.residual and fused:
        key = f"conv+add {c_in} {c_out} {out}"
        return [Piece(key, (c_in, out, out), lambda: nn.Sequential(nn.Conv2d(c_in, c_out, 1), Add(shape)))]
    pieces = _conv(c_in, c_out, out, 1, 1, "", fused=fused)
    if block.residual:
        pieces.append(Piece(f"add {c_out} {out}", shape, lambda: Add(shape)))
    return pieces


def _conv(
    c_in: int, c_out: int, side: int, kernel: int, stride: int, act: str, *, fused: bool, groups: int = 1
) -> list[Piece]:
    out = -(-side // stride)
    plain = f"conv {c_in} {c_out} {side} k{kernel} s{stride} g{groups}"

    def conv() -> nn.Module:
        return nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups)

    if act and fused:
        return [Piece(f"{plain} {act}", (c_in, side, side), lambda: nn.Sequential(conv(), Activation(act)))]
    pieces = [Piece(plain, (c_in, side, side), conv)]
    if act:
        pieces.append(Piece(f"{act} {c_out} {out}", (c_out, out, out), lambda: Activation(act)))
    return pieces


def _pool(channels: int, side: int) -> Piece:
    return Piece(f"pool {channels} {side}", (channels, side, side), lambda: nn.AdaptiveAvgPool2d(1))


def _act(block: Block) -> str:
    return str(block.setting("activation"))
