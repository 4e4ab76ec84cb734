"""What the README shows works as shown, from top to bottom, in one folder.

Each toml or python block is saved under the name that the README gives it, and each indented command is run, in the
order in which they are read. What takes long is cut, and what is not here has a stand-in: see `CUTS` and `PREPARED`.
"""

from __future__ import annotations

import json
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from hwnas.cli.commands import COMMANDS
from hwnas.job import Recipe
from hwnas.job.recipe import AugmentTable
from hwnas.nn.to_onnx import OPSET
from tests.job.workspace import REPOSITORY, ignore_drift, run

README = REPOSITORY / "README.md"
TEXT = README.read_text()
EXPORTED = "members/*.onnx"

CUTS = (
    ("evaluations = 200", "evaluations = 6"),
    ("evaluations = 120", "evaluations = 6"),
    ("initial = 60", "initial = 4"),
    ("epochs = 20", "epochs = 1"),
    ("epochs = 12", "epochs = 1"),
    ("count = 6", "count = 2"),
    ("num_epochs=2", "num_epochs=1"),
    # What depends on the machine that runs this test:
    ("/path/to/images", "images"),
    ("at_most = 0.5 ", "at_most = 50.0 "),
    ("at_most=0.2", "at_most=50.0"),
    ("threads = 4", "threads = 1"),
)
"""Printed, and what stands in its place here: budgets, epochs, and what this machine has not."""

EFFORT = "\n[training]\nepochs = 1\nthreads = 1\n\n[members]\ncount = 2\nepochs = 1\n"
"""After each recipe that leaves its epochs to the defaults."""

OF_FEW_IMAGES = EFFORT.replace("epochs = 1\n", "epochs = 4\nbatch_size = 16\n")
"""The same for the images drawn here, which are too few for an epoch of large batches to teach anything."""

SMALL = (
    ('name = "mobilenet_v3"\nresolutions = [32, 48, 64]', 'name = "toy"\nresolutions = [8, 12]   '),
    ('name = "mobilenet_v3_tiny"', 'name = "toy"\nresolutions = [8, 12]'),
)
"""In the quick run a toy space stands in for MobileNetV3, whose blocks alone take minutes to measure."""


@dataclass(frozen=True)
class Step:
    """Something that a reader does.

    Attributes:
        kind: "toml", "python" or "command".
        text: Of the block, or the command without its comment.
        name: The file that the block is saved as; empty if the README names none.
        top: Whether the block goes to the top of that file, which is there.
    """

    kind: str
    text: str
    name: str = ""
    top: bool = False


def steps() -> list[Step]:
    """All that the README tells its reader to save and to run, in order."""
    found, since = [], 0
    for match in re.finditer(r"^```(\w+)\n(.*?)^```$|^    (\S[^\n]*)$", TEXT, re.MULTILINE | re.DOTALL):
        language, block, command = match.groups()
        before = TEXT[since : match.start()]
        since = match.end()
        if command is not None:
            if not command.startswith("#"):
                found.append(Step("command", re.split(r"\s+#", command)[0]))
            continue
        named = re.findall(r"[Ss]ave (?:it )?as\s+`([^`]+)`", before)
        top = re.findall(r"at the top of\s+`([^`]+)`", before)
        name = (top or named or [""])[-1]
        found.append(Step(language, block, name, bool(top)))
    return found


def cut(text: str, *, small: bool) -> str:
    for printed, here in (*CUTS, *(SMALL if small else ())):
        text = text.replace(printed, here)
    return text


# ------------------------------------------------------------------------------ what is not here, and stands in for it


def draw_images(folder: Path) -> None:
    """Three classes of images, some dozens each."""
    rng = np.random.default_rng(0)
    for label, colour in (("red", 0), ("green", 1), ("blue", 2)):
        (folder / "images" / label).mkdir(parents=True)
        for n in range(48):
            pixels = rng.integers(0, 120, (40, 32, 3), dtype=np.uint8)
            pixels[:, :, colour] += 120
            Image.fromarray(pixels).save(folder / "images" / label / f"{n}.png")


