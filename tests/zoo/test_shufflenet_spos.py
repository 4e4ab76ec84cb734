"""The space of single-path one-shot search, and the network its authors found."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hwnas.core import SpaceError
from hwnas.nn import build_block, one_hot_gates
from hwnas.nn.shuffle import describe_shuffle
from hwnas.zoo import FAMILIES, ShuffleNetSpos, family
from hwnas.zoo.shufflenet_spos import OPERATIONS, SPOS_CODES
from tests.zoo.counting import check_counts, counted_macs

SMALL = ShuffleNetSpos(
    "small",
    channels=1,
    classes=3,
    resolutions=(8, 12),
    stem_width=4,
    widths=(8, 16),
    depths=(2, 2),
    strides=(1, 2),
    head_width=24,
)


def test_the_space_is_as_large_as_published() -> None:
    base = FAMILIES["shufflenet_spos"]
    assert isinstance(base, ShuffleNetSpos)
    assert base.space.size == 4**20


def test_the_network_that_was_found_has_its_published_size() -> None:
    """319M multiply-adds: arXiv 1904.00420, table 3."""
    chosen = ShuffleNetSpos()
    a = chosen.architecture([tuple(OPERATIONS)[int(code)] for code in SPOS_CODES if code != " "])
    blocks = chosen.space.blocks_of(a)
    check_counts(blocks)
    assert sum(block.macs for block in blocks) == pytest.approx(319e6, rel=0.002)
    assert sum(block.parameters for block in blocks) == 3_345_088 + 1000


def test_hard_soft_and_extracted_networks_agree() -> None:
    torch.manual_seed(0)
    net = SMALL.supernet().train()
    for operation in OPERATIONS:  # so that norms are no identities
        net(torch.randn(8, 1, 8, 8), SMALL.architecture([operation] * 4, resolution=8))
    net.eval()
    for a in SMALL.space.sample(12, np.random.default_rng(1)):
        x = torch.randn(2, 1, int(a["resolution"]), int(a["resolution"]))
        plain = net.extract(a)
        assert torch.allclose(net(x, a), plain(x), atol=1e-5)
        assert torch.allclose(net(x, one_hot_gates(SMALL.space, a)), plain(x), atol=1e-5)
        blocks = SMALL.space.blocks_of(a)
        check_counts(blocks)
        assert counted_macs(plain, blocks[0].input_shape) == sum(block.macs for block in blocks)


def test_every_second_channel_passes() -> None:
    block = build_block(describe_shuffle(8, 8, 4, kernel=3, stride=1, depthwise=1)).eval()
    x = torch.randn(1, 8, 4, 4)
    assert torch.equal(block(x)[:, :4], x[:, ::2])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"resolutions": [32, 16]}, r"resolutions is \[32, 16\]"),
        ({"operations": ["shuffle_9x9"]}, 'operations holds "shuffle_9x9"'),
        ({"operations": []}, "expected at least one"),
        ({"depths": [2]}, "depths has 1 entries, widths has 4"),
        ({"head_width": 0}, "head_width is 0"),
        ({"depths": [2, 2, 2, 0]}, "must be above 0"),
        ({"widths": [63, 160, 320, 640]}, "widths holds 63"),
        ({"widths": [64, 160, 160, 640]}, "stage3.block1 turns 160 channels into 160"),
    ],
)
def test_wrong_entries_are_named(overrides: dict[str, object], message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        family("shufflenet_spos", overrides, channels=3, classes=3)


def test_lists_of_wrong_length_are_refused() -> None:
    with pytest.raises(SpaceError, match="3 operations; expected 4"):
        SMALL.architecture(["xception"] * 3)
