"""A model space of the user's own, in a file, through the whole job."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from hwnas.core import Architecture, RecipeError, SpaceError, TableError
from hwnas.cost import LatencyTable
from hwnas.job import profile, search
from hwnas.job.bench import space_of
from hwnas.nn import load_network
from hwnas.zoo import OwnModel, family
from tests.job.workspace import RECIPE, ignore_drift, make_workspace, run

NETS = """
from torch import nn as torch_nn

from hwnas import nn


def conv(c_in, c_out, kernel):
    return torch_nn.Sequential(
        torch_nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2), torch_nn.BatchNorm2d(c_out), torch_nn.ReLU()
    )


class Net(nn.ModelSpace):
    def __init__(self, channels, classes, width=8):
        super().__init__(resolutions=(8,), channels=channels)
        self.first = nn.LayerChoice({"k3": conv(channels, width, 3), "k5": conv(channels, width, 5)}, label="first")
        self.second = nn.Repeat(lambda n: conv(width, width, 3), depths=(1, 2), label="depth")
        self.third = nn.LayerChoice({"k3": conv(width, width, 3), "k5": conv(width, width, 5)}, label="third")
        self.skip = nn.InputChoice(2, label="skip")
        self.head = nn.Block(torch_nn.Linear(width, classes))

    def forward(self, x):
        y = self.second(self.first(x))
        return self.head(self.skip([y, y + self.third(y)]).mean((2, 3)))
