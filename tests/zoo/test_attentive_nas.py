"""The space of AttentiveNAS and AlphaNet against itself, and its smallest network against the published figure."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hwnas.core import SpaceError
from hwnas.nn import Gate, one_hot_gates
from hwnas.zoo import AttentiveNas, family
from hwnas.zoo.attentive_nas import AttentiveNasSupernet
from tests.zoo.counting import check_counts, counted_macs

SMALL = AttentiveNas(
    "small",
    channels=1,
    classes=3,
    resolutions=(12, 16),
    stem_widths=(8, 16),
    widths=((8, 16), (16, 24), (24,)),
    depths=((1, 2), (1, 2), (2,)),
    expansions=((1,), (2, 4), (3,)),
    strides=(1, 2, 1),
    se=(False, True, False),
    mix_widths=(16, 24),
)


def scrambled() -> AttentiveNasSupernet:
    """A supernet in evaluation mode whose norms are not the identity."""
    torch.manual_seed(0)
    net = SMALL.supernet().eval()
    with torch.no_grad():
        for name, tensor in (*net.named_parameters(), *net.named_buffers()):
            if "norm" in name:
                tensor.add_(0.3 * torch.rand(tensor.shape))
    return net


def test_hard_and_extracted_networks_agree() -> None:
    net = scrambled()
    kinds = set()
    for a in [*SMALL.space.sample(16, np.random.default_rng(1)), SMALL.smallest(), SMALL.largest()]:
        x = torch.randn(2, 1, int(a["resolution"]), int(a["resolution"]))
        plain = net.extract(a)
        assert torch.allclose(net(x, a), plain(x), atol=1e-5)
        assert torch.allclose(net(x, one_hot_gates(SMALL.space, a)), plain(x), atol=1e-5)
        kinds |= {block.kind for block in SMALL.space.blocks_of(a)}
    assert kinds == {"stem", "separable", "mbconv", "pooling_mbconv", "mixing_head"}


def test_an_extracted_network_is_its_entries_and_nothing_else() -> None:
    net = SMALL.supernet()
    for a in SMALL.space.sample(6, np.random.default_rng(2)):
        plain, blocks = net.extract(a), SMALL.space.blocks_of(a)
        check_counts(blocks)
        assert sum(p.numel() for p in plain.parameters()) == sum(block.parameters for block in blocks)
        plain.train()(torch.randn(4, *blocks[0].input_shape)).sum().backward()
        assert all(p.grad is not None for p in plain.parameters()), "every parameter must be used"
        assert counted_macs(plain, blocks[0].input_shape) == sum(block.macs for block in blocks)


def test_the_smallest_network_has_its_published_size() -> None:
    """AttentiveNAS-A0 and AlphaNet-A0: 203M multiply-adds (arXiv 2102.07954, table 3)."""
    chosen = AttentiveNas()
    blocks = chosen.space.blocks_of(chosen.smallest())
    check_counts(blocks)
    assert sum(block.macs for block in blocks) == pytest.approx(203e6, rel=0.005)
    assert 1.9e9 < sum(block.macs for block in chosen.space.blocks_of(chosen.largest())) < 2e9


def test_weights_that_do_not_run_get_no_gradient() -> None:
    net = SMALL.supernet()
    a = SMALL.smallest()
    net(torch.randn(2, 1, 12, 12), a).sum().backward()
    assert all(p.grad is None for p in net.blocks["stage2_block2"].parameters())
    assert all(p.grad is not None for p in net.blocks["stage2_block1"].parameters())


def test_mixtures_and_images_of_another_size_are_refused() -> None:
    net, a = SMALL.supernet(), SMALL.largest()
    with pytest.raises(SpaceError, match=r"images of \(12, 12\) for a network of resolution 16"):
        net(torch.randn(1, 1, 12, 12), a)
    gates = one_hot_gates(net.space, a)
    with pytest.raises(SpaceError, match=r"'stage2.width' supports 2 options; the supernet of small takes choices"):
        net(torch.randn(1, 1, 16, 16), {**gates, "stage2.width": Gate(torch.ones(2) / 2, (0, 1))})
    hard = Gate(torch.tensor([0.0, 1.0], requires_grad=True), (1,))
    with pytest.raises(SpaceError, match="'stage2.width' has a gradient"):
        net(torch.randn(1, 1, 16, 16), {**gates, "stage2.width": hard})


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"kernels": [3, 4]}, "kernels holds 4"),
        ({"depths": [[1]]}, "depths has 1 entries, widths has 7"),
        ({"stem_widths": [24, 16]}, r"stem_widths holds \[24, 16\]"),
        ({"strides": [1, 2, 2, 2, 1, 2, 0]}, "must be above 0"),
        ({"stem_stride": 0}, "stem_stride is 0"),
        ({"activation": "swosh"}, 'activation "swosh" is unknown'),
        ({"expansions": [[1], [1, 4], [4], [4], [4], [6], [6]]}, r"expansions holds \[1, 4\]; 1 stands alone"),
    ],
)
def test_wrong_entries_are_named(overrides: dict[str, object], message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        family("attentive_nas", overrides, channels=3, classes=3)
