"""Weights by the authors' names; where their package is installed, its networks against ours."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hwnas.core import SpaceError
from hwnas.zoo.ofa_checkpoint import load_ofa_state, plain_names
from hwnas.zoo.ofa_mobilenet_v3 import OFA_PROXYLESS, OfaMobileNetV3
from hwnas.zoo.ofa_resnet50_d import OfaResNet50D
from tests.zoo.counting import counted_macs

TINY = OfaMobileNetV3(
    "tiny", classes=3, resolutions=(16,), widths=(8,), strides=(2,), se=(True,), activations=("relu",), head_width=16
)
SIDE = 64


def by_their_names(net: nn.Module) -> dict[str, Tensor]:
    """Random weights under the names that the package gives an elastic network of one stage, written down by hand."""
    ours = {name: torch.rand_like(value) for name, value in net.state_dict().items() if "num_batches" not in name}
    renamed = {"head.mix.weight": "feature_mix_layer.conv.weight"}
    for there, here in (("first_conv", "stem"), ("final_expand_layer", "head")):
        renamed[f"{here}.conv.weight"] = f"{there}.conv.weight"
        renamed |= {f"{here}.norm.{leaf}": f"{there}.bn.{leaf}" for leaf in LEAVES}
    for n in range(-1, 4):
        here, there = (f"stages.0.{n}", f"blocks.{n + 1}.conv") if n >= 0 else ("first", "blocks.0.conv")
        conv, norm = ("conv.conv", "bn.bn") if n >= 0 else ("conv", "bn")
        for part, layer in (
            ("expand", "inverted_bottleneck"),
            ("depthwise", "depth_conv"),
            ("project", "point_linear"),
        ):
            renamed[f"{here}.{part}.weight"] = f"{there}.{layer}.{conv}.weight"
            renamed |= {f"{here}.{part}_norm.{leaf}": f"{there}.{layer}.{norm}.{leaf}" for leaf in LEAVES}
        for step, name in enumerate(("7to5_matrix", "5to3_matrix")):
            renamed[f"{here}.transforms.{step}"] = f"{there}.depth_conv.conv.{name}"
        for part in ("reduce", "expand"):
            for leaf in ("weight", "bias"):
                renamed[f"{here}.se.{part}.{leaf}"] = f"{there}.depth_conv.se.fc.{part}.{leaf}"
    for leaf in ("weight", "bias"):
        renamed[f"head.classifier.{leaf}"] = f"classifier.linear.{leaf}"
    found = {renamed[name]: value for name, value in ours.items()}
    found["feature_mix_layer.conv.weight"] = found["feature_mix_layer.conv.weight"][:, :, None, None]
    return found


LEAVES = ("weight", "bias", "running_mean", "running_var")


def test_every_tensor_finds_its_place() -> None:
    net = TINY.supernet()
    state = by_their_names(net)
    load_ofa_state(net, state)
    assert torch.equal(net.stages[0][2].se.reduce.bias, state["blocks.3.conv.depth_conv.se.fc.reduce.bias"])  # type: ignore[index]
    assert torch.equal(net.stages[0][1].transforms[0], state["blocks.2.conv.depth_conv.conv.7to5_matrix"])  # type: ignore[index]
    assert torch.equal(net.head.classifier.bias, state["classifier.linear.bias"])
    back = {name: value for name, value in net.state_dict().items() if "num_batches" not in name}
    assert sum(value.sum() for value in back.values()) == pytest.approx(
        float(sum(value.sum() for value in state.values())), rel=1e-5
    )


def test_older_names_and_wrappings_mean_the_same() -> None:
    state = by_their_names(TINY.supernet())
    state["first_conv.bn.num_batches_tracked"] = torch.tensor(1)
    old = {"state_dict": {f"module.{k.replace('.conv.', '.mobile_inverted_conv.', 1)}": v for k, v in state.items()}}
    old["state_dict"]["module.classifier.linear.linear.bias"] = old["state_dict"].pop("module.classifier.linear.bias")
    kept = [name for name in plain_names(old) if not name.startswith(("first_conv", "final", "feature", "classifier"))]
    assert set(kept) <= set(plain_names(state))
    assert "classifier.linear.bias" in plain_names(old)


def test_other_classes_need_a_word() -> None:
    state = by_their_names(TINY.supernet())
    other = replace(TINY, classes=7).supernet()
    before = other.head.classifier.weight.clone()
    with pytest.raises(SpaceError, match="is for 3 classes, the data has 7.*reset_head"):
        load_ofa_state(other, state)
    assert not torch.equal(other.stem.conv.weight, state["first_conv.conv.weight"]), "nothing is loaded then"
    load_ofa_state(other, state, reset_head=True)
    assert torch.equal(other.stem.conv.weight, state["first_conv.conv.weight"])
    assert torch.equal(other.head.classifier.weight, before)


def test_reset_head_keeps_a_head_that_fits() -> None:
    net = TINY.supernet()
    state = by_their_names(net)
    load_ofa_state(net, state, reset_head=True)
    assert torch.equal(net.head.classifier.bias, state["classifier.linear.bias"])


def test_what_does_not_fit_is_named() -> None:
    state = by_their_names(TINY.supernet())
    with pytest.raises(SpaceError, match=r"first_conv.conv.weight is \(16, 3, 3, 3\); stem.conv.weight expects"):
        load_ofa_state(replace(TINY, channels=1).supernet(), state)
    with pytest.raises(SpaceError, match=r"lacks 21 tensors, the first is \"blocks.5.*build the family"):
        load_ofa_state(replace(TINY, depths=(5,)).supernet(), state)
    with pytest.raises(SpaceError, match=r"21 tensors more than space tiny, the first is \"blocks.4"):
        load_ofa_state(replace(TINY, depths=(2, 3)).supernet(), state)
    with pytest.raises(SpaceError, match=r"lacks 4 tensors.*5to3_matrix\"; left over: \"blocks.1.*7to5_matrix"):
        load_ofa_state(replace(TINY, kernels=(3, 5)).supernet(), {k: v for k, v in state.items() if "5to3" not in k})
    with pytest.raises(SpaceError, match="epoch is a int; expected a tensor"):
        load_ofa_state(TINY.supernet(), {"epoch": 3})
    with pytest.raises(SpaceError, match="state_dict is a int"):
        load_ofa_state(TINY.supernet(), {"state_dict": 3})


# --------------------------------------------------------------------------------------------- against their package


def randomised(net: Any) -> Any:
    """Statistics and kernel transforms as after training, so that nothing is an identity by chance."""
    torch.manual_seed(1)
    with torch.no_grad():
        for name, tensor in (*net.named_parameters(), *net.named_buffers()):
            if name.endswith("_matrix"):
                tensor.add_(0.1 * torch.randn(tensor.shape))
            elif name.endswith("running_var"):
                tensor.copy_(0.5 + torch.rand(tensor.shape))
            elif ".bn." in name and tensor.dim():
                tensor.add_(0.2 * torch.randn(tensor.shape))
            elif name.startswith("classifier.") and name.endswith("weight"):
                tensor.mul_(20)
    return net.eval()


def build(form: str) -> tuple[Any, OfaMobileNetV3 | OfaResNet50D, float]:
    """Their network, our family, and what their norms add to variances."""
    networks = pytest.importorskip(
        "ofa.imagenet_classification.elastic_nn.networks", reason="needs ofa, tqdm and pyyaml: pip install ofa"
    )
    if form == "resnet50_d":
        theirs = networks.OFAResNets(
            n_classes=10,
            depth_list=[0, 1, 2],
            expand_ratio_list=[0.2, 0.25, 0.35],
            width_mult_list=[0.65, 0.8, 1.0],
        )
        return theirs, OfaResNet50D(classes=10, resolutions=(SIDE,)), 1e-5
    elastic = {"ks_list": [3, 5, 7], "expand_ratio_list": [3, 4, 6], "depth_list": [2, 3, 4], "n_classes": 10}
    if form == "mobilenet_v3":
        return networks.OFAMobileNetV3(**elastic), OfaMobileNetV3(classes=10, resolutions=(SIDE,)), 1e-5
    theirs = networks.OFAProxylessNASNets(width_mult=1.3, bn_param=(0.1, 1e-3), **elastic)
    return theirs, replace(OFA_PROXYLESS, classes=10, resolutions=(SIDE,)), 1e-3


@pytest.mark.parametrize("form", ["mobilenet_v3", "proxyless", "resnet50_d"])
def test_networks_of_the_ofa_package_give_the_same_outputs(form: str, tmp_path: Path) -> None:
    theirs, family, norm_eps = build(form)
    torch.save({"state_dict": randomised(theirs).state_dict()}, tmp_path / "ofa.pt")
    ours = family.supernet().eval()
    load_ofa_state(ours, torch.load(tmp_path / "ofa.pt", weights_only=True), norm_eps=norm_eps)

    random.seed(0)
    x, worst, scale = torch.randn(2, 3, SIDE, SIDE), 0.0, 0.0
    for _ in range(20):
        chosen = theirs.sample_active_subnet()
        if isinstance(family, OfaResNet50D):
            a = family.architecture(chosen["d"], chosen["e"], chosen["w"])
        else:
            a = family.architecture(chosen["ks"], chosen["e"], chosen["d"])
        plain = theirs.get_active_subnet().eval()
        with torch.no_grad():
            expected, dynamic = plain(x), theirs(x)
            outputs = ours(x, a), ours.extract(a)(x)
        worst = max(worst, *(float((y - expected).abs().max()) for y in outputs))
        scale = max(scale, float(expected.abs().max()))
        assert torch.allclose(dynamic, expected, atol=1e-5)
        assert all(torch.allclose(y, expected, atol=1e-5) for y in outputs), (worst, scale)
        entries = family.space.blocks_of(a)
        assert sum(entry.parameters for entry in entries) == sum(p.numel() for p in plain.parameters())
        assert sum(entry.macs for entry in entries) == counted_macs(plain, (3, SIDE, SIDE))
    assert scale > 1, "outputs must be of a size that 1e-5 means something for"
    print(f"{form}: largest difference {worst:.1e} where outputs reach {scale:.2f}")  # noqa: T201
