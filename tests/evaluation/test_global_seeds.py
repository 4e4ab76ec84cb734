import random
import sys

import numpy as np
import pytest

from hwnas.evaluation import seed_globals
from tests.fake_torch import FakeTorch


def test_equal_seeds_equal_draws_and_only_those() -> None:
    def draws(seed: int) -> tuple[float, float]:
        seed_globals(seed)
        return random.random(), float(np.random.random())  # noqa: NPY002

    assert draws(2**62) == draws(2**62)
    assert draws(1) != draws(2)


@pytest.mark.parametrize(("threads", "seeds"), [(1, [7]), (4, [7, -7])])
def test_torch_is_seeded_if_it_is_there_and_cuda_if_it_is_in_use(
    monkeypatch: pytest.MonkeyPatch, threads: int, seeds: list[int]
) -> None:
    torch = FakeTorch(threads)
    monkeypatch.setitem(sys.modules, "torch", torch)
    seed_globals(7)
    assert torch.seeds == seeds
