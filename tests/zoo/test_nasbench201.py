"""NAS-Bench-201 against the benchmark's own numbers, and as a space that can be profiled."""

from __future__ import annotations

import itertools
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from hwnas.core import Architecture, SpaceError, generator
from hwnas.cost import TERMS, UnitSum, UnitSumCost, blocks_of, entries_of, terms_of
from hwnas.data import DataSource, Images, Preprocessing, batches
from hwnas.evaluation.shared_weights import SharedWeights
from hwnas.nn import Gate, one_hot_gates
from hwnas.nn.cells import OPERATIONS, read_cell, without_dead_edges
from hwnas.training import Sandwich, Schedule, SinglePath, Trainer
from hwnas.zoo import FAMILIES, NasBench201, family
from hwnas.zoo.nasbench201 import EDGES

BENCHMARK = NasBench201()
SHARED = NasBench201("shared", channels=1, resolutions=(8, 12), cells=2, width=4)
SMALL = NasBench201("small", channels=1, resolutions=(8, 12), operations=("none", "nor_conv_1x1"), cells=2, width=4)


def table() -> dict[str, list[object]]:
    folder = Path(os.environ.get("HWNAS_BENCH_DATA", "no such folder")) / "nasbench201"
    if not (folder / "archs.parquet").is_file():
        pytest.skip("needs nasbench201 in HWNAS_BENCH_DATA")
    import pyarrow.parquet as pq

    columns = ["arch_str", "flops_m_cifar10", "params_m_cifar10", *(f"op_{i}_{j}" for i, j in EDGES)]
    found: dict[str, list[object]] = pq.read_table(folder / "archs.parquet", columns=columns).to_pydict()
    return found


def test_every_cell_of_the_benchmark_has_its_string_macs_and_parameters() -> None:
    rows = table()
    assert len(rows["arch_str"]) == BENCHMARK.space.size == 15_625
    seen = set()
    for n, text in enumerate(map(str, rows["arch_str"])):
        codes = [OPERATIONS.index(op) for row in read_cell(text) for op in row]
        assert codes == [rows[f"op_{i}_{j}"][n] for i, j in EDGES]
        seen.add(text)
    assert len(seen) == 15_625
    for n in range(0, 15_625, 125):
        a = BENCHMARK.architecture(str(rows["arch_str"][n]))
        assert BENCHMARK.cell(a) == rows["arch_str"][n]
        assert BENCHMARK.benchmark_macs(a) / 1e6 == pytest.approx(rows["flops_m_cifar10"][n], abs=6e-6)
        assert BENCHMARK.benchmark_parameters(a) / 1e6 == pytest.approx(rows["params_m_cifar10"][n], abs=6e-7)


def test_counts_of_all_networks_follow_the_published_formula_where_no_edge_is_dead() -> None:
    """7.78305 M + 35.38944 M per 3x3 + 3.93216 M per 1x1; fewer where edges are dead, as those are not built."""
    space = BENCHMARK.space
    codes = np.array([[0, *row] for row in itertools.product(range(5), repeat=6)])
    macs = UnitSum.of(space, lambda block: block.macs)(codes)
    parameters = UnitSum.of(space, lambda block: block.parameters)(codes)
    threes, ones = ((codes[:, 1:] == OPERATIONS.index(name)).sum(axis=1) for name in ("nor_conv_3x3", "nor_conv_1x1"))
    published = 7_783_040 + 35_389_440 * threes + 3_932_160 * ones
    weights = 73_306 + 243_040 * threes + 28_000 * ones
    names = [[OPERATIONS[code] for code in row] for row in codes[:, 1:].tolist()]
    cells = [((row[0],), (row[1], row[2]), (row[3], row[4], row[5])) for row in names]
    alive = np.array([cell == without_dead_edges(cell) for cell in cells])
    assert (macs[alive] == published[alive]).all()
    assert (parameters[alive] == weights[alive]).all()
    assert (macs <= published).all() and (parameters <= weights).all()
    for n in range(0, len(codes), 500):
        [a] = space.decode(codes[[n]])
        assert BENCHMARK.benchmark_macs(a) == published[n] + 10, "the classifier's bias"
        assert BENCHMARK.benchmark_parameters(a) == weights[n]
    # 341 cells have no path: of them only the frame is left.
    assert int((macs == 7_783_040).sum()) >= 341


@pytest.mark.parametrize("resolution", [8, 12])
def test_a_built_network_is_what_its_blocks_say(resolution: int) -> None:
    tiny = replace(SMALL, operations=("none", "nor_conv_3x3", "avg_pool_3x3"))
    torch.manual_seed(0)
    for a in tiny.space.sample(6, np.random.default_rng(resolution)):
        a = Architecture({**a, "resolution": resolution})
        network, blocks = tiny.build_network(a).eval(), tiny.space.blocks_of(a)
        assert [block.kind for block in blocks] == [
            "cell_stem", "cell", "cell", "reduction", "cell", "cell", "reduction", "cell", "cell", "cell_head",
        ]  # fmt: skip
        macs = 0

        def count(layer: torch.nn.Module, _: object, y: torch.Tensor) -> None:
            nonlocal macs
            assert isinstance(layer, torch.nn.Conv2d | torch.nn.Linear)
            macs += layer.weight.numel() * (y.shape[-1] * y.shape[-2] if y.ndim == 4 else 1)

        for layer in network.modules():
            if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear):
                layer.register_forward_hook(count)
        assert network(torch.randn(2, 1, resolution, resolution)).shape == (2, 10)
        assert macs == sum(block.macs for block in blocks) == UnitSumCost.count(tiny.space, "macs")(a).value
        assert sum(p.numel() for p in network.parameters()) == sum(block.parameters for block in blocks)


