"""`hwnas search`: run a recipe to its measured front, or go on with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from hwnas.cli.options import AllowMismatch, AsJson, RecipeFile, run_words
from hwnas.cli.stops import importing
from hwnas.cli.terminal import Terminal, show, show_json, show_table
from hwnas.core import counted
from hwnas.core.escaping import command_line

if TYPE_CHECKING:
    from hwnas.job import TabularFront


def search(
    recipe: RecipeFile,
    fresh: Annotated[bool, typer.Option("--fresh", help="Throw away what the run's folder holds.")] = False,
    allow_mismatch: AllowMismatch = False,
    as_json: AsJson = False,
) -> None:
    """Train the supernet, search, train the front's members, export, check and measure them.

    A run that was cut off goes on where it was when the same command is given again. A recipe with [benchmark] searches
    a published table of networks instead, and says how near to the true front it came.
    """
    with importing():
        from hwnas.cli.front import draw, show_front
        from hwnas.job import is_tabular, search_table
        from hwnas.job import search as run_search

    if is_tabular(recipe):
        with Terminal() as terminal:
            found = search_table(recipe, fresh=fresh, teller=terminal)
        if as_json:
            show_json(found.to_json())
        else:
            show_tabular(found)
        return
    with Terminal() as terminal:
        front = run_search(recipe, fresh=fresh, allow_mismatch=allow_mismatch, teller=terminal)
        picture = draw(front)
    if as_json:
        show_json(front.to_json())
        return
    show_front(front)
    show("")
    show(f"{front.folder / 'front.json'}   everything in figures")
    show(f"{picture}    the picture" if picture.endswith(".png") else picture)
    show(f"{front.folder / 'members'}/*.onnx   one file per network")
    show("")
    run = run_words(front.folder)
    pick, export = command_line("hwnas", "pick", run), command_line("hwnas", "export", run, "--to", "model.onnx")
    show(f"next: {pick}   or   {export}")


def show_tabular(found: TabularFront) -> None:
    """The front of a search on a table, and how much of the truth it is."""
    from hwnas.job.tabular import RESULT

    names = [objective.name for objective in found.objectives]
    reported = sorted(found.members[0].reported)
    rows = [
        [
            member.architecture.digest,
            *(f"{member.metrics[name]:.6g}" for name in names),
            *(f"{member.reported[name]:.6g}" for name in reported),
        ]
        for member in found.members
    ]
    title = f"{found.facts['run']}: {counted(len(found.members), 'network')} of {found.facts['source']}"
    show_table(title, ["network", *names, *reported], rows)
    show(
        f"\n{found.share:.2%} of the true front's hypervolume ({counted(found.true_front, 'network')}) after "
        f"{counted(found.evaluations, 'evaluation')}"
        + (f"; by test accuracy {found.reported_share:.2%} of the true one" if reported else "")
    )
    show(f"{found.folder / RESULT}   everything in figures")