"""


@pytest.fixture(autouse=True)
def any_drift() -> Iterator[None]:
    yield from ignore_drift()


@pytest.fixture
def nets(tmp_path: Path) -> Path:
    path = tmp_path / "nets.py"
    path.write_text(NETS)
    return path


def test_twenty_lines_of_torch_are_profiled_searched_exported_and_checked(
    nets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    threads = torch.get_num_threads()
    text = RECIPE.replace('name = "toy"\nresolutions = [8, 12]', f'name = "{nets}:Net"\nwidth = 6')
    # Its networks lie within a tenth of each other's latency: 90 % of the slowest may be less than the fastest takes.
    text = text.replace('at_most = "90 %"', 'at_most = "99 %"')
    recipe = make_workspace(tmp_path, recipe=text)
    report = profile(recipe, root=tmp_path, on_noise="mark")
    assert not report.failures
    assert report.path.name.startswith("this-cpu--onnxruntime-cpu--net-")
    front = search(recipe, root=tmp_path)
    torch.set_num_threads(threads)
    assert front.on_front
    for member in front.members:
        facts = run(capsys, "check", str(front.onnx_path(member)))
        assert facts[0] == 0, facts
        model = family(f"{nets}:Net", {"width": 6}, channels=1, classes=10).supernet()
        plain = load_network(front.folder / member.weights, model=model)  # type: ignore[arg-type]
        with torch.inference_mode():
            assert plain(torch.zeros(1, 1, 8, 8)).shape == (1, 10)
    with pytest.raises(TableError, match="a model of somebody's own, which a table may not run"):
        space_of(LatencyTable.load(report.path))


def test_a_family_of_ones_own_has_what_every_family_has(nets: Path) -> None:
    found = family(f"{nets}:Net", {}, channels=1, classes=3)
    assert isinstance(found, OwnModel)
    assert found.space.size == 2 * 2 * 2 * 2
    assert found.name == found.space.name == f"net-{found.space.entries_digest[:6]}"
    assert found.resolutions == (8,)
    assert found.default() == found.space.canonical({
        "resolution": 8,
        "first": "k3",
        "depth": 1,
        "third": "k3",
        "skip": 0,
    })
    state = torch.random.get_rng_state()
    assert family(f"{nets}:Net", {}, channels=1, classes=3).space.entries_digest == found.space.entries_digest
    assert torch.equal(torch.random.get_rng_state(), state), "asking for a space moves no generator"
    wider = family(f"{nets}:Net", {"width": 16}, channels=1, classes=3)
    assert wider.name != found.name
    architecture = found.space.sample(1, np.random.default_rng(0))[0]
    assert found.build_network(architecture)(torch.zeros(1, 1, 8, 8)).shape == (1, 3)


@pytest.mark.parametrize(
    ("source", "overrides", "message"),
    [
        ("missing.py:Net", {}, "there is no file"),
        ("nets.py:Nett", {}, 'no model space "Nett"; did you mean "Net"'),
        ("nets.py:Net", {"widht": 4}, 'unknown key "widht" = 4; did you mean "width"'),
        ("nets.py:Net", {"width": "four"}, "Net cannot be built"),
        ("broken.py:Net", {}, "cannot be run: ZeroDivisionError"),
        ("narrow.py:Net", {}, "does not take classes"),
        ("grey.py:Net", {}, "has images of 3 channels, the data 1"),
        (
            "small.py:Net",
            {},
            r"its forward pass fails on images of 8 x 8 as .*: RuntimeError: .*drop the smallest sizes",
        ),
    ],
)
def test_what_is_wrong_with_a_model_is_said(
    nets: Path, source: str, overrides: dict[str, object], message: str
) -> None:
    (nets.parent / "broken.py").write_text("1 / 0")
    (nets.parent / "narrow.py").write_text(
        NETS.replace("channels, classes, width=8", "channels").replace("classes", "2")
    )
    (nets.parent / "grey.py").write_text(NETS.replace(", channels=channels)", ")"))
    (nets.parent / "small.py").write_text(NETS.replace("padding=kernel // 2", "padding=0"))
    with pytest.raises(SpaceError, match=message):
        _ = family(f"{nets.parent / source}", overrides, channels=1, classes=2).space


def test_a_recipe_names_the_table_of_the_fault(nets: Path, tmp_path: Path) -> None:
    recipe = make_workspace(
        tmp_path, recipe=RECIPE.replace('name = "toy"\nresolutions = [8, 12]', f'name = "{nets}:Nut"')
    )
    with pytest.raises(RecipeError, match=r"toy.toml: \[space\] .*no model space \"Nut\""):
        profile(recipe, root=tmp_path)


@pytest.mark.parametrize(
    ("line", "instead", "message"),
    [
        (
            "        y = self.second(self.first(x))",
            "        y = self.second(self.first(x)).view(7)",
            r"its forward pass fails",
        ),
        ("        y = self.second(self.first(x))", "        y = self.second(self.frist(x))", r"AttributeError.*frist"),
        ("        self.head = nn", "        self.head = [][0]\n        self.head = nn", r"cannot be built: IndexError"),
        ("class Net(", "1 / 0\nclass Net(", r"cannot be run: ZeroDivisionError: division by zero"),
        ("class Net(", "class Net((", r"cannot be run: SyntaxError"),
    ],
)
def test_a_fault_of_the_user_s_own_names_the_line(nets: Path, line: str, instead: str, message: str) -> None:
    """The message ends with the file and the line, in the place of a traceback of thirty frames."""
    text = NETS.replace(line, instead)
    assert text != NETS
    nets.write_text(text)
    at = next(n for n, row in enumerate(text.split("\n"), start=1) if row == instead.split("\n")[0] or "Net((" in row)
    with pytest.raises(SpaceError, match=rf"{message}.* \(nets.py, line {at}\)( \(every network must run.*\))?$"):
        _ = family(f"{nets}:Net", {}, channels=1, classes=2).space


def test_a_model_that_is_no_function_of_its_images_is_refused_when_its_space_is_read(nets: Path) -> None:
    nets.write_text(
        NETS.replace("return self.head(", "return self.head(torch_nn.functional.dropout(").replace(
            "(2, 3)))", "(2, 3))))"
        )
    )
    with pytest.raises(SpaceError, match=r"nets.py: Net: gives another answer for the same images each time"):
        _ = family(f"{nets}:Net", {}, channels=1, classes=2).space
    nets.write_text(NETS.replace("BatchNorm2d(c_out)", "BatchNorm2d(c_out, track_running_stats=False)"))
    with pytest.raises(SpaceError, match=r"nets.py: first\S*: a BatchNorm2d that keeps no statistics"):
        _ = family(f"{nets}:Net", {}, channels=1, classes=2).space


FEW = NETS.replace(
    'self.second = nn.Repeat(lambda n: conv(width, width, 3), depths=(1, 2), label="depth")',
    "self.second = nn.Block(conv(width, width, 3))",
).replace(
    'self.third = nn.LayerChoice({"k3": conv(width, width, 3), "k5": conv(width, width, 5)}, label="third")',
    "self.third = nn.Block(conv(width, width, 3))",
)


def test_a_model_of_few_networks_is_measured_whole_searched_and_not_refitted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nets.py").write_text(FEW)
    threads = torch.get_num_threads()
    text = RECIPE.replace('name = "toy"\nresolutions = [8, 12]', 'name = "nets.py:Net"\nwidth = 6')
    recipe = make_workspace(tmp_path, recipe=text.replace('at_most = "90 %"', 'at_most = "100 %"'))
    monkeypatch.chdir(tmp_path)
    code, out, _ = run(capsys, "profile", str(recipe), "--on-noise", "mark")
    assert code == 0
    assert "every network of the space was measured itself" in out
    assert "4 whole networks measured, which are all of the space: each is predicted by its own time" in out
    [path] = (tmp_path / "latency_tables").glob("*.jsonl")
    calibration = LatencyTable.load(path).header.calibration
    assert calibration is not None and calibration.kind == "networks"
    measured = {Architecture(one.architecture): one.p25_us / 1000 for one in calibration.networks}
    front = search(recipe, root=tmp_path)
    torch.set_num_threads(threads)
    for member in front.members:
        assert member.predicted["latency_ms"].value == measured[member.architecture]
    assert front.facts["refit"] == {"skipped": "every network of the space was measured for it, so nothing is fitted"}
    code, _, err = run(capsys, "profile", str(recipe), "--refit")
    assert code == 2
    assert "every network of the space was measured for it, so there is nothing to fit" in err
