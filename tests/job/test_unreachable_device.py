from pathlib import Path

import pytest

from hwnas.core import DeviceError
from hwnas.job import profile, search
from tests.job.workspace import RECIPE, make_workspace


def test_a_device_that_nobody_has_is_refused_by_search_and_profile(tmp_path: Path) -> None:
    path = make_workspace(tmp_path, recipe=f'device = "raspberry-pi-5"\n{RECIPE}')
    for command in (search, profile):
        with pytest.raises(DeviceError, match=r'device raspberry-pi-5: reach is "none".*EstimatedLatency'):
            command(path, root=tmp_path)
    assert not (tmp_path / "runs").exists() and not (tmp_path / "latency_tables").exists()
