"""Rows on their way into a file: written before a call returns, and never in the way of the training.

What cannot be written (full disk, unwritable directory, locked database) waits in memory if it is small, and
is shed and counted if it is an array or the buffer is full. A failing file is tried again after a pause that
grows. Into what kind of file is for a subclass to say: a database (writer.py) or a log (log_writer.py).
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
import weakref
from abc import ABC, abstractmethod
from collections import Counter, deque
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

logger = logging.getLogger("logitscope.record")

_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 10.0
_SILENCE = 60.0
"""Seconds from one warning that the file cannot be written to the next."""
_BATCH = 1000


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
class State:
    """What the file is known to hold; put back when a transaction fails."""

    rows: dict[str, int] = field(default_factory=dict)
    last_step: int | None = None
    status: str = "running"
    message: str = ""

    def copy(self) -> State:
        """A copy to put back."""
        return State(dict(self.rows), self.last_step, self.status, self.message)

    def saw(self, step: int | None) -> None:
        """Keep the highest step."""
        if step is not None and (self.last_step is None or step > self.last_step):
            self.last_step = step


class Outbox(ABC):
    """The only writer of one file. Thread safe; in a forked child it does nothing.

    ``run`` are the columns of the table of that name between id and check. ``buffer`` is how many rows wait
    in memory while the file cannot be written.
    """

    def __init__(self, path: Path, run: tuple[object, ...], *, buffer: int = 4096) -> None:
        self.path = path
        self.dropped: Counter[str] = Counter()
        self.lost_files = 0
        self.lock = threading.RLock()
        self.clock: Callable[[], float] = time.time
        self._run = run
        self._buffer = buffer
        self._state = State()
        self._declared: dict[object, tuple[str, tuple[object, ...]]] = {}
        self._missing: dict[object, tuple[str, tuple[object, ...]]] = {}
        self._waiting: deque[Row] = deque()
        self._retry_at = 0.0
        self._pause = 0.0
        self._silent_until = 0.0
        self._closed = False
        _outboxes.add(self)
        with self.lock:
            self._attempt(())

    @property
    def waiting(self) -> int:
        """Rows in memory that wait for the file to be writable again."""
        return len(self._waiting)

    def declare(self, key: object, table: str, values: tuple[object, ...]) -> None:
        """Have a row of a small table in the file, before the next row; again in a file made anew."""
        with self.lock:
            self._declared[key] = self._missing[key] = (table, values)

    def write(self, row: Row | None = None) -> None:
        """Write a row, and the declarations that are new. What cannot be written waits or is shed."""
        self.write_all(() if row is None else (row,))

    def scalars(self, step: int, time: float, tag_set: int, packed: bytes) -> None:
        """Write a row of ``scalars``, the commonest; ``packed`` are its numbers."""
        self.write(Row("scalars", "scalar", len(packed) // 8, step, (step, time, tag_set, packed)))

    def write_all(self, rows: Sequence[Row]) -> None:
        """Write several rows at once."""
        with self.lock:
            if self._closed:
                self._shed(rows)
            elif self._is_failing() and time.monotonic() < self._retry_at:
                self._keep(rows)
            else:
                self._look()
                self._attempt(rows)

    @abstractmethod
    def knob_values(self) -> dict[str, tuple[float, int]] | None:
        """Each knob's value and its check as the viewer left them; None when unchanged or unreadable now."""

    @abstractmethod
    def execute(self, sql: str, values: Sequence[object]) -> bool:
        """One statement of its own, best effort and without waiting: whether it was executed."""

    def sync(self) -> None:
        """Have all that is written reach the disk, so that it survives a power cut too."""
        with self.lock:
            if not self._closed:
                self._retry_at = 0.0
                self.write()
                if not self._is_failing():
                    self._flush()

    def mark(self, status: str, message: str) -> None:
        """Write how the run stands; the file stays open."""
        with self.lock:
            self._state.status, self._state.message = status, message
            self.write()

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

    @abstractmethod
    def _is_open(self) -> bool:
        """Whether there is a file to write into."""

    @abstractmethod
    def _connect(self) -> None:
        """Open the file, or make it; on failure nothing stays open."""

    @abstractmethod
    def _commit(self, rows: Sequence[Row]) -> None:
        """Write declarations that are missing and rows, all or none."""

    @abstractmethod
    def _flush(self) -> None:
        """Wait for the disk."""

    @abstractmethod
    def _disconnect(self) -> None:
        """Close the file."""

    @abstractmethod
    def _leave(self) -> None:
        """In a forked child: leave the parent's file alone."""

    def _look(self) -> None:  # noqa: B027 -- nothing to do where a file cannot do so
        """Notice, now and then, that the file was deleted or replaced."""

    def _set_timeout(self, *, patient: bool) -> None:  # noqa: B027 -- nothing to do where a file cannot do so
        """How long a locked file is waited for: once, not at each call."""

    def _after(self, error: Exception) -> None:  # noqa: B027 -- nothing to do where a file cannot do so
        """Find out what a failed commit has left."""

    def _tell_of_loss(self) -> None:
        """The file was deleted or replaced: say so, in the one that follows too."""
        self.lost_files += 1
        logger.warning("run file %s: deleted or replaced while written; going on in a new one", self.path)
        note = f"{self.path.name} was deleted or replaced while written; what it held is not in this file"
        values = (self._state.last_step, self.clock(), "warning", note)
        self._waiting.append(Row("events", "event", 1, None, values))

    def _is_failing(self) -> bool:
        return self._pause > 0.0

    def _keep(self, rows: Sequence[Row]) -> None:
        for row in rows:
            if row.table == "arrays":
                self._count(row)
                continue
            self._waiting.append(row)
            while len(self._waiting) > self._buffer:
                self._count(self._waiting.popleft())

    def _shed(self, rows: Sequence[Row]) -> None:
        if rows and not self.dropped:
            logger.warning("run file %s: closed here, what is recorded now is dropped", self.path)
        for row in rows:
            self._count(row)

    def _count(self, row: Row) -> None:
        self.dropped[row.kind] += row.count

    def _shortfall(self) -> str:
        return ", ".join(f"{count} values of {kind}s" for kind, count in sorted(self.dropped.items()))

    def _attempt(self, rows: Sequence[Row]) -> None:
        """Write what waits and then ``rows``."""
        try:
            if not self._is_open():
                self._connect()
            while len(self._waiting) > _BATCH:
                self._commit(list(islice(self._waiting, _BATCH)))
                for _ in range(_BATCH):
                    self._waiting.popleft()
            self._commit((*self._waiting, *rows))
        except (sqlite3.Error, OSError) as error:
            self._keep(rows)
            self._after(error)
            self._fail(error)
            return
        self._waiting.clear()
        if self._is_failing():
            self._recover()

    def _fail(self, error: Exception) -> None:
        if not self._is_failing():
            self._set_timeout(patient=False)
            if time.monotonic() >= self._silent_until:
                self._silent_until = time.monotonic() + _SILENCE
                logger.warning("run file %s: cannot be written (%s); the training goes on", self.path, error)
        self._pause = min(max(2 * self._pause, _FIRST_PAUSE), _LONGEST_PAUSE)
        self._retry_at = time.monotonic() + self._pause

    def _recover(self) -> None:
        self._pause = self._retry_at = 0.0
        self._set_timeout(patient=True)

    def _forget(self) -> None:
        self._leave()
        self.lock = threading.RLock()
        self._waiting = deque()
        self._closed = True


_outboxes: weakref.WeakSet[Outbox] = weakref.WeakSet()


def _after_fork() -> None:
    for outbox in list(_outboxes):
        outbox._forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
