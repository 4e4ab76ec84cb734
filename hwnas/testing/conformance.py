"""What every strategy must do, as checks on toy problems: one of the user's own is held to the same as those of hwnas.

All at once:

    from hwnas.testing.conformance import check_conformance
    from mine import Mine

    def test_mine() -> None:
        check_conformance(Mine(population=6))

As tests of pytest, one for each check:

    @pytest.mark.parametrize("check", checks_of(Mine(population=6)), ids=str)
    def test_mine(check: Check) -> None:
        check()

The checks take seconds if the parameters make a run tiny: small populations, two or three epochs. A strategy that
trains the shared weights itself (`trains_weights = True` in its class) gets a small supernet and made-up images.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import math
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hwnas.core import Architecture, Budget, HwnasError, Limit, NoFeasibleError, Objective
from hwnas.evaluation import FromFunction
from hwnas.pareto import front_of
from hwnas.space import Condition, Decision, Space
from hwnas.strategies.registry import trains_weights
from hwnas.study import Concluding, Outcome, Strategy, evaluated
from hwnas.testing import Problem, check_replay, toy201, toy201_accuracy

_ACCURACY, _LATENCY, _PARAMETERS = (Objective.named(name) for name in ("accuracy", "latency_ms", "parameters"))
_CLOCKS = ("time", "datetime")


@dataclass(frozen=True)
class Check:
    """One thing that a strategy must do. Calling it raises AssertionError if the strategy does not.

    Attributes:
        strategy: The strategy under test.
        program: Function that checks it.
    """

    strategy: Strategy
    program: Callable[[Strategy], None]

    @property
    def claim(self) -> str:
        """What the strategy must do, as one sentence."""
        return (self.program.__doc__ or "").strip().partition("\n")[0]

    def __call__(self) -> None:
        """Check it.

        Raises:
            AssertionError: If the strategy does not do it; says what it did instead.
        """
        self.program(self.strategy)

    def __str__(self) -> str:
        return self.program.__name__


def checks_of(strategy: Strategy) -> list[Check]:
    """All checks of a strategy. Their names are short, for the output of tests.

    Args:
        strategy: With parameters that make a run tiny. What `trains_weights` of its class says decides which checks
            it gets.

    Example:
        >>> from hwnas.strategies import RandomSearch
        >>> checks = checks_of(RandomSearch())
        >>> print(checks[0], "-", checks[0].claim)
        is_a_frozen_value - It is a frozen dataclass of plain parameters, which are all that it is.
        >>> checks[0]()
    """
    return [Check(strategy, program) for program in (BY_GRADIENT if trains_weights(strategy) else ONLY_EVALUATES)]


def check_conformance(strategy: Strategy) -> None:
    """Check everything that a strategy must do, and name all that it does not.

    Args:
        strategy: With parameters that make a run tiny.

    Raises:
        AssertionError: With one line for each check that failed.

    Example:
        >>> from hwnas.strategies import RandomSearch
        >>> check_conformance(RandomSearch())
    """
    checks, failed = checks_of(strategy), []
    for check in checks:
        try:
            check()
        except Exception as error:  # noqa: BLE001 - whatever the strategy raises is a failed check
            what = str(error) if isinstance(error, AssertionError) else f"{type(error).__name__}: {error}"
            failed.append(f"{check}: {check.claim} {what}")
    if failed:
        raise AssertionError(
            f"{type(strategy).__name__} fails {len(failed)} of {len(checks)} checks:\n" + "\n".join(failed)
        )


# --------------------------------------------------------------------------------------------- of every strategy


def is_a_frozen_value(strategy: Strategy) -> None:
    """It is a frozen dataclass of plain parameters, which are all that it is."""
    kind = type(strategy)
    _expect(dataclasses.is_dataclass(kind), f"{kind.__name__} is no dataclass")
    fields = {field.name: getattr(strategy, field.name) for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for name, value in fields.items():
        _expect(_is_plain(value), f"{name} is {value!r}: no number, text, truth value, None or tuple of them")
    _expect(
        kind.__dataclass_params__.frozen,  # type: ignore[attr-defined]
        f"{kind.__name__} is not frozen: write @dataclass(frozen=True)",
    )
    other = sorted({*getattr(strategy, "__dict__", {})} - {*fields})
    _expect(not other, f"it keeps {', '.join(other)} beside its fields; a run that goes on would not have it")
    copied = dataclasses.replace(strategy)  # type: ignore[type-var]
    _expect(copied == strategy and hash(copied) == hash(strategy), "equal parameters do not make equal strategies")


def reads_no_clock(strategy: Strategy) -> None:
    """It reads no clock: its file imports neither time nor datetime.

    Raises:
        AssertionError: If it imports one; names the line.
    """
    try:
        lines, _ = inspect.findsource(type(strategy))
    except (OSError, TypeError) as error:
        raise AssertionError("its source cannot be read, so it is not known; define it in a file") from error
    for node in ast.walk(ast.parse("".join(lines))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
        for name in names:
            if name.partition(".")[0] in _CLOCKS:
                file = Path(inspect.getsourcefile(type(strategy)) or "").name
                raise AssertionError(f"{file}, line {node.lineno}: imports {name}")  # type: ignore[attr-defined]


# ----------------------------------------------------------------------------------- of those that only evaluate


def goes_on_after_a_cut(strategy: Strategy) -> None:
    """A run that is cut at any step and resumed, also in another process, equals the unbroken one to the bit."""
    check_replay(strategy, budget=Budget(evaluations=20), cuts=4)


def repeats_itself(strategy: Strategy) -> None:
    """With one seed it asks for the same networks again, whatever the state of the global generators."""
    _repeats_itself(strategy, toy201(), 30)


def keeps_the_budget(strategy: Strategy) -> None:
    """It asks for no evaluation beyond the budget, and also takes budgets smaller than any population."""
    for evaluations in (1, 2, 3, 5, 33):
        _run(strategy, toy201(), evaluations)


def asks_for_legal_networks(strategy: Strategy) -> None:
    """In a space where decisions can be inactive it asks for networks of the space alone, each once."""
    outcome = _run(strategy, _chain(), 60)
    for evaluation in outcome.evaluations:
        _expect(_CHAIN.contains(evaluation.architecture), f"{evaluation.architecture} is not of the space")


def ends_when_nothing_is_left(strategy: Strategy) -> None:
    """A search in a small space ends, also in a space of a single network."""
    outcome = _run(strategy, _chain(), 500)
    _expect("budget" not in outcome.reason, f"{len(outcome.evaluations)} evaluations, and it ended as {outcome.reason}")
    alone = Problem(Space("one", (Decision("kernel", (3,)),)), FromFunction(lambda _: {"accuracy": 0.5}), (_ACCURACY,))
    found = len(_run(strategy, alone, 10).evaluations)
    _expect(found == 1, f"{found} evaluations in a space of one network")


def keeps_limits_on_predicted_costs(strategy: Strategy) -> None:
    """No network outside a limit on a predicted cost is evaluated, and one within the limits is found."""
    outcome = _run(strategy, toy201(limits=[Limit("latency_ms", at_least=1.5, at_most=2.5)]), 30)
    for evaluation in outcome.evaluations:
        if "accuracy" in evaluation.metrics:
            _expect(1.5 <= evaluation["latency_ms"] <= 2.5, f"{evaluation['latency_ms']} ms; the limits are 1.5 to 2.5")
    _expect(bool(outcome.front), "no network within the limits was found")


def finds_the_only_network_within_a_limit(strategy: Strategy) -> None:
    """A limit that a single network meets leaves that network."""
    outcome = _run(strategy, toy201(limits=[Limit("latency_ms", at_most=1.0)]), 30)
    found = [evaluation["latency_ms"] for evaluation in outcome.front]
    _expect(found == [1.0], f"the front has latencies {found}; expected [1.0]")


def keeps_limits_on_evaluated_metrics(strategy: Strategy) -> None:
    """Under a limit on a metric that only an evaluation shows, it finds networks within the limit."""
    outcome = _run(strategy, toy201(limits=[Limit("accuracy", at_least=0.85)]), 50)
    found = [evaluation["accuracy"] for evaluation in outcome.front]
    _expect(bool(found) and min(found) >= 0.85, f"the front has accuracies {found}; the limit is 0.85")


def takes_any_number_of_objectives(strategy: Strategy) -> None:
    """It searches by one, two or three objectives, and without any predicted cost."""
    for objectives in ((_LATENCY,), (_ACCURACY, _LATENCY), (_ACCURACY, _LATENCY, _PARAMETERS)):
        outcome = _run(strategy, _chain(objectives), 30)
        _expect(outcome.front == front_of(outcome.evaluations, objectives), "the front is not that of the evaluations")


def goes_on_after_failures(strategy: Strategy) -> None:
    """Evaluations that fail, or give no number, neither end the search nor lead it."""
    outcome = _run(strategy, _failing(), 60)
    for evaluation in outcome.front:
        _expect(evaluation.status == "ok", f"{evaluation.architecture} failed and is on the front")


def ends_when_everything_fails(strategy: Strategy) -> None:
    """Where every evaluation fails the search ends, and says that no network was found.

    Raises:
        AssertionError: If it ends in another way.
    """
    problem = dataclasses.replace(toy201(), evaluate=FromFunction(lambda _: {"accuracy": math.nan}))
    try:
        _run(strategy, problem, 40)
    except NoFeasibleError:
        return
    raise AssertionError("it ended as if a network had been found")


# ------------------------------------------------------------------------------ of those that search by gradient


def goes_on_after_a_cut_of_its_training(strategy: Strategy) -> None:
    """A run that is cut at any step and resumed, also in another process, equals the unbroken one to the bit."""
    check_replay(strategy, problem=_relaxed(), budget=Budget(evaluations=10), cuts=3)


def repeats_its_training(strategy: Strategy) -> None:
    """With one seed it asks for the same networks again, whatever the state of the global generators."""
    _repeats_itself(strategy, _relaxed(), 30)


def scores_with_what_it_trained(strategy: Strategy) -> None:
    """It keeps the budget, and every network is of the space and evaluated with the weights that it trained."""
    for evaluations in (1, 3, 30):
        problem = _relaxed()
        outcome = _run(strategy, problem, evaluations)
        for evaluation in outcome.evaluations:
            _expect(problem.space.contains(evaluation.architecture), f"{evaluation.architecture} is not of the space")
            trained = int((evaluation.weights or "").rpartition("@")[2] or 0)
            _expect(trained > 0, f"{evaluation.architecture} was evaluated with weights {evaluation.weights}")


def keeps_limits_while_it_trains(strategy: Strategy) -> None:
    """No network outside a limit on a predicted cost is evaluated, and one within the limits is found."""
    from hwnas.study.relaxed import differentiable_cost, spread_targets
    from hwnas.testing.relaxed import relaxed_problem

    with relaxed_problem().study(budget=Budget(evaluations=1)) as opened:
        [middle] = spread_targets(opened, differentiable_cost(opened), 1)
    outcome = _run(strategy, relaxed_problem(limits=[Limit("macs", at_most=middle)]), 30)
    for evaluation in outcome.evaluations:
        _expect(evaluation["macs"] <= middle, f"{evaluation['macs']} multiply-adds; the limit is {middle}")
    _expect(bool(outcome.front), "no network within the limit was found")


def asks_for_shared_weights(strategy: Strategy) -> None:
    """A study without shared weights refuses it with an error of hwnas, before anything is trained.

    Raises:
        AssertionError: If it runs.
    """
    for problem in (toy201(), dataclasses.replace(_relaxed(), one_shot=None)):
        try:
            _run(strategy, problem, 10)
        except HwnasError:
            continue
        raise AssertionError(f"it ran on {problem.space.name}, where there are no shared weights")


ONLY_EVALUATES: Sequence[Callable[[Strategy], None]] = (
    is_a_frozen_value,
    reads_no_clock,
    goes_on_after_a_cut,
    repeats_itself,
    keeps_the_budget,
    asks_for_legal_networks,
    ends_when_nothing_is_left,
    keeps_limits_on_predicted_costs,
    finds_the_only_network_within_a_limit,
    keeps_limits_on_evaluated_metrics,
    takes_any_number_of_objectives,
    goes_on_after_failures,
    ends_when_everything_fails,
)
"""Checks of a strategy that only asks for evaluations."""

BY_GRADIENT: Sequence[Callable[[Strategy], None]] = (
    is_a_frozen_value,
    reads_no_clock,
    goes_on_after_a_cut_of_its_training,
    repeats_its_training,
    scores_with_what_it_trained,
    keeps_limits_while_it_trains,
    asks_for_shared_weights,
)
"""Checks of a strategy that trains the shared weights itself."""


# -------------------------------------------------------------------------------------------------- what they share


def _expect(holds: bool, otherwise: str) -> None:  # noqa: FBT001 - reads as a sentence
    if not holds:
        raise AssertionError(otherwise)


def _is_plain(value: object) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_plain, value))
    if dataclasses.is_dataclass(value):  # a strategy that is made of others
        return True
    return value is None or isinstance(value, bool | int | float | str)


def _run(strategy: Strategy, problem: Problem, evaluations: int, *, seed: int = 0) -> Outcome:
    """A run in memory, which must have kept its budget.

    Raises:
        AssertionError: If it has not, or has ended for its budget with a part of it left.
    """
    with problem.study(budget=Budget(evaluations=evaluations), seed=seed) as study:
        outcome = study.run(strategy)
    paid = {evaluation.architecture for evaluation in evaluated(outcome.evaluations, problem.objectives)}
    _expect(len(paid) <= evaluations, f"{len(paid)} networks were evaluated; the budget is {evaluations}")
    if outcome.reason.startswith("the budget") and not isinstance(strategy, Concluding):
        _expect(len(paid) == evaluations, f"{len(paid)} of {evaluations} evaluations, and {outcome.reason}")
    return outcome


def _repeats_itself(strategy: Strategy, problem: Problem, evaluations: int) -> None:
    with _global_generators(1):
        first = _asked(_run(strategy, problem, evaluations))
    with _global_generators(2):
        again = _asked(_run(strategy, problem, evaluations))
    for n, (one, other) in enumerate(zip(first, again, strict=False), start=1):
        _expect(one == other, f"network {n} is {one}, and {other} when it is run again with the same seed")
    _expect(
        len(first) == len(again), f"{len(first)} networks, and {len(again)} when it is run again with the same seed"
    )


def _asked(outcome: Outcome) -> list[str]:
    return [evaluation.architecture.to_json() for evaluation in outcome.evaluations]


@contextmanager
def _global_generators(seed: int) -> Iterator[None]:
    """Within, the global generators begin at a seed; afterwards they are as before."""
    torch = sys.modules.get("torch")
    before = random.getstate(), np.random.get_state()  # noqa: NPY002
    before_torch = None if torch is None else torch.random.get_rng_state()
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - what is checked is that this changes nothing
    if torch is not None:
        torch.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])  # noqa: NPY002
        if torch is not None:
            torch.random.set_rng_state(before_torch)


def _space_of_a_chain() -> Space:
    """Depth 1 to 3 and two decisions per block: 4 + 16 + 64 networks in 192 encodings."""
    decisions = [Decision("depth", (1, 2, 3))]
    for block in range(3):
        deep = tuple(depth for depth in (1, 2, 3) if depth > block)
        active = () if block == 0 else ((Condition("depth", deep),),)
        decisions += [Decision(f"{kind}{block}", (3, 5), active) for kind in ("kernel", "expand")]
    return Space("chain", tuple(decisions))


_CHAIN = _space_of_a_chain()


def _chain_metrics(architecture: Architecture) -> dict[str, float]:
    size = sum(float(option) for option in architecture.values())
    return {"accuracy": 1 - 1 / size, "latency_ms": size + 0.1 * len(architecture), "parameters": size**2}


def _chain(objectives: tuple[Objective, ...] = (_ACCURACY, _LATENCY)) -> Problem:
    return Problem(_CHAIN, FromFunction(_chain_metrics), objectives)


def _failing() -> Problem:
    """Toy201, where a fifth of all networks fails and another fifth gives no number."""

    def evaluate(architecture: Architecture) -> dict[str, float]:
        if architecture["edge01"] == "conv3":
            raise RuntimeError("out of memory")
        return {"accuracy": math.nan if architecture["edge02"] == "pool" else toy201_accuracy(architecture)}

    return dataclasses.replace(toy201(), evaluate=FromFunction(evaluate))


def _relaxed() -> Problem:
    from hwnas.testing.relaxed import relaxed_problem  # loads torch, for which a strategy of evaluations need not wait

    return relaxed_problem()
