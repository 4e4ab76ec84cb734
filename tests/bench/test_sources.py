"""What code a figure depends on: followed from a part through imports, name by name."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import FunctionType

import pytest

from tests.bench import sources
from tests.bench.sources import digest_of_file, digest_of_sources, sources_of

PACKAGE = {
    "__init__": "from hwnas.thing import used\n",
    "thing": '''
"""What it is."""
import numpy as np
from hwnas import other
from hwnas.deep import far

LIMIT = 3


def used(x):
    """Says so."""
    return LIMIT + other.seen(x) + np.sum(x)


def unused(x):
    return far(x)
''',
    "other": "def seen(x):\n    from hwnas.late import later\n    return later(x)\n\n\ndef hidden():\n    return 1\n",
    "store": "def keep(x):\n    return x\n",
    "classy": '''
import torch
from hwnas.deep import far
from hwnas.store import keep
from hwnas.other import hidden


class Base:
    def inherited(self):
        return 1


class Own(Base):
    size = 1

    def __init__(self):
        self.step()

    def step(self, far: hidden = 1) -> hidden:
        """Takes one."""
        if keep(far) < 0:
            raise ValueError(f"step is {far}")
        return self.size

    def never(self):
        return far(1)

    def by_name(self):
        return getattr(self, "named")()

    def named(self):
        return 2


class Theirs(torch.nn.Module):
    def forward(self, x):
        return far(x)


def makes():
    return Own(), Theirs


def calls():
    return Own().by_name()


def chosen():
    return {"far": "hwnas.deep:far", "none": "hwnas.nowhere:far", "time": "12:30"}
''',
    "deep": "def far(x):\n    return x\n",
    "late": "print('loaded')\n\n\ndef later(x):\n    return x\n",
}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package of that name elsewhere."""
    folder = tmp_path / "hwnas"
    folder.mkdir()
    for name, text in PACKAGE.items():
        (folder / f"{name}.py").write_text(text)
    monkeypatch.setattr(sources.file_of, "__defaults__", (tmp_path,))
    sources._parsed.cache_clear()
    yield folder
    sources._parsed.cache_clear()


def part(name: str = "used", module: str = "hwnas") -> FunctionType:
    """A function that claims to be defined there."""

    def call() -> None: ...

    call.__module__, call.__qualname__ = module, name
    assert isinstance(call, FunctionType)
    return call


def change(package: Path, name: str, old: str, new: str, root: FunctionType | None = None) -> bool:
    """Whether replacing a text changes what is found."""
    root = root or part()
    before = sources_of(root)
    path = package / f"{name}.py"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    sources._parsed.cache_clear()
    return digest_of_sources(sources_of(root)) != digest_of_sources(before)


def test_names_are_followed_through_re_exports_modules_and_imports_in_functions(package: Path) -> None:
    assert list(sources_of(part())) == ["hwnas.late", "hwnas.other", "hwnas.thing"]


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("thing", "LIMIT = 3", "LIMIT = 4"),
        ("thing", "LIMIT + other", "other"),
        ("late", "return x", "return -x"),
        ("late", "print('loaded')", "print('here')"),
    ],
)
def test_a_change_in_what_is_used_counts(package: Path, name: str, old: str, new: str) -> None:
    assert change(package, name, old, new)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("thing", '"""Says so."""', '"""Says it otherwise."""'),
        ("thing", "LIMIT = 3", "# how many\nLIMIT  =  3"),
        ("thing", "return far(x)", "return -far(x)"),
        ("other", "return 1", "return 2"),
        ("deep", "return x", "return -x"),
    ],
)
def test_comments_docstrings_layout_and_what_is_not_used_do_not(package: Path, name: str, old: str, new: str) -> None:
    assert not change(package, name, old, new)


@pytest.mark.parametrize(
    ("root", "old", "new", "counts"),
    [
        ("makes", "return self.size", "return -self.size", True),
        ("makes", "size = 1", "size = 2", True),
        ("makes", "self.step()", "pass", True),
        ("makes", "return far(1)", "return far(2)", False),
        ("makes", "return 2", "return 3", False),
        ("makes", "return far(x)", "return -far(x)", True),
        ("makes", 'f"step is {far}"', 'f"step must not be {far}"', False),
        ("makes", "raise ValueError", "raise TypeError", True),
        ("makes", "far: hidden = 1) -> hidden", "far: int = 1) -> int", False),
        ("calls", "return 2", "return 3", True),
    ],
)
def test_of_a_class_its_methods_count_that_are_called(
    package: Path, root: str, old: str, new: str, counts: bool
) -> None:
    assert change(package, "classy", old, new, part(root, "hwnas.classy")) == counts


def test_a_text_that_names_a_module_and_what_is_in_it_counts_as_that(package: Path) -> None:
    assert list(sources_of(part("chosen", "hwnas.classy"))) == ["hwnas.classy", "hwnas.deep"]
    assert change(package, "deep", "return x", "return -x", part("chosen", "hwnas.classy"))


def test_a_figure_of_a_recipe_depends_on_every_strategy() -> None:
    assert "hwnas.strategies.nsga2" in sources_of(part("build", "hwnas.strategies.registry"))


def test_what_only_keeps_things_does_not_count(package: Path) -> None:
    found = sources_of(part("makes", "hwnas.classy"))
    assert "hwnas.store" not in found and "hwnas.other" not in found and "hwnas.deep" in found


def test_what_a_partial_is_given_counts(package: Path) -> None:
    one, two = (sources_of(partial(part(), device=name)) for name in ("raspi4", "pixel3"))
    assert set(one) == {*sources_of(part()), "arguments"} and one["arguments"] != two["arguments"]
    assert "hwnas.deep" in sources_of(partial(part(), search=part("unused", "hwnas.thing")))


def test_something_else_than_a_function_is_refused() -> None:
    with pytest.raises(TypeError, match="is no function"):
        sources_of(3)


def test_the_program_that_measures_is_part_of_what_runs_it() -> None:
    assert "hwnas.device.measure" in sources_of(part("Program", "hwnas.profiling.program"))


def test_a_file_s_digest_is_of_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "x"
    assert digest_of_file(path) == "gone"
    path.write_text("a")
    first = digest_of_file(path)
    path.write_text("b")
    assert digest_of_file(path) != first
