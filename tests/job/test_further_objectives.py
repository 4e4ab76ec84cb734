"""Objectives beside accuracy and latency: another device, bytes of the model, a function of one's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest
import torch

from hwnas.core import DeviceError, RecipeError, TableError
from hwnas.job import Front, Recipe, profile, search
from tests.job.workspace import RECIPE, Listener, ignore_drift, make_workspace, run

OBJECTIVES = ["accuracy", "latency_ms", "latency_ms@raspberry-pi-5", "model_bytes", "depth"]


@pytest.fixture(autouse=True)
def any_drift() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield from ignore_drift()
    torch.set_num_threads(threads)


def asking(folder: Path, objectives: list[str] = OBJECTIVES) -> str:
    file = folder / "mine.py"
    file.write_text("def depth(architecture, network):\n    return len(list(network.modules()))\n")
    metrics = f'[metrics.depth]\nfunction = "{file}:depth"\nunit = "modules"\n'
    limits = '[limits.depth]\nat_most = 1000\n[limits."latency_ms@raspberry-pi-5"]\nat_most = "95 %"\n'
    return f"objectives = {objectives}\n{RECIPE}{metrics}{limits}"


def test_a_front_in_five_objectives(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = make_workspace(tmp_path, recipe=asking(tmp_path))
    text = recipe.read_text().replace("'model_bytes'", "'latency_ms@phone', 'model_bytes'", 1)
    recipe.write_text(text)
    (tmp_path / "devices" / "phone.toml").write_text('reach = "kit"\n')
    table = profile(recipe, root=tmp_path, on_noise="mark").path
    table.with_name(table.name.replace("this-cpu", "phone")).write_bytes(table.read_bytes())
    told = Listener()
    front = search(recipe, root=tmp_path, teller=told)
    assert {objective.name for objective in front.objectives} == {*OBJECTIVES, "latency_ms@phone"}
    for member in Front.load(front.folder).members:
        assert set(OBJECTIVES) <= set(member.values)
        elsewhere = member.metrics["latency_ms@raspberry-pi-5"]
        assert elsewhere.origin == "estimated" and elsewhere.low is not None, "never called measured"
        phone = member.metrics["latency_ms@phone"]
        assert phone.origin == "predicted"
        assert phone.value == pytest.approx(member.predicted["latency_ms"].value, rel=0.2), "one table, before a refit"
        assert member.metrics["depth"].unit == "modules" and member.metrics["depth"].value > 5
        stored = member.metrics["model_bytes"].value
        weights = sum(len(part.raw_data) for part in onnx.load(front.onnx_path(member)).graph.initializer)
        assert 0.95 * weights < stored <= weights, "blocks with drawn weights store their zero biases once"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "250")
    code, out, _ = run(capsys, "front", "toy")
    assert code == 0 and "latency_ms@raspberry-pi-5" in out and "model_bytes" in out and "depth (modules)" in out
    assert f"{front.members[0].metrics['depth'].value:.4g}" in out
    again = search(recipe, root=tmp_path, teller=Listener())
    assert [m.values for m in again.members] == [m.values for m in front.members]
    (tmp_path / "mine.py").write_text("def depth(architecture, network):\n    return 1.0\n")
    with pytest.raises(Exception, match=r"metric depth"):
        search(recipe, root=tmp_path, teller=Listener())


def test_an_error_is_an_objective_like_any_other(tmp_path: Path) -> None:
    """On paper, where nothing has to be measured first."""
    recipe = make_workspace(tmp_path, recipe=f'device = "t4"\nobjectives = ["error", "latency_ms"]\n{RECIPE}')
    front = search(recipe, root=tmp_path, teller=Listener())
    assert front.share == "error" and front.on_front
    for member in front.members:
        assert member.values["error"] == pytest.approx(1 - member.values["accuracy"])
    volume = front.facts["search"]["hypervolume"]
    assert volume["reference"]["error"] == 1.0 and volume["after_each_network"][-1] > 0


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("accuracy", "acuracy", 'metric "acuracy" is unknown; did you mean "accuracy"'),
        ("model_bytes", "macs@raspberry-pi-5", "of other devices latency_ms alone is predicted"),
        ("metrics.depth", "metrics.macs", r"\[metrics.macs\] macs is taken"),
        (":depth", ":dpth", r'\[metrics.depth\] .*has no function "dpth"; did you mean "depth"'),
    ],
)
def test_slips_are_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Recipe.from_toml(asking(tmp_path).replace(old, new, 1), tmp_path / "a.toml")


SLOW_FOR_ONE = """
import time

def price(architecture, network):
    if dict(architecture) == DEFAULT:
        {way}
    return 0.5 + 1e-6 * sum(parameter.numel() for parameter in network.parameters())
"""


@pytest.mark.parametrize(
    ("way", "reason"),
    [
        ("time.sleep(3600)", "timed out: no answer within 8 s, the time limit of one evaluation"),
        ("raise ValueError('no price')", "ValueError: no price (costs.py, line 7)"),
    ],
)
def test_a_metric_that_fails_for_the_default_network_leaves_it_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, way: str, reason: str
) -> None:
    """On paper. The limit of an evaluation holds at the end of a run too; the other networks are finished."""
    default = Recipe.from_toml(RECIPE, tmp_path / "toy.toml").family(channels=1, classes=10).default()
    costs = tmp_path / "costs.py"
    costs.write_text(f"DEFAULT = {dict(default)}\n{SLOW_FOR_ONE.format(way=way)}")
    asked = 'device = "t4"\nobjectives = ["accuracy", "latency_ms", "price"]\n'
    metric = f'seconds = 8\n[metrics.price]\nfunction = "{costs}:price"\nunit = "EUR"\n'
    recipe = make_workspace(tmp_path, recipe=asked + RECIPE + metric)
    told = Listener()
    front = search(recipe, root=tmp_path, teller=told)
    assert any(line == f"the default network is left out: {reason}" for line in told.lines)
    assert front.facts["finished"]["left_out"] == [{"role": "default", "digest": default.digest, "reason": reason}]
    assert len(front.members) == 2 and {member.role for member in front.members} == {"member"}
    assert all(member.metrics["price"].value > 0.5 for member in front.members)
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, "front", "toy")
    assert code == 0, err
    assert f"left out: the default network {default.digest}: {reason}" in " ".join(out.split())


def test_what_nobody_predicts_is_refused_before_training(tmp_path: Path) -> None:
    """On paper, where nothing has to be measured first."""
    recipe = make_workspace(tmp_path, recipe=f'device = "t4"\nobjectives = ["accuracy", "energy_mj"]\n{RECIPE}')
    told = Listener()
    with pytest.raises(RecipeError, match="toy.toml: asks for energy_mj, which is neither predicted") as raised:
        search(recipe, root=tmp_path, teller=told)
    assert "hwnas bench --energy" in raised.value.hint and not told.stages


def test_a_device_without_a_table_is_refused_with_the_way_out(tmp_path: Path) -> None:
    own = ["accuracy", "latency_ms", "latency_ms@phone"]
    recipe = make_workspace(tmp_path, recipe=f'device = "t4"\nobjectives = {own}\n{RECIPE}')
    with pytest.raises(DeviceError, match="phone"):
        search(recipe, root=tmp_path)
    (tmp_path / "devices" / "phone.toml").write_text('reach = "kit"\nthreads = 4\n')
    with pytest.raises(TableError, match=r"toy.toml: latency_ms@phone: .*") as raised:
        search(recipe, root=tmp_path)
    assert 'device = "phone"' in raised.value.hint
