"""Whether a member's file is still the one whose numbers `front.json` holds."""

from __future__ import annotations

import hashlib
from pathlib import Path

from hwnas.core import ExportError
from hwnas.export.reading import Described, describe
from hwnas.job.front import Front, Member


def file_digest(path: Path) -> str:
    """The sha256 of a whole file, as `sha256sum` prints it.

    Raises:
        OSError: If it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_member_file(front: Front, member: Member) -> Described:
    """Read a member's ONNX file and check that its graph and weights are those that were measured.

    Args:
        front: Of the run.
        member: One of its members.

    Returns:
        The file; its state is "unknown" where an earlier version of hwnas kept no digest.

    Raises:
        ExportError: If the file is gone, damaged or changed.
    """
    path = front.onnx_path(member)
    if not path.is_file():
        raise ExportError(f"{path}: the member's file is gone", hint="hwnas search with its recipe writes it again")
    found = describe(path)
    expected = member.digests.get("onnx_content")
    if found.state == "changed" or (expected is not None and expected != found.sha256):
        raise ExportError(
            f"{path}: changed since it was exported ({front.facts.get('created_utc', 'date unknown')}): the accuracy "
            "and the latency of this member are those of another graph or other weights",
            hint="keep your version elsewhere, and run hwnas search with its recipe: it writes the member again",
        )
    return found
