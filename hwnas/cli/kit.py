"""`hwnas kit`: a folder to carry to a device that cannot be reached from here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hwnas.cli.options import AsJson, RecipeFile
from hwnas.cli.stops import importing
from hwnas.cli.terminal import Terminal, show, show_json
from hwnas.cli.verdict import incomplete
from hwnas.core import counted
from hwnas.core.escaping import command_line


def kit(
    recipe: RecipeFile,
    out: Annotated[
        Path | None, typer.Option(help="The folder to write; kits/DEVICE--RUNTIME--SPACE without it.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a folder that measures a board with Python, numpy and onnxruntime only, carried there by hand.

    Its device file says reach = "kit", or names a host.
    """
    with importing():
        from hwnas.job import kit as write
        from hwnas.profiling.by_hand import RESULTS

    with Terminal() as terminal:
        made = write(recipe, out=out, teller=terminal)
    if as_json:
        show_json({
            "folder": str(made.path),
            "models": made.models,
            "size_bytes": made.size_bytes,
            "failures": dict(made.failures),
        })
    else:
        show(f"{made.path}: {counted(made.models, 'ONNX file')}, {made.size_bytes / 2**20:.1f} MiB")
        for line in incomplete(made.failed_blocks):
            show(line)
        show(f"  copy it to the board, and there: python3 measure.py job.json {RESULTS}")
        show(f"  then here: {command_line('hwnas', 'profile', recipe, '--from', RESULTS)}")
    if made.failed_blocks:
        raise typer.Exit(2)
