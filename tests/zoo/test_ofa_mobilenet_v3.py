"""Once-for-all spaces: against themselves, the authors' package, and the networks they published."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from hwnas.core import Architecture, SpaceError
from hwnas.nn import Gate, one_hot_gates
from hwnas.zoo import FAMILIES, OfaMobileNetV3, family
from hwnas.zoo.mobilenet_v3_large import mobilenet_v3_large
from hwnas.zoo.ofa_mobilenet_v3 import OFA_PROXYLESS, OfaMobileNetV3Supernet, Row
from tests.zoo.counting import check_counts, counted_macs, data

SMALL = OfaMobileNetV3(
    "small",
    channels=1,
    classes=3,
    resolutions=(12, 16),
    depths=(1, 2),
    stem_width=8,
    first_width=8,
    widths=(8, 16),
    strides=(2, 2),
    se=(False, True),
    activations=("relu", "hswish"),
    head_width=24,
    mix_width=32,
)
PLAIN = replace(SMALL, name="plain", se=(False, False), tail_width=24, mix_width=0, stem_activation="relu6")


def scrambled(chosen: OfaMobileNetV3) -> OfaMobileNetV3Supernet:
    """A supernet in evaluation mode whose norms and kernel transforms are not the identity."""
    torch.manual_seed(0)
    net = chosen.supernet().eval()
    for name, tensor in (*net.named_parameters(), *net.named_buffers()):
        with torch.no_grad():
            if "norm" in name and tensor.dim():
                tensor.add_(0.3 * torch.rand(tensor.shape))
            elif "transforms" in name:
                tensor.add_(0.2 * torch.randn(tensor.shape))
    return net


@pytest.mark.parametrize("chosen", [SMALL, PLAIN], ids=lambda chosen: chosen.name)
def test_hard_soft_and_extracted_networks_agree(chosen: OfaMobileNetV3) -> None:
    net = scrambled(chosen)
    for a in chosen.space.sample(8, np.random.default_rng(1)):
        x = torch.randn(2, 1, int(a["resolution"]), int(a["resolution"]))
        plain = net.extract(a)
        assert torch.allclose(net(x, a), plain(x), atol=1e-5)
        assert torch.allclose(net(x, one_hot_gates(chosen.space, a)), plain(x), atol=1e-5)


@pytest.mark.parametrize("chosen", [SMALL, PLAIN], ids=lambda chosen: chosen.name)
def test_an_extracted_network_is_its_entries_and_nothing_else(chosen: OfaMobileNetV3) -> None:
    net = chosen.supernet()
    for a in chosen.space.sample(4, np.random.default_rng(2)):
        plain, blocks = net.extract(a), chosen.space.blocks_of(a)
        check_counts(blocks)
        assert len(plain) == len(blocks)
        assert sum(p.numel() for p in plain.parameters()) == sum(block.parameters for block in blocks)
        plain.train()(torch.randn(2, *blocks[0].input_shape)).sum().backward()
        assert all(p.grad is not None for p in plain.parameters()), "every parameter must be used"
        assert counted_macs(plain, blocks[0].input_shape) == sum(block.macs for block in blocks)


def test_the_training_step_agrees_with_the_extracted_network() -> None:
    net = scrambled(SMALL).train()
    [a] = SMALL.space.sample(1, np.random.default_rng(3))
    x = torch.randn(4, 1, int(a["resolution"]), int(a["resolution"]))
    plain = net.extract(a)
    assert plain.training
    assert torch.allclose(net(x, a), plain(x), atol=1e-5)


def test_a_small_kernel_trains_its_transforms_and_a_large_one_does_not() -> None:
    net = SMALL.supernet()
    for kernel, used in ((7, []), (5, [25]), (3, [25, 9])):
        net.zero_grad()
        a = SMALL.architecture([kernel] * 4, [3] * 4, [1, 1])
        net(torch.randn(2, 1, 16, 16), a).sum().backward()
        block = net.stages[0][0]  # type: ignore[index]
        assert [len(p) for p in block.transforms if p.grad is not None] == used
        idle = [p.grad for p in net.stages[1][1].parameters()]  # type: ignore[index]
        assert idle and all(grad is None for grad in idle)


def test_soft_depth_is_the_mixture_of_depths() -> None:
    net = scrambled(SMALL)
    gates = one_hot_gates(SMALL.space, SMALL.architecture([5] * 4, [4] * 4, [2, 2]))
    outputs: list[torch.Tensor] = []
    net.head.register_forward_hook(lambda part, inputs, output: outputs.append(inputs[0]))
    x = torch.randn(2, 1, 16, 16)
    for values, support in (([1.0, 0.0], (0,)), ([0.0, 1.0], (1,)), ([0.25, 0.75], (0, 1))):
        net(x, {**gates, "stage2.depth": Gate(torch.tensor(values), support)})
    shallow, full, mixed = outputs
    assert torch.allclose(mixed, 0.25 * shallow + 0.75 * full, atol=1e-5)


def test_soft_kernels_and_expansions_pass_gradients() -> None:
    net = scrambled(SMALL)
    gates = one_hot_gates(SMALL.space, SMALL.architecture([5] * 4, [4] * 4, [2, 2]))
    share = torch.full((3,), 1 / 3, requires_grad=True)
    for kind in ("kernel", "expansion"):
        mixed = net(torch.randn(2, 1, 16, 16), {**gates, f"stage2.block1.{kind}": Gate(share, (0, 1, 2))})
        [gradient] = torch.autograd.grad(mixed.square().sum(), share)
        assert torch.isfinite(gradient).all() and (gradient != 0).all()


def test_images_of_another_size_are_refused() -> None:
    net, a = SMALL.supernet(), SMALL.default()
    with pytest.raises(SpaceError, match=r"images of \(12, 12\) for a network of resolution 16"):
        net(torch.randn(1, 1, 12, 12), a)
    gates = {**one_hot_gates(net.space, a), "resolution": Gate(torch.ones(2) / 2, (0, 1))}
    with pytest.raises(SpaceError, match="supports 2 options"):
        net(torch.randn(1, 1, 16, 16), gates)
    with pytest.raises(SpaceError, match="is active but not given"):
        net.extract(Architecture({"resolution": 16}))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"kernels": [3, 4]}, "kernels holds 4"),
        ({"depths": [2, 1]}, r"depths is \[2, 1\]; expected ascending"),
        ({"widths": [8]}, "strides has 5 entries, widths has 1"),
        ({"width": 0}, "width is 0"),
        ({"mix_width": -1}, "mix_width is -1"),
        ({"widths": [], "strides": [], "se": [], "activations": []}, r"widths \[\] and strides \[\]"),
        ({"stem_activation": "swosh"}, 'activation "swosh" is unknown'),
    ],
)
def test_wrong_entries_are_named(overrides: dict[str, object], message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        family("ofa_mobilenet_v3", overrides, channels=3, classes=3)


def test_the_space_is_as_large_as_published() -> None:
    """About 2e19 networks (arXiv 1908.09791, section 3.2), times the resolutions."""
    base = FAMILIES["ofa_mobilenet_v3"]
    assert isinstance(base, OfaMobileNetV3)
    assert base.space.size == len(base.resolutions) * (9**2 + 9**3 + 9**4) ** 5
    assert base.space.size / len(base.resolutions) == pytest.approx(2e19, rel=0.1)
    assert OFA_PROXYLESS.space.size == 4 * (9**2 + 9**3 + 9**4) ** 5 * 9


def test_lists_of_wrong_length_are_refused() -> None:
    with pytest.raises(SpaceError, match="3 kernels; expected 4"):
        SMALL.architecture([3] * 3, [3] * 4, [1, 1])
    with pytest.raises(SpaceError, match="3 depths; expected 2"):
        SMALL.architecture([3] * 4, [3] * 4, [1, 1, 1])


FORMS = (
    OfaMobileNetV3("v3", stem_width=16),
    OfaMobileNetV3("v3-1.2", width=1.2),
    OFA_PROXYLESS,
)


def test_all_published_networks_are_in_the_space_and_have_their_multiply_adds() -> None:
    """Fifty networks; three are published with their multiply-adds."""
    import pyarrow.parquet as pq

    rows = pq.read_table(data("ofa", "specialized_nets.parquet")).to_pylist()
    assert len(rows) == 50
    found: dict[str, int] = {}
    for n, row in enumerate(rows):
        blocks, side = json.loads(row["blocks_json"]), int(row["resolution_px"])
        stem = blocks[0][0]
        [form] = [
            f for f in FORMS if f.scaled(f.stem_width) == stem and (f.tail_width > 0) == (blocks[0][7] == "relu6")
        ]
        chosen = replace(form, resolutions=(side,))
        a = chosen.architecture_of_rows(blocks)
        entries = chosen.space.blocks_of(a)
        assert len(entries) == len(blocks) + 2
        assert [entry.setting("hidden") for entry in entries[2:-1]] == [block[5] for block in blocks[1:]]
        if n % 5 == 0 or row["flops_m"]:  # the second count takes a tenth of a second
            check_counts(entries)
        found[form.name] = found.get(form.name, 0) + 1
        if row["flops_m"]:
            assert sum(entry.macs for entry in entries) / 1e6 == pytest.approx(row["flops_m"], rel=0.01)
    assert found == {"v3": 24, "v3-1.2": 10, "ofa_proxyless": 16}


def test_rows_of_another_space_are_named() -> None:
    rows: list[Row] = [[16, 16, 3, 1, 1, None, False, "relu"], [16, 32, 3, 2, 3, 48, False, "relu"]]
    with pytest.raises(SpaceError, match=r"row 2 \[16, 32.*\] does not fit stage1.block1"):
        FORMS[0].architecture_of_rows(rows)
    with pytest.raises(SpaceError, match="0 blocks in stage 1; known"):
        FORMS[0].architecture_of_rows(rows[:1])


def test_mobilenet_v3_large_has_its_published_size() -> None:
    """Torchvision's figures, and the authors' own (tensorflow.org, MobileNetV3Large): 217M and 5.4M.

    The paper prints 219M multiply-adds; its 5.4M parameters are 5.48M in every implementation.
    """
    from torchvision.models import MobileNet_V3_Large_Weights
    from torchvision.models import mobilenet_v3_large as reference

    blocks = mobilenet_v3_large()
    check_counts(blocks)
    macs, parameters = sum(b.macs for b in blocks), sum(b.parameters for b in blocks)
    published = MobileNet_V3_Large_Weights.IMAGENET1K_V1.meta
    assert parameters + 1280 == published["num_params"], "their layer after the mean has a bias"
    assert macs / 1e9 == pytest.approx(published["_ops"], abs=5e-4)
    assert macs == pytest.approx(217e6, rel=0.01)
    assert int(parameters / 1e5) == 54
    with torch.device("meta"):
        assert counted_macs(reference(), (3, 224, 224)) == macs
