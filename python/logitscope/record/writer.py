"""Rows into a run file: written to the system before a call returns, and never in the way of the training.

A commit in WAL mode with ``synchronous=NORMAL`` is an append that the system holds when it returns: it
survives the death of the process, at some 30 µs. Moving it into the database file is the work of a thread
(checkpoint.py).

What cannot be written (full disk, unwritable directory, locked database) waits in memory if it is small, and
is shed and counted if it is an array or the buffer is full. A failing file is tried again after a pause that
grows.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import threading
import time
import weakref
from collections import Counter, deque
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

from logitscope.record import schema
from logitscope.record.checkpoint import Checkpointer, leak

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

logger = logging.getLogger("logitscope.record")

_BUSY_SECONDS = 0.05
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 10.0
_LOOK_EVERY = 1.0
"""Seconds between two looks at whether the file is still there."""
_SILENCE = 60.0
"""Seconds from one warning that the file cannot be written to the next."""
_BATCH = 1000
_SYNC_TRIES = 100
_INSERT = {
    "scalars": "INSERT INTO scalars VALUES (?, ?, ?, ?, ?, ?)",
    "arrays": "INSERT INTO arrays VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    "texts": "INSERT INTO texts VALUES (?, ?, ?, ?, ?, ?, ?)",
    "events": "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?)",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One row to be written: ``values`` are its columns between the row number and the checks."""

    table: str
    kind: str
    count: int
    """Values in it, as counted when it is shed."""
    step: int | None
    values: tuple[object, ...]
    payload: bytes | str | None = None


@dataclass(slots=True)
class _State:
    """What the file is known to hold; put back when a transaction fails."""

    rows: dict[str, int] = field(default_factory=dict)
    last_step: int | None = None
    status: str = "running"
    message: str = ""

    def copy(self) -> _State:
        return _State(dict(self.rows), self.last_step, self.status, self.message)


