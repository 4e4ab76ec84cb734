"""The memory of one run: an SQLite file that a resumed program is answered from.

Tables: `header` (what the run is, and whether it has ended), `steps` (one row per durable step of the program, in
order), `evaluations` (one row per architecture, fidelity and weight version, in the order first asked for), `epochs`
(one row per epoch of a training phase), `events` (what happened to the run: resumed, moved to other software, ended).
"""

from __future__ import annotations

import json
import math
import shutil
import sqlite3
import tempfile
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hwnas.core import Evaluation, StoreError, counted, refusal
from hwnas.core.errors import UPGRADE
from hwnas.store.checkpoints import Checkpoints
from hwnas.store.lock import FolderLock

SCHEMA_VERSION = 1
FILE_NAME = "store.sqlite"
_APPLICATION_ID = 0x68776E61  # "hwna": tells our files from other programs' SQLite files
_COMMIT_EVERY_S = 0.05  # a kill loses at most this much of quick evaluations; slow ones are committed one by one
_SMALLEST = 512  # bytes of an SQLite file that holds anything
_TRIES = 5  # to copy a file that another process writes to
_ROOM = "free some space or make the folder writable, then run the same command again"
_START_OVER = "put the file back from a copy, or take another name for the run, or start over with --fresh"

_SCHEMA = """
CREATE TABLE header (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE steps (
    part TEXT NOT NULL, number INTEGER NOT NULL, kind TEXT NOT NULL, name TEXT NOT NULL, request TEXT NOT NULL,
    result TEXT NOT NULL, seconds REAL NOT NULL, PRIMARY KEY (part, number)
) STRICT, WITHOUT ROWID;
CREATE TABLE evaluations (
    number INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, evaluation TEXT NOT NULL, charged INTEGER NOT NULL
) STRICT;
CREATE TABLE epochs (
    name TEXT NOT NULL, epoch INTEGER NOT NULL, part TEXT NOT NULL, step INTEGER NOT NULL, result TEXT NOT NULL,
    seconds REAL NOT NULL, checkpoint TEXT, PRIMARY KEY (name, epoch)
) STRICT, WITHOUT ROWID;
CREATE TABLE events (
    number INTEGER PRIMARY KEY, part TEXT NOT NULL, step INTEGER NOT NULL, kind TEXT NOT NULL, text TEXT NOT NULL
) STRICT;
"""


@dataclass(frozen=True)
class StepRow:
    """One durable step of a program.

    Attributes:
        part: "search", "conclude" or "after": which program it belongs to.
        number: From 1, within the part.
        kind: "evaluate", "train" or "once".
        name: The fidelity, the phase or the name of the computation.
        request: Digest of everything that was asked.
        result: JSON value that the program was given (for "evaluate": the keys, for "train": the version).
        seconds: What it took; 0 where its parts carry their own.
    """

    part: str
    number: int
    kind: str
    name: str
    request: str
    result: Any
    seconds: float = 0.0


@dataclass(frozen=True)
class EpochRow:
    """One epoch of a training phase.

    Attributes:
        name: The phase.
        epoch: From 1, over all calls with this name.
        part: The part of the program that trained it.
        step: Number of the step that trained it.
        result: What the epoch returned, a JSON value.
        seconds: What it took.
        checkpoint: The version saved after it, None if none was.
    """

    name: str
    epoch: int
    part: str
    step: int
    result: Any
    seconds: float
    checkpoint: str | None


