"""A recipe: what to search, on what, for which device, with what effort. One file in search/, read once at the edge."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from hwnas.core import (
    LARGEST_WHOLE,
    Budget,
    HwnasError,
    Limit,
    Objective,
    RecipeError,
    check_name,
    check_whole,
    parse_toml,
    read_text,
)
from hwnas.core.errors import did_you_mean
from hwnas.core.escaping import command_line
from hwnas.core.objective import METRICS
from hwnas.data import Augment, DataSource
from hwnas.device import MOST_THREADS
from hwnas.evaluation.own_metrics import OwnMetric
from hwnas.strategies.registry import STRATEGIES, build
from hwnas.study import Strategy
from hwnas.training import Placement, Schedule, check_kinds
from hwnas.zoo import FAMILIES, Family, family

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1, le=LARGEST_WHOLE)]
CountOrNone = Annotated[int, Field(ge=0, le=LARGEST_WHOLE)]
Threads = Annotated[int, Field(ge=1, le=MOST_THREADS)]


def _seed(value: int) -> int:
    if not 0 <= value <= LARGEST_WHOLE:
        raise ValueError(f"expected a whole number from 0 to {LARGEST_WHOLE}")
    return value


Seed = Annotated[int, AfterValidator(_seed)]


class RecipePart(BaseModel):
    """A table of a recipe: unknown keys are mistakes, and true and false are no numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, values: object) -> object:
        if isinstance(values, dict):
            for key, value in values.items():
                field = cls.model_fields.get(key)
                wanted = None if field is None else field.annotation
                if isinstance(value, bool) and wanted is not bool and _numeric(wanted):
                    fault = PydanticCustomError("no_number", "expected a number, not true or false")
                    details = InitErrorDetails(type=fault, loc=(key,), input=value)
                    raise ValidationError.from_exception_data(cls.__name__, [details])
        return values


def _numeric(annotation: object) -> bool:
    return annotation in (int, float) or any(_numeric(part) for part in get_args(annotation))


class DataTable(RecipePart):
    """`[data]`: the images. See `hwnas.data.DataSource`."""

    source: str
    path: Path | None = None
    validation: Share = 0.15
    test: Share = 0.15
    channels: Literal[1, 3] | None = None
    damaged: Literal["refuse", "skip"] = "refuse"
    limit: Count | None = None


class LimitTable(RecipePart):
    """`[limits.NAME]`: a hard bound in the metric's unit, or in per cent.

    "60 %" of an accuracy or an error is 0.6; of what is predicted it is 60 % of the largest value in the space.
    With `safe` a prediction must keep it with the far end of its 90 % band, not with its value alone.
    """

    at_most: float | str | None = None
    at_least: float | str | None = None
    safe: bool = False


class MetricTable(RecipePart):
    """`[metrics.NAME]`: a metric of your own, to be an objective or to have limits.

    `function` is "file.py:function", from the current folder: it takes the architecture and the plain network, and
    returns a number in `unit`.
    """

    function: str
    direction: Literal["minimize", "maximize"] = "minimize"
    unit: str = ""


class BudgetTable(RecipePart):
    """`[budget]`: what ends the search."""

    evaluations: Count | None = None
    minutes: Positive | None = None


class AugmentTable(RecipePart):
    """`[augment]`: random changes of training images. See `hwnas.data.Augment`."""

    shift: Share = 0.0
    flip: bool = False
    cutout: Share = 0.0
    fill: Literal["black", "edge"] = "black"


