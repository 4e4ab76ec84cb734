import json
import random
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hwnas.core import Architecture, Budget, Limit, ReplayError, StoreError
from hwnas.evaluation import FromFunction
from hwnas.store import RunFolder, Store
from hwnas.strategies.random_search import RandomSearch
from hwnas.study import Event, Study, check_strategy
from tests.fake_torch import FakeTorch
from tests.study.toys import ACCURACY, FOUR, TINY, Counted, Numbers, Program, Sum, accuracy, asking, rows, study

ALL = list(TINY.enumerate())


class Kill(BaseException):
    pass


def kill_after(kind: str, n: int) -> Callable[[Event], None]:
    seen = 0

    def progress(event: Event) -> None:
        nonlocal seen
        seen += event.kind == kind
        if seen == n:
            raise Kill

    return progress


# --------------------------------------------------------------------------------------------------------- the basics


@pytest.mark.parametrize("n", range(1, 9))
def test_cut_within_a_batch_and_resumed_nothing_is_repeated(tmp_path: Path, n: int) -> None:
    unbroken = study(budget=Budget(evaluations=8)).run(RandomSearch())
    evaluate = Counted()
    with pytest.raises(Kill):
        study(
            evaluate=evaluate, budget=Budget(evaluations=8), folder=tmp_path, progress=kill_after("evaluation", n)
        ).run(RandomSearch())
    assert len(evaluate.asked) == n
    with study(evaluate=evaluate, budget=Budget(evaluations=8), folder=tmp_path) as searched:
        outcome = searched.run(RandomSearch())
    assert len(evaluate.asked) == len(set(evaluate.asked)) == 8
    assert rows(outcome.evaluations) == rows(unbroken.evaluations)
    assert rows(outcome.front) == rows(unbroken.front)
    assert outcome.reason == unbroken.reason


def _sleeps_for_one(architecture: Architecture) -> Mapping[str, float]:
    if architecture == ALL[1]:
        time.sleep(60)
    return accuracy(architecture)


def test_an_evaluation_that_timed_out_is_stored_as_failed_and_not_asked_again(tmp_path: Path) -> None:
    """The limit may be dropped when the run goes on, since it is no part of what the run is."""
    budget = Budget(evaluations=4)
    with study(
        evaluate=FromFunction(_sleeps_for_one), budget=budget, folder=tmp_path, evaluation_seconds=0.5
    ) as searched:
        first = searched.run(Program(asking(ALL[:4])))
    assert [e.status for e in first.evaluations] == ["ok", "failed", "ok", "ok"]
    assert first.evaluations[1].reason.startswith("timed out: no answer within 0.5 s")
    evaluate = Counted()
    with study(evaluate=evaluate, budget=budget, folder=tmp_path) as searched:
        again = searched.run(Program(asking(ALL[:4])))
    assert evaluate.asked == []
    assert rows(again.evaluations) == rows(first.evaluations)


