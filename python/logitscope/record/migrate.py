"""Run files of earlier formats, brought to the newest: a step from each format to the next, in one transaction."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from logitscope.errors import RunFileError
from logitscope.record import schema
from logitscope.record.database import Database
from logitscope.record.reader import RunReader
from logitscope.record.rows import read_state

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping


def migrate_run(path: str | os.PathLike[str]) -> int:
    """Bring a run file to the newest format, in place and as a whole or not at all.

    Files of earlier formats are read as they are; this is for who wants one format only.

    Parameters
    ----------
    path
        A run file whose training is over. It is read as a whole first: a damaged one is left as it is.

    Returns
    -------
    int
        The format that it had.

    Examples
    --------
    >>> import tempfile
    >>> from logitscope import record
    >>> with record.start("example", path=tempfile.mkdtemp() + "/example.scope") as scope:
    ...     scope.scalar("loss/train", 4.5, step=0)
    >>> record.migrate_run(scope.path) == record.FORMAT
    True
    """
    place = Path(path)
    version = schema.check_header(place)
    with RunReader(place) as run:
        run.tags()
        if version == schema.VERSION:
            return version
        if run.info.status == "running":
            message = f"migrate_run: {place} is being written; wait until its training is over"
            raise RunFileError(message)
    database = Database(place)
    try:
        database.write("BEGIN IMMEDIATE", ())
        try:
            for number in range(version, schema.VERSION):
                _STEPS[number](database)
                database.write(f"PRAGMA user_version = {number + 1}", ())
            database.write("COMMIT", ())
        except BaseException:
            database.write("ROLLBACK", ())
            raise
    finally:
        database.close()
    return version


def _give_state_a_tail(database: Database) -> None:
    """From 1 to 2: ``state`` says how far the tail has been taken over, of which there is none."""
    status, message, updated, last_step, tail = read_state(database)
    values = (status, message, updated, last_step, tail)
    database.write("DROP TABLE state", ())
    database.write(schema.VERSIONS[2][1], ())
    database.write("INSERT INTO state VALUES (1, ?, ?, ?, ?, ?, ?)", (*values, schema.checksum(values)))


_STEPS: Mapping[int, Callable[[Database], None]] = {1: _give_state_a_tail}
