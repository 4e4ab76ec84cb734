import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hwnas.core import Architecture, Budget, BudgetSpent, NonFiniteLossError, RecipeError, ReplayError, StoreError
from hwnas.evaluation.state_file import read_state
from hwnas.study import Epoch, Phase, Study, Training
from tests.study.toys import FOUR, TINY, Numbers, Program, Ticking, study

ALL = list(TINY.enumerate())


class Kill(BaseException):
    """Ends a program as Ctrl-C would."""


def adding(*things: Numbers) -> Epoch:
    """An epoch that adds its draws and its index to each value; it returns the values."""

    def epoch(k: int, rng: np.random.Generator) -> Any:
        for thing in things:
            thing.value += k + rng.random() + np.random.random()  # noqa: NPY002 - seeded per epoch
        return [thing.value for thing in things]

    return epoch


def killed_at(epoch: Epoch, n: int) -> Epoch:
    def dying(k: int, rng: np.random.Generator) -> Any:
        if k + 1 == n:
            raise Kill
        return epoch(k, rng)

    return dying


def test_a_phase_returns_its_version_and_what_its_epochs_returned() -> None:
    net = Numbers()
    searched = study()
    first = searched.train("net", {"net": net}, adding(net), 2)
    second = searched.train("net", {"net": net}, adding(net))
    assert (first.version, second.version) == ("net@2", "net@3")
    assert len(first.result) == 2
    assert second.result == [[net.value]]
    assert searched.version("net") == "net@3"
    assert searched.version("other") is None


def test_results_come_back_as_json_gives_them() -> None:
    net = Numbers()
    assert study().train("net", {"net": net}, lambda k, rng: {"a": (k, None)}).result == [{"a": [0, None]}]


@pytest.mark.parametrize("value", [float("nan"), {1, 2}, np.float32(1.0)])
def test_a_result_that_cannot_be_stored_is_refused(value: object) -> None:
    with pytest.raises(StoreError, match="epoch 1 of 'net': its value cannot be stored"):
        study().train("net", {"net": Numbers()}, lambda k, rng: value)
    with pytest.raises(StoreError, match=r"once\('x'\): its value cannot be stored"):
        study().once("x", lambda rng: value)


@pytest.mark.parametrize(("name", "epochs", "every"), [("a/b", 1, 1), ("", 1, 1), ("a", 0, 1), ("a", 1, 0)])
def test_names_and_numbers_that_make_no_sense_are_refused(name: str, epochs: int, every: int) -> None:
    with pytest.raises(RecipeError, match=rf"name '{name}', epochs {epochs}, every {every}"):
        study().train(name, {}, lambda k, rng: None, epochs, every=every)


# --------------------------------------------------------------------------------------------------------- resuming


