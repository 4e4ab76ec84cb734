"""Latency tables: how long each block of a space takes on one device, and everything that the times depend on.

A table is a file of JSON lines: a header (`TableHeader`, with the sha256 of all that follows), then one line per block,
sorted by key. Every time in the file is in the header's `unit`; in memory every time is in microseconds. Nothing else
than JSON is read.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

from hwnas.core import Option, TableError, counted, write_atomically
from hwnas.core.errors import UPGRADE
from hwnas.cost.unit_sum import entries_of
from hwnas.space import Space

Term = Annotated[str, Field(pattern=r"^(sum|constant|blocks|boundary|se|residual|kernels|count:[\w.]+)$")]
"""A term of the calibration: the sum of the times in the table, a constant, counts of `hwnas.space.FEATURES`, and where
the table holds kernels instead of blocks their number, of all ("kernels") or of one kind ("count:relu")."""

NEWEST = 2
"""Version of the file format that is written."""

_US_PER_UNIT = {"us": 1.0, "ms": 1e3, "s": 1e6}
_AGAIN = "measure the device again: hwnas profile"
_SHOWN = 5
_OPTIONAL = ("device_us", "energy_mj", "macs", "weight_bytes", "peak_activation_bytes")
"""What of a row may be unknown: null in a file, not there at all in one of schema version 1."""
_ON_GPU = ("device_us",)
"""What only rows of a GPU have: not there at all in other tables."""


@dataclass(frozen=True)
class Timing:
    """How long one model took, over many short bursts in random order among all others, and what else it takes.

    Attributes:
        p25_us: Lower quartile: the estimate that is used (the mean follows whatever else the machine does).
        min_us: Fastest run.
        median_us: Median.
        p90_us: Slow end.
        iqr_rel: (p75 - p25) / median; 0 for a clock that is too coarse to see it.
        runs: Timed runs behind the numbers.
        visits: Bursts that they came in.
        device_us: Lower quartile on the GPU itself, between events in its stream; the times above are the host's, with
            the hand-over and the wait. None where no GPU works or its runtime has no events.
        energy_mj: Of one run, the idle part of the processor package included; None is unmeasured.
        macs: Multiply-adds of one image. None is unknown, here and below.
        weight_bytes: Of all that is stored in the file: weights, biases, constants.
        peak_activation_bytes: The most that inputs, outputs and what lies between take at one moment, at batch 1; of a
            network this is the largest of its blocks, not their sum.

    Raises:
        TableError: If a number is not finite, or not above 0 (`iqr_rel`, multiply-adds, weights: below 0).

    Example:
        >>> Timing(p25_us=10.0, min_us=9.5, median_us=10.2, p90_us=12.0, iqr_rel=0.03, runs=120, visits=12).p25_us
        10.0
    """

    p25_us: float
    min_us: float
    median_us: float
    p90_us: float
    iqr_rel: float
    runs: int
    visits: int
    device_us: float | None = None
    energy_mj: float | None = None
    macs: int | None = None
    weight_bytes: int | None = None
    peak_activation_bytes: int | None = None

    def __post_init__(self) -> None:
        for part in fields(self):
            value = getattr(self, part.name)
            if value is None and part.name in _OPTIONAL:
                continue
            lowest_allowed = part.name in {"iqr_rel", "macs", "weight_bytes"} and value == 0
            if not (math.isfinite(value) and (value > 0 or lowest_allowed)):
                raise TableError(f"{part.name} is {value}; expected a finite number above 0")


class _Record(BaseModel):
    """Part of a header: values that do not change, and no field that is not known."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, populate_by_name=True)


