"""front.json: what a run hands over. Strict JSON, written in one step, read by every later command."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from hwnas.core import (
    SHARES,
    Answers,
    Architecture,
    Chance,
    Gap,
    Limit,
    Metric,
    Objective,
    PickError,
    StoreError,
    counted,
    share_error,
    write_atomically,
)
from hwnas.core.errors import UPGRADE
from hwnas.core.escaping import command_line
from hwnas.job.so_far import SoFar
from hwnas.pareto import (
    Margins,
    Rule,
    cheaper_first,
    costs_of,
    non_dominated,
    non_dominated_beyond,
    pick,
    violations_of,
)

SCHEMA = 1

FileState = Literal["not looked at", "as exported", "changed", "edited", "missing", "damaged", "unknown"]
"""How a member's ONNX file is now; "unknown" where neither front nor file holds a digest."""

_FAULTS = {
    "changed": "changed since it was exported",
    "edited": "its metadata was edited",
    "missing": "its file is missing",
    "damaged": "its file is damaged",
}


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
        on_front: Whether nothing measured beats it within the limits, see `marked`.
        role: "member", or "default": the network one would take without a search, trained alone. It competes with the
            members and may be on the front.
        memory: Bytes: `peak_activation_bytes` and `weight_bytes` from the exported graph; `resident_loaded_bytes` and
            `resident_run_bytes` as a process of its own held them at most, beyond one with an empty model (see
            `Resident`). None is unmeasured; the map is empty in files of earlier versions.
        answers: By part, "validation" and "test": which images it names rightly. Empty in files of earlier versions.
        digests: sha256 of the whole file for "onnx" and "weights", and for "onnx_content" of the graph and the weights
            in the ONNX file, which later metadata does not move, and for "onnx_metadata" of that; empty in files of
            earlier versions.
        file: How its ONNX file is now, see `hwnas.job.examined`. It is looked at and not stored.
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
    answers: Mapping[str, Answers] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)
    file: FileState = "not looked at"

    @property
    def fault(self) -> str:
        """Why its numbers are not those of its file, for people; empty if they are or nobody looked."""
        return _FAULTS.get(self.file, "")

    @property
    def values(self) -> dict[str, float]:
        """Metric to number."""
        return {name: metric.value for name, metric in self.metrics.items()}

    @property
    def test_values(self) -> dict[str, float]:
        """Metric to number of what was taken on the test images."""
        found = dict(self.test)
        return found | ({"error": 1 - found["accuracy"]} if "accuracy" in found else {})

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
            "answers": {part: self.answers[part].to_json() for part in sorted(self.answers)},
            "digests": dict(self.digests),
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
            answers={part: Answers.from_json(found) for part, found in row.get("answers", {}).items()},
            digests=row.get("digests", {}),
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
    def keeps_digests(self) -> bool:
        """Whether it holds a digest of any file; a front of an earlier version holds none."""
        return any(member.digests for member in self.members)

    @property
    def latency_notes(self) -> list[str]:
        """What a reader of its latencies should know of how they were measured, one line each.

        How the table that predicted them differs from the machine and the runtime that they were measured with; whether
        they are as measured; what else the measuring program said of the machine.
        """
        measurement = self.facts.get("measurement") or {}
        differing = measurement.get("conditions", {}).get("table_differs")
        if differing is None:  # of an earlier version, which kept only what was allowed
            differing = self.facts.get("table", {}).get("mismatches", [])
        said = [line for line in measurement.get("warnings", ()) if not line.startswith("the table differs: ")]
        return [*differences_in_words(differing), *said]

    @property
    def on_front(self) -> list[Member]:
        """The members that nothing beats, in the order of `members`."""
        return [member for member in self.members if member.on_front]

    @property
    def share(self) -> str:
        """The metric that says how good a network is: the first objective that is a share of images, else accuracy."""
        return next((objective.name for objective in self.objectives if objective.name in SHARES), "accuracy")

    def letter(self, member: Member) -> str:
        """A short name: A for the first of `members`, and so on. `member` understands it."""
        return letter_of(self.members.index(member))

    def gap(self, one: Member, other: Member, name: str | None = None) -> Gap:
        """How far the validation accuracies of two networks are apart, and its standard error.

        It is that of the pair on the same images; in files of earlier versions, which hold no answers, that of two
        independent samples, which is larger.

        Args:
            one: Its value is the first.
            other: Its value is subtracted.
            name: One of `hwnas.core.SHARES`; by default `share`.
        """
        return gap_of(one, other, name or self.share, part="validation", counts=self.counts("validation"))

    def test_gap(self, member: Member, name: str | None = None) -> Gap | None:
        """How far its validation accuracy is above that on the test images; None where that is not known.

        Args:
            member: Of this front.
            name: One of `hwnas.core.SHARES`; by default `share`.
        """
        name = name or self.share
        if {"validation", "test"} <= set(member.answers):
            return member.answers["validation"].apart(member.answers["test"], name)
        if name not in member.test_values:
            return None
        shares = {"validation": member.values[name], "test": member.test_values[name]}
        errors = [share_error(share, sum(self.counts(part))) for part, share in shares.items()]
        return Gap(shares["validation"] - shares["test"], math.hypot(*errors))

    def chance(self, name: str | None = None) -> Chance:
        """What a network that does not look at the image gets on the validation images.

        Args:
            name: One of `hwnas.core.SHARES`; by default `share`.
        """
        return Chance.of(name or self.share, self.counts("validation"))

    def counts(self, part: str) -> list[int]:
        """Images of each class in a part."""
        return [int(count) for count in self.facts["data"]["counts"][part].values()]

    def at_chance(self, member: Member) -> bool:
        """Whether its validation accuracy is no better than a guesser's, which luck with the images may explain."""
        value = member.values[self.share]
        return self.chance().explains(1 - value if self.share == "error" else value)

    def margins(self, members: Sequence[Member]) -> Margins:
        """Differences that are noise on the validation images and in latency; see `margins_of`."""
        latency = float(self.facts.get("ties", {}).get("latency", 0.0))
        return margins_of(
            members, self.objectives, part="validation", counts=self.counts("validation"), latency=latency
        )

    def marked(self) -> Front:
        """With the front as measured marked, the best in the first objective first, networks not searched last.

        Whatever was trained and measured under the run's conditions competes, the default network too. Networks at
        chance do not, unless all are, and those whose file is not theirs never do, see `Member.fault`. A network whose
        gain over a cheaper one is within the noise is left out; see `hwnas.pareto.non_dominated_beyond`.
        """
        values = [member.values for member in self.members]
        costs = costs_of(values, self.objectives)
        allowed = [n for n, violation in enumerate(violations_of(values, self.limits).tolist()) if violation == 0]
        allowed = [n for n in allowed if not self.members[n].fault]
        allowed = [n for n in allowed if not self.at_chance(self.members[n])] or allowed
        margins = self.margins([self.members[n] for n in allowed])
        best = set()
        if allowed:
            kept = non_dominated_beyond(costs[allowed], margins, first=cheaper_first(self.objectives))
            best = {allowed[n] for n in kept.tolist()}
        order = sorted(range(len(values)), key=lambda n: (self.members[n].role != "member", *costs[n].tolist()))
        return replace(self, members=tuple(replace(self.members[n], on_front=n in best) for n in order))

    def standing(self, member: Member) -> str:
        """Where a member stands, in a word or two for people.

        "front"; "outside the limits"; "at chance"; "no gain over B": it would be on the front if it were not for noise;
        "beaten". What is wrong with its file comes first, see `Member.fault`.
        """
        if member.fault:
            return member.fault
        if self.at_chance(member):
            return "at chance"
        if member.on_front:
            return "front"
        if violations_of([member.values], self.limits)[0]:
            return "outside the limits"
        rivals = self.on_front
        costs = costs_of([member.values, *(one.values for one in rivals)], self.objectives)
        if 0 not in non_dominated(costs):
            return "beaten"
        margins = self.margins([member, *rivals])
        ties = [one for n, one in enumerate(rivals, 1) if (costs[n] <= costs[0] + margins[n, 0]).all()]
        return f"no gain over {self.letter(ties[0])}" if ties else "beaten"

    def beats(self, one: Member, other: Member) -> bool:
        """Whether a network has the better value in every objective."""
        better, worse = costs_of([one.values, other.values], self.objectives)
        return bool((better < worse).all())

    def next_cheaper(self, member: Member) -> Member | None:
        """Of the front, the one before it when sorted by what is spent first; None if it is the cheapest."""
        first = cheaper_first(self.objectives)
        costs = costs_of([one.values for one in self.on_front], self.objectives)[:, first].tolist()
        own = costs_of([member.values], self.objectives)[0, first].tolist()
        cheaper = [(row, n) for n, row in enumerate(costs) if row < own]
        return self.on_front[max(cheaper)[1]] if cheaper else None

    def pick(self, by: Rule | Mapping[str, float] = "knee", *, limits: Sequence[Limit] = ()) -> Member:
        """One member of the front; the rules are those of `hwnas.pareto.pick`, with ties within the noise.

        A network at chance is never picked by a rule.

        Raises:
            PickError: If nothing fits; names the nearest.
        """
        alive = [member for member in self.on_front if not self.at_chance(member)]
        if self.on_front and not alive:
            sign = -1 if self.share == "error" else 1
            best = max(self.members, key=lambda member: sign * member.values[self.share])
            value, chance = f"{self.share} {best.values[self.share]:.1%}", f"chance is {self.chance().value:.1%}"
            if self.at_chance(best):
                message, more = f"no network is better than guessing: {value} at best, {chance}", ""
            else:  # it was kept off the front, which networks at chance make up then
                message = (
                    f"no network of the front is better than guessing, {chance}; {self.letter(best)} off it has {value}"
                )
                more = ", or allow more in [limits]"
            raise PickError(
                f"{self.folder}: {message}",
                hint=f"train longer ([training] and [members] epochs){more}; --by {best.architecture.digest} takes it "
                "anyway",
            )
        found = pick(
            [member.values for member in alive],
            self.objectives,
            by=by,
            limits=limits,
            margins=self.margins(alive),
        )
        return alive[found]

    def member(self, name: str) -> Member:
        """The member of a letter ("A"), or the one whose digest begins so.

        Raises:
            PickError: If none or several do.
        """
        if name.isupper():
            found = [member for n, member in enumerate(self.members) if letter_of(n) == name]
        else:
            found = [member for member in self.members if member.architecture.digest.startswith(name)]
        if len(found) != 1:
            known = ", ".join(f"{letter_of(n)} {member.architecture.digest}" for n, member in enumerate(self.members))
            raise PickError(f'{self.folder}: "{name}" fits {counted(len(found), "member")}; expected one of {known}')
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
    def load(cls, folder: Path | str) -> Front:
        """The front of a run.

        Raises:
            StoreError: If the run has none yet, or the file is damaged.
        """
        folder = Path(folder)
        path = folder / "front.json"
        if not path.is_file():
            if (folder / "tabular.json").is_file():
                raise StoreError(
                    f"{path}: no front; the run searched a table, so that nothing was built or measured",
                    hint=f"{folder / 'tabular.json'} is what it found",
                )
            runs = sorted(p.parent.name for p in folder.parent.glob("*/front.json"))
            hint = f"finished runs here: {', '.join(runs) or 'none'}"
            if not folder.is_dir():
                raise StoreError(f"{path}: no front; there is no such run", hint=hint)
            so_far = SoFar.load(folder)
            if so_far is not None and so_far.state == "searched":
                raise StoreError(
                    f"{path}: no front; the search of a study is finished, and its networks were not exported",
                    hint=f"what it found: {command_line('hwnas', 'front', folder)}; {hint}",
                )
            look = f"what there is so far: {command_line('hwnas', 'front', folder)}"
            raise StoreError(f"{path}: no front; it was started and not finished", hint=f"{look}; {hint}")
        try:
            row = json.loads(path.read_text(encoding="utf-8"))
            if row["schema"] != SCHEMA:
                raise StoreError(
                    f"{path}: schema is {row['schema']}, written by hwnas {row.get('hwnas', 'of another version')}; "
                    f"this version reads {SCHEMA}",
                    hint=UPGRADE,
                )
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


