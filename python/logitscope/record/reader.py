"""Reads a run file while it is written or after: never in the writer's way, trusting nothing in the file."""

from __future__ import annotations

import math
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from logitscope.errors import ArgumentError, RunFileError
from logitscope.record import codec
from logitscope.record.database import Database
from logitscope.record.index import RunIndex
from logitscope.record.log_feed import LogFeed, is_log
from logitscope.record.rows import read_info, read_knobs, read_panels
from logitscope.record.schema import checksum
from logitscope.record.tail import TailReader
from logitscope.record.types import Event, KnobInfo, Panel, RunInfo, Series, StepArray, StepText, TagInfo

if TYPE_CHECKING:
    import os
    from types import TracebackType

    from numpy.typing import NDArray


class RunReader:
    """A run file, open for reading.

    What the methods tell is the run as of the last `poll`, or of the opening. Thread safe.

    Parameters
    ----------
    path
        A ``*.scope`` file, of a run that is over or still going on.

    Raises
    ------
    RunFileError
        Here or by any method: the file cannot be read, is no run file, or is damaged.

    Examples
    --------
    >>> import tempfile
    >>> from logitscope import record
    >>> scope = record.start("example", path=tempfile.mkdtemp() + "/example.scope")
    >>> run = record.RunReader(scope.path)
    >>> scope.scalar("loss/train", 4.5, step=0)
    >>> run.poll(), run.tags()
    (True, [TagInfo(name='loss/train', kind='scalar', count=1)])
    >>> scope.finish(), run.close()
    (None, None)
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._lock = threading.RLock()
        self._feed = LogFeed(self.path) if is_log(self.path) else None
        try:
            self._database = Database(self.path if self._feed is None else self._feed.database)
        except BaseException:
            self._close_feed()
            raise
        self._tail = TailReader(self.path)
        self._index: RunIndex | None = None
        try:
            self._info = self._read_info()
        except BaseException:
            self.close()
            raise

    @property
    def info(self) -> RunInfo:
        """Name, status and so on."""
        return self._info

    def poll(self) -> bool:
        """Take in what was written since the last time; whether anything changed."""
        with self._lock:
            if self._feed is not None:
                self._feed.pull()
            changed = self._database.has_changed() | self._tail.has_changed()
            if changed and self._index is not None:
                self._index.refresh()
            info = self._read_info()
            changed = changed or info != self._info  # the status changes when the writer dies, not the file
            self._info = info
            return changed

    def tags(self) -> list[TagInfo]:
        """All tags that have values, in the order in which they appeared."""
        with self._lock:
            index = self._loaded()
            return [TagInfo(tag.name, tag.kind, index.count(number)) for number, tag in index.tags.items()]

    def scalars(self, tag: str, after_row: int = 0) -> Series:
        """Points of a scalar tag in the order of writing; only those after a row (see `Series.last_row`)."""
        with self._lock:
            index = self._loaded()
            return index.series(self._number(tag, "scalar"), after_row)

    def steps(self, tag: str) -> NDArray[np.int64]:
        """Steps at which a tag has values, in the order of writing."""
        with self._lock:
            index = self._loaded()
            number = self._number(tag)
            if index.tags[number].kind == "scalar":
                return index.series(number, 0).steps
            return np.array(index.entries(number).steps, np.int64)

    def array(self, tag: str, step: int | None = None) -> StepArray | None:
        """The newest array or histogram at or before a step; of all for None. None when there is none."""
        with self._lock:
            entry = self._entry(tag, step, "array", "histogram")
            if entry is None:
                return None
            row = self._payload("arrays", "dtype, shape, codec, data_check, data", entry[1])
            dtype, shape, name, check, data = row
            if not isinstance(data, bytes) or check != checksum((data,)):
                message = f"the array {tag!r} of step {entry[0]}"
                raise self._damaged(message)
            return StepArray(entry[0], codec.decode(str(dtype), str(shape), str(name), data))

    def text(self, tag: str, step: int | None = None) -> StepText | None:
        """The newest text at or before a step; of all for None. None when there is none."""
        with self._lock:
            entry = self._entry(tag, step, "text")
            if entry is None:
                return None
            check, text = self._payload("texts", "text_check, text", entry[1])
            if not isinstance(text, str) or check != checksum((text,)):
                message = f"the text {tag!r} of step {entry[0]}"
                raise self._damaged(message)
            return StepText(entry[0], text)

    def panels(self) -> list[Panel]:
        """Panels in the order in which they were declared."""
        with self._lock:
            return read_panels(self._database)

    def events(self, after_row: int = 0) -> list[Event]:
        """Events in the order of writing; only those after a row."""
        with self._lock:
            return [event for event in self._loaded().events if event.row > after_row]

    def knobs(self) -> list[KnobInfo]:
        """Knobs in the order in which they were declared."""
        with self._lock:
            return read_knobs(self._database)

    def set_knob(self, name: str, value: float) -> None:
        """Ask for a value; the training reads it at its next step. It is clamped to the knob's ends."""
        with self._lock:
            if self._feed is not None:
                message = (
                    f"run file: {self.path} cannot be changed: it is a log; the knobs of a log are fixed"
                )
                raise RunFileError(message)
            knobs = {knob.name: knob for knob in self.knobs()}
            if name not in knobs:
                message = (
                    f"set_knob: {name!r} is no knob of this run; it has {', '.join(sorted(knobs)) or 'none'}"
                )
                raise ArgumentError(message)
            number = float(value)
            if not math.isfinite(number):
                message = f"set_knob: {value!r} for {name!r} is not finite; give a number"
                raise ArgumentError(message)
            number = min(max(number, knobs[name].low), knobs[name].high)
            self._database.write(
                "UPDATE knobs SET value = ?, value_check = ? WHERE name = ?",
                (number, checksum((name, number)), name),
            )

    def close(self) -> None:
        """Close the file; of no effect when that was done."""
        with self._lock:
            self._database.close()
            self._close_feed()

    def __enter__(self) -> RunReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"RunReader({str(self.path)!r})"

    def _read_info(self) -> RunInfo:
        info = replace(read_info(self._database), path=self.path)
        seen = -1 if self._index is None else self._index.last_step
        return (
            info
            if seen <= (-1 if info.last_step is None else info.last_step)
            else replace(info, last_step=seen)
        )

    def _close_feed(self) -> None:
        if self._feed is not None:
            self._feed.close()

    def _loaded(self) -> RunIndex:
        if self._index is None:
            index = RunIndex(self._database, self._tail, self._info.run_id)
            index.refresh()
            self._index = index
        return self._index

    def _number(self, tag: str, *kinds: str) -> int:
        index = self._loaded()
        number = index.numbers.get(tag)
        if number is None:
            message = f"RunReader: {tag!r} is no tag of this run; it has {', '.join(index.numbers) or 'none'}"
            raise ArgumentError(message)
        kind = index.tags[number].kind
        if kinds and kind not in kinds:
            message = f"RunReader: the tag {tag!r} is of kind {kind}; use one of kind {' or '.join(kinds)}"
            raise ArgumentError(message)
        return number

    def _entry(self, tag: str, step: int | None, *kinds: str) -> tuple[int, int] | None:
        """Step and row of the newest value of a tag at or before a step; of equal steps the last written."""
        return self._loaded().entries(self._number(tag, *kinds)).at(step)

    def _payload(self, table: str, columns: str, row: int) -> tuple[Any, ...]:
        rows = self._database.rows(f"SELECT {columns} FROM {table} WHERE row = ?", (row,))
        if len(rows) != 1:
            message = f"row {row} of {table}"
            raise self._damaged(message)
        return rows[0]

    def _damaged(self, what: str) -> RunFileError:
        return RunFileError(f"run file: {self.path}: {what} does not match its checksum; the file is damaged")
