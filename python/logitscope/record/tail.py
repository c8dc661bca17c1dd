"""The tail of a run file: the newest rows of scalars, appended to a file of their own before they go into the database.

An append is one call of the system where a transaction is ten, and survives the death of the process as well. The
database says, in the same transaction as the rows, how far the tail has been taken over (``state.tail``): an offset
that counts on when the tail begins anew, so that a row is read from one of both and from one only. It begins at 1, and
is 0 for a run that has no tail.

A tail is `HEADER`, the run's id, the offset at which its records begin, a CRC-32 of these, and then records of
``scalars`` as in log_format.py.
"""

from __future__ import annotations

import contextlib
import os
import struct
import zlib
from typing import TYPE_CHECKING

from logitscope.errors import RunFileError
from logitscope.record.log_format import encode_scalars, records

if TYPE_CHECKING:
    from pathlib import Path

    from logitscope.record.outbox import Row

HEADER = b"logitscope tail\n"
SUFFIX = "-tail"
LONGEST = 4 << 20
"""Bytes after which a tail that was taken over begins anew."""
_HEAD = struct.Struct("<16s32sQ")
_CHECK = struct.Struct("<I")
_SIZE = _HEAD.size + _CHECK.size


def tail_of(path: Path) -> Path:
    """Where the tail of a run file is."""
    return path.with_name(path.name + SUFFIX)


class Tail:
    """The tail as its only writer has it, made new at ``offset``."""

    def __init__(self, path: Path, run_id: str, offset: int = 0) -> None:
        self._path, self._run_id = tail_of(path), run_id
        self._file = -1
        self.end = offset
        """Where the next record will be."""
        self._begin(offset)

    def append(self, step: int, time: float, tag_set: int, packed: bytes) -> None:
        """Add a row, whole or not at all; OSError where it cannot be."""
        data = encode_scalars(step, time, tag_set, packed)
        if os.write(self._file, data) != len(data):
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, _SIZE + self.end - self._first)
            message = "only a part of a row could be written"
            raise OSError(message)
        self.end += len(data)

    def shorten(self) -> None:
        """Begin anew after its end, where it is long; everything before must have been taken over."""
        if self.end - self._first > LONGEST:
            self._begin(self.end)

    def is_lost(self) -> bool:
        """Whether the file was deleted or replaced."""
        try:
            there, ours = os.stat(self._path), os.fstat(self._file)
        except OSError:
            return True
        return (there.st_dev, there.st_ino) != (ours.st_dev, ours.st_ino)

    def close(self, *, remove: bool) -> None:
        """Close the file; ``remove`` it when all was taken over."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
            if remove:
                with contextlib.suppress(OSError):
                    self._path.unlink()

    def _begin(self, offset: int) -> None:
        """Make the file, in one piece in the place of the last one."""
        fresh = self._path.with_name(self._path.name + "-new")
        head = _HEAD.pack(HEADER, self._run_id.encode(), offset)
        file = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o666)
        try:
            os.write(file, head + _CHECK.pack(zlib.crc32(head)))
            os.replace(fresh, self._path)
        except BaseException:
            os.close(file)
            with contextlib.suppress(OSError):
                fresh.unlink()
            raise
        if self._file >= 0:
            os.close(self._file)
        self._file, self._first = file, offset


class TailReader:
    """The tail as a reader finds it."""

    def __init__(self, path: Path) -> None:
        self._path = tail_of(path)
        self._seen: tuple[int, int] | None = None

    def has_changed(self) -> bool:
        """Whether there is more or another one since this was asked last."""
        try:
            stat = os.stat(self._path)
            seen: tuple[int, int] | None = (stat.st_ino, stat.st_size)
        except OSError:
            seen = None
        changed, self._seen = seen != self._seen, seen
        return changed

    @property
    def end(self) -> int:
        """The offset after all that is in the tail; 0 when there is none."""
        try:
            data = self._path.read_bytes()
        except OSError:
            return 0
        return 0 if len(data) < _SIZE else int(_HEAD.unpack_from(data)[2]) + len(data) - _SIZE

    def rows(self, run_id: str, taken: int) -> list[Row] | None:
        """Rows that the database does not have, which has taken over what lies before the offset ``taken``.

        None when the tail begins after that: the database has more by now, and is to be read again.
        """
        try:
            data = self._path.read_bytes()
        except OSError:
            return []
        if len(data) < _SIZE:
            return []
        magic, run, first = _HEAD.unpack_from(data)
        if magic != HEADER or _CHECK.unpack_from(data, _HEAD.size)[0] != zlib.crc32(data[: _HEAD.size]):
            message = f"run file: {self._path} is damaged; delete it to read the run without its newest rows"
            raise RunFileError(message)
        if run != run_id.encode():
            return []
        if taken < first:
            return None
        found = [row for row, _ in records(data[_SIZE + taken - first :])]
        if any(row is None or row.table != "scalars" for row in found):
            message = f"run file: a row in {self._path} does not match its checksum; it is damaged"
            raise RunFileError(message)
        return [row for row in found if row is not None]