class TrainingTable(RecipePart):
    """`[training]`: the supernet.

    `rule` is what a step trains: "sandwich" the largest, the smallest and `random_networks` between, which learn from
    the largest; "single_path" only `random_networks`, from the labels; "block_wise" trains the largest alone for
    `teacher_epochs`, then for `epochs` every section of `random_networks` to answer as the largest network's does from
    the same features. `draw` is how these are drawn: "uniform", or "fair", no option twice in a step before every other
    once, or "cost_bins", as often from cheap and dear networks by multiply-adds as from those between. `progressive`
    names kinds of decisions (ends of labels, as "kernel") whose options join one after another over the first half of
    the epochs, the largest network's first. `distillation` is how the sandwich's networks learn from the largest: "kl",
    or "alpha", AlphaNet's. `average` is as in `hwnas.training.Schedule`. `processor` and `precision` hold for all
    training of the run, see `hwnas.training.Placement`; they say nothing of the device searched for.
    """

    rule: Literal["sandwich", "single_path", "block_wise"] = "sandwich"
    epochs: Count = 10
    teacher_epochs: Count = 5
    batch_size: Count = 128
    learning_rate: Positive = 0.2
    warmup: Share = 0.05
    momentum: Share = 0.9
    weight_decay: Annotated[float, Field(ge=0)] = 3e-5
    clip: Positive = 5.0
    average: Share = 0.0
    label_smoothing: Share = 0.0
    random_networks: CountOrNone = 2
    draw: Literal["uniform", "fair", "cost_bins"] = "uniform"
    progressive: tuple[str, ...] = ()
    distillation: Literal["kl", "alpha"] = "kl"
    threads: Threads | None = None
    processor: Literal["cpu", "cuda"] = "cpu"
    precision: Literal["float32", "bfloat16"] = "float32"


class AdaptationTable(RecipePart):
    """`[adaptation]`: how a strategy that asks for it (`nat`) trains the supernet on.

    Defaults are those of Lu et al. 2021 (TPAMI 43(9)).
    Every step trains so many `networks`, drawn as the best of the archive are, on the labels and, with weight
    `imitation`, on the outputs of the largest network as it was before the first adaptation. The rate falls to 0 by a
    cosine in each adaptation. Momentum and clip are those of `[training]`.
    """

    networks: Count = 4
    learning_rate: Positive = 2.5e-3
    weight_decay: Annotated[float, Field(ge=0)] = 3e-4
    imitation: Annotated[float, Field(ge=0)] = 1.0


class MembersTable(RecipePart):
    """`[members]`: the networks of the front that are trained further, exported and measured.

    `teacher_weight` is the share of the loss with which all but the largest imitate the largest, trained first; with 0
    nobody waits for it.
    `default_epochs` trains the default network of the space alone, for comparison; 0 leaves it out. `compiled` compiles
    each network with torch.compile before its training, which takes a compiler and up to a minute for each.
    """

    count: Count = 6
    epochs: CountOrNone = 5
    batch_size: Count = 128
    learning_rate: Positive = 0.05
    warmup: Share = 0.05
    momentum: Share = 0.9
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    clip: Positive = 5.0
    average: Share = 0.0
    label_smoothing: Share = 0.0
    teacher_weight: Share = 0.5
    default_epochs: CountOrNone = 0
    compiled: bool = False


class EvaluationTable(RecipePart):
    """`[evaluation]`: validation of candidates.

    `weights` is what a candidate is validated with: "shared" are the supernet's, "scratch" its own, from `epochs`
    epochs with the rates of `[training]`, which is what spaces without a supernet need. `seconds` is what one
    evaluation may take, metrics of your own included: one that takes longer has failed, "timed out", and the search
    goes on. It may be set, changed or dropped when a run goes on; evaluations that are stored stay as they are.
    """

    weights: Literal["shared", "scratch"] = "shared"
    epochs: Count = 10
    workers: Threads = 1
    threads: Threads = 1
    seconds: Positive | None = None
    batch_norm_images: Count = 2048
    in_flight: Count = 4


