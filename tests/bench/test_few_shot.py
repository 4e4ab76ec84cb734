"""What no sample at all is worth on a new device."""

import numpy as np
import pytest

from tests.bench.few_shot import Devices, unsampled


def test_without_a_sample_a_device_is_like_the_others() -> None:
    rng = np.random.default_rng(0)
    base = rng.uniform(1, 2, 2000)
    other = rng.uniform(1, 2, 2000)
    devices = Devices(
        {"a": base, "b": 3 * base, "same": 7 * base, "reversed": -base, "other": other}, [], np.arange(2000)
    )
    found = unsampled(devices, ["same", "reversed", "other"], ["a", "b"])
    assert found["same"] == pytest.approx((1.0, 1.0))
    assert found["reversed"] == pytest.approx((-1.0, -1.0))
    assert abs(found["other"][0]) < 0.1
