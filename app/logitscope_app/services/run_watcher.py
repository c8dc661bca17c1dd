"""A thread that keeps the list of runs: those of a directory, or files named one by one."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, TypeAlias

from PySide6.QtCore import QObject, Signal

from logitscope.record import RunReader
from logitscope.record.merged import leaders

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from logitscope.record import RunInfo

LOOK_SECONDS = 2.0
TELL_SECONDS = 0.5


Signature: TypeAlias = "tuple[tuple[int, int] | None, ...]"


class RunList:
    """Lists runs again and again, and opens only the files that have changed or are still written."""

    def __init__(self, tell: Callable[[list[RunInfo]], None] | None = None) -> None:
        self._known: dict[Path, tuple[Signature, RunInfo | None]] = {}
        self._tell = tell

    def __call__(self, places: Sequence[Path]) -> list[RunInfo]:
        """The runs of directories and files, newest first; what is no run file (any more) is left out.

        While very many are opened for the first time, ``tell`` hears now and then of those that are known so far.
        """
        paths = dict.fromkeys(
            path
            for place in places
            for path in (sorted(place.glob("*.scope")) if place.is_dir() else [place])
        )
        found: dict[Path, tuple[Signature, RunInfo | None]] = {}
        told = time.monotonic()
        for path in paths:
            found[path] = self._looked_up(path)
            if self._tell is not None and not self._known and time.monotonic() > told + TELL_SECONDS:
                told = time.monotonic()
                self._tell(_listed(found.values()))
        self._known = found
        return _listed(found.values())

    def _looked_up(self, path: Path) -> tuple[Signature, RunInfo | None]:
        signature = (_signature(path), _signature(path.with_name(path.name + "-wal")))
        known = self._known.get(path)
        if known is not None and known[0] == signature and (known[1] is None or known[1].status != "running"):
            return known
        try:
            with RunReader(path) as reader:
                return signature, reader.info
        except OSError:
            return signature, None


def _listed(found: Iterable[tuple[Signature, RunInfo | None]]) -> list[RunInfo]:
    runs = [info for _, info in found if info is not None]
    return sorted(leaders(runs), key=lambda info: info.created, reverse=True)


def _signature(path: Path) -> tuple[int, int] | None:
    """What changes when a file is written."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


class RunWatcher(QObject):
    """Looks every few seconds and emits ``listed`` with a tuple of RunInfo when it is another one."""

    listed = Signal(object)

    def __init__(
        self,
        places: Sequence[Path],
        *,
        look: Callable[[Sequence[Path]], list[RunInfo]] | None = None,
        seconds: float = LOOK_SECONDS,
    ) -> None:
        super().__init__()
        self._places = tuple(places)
        self._look = look or RunList(lambda runs: self.listed.emit(tuple(runs)))
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
