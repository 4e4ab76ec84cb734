"""Arguments that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hwnas.core import SHARES, Limit, RecipeError

_RUN_FILES = ("front.json", "tabular.json", "store.sqlite")
QUICKSTART = Path("search/quickstart.toml")

AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
AllowMismatch = Annotated[
    bool,
    typer.Option(
        "--allow-mismatch", help="Use a latency table made under other conditions; the differences go into the result."
    ),
]
RecipeFile = Annotated[Path, typer.Argument(help="The recipe.")]
Run = Annotated[str, typer.Argument(help="Name of a run under runs/, or its folder.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
By = Annotated[
    str,
    typer.Option(
        help='"knee", "fastest", "most-accurate", weights such as "accuracy=3,latency_ms=1", or a member: its letter '
        'in hwnas front ("B") or the beginning of its digest.'
    ),
]
AtMost = Annotated[list[str], typer.Option(help='A limit, inclusive: "latency_ms=0.2". May be repeated.')]
AtLeast = Annotated[
    list[str], typer.Option(help='A limit, inclusive: "accuracy=0.9" or "accuracy=90 %". May be repeated.')
]


def run_folder(run: str) -> Path:
    """The folder of a run, given by its name or by its path.

    Example:
        >>> run_folder("quickstart").as_posix()
        'runs/quickstart'
    """
    path, named = Path(run), Path("runs") / run
    for folder in (path, named):  # a folder of images may have the run's name
        if any((folder / file).is_file() for file in _RUN_FILES):
            return folder
    return path if path.is_dir() else named


def run_words(folder: Path) -> str:
    """What a command of the user's calls a run: its name where that is enough, else its folder.

    Example:
        >>> run_words(Path("runs/quickstart")), run_words(Path("/data/runs/quickstart"))
        ('quickstart', '/data/runs/quickstart')
    """
    return folder.name if folder.name and run_folder(folder.name) == folder else str(folder)


def numbers(option: str, texts: list[str]) -> dict[str, float]:
    """Pairs "name=number" as a map.

    Raises:
        RecipeError: If a text is no such pair.

    Example:
        >>> numbers("--at-most", ["latency_ms=0.2"])
        {'latency_ms': 0.2}
    """
    found = {}
    for text in texts:
        name, sign, value = text.partition("=")
        try:
            found[name.strip()] = float(value)
        except ValueError as error:
            raise RecipeError(
                f'{option} is "{text}"; expected a metric and a number in its unit', hint=f"{option} latency_ms=0.2"
            ) from error
        if not sign or not name:
            raise RecipeError(f'{option} is "{text}"; expected NAME=NUMBER')
    return found


def limits(at_most: list[str], at_least: list[str]) -> list[Limit]:
    """The limits that the options name; of a share of images "90 %" is 0.9.

    Raises:
        RecipeError: If a text is no pair of metric and number, a share is not in 0..1, or two bounds exclude
            each other.

    Example:
        >>> [str(limit) for limit in limits(["latency_ms=0.2"], ["accuracy=50 %"])]
        ['accuracy >= 0.5', 'latency_ms <= 0.2']
    """
    most, least = _bounds("--at-most", at_most), _bounds("--at-least", at_least)
    return [Limit(name, at_most=most.get(name), at_least=least.get(name)) for name in sorted({*most, *least})]


def _bounds(option: str, texts: list[str]) -> dict[str, float]:
    found = {}
    for text in texts:
        percent = text.rstrip().endswith("%")
        [(name, value)] = numbers(option, [text.rstrip().removesuffix("%")]).items()
        if percent and name not in SHARES:
            raise RecipeError(
                f'{option} is "{text}"; only {", ".join(SHARES)} are shares of a whole', hint=f"{option} {name}=NUMBER"
            )
        found[name] = value / 100 if percent else value
        if name in SHARES and not 0 <= found[name] <= 1:
            raise RecipeError(
                f'{option} is "{text}"; {name} is a share, from 0 to 1', hint=f'"{name}={value:g} %" for a percentage'
            )
    return found
