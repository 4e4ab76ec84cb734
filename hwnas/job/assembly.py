"""A recipe made into objects."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

from torch import nn

from hwnas.core import (
    Architecture,
    DeviceError,
    Limit,
    Objective,
    RecipeError,
    StoreError,
    TableError,
    check_writable,
    refusal,
)
from hwnas.core.escaping import command_line, visible
from hwnas.cost import (
    CostModel,
    EstimatedLatency,
    FamilyRecord,
    LatencyTable,
    PeakMemory,
    UnitSumCost,
    read_measured,
)
from hwnas.cost.refit import with_refit
from hwnas.data import Images, Preprocessing, Splits
from hwnas.device import Device, QuotaReader, cgroup_quota
from hwnas.job.checks import check_metrics, check_searchable
from hwnas.job.recipe import Recipe, limit_of
from hwnas.job.run_tables import RunTables, runs_of
from hwnas.job.teller import Silent, Teller
from hwnas.profiling import (
    Kit,
    MismatchCall,
    OnNoise,
    ProfileReport,
    Progress,
    Remeasurement,
    check_references,
    table_matches,
    table_path,
    write_kit,
)
from hwnas.profiling import profile as measure_space
from hwnas.profiling import take_in as take_in_results
from hwnas.training import Placement
from hwnas.zoo import Family

_CHANCES = 3  # for the reference networks: on shared machines a neighbour may slow everything for some seconds
_PAUSE_SECONDS = 10.0


@dataclass(frozen=True)
class Assembly:
    """What a job works with.

    Attributes:
        recipe: As read.
        path: Of the recipe, for messages and for the commands they name.
        root: The workspace: the folder that holds devices/, latency_tables/ and runs/.
        device: The target.
        splits: The images.
        family: The space and its builder, for these images.
        quota: Says how many cores' worth of time this process may spend.
    """

    recipe: Recipe
    path: Path
    root: Path
    device: Device
    splits: Splits
    family: Family
    quota: QuotaReader = cgroup_quota

    @cached_property
    def preprocessing(self) -> Preprocessing:
        """Fitted to the training images."""
        return Preprocessing.fit(self.splits.train)

    @cached_property
    def images(self) -> dict[str, Images]:
        """Train, validation and test as tensors, where networks are trained."""
        device = self.placement.device
        return {name: Images(part, self.preprocessing, device=device) for name, part in self.splits.parts().items()}

    @cached_property
    def placement(self) -> Placement:
        """Where networks are trained and their accuracy is found.

        Raises:
            DeviceError: If the recipe asks for a GPU that is not there.
        """
        try:
            return self.recipe.placement()
        except DeviceError as error:
            raise DeviceError(f"{self.path}: [training] {error.message}", hint=error.hint) from error

    @property
    def objectives(self) -> list[Objective]:
        """In the recipe's order."""
        return [self.recipe.objective(name) for name in self.recipe.objectives]

    @property
    def run_folder(self) -> Path:
        """Where the run's store, checkpoints and results lie."""
        return self.root / "runs" / self.recipe.name

    @property
    def table_path(self) -> Path:
        """Where the latency table lies: the recipe's own, or the one that profiling writes."""
        if self.recipe.table is not None:
            return self.root / self.recipe.table
        return table_path(self.root / "latency_tables", self.device, self.family.space)

    def load_table(
        self,
        teller: Teller,
        *,
        recheck: bool = True,
        on_mismatch: MismatchCall | None = None,
        tables: RunTables | None = None,
    ) -> LatencyTable:
        """The latency table, checked against this machine, device and space.

        Args:
            teller: Told what differs a little.
            recheck: Whether its five reference networks are timed again.
            on_mismatch: Takes what would otherwise be refused, and lets it pass; see `table_matches`.
            tables: Of the run that is gone on with: its own copy is taken, whatever became of the file.

        Raises:
            TableError: If it is missing, damaged, incomplete, of other conditions, or no longer describes the machine;
                the hint names the command that measures it.
            StoreError: If the run's own copy is damaged.
            DeviceError: If the device is one that cannot be reached, so that no table can be its own.
        """
        self.device.check_reachable()
        tables = tables or RunTables(None)
        own = tables.own()
        if own is not None:
            self._tell_change(own, self.table_path, teller)
        with self._way_out(own):
            table = own or with_refit(self.table_path, LatencyTable.load(self.table_path))
            found = table_matches(table, self.device, self.family.space, quota=self.quota, on_mismatch=on_mismatch)
            for warning in found:
                teller.say(warning)
            if recheck and self.device.reach == "kit":
                teller.say(
                    f"{self.table_path}: device {self.device.name} is reached by hand, so the table is taken as it is; "
                    "at the end the members wait for another kit to be carried there"
                )
            elif recheck:
                again = self._check_references(table, teller, on_mismatch)
                for warning in again.warnings:
                    teller.say(warning)
                table = replace(table, drift_spread=again.spread)
        return tables.use(tables.settled(table))

    def _tell_change(self, own: LatencyTable, path: Path, teller: Teller) -> None:
        """Say where a run's own table is another than the present one."""
        try:
            change = "" if LatencyTable.load(path).digest == own.digest else "was measured again since this run began"
        except TableError:
            change = "is gone or damaged" if path.exists() else "is gone"
        if change:
            teller.say(f"{path} {change}; the run goes on with the table that it began with, {own.source}")

    def estimate(self) -> EstimatedLatency:
        """Latency on a device that cannot be reached, from its data sheet and what somebody measured there.

        Raises:
            DeviceError: If the device can be reached.
            RecipeError: If the recipe names a latency table, which can only be another device's.
            TableError: If the file of measured networks is damaged.
            CostError: If it holds too few, or a kernel of the space is unknown.
        """
        if self.device.roofline is None:
            raise DeviceError(f"device {self.device.name}: can be reached, so it is measured, not estimated")
        if self.recipe.table is not None:
            raise RecipeError(
                f'{self.path}: table is {self.recipe.table}; device {self.device.name} has reach = "none" and is '
                "estimated, so no table can be its own: drop the key, or name the device that was measured"
            )
        device, space = self.device, self.family.space
        found = EstimatedLatency.of(space, self.device.roofline, precision=device.precision, batch=device.batch)
        if self.recipe.measured is None:
            return found
        return found.calibrated(*read_measured(self.root / self.recipe.measured, space))

    def _check_references(self, table: LatencyTable, teller: Teller, on_mismatch: MismatchCall | None) -> Remeasurement:
        """Time the reference networks; a machine that is slow for a moment gets two more chances.

        Raises:
            TableError: If the table does not describe the machine at any of them.
        """
        for _ in range(_CHANCES - 1):
            try:
                return self._references(table)
            except TableError as error:
                teller.say(f"{error.message}; trying again in {_PAUSE_SECONDS:.0f} s")
                time.sleep(_PAUSE_SECONDS)
        return self._references(table, on_mismatch)

    def _references(self, table: LatencyTable, on_mismatch: MismatchCall | None = None) -> Remeasurement:
        return check_references(
            table,
            device=self.device,
            space=self.family.space,
            build_network=self.build_network,
            quota=self.quota,
            on_mismatch=on_mismatch,
        )

    @contextmanager
    def _way_out(self, own: LatencyTable | None = None) -> Iterator[None]:
        """Name the command for this recipe where a lower room can only name the kind.

        Args:
            own: The run's own copy of the table, if that is what is looked at: another one would be another run.

        Raises:
            TableError: With that hint.
        """
        try:
            yield
        except TableError as error:
            if own is not None:
                hint = (
                    "go on where the run began, on a quiet machine; or go on all the same: --allow-mismatch, which is "
                    "stored with the result; or under another name, after "
                    + command_line("hwnas", "profile", self.path)
                )
                raise TableError(error.message, hint=hint) from error
            missing = ["--missing"] if "--missing" in error.hint else []
            again = command_line("hwnas", "profile", self.path, *missing)
            raise TableError(error.message, hint=f"measure it: {again}") from error

    @property
    def build_network(self) -> Callable[[Architecture], nn.Module]:
        """The plain network of an architecture, with random weights."""
        return self.family.build_network

    @property
    def family_record(self) -> FamilyRecord:
        """What the space is built from, for the header of its table."""
        space = self.recipe.space
        return FamilyRecord(
            name=str(space["name"]),
            channels=self.family.channels,
            classes=self.family.classes,
            fields={key: value for key, value in space.items() if key != "name"},
        )

    def costs(
        self, latency: LatencyTable | EstimatedLatency, teller: Teller, *, tables: RunTables | None = None
    ) -> list[CostModel]:
        """Latency, multiply-adds, parameters; memory, model bytes and other devices where the recipe asks for them.

        Args:
            latency: Of the device that is searched for.
            teller: Told what a reader should know of further tables.
            tables: Of the run that is gone on with; tables of further devices are taken from there.

        Raises:
            TableError: If a table lacks what predictions need; the hint names the command that measures it.
            RecipeError: If the recipe asks for what tables hold, on a device that has none.
            DeviceError: If a further device is unknown.
        """
        space = self.family.space
        costs: list[CostModel] = [UnitSumCost.count(space, "macs"), UnitSumCost.count(space, "parameters")]
        asked = {*self.recipe.objectives, *self.recipe.limits}
        from_files: dict[str, Callable[[LatencyTable], CostModel]] = {
            "peak_memory_bytes": partial(PeakMemory.from_table, space),
            "model_bytes": partial(UnitSumCost.model_bytes, space),
        }
        if isinstance(latency, EstimatedLatency):
            for name in from_files:
                if name in asked:
                    raise RecipeError(
                        f"{self.path}: asks for {name}, which is read from the files of a latency table; "
                        f"device {self.device.name} is estimated and has none: ask for parameters instead"
                    )
            costs.insert(0, latency)
        else:
            with self._way_out():
                costs.insert(0, UnitSumCost.from_table(space, latency))
                costs += [read(latency) for name, read in from_files.items() if name in asked]
        costs += [self._elsewhere(name, teller, tables or RunTables(None)) for name in self.recipe.devices]
        check_metrics(self, {cost.name for cost in costs})
        return costs

    def _elsewhere(self, name: str, teller: Teller, tables: RunTables) -> CostModel:
        """Latency on a further device: by its table, or estimated where it cannot be reached.

        Raises:
            DeviceError: If the device is unknown.
            TableError: If its table is missing, damaged, of another space or other conditions than the device's file.
        """
        device, space = Device.load(name, self.root / "devices"), self.family.space
        if device.roofline is not None:
            return EstimatedLatency.of(
                space, device.roofline, precision=device.precision, batch=device.batch, device_suffix=name
            )
        path = table_path(self.root / "latency_tables", device, space)
        own = tables.own(device.name)
        if own is not None:
            self._tell_change(own, path, teller)
        try:
            table = own or tables.settled(with_refit(path, LatencyTable.load(path)), device.name)
            tables.use(table, device.name)
            # Nothing is timed there in this run, so its table is taken as one that was carried here by hand.
            for warning in table_matches(table, device.model_copy(update={"reach": "kit"}), space):
                teller.say(warning)
            return UnitSumCost.from_table(space, table, device_suffix=name)
        except TableError as error:
            raise TableError(
                f"{self.path}: latency_ms@{name}: {error.message}",
                hint=f'measure it: hwnas profile RECIPE, with a recipe of the same [space] and device = "{name}"',
            ) from error

    def limits(self, costs: list[CostModel]) -> list[Limit]:
        """The recipe's limits in the metrics' units.

        Raises:
            RecipeError: If a bound is a share of a metric whose largest value nobody knows before the search.
        """
        by_name = {cost.name: cost for cost in costs}
        found = []
        for metric, bounds in self.recipe.limits.items():

            def largest(metric: str = metric) -> float:
                if metric not in by_name:
                    raise RecipeError(
                        f"{self.path}: [limits.{metric}] at_most is a share of the largest value, which is known for "
                        f"{', '.join(by_name)} only; give a number"
                    )
                return by_name[metric].largest()[0]

            found.append(limit_of(metric, bounds, largest=largest))
        return found