class GpuRecord(_Record):
    """The NVIDIA GPU, or the slice of one (MIG), that ran the models. None is unknown: the driver did not say.

    Attributes:
        name: As the driver names it.
        uuid: Of the GPU or slice; GPUs are told apart by nothing else.
        mig: Whether it is a slice.
        card_uuid: Of the whole card.
        driver: Version.
        cuda: The newest version that the driver supports.
        power_cap_w: As enforced.
        memory_bytes: Of the GPU or slice.
        max_sm_clock_mhz: The card's highest.
        nvml: "answers", or why it does not.
        sm_clock_mhz: Lowest, median and highest, read before and after each visit.
        clocks_locked: True if a chosen clock held the GPU down; None otherwise, as the driver cannot be asked.
        throttled_visits: Bursts that were dropped, and taken again, because the GPU throttled.
        throttle_reasons: All that were seen.
    """

    name: str | None = None
    uuid: str | None = None
    mig: bool | None = None
    card_uuid: str | None = None
    driver: str | None = None
    cuda: str | None = None
    power_cap_w: float | None = None
    memory_bytes: int | None = None
    max_sm_clock_mhz: int | None = None
    nvml: str | None = None
    sm_clock_mhz: tuple[int, int, int] | None = None
    clocks_locked: bool | None = None
    throttled_visits: int = Field(default=0, ge=0)
    throttle_reasons: tuple[str, ...] = ()


class DeviceRecord(_Record):
    """What was measured on. None is unknown.

    Attributes:
        name: As in devices/*.toml.
        cpu_model: As the processor names itself.
        family: Of the processor; with `model` and `stepping` it tells apart what shares a name.
        model: Of the processor.
        stepping: Of the processor.
        flags: Instruction sets that the runtime may use.
        cores: Visible ones.
        affinity: Cores that the process may use.
        quota: Cores' worth of time that the container may use.
        hypervisor: Whether, and under which, this is a guest.
        memory_bytes: Installed.
        gpu: What ran the models, if it was one.
        vendor: Of the processor.
        caches: Size in bytes of each cache that the first core sees, as "L1 data".
        core_kinds: Which cores are equally fast, the fastest kind first.
        siblings: The hardware threads of each core that has several.
        quota_unread: Why the quota is unknown; None where it is known.
    """

    name: str
    cpu_model: str | None = None
    family: int | None = None
    model: int | None = None
    stepping: int | None = None
    flags: tuple[str, ...] | None = None
    cores: int | None = None
    affinity: tuple[int, ...] | None = None
    quota: float | None = None
    hypervisor: str | None = None
    memory_bytes: int | None = None
    gpu: GpuRecord | None = None
    vendor: str | None = None
    caches: dict[str, int] | None = None
    core_kinds: dict[str, tuple[int, ...]] | None = None
    siblings: tuple[tuple[int, ...], ...] | None = None
    quota_unread: str | None = None


class RuntimeRecord(_Record):
    """What ran the models.

    Attributes:
        name: As in devices/*.toml.
        version: As it says itself; None in tables older than this field.
        onnxruntime: The same where it is onnxruntime, else None.
        provider: Execution provider of the live sessions; for other runtimes, the kind of processor.
        optimization_level: Of the graph; one level lower is 5-8 times slower.
        intra_op_threads: Threads within an operator.
        inter_op_threads: Operators at a time.
        spinning: Whether idle threads spin; None: unknown.
        denormals_as_zero: Whether denormal numbers are flushed.
        options: Of the provider, as read back from live sessions.
        build: As the runtime describes its own build.
        arena: Whether memory is kept between runs.
        graph_capture: Whether launches were recorded once and replayed, as CUDA graphs are.
    """

    name: str = "onnxruntime-cpu"
    version: str | None = None
    onnxruntime: str | None
    provider: str = "CPUExecutionProvider"
    optimization_level: str = "all"
    intra_op_threads: int = Field(default=1, ge=1)
    inter_op_threads: int = Field(default=1, ge=1)
    spinning: bool | None = False
    denormals_as_zero: bool | None = None
    options: dict[str, str] = {}
    build: str | None = None
    arena: bool | None = None
    graph_capture: bool | None = None

    def __str__(self) -> str:
        return f"{self.name} {self.version or self.onnxruntime}"


