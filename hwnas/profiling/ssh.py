"""A device behind ssh: the measuring program and its files are sent there, run, and leave nothing behind.

What a login shell says, however long, with or without a line's end, comes before a mark and is passed over. Every step
there has a limit (`Patience`), so that a shell or a program that hangs is an error that names the step.
"""

from __future__ import annotations

import io
import json
import os
import queue
import secrets
import shlex
import signal
import subprocess
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from hwnas.core import DeviceError, MeasureError
from hwnas.core.escaping import command_line
from hwnas.device import Device, scratch
from hwnas.profiling.program import (
    PROGRAM,
    Identity,
    Job,
    Progress,
    ProgressCall,
    check_end,
    last_line,
    pass_on,
    read_result,
)

ERRAND = Path(__file__).with_name("errand.py")
CONNECT_SECONDS = 10
_SSH_FAILED = 255  # ssh's own failures end with this, whatever the command there does
_NO_COMMAND = (126, 127)
_OLD_PYTHON = 12
_GRACE_SECONDS = 5.0
_CHUNK = 1 << 16
_BANNER_KEPT = 200

BOOT = """\
import sys
sys.stdout.write("\\n" + sys.argv[1] + "\\n")
sys.stdout.flush()
if sys.version_info[:2] < (3, 9):
    sys.stdout.write('{"python": "%d.%d.%d"}\\n' % tuple(sys.version_info[:3]))
    sys.stdout.flush()
    sys.exit(12)
code = 1
try:
    exec(compile(sys.argv[2], "errand", "exec"), globals())
except SystemExit:
    code = sys.exc_info()[1].code or 0
    raise
finally:
    sys.stdout.write('\\n{"ended": %d}\\n' % code)
    sys.stdout.flush()
"""
"""What the Python there runs first, in words that every Python since 2.6 knows: the mark, its version, then the rest.

How the rest ends is said on the way, too: where the login shell has started something that keeps the connection open,
ssh does not end.
"""

_PROBE = """\
import sys
sys.argv = ["measure.py"] + sys.argv[3:]
exec(compile(sys.stdin.read(), "measure.py", "exec"), globals())
"""

_WAYS_OUT = {
    "Permission denied": "let {host} accept a key ({copy_id}), or name one it accepts: identity = in {file}",
    "Could not resolve": "host = in {file} must be a name that ssh knows: try {ssh}",
    "Host key verification failed": "its key is unknown here or has changed: connect once by hand: {ssh}",
    "Connection refused": "no ssh server answers there: start one, or set port = in {file}",
    "identity file": "identity = in {file} must be a private key that is there",
}


@dataclass(frozen=True)
class Patience:
    """Seconds after which a step on a device behind ssh is given up.

    Attributes:
        start: From the call to the first word of the Python there: connection, login and its shell.
        answer: For saying what machine it is: the runtime is imported.
        copy: Without a byte taken, while files are copied.
        work: Without a word of the measuring program. It speaks at least after every model and every visit, so this
            bounds one run of the slowest model, and loading it.
    """

    start: float = 90.0
    answer: float = 180.0
    copy: float = 90.0
    work: float = 900.0


