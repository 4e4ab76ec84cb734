import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwnas.core import Architecture, Evaluation, Metric, StoreError
from hwnas.store import SCHEMA_VERSION, EpochRow, RunFolder, StepRow, Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "run") as opened:
        yield opened


def evaluation(k: int, **metrics: float) -> Evaluation:
    return Evaluation(Architecture({"k": k}), {name: Metric(v, "", "measured") for name, v in metrics.items()})


def test_everything_comes_back_after_reopening(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        store.set_header("seed", {"a": [1, None]})
        store.add_evaluation("k1", evaluation(1, accuracy=0.1 + 0.2), charged=True)
        store.add_evaluation("k2", evaluation(2), charged=False)
        store.add_step(StepRow("search", 1, "evaluate", "full", "digest", ["k1", "k2"], 1.5))
        store.add_epochs([EpochRow("net", 1, "search", 2, {"loss": 1.0}, 0.5, "net@1")], lambda p: p.write_text("w"))
        store.add_event("search", 2, "end", "budget")
    with Store(tmp_path) as store:
        assert store.header() == {"seed": {"a": [1, None]}}
        assert store.step("search", 1) == StepRow("search", 1, "evaluate", "full", "digest", ["k1", "k2"], 1.5)
        assert store.step("search", 2) is None
        assert store.step("conclude", 1) is None
        assert store.steps("search") == 1
        assert store.evaluation("k1") == (evaluation(1, accuracy=0.1 + 0.2), True)
        assert store.evaluation("k2") == (evaluation(2), False)
        assert store.evaluation("k3") is None
        assert store.evaluations() == [evaluation(1, accuracy=0.1 + 0.2), evaluation(2)]
        assert store.epoch("net", 1) == EpochRow("net", 1, "search", 2, {"loss": 1.0}, 0.5, "net@1")
        assert store.epoch("net", 2) is None
        assert store.epochs_of("net", ["search"]) == 1
        assert store.epochs_of("net", ["after"]) == 0
        assert store.newest_versions() == {"net": "net@1"}
        assert store.checkpoints.existing("net@1").read_text() == "w"
        assert store.events() == [("search", 2, "end", "budget")]


@settings(max_examples=30, deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=20))
def test_floats_and_texts_come_back_to_the_bit(value: float, reason: str) -> None:
    kept = Evaluation(Architecture({"k": 1}), {"m": Metric(value, "x", "measured")}, "failed", reason)
    with Store(None) as store:
        assert store.add_evaluation("key", kept, charged=True) == kept
        assert store.evaluation("key") == (kept, True)


def test_nothing_that_is_not_finite_gets_in(store: Store) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        store.add_step(StepRow("search", 1, "once", "x", "d", float("nan")))


