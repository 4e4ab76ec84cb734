"""A search for a device that nobody here has: everything works, and every latency says that it is an estimate."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from hwnas.core import CostError, DeviceError, LimitError, RecipeError, TableError
from hwnas.export import read_metadata
from hwnas.job import Front, assemble, profile, search
from tests.job.workspace import RECIPE, Listener, make_workspace, run

PI = f'device = "raspberry-pi-5"\n{RECIPE}'


@pytest.fixture(scope="module")
def heard() -> Listener:
    return Listener()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, heard: Listener) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("workspace")
    threads = torch.get_num_threads()
    search(make_workspace(root, recipe=PI), root=root, teller=heard)
    torch.set_num_threads(threads)
    yield root


def test_every_latency_is_an_estimate_with_its_band(finished: Path, heard: Listener) -> None:
    front = Front.load(finished / "runs" / "toy")
    assert front.on_front and not front.timed
    model = assemble(finished / "search" / "toy.toml", root=finished).estimate()
    for member in front.members:
        latency = member.metrics["latency_ms"]
        assert latency == model(member.architecture) == member.predicted["latency_ms"]
        assert latency.origin == "estimated"
        assert latency.low == pytest.approx(0.5 * latency.value)
        assert latency.high == pytest.approx(1.5 * latency.value)
        assert member.raw_latency_ms is None
        assert member.memory["resident_run_bytes"] is None
        assert member.memory["peak_activation_bytes"]
        facts = read_metadata(front.onnx_path(member))
        assert facts["latency_predicted"]["origin"] == "estimated"
        assert "latency_measured" not in facts and "table" not in facts
        assert facts["estimate"]["device"] == "raspberry-pi-5"
    row = json.loads((front.folder / "front.json").read_text())
    assert row["measurement"] is None and row["prediction_error"] is None
    assert row["refit"]["skipped"].endswith("raspberry-pi-5 cannot be reached")
    assert not (finished / "latency_tables").exists()
    assert [line for line in heard.lines if "latencies are estimated, between 50% and 150% of the value" in line]
    assert not [stage for stage in heard.stages if stage.startswith("measure")]


def test_the_commands_never_say_measured_of_it(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(finished)
    code, out, err = run(capsys, "front", "toy")
    assert code == 0, err
    assert "on the estimated front" in out
    assert "estimated ms" in out and "band" in out and "measured ms" not in out
    assert "no latency was measured: raspberry-pi-5 cannot be reached" in " ".join(out.split())
    code, out, err = run(capsys, "pick", "toy", "--by", "fastest")
    assert code == 0, err
    assert "ms estimated on raspberry-pi-5 (" in out and "measured" not in out
    code, out, err = run(capsys, "export", "toy", "--to", "a.onnx")
    assert code == 0, err
    assert "ms estimated on raspberry-pi-5 (" in out
    code, out, err = run(capsys, "search", "search/toy.toml")
    assert code == 0, err
    assert "on the estimated front" in out


def test_networks_that_somebody_measured_set_the_scale(tmp_path: Path) -> None:
    path = make_workspace(tmp_path, recipe=f'measured = "pi.jsonl"\n{PI}')
    estimate = assemble(make_workspace(tmp_path / "other", recipe=PI), root=tmp_path).estimate()
    networks = [estimate.smallest()[1], estimate.largest()[1]]
    for one in estimate.space.sample(40, np.random.default_rng(0)):
        networks += [one] if one not in networks and len(networks) < 8 else []
    assert len(networks) == 8
    rows = [{"architecture": dict(one), "latency_ms": 3 * estimate(one).value} for one in networks]
    (tmp_path / "pi.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = assemble(path, root=tmp_path).estimate()
    assert (found.origin, found.measured) == ("predicted", 8)
    assert found(networks[0]).value == pytest.approx(3 * estimate(networks[0]).value)
    assert found.high / found.low < 1.001, "they agree with the estimate but for the scale"
    (tmp_path / "pi.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:4]))
    with pytest.raises(CostError, match="4 measured networks.*at least 5"):
        search(path, root=tmp_path)
    (tmp_path / "pi.jsonl").write_text("{}\n")
    with pytest.raises(TableError, match=r"pi\.jsonl: line 1: holds"):
        search(path, root=tmp_path)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        (f'table = "latency_tables/a.jsonl"\n{PI}', r"toy\.toml: table is latency_tables/a\.jsonl.*estimated"),
        (f'measured = "pi.jsonl"\n{RECIPE}', r"toy\.toml: measured is pi\.jsonl.*device this-cpu is measured itself"),
        (
            f'objectives = ["accuracy", "latency_ms", "peak_memory_bytes"]\n{PI}',
            r"toy\.toml: asks for peak_memory_bytes.*raspberry-pi-5 is estimated",
        ),
    ],
)
def test_what_only_a_measured_device_has_is_refused(tmp_path: Path, recipe: str, words: str) -> None:
    path = make_workspace(tmp_path, recipe=recipe)
    with pytest.raises(RecipeError, match=words):
        search(path, root=tmp_path)
    assert not (tmp_path / "runs").exists()


def test_an_impossible_limit_names_the_smallest_estimate(tmp_path: Path) -> None:
    recipe = PI.replace('at_most = "90 %"', "at_most = 1e-6")
    path = make_workspace(tmp_path, recipe=recipe)
    smallest, _ = assemble(path, root=tmp_path).estimate().smallest()
    with pytest.raises(LimitError, match=rf"latency_ms.*that can be reached is {smallest:.8f}"[:-4]):
        search(path, root=tmp_path)


def test_it_cannot_be_profiled(tmp_path: Path) -> None:
    path = make_workspace(tmp_path, recipe=PI)
    with pytest.raises(DeviceError, match=r'device raspberry-pi-5: reach is "none".*hwnas search works'):
        profile(path, root=tmp_path)
    assert not (tmp_path / "runs").exists() and not (tmp_path / "latency_tables").exists()
