"""The study: everything between a strategy and the world, durable by replay.

A strategy is a program that asks for evaluations, training and proposals. Each such durable step is committed to the
store before the program sees its result. A resumed run calls the program again from the top: what the store knows
comes back at once, the rest is computed. Nothing here may therefore depend on whether a step was computed or replayed:
budgets count what the *program* has asked for so far, generators are seeded by the step's number, and weights are
loaded only when something is about to be computed with them.
"""

from __future__ import annotations

import itertools
import json
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from re import fullmatch
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from hwnas.core import (
    Architecture,
    Budget,
    BudgetSpent,
    Evaluation,
    Limit,
    Metric,
    NoFeasibleError,
    Objective,
    RecipeError,
    ReplayError,
    Score,
    SpaceError,
    StoreError,
    counted,
    digest_of,
    generator,
    seed_of,
)
from hwnas.core.objective import METRICS
from hwnas.device import MOST_THREADS, allowed_cores, cgroup_quota, most_threads
from hwnas.evaluation import Answer, Evaluator, Job, Workers, seed_globals
from hwnas.evaluation.state_file import State, Stateful, load_state, save_state
from hwnas.pareto import front_of
from hwnas.space import Codes, Space
from hwnas.store import EpochRow, RunFolder, StepRow, Store
from hwnas.study import sampling
from hwnas.study.constraints import Constraints, broken
from hwnas.study.environment import (
    at_default,
    differences,
    environment,
    one_torch_thread,
    set_torch_threads,
    strategy_identity,
    torch_threads,
)
from hwnas.study.identity import Differences, identity_differences, some_of, strategy_differences
from hwnas.study.ledger import Ledger
from hwnas.study.one_shot import OneShot
from hwnas.study.outcome import FULL, Event, EventKind, Outcome, newest
from hwnas.study.strategy import JSON, Adapt, Concluding, Epoch, Phase, Strategy, Training

if TYPE_CHECKING:
    from hwnas.cost import CostModel

Part = Literal["search", "conclude", "after"]

_HOPELESS = 20  # evaluations that all fail are a broken evaluator, not bad networks
_PARTS: tuple[Part, ...] = ("search", "conclude", "after")


