"""The command line: one file per command, one place where errors become one line and exit code 2."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import typer
from rich.console import Console

from hwnas.cli.bench import bench
from hwnas.cli.check import check
from hwnas.cli.compare import compare_runs
from hwnas.cli.export import export
from hwnas.cli.front import front
from hwnas.cli.import_table import import_
from hwnas.cli.kit import kit
from hwnas.cli.lists import devices, methods, spaces
from hwnas.cli.pick import pick
from hwnas.cli.profile import profile
from hwnas.cli.search import search
from hwnas.core import HwnasError

COMMANDS: dict[str, Callable[..., None]] = {
    "bench": bench,
    "check": check,
    "compare": compare_runs,
    "devices": devices,
    "export": export,
    "front": front,
    "import": import_,
    "kit": kit,
    "methods": methods,
    "pick": pick,
    "profile": profile,
    "search": search,
    "spaces": spaces,
}

_INTERRUPTED = 130


def build_app() -> typer.Typer:
    """The commands as a typer application."""
    app = typer.Typer(
        help="Hardware-aware neural architecture search: measure the device, search on it, hand over ONNX files whose "
        "numbers were measured.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    for name, command in COMMANDS.items():
        app.command(name)(command)
    return app


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; ends the process with 0, or 2 after one line that names the fault and one with the way out.

    Args:
        arguments: Without the program's name; by default the process's own. `--debug` anywhere shows tracebacks.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in arguments
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        # Without its standalone mode typer returns exit codes instead of ending the process: that of typer.Exit, and
        # 130 for an interrupt, which some versions raise as Abort.
        code = build_app()(args=[a for a in arguments if a != "--debug"], prog_name="hwnas", standalone_mode=False)
    except HwnasError as error:
        if debug:
            raise
        console.print(f"[red]error:[/] {_plain(error.message)}")
        if error.hint:
            console.print(f"      {_plain(error.hint)}")
        sys.exit(2)
    except (KeyboardInterrupt, typer.Abort):
        code = _INTERRUPTED
    except Exception as error:
        if debug or not _is_usage(error):
            raise
        console.print(f"[red]error:[/] {_plain(_usage(error))}")
        console.print(f"      {_plain(_help_for(arguments))}")
        sys.exit(2)
    if code == _INTERRUPTED:
        again = " ".join(["hwnas", *arguments])
        console.print(f"[yellow]stopped:[/] nothing is lost: run the same command again to go on ({_plain(again)})")
        sys.exit(2)
    sys.exit(code or 0)


def _usage(error: Exception) -> str:
    """What is wrong with the command line, with the name of the option; its own text alone lacks that."""
    said: str = getattr(error, "format_message", error.__str__)()
    return said


def _is_usage(error: Exception) -> bool:
    # typer brings its own copy of click or imports it, by version; the class is told by its method.
    return hasattr(error, "format_message")


def _help_for(arguments: Sequence[str]) -> str:
    known = arguments[0] if arguments and arguments[0] in COMMANDS else ""
    return f"hwnas {known} --help".replace("  ", " ")


def _plain(text: str) -> str:
    return text.replace("[", r"\[")