def _check_path(workspace: Path) -> None:
    """Refuse a folder that onnxruntime cannot be told of.

    Raises:
        StoreError: If its path is not UTF-8.
    """
    try:
        str(workspace).encode()
    except UnicodeEncodeError as error:
        raise StoreError(
            f"{visible(str(workspace))}: the path of the workspace is not UTF-8, and onnxruntime reads no other",
            hint="rename the folder in UTF-8, or work in another one",
        ) from error


def assemble(path: Path, *, root: Path = Path(), quota: QuotaReader = cgroup_quota) -> Assembly:
    """Read a recipe and all it names except the latency table.

    Args:
        path: Of the recipe.
        root: The workspace.
        quota: Says how many cores' worth of time this process may spend.

    Raises:
        RecipeError: If the recipe is wrong, or names measured networks for a device that is not estimated.
        DeviceError: If the device is unknown.
        DataError: If an image is damaged, or the images cannot be found or split.
        StoreError: If the workspace's path is not UTF-8.
    """
    recipe = Recipe.load(path)
    _check_path(root.absolute())
    device = Device.load(recipe.device, root / "devices")
    splits = recipe.source().load(recipe.seed)
    family = recipe.family(channels=splits.channels, classes=len(splits.classes))
    if recipe.measured is not None and not device.estimated:
        raise RecipeError(
            f"{path}: measured is {recipe.measured}; it sets the scale of an estimate, and device {device.name} is "
            f"measured itself: drop the key and run {command_line('hwnas', 'profile', path)}, or name a device with "
            'reach = "none"'
        )
    return Assembly(recipe, path, root, device, splits, family, quota)