class Recipe(RecipePart):
    """Everything that decides a run. Equal recipes on an equal machine give equal networks.

    Attributes:
        name: Of the run's folder under runs/; the file's name unless given.
        seed: Of everything random.
        device: A file in devices/.
        table: The latency table, if not the one that `hwnas profile` writes for this device and space.
        measured: Networks of this space that somebody measured on a device which cannot be reached, one JSON object a
            line (see `hwnas.cost.read_measured`): five or more set the scale of its estimate.
        objectives: Two or more metrics; `latency_ms@NAME` is the predicted latency on another device in devices/.
        limits: By metric.
        metrics: Your own, by name.
        space: `name` of a family and any of its fields.
        strategy: `name` of a strategy, or "file.py:Class" for one of the user's own, and any of its fields.

    Example:
        >>> recipe = Recipe.from_toml('''
        ... space = {name = "toy"}
        ... data = {source = "digits"}
        ... strategy = {name = "random"}
        ... budget = {evaluations = 20}
        ... ''', Path("search/first.toml"))
        >>> recipe.name, recipe.objectives
        ('first', ('accuracy', 'latency_ms'))
    """

    name: str
    seed: Seed = 0
    device: str = "this-cpu"
    table: Path | None = None
    measured: Path | None = None
    objectives: tuple[str, ...] = ("accuracy", "latency_ms")
    space: Mapping[str, Any]
    data: DataTable
    limits: Mapping[str, LimitTable] = Field(default_factory=dict)
    metrics: Mapping[str, MetricTable] = Field(default_factory=dict)
    strategy: Mapping[str, Any]
    budget: BudgetTable
    augment: AugmentTable = AugmentTable()
    training: TrainingTable = TrainingTable()
    adaptation: AdaptationTable = AdaptationTable()
    members: MembersTable = MembersTable()
    evaluation: EvaluationTable = EvaluationTable()

    @classmethod
    def load(cls, path: Path | str) -> Recipe:
        """Read and check a recipe.

        Raises:
            RecipeError: If the file is missing, is no TOML in UTF-8, or says something impossible; names key and value.
        """
        path = Path(path)
        if not path.exists():
            known = sorted(str(p) for p in path.parent.glob("*.toml")) if path.parent.is_dir() else []
            raise RecipeError(f"{path}: no such recipe", hint=f"recipes here: {', '.join(known) or 'none'}")
        return cls.from_toml(read_text(path, RecipeError, what="recipe"), path)

    @classmethod
    def from_toml(cls, text: str, path: Path) -> Recipe:
        """The recipe in a text; `path` is for its name and for messages.

        Raises:
            RecipeError: As for `load`.
        """
        content = parse_toml(text, path, RecipeError)
        if "benchmark" in content:
            raise RecipeError(
                f"{path}: searches the table that [benchmark] names, so there is nothing to profile, train or measure",
                hint=command_line("hwnas", "search", path),
            )
        try:
            recipe = cls.model_validate({"name": path.stem} | content)
        except ValidationError as error:
            raise RecipeError(f"{path}: {explain(error)}") from error
        with in_file(path):
            check_whole({key: content[key] for key in ("space", "strategy")}, RecipeError)
            recipe.check()
        return recipe

    def check(self) -> None:
        """Try everything that needs neither data nor device, so that a slip costs seconds, not a training.

        Raises:
            RecipeError: Names the table, the key and the value.
        """
        check_name(self.name)
        if len(set(self.objectives)) < len(self.objectives) or not self.objectives:
            raise RecipeError(f"objectives is {list(self.objectives)}; expected at least one, each once")
        self.own_metrics()
        for objective in self.objectives:
            self.objective(objective)
        for metric in self.limits:
            with in_table(f"limits.{metric}"):
                self.objective(metric)
        for name in (*self.objectives, *self.limits):
            if "@" in name and name.partition("@")[0] != "latency_ms":
                raise RecipeError(f'"{name}": of other devices latency_ms alone is predicted; expected latency_ms@NAME')
        for metric, limit in self.limits.items():
            with in_table(f"limits.{metric}"):
                limit_of(metric, limit, largest=self._unknown_largest if metric in self.metrics else lambda: 1.0)
        with in_table("space"):
            self.family(channels=1, classes=2)
        with in_table("data"):
            self.source()
        with in_table("strategy"):
            self.build_strategy()
        with in_table("budget"):
            self.spending()
        with in_table("augment"):
            self.augmentation()
        for table, batch_size in (("training", self.training.batch_size), ("members", self.members.batch_size)):
            if batch_size < 2:
                raise RecipeError(f"[{table}] batch_size is {batch_size}; batch norm learns from 2 images or more")
        if self.evaluation.batch_norm_images < 2:
            raise RecipeError(
                f"[evaluation] batch_norm_images is {self.evaluation.batch_norm_images}; batch norm learns from 2 "
                "images or more"
            )
        with in_table("training"):
            self.supernet_schedule()
            if self.training.rule != "sandwich" and not self.training.random_networks:
                raise RecipeError(
                    f"random_networks is 0; the {self.training.rule} rule trains nothing else: give at least 1"
                )
            check_kinds(self.family(channels=1, classes=2).space, self.training.progressive)
            draw = self.training.draw
            if draw != "uniform" and (self.training.rule == "sandwich" or self.training.progressive):
                raise RecipeError(
                    f'draw = "{draw}" goes with rule = "single_path" or "block_wise" and without progressive: the '
                    "sandwich rule has networks of its own, and options that join one by one are drawn by what has "
                    "joined"
                )
            if self.training.rule != "block_wise" and "teacher_epochs" in self.training.model_fields_set:
                raise RecipeError(
                    f'teacher_epochs = {self.training.teacher_epochs} goes with rule = "block_wise"; the rule here is '
                    f'"{self.training.rule}", which trains no teacher beforehand'
                )
        with in_table("members"):
            self.member_schedule()
            if self.evaluation.weights == "scratch" and not self.members.epochs:
                raise RecipeError(
                    'epochs is 0; with weights = "scratch" in [evaluation] members have no weights to inherit: give at '
                    "least 1"
                )

    @staticmethod
    def _unknown_largest() -> float:
        raise RecipeError("the largest value of a metric of your own is not known: give a number in its unit")

    def objective(self, name: str) -> Objective:
        """A metric that can be an objective: one that hwnas knows, or one of `[metrics]`.

        Raises:
            RecipeError: If it is neither.
        """
        if name in self.metrics:
            return Objective(name, self.metrics[name].direction, self.metrics[name].unit)
        try:
            return Objective.named(name)
        except RecipeError as error:
            own = f'a metric of your own: [metrics.{name}] with function = "file.py:function"'
            hint = "of other devices latency_ms alone is predicted: latency_ms@NAME" if "@" in name else own
            raise RecipeError(error.message, hint=hint) from error

    def own_metrics(self) -> list[OwnMetric]:
        """The metrics of `[metrics]`, with their functions found.

        Raises:
            RecipeError: If a name is taken, or a function is not there; names it.
        """
        found = []
        for name, table in self.metrics.items():
            with in_table(f"metrics.{name}"):
                if name in METRICS or not re.fullmatch(r"[A-Za-z]\w*", name):
                    raise RecipeError(f"{name} is taken or no name; expected letters, digits and underscores")
                found.append(OwnMetric.load(name, table.function, unit=table.unit))
        return found

    @property
    def devices(self) -> list[str]:
        """The further devices that objectives and limits name."""
        names = [name.partition("@")[2] for name in (*self.objectives, *self.limits)]
        return list(dict.fromkeys(name for name in names if name))

    def family(self, *, channels: int, classes: int) -> Family:
        """The space's family for some data.

        Raises:
            RecipeError: If the family's name is missing.
        """
        if "name" not in self.space:
            raise RecipeError(f"name is missing; known: {', '.join(sorted(FAMILIES))}")
        overrides = {key: value for key, value in self.space.items() if key != "name"}
        return family(str(self.space["name"]), overrides, channels=channels, classes=classes)

    def source(self) -> DataSource:
        """Where the images come from."""
        return DataSource(**self.data.model_dump())

    def build_strategy(self) -> Strategy:
        """The strategy with its parameters.

        Raises:
            RecipeError: If its name is missing.
        """
        if "name" not in self.strategy:
            raise RecipeError(
                f"name is missing; known: {', '.join(sorted(STRATEGIES))}",
                hint='a strategy of your own: name = "file.py:Class"',
            )
        return build(str(self.strategy["name"]), {key: value for key, value in self.strategy.items() if key != "name"})

    def spending(self) -> Budget:
        """What ends the search."""
        return Budget(**self.budget.model_dump())

    def augmentation(self) -> Augment:
        """Random changes of training images."""
        return Augment(**self.augment.model_dump())

    def supernet_schedule(self) -> Schedule:
        """How the supernet's weights are moved."""
        t = self.training
        return Schedule(t.epochs, t.learning_rate, t.warmup, t.momentum, t.weight_decay, t.clip, t.average)

    def placement(self) -> Placement:
        """Where networks are trained.

        Raises:
            DeviceError: If there is no such processor here.
        """
        return Placement(self.training.processor, self.training.precision)

    def candidate_schedule(self) -> Schedule:
        """How the weights of a candidate are moved that is trained from scratch."""
        t = self.training
        return Schedule(self.evaluation.epochs, t.learning_rate, t.warmup, t.momentum, t.weight_decay, t.clip)

    def adaptation_schedule(self, epochs: int) -> Schedule:
        """How an adaptation of so many epochs moves the supernet's weights."""
        t = self.training
        return Schedule(epochs, self.adaptation.learning_rate, 0.0, t.momentum, self.adaptation.weight_decay, t.clip)

    def member_schedule(self) -> Schedule | None:
        """How a member's weights are moved; None if they stay as inherited."""
        m = self.members
        if not m.epochs:
            return None
        return Schedule(m.epochs, m.learning_rate, m.warmup, m.momentum, m.weight_decay, m.clip, m.average)


