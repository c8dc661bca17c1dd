"""How far an experiment is: in the terminal, and in its run file for whoever watches that."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Protocol

from logitscope._terminal import progress_bar

if TYPE_CHECKING:
    from logitscope.record import Recorder

PROGRESS_TAG = "progress"
"""The text of a run file that says how far it is: JSON with ``share``, ``seconds_left`` and ``note``."""
VERDICT_TAG = "verdict"
"""The text of a run file that holds the verdict in words; how far the run is until there is one."""
_RECORD_EVERY = 0.5
_PRINT_EVERY = 3.0
"""Seconds between two values in the run file, and between two lines where there is no terminal."""


class Progress(Protocol):
    """What an experiment tells as it goes."""

    def begin(self, total: float) -> None:
        """Say how much there is to do, in units of one's own."""

    def advance(self, units: float = 1.0, note: str = "") -> None:
        """Say that some of it is done, and what is being done now."""


class Silent:
    """Shows nothing: for who calls an experiment from Python.

    Examples
    --------
    >>> from logitscope.experiments.progress import Silent
    >>> progress = Silent()
    >>> progress.begin(10)
    >>> progress.advance(1, "seed 0")
    """

    def begin(self, total: float) -> None:
        """Say how much there is to do."""

    def advance(self, units: float = 1.0, note: str = "") -> None:
        """Say that some of it is done."""


class ShownProgress:
    """A bar with the time left in a terminal, now and then a line elsewhere; the share done is recorded, too."""

    def __init__(self, title: str, scope: Recorder) -> None:
        self._title = title
        self._scope = scope
        self._total, self._done = 1.0, 0.0
        self._start = self._recorded = self._printed = time.monotonic()
        self._bar = progress_bar("{task.fields[title]}", "left  {task.description}")
        if self._bar is not None:
            self._task = self._bar.add_task("", title=title, total=None)

    def __enter__(self) -> ShownProgress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def begin(self, total: float) -> None:
        """Say how much there is to do."""
        self._total, self._done = max(total, 1e-12), 0.0
        self._start = time.monotonic()
        if self._bar is not None:
            self._bar.update(self._task, total=self._total)

    def advance(self, units: float = 1.0, note: str = "") -> None:
        """Say that some of it is done."""
        self._done = min(self._done + units, self._total)
        now = time.monotonic()
        if now - self._recorded >= _RECORD_EVERY or self._done == self._total:
            self._recorded = now
            self._record(now, note)
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done, description=note)
        elif now - self._printed >= _PRINT_EVERY:
            self._printed = now
            print(f"{self._title}: {self._words(now, note)}", file=sys.stderr, flush=True)

    def _left(self, now: float) -> float:
        return (now - self._start) * (self._total / max(self._done, 1e-12) - 1.0)

    def _record(self, now: float, note: str) -> None:
        """Keep it as a text: a scalar would put steps of its own on the run's time line."""
        state = {"share": self._done / self._total, "seconds_left": round(self._left(now), 1), "note": note}
        self._scope.text(PROGRESS_TAG, json.dumps(state), 0)
        self._scope.text(VERDICT_TAG, self._words(now, note), 0)

    def _words(self, now: float, note: str) -> str:
        return f"{100 * self._done / self._total:.0f} %, {clock(self._left(now))} left  {note}".rstrip()


def clock(seconds: float) -> str:
    """Minutes and seconds."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
