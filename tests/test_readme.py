"""What the README shows works as shown."""

import re
from pathlib import Path
from typing import Any

import pytest

from hwnas.cli.commands import COMMANDS
from hwnas.device import Device
from hwnas.job import Recipe
from hwnas.zoo import family

README = Path(__file__).parents[1] / "README.md"
TEXT = README.read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


def test_the_recipe_is_right() -> None:
    text = next(text for text in blocks("toml") if "[space]" in text)
    recipe = Recipe.from_toml(text, Path("search/mine.toml"))
    assert recipe.budget.evaluations == 200


def test_the_board_is_right(tmp_path: Path) -> None:
    path = tmp_path / "board.toml"
    path.write_text(next(text for text in blocks("toml") if "[space]" not in text))
    assert Device.load(path).reach == "ssh"


def test_the_python_of_ones_own_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    nets, script, front, own = blocks("python")
    names: dict[str, Any] = {}
    exec(compile(nets, "nets.py", "exec"), names)
    exec(compile(script, "README.md", "exec"), names)
    assert names["plain"](names["data"].tensors[0]).shape == (64, 10)
    assert set(names["choices"]) == {"first", "second", "skip.0", "resolution"}
    (tmp_path / "nets.py").write_text(nets)
    assert family("nets.py:Net", {"width": 8}, channels=1, classes=3).space.size == 8
    compile(front, "README.md", "exec")
    exec(compile(own, "README.md", "exec"), {})
    assert (tmp_path / "runs" / "mine" / "store.sqlite").is_file()


def test_the_commands_exist() -> None:
    named = {line.split()[1] for line in TEXT.splitlines() if line.startswith("    hwnas ")}
    assert {"profile", "search", "front", "pick", "export", "check"} <= named <= set(COMMANDS)
    makefile = (README.parent / "Makefile").read_text()
    for target in re.findall(r"^    make (\w+)", TEXT, re.MULTILINE):
        assert f"\n{target}:" in makefile


def test_the_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", TEXT):
        assert (README.parent / target).exists(), target