def letter_of(n: int) -> str:
    """A short name for the nth thing, from 0.

    Example:
        >>> letter_of(0), letter_of(25), letter_of(26)
        ('A', 'Z', 'AA')
    """
    rest, letter = divmod(n, 26)
    return (letter_of(rest - 1) if rest else "") + chr(ord("A") + letter)


def differences_in_words(differing: Sequence[str]) -> list[str]:
    """How tables differ from what was measured with, one line for each table.

    Args:
        differing: Lines "FILE: difference", as they are stored.

    Example:
        >>> differences_in_words(["a.jsonl: batch is 8, here 1", "a.jsonl: threads is 2, here 1"])
        ['table a.jsonl is of other conditions: batch is 8, here 1; threads is 2, here 1']
    """
    by_table: dict[str, list[str]] = {}
    for line in differing:
        table, _, difference = line.partition(": ")
        by_table.setdefault(table, []).append(difference)
    return [f"table {table} is of other conditions: {'; '.join(found)}" for table, found in by_table.items()]


def gap_of(one: Member, other: Member, name: str, *, part: str, counts: Sequence[int]) -> Gap:
    """How far an accuracy of two networks is apart on the same images, of one run or of two.

    Args:
        one: Its value is the first.
        other: Its value is subtracted.
        name: One of `hwnas.core.SHARES`.
        part: "validation" or "test".
        counts: Images of each class in the part, for members of earlier versions, which hold no answers.
    """
    if part in one.answers and part in other.answers:
        return one.answers[part].minus(other.answers[part], name)
    shares = [member.values[name] if part == "validation" else member.test_values[name] for member in (one, other)]
    return Gap(shares[0] - shares[1], math.hypot(*(share_error(share, sum(counts)) for share in shares)))


def margins_of(
    members: Sequence[Member], objectives: Sequence[Objective], *, part: str, counts: Sequence[int], latency: float
) -> Margins:
    """Differences that are noise, [members, members, objectives]: of shares of images `hwnas.core.Gap.margin`.

    Args:
        members: Judged on the same images.
        objectives: In the order of the answer.
        part: "validation" or "test".
        counts: Images of each class in the part.
        latency: Share by which two measured times may differ and be equal, as the latency table's session showed.
    """
    found = np.zeros((len(members), len(members), len(objectives)))
    for column, objective in enumerate(objectives):
        for n, one in enumerate(members):
            for k, other in enumerate(members[:n]):
                if objective.name in SHARES:
                    margin = gap_of(one, other, objective.name, part=part, counts=counts).margin
                elif objective.name == "latency_ms":
                    margin = latency * max(one.values[objective.name], other.values[objective.name])
                else:
                    margin = 0.0
                found[n, k, column] = found[k, n, column] = margin
    return found
