"""`hwnas export`: one network of a front as a file of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hwnas.cli.check import check_onnx
from hwnas.cli.front import in_percent, latency_words
from hwnas.cli.options import AsJson, AtLeast, AtMost, By, Run, run_folder
from hwnas.cli.pick import handed_over, remarks_on
from hwnas.cli.terminal import show, show_json
from hwnas.core import ExportError, write_atomically
from hwnas.export import sealed


def export(
    run: Run,
    to: Annotated[Path, typer.Option(help="The ONNX file to write.")],
    by: By = "knee",
    at_most: AtMost = [],
    at_least: AtLeast = [],
    as_json: AsJson = False,
) -> None:
    """Write one network of a run's front as one self-explaining ONNX file, and check the copy.

    The file is of opset 17 and IR version 8, in float32; nothing is exported in int8 or float16.
    """
    front, member, source = handed_over(run_folder(run), by, at_most, at_least)
    if to.suffix != ".onnx":
        raise ExportError(f"{to}: expected a name that ends in .onnx", hint=f"--to {to.with_suffix('.onnx')}")
    write_atomically(to, sealed(source))
    found = check_onnx(to)
    if as_json:
        show_json({**found, "architecture": dict(member.architecture)})
        return
    show(f"{to}: {found['size_bytes'] / 1024:.0f} KiB, runs at batch {', '.join(map(str, found['batches']))}")
    show(f"  classes {', '.join(found['metadata']['classes'])}")
    show(
        f"  {latency_words(front, member)}, {front.share.replace('_', ' ')} on validation images "
        f"{in_percent(member.metrics[front.share])}"
    )
    for line in remarks_on(front, member, by):
        show(f"  {line}")