def limit_of(metric: str, table: LimitTable, *, largest: Any) -> Limit:
    """The limit that a recipe means.

    Args:
        metric: Its name.
        table: What the recipe says.
        largest: Called for the largest value in the space where the bound is a share of it.

    Raises:
        RecipeError: If a bound is neither a number nor a percentage, or no value of the metric.

    Example:
        >>> limit_of("latency_ms", LimitTable(at_most="60 %"), largest=lambda: 0.5)
        Limit(name='latency_ms', at_most=0.3, at_least=None, safe=False)
        >>> limit_of("accuracy", LimitTable(at_least="90 %"), largest=lambda: 0.5)
        Limit(name='accuracy', at_most=None, at_least=0.9, safe=False)
    """
    share = metric in METRICS and METRICS[metric][1] == "share"

    def number(name: str, bound: float | str | None) -> float | None:
        if not isinstance(bound, str):
            return bound
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*%\s*", bound)
        if not match or not 0 < float(match[1]) <= 100:
            of = f'"90 %" for {metric} = 0.9' if share else '"60 %" of the largest network\'s'
            raise RecipeError(f'{name} is "{bound}"; expected a number in the metric\'s unit, or {of}')
        return float(match[1]) / 100 * (1.0 if share else float(largest()))

    at_most, at_least = number("at_most", table.at_most), number("at_least", table.at_least)
    try:
        return Limit(metric, at_most=at_most, at_least=at_least, safe=table.safe)
    except RecipeError as error:
        raise RecipeError(error.message.removeprefix(f"limit on {metric}: "), hint=error.hint) from error


