"""A device behind ssh: against a real server on the loopback interface, started here with keys made here."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from getpass import getuser
from pathlib import Path

import pytest

from hwnas.core import DeviceError, MeasureError
from hwnas.device import Device, fingerprint
from hwnas.profiling import ModelFile, Progress, measure_models, profile
from hwnas.profiling.program import PROGRAM
from hwnas.profiling.runtimes import runtime_version
from hwnas.profiling.session import job_of
from hwnas.profiling.ssh import BOOT, ERRAND, Patience, SshReach
from tests.profiling.chain import build, build_network, chain
from tests.profiling.models import write_broken_model, write_model

SSHD = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")
MISSING = [name for name, found in {"sshd": SSHD, "ssh": shutil.which("ssh")}.items() if found is None]
needs_ssh = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)} (package openssh-server)")


@dataclass(frozen=True)
class Server:
    """A running sshd whose logins get an empty temporary folder of their own."""

    host: str
    port: int
    identity: str
    temporary: Path

    def device(self, **changes: object) -> Device:
        values = {"name": "board", "host": self.host, "port": self.port, "identity": self.identity}
        return Device.model_validate(values | {"python": sys.executable} | changes)


def make_key(path: Path) -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return path


def wait_until(condition: Callable[[], bool], seconds: float = 30.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return condition()


def answers(port: int) -> bool:
    with socket.socket() as trial:
        return trial.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("sshd")) as running:
        yield running


@contextmanager
def serving(folder: Path, more: str = "") -> Iterator[Server]:
    """A server with its files in a folder, and more lines of configuration."""
    temporary = folder / "tmp"
    temporary.mkdir()
    key, host_key, port = make_key(folder / "key"), make_key(folder / "host"), free_port()
    shutil.copy(folder / "key.pub", folder / "authorized")
    known = " ".join((folder / "host.pub").read_text().split()[:2])
    (folder / "known").write_text(f"[127.0.0.1]:{port} {known}\n")
    (folder / "sshd_config").write_text(
        f"ListenAddress 127.0.0.1\nPort {port}\nHostKey {host_key}\nPidFile none\n"
        f"AuthorizedKeysFile {folder}/authorized\n"
        "StrictModes no\nUsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\n"
        f"SetEnv TMPDIR={temporary} OMP_NUM_THREADS=1\n{more}\n"
    )
    # The tests' own configuration stands before that of whoever runs them.
    (folder / "ssh").write_text(
        f'#!/bin/sh\nexec {shutil.which("ssh")} -F none -oUserKnownHostsFile="${{KNOWN:-{folder}/known}}" '
        '-oGlobalKnownHostsFile=/dev/null "$@"\n'
    )
    (folder / "ssh").chmod(0o755)
    if os.access("/run", os.W_OK):  # the superuser's sshd wants its empty folder, which the package makes at boot
        Path("/run/sshd").mkdir(exist_ok=True)
    with (
        pytest.MonkeyPatch.context() as patched,
        (folder / "log").open("wb") as log,
        subprocess.Popen([str(SSHD), "-D", "-e", "-f", str(folder / "sshd_config")], stderr=log) as daemon,
    ):
        patched.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
        try:
            up = wait_until(lambda: daemon.poll() is not None or answers(port))
            if not up or daemon.poll() is not None:
                pytest.skip(f"sshd does not start here: {(folder / 'log').read_text().strip()[-200:]}")
            yield Server(f"{getuser()}@127.0.0.1", port, str(key), temporary)
        finally:
            daemon.terminate()


def jobs(server: Server) -> list[Path]:
    """Folders of jobs; a login shell may leave things of its own beside them."""
    return list(server.temporary.glob("hwnas-*"))


# ---------------------------------------------------------------------------------------------- without a server


def test_the_command_never_asks_and_takes_nothing_for_an_option() -> None:
    device = Device(name="pi", host="user@board", port=2222, identity="~/key", python="~/v/python")
    command = SshReach(device).command("-c", "print('a b')")
    assert command[:3] == ["ssh", "-T", "-oBatchMode=yes"]
    assert command[-3:-1] == ["--", "user@board"]
    assert command[-1] == "~/v/python -c 'print('\"'\"'a b'\"'\"')'"
    assert command[command.index("-p") :][:2] == ["-p", "2222"]
    assert command[command.index("-i") + 1] == str(Path("~/key").expanduser())
    assert not {"-p", "-i"} & set(SshReach(Device(name="pi", host="board")).command())


def test_what_is_sent_needs_the_standard_library_and_an_old_python_only() -> None:
    tree = ast.parse(ERRAND.read_text(encoding="utf-8"), feature_version=(3, 9))
    nodes = list(ast.walk(tree))
    imported = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in imported} <= set(sys.stdlib_module_names)
    ast.parse(PROGRAM.read_text(encoding="utf-8"), feature_version=(3, 9))
    # What runs before the version is known: no annotation, no f-string, no print, so that a Python of any age reads it.
    first = list(ast.walk(ast.parse(BOOT, feature_version=(3, 4))))
    assert not [node for node in first if isinstance(node, ast.JoinedStr | ast.AnnAssign | ast.ImportFrom)]
    assert "print" not in BOOT
    # Small servers take commands of up to 9000 bytes.
    whole = SshReach(Device(name="pi", host="user@board")).command("-c", BOOT, "x" * 40, ERRAND.read_text())
    assert len(whole[-1]) < 8000


def test_without_an_ssh_client_the_way_out_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DeviceError, match="device pi: there is no ssh on this machine") as info:
        SshReach(Device(name="pi", host="board")).identity()
    assert "hwnas kit" in info.value.hint


def fake_ssh(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str, python: str = "python3.99") -> Device:
    """A program called ssh, which is given all that ssh would be given; $mark is the line that comes first."""
    find = r"""mark=$(echo "$*" | grep -o 'hwnas-[0-9a-f]\{16\}')"""
    (folder / "ssh").write_text(f"#!/bin/sh\n{find}\n{script}\n")
    (folder / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return Device(name="pi", host="user@board", python=python)


@pytest.mark.parametrize(
    ("said", "program"),
    [
        ("Host key verification failed.", "ssh"),
        ("ssh: Could not resolve hostname board: unknown", "ssh"),
        ("ssh: connect to host board: timed out", "ssh"),
        ("user@board: Permission denied (publickey).", "ssh-copy-id"),
    ],
)
def test_a_command_to_give_by_hand_has_the_port_and_the_identity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, program: str
) -> None:
    device = fake_ssh(tmp_path, monkeypatch, f"echo '{said}' >&2; exit 255")
    device = device.model_copy(update={"port": 2222, "identity": "/my keys/$board"})
    with pytest.raises(DeviceError) as info:
        SshReach(device).identity()
    assert f"{program} -p 2222 -i '/my keys/$board' user@board" in info.value.hint


@pytest.mark.parametrize(
    ("script", "message", "hint"),
    [
        (
            "echo 'ssh: Could not resolve hostname x: unknown' >&2; exit 255",
            "cannot be reached: ssh: Could not",
            "host = ",
        ),
        ("echo 'Host key verification failed.' >&2; exit 255", "Host key verification failed", "connect once by hand"),
        ("echo 'ssh: connect to host x: timed out' >&2; exit 255", "timed out", "switched on"),
        (
            "echo 'sh: python3.99: not found' >&2; exit 127",
            "user@board has no python3.99",
            "python = in devices/pi.toml",
        ),
        (
            "echo \"ModuleNotFoundError: No module named 'numpy'\" >&2; exit 1",
            "No module named 'numpy'",
            "numpy and onnx",
        ),
        (
            "echo 'py has no module onnxruntime: pip install it' >&2; exit 11",
            "cannot measure: py has no module onnx",
            "numpy",
        ),
    ],
)
def test_what_ssh_says_becomes_one_line_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, message: str, hint: str
) -> None:
    device = fake_ssh(tmp_path, monkeypatch, script)
    with pytest.raises(DeviceError, match=re.escape(message)) as info:
        SshReach(device).identity()
    assert info.value.message.startswith("device pi: ")
    assert hint in info.value.hint


def test_a_device_that_says_something_else_than_its_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MeasureError, match="device pi: user@board does not say what machine it is"):
        SshReach(fake_ssh(tmp_path, monkeypatch, "echo welcome")).identity()
    with pytest.raises(MeasureError, match="the measuring program on user@board ended with code 9: it said nothing"):
        SshReach(fake_ssh(tmp_path, monkeypatch, "exit 9")).identity()


MACHINE = json.dumps({"fingerprint": fingerprint().to_json(), "onnxruntime": "1"})
STEP = '{"stage": "measure", "done": 30, "total": 90}'


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (
            f"echo $mark; echo '{STEP}'; exit 255",
            r"connection to user@board was lost after 30 of 90 \(measure\): it said nothing",
        ),
        (f"echo $mark; echo '{STEP}'; kill -9 $$", r"was lost after 30 of 90"),
        ("echo $mark; echo '{\"result_bytes\": 100}'; echo cut; exit 0", "was lost: no result came"),
        ("exit 0", "was lost: no result came"),
        ("echo 'OSError: [Errno 28] No space left' >&2; exit 1", "ended with code 1: OSError: .* No space left"),
    ],
)
def test_a_device_that_vanishes_is_told_with_how_far_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, message: str
) -> None:
    probe = f"case \"$*\" in *--machine*) echo $mark; cat > {tmp_path}/program; echo '{MACHINE}'; exit 0;; esac\n"
    device = fake_ssh(tmp_path, monkeypatch, f"{probe}{script}")
    model = write_model(tmp_path / "a.onnx", "Tanh")
    with pytest.raises(MeasureError, match=message):
        measure_models({"a": model}, device=device, rounds=2)


# ----------------------------------------------------------------------------------- a shell that talks, or hangs

TALK = {
    "nothing": "",
    "a banner without an end of line": "printf 'Welcome to board'",
    "a million letters": "head -c 1000000 /dev/zero | tr '\\0' x",
    "a million lines": "yes welcome | head -c 1000000",
    "JSON": """echo '{"ended": 0}'; echo '{"result_bytes": 5}'; echo '{"python": "3.1.0"}'""",
    "the command itself": 'echo "$*"; set -x',
    "something that keeps the connection open": "sleep 30 &",
}
RUN_IT = 'for command; do :; done\nexec sh -c "$command"'


@pytest.mark.parametrize("talk", TALK.values(), ids=TALK)
def test_what_a_login_shell_says_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, talk: str) -> None:
    device = fake_ssh(tmp_path, monkeypatch, f"{talk}\n{RUN_IT}", sys.executable)
    model = write_model(tmp_path / "a.onnx", "Tanh")
    began = time.monotonic()
    found = measure_models({"a": model}, device=device, rounds=2, on_noise="mark")
    assert found.timings["a"].visits >= 2
    assert time.monotonic() - began < 30


@pytest.mark.parametrize(
    ("script", "patience", "message", "hint"),
    [
        (
            "echo welcome; sleep 100",
            Patience(start=1.0),
            r"device pi: user@board: Python did not start there within 1 s; before it, its shell said: welcome",
            "ssh user@board true must end by itself",
        ),
        ("yes", Patience(start=1.0), r"Python did not start there within 1 s; before it, its shell said: y", ".bashrc"),
        (
            "echo $mark; sleep 100",
            Patience(answer=1.0),
            r"it did not say what machine it is within 1 s",
            "import numpy, onnxruntime",
        ),
        (
            f"case \"$*\" in *--machine*) echo $mark; echo '{MACHINE}';; *) echo $mark; sleep 100;; esac",
            Patience(copy=1.0),
            r"it took no data for 1 s while files were copied",
            "free space",
        ),
        (
            f"case \"$*\" in *--machine*) echo $mark; echo '{MACHINE}';; "
            f"*) echo $mark; head -c 300000 > /dev/null; echo '{STEP}'; sleep 100;; esac",
            Patience(work=1.0),
            r"the measuring program said nothing for 1 s, after 30 of 90 \(measure\)",
            "nothing was written",
        ),
    ],
)
def test_every_step_has_a_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, patience: Patience, message: str, hint: str
) -> None:
    device = fake_ssh(tmp_path, monkeypatch, script)
    model = tmp_path / "big.onnx"
    model.write_bytes(bytes(200_000))
    reach = SshReach(device, patience)
    job = job_of({"a": model}, tmp_path, device=device, cores=None, rounds=2, seed=0, on_noise="mark")
    began = time.monotonic()
    with pytest.raises(DeviceError, match=message) as info:
        reach.identity()
        reach.run(job, progress=None)
    assert hint in info.value.hint
    assert time.monotonic() - began < 60
    assert wait_until(lambda: not ssh_children(tmp_path)), "a child stayed"


def ssh_children(folder: Path) -> list[str]:
    """Processes of the stub that still run."""
    return [
        path.parent.name
        for path in Path("/proc").glob("[0-9]*/cmdline")
        if f"{folder}/ssh".encode() in _read(path) and b"board" in _read(path)
    ]


def old_python(folder: Path) -> str:
    """A Python that says it is 3.6."""
    path = folder / "python"
    path.write_text(
        f"#!/bin/sh\nshift\ntext=$1\nshift\nexec {sys.executable} -c 'import sys\n"
        'sys.version_info = (3, 6, 9, "final", 0)\nexec(sys.argv.pop(1))\' "$text" "$@"\n'
    )
    path.chmod(0o755)
    return str(path)


def interpreters(folder: Path) -> list[str]:
    found = [shutil.which(f"python{version}") for version in ("2.7", "3.6", "3.7", "3.8")]
    there = [path for path in found if path and not subprocess.run([path, "-c", ""], capture_output=True).returncode]
    return [old_python(folder), *there]


def test_a_python_that_is_too_old_is_named_before_it_reads_the_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for python in interpreters(tmp_path):
        device = fake_ssh(tmp_path, monkeypatch, RUN_IT, python)
        with pytest.raises(DeviceError, match=r"on user@board is Python [23]\.\d\.\d+; measure.py needs 3.9") as info:
            SshReach(device).identity()
        assert "python = " in info.value.hint


# ------------------------------------------------------------------------------------------------- with a server


@needs_ssh
def test_the_device_says_what_it_is(server: Server) -> None:
    found = SshReach(server.device()).identity()
    assert found.fingerprint == fingerprint()
    assert found.onnxruntime == runtime_version()


@needs_ssh
def test_models_are_timed_there_and_nothing_stays(server: Server, tmp_path: Path) -> None:
    steps: list[Progress] = []
    found = measure_models(
        {
            "short": ModelFile(write_model(tmp_path / "short.onnx", "Tanh"), "block"),
            "long": write_model(tmp_path / "long.onnx", *["Tanh", "Exp"] * 16),
            "broken": write_broken_model(tmp_path / "broken.onnx"),
            "absent": tmp_path / "absent.onnx",
        },
        device=server.device(),
        rounds=2,
        on_noise="mark",
        progress=steps.append,
    )
    assert 3 * found.timings["short"].p25_us < found.timings["long"].p25_us
    assert sorted(found.failures) == ["absent", "broken"]
    assert found.empty_run_us is not None
    assert found.conditions["machine"] == fingerprint().to_json()
    assert list(dict.fromkeys(step.stage for step in steps)) == ["copy", "load", "plan", "measure"]
    assert steps[-1].done == steps[-1].total
    assert jobs(server) == []


@needs_ssh
def test_a_real_login_that_says_a_megabyte_first_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an end of line, and with something left running that keeps the connection open."""
    talk = "head -c 1000000 /dev/zero | tr '\\0' x; printf Welcome; sleep 3 &"
    model = write_model(tmp_path / "a.onnx", "Tanh")
    monkeypatch.setenv("KNOWN", str(tmp_path / "known"))  # the module's server may have its own client before this one
    with serving(tmp_path, f'ForceCommand {talk} eval "$SSH_ORIGINAL_COMMAND"') as server:
        found = measure_models({"a": model}, device=server.device(), rounds=2, on_noise="mark")
        assert found.timings["a"].visits >= 2
        assert wait_until(lambda: jobs(server) == []), "files of the job stayed on the device"