@dataclass(frozen=True)
class SshReach:
    """Through the `ssh` of this machine, with its configuration and its agent, and never a question asked.

    Attributes:
        device: With a host.
        patience: How long each step may take.
    """

    device: Device
    patience: Patience = Patience()

    def identity(self) -> Identity:
        """What the device is, as `measure.py --machine` says there.

        Raises:
            DeviceError: If it cannot be reached, or lacks Python, numpy or onnxruntime.
            MeasureError: If the program failed there, or the runtime or the GPU cannot be used.
        """
        asked = ["--machine"]
        if self.device.runtime != "onnxruntime-cpu":
            asked += [self.device.runtime, *([] if self.device.gpu is None else [self.device.gpu])]
        with self._talk(_PROBE, *asked) as talk:
            talk.begin()
            talk.expect("answer")
            talk.send(lambda stdin: stdin.write(PROGRAM.read_bytes()))
            talk.close()
            for line in talk.lines():
                with suppress(ValueError, KeyError, TypeError):
                    return Identity.from_json(json.loads(line))
            self._check(talk, heard=None)
            raise MeasureError(
                f"device {self.device.name}: {self.device.host} does not say what machine it is: {talk.last_words()}"
            )

    def run(self, job: Job, *, progress: ProgressCall | None) -> dict[str, Any]:
        """Send a job, follow it, take its result; when this ends, however it ends, so does the program there.

        Raises:
            DeviceError: If the device cannot be reached, lacks what measuring needs, has too few cores, or takes longer
                than its limit for a step.
            MeasureError: If the program failed, or the connection was lost.
        """
        heard: Progress | None = None

        def listen(step: Progress) -> None:
            nonlocal heard
            heard = step
            if progress is not None:
                progress(step)

        with (
            scratch("ssh") as folder,
            self._talk(ERRAND.read_text(encoding="utf-8")) as talk,
        ):
            talk.begin()
            talk.expect("copy")
            talk.send(lambda stdin: _send(stdin, job, progress))
            talk.expect("work")
            for line in talk.lines(lambda: heard):
                pass_on(line, listen)
            if talk.result is None:
                self._check(talk, heard=heard)
                raise self._lost("no result came", heard)
            answer = folder / "result.json"
            answer.write_bytes(talk.result)
            return read_result(answer)

    def command(self, *arguments: str) -> list[str]:
        """The ssh command that runs the device's Python."""
        device = self.device
        assert device.host is not None  # the device's own check
        options = [f"-oConnectTimeout={CONNECT_SECONDS}", "-oServerAliveInterval=10", "-oServerAliveCountMax=3"]
        options += self._port_and_identity()
        if device.identity is not None:
            options.append("-oIdentitiesOnly=yes")
        there = " ".join([_for_shell(device.python), *map(shlex.quote, arguments)])
        return ["ssh", "-T", "-oBatchMode=yes", *options, "--", device.host, there]

    def _port_and_identity(self) -> list[str]:
        port, identity = self.device.port, self.device.identity
        return [
            *([] if port is None else ["-p", str(port)]),
            *([] if identity is None else ["-i", str(Path(identity).expanduser())]),
        ]

    def by_hand(self, program: str) -> str:
        """The command for a person that reaches the device as its file says.

        Args:
            program: "ssh" or "ssh-copy-id"; both know the same options.

        Example:
            >>> device = Device(name="pi", host="user@board", port=2222, identity="/keys/my board")
            >>> SshReach(device).by_hand("ssh")
            "ssh -p 2222 -i '/keys/my board' user@board"
        """
        return command_line(program, *self._port_and_identity(), self.device.host)

    def _talk(self, text: str, *arguments: str) -> _Talk:
        mark = f"hwnas-{secrets.token_hex(8)}"
        return _Talk(self.command("-c", BOOT, mark, text, *arguments), mark, self.device, self.patience)

    def _check(self, talk: _Talk, *, heard: Progress | None) -> None:
        """Say what went wrong, if anything did.

        Raises:
            DeviceError: As `run`.
            MeasureError: As `run`.
        """
        code, device, said = talk.code(), self.device, talk.last_words()
        file = f"devices/{device.name}.toml"
        if talk.old_python is not None:
            raise DeviceError(
                f"device {device.name}: {device.python} on {device.host} is Python {talk.old_python}; measure.py needs "
                "3.9 or newer",
                hint=f'install a newer one there with numpy and onnxruntime, and name it: python = "..." in {file}',
            )
        if code == 0:
            return
        if code == _SSH_FAILED or code < 0:
            if heard is not None:
                raise self._lost(said, heard)
            ways = [way for sign, way in _WAYS_OUT.items() if sign.lower() in said.lower()]
            way = (ways or ["is it switched on and in this network? try {ssh}"])[0]
            raise DeviceError(
                f"device {device.name}: {device.host} cannot be reached: {said}",
                hint=way.format(
                    host=device.host, file=file, ssh=self.by_hand("ssh"), copy_id=self.by_hand("ssh-copy-id")
                ),
            )
        if code in _NO_COMMAND:
            raise DeviceError(
                f"device {device.name}: {device.host} has no {device.python}: {said}",
                hint=f"install Python 3.9 or newer there, or name its interpreter: python = in {file}",
            )
        check_end(code, said, device)
        raise MeasureError(
            f"device {device.name}: the measuring program on {device.host} ended with code {code}: {said}"
        )

    def _lost(self, said: str, heard: Progress | None) -> MeasureError:
        done = "" if heard is None else f" after {heard.done} of {heard.total} ({heard.stage})"
        return MeasureError(
            f"device {self.device.name}: the connection to {self.device.host} was lost{done}: {said}",
            hint="nothing was written; when the device is back, give the same command again",
        )