class Store:
    """An open run folder. Only one process can have it open; `close` it, or use it in a `with`.

    SQLite runs with a write-ahead log and synchronous=NORMAL: a killed process loses nothing that was committed and a
    power cut never damages the file, but may take the last commits back, which are then computed again. Only a commit
    that lets an old checkpoint be deleted must hold even then, so it is made with synchronous=FULL.

    Args:
        folder: Created if it is missing. None keeps everything in memory, checkpoints in a temporary folder.
        lock: Of the folder, where the caller holds it already; the store gives it back.
        replaying: Leave the folder as it is until the first step, evaluation or epoch is added, or `begin_writing` is
            called: a run whose replay is refused stays as it was. Until then everything else that is written is kept in
            memory, and is dropped by `close`.
        before_writing: Called once, right before the first write of a store that is replaying.

    Raises:
        StoreError: If another process works on the folder, or its file is damaged, foreign or of a newer hwnas.

    Example:
        >>> with Store(None) as store:
        ...     store.add_step(StepRow("search", 1, "once", "proposals", "d1", [1, 2]))
        ...     store.step("search", 1).result
        [1, 2]
    """

    def __init__(
        self,
        folder: Path | None,
        *,
        lock: FolderLock | None = None,
        replaying: bool = False,
        before_writing: Callable[[], None] = lambda: None,
    ) -> None:
        self.folder = folder
        if folder is not None and lock is None:
            lock = FolderLock(folder)
        home = folder if folder is not None else Path(tempfile.mkdtemp(prefix="hwnas-"))
        self.checkpoints = Checkpoints(home / "checkpoints")
        self._file = home / FILE_NAME if folder is not None else None
        self._lock, self._temporary = lock, home if folder is None else None
        self._before_writing = before_writing
        self._waiting: list[tuple[str, Sequence[object]]] | None = [] if replaying and folder is not None else None
        try:
            if folder is not None and self._waiting is not None:
                self._use(_open(None))
                _copy_into(self._connection, folder / FILE_NAME)
            else:
                self._use(_open(self._file))
        except BaseException:
            if lock is not None:
                lock.release()
            raise
        if self._waiting is None:
            self.checkpoints.keep_only(self.newest_versions().values())  # what a kill left half-way

    def _use(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._last_commit = time.monotonic()
        # Not __del__: a store that is dropped without `close` must give its folder back even at interpreter exit.
        self._finalizer = weakref.finalize(self, _finish, connection, self._lock, self._temporary)

    def begin_writing(self) -> None:
        """Write to the folder from here on, first what waited. Harmless when repeated.

        Raises:
            StoreError: If the disk refuses.
        """
        if self._waiting is None or self.closed:
            return
        self._before_writing()
        connection = _open(self._file)
        waiting, self._waiting = self._waiting, None
        self._finalizer.detach()
        self._connection.close()
        self._use(connection)
        for statement, values in waiting:
            self._write(statement, values)
        self.commit()
        self.checkpoints.keep_only(self.newest_versions().values())

    @classmethod
    def snapshot(cls, folder: Path) -> Store:
        """What a run has stored so far, in memory: nothing in the folder is touched, whoever works there.

        Args:
            folder: Of the run; one without a store gives an empty one.

        Raises:
            StoreError: If its file is damaged, foreign or of a newer hwnas, or cannot be read.
        """
        found = cls(None)
        _copy_into(found._connection, folder / FILE_NAME)
        return found

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Commit, close the file and give the folder back. Harmless when repeated."""
        if self._finalizer.alive:
            self.commit()
            self._finalizer()

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return not self._finalizer.alive

    @contextmanager
    def _guarded(self) -> Iterator[sqlite3.Connection]:
        if self.closed:
            raise StoreError(f"{self._file or 'store'}: it is closed", hint="make a new Study on the folder")
        try:
            yield self._connection
        except sqlite3.Error as error:
            raise StoreError(f"{self._file or 'store'}: {error}", hint=f"what was stored is kept; {_ROOM}") from error

    def _rows(self, query: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        with self._guarded() as connection:
            return connection.execute(query, values).fetchall()

    def _write(self, statement: str, values: Sequence[object]) -> None:
        with self._guarded() as connection:
            connection.execute(statement, values)
        if self._waiting is not None:
            self._waiting.append((statement, values))

    def commit(self) -> None:
        """Make everything written so far last."""
        with self._guarded() as connection:
            connection.commit()
        self._last_commit = time.monotonic()

    # --------------------------------------------------------------------------------------------------- header

    def header(self) -> dict[str, Any]:
        """Every field of the header; empty in a new store."""
        return {name: json.loads(value) for name, value in self._rows("SELECT name, value FROM header")}

    def set_header(self, name: str, value: Any) -> None:
        """Write one field of the header and commit."""
        self._write("INSERT OR REPLACE INTO header VALUES (?, ?)", (name, _dumps(value)))
        self.commit()

    # ---------------------------------------------------------------------------------------------------- steps

    def step(self, part: str, number: int) -> StepRow | None:
        """A stored step, None if the run has not come that far."""
        rows = self._rows(
            "SELECT kind, name, request, result, seconds FROM steps WHERE part = ? AND number = ?", (part, number)
        )
        if not rows:
            return None
        kind, name, request, result, seconds = rows[0]
        return StepRow(part, number, kind, name, request, json.loads(result), seconds)

    def steps(self, part: str) -> int:
        """How many steps of a part are stored."""
        return int(self._rows("SELECT COUNT(*) FROM steps WHERE part = ?", (part,))[0][0])

    def add_step(self, step: StepRow) -> None:
        """Store a step and commit it with everything written before it."""
        self.begin_writing()
        self._write(
            "INSERT INTO steps VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                step.part,
                step.number,
                step.kind,
                step.name,
                step.request,
                _dumps(step.result),
                step.seconds,
            ),
        )
        self.commit()

    def forget_steps(self, part: str) -> None:
        """Forget the steps of a part, and what happened in it. Epochs and evaluations stay."""
        self._write("DELETE FROM steps WHERE part = ?", (part,))
        self._write("DELETE FROM events WHERE part = ?", (part,))
        self.commit()

    # ---------------------------------------------------------------------------------------------- evaluations

    def evaluation(self, key: str) -> tuple[Evaluation, bool] | None:
        """A stored evaluation, and whether it was charged to the budget (a refusal by a limit is not)."""
        rows = self._rows("SELECT evaluation, charged FROM evaluations WHERE key = ?", (key,))
        return (Evaluation.from_json(json.loads(rows[0][0])), bool(rows[0][1])) if rows else None

    def evaluations(self) -> list[Evaluation]:
        """Every stored evaluation, in the order first asked for."""
        rows = self._rows("SELECT evaluation FROM evaluations ORDER BY number")
        return [Evaluation.from_json(json.loads(text)) for (text,) in rows]

    def add_evaluation(self, key: str, evaluation: Evaluation, *, charged: bool) -> Evaluation:
        """Write an evaluation; the step's commit makes it last, or an earlier one if the last was 50 ms ago.

        Returns:
            The evaluation as it will be read back, so that a program sees the same now and on a replay.
        """
        self.begin_writing()
        text = _dumps(evaluation.to_json())
        self._write("INSERT INTO evaluations (key, evaluation, charged) VALUES (?, ?, ?)", (key, text, int(charged)))
        if time.monotonic() - self._last_commit >= _COMMIT_EVERY_S:
            self.commit()
        return Evaluation.from_json(json.loads(text))

    # ----------------------------------------------------------------------------------------------- phases

    def epoch(self, name: str, epoch: int) -> EpochRow | None:
        """A stored epoch of a phase."""
        rows = self._rows(
            "SELECT part, step, result, seconds, checkpoint FROM epochs WHERE name = ? AND epoch = ?", (name, epoch)
        )
        if not rows:
            return None
        part, step, result, seconds, checkpoint = rows[0]
        return EpochRow(name, epoch, part, step, json.loads(result), seconds, checkpoint)

    def newest_versions(self) -> dict[str, str]:
        """The newest saved version of every phase."""
        rows = self._rows("SELECT name, checkpoint FROM epochs WHERE checkpoint IS NOT NULL ORDER BY name, epoch")
        return dict(rows)

    def forget_phase(self, name: str) -> None:
        """Forget a phase whose weights are gone, so that it is trained anew; a search that rests on it has not ended.

        Its evaluations stay: they are what these weights gave.
        """
        parts = {part for (part,) in self._rows("SELECT DISTINCT part FROM epochs WHERE name = ?", (name,))}
        self._write("DELETE FROM epochs WHERE name = ?", (name,))
        if parts - {"after"}:
            self._write("DELETE FROM header WHERE name = ?", ("outcome",))
        self.commit()

    def epochs_of(self, name: str, parts: Sequence[str]) -> int:
        """How many epochs of a phase are stored that some parts of the program trained."""
        rows = self._rows("SELECT part, COUNT(*) FROM epochs WHERE name = ? GROUP BY part", (name,))
        return sum(count for part, count in rows if part in parts)

    def seconds_of(self, name: str) -> float:
        """What the stored epochs of a phase took together."""
        rows = self._rows("SELECT seconds FROM epochs WHERE name = ? ORDER BY epoch", (name,))
        return math.fsum(seconds for (seconds,) in rows)

    def add_epochs(self, rows: Sequence[EpochRow], save: Callable[[Path], object]) -> None:
        """Store epochs and the weights after the last of them: the file first, then the rows, then older files go.

        Args:
            rows: In order; the last one names the checkpoint.
            save: Writes the weights to the path it is given.

        Raises:
            StoreError: If the disk refuses; the older checkpoint and its row are then still there.
        """
        self.begin_writing()
        version = rows[-1].checkpoint
        assert version is not None, "the caller names the checkpoint"
        self.checkpoints.write(version, save)
        self.commit()
        with self._guarded() as connection:
            connection.execute("PRAGMA synchronous = FULL")
            connection.executemany(
                "INSERT INTO epochs VALUES (?, ?, ?, ?, ?, ?, ?)",
                [(r.name, r.epoch, r.part, r.step, _dumps(r.result), r.seconds, r.checkpoint) for r in rows],
            )
        self.commit()
        with self._guarded() as connection:
            connection.execute("PRAGMA synchronous = NORMAL")
        self.checkpoints.keep_only(self.newest_versions().values())

    def paid_for(self) -> str:
        """What throwing the store away would cost, in words; empty if it holds nothing.

        Example:
            >>> Store(None).paid_for()
            ''
        """
        of = "SELECT COUNT(*), COALESCE(SUM(json_extract(evaluation, '$.fidelity') = 'full'), 0) FROM evaluations"
        [[all_of_them, evaluations]] = self._rows(f"{of} WHERE charged")
        cheaper = all_of_them - evaluations
        [[epochs, seconds]] = self._rows("SELECT COUNT(*), COALESCE(SUM(seconds), 0) FROM epochs")
        parts = [
            *([f"{counted(epochs, 'epoch')} of training ({seconds / 60:.1f} minutes)"] if epochs else []),
            *([counted(evaluations, "evaluation")] if evaluations else []),
            *([f"{counted(cheaper, 'evaluation')} at a lower fidelity"] if cheaper else []),
        ]
        return " and ".join(parts)

    # --------------------------------------------------------------------------------------------------- events

    def add_event(self, part: str, step: int, kind: str, text: str) -> None:
        """Note what happened to the run, and commit."""
        self._write("INSERT INTO events (part, step, kind, text) VALUES (?, ?, ?, ?)", (part, step, kind, text))
        self.commit()

    def events(self) -> list[tuple[str, int, str, str]]:
        """Part, step, kind and text of everything noted, oldest first."""
        rows = self._rows("SELECT part, step, kind, text FROM events ORDER BY number")
        return [(part, step, kind, text) for part, step, kind, text in rows]


def discard(folder: Path) -> None:
    """Delete what a run stored in its folder, so that the next one starts over. Other files there stay.

    Args:
        folder: Of the run; the caller holds its lock.

    Example:
        >>> folder = Path(tempfile.mkdtemp())
        >>> Store(folder).close()
        >>> discard(folder)
        >>> (folder / "store.sqlite").exists()
        False
    """
    for suffix in ("", "-wal", "-shm"):
        (folder / (FILE_NAME + suffix)).unlink(missing_ok=True)
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)


def _copy_into(connection: sqlite3.Connection, file: Path) -> None:
    """Copy a run's file, if there is one, without touching anything in its folder.

    Raises:
        StoreError: If it is damaged, foreign or of a newer hwnas, or cannot be read.
    """
    try:
        if file.is_file() and file.stat().st_size:
            with TemporaryDirectory(prefix="hwnas-") as copies, closing(_read_only(file, Path(copies))) as source:
                if not _check(source, file):
                    source.backup(connection)
    except sqlite3.DatabaseError as error:
        raise StoreError(f"{file}: it is damaged or no store: {error}", hint=_START_OVER) from error
    except OSError as error:
        said, hint = refusal(error)
        raise StoreError(f"{file}: it cannot be read: {said}", hint=hint) from error


def _read_only(file: Path, copies: Path) -> sqlite3.Connection:
    """A connection that leaves the file and its neighbours as they are.

    What a killed or a working process has not yet moved into the file lies beside it, and reading both in place writes
    to a third. So they are read as copies, once more if the file was changed in between.
    """
    log = file.with_name(f"{FILE_NAME}-wal")
    if not (log.is_file() and log.stat().st_size):
        return sqlite3.connect(f"{file.resolve().as_uri()}?immutable=1", uri=True)
    for _ in range(_TRIES):
        before = file.stat()
        shutil.copyfile(file, copies / file.name)
        if log.is_file():
            shutil.copyfile(log, copies / log.name)
        after = file.stat()
        if (before.st_mtime_ns, before.st_size) == (after.st_mtime_ns, after.st_size):
            break
    return sqlite3.connect(copies / file.name)


def _open(file: Path | None) -> sqlite3.Connection:
    # The connection may be closed by a finalizer, which runs in whatever thread drops the store.
    connection = sqlite3.connect(file or ":memory:", check_same_thread=False, timeout=10.0)
    try:
        _prepare(connection, new=_check(connection, file))
    except sqlite3.DatabaseError as error:
        connection.close()
        if isinstance(error, sqlite3.OperationalError):  # the system's fault, not the file's
            raise StoreError(f"{file}: it cannot be written: {error}", hint=_ROOM) from error
        raise StoreError(f"{file}: it is damaged or no store: {error}", hint=_START_OVER) from error
    except BaseException:
        connection.close()
        raise
    return connection


def _check(connection: sqlite3.Connection, file: Path | None) -> bool:
    """That a file is a store that this version reads; whether it is new, with nothing in it.

    Raises:
        StoreError: If it is another program's, or of a newer hwnas.
        DatabaseError: If it is damaged.
    """
    if file is not None and file.is_file() and 0 < file.stat().st_size < _SMALLEST:
        raise sqlite3.DatabaseError("it is cut off")  # which SQLite would take for an empty one
    application, version = (
        int(connection.execute(f"PRAGMA {field}").fetchone()[0]) for field in ("application_id", "user_version")
    )
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if application != _APPLICATION_ID and (application or version or tables):
        found = ", ".join(sorted(tables)) or "none"
        raise StoreError(f"{file}: this SQLite file is not hwnas's; its tables: {found}", hint=_START_OVER)
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"{file}: it has schema version {version}; this hwnas reads up to {SCHEMA_VERSION}",
            hint=UPGRADE,
        )
    problem = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if problem != "ok":
        raise sqlite3.DatabaseError(problem.replace("\n", " "))
    return application != _APPLICATION_ID


def _prepare(connection: sqlite3.Connection, *, new: bool) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    if new:
        # One transaction: a kill in here leaves an empty file, which is taken as new.
        connection.executescript(
            f"BEGIN; {_SCHEMA} PRAGMA application_id = {_APPLICATION_ID}; "
            f"PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
        )


def _finish(connection: sqlite3.Connection, lock: FolderLock | None, temporary: Path | None) -> None:
    connection.close()
    if lock is not None:
        lock.release()
    if temporary is not None:
        shutil.rmtree(temporary, ignore_errors=True)


def _dumps(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)
