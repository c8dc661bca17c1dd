"""A number that the viewer sets while the training runs."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from logitscope.record.schema import checksum

if TYPE_CHECKING:
    from logitscope.record.outbox import Outbox

POLL_SECONDS = 0.05


class Knob:
    """What `Recorder.knob` returns: ``float(knob)`` or ``knob.value`` is what the viewer asks for now.

    Reading is cheap: the run file is looked at most every 50 ms, and a look costs some 40 µs.

    Examples
    --------
    >>> import tempfile
    >>> from logitscope import record
    >>> with record.start("example", path=tempfile.mkdtemp() + "/example.scope") as scope:
    ...     temperature = scope.knob("temperature", 1.0, 0.1, 10.0, log=True)
    ...     float(temperature)
    1.0
    """

    def __init__(
        self, board: KnobBoard, number: int, name: str, default: float, low: float, high: float
    ) -> None:
        self.name, self.default, self.low, self.high = name, default, low, high
        self._board = board
        self._number = number
        self._value = self._applied = default

    @property
    def value(self) -> float:
        """The value asked for, between ``low`` and ``high``."""
        self._board.poll()
        if self._value != self._applied and self._board.mark_applied(self._number, self.name, self._value):
            self._applied = self._value
        return self._value

    def __float__(self) -> float:
        return self.value

    def __repr__(self) -> str:
        return f"Knob({self.name!r}, {self._value:g} in {self.low:g}..{self.high:g})"

    def _ask(self, value: float) -> None:
        self._value = min(max(value, self.low), self.high)


class KnobBoard:
    """The knobs of a run; one look at the file serves them all."""

    def __init__(self, writer: Outbox) -> None:
        self._writer = writer
        self._knobs: dict[str, Knob] = {}
        self._poll_at = 0.0

    def __contains__(self, name: str) -> bool:
        return name in self._knobs

    def add(self, name: str, default: float, low: float, high: float, *, log: bool, notes: str) -> Knob:
        """Declare a knob."""
        number = len(self._knobs) + 1
        fixed = (number, name, default, low, high, int(log), notes)
        check = checksum((name, default))
        self._writer.declare(
            ("knob", name),
            "knobs",
            (*fixed, checksum(fixed), default, check, default, check),
        )
        self._knobs[name] = knob = Knob(self, number, name, default, low, high)
        self._writer.write()
        return knob

    def poll(self) -> None:
        """Look for values that the viewer has set, unless that was done just now."""
        now = time.monotonic()
        if now < self._poll_at:
            return
        self._poll_at = now + POLL_SECONDS
        for name, (value, check) in (self._writer.knob_values() or {}).items():
            knob = self._knobs.get(name)
            if (
                knob
                and isinstance(value, float)
                and math.isfinite(value)
                and check == checksum((name, value))
            ):
                knob._ask(value)

    def mark_applied(self, number: int, name: str, value: float) -> bool:
        """Tell the viewer that the training has read a value; whether that could be written."""
        sql = "UPDATE knobs SET applied = ?, applied_check = ? WHERE id = ?"
        return self._writer.execute(sql, (value, checksum((name, value)), number))