def profile(
    recipe: Path | str,
    *,
    root: Path | str = "",
    missing: bool = False,
    on_noise: OnNoise = "default",
    repeat: bool = False,
    drop_disturbed: bool = False,
    limit_s: float | None = None,
    teller: Teller | None = None,
    quota: QuotaReader = cgroup_quota,
) -> ProfileReport:
    """Measure the latency table of a recipe's space on its device, and write it into latency_tables/.

    A profile that was killed goes on with what it had finished.

    Args:
        recipe: A file in search/.
        root: The workspace: the folder that holds devices/ and latency_tables/.
        missing: Measure only the blocks that the present table lacks.
        on_noise: What to do on a noisy machine; see `hwnas.profiling.measure_models`.
        repeat: Measure everything once more in a fresh process, and say how far the times differ.
        drop_disturbed: Leave out bursts of runs in which the machine was disturbed.
        limit_s: Seconds that the timing may take; see `hwnas.profiling.measure_models` for what holds without it.
        teller: Told of progress and of what a reader of the table should know.
        quota: Says how many cores' worth of time this process may spend.

    Raises:
        MeasureError: If measuring failed, the machine was too noisy, or what an unfinished profile left is damaged.
        StoreError: If another process profiles the same.
        TableError: If `missing` and the present table is damaged or of other conditions, or none could be written.
        DeviceError: If the device is unknown or has more threads than this process has cores.
        RecipeError: If the recipe is wrong, or no search could carry it out.
        DataError: If the images cannot be used: their channels and classes decide the blocks.
    """
    teller = teller or Silent()
    recipe, root = Path(recipe), Path(root)
    assembly = assemble(recipe, root=root, quota=quota)
    check_searchable(assembly)
    teller.stage(f"profile {assembly.family.name} on {assembly.device.name}")
    existing = LatencyTable.load(assembly.table_path) if missing else None
    _check_writable(assembly.root / "latency_tables")
    report = measure_space(
        assembly.family.space,
        assembly.family.build_block,
        assembly.build_network,
        device=assembly.device,
        folder=assembly.root / "latency_tables",
        seed=assembly.recipe.seed,
        journal=journal_folder(assembly.root, assembly.table_path),
        limit_s=limit_s,
        drop_disturbed=drop_disturbed,
        repeat=repeat,
        existing=existing,
        on_noise=on_noise,
        family=assembly.family_record,
        quota=quota,
        progress=lambda p: _tell(p, teller),
    )
    _warn(report, assembly, teller)
    return report