class ExportRecord(_Record):
    """What made the ONNX files. None is unknown.

    Attributes:
        torch: Version.
        onnx: Version.
        exporter: "dynamo" or "torchscript".
        opset: Of the default domain.
        constant_folding: Whether what depends on weights alone was computed at export.
    """

    torch: str | None = None
    onnx: str | None = None
    exporter: str | None = None
    opset: int | None = None
    constant_folding: bool | None = None


class RepeatRecord(_Record):
    """The same models measured again in a fresh process, relative to the table after the session's factor.

    Attributes:
        factor: How much longer the reference networks took, at the median.
        median: Relative difference of a model's two times, median over models.
        p95: The same, 95th percentile.
        n: Models.
    """

    factor: float = Field(gt=0)
    median: float = Field(ge=0)
    p95: float = Field(ge=0)
    n: int = Field(ge=1)


class ProtocolRecord(_Record):
    """How it was measured. None is unknown.

    Attributes:
        rounds: Passes over all models, each in a new random order.
        runs: Timed runs of one model in one pass.
        estimator: What of the distribution counts as the time.
        order_seed: Of the random orders.
        dropped_visits: Bursts thrown away because the process was disturbed.
        load_before: Load average.
        load_after: Load average.
        steal_share: Share of the time that the hypervisor gave to others.
        drop_disturbed: Whether disturbed bursts were to be thrown away.
        visits: All bursts, of all models.
        switched_visits: Those in which the system took the core away.
        load_max: The highest load average, over all rounds.
        pinned: Cores that the process kept to.
        core_kind: Of those cores, a key of the device's `core_kinds`; several with a plus between.
        governor: What set the processor's frequency.
        processes: That worked on it, one after the other: more than 1 where a killed one was continued.
        seconds: Of the last one.
        planned_s: That the rounds should take, by a pilot.
        limit_s: That they might take.
        capped: Whether runs or rounds were cut to keep to the limit.
        drift: How much longer the last third of the rounds took than the first.
        factor_low: Of the quickest round, relative to all.
        factor_high: Of the slowest.
        energy: What the rows' energy comes from.
        idle_watts: That the processor package used with nothing to do.
        marks: What a reader should know of the machine meanwhile, one line each; empty if it was quiet.
        row_marks: The same of single models that were less steady than the machine, by key.
        notes: Other things a reader should know, as that an energy could not be read.
        repeat: See `RepeatRecord`; None if it was not asked for.
    """

    rounds: int = Field(ge=1)
    runs: int = Field(ge=1)
    estimator: Literal["p25"] = "p25"
    order_seed: int = 0
    dropped_visits: int = 0
    load_before: float | None = None
    load_after: float | None = None
    steal_share: float | None = None
    drop_disturbed: bool | None = None
    visits: int | None = None
    switched_visits: int | None = None
    load_max: float | None = None
    pinned: tuple[int, ...] | None = None
    core_kind: str | None = None
    governor: str | None = None
    processes: int | None = None
    seconds: float | None = None
    planned_s: float | None = None
    limit_s: float | None = None
    capped: bool | None = None
    drift: float | None = None
    factor_low: float | None = None
    factor_high: float | None = None
    energy: Literal["rapl", "nvml", "unmeasured"] = "unmeasured"
    idle_watts: float | None = None
    marks: tuple[str, ...] = ()
    row_marks: dict[str, str] = {}
    notes: tuple[str, ...] = ()
    repeat: RepeatRecord | None = None


class ReferenceRecord(_Record):
    """A whole network that is measured again whenever the table is used, to see how far the machine has drifted.

    Attributes:
        architecture: Label to option.
        p25_us: Its time when the table was made.
        onnx_sha256: Of the file that was timed; None is unknown.
    """

    architecture: dict[str, Option]
    p25_us: float = Field(gt=0, validation_alias="p25", serialization_alias="p25")
    onnx_sha256: str | None = None


