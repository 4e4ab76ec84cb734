"""What the members of a run take on its device: timed there, or estimated where nothing can be timed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from hwnas.core import Metric, counted
from hwnas.cost import EstimatedLatency, LatencyTable
from hwnas.job.assembly import Assembly
from hwnas.job.front import Member
from hwnas.job.refitting import MemberRefit, errors_of, ratios_of, refit_members
from hwnas.job.teller import Teller
from hwnas.profiling import Remeasurement, Resident, measure_resident, remeasure
from hwnas.profiling.circumstances import circumstances_of, circumstances_of_table


@dataclass(frozen=True)
class Untimed:
    """A network as it was written.

    Attributes:
        path: Its ONNX file.
        predicted: The latency that the search believed.
    """

    path: Path
    predicted: Metric


@dataclass(frozen=True)
class Times:
    """Of some networks.

    Attributes:
        latency: By name; networks that could not be run are absent.
        raw_ms: By name, before any correction; empty where nothing was timed.
        resident: By name, what a process held; empty where nothing was run.
        conditions: What the times depend on, for each file's metadata; None where nothing was timed.
        tie: Share by which two times may differ and be equal.
        facts: For front.json.
    """

    latency: Mapping[str, Metric]
    raw_ms: Mapping[str, float]
    resident: Mapping[str, Resident]
    conditions: Mapping[str, Any] | None
    tie: float
    facts: Mapping[str, Any]


class Timer(Protocol):
    """Where latencies come from."""

    def origin(self) -> dict[str, Any]:
        """What predictions rest on: for front.json and for the metadata of files."""
        ...

    def time(self, networks: Mapping[str, Untimed]) -> Times:
        """The latency of some networks, by name."""
        ...

    def learn(self, members: Sequence[Member]) -> MemberRefit:
        """What the members that were timed teach about predictions to come."""
        ...


class OnDevice:
    """Networks are timed on the device, beside the reference networks of its table.

    Args:
        assembly: The recipe's objects.
        table: The latency table.
        teller: Told of progress.
        mismatches: How the table's conditions differ from the run's, where that was allowed.
    """

    def __init__(
        self, assembly: Assembly, table: LatencyTable, teller: Teller, *, mismatches: Sequence[str] = ()
    ) -> None:
        self.assembly, self.table, self.teller = assembly, table, teller
        self.mismatches = tuple(mismatches)
        self._measured: Remeasurement | None = None

    def origin(self) -> dict[str, Any]:
        """The table, its conditions, and how they differ."""
        return {
            "table": {
                "file": self.assembly.table_path.name,
                "digest": self.table.digest,
                "conditions": circumstances_of_table(self.table),
                "mismatches": list(self.mismatches),
            }
        }

    def time(self, networks: Mapping[str, Untimed]) -> Times:
        """Time them together, and the memory of each in a process of its own.

        Raises:
            MeasureError: If the measuring program failed, or a kit has to be carried to the device first.
            TableError: If the kit's results are of another machine than the table.
        """
        assembly, device, teller = self.assembly, self.assembly.device, self.teller
        teller.stage(f"measure on {device.name}")
        self._measured = measured = remeasure(
            {name: one.path for name, one in networks.items()},
            table=self.table,
            device=device,
            space=assembly.family.space,
            build_network=assembly.build_network,
            quota=assembly.quota,
            by_hand=assembly.run_folder / "kit",
            progress=lambda p: teller.progress(p.done, p.total, p.stage),
        )
        for warning in measured.warnings:
            teller.say(warning)
        timed = [name for name in networks if name in measured.latency_ms]
        held = measure_resident([networks[name].path for name in timed], device=device)
        noise = self.table.header.noise
        conditions = {
            **circumstances_of(measured.measurement, device),
            "session_factor": measured.factor,
            "scaled": measured.scaled,
            "table_differs": self._differences(measured),
        }
        return Times(
            latency={name: Metric(measured.latency_ms[name], "ms", "measured") for name in timed},
            raw_ms=measured.raw_ms,
            resident=dict(zip(timed, held, strict=True)),
            conditions=conditions,
            tie=noise.median if noise else 0.0,
            facts={
                "measurement": {
                    "verdict": measured.measurement.verdict,
                    "noise": str(measured.measurement.noise),
                    "session_factor": measured.factor,
                    "warnings": list(measured.warnings),
                    "conditions": conditions,
                }
            },
        )

    def _differences(self, measured: Remeasurement) -> list[str]:
        """How the table's machine and runtime differ: what was allowed, and what only the measurement shows."""
        found = [f"{self.table.source}: {line}" for line in measured.differences.values()]
        return [*self.mismatches, *(line for line in found if line not in self.mismatches)]

    def learn(self, members: Sequence[Member]) -> MemberRefit:
        """The table's calibration with the members."""
        assembly = self.assembly
        if self._measured is not None and not self._measured.scaled and self._measured.holds:
            return MemberRefit({"skipped": "the table was made on another machine or with another runtime"}, None)
        return refit_members(
            assembly.family.space,
            self.table,
            members,
            path=assembly.run_folder / assembly.table_path.name,
            run=assembly.recipe.name,
            holds=self._measured is not None and self._measured.holds,
        )


class OnPaper:
    """Nobody here has the device: estimates stay estimates, and say so.

    Args:
        assembly: The recipe's objects.
        estimate: Of the space on the device.
        teller: Told that nothing is timed.
    """

    def __init__(self, assembly: Assembly, estimate: EstimatedLatency, teller: Teller) -> None:
        self.assembly, self.estimate, self.teller = assembly, estimate, teller

    def origin(self) -> dict[str, Any]:
        """The device, the band as shares of a value, and how many measured networks have set the scale."""
        return {
            "estimate": {
                "device": self.assembly.device.name,
                "origin": self.estimate.origin,
                "low": self.estimate.low,
                "high": self.estimate.high,
                "measured_networks": self.estimate.measured,
                "digest": self.estimate.digest,
            }
        }

    def time(self, networks: Mapping[str, Untimed]) -> Times:
        """What was estimated before, with its band."""
        self.teller.say(
            f"device {self.assembly.device.name} cannot be reached: latencies stay {self.estimate.origin}, nothing is "
            "timed"
        )
        predicted = {name: one.predicted for name, one in networks.items()}
        return Times(predicted, raw_ms={}, resident={}, conditions=None, tie=0.0, facts={"measurement": None})

    def learn(self, members: Sequence[Member]) -> MemberRefit:
        """Nothing, as none was timed."""
        untimed = f"none of {counted(len(members), 'network')} was timed"
        return MemberRefit({"skipped": f"{untimed}: {self.assembly.device.name} cannot be reached"}, None)


def prediction_error(members: Sequence[Member]) -> dict[str, float] | None:
    """How far predicted latency is from measured, see `errors_of`; None if no member was timed.

    Example:
        >>> prediction_error([]) is None
        True
    """
    ratios = ratios_of([member for member in members if member.role == "member"])
    return errors_of(ratios) if ratios else None
