"""Which commands there are, without what they need: each is loaded when it is called, or its own help is asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module, metadata
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from hwnas.cli.stops import importing
from hwnas.cli.terminal import show
from hwnas.core.errors import did_you_mean


@dataclass(frozen=True)
class Command:
    """Where a command is, and what `hwnas --help` says of it.

    Attributes:
        place: Module in `hwnas.cli` and name of the function.
        summary: The first line of the function's docstring.
    """

    place: str
    summary: str

    def load(self) -> Callable[..., None]:
        """The function."""
        module, _, name = self.place.partition(":")
        with importing():
            function: Callable[..., None] = getattr(import_module(f"hwnas.cli.{module}"), name)
        return function


COMMANDS = {
    "bench": Command(
        "bench:bench",
        "Time an ONNX file under the protocol of the latency tables, with all that the number depends on.",
    ),
    "check": Command("check:check", "Check this machine, a latency table, or an exported ONNX file."),
    "compare": Command(
        "compare:compare_runs",
        "Stand the measured fronts of several runs side by side: test accuracy, latency, and the volume of each.",
    ),
    "devices": Command(
        "lists:devices", "List the devices in devices/, whether they work here, and what this machine is."
    ),
    "export": Command(
        "export:export", "Write one network of a run's front as one self-explaining ONNX file, and check the copy."
    ),
    "front": Command(
        "front:front",
        "Show the measured front of a run and draw its picture; what there is so far if it is not finished.",
    ),
    "import": Command(
        "import_table:import_",
        "Read a published block table (Once-for-All, ProxylessNAS, MSuNAS, nn-Meter's phones) and say what it holds.",
    ),
    "kit": Command(
        "kit:kit",
        "Write a folder that measures a board with Python, numpy and onnxruntime only, carried there by hand.",
    ),
    "methods": Command("methods:methods", "List the strategies and the fields a recipe's [strategy] may set."),
    "pick": Command("pick:pick", "Pick one network of a run's measured front and print how to use it."),
    "profile": Command(
        "profile:profile",
        "Measure every block of a recipe's space in the deployment runtime, and write its latency table.",
    ),
    "search": Command(
        "search:search", "Train the supernet, search, train the front's members, export, check and measure them."
    ),
    "spaces": Command(
        "lists:spaces", "List the ready spaces, which have a supernet, and the fields a recipe's [space] may set."
    ),
}

EPILOG = (
    "Every command takes --json: one JSON value on the standard output, also for an error. --debug anywhere shows the "
    "traceback of an error. Exit codes: 0 done; 2 a fault that the text names, with the way out; 130, 143, 129 stopped "
    "by Ctrl-C, SIGTERM, SIGHUP; 1 a fault of hwnas itself."
)


class _Lazy(TyperGroup):
    """Commands by name; only the one that is called is loaded."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002 - click's signature
        if cmd_name not in COMMANDS:
            return None
        alone = typer.Typer(add_completion=False, rich_markup_mode=None)
        alone.command(cmd_name)(COMMANDS[cmd_name].load())
        return get_command(alone)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args[0] not in COMMANDS:
            ctx.fail(f'there is no command "{args[0]}"; {did_you_mean(args[0], COMMANDS)}')
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 - click's signature
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.summary) for name, command in COMMANDS.items()])


def _show_version(asked: bool) -> None:
    if asked:
        show(f"hwnas {metadata.version('hwnas')}")
        raise typer.Exit


def build_app() -> typer.Typer:
    """The commands as a typer application."""
    app = typer.Typer(
        cls=_Lazy,
        help="Hardware-aware neural architecture search: measure the device, search on it, hand over ONNX files whose "
        "numbers were measured.",
        epilog=EPILOG,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    app.callback()(_program)
    return app


def _program(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and end.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    """Only its option is of use."""
