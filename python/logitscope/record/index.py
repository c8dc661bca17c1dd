"""What a run file holds, taken in as it grows: the numbers, and where the arrays and texts are."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from logitscope.record.rows import damaged, intact, intact_scalars, parse, read_state
from logitscope.record.types import Event, EventLevel, Series, TagKind

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from logitscope.record.database import Database
    from logitscope.record.tail import TailReader


_COLUMNS = {
    "scalars": 'tag_set, "values"',
    "arrays": "tag, dtype, shape, codec",
    "texts": "tag",
    "events": "level, message",
}
_TRIES = 100
"""Times that the tail may begin anew while it is read."""
_KINDS = {"arrays": "iifisss", "texts": "iifi", "events": "infss"}


@dataclass(frozen=True, slots=True)
class Tag:
    """A row of the table ``tags``."""

    name: str
    kind: TagKind


@dataclass(slots=True)
class Entries:
    """Where the values of an array or text tag are."""

    steps: list[int] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    _order: list[tuple[int, int]] | None = None

    def add(self, step: int, row: int) -> None:
        """Take in one more."""
        self.steps.append(step)
        self.rows.append(row)
        self._order = None

    def at(self, step: int | None) -> tuple[int, int] | None:
        """Step and row of the newest at or before a step; of equal steps the last written."""
        if self._order is None:
            self._order = sorted(zip(self.steps, self.rows, strict=True))
        end = (
            len(self._order) if step is None else bisect_right(self._order, (step, max(self.rows, default=0)))
        )
        return self._order[end - 1] if end else None


class Block:
    """The scalars of one tag set: columns that grow."""

    def __init__(self, tags: tuple[int, ...]) -> None:
        self.tags = tags
        self.size = 0
        self._rows = np.empty(0, np.int64)
        self._steps = np.empty(0, np.int64)
        self._times = np.empty(0, np.float64)
        self._values = np.empty((len(tags), 0), np.float64)

    def extend(self, rows: list[int], steps: list[int], times: list[float], values: bytes) -> None:
        """Take in rows; ``values`` are theirs one after the other."""
        start, self.size = self.size, self.size + len(rows)
        if self.size > len(self._rows):
            room = max(256, 2 * self.size)
            self._rows, self._steps = np.resize(self._rows, room), np.resize(self._steps, room)
            self._times = np.resize(self._times, room)
            grown = np.empty((len(self.tags), room))
            grown[:, :start] = self._values[:, :start]
            self._values = grown
        part = slice(start, self.size)
        self._rows[part], self._steps[part], self._times[part] = rows, steps, times
        self._values[:, part] = np.frombuffer(values, "<f8").reshape(-1, len(self.tags)).T

    def points(self, tag: int, after_row: int) -> tuple[NDArray[Any], ...]:
        """Rows, steps, values and times of a tag after a row."""
        part = slice(int(np.searchsorted(self._rows[: self.size], after_row, side="right")), self.size)
        values = self._values[self.tags.index(tag), part]
        return self._rows[part].copy(), self._steps[part].copy(), values.copy(), self._times[part].copy()


class RunIndex:
    """Tags, scalars and events of a run, and where its arrays and texts are."""

    def __init__(self, database: Database, tail: TailReader, run_id: str) -> None:
        self._tail, self._run_id = tail, run_id
        self.tags: dict[int, Tag] = {}
        self.numbers: dict[str, int] = {}
        self.events: list[Event] = []
        self.last_step = -1
        """The highest step of the scalars."""
        self._database = database
        self._blocks: dict[int, Block] = {}
        self._entries: dict[int, Entries] = {}
        self._last = {"scalars": 0, "arrays": 0, "texts": 0, "events": 0}

    def refresh(self) -> None:
        """Take in what is new: values first, so that their tags, written with or before them, are there."""
        for _ in range(_TRIES):
            with self._database.snapshot():
                fresh = {table: self._fresh(table, columns) for table, columns in _COLUMNS.items()}
                self._take_tags()
                stored = self._database.rows("SELECT max(row) FROM scalars")[0][0] or 0
                state = read_state(self._database)
            late = self._tail.rows(self._run_id, state[4])
            if late is not None:
                break
        else:
            raise damaged(self._database, "state")
        known = self._last["scalars"] + len(fresh["scalars"])
        for row in late[max(0, known - stored) :]:
            known += 1
            fresh["scalars"].append((known, *row.values))
        self._take_scalars(fresh["scalars"])
        for table in ("arrays", "texts"):
            for row, step, _, tag, *_rest in fresh[table]:
                if self._kind(tag) not in (("array", "histogram") if table == "arrays" else ("text",)):
                    raise damaged(self._database, table)
                self._entries.setdefault(tag, Entries()).add(step, row)
        for row, step, time, level, message in fresh["events"]:
            if level not in get_args(EventLevel):
                raise damaged(self._database, "events")
            self.events.append(Event(row, step, time, level, message))
        for table, rows in fresh.items():
            self._last[table] += len(rows)

    def count(self, number: int) -> int:
        """How many values a tag has."""
        if self.tags[number].kind == "scalar":
            return sum(block.size for block in self._blocks.values() if number in block.tags)
        return len(self.entries(number).rows)

    def entries(self, number: int) -> Entries:
        """Where the values of an array or text tag are."""
        return self._entries.get(number, Entries())

    def series(self, number: int, after_row: int) -> Series:
        """Points of a scalar tag after a row."""
        parts = [block.points(number, after_row) for block in self._blocks.values() if number in block.tags]
        if not parts:
            empty = np.empty(0, np.float64)
            return Series(np.empty(0, np.int64), empty, empty, max(after_row, self._last["scalars"]))
        rows, steps, values, times = (np.concatenate(column) for column in zip(*parts, strict=True))
        if len(parts) > 1:
            order = np.argsort(rows, kind="stable")
            steps, values, times = steps[order], values[order], times[order]
        return Series(steps, values, times, max(after_row, self._last["scalars"]))

    def _kind(self, number: int) -> str:
        return self.tags[number].kind if number in self.tags else ""

    def _fresh(self, table: str, columns: str) -> list[tuple[Any, ...]]:
        """Read the new rows of a table, checked, without their checks."""
        sql = f'SELECT row, step, time, {columns}, "check" FROM {table} WHERE row > ? ORDER BY row'
        last = self._last[table]
        found = self._database.rows(sql, (last,))
        if table == "scalars":
            rows = intact_scalars(self._database, found)
        else:
            rows = [intact(self._database, table, row, _KINDS[table]) for row in found]
        if rows and (rows[0][0] != last + 1 or rows[-1][0] != last + len(rows)):
            raise damaged(self._database, table)
        return rows

    def _take_tags(self) -> None:
        known = max(self.tags, default=0)
        for row in self._database.rows(
            'SELECT id, name, kind, "check" FROM tags WHERE id > ? ORDER BY id', (known,)
        ):
            number, name, kind = intact(self._database, "tags", row, "iss")
            if kind not in get_args(TagKind) or name in self.numbers:
                raise damaged(self._database, "tags")
            self.tags[number] = Tag(name, kind)
            self.numbers[name] = number
        known = max(self._blocks, default=0)
        for row in self._database.rows(
            'SELECT id, tags, "check" FROM tag_sets WHERE id > ? ORDER BY id', (known,)
        ):
            number, text = intact(self._database, "tag_sets", row, "is")
            tags = tuple(parse(self._database, "tag_sets", text, list))
            if not tags or not all(type(tag) is int and self._kind(tag) == "scalar" for tag in tags):
                raise damaged(self._database, "tag_sets")
            if len(set(tags)) < len(tags):
                raise damaged(self._database, "tag_sets")
            self._blocks[number] = Block(tags)

    def _take_scalars(self, rows: list[tuple[Any, ...]]) -> None:
        groups: dict[int, list[tuple[Any, ...]]] = {}
        for row in rows:
            block = self._blocks.get(row[3])
            if block is None or len(row[4]) != 8 * len(block.tags):
                raise damaged(self._database, "scalars")
            groups.setdefault(row[3], []).append(row)
        for number, group in groups.items():
            numbers, steps, times, _, values = zip(*group, strict=True)
            self.last_step = max(self.last_step, *steps)
            self._blocks[number].extend(list(numbers), list(steps), list(times), b"".join(values))
