"""Kernels of the pieces of cells: their multiply-adds are the block's, and every cell space can be estimated."""

from __future__ import annotations

import pytest

from hwnas.cost import EstimatedLatency, blocks_of, entries_of
from hwnas.cost.roofline import CELL_KERNELS, kernels_of
from hwnas.device import Roofline
from hwnas.zoo import FAMILIES
from hwnas.zoo.nasbench201 import NasBench201

DEVICE = Roofline(peak_gflops=10, bandwidth_gb_per_s=10, launch_us=1)
NAMES = (
    "amoebanet_mobile",
    "darts",
    "darts_imagenet",
    "dpp_net",
    "enas_macro",
    "enas_micro",
    "genetic_cnn",
    "metaqnn",
    "nas_rl",
    "nasbench201",
    "nasnet",
    "nats_size",
    "pnasnet_mobile",
    "smash",
)


@pytest.mark.parametrize("name", NAMES)
def test_kernels_have_the_multiply_adds_of_their_block(name: str) -> None:
    entries = entries_of(FAMILIES[name].space)
    assert {entry.kind for entry in entries.values()} <= set(CELL_KERNELS)
    for entry in entries.values():
        found = sum(k.operations // 2 for k in kernels_of(entry) if k.kind != "elementwise")
        assert found == entry.macs, entry.key
        assert all(kernel.numbers > 0 for kernel in kernels_of(entry))


def test_a_cell_is_the_sum_of_its_kernels() -> None:
    cells = [block for block in blocks_of(NasBench201(cells=1).space).values() if block.kind == "cell"]
    for block in cells[::500]:
        assert len(kernels_of(block)) == len(block.kernels or ())
        assert sum(k.operations // 2 for k in kernels_of(block) if k.kind == "dense") == block.macs


@pytest.mark.parametrize(
    "name", ["darts_small", "enas_macro_small", "genetic_cnn", "metaqnn", "nas_rl", "nasbench201", "smash_small"]
)
def test_a_device_that_nobody_has_can_be_asked_about_cells(name: str) -> None:
    space = FAMILIES[name].space
    model = EstimatedLatency.of(space, DEVICE)
    found = model(FAMILIES[name].default())
    assert found.origin == "estimated"
    assert model.smallest()[0] <= found.value <= model.largest()[0]
    macs = sum(block.macs for block in space.blocks_of(FAMILIES[name].default()))
    assert found.value > 2 * macs / (10 * 1e6), "not faster than its arithmetic at the peak"
