"""NAS-Bench-201 on devices and its best network, on tables of the same columns with other numbers."""

import json
import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from hwnas.evaluation.benchmarks import nasbench201
from hwnas.strategies import Bayesian, Nsga2, RandomSearch
from tests.bench import devices
from tests.bench.best_network import by_most_macs, nasbench201_best, nasbench201_best_of_others, of_task, until_optimum
from tests.bench.devices import DEVICES, devices_together, on_device, problem
from tests.bench.figures import Bench, Measured, MissingDataError, Null, Row, run
from tests.bench.problems import DEVICES_DEVELOPED_ON, DEVICES_HELD_OUT
from tests.bench.result_files import save
from tests.bench.tabular import ACCURACY, Share, Side, found_and_spent
from tests.evaluation.tables import write_nasbench201, write_transnas


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_nasbench201(folder)
    write_transnas(folder)
    return folder


def test_a_device_has_ours_rivals_and_null_contenders(tiny: Path) -> None:
    measured = on_device(tiny, device="raspi4", judged=Side(Nsga2(), given="latency"), tools={}, seeds=3, most=400)
    rows = {row.figure: row for row in measured.rows}
    assert {row.contender for row in measured.rows} == {"ours", "rival", "null"}
    [ratio] = [row for row in measured.rows if row.must is not None]
    ours, *rivals = (rows[f"raspi4, {name}: evaluations until 99 %, mean"] for name in ("bayesian", *devices.PLAIN))
    rival = min(rivals, key=lambda row: row.value)
    assert len({row.value for row in rivals}) == 2, "two populations"
    assert ratio.value == pytest.approx(ours.value / rival.value)
    assert ratio.error is not None and ours.error is not None and rival.error is not None
    assert ratio.error == pytest.approx(ratio.value * math.hypot(ours.error / ours.value, rival.error / rival.value))
    nulls = [
        row.value / rival.value
        for row in measured.rows
        if row.contender == "null"
        and row.figure.endswith("evaluations until 99 %, mean")
        and devices.ALL_BOUGHT not in row.figure
        and devices.FEW_BOUGHT not in row.figure
    ]
    assert isinstance(ratio.null, Null) and ratio.null.value == pytest.approx(min(nulls))


def test_scores_that_are_bought_count_and_are_not_judged(tiny: Path) -> None:
    cheap = Bayesian(initial=4, initial_scores=5)
    measured = on_device(
        tiny,
        device="raspi4",
        judged=Side(Nsga2(), given="latency"),
        bought=Side(cheap, given="scores", scores=True),
        tools={},
        seeds=2,
        most=40,
    )
    [ratio] = [row for row in measured.rows if row.figure.endswith(f"{devices.BOUGHT_WHAT} {devices.OVER_BETTER}")]
    assert (
        not ratio.judged
        and isinstance(ratio.null, Null)
        and ratio.null.name in {devices.ALL_BOUGHT, devices.FEW_BOUGHT}
    )
    rows = {row.figure: row for row in measured.rows}
    arrived = rows[f"raspi4, {devices.ALL_BOUGHT}: evaluations until 99 %: runs that arrive, of 2"]
    assert arrived.value == 0, "all scores cost more than 40 evaluations"
    share = Share(*problem(tiny, "raspi4"))
    networks = len(share.benchmark.candidates((), (), ()))
    for run_of_all in devices._scores_first(share, 2, 1000):
        assert run_of_all.count is not None and 0 < run_of_all.count - 0.06 * networks <= 1000 - 0.06 * networks
    by_macs = devices._orders(*problem(tiny, "raspi4"), 2)["sorted by multiply-adds and latency"]
    assert devices._scores_first(share, 2, 1000, 0) == devices._in_order(share, by_macs, 1000), "no score is bought"
    for run_of_few in devices._scores_first(share, 2, 1000, 10):
        assert run_of_few.count is not None and (run_of_few.count - 0.6) % 1 == pytest.approx(0)


def test_what_was_spent_on_scores_is_in_the_count(tiny: Path) -> None:
    benchmark, objectives = problem(tiny, "raspi4")
    strategy = Bayesian(initial=4, initial_scores=5)
    arguments = {"evaluations": 9, "seed": 0, "scores": True}
    asked, spent = found_and_spent(benchmark, strategy, objectives, **arguments)  # type: ignore[arg-type]
    scores = (spent - len(asked)) / 0.06
    assert 8 <= spent <= 9 and scores == pytest.approx(round(scores)) and scores >= len(asked)
    plain, of_plain = found_and_spent(benchmark, strategy, objectives, evaluations=9, seed=0)
    assert of_plain == len(plain)


