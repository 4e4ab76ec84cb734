"""ProxylessNAS: its space, the networks its authors released, and small ones with their weights."""

from __future__ import annotations

import copy
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from hwnas.core import SpaceError
from hwnas.nn import one_hot_gates
from hwnas.zoo import FAMILIES, ProxylessNAS, family
from hwnas.zoo.ofa_checkpoint import describe_published, load_published
from hwnas.zoo.proxyless import RELEASED
from tests.zoo.counting import check_counts, counted_macs, data

SMALL = ProxylessNAS(
    "small",
    channels=1,
    classes=3,
    resolutions=(8, 12),
    stem_width=8,
    first_width=8,
    widths=(8, 16),
    depths=(2, 3),
    strides=(1, 2),
    head_width=24,
)

# Parameters: github.com/osmr/imgclsmob, README, counted of the authors' own models (it counts norms and activations as
# operations too, so its 332 to 597M are no multiply-adds). Multiply-adds of mobile and gpu: as later papers cite them,
# Chu et al. 2019 (arXiv 1907.01845) among them; the other two are cited nowhere that we know.
PUBLISHED = {
    "mobile": (4_080_512, 320e6),
    "gpu": (7_119_848, 465e6),
    "cpu": (4_361_648, None),
    "mobile_14": (6_857_568, None),
}


def test_the_space_is_as_large_as_published() -> None:
    base = FAMILIES["proxyless"]
    assert isinstance(base, ProxylessNAS)
    assert base.space.size == 6**6 * 7**15
    assert len(list(base.places())) == 21
    assert family("proxyless_small", {}, channels=3, classes=10).space.size == 6**6 * 7**15


@pytest.mark.parametrize("name", sorted(RELEASED))
def test_released_networks_have_their_published_size(name: str) -> None:
    blocks = RELEASED[name].blocks
    check_counts(blocks)
    parameters, macs = PUBLISHED[name]
    assert sum(block.parameters for block in blocks) == parameters
    if macs is not None:
        assert sum(block.macs for block in blocks) == pytest.approx(macs, rel=0.01)


def test_multiply_adds_of_the_released_networks_stay_as_they_are() -> None:
    found = {name: sum(block.macs for block in released.blocks) for name, released in RELEASED.items()}
    assert found == {"mobile": 320_427_584, "gpu": 465_260_160, "cpu": 439_243_864, "mobile_14": 580_883_408}


def test_hard_soft_and_extracted_networks_agree() -> None:
    torch.manual_seed(0)
    net = SMALL.supernet().train()
    for side in SMALL.resolutions:  # so that norms are no identities
        net(torch.randn(8, 1, side, side), SMALL.architecture(["k5_e3"] * 5, resolution=side))
    net.eval()
    for a in SMALL.space.sample(8, np.random.default_rng(1)):
        x = torch.randn(2, 1, int(a["resolution"]), int(a["resolution"]))
        plain = net.extract(a)
        assert torch.allclose(net(x, a), plain(x), atol=1e-5)
        assert torch.allclose(net(x, one_hot_gates(SMALL.space, a)), plain(x), atol=1e-5)
        blocks = SMALL.space.blocks_of(a)
        check_counts(blocks)
        assert counted_macs(plain, blocks[0].input_shape) == sum(block.macs for block in blocks)