class NoiseRecord(_Record):
    """How well two halves of the measurement agree.

    Attributes:
        median: Relative difference of a model's two times, median over models.
        p95: The same, 95th percentile.
        tau: Kendall's rank correlation of the two halves.
        passed: Whether that is good enough to use the table.
    """

    median: float = Field(ge=0)
    p95: float = Field(ge=0)
    tau: float = Field(ge=-1, le=1)
    passed: bool


class Holdout(_Record):
    """How predictions compare with measurements of networks that the fit has never seen. Shares, not per cent.

    Attributes:
        mape: Mean of |predicted - measured| / measured.
        bias: Mean of (predicted - measured) / measured.
        within_5: Share of networks off by at most 5 %.
        within_10: Share of networks off by at most 10 %.
        tau: Kendall's rank correlation; None where there is no order, as with one network.
        n: Networks.
    """

    mape: float = Field(ge=0)
    bias: float
    within_5: float = Field(ge=0, le=1)
    within_10: float = Field(ge=0, le=1)
    tau: float | None
    n: int = Field(ge=1)


class NetworkRecord(_Record):
    """A whole network that a calibration rests on or is checked with.

    Attributes:
        architecture: Label to option.
        p25_us: Its time, brought to the session in which the table was made.
        role: "fitted", or "held_out": never fitted.
        source: What measured it: "profile", or "run NAME".
    """

    architecture: dict[str, Option]
    p25_us: float = Field(gt=0, validation_alias="p25", serialization_alias="p25")
    role: Literal["fitted", "held_out"] = "fitted"
    source: str = "profile"


class Calibration(_Record):
    """From the blocks of a network to its time: `time = sum over terms of coefficient * feature`, in microseconds.

    Of a space whose blocks tell too few networks apart for a fit, every network is measured instead: there are no
    terms, and a prediction is the time of that very network.

    Attributes:
        kind: What the table holds and "sum" adds up: "blocks", each measured as a whole, or "kernels" of blocks that
            are too many; "networks" where every network of the space was measured and nothing is fitted.
        terms: Those that were kept, in the order in which they were tried; none with "networks".
        coefficients: One per term; that of "sum" is a plain factor, the others are microseconds per unit.
        n: Whole networks behind it.
        loo_mape: Mean relative error of each network when it is left out of the fit; None with "networks".
        band: Half-width of the 90 % band of log(measured / predicted); with "networks" how far two halves of the
            measurement differ, at the 95th percentile.
        box: Smallest and largest value of each feature among those networks; beyond them one extrapolates.
        holdout: Error on networks that were never fitted; None if there were none.
        networks: All networks behind it, so that it can be fitted again with more; empty in tables of before that.
    """

    kind: Literal["blocks", "kernels", "networks"] = "blocks"
    terms: tuple[Term, ...]
    coefficients: tuple[float, ...]
    n: int = Field(ge=1)
    loo_mape: float | None = Field(ge=0)
    band: float = Field(ge=0)
    box: dict[Term, tuple[float, float]]
    holdout: Holdout | None = None
    networks: tuple[NetworkRecord, ...] = ()

    @model_validator(mode="after")
    def _one_coefficient_per_term(self) -> Self:
        if len(self.coefficients) != len(self.terms) or len(set(self.terms)) != len(self.terms):
            raise ValueError(f"{len(self.coefficients)} coefficients for terms {list(self.terms)}; one each is needed")
        return self

    @model_validator(mode="after")
    def _fitted_or_measured(self) -> Self:
        measured = self.kind == "networks"
        if measured != (not self.terms) or measured != (self.loo_mape is None) or (measured and not self.networks):
            raise ValueError(
                f'kind "{self.kind}" with terms {list(self.terms)}, loo_mape {self.loo_mape} and {len(self.networks)} '
                'networks; a fit has terms and an error, "networks" has only the networks'
            )
        return self

    def coefficient(self, term: Term) -> float:
        """The coefficient of a term, 0 if the term was not kept."""
        return self.coefficients[self.terms.index(term)] if term in self.terms else 0.0