class Study:
    """One search: a space, where its numbers come from, what is wanted, and what may be spent.

    Args:
        space: What is searched.
        evaluate: Answers for one architecture; see `hwnas.evaluation.Evaluator`.
        objectives: What is to be as small or as large as possible, the most important first.
        limits: Hard bounds. Those on a predicted cost are checked before an evaluation, which then costs nothing.
        costs: Predict metrics without evaluating; they are stored with each evaluation.
        scores: Cheap metrics that a strategy may buy with `score`, each for a share of an evaluation.
        budget: What ends the search.
        seed: Decides everything random.
        folder: Where the run is stored and resumed from, held already or not; None keeps it in memory. Nothing is
            written there before everything has been checked.
        workers: Processes that evaluate; 1 means this one. Changes no result.
        in_flight: How many networks a strategy should ask for at once. Never taken from `workers`: it changes results.
        threads: Torch threads of each evaluation, here and in workers.
        evaluation_seconds: What one evaluation may take; one that takes longer has failed, "timed out". With a limit,
            evaluations run in processes of their own even if `workers` is 1. None for no limit.
        clock: Seconds, for what evaluations and training take.
        adapt: Trains the shared weights on, for strategies that ask for it; None where there are none.
        one_shot: Shared weights and images, for strategies that train them; None where there are none.
        stall: The search ends after asking for this many networks in a row without anything new to evaluate.
        header: What else must be equal when the run is resumed, for example the recipe and the data's digest.
        compare: Says in which parts a stored run is another than this one.
        progress: Told of everything that happens; what it raises ends the run.

    Raises:
        LimitError: If no network of the space can meet one of the limits; before anything is computed.
        RecipeError: If an argument does not make sense.
        StoreError: If the folder cannot be used.
        ReplayError: If the folder holds another study.

    Example:
        >>> from hwnas.evaluation import FromFunction
        >>> from hwnas.space import Decision
        >>> space = Space("tiny", (Decision("kernel", (3, 5, 7)),))
        >>> study = Study(
        ...     space,
        ...     evaluate=FromFunction(lambda a: {"accuracy": 0.1 * a["kernel"]}),
        ...     objectives=[Objective.named("accuracy")],
        ...     budget=Budget(evaluations=3),
        ... )
        >>> [evaluation["accuracy"] for evaluation in study.evaluate([Architecture({"kernel": 5})])]
        [0.5]
    """

    def __init__(
        self,
        space: Space,
        *,
        evaluate: Evaluator,
        objectives: Sequence[Objective],
        budget: Budget,
        limits: Sequence[Limit] = (),
        costs: Sequence[CostModel] = (),
        scores: Sequence[Score] = (),
        seed: int = 0,
        folder: Path | str | RunFolder | None = None,
        workers: int = 1,
        in_flight: int = 4,
        threads: int = 1,
        evaluation_seconds: float | None = None,
        clock: Callable[[], float] = time.perf_counter,
        adapt: Adapt | None = None,
        one_shot: OneShot | None = None,
        stall: int = 500,
        header: Mapping[str, JSON] | None = None,
        compare: Differences = identity_differences,
        progress: Callable[[Event], None] | None = None,
    ) -> None:
        _check_arguments(objectives, costs, in_flight=in_flight, stall=stall, threads=threads)
        _check_scores(scores, taken={*(o.name for o in objectives), *(cost.name for cost in costs)})
        self.space = space
        self.objectives = tuple(objectives)
        self.limits = tuple(limits)
        self.costs = tuple(costs)
        self.scores = tuple(scores)
        self.budget = budget
        self.in_flight = in_flight
        self.seed = seed
        folder = Path(folder) if isinstance(folder, str) else folder
        self.folder = folder.folder if isinstance(folder, RunFolder) else folder
        self._constraints = Constraints(space, self.costs, self.limits)
        self._constraints.check_reachable()
        self._clock = clock
        self._adapt = adapt
        self._one_shot = one_shot
        self._stall = stall
        self._progress = progress
        self._units = {name: unit for name, (_, unit) in METRICS.items()}
        self._units |= {objective.name: objective.unit for objective in objectives}
        identity = _as_json(self._identity(threads, header or {}), "the study's identity")
        self._store = self._opened(folder, cast(dict[str, Any], identity), compare)
        self._workers = Workers(evaluate, workers=workers, threads=threads, seconds=evaluation_seconds, clock=clock)
        try:
            self._notes: list[str] = []
            self._ledger = Ledger(budget)
            self._tally = _Tally()
            self._archive: dict[str, Evaluation] = {}
            self._prices: Mapping[str, float] = {FULL: 1} | {score.name: score.price for score in self.scores}
            self._counted: set[tuple[str, str]] = set()  # fidelities and digests that the budget has paid for
            self._repeated = 0  # asked for again, and answered from the archive
            self._phases: dict[str, _Phase] = {}
            self._replayed = 0
            self._weights: str | None = None
            self._told_resume = self._environment_noted = self._threads_fixed = False
            self._stopping = self._by_name = self._of_hwnas = False
            self._start("search")
        except BaseException:
            self.close()
            raise

    def _opened(self, folder: Path | RunFolder | None, identity: dict[str, Any], compare: Differences) -> Store:
        """The store, once what it holds is known to be this study; until then nothing is written."""
        if folder is None:
            store = Store(None)
        else:
            held = folder if isinstance(folder, RunFolder) else RunFolder(folder)
            try:
                stored = held.header.get("identity")
                _refuse(self._where(), [] if stored is None else compare(stored, identity), held.paid_for)
                store = held.open()
            except BaseException:
                held.release()
                raise
        if "identity" not in store.header():
            store.set_header("identity", identity)
        return store

    def __enter__(self) -> Study:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the workers and give the folder back. Harmless when repeated; dropping the study does it too."""
        self._workers.close()
        self._store.close()

    # ------------------------------------------------------------------------------ what a strategy may ask freely

    def rng(self, name: str) -> np.random.Generator:
        """The generator of this name: the same stream in every run with the study's seed.

        Raises:
            ReplayError: If called inside a durable step, which has a generator of its own.
        """
        self._refuse_inside(f"rng({name!r})")
        if name not in self._rngs:
            self._rngs[name] = generator(self.seed, self._part, name)
        return self._rngs[name]

    def sample(self, n: int, rng: np.random.Generator | None = None) -> list[Architecture]:
        """Different networks that meet the limits on predicted costs, uniform over options where that can be.

        Args:
            n: How many; fewer come back only when the space seems to hold no more.
            rng: To draw from inside a durable step; by default the study's own.

        Raises:
            NoFeasibleError: If not one was found, naming the nearest.
        """
        return sampling.sample(self._constraints, n, rng if rng is not None else self.rng("study.sample"))

    def mutate(self, architecture: Architecture, rng: np.random.Generator | None = None) -> Architecture:
        """A network near this one that meets the limits on predicted costs; the same again if none was found.

        Args:
            architecture: The parent.
            rng: To draw from inside a durable step; by default the study's own.
        """
        return sampling.mutate(self._constraints, architecture, rng if rng is not None else self.rng("study.mutate"))

    def predict(self, codes: Codes) -> dict[str, NDArray[np.float64]]:
        """Every predicted cost of codes [n, decisions], by name, each [n]."""
        return self._constraints.predict(codes)

    def violation(self, codes: Codes) -> NDArray[np.float64]:
        """How far codes [n, decisions] lie outside the limits on predicted costs: shares of bounds, added up; [n]."""
        return self._constraints.violation(codes)

    def feasible(self, codes: Codes) -> NDArray[np.bool_]:
        """Which codes [n, decisions] meet every limit on a predicted cost; [n]."""
        return self._constraints.feasible(codes)

    @property
    def evaluated(self) -> list[Evaluation]:
        """What the program has asked for so far and was evaluated, at any fidelity and with any weights, in order."""
        return list(self._archive.values())

    def note(self, text: str) -> None:
        """Keep a line about the search: it is told at once, stored, and among the outcome's notes."""
        self._note("note", text)

    # ---------------------------------------------------------------------------------------------- durable steps

    def evaluate(
        self, architectures: Sequence[Architecture], fidelity: str = FULL, weights: str | None = None
    ) -> list[Evaluation]:
        """Evaluate architectures; what was evaluated before, at this fidelity with these weights, costs nothing.

        A failure is an evaluation with its reason, never an exception. A network outside a limit on a predicted cost
        comes back as infeasible, at no cost. If the budget ends within the request, the part that fits is evaluated
        and kept, and the program is ended: it does not see that part.

        Args:
            architectures: Of the space, canonical or not.
            fidelity: What the evaluator understands; only "full" is on fronts. It counts against `budget.evaluations`
                as one, a score by its price, any other not at all. A network counts once at each: under newer weights
                it costs time alone.
            weights: A phase's version; by default the one that `use_weights` named.

        Returns:
            One evaluation per architecture, in the order asked for.

        Raises:
            BudgetSpent: If the budget is spent, nothing new is being asked for, or everything fails.
            SpaceError: If an architecture is not of the space.
            ReplayError: If the stored run asked for something else here.
            StoreError: If the weights are not the newest of their phase.
        """
        weights = self._weights if weights is None else weights
        wanted = self._canonical(architectures)
        keys = [digest_of([a.to_json(), fidelity, weights]) for a in wanted]
        asked = _Asked("evaluate", fidelity, digest_of(keys), keys, wanted)
        stored = self._begin(asked)
        plan, refusal = self._plan(wanted, keys, fidelity, weights)
        if stored is None and any(question.job for question in plan):
            known = sum(question.job is None for question in plan)
            complete = known if fidelity == FULL else 0
            self._prepare_weights(weights)
            self._begin_computing(self._evaluations_in_words(complete), known=known > 0)
        charged, refused_time = self._settle(plan)
        refusal = refused_time or self._tally.hopeless() or refusal
        if refusal:
            self._end(refusal)
        self._check_stall(len(wanted), charged)
        self._commit(asked, stored, keys)
        return [self._archive[key] for key in keys]

    def score(self, architectures: Sequence[Architecture], name: str) -> list[Evaluation]:
        """Buy a score of architectures: each costs its share of an evaluation, one that was bought before nothing.

        The evaluator is asked with the score's name as the fidelity and has to return a metric of that name.

        Args:
            architectures: Of the space, canonical or not.
            name: Of one of `scores`.

        Returns:
            One evaluation per architecture, as of `evaluate`; where its status is "ok" it holds the metric.

        Raises:
            RecipeError: If this study has no such score.
            BudgetSpent: If the budget is spent, nothing new is being asked for, or everything fails.
            SpaceError: If an architecture is not of the space.
            ReplayError: If the stored run asked for something else here.

        Example:
            >>> from hwnas.core import Score
            >>> from hwnas.evaluation import FromFunction
            >>> from hwnas.space import Decision
            >>> study = Study(
            ...     Space("tiny", (Decision("kernel", (3, 5, 7)),)),
            ...     evaluate=FromFunction(lambda a: {"accuracy": 0.1 * a["kernel"], "early": 0.05 * a["kernel"]}),
            ...     objectives=[Objective.named("accuracy")],
            ...     scores=[Score("early", price=0.1)],
            ...     budget=Budget(evaluations=3),
            ... )
            >>> study.score([Architecture({"kernel": 5})], "early")[0]["early"], study.spent
            (0.25, 0.1)
        """
        if name == FULL or name not in self._prices:
            names = ", ".join(score.name for score in self.scores) or "none"
            raise RecipeError(
                f'{self._where()}: the strategy buys the score "{name}"; this study has {names}',
                hint="name it in Study(scores=...), with its price",
            )
        return self.evaluate(architectures, fidelity=name)

    @property
    def spent(self) -> float:
        """What the program has spent of `budget.evaluations` so far, with the shares of an evaluation for scores."""
        return self._ledger.spent

    def train(self, name: str, state: State, epoch: Epoch, epochs: int = 1, *, every: int = 1) -> Phase:
        """Train, with a checkpoint after each epoch.

        A phase is everything trained under one name; calling again goes on with it. `state` must hold all that an
        epoch changes: every module, optimizer, schedule, baseline, average. Objects that are new under a known name
        are given the saved state. The global generators and the epoch's own are seeded by phase and epoch, so data
        order and augmentation are no state.

        Args:
            name: Of the phase: letters, digits, dots, dashes and underscores.
            state: What is saved and put back.
            epoch: Trains one epoch and returns a small JSON value, all that the program may use of it.
            epochs: How many.
            every: Epochs from one checkpoint to the next; a kill loses those since the last.

        Raises:
            BudgetSpent: If the time is spent; finished epochs are kept.
            RecipeError: If the name or a number does not make sense.
            ReplayError: If the stored run asked for something else here.
            StoreError: If the result or the state cannot be stored, or a checkpoint is gone.
        """
        _check_phase(name, epochs, every)
        phase = self._phases.setdefault(name, self._known_phase(name))
        first = phase.epochs
        asked = _Asked("train", name, digest_of([name, first, epochs, sorted(state)]), [first, epochs])
        stored = self._begin(asked)
        phase.give(state)
        results, pending = [], list[EpochRow]()
        for number in range(first + 1, first + epochs + 1):
            refusal = self._ledger.refuse_time()
            if refusal:
                self._save(phase, pending)
                self._end(refusal)
            row = self._stored_epoch(name, number)
            if row is None:
                self.restore()
                self._begin_computing(f"with {name} from epoch {number} of {first + epochs}", known=number > first + 1)
                row = self._train_epoch(name, number, epoch)
                pending.append(row)
                phase.current = True
                if number == first + epochs or len(pending) == every:
                    self._save(phase, pending)
                    pending = []
            phase.epochs = number
            phase.moment = self._next_moment()
            self._ledger.seconds += row.seconds
            results.append(row.result)
        version = f"{name}@{phase.epochs}"
        self._commit(asked, stored, version)
        return Phase(version, results)

    def train_together(self, trainings: Sequence[Training], *, workers: int = 1) -> list[Phase]:
        """Train phases that do not need each other, some at a time, with a checkpoint after each epoch of each.

        Each runs in a Python thread with one torch thread. Small networks gain little from a second thread inside an
        operator (1.2 times, on two cores here); two of them side by side run 1.6 times as fast as one after the other.

        Args:
            trainings: Of different names. They begin in this order, so give the longest first.
            workers: Threads; changes no result.

        Returns:
            What became of each, in the order given.

        Raises:
            BudgetSpent: If the time is spent when they would begin; once begun, they are trained to their end.
            RecipeError: If a name or a number does not make sense, or a name is there twice.
            ReplayError: If the stored run asked for something else here.
            StoreError: If a result or a state cannot be stored, or a checkpoint is gone.
        """
        names = [training.name for training in trainings]
        for training in trainings:
            _check_phase(training.name, training.epochs, 1)
        if len(set(names)) < len(names) or workers < 1:
            raise RecipeError(f"train_together: names {names}, workers {workers}; each name once, at least 1 worker")
        phases = [self._phases.setdefault(name, self._known_phase(name)) for name in names]
        asked = _Asked(
            "train",
            ", ".join(names),
            digest_of([[p.name, p.epochs, t.epochs, sorted(t.state)] for p, t in zip(phases, trainings, strict=True)]),
        )
        stored = self._begin(asked)
        refusal = self._ledger.refuse_time()
        if refusal:
            self._end(refusal)
        courses = []
        for phase, training in zip(phases, trainings, strict=True):
            phase.give(training.state)
            numbers = range(phase.epochs + 1, phase.epochs + training.epochs + 1)
            known = list(itertools.takewhile(bool, (self._stored_epoch(phase.name, n) for n in numbers)))
            courses.append(_Course(phase, training.epoch, numbers[-1], [row for row in known if row]))
            phase.epochs += len(known)
        if any(course.left for course in courses):
            trained = sum(len(course.rows) for course in courses)
            epochs = sum(training.epochs for training in trainings)
            what = f"after {trained} of {counted(epochs, 'epoch')} of {counted(len(courses), 'network')}"
            self.restore()
            self._begin_computing(what, known=trained > 0)
            with self._inside(asked.text()), one_torch_thread():
                self._run_together(courses, workers)
        for course in courses:
            course.phase.moment = self._next_moment()
            self._ledger.seconds += sum(row.seconds for row in course.rows)
        versions = [phase.version for phase in phases]
        self._commit(asked, stored, versions)
        return [Phase(course.phase.version, [row.result for row in course.rows]) for course in courses]

    def _run_together(self, courses: Sequence[_Course], workers: int) -> None:
        # Epochs are computed in threads; everything is stored from this one, in whatever order they end.
        waiting = deque(course for course in courses if course.left)
        running: dict[Future[tuple[JSON, float]], _Course] = {}
        with ThreadPoolExecutor(workers, thread_name_prefix="train") as pool:
            try:
                while waiting or running:
                    while waiting and len(running) < workers:
                        course = waiting.popleft()
                        running[pool.submit(self._timed_epoch, course.phase.name, course.next, course.epoch)] = course
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        course = running.pop(future)
                        result, seconds = future.result()
                        row = self._epoch_row(course.phase.name, course.next, result, seconds)
                        course.phase.current = True
                        self._save(course.phase, [row])
                        course.rows.append(row)
                        course.phase.epochs = row.epoch
                        if course.left:
                            waiting.appendleft(course)
            except BaseException:
                self._stopping = True  # the other threads look at it, so that an interrupt need not wait for them
                raise
            finally:
                pool.shutdown(wait=True, cancel_futures=True)
                self._stopping = False

    def stopping(self) -> bool:
        """Whether what runs in a thread should give up, because something else was interrupted or failed."""
        return self._stopping

    def once(self, name: str, compute: Callable[[np.random.Generator], JSON]) -> JSON:
        """Compute something that is costly or sensitive to the last bit of a float, and never again.

        Also the place to read weights oneself: whatever was given to `train` holds its trained weights in here.

        Args:
            name: For messages.
            compute: Given a generator of its own; returns a JSON value.

        Returns:
            The value as JSON gives it back (tuples as lists), computed or not.

        Raises:
            BudgetSpent: If the time is spent.
            ReplayError: If the stored run asked for something else here.
            StoreError: If the value is not JSON.
        """
        asked = _Asked("once", name, digest_of([name]))
        stored = self._begin(asked)
        refusal = self._ledger.refuse_time()
        if refusal:
            self._end(refusal)
        seconds = stored.seconds if stored else 0.0
        if stored:
            result = stored.result
        else:
            self.restore()
            self._begin_computing(f"with {name}", known=False)
            started = self._clock()
            with self._inside(f"once({name!r})"):
                value = compute(generator(self.seed, self._part, self._number, "once", name))
            seconds = max(0.0, self._clock() - started)
            result = _as_json(value, f"once({name!r})")
        self._ledger.seconds += seconds
        self._commit(asked, stored, result, seconds)
        return result

    # ---------------------------------------------------------------------------------------------------- weights

    def restore(self) -> None:
        """Make every object given to `train` hold what it was trained to.

        After a replay the objects are as the program built them: weights are loaded when something is computed with
        them, not before, and older versions than the newest are gone. So this is for the end of a program, after its
        last training; in between, read weights inside `once`, which does this by itself.

        Raises:
            StoreError: If a checkpoint is gone or damaged.
        """
        # In the order last trained: objects shared by two phases must end as the later one left them.
        for phase in sorted(self._phases.values(), key=lambda phase: phase.moment):
            if not phase.current and phase.epochs and phase.state:
                load_state(phase.state, self.checkpoint(phase.version))
            elif phase.fresh and phase.epochs:
                load_state(phase.fresh, self.checkpoint(phase.version))
            phase.current, phase.fresh = True, {}

    def checkpoint(self, version: str) -> Path:
        """The file of a version: of each phase the newest is kept.

        Raises:
            StoreError: If it is not there.
        """
        return self._store.checkpoints.existing(version)

    def load(self, version: str, state: Mapping[str, Stateful]) -> None:
        """Put a version's weights into objects; the checkpoint may hold more than these.

        Raises:
            StoreError: If the checkpoint is gone, damaged or lacks one of the objects.
        """
        load_state(state, self.checkpoint(version))

    def use_weights(self, version: str) -> None:
        """Evaluate with these shared weights from here on, where `evaluate` is not told otherwise."""
        self._weights = version

    def adapt(self, frequencies: Mapping[str, Sequence[float]], epochs: int) -> None:
        """Train the shared weights on, most often as the networks that matter, and evaluate with them from here on.

        Args:
            frequencies: By decision, how often each of its options is to be drawn; shares that sum to 1.
            epochs: How many.

        Raises:
            RecipeError: If this study's evaluator has no weights that could be trained on.
            BudgetSpent: If the time is spent.
        """
        if self._adapt is None or self._weights is None:
            raise RecipeError(
                f"{self._where()}: the strategy asks for {counted(epochs, 'epoch')} of adaptation; this study has no "
                "shared weights that could be trained on",
                hint="set adapt_epochs to 0, or give Study an adapt function",
            )
        self.use_weights(self._adapt(self, self._weights, frequencies, epochs))

    @property
    def adaptable(self) -> bool:
        """Whether networks are scored with shared weights that `adapt` can train on."""
        return self._adapt is not None and self._weights is not None

    @property
    def one_shot(self) -> OneShot:
        """Shared weights and images, for a strategy that trains them.

        Raises:
            RecipeError: If this study has none.
        """
        if self._one_shot is None:
            raise RecipeError(
                f"{self._where()}: the strategy searches by gradient and trains shared weights; this study has none",
                hint="take a strategy that only evaluates, or give Study a OneShot",
            )
        return self._one_shot

    def follow_up(self, settings: JSON) -> bool:
        """After the search: say what the steps that now follow depend on.

        If stored ones followed by other settings they are forgotten and asked for anew; what the search found stays.
        From here on a phase is known by its name alone, in whatever step it is asked for, so its name must tell
        everything that decides its training: one that was trained by equal settings is not trained again.

        Args:
            settings: A JSON value.

        Returns:
            Whether stored steps were forgotten.
        """
        self._by_name = True
        header = self._store.header()
        if header.get("follow_up") == settings:
            return False
        forgotten = self._store.steps("after") > 0
        if forgotten:
            self._store.forget_steps("after")
        self._store.set_header("follow_up", settings)
        return forgotten

    def forget_missing(self) -> None:
        """Before `run`: let phases whose weights are gone be trained anew. A run that has not ended does it by itself.

        What was evaluated with these weights is kept, and on the same machine they come out the same.
        """
        for name, version in self._store.newest_versions().items():
            path = self._store.checkpoints.path(version)
            if not path.is_file():
                self._store.forget_phase(name)
                self._note("note", f"{path} is gone: {name} is trained anew; all evaluations are kept")

    def seconds_of(self, name: str) -> float:
        """What the stored epochs of a phase took together; not for a program to branch on."""
        return self._store.seconds_of(name)

    def version(self, name: str) -> str | None:
        """The newest version of a phase that is stored, None before its first checkpoint."""
        return self._store.newest_versions().get(name)

    # ----------------------------------------------------------------------------------------------------- the run

    def run(self, strategy: Strategy, *, before: Callable[[Study], None] | None = None) -> Outcome:
        """Run a strategy to its end, or go on with a run that was cut off.

        A run that has ended before returns what it found at once. Afterwards the study can still be asked for durable
        steps (a final training of the front, say), without a budget.

        Args:
            strategy: Searches.
            before: Called at the beginning of the search; it trains the shared weights, for example. It may ask for
                durable steps, and is no part of what the run is.

        Raises:
            NoFeasibleError: If no evaluated network succeeded within the limits.
            ReplayError: If the strategy is not the stored run's, or does not ask what that asked.
            StoreError: If the store cannot be read or written.
        """
        if self._part != "search" or self._number:
            raise StoreError("study: it was used already", hint="make a new Study to run a strategy")
        try:
            self._check_strategy(strategy)
            self._note_environment()
            self._fix_threads()
            finished = self._store.header().get("outcome")
            if finished is None:
                self.forget_missing()
                outcome = self._search(strategy, before)
            else:
                outcome = self._outcome(
                    self._store.evaluations()[: finished["evaluations"]],
                    finished["reason"],
                    finished["seconds"],
                    repeated=finished.get("repeated"),
                    finished_before=True,
                )
                self._tell("finished", f"this run is finished: {outcome.reason}", done=len(outcome.evaluations))
        except BaseException:
            self.close()
            raise
        self._workers.close()
        self._start("after")
        return outcome

    def _search(self, strategy: Strategy, before: Callable[[Study], None] | None) -> Outcome:
        concluding = strategy if isinstance(strategy, Concluding) else None
        self._ledger.open(keep_reserve=concluding is not None)
        reason = self._drive(*([] if before is None else [before]), strategy.search)
        if concluding is not None and not self._tally.hopeless():
            self._start("conclude")
            self._ledger.open(keep_reserve=False)
            self._drive(concluding.conclude)
        evaluations = list(self._archive.values())
        self._store.begin_writing()
        outcome = self._outcome(evaluations, reason, self._ledger.seconds, repeated=self._repeated)
        self._store.set_header(
            "outcome",
            {
                "reason": reason,
                "evaluations": len(evaluations),
                "seconds": outcome.seconds,
                "repeated": outcome.repeated,
            },
        )
        return outcome

    def _drive(self, *programs: Callable[[Study], None]) -> str:
        # Runs one part of a strategy to its end, and says why it ended.
        try:
            for program in programs:
                program(self)
        except BudgetSpent as spent:
            reason = self._ended or spent.reason
        else:
            reason = self._ended or "the strategy ended by itself"
        stored = self._store.steps(self._part)
        if stored > self._number:
            raise ReplayError(
                f"{self._where()}: the program ended after {counted(self._number, 'step')} of {self._part}; "
                f"the stored run has {stored}",
                hint=self._other_program(),
            )
        if not any(part == self._part and kind == "end" for part, _, kind, _ in self._store.events()):
            self._store.add_event(self._part, self._number, "end", reason)
        self._tell("end", f"{self._part} ended: {reason}")
        return reason

    def _outcome(
        self,
        evaluations: list[Evaluation],
        reason: str,
        seconds: float,
        *,
        repeated: int | None,
        finished_before: bool = False,
    ) -> Outcome:
        full = newest(evaluations)
        # Limits are not passed on: whether they are met was decided, with its slack, when the status was set.
        front = front_of(full, self.objectives, ())
        if not front:
            raise NoFeasibleError(
                f"{self._where()}: no network was found that meets the limits ({reason}); {_census(full)}",
                hint="what was evaluated stays so; change the limits or the evaluator and start over with --fresh",
            )
        failed = [evaluation for evaluation in evaluations if evaluation.status == "failed"]
        notes = [*self._notes, *self._scores_in_words(evaluations)]
        if failed:
            notes.append(
                f"{len(failed)} of {counted(len(evaluations), 'evaluation')} failed; first: {failed[0].reason}"
            )
        return Outcome(front, evaluations, reason, tuple(notes), seconds, finished_before, repeated)

    # ---------------------------------------------------------------------------------------- beginning and ending

    def _start(self, part: Part) -> None:
        self._part: Part = part
        self._number = 0
        self._ended = ""
        self._unanswered = 0
        self._rngs: dict[str, np.random.Generator] = {}
        self._busy = ""
        if part == "after":
            self._ledger.open_without_end()
        seed_globals(seed_of(self.seed, part, "start"))

    def _end(self, reason: str) -> None:
        self._store.commit()
        self._ended = reason
        raise BudgetSpent(reason)

    def _begin(self, asked: _Asked) -> StepRow | None:
        # Starts a durable step; its stored row if the run has been here before.
        if self._ended:
            raise BudgetSpent(self._ended)
        self._refuse_inside(f"{asked.kind}({asked.name!r})")
        self._note_environment()
        self._number += 1
        stored = self._store.step(self._part, self._number)
        if stored is not None and (stored.kind, stored.name, stored.request) != (
            asked.kind,
            asked.name,
            asked.request,
        ):
            raise ReplayError(
                f"{self._where()}: step {self._number} of {self._part} asked for {asked.text()}; "
                f"the stored run asked for {self._stored_text(stored, asked)}",
                hint=self._other_program(),
            )
        self._replayed += stored is not None
        self._fix_threads()
        self._reseed("before")
        return stored

    def _commit(self, asked: _Asked, stored: StepRow | None, result: JSON, seconds: float = 0.0) -> None:
        """End a durable step: from here on it is never computed again."""
        if stored is None:
            self._store.add_step(
                StepRow(self._part, self._number, asked.kind, asked.name, asked.request, result, seconds)
            )
        self._reseed("after")
        if stored is None:
            self._tell("step", asked.text(), done=self._number, total=None)

    def _reseed(self, moment: str) -> None:
        # Both computed and replayed steps end with the same global generators, whatever was drawn in them.
        seed_globals(seed_of(self.seed, self._part, self._number, moment))

    def _refuse_inside(self, what: str) -> None:
        if self._busy:
            raise ReplayError(
                f"{what} was called inside {self._busy}: a replay skips what is inside, and would not see it",
                hint="ask for it before, and use the generator that is handed over",
            )

    @contextmanager
    def _inside(self, what: str) -> Iterator[None]:
        # Guards a computation that a replay skips: it must leave no trace in the program.
        before = self._drawn()
        self._busy = what
        try:
            yield
        finally:
            self._busy = ""
        if self._drawn() != before:
            raise ReplayError(
                f"{what} drew from a generator of study.rng: a replay skips it, and later draws would differ",
                hint="use the generator that is handed over",
            )

    def _drawn(self) -> dict[str, Any]:
        return {name: rng.bit_generator.state for name, rng in self._rngs.items()}

    def _begin_computing(self, where: str, *, known: bool) -> None:
        """Tell once that the store has answered all it knows, and that the weights to go on from are there.

        From here on the folder is written to: the replay has agreed.

        Args:
            where: The program is now.
            known: Whether the store had a part of this step, too.
        """
        self._store.begin_writing()
        if self._told_resume:
            return
        self._told_resume = True  # what comes after the first thing computed is new
        if self._replayed or known:
            self._note("resume", f"going on {where}")

    def _evaluations_in_words(self, known: int) -> str:
        done, most = self._ledger.evaluations + known, self.budget.evaluations
        return f"after {done} of {counted(most, 'evaluation')}" if most else f"after {counted(done, 'evaluation')}"

    # ------------------------------------------------------------------------------------------------- evaluating

    def _canonical(self, architectures: Sequence[Architecture]) -> list[Architecture]:
        try:  # all at once, ten times as quick; also turns an option 3.0 into the space's 3
            return self.space.decode(self.space.encode(architectures))
        except SpaceError:  # one of them says something about a decision that does not count
            return [self.space.canonical(architecture) for architecture in architectures]

    def _plan(
        self, wanted: Sequence[Architecture], keys: Sequence[str], fidelity: str, weights: str | None
    ) -> tuple[list[_Question], str]:
        """What is new in a request, as far as the evaluations last, and why no further."""
        plan: dict[str, _Question] = {}
        price, left = self._prices.get(fidelity, 0), self._ledger.evaluations_left
        for architecture, key in zip(wanted, keys, strict=True):
            if key in self._archive or key in plan:
                self._repeated += 1
                continue
            question = self._question(architecture, key, fidelity, weights)
            if price and question.charged and (fidelity, architecture.digest) not in self._counted:
                if left < price:
                    return list(plan.values()), self._ledger.evaluations_text()
                left = round(left - price, 9)
            plan[key] = question
        return list(plan.values()), ""

    def _question(self, architecture: Architecture, key: str, fidelity: str, weights: str | None) -> _Question:
        found = self._store.evaluation(key)
        if found is not None:
            return _Question(key, found[0], charged=found[1], stored=True)
        predicted = self._constraints.metrics(architecture)
        evaluation = Evaluation(architecture, predicted, fidelity=fidelity, weights=weights)
        reason = broken(predicted, self.limits)
        if reason:
            return _Question(key, replace(evaluation, status="infeasible", reason=reason), charged=False)
        job = Job(architecture, fidelity, weights, seed_of(self.seed, "evaluation", key))
        return _Question(key, evaluation, charged=True, job=job)

    def _settle(self, plan: Sequence[_Question]) -> tuple[int, str]:
        """Answer the questions in order; how many were charged, and why the time ended within them, if it did."""
        charged = 0
        jobs = [question.job for question in plan if question.job]
        with self._computing(jobs), closing(self._workers.answers(jobs)) as answers:
            for question in plan:
                evaluation = question.evaluation
                if question.charged:
                    refusal = self._ledger.refuse_time()
                    if refusal:
                        return charged, refusal
                if question.job:
                    evaluation = self._judged(evaluation, next(answers))
                if not question.stored:
                    evaluation = self._store.add_evaluation(question.key, evaluation, charged=question.charged)
                self._archive[question.key] = evaluation
                if question.charged:
                    charged += 1
                    network = (evaluation.fidelity, evaluation.architecture.digest)
                    if evaluation.fidelity in self._prices and network not in self._counted:
                        self._counted.add(network)
                        self._ledger.charge(self._prices[evaluation.fidelity])
                    self._ledger.seconds += evaluation.seconds
                    self._tally.add(evaluation)
                if not question.stored:
                    self._tell("evaluation", _in_words(evaluation), evaluation=evaluation)
                if self._tally.hopeless():
                    break
        return charged, ""

    @contextmanager
    def _computing(self, jobs: Sequence[Job]) -> Iterator[None]:
        self._busy = "an evaluation" if jobs else ""
        try:
            yield
        finally:  # an interrupt keeps every evaluation that is complete
            self._busy = ""
            self._store.commit()

    def _judged(self, evaluation: Evaluation, answer: Answer) -> Evaluation:
        """An evaluation with what the evaluator said."""
        metrics = dict(evaluation.metrics)
        for name, value in answer.metrics.items():
            metrics[name] = value if isinstance(value, Metric) else Metric(value, self._units.get(name, ""), "measured")
        needed = [evaluation.fidelity] if evaluation.fidelity in self._prices else []
        if evaluation.fidelity == FULL:
            needed = [objective.name for objective in self.objectives] + [limit.name for limit in self.limits]
        missing = sorted({name for name in needed if name not in metrics})
        failure = answer.failure
        if not failure and missing:
            failure = f"there is no {missing[0]} among its metrics: {', '.join(sorted(metrics))}"
        if failure:
            return replace(evaluation, status="failed", reason=failure, seconds=answer.seconds)
        reason = broken(metrics, self.limits)
        return replace(
            evaluation,
            metrics=metrics,
            status="infeasible" if reason else "ok",
            reason=reason,
            seconds=answer.seconds,
        )

    def _check_stall(self, asked: int, charged: int) -> None:
        """End a search that asks in circles: known networks cost no budget, so it would never end."""
        if charged:
            self._unanswered = 0
        elif self._part != "after":
            # One request alone never stalls: a program may ask for a large archive again.
            if self._unanswered >= self._stall:
                self._end(
                    f"nothing new in {counted(self._unanswered + asked, 'request')}: all known, or outside the limits"
                )
            self._unanswered += max(1, asked)

    # --------------------------------------------------------------------------------------------------- training

    def _known_phase(self, name: str) -> _Phase:
        # After a finished run the search is not replayed; a phase it trained goes on from where it was left.
        during = [part for part in _PARTS if part != "after"] if self._part == "after" else []
        return _Phase(name, epochs=self._store.epochs_of(name, during))

    def _stored_epoch(self, name: str, number: int) -> EpochRow | None:
        row = self._store.epoch(name, number)
        known = self._by_name and row is not None and row.part == self._part == "after"
        if row is not None and not known and (row.part, row.step) != (self._part, self._number):
            raise ReplayError(
                f"{self._where()}: epoch {number} of {name!r} is asked for in step {self._number} of {self._part}; "
                f"the stored run trained it in step {row.step} of {row.part}",
                hint=self._other_program(),
            )
        return row

    def _train_epoch(self, name: str, number: int, epoch: Epoch) -> EpochRow:
        seed_globals(seed_of(self.seed, "epoch", name, number))
        with self._inside(f"epoch {number} of {name!r}"):
            value, seconds = self._timed_epoch(name, number, epoch)
        return self._epoch_row(name, number, value, seconds)

    def _timed_epoch(self, name: str, number: int, epoch: Epoch) -> tuple[JSON, float]:
        started = self._clock()
        value = epoch(number - 1, generator(self.seed, "epoch", name, number, "rng"))
        return value, max(0.0, self._clock() - started)

    def _epoch_row(self, name: str, number: int, value: JSON, seconds: float) -> EpochRow:
        what = f"epoch {number} of {name!r}"
        result = _as_json(value, what)
        self._tell("epoch", f"{what}: {json.dumps(result):.80}", done=number, total=None)
        return EpochRow(name, number, self._part, self._number, result, seconds, None)

    def _save(self, phase: _Phase, rows: list[EpochRow]) -> None:
        if rows:
            rows[-1] = replace(rows[-1], checkpoint=f"{phase.name}@{rows[-1].epoch}")
            self._store.add_epochs(rows, partial(save_state, phase.state))

    def _prepare_weights(self, weights: str | None) -> None:
        # The weights that an evaluation is keyed with must be the weights that it sees.
        if weights is None:
            return
        for phase in self._phases.values():
            if weights.rpartition("@")[0] == phase.name and weights != phase.version:
                raise StoreError(
                    f"evaluate: weights {weights!r}, but phase {phase.name!r} is at {phase.version!r}",
                    hint="evaluate a version before training on",
                )
        self.restore()

    def _next_moment(self) -> int:
        return 1 + max((phase.moment for phase in self._phases.values()), default=0)

    # ----------------------------------------------------------------------------------------------------- header

    def _identity(self, threads: int, header: Mapping[str, JSON]) -> dict[str, Any]:
        return {
            "space": [self.space.name, self.space.digest, self.space.entries_digest],
            "objectives": [[o.name, o.direction, o.unit] for o in self.objectives],
            "limits": [
                [limit.name, limit.at_least, limit.at_most, *(["safe"] if limit.safe else [])] for limit in self.limits
            ],
            "costs": [[cost.name, cost.unit, cost.origin, cost.digest] for cost in self.costs],
            "budget": [self.budget.evaluations, self.budget.minutes, self.budget.reserve],
            **({"scores": [[score.name, score.price] for score in self.scores]} if self.scores else {}),
            "seed": self.seed,
            "in_flight": self.in_flight,
            "stall": self._stall,
            "threads": threads,
            **header,
        }

    def _check_strategy(self, strategy: Strategy) -> None:
        now, header = _identity_of(strategy), self._store.header()
        self._of_hwnas = bool(now["versions"])
        if "strategy" not in header:
            self._store.set_header("strategy", now)
            return
        _check_same_strategy(self._where(), header, strategy, self._store.paid_for())
        if "outcome" not in header and "versions" not in header["strategy"] and now["versions"]:
            self._store.set_header("strategy", now)
            self._note(
                "environment",
                f"the run began under an earlier version of hwnas; its steps so far are kept, and what follows is as "
                f"{now['name']} of this version searches",
            )

    def _other_program(self) -> str:
        """Why a program may ask for something else than the stored run, and what can be done."""
        why = (
            "another version of hwnas began this run, and can finish it"
            if self._of_hwnas
            else "the program is another, or does not keep the four rules of a strategy"
        )
        return f"{why}; {_instead(self._store.paid_for())}"

    def _note_environment(self) -> None:
        # Not when the study is made: a strategy may still be refused, and then nothing has happened to the run.
        if self._environment_noted:
            return
        self._environment_noted = True
        now = dict(environment())
        stored = self._store.header().get("environment")
        if stored is None:
            self._store.set_header("environment", now)
            return
        found = differences(stored, now)
        if found:
            self._note(
                "environment",
                f"the run goes on under other conditions, so not to the bit as it would have: {'; '.join(found)}",
            )

    def _fix_threads(self) -> None:
        """Compute with the stored run's number of torch threads: another number changes the last bits of sums."""
        now = torch_threads()
        if now is None or self._threads_fixed:
            return
        self._threads_fixed = True
        stored = self._store.header().get("torch_threads")
        if stored is None:
            self._store.set_header("torch_threads", now)
        elif stored != now and not 1 <= stored <= (most := most_threads(allowed_cores(), cgroup_quota())):
            self._note(
                "environment",
                f"the run began with {stored} torch threads; this machine can have at most {most}: it goes on with "
                f"{now}, so not to the bit as it would have",
            )
        elif stored != now:
            set_torch_threads(stored)
            self._note(
                "environment",
                f"the run keeps the {counted(stored, 'torch thread')} that it began with, and {now} is not used: "
                "another number would change the last bits of its results",
            )

    def _note(self, kind: EventKind, text: str) -> None:
        self._notes.append(text)
        if (self._part, self._number, kind, text) not in self._store.events():  # a resumed program says it again
            self._store.add_event(self._part, self._number, kind, text)
        self._tell(kind, text)

    # --------------------------------------------------------------------------------------------------- messages

    def _scores_in_words(self, evaluations: Sequence[Evaluation]) -> list[str]:
        texts = []
        for score in self.scores:
            of = [e for e in evaluations if e.fidelity == score.name]
            outside = {e.architecture for e in of if e.status == "infeasible" and score.name not in e.metrics}
            bought = len({e.architecture for e in of} - outside)
            if not bought:
                continue
            cost = f"{bought * score.price:.6g} evaluations"
            texts.append(f"{counted(bought, 'score')} {score.name} at {score.price:g} of an evaluation each: {cost}")
        return texts

    def _where(self) -> str:
        return str(self.folder) if self.folder else f"study of space {self.space.name}"

    def _stored_text(self, stored: StepRow, asked: _Asked) -> str:
        if stored.kind == "evaluate" == asked.kind:
            for n, key in enumerate(stored.result):
                if n >= len(asked.parts) or asked.parts[n] != key:
                    found = self._store.evaluation(key)
                    other = found[0].architecture.to_json() if found else key
                    here = asked.wanted[n].to_json() if n < len(asked.wanted) else "nothing"
                    return f"{len(stored.result)} at {stored.name!r}; number {n + 1} was {other}, now {here}"
        return _Asked(stored.kind, stored.name, stored.request, stored.result).text()

    def _tell(
        self,
        kind: EventKind,
        text: str,
        *,
        done: int | None = None,
        total: int | None = -1,
        evaluation: Evaluation | None = None,
    ) -> None:
        if self._progress is not None:
            if total == -1:
                total = self.budget.evaluations
            done = self._ledger.evaluations if done is None else done
            self._progress(Event(kind, done, total, text, evaluation, spent=self.spent))


