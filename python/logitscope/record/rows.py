"""The small tables of a run file as the values of types.py, each row checked."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, get_args

from logitscope.errors import RunFileError
from logitscope.record.process import Process, is_alive
from logitscope.record.schema import checksum, checksum_of_scalars
from logitscope.record.tail import tail_of
from logitscope.record.types import KnobInfo, Panel, RunInfo, RunStatus

if TYPE_CHECKING:
    from logitscope.record.database import Database


_KINDS = {"i": (int,), "f": (float,), "s": (str,), "b": (bytes,), "n": (int, type(None))}
_SCALARS = (int, int, float, int, bytes)
_PANEL_WORDS = ("title", "kind", "group", "x_label", "y_label", "notes")


def read_info(database: Database) -> RunInfo:
    """The run as a whole; a run whose process is gone is ``stopped``."""
    columns = 'run_id, name, created, meta, host, pid, pid_started, "check"'
    run_id, name, created, meta, host, pid, started = _only(database, f"SELECT {columns} FROM run", "ssfssis")
    status, message, updated, last_step, tail = read_state(database)
    alive = is_alive(Process(host, pid, started)) if status == "running" else None
    is_incomplete = status == "running" and not alive and tail > 0 and not tail_of(database.path).exists()
    if alive is False:
        status, message = "stopped", "the writing process is gone"
    if is_incomplete:
        lost = f"{tail_of(database.path).name} is missing, and with it the newest scalars: copy it beside the run"
        message = f"{message}; {lost}" if message else lost
    notes = parse(database, "run", meta, dict)
    notes = {str(key): str(value) for key, value in notes.items()}
    return RunInfo(database.path, run_id, name, status, created, updated, last_step, message, notes)


def read_state(database: Database) -> tuple[RunStatus, str, float, int | None, int]:
    """Status, message, time, highest step, and how far the tail has been taken over; format 1 has no tail."""
    columns, kinds = "status, message, updated, last_step", "ssfn"
    if database.format > 1:
        columns, kinds = f"{columns}, tail", f"{kinds}i"
    status, message, updated, last_step, *tail = _only(
        database, f'SELECT {columns}, "check" FROM state', kinds
    )
    if status not in get_args(RunStatus):
        raise damaged(database, "state")
    return status, message, updated, last_step, tail[0] if tail else 0


def read_panels(database: Database) -> list[Panel]:
    """Panels in the order in which they were declared."""
    panels = []
    for row in database.rows('SELECT id, spec, "check" FROM panels ORDER BY id'):
        _, spec = intact(database, "panels", row, "is")
        fields = parse(database, "panels", spec, dict)
        words = [fields.pop(name, "") for name in _PANEL_WORDS]
        tags, options = fields.pop("tags", None), fields.pop("options", None)
        if fields or not isinstance(tags, list) or not isinstance(options, dict):
            raise damaged(database, "panels")
        if not all(isinstance(text, str) for text in (*words, *tags)):
            raise damaged(database, "panels")
        panels.append(Panel(tags=tuple(tags), options=options, **dict(zip(_PANEL_WORDS, words, strict=True))))
    return panels


def read_knobs(database: Database) -> list[KnobInfo]:
    """Knobs in the order in which they were declared."""
    columns = (
        'id, name, "default", low, high, log, notes, "check", value, value_check, applied, applied_check'
    )
    knobs = []
    for row in database.rows(f"SELECT {columns} FROM knobs ORDER BY id"):
        _, name, default, low, high, log, notes = intact(database, "knobs", row[:8], "isfffis")
        value, applied = (
            intact(database, "knobs", (name, *pair), "sf")[1] for pair in (row[8:10], row[10:12])
        )
        knobs.append(KnobInfo(name, default, low, high, value, applied, bool(log), notes))
    return knobs


def intact(database: Database, table: str, row: tuple[Any, ...], kinds: str) -> tuple[Any, ...]:
    """A row without its check, which stands last and must match; ``kinds``: a letter of `_KINDS` a column."""
    values = row[:-1]
    if row[-1] != checksum(values):
        raise damaged(database, table)
    for value, kind in zip(values, kinds, strict=True):
        if type(value) not in _KINDS[kind] or (kind == "f" and not math.isfinite(value)):
            raise damaged(database, table)
    return values


def intact_scalars(database: Database, rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """What `intact` makes of the rows of ``scalars``, faster."""
    found = []
    for row in rows:
        values = row[:-1]
        if tuple(map(type, values)) != _SCALARS or not math.isfinite(row[2]):
            raise damaged(database, "scalars")
        if row[-1] != checksum_of_scalars(values):
            raise damaged(database, "scalars")
        found.append(values)
    return found


def parse(database: Database, table: str, text: str, kind: type) -> Any:
    """JSON that must be of a kind."""
    try:
        value = json.loads(text)
    except (ValueError, TypeError, RecursionError) as error:
        raise damaged(database, table) from error
    if not isinstance(value, kind):
        raise damaged(database, table)
    return value


def damaged(database: Database, table: str) -> RunFileError:
    """The error for a row that does not hold what was written."""
    return RunFileError(
        f"run file: {database.path}: a row of the table {table} does not match its checksum; it is damaged"
    )


def _only(database: Database, sql: str, kinds: str) -> tuple[Any, ...]:
    rows = database.rows(sql)
    if len(rows) != 1:
        message = f"run file: {database.path} does not hold exactly one run; it is damaged"
        raise RunFileError(message)
    return intact(database, sql.rpartition(" ")[2], rows[0], kinds)
