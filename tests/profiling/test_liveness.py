"""Peaks by hand, by a second implementation, and of blocks against whole networks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.helper as make
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from hwnas.core import MeasureError
from hwnas.cost import PeakMemory, blocks_of
from hwnas.nn import build_block, build_network, write_onnx
from hwnas.profiling import footprint_of
from hwnas.profiling.liveness import IN_PLACE, VIEWS, Step, peak_bytes
from hwnas.zoo import FAMILIES
from tests.profiling import chain
from tests.profiling.models import write_model


def brute_force(steps: list[Step], sizes: dict[str, int], inputs: list[str], outputs: list[str]) -> int:
    """Every moment on its own: who holds which bytes, by looking at all nodes again."""
    n = len(steps)

    def readers(group: set[str]) -> list[int]:
        found = [i for i, step in enumerate(steps) if group & set(step.inputs)]
        return found + ([n] if group & set(outputs) else [])

    groups: list[set[str]] = [{name} for name in inputs]
    born = dict.fromkeys(range(len(groups)), -1)
    for i, step in enumerate(steps):
        for place, name in enumerate(step.outputs):
            home = None
            for source in step.inputs if place == 0 and home is None else ():
                group = next(g for g in groups if source in g)
                view = step.operator in VIEWS and source == step.inputs[0]
                dies = max(readers(group)) == i and sizes[source] == sizes[name]
                if home is None and (view or (step.operator in IN_PLACE and dies)):
                    home = group
            if home is None:
                groups.append({name})
                born[len(groups) - 1] = i
            else:
                home.add(name)
    moments = []
    for i in range(-1, n):
        total = 0
        for number, group in enumerate(groups):
            made = [j for j, step in enumerate(steps) if group & set(step.outputs)]
            end = max([born[number], *made, *readers(group)])
            if born[number] <= i <= end:
                total += max(sizes[name] for name in group)
        moments.append(total)
    return max(moments)


@st.composite
def graphs(draw: st.DrawFn) -> tuple[list[Step], dict[str, int], list[str], list[str]]:
    names, sizes, steps = ["x"], {"x": draw(st.integers(1, 5))}, []
    for n in range(draw(st.integers(1, 9))):
        operator = draw(st.sampled_from(["Conv", "Relu", "Add", "Flatten", "Split"]))
        sources = tuple(draw(st.lists(st.sampled_from(names), min_size=1, max_size=2, unique=True)))
        made = tuple(f"t{n}{letter}" for letter in ("ab" if operator == "Split" else "a"))
        for name in made:
            sizes[name] = sizes[sources[0]] if operator in VIEWS else draw(st.integers(1, 5))
        steps.append(Step(operator, sources[:1] if operator in VIEWS else sources, made))
        names += made
    return steps, sizes, ["x"], [names[-1]]


@given(graphs())
def test_the_peak_is_that_of_the_second_implementation(
    graph: tuple[list[Step], dict[str, int], list[str], list[str]],
) -> None:
    steps, sizes, inputs, outputs = graph
    assert peak_bytes(steps, sizes, inputs=inputs, outputs=outputs) == brute_force(steps, sizes, inputs, outputs)


def test_a_residual_keeps_its_input_alive() -> None:
    steps = [Step("Conv", ("x",), ("a",)), Step("Conv", ("a",), ("b",)), Step("Add", ("b", "x"), ("y",))]
    sizes = {"x": 10, "a": 60, "b": 10, "y": 10}
    assert peak_bytes(steps, sizes, inputs=["x"], outputs=["y"]) == 10 + 60 + 10
    without = [*steps[:2], Step("Relu", ("b",), ("y",))]
    assert peak_bytes(without, sizes, inputs=["x"], outputs=["y"]) == 70


def test_a_tensor_read_later_is_not_overwritten() -> None:
    steps = [Step("Relu", ("x",), ("a",)), Step("Add", ("a", "x"), ("y",))]
    assert peak_bytes(steps, {"x": 4, "a": 4, "y": 4}, inputs=["x"], outputs=["y"]) == 8
    assert peak_bytes(steps[:1], {"x": 4, "a": 4}, inputs=["x"], outputs=["a"]) == 4


@pytest.mark.parametrize("batch", [1, 4])
def test_a_chain_of_convolutions_in_closed_form(tmp_path: Path, batch: int) -> None:
    """Each takes its input and its output, the activation works in place; weights and biases are 4 bytes a number."""
    architecture = chain.chain().canonical({"depth": 2, "kernel1": 3, "kernel2": 5})
    path = tmp_path / "net.onnx"
    write_onnx(chain.build_network(architecture).eval(), path, input_shape=(1, chain.SIDE, chain.SIDE))
    found = footprint_of(path, batch=batch)
    plane = chain.CHANNELS * chain.SIDE * chain.SIDE * 4
    assert found.peak_activation_bytes == batch * 2 * plane
    numbers = sum(block.parameters for block in chain.chain().blocks_of(architecture))
    assert found.weight_bytes == 4 * numbers


def test_networks_need_what_their_neediest_block_needs(tmp_path: Path) -> None:
    """The cost model over blocks against liveness on whole exported graphs, residuals and squeezes included."""
    space = FAMILIES["toy"].space
    peaks = {}
    for key, block in blocks_of(space).items():
        write_onnx(build_block(block).eval(), tmp_path / "b.onnx", input_shape=block.input_shape)
        peaks[key] = footprint_of(tmp_path / "b.onnx").peak_activation_bytes
    model = PeakMemory.of(space, peaks)
    chosen = [*space.sample(3, np.random.default_rng(0)), model.smallest()[1], model.largest()[1]]
    for architecture in chosen:
        shape = space.blocks_of(architecture)[0].input_shape
        write_onnx(build_network(space, architecture).eval(), tmp_path / "n.onnx", input_shape=shape)
        assert model(architecture).value == footprint_of(tmp_path / "n.onnx").peak_activation_bytes


def test_an_elementwise_chain_needs_one_buffer(tmp_path: Path) -> None:
    found = footprint_of(write_model(tmp_path / "a.onnx", "Tanh", "Exp", "Neg", shape=("batch", 8, 8)), batch=3)
    assert (found.weight_bytes, found.peak_activation_bytes) == (0, 3 * 64 * 4)


def test_what_cannot_be_told_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(MeasureError, match="a.onnx: the size of tensor"):
        footprint_of(write_model(tmp_path / "a.onnx", "Tanh", "Exp", shape=("batch", "side")))
    (tmp_path / "b.onnx").write_bytes(b"garbage")
    with pytest.raises(MeasureError, match="b.onnx: its shapes cannot be inferred"):
        footprint_of(tmp_path / "b.onnx")
    value = make.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    flag = make.make_tensor_value_info("flag", onnx.TensorProto.BOOL, [])
    out = make.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    inner = make.make_graph([make.make_node("Neg", ["x"], ["y"])], "inner", [], [out])
    branch = make.make_node("If", ["flag"], ["y"], name="choose", then_branch=inner, else_branch=inner)
    model = make.make_model(make.make_graph([branch], "g", [flag, value], [out]), ir_version=8)
    (tmp_path / "c.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(MeasureError, match=r"c.onnx: (node choose \(If\) has a graph inside|its shapes cannot)"):
        footprint_of(tmp_path / "c.onnx")


def test_a_shared_bias_is_not_an_activation(tmp_path: Path) -> None:
    """The exporter writes equal weights once, and hands them on through a node."""
    module = nn.Sequential(nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)).eval()
    for name, parameter in module.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
    write_onnx(module, tmp_path / "a.onnx", input_shape=(4, 2, 2))
    assert footprint_of(tmp_path / "a.onnx").peak_activation_bytes == 2 * 4 * 4 * 4
