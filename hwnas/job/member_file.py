"""Whether a member's file is still the one whose numbers `front.json` holds.

The record in `front.json` is a better witness than the digests in the file, which a tool may drop or take anew.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from hwnas.core import ExportError
from hwnas.job.front import FileState, Front, Member

if TYPE_CHECKING:
    from hwnas.export.reading import Described

EARLIER = (
    "made by an earlier version, which kept no digests: whether its files were changed since their export cannot be "
    "told"
)
"""What is known of the files of a run of an earlier version."""

_AGAIN = "keep your version elsewhere, and run hwnas search with its recipe: it writes the member again"


def file_digest(path: Path) -> str:
    """The sha256 of a whole file, as `sha256sum` prints it.

    Raises:
        OSError: If it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class Recorded:
    """A file in a run's folder, and the member that `front.json` holds under its name."""

    front: Front
    member: Member

    @classmethod
    def of(cls, path: Path) -> Recorded | None:
        """What the run's front says of a file in its folder, or in a folder of that; None if it says nothing.

        Raises:
            StoreError: If there is a front that cannot be read.
        """
        file = path.resolve()
        for folder in (path.parent, path.parent / ".."):
            if (folder / "front.json").is_file():
                front = Front.load(folder.resolve())
                for member in front.members:
                    if front.onnx_path(member).resolve() == file:
                        return cls(front, member)
        return None

    @property
    def weights_changed(self) -> bool:
        """Whether the torch weights beside the file are others than those that were kept; False if neither is known."""
        path, expected = self.front.folder / self.member.weights, self.member.digests.get("weights")
        return expected is not None and path.is_file() and file_digest(path) != expected

    def describe(self) -> Described:
        """The member's file, its state by the front's record.

        Raises:
            ExportError: If it is missing or damaged.
        """
        from hwnas.export.reading import describe  # loads onnx, which a run that is not there has no need of

        front, member = self.front, self.member
        path, digests = front.onnx_path(member), member.digests
        found = describe(path)
        if not {"onnx", "onnx_content"} <= digests.keys():  # there is no other witness than the file
            return found if found.state != "unknown" or front.keeps_digests else self._of_earlier(found)
        if file_digest(path) == digests["onnx"]:
            return replace(found, state="as exported", covered=True)
        if found.sha256 != digests["onnx_content"]:
            return replace(found, state="changed", said=self._changed(found.sha256))
        expected = digests.get("onnx_metadata")
        same = expected == found.metadata_sha256 if expected else found.state == "as exported" and found.covered
        if same:  # it was written anew, or its weights were moved into a file of their own
            return replace(found, state="as exported", covered=True)
        return replace(
            found,
            state="edited",
            said=f"its metadata is not what hwnas wrote ({self._when}): graph and weights are those that were "
            f"measured, and {front.folder / 'front.json'} holds their numbers",
        )

    def _of_earlier(self, found: Described) -> Described:
        """A file of a run without any digest: what it says of itself must at least be of this network."""
        if found.metadata.get("architecture") == dict(self.member.architecture):
            return replace(found, said=EARLIER)
        said = f"its metadata is not that of {self.member.architecture.digest}: it is another file than was exported"
        return replace(found, state="changed", said=said)

    @property
    def _when(self) -> str:
        return str(self.front.facts.get("created_utc", "date unknown"))

    def _changed(self, sha256: str) -> str:
        for other in self.front.members:
            if other.digests.get("onnx_content") == sha256:
                return (
                    f"changed since it was exported ({self._when}): graph and weights are those of "
                    f"{self.front.letter(other)} {other.architecture.digest}, another network of the run"
                )
        return (
            f"changed since it was exported ({self._when}): the accuracy and the latency of this member are those of "
            "another graph or other weights"
        )


def describe_file(path: Path) -> Described:
    """Any ONNX file; one in the folder of a run by what the run's front recorded of it, see `hwnas.export.describe`.

    Raises:
        ExportError: If it is missing or damaged.
        StoreError: If it lies in the folder of a run whose front cannot be read.
    """
    from hwnas.export.reading import describe

    recorded = Recorded.of(path) if path.is_file() else None
    return describe(path) if recorded is None else replace(recorded.describe(), path=path)


def check_member_file(front: Front, member: Member) -> Described:
    """Read a member's ONNX file and check that it is the one that was measured.

    Args:
        front: Of the run.
        member: One of its members.

    Returns:
        The file. Its state is "as exported", or "unknown" where an earlier version made the run: such a front keeps
        no digests, and nobody has removed one.

    Raises:
        ExportError: If the file is gone, damaged, changed or edited, or if its digest was removed.
    """
    from hwnas.export.reading import UNKNOWN

    path = front.onnx_path(member)
    if not path.is_file():
        raise ExportError(f"{path}: the member's file is gone", hint="hwnas search with its recipe writes it again")
    found = Recorded(front, member).describe()
    earlier = found.state == "unknown" and not front.keeps_digests
    if found.state != "as exported" and not earlier:
        raise ExportError(f"{path}: {found.remark or UNKNOWN}", hint=_AGAIN)
    return found


def file_state(front: Front, member: Member) -> FileState:
    """How a member's file is now; nothing is raised."""
    path = front.onnx_path(member)
    try:
        if not path.is_file():
            return "missing"
        if file_digest(path) == member.digests.get("onnx"):
            return "as exported"
        return Recorded(front, member).describe().state
    except (ExportError, OSError):
        return "damaged"


def examined(front: Front) -> Front:
    """A front whose members know how their files are now; those whose file is not theirs are no longer on it.

    Where some have dropped out the front is drawn anew from the others, see `Front.marked`.
    """
    states = [file_state(front, member) for member in front.members]
    members = tuple(replace(member, file=state) for member, state in zip(front.members, states, strict=True))
    found = replace(front, members=members)
    return found.marked() if any(member.fault for member in members) else found
