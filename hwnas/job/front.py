"""front.json: what a run hands over. Strict JSON, written in one step, read by every later command."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hwnas.core import Architecture, Limit, Metric, Objective, PickError, StoreError, counted, write_atomically
from hwnas.pareto import Rule, pick

SCHEMA = 1


@dataclass(frozen=True)
class Member:
    """One network that was trained, exported and measured.

    Attributes:
        architecture: Canonical.
        metrics: By name; `latency_ms` is measured, or estimated as its origin says where the device cannot be reached;
            `accuracy` is on the validation part.
        predicted: What the search believed, by name: latency with its band, accuracy with inherited weights.
        test: Reported, never chosen by: accuracy and balanced accuracy on the test part.
        onnx: The file, relative to the run's folder.
        weights: The torch weights as safetensors, relative to the run's folder.
        parity: Largest difference between file and torch, over all logits of batches 1, 2, 5 and 16.
        raw_latency_ms: As measured, before the session's correction; None where nothing was timed.
        training_seconds: Of its own final training.
        on_front: Whether nothing measured beats it within the limits.
        role: "member", or "default": the network one would take without a search, trained alone for as long.
        memory: Bytes: `peak_activation_bytes` and `weight_bytes` from the exported graph; `resident_loaded_bytes` and
            `resident_run_bytes` as a process of its own held them at most, beyond one with an empty model (see
            `Resident`). None is unmeasured; the map is empty in files of earlier versions.
    """

    architecture: Architecture
    metrics: Mapping[str, Metric]
    predicted: Mapping[str, Metric]
    test: Mapping[str, float]
    onnx: str
    weights: str
    parity: Mapping[str, Any]
    raw_latency_ms: float | None
    training_seconds: float
    on_front: bool
    role: str = "member"
    memory: Mapping[str, int | None] = field(default_factory=dict)

    @property
    def values(self) -> dict[str, float]:
        """Metric to number."""
        return {name: metric.value for name, metric in self.metrics.items()}

    @property
    def timed(self) -> bool:
        """Whether its latency was measured on the device."""
        return self.metrics["latency_ms"].origin == "measured"

    def to_json(self) -> dict[str, Any]:
        """A plain map of everything."""
        return {
            "digest": self.architecture.digest,
            "role": self.role,
            "on_front": self.on_front,
            "metrics": {name: self.metrics[name].to_json() for name in sorted(self.metrics)},
            "predicted": {name: self.predicted[name].to_json() for name in sorted(self.predicted)},
            "test": dict(self.test),
            "onnx": self.onnx,
            "weights": self.weights,
            "parity": dict(self.parity),
            "raw_latency_ms": self.raw_latency_ms,
            "training_seconds": self.training_seconds,
            "memory": dict(self.memory),
            "architecture": dict(self.architecture),
        }

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Member:
        """The member that `to_json` wrote."""
        return cls(
            architecture=Architecture(row["architecture"]),
            metrics={name: Metric(**metric) for name, metric in row["metrics"].items()},
            predicted={name: Metric(**metric) for name, metric in row["predicted"].items()},
            test=row["test"],
            onnx=row["onnx"],
            weights=row["weights"],
            parity=row["parity"],
            raw_latency_ms=row["raw_latency_ms"],
            training_seconds=row["training_seconds"],
            on_front=row["on_front"],
            role=row["role"],
            memory=row.get("memory", {}),
        )


@dataclass(frozen=True)
class Front:
    """A measured front and how it came about.

    Attributes:
        folder: The run's.
        objectives: In order.
        limits: That members keep.
        members: All that were measured, on the front or not, the most accurate first.
        facts: How it came about: versions, device, table, data, strategy, seconds, measurement.
    """

    folder: Path
    objectives: tuple[Objective, ...]
    limits: tuple[Limit, ...]
    members: tuple[Member, ...]
    facts: Mapping[str, Any]

    @property
    def timed(self) -> bool:
        """Whether its networks were timed on the device; else their latencies are estimated."""
        return all(member.timed for member in self.members)

    @property
    def on_front(self) -> list[Member]:
        """The members that nothing beats, in the order of `members`."""
        return [member for member in self.members if member.on_front]

    def pick(self, by: Rule | Mapping[str, float] = "knee", *, limits: Sequence[Limit] = ()) -> Member:
        """One member of the front; the rules are those of `hwnas.pareto.pick`.

        Raises:
            PickError: If nothing fits; names the nearest.
        """
        found = self.on_front
        return found[pick([member.values for member in found], self.objectives, by=by, limits=limits)]

    def member(self, digest: str) -> Member:
        """The member whose digest begins so.

        Raises:
            PickError: If none or several do.
        """
        found = [member for member in self.members if member.architecture.digest.startswith(digest)]
        if len(found) != 1:
            known = ", ".join(member.architecture.digest for member in self.members)
            raise PickError(f'{self.folder}: "{digest}" fits {counted(len(found), "member")}; expected one of {known}')
        return found[0]

    def onnx_path(self, member: Member) -> Path:
        """Where a member's ONNX file lies."""
        return self.folder / member.onnx

    def save(self) -> Path:
        """Write `front.json` into the run's folder, in one step."""
        path = self.folder / "front.json"
        write_atomically(path, json.dumps(self.to_json(), indent=2, allow_nan=False) + "\n")
        return path

    def to_json(self) -> dict[str, Any]:
        """A plain map of everything."""
        return {
            "schema": SCHEMA,
            **self.facts,
            "objectives": [{"name": o.name, "direction": o.direction, "unit": o.unit} for o in self.objectives],
            "limits": [
                {"name": k.name, "at_most": k.at_most, "at_least": k.at_least, "safe": k.safe} for k in self.limits
            ],
            "members": [member.to_json() for member in self.members],
        }

    @classmethod
    def load(cls, folder: Path) -> Front:
        """The front of a run.

        Raises:
            StoreError: If the run has none yet, or the file is damaged.
        """
        path = folder / "front.json"
        if not path.is_file():
            if (folder / "tabular.json").is_file():
                raise StoreError(
                    f"{path}: no front; the run searched a table, so that nothing was built or measured",
                    hint=f"{folder / 'tabular.json'} is what it found",
                )
            runs = sorted(p.parent.name for p in folder.parent.glob("*/front.json"))
            there = "it was started and not finished" if folder.is_dir() else "there is no such run"
            raise StoreError(f"{path}: no front; {there}", hint=f"finished runs here: {', '.join(runs) or 'none'}")
        try:
            row = json.loads(path.read_text(encoding="utf-8"))
            if row["schema"] != SCHEMA:
                raise StoreError(f"{path}: schema is {row['schema']}; this version reads {SCHEMA}")
            return cls(
                folder=folder,
                objectives=tuple(Objective(**objective) for objective in row["objectives"]),
                limits=tuple(Limit(**limit) for limit in row["limits"]),
                members=tuple(Member.from_json(member) for member in row["members"]),
                facts={k: v for k, v in row.items() if k not in ("schema", "objectives", "limits", "members")},
            )
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise StoreError(
                f"{path}: damaged: {error}", hint="run hwnas search with its recipe again: it writes the file anew"
            ) from error
