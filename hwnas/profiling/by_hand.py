"""A device that is reached by hand: a folder goes there, a results file comes back."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hwnas.core import DeviceError, MeasureError, counted
from hwnas.device import Device
from hwnas.profiling.program import PROGRAM, Identity, Job, ProgressCall, read_result

RESULTS = "results.jsonl"

LAUNCHER = """\
# Looks whether this Python is new enough, in words that every Python knows, and then measures: see measuring.py.
import os
import sys

if sys.version_info[:2] < (3, 9):
    found = "%d.%d.%d" % tuple(sys.version_info[:3])
    sys.stderr.write("This Python is %s; measuring needs 3.9 or newer: run it with another one\\n" % found)
    sys.exit(1)

sys.dont_write_bytecode = True  # the folder stays as it was carried here
sys.path[0] = os.path.dirname(os.path.abspath(__file__))
import measuring

sys.exit(measuring.main(sys.argv[1:]))
"""
"""What a person runs on the board; the program itself would be a syntax error to an old Python."""


def check_free(folder: Path) -> None:
    """That a kit may be written there.

    Raises:
        MeasureError: If something is.
    """
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise MeasureError(f"{folder}: is there already; a kit needs a folder of its own", hint="give another: --out")


def pack(job: Job, folder: Path, *, device: Device, about: Mapping[str, Any], then: str) -> int:
    """Write all that a board needs to do a job; the whole folder or none.

    Args:
        job: With its files.
        folder: Must not exist, or be empty.
        device: That it is for.
        about: What the result is to be known by.
        then: What its README says is to be done with the results file.

    Returns:
        Bytes of all files.

    Raises:
        MeasureError: If the folder is in use.
    """
    check_free(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as temporary:
        kit = Path(temporary) / "kit"
        for name, path in job.files.items():
            target = kit / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        (kit / "job.json").write_text(json.dumps({**job.values, "about": about}, indent=1) + "\n", encoding="utf-8")
        (kit / "measure.py").write_text(LAUNCHER, encoding="utf-8")
        shutil.copyfile(PROGRAM, kit / "measuring.py")
        (kit / "README.md").write_text(_readme(device, len(job.values["models"]), then), encoding="utf-8")
        size_bytes = sum(path.stat().st_size for path in kit.rglob("*") if path.is_file())
        if folder.exists():
            folder.rmdir()
        kit.rename(folder)
    return size_bytes


@dataclass(frozen=True)
class KitReach:
    """Through a folder: the first time a job is asked for, it is written there; once its results are there, they count.

    So whoever asks stops with an error that says what to carry where, and goes on when asked again.

    Attributes:
        device: Reached by hand.
        folder: Of the kit.
    """

    device: Device
    folder: Path

    def identity(self) -> Identity:
        """Nobody can ask before the results are here, which say it themselves.

        Raises:
            DeviceError: Always.
        """
        raise DeviceError(f"device {self.device.name}: is reached by hand, and cannot be asked what it is")

    def run(self, job: Job, *, progress: ProgressCall | None) -> dict[str, Any]:  # noqa: ARG002 - nothing goes on here
        """The results of a job that has been done there.

        Raises:
            MeasureError: If it has not, saying what to do; or if the results are damaged, or of another job.
        """
        results, asked = self.folder / RESULTS, _asked(job)
        if results.is_file():
            result = read_result(results)
            if result["about"] == asked:
                return result
            raise MeasureError(
                f"{results}: of other networks than those that are to be timed now",
                hint=f"remove {self.folder} and give the same command again: it writes the kit anew",
            )
        shutil.rmtree(self.folder, ignore_errors=True)  # of an earlier try, perhaps of other networks
        then = f"Bring `{RESULTS}` back into the folder `{self.folder}`, and give the same command again."
        pack(job, self.folder, device=self.device, about=asked, then=then)
        models = len(job.values["models"])
        waiting = "1 network waits" if models == 1 else f"{models} networks wait"
        raise MeasureError(
            f"device {self.device.name}: is reached by hand, and {waiting} to be timed on it",
            hint=f"carry {self.folder} there, run python3 measure.py job.json {RESULTS} in it, bring {RESULTS} back "
            f"into {self.folder}, and give the same command again",
        )


def _asked(job: Job) -> dict[str, Any]:
    """What makes two jobs the same: the files may be written anew meanwhile, the networks and conditions may not."""
    named = [[model["key"], model["kind"]] for model in job.values["models"]]
    return {"models": named, **{name: job.values[name] for name in _CONDITIONS}}


_CONDITIONS = ("batch", "threads", "core", "rounds", "seed", "runtime", "gpu")
# What a board needs besides Python, by runtime.
_PACKAGES = {
    "onnxruntime-cuda": "onnxruntime-gpu nvidia-ml-py",
    "onnxruntime-tensorrt": "onnxruntime-gpu tensorrt nvidia-ml-py",
    "openvino": "openvino",
}


def _readme(device: Device, models: int, then: str) -> str:
    packages = f"numpy {_PACKAGES.get(device.runtime, 'onnxruntime')}"
    return f"""# Measure this device

{counted(models, "ONNX file")}, made by hwnas for the device that it calls {device.name}.
Nothing of hwnas is needed here: only Python 3.9 or newer with {" and ".join(packages.split())}.

1. Copy this whole folder to the device.
2. There, in this folder:

       python3 -m pip install {packages}
       python3 measure.py job.json {RESULTS}

   Stop other programs first. It times with {counted(device.threads, "thread")}, prints how far it is, and says
   at the end whether the device was quiet enough.
3. {then}
"""
