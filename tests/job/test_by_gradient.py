"""Searches by gradient through the whole job: weights and distributions trained together, limits kept, resumed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from hwnas.job import Front, profile, search
from tests.job.workspace import RECIPE, Listener, ignore_drift, make_workspace


@pytest.fixture(autouse=True)
def any_drift() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield from ignore_drift()
    torch.set_num_threads(threads)


def test_a_gradient_search_ends_in_a_measured_front(tmp_path: Path) -> None:
    strategy = 'name = "fbnet"\ntargets = 2\nepochs = 2\nsamples = 2\nevery = 1'
    recipe = make_workspace(tmp_path, recipe=RECIPE.replace('name = "nsga2"\npopulation = 6', strategy))
    profile(recipe, root=tmp_path, on_noise="mark")
    listener = Listener()
    front = search(recipe, root=tmp_path, teller=listener)
    assert "train weights and distributions with fbnet" in listener.stages
    assert "train the supernet" not in listener.stages
    assert front.on_front
    limit = front.limits[0]
    assert limit.at_most is not None
    assert all(m.predicted["latency_ms"].value <= limit.at_most for m in front.members if m.role == "member")
    again = search(recipe, root=tmp_path)
    assert [m.architecture for m in again.members] == [m.architecture for m in Front.load(front.folder).members]