def kit(recipe: Path, *, root: Path = Path(), out: Path | None = None, teller: Teller | None = None) -> Kit:
    """Write a folder that measures the latency table of a recipe's space on a device that is reached by hand.

    Args:
        recipe: A file in search/.
        root: The workspace.
        out: The folder; kits/DEVICE--RUNTIME--SPACE in the workspace unless given.
        teller: Told of progress and of what could not be exported.

    Raises:
        MeasureError: If the folder is in use, or no block could be exported.
        DeviceError: If the device is unknown, or is this machine.
        RecipeError: If the recipe is wrong, or no search could carry it out.
        DataError: If the images cannot be used: their channels and classes decide the blocks.
    """
    teller = teller or Silent()
    assembly = assemble(recipe, root=root)
    device, space = assembly.device, assembly.family.space
    check_searchable(assembly)
    device.check_reachable()
    if device.reach == "local":
        raise DeviceError(
            f'device {device.name}: is this machine, which needs no kit; expected reach = "kit" or a host in its file',
            hint=f"{command_line('hwnas', 'profile', recipe)}; for another machine write a file in devices/ and name "
            "it in the recipe",
        )
    teller.stage(f"kit of {assembly.family.name} for {device.name}")
    folder = out or root / "kits" / table_path(Path(), device, space).stem
    made = write_kit(
        space,
        assembly.family.build_block,
        assembly.build_network,
        device=device,
        folder=folder,
        recipe=str(recipe),
        seed=assembly.recipe.seed,
        progress=lambda p: _tell(p, teller),
    )
    for key, reason in sorted(made.failures.items()):
        teller.say(f"{key} could not be exported: {reason}")
    return made


