"""Rows into a run file that is a log, for network disks: appended whole, one call of the system each."""

from __future__ import annotations

import contextlib
import os
from time import monotonic
from typing import TYPE_CHECKING

from logitscope.record.log_format import HEADER, encode, encode_row, encode_scalars
from logitscope.record.outbox import Outbox, Row
from logitscope.record.writer import free_path

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_LOOK_EVERY = 1.0
_RUNNING = "running"


class LogWriter(Outbox):
    """The only writer of one log. A viewer cannot write into it: knobs keep their first values."""

    def __init__(self, path: Path, run: tuple[object, ...], *, buffer: int = 4096) -> None:
        self._file = -1
        self._size = 0
        self._look_at = 0.0
        self._told = _RUNNING
        super().__init__(path, run, buffer=buffer)

    def scalars(self, step: int, time: float, tag_set: int, packed: bytes) -> None:
        """Append a row at once where nothing stands in the way."""
        with self.lock:
            if (
                self._missing
                or self._waiting
                or self._closed
                or self._is_failing()
                or monotonic() >= self._look_at
            ):
                super().scalars(step, time, tag_set, packed)
                return
            try:
                self._append(encode_scalars(step, time, tag_set, packed))
            except OSError:
                super().scalars(step, time, tag_set, packed)
                return
            self._state.saw(step)

    def knob_values(self) -> dict[str, tuple[float, int]] | None:
        """Say that nothing has changed."""
        return None

    def execute(self, sql: str, values: Sequence[object]) -> bool:
        """Do nothing: a log knows no statements."""
        return False

    def _is_open(self) -> bool:
        return self._file >= 0

    def _connect(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o666)
        try:
            if os.fstat(file).st_size:
                message = "another run's file took its place"
                raise OSError(message)  # noqa: TRY301 -- closed and reported as every other failure
            self._file, self._size = file, 0
            self._append(HEADER + encode("run", self._run))
        except BaseException:
            self._file = -1
            os.close(file)
            raise
        self._missing = dict(self._declared)

    def _commit(self, rows: Sequence[Row]) -> None:
        parts = [encode(table, values) for table, values in self._missing.values()]
        parts += map(encode_row, rows)
        state = self._state.copy()
        for row in rows:
            state.saw(row.step)
        if state.status != self._told:
            parts.append(encode("state", (state.status, state.message, self.clock(), state.last_step)))
        if parts:
            self._append(b"".join(parts))
        self._state, self._told = state, state.status
        self._missing.clear()

    def _append(self, data: bytes) -> None:
        """Write all of it or none: what a full disk took half of is taken back."""
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._file, view) :]
        except BaseException:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._size)
            raise
        self._size += len(data)

    def _flush(self) -> None:
        with contextlib.suppress(OSError):
            os.fsync(self._file)

    def _look(self) -> None:
        """Notice, once a second, that the file was deleted or replaced, and go on in a new one."""
        now = monotonic()
        if not self._is_open() or now < self._look_at:
            return
        self._look_at = now + _LOOK_EVERY
        ours = os.fstat(self._file)
        try:
            there = os.stat(self.path)
        except OSError:
            there = None
        if there is not None and (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino):
            return
        self._tell_of_loss()
        self._disconnect()
        self.path = free_path(self.path)

    def _disconnect(self) -> None:
        if self._is_open():
            os.close(self._file)
        self._file = -1

    def _leave(self) -> None:
        self._disconnect()
