"""The tables of a run file, its version, and the checksum that every row carries.

A run file is one SQLite database in WAL mode with this ``application_id`` and ``user_version``. A reader
accepts a file only when its schema is this one, word for word: a run file is untrusted input, and a file with
views or triggers of its own is none.

Rows of ``scalars``, ``arrays``, ``texts`` and ``events`` are numbered from 1 without gaps, in the order of
writing. ``check`` is `checksum` of the columns before it; large payloads stand last and have a check of their
own, so that a reader can go through the heads of rows without touching them.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from logitscope.errors import RunFileError

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable
    from pathlib import Path

APPLICATION_ID = 0x6C676974
"""``lgit``, at byte 68 of the file, big-endian."""
VERSION = 2
"""At byte 60 of the file, big-endian; a change of any table raises it, and adds how to come from the one before."""
MAX_TEXT_CHARACTERS = 1 << 24
MAX_TAG_CHARACTERS = 512

TABLES = (
    # The run itself; one row. host, pid and pid_started tell whether the writing process lives (process.py).
    """CREATE TABLE run (
    id INTEGER PRIMARY KEY, run_id TEXT, name TEXT, created REAL, meta TEXT,
    host TEXT, pid INTEGER, pid_started TEXT, "check" INTEGER)""",
    # What changes with every write; one row. tail: how far the tail has been taken over (tail.py).
    """CREATE TABLE state (
    id INTEGER PRIMARY KEY, status TEXT, message TEXT, updated REAL, last_step INTEGER, tail INTEGER,
    "check" INTEGER)""",
    # kind: scalar, array, histogram, text.
    """CREATE TABLE tags (id INTEGER PRIMARY KEY, name TEXT, kind TEXT, "check" INTEGER)""",
    # The tags whose values one row of scalars holds, as a JSON list of ids.
    """CREATE TABLE tag_sets (id INTEGER PRIMARY KEY, tags TEXT, "check" INTEGER)""",
    # One row a call: values are little-endian float64, in the order of the tag set.
    """CREATE TABLE scalars (
    row INTEGER PRIMARY KEY, step INTEGER, time REAL, tag_set INTEGER, "values" BLOB, "check" INTEGER)""",
    # dtype as NumPy writes it (<f4), shape a JSON list, codec and data as in codec.py.
    """CREATE TABLE arrays (
    row INTEGER PRIMARY KEY, step INTEGER, time REAL, tag INTEGER, dtype TEXT, shape TEXT, codec TEXT,
    "check" INTEGER, data_check INTEGER, data BLOB)""",
    """CREATE TABLE texts (
    row INTEGER PRIMARY KEY, step INTEGER, time REAL, tag INTEGER,
    "check" INTEGER, text_check INTEGER, text TEXT)""",
    """CREATE TABLE events (
    row INTEGER PRIMARY KEY, step INTEGER, time REAL, level TEXT, message TEXT, "check" INTEGER)""",
    # spec: JSON object with the fields of types.Panel.
    """CREATE TABLE panels (id INTEGER PRIMARY KEY, spec TEXT, "check" INTEGER)""",
    # The viewer writes value, the training applied; each has its own check: checksum((name, number)).
    """CREATE TABLE knobs (
    id INTEGER PRIMARY KEY, name TEXT, "default" REAL, low REAL, high REAL, log INTEGER, notes TEXT,
    "check" INTEGER, value REAL, value_check INTEGER, applied REAL, applied_check INTEGER)""",
)
_OLD_STATE = """CREATE TABLE state (
    id INTEGER PRIMARY KEY, status TEXT, message TEXT, updated REAL, last_step INTEGER, "check" INTEGER)"""
VERSIONS = {1: (TABLES[0], _OLD_STATE, *TABLES[2:]), VERSION: TABLES}
"""The tables of each version that is read."""


def checksum(values: Iterable[object]) -> int:
    """CRC-32 over the values, each closed by a unit separator: bytes as they are, all else as ``repr``.

    Examples
    --------
    >>> checksum([1, 0.5, "loss"])
    90869892
    """
    crc = 0
    for value in values:
        data = value if isinstance(value, bytes) else repr(value).encode("utf-8", "backslashreplace")
        crc = zlib.crc32(b"\x1f", zlib.crc32(data, crc))
    return crc


def checksum_of_scalars(row: tuple[int, int, float, int, bytes]) -> int:
    """`checksum` of a row of scalars, in one piece: there are very many.

    Examples
    --------
    >>> row = (1, 20, 0.5, 3, b"12345678")
    >>> checksum_of_scalars(row) == checksum(row)
    True
    """
    return zlib.crc32(b"%d\x1f%d\x1f%r\x1f%d\x1f%b\x1f" % row)


def create(connection: sqlite3.Connection) -> None:
    """Make the tables in an empty database, within the transaction of the caller."""
    for table in TABLES:
        connection.execute(table)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {VERSION}")


def check_header(path: Path) -> int:
    """Tell a run file by its first bytes, before SQLite opens it: that could change a foreign database; its version."""
    try:
        with path.open("rb") as file:
            header = file.read(100)
    except OSError as error:
        reason = error.strerror or error
        message = f"run file: {path} cannot be read ({reason}); name a *.scope file that exists"
        raise RunFileError(message) from error
    if len(header) < 100 or not header.startswith(b"SQLite format 3\0"):
        message = f"run file: {path} is no run file; name a *.scope file that logitscope.record has written"
        raise RunFileError(message)
    if int.from_bytes(header[68:72], "big") != APPLICATION_ID:
        message = f"run file: {path} is an SQLite database of another program; name a *.scope file"
        raise RunFileError(message)
    version = int.from_bytes(header[60:64], "big")
    if version not in VERSIONS:
        known = " and ".join(map(str, VERSIONS))
        advice = "install a newer logitscope" if version > VERSION else "it is damaged"
        message = f"run file: {path} has format {version}, this logitscope reads {known}; {advice}"
        raise RunFileError(message)
    return version


def check_schema(connection: sqlite3.Connection, path: Path) -> int:
    """Refuse a file whose schema is not exactly that of its version, which is told."""
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    tables = VERSIONS.get(version, ())
    found = set(connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master"))
    names = [table.split()[2] for table in tables]
    if not tables or found != {("table", name, name, sql) for name, sql in zip(names, tables, strict=True)}:
        message = f"run file: {path} has tables that no run file has; it is damaged or of another program"
        raise RunFileError(message)
    return version