class _Talk:
    """One ssh child, what it is sent and what it says after the mark. It ends with the block that it stands in.

    Standard output is read all the time by a thread: a shell that says more than the pipe holds would otherwise wait
    for this side, which waits to be read from. Another thread ends the child when the step that goes on is overdue.

    Args:
        command: That starts it.
        mark: The line with which the errand begins.
        device: For errors.
        patience: How long each step may take.
    """

    def __init__(self, command: list[str], mark: str, device: Device, patience: Patience) -> None:
        self.result: bytes | None = None
        self.old_python: str | None = None
        self._device, self._patience, self._mark = device, patience, mark.encode()
        self._step, self._end = "start", time.monotonic() + patience.start
        self._overdue: str | None = None
        self._ended: int | None = None
        self._banner = b""
        self._lines: queue.Queue[bytes | None] = queue.Queue()
        self._over, self._read_all = threading.Event(), threading.Event()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the block
        try:
            self._child = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                bufsize=0,  # no lock of a buffer may stand between the reading thread and the end
                start_new_session=True,
            )
        except FileNotFoundError as error:
            self._errors.close()
            raise DeviceError(
                f"device {device.name}: there is no ssh on this machine; expected it for host {device.host}",
                hint='install OpenSSH\'s client, or use a kit: reach = "kit" and hwnas kit RECIPE',
            ) from error

    def __enter__(self) -> Self:
        for work in (self._read, self._watch):
            threading.Thread(target=work, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self.close()
        if kind is None:
            with suppress(subprocess.TimeoutExpired):
                self._child.wait(_GRACE_SECONDS)
        self._kill()
        self._child.wait()
        self._pipe(self._child.stdout).close()
        self._errors.close()

    def begin(self) -> None:
        """Wait for the mark.

        Raises:
            DeviceError: If it is overdue. Where the connection ends instead, `lines` has none, and `code` says why.
        """
        first = self._lines.get()
        self._check_time(None)
        if first is None:
            self._lines.put(None)

    def expect(self, step: str) -> None:
        """This step of `Patience` begins, or goes on: its limit counts from now."""
        self._step, self._end = step, time.monotonic() + float(getattr(self._patience, step))

    def send(self, write: Callable[[IO[bytes]], object]) -> None:
        """Let something write to the standard input there; nothing happens if the other side is gone already."""
        # Its exit code and last words say why it is gone.
        with suppress(BrokenPipeError):
            write(_Fed(self._pipe(self._child.stdin), lambda: self.expect(self._step)))  # type: ignore[arg-type]

    def close(self) -> None:
        """The end of the standard input there."""
        with suppress(BrokenPipeError):
            self._pipe(self._child.stdin).close()

    def lines(self, heard: Callable[[], Progress | None] = lambda: None) -> Iterator[bytes]:
        """What is said after the mark, to the end of the errand or of the connection.

        Args:
            heard: How far the work is, for errors.

        Raises:
            DeviceError: If a step is overdue.
        """
        while (line := self._lines.get()) is not None:
            yield line
        self._check_time(heard())

    def code(self) -> int:
        """How it ended; ssh's own code where the errand did not say it."""
        if self._ended is not None:
            return self._ended
        try:
            return self._child.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            return _SSH_FAILED

    def last_words(self) -> str:
        """The last line of the error stream."""
        # Not by seeking: the child writes at the same place of the same file.
        place = self._errors.fileno()
        said = os.pread(place, _CHUNK, max(0, os.fstat(place).st_size - _CHUNK))
        return last_line(said.decode(errors="replace"))

    def _check_time(self, heard: Progress | None) -> None:
        if self._overdue is None:
            return
        device, step = self._device, self._overdue
        self._read_all.wait(_GRACE_SECONDS)  # the connection is closed: what came without an end of line is read now
        limit = f"{getattr(self._patience, step):.0f} s"
        banner = self._banner.decode(errors="replace").strip()
        before = f"before it, its shell said: {last_line(banner)}" if banner else "its shell said nothing before"
        done = "" if heard is None else f", after {heard.done} of {heard.total} ({heard.stage})"
        what, hint = {
            "start": (
                f"Python did not start there within {limit}; {before}",
                f"ssh {device.host} true must end by itself: look for what waits or hangs in ~/.bashrc and ~/.profile "
                "there",
            ),
            "answer": (
                f"it did not say what machine it is within {limit}",
                f"try there: {device.python} -c 'import numpy, onnxruntime'",
            ),
            "copy": (
                f"it took no data for {limit} while files were copied",
                "look at its network and at the free space of its temporary folder, then give the same command again",
            ),
            "work": (
                f"the measuring program said nothing for {limit}{done}",
                "nothing was written; look whether the device hangs or its memory is full, then give the same command "
                "again",
            ),
        }[step]
        raise DeviceError(f"device {device.name}: {device.host}: {what}", hint=hint)

    def _watch(self) -> None:
        while not self._over.wait(0.1):
            if time.monotonic() > self._end:
                self._overdue = self._step
                self._kill()
                self._lines.put(None)
                return

    def _read(self) -> None:
        """To the mark what the shell says; then lines, and the bytes of a result."""
        stdout = _Source(self._pipe(self._child.stdout))
        with suppress(OSError, ValueError):  # closed by the other thread
            while (line := stdout.line()) and line.strip() != self._mark:
                self._banner = (self._banner + line)[-_BANNER_KEPT:]
            if line:
                self._lines.put(b"")
            while self._ended is None and (line := stdout.line()):
                if self._step == "work":
                    self.expect("work")
                self._take(line, stdout)
        self._read_all.set()
        self._lines.put(None)

    def _take(self, line: bytes, stdout: _Source) -> None:
        size, ended, python = (_said(line, name) for name in ("result_bytes", "ended", "python"))
        if isinstance(python, str):
            self.old_python, self._ended = python, _OLD_PYTHON
        elif isinstance(ended, int):
            self._ended = ended
        elif isinstance(size, int):
            result = stdout.exactly(size, lambda: self.expect("work"))
            self.result = result if len(result) == size else None
        else:
            self._lines.put(line)

    def _kill(self) -> None:
        """The child and what it has started, as a proxy."""
        if self._child.poll() is not None and self._read_all.is_set():
            return  # nothing of it is left
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._child.pid, signal.SIGKILL)

    @staticmethod
    def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
        assert stream is not None  # for the type checker: they were asked for
        return stream


