"""What every space with a supernet must do, in a size that runs in seconds, under every gate maker.

`SMALL` gives each kind of family its smallest values; a new family adds one line.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hwnas.core import Architecture, SpaceError
from hwnas.cost import UnitSumCost, entries_of
from hwnas.nn import (
    ArchitectureParameters,
    BinaryGate,
    Concrete,
    ExpectedCost,
    Gate,
    GateMaker,
    HardSample,
    Sectioned,
    Softmax,
    STConcrete,
    TwoPath,
    UniformOneHot,
    one_hot_gates,
    write_onnx,
)
from hwnas.nn.two_input_cells import TwoInputCell, TwoInputNetwork
from hwnas.profiling.liveness import footprint_of
from hwnas.zoo import FAMILIES, Family, family

SMALL: Mapping[str, tuple[str, Mapping[str, object]]] = {
    "AttentiveNas": (
        "attentive_nas_32px",
        {
            "resolutions": [16],
            "widths": [[8], [8, 16], [16]],
            "depths": [[1], [1, 2], [1]],
            "expansions": [[1], [4, 5], [6]],
            "strides": [1, 2, 2],
            "se": [False, True, True],
            "stem_widths": [8],
            "mix_widths": [32, 64],
        },
    ),
    "Darts": ("darts_small", {"resolutions": [16], "cells": 3, "width": 4, "nodes": 2}),
    "EnasMacro": ("enas_macro_small", {"layers": [1, 2], "widths": [4, 8]}),
    "FBNet": (
        "fbnet_small",
        {"resolutions": [16], "widths": [16, 24], "depths": [1, 2], "strides": [1, 2], "head_width": 32},
    ),
    "Fpnas": (
        "fpnas_small",
        {
            "resolutions": [16],
            "stem_width": 8,
            "first_width": 8,
            "widths": [12, 16],
            "depths": [1, 2],
            "strides": [1, 2],
            "expansions": [2, 4],
            "head_width": 32,
        },
    ),
    "GeneticCnn": ("genetic_cnn", {"resolutions": [16], "nodes": [3], "widths": [8]}),
    "HyTra": (
        "bossnas_hytra_small",
        {"resolutions": [16], "stem_width": 4, "widths": [16, 32], "head_width": 4, "finest": [0, 0]},
    ),
    "MobileNetV3": ("toy", {"resolutions": [16]}),
    "NasBench201": ("nasbench201_small", {"cells": 1, "width": 4}),
    "NasNet": ("nasnet", {"resolutions": [16], "cells": 1, "width": 8, "nodes": 2, "stem_width": 8}),
    "NasRl": (
        "nas_rl_small",
        {"resolutions": [8], "depths": [2, 3], "heights": [1, 3], "widths": [1, 3], "filters": [4, 8], "reach": 2},
    ),
    "NatsSize": ("nats_size", {"resolutions": [16], "widths": [4, 6, 8]}),
    "OfaMobileNetV3": (
        "ofa_mobilenet_v3_32px",
        {
            "resolutions": [16],
            "widths": [16, 24],
            "strides": [1, 2],
            "se": [False, True],
            "activations": ["relu", "hswish"],
            "depths": [1, 2],
            "head_width": 32,
            "mix_width": 64,
        },
    ),
    "OfaResNet50D": (
        "ofa_resnet50_d",
        {
            "resolutions": [32],
            "widths": [64, 128],
            "base_depths": [1, 1],
            "strides": [1, 2],
            "depths": [0, 1],
            "stem_width": 32,
        },
    ),
    "ProxylessNAS": (
        "proxyless_small",
        {"resolutions": [16], "widths": [24, 40], "depths": [2, 1], "strides": [1, 2], "head_width": 32},
    ),
    "ShuffleNetSpos": (
        "shufflenet_spos_small",
        {"resolutions": [16], "widths": [16, 32], "depths": [1, 2], "strides": [1, 2], "head_width": 32},
    ),
    "Smash": (
        "smash_small",
        {"resolutions": [16], "layers": [2, 1], "widths": [4, 8], "banks": 3, "windows": ["3x3", "5x5"]},
    ),
}
HARD_ONLY = {"AttentiveNas", "HyTra", "NatsSize", "Smash"}
"""Families that refuse gates other than one-hot ones without a gradient, in words."""

MAKERS = ("softmax", "concrete", "straight through", "drawn alone", "binary", "two paths", "hard", "uniform")
every = pytest.mark.parametrize("kind", SMALL)
SECTIONED = ("FBNet", "Fpnas", "MobileNetV3", "NasBench201", "OfaMobileNetV3", "ProxylessNAS", "ShuffleNetSpos")
"""Families whose supernets run section by section; the others' features change shape with a choice, or are a graph."""


