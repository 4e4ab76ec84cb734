"""Genetic-CNN's space and its shared weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from hwnas.core import Architecture, SpaceError, generator
from hwnas.cost import UnitSum, entries_of
from hwnas.data import DataSource, Images, Preprocessing, batches
from hwnas.nn import Gate, one_hot_gates
from hwnas.training import SinglePath
from hwnas.zoo import FAMILIES, GeneticCnn, family
from tests.zoo.counting import counted_macs

CIFAR = GeneticCnn()
TINY = GeneticCnn("tiny", channels=1, classes=10, resolutions=(8, 12), nodes=(2, 4), widths=(4, 6), kernel=3)


def test_the_spaces_have_the_sizes_of_the_paper() -> None:
    """K = (3, 4, 5): 19 bits, 524,288 networks; K = (3, 5): 13 bits (section 4)."""
    assert CIFAR.space.size == 2**19
    assert replace(CIFAR, nodes=(3, 5), widths=(20, 50)).space.size == 2**13
    assert replace(CIFAR, nodes=(3, 5), widths=(20, 50), resolutions=(24, 28)).space.size == 2**14


def test_a_built_network_is_what_its_blocks_say() -> None:
    for a in TINY.space.sample(10, np.random.default_rng(0)):
        blocks = TINY.space.blocks_of(a)
        network = TINY.build_network(a)
        side = int(a["resolution"])
        assert network(torch.randn(2, 1, side, side)).shape == (2, 10)
        assert sum(p.numel() for p in network.parameters()) == sum(b.parameters for b in blocks)
        assert counted_macs(network, (1, side, side)) == sum(b.macs for b in blocks)


def test_equal_networks_have_equal_blocks() -> None:
    left = CIFAR.architecture(("1-00", "0-00-000", "0-00-000-0000"))
    right = CIFAR.architecture(("0-10", "0-00-000", "0-00-000-0000"))
    assert left != right
    assert CIFAR.space.blocks_of(left) == CIFAR.space.blocks_of(right)


def test_the_ends_are_no_edge_and_every_node() -> None:
    macs = UnitSum.of(CIFAR.space, lambda block: block.macs)
    smallest = macs.smallest()[1]
    assert CIFAR.codes(smallest) == ("0-00", "0-00-000", "0-00-000-0000")
    convolutions = 25 * (32**2 * 3 * 8 + 16**2 * 8 * 16 + 8**2 * 16 * 32)
    head = 32 * 128 + 128 * 10
    assert macs.smallest()[0] == convolutions + head
    more = 25 * (32**2 * 4 * 8**2 + 16**2 * 5 * 16**2 + 8**2 * 6 * 32**2)
    assert macs.largest()[0] == convolutions + more + head


def test_codes_there_and_back() -> None:
    for a in CIFAR.space.sample(20, np.random.default_rng(1)):
        assert CIFAR.architecture(CIFAR.codes(a)) == a
    with pytest.raises(SpaceError, match=r"codes of \[3, 4\] nodes; expected \[3, 4, 5\]"):
        CIFAR.architecture(("0-00", "0-00-000"))


def test_few_stages_are_measured_whole_and_many_by_kernels() -> None:
    assert {block.kind for block in entries_of(TINY.space).values()} == {"genetic_stage", "two_layer_head"}
    kinds = {block.kind for block in entries_of(CIFAR.space).values()}
    assert kinds == {"conv_norm_relu", "add", "pool", "two_layer_head"}


def test_hard_soft_and_extracted_networks_agree() -> None:
    torch.manual_seed(0)
    net = TINY.supernet()
    for part in net.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            for value in (part.weight, part.bias, part.running_mean, part.running_var):
                assert value is not None
                torch.nn.init.uniform_(value, 0.5, 1.5)
    net.eval()
    for a in TINY.space.sample(30, np.random.default_rng(2)):
        side = int(a["resolution"])
        x = torch.randn(2, 1, side, side)
        plain = net.extract(a)
        torch.testing.assert_close(net(x, a), plain(x), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(net(x, one_hot_gates(TINY.space, a)), plain(x), atol=1e-5, rtol=1e-5)


def test_the_shared_weights_are_trained() -> None:
    learner = replace(TINY, resolutions=(8,), widths=(8, 16))
    splits = DataSource("digits", limit=300).load(0)
    images = Images(splits.train, Preprocessing.fit(splits.train))
    torch.manual_seed(0)
    net = learner.supernet()
    step, optimizer = SinglePath(net, random=1), torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    losses: list[float] = []
    for k in range(40):
        for batch in batches(images, batch_size=32, generator=generator(0, k), drop_last=True):
            optimizer.zero_grad(set_to_none=True)
            losses.append(step(batch, generator(0, "step", len(losses))))
            optimizer.step()
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:5])


def test_images_of_another_size_are_refused() -> None:
    net, a = TINY.supernet(), TINY.default()
    with pytest.raises(SpaceError, match=r"images of \(8, 8\) for a network of resolution 12"):
        net(torch.randn(1, 1, 8, 8), a)
    gates = {**one_hot_gates(net.space, a), "resolution": Gate(torch.ones(2) / 2, (0, 1))}
    with pytest.raises(SpaceError, match="supports 2 options"):
        net(torch.randn(1, 1, 8, 8), gates)
    with pytest.raises(SpaceError, match="is active but not given"):
        net.extract(Architecture({"resolution": 8}))


def test_a_recipe_can_change_what_the_family_fixes() -> None:
    found = family("genetic_cnn", {"nodes": [2], "widths": [4]}, channels=1, classes=4)
    assert isinstance(found, GeneticCnn)
    assert (found.nodes, found.channels, found.classes) == ((2,), 1, 4)
    assert FAMILIES["genetic_cnn"].has_supernet


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"resolutions": (32, 16)}, r"resolutions is \[32, 16\]; expected ascending"),
        ({"kernel": 4}, "kernel is 4; kernels are odd"),
        ({"widths": (8, 16)}, "nodes has 3 entries, widths has 2"),
        ({"widths": (8, 16, 0)}, "they must be above 0"),
        ({"nodes": (3, 1, 4)}, r"nodes is \[3, 1, 4\]; expected 2 to 6"),
        ({"head_width": 0}, "head_width is 0"),
    ],
)
def test_impossible_values_are_named(change: dict[str, object], words: str) -> None:
    with pytest.raises(SpaceError, match=words):
        replace(CIFAR, **change)  # type: ignore[arg-type]