def test_ctrl_c_keeps_what_is_complete_and_gives_the_folder_back(tmp_path: Path) -> None:
    def interrupted(architecture: Any) -> dict[str, float]:
        if len(evaluate.asked) == 6:
            raise KeyboardInterrupt
        return dict(accuracy(architecture))

    evaluate = Counted(interrupted)
    searched = study(evaluate=evaluate, folder=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        searched.run(RandomSearch())
    with study(folder=tmp_path) as again:
        assert len(again._store.evaluations()) == 5
    with pytest.raises(StoreError, match="it is closed"):
        searched.evaluate(ALL[:1])


def test_a_finished_run_says_so_and_computes_nothing(tmp_path: Path) -> None:
    """Case O-18, last sentence."""
    with study(folder=tmp_path, budget=Budget(evaluations=5)) as searched:
        first = searched.run(RandomSearch())
        searched.evaluate(ALL)  # asked for afterwards: no part of what the search found
    evaluate, events = Counted(), list[Event]()
    with study(evaluate=evaluate, folder=tmp_path, budget=Budget(evaluations=5), progress=events.append) as searched:
        second = searched.run(RandomSearch())
    assert evaluate.asked == []
    assert (first.finished_before, second.finished_before) == (False, True)
    assert (second.evaluations, second.front, second.reason, second.seconds) == (
        first.evaluations,
        first.front,
        first.reason,
        first.seconds,
    )
    assert [(event.kind, event.text) for event in events] == [
        ("finished", "this run is finished: the budget of 5 evaluations is spent")
    ]


def test_a_resumed_run_tells_how_far_it_had_come(tmp_path: Path) -> None:
    with pytest.raises(Kill):
        study(folder=tmp_path, progress=kill_after("step", 2)).run(RandomSearch())
    events: list[Event] = []
    with study(folder=tmp_path, progress=events.append) as searched:
        outcome = searched.run(RandomSearch())
        assert ("resume", "going on after 8 of 100 evaluations") in [
            (kind, text) for _, _, kind, text in searched._store.events()
        ]
    assert [event.text for event in events if event.kind == "resume"] == ["going on after 8 of 100 evaluations"]
    assert outcome.notes == ("going on after 8 of 100 evaluations",)


def test_two_studies_on_one_folder_are_refused(tmp_path: Path) -> None:
    with study(folder=tmp_path), pytest.raises(StoreError, match="this process"):
        study(folder=tmp_path)
    study(folder=tmp_path).close()


# ------------------------------------------------------------------------------------------------- global generators


def test_global_generators_are_the_same_after_a_step_whether_it_was_computed_or_replayed(tmp_path: Path) -> None:
    """Design review 2.4."""

    def draws() -> list[float]:
        return [random.random(), float(np.random.random())]  # noqa: NPY002

    def program(searched: Study) -> list[list[float]]:
        seen = [draws()]
        searched.once("x", lambda rng: draws())
        seen.append(draws())
        searched.evaluate(ALL[:2])
        seen.append(draws())
        searched.train("net", {"net": Numbers()}, lambda k, rng: draws(), 2)
        seen.append(draws())
        return seen

    with study(folder=tmp_path, evaluate=FromFunction(lambda a: {"accuracy": draws()[0]})) as searched:
        computed = program(searched)
    with study(folder=tmp_path) as searched:
        assert program(searched) == computed
    assert len({tuple(pair) for pair in computed}) == 4


def test_generators_have_names_and_parts_of_their_own() -> None:
    searched, other = study(), study(seed=1)
    assert searched.rng("a") is searched.rng("a")
    first = [float(s.rng(name).random()) for s in (searched, other) for name in ("a", "b")]
    assert len(set(first)) == 4
    assert float(study().rng("a").random()) == first[0]


# ----------------------------------------------------------------------------------------------------- replay errors


@dataclass(frozen=True)
class Scripted:
    """Asks for what the script says: a mutable list shared by all copies, as a changed program would."""

    script: tuple[str, ...] = ()

    def search(self, searched: Study) -> None:
        for word in SCRIPT:
            match word.split(":"):
                case ["evaluate", ks]:
                    searched.evaluate([ALL[int(k)] for k in ks.split(",")])
                case ["once", name]:
                    searched.once(name, lambda rng: 1)
                case ["train", name]:
                    searched.train(name, {"net": Numbers()}, lambda k, rng: k, 2)


SCRIPT: list[str] = []


def run_script(folder: Path, *words: str, cut: int = 0) -> None:
    SCRIPT[:] = words
    with study(folder=folder, progress=kill_after("step", cut) if cut else None) as searched:
        searched.run(Scripted())


@pytest.mark.parametrize(
    ("stored", "now", "text"),
    [
        ("evaluate:0,1", "evaluate:0,2", r"step 2 of search asked for evaluate: 2 at 'full'; the stored run asked for "
         r"2 at 'full'; number 2 was \{\"depth\":1,\"k1\":5\}, now \{\"depth\":1,\"k1\":7\}"),
        ("evaluate:0", "evaluate:0,2", "asked for evaluate: 2 at .*; the stored run asked for evaluate: 1 at 'full'"),
        ("evaluate:0,1", "evaluate:0", r"number 2 was \{.*\}, now nothing"),
        ("evaluate:0", "once:x", "asked for once: 'x'; the stored run asked for evaluate: 1 at 'full'"),
        ("once:x", "once:y", "asked for once: 'y'; the stored run asked for once: 'x'"),
        ("train:a", "train:b", "asked for train: 'b'; the stored run asked for train: 'a'"),
    ],
)  # fmt: skip
def test_another_request_is_refused_with_step_and_both_requests(
    tmp_path: Path, stored: str, now: str, text: str
) -> None:
    with pytest.raises(Kill):
        run_script(tmp_path, "evaluate:3", stored, "once:end", cut=2)
    with pytest.raises(ReplayError, match=text):
        run_script(tmp_path, "evaluate:3", now, "once:end")


def test_a_program_that_ends_before_the_stored_run_did_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Kill):
        run_script(tmp_path, "evaluate:3", "once:x", "once:y", cut=2)
    with pytest.raises(ReplayError, match="the program ended after 1 step of search; the stored run has 2"):
        run_script(tmp_path, "evaluate:3")


