"""The other end of an ssh connection: unpacks a job from the standard input, runs it, hands its result back.

`ssh.py` hands this text to the device's own Python, having looked whether that is new enough; it imports the standard
library only. Everything goes through the one connection: a tar archive comes in, the program's progress goes out, and
last a line that says how many bytes of result follow. The standard input stays open until the other side has what it
wants. When it ends early, whoever asked is gone, and nothing may be left here: no process, no files.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import signal
import sys
import tarfile
import tempfile
import threading
from pathlib import Path
from typing import Any


def errand() -> int:
    """Do one job; the exit code is that of the measuring program."""
    # Before numpy is loaded: its thread pools would stand beside the runtime's.
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")
    for name in ("SIGHUP", "SIGTERM"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), lambda *_: sys.exit(1))
    folder = Path(tempfile.mkdtemp(prefix="hwnas-"))
    try:
        unpack(folder)
        threading.Thread(target=end_with_the_connection, args=(folder,), daemon=True).start()
        sys.path.insert(0, str(folder))
        measure: Any = importlib.import_module("measure")
        held = measure.hold(folder)  # as long as this process lives: what a killed one left goes with the next
        measure.sweep(folder.parent)
        code: int = measure.main([str(folder / "job.json"), str(folder / "result.json")])
        if code == 0:
            result = (folder / "result.json").read_bytes()
            print(json.dumps({"result_bytes": len(result)}), flush=True)
            sys.stdout.buffer.write(result)
            sys.stdout.buffer.flush()
        if held is not None:
            held.close()
        return code
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def unpack(folder: Path) -> None:
    """The archive on the standard input into a folder."""
    with tarfile.open(fileobj=sys.stdin.buffer, mode="r|") as sent:
        if hasattr(tarfile, "data_filter"):  # a later Python refuses to unpack without saying what may be unpacked
            sent.extractall(folder, filter="data")
        else:
            sent.extractall(folder)


def end_with_the_connection(folder: Path) -> None:
    """Wait for the end of the standard input, then end this process."""
    # Not through sys.stdin: its lock would still be held by this thread when the process ends.
    while os.read(0, 4096):
        pass
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(errand())
