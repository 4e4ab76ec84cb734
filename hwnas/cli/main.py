"""The command line: one file per command, one place where errors become one line and an exit code."""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress

from hwnas.cli import stops

_BROKEN, _FAULT, _OUTPUT_CLOSED = 1, 2, 141  # the last as a shell says of a program that SIGPIPE ended
_GOING_ON = ("profile", "search")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and end the process; `hwnas --help` lists the exit codes.

    Args:
        arguments: Without the program's name; by default the process's own, and then its signals are listened to.
            `--debug` anywhere shows tracebacks. With `--json` an error is one JSON object on the standard output.
    """
    if arguments is not None:
        sys.exit(_run(list(arguments), stops.Stops(lambda _: None)))
    words = sys.argv[1:]
    heard = stops.listen(lambda number: _last_words(words, number))
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError):  # somebody's own stream
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    code = _run(words, heard)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # what is left is the interpreter's own end
    sys.exit(code)


def _run(words: list[str], heard: stops.Stops) -> int:
    """Run a command and hand over what it shows; its exit code."""
    with heard.importing():
        from hwnas.cli.terminal import OutputClosedError, flush
    try:
        code = _outcome(words, heard)
        flush()
    except OutputClosedError:  # nobody reads on, as after `| head`: no error, and nothing more to write
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return _OUTPUT_CLOSED
    return code


def _outcome(words: list[str], heard: stops.Stops) -> int:
    debug, as_json = "--debug" in words, "--json" in words
    words = [word for word in words if word != "--debug"] or ["--help"]
    with heard.importing():
        from hwnas.cli.commands import build_app
        from hwnas.cli.terminal import OutputClosedError, show_fault, show_json
    try:
        # Without its standalone mode typer returns exit codes instead of ending the process: that of typer.Exit, and
        # 130 for an interrupt, which some versions raise as Abort.
        code = int(build_app()(args=words, prog_name="hwnas", standalone_mode=False) or 0)
    except OutputClosedError:
        raise
    except BaseException as error:  # a signal may come as any error of the library that it met
        if isinstance(error, SystemExit) and isinstance(error.__context__, BrokenPipeError):
            raise OutputClosedError from error  # of typer's own texts
        if heard.number is None and not isinstance(error, KeyboardInterrupt):
            return _failed(error, words, debug=debug, as_json=as_json)
        code = stops.exit_code(signal.SIGINT)
    if code != stops.exit_code(signal.SIGINT):
        return code
    number = heard.number or signal.SIGINT
    if as_json:
        show_json(_stopped_as_json(words, number))
    show_fault("stopped", *_stopped(words, number), style="yellow")
    return stops.exit_code(number)


def _stopped(words: Sequence[str], number: int) -> tuple[str, str]:
    """What happened, and the way on."""
    again = shlex.join(["hwnas", *(word for word in words if word != "--fresh")])
    if words and words[0] in _GOING_ON:
        return f"by {stops.name_of(number)}; nothing is lost", f"to go on: {again}"
    return f"by {stops.name_of(number)}", f"to start again: {again}"


def _last_words(words: Sequence[str], number: int) -> None:
    """The same without any library: some may be half imported."""
    text, hint = _stopped(words, number)
    if "--json" in words:
        os.write(1, (json.dumps(_stopped_as_json(words, number), indent=2) + "\n").encode())
    os.write(2, f"stopped: {text}\n         {hint}\n".encode("ascii", "backslashreplace"))


def _stopped_as_json(words: Sequence[str], number: int) -> dict[str, dict[str, object]]:
    text, hint = _stopped(words, number)
    return _error_as_json("Stopped", f"stopped {text}", hint, stops.exit_code(number))


def _failed(error: BaseException, words: Sequence[str], *, debug: bool, as_json: bool) -> int:
    """Say what went wrong; what nobody meant to raise goes on."""
    from hwnas.cli.terminal import show_fault, show_json
    from hwnas.core import HwnasError, refusal
    from hwnas.core.own_file import own_line

    meant = True
    if isinstance(error, HwnasError):
        text, hint = error.message, error.hint
    elif isinstance(error, OSError) and (refused := refusal(error)).hint:
        text, hint = refused
    elif hasattr(error, "format_message"):
        # typer brings its own copy of click or imports it, by version; the class is told by this method. It names the
        # option, which the error's own text lacks.
        text, hint = str(error.format_message()), _help_for(words)
    elif where := own_line(error):
        text = f"{type(error).__name__}: {error}{where}"
        hint = "it arose in a file of your own; the same command with --debug shows how it was reached"
    else:
        text, hint, meant = str(error), "this is a fault of hwnas: please report it with the traceback", False
    code = _FAULT if meant else _BROKEN
    if as_json:
        show_json(_error_as_json(type(error).__name__, text, hint, code))
    if debug or not meant:
        raise error
    show_fault("error", text, hint)
    return code


def _error_as_json(kind: str, message: str, hint: str, code: int) -> dict[str, dict[str, object]]:
    return {"error": {"kind": kind, "message": message, "hint": hint, "exit_code": code}}


def _help_for(words: Sequence[str]) -> str:
    from hwnas.cli.commands import COMMANDS

    return shlex.join(["hwnas", *(words[:1] if words[0] in COMMANDS else []), "--help"])