class _Fed:
    """A pipe that notes each block it gets rid of.

    Args:
        pipe: Without a buffer.
        taken: Called after each.
    """

    def __init__(self, pipe: IO[bytes], taken: Callable[[], None]) -> None:
        self._pipe, self._taken = pipe, taken

    def write(self, content: bytes) -> int:
        rest = memoryview(content)
        while rest:
            rest = rest[self._pipe.write(rest[:_CHUNK]) or 0 :]
            self._taken()
        return len(content)


class _Source:
    """Lines and blocks of a pipe without a buffer of its own."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe, self._have = pipe, b""

    def line(self) -> bytes:
        """The next line; a longer one in pieces; nothing at the end."""
        while b"\n" not in self._have and len(self._have) < _CHUNK and (more := self._pipe.read(_CHUNK)):
            self._have += more
        end = self._have.find(b"\n") + 1 or len(self._have)
        line, self._have = self._have[:end], self._have[end:]
        return line

    def exactly(self, size: int, more_came: Callable[[], None]) -> bytes:
        """That many bytes, fewer at the end."""
        parts, left = [self._have[:size]], size - len(self._have[:size])
        self._have = self._have[size:]
        while left and (more := self._pipe.read(min(left, _CHUNK))):
            more_came()
            parts.append(more)
            left -= len(more)
        return b"".join(parts)


def _said(line: bytes, name: str) -> object:
    """One value of a line of JSON; None if it is none or has no such value."""
    try:
        return json.loads(line)[name]
    except (ValueError, KeyError, TypeError, IndexError):
        return None


def _for_shell(python: str) -> str:
    """Quoted, but for a leading `~/`, which the shell there is to replace."""
    home = "~/" if python.startswith("~/") else ""
    return home + shlex.quote(python[len(home) :])


def _send(stdin: IO[bytes], job: Job, progress: ProgressCall | None) -> None:
    request = json.dumps(job.values).encode()
    about = tarfile.TarInfo("job.json")
    about.size = len(request)
    with tarfile.open(fileobj=stdin, mode="w|", dereference=True) as archive:
        archive.add(PROGRAM, "measure.py")
        archive.addfile(about, io.BytesIO(request))
        for done, (name, path) in enumerate(job.files.items(), start=1):
            if path.is_file():  # if not, the program says so of this model and goes on with the others
                archive.add(path, name)
            if progress is not None:
                progress(Progress("copy", done, len(job.files)))
