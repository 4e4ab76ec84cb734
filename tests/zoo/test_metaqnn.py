"""MetaQNN's space: what its agent may do, walked through a second time, and what its networks cost."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from hwnas.core import SpaceError
from hwnas.cost import UnitSum, UnitSumCost, entries_of
from hwnas.nn import load_network, save_network, write_onnx
from hwnas.zoo import FAMILIES, MetaQnn, family
from tests.zoo.counting import check_counts, counted_macs

CIFAR = MetaQnn()
SMALL = MetaQnn(
    "small",
    channels=1,
    classes=3,
    resolutions=(8,),
    filters=(4, 6),
    kernels=(3,),
    pools=((3, 2), (2, 2)),
    hidden=(8, 5),
    most_convs=2,
    most_pools=2,
    hidden_below=4,
)
TWO_SIZES = replace(SMALL, name="two_sizes", resolutions=(7, 9), most_convs=1)


def walks(of: MetaQnn, resolution: int) -> set[tuple[str, ...]]:
    """Every sequence that the rules of the paper's table allow, written without the family's own code."""
    ended: set[tuple[str, ...]] = set()

    def go_on(
        layers: tuple[str, ...], kind: str, run: int, pools: int, sides: tuple[int, ...], widths: list[int]
    ) -> None:
        side = sides[of.resolutions.index(resolution)]
        if kind != "start":
            ended.update({(*layers, "mean")} if not widths else set())
            ended.update({(*layers, "pixels")} if widths or side > 1 else set())
        if kind in ("start", "conv", "pool") and run < of.most_convs:
            for filters in of.filters:
                for kernel in of.kernels:
                    go_on((*layers, f"conv {kernel} {filters}"), "conv", run + 1, pools, sides, [])
        if kind == "conv" and pools < of.most_pools:
            for window, stride in of.pools:
                if min(sides) >= window:
                    after = tuple(math.ceil((s - window + 1) / stride) for s in sides)
                    go_on((*layers, f"pool {window}/{stride}"), "pool", 0, pools + 1, after, [])
        if kind != "start" and len(widths) < of.most_hidden and max(sides) < of.hidden_below:
            for width in of.hidden:
                if not widths or width <= widths[-1]:
                    go_on((*layers, f"hidden {width}"), "hidden", run, pools, sides, [*widths, width])

    go_on((), "start", 0, 0, of.resolutions, [])
    return ended


@pytest.mark.parametrize("of", [SMALL, TWO_SIZES], ids=lambda of: of.name)
def test_the_architectures_are_the_legal_sequences_each_once(of: MetaQnn) -> None:
    rng = np.random.default_rng(0)
    for resolution in of.resolutions:
        legal = walks(of, resolution)
        architectures = {layers: of.architecture(layers, resolution=resolution) for layers in sorted(legal)}
        assert len(set(architectures.values())) == len(legal)
        assert all(of.layers(a) == layers for layers, a in architectures.items())
        drawn = [a for a in of.space.sample(2000, rng) if a["resolution"] == resolution]
        assert {of.layers(a) for a in drawn} <= legal
    assert of.space.size == sum(len(walks(of, resolution)) for resolution in of.resolutions)


def test_the_size_is_the_closed_form() -> None:
    """Runs of one to three convolutions before each pool, none to three behind the last, then the end."""
    some = sum(12**n for n in range(1, 4))
    expected = 0
    for plan in CIFAR.plans.values():
        side = CIFAR.sides(plan, 32)[-1]
        ends = (3 + 6 if side < 8 else 0) + (2 if side > 1 else 1)
        expected += some ** len(plan) * (1 + some) * ends if plan else some * ends
    assert CIFAR.space.size == expected
    assert len(CIFAR.plans) == 35


def test_ten_thousand_walks_lead_to_networks() -> None:
    """No pool empties the image, every block reads what the one before it gives."""
    drawn = CIFAR.space.sample(10_000, np.random.default_rng(1))
    assert max(len(CIFAR.layers(a)) for a in drawn[:500]) <= 18
    for a in drawn:
        blocks = CIFAR.space.blocks_of(a)
        shapes = [(3, 32, 32), *(block.output_shape for block in blocks)]
        assert [block.input_shape for block in blocks] == shapes[:-1]
        assert shapes[-1] == (10,)
        assert all(all(n > 0 for n in shape) for shape in shapes)


def test_sequences_have_the_counts_of_their_modules() -> None:
    macs, parameters = (UnitSumCost.count(SMALL.space, name) for name in ("macs", "parameters"))
    for a in SMALL.space.sample(40, np.random.default_rng(2)):
        network = SMALL.build_network(a)
        kinds = [block.kind for block in SMALL.space.blocks_of(a)]
        said = [layer.split()[0] for layer in SMALL.layers(a) if not layer.startswith("hidden")]
        names = {"conv": "conv_norm_relu", "pool": "window_pool", "mean": "sequence_head", "pixels": "sequence_head"}
        assert kinds == [names[kind] for kind in said]
        assert network(torch.randn(2, 1, 8, 8)).shape == (2, 3)
        assert parameters(a).value == sum(p.numel() for p in network.parameters())
        assert macs(a).value == counted_macs(network, (1, 8, 8))


def test_the_paper_s_best_like_network_by_hand() -> None:
    layers = ("conv 3 64", "pool 5/3", "conv 5 128", "pool 2/2", "conv 1 512", "hidden 256", "hidden 128", "pixels")
    a = CIFAR.architecture(layers)
    check_counts(CIFAR.space.blocks_of(a))
    assert UnitSumCost.count(CIFAR.space, "macs")(a).value == (
        32 * 32 * 9 * 3 * 64 + 10 * 10 * 25 * 64 * 128 + 5 * 5 * 128 * 512 + 25 * 512 * 256 + 256 * 128 + 128 * 10
    )


def test_the_ends_are_exact() -> None:
    macs = UnitSum.of(SMALL.space, lambda block: block.macs)
    every = [SMALL.architecture(layers) for layers in sorted(walks(SMALL, 8))]
    values = macs(SMALL.space.encode(every))
    assert (macs.smallest()[0], macs.largest()[0]) == (values.min(), values.max())


def test_numbers_of_pools_are_drawn_alike() -> None:
    drawn = CIFAR.space.sample(4000, np.random.default_rng(3))
    pools = [len(CIFAR.plans[str(a["pools"])]) for a in drawn]
    for n in range(4):
        assert pools.count(n) / len(pools) == pytest.approx(0.25, abs=0.03)


def test_blocks_are_measured_whole_and_shared_between_sequences() -> None:
    entries = entries_of(CIFAR.space)
    assert {block.kind for block in entries.values()} == {"conv_norm_relu", "window_pool", "sequence_head"}
    assert len(entries) < 1000
    assert all(block.kernels is None for block in entries.values())


def test_networks_are_exported_written_and_read(tmp_path: Path) -> None:
    for number, a in enumerate(SMALL.space.sample(4, np.random.default_rng(4))):
        network = SMALL.build_network(a).eval()
        path = tmp_path / f"{number}.onnx"
        write_onnx(network, path, input_shape=(1, 8, 8))
        x = torch.randn(3, 1, 8, 8)
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        [found] = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        torch.testing.assert_close(torch.from_numpy(found), network(x).detach(), atol=1e-4, rtol=1e-4)
        save_network(path.with_suffix(".weights"), network, blocks=SMALL.space.blocks_of(a), architecture=a)
        assert torch.equal(load_network(path.with_suffix(".weights"))(x), network(x))


def test_a_network_can_be_trained() -> None:
    torch.manual_seed(0)
    network = SMALL.build_network(SMALL.default())
    network(torch.randn(4, 1, 8, 8)).sum().backward()
    assert all(p.grad is not None for p in network.parameters())


@pytest.mark.parametrize(
    "of",
    [
        CIFAR,
        SMALL,
        TWO_SIZES,
        replace(CIFAR, most_pools=0),
        replace(CIFAR, most_pools=0, resolutions=(1,), most_convs=1),
        replace(CIFAR, resolutions=(4,)),
        replace(CIFAR, most_hidden=0),
        replace(CIFAR, filters=(8,), kernels=(5,), pools=((4, 4),), hidden=(3,)),
    ],
)
def test_every_space_has_a_default_and_names_what_it_draws(of: MetaQnn) -> None:
    for a in [of.default(), *of.space.sample(20, np.random.default_rng(5))]:
        assert of.space.contains(a)
        assert of.architecture(of.layers(a), resolution=int(a["resolution"])) == a
        assert of.space.blocks_of(a)[-1].output_shape == (10 if of.classes == 10 else 3,)


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        (("pool 2/2", "mean"), 'layer 1 is "pool 2/2"; expected conv$'),
        (("conv 3 4", "pool 2/2", "pool 2/2", "mean"), 'layer 3 is "pool 2/2"; expected conv, mean or pixels'),
        (("conv 3 4",) * 3, 'layer 3 is "conv 3 4"; expected pool, mean or pixels'),
        (("conv 3 7", "mean"), 'layer 1 is "conv 3 7"; expected conv$'),
        (("conv 3 4", "hidden 8", "pixels"), 'layer 2 is "hidden 8"; expected conv, pool, mean or pixels'),
        (
            ("conv 3 4", "pool 3/2", "hidden 5", "hidden 8", "pixels"),
            'layer 4 is "hidden 8"; expected hidden or pixels',
        ),
        (("conv 3 4", "pool 3/2", "hidden 5", "mean"), 'layer 4 is "mean"; expected hidden or pixels'),
        (("conv 3 4", "mean", "mean"), 'layer 3 is "mean"; expected nothing'),
        (("conv 3 4",), "does not end with mean or pixels"),
    ],
)
def test_sequences_that_are_not_legal_are_refused(layers: tuple[str, ...], words: str) -> None:
    with pytest.raises(SpaceError, match=words):
        SMALL.architecture(layers)


def test_a_recipe_can_change_what_the_family_fixes() -> None:
    found = family("metaqnn", {"pools": [[2, 2]], "most_pools": 1, "filters": [4]}, channels=1, classes=4)
    assert isinstance(found, MetaQnn)
    assert (found.pools, found.channels, found.classes) == (((2, 2),), 1, 4)
    assert not FAMILIES["metaqnn"].has_supernet
    with pytest.raises(SpaceError, match="it has no supernet"):
        found.supernet()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"resolutions": (32, 16)}, r"resolutions is \[32, 16\]; expected ascending"),
        ({"resolutions": (0,)}, r"resolutions is \[0\]; they must be above 0"),
        ({"filters": ()}, r"filters is \[\]; expected at least one"),
        ({"filters": (8, 8)}, r"filters is \[8, 8\]; expected at least one, each once"),
        ({"kernels": (2,)}, r"kernels is \[2\]; kernels are odd"),
        ({"pools": ((3, 1),)}, r"pools holds \(3, 1\); window and stride must be above 1"),
        ({"most_convs": 0}, "most_convs is 0; it must be above 0"),
        ({"most_pools": -1}, "most_pools is -1; it must not be below 0"),
        ({"resolutions": (500,), "most_pools": 8}, "sequences of pools the cost of a layer hangs on up to"),
    ],
)
def test_impossible_values_are_named(change: dict[str, object], words: str) -> None:
    with pytest.raises(SpaceError, match=words):
        replace(CIFAR, **change)  # type: ignore[arg-type]