def test_a_space_of_few_cells_is_measured_whole_and_a_large_one_by_kernels() -> None:
    assert terms_of(SMALL.space) == TERMS
    assert entries_of(SMALL.space) == blocks_of(SMALL.space)
    large = entries_of(BENCHMARK.space)
    kinds = {"add", "avg_pool_3x3", "nor_conv_1x1", "nor_conv_3x3", "relu", "zero"}
    assert {entry.kind for entry in large.values()} == kinds | {"cell_stem", "reduction", "cell_head"}
    assert len(large) == 3 * len(kinds) + 4
    assert terms_of(BENCHMARK.space) == ("sum", "constant", "kernels", *(f"count:{kind}" for kind in sorted(kinds)))


def test_equal_networks_have_equal_live_cells() -> None:
    left = BENCHMARK.architecture("|nor_conv_3x3~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|")
    right = BENCHMARK.architecture("|none~0|+|none~0|none~1|+|skip_connect~0|none~1|avg_pool_3x3~2|")
    assert left != right
    assert BENCHMARK.live_cell(left) == BENCHMARK.live_cell(right)
    assert BENCHMARK.space.blocks_of(left) == BENCHMARK.space.blocks_of(right)
    assert BENCHMARK.cell(left) != BENCHMARK.live_cell(left)


def test_a_recipe_can_change_what_the_family_fixes() -> None:
    found = family("nasbench201", {"cells": 1, "operations": ["none", "skip_connect"]}, channels=1, classes=4)
    assert isinstance(found, NasBench201)
    assert (found.cells, found.channels, found.classes) == (1, 1, 4)
    assert found.name.startswith("nasbench201-")
    assert FAMILIES["nasbench201"].has_supernet


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"resolutions": (30,)}, "resolutions holds 30.*multiples of 4"),
        ({"resolutions": (32, 16)}, r"resolutions is \[32, 16\]; expected ascending"),
        ({"cells": 0}, "cells is 0; it must be above 0"),
        ({"operations": ("none", "nor_conv_7x7")}, 'operations holds "nor_conv_7x7"; did you mean "nor_conv_'),
        ({"operations": ("none", "none")}, "expected at least one, each once"),
    ],
)
def test_impossible_values_are_named(change: dict[str, object], words: str) -> None:
    with pytest.raises(SpaceError, match=words):
        replace(BENCHMARK, **change)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ("|none~0|+|none~0|none~1|", "has 3 nodes; expected 4"),
        ("|none~0|+|none~0|none~1|+|none~0|none~1|conv~2|", 'operation "conv" is unknown'),
    ],
)
def test_other_cells_are_refused(cell: str, words: str) -> None:
    with pytest.raises(SpaceError, match=words):
        BENCHMARK.architecture(cell)


def some(n: int, seed: int) -> list[Architecture]:
    """Random networks, one whose cells have no path and one where all is alive."""
    empty, full = ({f"node{j}.from{i}": name for i, j in EDGES} for name in ("none", "nor_conv_3x3"))
    return [
        *SHARED.space.sample(n, np.random.default_rng(seed)),
        Architecture({"resolution": 8, **empty}),
        Architecture({"resolution": 12, **full}),
    ]


def settled(net: torch.nn.Module) -> torch.nn.Module:
    """With norms that are not those of a fresh network, so that a wrong copy is seen."""
    torch.manual_seed(7)
    for part in net.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            for value in (part.weight, part.bias, part.running_mean, part.running_var):
                assert value is not None
                torch.nn.init.uniform_(value, 0.5, 1.5)
    return net.eval()