def board_behind_ssh(folder: Path) -> None:
    """An `ssh` that runs what it is given on this machine, whatever its options and the host, and a Python for it."""
    programs = {
        "ssh": 'while [ "$1" != "--" ]; do shift; done\nshift 2\nexec sh -c "$*"',
        "python3": f'exec {shlex.quote(sys.executable)} "$@"',
    }
    for name, script in programs.items():
        path = folder / "bin" / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)


def board_by_hand(folder: Path) -> None:
    """As the README says: reach = "kit" instead of a host."""
    path = folder / "devices" / "pi5.toml"
    lines = [line for line in path.read_text().splitlines() if not line.startswith("host")]
    path.write_text("\n".join([*lines, 'reach = "kit"']) + "\n")


def carry_the_kit(folder: Path) -> None:
    """What a person does with it: carry it to the board (here: nowhere), run it, bring the results back."""
    [kit] = (folder / "kits").iterdir()
    job = json.loads((kit / "job.json").read_text())
    (kit / "job.json").write_text(json.dumps(job | {"on_noise": "mark"}))
    command = [sys.executable, "measure.py", "job.json", "results.jsonl"]
    subprocess.run(command, cwd=kit, check=True, capture_output=True)
    shutil.copy(kit / "results.jsonl", folder)


def published_table(folder: Path) -> None:
    (folder / "table.csv").write_text("key,mean\nConv-input:224x224x3-output:112x112x24,990\n")


def another_run(folder: Path) -> None:
    text = (folder / "search" / "mine.toml").read_text().replace('name = "nat"', 'name = "random"')
    (folder / "search" / "another.toml").write_text(text)


PREPARED: dict[str, tuple[Callable[[Path], None] | None, tuple[str, ...], Callable[[Path], None] | None]] = {
    "hwnas profile search/board.toml": (board_behind_ssh, (), None),
    "hwnas kit search/board.toml": (board_by_hand, (), carry_the_kit),
    "hwnas import": (published_table, (), None),
    "hwnas compare": (another_run, ("hwnas search search/another.toml",), None),
}
"""By the beginning of a command: what is made before it, commands that the README leaves to the reader, what is done
after it."""

ELSEWHERE = {"make test": "it is what runs this test"}
"""Commands that are not run, and why."""


# --------------------------------------------------------------------------------------------------------- the reader


@dataclass
class Reader:
    """Does what the README says.

    Attributes:
        folder: Where the reader is.
        small: Whether toy spaces stand in.
        capsys: Takes what commands print.
        done: What was done, one line each.
    """

    folder: Path
    small: bool
    capsys: pytest.CaptureFixture[str]
    done: list[str]

    def does(self, step: Step) -> None:
        if step.kind == "command":
            self.command(step.text)
        else:
            self.saves(step)

    def saves(self, step: Step) -> None:
        text = cut(step.text, small=self.small)
        if step.kind == "toml" and step.name.startswith("search/") and not step.top:
            text += OF_FEW_IMAGES if "image_folder" in text else EFFORT
        path = self.folder / (step.name or f"snippet{len(self.done)}.py")
        assert path.suffix == {"toml": ".toml", "python": ".py"}[step.kind], "a block says what it is saved as"
        path.parent.mkdir(exist_ok=True)
        assert step.top == path.is_file(), f"{path}: nothing of the reader's is overwritten"
        path.write_text(text + ("\n" + path.read_text() if step.top else ""))
        self.done.append(f"saved {path.relative_to(self.folder)}")
        if step.kind == "python":
            runpy.run_path(str(path), run_name="__main__")
            self.done.append(f"python {path.relative_to(self.folder)}")

    def command(self, text: str) -> None:
        if text in ELSEWHERE:
            return
        if text == "make demo":
            for line in demo():
                self.command(line)
            return
        prepared = [how for start, how in PREPARED.items() if text.startswith(start) and "--from" not in text]
        before, commands, after = prepared[0] if prepared else (None, (), None)
        if before is not None:
            before(self.folder)
        for line in (*commands, text):
            self.runs(line)
        if after is not None:
            after(self.folder)

    def runs(self, text: str) -> None:
        program, *arguments = shlex.split(text)
        assert program == "hwnas", text
        # A machine of many users may be noisy: the table then says so, and is taken all the same.
        measures = arguments[0] == "profile" and not {"--from", "--refit"} & {*arguments}
        code, out, err = run(self.capsys, *arguments, *(["--on-noise", "mark"] if measures else []))
        assert code == 0, f"{text}\n{err}"
        assert out, text
        self.done.append(text)


