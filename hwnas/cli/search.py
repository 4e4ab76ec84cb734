"""`hwnas search`: run a recipe to its measured front, or go on with it."""

from __future__ import annotations

from typing import Annotated

import typer

from hwnas.cli.front import draw, picture_path, show_front
from hwnas.cli.options import AllowMismatch, AsJson, RecipeFile
from hwnas.cli.terminal import Terminal, show, show_json
from hwnas.job import search as run_search


def search(
    recipe: RecipeFile,
    fresh: Annotated[bool, typer.Option("--fresh", help="Throw away what the run's folder holds.")] = False,
    allow_mismatch: AllowMismatch = False,
    as_json: AsJson = False,
) -> None:
    """Train the supernet, search, train the front's members, export, check and measure them.

    A run that was cut off goes on where it was when the same command is given again.
    """
    with Terminal() as terminal:
        front = run_search(recipe, fresh=fresh, allow_mismatch=allow_mismatch, teller=terminal)
        draw(front)
    if as_json:
        show_json(front.to_json())
        return
    show_front(front)
    show("")
    show(f"{front.folder / 'front.json'}   everything in figures")
    show(f"{picture_path(front)}    the picture")
    show(f"{front.folder / 'members'}/*.onnx   one file per network")
    show("")
    show(f"next: hwnas pick {front.folder.name}   or   hwnas export {front.folder.name} --to model.onnx")