def _instead(paid_for: str) -> str:
    """What can be done with a run that cannot go on."""
    lost = f" and throws away {paid_for}" if paid_for else ""
    return f"hwnas front shows what it has found so far; to keep both, take another name; --fresh starts over{lost}"


@dataclass(frozen=True)
class _Asked:
    """What a program asks for in one durable step."""

    kind: str
    name: str
    request: str
    parts: Any = ()
    wanted: Sequence[Architecture] = ()

    def text(self) -> str:
        match self.kind:
            case "evaluate":
                return f"evaluate: {len(self.parts)} at {self.name!r}"
            case "train":
                return f"train: {self.name!r}"
        return f"once: {self.name!r}"


@dataclass(frozen=True)
class _Question:
    """One new architecture of a request: known to the store, refused by a limit, or to be evaluated."""

    key: str
    evaluation: Evaluation
    charged: bool
    stored: bool = False
    job: Job | None = None


@dataclass
class _Tally:
    """Whether anything ever succeeds."""

    succeeded: int = 0
    failed: int = 0
    first: str = ""

    def add(self, evaluation: Evaluation) -> None:
        if evaluation.status == "failed":
            self.failed += 1
            self.first = self.first or evaluation.reason
        else:
            self.succeeded += 1

    def hopeless(self) -> str:
        if self.succeeded or self.failed < _HOPELESS:
            return ""
        return f"all of the first {self.failed} evaluations failed; the first: {self.first}"


