"""Reads a log by feeding it into a database of one's own, which the reader then reads as any run file."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from logitscope.errors import RunFileError
from logitscope.record.log_format import HEADER, records
from logitscope.record.outbox import Row
from logitscope.record.writer import Writer

if TYPE_CHECKING:
    from typing import BinaryIO

_PIECE = 64 << 20


def is_log(path: Path) -> bool:
    """Whether a file begins as a log does."""
    try:
        with path.open("rb") as file:
            return file.read(len(HEADER)) == HEADER
    except OSError:
        return False


class LogFeed:
    """A log and the database that it is fed into, in a temporary directory."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._place = len(HEADER)
        self._time = 0.0
        self._writer: Writer | None = None
        self._kinds: dict[object, object] = {}
        self._widths: dict[object, int] = {}
        self._directory = tempfile.TemporaryDirectory(prefix="logitscope-")
        self.database = Path(self._directory.name) / "log.scope"
        try:
            self.pull()
        except BaseException:
            self.close()
            raise
        if self._writer is None:
            self.close()
            message = f"run file: {path} is a log whose beginning is damaged; it holds no run"
            raise RunFileError(message)

    def pull(self) -> None:
        """Take over what was appended since the last time."""
        try:
            with self._path.open("rb") as file:
                while self._take(file):
                    pass
        except OSError as error:
            message = f"run file: {self._path} cannot be read ({error.strerror or error})"
            raise RunFileError(message) from error

    def close(self) -> None:
        """Remove the database."""
        if self._writer is not None:
            self._writer.close("running", "")
            self._writer = None
        self._directory.cleanup()

    def _take(self, file: BinaryIO) -> bool:
        """Take over one piece; whether there may be more."""
        file.seek(self._place)
        data = file.read(_PIECE)
        if len(data) == _PIECE:
            data += file.read(_PIECE * 5)  # a record may be as long as that
        end, rows, orphans = 0, [], 0
        for row, after in records(data):
            if row is None:
                rows.append(self._note(f"{after - end} damaged bytes of the log were skipped"))
            elif row.kind == "declared":
                rows = self._declare(row, rows)
            elif self._is_known(row):
                self._time = row.values[1] if isinstance(row.values[1], float) else self._time
                rows.append(row)
            else:
                orphans += 1
            end = after
        if orphans:
            rows.append(
                self._note(f"{orphans} values were skipped whose tags are in a damaged part of the log")
            )
        self._place += end
        if self._writer is not None and rows:
            self._writer.write_all(rows)
        return len(data) > _PIECE and end > 0

    def _declare(self, row: Row, rows: list[Row]) -> list[Row]:
        """Take over a row of a small table; the rows before it are written first where it says how things ended."""
        if row.table == "run":
            if self._writer is None:
                self._writer = Writer(self.database, row.values, tail=False)
                self._writer.clock = lambda: self._time
                self._time = row.values[2] if isinstance(row.values[2], float) else 0.0
        elif self._writer is not None:
            if row.table == "state":
                self._writer.write_all(rows)
                status, message, time, _ = row.values
                self._time = time if isinstance(time, float) else self._time
                self._writer.mark(str(status), str(message))
                return []
            if type(row.values[0]) is not int:
                return rows  # no row of ours: the database would take none of those after it
            if row.table == "tags":
                self._kinds[row.values[0]] = row.values[2]
            if row.table == "tag_sets":
                tags = _numbers(row.values[1])
                if not tags or any(self._kinds.get(tag) != "scalar" for tag in tags):
                    return rows
                self._widths[row.values[0]] = len(tags)
            self._writer.declare((row.table, row.values[0]), row.table, row.values)
        return rows

    def _is_known(self, row: Row) -> bool:
        """Whether what a row belongs to was read, and not lost with a damaged record."""
        if row.table == "events":
            return True
        number = row.values[2]
        if row.table == "scalars":
            packed = row.values[3]
            return isinstance(packed, bytes) and self._widths.get(number, -1) * 8 == len(packed)
        return self._kinds.get(number) in (("text",) if row.table == "texts" else ("array", "histogram"))

    def _note(self, message: str) -> Row:
        return Row("events", "event", 1, None, (None, self._time, "warning", message))


def _numbers(text: object) -> list[int]:
    try:
        found = json.loads(str(text))
    except (ValueError, RecursionError):
        return []
    return found if isinstance(found, list) and all(type(number) is int for number in found) else []
