import os
import subprocess
import sys

import numpy as np
import pytest

from hwnas.core import digest_of, generator, seed_of


def test_every_part_counts_and_so_does_their_order() -> None:
    seeds = {seed_of(0, "a"), seed_of(1, "a"), seed_of(0, "b"), seed_of("a", 0), seed_of(0, "a", None)}
    assert len(seeds) == 5
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_generators_are_independent_and_repeatable() -> None:
    first, again, other = (generator(3, name).random(1000) for name in ("x", "x", "y"))
    assert np.array_equal(first, again)
    assert abs(np.corrcoef(first, other)[0, 1]) < 0.1


def test_digests_do_not_depend_on_the_hash_seed() -> None:
    program = "from hwnas.core import digest_of; print(digest_of({'b': [1, 2.5], 'a': None}))"
    found = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("0", "1")
    }
    assert found == {digest_of({"a": None, "b": [1, 2.5]})}


def test_digest_refuses_what_is_not_finite() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        digest_of(float("nan"))
