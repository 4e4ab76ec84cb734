"""Who is on a measured front, and who is picked, when accuracies have an error and some networks only guess."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hwnas.cli.front import remarks
from hwnas.core import Answers, Architecture, Limit, Metric, Objective, PickError, share_error
from hwnas.job import Front, Member
from hwnas.job.front import letter_of

COUNTS = (135, 389)  # PneumoniaMNIST's validation images


def answers(wrong: tuple[int, int], *, first: int = 0, counts: tuple[int, int] = COUNTS) -> Answers:
    """So many wrong images per class, from the `first` on."""
    parts = [np.ones(count, dtype=bool) for count in counts]
    for part, many in zip(parts, wrong, strict=True):
        part[first : first + many] = False
    return Answers(counts, np.concatenate(parts))


def member(
    latency_ms: float, validation: Answers, test: Answers | None = None, *, role: str = "member", **values: float
) -> Member:
    test = test or validation
    shares = {name: Metric(validation.value(name), "share", "measured") for name in ("accuracy", "balanced_accuracy")}
    return Member(
        architecture=Architecture({"k": latency_ms}),
        metrics={
            **shares,
            "latency_ms": Metric(latency_ms, "ms", "measured"),
            **{name: Metric(value, "", "computed") for name, value in values.items()},
        },
        predicted={"latency_ms": Metric(latency_ms, "ms", "predicted")},
        test={name: test.value(name) for name in ("accuracy", "balanced_accuracy")},
        onnx="a.onnx",
        weights="a.safetensors",
        parity={},
        raw_latency_ms=latency_ms,
        training_seconds=1.0,
        on_front=False,
        role=role,
        answers={"validation": validation, "test": test},
    )


def front(*members: Member, objectives: tuple[str, ...] = ("balanced_accuracy", "latency_ms"), **facts: Any) -> Front:
    by_class = dict(zip(("normal", "pneumonia"), COUNTS, strict=True))
    data = {"counts": {"validation": by_class, "test": by_class}}
    return Front(Path("runs/a"), tuple(map(Objective.named, objectives)), (), members, {"data": data, **facts}).marked()


def on_front(found: Front) -> list[float]:
    return [one.values["latency_ms"] for one in found.on_front]


def test_a_gain_within_one_standard_error_of_the_pair_is_no_gain() -> None:
    """Four times the latency for two images, of which the network also loses one that the other has."""
    fast, slow = answers((8, 10)), answers((7, 10), first=1)
    found = front(member(0.066, fast), member(0.265, slow))
    assert on_front(found) == [0.066]
    assert [found.pick(by).values["latency_ms"] for by in ("knee", "fastest", "most-accurate")] == [0.066] * 3
    slow_member = next(one for one in found.members if not one.on_front)
    assert found.standing(slow_member) == f"no gain over {found.letter(found.on_front[0])}"
    assert found.gap(slow_member, found.on_front[0]).tied
    clear = front(member(0.066, fast), member(0.265, answers((2, 3))))
    assert on_front(clear) == [0.265, 0.066] and clear.next_cheaper(clear.members[0]) == clear.members[1]


def test_what_is_compared_is_the_objective() -> None:
    """Plain accuracy says the same of both; balanced accuracy is far better for one."""
    rare, common = answers((1, 20)), answers((20, 1))
    assert rare.accuracy == common.accuracy
    assert on_front(front(member(1.0, common), member(2.0, rare))) == [2.0, 1.0]
    assert on_front(front(member(1.0, common), member(2.0, rare), objectives=("accuracy", "latency_ms"))) == [1.0]


def test_whatever_was_trained_and_measured_competes() -> None:
    """A default network that beats a member in both objectives takes its place, and is picked like any other."""
    found = front(member(0.265, answers((6, 20))), member(0.164, answers((2, 3)), role="default"))
    assert [(one.role, one.on_front) for one in found.members] == [("member", False), ("default", True)]
    assert found.pick("most-accurate").role == "default"
    assert found.standing(found.members[0]) == "beaten"


def test_networks_at_chance_are_marked_and_never_picked_but_by_name() -> None:
    guess = answers((60, 195))
    found = front(member(0.01, guess), member(0.5, answers((8, 10))))
    dead = next(one for one in found.members if one.values["latency_ms"] == 0.01)
    assert found.standing(dead) == "at chance" and not dead.on_front
    assert found.pick("fastest").values["latency_ms"] == 0.5
    assert found.member(found.letter(dead)) == dead
    # A front of an earlier version has it marked.
    marked = replace(found, members=tuple(replace(one, on_front=True) for one in found.members))
    assert marked.pick("fastest").values["latency_ms"] == 0.5
    alone = front(member(0.01, guess))
    assert alone.on_front, "with nothing better it is what was found"
    with pytest.raises(PickError, match=r"no network is better than guessing.*chance is 50\.0%") as refused:
        alone.pick("fastest")
    assert f"--by {alone.members[0].architecture.digest}" in refused.value.hint
    better = front(member(0.01, answers((63, 205))), member(0.5, guess))
    marked = replace(
        better, members=tuple(replace(one, on_front=one.values["latency_ms"] == 0.01) for one in better.members)
    )
    off = next(one for one in marked.members if not one.on_front)
    with pytest.raises(PickError, match=f"balanced_accuracy {off.values['balanced_accuracy']:.1%} at best") as refused:
        marked.pick("fastest")
    assert f"--by {off.architecture.digest}" in refused.value.hint
    good = front(member(0.01, guess), member(0.5, answers((8, 10))))  # as a limit may leave it
    kept = replace(good, members=tuple(replace(one, on_front=good.at_chance(one)) for one in good.members))
    with pytest.raises(
        PickError, match=r"no network of the front is better than guessing.*; A off it has balanced_acc"
    ):
        kept.pick("fastest")


def test_always_naming_the_larger_class_is_chance_for_plain_accuracy() -> None:
    always = answers((135, 0))
    assert always.accuracy == pytest.approx(0.742, abs=1e-3)
    found = front(member(0.01, always), objectives=("accuracy", "latency_ms"))
    assert found.at_chance(found.members[0])
    assert found.chance("balanced_accuracy").value == 0.5


def test_latencies_that_tie_and_further_objectives() -> None:
    good, bad = answers((2, 3)), answers((20, 40))
    found = front(member(1.000, bad), member(1.001, good), ties={"latency": 0.01})
    assert on_front(found) == [1.001], "0.1 % of latency is no gain either"
    three = front(
        member(1.0, good, macs=9e6), member(2.0, good, macs=1e6), objectives=("accuracy", "latency_ms", "macs")
    )
    assert sorted(on_front(three)) == [1.0, 2.0], "each is best in something"


def test_limits_come_first() -> None:
    found = replace(
        front(member(1.0, answers((2, 3))), member(9.0, answers((0, 0)))), limits=(Limit("latency_ms", at_most=5),)
    )
    limited = found.marked()
    assert on_front(limited) == [1.0]
    assert [limited.standing(one) for one in limited.members] == ["outside the limits", "front"]


def test_validation_far_above_test_is_beyond_chance_and_a_little_is_not() -> None:
    high = answers((3, 10))
    far = front(member(1.0, high, answers((50, 10))))
    gap = far.test_gap(far.members[0])
    assert gap is not None and gap.sure and gap.value > 0.15
    near = front(member(1.0, high, answers((5, 12))))
    gap = near.test_gap(near.members[0])
    assert gap is not None and not gap.sure


def test_a_front_of_an_earlier_version_compares_as_two_samples() -> None:
    new = front(member(1.0, answers((8, 10))), member(2.0, answers((7, 8))))
    old = replace(new, members=tuple(replace(one, answers={}) for one in new.members))
    one, other = old.members
    shares = [one.values["balanced_accuracy"], other.values["balanced_accuracy"]]
    expected = math.hypot(*(share_error(share, sum(COUNTS)) for share in shares))
    assert old.gap(one, other).standard_error == pytest.approx(expected)
    assert old.gap(one, other).standard_error > new.gap(new.members[0], new.members[1]).standard_error
    assert old.chance().value == 0.5 and not old.at_chance(one)
    gap = old.test_gap(one)
    assert gap is not None and gap.value == pytest.approx(0.0)


def test_an_error_as_objective_is_judged_as_the_accuracy_it_is() -> None:
    good, guess = answers((3, 10)), answers((60, 195))
    rows = [member(1.0, good, answers((50, 60))), member(0.1, guess)]
    rows = [
        replace(one, metrics={**one.metrics, "error": Metric(1 - one.values["accuracy"], "share", "measured")})
        for one in rows
    ]
    for versions in (rows, [replace(one, answers={}) for one in rows]):
        found = front(*versions, objectives=("error", "latency_ms"))
        assert on_front(found) == [1.0] and found.share == "error"
        assert [found.at_chance(one) for one in found.members] == [False, True]
        gap = found.test_gap(found.members[0])
        assert gap is not None and gap.sure and gap.value < 0, "its error is far higher on the test images"


def test_a_reference_that_beats_a_member_in_everything_is_found() -> None:
    found = front(member(0.265, answers((6, 20))), member(0.164, answers((2, 3)), role="default"))
    worse, reference = found.members
    assert found.beats(reference, worse) and not found.beats(worse, reference)
    [line] = [line for line in remarks(found) if "default network" in line]
    assert line.startswith(
        "B is the default network, trained alone without a search; it is better in every objective than A"
    )


def test_letters_name_members_in_their_order_and_come_back() -> None:
    found = front(member(1.0, answers((8, 10))), member(2.0, answers((1, 1))))
    assert [found.letter(one) for one in found.members] == ["A", "B"]
    assert (
        found.member("B") == found.members[1] and found.member(found.members[0].architecture.digest) == found.members[0]
    )
    with pytest.raises(
        PickError, match=f'"C" fits 0 members; expected one of A {found.members[0].architecture.digest}'
    ):
        found.member("C")
    assert len({letter_of(n) for n in range(1000)}) == 1000


def test_what_is_written_is_read() -> None:
    [one] = front(member(1.0, answers((8, 10)))).members
    assert Member.from_json(one.to_json()) == one
