import json
from pathlib import Path

import pytest

from hwnas.cli import main
from hwnas.cost.foreign import import_table

LINES = "key,mean\nConv-input:224x224x3-output:112x112x24,0.99\nWarp-input:8x8x3-output:8x8x3,1\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "phone.csv"
    path.write_text(LINES)
    return path


def run(*arguments: str) -> int | str | None:
    with pytest.raises(SystemExit) as ended:
        main(["import", *arguments])
    return ended.value.code


def test_what_the_table_holds_is_said_and_written(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = path.parent / "tables" / "phone.jsonl"
    assert run(str(path), "--unit", "ms", "--out", str(out), "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["blocks"] == {"conv": 1} and found["fastest_us"] == 990.0 and found["unit"] == "ms"
    assert found["left_out"] == [{"where": "line 3", "key": "Warp-input:8x8x3-output:8x8x3"}]
    assert import_table(out).rows[0].latency_us == 990.0
    assert run(str(out)) == 0
    assert "1 block (1 conv), 990 to 990 us" in capsys.readouterr().out


def test_without_a_unit_it_is_refused_with_the_way_out(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(str(path)) == 2
    error = capsys.readouterr().err
    assert "column mean does not say its unit" in error and "--unit ms" in error
    assert run(str(path), "--unit", "min") == 2
    assert '--unit is "min"; expected us, ms or s' in capsys.readouterr().err
