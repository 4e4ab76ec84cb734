"""Which networks of a search get a final training."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwnas.core import Architecture, Evaluation, Metric, Objective
from hwnas.job import profile, search
from hwnas.job.members import chosen, settings_digest
from hwnas.job.recipe import Recipe
from hwnas.training import Schedule, Trainer
from tests.job.workspace import RECIPE, ignore_drift, make_workspace

ACCURACY, LATENCY = Objective.named("accuracy"), Objective.named("latency_ms")


def points(*rows: tuple[float, float]) -> list[Evaluation]:
    return [
        Evaluation(
            Architecture({"k": n}),
            {"accuracy": Metric(share, "share", "measured"), "latency_ms": Metric(ms, "ms", "predicted")},
        )
        for n, (share, ms) in enumerate(rows)
    ]


def latencies(found: list[Evaluation]) -> list[float]:
    return [one["latency_ms"] for one in found]


@pytest.mark.parametrize(("noise", "expected"), [(0.0, [1, 3, 8]), (0.02, [1, 2, 6]), (0.005, [1, 3, 6])])
def test_of_ties_in_a_step_of_cost_the_cheapest(noise: float, expected: list[float]) -> None:
    found = points((0.5, 1), (0.7, 2), (0.71, 3), (0.8, 6), (0.804, 8))  # steps: 1 to 2.83, 2.83 to 8 ms
    step = points((0.5, 1), (0.7, 2), (0.71, 2.5), (0.8, 6), (0.804, 8))
    assert latencies(chosen(step, [ACCURACY, LATENCY], 3, cheap=LATENCY, noise=noise)) == [
        2.5 if ms == 3 else ms for ms in expected
    ]
    assert len(chosen(found, [ACCURACY, LATENCY], 3, cheap=LATENCY, noise=noise)) == 3


def test_a_network_at_chance_comes_only_after_all_others() -> None:
    found = points((0.1, 1), (0.1, 1.5), (0.6, 2), (0.7, 4))

    def guesses(one: Evaluation) -> bool:
        return one["accuracy"] < 0.2

    for count, expected in ((1, [2]), (2, [2, 4]), (3, [2, 4, 1]), (9, [2, 4, 1, 1.5])):
        assert latencies(chosen(found, [ACCURACY, LATENCY], count, cheap=LATENCY, guesses=guesses)) == expected
    dead = found[:2]
    assert latencies(chosen(dead, [ACCURACY, LATENCY], 2, cheap=LATENCY, guesses=guesses)) == [1, 1.5]


@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(1, 9)), min_size=1, max_size=15),
    st.integers(1, 8),
    st.floats(0, 0.2),
    st.floats(0, 1),
)
def test_as_many_as_asked_for_and_each_once(
    rows: list[tuple[float, float]], count: int, noise: float, chance: float
) -> None:
    found = chosen(
        points(*rows),
        [ACCURACY, LATENCY],
        count,
        cheap=LATENCY,
        noise=noise,
        guesses=lambda one: one["accuracy"] <= chance,
    )
    names = [one.architecture["k"] for one in found]
    assert len(names) == len(set(names)) == min(count, len(rows))


@pytest.fixture
def any_drift() -> Iterator[None]:
    yield from ignore_drift()


def test_the_default_network_is_trained_by_the_members_schedule(
    any_drift: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before, it had the supernet's rate and decay, and a comparison with members said less than it seemed to."""
    seen: dict[str, tuple[float, float, int]] = {}

    class Watched(Trainer):
        def __init__(self, *args: Any, schedule: Schedule, what: str, **options: Any) -> None:
            seen[what.partition("-")[0]] = (schedule.learning_rate, schedule.weight_decay, schedule.epochs)
            super().__init__(*args, schedule=schedule, what=what, **options)

    monkeypatch.setattr("hwnas.job.members.Trainer", Watched)
    text = RECIPE.replace("[members]\n", "[members]\nlearning_rate = 0.07\nweight_decay = 2e-4\n")
    recipe = make_workspace(tmp_path, recipe=text.replace("default_epochs = 1", "default_epochs = 2"))
    profile(recipe, root=tmp_path, on_noise="mark")
    search(recipe, root=tmp_path)
    assert seen == {"member": (0.07, 2e-4, 1), "default": (0.07, 2e-4, 2)}


@pytest.mark.parametrize(
    ("old", "new", "other"),
    [
        ("count = 2", "count = 3", False),
        ("[members]\n", "[members]\nteacher_weight = 0.3\n", False),
        ("count = 2\nepochs = 1", "count = 2\nepochs = 3", False),
        ("count = 2\nepochs = 1", "count = 2\nepochs = 0", True),
        ("[members]\n", "[members]\nlearning_rate = 0.07\n", True),
        ("default_epochs = 1", "default_epochs = 2", True),
    ],
)
def test_a_default_network_by_another_schedule_is_another_training(old: str, new: str, other: bool) -> None:
    before, after = (
        settings_digest(Recipe.from_toml(text, Path("search/a.toml")), "default", None)
        for text in (RECIPE, RECIPE.replace(old, new))
    )
    assert (before != after) == other
