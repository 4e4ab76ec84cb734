"""A calibration fitted again with networks that were measured later."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hwnas.core import Architecture, TableError
from hwnas.cost import Features, LatencyTable, NetworkRecord, UnitSumCost, calibrate
from hwnas.cost.refit import refit, refit_path, save_refit, with_refit

from .toy_space import flat_table, toy_space

SPACE = toy_space()
ROWS = flat_table(SPACE).rows
FEATURES = Features.of(SPACE, ROWS)


def times(architectures: list[Architecture], seed: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Plain sums with a fifth more for each squeeze-and-excitation, which only shifted networks show."""
    features = FEATURES(SPACE.encode(architectures))
    noise = np.random.default_rng(seed).lognormal(0, 0.003, len(features))
    return np.asarray((features[:, 0] + 400 * features[:, 5]) * noise)


def split() -> tuple[list[Architecture], list[Architecture]]:
    """Calibration networks without a residual; networks that a search found, which have two."""
    everything = [*SPACE.enumerate()]
    residuals = FEATURES(SPACE.encode(everything))[:, 5]
    rng = np.random.default_rng(0)
    plain, shifted = (np.flatnonzero(residuals == n) for n in (0, 2))
    return [everything[i] for i in rng.permutation(plain)[:20]], [everything[i] for i in rng.permutation(shifted)[:8]]


PLAIN, FOUND = split()


def table() -> LatencyTable:
    calibration = calibrate(
        SPACE, ROWS, PLAIN[:14], times(PLAIN[:14], 1), held_out=PLAIN[14:], held_out_us=times(PLAIN[14:], 2)
    )
    return flat_table(SPACE, calibration=calibration)


def records(run: str = "run a") -> list[NetworkRecord]:
    return [
        NetworkRecord(architecture=dict(a), p25_us=us, source=run)
        for a, us in zip(FOUND, times(FOUND, 3).tolist(), strict=True)
    ]


def test_found_networks_are_predicted_better_after_the_refit_even_when_left_out() -> None:
    before = UnitSumCost.from_table(SPACE, table())
    measured = np.array([one.p25_us for one in records()]) / 1000
    error_before = np.abs(before.batch(SPACE.encode(FOUND)) / measured - 1).mean()
    found = refit(SPACE, table(), records())
    error_after = np.abs(np.array(found.left_out) - 1).mean()
    assert error_before > 0.03
    assert error_after < 0.01
    assert (found.calibration.n, len(found.calibration.networks)) == (14 + 8, 20 + 8)
    assert found.calibration.holdout is not None
    assert found.calibration.holdout.n == 6, "held-out networks stay held out"
    assert {one.source for one in found.calibration.networks} == {"profile", "run a"}


def test_left_out_means_left_out() -> None:
    """Brute force for one network: a fit of all the others, of the terms that were chosen."""
    found = refit(SPACE, table(), records())
    terms = found.calibration.terms
    columns = [FEATURES.terms.index(term) for term in terms]
    others = [one for one in found.calibration.networks if one.role == "fitted" and one != records()[0]]
    from hwnas.cost import fit

    codes = SPACE.encode(Architecture(one.architecture) for one in others)
    without = fit(FEATURES(codes)[:, columns], np.array([one.p25_us for one in others]))
    predicted = float((FEATURES(SPACE.encode(FOUND[:1]))[:, columns] @ without.coefficients)[0])
    assert found.left_out[0] == pytest.approx(predicted / records()[0].p25_us, rel=1e-3)


def test_a_network_measured_again_counts_once_with_its_newest_time() -> None:
    first = refit(SPACE, table(), records())
    later = refit(SPACE, flat_table(SPACE, calibration=first.calibration), records("run b"))
    assert later.calibration.n == first.calibration.n
    assert {one.source for one in later.calibration.networks} == {"profile", "run b"}


def test_the_refit_lies_beside_the_table_and_is_used(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    table().save(path)
    loaded = LatencyTable.load(path)
    assert with_refit(path, loaded).refitted is None
    found = refit(SPACE, loaded, records())
    assert save_refit(path, loaded, found.calibration) == refit_path(path) == tmp_path / "a.refit.json"
    again = with_refit(path, LatencyTable.load(path))
    assert again.calibration == found.calibration
    assert again.digest == loaded.digest, "the table itself is as it was"
    assert again.header.calibration == loaded.header.calibration
    value = UnitSumCost.from_table(SPACE, again)(FOUND[0]).value * 1000
    assert value == pytest.approx(records()[0].p25_us, rel=0.02)


def test_a_refit_of_another_table_is_left_aside_and_a_damaged_one_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    table().save(path)
    loaded = LatencyTable.load(path)
    save_refit(path, loaded, refit(SPACE, loaded, records()).calibration)
    flat_table(SPACE).save(path)
    assert with_refit(path, LatencyTable.load(path)).refitted is None
    loaded.save(path)
    content = json.loads(refit_path(path).read_text())
    for change, words in (
        ({"unit": "ms"}, "expected schema 1 in us"),
        ({"calibration": {"terms": []}}, "a.refit.json: damaged"),
    ):
        refit_path(path).write_text(json.dumps(content | change))
        with pytest.raises(TableError, match=words):
            with_refit(path, loaded)
    refit_path(path).write_text("{")
    with pytest.raises(TableError, match="a.refit.json: damaged"):
        with_refit(path, loaded)


def test_a_table_that_does_not_say_its_networks_cannot_be_refitted() -> None:
    with pytest.raises(TableError, match="does not say which networks it rests on.*hwnas profile"):
        refit(SPACE, flat_table(SPACE), records())


def test_a_spread_of_the_reference_networks_widens_the_band() -> None:
    from dataclasses import replace

    quiet = UnitSumCost.from_table(SPACE, table())
    drifted = UnitSumCost.from_table(SPACE, replace(table(), drift_spread=0.02))
    assert quiet.band is not None and drifted.band is not None
    assert drifted.band == pytest.approx(quiet.band + np.log(1.02))
    assert drifted(FOUND[0]).value == quiet(FOUND[0]).value
    assert drifted(FOUND[0]).extrapolated, "no calibration network has a residual"
    assert not quiet(PLAIN[0]).extrapolated
