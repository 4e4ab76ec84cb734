import json
from pathlib import Path

from hwnas.strategies import Nat
from hwnas.testing import toy201_accuracy, toy201_network
from tests.bench.toy201 import FRONT, OPTIMUM, WITHIN, exact_front, toy201_rows


def test_the_exact_front_is_the_one_that_is_known() -> None:
    """43 points; the optimum 332133 at 9.4 ms; the best under 3, 5 and 7 ms."""
    front = exact_front()
    assert len(front) == FRONT
    assert (OPTIMUM, 9.4) in front and round(100 * toy201_accuracy(toy201_network("332133")), 6) == OPTIMUM
    for bound, best in WITHIN.items():
        assert max(accuracy for accuracy, latency_ms in front if latency_ms <= bound) == best


def test_a_run_on_one_seed_gives_every_row() -> None:
    nat = Nat(initial=20, per_iteration=40, population=10, generations=2, surrogates=("rbf",))
    measured = toy201_rows(Path(), seeds=[0], few=[0], nat=nat)
    json.dumps([row.to_json() for row in measured.rows])  # as results files hold them
    assert len(measured.rows) == 8 * 3 + 3 + 3 + 12
    assert len({row.figure for row in measured.rows}) == len(measured.rows)
    spos = [row for row in measured.rows if row.figure.startswith("spos")]
    assert len(spos) == 3 and all(row.ok for row in spos)
