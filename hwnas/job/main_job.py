"""The main job: supernet where there is one, search, final training, measured front."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import torch
from pydantic import ValidationError
from torch import nn

from hwnas.core import (
    Architecture,
    DeviceError,
    ExportError,
    LimitError,
    RecipeError,
    StoreError,
    counted,
    write_atomically,
)
from hwnas.cost import CostModel, EstimatedLatency, LatencyTable, UnitSumCost
from hwnas.data import Batch, batches
from hwnas.device import QuotaReader, allowed_cores, cgroup_quota, most_threads, usable_cores
from hwnas.evaluation import Evaluator
from hwnas.evaluation.from_scratch import FromScratch
from hwnas.evaluation.own_metrics import OwnMetrics, WithOwnMetrics
from hwnas.evaluation.shared_weights import SharedWeights, calibrate_batch_norm
from hwnas.job.assembly import Assembly, assemble
from hwnas.job.checkpoint_checks import check_checkpoints
from hwnas.job.checks import check_searchable
from hwnas.job.front import Front
from hwnas.job.member_file import check_member_file
from hwnas.job.members import Finisher
from hwnas.job.memory import free_bytes, need_of
from hwnas.job.recipe import MembersTable, Recipe
from hwnas.job.run_identity import adapts, keys_set, search_differences, search_identity
from hwnas.job.run_tables import FILES, RunTables
from hwnas.job.teller import Silent, Teller
from hwnas.job.timing import OnDevice, OnPaper, Timer
from hwnas.nn import Sectioned, Supernet
from hwnas.profiling import suffix_of
from hwnas.space import Space
from hwnas.store import RunFolder
from hwnas.strategies.registry import trains_weights
from hwnas.study import JSON, Event, OneShot, Study, check_strategy, in_words
from hwnas.training import (
    Adapting,
    BlockWise,
    Draw,
    Opening,
    Sandwich,
    Schedule,
    SinglePath,
    StepRule,
    Trainer,
    at_any_resolution,
    binned_draw,
    fair_draw,
)
from hwnas.training.memory import keep_freed_memory
from hwnas.zoo import Family, HasSmallest

_SUPERNET, _TEACHER, _FIXED_TEACHER = "supernet", "teacher", "adaptation-teacher"
_FILES = ("front.json", "front.png", "recipe.toml", "*.refit.json", "members", "kit", *FILES)
"""What a run writes into its folder beside its store."""


def search(
    recipe: Path,
    *,
    root: Path = Path(),
    fresh: bool = False,
    allow_mismatch: bool = False,
    teller: Teller | None = None,
    clock: Callable[[], float] = time.perf_counter,
    quota: QuotaReader = cgroup_quota,
) -> Front:
    """Run a recipe from its latency table to its measured front, or go on where it was cut off.

    On a device that cannot be reached (reach = "none") latencies are estimated throughout, and say so.

    Args:
        recipe: A file in search/.
        root: The workspace: the folder that holds devices/, latency_tables/ and runs/.
        fresh: Throw away what the run's folder holds.
        allow_mismatch: Search with a latency table of other conditions (another processor, batch, number of threads,
            runtime, a drifted machine); every difference is told and stored in `front.json`.
        teller: Told of progress.
        clock: Seconds, for what evaluations and training take.
        quota: Says how many cores' worth of time this process may spend.

    Returns:
        The front, as `front.json` in the run's folder holds it.

    Raises:
        HwnasError: Of the kinds that `hwnas.core.errors` lists, with the way out.
        DeviceError: If the device's runtime does not load ONNX.
        RecipeError: If the recipe is wrong, or asks for shared weights in a space without a supernet, or for training
            by blocks in one without sections.
        LimitError: If no network of the space meets a limit; before any training, with the nearest value.
        StoreError: If the run's folder lacks what it should hold.

    Example:
        `hwnas.search(Path("search/quickstart.toml")).pick("knee")`, after `hwnas profile search/quickstart.toml`.
    """
    teller = teller or Silent()
    started = time.perf_counter()
    assembly = assemble(recipe, root=root, quota=quota)
    text = recipe.read_bytes()  # now: it may be edited while the search runs
    device = assembly.device
    if suffix_of(device.runtime) != ".onnx":
        raise DeviceError(
            f"device {device.name}: runtime is {device.runtime}; a search hands over ONNX files and measures them, "
            "which torch does not load",
            hint='set runtime = "onnxruntime-cpu"; hwnas profile can still compare tables of the torch runtimes',
        )
    check_searchable(assembly)
    placement = assembly.placement  # before anything else takes time
    shared = assembly.recipe.evaluation.weights == "shared"
    for line in assembly.splits.to_json()["skipped"]:
        teller.say(f"left out: {line}")
    folder = assembly.run_folder
    if fresh or not (folder / "front.json").is_file():
        _check_threads(assembly)
        _check_memory(assembly)
    with RunFolder(folder, fresh=fresh, files=_FILES) as held:  # from here on nobody else; written to when it is opened
        tables = RunTables(folder if held.begun else None)
        timer, latency = _timing(assembly, teller, tables, allow_mismatch=allow_mismatch)
        costs = assembly.costs(latency, teller, tables=tables)
        limits = assembly.limits(costs)
        for name, content in tables.files().items():
            held.keep(name, content)
        r = assembly.recipe
        _use_cores(assembly)
        if placement.processor != "cpu":
            teller.say(f"trained on {torch.cuda.get_device_name()}, where equal seeds do not give equal bits")
        told: list[str] = []
        strategy = r.build_strategy()
        trained_by_strategy = trains_weights(strategy)
        check_strategy(strategy, held)
        front = None if fresh else _whole_front(folder, r)
        if front is None or "outcome" not in held.header:  # else nothing is trained any more
            check_checkpoints(assembly, held)
        held.keep("recipe.toml", text)
        gone_on = _WithFirstResult(folder / "recipe.toml", text)
        try:
            opened = _study(assembly, costs, teller, told, held, gone_on, clock=clock)
        except LimitError as error:
            raise LimitError(f"{recipe}: [limits] {error.message.removeprefix('limit ')}", hint=error.hint) from error
        with opened as study:
            if not shared:
                teller.stage(
                    f"search with {in_words(r.strategy)}, training every candidate for "
                    f"{counted(r.evaluation.epochs, 'epoch')}"
                )
            elif trained_by_strategy:
                teller.stage(f"train weights and distributions with {in_words(r.strategy)}")
            else:
                teller.stage("train the supernet")
            if front is None:
                study.forget_missing()
            train = None if trained_by_strategy or not shared else partial(_train_supernet, assembly, teller=teller)
            outcome = study.run(strategy, before=train)
            for note in outcome.notes:
                if note not in told:
                    teller.say(note)
            if outcome.finished_before and front is not None:
                teller.say(f"this run is finished already; {folder / 'front.json'} is what it found")
                gone_on.write()
                return front
            if study.follow_up(r.members.model_dump(mode="json")):
                # A run of an earlier version stored no settings; then its front says what they were.
                changed = "follow_up" in held.header or _members_table(folder) not in (None, r.members)
                why = "[members] was changed" if changed else "the run was made by an earlier version"
                how = "by the new settings" if changed else "again"
                teller.say(f"{why}: what the search found is kept, members are trained {how}")
            weights = study.version(_SUPERNET)
            if shared and weights is None:
                raise StoreError(
                    f"{folder}: it has no supernet although its search has ended",
                    hint="take another name for the recipe's run, or start over with --fresh",
                )
            finisher = Finisher(assembly, study, weights=weights, timer=timer, teller=teller)
            front = finisher.finish(outcome, limits, started=started)
            gone_on.write()
            return front


class _WithFirstResult:
    """A file of a run that a run which is gone on with gets anew once it has a result that rests on it.

    Until then the run may still be refused, and must be as it was. A file that is equal stays.

    Args:
        path: Of the file.
        content: Of the present one.
    """

    def __init__(self, path: Path, content: bytes) -> None:
        self._path, self._content, self._written = path, content, False

    def write(self) -> None:
        """Harmless when repeated."""
        if not self._written and not (self._path.is_file() and self._path.read_bytes() == self._content):
            write_atomically(self._path, self._content)
        self._written = True


def _check_threads(assembly: Assembly) -> None:
    """Refuse more threads, or more processes that evaluate, than this machine can have.

    Raises:
        RecipeError: Names the key, and how many it can have.
    """
    training, evaluation = assembly.recipe.training, assembly.recipe.evaluation
    most = most_threads(allowed_cores(), assembly.quota())
    for table, key, asked in (
        ("training", "threads", training.threads),
        ("evaluation", "threads", evaluation.threads),
        ("evaluation", "workers", evaluation.workers),
    ):
        if asked is not None and asked > most:
            raise RecipeError(
                f"{assembly.path}: [{table}] {key} is {asked}; this machine can have at most {most}, "
                "four for each core that may be used",
                hint=f"set {key} to at most {most}, or drop the key",
            )


def _check_memory(assembly: Assembly) -> None:
    family = assembly.family
    largest = UnitSumCost.count(family.space, "macs").largest()[1]
    need = need_of(assembly.recipe, family, assembly.splits, largest)
    need.check(free_bytes(assembly.placement.device), where=str(assembly.path))


def _timing(
    assembly: Assembly, teller: Teller, tables: RunTables, *, allow_mismatch: bool
) -> tuple[Timer, LatencyTable | EstimatedLatency]:
    """Where latencies come from at the end of the run, and during it."""
    mismatches: list[str] = []

    def allow(difference: str) -> None:
        mismatches.append(difference)
        teller.say(f"allowed: {difference}")

    if assembly.device.estimated:
        estimate = assembly.estimate()
        teller.say(
            f"device {assembly.device.name} cannot be reached: latencies are {estimate.origin}, between "
            f"{estimate.low:.0%} and {estimate.high:.0%} of the value"
        )
        return OnPaper(assembly, estimate, teller), estimate
    table = assembly.load_table(teller, on_mismatch=allow if allow_mismatch else None, tables=tables)
    return OnDevice(assembly, table, teller, mismatches=mismatches), table


def _whole_front(folder: Path, recipe: Recipe) -> Front | None:
    """The front of a finished run; None if it is to be written again.

    That is if it or one of its members' files is gone, damaged or changed, or its members were trained in another way.
    """
    if _members_table(folder) != recipe.members:
        return None
    try:
        front = Front.load(folder)
        for member in front.members:
            check_member_file(front, member)
    except (StoreError, ExportError):
        return None
    return front


def _members_table(folder: Path) -> MembersTable | None:
    """The settings that the members of a run's front were trained by; None where no front says it."""
    try:
        return MembersTable.model_validate(Front.load(folder).facts["recipe"]["members"])
    except (StoreError, KeyError, TypeError, ValidationError):
        return None


