"""FBNet: its space, and the three networks of the paper."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hwnas.core import SpaceError
from hwnas.nn import one_hot_gates
from hwnas.zoo import FAMILIES, FBNet, family
from hwnas.zoo.fbnet import OPERATIONS, PUBLISHED
from tests.zoo.counting import check_counts, counted_macs, data

SMALL = FBNet(
    "small",
    channels=1,
    classes=3,
    resolutions=(8, 12),
    stem_width=8,
    widths=(8, 16),
    depths=(2, 2),
    strides=(1, 2),
    head_width=24,
)

# github.com/facebookresearch/mobile-vision, model zoo: millions of multiply-adds and parameters.
LISTED = {"a": (244.5, 4.3), "b": (291.1, 4.8), "c": (378.2, 5.5)}
# arXiv 1812.03443, table 3: multiply-adds there, with a first convolution in blocks of expansion 1.
PAPER = {"a": (249, 4.3), "b": (295, 4.5), "c": (375, 5.5)}


def test_the_space_is_as_large_as_published() -> None:
    """22 places of nine blocks; a skip is none where the shape changes."""
    base = FAMILIES["fbnet"]
    assert isinstance(base, FBNet)
    assert len(list(base.places())) == 22
    assert base.space.size == 9**16 * 8**6


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_published_networks_have_their_published_size(name: str) -> None:
    blocks = PUBLISHED[name].blocks
    check_counts(blocks)
    macs, parameters = sum(b.macs for b in blocks) / 1e6, sum(b.parameters for b in blocks) / 1e6
    assert macs == pytest.approx(LISTED[name][0], rel=0.001)
    assert macs == pytest.approx(PAPER[name][0], rel=0.02)
    # Printed with two digits, of which the last is cut off for network C (5.57).
    assert int(parameters * 10) / 10 == LISTED[name][1]


def test_hard_soft_and_extracted_networks_agree() -> None:
    torch.manual_seed(0)
    net = SMALL.supernet().train()
    for operation in OPERATIONS[:-1]:  # so that norms are no identities
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


def test_groups_of_a_projection_see_channels_of_both_halves() -> None:
    a = SMALL.architecture(["k3_e1_g2", "skip", "k3_e1_g2", "skip"], resolution=8)
    net = SMALL.supernet().eval()
    block = net.extract(a)[1]
    x = torch.randn(1, 8, 8, 8, requires_grad=True)
    [gradient] = torch.autograd.grad((block(x) - x)[:, :4].square().sum(), x)
    seen = gradient.abs().sum((0, 2, 3)) > 0
    assert seen[:4].any() and seen[4:].any()


def test_multiply_adds_rank_networks_as_the_benchmark_does() -> None:
    """Its blocks of expansion 1 have a first convolution, and it counts for 32 pixels and 100 classes."""
    import pyarrow.parquet as pq
    from scipy.stats import spearmanr

    table = pq.read_table(data("fbnet", "latency.parquet"), columns=["ops", "flops_m", "params_m"])
    rows = table.slice(0, 200).to_pylist()
    chosen = FBNet(classes=100, resolutions=(32,), stem_stride=1, strides=(1, 1, 2, 2, 1, 2, 1))
    macs, parameters = [], []
    for row in rows:
        operations = [OPERATIONS[int(code)] for code in row["ops"].split("_")]
        fitting = [
            "k3_e1" if operation == "skip" and (stride > 1 or c_in != c_out) else operation
            for operation, (_, c_in, c_out, stride) in zip(operations, chosen.places(), strict=True)
        ]
        blocks = chosen.space.blocks_of(chosen.architecture(fitting))
        macs.append(sum(block.macs for block in blocks))
        parameters.append(sum(block.parameters for block in blocks))
    agreement = [
        float(spearmanr(found, [row[name] for row in rows]).statistic)
        for found, name in ((macs, "flops_m"), (parameters, "params_m"))
    ]
    print("spearman", agreement)  # noqa: T201
    assert min(agreement) > 0.95


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"resolutions": [32, 16]}, r"resolutions is \[32, 16\]"),
        ({"operations": ["k3_e9"]}, 'operations holds "k3_e9"'),
        ({"operations": ["skip"]}, "expected a block beside skip"),
        ({"depths": [2]}, "depths has 1 entries, widths has 7"),
        ({"head_width": 0}, "head_width is 0"),
        ({"strides": [1, 2, 2, 1, 2, 1, 0]}, "must be above 0"),
        ({"stem_width": 15}, "stem_width 15 .* must be even"),
        ({"activation": "swosh"}, 'activation "swosh" is unknown'),
    ],
)
def test_wrong_entries_are_named(overrides: dict[str, object], message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        family("fbnet", overrides, channels=3, classes=3)


def test_lists_of_wrong_length_are_refused() -> None:
    with pytest.raises(SpaceError, match="3 operations; expected 4"):
        SMALL.architecture(["k3_e1"] * 3)


def test_the_default_fits_whatever_operations_there_are() -> None:
    small = family("fbnet", {"operations": ["k5_e1"]}, channels=3, classes=3)
    assert small.default()["stage2.block1.operation"] == "k5_e1"
