"""Digests of an ONNX file: of what it computes, and of what hwnas wrote into its metadata.

Two files with equal content digests give equal outputs and run the same graph.

Digested, in this order: the operator sets; of the graph its inputs and outputs with types and shapes, its nodes in
order (operator, domain, names of inputs and outputs, attributes by name, subgraphs included) and its weights by name
(type, shape, values; those in external files too); and the model's own functions.

Not digested, as it moves neither outputs nor times: metadata, names of nodes, documentation, producer, versions of the
model and of the file format, shapes of values within the graph, and how protobuf and external files store all that.

The metadata has a digest of its own, so that a file whose numbers were edited is told from one whose weights were.
"""

from __future__ import annotations

import hashlib
import struct
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

import onnx
from onnx import AttributeProto, TensorProto, numpy_helper

FORM = 1
"""Of the digest: another number for another choice or order of what is digested."""

Part: TypeAlias = "str | int | bytes | Iterable[Part]"


def content_digest(model: onnx.ModelProto) -> str:
    """The sha256 of a model's graph and weights, as 64 hex digits.

    Args:
        model: With its external data loaded, as `load_onnx` returns it.

    Raises:
        ValueError: If a tensor holds less than its shape says.

    Example:
        >>> from onnx import helper
        >>> image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 4])
        >>> logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 4])
        >>> graph = helper.make_graph([helper.make_node("Relu", ["image"], ["logits"])], "a", [image], [logits])
        >>> model = helper.make_model(graph)
        >>> before = content_digest(model)
        >>> helper.set_model_props(model, {"note": "other metadata"})
        >>> content_digest(model) == before
        True
        >>> model.graph.node[0].op_type = "Sigmoid"
        >>> content_digest(model) == before
        False
    """
    found = hashlib.sha256()
    for chunk in _encoded([FORM, _operator_sets(model.opset_import), _graph(model.graph), _functions(model)]):
        found.update(chunk)
    return found.hexdigest()


def metadata_digest(entries: Iterable[tuple[str, str]]) -> str:
    """The sha256 of metadata, as 64 hex digits; their order does not matter.

    Args:
        entries: Key and value of each, as the file holds them.

    Example:
        >>> metadata_digest([("a", "1"), ("b", "2")]) == metadata_digest([("b", "2"), ("a", "1")])
        True
        >>> metadata_digest([("a", "1")]) == metadata_digest([("a", "2")])
        False
    """
    found = hashlib.sha256()
    for chunk in _encoded([FORM, sorted([key, value] for key, value in entries)]):
        found.update(chunk)
    return found.hexdigest()


def _encoded(part: Part) -> Iterator[bytes]:
    """Bytes that no other nesting of parts gives: text with its length in front, lists in brackets."""
    if isinstance(part, int):
        yield b"i%d;" % part
    elif isinstance(part, str | bytes):
        raw = part.encode() if isinstance(part, str) else part
        yield b"b%d:" % len(raw)
        yield raw
    else:
        yield b"("
        for one in part:
            yield from _encoded(one)
        yield b")"


def _domain(name: str) -> str:
    return "" if name == "ai.onnx" else name  # two names of one domain


def _operator_sets(sets: Iterable[onnx.OperatorSetIdProto]) -> Part:
    return [[name, version] for name, version in sorted({(_domain(one.domain), one.version) for one in sets})]


def _graph(graph: onnx.GraphProto) -> Iterator[Part]:
    for values in (graph.input, graph.output):
        yield ([value.name, _type(value.type)] for value in values)
    yield (_node(node) for node in graph.node)
    yield ([tensor.name, _tensor(tensor)] for tensor in sorted(graph.initializer, key=lambda tensor: tensor.name))
    yield (_sparse(tensor) for tensor in sorted(graph.sparse_initializer, key=lambda tensor: tensor.values.name))


def _type(kind: onnx.TypeProto) -> Part:
    if kind.WhichOneof("value") != "tensor_type":
        raw: bytes = kind.SerializeToString(deterministic=True)
        return raw
    tensor = kind.tensor_type
    if not tensor.HasField("shape"):
        return [tensor.elem_type]
    sizes = [axis.dim_value if axis.HasField("dim_value") else axis.dim_param for axis in tensor.shape.dim]
    return [tensor.elem_type, sizes]


def _node(node: onnx.NodeProto) -> Part:
    attributes = [_attribute(one) for one in sorted(node.attribute, key=lambda one: one.name)]
    return [node.op_type, _domain(node.domain), node.overload, list(node.input), list(node.output), attributes]


def _attribute(one: AttributeProto) -> Part:
    head: list[Part] = [one.name, one.ref_attr_name, one.type]
    match one.type:
        case AttributeProto.FLOAT:
            return [*head, struct.pack("<f", one.f)]
        case AttributeProto.INT:
            return [*head, one.i]
        case AttributeProto.STRING:
            return [*head, one.s]
        case AttributeProto.TENSOR:
            return [*head, _tensor(one.t)]
        case AttributeProto.GRAPH:
            return [*head, _graph(one.g)]
        case AttributeProto.FLOATS:
            return [*head, struct.pack(f"<{len(one.floats)}f", *one.floats)]
        case AttributeProto.INTS:
            return [*head, list(one.ints)]
        case AttributeProto.STRINGS:
            return [*head, list(one.strings)]
        case AttributeProto.TENSORS:
            return [*head, (_tensor(tensor) for tensor in one.tensors)]
        case AttributeProto.GRAPHS:
            return [*head, (_graph(graph) for graph in one.graphs)]
        case AttributeProto.SPARSE_TENSOR:
            return [*head, _sparse(one.sparse_tensor)]
        case AttributeProto.SPARSE_TENSORS:
            return [*head, (_sparse(tensor) for tensor in one.sparse_tensors)]
        case AttributeProto.TYPE_PROTO:
            return [*head, _type(one.tp)]
        case AttributeProto.TYPE_PROTOS:
            return [*head, [_type(kind) for kind in one.type_protos]]
    return [*head, one.SerializeToString(deterministic=True)]


def _tensor(tensor: TensorProto) -> Part:
    """Type, shape and values, whichever of its fields they are stored in."""
    head: Sequence[Part] = [tensor.data_type, list(tensor.dims)]
    if tensor.data_type == TensorProto.STRING:
        return [*head, list(tensor.string_data)]
    values = numpy_helper.to_array(tensor)
    return [*head, (values.byteswap() if sys.byteorder == "big" else values).tobytes()]


def _sparse(tensor: onnx.SparseTensorProto) -> Part:
    return [tensor.values.name, list(tensor.dims), _tensor(tensor.values), _tensor(tensor.indices)]


def _functions(model: onnx.ModelProto) -> Iterator[Part]:
    for function in sorted(model.functions, key=lambda one: (one.domain, one.name, one.overload)):
        yield [_domain(function.domain), function.name, function.overload, _operator_sets(function.opset_import)]
        yield [list(function.input), list(function.output), list(function.attribute)]
        yield (_attribute(one) for one in sorted(function.attribute_proto, key=lambda one: one.name))
        yield (_node(node) for node in function.node)