def _study(
    assembly: Assembly,
    costs: list[CostModel],
    teller: Teller,
    told: list[str],
    held: RunFolder,
    gone_on: _WithFirstResult,
    *,
    clock: Callable[[], float],
) -> Study:
    r = assembly.recipe
    budget = r.spending()
    shared = r.evaluation.weights == "shared"

    def listen(event: Event) -> None:
        if event.kind in ("evaluation", "epoch", "step"):
            gone_on.write()
        match event.kind:
            case "evaluation":
                teller.progress(event.done, budget.evaluations or 0, event.text)
            case "resume" | "environment" | "note":
                told.append(event.text)
                teller.say(event.text)

    return Study(
        assembly.family.space,
        evaluate=_evaluator(assembly),
        objectives=assembly.objectives,
        limits=assembly.limits(costs),
        costs=costs,
        budget=budget,
        seed=r.seed,
        folder=held,
        workers=r.evaluation.workers,
        in_flight=r.evaluation.in_flight,
        threads=r.evaluation.threads,
        evaluation_seconds=r.evaluation.seconds,
        clock=clock,
        header=search_identity(r, assembly.splits),
        compare=partial(
            search_differences,
            keys=_keys_that_count(held, assembly.path),
            finished="outcome" in held.header,
            stored_adapts=adapts(held.header.get("strategy", {}).get("parameters", {})),
        ),
        adapt=_Adaptation(assembly, teller) if shared else None,
        one_shot=_one_shot(assembly, teller) if shared else None,
        progress=listen,
    )