def test_an_epoch_stored_in_another_step_is_refused(tmp_path: Path) -> None:
    SCRIPT[:] = ["train:net"]
    with pytest.raises(Kill), study(folder=tmp_path, progress=kill_after("epoch", 2)) as searched:
        searched.run(Scripted())
    with pytest.raises(ReplayError, match="epoch 1 of 'net' is asked for in step 2 of search; .* in step 1 of search"):
        run_script(tmp_path, "once:x", "train:net")


# ------------------------------------------------------------------------------------------------------- the header


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, byte for byte."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"seed": 1}, "seed: 0 stored, 1 now"),
        ({"space": FOUR, "costs": [Sum(FOUR)]}, "the space: tiny stored, four now"),
        (
            {"objectives": [ACCURACY]},
            r"the objectives: accuracy \(maximize, share\), latency_ms \(minimize, ms\) stored, accuracy \(max",
        ),
        ({"limits": [Limit("latency_ms", at_most=2)]}, "the limits: none stored, latency_ms <= 2 now"),
        ({"budget": Budget(evaluations=7)}, "the budget: 100 evaluations stored, 7 evaluations now"),
        ({"costs": [Sum(TINY, digest="remeasured")]}, "latency_ms: predicted by another table or formula than when"),
        ({"stall": 7}, "stall: 500 stored, 7 now"),
        ({"header": {"recipe": "b"}}, "recipe: a stored, b now"),
    ],
)
def test_another_study_is_refused_with_what_differs(tmp_path: Path, change: dict[str, Any], text: str) -> None:
    study(folder=tmp_path, header={"recipe": "a"}).close()
    before = contents(tmp_path)
    with pytest.raises(ReplayError, match=f"it holds another study: .*{text}.*--fresh starts over"):
        study(folder=tmp_path, **({"header": {"recipe": "a"}} | change))
    assert contents(tmp_path) == before
    study(folder=tmp_path, header={"recipe": "a"}, workers=1).close()


def test_a_header_that_is_not_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="the study's identity: its value cannot be stored"):
        study(folder=tmp_path, header={"recipe": {1, 2}})
    study(folder=tmp_path).close()


@dataclass(frozen=True)
class Sized:
    size: int = 4

    def search(self, searched: Study) -> None:
        searched.evaluate(searched.sample(self.size))


def test_another_strategy_or_other_parameters_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Kill):
        study(folder=tmp_path, progress=kill_after("step", 1)).run(Sized())
    with pytest.raises(ReplayError, match="strategy Sized: size 4 stored, 5 now"):
        study(folder=tmp_path).run(Sized(5))
    with pytest.raises(ReplayError, match="the strategy: Sized stored, RandomSearch now"):
        study(folder=tmp_path).run(RandomSearch())
    with study(folder=tmp_path) as searched:
        searched.run(Sized())


def test_edited_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Design review 2.14."""
    with pytest.raises(Kill):
        study(folder=tmp_path, progress=kill_after("step", 1)).run(Sized())
    monkeypatch.setattr("inspect.getsource", lambda kind: "class Sized: edited")
    with pytest.raises(ReplayError, match="the code of strategy Sized was changed since"):
        study(folder=tmp_path).run(Sized())


def test_edited_code_refuses_no_run_that_has_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its program is not run again, so a later version may go on with what it found."""
    with study(folder=tmp_path) as searched:
        front = searched.run(Sized()).front
    monkeypatch.setattr("inspect.getsource", lambda kind: "class Sized: edited")
    with study(folder=tmp_path) as searched:
        assert searched.run(Sized()).front == front
    with pytest.raises(ReplayError, match="strategy Sized: size 4 stored, 5 now"):
        study(folder=tmp_path).run(Sized(5))


