"""Rows into a run file that is a database.

A commit in WAL mode with ``synchronous=NORMAL`` is an append that the system holds when it returns: it
survives the death of the process, at some 30 µs. Moving it into the database file is the work of a thread
(checkpoint.py).
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from typing import TYPE_CHECKING

from logitscope.record import schema
from logitscope.record.checkpoint import Checkpointer, leak
from logitscope.record.outbox import Outbox, Row, State, logger

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_BUSY_SECONDS = 0.05
_LOOK_EVERY = 1.0
"""Seconds between two looks at whether the file is still there."""
_SYNC_TRIES = 100
_INSERT = {
    "scalars": "INSERT INTO scalars VALUES (?, ?, ?, ?, ?, ?)",
    "arrays": "INSERT INTO arrays VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    "texts": "INSERT INTO texts VALUES (?, ?, ?, ?, ?, ?, ?)",
    "events": "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?)",
}


class Writer(Outbox):
    """The only writer of one run file."""

    def __init__(self, path: Path, run: tuple[object, ...], *, buffer: int = 4096) -> None:
        self._connection: sqlite3.Connection | None = None
        self._checkpointer: Checkpointer | None = None
        self._identity: tuple[object, ...] = ()
        self._look_at = 0.0
        self._data_version = -1
        super().__init__(path, run, buffer=buffer)

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
            self._set_timeout(patient=False)
            try:
                self._connection.execute(sql, values)
            except sqlite3.Error:
                return False
            finally:
                self._set_timeout(patient=True)
            return True

    # The rest expects the lock to be held.

    def _is_open(self) -> bool:
        return self._connection is not None

    def _flush(self) -> None:
        for _ in range(_SYNC_TRIES):  # a checkpoint may be going on already
            if self._connection is None:
                return
            with contextlib.suppress(sqlite3.Error):
                if self._connection.execute("PRAGMA wal_checkpoint(FULL)").fetchone()[0] == 0:
                    return
            time.sleep(_BUSY_SECONDS)

    def _after(self, error: Exception) -> None:
        if isinstance(error, sqlite3.IntegrityError):  # a commit that reported failure had gone through
            self._count_rows()

    def _set_timeout(self, *, patient: bool) -> None:
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                milliseconds = round(1000 * _BUSY_SECONDS) if patient else 0
                self._connection.execute(f"PRAGMA busy_timeout = {milliseconds}")

    def _commit(self, rows: Sequence[Row]) -> None:
        connection = self._connection
        if connection is None:  # connecting failed before: the caller's handler has seen why
            return
        before, size = self._state.copy(), 8192
        try:
            connection.execute("BEGIN IMMEDIATE")
            for table, values in self._missing.values():
                marks = ", ".join("?" * len(values))
                connection.execute(f"INSERT OR REPLACE INTO {table} VALUES ({marks})", values)
            for row in rows:
                self._insert(connection, row)
                size += len(row.payload or "")
            state = self._state
            values = (state.status, state.message, self.clock(), state.last_step)
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
        state.saw(row.step)

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
        values = ("running", "", self.clock(), None)
        connection.execute("INSERT INTO state VALUES (1, ?, ?, ?, ?, ?)", (*values, schema.checksum(values)))
        connection.execute("COMMIT")
        self._state = State(status=self._state.status, message=self._state.message)
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

    def _leave(self) -> None:
        if self._connection is not None:
            leak(self._connection)
        if self._checkpointer is not None:
            self._checkpointer.abandon()
        self._connection = self._checkpointer = None


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
