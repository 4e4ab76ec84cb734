"""A finished run that several modules look at."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from hwnas.job import profile, search
from tests.job.workspace import ignore_drift, make_workspace


@pytest.fixture(scope="session")
def finished_toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace whose toy run is finished; nobody may change it."""
    root = tmp_path_factory.mktemp("workspace")
    recipe = make_workspace(root)
    threads = torch.get_num_threads()
    for _ in any_drift():
        profile(recipe, root=root, on_noise="mark")
        search(recipe, root=root)
    torch.set_num_threads(threads)
    return root


def any_drift() -> Iterator[None]:
    """As a loop that runs once."""
    yield from ignore_drift()
