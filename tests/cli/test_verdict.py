"""What a table is good for, in one line."""

from __future__ import annotations

from typing import Any

import pytest

from hwnas.cli.verdict import incomplete, verdict
from hwnas.cost import Calibration, Holdout, NetworkRecord, NoiseRecord, TableHeader
from tests.cost.toy_space import IDENTITY, header, toy_space

SPACE = toy_space()
QUIET = NoiseRecord(median=0.002, p95=0.01, tau=0.99, passed=True)
LOUD = NoiseRecord(median=0.02, p95=0.1, tau=0.9, passed=False)
WHOLE = Calibration(
    kind="networks",
    terms=(),
    coefficients=(),
    n=1,
    loo_mape=None,
    band=0.01,
    box={},
    networks=(NetworkRecord(architecture={"size": 32}, p25_us=5.0),),
)


def held(mape: float, tau: float | None) -> Calibration:
    checked = Holdout(mape=mape, bias=0.0, within_5=1.0, within_10=1.0, tau=tau, n=8)
    return IDENTITY.model_copy(update={"holdout": checked})


@pytest.mark.parametrize(
    ("calibration", "noise", "words"),
    [
        (None, QUIET, "not usable yet: blocks are missing, so nothing can be predicted"),
        (WHOLE, QUIET, "good: every network of the space was measured itself"),
        (WHOLE, LOUD, "fair: every network of the space was measured itself; but the machine was noisy"),
        (IDENTITY, None, "good: predictions are off by 1.0% on average"),
        (held(0.01, 0.99), QUIET, "good: predictions are off by 1.0% on average, their order is right"),
        (held(0.01, None), QUIET, "good: predictions are off by 1.0% on average"),
        (held(0.01, 0.5), QUIET, "fair: predictions are off by 1.0% on average, their order is partly wrong"),
        (held(0.05, 0.95), QUIET, "fair: predictions are off by 5.0% on average, their order is right"),
        (held(0.01, 0.99), LOUD, "fair: predictions are off by 1.0% on average, their order is right; but the machine"),
        (held(0.3, 0.99), QUIET, "poor: predictions are off by 30.0% on average"),
    ],
)
def test_a_table_is_judged(calibration: Calibration | None, noise: NoiseRecord | None, words: str) -> None:
    said = verdict(header(SPACE, calibration=calibration).model_copy(update={"noise": noise}), {})
    assert said.startswith(words)
    assert ("noisy" in said) == (calibration is not None and noise is LOUD)


def marked(calibration: Calibration, **protocol: Any) -> TableHeader:
    """A header of a quiet measurement, with what its protocol says of it besides."""
    plain = header(SPACE, calibration=calibration)
    changed = plain.protocol.model_copy(update=protocol)
    return plain.model_copy(update={"noise": QUIET, "protocol": changed})


@pytest.mark.parametrize("calibration", [IDENTITY, held(0.01, 0.99), WHOLE])
@pytest.mark.parametrize(
    ("protocol", "words"),
    [
        ({"marks": ("busy: the load was 7.5 on 2 cores",)}, "the machine was busy meanwhile"),
        (
            {"marks": ("busy: the load was 7.5 on 2 cores", "of unknown quota: its file holds garbage")},
            "the machine was busy, of unknown quota meanwhile",
        ),
        ({"marks": ("short: 8 rounds, to keep to 300 s",), "capped": True}, "it was cut to keep to its time limit"),
        ({"row_marks": {"a": "uneven: by 20%"}}, "1 model was unsteady"),
        (
            {"marks": ("drifting: 1.2 times",), "row_marks": {"a": "uneven: by 20%", "b": "scattered: by 60%"}},
            "the machine was drifting meanwhile and 2 models were unsteady",
        ),
    ],
)
def test_a_table_with_marks_is_not_called_good(calibration: Calibration, protocol: dict[str, Any], words: str) -> None:
    assert verdict(marked(calibration), {}).startswith("good: ")
    said = verdict(marked(calibration, **protocol), {})
    assert said.startswith("fair: ")
    assert said.endswith(f"; but {words}, so measure again when it is quiet")


@pytest.mark.parametrize("calibration", [IDENTITY, held(0.01, 0.99), held(0.3, 0.9), WHOLE])
def test_rows_that_cannot_be_right_come_first(calibration: Calibration) -> None:
    one = verdict(marked(calibration), {"stem": "takes 1.4e4 us"})
    two = verdict(marked(calibration), {"stem": "takes 1.4e4 us", "head": "takes 1 us"})
    assert one.startswith("doubtful: 1 block cannot be right; by its header ")
    assert two.startswith("doubtful: 2 blocks cannot be right; by its header ")
    assert "good" not in one + two


def test_what_is_missing_is_told_with_the_first_and_its_reason() -> None:
    assert incomplete({}) == []
    [line] = incomplete({"b": "late", "a": "no such kernel"})
    assert line == "  incomplete, 2 blocks are missing: the first a: no such kernel"