def test_places_that_keep_the_shape_can_be_left_out() -> None:
    places = [name for name, c_in, c_out, stride in SMALL.places() if stride == 1 and c_in == c_out]
    assert places == ["stage1.block1", "stage1.block2", "stage2.block2", "stage2.block3"]
    assert len(SMALL.space.blocks_of(SMALL.architecture(["skip", "skip", "k3_e3", "skip", "skip"]))) == 4
    with pytest.raises(SpaceError, match="no option 'skip'"):
        SMALL.architecture(["skip"] * 5)
    with pytest.raises(SpaceError, match="3 operations; expected 5"):
        SMALL.architecture(["skip"] * 3)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"kernels": [3, 4]}, "kernels holds 4"),
        ({"resolutions": []}, r"resolutions is \[\]"),
        ({"depths": [2]}, "depths has 1 entries, widths has 6"),
        ({"head_width": 0}, "head_width is 0"),
        ({"strides": [2, 2, 2, 1, 2, 0]}, r"strides \[2, 2, 2, 1, 2, 0\] must be above 0"),
        ({"activation": "swosh"}, 'activation "swosh" is unknown'),
    ],
)
def test_wrong_entries_are_named(overrides: dict[str, object], message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        family("proxyless", overrides, channels=3, classes=3)


# ------------------------------------------------------------------------------------ small networks with their weights

WEIGHTS = [("w0.25-r112", 112, 0.57e6), ("w0.3-r176", 176, 0.75e6)]


@pytest.mark.parametrize(("name", "side", "parameters"), WEIGHTS)
def test_released_weights_load_and_run(name: str, side: int, parameters: float) -> None:
    config = json.loads(data("models", f"proxyless-{name}_imagenet.json").read_text())
    state = dict(np.load(data("models", f"proxyless-{name}_imagenet.npz")))
    blocks = describe_published(config, resolution=side)
    check_counts(blocks)
    assert sum(block.parameters for block in blocks) == pytest.approx(parameters, rel=0.01)
    network = load_published(config, state)
    logits = network(torch.randn(2, 3, side, side))
    assert logits.shape == (2, 1000) and torch.isfinite(logits).all()
    assert sum(p.numel() for p in network.parameters()) == sum(block.parameters for block in blocks)

    with pytest.raises(SpaceError, match="for 1000 classes, the data has 7.*reset_head"):
        load_published(config, state, classes=7)
    assert load_published(config, state, classes=7, reset_head=True)(torch.randn(1, 3, 32, 32)).shape == (1, 7)
    with pytest.raises(SpaceError, match='lacks "feature_mix_layer.bn.weight"'):
        load_published(config, {k: v for k, v in state.items() if k != "feature_mix_layer.bn.weight"})
    with pytest.raises(SpaceError, match=r"classifier.linear.bias is \(3,\); the configuration expects \(1000,\)"):
        load_published(config, {**state, "classifier.linear.bias": np.zeros(3, np.float32)})


def test_released_weights_know_what_is_in_a_photograph() -> None:
    """A photograph of the Summer Palace that comes with scikit-learn."""
    from PIL import Image
    from sklearn.datasets import load_sample_image

    config = json.loads(data("models", "proxyless-w0.3-r176_imagenet.json").read_text())
    network = load_published(config, dict(np.load(data("models", "proxyless-w0.3-r176_imagenet.npz"))))
    pixels = load_sample_image("china.jpg")
    h, w, _ = pixels.shape
    left = (w - h) // 2
    square = Image.fromarray(pixels[:, left : left + h]).resize((176, 176), Image.Resampling.BICUBIC)
    image = (np.asarray(square, np.float32) / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    with torch.no_grad():
        top5 = network(torch.tensor(image, dtype=torch.float32).permute(2, 0, 1)[None]).topk(5).indices[0].tolist()
    assert set(top5) & {663, 698}, f"{top5} holds neither monastery nor palace"


@pytest.mark.parametrize(("name", "side", "parameters"), WEIGHTS)
def test_the_ofa_package_gives_the_same_outputs(name: str, side: int, parameters: float) -> None:
    nets = pytest.importorskip(
        "ofa.imagenet_classification.networks", reason="needs ofa, tqdm and pyyaml: pip install ofa"
    )
    config = json.loads(data("models", f"proxyless-{name}_imagenet.json").read_text())
    state = {k: torch.as_tensor(v) for k, v in np.load(data("models", f"proxyless-{name}_imagenet.npz")).items()}
    theirs = nets.ProxylessNASNets.build_from_config(copy.deepcopy(config))  # it takes names out of what it is given
    theirs.load_state_dict(state)
    x = torch.randn(4, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected, found = theirs.eval()(x), load_published(config, state)(x)
    print(name, float((found - expected).abs().max()), float(expected.abs().max()))  # noqa: T201
    assert torch.allclose(found, expected, atol=1e-5, rtol=1e-5)


def test_what_no_block_stands_for_is_named() -> None:
    config = json.loads(data("models", "proxyless-w0.25-r112_imagenet.json").read_text())
    odd = {**config, "blocks": [{"conv": {"name": "ResNetBottleneckBlock"}, "shortcut": None}]}
    with pytest.raises(SpaceError, match="block 0 is .*ResNetBottleneckBlock.*; expected MBConvLayer"):
        describe_published(odd, resolution=112)
    layer = {**config["blocks"][0]["mobile_inverted_conv"], "use_se": True}
    with pytest.raises(SpaceError, match="squeezes and excites without expansion"):
        describe_published({**config, "blocks": [{"conv": layer, "shortcut": None}]}, resolution=112)


def test_a_family_of_other_widths_is_another_space() -> None:
    assert replace(SMALL, widths=(8, 24)).space.entries_digest != SMALL.space.entries_digest
