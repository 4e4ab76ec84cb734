"""Runs side by side: whose networks nothing beats, by test accuracy, and what cannot be compared."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hwnas.cli.compare import spaces_in_words
from hwnas.core import Architecture, Metric, Objective, RecipeError
from hwnas.job import Front, Member, compare, joint_front, values_of

# So many images that differences of accuracy are no noise.
DATA = {"source": "digits", "counts": {"train": 8, "test": {"0": 10**6, "1": 10**6}}, "digest": "d"}


def member(number: int, latency_ms: float, test: float, *, on_front: bool = True) -> Member:
    return Member(
        architecture=Architecture({"k": number}),
        # Validation says the same of all: the test part alone must decide.
        metrics={"accuracy": Metric(0.5, "", "measured"), "latency_ms": Metric(latency_ms, "ms", "measured")},
        predicted={},
        test={"accuracy": test, "balanced_accuracy": test},
        onnx="a.onnx",
        weights="a.safetensors",
        parity={},
        raw_latency_ms=latency_ms,
        training_seconds=1.0,
        on_front=on_front,
    )


def front(name: str, *members: Member, **facts: Any) -> Front:
    return Front(
        folder=Path("runs") / name,
        objectives=(Objective.named("accuracy"), Objective.named("latency_ms")),
        limits=(),
        members=members,
        facts={
            "run": name,
            "recipe": {"strategy": {"name": "nat"}},
            "device": {"name": "here"},
            "data": DATA,
            "space": {"name": "toy"},
            "search": {"seconds": 88.0},
            "seconds_of_this_process": 18.0,
            **facts,
        },
    )


def test_the_joint_front_and_each_run_s_share_of_its_volume() -> None:
    # In units of the joint front (1 ms, 0.8) to (3 ms, 0.9): its two ends dominate 1.1 x 0.1 + 0.1 x 1.
    first = front("first", member(1, 1.0, 0.8), member(2, 9.0, 1.0, on_front=False))
    second = front("second", member(3, 3.0, 0.9), member(4, 3.5, 0.85))
    one, two = compare([first, second])
    # 88 s of search and 1 s for each of two trainings; the process that wrote the front took only 18 s.
    assert (one.run, one.strategy, one.networks, one.joint, one.minutes) == ("first", "nat", 1, 1, 1.5)
    assert (two.networks, two.joint) == (2, 1)
    assert one.best == pytest.approx((0.8, 1.0))
    assert two.best == pytest.approx((0.9, 3.0))
    whole = 2 * 1.1 * 0.1 - 0.1 * 0.1
    assert one.volume == pytest.approx(1.1 * 0.1 / whole)
    assert two.volume == pytest.approx(1.1 * 0.1 / whole)


def test_a_run_without_a_front_stands_last_with_nothing() -> None:
    empty, full = compare([front("empty"), front("full", member(1, 1.0, 0.8))])
    assert (empty.networks, empty.joint, empty.volume, empty.best) == (0, 0, 0.0, ())
    assert full.volume == pytest.approx(1.0)


def test_on_the_joint_front_a_gain_within_the_noise_is_a_tie() -> None:
    """One run's network costs thrice as much for 1 % more of 100 test images."""
    few = {**DATA, "counts": {"test": {"0": 50, "1": 50}}}
    first, second = front("first", member(1, 1.0, 0.80), data=few), front("second", member(2, 3.0, 0.81), data=few)
    assert joint_front([first, second]) == [0]
    assert [standing.joint for standing in compare([first, second])] == [1, 0]
    assert joint_front([front("a", member(1, 1.0, 0.80)), front("b", member(2, 3.0, 0.81))]) == [0, 1]


@pytest.mark.parametrize("images", [50, 10**6], ids=["noisy", "exact"])
def test_equal_networks_of_several_runs_are_all_on_the_joint_front(images: int) -> None:
    """A run and its copy: whichever is named first, neither stands below the other."""
    data = {**DATA, "counts": {"test": {"0": images, "1": images}}}
    members = member(1, 1.0, 0.6), member(2, 2.0, 0.8), member(3, 3.0, 1.0)
    run, copy = front("run", *members, data=data), front("copy", *members, data=data)
    beaten = front("beaten", member(4, 3.5, 0.8), data=data)
    for fronts in ([run, copy, beaten], [copy, beaten, run], [beaten, copy, run]):
        found = {one.run: (one.joint, one.networks) for one in compare(fronts)}
        assert found == {"run": (3, 3), "copy": (3, 3), "beaten": (0, 1)}
    assert joint_front([run, beaten, copy]) == [0, 1, 2, 4, 5, 6]