class FamilyRecord(_Record):
    """A family of the zoo with what a recipe and its data made of it.

    Attributes:
        name: A key of the zoo.
        channels: Of the images.
        classes: Of the labels.
        fields: What the recipe set.
    """

    name: str
    channels: int = Field(ge=1)
    classes: int = Field(ge=1)
    fields: dict[str, Any] = {}


class TableHeader(_Record):
    """Where the times of a table come from, and for what they hold.

    Attributes:
        schema_version: Of this file format. A table of version 1 is read: what it does not say is None, and it keeps
            its version, so that a reader sees why.
        unit: Of every time in the file: "us", "ms" or "s". In memory always "us".
        space: Name of the space.
        space_digest: Of its decisions.
        entries_digest: Of its units and their blocks.
        created_utc: When.
        tool_version: Of hwnas.
        device: What was measured on.
        runtime: What ran the models.
        export: What made the ONNX files.
        precision: Of weights and activations.
        batch: Images per run.
        threads: That the device is allowed to use for a network.
        resolutions: Image sizes that the space can choose.
        classes: Numbers at the end of each network; None is unknown.
        weights: Trained ones can be slower, where denormal numbers are not flushed.
        protocol: How it was measured.
        empty_run_us: Time of a model that does nothing: the cost of the call.
        reference: Whole networks to be measured again, see `ReferenceRecord`.
        noise: How well two halves of the measurement agree; None if it was not looked at.
        calibration: From blocks to networks; None if it was not done, and then nothing can be predicted.
        failures: Blocks that could not be measured, with the reason.
        family: What the space was built from, to build it again: `name`, `channels`, `classes` and the recipe's own
            `fields`; None if it was none of the zoo's.
    """

    schema_version: Literal[1, 2] = 2
    unit: Literal["us", "ms", "s"]
    space: str
    space_digest: str
    entries_digest: str
    created_utc: AwareDatetime
    tool_version: str
    device: DeviceRecord
    runtime: RuntimeRecord
    export: ExportRecord = ExportRecord()
    precision: str = "float32"
    batch: int = Field(default=1, ge=1)
    threads: int = Field(default=1, ge=1)
    resolutions: tuple[int, ...] = ()
    classes: int | None = None
    weights: Literal["random", "trained"] = "random"
    protocol: ProtocolRecord
    empty_run_us: float | None = Field(
        default=None, gt=0, validation_alias="empty_run", serialization_alias="empty_run"
    )
    reference: tuple[ReferenceRecord, ...] = ()
    noise: NoiseRecord | None = None
    calibration: Calibration | None = None
    failures: dict[str, str] = {}
    family: FamilyRecord | None = None


@dataclass(frozen=True)
class TableFile:
    """A file that a table was read from.

    Attributes:
        text: Its content.
        header: As read.
        rows: As read.
    """

    text: str
    header: TableHeader
    rows: Mapping[str, Timing]


