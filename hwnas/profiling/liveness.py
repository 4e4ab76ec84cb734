"""How much memory an ONNX file's graph needs for what flows through it, from the graph alone.

The peak is the largest sum, over the nodes in their order, of all tensors that are alive while a node runs: its inputs,
its outputs, and whatever a later node still reads. It is deterministic, and the number to search by; what the system
counts for a process holds the runtime's packed weights and its allocator's slack besides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import onnx

from hwnas.core import MeasureError

IN_PLACE = frozenset({
    *("Add", "Sub", "Mul", "Div", "Relu", "LeakyRelu", "PRelu", "Clip", "Elu", "Sigmoid", "Tanh", "Softplus", "Erf"),
    *("HardSigmoid", "HardSwish", "Neg", "Abs", "Sqrt", "Exp", "Log", "BatchNormalization", "Softmax"),
})
"""Operators whose output may take the place of an input of its size that nobody reads any more.

onnxruntime plans elementwise kernels so, and fuses activations, sums and norms into the convolution before them, which
comes to the same.
"""

VIEWS = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout"})
"""Operators whose output is their input under another shape."""


@dataclass(frozen=True)
class Step:
    """A node of a graph as far as memory is concerned.

    Attributes:
        operator: Its type.
        inputs: Names of the tensors that it reads; weights left out.
        outputs: Names of those that it makes.
    """

    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Footprint:
    """What a model needs beside time.

    Attributes:
        weight_bytes: Of all that is stored in the file: weights, biases, constants.
        peak_activation_bytes: See the top of the file.
    """

    weight_bytes: int
    peak_activation_bytes: int


def peak_bytes(
    steps: Sequence[Step], sizes: Mapping[str, int], *, inputs: Sequence[str], outputs: Sequence[str]
) -> int:
    """The most bytes alive at one moment.

    An input may be overwritten like any other tensor, as inside a network it is one: so the peak of a chain of blocks
    is the largest of its blocks' peaks. Outputs live to the end.

    Args:
        steps: In the order in which they run.
        sizes: Bytes of each tensor.
        inputs: There from the start.
        outputs: Read at the end.

    Example:
        >>> steps = [Step("Conv", ("x",), ("y",)), Step("Relu", ("y",), ("z",)), Step("Conv", ("z",), ("w",))]
        >>> peak_bytes(steps, {"x": 10, "y": 30, "z": 30, "w": 20}, inputs=["x"], outputs=["w"])
        50
    """
    last = dict.fromkeys(outputs, len(steps))
    for i in reversed(range(len(steps))):
        for name in steps[i].inputs:
            last.setdefault(name, i)
    # A buffer holds the tensors that share its bytes one after the other, or under several shapes.
    buffer_of = {name: name for name in inputs}
    until = {name: last.get(name, -1) for name in inputs}
    alive = {name: sizes[name] for name in inputs}
    peak = sum(alive.values())
    for i, step in enumerate(steps):
        for name in step.outputs:
            end = last.get(name, i)
            shared = _shared(step, name, sizes, buffer_of, until, i)
            buffer_of[name] = shared or name
            until[buffer_of[name]] = max(end, until.get(buffer_of[name], -1))
            alive[buffer_of[name]] = max(sizes[name], alive.get(buffer_of[name], 0))
        peak = max(peak, sum(alive.values()))
        alive = {buffer: size for buffer, size in alive.items() if until[buffer] > i}
    return peak


def _shared(
    step: Step,
    output: str,
    sizes: Mapping[str, int],
    buffer_of: Mapping[str, str],
    until: Mapping[str, int],
    i: int,
) -> str | None:
    """The buffer that the node's first output takes over, None if it needs one of its own."""
    if output != step.outputs[0]:
        return None
    if step.operator in VIEWS and step.inputs:
        return buffer_of[step.inputs[0]]
    if step.operator in IN_PLACE:
        for name in step.inputs:
            if until[buffer_of[name]] == i and sizes[name] == sizes[output]:
                return buffer_of[name]
    return None


def footprint_of(path: Path, *, batch: int = 1) -> Footprint:
    """The weights and the activation peak of an ONNX file.

    Args:
        path: Of the file; its dynamic axis, if any, is called "batch".
        batch: Images at once.

    Raises:
        MeasureError: If the file cannot be read, branches or loops, or the size of a tensor cannot be told.
    """
    try:
        model = onnx.load(str(path))
        for value in model.graph.input:
            for dimension in value.type.tensor_type.shape.dim:
                if dimension.dim_param == "batch":
                    dimension.dim_value = batch
        # The output's dynamic axis would win over what follows from the input's.
        for value in model.graph.output:
            value.type.tensor_type.ClearField("shape")
        graph = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    except Exception as error:  # the parser's and the inference's errors share no base
        raise MeasureError(f"{path.name}: its shapes cannot be inferred: {str(error).strip()[:200]}") from error
    weights = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            weights[node.output[0]] = next(a.t for a in node.attribute if a.name == "value")
        if any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute):
            raise MeasureError(
                f"{path.name}: node {node.name} ({node.op_type}) has a graph inside; its peak is unknown"
            )
    fixed = set(weights)
    steps = []
    for node in graph.node:
        inputs = tuple(name for name in node.input if name and name not in fixed)
        outputs = tuple(filter(None, node.output))
        if inputs:
            steps.append(Step(node.op_type, inputs, outputs))
        else:  # follows from weights alone, as a bias that several nodes share: the runtime folds it away
            fixed.update(outputs)
    typed = {value.name: value for part in (graph.input, graph.value_info, graph.output) for value in part}
    names = {name for step in steps for name in (*step.inputs, *step.outputs)}
    sizes = {name: _bytes(path, name, typed.get(name)) for name in sorted(names)}
    return Footprint(
        weight_bytes=sum(prod(tensor.dims) * _item_bytes(tensor.data_type) for tensor in weights.values()),
        peak_activation_bytes=peak_bytes(
            steps,
            sizes,
            inputs=[value.name for value in graph.input if value.name in sizes],
            outputs=[value.name for value in graph.output if value.name in sizes],
        ),
    )


def _bytes(path: Path, name: str, value: onnx.ValueInfoProto | None) -> int:
    dimensions = [] if value is None else list(value.type.tensor_type.shape.dim)
    known = value is not None and value.type.tensor_type.HasField("shape")
    if value is None or not known or not all(dimension.HasField("dim_value") for dimension in dimensions):
        raise MeasureError(f"{path.name}: the size of tensor {name} cannot be told from the graph")
    return int(prod(d.dim_value for d in dimensions)) * _item_bytes(value.type.tensor_type.elem_type)


def _item_bytes(kind: int) -> int:
    return int(onnx.helper.tensor_dtype_to_np_dtype(kind).itemsize)