@needs_ssh
@pytest.mark.parametrize(
    ("changes", "message", "hint"),
    [
        ({"port": 1}, "cannot be reached: .*Connection refused", "set port = in devices/board.toml"),
        ({"identity": "OTHER"}, "cannot be reached: .*Permission denied", "ssh-copy-id"),
        ({"python": "python9"}, "has no python9", "python = in devices/board.toml"),
        (
            {"threads": 1024},
            r"device board: threads is 1024; \d+ cores? may be used on .*@127.0.0.1",
            "set threads to at most",
        ),
        ({"core": 4096}, r"device board: core is 4096; this process may use .* on .*@127.0.0.1", "set core"),
    ],
)
def test_a_device_that_cannot_measure_is_refused_before_anything_is_exported(
    server: Server, tmp_path: Path, changes: dict[str, object], message: str, hint: str
) -> None:
    if changes.get("identity") == "OTHER":
        changes = {"identity": str(make_key(tmp_path / "other"))}
    with pytest.raises(DeviceError, match=message) as info:
        profile(chain(), build, build_network, device=server.device(**changes), folder=tmp_path / "tables")
    assert hint in info.value.hint
    assert not (tmp_path / "tables").exists()


@needs_ssh
def test_an_unknown_host_key_is_not_accepted_in_silence(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KNOWN", str(tmp_path / "empty"))
    with pytest.raises(DeviceError, match="Host key verification failed") as info:
        SshReach(server.device()).identity()
    device = server.device()
    by_hand = shlex.join(["ssh", "-p", str(device.port), "-i", str(device.identity), str(device.host)])
    assert info.value.hint.endswith(f"connect once by hand: {by_hand}")


@needs_ssh
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds child processes through /proc")
def test_a_device_that_vanishes_in_the_middle_leaves_no_table_here_and_nothing_there(
    server: Server, tmp_path: Path
) -> None:
    """The ssh child is killed as soon as measuring has begun."""
    killed: list[int] = []

    def kill(step: Progress) -> None:
        if step.stage == "measure" and not killed:
            [child] = [
                int(path.parent.name)
                for path in Path("/proc").glob("[0-9]*/cmdline")
                if _read(path).split(b"\0")[0].endswith(b"/ssh") and str(server.port).encode() in _read(path)
            ]
            killed.append(child)
            os.kill(child, signal.SIGKILL)

    tables = tmp_path / "tables"
    tables.mkdir()
    (tables / "board--onnxruntime-cpu--chain.jsonl").write_text("the old table")
    with pytest.raises(MeasureError, match=r"the connection to .* was lost after \d+ of \d+ \(measure\)") as info:
        profile(
            chain(),
            build,
            build_network,
            device=server.device(),
            folder=tables,
            rounds=10**6,
            on_noise="mark",
            progress=kill,
        )
    assert "nothing was written" in info.value.hint
    assert [(path.name, path.read_text()) for path in tables.iterdir()] == [
        ("board--onnxruntime-cpu--chain.jsonl", "the old table")
    ]
    assert wait_until(lambda: jobs(server) == []), "files of the job stayed on the device"


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