def test_another_environment_continues_and_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Design review 2.2: the promise is then only that the run continues."""
    with pytest.raises(Kill):
        study(folder=tmp_path, progress=kill_after("step", 1)).run(RandomSearch())
    monkeypatch.setattr("hwnas.study.study.environment", lambda: {"numpy": "0.1", "cpu": "abacus"})
    events: list[Event] = []
    with study(folder=tmp_path, progress=events.append) as searched:
        outcome = searched.run(RandomSearch())
        kinds = [kind for _, _, kind, _ in searched._store.events()]
    assert kinds == ["environment", "resume", "end"]
    assert events[0].kind == "environment"
    assert "not to the bit" in events[0].text
    assert f"numpy: {np.__version__} stored, 0.1 now" in outcome.notes[0]


def test_a_strategy_that_is_refused_leaves_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On another machine, with other threads: neither is noted before the strategy is known to be the run's."""
    monkeypatch.setitem(sys.modules, "torch", FakeTorch(threads=1))
    with pytest.raises(Kill):
        study(folder=tmp_path, progress=kill_after("step", 1)).run(Sized())

    def stored() -> tuple[object, object]:
        with Store.snapshot(tmp_path) as found:
            return found.header(), found.events()

    before = stored()
    monkeypatch.setattr("hwnas.study.study.environment", lambda: {"numpy": "0.1", "cpu": "abacus"})
    monkeypatch.setitem(sys.modules, "torch", FakeTorch(threads=2))
    with pytest.raises(ReplayError, match="strategy Sized: size 4 stored, 5 now"):
        study(folder=tmp_path).run(Sized(5))
    assert stored() == before
    with RunFolder(tmp_path) as held, pytest.raises(ReplayError, match="strategy Sized: size 4 stored, 5 now"):
        check_strategy(Sized(5), held)
    with RunFolder(tmp_path) as held:
        check_strategy(Sized(), held)


def test_torch_threads_are_restored_from_the_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = FakeTorch(threads=1)
    with study(folder=tmp_path) as searched:
        searched.once("before torch", lambda rng: 1)
        monkeypatch.setitem(sys.modules, "torch", torch)
        searched.once("after", lambda rng: 1)
        assert searched._store.header()["torch_threads"] == 1
    torch.threads = 2
    with study(folder=tmp_path) as searched:
        searched.once("before torch", lambda rng: 1)
        assert torch.threads == 1
        assert searched._notes == [
            "the run keeps the 1 torch thread that it began with, and 2 is not used: another number would change the "
            "last bits of its results"
        ]


def test_a_stored_number_of_threads_that_the_machine_cannot_have_is_said_and_not_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = FakeTorch(threads=2)
    monkeypatch.setitem(sys.modules, "torch", torch)
    with study(folder=tmp_path) as searched:
        searched._store.set_header("torch_threads", 1_000_000)
    with study(folder=tmp_path) as searched:
        searched.once("first", lambda rng: 1)
        assert torch.threads == 2
        [note] = searched._notes
        assert note.startswith("the run began with 1000000 torch threads; this machine can have at most ")
        assert "it goes on with 2, so not to the bit" in note


def test_the_store_is_plain_json_in_sqlite(tmp_path: Path) -> None:
    with study(folder=tmp_path, budget=Budget(evaluations=4)) as searched:
        searched.run(Program(asking(ALL[:4])))
        header = searched._store.header()
    assert set(header) == {"identity", "environment", "strategy", "outcome"} | ({"torch_threads"} & set(header))
    assert json.loads(json.dumps(header)) == header
    assert header["outcome"]["evaluations"] == 4


@dataclass(frozen=True)
class Drawing:
    """Random networks; `newer` stands for an option that a later version of a strategy has gained."""

    n: int = 4
    newer: bool = True

    def search(self, searched: Study) -> None:
        searched.evaluate(searched.sample(self.n if self.newer else 1))


def test_a_finished_run_is_opened_though_its_strategy_has_gained_an_option(tmp_path: Path) -> None:
    first = study(folder=tmp_path).run(Drawing())
    with Store(tmp_path) as store:
        strategy = store.header()["strategy"]
        del strategy["parameters"]["newer"]
        store.set_header("strategy", strategy)
    again = study(folder=tmp_path).run(Drawing())
    assert again.finished_before and rows(again.evaluations) == rows(first.evaluations)
    with pytest.raises(ReplayError, match="n 4 stored, 5 now"):
        study(folder=tmp_path).run(Drawing(n=5))