class Writer:
    """The only writer of one run file. Thread safe; in a forked child it does nothing.

    ``run`` are the columns of the table of that name between id and check. ``buffer`` is how many rows wait
    in memory while the file cannot be written.
    """

    def __init__(self, path: Path, run: tuple[object, ...], *, buffer: int = 4096) -> None:
        self.path = path
        self.dropped: Counter[str] = Counter()
        self._run = run
        self._buffer = buffer
        self.lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._checkpointer: Checkpointer | None = None
        self._identity: tuple[object, ...] = ()
        self._look_at = 0.0
        self._state = _State()
        self._declared: dict[object, tuple[str, tuple[object, ...]]] = {}
        self._missing: dict[object, tuple[str, tuple[object, ...]]] = {}
        self._waiting: deque[Row] = deque()
        self._retry_at = 0.0
        self._pause = 0.0
        self._silent_until = 0.0
        self._data_version = -1
        self._closed = False
        _writers.add(self)
        with self.lock:
            self._attempt(())

    @property
    def waiting(self) -> int:
        """Rows in memory that wait for the file to be writable again."""
        return len(self._waiting)

    def declare(self, key: object, sql: str, values: tuple[object, ...]) -> None:
        """Have a statement executed once in the file, before the next row; again in a file made anew."""
        with self.lock:
            self._declared[key] = self._missing[key] = (sql, values)

    def write(self, row: Row | None = None) -> None:
        """Write a row, and the declarations that are new. What cannot be written waits or is shed."""
        with self.lock:
            if self._closed:
                self._shed(row)
            elif self._is_failing() and time.monotonic() < self._retry_at:
                self._keep(row)
            else:
                self._look()
                self._attempt(() if row is None else (row,))

    def knob_values(self) -> dict[str, tuple[float, int]] | None:
        """Each knob's value and its check as the viewer left them; None when unchanged or unreadable now."""
        with self.lock:
            if self._closed or self._connection is None or self._is_failing():
                return None
            try:
                version = self._connection.execute("PRAGMA data_version").fetchone()[0]
                if version == self._data_version:
                    return None
                rows = self._connection.execute("SELECT name, value, value_check FROM knobs").fetchall()
            except sqlite3.Error:
                return None
            self._data_version = version
            return {name: (value, check) for name, value, check in rows}

    def execute(self, sql: str, values: Sequence[object]) -> bool:
        """One statement of its own, best effort and without waiting: whether it was executed."""
        with self.lock:
            if self._closed or self._connection is None or self._is_failing():
                return False
            self._set_timeout(0.0)
            try:
                self._connection.execute(sql, values)
            except sqlite3.Error:
                return False
            finally:
                self._set_timeout(_BUSY_SECONDS)
            return True

    def sync(self) -> None:
        """Have all that is written reach the disk, so that it survives a power cut too."""
        with self.lock:
            if self._closed:
                return
            self._retry_at = 0.0
            self.write()
            for _ in range(_SYNC_TRIES):  # a checkpoint may be going on already
                if self._connection is None or self._is_failing():
                    return
                with contextlib.suppress(sqlite3.Error):
                    if self._connection.execute("PRAGMA wal_checkpoint(FULL)").fetchone()[0] == 0:
                        return
                time.sleep(_BUSY_SECONDS)

    def close(self, status: str, message: str) -> None:
        """Write how the run ended and close the file; later calls do nothing."""
        with self.lock:
            if self._closed:
                return
            self._state.status, self._state.message = status, message
            self._retry_at = 0.0
            self._look()
            self._attempt(())
            for row in self._waiting:
                self._count(row)
            self._waiting.clear()
            if self.dropped:
                note = f"not recorded, since the file could not be written: {self._shortfall()}"
                logger.warning("run file %s: %s", self.path, note)
                values = (self._state.last_step, time.time(), "warning", note)
                self._attempt((Row("events", "event", 1, None, values),))
            self._closed = True
            self._disconnect()

    # The rest expects the lock to be held.

    def _is_failing(self) -> bool:
        return self._pause > 0.0

    def _keep(self, row: Row | None) -> None:
        if row is None:
            return
        if row.table == "arrays":
            self._count(row)
            return
        self._waiting.append(row)
        while len(self._waiting) > self._buffer:
            self._count(self._waiting.popleft())

    def _shed(self, row: Row | None) -> None:
        if row is None:
            return
        if not self.dropped:
            logger.warning("run file %s: closed here, what is recorded now is dropped", self.path)
        self._count(row)

    def _count(self, row: Row) -> None:
        self.dropped[row.kind] += row.count

    def _shortfall(self) -> str:
        return ", ".join(f"{count} values of {kind}s" for kind, count in sorted(self.dropped.items()))

    def _attempt(self, rows: Sequence[Row]) -> bool:
        """Write what waits and then ``rows``; whether that went well."""
        try:
            if self._connection is None:
                self._connect()
            while len(self._waiting) > _BATCH:
                self._commit(list(islice(self._waiting, _BATCH)))
                self._drop_first(_BATCH)
            self._commit((*self._waiting, *rows))
        except (sqlite3.Error, OSError) as error:
            for row in rows:
                self._keep(row)
            if isinstance(error, sqlite3.IntegrityError):  # a commit that reported failure had gone through
                self._count_rows()
            self._fail(error)
            return False
        self._waiting.clear()
        if self._is_failing():
            self._recover()
        return True

    def _drop_first(self, count: int) -> None:
        for _ in range(count):
            self._waiting.popleft()

    def _fail(self, error: Exception) -> None:
        if not self._is_failing():
            self._set_timeout(0.0)
            if time.monotonic() >= self._silent_until:
                self._silent_until = time.monotonic() + _SILENCE
                logger.warning("run file %s: cannot be written (%s); the training goes on", self.path, error)
        self._pause = min(max(2 * self._pause, _FIRST_PAUSE), _LONGEST_PAUSE)
        self._retry_at = time.monotonic() + self._pause

    def _recover(self) -> None:
        self._pause = self._retry_at = 0.0
        self._set_timeout(_BUSY_SECONDS)

    def _set_timeout(self, seconds: float) -> None:
        """How long a locked database is waited for: once, not at each call."""
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute(f"PRAGMA busy_timeout = {round(1000 * seconds)}")

    def _commit(self, rows: Iterable[Row]) -> None:
        connection = self._connection
        if connection is None:  # connecting failed before: the caller's handler has seen why
            return
        before, size = self._state.copy(), 8192
        try:
            connection.execute("BEGIN IMMEDIATE")
            for sql, values in self._missing.values():
                connection.execute(sql, values)
            for row in rows:
                self._insert(connection, row)
                size += len(row.payload or "")
            state = self._state
            values = (state.status, state.message, time.time(), state.last_step)
            connection.execute(
                'UPDATE state SET status = ?, message = ?, updated = ?, last_step = ?, "check" = ?',
                (*values, schema.checksum(values)),
            )
            connection.execute("COMMIT")
        except BaseException:
            before.status, before.message = self._state.status, self._state.message
            self._state = before
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            raise
        self._missing.clear()
        if self._checkpointer is not None:
            self._checkpointer.written(size)

    def _insert(self, connection: sqlite3.Connection, row: Row) -> None:
        state = self._state
        number = state.rows.get(row.table, 0) + 1
        values: tuple[object, ...] = (number, *row.values)
        values = (*values, schema.checksum(values))
        if row.payload is not None:
            values = (*values, schema.checksum((row.payload,)), row.payload)
        connection.execute(_INSERT[row.table], values)
        state.rows[row.table] = number
        if row.step is not None and (state.last_step is None or row.step > state.last_step):
            state.last_step = row.step

    def _count_rows(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                for table in _INSERT:
                    number = self._connection.execute(f"SELECT max(row) FROM {table}").fetchone()[0]
                    self._state.rows[table] = number or 0

    def _connect(self) -> None:
        """Open the file, or make it; on failure nothing stays open."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if not self.path.exists():
            for suffix in ("-wal", "-shm", "-journal"):  # of a file deleted meanwhile
                _beside(self.path, suffix).unlink(missing_ok=True)
        connection = sqlite3.connect(
            self.path,
            timeout=0.0 if self._is_failing() else _BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            connection.execute("PRAGMA synchronous = NORMAL")
            if not connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchall():
                self._create(connection)
            elif connection.execute("SELECT run_id FROM run").fetchone() != self._run[:1]:
                message = "another run's file took its place"
                raise OSError(message)  # noqa: TRY301 -- closed and reported as every other failure
            connection.execute("PRAGMA journal_mode = WAL").fetchall()
            connection.execute("PRAGMA wal_autocheckpoint = 0").fetchall()
            connection.execute("PRAGMA journal_size_limit = 67108864").fetchall()
            connection.execute("BEGIN IMMEDIATE")  # makes the WAL file, whose identity is kept
            connection.execute("COMMIT")
        except BaseException:
            connection.close()
            raise
        self._connection, self._data_version = connection, -1
        self._identity = self._look_up()
        self._checkpointer = Checkpointer(self.path)

    def _create(self, connection: sqlite3.Connection) -> None:
        """Make the tables, before WAL mode: so the file's first page tells from the start what it is."""
        connection.execute("BEGIN IMMEDIATE")
        schema.create(connection)
        marks = ", ".join("?" * len(self._run))
        connection.execute(
            f"INSERT INTO run VALUES (1, {marks}, ?)", (*self._run, schema.checksum(self._run))
        )
        values = ("running", "", time.time(), None)
        connection.execute("INSERT INTO state VALUES (1, ?, ?, ?, ?, ?)", (*values, schema.checksum(values)))
        connection.execute("COMMIT")
        self._state = _State(status=self._state.status, message=self._state.message)
        self._missing = dict(self._declared)

    def _look(self) -> None:
        """Notice, once a second, that the file was deleted or replaced, and go on in a new one."""
        now = time.monotonic()
        if self._connection is None or now < self._look_at:
            return
        self._look_at = now + _LOOK_EVERY
        identity = self._look_up()
        if identity == self._identity:
            return
        if identity[0] == self._identity[0]:
            self._disconnect()  # only the WAL is gone: closing writes what it held into the file
            return
        logger.warning("run file %s: deleted or replaced while written; going on in a new one", self.path)
        if identity[1] == self._identity[1]:  # what is still beside it must not be taken for another run's
            for suffix in ("-wal", "-shm"):
                with contextlib.suppress(OSError):
                    _beside(self.path, suffix).unlink()
        leak(self._connection)  # closing it would delete files beside a path that may be another run's now
        if self._checkpointer is not None:
            self._checkpointer.abandon()
        self._connection = self._checkpointer = None
        if identity[0] is not None:
            self.path = free_path(self.path)

    def _look_up(self) -> tuple[object, ...]:
        return tuple(_identity(path) for path in (self.path, _beside(self.path, "-wal")))

    def _disconnect(self) -> None:
        if self._checkpointer is not None:
            self._checkpointer.stop()
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
        self._connection = self._checkpointer = None

    def _forget(self) -> None:
        """In a forked child: leave the parent's file alone for good."""
        if self._connection is not None:
            leak(self._connection)
        if self._checkpointer is not None:
            self._checkpointer.abandon()
        self.lock = threading.RLock()
        self._connection = self._checkpointer = None
        self._waiting = deque()
        self._closed = True


def free_path(path: Path) -> Path:
    """``path``, or with the first of -2, -3 ... before its suffix that no file has."""
    candidate, number = path, 2
    while candidate.exists():
        candidate, number = path.with_name(f"{path.stem}-{number}{path.suffix}"), number + 1
    return candidate


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        stat = os.stat(path)
    except OSError:
        return None
    return stat.st_dev, stat.st_ino


_writers: weakref.WeakSet[Writer] = weakref.WeakSet()


def _after_fork() -> None:
    for writer in list(_writers):
        writer._forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
