"""One file of a run whose process was killed: what lies beside it is taken over, so that one can copy it alone."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from logitscope.errors import RunFileError
from logitscope.record import schema
from logitscope.record.database import Database
from logitscope.record.log_feed import is_log
from logitscope.record.reader import RunReader
from logitscope.record.rows import read_info, read_state
from logitscope.record.tail import TailReader, tail_of

if TYPE_CHECKING:
    import os


def compact_run(path: str | os.PathLike[str]) -> int:
    """Take over what lies beside a run file, in place and as a whole or not at all.

    A run that has ended well is one file already, and so is a log. Of one that was killed the newest rows are in
    ``RUN-tail`` and ``RUN-wal``.

    Parameters
    ----------
    path
        A run file whose training is over. It is read as a whole first: a damaged one is left as it is.

    Returns
    -------
    int
        Rows of scalars that were taken over from the tail.

    Examples
    --------
    >>> import tempfile
    >>> from logitscope import record
    >>> with record.start("example", path=tempfile.mkdtemp() + "/example.scope") as scope:
    ...     scope.scalar("loss/train", 4.5, step=0)
    >>> record.compact_run(scope.path)
    0
    """
    place = Path(path)
    with RunReader(place) as run:
        run.tags()
        is_written = run.info.status == "running"
    if is_written:
        message = f"compact_run: {place} is being written; wait until its training is over"
        raise RunFileError(message)
    if is_log(place):
        return 0
    database = Database(place)
    try:
        count = _take_over(database)
        database.rows("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        database.close()
    with contextlib.suppress(OSError):
        tail_of(place).unlink()
    return count


def _take_over(database: Database) -> int:
    status, _, updated, last_step, taken = read_state(database)
    if status != "running":
        return 0
    info = read_info(database)
    tail = TailReader(database.path)
    rows = tail.rows(info.run_id, taken) or []
    last_step = max(
        (step for step in (last_step, *(row.step for row in rows)) if step is not None), default=None
    )
    database.write("BEGIN IMMEDIATE", ())
    try:
        first = database.rows("SELECT max(row) FROM scalars")[0][0] or 0
        for number, row in enumerate(rows, first + 1):
            values = (number, *row.values)
            database.write(
                "INSERT INTO scalars VALUES (?, ?, ?, ?, ?, ?)", (*values, schema.checksum(values))
            )
        end: tuple[object, ...] = (info.status, info.message, updated, last_step)
        columns = "status = ?, message = ?, updated = ?, last_step = ?"
        if database.format > 1:
            columns, end = f"{columns}, tail = ?", (*end, max(taken, tail.end))
        database.write(f'UPDATE state SET {columns}, "check" = ?', (*end, schema.checksum(end)))
        database.write("COMMIT", ())
    except BaseException:
        database.write("ROLLBACK", ())
        raise
    return len(rows)
