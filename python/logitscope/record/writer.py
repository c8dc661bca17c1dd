"""Rows into a run file that is a database.

A commit in WAL mode with ``synchronous=NORMAL`` is an append that the system holds when it returns: it
survives the death of the process, at some 30 µs. Moving it into the database file is the work of a thread
(checkpoint.py). Rows of scalars come faster than that: they are appended to the tail (tail.py), which a second
thread takes over into the database, many in one commit.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from typing import TYPE_CHECKING

from logitscope.record import schema
from logitscope.record.checkpoint import Checkpointer, leak
from logitscope.record.mover import Mover
from logitscope.record.outbox import Outbox, Row, State
from logitscope.record.tail import SUFFIX, Tail

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_BUSY_SECONDS = 0.05
_LOOK_EVERY = 1.0
"""Seconds between two looks at whether the file is still there."""
_SYNC_TRIES = 100
_MANY_FRESH = 1 << 12
"""Rows of the tail after which the database takes them over without delay."""
_MOST_FRESH = 1 << 17
"""Rows of the tail that are in memory, too, until the database has them; then rows wait as they do without a tail."""
_INSERT = {
    "scalars": "INSERT INTO scalars VALUES (?, ?, ?, ?, ?, ?)",
    "arrays": "INSERT INTO arrays VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    "texts": "INSERT INTO texts VALUES (?, ?, ?, ?, ?, ?, ?)",
    "events": "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?)",
}


class Writer(Outbox):
    """The only writer of one run file; with ``tail``, scalars go there first.

    ``_gate`` guards the tail and what of it the database does not have yet. It is taken for moments only and after
    ``lock``, which is held for a whole commit, so that a row of scalars never waits for one.
    """

    def __init__(
        self, path: Path, run: tuple[object, ...], *, buffer: int = 4096, tail: bool = os.name == "posix"
    ) -> None:
        self._gate = threading.Lock()
        self._tail: Tail | None = None
        self._wants_tail = tail
        self._is_fast = False
        self._fresh: list[tuple[int, float, int, bytes]] = []
        self._mover = Mover(self.move)
        self._connection: sqlite3.Connection | None = None
        self._checkpointer: Checkpointer | None = None
        self._identity: tuple[object, ...] = ()
        self._look_at = 0.0
        self._data_version = -1
        super().__init__(path, run, buffer=buffer)

    def scalars(self, step: int, time: float, tag_set: int, packed: bytes) -> None:
        """Append a row to the tail where nothing stands in the way."""
        with self._gate:
            if self._is_fast and self._tail is not None and len(self._fresh) < _MOST_FRESH:
                try:
                    self._tail.append(step, time, tag_set, packed)
                except OSError:
                    self._is_fast = False
                else:
                    self._fresh.append((step, time, tag_set, packed))
                    if not self._mover.awake:
                        self._mover.wake()
                    if len(self._fresh) == _MANY_FRESH:
                        self._mover.hurry()
                    return
        super().scalars(step, time, tag_set, packed)

    def declare(self, key: object, table: str, values: tuple[object, ...]) -> None:
        """Have a row of a small table in the file, before the next row."""
        if table == "tag_sets":
            with self._gate:
                self._is_fast = False
        super().declare(key, table, values)

    def write_all(self, rows: Sequence[Row]) -> None:
        """Write several rows at once, after what is in the tail."""
        with self.lock:
            with self._gate:
                self._is_fast = False
            super().write_all(rows)
            self._open_gate()

    def move(self) -> bool:
        """Take over what is in the tail; whether there is more."""
        with self.lock:
            if self._fresh and not self._closed:
                super().write_all(())
                self._open_gate()
            with self._gate:
                self._mover.awake = more = bool(self._fresh) and not self._closed
            return more

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

    def _open_gate(self) -> None:
        """Let scalars into the tail again, where they keep their order there; a locked database is no hindrance."""
        with self._gate:
            behind = any(table == "tag_sets" for table, _ in self._missing.values())
            behind |= any(row.table == "scalars" for row in self._waiting)
            self._is_fast = self._tail is not None and not behind and not self._closed

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
        with self._gate:
            fresh = self._fresh[:]
            end = 0 if self._tail is None else self._tail.end
        try:
            connection.execute("BEGIN IMMEDIATE")
            for table, values in self._missing.values():
                marks = ", ".join("?" * len(values))
                connection.execute(f"INSERT OR REPLACE INTO {table} VALUES ({marks})", values)
            self._insert_scalars(connection, fresh)
            size += 64 * len(fresh)
            for row in rows:
                self._insert(connection, row)
                size += len(row.payload or "")
            state = self._state
            values = (state.status, state.message, self.clock(), state.last_step, end)
            connection.execute(
                'UPDATE state SET status = ?, message = ?, updated = ?, last_step = ?, tail = ?, "check" = ?',
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
        with self._gate:
            del self._fresh[: len(fresh)]
            if self._tail is not None and not self._fresh:
                with contextlib.suppress(OSError):
                    self._tail.shorten()
        if self._checkpointer is not None:
            self._checkpointer.written(size)

    def _insert_scalars(
        self, connection: sqlite3.Connection, fresh: Sequence[tuple[int, float, int, bytes]]
    ) -> None:
        first = self._state.rows.get("scalars", 0) + 1
        connection.executemany(
            _INSERT["scalars"],
            (
                (number, *row, schema.checksum_of_scalars((number, *row)))
                for number, row in enumerate(fresh, first)
            ),
        )
        if fresh:
            self._state.rows["scalars"] = first + len(fresh) - 1
            self._state.saw(max(row[0] for row in fresh))

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
            for suffix in ("-wal", "-shm", "-journal", SUFFIX):  # of a file deleted meanwhile
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
        self._open_tail()

    def _create(self, connection: sqlite3.Connection) -> None:
        """Make the tables, before WAL mode: so the file's first page tells from the start what it is."""
        connection.execute("BEGIN IMMEDIATE")
        schema.create(connection)
        marks = ", ".join("?" * len(self._run))
        connection.execute(
            f"INSERT INTO run VALUES (1, {marks}, ?)", (*self._run, schema.checksum(self._run))
        )
        # A tail counts from 1: a reader that finds 0 knows that there is none to miss.
        values = ("running", "", self.clock(), None, int(self._wants_tail))
        connection.execute(
            "INSERT INTO state VALUES (1, ?, ?, ?, ?, ?, ?)", (*values, schema.checksum(values))
        )
        connection.execute("COMMIT")
        self._state = State(status=self._state.status, message=self._state.message)
        self._missing = dict(self._declared)
        self._close_tail(remove=False)  # it is the old file's; what is in it is in memory, too

    def _open_tail(self) -> None:
        """Have a tail that begins where the database says; without one, rows go into the database at once."""
        if not self._wants_tail or self._tail is not None or self._fresh:
            return
        with contextlib.suppress(OSError, sqlite3.Error):
            assert self._connection is not None
            offset = self._connection.execute("SELECT tail FROM state").fetchone()[0]
            with self._gate:
                self._tail = Tail(self.path, str(self._run[0]), offset)

    def _close_tail(self, *, remove: bool) -> None:
        with self._gate:
            self._is_fast = False
            if self._tail is not None:
                self._tail.close(remove=remove)
                self._tail = None

    def _look(self) -> None:
        """Notice, once a second, that the file was deleted or replaced, and go on in a new one."""
        now = time.monotonic()
        if self._connection is None or now < self._look_at:
            return
        self._look_at = now + _LOOK_EVERY
        if self._tail is not None and self._tail.is_lost():
            self._close_tail(remove=False)
        if not self._fresh:
            self._open_tail()
        identity = self._look_up()
        if identity == self._identity:
            return
        if identity[0] == self._identity[0]:
            self._disconnect()  # only the WAL is gone: closing writes what it held into the file
            return
        self._tell_of_loss()
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
        if self._closed:
            self._mover.stop()
            self._close_tail(remove=not self._fresh)

    def _leave(self) -> None:
        self._gate = threading.Lock()
        self._tail, self._is_fast, self._fresh = None, False, []
        self._mover = Mover(self.move)
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
