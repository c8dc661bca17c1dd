"""The bytes of a run file that is a log: records one after the other, each with its length and a CRC.

A log is for network disks, on which SQLite's locks and shared memory cannot be trusted: it has one writer, only
grows, and needs neither. After `HEADER` come records: `MARK`, length of the body, CRC-32 of length and body (both
little-endian, 32 bits), body. A body is one line of JSON, ``[table, values]``, and after it the payload: packed
numbers of ``scalars``, data of ``arrays``, UTF-8 of ``texts``. A damaged record is skipped: reading goes on at the
next mark whose record is whole.
"""

from __future__ import annotations

import json
import struct
import zlib
from typing import TYPE_CHECKING, Any

from logitscope.record import codec
from logitscope.record.outbox import Row

if TYPE_CHECKING:
    from collections.abc import Iterator

HEADER = b"logitscope log 1\n"
MARK = b"\xf5LSR"
_PREFIX = struct.Struct("<4sII")
_LENGTH = struct.Struct("<I")
_LONGEST = codec.MAX_ARRAY_BYTES + (1 << 20)
SMALL_TABLES = {"run": 7, "state": 4, "tags": 4, "tag_sets": 3, "panels": 3, "knobs": 12}
"""Tables whose rows are declared, and how many columns a record of each has."""
_ROW_TABLES = {"scalars": 3, "arrays": 6, "texts": 3, "events": 4}


def encode(table: str, values: tuple[object, ...], payload: bytes = b"") -> bytes:
    """One record.

    Examples
    --------
    >>> data = encode("events", (3, 1.5, "info", "hello"))
    >>> [(row.table, row.values) for row, _ in records(data)]
    [('events', (3, 1.5, 'info', 'hello'))]
    """
    body = json.dumps([table, values], allow_nan=False, separators=(",", ":")).encode() + b"\n" + payload
    return _PREFIX.pack(MARK, len(body), zlib.crc32(body, zlib.crc32(_LENGTH.pack(len(body))))) + body


def encode_scalars(step: int, time: float, tag_set: int, packed: bytes) -> bytes:
    """The record of a row of ``scalars``, as `encode` makes it, written out for speed.

    Examples
    --------
    >>> encode_scalars(7, 0.5, 1, b"12345678") == encode("scalars", (7, 0.5, 1), b"12345678")
    True
    """
    body = b'["scalars",[%d,%r,%d]]\n%b' % (step, time, tag_set, packed)
    length = _LENGTH.pack(len(body))
    return MARK + length + _LENGTH.pack(zlib.crc32(body, zlib.crc32(length))) + body


def encode_row(row: Row) -> bytes:
    """The record of a row on its way into a file."""
    if row.table == "scalars":
        columns: tuple[Any, ...] = row.values
        return encode_scalars(*columns)
    payload = row.payload.encode() if isinstance(row.payload, str) else row.payload or b""
    return encode(row.table, row.values, payload)


def records(data: bytes) -> Iterator[tuple[Row | None, int]]:
    """Rows in the order of writing, each with where its record ends; None for a stretch that is damaged.

    Rows of small tables have the kind ``declared``. What breaks off at the end may still be written and is left.
    """
    place = 0
    while place < len(data):
        row, end = _record(data, place)
        if row is not None:
            yield row, end
            place = end
            continue
        found = _next_whole(data, place + 1)
        if found < 0:
            return
        yield None, found
        place = found


def _next_whole(data: bytes, place: int) -> int:
    while (place := data.find(MARK, place)) >= 0:
        if _record(data, place)[0] is not None:
            return place
        place += 1
    return -1


def _record(data: bytes, place: int) -> tuple[Row | None, int]:
    start = place + _PREFIX.size
    if start > len(data):
        return None, place
    mark, length, check = _PREFIX.unpack_from(data, place)
    if mark != MARK or length > _LONGEST or start + length > len(data):
        return None, place
    body = data[start : start + length]
    if zlib.crc32(body, zlib.crc32(_LENGTH.pack(length))) != check:
        return None, place
    return _row(body), start + length


def _row(body: bytes) -> Row | None:
    """A row, if the body is one: a CRC keeps damage out, not what another program has made up."""
    line, _, payload = body.partition(b"\n")
    try:
        table, values = json.loads(line)
        columns = tuple(values)
        text = payload.decode() if table == "texts" else None
    except (ValueError, TypeError, RecursionError):
        return None
    if not isinstance(table, str) or len(columns) != {**SMALL_TABLES, **_ROW_TABLES}.get(table, -1):
        return None
    if not all(_is_plain(value) for value in columns):
        return None
    if table in SMALL_TABLES:
        return Row(table, "declared", 1, None, columns)
    step = columns[0] if isinstance(columns[0], int) else None
    if table == "scalars":
        return Row(table, "scalar", 1, step, (*columns, payload))
    data: Any = payload if table == "arrays" else text
    return Row(table, table[:-1], 1, step, columns, data)


def _is_plain(value: object) -> bool:
    if type(value) is int:
        return -(1 << 63) <= value < 1 << 63
    return value is None or type(value) in (str, float)
