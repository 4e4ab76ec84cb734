"""The once-for-all space of ResNet50-D against itself and the published network."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hwnas.core import SpaceError
from hwnas.nn import Gate, one_hot_gates
from hwnas.zoo import FAMILIES, OfaResNet50D, family
from hwnas.zoo.ofa_checkpoint import load_ofa_state
from hwnas.zoo.ofa_resnet50_d import OfaResNet50DSupernet
from tests.zoo.counting import check_counts, counted_macs

SMALL = OfaResNet50D(
    "small",
    channels=1,
    classes=3,
    resolutions=(16, 20),
    multipliers=(0.5, 1.0),
    depths=(0, 1),
    base_depths=(1, 2),
    stem_width=32,
    widths=(48, 64),
    strides=(1, 2),
)


def scrambled() -> OfaResNet50DSupernet:
    """A supernet in evaluation mode whose norms are not the identity."""
    torch.manual_seed(0)
    net = SMALL.supernet().eval()
    with torch.no_grad():
        for name, tensor in (*net.named_parameters(), *net.named_buffers()):
            if "norm" in name:
                tensor.add_(0.3 * torch.rand(tensor.shape))
    return net


def test_hard_soft_and_extracted_networks_agree() -> None:
    net = scrambled()
    for a in SMALL.space.sample(12, np.random.default_rng(1)):
        x = torch.randn(2, 1, int(a["resolution"]), int(a["resolution"]))
        plain = net.extract(a)
        assert torch.allclose(net(x, a), plain(x), atol=1e-5)
        assert torch.allclose(net(x, one_hot_gates(SMALL.space, a)), plain(x), atol=1e-5)


def test_an_extracted_network_is_its_entries_and_nothing_else() -> None:
    net = SMALL.supernet()
    for a in SMALL.space.sample(6, np.random.default_rng(2)):
        plain, blocks = net.extract(a), SMALL.space.blocks_of(a)
        check_counts(blocks)
        assert len(plain) == len(blocks)
        assert sum(p.numel() for p in plain.parameters()) == sum(block.parameters for block in blocks)
        plain.train()(torch.randn(4, *blocks[0].input_shape)).sum().backward()
        assert all(p.grad is not None for p in plain.parameters()), "every parameter must be used"
        assert counted_macs(plain, blocks[0].input_shape) == sum(block.macs for block in blocks)


def test_the_published_network_has_its_published_size() -> None:
    """ResNet50-D at 224 px: 4.3 G multiply-adds (arXiv 1812.01187, table 5); 25.6M parameters (timm)."""
    chosen = FAMILIES["ofa_resnet50_d"]
    assert isinstance(chosen, OfaResNet50D)
    blocks = chosen.space.blocks_of(chosen.default())
    check_counts(blocks)
    assert sum(block.parameters for block in blocks) == pytest.approx(25.6e6, rel=0.002)
    assert sum(block.macs for block in blocks) == pytest.approx(4.3e9, rel=0.01)


def test_weights_that_do_not_run_get_no_gradient() -> None:
    net = SMALL.supernet()
    a = SMALL.architecture([0, 0, 0], [0.2] * 5, [0, 0, 0, 0])
    assert a["stem.depth"] == 0
    net(torch.randn(2, 1, 20, 20), a).sum().backward()
    idle = [*net.stem.second.parameters(), *net.stages[0][1].parameters(), *net.stages[1][2].parameters()]  # type: ignore[index]
    assert all(p.grad is None for p in idle)
    assert all(p.grad is not None for p in net.stages[1][1].parameters())  # type: ignore[index]


def test_soft_depth_is_the_mixture_of_depths() -> None:
    net = scrambled()
    gates = one_hot_gates(SMALL.space, SMALL.architecture([1, 1, 1], [0.25] * 5, [1, 1, 1, 1]))
    x = torch.randn(2, 1, 20, 20)
    for label, after in (("stage2.depth", net.head), ("stem.depth", net.stem.third)):
        inside: list[torch.Tensor] = []
        hook = after.register_forward_hook(lambda part, inputs, output, to=inside: to.append(inputs[0]))
        for values, support in (([1.0, 0.0], (0,)), ([0.0, 1.0], (1,)), ([0.25, 0.75], (0, 1))):
            net(x, {**gates, label: Gate(torch.tensor(values), support)})
        hook.remove()
        shallow, full, mixed = inside
        assert torch.allclose(mixed, 0.25 * shallow + 0.75 * full, atol=1e-5), label


def test_soft_widths_and_expansions_pass_gradients() -> None:
    net = scrambled()
    gates = one_hot_gates(SMALL.space, SMALL.architecture([1, 1, 1], [0.25] * 5, [0, 0, 0, 0]))
    x = torch.randn(2, 1, 20, 20)
    for label, n in (("stem.middle", 2), ("stem.width", 2), ("stage1.width", 2), ("stage2.block1.expansion", 3)):
        share = torch.full((n,), 1 / n, requires_grad=True)
        [gradient] = torch.autograd.grad(net(x, {**gates, label: Gate(share, tuple(range(n)))}).square().sum(), share)
        assert torch.isfinite(gradient).all() and (gradient != 0).any(), label


def test_images_of_another_size_are_refused() -> None:
    net, a = SMALL.supernet(), SMALL.default()
    with pytest.raises(SpaceError, match=r"images of \(12, 12\) for a network of resolution 20"):
        net(torch.randn(1, 1, 12, 12), a)
    gates = {**one_hot_gates(net.space, a), "resolution": Gate(torch.ones(2) / 2, (0, 1))}
    with pytest.raises(SpaceError, match="supports 2 options"):
        net(torch.randn(1, 1, 20, 20), gates)


def test_a_checkpoint_of_another_kind_is_refused() -> None:
    with pytest.raises(SpaceError, match='lacks .* the first is "input_stem.0.conv.weight"; left over: "first_conv'):
        load_ofa_state(SMALL.supernet(), {"first_conv.conv.weight": torch.zeros(1)})


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"multipliers": [1.0, 0.5]}, r"multipliers is \[1.0, 0.5\]"),
        ({"depths": [-1]}, r"depths is \[-1\]"),
        ({"stem_width": 0}, "stem_width is 0"),
        ({"strides": [1]}, "strides has 1 entries, widths has 4"),
        ({"base_depths": [2, 2, 4, 0]}, "must be above 0"),
        ({"widths": [64, 512, 1024, 2048]}, "stage 1 and what comes before it may both have 40 channels"),
    ],
)
def test_wrong_entries_are_named(overrides: dict[str, object], message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        family("ofa_resnet50_d", overrides, channels=3, classes=3)


def test_lists_of_wrong_length_are_refused() -> None:
    for lists, message in (
        (([0] * 2, [0.2] * 5, [0] * 4), "2 depths; expected 3"),
        (([0] * 3, [0.2] * 4, [0] * 4), "4 expansions; expected 5"),
        (([0] * 3, [0.2] * 5, [0] * 3), "3 widths; expected 4"),
    ):
        with pytest.raises(SpaceError, match=message):
            SMALL.architecture(*lists)