@cache
def small(kind: str) -> Family:
    name, overrides = SMALL[kind]
    return family(name, overrides, channels=3, classes=4)


def images(architecture: Architecture, n: int = 2) -> Tensor:
    side = int(architecture["resolution"])
    return torch.randn(n, 3, side, side, generator=torch.Generator().manual_seed(0))


def maker_of(name: str, kind: str) -> GateMaker:
    space = small(kind).space
    makers: dict[str, GateMaker] = {
        "softmax": Softmax(),
        "concrete": Concrete(1.0),
        "straight through": STConcrete(1.0),
        "drawn alone": STConcrete(1.0, runs="drawn"),
        "binary": BinaryGate(),
        "two paths": TwoPath(),
        "hard": HardSample(space),
        "uniform": UniformOneHot(space),
    }
    return makers[name]


def chosen(kind: str, gates: Mapping[str, Gate]) -> Architecture:
    """The network that one-hot gates mean."""
    space = small(kind).space
    codes = np.array([[int(gates[d.label].values.detach().argmax()) for d in space.decisions]])
    return space.decode(space.canonical_codes(codes))[0]


def test_every_kind_of_family_with_a_supernet_is_tried() -> None:
    kinds = {type(base).__name__ for base in FAMILIES.values() if base.has_supernet}
    assert kinds == set(SMALL)


@every
def test_codes_and_variation_stay_in_the_space(kind: str) -> None:
    space, rng = small(kind).space, np.random.default_rng(0)
    for architecture in space.sample(20, rng):
        assert space.decode(space.encode([architecture])) == [architecture]
        assert space.canonical(architecture) == architecture
        child = space.mutate(architecture, rng)
        assert space.contains(child)
        assert child != architecture
        assert space.contains(space.cross(architecture, child, rng))


@every
def test_the_extracted_network_is_the_supernet_and_its_blocks(kind: str) -> None:
    torch.manual_seed(0)
    found = small(kind)
    net = cast(nn.Module, found.supernet()).eval()
    macs, parameters = (UnitSumCost.count(found.space, name) for name in ("macs", "parameters"))
    for architecture in found.space.sample(8, np.random.default_rng(1)):
        plain = found_plain(net, architecture)
        x = images(architecture)
        assert torch.allclose(net(x, architecture), plain(x), atol=1e-5)
        assert torch.allclose(net(x, one_hot_gates(found.space, architecture)), plain(x), atol=1e-5)
        assert parameters(architecture).value == sum(p.numel() for p in plain.parameters())
        assert macs(architecture).value > 0
        plain.train()(images(architecture, 4)).sum().backward()
        unused = [name for name, p in plain.named_parameters() if p.grad is None and not unread_input(plain, name)]
        assert not unused, "every parameter must be used"


def unread_input(plain: nn.Module, parameter: str) -> bool:
    """Whether a parameter belongs to an input of a two-input cell that no node of the cell reads."""
    where = parameter.split(".")
    if not isinstance(plain, TwoInputNetwork) or where[0] != "cells" or where[2] != "inputs":
        return False
    cell = cast(TwoInputCell, plain.cells[int(where[1])])
    return int(where[3]) not in {source for pair in cell.sources for source in pair} | set(cell.outputs)


def found_plain(net: nn.Module, architecture: Architecture) -> nn.Module:
    return cast(nn.Module, net.extract(architecture)).eval()  # type: ignore[operator]