def explain(error: ValidationError, model: type[BaseModel] | None = None) -> str:
    """The first fault of a recipe in one line: table, key, value, what was expected.

    Example:
        >>> try:
        ...     Recipe.model_validate({"name": "a", "budget": {"evalutions": 5}})
        ... except ValidationError as error:
        ...     explain(error)
        '[budget] unknown key "evalutions" = 5; did you mean "evaluations"?'
    """
    faults = error.errors(include_url=False)
    # A misspelt key is also reported as a missing one: say the misspelling first.
    fault = next((f for f in faults if f["type"] == "extra_forbidden"), faults[0])
    *tables, key = [part for part in fault["loc"] if part not in ("str", "float", "int")] or [""]
    where = f"[{'.'.join(map(str, tables))}] " if tables else ""
    if fault["type"] == "extra_forbidden":
        model = model or Recipe
        for table in tables:
            inner = model.model_fields[str(table)].annotation if str(table) in model.model_fields else LimitTable
            model = inner if isinstance(inner, type) and issubclass(inner, BaseModel) else LimitTable
        hint = did_you_mean(str(key), [*model.model_fields])
        return f'{where}unknown key "{key}" = {_value(fault["input"])}; {hint}'
    if fault["type"] == "missing":
        return f"{where}{key} is missing"
    message = fault["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    return f"{where}{key} is {_value(fault['input'])}; {message}"


def _value(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


@contextmanager
def in_file(path: Path) -> Iterator[None]:
    """Put the recipe's file before what goes wrong inside.

    Raises:
        RecipeError: For any error of hwnas.
    """
    try:
        yield
    except HwnasError as error:
        raise RecipeError(f"{path}: {error.message}", hint=error.hint) from error


@contextmanager
def in_table(name: str) -> Iterator[None]:
    """Put the recipe's table before what goes wrong inside.

    Raises:
        RecipeError: For any error of hwnas.
    """
    try:
        yield
    except HwnasError as error:
        message = error.message.removeprefix(f"{name}: ").removeprefix(f"{name} ")
        raise RecipeError(f"[{name}] {message}", hint=error.hint) from error