@pytest.mark.parametrize("every", [1, 2, 4])
@pytest.mark.parametrize("kill", [1, 3, 5, 6])
def test_a_killed_phase_goes_on_from_its_last_checkpoint(tmp_path: Path, kill: int, every: int) -> None:
    unbroken = Numbers()
    expected = study().train("net", {"net": unbroken}, adding(unbroken), 6, every=every)

    net = Numbers()
    with study(folder=tmp_path) as searched, pytest.raises(Kill):
        searched.train("net", {"net": net}, killed_at(adding(net), kill), 6, every=every)
    net, computed = Numbers(), []

    def counting(k: int, rng: np.random.Generator) -> Any:
        computed.append(k)
        return adding(net)(k, rng)

    with study(folder=tmp_path) as searched:
        assert searched.train("net", {"net": net}, counting, 6, every=every) == expected
    assert net.value == unbroken.value
    assert computed == list(range((kill - 1) // every * every, 6))
    assert net.loads == (computed[0] > 0)


def test_weights_are_not_loaded_until_something_is_computed(tmp_path: Path) -> None:
    def program(net: Numbers) -> Callable[[Study], None]:
        def search(searched: Study) -> None:
            for _ in range(3):
                searched.train("net", {"net": net}, adding(net))

        return search

    first = Numbers()
    with study(folder=tmp_path) as searched:
        program(first)(searched)
    second = Numbers()
    with study(folder=tmp_path) as searched:
        program(second)(searched)
        assert (second.loads, second.value) == (0, 0.0)
        searched.restore()
        assert (second.loads, second.value) == (1, first.value)
        searched.restore()
        assert second.loads == 1


@pytest.mark.parametrize("kill", range(1, 9))
def test_two_phases_that_share_weights_are_both_loaded_and_in_order(tmp_path: Path, kill: int) -> None:
    """Design review 2.7: one pending slot would lose one of the two; shared weights must end as the later left them."""

    def program(searched: Study, kill: int = 0) -> list[float]:
        net, a, b = Numbers(), Numbers(1.0), Numbers(2.0)
        count = 0

        def step(*things: Numbers) -> Epoch:
            def epoch(k: int, rng: np.random.Generator) -> Any:
                nonlocal count
                count += 1
                if count == kill:
                    raise Kill
                return adding(*things)(k, rng)

            return epoch

        for _ in range(2):
            searched.train("a", {"net": net, "a": a}, step(net, a))
            searched.train("b", {"net": net, "b": b}, step(net, b), 2)
            searched.train("a", {"net": net, "a": a}, step(net, a))
        searched.restore()
        return [net.value, a.value, b.value]

    expected = program(study())
    with study(folder=tmp_path) as searched, pytest.raises(Kill):
        program(searched, kill)
    with study(folder=tmp_path) as searched:
        assert program(searched) == expected


def test_new_objects_under_a_known_name_are_given_the_saved_state(tmp_path: Path) -> None:
    """As where a program makes its optimizer anew for each call: the same whether replayed or not."""

    def program(searched: Study, kill: int) -> float:
        net = Numbers()
        for _ in range(3):
            optimizer = Numbers(100.0)
            epoch = adding(net, optimizer)
            searched.train("net", {"net": net, "optimizer": optimizer}, killed_at(epoch, kill) if kill else epoch)
        searched.restore()
        return net.value + optimizer.value

    expected = program(study(), 0)
    for kill in (2, 3):
        folder = tmp_path / str(kill)
        with study(folder=folder) as searched, pytest.raises(Kill):
            program(searched, kill)
        with study(folder=folder) as searched:
            assert program(searched, 0) == expected


def test_only_the_newest_checkpoint_of_each_phase_is_kept(tmp_path: Path) -> None:
    net = Numbers()
    with study(folder=tmp_path) as searched:
        searched.train("a", {"net": net}, adding(net), 3)
        searched.train("b", {"net": net}, adding(net), 2)
        assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["a@3.ckpt", "b@2.ckpt"]
        assert searched.checkpoint("b@2") == tmp_path / "checkpoints" / "b@2.ckpt"
        with pytest.raises(StoreError, match="the weights a@2 are not there; kept: a@3, b@2"):
            searched.checkpoint("a@2")


def test_load_puts_part_of_a_checkpoint_into_other_objects() -> None:
    net, other = Numbers(), Numbers()
    searched = study()
    version = searched.train("net", {"net": net, "more": Numbers()}, adding(net)).version
    searched.load(version, {"net": other})
    assert other.value == net.value
    with pytest.raises(StoreError, match=r"net@1\.ckpt: it holds no 'teacher', only more, net"):
        searched.load(version, {"teacher": other})


# ------------------------------------------------------------------------------------------- weights in evaluations


def test_an_evaluation_after_a_replay_sees_the_trained_weights(tmp_path: Path) -> None:
    def run(folder: Path | None, kill: int) -> list[float]:
        net, asked = Numbers(), 0

        def evaluate(architecture: Architecture, *, fidelity: str, weights: str | None, seed: int) -> dict[str, float]:
            nonlocal asked
            asked += 1
            if asked == kill:
                raise Kill
            return {"accuracy": net.value / 100}

        with study(evaluate=evaluate, folder=folder) as searched:
            phase = searched.train("net", {"net": net}, adding(net), 2)
            return [e["accuracy"] for e in searched.evaluate(ALL[:3], weights=phase.version)]

    expected = run(None, 0)
    with pytest.raises(Kill):
        run(tmp_path, 2)
    assert run(tmp_path, 0) == expected
    assert len(set(expected)) == 1


def test_use_weights_is_the_default_of_later_evaluations() -> None:
    net = Numbers()
    searched = study()
    searched.use_weights(searched.train("net", {"net": net}, adding(net)).version)
    assert [e.weights for e in searched.evaluate(ALL[:2])] == ["net@1", "net@1"]
    assert searched.evaluate(ALL[:1], weights="other")[0].weights == "other"


def test_weights_that_were_trained_on_are_not_mistaken_for_the_old() -> None:
    net = Numbers()
    searched = study()
    old = searched.train("net", {"net": net}, adding(net))
    before = searched.evaluate(ALL[:1], weights=old.version)
    searched.train("net", {"net": net}, adding(net))
    assert searched.evaluate(ALL[:1], weights=old.version) == before
    with pytest.raises(StoreError, match="weights 'net@1', but phase 'net' is at 'net@2'"):
        searched.evaluate(ALL[:2], weights=old.version)


# ----------------------------------------------------------------------------------------------------- what goes wrong


def test_a_loss_that_is_not_finite_leaves_the_last_good_checkpoint(tmp_path: Path) -> None:
    """Case O-16, as far as the study goes."""
    net = Numbers()

    def diverging(k: int, rng: np.random.Generator) -> Any:
        net.value = k + 1.0
        if k == 2:
            net.value = float("nan")
            raise NonFiniteLossError("epoch 3, step 5: the loss is nan")
        return net.value

    with pytest.raises(NonFiniteLossError), study(folder=tmp_path) as searched:
        searched.train("net", {"net": net}, diverging, 5)
    [file] = (tmp_path / "checkpoints").iterdir()
    assert read_state(file) == {"net": {"value": 2.0}}


def test_a_damaged_checkpoint_says_so(tmp_path: Path) -> None:
    net = Numbers()
    with study(folder=tmp_path) as searched, pytest.raises(Kill):
        searched.train("net", {"net": net}, killed_at(adding(net), 3), 5)
    (tmp_path / "checkpoints" / "net@2.ckpt").write_text('{"net": {"val')
    with study(folder=tmp_path) as searched:
        told = searched._store.events()
    with study(folder=tmp_path) as searched, pytest.raises(StoreError, match=r"net@2\.ckpt: the checkpoint is damaged"):
        searched.train("net", {"net": net}, adding(net), 5)
    with study(folder=tmp_path) as searched:
        assert searched._store.events() == told, "nothing has gone on"
    (tmp_path / "checkpoints" / "net@2.ckpt").unlink()
    with study(folder=tmp_path) as searched, pytest.raises(StoreError, match=r"net@2\.ckpt: the weights .* not there"):
        searched.train("net", {"net": net}, adding(net), 5)


def test_time_ends_a_phase_between_epochs_and_keeps_them(tmp_path: Path) -> None:
    net = Numbers()
    phases: list[Phase] = []

    def program(searched: Study) -> None:
        searched.evaluate(ALL[:1])
        phases.append(searched.train("net", {"net": net}, adding(net), 10, every=4))

    with study(budget=Budget(minutes=4 / 60), clock=Ticking(), folder=tmp_path) as searched:
        outcome = searched.run(Program(program))
        assert searched.version("net") == "net@3"
    assert phases == []
    assert outcome.seconds == 4.0
    assert "minutes is spent" in outcome.reason


def test_a_finished_run_can_train_on(tmp_path: Path) -> None:
    """The final training of a front: as durable as the search, whether that was just run or came from the store."""

    def whole(kill: int = 0) -> list[float]:
        net, member = Numbers(), Numbers()

        def search(searched: Study) -> None:
            searched.train("net", {"net": net}, adding(net), 2)
            searched.evaluate(ALL[:2])

        with study(folder=tmp_path / "run") as searched:
            outcome = searched.run(Program(search))
            assert len(outcome.evaluations) == 2
            final = adding(member)
            phase = searched.train("final", {"net": member}, killed_at(final, kill) if kill else final, 3)
            more = searched.train("net", {"net": net}, adding(net))
            assert more.version == "net@3"
            return [*(value for [value] in phase.result), net.value]

    with pytest.raises(Kill):
        whole(kill=2)
    first = whole()
    with study() as unbroken:
        net, member = Numbers(), Numbers()
        unbroken.train("net", {"net": net}, adding(net), 2)
        unbroken.train("final", {"net": member}, adding(member), 3)
        unbroken.train("net", {"net": net}, adding(net))
        assert first[-1] == net.value


# ------------------------------------------------------------------------------------------- inside a durable step


def _call(function: Callable[[], Any], rng: np.random.Generator) -> Any:
    return function()


def test_a_durable_step_inside_another_is_refused() -> None:
    searched = study()
    inner: list[Callable[[], Any]] = [
        lambda: searched.evaluate(ALL[:1]),
        lambda: searched.train("net", {}, lambda k, rng: None),
        lambda: searched.once("inner", lambda rng: 1),
        lambda: searched.rng("x"),
        lambda: searched.sample(1),
    ]
    for call in inner:
        with pytest.raises(ReplayError, match=r"was called inside once\('outer'\)"):
            searched.once("outer", partial(_call, call))
    with pytest.raises(ReplayError, match=r"rng\('x'\) was called inside epoch 1 of 'net'"):
        searched.train("net", {}, lambda k, rng: float(searched.rng("x").random()))


def test_drawing_from_a_study_generator_inside_a_step_is_noticed() -> None:
    """Design review 2.4: a replay would not draw."""
    searched = study()
    rng = searched.rng("mine")
    with pytest.raises(ReplayError, match=r"once\('x'\) drew from a generator of study.rng"):
        searched.once("x", lambda own: float(rng.random()))


def test_sampling_inside_a_step_draws_from_its_own_generator() -> None:
    searched = study(FOUR)
    first = searched.once("x", lambda rng: [dict(a) for a in searched.sample(2, rng)])
    assert len(first) == 2
    assert searched.once("x", lambda rng: dict(searched.mutate(searched.sample(1, rng)[0], rng)))


def test_once_is_charged_with_its_seconds() -> None:
    searched = study(budget=Budget(minutes=2 / 60), clock=Ticking())
    searched.once("a", lambda rng: 1)
    searched.once("b", lambda rng: 2)
    with pytest.raises(BudgetSpent, match="minutes is spent"):
        searched.once("c", lambda rng: 3)


# ------------------------------------------------------------------------------------------------- side by side


def _drawing(thing: Numbers) -> Epoch:
    """An epoch that draws from its own generator alone, as threads must."""

    def epoch(k: int, rng: np.random.Generator) -> float:
        thing.value += k + rng.random()
        return thing.value

    return epoch


def _together(searched: Study, workers: int, epochs: tuple[int, ...] = (3, 1, 2)) -> tuple[list[Phase], list[float]]:
    nets = [Numbers() for _ in epochs]
    trainings = [Training(f"net{n}", {"net": net}, _drawing(net), epochs[n]) for n, net in enumerate(nets)]
    phases = searched.train_together(trainings, workers=workers)
    searched.restore()
    return phases, [net.value for net in nets]


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_side_by_side_gives_what_one_after_the_other_gives(workers: int) -> None:
    alone, expected = study(), []
    for n, epochs in enumerate((3, 1, 2)):
        net = Numbers()
        expected.append((alone.train(f"net{n}", {"net": net}, _drawing(net), epochs), net.value))
    phases, values = _together(study(), workers)
    assert list(zip(phases, values, strict=True)) == expected


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(("net", "number"), [(0, 1), (0, 3), (1, 1), (2, 2)])
def test_a_run_killed_side_by_side_goes_on(tmp_path: Path, workers: int, net: int, number: int) -> None:
    expected = _together(study(), 1)
    with study(folder=tmp_path) as searched, pytest.raises(Kill):
        nets = [Numbers() for _ in range(3)]
        searched.train_together(
            [
                Training(
                    f"net{n}",
                    {"net": thing},
                    killed_at(_drawing(thing), number) if n == net else _drawing(thing),
                    (3, 1, 2)[n],
                )
                for n, thing in enumerate(nets)
            ],
            workers=workers,
        )
    with study(folder=tmp_path) as searched:
        assert _together(searched, workers) == expected
    with study(folder=tmp_path) as searched:  # all of it from the store
        assert _together(searched, workers) == expected


def test_what_runs_beside_a_failure_is_told_to_give_up() -> None:
    searched = study()
    begun, seen = threading.Event(), list[bool]()

    def failing(k: int, rng: np.random.Generator) -> None:
        begun.wait(10)
        raise Kill

    def patient(k: int, rng: np.random.Generator) -> None:
        begun.set()
        while not searched.stopping():
            time.sleep(0.001)
        seen.append(True)

    with pytest.raises(Kill):
        searched.train_together([Training("a", {}, failing), Training("b", {}, patient)], workers=2)
    assert seen == [True]
    assert not searched.stopping()


def test_names_twice_or_no_worker_are_refused() -> None:
    twice = [Training("a", {}, lambda k, rng: None), Training("a", {}, lambda k, rng: None)]
    with pytest.raises(RecipeError, match="each name once"):
        study().train_together(twice)
    with pytest.raises(RecipeError, match="workers 0"):
        study().train_together(twice[:1], workers=0)


def test_another_set_of_trainings_is_refused(tmp_path: Path) -> None:
    with study(folder=tmp_path) as searched:
        _together(searched, 2)
    with study(folder=tmp_path) as searched, pytest.raises(ReplayError, match="asked for train: 'net0, net1, net2'"):
        _together(searched, 2, (3, 1, 4))