@dataclass(frozen=True)
class LatencyTable:
    """The time of each block of a space on one device.

    Attributes:
        header: Where the times come from.
        rows: Time by `Block.key`, sorted.
        source: What errors call it: its file.
        refitted: A later calibration that is used instead of the header's; see `hwnas.cost.refit`. Not in the file.
        drift_spread: How far a single reference network was off the common factor when they were measured again,
            relative: it widens the band. Not in the file.
        file: What it was read from; None for one that was made here.

    Raises:
        TableError: If the header's unit is not "us": in memory every time is in microseconds.
    """

    header: TableHeader
    rows: Mapping[str, Timing]
    source: str = field(default="latency table", compare=False)
    refitted: Calibration | None = field(default=None, compare=False)
    drift_spread: float = field(default=0.0, compare=False)
    file: TableFile | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.header.unit != "us":
            raise TableError(f'{self.source}: unit is "{self.header.unit}"; in memory every time is in "us"')
        object.__setattr__(self, "rows", {key: self.rows[key] for key in sorted(self.rows)})

    @property
    def calibration(self) -> Calibration | None:
        """What predictions use: the latest fit."""
        return self.refitted or self.header.calibration

    # ------------------------------------------------------------------------------------------------- files

    def save(self, path: Path) -> None:
        """Write the file, whole or not at all.

        Raises:
            OSError: If the folder cannot be written.
        """
        write_atomically(path, self.text())

    @property
    def digest(self) -> str:
        """Sixteen hex digits that stand for the whole file."""
        return hashlib.sha256(self.text().encode()).hexdigest()[:16]

    def text(self) -> str:
        """The content of the file: as it was read, or as this version writes it.

        What was read is not written anew: a later version knows further fields, and the digest would change with them.
        """
        if self.file is not None and self.file.header is self.header and self.file.rows == self.rows:
            return self.file.text
        body = "".join(_line({"key": key} | _written(timing)) for key, timing in self.rows.items())
        header = self.header.model_dump(mode="json", by_alias=True)
        return _line(header | {"sha256": hashlib.sha256(body.encode()).hexdigest()}) + body

    @classmethod
    def load(cls, path: Path | str) -> LatencyTable:
        """Read a file, checking every field.

        Raises:
            TableError: If the file is missing, cut off, edited, or has a field that is unknown, missing or wrong.
        """
        path = Path(path)
        try:
            text = path.read_bytes().decode()
        except FileNotFoundError as error:
            raise TableError(f"{path}: there is no such latency table", hint=_AGAIN) from error
        except (OSError, UnicodeDecodeError) as error:
            raise TableError(f"{path}: cannot be read: {error}; expected JSON lines", hint=_AGAIN) from error
        if not text.endswith("\n"):
            line = text.count("\n") + 1
            what = f"line {line} is cut off" if text else "the file is empty"
            raise TableError(f"{path}: {what}; expected a header and whole lines, one per block", hint=_AGAIN)
        head, body = text.split("\n", 1)
        header, sha256 = _read_header(f"{path}: line 1", head)
        factor = _US_PER_UNIT[header.unit]
        rows: dict[str, Timing] = {}
        for number, row in enumerate(body.split("\n")[:-1], start=2):
            where = f"{path}: line {number}"
            key, timing = _read_row(where, row, factor, version=header.schema_version)
            if key in rows:
                _refuse(where, "key", f"{key!r} stands in the table twice", "each block once")
            rows[key] = timing
        if hashlib.sha256(body.encode()).hexdigest() != sha256:
            _refuse(
                f"{path}: line 1",
                "sha256",
                f"does not fit the {counted(len(rows), 'line')} after it",
                "an unedited, whole file",
            )
        read = _in_us(header, factor)
        return cls(read, rows, source=str(path), file=TableFile(text, read, rows))

    # ------------------------------------------------------------------------------------------------ checks

    def missing(self, space: Space) -> list[str]:
        """Keys of the blocks that some network of the space needs and the table does not have, sorted.

        Raises:
            CostError: If the space has no units.
        """
        return [key for key in entries_of(space) if key not in self.rows]

    def check_coverage(self, space: Space) -> None:
        """That every block of the space has a time.

        Raises:
            TableError: If not, naming the keys, and why where measuring them failed.
        """
        missing = self.missing(space)
        if not missing:
            return
        shown = [
            f"{key!r}"
            + (f" (could not be measured: {self.header.failures[key]})" if key in self.header.failures else "")
            for key in missing[:_SHOWN]
        ]
        more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        raise TableError(
            f"{self.source}: {len(missing)} of the {counted(len(entries_of(space)), 'block')} of space {space.name} "
            f"{'is' if len(missing) == 1 else 'are'} missing: {', '.join(shown)}{more}",
            hint="measure just these: hwnas profile --missing",
        )

    def check_space(self, space: Space) -> None:
        """That the table was made, and calibrated, for this space.

        Raises:
            TableError: If its decisions or its blocks are others.
        """
        self.check_conditions({"space_digest": space.digest, "entries_digest": space.entries_digest})

    def check_noise(self, *, median: float = 0.0) -> None:
        """That two halves of the measurement agreed well enough.

        Args:
            median: A difference at the median that may pass although the gate did not.

        Raises:
            TableError: If they did not.
        """
        noise = self.header.noise
        if noise is not None and not noise.passed and noise.median > median:
            raise TableError(
                f"{self.source}: the device was too noisy while it was measured: two halves differ by "
                f"{noise.median:.1%} (median) and {noise.p95:.1%} (95th percentile), rank correlation {noise.tau:.3f}",
                hint="measure it again while nothing else runs: hwnas profile",
            )

    def differences(self, run: Mapping[str, object], *, exact: bool = False) -> dict[str, str]:
        """How the conditions of a run differ from those that the table was made under.

        Args:
            run: Fields of the header with the values of the run; parts after a dot: "batch", "runtime.provider",
                "device.cpu_model". Of "runtime.onnxruntime" and "runtime.version" the patch version may differ, and an
                unknown "protocol.core_kind" is none that differs.
            exact: The patch version may not differ either.

        Returns:
            By field, a phrase with the table's value and the run's.

        Raises:
            KeyError: If a field is not one of the header.
        """
        header = self.header.model_dump()
        differing = {}
        for name, wanted in run.items():
            found: Any = header
            for part in name.split("."):
                found = None if found is None else found[part]
            versions = not exact and name in {"runtime.onnxruntime", "runtime.version"}
            same = _minor(found) == _minor(wanted) if versions else found == wanted
            same = same or (name == "protocol.core_kind" and found is None)  # older tables do not know it
            if not same:
                differing[name] = f"{name} is {found!r} in the table, {wanted!r} in this run"
        return differing

    def check_conditions(self, run: Mapping[str, object]) -> None:
        """That the table was made under the conditions of a run.

        Args:
            run: As for `differences`.

        Raises:
            TableError: If any differs, naming each field, the table's value and the run's.
            KeyError: If a field is not one of the header.
        """
        differing = self.differences(run)
        if differing:
            raise TableError(
                f"{self.source}: made under other conditions: {'; '.join(differing.values())}; "
                f"the table is of space {self.header.space} on {self.header.device.name}",
                hint=_AGAIN,
            )


