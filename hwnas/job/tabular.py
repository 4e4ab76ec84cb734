"""A search on a published table of networks: for research, in seconds, judged by the true front."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, ValidationError

from hwnas.core import (
    Architecture,
    Budget,
    DataError,
    Limit,
    Objective,
    RecipeError,
    StoreError,
    check_name,
    check_whole,
    parse_toml,
    read_text,
    write_atomically,
)
from hwnas.evaluation.benchmarks import (
    Dataset,
    Task,
    accel_nasbench,
    data_folder,
    mbv3_45,
    nas_bench_macro,
    nasbench201,
    transnasbench101,
)
from hwnas.evaluation.tabular import Benchmark
from hwnas.job.recipe import BudgetTable, Count, LimitTable, RecipePart, Seed, explain, in_file, in_table, limit_of
from hwnas.job.run_identity import strategy_files, table_differences
from hwnas.job.teller import Silent, Teller
from hwnas.pareto import Rule, hypervolume_share, pick
from hwnas.store import RunFolder, Store
from hwnas.strategies.registry import build, names_that_only_evaluate, strategy_class, trains_weights
from hwnas.study import Event, Outcome, Strategy, Study, check_strategy

SCHEMA = 1
RESULT = "tabular.json"


class NasBench201Table(RecipePart):
    """`[benchmark]` with `name = "nasbench201"`. See `hwnas.evaluation.benchmarks.nasbench201`."""

    name: Literal["nasbench201"]
    dataset: Dataset = "cifar10"
    epochs: Literal[12, 200] = 200

    def load(self, folder: Path) -> Benchmark:
        """The benchmark."""
        return nasbench201(folder, dataset=self.dataset, epochs=self.epochs)


class MacroTable(RecipePart):
    """`[benchmark]` with `name = "nas_bench_macro"`. See `hwnas.evaluation.benchmarks.nas_bench_macro`."""

    name: Literal["nas_bench_macro"]

    def load(self, folder: Path) -> Benchmark:
        """The benchmark."""
        return nas_bench_macro(folder)


class Mbv345Table(RecipePart):
    """`[benchmark]` with `name = "mbv3_45"`. See `hwnas.evaluation.benchmarks.mbv3_45`."""

    name: Literal["mbv3_45"]

    def load(self, folder: Path) -> Benchmark:
        """The benchmark."""
        return mbv3_45(folder)


class AccelTable(RecipePart):
    """`[benchmark]` with `name = "accel_nasbench"`. See `hwnas.evaluation.benchmarks.accel_nasbench`."""

    name: Literal["accel_nasbench"]

    def load(self, folder: Path) -> Benchmark:
        """The benchmark."""
        return accel_nasbench(folder)


class TransNasTable(RecipePart):
    """`[benchmark]` with `name = "transnasbench101"`. See `hwnas.evaluation.benchmarks.transnasbench101`."""

    name: Literal["transnasbench101"]
    task: Task = "class_scene"

    def load(self, folder: Path) -> Benchmark:
        """The benchmark."""
        return transnasbench101(folder, task=self.task)


class TabularRecipe(RecipePart):
    """A recipe that has `[benchmark]` in the place of a space, data and a device.

    Attributes:
        name: Of the run's folder under runs/; the file's name unless given.
        seed: Of everything random.
        objectives: Columns of the benchmark; a device follows an `@` (`latency_ms@raspi4`).
        known: Further columns that a strategy may learn from.
        scores: Cheap metrics that a strategy may buy network by network; the benchmark says at which price.
        benchmark: Which table.
        limits: By column.
        strategy: `name` of a strategy that only evaluates, or "file.py:Class" for one of the user's own, and any of
            its fields.
        budget: What ends the search.
        in_flight: Networks asked for at once.

    Example:
        >>> recipe = TabularRecipe.from_toml('''
        ... benchmark = {name = "nas_bench_macro"}
        ... objectives = ["accuracy", "macs"]
        ... strategy = {name = "random"}
        ... budget = {evaluations = 20}
        ... ''', Path("search/first.toml"))
        >>> recipe.name, recipe.benchmark.name
        ('first', 'nas_bench_macro')
    """

    name: str
    seed: Seed = 0
    objectives: tuple[str, ...] = ("accuracy", "macs")
    known: tuple[str, ...] = ("macs",)
    scores: tuple[str, ...] = ()
    benchmark: Annotated[
        NasBench201Table | MacroTable | Mbv345Table | AccelTable | TransNasTable, Field(discriminator="name")
    ]
    limits: Mapping[str, LimitTable] = Field(default_factory=dict)
    strategy: Mapping[str, Any]
    budget: BudgetTable
    in_flight: Count = 4

    @classmethod
    def from_toml(cls, text: str, path: Path) -> TabularRecipe:
        """The recipe in a text; `path` is for its name and for messages.

        Raises:
            RecipeError: If it is no TOML, or says something impossible; names key and value.
        """
        content = parse_toml(text, path, RecipeError)
        try:
            recipe = cls.model_validate({"name": path.stem} | content)
        except ValidationError as error:
            raise RecipeError(f"{path}: {explain(error, cls)}") from error
        with in_file(path):
            check_whole({"strategy": content["strategy"]}, RecipeError)
            recipe.check()
        return recipe

    def check(self) -> None:
        """Try everything that needs no table.

        Raises:
            RecipeError: Names the table, the key and the value.
        """
        check_name(self.name)
        if len(set(self.objectives)) < len(self.objectives) or "accuracy" not in self.objectives:
            raise RecipeError(f"objectives is {list(self.objectives)}; expected accuracy among them, each once")
        for metric in (*self.objectives, *self.known):
            Objective.named(metric)
        free = sorted({*self.objectives, *self.known, *self.limits} & {*self.scores})
        if free or len(set(self.scores)) < len(self.scores):
            raise RecipeError(
                f"scores is {list(self.scores)}; expected each once, and none that is an objective, known or limited"
            )
        for metric, limit in self.limits.items():
            with in_table(f"limits.{metric}"):
                Objective.named(metric)
                limit_of(metric, limit, largest=lambda: 1.0)
        with in_table("strategy"):
            self.build_strategy()
        with in_table("budget"):
            Budget(**self.budget.model_dump())

    def check_columns(self, benchmark: Benchmark) -> None:
        """That the table has every metric that is asked for.

        Raises:
            RecipeError: If it has not; names the key, and the nearest column.
        """
        for key, names in (("objectives", self.objectives), ("known", self.known)):
            for name in names:
                try:
                    benchmark.column(name)
                except DataError as error:
                    raise RecipeError(f"{key}: {error.message}") from error
        for name in self.limits:
            with in_table(f"limits.{name}"):
                benchmark.column(name)

    def build_strategy(self) -> Strategy:
        """The strategy with its parameters.

        Raises:
            RecipeError: If its name is missing, or it trains weights, which a table has not.
        """
        name = str(self.strategy.get("name", ""))
        if not name:
            raise RecipeError(f"name is missing; known: {', '.join(sorted(names_that_only_evaluate()))}")
        if trains_weights(strategy_class(name)):
            known = ", ".join(sorted(names_that_only_evaluate()))
            raise RecipeError(f'name "{name}" trains weights, and a table has none; known: {known}')
        return build(name, {key: value for key, value in self.strategy.items() if key != "name"})


def is_tabular(path: Path) -> bool:
    """Whether a recipe has `[benchmark]`; False where it cannot be read, which reading it as another will tell."""
    try:
        return "benchmark" in parse_toml(read_text(path, RecipeError, what="recipe"), path, RecipeError)
    except RecipeError:
        return False


@dataclass(frozen=True)
class TabularMember:
    """One network of the front that was found.

    Attributes:
        architecture: Canonical.
        metrics: Number by metric, as the search saw them.
        reported: Number by metric, which no search saw.
    """

    architecture: Architecture
    metrics: Mapping[str, float]
    reported: Mapping[str, float]

    @property
    def values(self) -> Mapping[str, float]:
        """Number by metric, as `hwnas.job.Member` has them."""
        return self.metrics


@dataclass(frozen=True)
class TabularFront:
    """What a search on a table found, and how much of the truth that is.

    Attributes:
        folder: The run's.
        objectives: In order.
        members: The front, the best in the first objective first.
        share: Of the true front's hypervolume, by what the search saw; scaled by the true front's best and worst, to a
            reference 0.1 beyond.
        reported_share: The same by test accuracy: of the networks chosen, against the true front by test accuracy.
        true_front: How many networks are on the true front.
        evaluations: How many networks were paid for.
        facts: How it came about: recipe, benchmark, source, reason, seconds.
    """

    folder: Path
    objectives: tuple[Objective, ...]
    members: tuple[TabularMember, ...]
    share: float
    reported_share: float
    true_front: int
    evaluations: int
    facts: Mapping[str, Any]

    @classmethod
    def load(cls, folder: Path | str) -> TabularFront:
        """What a run's folder keeps.

        Raises:
            StoreError: If there is no such file, or it is damaged.
        """
        folder = Path(folder)
        path = folder / RESULT
        try:
            row = json.loads(path.read_text(encoding="utf-8"))
            if row["schema"] != SCHEMA:
                raise StoreError(f"{path}: schema is {row['schema']}; this version reads {SCHEMA}")
            known = ("schema", "objectives", "evaluations", "true_front", "hypervolume_share", "members")
            return cls(
                folder=folder,
                objectives=tuple(Objective(**objective) for objective in row["objectives"]),
                members=tuple(
                    TabularMember(Architecture(one["architecture"]), one["metrics"], one["reported"])
                    for one in row["members"]
                ),
                share=row["hypervolume_share"],
                reported_share=row["reported_hypervolume_share"],
                true_front=row["true_front"],
                evaluations=row["evaluations"],
                facts={k: v for k, v in row.items() if k not in (*known, "reported_hypervolume_share")},
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            hint = "run hwnas search with its recipe again: it writes the file anew"
            raise StoreError(f"{path}: cannot be read: {error}", hint=hint) from error

    @property
    def on_front(self) -> list[TabularMember]:
        """All members, as `hwnas.job.Front` has those that nothing beats."""
        return list(self.members)

    def pick(self, by: Rule | Mapping[str, float] = "knee", *, limits: Sequence[Limit] = ()) -> TabularMember:
        """One network of the front; the rules are those of `hwnas.pareto.pick`.

        Raises:
            PickError: If nothing fits; names the nearest.
        """
        return self.members[pick([member.values for member in self.members], self.objectives, by=by, limits=limits)]

    def to_json(self) -> dict[str, Any]:
        """A plain map of everything."""
        return {
            "schema": SCHEMA,
            **self.facts,
            "objectives": [{"name": o.name, "direction": o.direction, "unit": o.unit} for o in self.objectives],
            "evaluations": self.evaluations,
            "true_front": self.true_front,
            "hypervolume_share": self.share,
            "reported_hypervolume_share": self.reported_share,
            "members": [
                {
                    "digest": member.architecture.digest,
                    "metrics": dict(member.metrics),
                    "reported": dict(member.reported),
                    "architecture": dict(member.architecture),
                }
                for member in self.members
            ],
        }


def search_table(
    recipe: Path,
    *,
    root: Path = Path(),
    fresh: bool = False,
    teller: Teller | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> TabularFront:
    """Run a tabular recipe, or go on where it was cut off; `runs/NAME/tabular.json` holds what it found.

    Networks are chosen by validation accuracy and reported by test accuracy.

    Args:
        recipe: A file in search/ with `[benchmark]`.
        root: The workspace.
        fresh: Throw away what the run's folder holds.
        teller: Told of progress.
        clock: Seconds, for what evaluations and proposals take.

    Raises:
        RecipeError: If the recipe is wrong or missing, or asks for a metric that the table has no column of.
        DataError: If the table is not there; names the variable.
        LimitError: If no network of the space meets a limit.
        NoFeasibleError: If no network within the limits was found.
        StoreError: If the run's folder cannot be used.
    """
    teller = teller or Silent()
    if not recipe.exists():
        raise RecipeError(f"{recipe}: no such recipe")
    r = TabularRecipe.from_toml(read_text(recipe, RecipeError, what="recipe"), recipe)
    benchmark = r.benchmark.load(data_folder(root))
    with in_file(recipe):
        r.check_columns(benchmark)
    objectives = tuple(Objective.named(name) for name in r.objectives)
    limits = _limits(r, benchmark)
    folder = root / "runs" / r.name
    with Store.snapshot(folder) as stored:
        measured = any(key.startswith("recipe.") for key in stored.header().get("identity", {}))
    if measured or (folder / "front.json").exists():
        raise StoreError(
            f"{folder}: holds a run that trains and measures networks", hint="give this recipe another name"
        )
    truth = {told: benchmark.true_front(objectives, limits, reported=told)[1] for told in (False, True)}
    budget = Budget(**r.budget.model_dump())
    teller.stage(f"search {benchmark.source} with {r.strategy['name']}")

    def listen(event: Event) -> None:
        if event.kind == "evaluation":
            teller.progress(event.done, budget.evaluations or 0, event.text)
        elif event.kind in ("resume", "environment", "note"):
            teller.say(event.text)

    strategy = r.build_strategy()
    with RunFolder(folder, fresh=fresh, files=(RESULT,)) as held:
        check_strategy(strategy, held)
        with Study(
            benchmark.space,
            evaluate=benchmark.evaluator,
            objectives=objectives,
            limits=(*benchmark.limits, *limits),
            costs=benchmark.costs((*r.objectives, *r.known, *r.limits)),
            scores=[benchmark.score(name) for name in r.scores],
            budget=budget,
            seed=r.seed,
            folder=held,
            in_flight=r.in_flight,
            clock=clock,
            header={
                "benchmark": r.benchmark.model_dump(),
                "accuracies": benchmark.columns["accuracy"].digest,
                **strategy_files(r.strategy),
            },
            compare=partial(table_differences, finished="outcome" in held.header),
            progress=listen,
        ) as study:
            outcome = study.run(strategy)
    found = _judged(r, benchmark, objectives, outcome, truth, folder)
    write_atomically(folder / RESULT, json.dumps(found.to_json(), indent=2, allow_nan=False) + "\n")
    return found


def _limits(recipe: TabularRecipe, benchmark: Benchmark) -> tuple[Limit, ...]:
    return tuple(
        limit_of(name, bounds, largest=lambda name=name: benchmark.column(name).largest()[0])
        for name, bounds in recipe.limits.items()
    )


def _judged(
    recipe: TabularRecipe,
    benchmark: Benchmark,
    objectives: tuple[Objective, ...],
    outcome: Outcome,
    truth: Mapping[bool, Any],
    folder: Path,
) -> TabularFront:
    codes = benchmark.space.encode(evaluation.architecture for evaluation in outcome.front)
    reported = {name: column.batch(codes) for name, column in sorted(benchmark.reported.items())}
    share, reported_share = (
        hypervolume_share(benchmark.costs_of(objectives, codes, reported=told), truth[told]) for told in (False, True)
    )
    members = tuple(
        TabularMember(
            evaluation.architecture,
            {name: metric.value for name, metric in evaluation.metrics.items()},
            {name: float(values[n]) for name, values in reported.items()},
        )
        for n, evaluation in enumerate(outcome.front)
    )
    return TabularFront(
        folder=folder,
        objectives=objectives,
        members=members,
        share=share,
        reported_share=reported_share,
        true_front=len(truth[False]),
        evaluations=int(np.sum(["accuracy" in evaluation.metrics for evaluation in outcome.evaluations])),
        facts={
            "run": recipe.name,
            "benchmark": recipe.benchmark.model_dump(),
            "source": benchmark.source,
            "strategy": dict(recipe.strategy),
            "seed": recipe.seed,
            "reason": outcome.reason,
            "notes": list(outcome.notes),
            "seconds": outcome.seconds,
        },
    )