def _keys_that_count(held: RunFolder, recipe: Path) -> frozenset[str] | None:
    """Which keys of a recipe make a run another; None for all.

    A search that has ended is not run again: a default that another version changed says nothing of it.
    """
    kept = held.folder / "recipe.toml"
    if "outcome" not in held.header or not kept.is_file():
        return None
    try:
        return keys_set(kept.read_bytes(), recipe.read_bytes())
    except ValueError:  # the kept one was damaged
        return None


def _evaluator(assembly: Assembly) -> Evaluator:
    """Where accuracies, and metrics of the user's own, come from during the search."""
    own = assembly.recipe.own_metrics()
    found = _accuracies(assembly)
    return WithOwnMetrics(found, OwnMetrics(own, assembly.build_network)) if own else found


def _accuracies(assembly: Assembly) -> Evaluator:
    r = assembly.recipe
    if r.evaluation.weights == "scratch":
        return FromScratch(
            assembly.family,
            r.source(),
            seed=r.seed,
            schedule=r.candidate_schedule(),
            batch_size=r.training.batch_size,
            augment=r.augmentation(),
            label_smoothing=r.training.label_smoothing,
            splits=assembly.splits,
            placement=assembly.placement,
        )
    return SharedWeights(
        assembly.family,
        r.source(),
        seed=r.seed,
        checkpoints=assembly.run_folder / "checkpoints",
        batch_norm_images=r.evaluation.batch_norm_images,
        splits=assembly.splits,
        device=assembly.placement.device,
    )