@every
@pytest.mark.parametrize("name", MAKERS)
def test_gates_of_every_maker_run_and_hard_values_are_the_extracted_network(kind: str, name: str) -> None:
    torch.manual_seed(0)
    found = small(kind)
    net = cast(nn.Module, found.supernet()).eval()
    parameters = ArchitectureParameters(found.space, noise=0.5, rng=np.random.default_rng(2))
    gates = maker_of(name, kind)(parameters(), np.random.default_rng(3))
    architecture = chosen(kind, gates)
    x = images(architecture)
    if kind in HARD_ONLY and name not in ("hard", "uniform"):
        with pytest.raises(SpaceError):
            net(x, gates)
        return
    out = net(x, gates)
    assert bool(out.isfinite().all())
    if name not in ("softmax", "concrete"):
        assert torch.allclose(out, found_plain(net, architecture)(x), atol=1e-5)
    if name not in ("hard", "uniform"):
        out.square().sum().backward()
        moved = [p.grad for p in parameters.parameters() if p.grad is not None]
        assert moved and any(bool(grad.abs().sum() > 0) for grad in moved)


@every
def test_what_a_network_does_not_use_gets_no_gradient(kind: str) -> None:
    found = small(kind)
    net = cast(nn.Module, found.supernet()).train()
    a, b = found.space.sample(2, np.random.default_rng(5))
    touched = []
    for architecture in (a, b):
        net.zero_grad(set_to_none=True)
        net(images(architecture, 4), architecture).sum().backward()
        touched.append({name for name, p in net.named_parameters() if p.grad is not None})
    everything = {name for name, _ in net.named_parameters()}
    assert touched[0] and touched[0] <= everything
    shared_only = kind in (
        "GeneticCnn",
        "MobileNetV3",
        "OfaMobileNetV3",
        "OfaResNet50D",
        "AttentiveNas",
        "NatsSize",
        "Smash",
    )
    assert shared_only or touched[0] != everything, "candidates that were not chosen keep no gradient"


@every
def test_every_kind_of_entry_is_a_module_that_can_be_timed(kind: str, tmp_path: Path) -> None:
    found = small(kind)
    for block in {block.kind: block for block in entries_of(found.space).values()}.values():
        module = found.build_block(block).eval()
        assert sum(p.numel() for p in module.parameters()) == block.parameters, block.key
        assert module(torch.zeros(2, *block.input_shape)).shape[1:] == block.output_shape, block.key
        write_onnx(module, tmp_path / "block.onnx", input_shape=block.input_shape)
        assert footprint_of(tmp_path / "block.onnx").peak_activation_bytes > 0


@every
def test_the_expected_cost_is_the_mean_over_networks(kind: str) -> None:
    found = small(kind)
    cost = UnitSumCost.count(found.space, "macs")
    expected = ExpectedCost(cost, dtype=torch.float64)
    rng = np.random.default_rng(0)
    shares = {d.label: rng.dirichlet(np.ones(len(d.options))) for d in found.space.decisions}
    mean = float(expected({label: torch.tensor(p) for label, p in shares.items()}))
    drawn = found.space.encode(found.space.sample_by({k: p.tolist() for k, p in shares.items()}, 20_000, rng))
    values = cost.batch(drawn)
    assert mean == pytest.approx(values.mean(), abs=4 * values.std() / len(values) ** 0.5 + 1e-6)


# ------------------------------------------------------------------------------------------------------ sections


@every
def test_supernets_say_whether_they_run_section_by_section(kind: str) -> None:
    assert isinstance(small(kind).supernet(), Sectioned) == (kind in SECTIONED)


@pytest.mark.parametrize("kind", SECTIONED)
def test_sections_are_the_network_and_can_be_exchanged(kind: str) -> None:
    torch.manual_seed(0)
    net = cast(nn.Module, small(kind).supernet()).eval()
    assert isinstance(net, Sectioned)
    resolution = small(kind).space["resolution"].options[-1]
    drawn = [
        small(kind).space.canonical({**architecture, "resolution": resolution})
        for architecture in small(kind).space.sample(4, np.random.default_rng(3))
    ]
    x = images(drawn[0])
    features: list[list[Tensor]] = []
    for architecture in drawn:
        features.append([x])
        for section in net.sections(architecture):
            features[-1].append(section(features[-1][-1]))
        assert torch.equal(features[-1][-1], net(x, architecture))
    shapes = [[value.shape for value in values] for values in features]
    assert all(row == shapes[0] for row in shapes), "a section takes whatever network's features"
    assert all(torch.equal(values[1], features[0][1]) for values in features), "the first leaves nothing to choose"
    last = [net.sections(architecture)[-1](features[0][-2]) for architecture in drawn]
    assert all(torch.equal(value, last[0]) for value in last), "neither does the last"
