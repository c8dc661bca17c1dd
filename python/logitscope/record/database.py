"""A run file as a database open for reading: every way to open it, and every failure told as RunFileError."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import sys
import tempfile
from typing import TYPE_CHECKING, Any, NoReturn

from logitscope.errors import RunFileError
from logitscope.record import codec, schema

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_WAIT_SECONDS = 2.0
_FAILURES = (sqlite3.Error, sqlite3.Warning, OSError, MemoryError, OverflowError, UnicodeError)


class Database:
    """One connection for reading, which never holds a transaction open between calls."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._copy: tempfile.TemporaryDirectory[str] | None = None
        self._connection: sqlite3.Connection | None = None
        self.format = schema.check_header(path)
        try:
            self._connection = self._open()
            self.format = schema.check_schema(self._connection, path)
            self._version = self._data_version()
        except _FAILURES as error:
            self.close()
            self._raise(error)

    def rows(self, sql: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        try:
            return self._open_connection().execute(sql, values).fetchall()
        except _FAILURES as error:
            self._raise(error)

    def write(self, sql: str, values: Sequence[object]) -> None:
        """One statement that changes the file; RunFileError where it may not be changed."""
        if self._copy is not None:
            message = (
                f"run file: {self.path} cannot be changed: its directory is read-only; move it to another one"
            )
            raise RunFileError(message)
        try:
            self._open_connection().execute(sql, values)
        except _FAILURES as error:
            self._raise(error)

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[None]:
        """Have all queries within see the file at one moment."""
        self.rows("BEGIN")
        try:
            yield
        finally:
            self.rows("ROLLBACK")

    def has_changed(self) -> bool:
        """Whether the file was changed, by this connection or another, since this was asked last."""
        try:
            version = self._data_version()
        except _FAILURES as error:
            self._raise(error)
        changed, self._version = version != self._version, version
        return changed

    def close(self) -> None:
        """Close the file."""
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None
        if self._copy is not None:
            self._copy.cleanup()
            self._copy = None

    def _open(self) -> sqlite3.Connection:
        """Connect to the file, or to a copy where its WAL cannot be read in place (read-only directory)."""
        if _is_writable(self.path) and _is_writable(self.path.absolute().parent):
            return _connect(self.path, "mode=rw")  # the last reader of a killed run tidies up its WAL
        wal = self.path.with_name(self.path.name + "-wal")
        if not wal.exists():
            return _connect(self.path, "mode=ro&immutable=1")
        with contextlib.suppress(sqlite3.Error):
            return _connect(self.path, "mode=ro")
        self._copy = tempfile.TemporaryDirectory(prefix="logitscope-")
        copies = [shutil.copy(path, self._copy.name) for path in (wal, self.path)]
        return _connect(self.path.__class__(copies[-1]), "mode=rw")

    def _open_connection(self) -> sqlite3.Connection:
        if self._connection is None:
            message = f"run file: {self.path} was closed by this program; open it with RunReader again"
            raise RunFileError(message)
        return self._connection

    def _data_version(self) -> tuple[int, int]:
        connection = self._open_connection()
        return connection.execute("PRAGMA data_version").fetchone()[0], connection.total_changes

    def _raise(self, error: BaseException) -> NoReturn:
        if isinstance(error, RunFileError):
            raise error
        message = (
            f"run file: {self.path} cannot be read ({error}); it is damaged, locked or of another program"
        )
        raise RunFileError(message) from error


def _is_writable(path: Path) -> bool:
    return os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids)


def _connect(path: Path, options: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?{options}",
        uri=True,
        timeout=_WAIT_SECONDS,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        if sys.version_info >= (3, 11):
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, codec.MAX_ARRAY_BYTES + (1 << 20))
        connection.execute("PRAGMA cell_size_check = ON")
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("SELECT count(*) FROM sqlite_master").fetchall()
    except BaseException:
        connection.close()
        raise
    return connection