def test_hard_soft_and_extracted_networks_agree() -> None:
    torch.manual_seed(0)
    net = SHARED.supernet()
    settled(net)
    for a in some(20, 1):
        side = int(a["resolution"])
        x = torch.randn(2, 1, side, side)
        plain = net.extract(a)
        assert not plain.training
        assert [tuple(p.shape) for p in plain.parameters()] == [
            tuple(p.shape) for p in SHARED.build_network(a).parameters()
        ]
        torch.testing.assert_close(net(x, a), plain(x), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(net(x, one_hot_gates(SHARED.space, a)), plain(x), atol=1e-5, rtol=1e-5)
        assert sum(p.numel() for p in plain.parameters()) == sum(b.parameters for b in SHARED.space.blocks_of(a))


def test_an_extracted_network_has_weights_of_its_own() -> None:
    net = SHARED.supernet()
    a = some(0, 0)[-1]
    plain = net.extract(a)
    before = net.state_dict()["stages.0.0.operations.0-1.nor_conv_3x3.conv.weight"].clone()
    with torch.no_grad():
        for p in plain.parameters():
            p.add_(1.0)
    assert torch.equal(net.state_dict()["stages.0.0.operations.0-1.nor_conv_3x3.conv.weight"], before)


def test_only_what_lies_on_a_path_gets_a_gradient() -> None:
    torch.manual_seed(0)
    net = SHARED.supernet()
    for a in some(8, 3):
        side = int(a["resolution"])
        net.zero_grad(set_to_none=True)
        net(torch.randn(2, 1, side, side), a).sum().backward()
        live = read_cell(SHARED.live_cell(a))
        has_path = any(op != "none" for row in live for op in row)
        for name, p in net.named_parameters():
            if ".operations." in name:
                edge, operation = name.split(".operations.")[1].split(".")[:2]
                source, node = map(int, edge.split("-"))
                assert (p.grad is not None) == (live[node - 1][source] == operation), name
            elif name.startswith("head") or has_path:
                assert p.grad is not None, name
        if not has_path:
            assert all(p.grad is None for p in net.stem.parameters()), "nothing reaches the last cell's output"


def test_soft_edges_are_mixtures_with_a_gradient() -> None:
    """Second implementation: one cell of one soft edge, by hand."""
    torch.manual_seed(0)
    family = replace(SHARED, resolutions=(8,), cells=1)
    net = family.supernet()
    settled(net)
    base = family.architecture("|none~0|+|none~0|none~1|+|nor_conv_1x1~0|none~1|none~2|")
    values = torch.tensor([0.4, 0.1, 0.2, 0.3, 0.0], requires_grad=True)
    gates = {**one_hot_gates(family.space, base), "node3.from0": Gate(values, (0, 1, 2, 3))}
    x = torch.randn(2, 1, 8, 8)
    y = net.stem(x)
    for n, cell in enumerate([list(stage)[0] for stage in net.stages]):  # type: ignore[call-overload]
        y = net.reductions[n - 1](y) if n else y
        ops = cell.operations["0-3"]
        y = 0.1 * y + 0.2 * ops["nor_conv_1x1"](y) + 0.3 * ops["nor_conv_3x3"](y)
    expected = net.head(y)
    found = net(x, gates)
    torch.testing.assert_close(found, expected)
    found.sum().backward()
    assert values.grad is not None
    assert (values.grad[1:4] != 0).all()
    assert values.grad[0] == values.grad[4] == 0, "none adds nothing, and the pool is not supported"


def test_images_of_another_size_are_refused() -> None:
    net = SHARED.supernet()
    a = some(0, 0)[-1]
    with pytest.raises(SpaceError, match=r"images of \(8, 8\) for a network of resolution 12"):
        net(torch.randn(1, 1, 8, 8), a)
    gates = {**one_hot_gates(net.space, a), "resolution": Gate(torch.ones(2) / 2, (0, 1))}
    with pytest.raises(SpaceError, match="supports 2 options"):
        net(torch.randn(1, 1, 8, 8), gates)
    with pytest.raises(SpaceError, match="is active but not given"):
        net.extract(Architecture({"resolution": 8}))


@pytest.mark.parametrize("rule", ["single_path", "sandwich"])
def test_trained_networks_share_what_they_learnt(rule: str, tmp_path: Path) -> None:
    """Both rules train it, and what is cut from it and re-normalised is far above chance (0.1)."""
    learner = replace(SHARED, resolutions=(8,), cells=1, width=8)
    source = DataSource("digits", limit=600)
    splits = source.load(0)
    images = Images(splits.train, Preprocessing.fit(splits.train))
    torch.manual_seed(0)
    net = learner.supernet()
    largest = learner.space.canonical({"resolution": 8, **{f"node{j}.from{i}": "nor_conv_3x3" for i, j in EDGES}})
    smallest = learner.architecture("|none~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|")
    step = SinglePath(net, random=2) if rule == "single_path" else Sandwich(net, largest, smallest, random=1)
    epochs = 10 if rule == "single_path" else 6
    trainer = Trainer(
        net,
        step,
        batches=lambda rng: batches(images, batch_size=32, generator=rng, drop_last=True),
        steps=len(images) // 32,
        schedule=Schedule(epochs, learning_rate=0.1),
    )
    for k in range(epochs):
        trainer.epoch(k, generator(0, k))
    torch.save({"module": net.state_dict()}, tmp_path / "supernet@1.ckpt")
    evaluate = SharedWeights(learner, source, seed=0, checkpoints=tmp_path, batch_norm_images=256, splits=splits)
    found = []
    for a in (largest, smallest, learner.default()):
        value = evaluate(a, fidelity="full", weights="supernet@1", seed=0)["accuracy"]
        found.append(value if isinstance(value, float) else value.value)
    assert min(found) > 0.4, found


def test_every_space_has_a_default() -> None:
    for of in (BENCHMARK, SMALL, replace(SMALL, operations=("nor_conv_1x1", "avg_pool_3x3"))):
        assert of.space.contains(of.default())
