"""What a runtime says when it refuses a model, in words that name versions and the way out."""

from __future__ import annotations

import re

Refusal = tuple[str, str]
"""What is wrong, and the way out."""


def refusal(said: str, *, runtime: str) -> Refusal:
    """Turn a runtime's own text into a sentence about the file.

    Args:
        said: By onnxruntime or OpenVINO, one line.
        runtime: Its name and version.

    Example:
        >>> refusal("Unsupported model IR version: 14, max supported IR version: 10", runtime="onnxruntime 1.20.0")[0]
        'its IR version is 14; onnxruntime 1.20.0 reads up to 10'
    """
    if found := re.search(r"Unsupported model IR version: (\d+), max supported IR version: (\d+)", said):
        version, newest = found.groups()
        return (
            f"its IR version is {version}; {runtime} reads up to {newest}",
            f"update the runtime; or load the file with onnx, set model.ir_version = {newest}, and save it",
        )
    if found := re.search(r"Opset (\d+) is under development.*domain (\S+) is till opset (\d+)", said):
        opset, domain, newest = found.groups()
        return (
            f"its operators are of opset {opset} of {domain}; {runtime} knows up to {newest}",
            f"update the runtime; or export the file with opset_version={newest}, or turn it into that with "
            "onnx.version_converter.convert_version",
        )
    if found := re.search(r"No Op registered for (\S+) with domain_version of (\d+)", said):
        operator, opset = found.groups()
        return (
            f"its operator {operator} is not one of opset {opset}, as {runtime} knows it",
            "export the file with the opset that brought this operator, or without it",
        )
    if found := re.search(r"(\S+):(\w+)\(-?\d+\) is not a registered function/op", said):
        domain, operator = found.groups()
        return (
            f"its operator {operator} is of {domain}, which {runtime} does not have",
            "export the file with operators of the ONNX standard; libraries of custom operators are not loaded",
        )
    if found := re.search(r"No opset import for domain '(.*?)'", said):
        return (
            f"it uses operators of {found[1]!r} without saying of which version",
            "add the operator set to model.opset_import, or export the file again",
        )
    if found := re.search(r"Could not find an implementation for (\w+)\((\d+)\)", said):
        return (
            f"{runtime} has no implementation of its operator {found[1]} ({found[2]}) for these types",
            "export the file in float32, or with another opset; or update the runtime",
        )
    return in_plain_words(said), "see what onnx.checker.check_model says of the file; or export it with another opset"


def first_line(error: Exception) -> str:
    """The first line of an error that says anything, or its class.

    Example:
        >>> first_line(ValueError("  no such axis  ")), first_line(KeyError())
        ('no such axis', 'KeyError')
    """
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


_NOISE = (
    r"^\[ONNXRuntimeError\] : \d+ : \w+ : ",
    r"^Load model from .*? failed:",
    r"^/\S+\.(?:cc|h|cpp):\d+ .*?\) (?=[A-Z*])",  # place and signature in the runtime's source
)


def in_plain_words(said: str) -> str:
    """A runtime's text without its codes, the name of a temporary file, and places in its source.

    Example:
        >>> in_plain_words("[ONNXRuntimeError] : 10 : INVALID_GRAPH : Load model from /tmp/m.onnx failed:A cycle.")
        'A cycle.'
    """
    for pattern in _NOISE:
        said = re.sub(pattern, "", said)
    return said.strip()
