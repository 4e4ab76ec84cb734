"""The smallest space that can be profiled and calibrated: a chain of one to three convolutions, 39 networks."""

from __future__ import annotations

import itertools

from torch import nn

from hwnas.core import Architecture
from hwnas.space import Block, Condition, Decision, Space, Unit

SIDE = 12
CHANNELS = 8
KERNELS = (1, 3, 5)


def convolution(kernel: int) -> Block:
    shape = (CHANNELS, SIDE, SIDE)
    weights = CHANNELS * CHANNELS * kernel * kernel
    return Block("conv", (("kernel", kernel),), shape, shape, weights * SIDE * SIDE, weights + CHANNELS)


STEM = Block("stem", (), (1, SIDE, SIDE), (CHANNELS, SIDE, SIDE), 9 * CHANNELS * SIDE * SIDE, 10 * CHANNELS)
HEAD = Block("head", (), (CHANNELS, SIDE, SIDE), (3,), 3 * CHANNELS, 3 * CHANNELS + 3)


def chain(name: str = "chain") -> Space:
    decisions = [Decision("depth", (1, 2, 3))]
    units = [Unit("stem", (), (STEM,))]
    for n in (1, 2, 3):
        deep = tuple(depth for depth in (1, 2, 3) if depth >= n)
        active_if = ((Condition("depth", deep),),) if n > 1 else ()
        decisions.append(Decision(f"kernel{n}", KERNELS, active_if))
        blocks = [convolution(k) if depth >= n else None for depth, k in itertools.product((1, 2, 3), KERNELS)]
        units.append(Unit(f"layer{n}", ("depth", f"kernel{n}"), tuple(blocks)))
    return Space(name, tuple(decisions), (*units, Unit("head", (), (HEAD,))))


def build(block: Block) -> nn.Module:
    match block.kind:
        case "stem":
            return nn.Sequential(nn.Conv2d(1, CHANNELS, 3, padding=1), nn.ReLU())
        case "conv":
            kernel = int(block.setting("kernel"))
            return nn.Sequential(nn.Conv2d(CHANNELS, CHANNELS, kernel, padding=kernel // 2), nn.ReLU())
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(CHANNELS, 3))


def build_network(architecture: Architecture) -> nn.Module:
    return nn.Sequential(*(build(block) for block in chain().blocks_of(architecture)))
