from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

import hwnas
from hwnas.core.escaping import command_line, visible

COMMANDS = "bench|check|compare|export|front|import|kit|pick|profile|search"


@given(st.text())
def test_visible_text_is_printable_on_one_line(text: str) -> None:
    found = visible(text)
    assert len(found.splitlines()) <= 1
    assert all(letter.isprintable() or letter.isspace() for letter in found)
    assert visible(found) == found


@given(st.lists(st.text(st.characters(exclude_characters="\0")), min_size=1))
def test_a_shell_reads_a_command_line_as_its_words(words: list[str]) -> None:
    assert shlex.split(command_line(*words)) == words


def test_no_command_is_put_together_without_quoting() -> None:
    """A value right after a command is a name or a path: one with a blank would be two words."""
    command = re.compile(rf"\bhwnas ({COMMANDS}) ([A-Z]+ )*$")
    found = []
    for path in sorted(Path(hwnas.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                for before, value in zip(node.values, node.values[1:], strict=False):
                    if isinstance(before, ast.Constant) and isinstance(value, ast.FormattedValue):
                        text = str(before.value)
                        if "hwnas " in text and command.search(text[text.rindex("hwnas ") :]):
                            found.append(f"{path.name}:{node.lineno}: {text}")
    assert found == []