def take_in(recipe: Path, results: Path, *, root: Path = Path(), teller: Teller | None = None) -> ProfileReport:
    """Write the latency table of a device from what its kit brought back.

    Args:
        recipe: That the kit was made for.
        results: What the kit's `measure.py` wrote.
        root: The workspace.
        teller: Told of what a reader of the table should know.

    Raises:
        MeasureError: If the file is missing, damaged or of another kit, or the device was too noisy.
        DeviceError: If the device is unknown.
        RecipeError: If the recipe is wrong.
        DataError: If the images cannot be used.
        CostError: If too few networks could be measured to calibrate.
    """
    teller = teller or Silent()
    assembly = assemble(recipe, root=root)
    teller.stage(f"take in {results}")
    report = take_in_results(
        results,
        assembly.family.space,
        device=assembly.device,
        folder=root / "latency_tables",
        seed=assembly.recipe.seed,
        family=assembly.family_record,
    )
    _warn(report, assembly, teller)
    return report


def _warn(report: ProfileReport, assembly: Assembly, teller: Teller) -> None:
    for warning in report.warnings:
        teller.say(warning)
    if report.earlier is not None:
        teller.say(_kept(report.earlier, assembly.root / "runs"))
    if report.path != assembly.table_path:
        teller.say(f"{assembly.path}: table is {assembly.table_path}; this one went to {report.path}")


def _check_writable(folder: Path) -> None:
    """That a table can be written, before anything is measured.

    Raises:
        TableError: If not.
    """
    made = not folder.exists()
    try:
        check_writable(folder)
        if made:  # a profile that is refused later leaves nothing
            folder.rmdir()
    except OSError as error:
        raise TableError(
            f"the table could not be written: {refusal(error).message}", hint=refusal(error).hint
        ) from error


def _kept(earlier: Path, runs: Path) -> str:
    """What became of the table that was there before, and of the runs that began with it."""
    line = f"the table that was there before is kept: {earlier}"
    try:
        users = runs_of(LatencyTable.load(earlier), runs)
    except TableError:
        return f"{line}; it is damaged"
    own, bare = ([name for name, copy in users.items() if copy == has] for has in (True, False))
    if own:
        line += f"; runs that began with it go on with copies of their own: {', '.join(own)}"
    if bare:
        line += (
            f"; {', '.join(bare)} began with it and {'has' if len(bare) == 1 else 'have'} no copy: to go on, write "
            f'table = "{earlier.relative_to(runs.parent).as_posix()}" into the recipe'
        )
    return line


def journal_folder(root: Path, table: Path) -> Path:
    """Where a profile keeps what it has finished until its table is written.

    Example:
        >>> journal_folder(Path("w"), Path("w/latency_tables/a--b--c.jsonl")).as_posix()
        'w/runs/.profile-a--b--c'
    """
    return root / "runs" / f".profile-{table.stem}"


def _tell(progress: Progress, teller: Teller) -> None:
    if progress.note:
        teller.say(progress.note)
    teller.progress(progress.done, progress.total, progress.stage)
