"""The chain with skips of Zoph and Le 2017: its space, its price and its shared weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from hwnas.core import Architecture, CostError, SpaceError, generator
from hwnas.cost import UnitSum, UnitSumCost, entries_of
from hwnas.data import DataSource, Images, Preprocessing, batches
from hwnas.nn import Gate, one_hot_gates, write_onnx
from hwnas.nn.skip_layers import SkipLayer, describe_skip_network
from hwnas.training import SinglePath
from hwnas.zoo import FAMILIES, NasRl, family
from tests.zoo.counting import counted_macs

CIFAR = NasRl()
TINY = NasRl(
    "tiny", channels=1, classes=10, resolutions=(8, 12), depths=(2, 3), heights=(1, 3), widths=(3,), filters=(4, 6)
)
STRIDED = replace(TINY, name="strided", resolutions=(9,), depths=(3,), strides=(1, 2, 3))


def test_the_spaces_have_the_sizes_of_the_paper() -> None:
    """4 heights, 4 widths, 4 counts and a bit per earlier layer (section 4.1)."""
    whole = replace(CIFAR, depths=(6,), reach=5)
    assert whole.space.size == 64**6 * 2**15
    assert CIFAR.space.size == 64**15 * 2 ** (0 + 1 + 2 + 3 + 11 * 4)
    assert replace(CIFAR, depths=(6, 8)).space.size == 64**6 * 2**14 + 64**8 * 2**22
    assert replace(CIFAR, depths=(2,), strides=(1, 2, 3)).space.size == 192**2 * 2


def test_the_size_is_what_listing_counts_and_every_skip_counts() -> None:
    """Each architecture is another network, even one whose layers only go to the classifier."""
    every = list(TINY.space.enumerate())
    assert len(every) == TINY.space.size == 2 * (4**2 * 2 + 4**3 * 2**3)
    seen = {(a["resolution"], TINY.layers(a)) for a in every}
    assert len(seen) == len(every)
    assert {tuple(layer.sources for layer in layers) for _, layers in seen} == {
        ((), second, third) for second in ((), (0,)) for third in ((), (0,), (1,), (0, 1))
    } | {((), ()), ((), (0,))}


def test_the_default_has_the_multiply_adds_worked_out_by_hand() -> None:
    macs, parameters = (UnitSumCost.count(CIFAR.space, name) for name in ("macs", "parameters"))
    default = CIFAR.default()
    pairs = 3 * 48 + 48 * 48 + 13 * 2 * 48 * 48  # image, one source, two sources
    assert macs(default).value == 32 * 32 * 9 * pairs + 48 * 10
    assert parameters(default).value == 9 * pairs + 15 * 2 * 48 + 48 * 10 + 10


@pytest.mark.parametrize("of", [TINY, STRIDED], ids=lambda of: of.name)
def test_a_built_network_is_what_its_blocks_say(of: NasRl) -> None:
    macs, parameters = (UnitSumCost.count(of.space, name) for name in ("macs", "parameters"))
    for a in of.space.sample(40, np.random.default_rng(0)):
        network, side = of.build_network(a), int(a["resolution"])
        shares = describe_skip_network(1, 10, side, of.layers(a))
        assert network(torch.randn(2, 1, side, side)).shape == (2, 10)
        assert parameters(a).value == network.block.parameters == sum(p.numel() for p in network.parameters())
        assert macs(a).value == network.block.macs == counted_macs(network, (1, side, side))
        assert sorted(block.key for block in of.space.blocks_of(a)) == sorted(block.key for block in shares)


def test_the_ends_are_no_skip_and_all_skips() -> None:
    macs = UnitSum.of(CIFAR.space, lambda block: block.macs)
    smallest, cheapest = macs.smallest()
    assert {layer.sources for layer in CIFAR.layers(cheapest)} == {()}
    assert smallest == 15 * (32 * 32 * 3 * 24 + 24 * 10)
    largest, dearest = macs.largest()
    assert [len(layer.sources) for layer in CIFAR.layers(dearest)] == [0, 1, 2, 3, *[4] * 11]
    assert largest == 32 * 32 * 49 * (3 * 64 + 50 * 64 * 64) + 64 * 10


def test_all_skips_of_many_layers_have_no_exact_ends() -> None:
    macs = UnitSum.of(replace(CIFAR, depths=(9,), reach=8).space, lambda block: block.macs)
    with pytest.raises(CostError, match="cannot be found exactly"):
        macs.smallest()


def test_layers_there_and_back() -> None:
    for of in (CIFAR, TINY, STRIDED):
        for a in of.space.sample(20, np.random.default_rng(1)):
            assert of.architecture(of.layers(a), resolution=int(a["resolution"])) == a


def test_few_entries_cover_the_paper_s_space() -> None:
    entries = entries_of(CIFAR.space)
    kinds = [block.kind for block in entries.values()]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {
        "source_conv": 16 * 4 * (1 + 4),
        "norm_relu": 4,
        "readout": 4 * 2,
    }


def randomly_normed(net: torch.nn.Module) -> torch.nn.Module:
    for name, value in net.state_dict().items():
        if "norm" in name:
            torch.nn.init.uniform_(value, 0.5, 1.5)
    return net.eval()


def test_hard_soft_and_extracted_networks_agree() -> None:
    torch.manual_seed(0)
    net = TINY.supernet()
    randomly_normed(net)
    for a in TINY.space.sample(30, np.random.default_rng(2)):
        side = int(a["resolution"])
        x, plain = torch.randn(2, 1, side, side), net.extract(a)
        torch.testing.assert_close(net(x, a), plain(x), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(net(x, one_hot_gates(TINY.space, a)), plain(x), atol=1e-5, rtol=1e-5)


def test_networks_with_strides_share_weights_as_long_as_all_is_hard() -> None:
    torch.manual_seed(0)
    net, x = STRIDED.supernet(), torch.randn(2, 1, 9, 9)
    randomly_normed(net)
    for a in STRIDED.space.sample(30, np.random.default_rng(3)):
        plain = net.extract(a)
        torch.testing.assert_close(net(x, a), plain(x), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(net(x, one_hot_gates(STRIDED.space, a)), plain(x), atol=1e-5, rtol=1e-5)
    gates = one_hot_gates(STRIDED.space, STRIDED.default())
    for soft in (Gate(torch.ones(2) / 2, (0, 1)), Gate(torch.tensor([1.0, 0.0], requires_grad=True), (0,))):
        with pytest.raises(SpaceError, match=r"gate of 'layer2.from1' is soft; with strides \[1, 2, 3\]"):
            net(x, gates | {"layer2.from1": soft})


@pytest.mark.parametrize("of", [TINY, STRIDED], ids=lambda of: of.name)
def test_networks_are_exported(of: NasRl, tmp_path: Path) -> None:
    for number, a in enumerate(of.space.sample(4, np.random.default_rng(4))):
        network, side = of.build_network(a).eval(), int(a["resolution"])
        path = tmp_path / f"{number}.onnx"
        write_onnx(network, path, input_shape=(1, side, side))
        x = torch.randn(3, 1, side, side)
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        [found] = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        torch.testing.assert_close(torch.from_numpy(found), network(x).detach(), atol=1e-4, rtol=1e-4)


def test_the_shared_weights_are_trained() -> None:
    learner = replace(TINY, resolutions=(8,), heights=(3,), filters=(16, 32))
    splits = DataSource("digits", limit=300).load(0)
    images = Images(splits.train, Preprocessing.fit(splits.train))
    torch.manual_seed(0)
    net = learner.supernet()
    step, optimizer = SinglePath(net, random=1), torch.optim.SGD(net.parameters(), lr=0.3, momentum=0.9)
    losses: list[float] = []
    for k in range(40):
        for batch in batches(images, batch_size=32, generator=generator(0, k), drop_last=True):
            optimizer.zero_grad(set_to_none=True)
            losses.append(step(batch, generator(0, "step", len(losses))))
            optimizer.step()
    assert np.mean(losses[-10:]) < 0.6 * np.mean(losses[:5])


def test_images_of_another_size_are_refused() -> None:
    net, a = TINY.supernet(), TINY.default()
    with pytest.raises(SpaceError, match=r"images of \(8, 8\) for a network of resolution 12"):
        net(torch.randn(1, 1, 8, 8), a)
    with pytest.raises(SpaceError, match="does not say"):
        net.extract(Architecture({"resolution": 8}))


def test_a_recipe_can_change_what_the_family_fixes() -> None:
    found = family("nas_rl", {"depths": [2], "filters": [4], "reach": 1}, channels=1, classes=4)
    assert isinstance(found, NasRl)
    assert (found.depths, found.channels, found.classes) == ((2,), 1, 4)
    assert FAMILIES["nas_rl"].has_supernet


def test_other_layers_are_refused() -> None:
    with pytest.raises(SpaceError, match=r"1 layers; expected one of \[2, 3\]"):
        TINY.architecture([SkipLayer(1, 3, 4)])
    with pytest.raises(SpaceError, match="layer1 has stride 2; expected 1"):
        TINY.architecture([SkipLayer(1, 3, 4, 2), SkipLayer(1, 3, 4)])
    with pytest.raises(SpaceError, match=r"layer3 reads layer 1; it may read \[2\]"):
        replace(TINY, reach=1).architecture([SkipLayer(1, 3, 4), SkipLayer(1, 3, 4), SkipLayer(1, 3, 4, 1, (0,))])
    with pytest.raises(SpaceError, match="has no option 7"):
        TINY.architecture([SkipLayer(1, 7, 4), SkipLayer(1, 3, 4)])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"resolutions": (32, 16)}, r"resolutions is \[32, 16\]; expected ascending"),
        ({"depths": ()}, r"depths is \[\]; expected ascending"),
        ({"heights": (1, 2)}, r"heights is \[1, 2\]; filters are odd"),
        ({"filters": (0, 2)}, r"filters is \[0, 2\]; expected ascending numbers above 0"),
        ({"reach": 0}, "reach is 0"),
        ({"reach": 14}, "with reach 14 and 15 layers the cost of a layer hangs on up to 4.2e[+]06 combinations"),
        ({"strides": (1, 2)}, r"with strides \[1, 2\] and 15 layers"),
    ],
)
def test_impossible_values_are_named(change: dict[str, object], words: str) -> None:
    with pytest.raises(SpaceError, match=words):
        replace(CIFAR, **change)  # type: ignore[arg-type]
