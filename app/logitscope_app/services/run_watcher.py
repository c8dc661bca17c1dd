"""A thread that keeps the list of runs: those of a directory, or files named one by one."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Signal

from logitscope.record import RunReader, list_runs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from logitscope.record import RunInfo

LOOK_SECONDS = 2.0


def runs_of(places: Sequence[Path]) -> list[RunInfo]:
    """The runs of directories and files, newest first; what is no run file (any more) is left out."""
    found: dict[Path, RunInfo] = {}
    for place in places:
        if place.is_dir():
            found.update((info.path, info) for info in list_runs(place))
            continue
        try:
            with RunReader(place) as reader:
                found[place] = reader.info
        except OSError:
            continue
    return sorted(found.values(), key=lambda info: info.created, reverse=True)


class RunWatcher(QObject):
    """Looks every few seconds and emits ``listed`` with a tuple of RunInfo when it is another one."""

    listed = Signal(object)

    def __init__(
        self,
        places: Sequence[Path],
        *,
        look: Callable[[Sequence[Path]], list[RunInfo]] = runs_of,
        seconds: float = LOOK_SECONDS,
    ) -> None:
        super().__init__()
        self._places = tuple(places)
        self._look = look
        self._seconds = seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="list runs", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def close(self) -> None:
        """Stop looking and wait for the thread."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5.0)

    def _run(self) -> None:
        known: tuple[RunInfo, ...] | None = None
        while not self._stop.is_set():
            try:
                runs = tuple(self._look(self._places))
            except OSError:  # a directory that is away for a moment keeps the list that was seen last
                runs = known or ()
            if runs != known:
                known = runs
                self.listed.emit(runs)
            self._stop.wait(self._seconds)
