"""Pieces and cells against torch written out by hand, and their counts against the modules that run."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import cast

import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hwnas.core import Architecture, SpaceError
from hwnas.nn import build_block, is_chain, load_network, save_network, write_onnx
from hwnas.nn.two_input_cells import (
    EDGE_OPERATIONS,
    Bottleneck,
    Concat,
    FactorizedReduce,
    Features,
    Place,
    TwiceSeparable,
    TwoInputCell,
    TwoInputNetwork,
    Wiring,
    describe_concat,
    describe_conv_norm,
    describe_factorized_reduce,
    describe_operation,
    describe_pool_classifier,
    plan,
)
from hwnas.space import Block
from tests.zoo.counting import counted_macs


def check(block: Block) -> None:
    """The module has the block's shapes, parameters and multiply-adds."""
    module = build_block(block).eval()
    assert tuple(module(torch.randn(2, *block.input_shape)).shape[1:]) == block.output_shape
    assert sum(p.numel() for p in module.parameters()) == block.parameters
    assert counted_macs(module, block.input_shape) == block.macs


@pytest.mark.parametrize("name", EDGE_OPERATIONS)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("c_in", "size"), [(12, 8), (12, 7), (8, 9)])
def test_an_operation_is_what_it_is_described_as(name: str, stride: int, c_in: int, size: int) -> None:
    block = describe_operation(name, c_in, 12, size, stride=stride)
    if block is None:
        assert name in ("skip_connect", "identity") and stride == 1 and c_in == 12
        return
    assert block.output_shape == (12, -(-size // stride), -(-size // stride))
    check(block)


def test_the_other_pieces_are_what_they_are_described_as() -> None:
    for rectify in (0, 1):
        check(describe_factorized_reduce(6, 9, 11, rectify=rectify))
        check(describe_pool_classifier(12, 5, 4, rectify=rectify))
        check(describe_conv_norm(3, 8, 15, kernel=3, stride=2, padding=0, rectify=rectify))
    check(describe_conv_norm(3, 8, 16, kernel=3, stride=2, padding=1))
    check(describe_concat(4, 3, 5))


def test_unknown_operations_are_named() -> None:
    with pytest.raises(SpaceError, match='operation "sep_conv_9x9" is unknown; did you mean "sep_conv_'):
        describe_operation("sep_conv_9x9", 4, 4, 8, stride=1)


def norm(x: Tensor, layer: nn.BatchNorm2d) -> Tensor:
    return F.batch_norm(x, layer.running_mean, layer.running_var, layer.weight, layer.bias, eps=layer.eps)


@pytest.mark.parametrize("size", [6, 7, 1])
def test_factorized_reduction_reads_every_second_pixel_and_those_aside(size: int) -> None:
    torch.manual_seed(0)
    module = FactorizedReduce(3, 5, rectify=1).eval()
    x = torch.randn(2, 3, size, size)
    y = F.relu(x)
    aside = torch.zeros(2, 3, -(-size // 2), -(-size // 2))
    seen = y[:, :, 1::2, 1::2]
    aside[:, :, : seen.shape[2], : seen.shape[3]] = seen
    parts = [F.conv2d(y[:, :, ::2, ::2], module.first.weight), F.conv2d(aside, module.second.weight)]
    one = nn.BatchNorm2d(5).eval()
    nn.init.uniform_(one.weight, 0.5, 1.5)
    with torch.no_grad():
        module.first_norm.weight.copy_(one.weight[:2])
        module.second_norm.weight.copy_(one.weight[2:])
    torch.testing.assert_close(module(x), norm(torch.cat(parts, dim=1), one))
    module.rectify = 0
    assert not torch.allclose(module(x), module(F.relu(x)))


def test_a_separable_convolution_is_done_twice() -> None:
    torch.manual_seed(0)
    module = TwiceSeparable(4, 6, kernel=5, stride=2).eval()
    x = torch.randn(2, 4, 9, 9)
    y = x
    for part, stride in ((module.first, 2), (module.second, 1)):
        y = F.conv2d(F.relu(y), part.depthwise.weight, stride=stride, padding=2, groups=y.shape[1])
        y = norm(F.conv2d(y, part.pointwise.weight), part.norm)
    torch.testing.assert_close(module(x), y)


def test_a_flat_kernel_strides_along_itself() -> None:
    module = Bottleneck(4, 8, form="1x7_7x1", hidden=2, stride=2)
    wide, high = (part for part in module.middle if isinstance(part, nn.Conv2d))
    assert (wide.kernel_size, wide.stride) == ((1, 7), (1, 2))
    assert (high.kernel_size, high.stride) == ((7, 1), (2, 1))


PLACES = [
    Place("normal", 8, 1, Features(24, 6), Features(16, 6), (2, 3)),
    Place("normal", 8, 1, Features(16, 12), Features(32, 6), (2, 3)),  # behind a reduction
    Place("reduce", 8, 2, Features(16, 6), Features(16, 6), (3,)),
    Place("normal", 8, 1, Features(12, 6), Features(12, 6), (0, 2, 3), raw=True, matching="where_needed"),
    Place("reduce", 8, 2, Features(12, 7), Features(12, 7), (0, 1, 3), raw=True, matching="where_needed"),
    Place("normal", 8, 1, Features(8, 6), Features(16, 6), (2,), matching="where_needed"),
]
WIRINGS: list[Wiring] = [
    ((("sep_conv_3x3", 0), ("skip_connect", 1)), (("max_pool_3x3", 2), ("dil_conv_3x3", 0))),
    ((("identity", 0), ("identity", 0)), (("avg_pool_3x3", 1), ("identity", 2))),
    ((("conv_1x7_7x1", 1), ("avg_pool_3x3", 0)), (("conv_3x3", 0), ("conv_1x1", 2))),
]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("wiring", WIRINGS)
def test_a_cell_is_the_sum_of_its_blocks(place: Place, wiring: Wiring) -> None:
    torch.manual_seed(0)
    cell = TwoInputCell(place, wiring).eval()
    before, last = (torch.randn(2, *(c, s, s)) for c, s in (place.before, place.last))
    y = cell(before, last)
    assert tuple(y.shape[1:]) == (place.output.channels, place.output.size, place.output.size)
    blocks = [place.operation(name, source) for pair in wiring for name, source in pair]
    every = [*place.fixed, *(block for block in blocks if block)]
    assert sum(p.numel() for p in cell.parameters()) == sum(block.parameters for block in every)
    assert {block.kind for block in place.fixed} >= {"concat"}
    # Second implementation: the states one by one, from the cell's own pieces.
    states = [cell.inputs[0](before), cell.inputs[1](last)]
    for pair, modules in zip(wiring, cell.operations, strict=True):
        left, right = cast(nn.ModuleList, modules)
        states.append(left(states[pair[0][1]]) + right(states[pair[1][1]]))
    for number, state in enumerate(states):
        assert tuple(state.shape[1:]) == (place.state(number).channels, *(place.state(number).size,) * 2)
    given = [cell.endings[str(n)](states[n]) if str(n) in cell.endings else states[n] for n in place.outputs]
    torch.testing.assert_close(y, torch.cat(given, dim=1))


def test_a_cell_leaves_its_inputs_as_they_are() -> None:
    """Rectifying in place would change what the next cell reads."""
    cell = TwoInputCell(PLACES[3], WIRINGS[0]).eval()
    x = torch.randn(1, 12, 6, 6)
    kept = x.clone()
    cell(x, x)
    assert torch.equal(x, kept)


def test_a_first_cell_may_read_the_stem_as_it_is() -> None:
    assert PLACES[3].inputs[0] is None
    assert PLACES[3].state(0) == Features(12, 6)
    assert PLACES[5].inputs[0] is None, "its channels are those of the nodes already"
    assert [block.kind for block in PLACES[3].endings.values()] == ["conv_norm"]
    assert [block.kind for block in PLACES[4].endings.values()] == ["factorized_reduce", "factorized_reduce"]


def test_concat_repeats_its_input() -> None:
    x = torch.randn(1, 2, 3, 3)
    assert torch.equal(Concat(3)(x), x.repeat(1, 3, 1, 1))


def test_a_network_is_saved_and_exported(tmp_path: Path) -> None:
    torch.manual_seed(0)
    frame = plan(
        [describe_conv_norm(1, 6, 9, kernel=3, stride=1, padding=1, rectify=0)],
        [("normal", 4, 1), ("reduce", 8, 2), ("normal", 8, 1)],
        fork=1,
        classes=3,
        outputs={"normal": (0, 2, 3), "reduce": (2, 3)},
        matching="where_needed",
        rectify=1,
    )
    network = TwoInputNetwork(frame, {"normal": WIRINGS[0], "reduce": WIRINGS[2]}).eval()
    x = torch.randn(2, 1, 9, 9)
    block = network.block
    assert block.parameters == sum(p.numel() for p in network.parameters())
    assert block.macs == counted_macs(copy.deepcopy(network), (1, 9, 9))
    save_network(tmp_path / "net.safetensors", network, blocks=None, architecture=Architecture({}))
    again = load_network(tmp_path / "net.safetensors")
    torch.testing.assert_close(again(x), network(x))
    assert is_chain(tmp_path / "net.safetensors")
    assert cast(TwoInputNetwork, again[0]).block == block  # type: ignore[index]
    write_onnx(network, tmp_path / "net.onnx", input_shape=(1, 9, 9))
    session = onnxruntime.InferenceSession(str(tmp_path / "net.onnx"))
    [found] = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    torch.testing.assert_close(torch.from_numpy(found), network(x), atol=1e-4, rtol=1e-4)