@dataclass
class _Phase:
    """A training phase as the program knows it.

    Attributes:
        name: Its name.
        epochs: Trained so far in this pass of the program.
        state: The objects of the last call.
        current: Whether they hold the weights of `version`, rather than what the program built.
        fresh: Those of them that were not in the call before.
        moment: Orders phases by when they were last trained.
    """

    name: str
    epochs: int = 0
    state: dict[str, Stateful] = field(default_factory=dict)
    current: bool = False
    fresh: dict[str, Stateful] = field(default_factory=dict)
    moment: int = 0

    @property
    def version(self) -> str:
        return f"{self.name}@{self.epochs}"

    def give(self, state: State) -> None:
        known = self.state
        self.fresh = {name: thing for name, thing in state.items() if known.get(name) is not thing}
        self.state = dict(state)


@dataclass
class _Course:
    """One of several phases that are trained together.

    Attributes:
        phase: Its `epochs` are those trained so far.
        epoch: Trains one.
        last: Number of the last epoch.
        rows: Of this call, stored.
    """

    phase: _Phase
    epoch: Epoch
    last: int
    rows: list[EpochRow]

    @property
    def next(self) -> int:
        return self.phase.epochs + 1

    @property
    def left(self) -> int:
        return self.last - self.phase.epochs


