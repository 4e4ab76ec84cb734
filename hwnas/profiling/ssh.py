"""A device behind ssh: the measuring program and its files are sent there, run, and leave nothing behind."""

from __future__ import annotations

import io
import json
import shlex
import subprocess
import tarfile
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from hwnas.core import DeviceError, MeasureError
from hwnas.device import Device
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

_WAYS_OUT = {
    "Permission denied": "let {host} accept a key (ssh-copy-id {host}), or name one it accepts: identity = in {file}",
    "Could not resolve": "host = in {file} must be a name that ssh knows: try ssh {host}",
    "Host key verification failed": "its key is unknown here or has changed: connect once by hand, ssh {host}",
    "Connection refused": "no ssh server answers there: start one, or set port = in {file}",
    "identity file": "identity = in {file} must be a private key that is there",
}


@dataclass(frozen=True)
class SshReach:
    """Through the `ssh` of this machine, with its configuration and its agent, and never a question asked.

    Attributes:
        device: With a host.
    """

    device: Device

    def identity(self) -> Identity:
        """What the device is, as `measure.py --machine` says there.

        Raises:
            DeviceError: If it cannot be reached, or lacks Python, numpy or onnxruntime.
            MeasureError: If the program failed there, or the runtime or the GPU cannot be used.
        """
        asked = ["--machine"]
        if self.device.runtime != "onnxruntime-cpu":
            asked += [self.device.runtime, *([] if self.device.gpu is None else [self.device.gpu])]
        try:
            done = subprocess.run(
                self.command("-", *asked), input=PROGRAM.read_bytes(), capture_output=True, check=False
            )
        except FileNotFoundError as error:
            raise self._no_ssh() from error
        self._check(done.returncode, done.stderr, heard=None)
        try:
            return Identity.from_json(json.loads(last_line(done.stdout.decode(errors="replace"))))
        except (ValueError, KeyError, TypeError) as error:
            raise MeasureError(
                f"device {self.device.name}: {self.device.host} does not say what machine it is: {error!r}"
            ) from error

    def run(self, job: Job, *, progress: ProgressCall | None) -> dict[str, Any]:
        """Send a job, follow it, take its result; when this ends, however it ends, so does the program there.

        Raises:
            DeviceError: If the device cannot be reached, lacks what measuring needs, or has too few cores.
            MeasureError: If the program failed, or the connection was lost.
        """
        heard: Progress | None = None

        def listen(step: Progress) -> None:
            nonlocal heard
            heard = step
            if progress is not None:
                progress(step)

        command = self.command("-c", ERRAND.read_text(encoding="utf-8"))
        with tempfile.TemporaryDirectory(prefix="hwnas-ssh-") as name:
            answer, errors = Path(name) / "result.json", Path(name) / "errors.txt"
            with errors.open("wb") as stderr:
                try:
                    child = subprocess.Popen(
                        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, start_new_session=True
                    )
                except FileNotFoundError as error:
                    raise self._no_ssh() from error
                with child:
                    assert child.stdin is not None  # for the type checker: they were asked for
                    assert child.stdout is not None
                    try:
                        _send(child.stdin, job, progress)
                        whole = _receive(child.stdout, answer, listen)
                        code = child.wait()
                    finally:
                        # Nothing to do unless an exception came through: Ctrl-C, or one of the caller's own.
                        child.kill()
                        with suppress(BrokenPipeError):
                            child.stdin.close()
            self._check(code, errors.read_bytes(), heard=heard)
            if not whole:
                raise self._lost("no result came", heard)
            return read_result(answer)

    def command(self, *arguments: str) -> list[str]:
        """The ssh command that runs the device's Python."""
        device = self.device
        assert device.host is not None  # the device's own check
        options = [f"-oConnectTimeout={CONNECT_SECONDS}", "-oServerAliveInterval=10", "-oServerAliveCountMax=3"]
        if device.port is not None:
            options += ["-p", str(device.port)]
        if device.identity is not None:
            options += ["-i", str(Path(device.identity).expanduser()), "-oIdentitiesOnly=yes"]
        there = " ".join([_for_shell(device.python), *map(shlex.quote, arguments)])
        return ["ssh", "-T", "-oBatchMode=yes", *options, "--", device.host, there]

    def _check(self, code: int, stderr: bytes, *, heard: Progress | None) -> None:
        """Say what went wrong, if anything did.

        Raises:
            DeviceError: As `run`.
            MeasureError: As `run`.
        """
        if code == 0:
            return
        device, said = self.device, last_line(stderr.decode(errors="replace"))
        file = f"devices/{device.name}.toml"
        if code == _SSH_FAILED or code < 0:
            if heard is not None:
                raise self._lost(said, heard)
            ways = [way for sign, way in _WAYS_OUT.items() if sign.lower() in said.lower()]
            way = (ways or ["is it switched on and in this network? try ssh {host}"])[0]
            raise DeviceError(
                f"device {device.name}: {device.host} cannot be reached: {said}",
                hint=way.format(host=device.host, file=file),
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

    def _no_ssh(self) -> DeviceError:
        return DeviceError(
            f"device {self.device.name}: there is no ssh on this machine; expected it for host {self.device.host}",
            hint='install OpenSSH\'s client, or use a kit: reach = "kit" and hwnas kit RECIPE',
        )


def _for_shell(python: str) -> str:
    """Quoted, but for a leading `~/`, which the shell there is to replace."""
    home = "~/" if python.startswith("~/") else ""
    return home + shlex.quote(python[len(home) :])


def _send(stdin: IO[bytes], job: Job, progress: ProgressCall | None) -> None:
    request = json.dumps(job.values).encode()
    about = tarfile.TarInfo("job.json")
    about.size = len(request)
    # If the other side is gone already, its exit code and last words say why.
    with suppress(BrokenPipeError):
        with tarfile.open(fileobj=stdin, mode="w|", dereference=True) as archive:
            archive.add(PROGRAM, "measure.py")
            archive.addfile(about, io.BytesIO(request))
            for done, (name, path) in enumerate(job.files.items(), start=1):
                if path.is_file():  # if not, the program says so of this model and goes on with the others
                    archive.add(path, name)
                if progress is not None:
                    progress(Progress("copy", done, len(job.files)))
        stdin.flush()


def _receive(stdout: IO[bytes], answer: Path, progress: ProgressCall) -> bool:
    """Follow the program to its end; whether a whole result came, which is then in the file."""
    for line in stdout:
        size = _result_bytes(line)
        if size is None:
            pass_on(line, progress)
            continue
        result = stdout.read(size)
        answer.write_bytes(result)
        return len(result) == size
    return False


def _result_bytes(line: bytes) -> int | None:
    try:
        size = json.loads(line)["result_bytes"]
    except (ValueError, KeyError, TypeError):
        return None
    return size if isinstance(size, int) else None
