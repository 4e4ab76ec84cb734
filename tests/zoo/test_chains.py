"""What holds for every published chain: elastic ones, and those of candidates."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from hwnas.core import Architecture
from hwnas.cost import UnitSumCost, blocks_of
from hwnas.cost.roofline import kernels_of
from hwnas.nn import ArchitectureParameters, BinaryGate, Concrete, GateMaker, Softmax, STConcrete, TwoPath
from hwnas.space import Space
from hwnas.zoo import FAMILIES, family
from tests.zoo.counting import check_counts

NAMES = (
    "attentive_nas",
    "attentive_nas_32px",
    "fbnet",
    "fbnet_small",
    "fpnas",
    "fpnas_small",
    "ofa_mobilenet_v3",
    "ofa_mobilenet_v3_32px",
    "ofa_proxyless",
    "ofa_resnet50_d",
    "proxyless",
    "proxyless_small",
    "shufflenet_spos",
    "shufflenet_spos_small",
)


@cache
def some(name: str) -> tuple[Space, list[Architecture]]:
    space = FAMILIES[name].space
    return space, [FAMILIES[name].default(), *space.sample(3, np.random.default_rng(0))]


@pytest.mark.parametrize("name", NAMES)
def test_networks_have_the_counts_of_their_modules(name: str) -> None:
    space, architectures = some(name)
    for a in architectures[:2]:
        check_counts(space.blocks_of(a))


@pytest.mark.parametrize("name", NAMES)
def test_costs_of_the_space_are_sums_over_blocks(name: str) -> None:
    space, architectures = some(name)
    for count in ("macs", "parameters"):
        cost = UnitSumCost.count(space, count)
        for a in architectures:
            assert cost(a).value == sum(block.feature(count) for block in space.blocks_of(a))


@pytest.mark.parametrize("name", NAMES)
def test_kernels_have_the_multiply_adds_of_their_block(name: str) -> None:
    for block in blocks_of(some(name)[0]).values():
        found = sum(kernel.operations // 2 for kernel in kernels_of(block) if kernel.kind != "elementwise")
        assert found == block.macs, block.key


# ------------------------------------------------------------------------------------------------- every maker of gates

SMALL: Mapping[str, Mapping[str, object]] = {
    "fbnet_small": {"resolutions": [8], "widths": [8, 16], "depths": [1, 2], "strides": [1, 2], "head_width": 16},
    "fpnas_small": {
        "resolutions": [8],
        "stem_width": 8,
        "first_width": 8,
        "widths": [8, 12],
        "depths": [1, 2],
        "strides": [1, 2],
        "expansions": [2, 4],
        "head_width": 16,
    },
    "ofa_mobilenet_v3_32px": {
        "resolutions": [8],
        "depths": [1, 2],
        "widths": [8, 16],
        "strides": [1, 2],
        "se": [False, True],
        "activations": ["relu", "hswish"],
        "head_width": 16,
        "mix_width": 16,
    },
    "ofa_resnet50_d": {
        "resolutions": [16],
        "depths": [0, 1],
        "base_depths": [1],
        "stem_width": 64,
        "widths": [128],
        "strides": [2],
    },
    "proxyless_small": {"resolutions": [8], "widths": [8, 16], "depths": [1, 2], "strides": [1, 2], "head_width": 16},
    "shufflenet_spos_small": {
        "resolutions": [8],
        "stem_width": 8,
        "widths": [16, 32],
        "depths": [1, 2],
        "strides": [1, 2],
        "head_width": 16,
    },
}
MAKERS: Mapping[str, GateMaker] = {
    "softmax": Softmax(),
    "concrete": Concrete(1.0),
    "straight-through": STConcrete(1.0),
    "binary": BinaryGate(),
    "two paths": TwoPath(),
}


@pytest.mark.parametrize("maker", MAKERS.values(), ids=list(MAKERS))
@pytest.mark.parametrize("name", SMALL)
def test_every_decision_learns_from_the_gates(name: str, maker: GateMaker) -> None:
    torch.manual_seed(0)
    chosen = family(name, SMALL[name], channels=1, classes=3)
    space, net = chosen.space, chosen.supernet()
    rng = np.random.default_rng(0)
    parameters = ArchitectureParameters(space, noise=0.5, rng=rng)
    side = chosen.resolutions[0]
    x, labels = torch.randn(8, 1, side, side), torch.randint(3, (8,))
    learned: set[str] = set()
    for _ in range(6):  # blocks beyond a hard depth do not run, so not every draw reaches every decision
        values = parameters()
        gates = maker(values, rng)
        F.cross_entropy(net(x, gates), labels).backward()  # type: ignore[no-untyped-call]
        for label, logits in values.items():
            if len(logits) > 1 and logits.grad is not None:
                assert torch.isfinite(logits.grad).all()
                learned |= {label} if (logits.grad != 0).any() else set()
    assert learned == {decision.label for decision in space.decisions if len(decision.options) > 1}


@pytest.mark.parametrize("name", SMALL)
def test_a_straight_through_draw_is_the_network_that_is_cut_out(name: str) -> None:
    torch.manual_seed(0)
    chosen = family(name, SMALL[name], channels=1, classes=3)
    space, net, rng = chosen.space, chosen.supernet(), np.random.default_rng(0)
    x = torch.randn(8, 1, chosen.resolutions[0], chosen.resolutions[0])
    net.train()(x, chosen.default())  # so that norms are no identities
    net.train(False)
    for _ in range(4):
        gates = STConcrete(1.0)(ArchitectureParameters(space)(), rng)
        codes = np.array([[int(gates[decision.label].values.argmax()) for decision in space.decisions]])
        [a] = space.decode(space.canonical_codes(codes))
        assert torch.allclose(net(x, gates), net.extract(a)(x), atol=1e-5)