def check_strategy(strategy: Strategy, held: RunFolder) -> None:
    """Refuse a strategy that is not the stored run's, while nothing has been written: `Study.run` refuses it later.

    Args:
        strategy: That is to go on with the run.
        held: The run's folder, not opened yet.

    Raises:
        ReplayError: If it is another, has other parameters, or its code was changed before its search ended.

    Example:
        >>> import tempfile
        >>> class Nothing:
        ...     def search(self, study: Study) -> None: ...
        >>> with RunFolder(Path(tempfile.mkdtemp()) / "new") as held:
        ...     check_strategy(Nothing(), held)
    """
    _check_same_strategy(str(held.folder), held.header, strategy, held.paid_for)


def _identity_of(strategy: Strategy) -> dict[str, Any]:
    return cast(dict[str, Any], _as_json(strategy_identity(strategy), "the study's strategy"))


def _check_same_strategy(where: str, header: Mapping[str, Any], strategy: Strategy, paid_for: str) -> None:
    stored = header.get("strategy")
    if stored is None:
        return
    default = cast(dict[str, Any], _as_json(at_default(strategy), "the study's strategy"))
    found = strategy_differences(stored, _identity_of(strategy), default, ended="outcome" in header)
    _refuse(where, found.lines, paid_for, found.way_out)


