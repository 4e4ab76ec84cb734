"""What moves the digest of an ONNX file, and what must not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from hwnas.export import content_digest, load_onnx

WEIGHTS = np.arange(8, dtype=np.float32).reshape(4, 2)


def model() -> onnx.ModelProto:
    """A linear layer with a branch: attributes, two weights, and a subgraph."""
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 4])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2])
    inner = helper.make_tensor_value_info("inner", TensorProto.FLOAT, ["batch", 2])
    branches = {
        f"{name}_branch": helper.make_graph([helper.make_node(operator, ["h"], ["inner"])], name, [], [inner])
        for name, operator in (("then", "Relu"), ("else", "Sigmoid"))
    }
    nodes = [
        helper.make_node("Gemm", ["image", "w", "b"], ["h"], name="first", alpha=0.5),
        helper.make_node("If", ["flag"], ["logits"], name="second", **branches),
    ]
    weights = [
        numpy_helper.from_array(WEIGHTS, "w"),
        numpy_helper.from_array(np.ones(2, np.float32), "b"),
        numpy_helper.from_array(np.array(True), "flag"),
    ]
    graph = helper.make_graph(nodes, "net", [image], [logits], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def stored_as_floats(m: onnx.ModelProto) -> None:
    tensor = m.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.float_data.extend(WEIGHTS.ravel().tolist())


def reordered(m: onnx.ModelProto) -> None:
    weights = list(m.graph.initializer)
    del m.graph.initializer[:]
    m.graph.initializer.extend(reversed(weights))


def renamed(m: onnx.ModelProto) -> None:
    for number, node in enumerate(m.graph.node):
        node.name = f"node{number}"
        node.doc_string = "documented"


def described(m: onnx.ModelProto) -> None:
    m.producer_name, m.producer_version, m.model_version, m.ir_version = "other", "2", 7, 9
    helper.set_model_props(m, {"hwnas.accuracy": "1"})


def inferred(m: onnx.ModelProto) -> None:
    m.graph.value_info.append(helper.make_tensor_value_info("h", TensorProto.FLOAT, ["batch", 2]))


def domain_spelt_out(m: onnx.ModelProto) -> None:
    m.opset_import[0].domain = "ai.onnx"
    for node in m.graph.node:
        node.domain = "ai.onnx"


@pytest.mark.parametrize(
    "change", [stored_as_floats, reordered, renamed, described, inferred, domain_spelt_out], ids=lambda f: f.__name__
)
def test_what_does_not_move_outputs_does_not_move_it(change: Callable[[onnx.ModelProto], None]) -> None:
    other = model()
    change(other)
    assert other.SerializeToString() != model().SerializeToString()
    assert content_digest(other) == content_digest(model())


def test_weights_in_a_file_of_their_own_do_not_move_it(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save_model(model(), str(path), save_as_external_data=True, location="m.bin", size_threshold=0)
    assert (tmp_path / "m.bin").is_file()
    assert content_digest(load_onnx(path)) == content_digest(model())
    data = bytearray((tmp_path / "m.bin").read_bytes())
    data[0] ^= 1
    (tmp_path / "m.bin").write_bytes(data)
    assert content_digest(load_onnx(path)) != content_digest(model())


def one_weight(m: onnx.ModelProto) -> None:
    values = WEIGHTS.copy()
    values[3, 1] = np.nextafter(values[3, 1], np.float32(9))
    m.graph.initializer[0].CopyFrom(numpy_helper.from_array(values, "w"))


def shape_of_a_weight(m: onnx.ModelProto) -> None:
    m.graph.initializer[0].dims[:] = [2, 4]


def type_of_a_weight(m: onnx.ModelProto) -> None:
    m.graph.initializer[0].data_type = TensorProto.INT32


def an_attribute(m: onnx.ModelProto) -> None:
    m.graph.node[0].attribute[0].f = 0.25


def an_operator_of_a_branch(m: onnx.ModelProto) -> None:
    m.graph.node[1].attribute[0].g.node[0].op_type = "Tanh"


def two_inputs_swapped(m: onnx.ModelProto) -> None:
    m.graph.node[0].input[1:] = ["b", "w"]


def the_operator_set(m: onnx.ModelProto) -> None:
    m.opset_import[0].version = 18


def the_size_of_the_input(m: onnx.ModelProto) -> None:
    m.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 5


def a_fixed_batch(m: onnx.ModelProto) -> None:
    m.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1


def a_function(m: onnx.ModelProto) -> None:
    m.functions.append(
        helper.make_function("own", "f", ["x"], ["y"], [helper.make_node("Relu", ["x"], ["y"])], list(m.opset_import))
    )


@pytest.mark.parametrize(
    "change",
    [
        one_weight,
        shape_of_a_weight,
        type_of_a_weight,
        an_attribute,
        an_operator_of_a_branch,
        two_inputs_swapped,
        the_operator_set,
        the_size_of_the_input,
        a_fixed_batch,
        a_function,
    ],
    ids=lambda f: f.__name__,
)
def test_what_moves_outputs_or_times_moves_it(change: Callable[[onnx.ModelProto], None]) -> None:
    other = model()
    change(other)
    assert content_digest(other) != content_digest(model())


def test_it_stays_the_same_from_one_version_to_the_next() -> None:
    """Files of today must be recognised later: a change of what is digested needs another form."""
    assert content_digest(model()) == "71243cf9f921032db7e15960cd78a55d64204b1f6523d2abb1767662b9245811"
