"""Moves what was appended to the WAL into the database file, on a thread: it waits for the disk."""

from __future__ import annotations

import contextlib
import ctypes
import sqlite3
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

CHECKPOINT_BYTES = 4 << 20


class Checkpointer:
    """Checkpoints a run file each time some megabytes were written; no reader or writer waits."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._written = 0
        self._wake = threading.Event()
        self._stopping = self._abandoned = False
        self._thread: threading.Thread | None = None

    def written(self, size: int) -> None:
        """Count bytes written; called after each commit."""
        self._written += size
        if self._written < CHECKPOINT_BYTES:
            return
        self._written = 0
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="logitscope-checkpoint", daemon=True)
            with contextlib.suppress(RuntimeError):  # no thread to be had: the WAL grows until there is one
                thread.start()
                self._thread = thread
        self._wake.set()

    def stop(self) -> None:
        """End the thread, after the checkpoint that it may be at."""
        self._stopping = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout=10.0)

    def abandon(self) -> None:
        """Have the thread end without closing a file that is not ours any more."""
        self._abandoned = self._stopping = True
        self._wake.set()

    def _run(self) -> None:
        try:
            connection = self._open()
        except sqlite3.Error:
            self._thread = None
            return
        while not self._stopping:
            with contextlib.suppress(sqlite3.Error):  # a full disk: tried again when more was written
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            self._wake.wait()
            self._wake.clear()
        if self._abandoned:
            leak(connection)
        else:
            connection.close()

    def _open(self) -> sqlite3.Connection:
        return sqlite3.connect(
            f"{self._path.absolute().as_uri()}?mode=rw",
            uri=True,
            isolation_level=None,
            check_same_thread=False,
        )


def leak(connection: sqlite3.Connection) -> None:
    """Keep a connection from ever being closed: that would touch files and locks that are not ours now."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))