def _refuse(where: str, found: Sequence[str], paid_for: str, way_out: str = "undo the change") -> None:
    if found:
        raise ReplayError(
            f"{where}: it holds another study: {some_of(found)}",
            hint=f"to go on with it, {way_out}; {_instead(paid_for)}",
        )


def _check_phase(name: str, epochs: int, every: int) -> None:
    if not fullmatch(r"[A-Za-z0-9._-]+", name) or epochs < 1 or every < 1:
        raise RecipeError(
            f"train: name {name!r}, epochs {epochs}, every {every}; a name is letters, digits and ._-, "
            "the numbers are at least 1"
        )


def _check_arguments(
    objectives: Sequence[Objective], costs: Sequence[CostModel], *, in_flight: int, stall: int, threads: int
) -> None:
    for what, names in (("objectives", [o.name for o in objectives]), ("costs", [c.name for c in costs])):
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise RecipeError(f"study: {what} name {repeated[0]!r} twice; each metric once")
    if not objectives:
        raise RecipeError("study: there is no objective; give at least one")
    for name, value in (("in_flight", in_flight), ("stall", stall)):
        if value < 1:
            raise RecipeError(f"study: {name} is {value}; it must be at least 1")
    if not 1 <= threads <= MOST_THREADS:
        raise RecipeError(f"study: threads is {threads}; it must be from 1 to {MOST_THREADS}")


