"""What every command has in common: what is loaded, how it fails and how it is stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hwnas.cli.commands import COMMANDS
from tests.job.workspace import run

HEAVY = ("torch", "sklearn", "pymoo", "onnx", "onnxruntime", "matplotlib", "pyarrow", "scipy")

LOADED = f"""
import json, sys
from hwnas.cli import main
try:
    main(sys.argv[1:])
finally:
    sys.stderr.write(json.dumps(sorted(set({HEAVY}) & set(sys.modules))))
"""

STOPPED = """
import os, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == MODULE:
            os.kill(os.getpid(), NUMBER)
sys.meta_path.insert(0, Finder())
from hwnas.cli import main
main()
"""


def start(program: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        # A shell's background job ignores Ctrl-C, and so would its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_the_list_of_commands_says_what_each_says_of_itself(name: str) -> None:
    said = COMMANDS[name].load().__doc__ or ""
    assert said.splitlines()[0] == COMMANDS[name].summary


@pytest.mark.parametrize(
    "arguments",
    ["--help", "--version", "serch", "search --help", "profile --misssing", "kit --help", "bench --help", ""],
)
def test_what_needs_no_library_loads_none(arguments: str) -> None:
    done = start(LOADED, *arguments.split())
    assert json.loads(done.stderr.splitlines()[-1]) == []
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", ["front nothing", "compare nothing nowhere"])
def test_what_reads_a_finished_run_loads_nothing_that_makes_one(arguments: str, tmp_path: Path) -> None:
    done = start(LOADED, *arguments.split())
    assert "no front; there is no such run" in done.stderr
    assert not {"torch", "sklearn", "onnx", "onnxruntime", "pyarrow"} & set(json.loads(done.stderr.splitlines()[-1]))


def test_without_arguments_there_is_help_and_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys)
    assert (code, err) == (0, "")
    assert out == run(capsys, "--help")[1]
    assert all(name in out for name in COMMANDS)
    assert "130, 143, 129" in " ".join(out.split())


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    from importlib import metadata

    assert run(capsys, "--version") == (0, f"hwnas {metadata.version('hwnas')}\n", "")


@pytest.mark.parametrize(
    ("arguments", "kind", "said", "hint"),
    [
        (["front", "nothing"], "StoreError", "no front", "finished runs here"),
        (["pick", "nothing", "--by", "knee"], "StoreError", "no front", "finished runs here"),
        (["export", "nothing", "--to", "a.onnx"], "StoreError", "no front", "finished runs here"),
        (["compare", "nothing"], "StoreError", "no front", "finished runs here"),
        (["search", "no.toml"], "RecipeError", "no such recipe", ""),
        (["profile", "no.toml"], "RecipeError", "no such recipe", ""),
        (["kit", "no.toml"], "RecipeError", "no such recipe", ""),
        (["bench", "no.onnx"], "", "", ""),
        (["check", "no.onnx"], "ExportError", "no.onnx", ""),
        (["import", "no.csv"], "TableError", "no.csv", ""),
        (["spaces", "toy", "more"], "UsageError", "more", "hwnas spaces --help"),
        (["spaces", "tyo"], "SpaceError", "toy", "hwnas spaces lists them"),
        (["methods", "--jsn"], "NoSuchOption", "--jsn", "hwnas methods --help"),
        (["devices", "more"], "UsageError", "more", "hwnas devices --help"),
        (["serch"], "UsageError", 'did you mean "search"?', "hwnas --help"),
        (["export", "nothing"], "MissingParameter", "--to", "hwnas export --help"),
    ],
)
def test_with_json_an_error_is_one_object_on_the_output_stream(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    kind: str,
    said: str,
    hint: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, *arguments, "--json")
    assert code == 2
    error = json.loads(out)["error"]
    assert set(error) == {"kind", "message", "hint", "exit_code"}
    assert error["exit_code"] == 2
    assert kind in error["kind"] and said in error["message"] and hint in error["hint"]
    assert err.startswith("error: ") and len(err.splitlines()) <= 2
    assert run(capsys, *arguments)[1] == ""


def test_a_fault_of_hwnas_is_an_object_too_and_a_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> object:
        raise ZeroDivisionError("nobody meant this")

    monkeypatch.setattr("hwnas.cli.lists.nvidia_state", broken)
    with pytest.raises(ZeroDivisionError):
        run(capsys, "devices", "--json")
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["kind"], error["message"], error["exit_code"]) == ("ZeroDivisionError", "nobody meant this", 1)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("typer", "SIGINT"),
        ("typer", "SIGTERM"),
        ("rich.table", "SIGINT"),
        ("hwnas.core", "SIGINT"),
        ("hwnas.job", "SIGINT"),
        ("torch", "SIGINT"),
        ("torch", "SIGHUP"),
        ("sklearn.utils", "SIGINT"),
        ("onnx", "SIGINT"),
    ],
)
def test_a_signal_while_libraries_are_loaded_is_two_lines(module: str, name: str) -> None:
    number = getattr(signal, name)
    program = STOPPED.replace("MODULE", repr(module)).replace("NUMBER", str(int(number)))
    done = start(program, "search", "my recipe.toml", "--fresh", "--json")
    assert done.returncode == 128 + number
    how = "Ctrl-C" if name == "SIGINT" else name
    assert (
        done.stderr == f"stopped: by {how}; nothing is lost\n         to go on: hwnas search 'my recipe.toml' --json\n"
    )
    assert json.loads(done.stdout)["error"] == {
        "kind": "Stopped",
        "message": f"stopped by {how}; nothing is lost",
        "hint": "to go on: hwnas search 'my recipe.toml' --json",
        "exit_code": 128 + number,
    }


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["--versoin", "--json"]])
def test_an_output_that_nobody_reads_ends_quietly(arguments: list[str]) -> None:
    reads, writes = os.pipe()
    os.close(reads)
    done = subprocess.run([sys.executable, "-m", "hwnas", *arguments], stdout=writes, stderr=subprocess.PIPE, text=True)
    os.close(writes)
    assert done.returncode == 141
    assert "Traceback" not in done.stderr and "Exception" not in done.stderr


def test_a_terminal_of_few_letters_is_told_everything_in_escapes() -> None:
    name = "été [/y] \\u6771"
    done = start("from hwnas.cli import main; main()", "front", name, "--json", PYTHONIOENCODING="ascii")
    assert done.returncode == 2
    assert done.stderr.splitlines()[0] == (
        "error: runs/\\xe9t\\xe9 [/y] \\u6771/front.json: no front; there is no such run"
    )
    assert json.loads(done.stdout)["error"]["message"] == f"runs/{name}/front.json: no front; there is no such run"
