"""Results files: written by `save` alone, sealed by a checksum, and stale once the code they came from has changed."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hwnas.core import DataError, write_atomically
from hwnas.study.environment import environment
from tests.bench.figures import ROOT, Bench, Ran
from tests.bench.sources import digest_of_file, digest_of_sources, file_of, sources_of

STAMPED = ("commit", "code", "cores", "threads", "instruction_set", "seeds", "given", "contender")
"""What every row says beside its figure."""


@dataclass(frozen=True)
class Stale:
    """Rows of a part that say nothing about the code that is there now.

    Attributes:
        bench: Name of the file.
        part: Of the bench.
        rows: How many.
        reason: What is unknown, or what has changed.
    """

    bench: str
    part: str
    rows: int
    reason: str


def save(name: str, ran: Mapping[str, Ran], folder: Path, *, bench: Bench, held_out: Sequence[str] = ()) -> Path:
    """Write `folder/NAME.json`: the parts that were run, and the other parts of the bench as the file holds them.

    Every row says by itself where it comes from, so parts of several days and machines may lie in one file. Rows of
    parts that the bench no longer has go. A held-out part that is run again keeps what it had said before.

    Args:
        name: Of the bench.
        ran: By part.
        folder: Of results files.
        bench: Its parts.
        held_out: Of them, those on tables that nothing is tuned on.

    Raises:
        DataError: If the file that is there was not written by `save`.
    """
    path = folder / f"{name}.json"
    before = load(path) if path.is_file() else {"conditions": {}, "rows": []}
    kept = {part: told for part, told in before["conditions"].items() if part in bench and part not in ran}
    conditions, rows = dict(kept), [row for row in before["rows"] if row["part"] in kept]
    for part, one in ran.items():
        sources = sources_of(one.part)
        measured = one.measured
        stamp = {
            "commit": _commit(sources),
            "code": digest_of_sources(sources),
            "cores": len(os.sched_getaffinity(0)),
            "threads": measured.threads,
            "instruction_set": instruction_set(),
        }
        earlier = {row["figure"]: row for row in before["rows"] if row["part"] == part} if part in held_out else {}
        for row in measured.rows:
            written = {"part": part, **row.to_json(), **stamp}
            if row.figure in earlier:
                old = earlier[row.figure]
                written["earlier"] = [*old.get("earlier", []), {key: old[key] for key in ("commit", "value")}]
            rows.append(written)
        conditions[part] = {
            **measured.conditions,
            **one.conditions,
            "environment": dict(environment()),
            "sources": sources,
            "inputs": {str(file.relative_to(ROOT)): digest_of_file(file) for file in measured.inputs},
            **({"held_out": True} if part in held_out else {}),
        }
    order = {part: n for n, part in enumerate(bench)}
    content = {
        "name": name,
        "conditions": dict(sorted(conditions.items(), key=lambda item: order[item[0]])),
        "rows": sorted(rows, key=lambda row: order[row["part"]]),
    }
    write(path, content)
    return path


def write(path: Path, content: Mapping[str, Any]) -> None:
    """Write a results file with its checksum."""
    sealed = {**content, "checksum": checksum(content)}
    write_atomically(path, json.dumps(sealed, indent=2, allow_nan=False) + "\n")


def load(path: Path) -> dict[str, Any]:
    """Read a results file.

    Raises:
        DataError: If its checksum is not that of its content: somebody wrote into it.
    """
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    found = content.pop("checksum", "none")
    if found != checksum(content):
        raise DataError(
            f"{path}: its checksum is {found}, its content's is {checksum(content)}; expected what a bench wrote",
            hint="take back what was edited by hand, and run the part: python -m tests.bench NAME PART",
        )
    return content


def checksum(content: Mapping[str, Any]) -> str:
    """Of a results file's content without its checksum."""
    text = json.dumps({key: value for key, value in content.items() if key != "checksum"}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def stale(folder: Path, benches: Mapping[str, Bench]) -> list[Stale]:
    """The parts of all results files whose rows are not of the code that is there now, and parts without rows.

    Args:
        folder: Of results files.
        benches: By name.

    Raises:
        DataError: If a file was not written by `save`.
    """
    found = []
    for name, bench in benches.items():
        path = folder / f"{name}.json"
        content = load(path) if path.is_file() else {"conditions": {}, "rows": []}
        of_part: dict[str, list[Mapping[str, Any]]] = {part: [] for part in bench}
        for row in content["rows"]:
            of_part.setdefault(row["part"], []).append(row)
        for part, rows in of_part.items():
            told = content["conditions"].get(part)
            reason = "there is no such part" if part not in bench else _why_stale(bench[part], told, rows)
            if reason:
                found.append(Stale(name, part, len(rows), reason))
    return found


def _why_stale(part: object, told: Mapping[str, Any] | None, rows: Sequence[Mapping[str, Any]]) -> str:
    """Empty where it is not."""
    if told is None:
        return "never run"
    unknown = sorted({key for row in rows for key in STAMPED if row.get(key) is None})
    if unknown:
        return f"{', '.join(unknown)} unknown"
    now = sources_of(part)
    if any(row["code"] != digest_of_sources(now) for row in rows):
        before = told["sources"]
        changed = sorted(m for m in {*before, *now} if before.get(m) != now.get(m))
        return f"changed since {rows[0]['commit'][:9]}: {', '.join(changed) or 'the rows are of several states'}"
    changed = sorted(file for file, digest in told["inputs"].items() if digest_of_file(ROOT / file) != digest)
    return f"changed since {rows[0]['commit'][:9]}: {', '.join(changed)}" if changed else ""


def instruction_set() -> str:
    """The widest that torch computes with on this processor."""
    import torch

    return str(torch.backends.cpu.get_cpu_capability())


def _commit(sources: Mapping[str, str]) -> str:
    """The commit that is checked out, marked where a file that counts has changes of its own; "none" without git."""
    files = [str(path) for path in map(file_of, sources) if path is not None]
    try:
        head, changes = (
            subprocess.run(["git", *command], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
            for command in (["rev-parse", "HEAD"], ["status", "--porcelain", "--", *files])
        )
    except (OSError, subprocess.CalledProcessError):
        return "none"
    return f"{head} with changes" if changes else head