def test_a_dropped_store_gives_its_folder_back(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.add_event("search", 0, "note", "kept")
    del store
    with Store(tmp_path) as again:
        assert again.events() == [("search", 0, "note", "kept")]


def test_a_closed_store_says_so(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.close()
    store.close()
    assert store.closed
    with pytest.raises(StoreError, match=r"store\.sqlite: it is closed"):
        store.header()


def test_memory_leaves_nothing_behind() -> None:
    with Store(None) as store:
        home = store.checkpoints.folder.parent
        assert home.exists()
    assert not home.exists()


def test_rows_written_in_a_burst_share_a_commit_and_slow_ones_do_not(tmp_path: Path) -> None:
    def committed() -> int:
        with sqlite3.connect(f"file:{tmp_path / 'store.sqlite'}?mode=ro", uri=True) as other:
            count = int(other.execute("SELECT COUNT(*) FROM evaluations").fetchone()[0])
        other.close()
        return count

    with Store(tmp_path) as store:
        store.commit()
        store.add_evaluation("a", evaluation(1), charged=True)
        assert committed() == 0
        store._last_commit -= 1.0  # as if a second had passed
        store.add_evaluation("b", evaluation(2), charged=True)
        assert committed() == 2


# ------------------------------------------------------------------------------------------- files that do not fit


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        for n in range(200):
            store.add_evaluation(f"k{n}", evaluation(n), charged=True)
    file = tmp_path / "store.sqlite"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(StoreError, match=r"store\.sqlite: it is damaged or no store.*--fresh"):
        Store(tmp_path)
    assert not (tmp_path / "lock").exists()


def test_a_damaged_page_is_refused(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        for n in range(500):
            store.add_evaluation(f"k{n}", evaluation(n), charged=True)
    file = tmp_path / "store.sqlite"
    content = bytearray(file.read_bytes())
    content[4096 * 6 : 4096 * 10] = b"\xff" * (4096 * 4)
    file.write_bytes(bytes(content))
    with pytest.raises(StoreError, match="damaged"):
        Store(tmp_path)


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "store.sqlite").write_text("not a database, but long enough to be looked at as one" * 20)
    with pytest.raises(StoreError, match="not a database"):
        Store(tmp_path)


def test_another_program_s_database_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "store.sqlite") as other:
        other.execute("CREATE TABLE trials (id INTEGER)")
    other.close()
    with pytest.raises(StoreError, match="not hwnas's; its tables: trials"):
        Store(tmp_path)


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    Store(tmp_path).close()
    with sqlite3.connect(tmp_path / "store.sqlite") as newer:
        newer.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    newer.close()
    with pytest.raises(
        StoreError, match=f"schema version {SCHEMA_VERSION + 1}; this hwnas reads up to {SCHEMA_VERSION}"
    ):
        Store(tmp_path)


def test_an_empty_file_is_a_new_store(tmp_path: Path) -> None:
    (tmp_path / "store.sqlite").touch()
    with Store(tmp_path) as store:
        assert store.header() == {}


def test_sqlite_errors_are_told_as_store_errors(store: Store) -> None:
    store.add_step(StepRow("search", 1, "once", "x", "d", 1))
    with pytest.raises(StoreError, match=r"store\.sqlite: UNIQUE constraint failed"):
        store.add_step(StepRow("search", 1, "once", "x", "d", 1))


# --------------------------------------------------------------------------------------------------- checkpoints


def test_only_the_newest_version_of_each_phase_is_kept(store: Store) -> None:
    for name, epoch in [("a", 1), ("b", 1), ("a", 2)]:
        row = EpochRow(name, epoch, "search", 1, None, 0.0, f"{name}@{epoch}")
        store.add_epochs([row], lambda path: path.write_text("w"))
    assert sorted(p.name for p in store.checkpoints.folder.iterdir()) == ["a@2.ckpt", "b@1.ckpt"]
    with pytest.raises(StoreError, match=r"a@1\.ckpt: the weights a@1 are not there; kept: a@2, b@1"):
        store.checkpoints.existing("a@1")


def test_epochs_without_a_checkpoint_are_stored_with_the_next_that_has_one(store: Store) -> None:
    rows = [EpochRow("a", n, "search", 1, n, 0.0, "a@3" if n == 3 else None) for n in (1, 2, 3)]
    store.add_epochs(rows, lambda path: path.write_text("w"))
    assert [store.epoch("a", n) for n in (1, 2, 3)] == rows


def test_a_save_that_fails_leaves_the_old_version_and_no_row(store: Store) -> None:
    store.add_epochs([EpochRow("a", 1, "search", 1, 1, 0.0, "a@1")], lambda path: path.write_text("old"))

    def full(path: Path) -> None:
        path.write_text("ha")
        raise OSError(28, "No space left on device")

    with pytest.raises(StoreError, match=r"a@2\.ckpt: the checkpoint could not be written.*no space left"):
        store.add_epochs([EpochRow("a", 2, "search", 1, 2, 0.0, "a@2")], full)
    assert store.epoch("a", 2) is None
    assert [p.name for p in store.checkpoints.folder.iterdir()] == ["a@1.ckpt"]


@pytest.mark.parametrize("moment", ["before the row", "before the old file goes"])
def test_what_a_kill_left_half_way_is_cleaned_up(tmp_path: Path, moment: str) -> None:
    with Store(tmp_path) as store:
        store.add_epochs([EpochRow("a", 1, "search", 1, 1, 0.0, "a@1")], lambda path: path.write_text("1"))
        folder = store.checkpoints.folder
        if moment == "before the row":
            (folder / "a@2.ckpt").write_text("2")
            (folder / "a@3.tmp").write_text("3")
            kept = "a@1.ckpt"
        else:
            store.add_epochs([EpochRow("a", 2, "search", 1, 2, 0.0, "a@2")], lambda path: path.write_text("2"))
            (folder / "a@1.ckpt").write_text("1")
            kept = "a@2.ckpt"
    with Store(tmp_path) as store:
        assert [p.name for p in store.checkpoints.folder.iterdir()] == [kept]


def test_the_order_is_file_then_row_then_deletion(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    def save(path: Path) -> None:
        path.write_text("w")
        done.append("save")

    monkeypatch.setattr(os, "fsync", lambda descriptor: done.append("sync"))
    monkeypatch.setattr(store.checkpoints, "keep_only", lambda versions: done.append("delete"))
    store._connection.set_trace_callback(lambda sql: done.append(sql.split()[0]))
    store.add_epochs([EpochRow("a", 1, "search", 1, 1, 0.0, "a@1")], save)
    order = [step for step in done if step in {"save", "sync", "INSERT", "COMMIT", "delete"}]
    assert order == ["save", "sync", "sync", "INSERT", "COMMIT", "delete"]


def test_a_fresh_run_starts_over_and_keeps_other_files(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        store.add_epochs([EpochRow("a", 1, "search", 1, 1, 0.0, "a@1")], lambda path: path.write_text("w"))
        with pytest.raises(StoreError, match="this process"):
            RunFolder(tmp_path, fresh=True)
    (tmp_path / "front.png").touch()
    RunFolder(tmp_path, fresh=True).open().close()
    assert (tmp_path / "front.png").exists()
    assert not (tmp_path / "checkpoints").exists()
    with Store(tmp_path) as store:
        assert store.newest_versions() == {}
