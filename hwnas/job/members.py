"""The last part of a run: members of the front are trained further, exported, checked and measured."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import nn

from hwnas.core import (
    SHARES,
    TIE_ERRORS,
    Answers,
    Chance,
    Evaluation,
    Limit,
    MeasureError,
    Metric,
    NoFeasibleError,
    NonFiniteLossError,
    Objective,
    StoreError,
    counted,
    digest_of,
    seed_of,
    share_error,
)
from hwnas.data import Batch, batches
from hwnas.evaluation import Job, Workers
from hwnas.evaluation.own_metrics import OwnMetrics
from hwnas.evaluation.shared_weights import calibrate_batch_norm, served
from hwnas.export import BATCHES, Exported, add_metadata, export_onnx, read_metadata
from hwnas.job.assembly import Assembly
from hwnas.job.front import Front, Member
from hwnas.job.member_file import file_digest
from hwnas.job.memory import fitting, free_bytes, step_bytes
from hwnas.job.recipe import MembersTable, Recipe
from hwnas.job.teller import Teller
from hwnas.job.timing import Timer, Times, Untimed, prediction_error
from hwnas.nn import ModelSpace, Supernet, save_network
from hwnas.pareto import costs_of, crowding, fronts, reference_of
from hwnas.profiling import footprint_of
from hwnas.study import FULL, Outcome, Study, Training, counts, evaluated, volumes
from hwnas.training import Plain, Trainer, answers

CHOICE_RULE = (
    "the cheapest network; in each equal step of predicted cost the best, of ties within one standard error the "
    "cheapest; then the searched front and those behind it, the least crowded first; those at chance after all others"
)
"""Of `chosen`, for front.json."""


def chosen(
    evaluations: Sequence[Evaluation],
    objectives: Sequence[Objective],
    count: int,
    *,
    cheap: Objective | None,
    noise: float = 0.0,
    guesses: Callable[[Evaluation], bool] = lambda _: False,
) -> list[Evaluation]:
    """The networks worth a final training, spread over what the devices of users need.

    With inherited weights large networks look worse than they are: each of their weights has seen fewer steps. So the
    front as searched ends too early, and members are not simply taken from it. The cheapest network is one; the rest of
    the range of the predicted cost is cut into equal steps (each costs the same factor more), and the best of each is
    one; where several are as good within the noise, the cheapest. Where a step is empty, and where nothing is
    predicted, the front and those behind it fill up, the least crowded first. The final front is made of what was
    measured after training.

    Args:
        evaluations: With status ok.
        objectives: The first that is not `cheap` says what is best.
        count: At most so many.
        cheap: An objective that a cost model predicts, None if there is none.
        noise: Difference of the best objective below which two networks are as good.
        guesses: Whether a network is no better than chance; such come after all others.

    Example:
        >>> from hwnas.core import Architecture
        >>> accuracy, latency = Objective.named("accuracy"), Objective.named("latency_ms")
        >>> points = [
        ...     Evaluation(
        ...         Architecture({"k": ms}),
        ...         {"accuracy": Metric(share, "share", "measured"), "latency_ms": Metric(ms, "ms", "predicted")},
        ...     )
        ...     for share, ms in ((0.5, 1), (0.7, 2), (0.6, 2.5), (0.65, 7), (0.64, 6))
        ... ]
        >>> [e["latency_ms"] for e in chosen(points, [accuracy, latency], 3, cheap=latency)]
        [1, 2, 7]
        >>> [e["latency_ms"] for e in chosen(points, [accuracy, latency], 3, cheap=latency, noise=0.02)]
        [1, 2, 6]
        >>> halves = lambda one: one["accuracy"] <= 0.5
        >>> [e["latency_ms"] for e in chosen(points, [accuracy, latency], 3, cheap=latency, guesses=halves)]
        [2, 2.5, 7]
    """
    better = [evaluation for evaluation in evaluations if not guesses(evaluation)]
    if 0 < len(better) < len(evaluations):
        found = chosen(better, objectives, count, cheap=cheap, noise=noise)
        others = [evaluation for evaluation in evaluations if guesses(evaluation)]
        rest = count - len(found)
        return found + (chosen(others, objectives, rest, cheap=cheap, noise=noise) if rest > 0 else [])
    costs = costs_of([_values(evaluation) for evaluation in evaluations], objectives)
    kept: list[int] = []
    gained = [n for n, objective in enumerate(objectives) if objective != cheap]
    if cheap is not None and gained and evaluations:
        column = costs[:, objectives.index(cheap)]
        order = np.lexsort((column, costs[:, gained[0]]))  # the best first, of equals the cheapest
        kept.append(int(np.lexsort((costs[:, gained[0]], column))[0]))
        edges = np.geomspace(column.min(), column.max(), max(2, count))
        for low, high in itertools.pairwise(edges.tolist()[: count or 1]):
            inside = [n for n in order.tolist() if low < column[n] <= high * (1 + 1e-9) and n not in kept]
            best = costs[inside[:1], gained[0]] + noise
            kept += sorted((n for n in inside if costs[n, gained[0]] <= best), key=lambda n: column[n])[:1]
    left = np.setdiff1d(np.arange(len(evaluations)), kept)
    for layer in fronts(costs[left]):
        part = left[layer].tolist()
        while len(part) > count - len(kept):
            part.pop(int(np.argmin(crowding(costs[part]))))
        kept += part
    return [evaluations[n] for n in kept]


def _values(evaluation: Evaluation) -> dict[str, float]:
    return {name: metric.value for name, metric in evaluation.metrics.items()}


@dataclass(frozen=True)
class Finished:
    """A network after its final training.

    Attributes:
        evaluation: What the search knew of it.
        network: In evaluation mode.
        accuracies: `accuracy` and `balanced_accuracy` on validation, `test_accuracy` and `test_balanced_accuracy`.
        answers: As in `Member`.
        seconds: Of its final training.
        role: As in `Member`.
        phase: Name of its training.
    """

    evaluation: Evaluation
    network: nn.Module
    accuracies: Mapping[str, float]
    answers: Mapping[str, Answers]
    seconds: float
    role: str
    phase: str

    @property
    def resolution(self) -> int:
        """Side of its images."""
        return int(self.evaluation.architecture["resolution"])


@dataclass(frozen=True)
class _Run:
    """A network before its final training.

    Attributes:
        evaluation: What the search knew of it.
        role: As in `Member`.
        network: With the weights it starts from.
        phase: Name of its training, which tells all that decides it.
        training: None where it keeps them.
        steps: Of the training.
    """

    evaluation: Evaluation
    role: str
    network: nn.Module
    phase: str
    training: Training | None
    steps: int

    @property
    def resolution(self) -> int:
        """Side of its images."""
        return int(self.evaluation.architecture["resolution"])


class Finisher:
    """Trains, exports and measures the members of a run.

    Args:
        assembly: The recipe's objects.
        study: After its search.
        weights: Version of the supernet that members inherit from; None where they start from random weights.
        timer: Says what networks take on the device.
        teller: Told of progress.
    """

    def __init__(
        self,
        assembly: Assembly,
        study: Study,
        *,
        weights: str | None,
        timer: Timer,
        teller: Teller,
    ) -> None:
        self.assembly = assembly
        self.study = study
        self.timer = timer
        self.teller = teller
        self._weights = weights
        self._taken = _taken(assembly)
        self._supernet: Supernet | None = None
        if weights is not None:
            self._supernet = assembly.family.supernet()
            study.load(weights, {"module": self._supernet})
        self._steps_done: dict[str, int] = {}
        self._steps_in_all = 0

    # ---------------------------------------------------------------------------------------------- training

    def train(self, networks: Sequence[tuple[Evaluation, str]], *, teacher: Finished | None = None) -> list[Finished]:
        """The final training of some networks, side by side: one on each core.

        A member starts from the supernet's weights, if there is one, and may imitate a finished teacher; without epochs
        it keeps what it inherits. The default network starts from scratch with the members' schedule (the supernet's,
        where members are not trained), its own number of epochs, and no help in any form.

        Args:
            networks: With their roles, the longest training first.
            teacher: For the members among them.
        """
        runs = [self._run(evaluation, role, teacher) for evaluation, role in networks]
        trainings = [run.training for run in runs if run.training is not None]
        if trainings:
            self._steps_done = dict.fromkeys((training.name for training in trainings), 0)
            self._steps_in_all = sum(run.steps for run in runs)
            self.study.train_together(trainings, workers=self._side_by_side(runs))
            self.study.restore()
        return [self._finished(run) for run in runs]

    def _side_by_side(self, runs: Sequence[_Run]) -> int:
        """How many of them are trained at once: one on each core, or fewer where memory would not hold their steps."""
        assembly = self.assembly
        channels = assembly.splits.channels
        found = [
            step_bytes(run.network, (channels, run.resolution, run.resolution))
            for run in runs
            if run.training is not None
        ]
        known = [each for each in found if each is not None]
        return fitting(
            max(known) * assembly.recipe.members.batch_size if known else None,
            free=free_bytes(assembly.placement.device),
            most=torch.get_num_threads(),
        )

    def _run(self, evaluation: Evaluation, role: str, teacher: Finished | None) -> _Run:
        recipe, family = self.assembly.recipe, self.assembly.family
        architecture = evaluation.architecture
        side = int(architecture["resolution"])
        label = f"{role}-{architecture.digest}"
        schedule = recipe.member_schedule()
        if role == "default":
            torch.manual_seed(recipe.seed)
            network = family.build_network(architecture)
            schedule = replace(schedule or recipe.supernet_schedule(), epochs=recipe.members.default_epochs)
            teacher = None
        elif self._supernet is None:
            torch.manual_seed(seed_of(recipe.seed, label))
            network = family.build_network(architecture)
        else:
            network = self._supernet.extract(architecture)
        name = f"{label}-{settings_digest(recipe, role, teacher.phase if teacher else None)}"
        if schedule is None:
            return _Run(evaluation, role, network, name, None, 0)
        trainer = Trainer(
            network,
            Plain(
                network,
                side,
                label_smoothing=recipe.members.label_smoothing,
                teacher=teacher.network if teacher else None,
                teacher_resolution=teacher.resolution if teacher else 0,
                teacher_weight=recipe.members.teacher_weight,
            ),
            batches=self._batches(recipe.members.batch_size),
            steps=_steps(len(self.assembly.images["train"]), recipe.members.batch_size),
            schedule=schedule,
            placement=self.assembly.placement,
            compiled=recipe.members.compiled,
            progress=lambda done, _, loss: self._progress(name, label, done, loss),
            what=label,
            table="members" if recipe.members.epochs else "training",
        )
        training = Training(name, trainer.state, trainer.epoch, schedule.epochs)
        return _Run(evaluation, role, network, name, training, trainer.steps * schedule.epochs)

    def _progress(self, name: str, label: str, done: int, loss: float) -> None:
        # Called from the threads that train.
        if self.study.stopping():
            raise InterruptedError(f"{label}: stopped, because another training was")
        self._steps_done[name] = done
        self.teller.progress(sum(self._steps_done.values()), self._steps_in_all, f"{label}: loss {loss:.3f}")

    def _finished(self, run: _Run) -> Finished:
        side = int(run.evaluation.architecture["resolution"])
        network, recipe, images = run.network.eval(), self.assembly.recipe, self.assembly.images
        calibrate_batch_norm(
            network, side, images["train"], images=recipe.evaluation.batch_norm_images, seed=recipe.seed
        )

        def measure(_: np.random.Generator) -> dict[str, Any]:
            found: dict[str, Any] = {"answers": {}}
            for part, prefix in (("validation", ""), ("test", "test_")):
                answered = answers(network, served(images[part], side))
                found["answers"][part] = answered.to_json()
                found |= {f"{prefix}{metric}": answered.value(metric) for metric in ("accuracy", "balanced_accuracy")}
            return found

        try:
            found: dict[str, Any] = self.study.once(f"accuracy of {run.phase}", measure)
        except NonFiniteLossError as error:
            table = "members" if recipe.members.epochs else "training"
            raise NonFiniteLossError(
                f"{run.role}-{run.evaluation.architecture.digest}: its training diverged: {error.message}",
                hint=f"lower [{table}] learning_rate and run again",
            ) from error
        # Runs of earlier versions stored no answers.
        by_part = {part: Answers.from_json(row) for part, row in found.pop("answers", {}).items()}
        seconds = self.study.seconds_of(run.phase) if run.training else 0.0
        return Finished(run.evaluation, network, found, by_part, seconds, run.role, run.phase)

    def _batches(self, size: int) -> Callable[[np.random.Generator], Iterator[Batch]]:
        images, augment = self.assembly.images["train"], self.assembly.recipe.augmentation()
        return lambda rng: batches(images, batch_size=size, generator=rng, augment=augment, drop_last=True)

    # --------------------------------------------------------------------------------------- exporting, measuring

    def export(self, finished: Finished) -> Exported:
        """One checked ONNX file with its metadata, and the weights beside it."""
        finished.network.cpu()
        assembly, architecture = self.assembly, finished.evaluation.architecture
        side = int(architecture["resolution"])
        folder = assembly.run_folder / "members"
        stem = f"{finished.role}-{architecture.digest}" if finished.role != "member" else architecture.digest
        if f"members/{stem}.onnx" in self._taken:
            stem = f"{stem}-{finished.phase.rpartition('-')[2]}"
        save_network(
            folder / f"{stem}.safetensors",
            finished.network,
            blocks=None if isinstance(finished.network, ModelSpace) else assembly.family.space.blocks_of(architecture),
            architecture=architecture,
        )
        return export_onnx(
            finished.network,
            folder / f"{stem}.onnx",
            input_shape=(assembly.splits.channels, side, side),
            images=self._some_images(side),
            metadata={
                "version": tool_version(),
                "classes": list(assembly.splits.classes),
                "preprocessing": assembly.preprocessing.to_json(side),
                "architecture": dict(architecture),
                "space": assembly.family.name,
                "seed": assembly.recipe.seed,
                "accuracy": dict(finished.accuracies),
                "latency_predicted": finished.evaluation.metrics["latency_ms"].to_json(),
                **self.timer.origin(),
            },
        )

    def _some_images(self, side: int) -> NDArray[np.float32]:
        """Validation images as a network of this size gets them: what a file must agree with torch on."""
        images = self.assembly.images["validation"]
        found: NDArray[np.float32] = images.normalised(images.resized(side)[: sum(BATCHES)]).cpu().numpy()
        return found

    def finish(self, outcome: Outcome, limits: Sequence[Limit], *, started: float) -> Front:
        """Everything from the searched front to `front.json`.

        Args:
            outcome: Of the search.
            limits: Of the search, in the metrics' units.
            started: `time.perf_counter()` when this process began with the run.

        Raises:
            NoFeasibleError: If no member could be measured within the limits.
            ExportError: If a file does not agree with torch.
            MeasureError: If the measuring program failed, no member could be timed, or a kit has to be carried to the
                device first.
            NonFiniteLossError: If a training diverged.
            TableError: If the kit's results are of another machine than the table.
        """
        assembly = self.assembly
        succeeded = [evaluation for evaluation in outcome.newest if evaluation.status == "ok"]
        predicted = {cost.name for cost in self.study.costs}
        cheap = next((objective for objective in assembly.objectives if objective.name in predicted), None)
        picked = chosen(
            succeeded,
            assembly.objectives,
            assembly.recipe.members.count,
            cheap=cheap,
            noise=self._noise(succeeded),
            guesses=self._guesses,
        )
        largest_first = sorted(picked, key=lambda one: (-one["macs"], one.architecture.to_json()))
        waiting = [(evaluation, "member") for evaluation in largest_first]
        left_out = []
        if assembly.recipe.members.default_epochs:
            default = self._default()
            if default.status == "ok":
                waiting.insert(0, (default, "default"))
            else:
                left_out = [{"role": "default", "digest": default.architecture.digest, "reason": default.reason}]
                self.teller.say(f"the default network is left out: {default.reason}")
        finished: list[Finished] = []
        teaches = assembly.recipe.members.epochs and assembly.recipe.members.teacher_weight
        if teaches:
            # The others learn from the largest, so it comes first, beside the default network if there is one.
            first = len(waiting) - len(picked) + 1
            self.teller.stage("train the largest member, the teacher of the others")
            finished, waiting = self.train(waiting[:first]), waiting[first:]
        if waiting:
            self.teller.stage(f"train {counted(len(waiting), 'network')} further")
            finished += self.train(waiting, teacher=finished[-1] if teaches else None)
        self.teller.stage("export and check against torch")
        exported = []
        for n, one in enumerate(finished, start=1):
            exported.append(self.export(one))
            self.teller.progress(n, len(finished), exported[-1].path.name)
        written = list(zip(finished, exported, strict=True))
        times = self.timer.time({
            file.path.stem: Untimed(file.path, one.evaluation.metrics["latency_ms"]) for one, file in written
        })
        members = [self._member(one, file, times) for one, file in written if file.path.stem in times.latency]
        if not members:
            raise MeasureError(
                f"{assembly.run_folder}: not one of {len(written)} trained networks could be timed on "
                f"{assembly.device.name}, so there is no front",
                hint="the warnings above name the reason of each; run the same command again to time them again",
            )
        facts = self._facts(outcome, picked, times, members, left_out=left_out)
        front = Front(assembly.run_folder, tuple(assembly.objectives), tuple(limits), tuple(members), facts).marked()
        if not front.on_front:
            raise NoFeasibleError(
                f"{assembly.run_folder}: of {counted(len(members), 'trained network')} none keeps "
                f"{' and '.join(map(str, limits))}",
                hint="set the limit a little above what you need, or search with more members",
            )
        learnt = self.timer.learn(front.members)
        seconds = round(time.perf_counter() - started, 1)
        front = replace(front, facts={**facts, "refit": learnt.facts, "seconds_of_this_process": seconds})
        front.save()
        self._clear(front)
        # After the front: a run cut off between is whole without it. And into the run's folder, not beside the table:
        # the next run of an equal recipe shall predict the same, until somebody asks for the new fit.
        learnt.save(assembly.run_folder / assembly.table_path.name)
        return front

    def _default(self) -> Evaluation:
        """The default network with all that is known before its training; failed if a metric of the user's own is.

        Those are asked for as in the search: within the time limit of an evaluation, in a process where that had some.
        """
        recipe, architecture = self.assembly.recipe, self.assembly.family.default()
        known = {cost.name: cost(architecture) for cost in self.study.costs}
        metrics = recipe.own_metrics()
        if not metrics:
            return Evaluation(architecture, known)
        limits = recipe.evaluation
        own = OwnMetrics(metrics, self.assembly.build_network)
        job = Job(architecture, FULL, None, seed_of(recipe.seed, "default"))
        with Workers(own, workers=limits.workers, threads=limits.threads, seconds=limits.seconds) as workers:
            [answered] = workers.answers([job])
        found = known | {name: value for name, value in answered.metrics.items() if isinstance(value, Metric)}
        return Evaluation(architecture, found, status="failed" if answered.failure else "ok", reason=answered.failure)

    def _clear(self, front: Front) -> None:
        """Delete files of members that are not on the front any more: of an earlier final training."""
        kept = {name for member in front.members for name in (member.onnx, member.weights)}
        for path in sorted((front.folder / "members").iterdir()):
            if path.suffix in (".onnx", ".safetensors") and f"members/{path.name}" not in kept:
                path.unlink()

    def _noise(self, evaluations: Sequence[Evaluation]) -> float:
        """By how much the first accuracy among the objectives must differ to differ; 0 where there is none."""
        name = next((o.name for o in self.assembly.objectives if o.name in SHARES), None)
        if name is None or not evaluations:
            return 0.0
        images = len(self.assembly.images["validation"])
        errors = [
            share_error(evaluation[name], images)
            if evaluation.metrics[name].standard_error is None
            else evaluation.metrics[name].standard_error
            for evaluation in evaluations
        ]
        return TIE_ERRORS * float(np.median(np.array(errors, dtype=np.float64)))

    def _guesses(self, evaluation: Evaluation) -> bool:
        """Whether a network is no better than chance by the first accuracy among the objectives."""
        name = next(
            (o.name for o in self.assembly.objectives if o.name in evaluation.metrics and o.name in SHARES), None
        )
        if name is None:
            return False
        counts = np.bincount(self.assembly.splits.validation.labels).tolist()
        value = evaluation[name]
        return Chance.of(name, counts).explains(1 - value if name == "error" else value)

    def _hypervolume(self, outcome: Outcome) -> dict[str, Any]:
        """How the front grew, network by network, up to a reference that the space and the metrics fix, not the run."""
        objectives = self.assembly.objectives
        known = evaluated(outcome.evaluations, objectives)
        reference = self._reference([evaluation for evaluation in known if evaluation.status == "ok"])
        found = volumes(known, objectives, self.study.limits, reference)
        return {"reference": reference, "after_each_network": found}

    def _reference(self, evaluations: Sequence[Evaluation]) -> dict[str, float]:
        """By objective the worst value that counts.

        0 of an accuracy, 1 of an error; of a predicted cost 1 % beyond the largest of the space; of anything else 1 %
        beyond the worst that was seen.
        """
        costs = {cost.name: cost for cost in self.study.costs}
        found = {}
        for objective in self.assembly.objectives:
            if objective.name in SHARES:
                found[objective.name] = 1.0 if objective.name == "error" else 0.0
            elif objective.name in costs:
                found[objective.name] = 1.01 * costs[objective.name].largest()[0]
            else:
                seen = costs_of([{objective.name: one[objective.name]} for one in evaluations], [objective])
                found[objective.name] = float(objective.as_cost(reference_of(seen))[0])
        return found

    def _member(self, finished: Finished, file: Exported, times: Times) -> Member:
        evaluation, name = finished.evaluation, file.path.stem
        latency, raw_ms, resident = times.latency[name], times.raw_ms.get(name), times.resident.get(name)
        if times.conditions is not None:
            conditions = {**times.conditions, "raw_ms": raw_ms}
            add_metadata(file.path, {"latency_measured": {**latency.to_json(), "conditions": conditions}})
        shares, answered = finished.accuracies, finished.answers.get("validation")
        footprint = footprint_of(file.path, batch=self.assembly.device.batch)
        metrics = {
            # What no measurement takes the place of: counts, the user's own, and predictions for devices elsewhere.
            **{k: m for k, m in evaluation.metrics.items() if m.origin == "computed" or "@" in k},
            "latency_ms": latency,
            **{
                name: Metric(
                    value,
                    "share",
                    "measured",
                    standard_error=answered.standard_error(name) if answered else None,
                )
                for name, value in (
                    ("accuracy", shares["accuracy"]),
                    ("balanced_accuracy", shares["balanced_accuracy"]),
                    ("error", 1 - shares["accuracy"]),
                )
            },
        }
        folder = self.assembly.run_folder
        weights = file.path.with_suffix(".safetensors")
        return Member(
            architecture=evaluation.architecture,
            metrics=metrics,
            predicted={k: m for k, m in evaluation.metrics.items() if m.origin != "computed" and "@" not in k},
            test={k.removeprefix("test_"): v for k, v in shares.items() if k.startswith("test_")},
            onnx=str(file.path.relative_to(folder)),
            weights=str(weights.relative_to(folder)),
            parity=file.parity.to_json(),
            raw_latency_ms=raw_ms,
            training_seconds=finished.seconds,
            on_front=False,
            role=finished.role,
            answers=finished.answers,
            memory={
                "peak_activation_bytes": footprint.peak_activation_bytes,
                "weight_bytes": footprint.weight_bytes,
                "resident_loaded_bytes": None if resident is None else resident.loaded_bytes,
                "resident_run_bytes": None if resident is None else resident.run_bytes,
            },
            digests={
                "onnx": file_digest(file.path),
                "onnx_content": file.sha256,
                "onnx_metadata": read_metadata(file.path)["digest"]["metadata_sha256"],
                "weights": file_digest(weights),
            },
        )

    def _facts(
        self,
        outcome: Outcome,
        picked: Sequence[Evaluation],
        times: Times,
        members: Sequence[Member],
        *,
        left_out: Sequence[Mapping[str, str]],
    ) -> dict[str, Any]:
        assembly = self.assembly
        searched = {evaluation.architecture for evaluation in outcome.front}
        known = evaluated(outcome.evaluations, assembly.objectives)
        return {
            "run": assembly.recipe.name,
            "created_utc": datetime.now(UTC).isoformat(timespec="seconds"),
            "hwnas": tool_version(),
            "recipe": assembly.recipe.model_dump(mode="json"),
            "device": assembly.device.model_dump(mode="json"),
            **self.timer.origin(),
            "space": {"name": assembly.family.name, "networks": str(assembly.family.space.size)},
            "data": assembly.splits.to_json(),
            "search": {
                "reason": outcome.reason,
                "networks": len({e.architecture for e in known}),  # what the budget counts; `counts` has the rest
                "evaluations": sum(e.status != "infeasible" for e in outcome.evaluations),
                "failed": sum(e.status == "failed" for e in outcome.evaluations),
                "repeated": outcome.repeated,
                "counts": counts(outcome.evaluations),
                "weights": self._weights,
                "front_before_training": len(outcome.front),
                "hypervolume": self._hypervolume(outcome),
                "seconds": outcome.seconds,
                "notes": list(outcome.notes),
            },
            "finished": {
                "networks": len(members),
                "of_the_searched_front": sum(evaluation.architecture in searched for evaluation in picked),
                "rule": CHOICE_RULE,
                "left_out": list(left_out),
            },
            "ties": {"standard_errors": TIE_ERRORS, "latency": times.tie},
            **times.facts,
            "prediction_error": prediction_error(members),
        }


def settings_digest(recipe: Recipe, role: str, teacher: str | None) -> str:
    """Eight hex digits for what decides a final training beside the search: other settings are another training.

    Args:
        recipe: Of the run.
        role: As in `Member`.
        teacher: Phase of the network that is imitated; None without one.
    """
    members = recipe.members.model_dump(mode="json", exclude={"count", "default_epochs"})
    if role == "default":
        del members["teacher_weight"]
        members |= {"epochs": recipe.members.default_epochs, "schedule": "own" if recipe.members.epochs else "supernet"}
    return digest_of([members, teacher])[:8]


def _taken(assembly: Assembly) -> set[str]:
    """Files of a front whose members were trained by other settings: whole until the new front takes its place."""
    try:
        front = Front.load(assembly.run_folder)
        members = MembersTable.model_validate(front.facts["recipe"]["members"])
    except (StoreError, KeyError, TypeError, ValidationError):
        return set()
    return set() if members == assembly.recipe.members else {member.onnx for member in front.members}


def _steps(images: int, batch_size: int) -> int:
    """Batches in an epoch that drops the rest."""
    return max(1, images // batch_size)


def tool_version() -> str:
    """The installed version of hwnas.

    Example:
        >>> tool_version().count(".") >= 1
        True
    """
    try:
        return metadata.version("hwnas")
    except metadata.PackageNotFoundError:
        return "0.0.source"
