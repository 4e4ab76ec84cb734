"""What users read of a runtime's own words: texts of onnxruntime 1.32, which the tests of `bench` meet live."""

from __future__ import annotations

import re

import pytest

from hwnas.device.refusals import in_plain_words, refusal

LOADING = "[ONNXRuntimeError] : 1 : FAIL : Load model from /tmp/hwnas-job-x1/models/1.onnx failed:"
PLACE = (
    "/onnxruntime_src/onnxruntime/core/graph/model.cc:256 onnxruntime::Model::Model(onnx::ModelProto&&, const "
    "onnxruntime::PathString&, const onnxruntime::ModelOptions&) "
)
OPSET = (
    "ONNX Runtime only *guarantees* support for models stamped with official released onnx opset versions. Opset 29 is "
    "under development and support for this is limited. The operator schemas and or other functionality may change "
    "before next ONNX release and in this case ONNX Runtime will not guarantee backward compatibility. Current "
    "official support for domain ai.onnx is till opset 28."
)
NODE = (
    'This is an invalid model. In Node, ("", Warp, "", -1) : ("image": tensor(float),) -> ("logits": tensor(float),) , '
)


@pytest.mark.parametrize(
    ("said", "what", "hint"),
    [
        (
            PLACE + "Unsupported model IR version: 99, max supported IR version: 14",
            "its IR version is 99; ort 1.32 reads up to 14",
            "set model.ir_version = 14",
        ),
        (OPSET, "its operators are of opset 29 of ai.onnx; ort 1.32 knows up to 28", "opset_version=28"),
        (
            NODE + "Error No Op registered for Warp with domain_version of 17",
            "its operator Warp is not one of opset 17, as ort 1.32 knows it",
            "the opset that brought this operator",
        ),
        (
            "Fatal error: my.dom:Warp(-1) is not a registered function/op",
            "its operator Warp is of my.dom, which ort 1.32 does not have",
            "custom operators are not loaded",
        ),
        (NODE + "Error No opset import for domain 'my.dom'", "it uses operators of 'my.dom' without", "opset_import"),
        (
            "Could not find an implementation for ConvInteger(10) node with name 'conv'",
            "ort 1.32 has no implementation of its operator ConvInteger (10) for these types",
            "in float32",
        ),
        ("Something else.", "Something else.", "onnx.checker.check_model"),
    ],
)
def test_versions_operators_and_the_way_out_are_named(said: str, what: str, hint: str) -> None:
    for raw in (said, LOADING + said, "[ONNXRuntimeError] : 10 : INVALID_GRAPH : " + said):
        found, way_out = refusal(raw, runtime="ort 1.32")
        assert found.startswith(what)
        assert hint in way_out
        assert not re.search("ONNXRuntimeError|/tmp|onnxruntime_src", found)


@pytest.mark.parametrize(
    ("said", "plain"),
    [
        (LOADING + PLACE + "Unsupported model IR version: 99", "Unsupported model IR version: 99"),
        (LOADING + OPSET, OPSET),
        ("[ONNXRuntimeError] : 7 : INVALID_PROTOBUF : Protobuf parsing failed.", "Protobuf parsing failed."),
        ("an output is not finite", "an output is not finite"),
        ("input image is ['batch', 'h']; expected batch 1", "input image is ['batch', 'h']; expected batch 1"),
    ],
)
def test_codes_temporary_names_and_places_in_the_source_are_left_out(said: str, plain: str) -> None:
    assert in_plain_words(said) == plain