def test_an_error_is_compared_on_the_test_images_too() -> None:
    one = replace(member(1, 1.0, 0.8), metrics={"error": Metric(0.5, "", "measured")})
    assert values_of(one) == {"error": pytest.approx(0.2)}


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"device": {"name": "there"}}, "other device: for name, runs/a has here, runs/b has there$"),
        ({"data": {**DATA, "digest": "e"}}, "other images: for digest, runs/a has d, runs/b has e$"),
        ({"data": {**DATA, "counts": {"train": 7}}}, "for counts.train, runs/a has 8, runs/b has 7$"),
        ({"measurement": {"conditions": {"cpu": "B"}}}, "other processor: runs/a has A, runs/b has B$"),
    ],
)
def test_only_what_is_alike_is_compared(facts: dict[str, Any], said: str) -> None:
    here = {"conditions": {"cpu": "A"}, "warnings": []}
    with pytest.raises(RecipeError) as refused:
        compare([front("a", member(1, 1.0, 0.8), measurement=here), front("b", member(2, 1.0, 0.8), **facts)])
    assert re.search(said, refused.value.message)
    assert "one device" in str(refused.value.hint)


def test_how_a_run_was_measured_is_told_beside_it() -> None:
    differs = "t.jsonl: device.cpu_model is 'Intel' in the table, 'AMD' in this run"
    measurement = {
        "conditions": {"cpu": "AMD", "table_differs": [differs]},
        "warnings": ["the table differs: device.cpu_model is 'Intel'", "the machine was busy: the load was 9"],
    }
    old = {"table": {"mismatches": [differs]}}  # of a version that kept only what was allowed
    one, two, three = compare([
        front("a", member(1, 1.0, 0.8), measurement=measurement),
        front("b", member(1, 1.0, 0.8), **old),
        front("c", member(1, 1.0, 0.8), measurement=None),
    ])
    told = "table t.jsonl is of other conditions: device.cpu_model is 'Intel' in the table, 'AMD' in this run"
    assert one.latency_notes == (told, "the machine was busy: the load was 9")
    assert (two.latency_notes, three.latency_notes) == ((told,), ())


def test_the_picture_names_the_space_of_every_run() -> None:
    same = [front("a", member(1, 1.0, 0.8)), front("b", member(1, 1.0, 0.8))]
    assert spaces_in_words(same) == "toy"
    assert spaces_in_words([same[0], front("b", space={"name": "net-ef9e8d"})]) == "a in toy, b in net-ef9e8d"


def test_runs_of_one_name_are_told_apart_and_one_run_twice_is_refused() -> None:
    here, there = front("a", member(1, 1.0, 0.8)), front("a", member(2, 2.0, 0.9))
    there = replace(there, folder=Path("elsewhere/runs/a"))
    assert [standing.run for standing in compare([here, there])] == ["runs/a", "elsewhere/runs/a"]
    other = replace(there, facts={**there.facts, "space": {"name": "net"}})
    assert spaces_in_words([here, other]) == "runs/a in toy, elsewhere/runs/a in net"
    with pytest.raises(RecipeError, match="runs/a is named twice"):
        compare([here, here])


def test_estimates_and_measurements_are_not_mixed() -> None:
    guessed = replace(
        member(1, 1.0, 0.8),
        metrics={"accuracy": Metric(0.5, "", "measured"), "latency_ms": Metric(1.0, "ms", "estimated")},
    )
    with pytest.raises(RecipeError, match="other measured latencies"):
        compare([front("a", member(2, 1.0, 0.8)), front("b", guessed)])


def test_one_run_or_none_with_a_front_is_refused() -> None:
    with pytest.raises(RecipeError, match="1 run named; expected two or more"):
        compare([front("a", member(1, 1.0, 0.8))])
    with pytest.raises(RecipeError, match="nothing to compare"):
        compare([front("a"), front("b")])