def _one_shot(assembly: Assembly, teller: Teller) -> OneShot:
    """What strategies that search by gradient train, with the recipe's [training]."""
    r = assembly.recipe
    size = r.training.batch_size

    def validation(rng: np.random.Generator) -> Batch:
        return next(batches(assembly.images["validation"], batch_size=size, generator=rng))

    def supernet() -> Supernet:
        torch.manual_seed(r.seed)
        return assembly.family.supernet()

    return OneShot(
        supernet=supernet,
        training=lambda rng: batches(
            assembly.images["train"], batch_size=size, generator=rng, augment=r.augmentation(), drop_last=True
        ),
        validation=validation,
        steps=max(1, len(assembly.splits.train) // size),
        schedule=lambda epochs: replace(r.supernet_schedule(), epochs=epochs),
        label_smoothing=r.training.label_smoothing,
        placement=assembly.placement,
        phase=_SUPERNET,
        progress=lambda done, total, loss: teller.progress(done, total, f"loss {loss:.3f}"),
    )


def _train_supernet(assembly: Assembly, study: Study, *, teller: Teller) -> None:
    """Train the supernet as a durable phase; every evaluation from here on uses it."""
    r = assembly.recipe
    torch.manual_seed(r.seed)
    supernet = assembly.family.supernet()
    opening = None
    if r.training.progressive:
        opening = Opening(supernet.space, _macs(study).largest()[1], r.training.progressive)
    if r.training.rule == "block_wise":
        rule: StepRule = _block_wise(assembly, study, supernet, opening, teller)
    else:
        rule = _rule(r, assembly.family, supernet, study, opening)
    trainer = _trainer(assembly, cast(nn.Module, supernet), rule, r.supernet_schedule(), teller)

    def epoch(k: int, rng: np.random.Generator) -> JSON:
        if opening is not None:
            opening.at(k / r.training.epochs)
        return cast(JSON, trainer.epoch(k, rng))

    study.use_weights(study.train(_SUPERNET, trainer.state, epoch, r.training.epochs).version)
    teller.stage(f"search with {in_words(r.strategy)}")


class _Adaptation:
    """Trains a run's supernet on. All adaptations have one teacher: the largest network before the first of them."""

    def __init__(self, assembly: Assembly, teller: Teller) -> None:
        self._assembly, self._teller = assembly, teller
        self._teacher: nn.Module | None = None

    def __call__(self, study: Study, weights: str, frequencies: Mapping[str, Sequence[float]], epochs: int) -> str:
        """The version after so many epochs more, with options drawn at these frequencies."""
        r = self._assembly.recipe
        before = int(weights.rpartition("@")[2])
        largest = _macs(study).largest()[1]
        if self._teacher is None:
            self._teacher = self._fixed_teacher(study, weights, largest)
        supernet = self._assembly.family.supernet()
        rule = Adapting(
            supernet,
            frequencies,
            teacher=self._teacher,
            teacher_resolution=int(largest["resolution"]),
            networks=r.adaptation.networks,
            imitation=r.adaptation.imitation,
            label_smoothing=r.training.label_smoothing,
        )
        schedule = r.adaptation_schedule(epochs)
        module = cast(nn.Module, supernet)
        trainer = _trainer(self._assembly, module, rule, schedule, self._teller, table="adaptation")
        # The phase counts on; the schedule of an adaptation is its own.
        return study.train(_SUPERNET, trainer.state, lambda k, rng: trainer.epoch(k - before, rng), epochs).version

    def _fixed_teacher(self, study: Study, weights: str, largest: Architecture) -> nn.Module:
        """The largest network with weights of its own. It is a phase, as the version that it comes from is not kept."""
        assembly, r = self._assembly, self._assembly.recipe
        teacher = assembly.family.supernet().extract(largest).to(assembly.placement.device)

        def take(k: int, rng: np.random.Generator) -> JSON:  # noqa: ARG001 - the type's
            supernet = assembly.family.supernet()
            study.load(weights, {"module": cast(nn.Module, supernet)})
            network = supernet.extract(largest)
            calibrate_batch_norm(
                network,
                int(largest["resolution"]),
                assembly.images["train"],
                images=r.evaluation.batch_norm_images,
                seed=r.seed,
            )
            teacher.load_state_dict(network.state_dict())
            return {"from": weights}

        study.train(_FIXED_TEACHER, {"module": teacher}, take)
        return teacher


def _trainer(
    assembly: Assembly,
    module: nn.Module,
    rule: StepRule,
    schedule: Schedule,
    teller: Teller,
    *,
    what: str = "the supernet",
    table: str = "training",
) -> Trainer:
    images, augment = assembly.images["train"], assembly.recipe.augmentation()
    size = assembly.recipe.training.batch_size

    def serve(rng: np.random.Generator) -> Iterator[Batch]:
        return batches(images, batch_size=size, generator=rng, augment=augment, drop_last=True)

    return Trainer(
        module,
        rule,
        batches=serve,
        steps=max(1, len(images) // size),
        schedule=schedule,
        placement=assembly.placement,
        progress=lambda done, total, loss: teller.progress(done, total, f"loss {loss:.3f}"),
        what=what,
        table=table,
    )


def _macs(study: Study) -> CostModel:
    return next(cost for cost in study.costs if cost.name == "macs")


def _block_wise(
    assembly: Assembly, study: Study, supernet: Supernet, opening: Opening | None, teller: Teller
) -> BlockWise:
    """The rule, once the largest network is trained: in a supernet of its own, whose weights this one begins with."""
    r = assembly.recipe
    largest, space = _macs(study).largest()[1], supernet.space
    torch.manual_seed(r.seed)
    teacher = cast(Sectioned, assembly.family.supernet())
    learning = SinglePath(teacher, label_smoothing=r.training.label_smoothing, draw=at_any_resolution(space, largest))
    schedule = replace(r.supernet_schedule(), epochs=r.training.teacher_epochs)
    trainer = _trainer(assembly, cast(nn.Module, teacher), learning, schedule, teller, what="the largest network")
    version = study.train(_TEACHER, trainer.state, trainer.epoch, r.training.teacher_epochs).version
    study.load(version, {"module": cast(nn.Module, supernet)})
    draw = _draw(r, space, study, opening)
    pupil = cast(Sectioned, supernet)
    return BlockWise(pupil, teacher=teacher, taught=largest, random=r.training.random_networks, draw=draw)


def _draw(recipe: Recipe, space: Space, study: Study, opening: Opening | None) -> Draw | None:
    match recipe.training.draw:
        case "fair":
            return fair_draw(space)
        case "cost_bins":
            return binned_draw(space, _macs(study))
        case _:
            return opening


def _rule(recipe: Recipe, family: Family, supernet: Supernet, study: Study, opening: Opening | None) -> StepRule:
    t = recipe.training
    if t.rule == "single_path":
        draw = _draw(recipe, supernet.space, study, opening)
        return SinglePath(supernet, random=t.random_networks, label_smoothing=t.label_smoothing, draw=draw)
    macs = _macs(study)
    smallest = family.smallest() if isinstance(family, HasSmallest) else macs.smallest()[1]
    return Sandwich(
        supernet,
        largest=macs.largest()[1],
        smallest=smallest,
        random=t.random_networks,
        label_smoothing=t.label_smoothing,
        distillation=t.distillation,
        opening=opening,
    )


def _use_cores(assembly: Assembly) -> None:
    """Train with as many threads as the recipe says, or as this process may use."""
    keep_freed_memory()
    threads = assembly.recipe.training.threads
    torch.set_num_threads(threads or usable_cores(allowed_cores(), assembly.quota()) or 1)