def demo() -> list[str]:
    """The commands of `make demo`, without those that install."""
    lines = (REPOSITORY / "Makefile").read_text().partition("\ndemo:")[2].splitlines()[1:]
    found = []
    for line in lines:
        if not line.startswith("\t"):
            break
        found.append(line.strip().removeprefix("$(BIN)/"))
    return found


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A fresh clone, as far as the README needs one."""
    for name in ("devices", "search"):
        shutil.copytree(REPOSITORY / name, tmp_path / name)
    (tmp_path / "bin").mkdir()
    draw_images(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    threads = torch.get_num_threads()
    for _ in ignore_drift():
        yield tmp_path
    torch.set_num_threads(threads)
    for name in ("nets", "costs"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("small", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["toy spaces", "as printed"])
def test_the_readme_works_from_top_to_bottom(small: bool, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / "search" / "quickstart.toml"
    path.write_text(cut(path.read_text(), small=small))
    reader = Reader(folder, small, capsys, [])
    for step in steps():
        reader.does(step)
    # It was really done, and in this order:
    kinds = [line.split()[0] for line in reader.done]
    assert (kinds.count("saved"), kinds.count("python")) == (10, 5)
    printed = [step.text for step in steps() if step.kind == "command" and step.text.startswith("hwnas")]
    assert [line for line in reader.done if line in printed] == printed
    assert {name.name for name in (folder / "runs").iterdir() if name.is_dir()} >= {
        *("quickstart", "mine", "own", "priced", "sizes", "another")
    }
    for exported in (folder / "runs").glob(f"*/{EXPORTED}"):
        model = onnx.load(exported)
        assert (model.opset_import[0].version, model.ir_version) == (OPSET, 8)
        kinds_of_numbers = {weights.data_type for weights in model.graph.initializer}
        assert kinds_of_numbers <= {onnx.TensorProto.FLOAT, onnx.TensorProto.INT64}


def test_what_a_reader_does_is_found() -> None:
    found = steps()
    assert [step.name for step in found if step.kind != "command"] == [
        *("search/mine.toml", "nets.py", "search/own.toml", "by_gradient.py", "devices/pi5.toml", "search/board.toml"),
        *("costs.py", "search/own.toml", "", ""),
    ]
    assert found[0].text == "make demo"


def test_each_cut_is_of_something_printed() -> None:
    printed = TEXT + (REPOSITORY / "search" / "quickstart.toml").read_text()
    for old, _ in (*CUTS, *SMALL):
        assert old in printed, old


def test_the_recipe_is_right() -> None:
    text = next(step.text for step in steps() if step.name == "search/mine.toml")
    assert Recipe.from_toml(text, Path("search/mine.toml")).budget.evaluations == 200


def test_the_commands_exist() -> None:
    named = {step.text.split()[1] for step in steps() if step.text.startswith("hwnas ")}
    assert {"profile", "search", "front", "pick", "export", "check"} <= named <= set(COMMANDS)
    makefile = (REPOSITORY / "Makefile").read_text()
    for target in re.findall(r"^    make (\w+)", TEXT, re.MULTILINE):
        assert f"\n{target}:" in makefile


def test_the_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", TEXT):
        assert (REPOSITORY / target).exists(), target


def test_figures_in_words_are_true() -> None:
    lines = len((REPOSITORY / "hwnas" / "tour.py").read_text().splitlines())
    for file in ("README.md", "CONTRIBUTING.md"):
        assert f"the whole pipeline in {lines} lines" in (REPOSITORY / file).read_text()
    assert f"opset {OPSET} " in TEXT
    training, members = Recipe.model_fields["training"].default, Recipe.model_fields["members"].default
    said = f"{training.epochs} epochs for the supernet, {members.epochs} for each of {members.count} members"
    assert said in " ".join(TEXT.split())
    assert (Recipe.model_fields["augment"].default, training.threads) == (AugmentTable(), None), "none, and all cores"