_COUNTS = {"runs", "visits", "macs", "weight_bytes", "peak_activation_bytes"}
_COLUMNS = {part.name.removesuffix("_us"): part.name for part in fields(Timing)}
"""Field of a line to attribute of `Timing`; times lose their suffix, as the header's unit rules in a file."""


def _written(timing: Timing) -> dict[str, Any]:
    """The fields of a line, without those that only a GPU could have filled."""
    values = {name: getattr(timing, attribute) for name, attribute in _COLUMNS.items()}
    return {name: value for name, value in values.items() if value is not None or _COLUMNS[name] not in _ON_GPU}


def _line(value: Mapping[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False) + "\n"


def _refuse(where: str, name: str, found: str, expected: str) -> NoReturn:
    raise TableError(f"{where}: {name} {found}; expected {expected}", hint=_AGAIN)


def _read_object(where: str, line: str) -> dict[str, Any]:
    def no_constant(name: str) -> NoReturn:
        _refuse(where, "a number", f"is {name}", "finite numbers")

    try:
        value = json.loads(line, parse_constant=no_constant)
    except TableError:
        raise
    except (ValueError, RecursionError) as error:
        raise TableError(f"{where}: is not JSON ({error}); expected one object per line", hint=_AGAIN) from error
    if not isinstance(value, dict):
        _refuse(where, "the line", f"is {line[:40]!r}", "a JSON object")
    return value


def _read_header(where: str, line: str) -> tuple[TableHeader, str]:
    value = _read_object(where, line)
    if "unit" not in value:
        _refuse(where, "unit", "is missing, so no time has a meaning", 'one of "us", "ms", "s"')
    version = value.get("schema_version")
    if isinstance(version, int) and version > NEWEST:
        raise TableError(
            f"{where}: schema_version is {version}: a later hwnas wrote the table; this one reads up to {NEWEST}",
            hint=UPGRADE,
        )
    sha256 = value.pop("sha256", None)
    if not isinstance(sha256, str):
        _refuse(where, "sha256", f"is {sha256!r}", "the sha256 of the lines that follow")
    try:
        return TableHeader.model_validate(value), sha256
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"])) or "the header"
        match first["type"]:
            case "missing":
                _refuse(where, name, "is missing", "every field of the header")
            case "extra_forbidden":
                _refuse(where, name, "is an unknown field", "only those that hwnas writes")
        _refuse(where, name, f"is {first['input']!r}", first["msg"][0].lower() + first["msg"][1:])


def _read_row(where: str, line: str, factor: float, *, version: int) -> tuple[str, Timing]:
    value = _read_object(where, line)
    absent = _OPTIONAL if version == 1 else _ON_GPU
    value = dict.fromkeys(name for name, attribute in _COLUMNS.items() if attribute in absent) | value
    for name in ("key", *_COLUMNS):
        if name not in value:
            _refuse(where, name, "is missing", "every field of a block")
    for name in value:
        if name != "key" and name not in _COLUMNS:
            _refuse(where, name, "is an unknown field", f"only key, {', '.join(_COLUMNS)}")
    key = value.pop("key")
    if not isinstance(key, str):
        _refuse(where, "key", f"is {key!r}", "the text that names a block")
    numbers: dict[str, Any] = {}
    for name, attribute in _COLUMNS.items():
        number = value[name]
        count = attribute in _COUNTS
        if number is None and attribute in _OPTIONAL:
            numbers[attribute] = None
            continue
        if isinstance(number, bool) or not isinstance(number, int if count else int | float):
            _refuse(where, name, f"is {number!r}", "a whole number" if count else "a number")
        numbers[attribute] = number
    try:
        numbers |= {
            name: float(numbers[name]) * factor
            for name in numbers
            if name.endswith("_us") and numbers[name] is not None
        }
        return key, Timing(**numbers)
    except TableError as error:
        raise TableError(f"{where}: {error.message}", hint=_AGAIN) from error
    except OverflowError:
        _refuse(where, "a number", "is too large", "finite numbers")


def _in_us(header: TableHeader, factor: float) -> TableHeader:
    """The header with every time turned into microseconds."""
    calibration = header.calibration
    if calibration:
        coefficients = [
            value if term == "sum" else value * factor
            for term, value in zip(calibration.terms, calibration.coefficients, strict=True)
        ]
        box = dict(calibration.box)
        if "sum" in box:
            box["sum"] = (box["sum"][0] * factor, box["sum"][1] * factor)
        networks = tuple(one.model_copy(update={"p25_us": one.p25_us * factor}) for one in calibration.networks)
        calibration = calibration.model_copy(
            update={"coefficients": tuple(coefficients), "box": box, "networks": networks}
        )
    return header.model_copy(
        update={
            "unit": "us",
            "empty_run_us": header.empty_run_us * factor if header.empty_run_us else None,
            "reference": tuple(r.model_copy(update={"p25_us": r.p25_us * factor}) for r in header.reference),
            "calibration": calibration,
        }
    )


def _minor(version: object) -> list[str]:
    return str(version).split(".")[:2]
