"""Chains with skips against the paper's rules, written a second time."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hwnas.core import Architecture
from hwnas.cost.roofline import kernels_of
from hwnas.nn import Gate, build_block, load_network, save_network
from hwnas.nn.elastic_skip import ElasticSkipLayer, SoftLayer
from hwnas.nn.skip_layers import (
    SkipLayer,
    SkipNetwork,
    describe_readout,
    describe_skip_network,
    describe_source_convolution,
    sides_of,
)
from tests.zoo.counting import counted_macs

PLANS = {
    "one": (SkipLayer(3, 3, 4),),
    "chain": (SkipLayer(1, 3, 4), SkipLayer(3, 1, 6, 1, (0,)), SkipLayer(5, 3, 2, 1, (1,))),
    "none reads": (SkipLayer(3, 3, 4), SkipLayer(3, 3, 6)),
    "all read": (SkipLayer(3, 3, 4), SkipLayer(1, 1, 6, 1, (0,)), SkipLayer(3, 3, 5, 1, (0, 1))),
    "padded": (SkipLayer(3, 3, 4, 2), SkipLayer(3, 5, 6), SkipLayer(1, 7, 5, 3, (0, 1)), SkipLayer(3, 3, 3, 1, (0, 2))),
}
every = pytest.mark.parametrize("name", PLANS)


def network(name: str) -> SkipNetwork:
    torch.manual_seed(0)
    found = SkipNetwork(3, 5, 9, PLANS[name])
    for part in found.modules():
        if isinstance(part, nn.BatchNorm2d):
            for value in (part.weight, part.bias, part.running_mean, part.running_var):
                assert value is not None
                nn.init.uniform_(value, 0.5, 1.5)
    return found.eval()


def by_the_rules(net: SkipNetwork, x: Tensor) -> Tensor:
    """Section 3.3 source by source: a convolution of a concatenation is the sum of convolutions of its parts."""
    values: list[Tensor] = []
    read: set[int] = set()
    for plan, module in zip(net.plan, net.layers, strict=True):
        conv, norm = module.conv, module.norm
        inputs = [values[s] for s in plan.sources] or [x]
        read |= set(plan.sources)
        side = max(v.shape[2] for v in inputs)
        total, at = torch.zeros(()), 0
        for value in inputs:
            canvas = torch.zeros(len(x), value.shape[1], side, side)
            canvas[:, :, : value.shape[2], : value.shape[3]] = value
            weight = conv.weight[:, at : at + value.shape[1]]  # type: ignore[index, union-attr]
            total = total + F.conv2d(canvas, weight, stride=plan.stride, padding=(plan.height // 2, plan.width // 2))
            at += value.shape[1]
        values.append(norm(total).clamp(min=0))  # type: ignore[operator]
    means = [value.flatten(2).mean(2) for number, value in enumerate(values) if number not in read]
    return torch.cat(means, 1) @ net.classifier.weight.t() + net.classifier.bias


@every
def test_a_network_follows_the_rules(name: str) -> None:
    net, x = network(name), torch.randn(2, 3, 9, 9)
    torch.testing.assert_close(net(x), by_the_rules(net, x), atol=1e-5, rtol=1e-5)


@every
def test_a_network_is_the_sum_of_its_blocks(name: str) -> None:
    net = network(name)
    blocks = describe_skip_network(3, 5, 9, PLANS[name])
    assert sum(block.parameters for block in blocks) == sum(p.numel() for p in net.parameters()) == net.block.parameters
    assert sum(block.macs for block in blocks) == net.block.macs == counted_macs(net, (3, 9, 9))
    for block in blocks:
        module = build_block(block)
        assert module(torch.zeros(2, *block.input_shape)).shape == (2, *block.output_shape)
        assert sum(p.numel() for p in module.parameters()) == block.parameters
        assert counted_macs(module, block.input_shape) == block.macs
        assert sum(k.operations // 2 for k in kernels_of(block) if k.kind != "elementwise") == block.macs


@every
def test_a_network_is_written_and_read(name: str, tmp_path: Path) -> None:
    net, x = network(name), torch.randn(2, 3, 9, 9)
    save_network(tmp_path / "net.safetensors", net, blocks=None, architecture=Architecture({}))
    assert torch.equal(load_network(tmp_path / "net.safetensors")(x), net(x))


def test_a_share_that_is_padded_is_another_entry() -> None:
    layer = SkipLayer(3, 3, 8, 2)
    alike, padded = (describe_source_convolution(4, 5, layer, side=side) for side in (5, 9))
    assert (alike.output_shape, padded.output_shape) == ((8, 3, 3), (8, 5, 5))
    assert padded.key == "source_conv height=3 width=3 stride=2 side=9 4x5x5->8x5x5"
    assert padded.macs == 25 * 9 * 4 * 8
    assert [kernel.kind for kernel in kernels_of(padded)] == ["elementwise", "dense"]


def test_the_bias_belongs_to_one_share_of_the_classifier() -> None:
    assert describe_readout(8, 5, 4, bias=True).parameters - describe_readout(8, 5, 4, bias=False).parameters == 5


def test_sizes_follow_the_largest_source() -> None:
    assert [s.given for s in sides_of([(3, ()), (2, (0,)), (1, (0, 1)), (2, ())], 32)] == [11, 6, 11, 16]


# ------------------------------------------------------------------------------------------------------------- elastic


def gate(*values: float, support: tuple[int, ...] | None = None) -> Gate:
    return Gate(torch.tensor(values), support or tuple(range(len(values))))


def soft(height: Gate, width: Gate, filters: Gate, first: Gate, second: Gate) -> SoftLayer:
    return SoftLayer(height, width, filters, {0: first, 1: second}, (1, 3, 5), (1, 3, 5), (2, 4))


def layer() -> ElasticSkipLayer:
    torch.manual_seed(0)
    return ElasticSkipLayer(3, height=5, width=5, filters=4, sources=(0, 1)).eval()


VALUES = [torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(n)) for n in (1, 2)]
IMAGES = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("sources", [(), (0,), (1,), (0, 1)])
@pytest.mark.parametrize("codes", [(0, 2), (1, 0), (2, 2)])
def test_one_hot_gates_with_any_support_are_the_hard_call(sources: tuple[int, ...], codes: tuple[int, int]) -> None:
    """Options outside the support cost nothing, options of weight 0 change nothing."""
    module, (height, width) = layer(), codes
    hard = module(IMAGES, VALUES, SkipLayer((1, 3, 5)[height], (1, 3, 5)[width], 2, 1, sources))
    one_hot = [torch.eye(3)[height].tolist(), torch.eye(3)[width].tolist()]
    bits = [(0.0, 1.0) if s in sources else (1.0, 0.0) for s in (0, 1)]
    whole = soft(gate(*one_hot[0]), gate(*one_hot[1]), gate(1, 0), gate(*bits[0]), gate(*bits[1]))
    found = module.soft(IMAGES, VALUES, whole)
    assert found.shape[1] == 4
    torch.testing.assert_close(found[:, :2], hard, atol=1e-5, rtol=1e-5)
    assert not found[:, 2:].any()
    least = soft(
        gate(*one_hot[0], support=(height,)),
        gate(*one_hot[1], support=(width,)),
        gate(1, 0, support=(0,)),
        *(gate(*bit, support=(int(bit[1]),)) for bit in bits),
    )
    torch.testing.assert_close(module.soft(IMAGES, VALUES, least), hard, atol=1e-5, rtol=1e-5)


def test_soft_gates_are_the_mean_before_the_norm() -> None:
    """Without norm and rectifier the relaxation is what one gets on average from independent draws."""
    module = layer()
    seen: list[Tensor] = []
    module.norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    p = {"h": (0.5, 0.2, 0.3), "w": (0.1, 0.6, 0.3), "a": (0.3, 0.7), "b": (0.6, 0.4)}
    module.soft(IMAGES, VALUES, soft(gate(*p["h"]), gate(*p["w"]), gate(0, 1), gate(*p["a"]), gate(*p["b"])))
    [found] = seen
    mean = torch.zeros_like(found)
    for h in range(3):
        for w in range(3):
            for a in range(2):
                for b in range(2):
                    sources = tuple(s for s, bit in ((0, a), (1, b)) if bit)
                    seen.clear()
                    module(IMAGES, VALUES, SkipLayer((1, 3, 5)[h], (1, 3, 5)[w], 4, 1, sources))
                    mean += p["h"][h] * p["w"][w] * p["a"][a] * p["b"][b] * seen[0]
    torch.testing.assert_close(found, mean, atol=1e-5, rtol=1e-5)