def test_orders_are_of_connected_networks_and_the_first_layer_comes_first(tiny: Path) -> None:
    benchmark, objectives = problem(tiny, "raspi4")
    orders = devices._orders(benchmark, objectives, 2)
    codes = benchmark.candidates((), (), ())
    latency, macs = (benchmark.column(name).batch(codes) for name in ("latency_ms@raspi4", "macs"))
    for order in (one for many in orders.values() for one in many):
        assert sorted(order.tolist()) == list(range(len(codes)))
    first = orders["sorted by multiply-adds and latency"][0][0]
    assert not ((latency < latency[first]) & (macs >= macs[first])).any()
    assert macs[orders["most multiply-adds first"][0][0]] == macs.max()


def judged(value: float, null: float) -> Measured:
    row = Row("ratio", value, "ratio", 0.5, 0.25, "lower", null=Null("sorted", null))
    bought = Row(f"a device, {devices.BOUGHT_WHAT} {devices.OVER_BETTER}", 0.1 if value < 0.3 else 0.4, "ratio")
    return Measured([row, bought], {}, given="latency", seeds=3, threads=1)


def of_device(data: Path, *, device: str) -> Measured:
    return judged(0.2 if device in DEVICES_DEVELOPED_ON else 0.4, 0.45 if device == "raspi4" else 0.6)


def test_devices_are_counted_from_their_own_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench: Bench = {devices.part_of(device): partial(of_device, device=device) for device in DEVICES}
    monkeypatch.setattr(devices, "ON_DEVICES", bench)
    for part in list(bench)[:-1]:
        path = save("search", {part: run(bench[part], Path())}, tmp_path, bench=bench)
    with pytest.raises(MissingDataError, match="never run; python -m tests.bench search nasbench201_latency_pixel"):
        devices_together(Path(), results=path)
    save(
        "search",
        {part: run(bench[part], Path())} | {(last := list(bench)[-1]): run(bench[last], Path())},
        tmp_path,
        bench=bench,
    )
    must, goal, ahead, at_must, at_goal, fewer = devices_together(Path(), results=path).rows
    assert [row.value for row in (at_must, at_goal, fewer)] == [12, 7, 7]
    assert not any(row.judged for row in (at_must, at_goal, fewer))
    assert (must.value, must.must, must.verdict) == (11, 10, "ok"), "raspi4 is left to the null contender"
    assert (goal.value, goal.goal, goal.verdict) == (7, 10, "below goal")
    assert isinstance(must.null, Null) and must.null.value == 1
    assert ahead.value == 12
    assert len(json.loads(path.read_text())["rows"]) == 24


def test_held_out_devices_are_others() -> None:
    assert not set(DEVICES_DEVELOPED_ON) & set(DEVICES_HELD_OUT) and len(DEVICES) == 12


# ---------------------------------------------------------------------------------------------------- the best network


def test_the_field_s_form_is_the_share_of_runs_at_the_optimum(tiny: Path) -> None:
    side = Side(RandomSearch(), seeds=4)
    measured = nasbench201_best(tiny, judged=side, seeds=4, most=90)
    rows = {row.figure: row for row in measured.rows}
    worst = rows["nasbench201, bayesian: runs at the optimum after 80 evaluations, worst data set"]
    each = [
        rows[f"nasbench201 {dataset}, bayesian: runs at the optimum after 80 evaluations"].value
        for dataset in ("cifar10", "cifar100", "imagenet16_120")
    ]
    assert worst.value == min(each) and (worst.must, worst.goal) == (0.9, 0.98)
    assert not any(
        figure.endswith("best network, mean") and row.contender == "ours" and math.isfinite(row.value)
        for figure, row in rows.items()
    ), "random search does not find one network of 12,500 in 90"


def test_a_run_arrives_with_the_best_network(tiny: Path) -> None:
    benchmark = nasbench201(tiny)
    best = -benchmark.true_front((ACCURACY,))[1].min()
    runs = until_optimum(benchmark, Side(RandomSearch()), seeds=3, most=30)
    assert [run.count for run in runs] == [None, 29, None], "by chance, the second run finds it"
    assert all((run.share == 1) == (run.count is not None) and run.share > 0.5 for run in runs)
    codes = benchmark.candidates((), (), ())
    accuracy = benchmark.column("accuracy").batch(codes)
    assert accuracy.max() == best
    macs = benchmark.column("macs").batch(codes)
    above = int((macs > macs[np.argmax(accuracy)]).sum())
    assert all(
        above < count <= above + int((macs == macs[np.argmax(accuracy)]).sum()) for count in by_most_macs(benchmark)
    )


def test_other_parts_have_all_rows(tiny: Path) -> None:
    others = {"random": Side(RandomSearch(), given="nothing")}
    assert len(nasbench201_best_of_others(tiny, others=others, seeds=1, most=5).rows) == 3 * 2
    measured = of_task(tiny, task="room_layout", side=Side(RandomSearch(), known=()), seeds=2, most=85)
    assert measured.conditions["networks"] == 4096
    assert next(row.null for row in measured.rows if row.must == 100) == Null("at random", 4097 / 2)