def _check_scores(scores: Sequence[Score], *, taken: set[str]) -> None:
    names = [score.name for score in scores]
    for name in names:
        if names.count(name) > 1:
            raise RecipeError(f"study: score {name!r} twice; each once")
        if name in taken:
            raise RecipeError(f"study: score {name!r} is an objective or a cost, too; a score has a name of its own")


def _as_json(value: object, what: str) -> JSON:
    # As JSON gives it back, so that the program sees the same whether it was computed or replayed.
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise StoreError(
            f"{what}: its value cannot be stored: {error}",
            hint="it must be made of finite numbers, strings, lists and maps of strings to them",
        ) from error


def _in_words(evaluation: Evaluation) -> str:
    values = ", ".join(f"{name} {evaluation[name]:.6g}" for name in sorted(evaluation.metrics))
    return f"{evaluation.architecture.digest} {evaluation.status}: {evaluation.reason or values}"


def _census(evaluations: Sequence[Evaluation]) -> str:
    """How many failed or were infeasible, and an example of each."""
    texts = []
    for status in ("failed", "infeasible"):
        reasons = [evaluation.reason for evaluation in evaluations if evaluation.status == status]
        if reasons:
            texts.append(f"{len(reasons)} {status}, for example: {reasons[0]}")
    return "; ".join(texts) or "nothing was evaluated"
